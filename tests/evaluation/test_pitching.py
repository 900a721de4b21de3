"""Requested and measured pitch, on tones whose pitch is an action."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contracts.small import learner_config
from stub_engine import StubEngine

from sonarium.catalogue import MODELS
from sonarium.evaluation import pitching as own
from sonarium.evaluation.pieces import Moments, chosen_clips, pieces
from sonarium.evaluation.splits import split_world
from sonarium.evaluation.steering import agreement
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.worlds.contract import Batch, Factor, Signal, World

RATE, LOWEST = 16_000, 500.0


class Glides(World):
    """Tones of three partials; a track holds their pitch in octaves above LOWEST."""

    name = "glides"
    signal = Signal("wave", (RATE,), RATE)
    factors = ()
    tracks = (Factor("octave", (0.0, 2.0)),)
    track_rate = 100.0
    renders = True

    def __len__(self) -> int:
        return 40

    def lengths(self, index):
        return torch.full((len(index),), RATE + 4000)

    def factor_values(self, index):
        return torch.zeros(len(index), 0)

    def octaves(self, index) -> Any:
        time, clip = (torch.arange(125) + 0.5) / 100, index[:, None]
        return 1 + 0.5 * torch.sin(2 * clip + time)

    def sing(self, octaves) -> Any:
        each = RATE // 100
        hertz = LOWEST * 2 ** octaves.double().repeat_interleave(each, 1)
        phase = 2 * torch.pi * hertz.cumsum(1) / RATE
        return torch.stack([0.1 / part * torch.sin(part * phase) for part in (1, 2, 3)]).sum(0).float()

    def whole(self, index, device="cpu"):
        octaves = self.octaves(index.cpu())
        signal = self.sing(octaves)
        return Batch(
            index, signal, torch.zeros(len(index), 0), lengths=self.lengths(index), tracks=octaves[..., None]
        )

    def remade(self, index, tracks):
        return replace(self.whole(index), signal=self.sing(tracks[..., 0])) if self.renders else None


class Rigid(Glides):
    renders = False


@pytest.fixture(scope="module", params=[Glides, Rigid])
def setting(request) -> Any:
    world, entry = request.param(), MODELS["dreaming"]
    config = replace(learner_config("dreaming", "wave"), actions=("octave",))
    config = replace(config, front=replace(config.front, bands=80, token_frames=4, token_seconds=0.096))
    learner: Any = entry.build(entry.complete(config, world, 10), world.signal).eval()
    split = split_world(world, 0, 0.3)
    learner.prepare(Clips(world, split.train, ClipsConfig(batch_size=8), 0), StubEngine(0))
    fitted, test = (pieces(learner, world, part, 12) for part in (split.train, split.test))
    return world, learner, fitted, test, chosen_clips(world, split.test, 12)


def expected(setting: Any, shifts: Any = (-0.7, 0.7)) -> Any:
    world, learner, fitted, test, clips = setting
    where = Moments(torch.arange(len(test.counts)), torch.full((len(test.counts),), 2))
    steps, listener = 4, own.Listener.of(learner, world)
    assert listener is not None
    sounds = torch.ones(len(test.counts), steps, dtype=torch.bool)
    sounds[0] = False
    moved = [torch.full(sounds.shape, shift) for shift in shifts]
    found = own.expectation(listener, world, clips, fitted, test, where, sounds, moved, 0)
    return listener, where, steps, found


def test_a_shift_changes_the_pitch_by_as_much_as_it_says(setting):
    _, learner, *_ = setting
    _, _, _, found = expected(setting)
    octave = float(learner.actions.scale[0]) * np.log(2)
    # The first moment is silent.
    assert np.isnan(found.asked[:, 0]).all() and not found.counting[:, 0].any()
    np.testing.assert_allclose(found.asked[0, 1:], -0.7 * octave, atol=0.02)
    np.testing.assert_allclose(found.asked[1, 1:], 0.7 * octave, atol=0.02)
    real = agreement("x", *found.real)
    assert real["steering/correlation of x"] > 0.9 and real["steering/slope of x"] == pytest.approx(1, abs=0.15)


def test_one_who_obeys_has_a_slope_of_1_one_who_does_not_has_none(setting):
    world, learner, _, _, clips = setting
    listener, where, steps, found = expected(setting)
    size = learner.front.shortest

    def tokens(shift: float) -> Any:
        """Tokens of the true sound, with the whole pitch track shifted."""
        octaves = world.octaves(clips) + shift * float(learner.actions.scale[0])
        begin = world.beginnings(clips, own.SEED, 0) + (where.token + 1) * size
        waves = world.sing(octaves)
        cut = torch.stack([wave[at : at + steps * size] for wave, at in zip(waves, begin.tolist(), strict=True)])
        return listener.tokens(cut)

    made = {"obeys": [tokens(one) for one in (0.0, -0.7, 0.7)], "deaf": [tokens(0.0)] * 3,
            "half": [tokens(one / 2) for one in (0.0, -0.7, 0.7)]}  # fmt: skip
    scores = {who: agreement("x", *both) for who, both in own.scored(listener, made, found).items()}
    assert scores["obeys"]["steering/correlation of x"] > 0.9
    assert scores["obeys"]["steering/slope of x"] == pytest.approx(1, abs=0.15)
    assert scores["half"]["steering/slope of x"] == pytest.approx(0.5, abs=0.1)
    assert set(scores["deaf"].values()) == {0.0}


def test_the_world_is_asked_at_the_moments_themselves(setting):
    world, learner, _, test, clips = setting
    listener, where, steps, _ = expected(setting)
    still = own.remade(listener, world, clips, where, torch.zeros(len(clips), steps), 0)
    if not world.renders:
        assert still is None
        return
    size = learner.front.shortest
    at = (int(where.token[0]) + 1) * size
    torch.testing.assert_close(still, test.signal[:, at : at + steps * size], atol=0, rtol=0)
