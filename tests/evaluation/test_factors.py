"""Scores of a learner and of its controls, for known factors."""

import pytest
import torch
from torch import nn

from sonarium.evaluation.factors import recovery
from sonarium.evaluation.splits import split_world
from sonarium.measures.disentanglement.scores import PERMUTATIONS
from sonarium.models.contract import Encoder, FeatureLearner, Learner
from sonarium.worlds.tones.world import Tones, TonesConfig

WORLD = Tones(TonesConfig(frequencies=40, amplitudes=20, seconds=0.05, waveforms=("sine",), highest=3000), 0)


class Oracle(Learner, FeatureLearner, Encoder):
    """Encodes the factors of a sine: its pitch by the spectrum, its amplitude by the energy; zeros if `deaf`."""

    def __init__(self, deaf: bool = False):
        super().__init__()
        self.deaf = deaf
        self.nothing = nn.Parameter(torch.zeros(()))

    def update(self, batch, engine):
        return {}

    def features(self, batch):
        return batch.signal

    def encode(self, signal):
        spectrum = torch.fft.rfft(signal, 8192).abs()
        pitch, energy = spectrum.argmax(1).float(), signal.square().mean(1).sqrt()
        codes = torch.stack([pitch / 4096, energy], 1)[:, None]
        return torch.zeros_like(codes) if self.deaf else codes


def test_an_oracle_beats_its_controls_and_a_deaf_one_scores_nothing():
    parts = split_world(WORLD, seed=0, test=0.5)
    found = recovery(Oracle(), Oracle(deaf=True), WORLD, parts.train, parts.test, "standard", seed=0)
    assert found.keys() == {"scores", "pca", "random", "chance", "noise", "notes"}
    assert found["scores"]["mig"] > 0.85
    assert found["scores"]["dci_disentanglement"] > 0.9
    for control in ("pca", "random", "chance"):
        assert found[control]["mig"] < 0.6
    assert found["random"]["dead_codes"] == 2
    assert found["random"]["mig"] == 0
    assert found["notes"] == []
    assert found["chance"] == {key: noise["mean"] for key, noise in found["noise"].items()}
    assert found["scores"].keys() == found["chance"].keys() | {"dead_codes"}
    assert all(noise["count"] == PERMUTATIONS for noise in found["noise"].values())
    assert found["scores"]["mig"] > 0.8 > found["noise"]["mig"]["high"]


class Long(Oracle):
    """More codes than its features have components."""

    def features(self, batch):
        return batch.signal[:, :5]

    def encode(self, signal):
        own = super().encode(signal)
        return torch.cat([own * scale for scale in (1, 2, 3, 4)], 2)


def test_components_are_no_more_than_features():
    parts = split_world(WORLD, seed=0, test=0.5)
    found = recovery(Long(), Long(), WORLD, parts.train, parts.test, "syntone", seed=0)
    said = "the control of principal components has 5 of them, not 8: 400 clips of 5 features have no more"
    assert said in found["notes"] and 0 <= found["pca"]["mig"] <= 1


def test_scores_repeat_with_the_seed():
    parts = split_world(WORLD, seed=1, test=0.5)
    one, two = (recovery(Oracle(), Oracle(True), WORLD, parts.train, parts.test, "standard", 4) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("protocol", ["standard", "syntone"])
def test_both_protocols_answer(protocol):
    parts = split_world(WORLD, seed=0, test=0.5)
    found = recovery(Oracle(), Oracle(True), WORLD, parts.train, parts.test, protocol, 0)
    assert 0 <= found["scores"]["mig"] <= 1
