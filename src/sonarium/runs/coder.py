"""A trained model as an encoder of sound: codes of a waveform, or of a file of any length.

coder = sonarium.load("runs/x")
codes = coder.encode(wave, rate)      # one row per frame, `coder.code_rate` frames per second

`load` opens agents, too (`acting.py`).
"""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import nn

from sonarium.models.contract import Encoder, Forecaster, FrameEncoder, Learner
from sonarium.models.external import ExternalConfig, form_of, is_external
from sonarium.models.external import build as external
from sonarium.models.framing import Derived, coded, in_frames
from sonarium.runs.acting import TrainedAgent
from sonarium.runs.build import check_upstream, open_agent, open_learner, open_plan
from sonarium.runs.plan import RolloutsPlan
from sonarium.training.engine import choose_device
from sonarium.worlds.audio.decoder import header_of, opened
from sonarium.worlds.audio.file import LOUDEST, Limits
from sonarium.worlds.contract import PLURAL, Signal

RATES = Limits()
"""Limits of sampling rates; a rate beyond them is a mistake, such as one in kHz."""


def load(run: Path | str, device: str = "cpu", rate: int | None = None, code: str = "", best: bool = False) -> Any:
    """Load the model of a run folder as a `Coder`, or an agent as a `TrainedAgent`, with the weights of the newest
    complete checkpoint or those that were `best` in validation. The training data are not required, but an agent's
    environment is, and the upstream run of a model that was trained on codes. An encoder from a file (`.onnx`,
    `.pt2`, or a folder of transformers) is loaded as a `Coder`, too; `rate` is its sampling rate, if its files do
    not give it. `code` is the part of a world model's states to encode, by default the one set in training."""
    if is_external(Path(run)) or not isinstance(open_plan(Path(run))[1].source, RolloutsPlan):
        return load_coder(run, device, rate, code, best)
    refuse_rate(run, rate)
    if code:
        raise ValueError(f"code={code}: '{run}' is a run of an agent, which encodes nothing; leave it out")
    agent, shown, taken = open_agent(Path(run), best=best)
    assert isinstance(agent, nn.Module), type(agent)
    return TrainedAgent(agent.to(choose_device(device)), shown, taken)


def load_coder(
    run: Path | str, device: str = "cpu", rate: int | None = None, code: str = "", best: bool = False
) -> "Coder":
    """Load a `Coder`, as `load` does; raises ValueError for anything that cannot encode sound."""
    if is_external(Path(run)):
        if code:
            raise ValueError(f"code={code}: the codes of '{run}' have no parts; leave it out")
        if best:
            raise ValueError(
                f"best: '{run}' is not a run folder, which alone has weights of validation; leave it out"
            )
        config = ExternalConfig(str(run))
        signal = form_of(config, rate)
        return Coder(external(config, signal).to(choose_device(device)), signal)
    refuse_rate(run, rate)
    plan, learner, signal = open_learner(Path(run), wanted="an encoder of sound", best=best)
    below = None
    if plan.upstream is not None:
        check_upstream(plan.upstream)
        below = load_coder(plan.upstream.run, device, best=plan.upstream.best)
    able = isinstance(learner, Encoder | FrameEncoder) and signal.kind != "picture"
    if not able or (signal.kind == "codes" and below is None):
        raise ValueError(
            f"'{run}' holds a {plan.model} that was trained on {PLURAL[signal.kind]} and cannot encode sound"
        )
    encoder = part_of(learner, code, f"the {plan.model} of '{run}'") if code else learner
    return Coder(encoder.to(choose_device(device)), signal, below)


def part_of(learner: Learner, code: str, name: str) -> nn.Module:
    """Module that encodes a part of the states of a forecaster."""
    known = learner.part_names if isinstance(learner, Forecaster) else ()
    if not isinstance(learner, Forecaster) or not known:
        raise ValueError(f"code={code}: the codes of {name} have no parts; leave it out")
    if code not in known:
        raise ValueError(f"code={code}: the codes of {name} have the parts {', '.join(known)}; give one of these")
    return Derived(learner, partial(learner.encode_part, part=code))


def refuse_rate(run: Path | str, rate: int | None) -> None:
    if rate is not None:
        raise ValueError(f"rate={rate}: '{run}' is a run folder, which knows its rate; leave it out")


class Coder:
    """Encodes sound: as a whole with a frame encoder, else in pieces of the length of the training clips."""

    def __init__(self, learner: nn.Module, signal: Signal, below: "Coder | None" = None):
        self.encoder, self.below = in_frames(learner, signal), below
        rate = signal.rate if below is None else below.rate
        assert rate is not None, signal
        self.rate: int = rate
        """Sampling rate in Hz of the sound that is encoded."""
        self.channel: int | None = signal.channel if below is None else below.channel
        self.code_rate = self.encoder.code_rate
        self.code_first = self.encoder.code_first
        """Seconds from the beginning of the sound to the middle of the first row."""
        self.device = next(iter([*learner.parameters(), *learner.buffers()])).device
        self.rates: dict[Path, int] = {}
        """Sampling rates in Hz of the files read so far."""

    def encode(self, wave: ArrayLike, rate: float) -> Float[np.ndarray, "row code"]:
        """The codes of a one-channel waveform at any sampling rate; row `k` begins at `k / code_rate` seconds.

        Integers, as from `scipy.io.wavfile`, are divided by their full scale.
        """
        given = as_sound(wave)
        number = isinstance(rate, int | float | np.integer | np.floating)
        if not (number and RATES.lowest_rate <= rate <= RATES.highest_rate):
            raise ValueError(
                f"got rate={rate!r}: give the sampling rate in Hz, such as 16000, from {RATES.lowest_rate} to "
                f"{RATES.highest_rate}"
            )
        own = given if rate == self.rate else soxr.resample(given, rate, self.rate)
        if not self.rows(len(own)):
            raise ValueError(f"{len(given)} samples at {rate} Hz are too few for a code: give longer sound")
        return np.concatenate(list(self.stream([own], len(own), float(np.square(own, dtype=np.float64).mean()))))

    def rows(self, samples: int) -> int:
        """Number of rows of codes for this number of samples."""
        steps = samples if self.below is None else self.below.rows(samples)
        return int(self.encoder.code_lengths(torch.tensor([steps])))

    def measure(self, path: Path) -> tuple[int, float]:
        """Samples of a file at the model's rate, and their mean square; raises ValueError if it is unusable."""
        samples, energy = 0, 0.0
        for block in self.blocks(path):
            samples += len(block)
            energy += float(np.square(block, dtype=np.float64).sum())
        if not self.rows(samples):
            raise ValueError(
                f"'{path}' is too short for a code: {samples} samples at {self.rate} Hz; leave it out"
            )
        return samples, energy / samples

    def blocks(self, path: Path) -> Iterator[Float[np.ndarray, " time"]]:
        """A file at the rate and of the channel of the model; a single channel is taken to be the right one."""
        channel = self.channel
        if channel is not None and header_of(path).channels == 1:
            channel = None
        with opened(path, self.rate, channel) as (header, blocks):
            self.rates[path] = header.rate
            yield from blocks

    @property
    def resampled(self) -> str:
        """Remark on the files that were resampled; empty if there are none."""
        others = [(path, rate) for path, rate in self.rates.items() if rate != self.rate]
        if not others:
            return ""
        (path, rate), many = others[0], len(self.rates)
        if many == 1:
            return f"'{path}' has {rate} Hz and is resampled to the {self.rate} Hz of the model"
        return (
            f"{len(others)} of {many} files are resampled to the {self.rate} Hz of the model, the "
            f"first '{path}' from {rate}"
        )

    def encode_file(self, path: Path | str) -> Float[np.ndarray, "row code"]:
        """The codes of a sound file of any sampling rate, length and number of channels."""
        return np.concatenate(list(self.stream_file(Path(path), *self.measure(Path(path)))))

    def stream_file(self, path: Path, samples: int, power: float) -> Iterator[Float[np.ndarray, "row code"]]:
        """The codes of a file in parts, given the results of `measure`."""
        return self.stream(self.blocks(path), samples, power)

    @torch.no_grad()
    def stream(
        self, blocks: Iterable[np.ndarray], samples: int, power: float
    ) -> Iterator[Float[np.ndarray, "row code"]]:
        """The codes of sound given in blocks, in memory that does not grow with its length (except for the codes
        of an upstream run)."""
        if self.below is not None:
            codes = torch.from_numpy(np.concatenate(list(self.below.stream(blocks, samples, power))))
            yield finite(self.encoder.encode(codes[None].to(self.device)).squeeze(0))
            return
        sound = map(torch.from_numpy, blocks)
        for codes in coded(self.encoder, sound, samples, power, self.rate, self.device):
            yield finite(codes)


def finite(codes: Float[torch.Tensor, "row code"]) -> Float[np.ndarray, "row code"]:
    """The codes as an array; raises ValueError if any is not finite."""
    if not bool(codes.isfinite().all()):
        raise ValueError(
            "the codes are NaN or infinite: the weights are too large, as after a training that diverged; train "
            "the run anew"
        )
    return codes.cpu().numpy()


def as_sound(wave: Any) -> Float[np.ndarray, " time"]:
    """Samples in single precision; integers are divided by their full scale, as when files are read."""
    given = np.asarray(wave)
    if given.dtype.kind not in "iuf" or (given.dtype.kind != "f" and given.dtype.itemsize > 4):
        raise ValueError(
            f"got a wave of {given.dtype}: give float32 from -1 to 1, or the integers of a file, as int16"
        )
    if given.ndim != 1:
        raise ValueError(
            f"got a wave of shape {given.shape}: one channel is expected, such as the mean of all channels, "
            "wave.mean(axis=1)"
        )
    if given.dtype.kind in "iu":
        half = 2.0 ** (8 * given.dtype.itemsize - 1)
        return ((given.astype(np.float64) - half * (given.dtype.kind == "u")) / half).astype(np.float32)
    if given.dtype.itemsize < 4:
        given = given.astype(np.float32)
    wrong = ~(np.abs(given) <= LOUDEST)
    if wrong.any():
        raise ValueError(
            f"{int(wrong.sum())} of {len(given)} samples are NaN, infinite or beyond any sound, the first at "
            f"position {int(wrong.argmax())}: fix them, or leave them out"
        )
    # A copy, since the caller's array may be read-only.
    return given.astype(np.float32)
