"""Scores of separators: zero for the mixture, perfect for the true sources, in any order of the sources."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sonarium.catalogue import MODELS, WORLDS
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.evaluate import evaluate
from sonarium.evaluation.separating import scores_of
from sonarium.evaluation.splits import split_world
from sonarium.models.contract import Learner, Separator
from sonarium.worlds.contract import World

RANDOM = np.random.default_rng(0)
SOURCES = RANDOM.standard_normal((2, 2, 800))
SOURCES[:, 1] = 0.5 * np.roll(SOURCES[:, 0], 2, axis=1)
MIXTURE = SOURCES.sum(0)


def test_the_mixture_gains_nothing():
    found = scores_of(SOURCES, np.stack([MIXTURE] * 2), MIXTURE, 8000)
    assert found["snr_improvement"] == found["si_sdr_improvement"] == 0
    assert found["si_sar"] == 100 and abs(found["si_sir"]) < 2


def test_the_truth_in_any_order_is_perfect():
    found = scores_of(SOURCES, SOURCES[::-1], MIXTURE, 8000)
    assert found["snr_improvement"] > 90 and found["si_sdr_improvement"] > 90 and found["si_sir"] > 90
    assert found["itd_error"] == pytest.approx(0) and found["ild_error"] == pytest.approx(0)


def test_a_gain_is_forgiven_by_the_scale_invariant_ratio_alone():
    noisy = SOURCES + 0.1 * RANDOM.standard_normal(SOURCES.shape)
    one, other = (scores_of(SOURCES, gain * noisy, MIXTURE, 8000) for gain in (1.0, 0.25))
    assert other["si_sdr_improvement"] == pytest.approx(one["si_sdr_improvement"])
    assert other["snr_improvement"] < one["snr_improvement"] - 5


def test_differences_of_the_ears_are_in_microseconds_and_decibels():
    late = SOURCES.copy()
    late[:, 1] = 0.5 * np.roll(SOURCES[:, 1], 1, axis=1)
    found = scores_of(SOURCES, late, MIXTURE, 8000)
    assert found["itd_error"] == pytest.approx(125, abs=10)
    assert found["ild_error"] == pytest.approx(20 * np.log10(2), abs=0.1)


def test_silence_has_no_direction():
    found = scores_of(SOURCES, np.zeros_like(SOURCES), MIXTURE, 8000)
    assert np.isnan(found["itd_error"]) and found["snr_improvement"] == pytest.approx(0, abs=1)


class Knowing(Learner, Separator):
    """Separator that returns the true sources of a world, in reverse order."""

    sources = 2

    def __init__(self, world: World):
        super().__init__()
        batch = world.whole(torch.arange(len(world)))
        assert batch.sources is not None
        self.mixtures, self.known = batch.signal, batch.sources

    def update(self, data, engine):
        return {}

    def separate(self, signal: Tensor) -> Tensor:
        apart = (self.mixtures[None] - signal[:, None]).abs().flatten(2).amax(2)
        return self.known[apart.argmin(1)].flip(2)

    def masks(self, signal: Tensor) -> Tensor:
        raise NotImplementedError


def test_a_learner_stands_between_its_controls():
    entry = WORLDS["mixtures"]
    world = entry.build(
        entry.Config(sounds=("phone", "tones"), seconds=1.0, clips=20, sets=4, variants=1), 0, lambda *_: None
    )
    split = split_world(world, 0, test=0.25)
    assert not set(world.group(split.test).tolist()) & set(world.group(split.train).tolist())
    with torch.random.fork_rng(devices=[]):
        untrained = MODELS["separator"].build(MODELS["separator"].presets["default"]("binaural"), world.signal)
    told = []
    found = evaluate(
        Knowing(world), untrained, world, split, EvaluationConfig(mixtures=4), 0,
        progress=lambda stage, done, total: told.append((done, total)),
    )  # fmt: skip
    assert found["clips"] == 4 and found["protocol"] == "separation" and told[-1] == (4, 4)
    own, controls = found["scores"], found["controls"]
    assert set(controls) == {"mixture", "spatial_clustering", "ideal_mask", "random"}
    gained = {name: scores["snr_improvement"] for name, scores in controls.items()}
    assert gained["mixture"] == 0 < gained["spatial_clustering"] < gained["ideal_mask"] < own["snr_improvement"]
    assert (
        gained["random"] < gained["ideal_mask"]
        and controls["ideal_mask"]["itd_error"] < controls["mixture"]["itd_error"]
    )


def test_clips_whose_sources_are_unknown_are_refused():
    entry = WORLDS["mixtures"]
    world = entry.build(entry.Config(seconds=0.5, clips=10, sets=2, sources=3, variants=1), 0, lambda *_: None)
    other = entry.build(entry.Config(seconds=0.5, clips=10, sets=2, variants=1), 0, lambda *_: None)
    with pytest.raises(ValueError, match="sources of world 'mixtures' are not known"):
        evaluate(Knowing(other), None, world, split_world(world, 0), EvaluationConfig(), 0)
