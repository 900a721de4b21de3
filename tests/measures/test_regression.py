"""Numbers told from codes, against scikit-learn's ridge regression, and planted in clips."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from typechecking import unchecked

from sonarium.evaluation.config import JudgingConfig
from sonarium.evaluation.judging import judge
from sonarium.features.waveform import sounding
from sonarium.measures.probes.parts import Parts
from sonarium.measures.probes.regression import STRENGTHS, explained, shares
from sonarium.worlds.contract import Batch, Factor, Signal, World, split

PARTS = Parts(np.arange(40), np.arange(40, 60), np.arange(60, 100))


def rows(seed: int, codes: int = 6):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(100, codes)) * 3 + 1
    return x, x @ draw.normal(size=codes) + draw.normal(size=100), draw


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), codes=st.integers(1, 60), strength=st.sampled_from([3.0, 0.1, 1e-3]))
def test_shares_are_those_of_scikit_learn(seed, codes, strength):
    x, y, _ = rows(seed, codes)
    fitted, asked = PARTS.train, PARTS.test
    scale = StandardScaler().fit(x[fitted])
    other = Ridge(strength * len(fitted)).fit(scale.transform(x[fitted]), y[fitted])
    expected = r2_score(y[asked], other.predict(scale.transform(x[asked])))
    assert shares(x, y, fitted, asked, (strength,)) == pytest.approx([expected], abs=1e-8)


def test_lines_are_found_and_noise_is_not():
    x, y, draw = rows(0)
    groups = np.arange(100)
    found = explained(x, x @ np.arange(6.0), groups, PARTS)
    assert found.share == pytest.approx(1, abs=1e-3) and found.rows == (40, 20, 40)
    assert found.strength == 1e-4
    assert explained(x, draw.normal(size=100), groups, PARTS).share < 0.1
    chosen = explained(x, y, groups, PARTS)
    tried = {one: shares(x, y, PARTS.train, PARTS.validation, (one,))[0] for one in STRENGTHS}
    assert chosen.strength == max(tried, key=lambda one: tried[one])
    both = np.concatenate([PARTS.train, PARTS.validation])
    assert [chosen.share] == shares(x, y, both, PARTS.test, (chosen.strength,))


def test_what_cannot_be_told_is_refused():
    x, y, _ = rows(0)
    with unchecked(), pytest.raises(ValueError, match="the test part has one number alone, 2"):
        explained(x, np.where(np.arange(100) < 60, y, 2.0), np.arange(100), PARTS)
    with unchecked(), pytest.raises(ValueError, match="lie in train and in validation"):
        explained(x, y, np.arange(100) % 50, PARTS)


class Beeps(World):
    """Tones of one pitch, whose loudness in decibels is a number and whose pace is the same for all."""

    name = "beeps"
    signal = Signal("wave", (800,), 8000)
    factors = (Factor("level", tuple(range(-40, 0)), "dB"), Factor("pace", (1.0, 2.0)))

    def __len__(self) -> int:
        return 120

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        level = -40.0 + index % 40
        wave = 10 ** (level[:, None] / 20) * torch.sin(torch.arange(800) * 0.3)
        return Batch(index, wave, torch.stack([level, torch.ones(len(index))], 1))


class Loudness:
    """Codes that are the decibels of each frame, or always the same."""

    code_rate, code_first = 80.0, 0.006

    def __init__(self, knows: bool):
        self.knows = knows

    def code_lengths(self, lengths: Any) -> Any:
        return lengths // 100

    def encode(self, wave: Any, lengths: Any = None, *, power: Any = None) -> Any:
        loud = wave.unflatten(1, (-1, 100)).square().mean(-1, keepdim=True).log10() if self.knows else None
        codes = torch.ones(len(wave), wave.shape[1] // 100, 1) if loud is None else loud
        return codes if lengths is None else codes * sounding(codes.shape[1], lengths // 100)[..., None]


def test_numbers_planted_in_clips_are_asked_for():
    world = Beeps()
    found = judge(Loudness(True), Loudness(False), world, split(world, 0, 0.3), JudgingConfig(), 0, "cpu")
    assert found["scores"].keys() == {"number/level"} == found["mfcc"].keys()
    assert found["scores"]["number/level"] > 0.999 and abs(found["random"]["number/level"]) < 0.2
    assert found["chance"]["number/level"] == 0 and found["log_mel"]["number/level"] > 0.9
    assert found["details"]["number/level"]["asked_of"] == "other clips"
    assert found["notes"] == ["pace is not asked: it does not vary in the train and validation and test part"]
