"""Songs of a sequence model: it samples codes, which its upstream run decodes to sound."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sonarium.features.contract import PictureFrontEnd
from sonarium.models.contract import Decoder, FeatureLearner, FrameEncoder, SequenceSampler, Synthesiser
from sonarium.runs.build import Remark, check_upstream, open_learner
from sonarium.runs.plan import Upstream
from sonarium.worlds.contract import PLURAL

ROUNDS = 32
"""Iterations of the Griffin-Lim algorithm."""
LONGEST = 600.0
"""Maximum duration of a song in seconds."""


@dataclass(frozen=True)
class Voice:
    """Decodes the codes of a run to sound."""

    decoder: Decoder
    front: PictureFrontEnd
    framed: bool
    """Whether the decoder takes all frames of a clip at once, or one code at a time for a piece of sound."""
    rate: int
    frame_rate: float
    """Frame rate of the codes in Hz."""

    @torch.no_grad()
    def sound(
        self, codes: Float[Tensor, "song step code"], samples: int, generator: torch.Generator
    ) -> Float[np.ndarray, "song time"]:
        """Sound of codes, by the Griffin-Lim algorithm."""
        if isinstance(self.decoder, Synthesiser):
            made = self.decoder.sound(codes, samples, iterations=ROUNDS, generator=generator)
            return made.float().cpu().numpy()
        features = self.decoded(codes)
        length = max(round(codes.shape[1] * self.rate / self.frame_rate), samples)
        # Adjacent pieces may share a frame, or omit one: their frames are not as many as those of the whole.
        flat = rearrange(features, "song channel row frame -> song (channel row) frame")
        fitting = functional.interpolate(flat, size=self.front.shape(length)[2], mode="linear")
        waves = self.front.invert(fitting.unflatten(1, features.shape[1:3]), length, ROUNDS, generator)
        return waves[:, :samples].float().cpu().numpy()

    @torch.no_grad()
    def picture(self, codes: Float[Tensor, "song step code"]) -> Float[np.ndarray, "song row column"]:
        """Picture of decoded codes, in the unit of the front end's axes."""
        return self.front.drawn(self.decoded(codes))

    def decoded(self, codes: Float[Tensor, "song step code"]) -> Float[Tensor, "song channel row frame"]:
        if self.framed:
            return self.decoder.decode(codes)
        pieces = self.decoder.decode(rearrange(codes, "song step code -> (song step) 1 code"))
        return rearrange(
            pieces, "(song piece) channel row frame -> song channel row (piece frame)", song=len(codes)
        )


@dataclass(frozen=True)
class Singer:
    """A model of sequences of codes, and the decoder of these to sound."""

    model: str
    sampler: SequenceSampler
    voice: Voice

    @property
    def rate(self) -> int:
        return self.voice.rate

    @torch.no_grad()
    def sing(
        self, songs: int, seconds: float, generator: torch.Generator, temperature: float = 1.0
    ) -> Float[np.ndarray, "song time"]:
        """Sample songs of this length; a temperature below 1 keeps to what is likely, above 1 strays from it."""
        if not (temperature > 0 and 0 < seconds <= LONGEST):
            raise ValueError(
                f"seconds={seconds}, temperature={temperature}: give numbers above 0, and at most {LONGEST:g} s"
            )
        voice = self.voice
        samples = max(round(seconds * voice.rate), voice.front.window_length)
        frames = max(1, -int(-samples * voice.frame_rate // voice.rate))
        codes = self.sampler.sample_frames(songs, frames, generator, temperature)
        return voice.sound(codes.float(), samples, generator)


def open_singer(folder: Path, device: str = "cpu", remark: Remark = lambda _: None, best: bool = False) -> Singer:
    """Open the sequence model of a run folder, with its newest weights or those that were best in validation, and
    its upstream run; the training data are not required."""
    plan, learner, _ = open_learner(folder, remark, best=best)
    if not isinstance(learner, SequenceSampler) or plan.upstream is None:
        raise ValueError(
            f"'{folder}' holds a {plan.model}, which draws no sequences of codes: give the run of a model of "
            "sequences, trained with --codes; `sonarium sample` draws single clips"
        )
    return Singer(plan.model, learner.to(device), open_voice(plan.upstream, folder, device, remark))


def open_voice(upstream: Upstream, folder: Path, device: str = "cpu", remark: Remark = lambda _: None) -> Voice:
    """Decoder to sound of the codes on which the run in this folder was trained."""
    check_upstream(upstream)
    below, voice, signal = open_learner(Path(upstream.run), remark, best=upstream.best)
    where = f"'{upstream.run}', upstream of '{folder}',"
    if not (isinstance(voice, Decoder) and isinstance(voice, FeatureLearner) and voice.decodes and signal.rate):
        raise ValueError(
            f"{where} holds a {below.model} of {PLURAL[signal.kind]}, which cannot decode codes to sound: train "
            "the model of sequences on the codes of an autoencoder of sound"
        )
    front = voice.front
    if not isinstance(front, PictureFrontEnd) or not front.invertible:
        raise ValueError(f"{where} has a front end that cannot be inverted to sound; one with a shorter --hop may")
    framed = isinstance(voice, FrameEncoder)
    return Voice(voice.to(device), front, framed, signal.rate, upstream.frame_rate)
