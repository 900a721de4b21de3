"""Continuous factors and frame-wise factors (tracks) of clips are predicted from codes that encode them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.probing import probing
from sonarium.evaluation.splits import split_world
from sonarium.features.waveform import sounding
from sonarium.models.contract import FrameEncoder
from sonarium.worlds.contract import Batch, Factor, Signal, World


def probed(world: World, learner: FrameEncoder, untrained: FrameEncoder) -> dict[str, Any]:
    return probing(learner, untrained, world, split_world(world, 0, 0.3), EvaluationConfig(), "cpu")


class Beeps(World):
    """Tones of one pitch, whose level in decibels is a continuous factor and whose pace is constant."""

    name = "beeps"
    signal = Signal("wave", (800,), 8000)
    factors = (Factor("level", tuple(range(-40, 0)), "dB"), Factor("pace", (1.0, 2.0)))

    def __len__(self) -> int:
        return 120

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        level = -40.0 + index % 40
        wave = 10 ** (level[:, None] / 20) * torch.sin(torch.arange(800) * 0.3)
        return Batch(index, wave, torch.stack([level, torch.ones(len(index))], 1))


class Loudness(FrameEncoder):
    """Codes that are the log energy of each frame, or constant."""

    code_rate, code_first = 80.0, 0.006

    def __init__(self, knows: bool):
        self.knows = knows

    def code_lengths(self, lengths: Any) -> Any:
        return lengths // 100

    def encode(self, signal: Any, lengths: Any = None, *, power: Any = None) -> Any:
        loud = (
            signal.unflatten(1, (-1, 100)).square().mean(-1, keepdim=True).clamp(min=1e-12).log10()
            if self.knows
            else None
        )
        codes = torch.ones(len(signal), signal.shape[1] // 100, 1) if loud is None else loud
        return codes if lengths is None else codes * sounding(codes.shape[1], lengths // 100)[..., None]


def test_numbers_planted_in_clips_are_predicted():
    world = Beeps()
    found = probed(world, Loudness(True), Loudness(False))
    assert found["scores"].keys() == {"number/level"} == found["mfcc"].keys()
    assert found["scores"]["number/level"] > 0.999 and abs(found["random"]["number/level"]) < 0.2
    assert found["chance"]["number/level"] == 0 and found["log_mel"]["number/level"] > 0.9
    assert found["details"]["number/level"]["asked_of"] == "other clips"
    assert found["notes"] == ["pace is not predicted: it does not vary in the train and test split"]


class Gestures(World):
    """Noise in 3 to 6 steps of 25 ms per clip; tracks hold whether a step is loud, and its level in decibels."""

    name, track_rate = "gestures", 40.0
    signal = Signal("wave", (800,), 8000)
    factors = (Factor("level", tuple(float(level) for level in range(-40, 1)), "dB"),)
    tracks = (Factor("loud", ("no", "yes")), Factor("level", (-40.0, 0.0), "dB"), Factor("still", ("a", "b")))

    def __len__(self) -> int:
        return 60

    def lengths(self, index: torch.Tensor) -> torch.Tensor:
        return 200 * (3 + index % 4)

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        lengths, frames = self.lengths(index), int(self.lengths(index).max()) // 200
        level = -40.0 * ((7 * index[:, None] + 3 * torch.arange(frames) ** 2) % 11) / 10
        own = sounding(frames, lengths // 200)
        noise = torch.randn(frames * 200, generator=torch.Generator().manual_seed(0))
        wave = noise * (10 ** (level / 20) * own).repeat_interleave(200, 1)
        tracks = torch.stack([(level > -20).float(), level, torch.zeros_like(level)], -1) * own[..., None]
        return Batch(index, wave, level[:, :1], lengths=lengths, tracks=tracks)


def test_tracks_are_predicted_frame_by_frame():
    world = Gestures()
    found = probed(world, Loudness(True), Loudness(False))
    own, nothing, chance = found["scores"], found["random"], found["chance"]
    assert own.keys() == {"number/level", "frames/loud"}
    assert own["frames/loud"] > 0.97 > 0.8 > nothing["frames/loud"] == pytest.approx(chance["frames/loud"])
    assert "the track level is not predicted: a factor of clips has the same name" in found["notes"]
    assert any(note.startswith("frames/still is not scored: it does not vary") for note in found["notes"])
    assert found["details"]["frames/loud"]["asked_of"] == "other clips"


def test_continuous_tracks_are_predicted_by_a_line():
    class Nameless(Gestures):
        factors = ()

        def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
            batch = super().whole(index, device)
            return replace(batch, factors=torch.zeros(len(index), 0))

    world = Nameless()
    found = probed(world, Loudness(True), Loudness(False))
    assert found["scores"]["number/level"] > 0.95 and abs(found["random"]["number/level"]) < 0.2
    assert found["chance"]["number/level"] == 0


class CodesOfClips(World):
    """Codes of another run at 10 Hz, the second of which is the class of the clip; clips of unequal length."""

    name = "codes"
    signal = Signal("codes", (6, 3), frame_rate=10.0)
    factors = (Factor("class", ("a", "b")),)

    def __len__(self) -> int:
        return 80

    def lengths(self, index: torch.Tensor) -> torch.Tensor:
        return 4 + index % 3

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        lengths = self.lengths(index)
        label = (index * 7919 % 13 % 2).float()
        codes = torch.stack([torch.sin(index.float()), label, torch.cos(3.0 * index)], -1)
        frames = sounding(int(lengths.max()), lengths)[..., None] * codes[:, None]
        return Batch(index, frames, label[:, None], lengths=lengths)


class Blind(FrameEncoder):
    """Encoder that keeps only the first code."""

    code_rate, code_first = 10.0, 0.05

    def code_lengths(self, lengths: Any) -> Any:
        return lengths

    def encode(self, signal: Any, lengths: Any = None, *, power: Any = None) -> Any:
        assert signal.ndim == 3 and lengths is not None, signal.shape
        return signal[..., :1]


def test_of_codes_of_a_run_the_control_is_these_codes():
    world = CodesOfClips()
    found = probed(world, Blind(), Blind())
    assert found.keys() == {"scores", "input", "random", "chance", "details", "curves", "notes"}
    assert found["input"]["clips/class"] == 1 > found["scores"]["clips/class"]
    assert np.isfinite(found["scores"]["clips/class"])
