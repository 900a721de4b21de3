"""Linear regression on codes, against scikit-learn's ridge regression."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typechecking import unchecked

from sonarium.measures.probes.regression import STRENGTHS, regress, squared_errors
from sonarium.measures.splits import Split

PARTS = Split(np.arange(40), np.arange(40, 60), np.arange(60, 100))


def rows(seed: int, codes: int = 6):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(100, codes)) * 3 + 1
    return x, x @ draw.normal(size=codes) + draw.normal(size=100), draw


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), codes=st.integers(1, 60), strength=st.sampled_from([3.0, 0.1, 1e-3]))
def test_r2_is_that_of_scikit_learn(seed, codes, strength):
    x, y, _ = rows(seed, codes)
    fitted, asked = PARTS.train, PARTS.test
    scale = StandardScaler().fit(x[fitted])
    other = Ridge(strength * len(fitted)).fit(scale.transform(x[fitted]), y[fitted])
    expected = r2_score(y[asked], other.predict(scale.transform(x[asked])))
    [error] = squared_errors(x, y, fitted, asked, (strength,))
    assert 1 - error / (len(asked) * y[asked].var()) == pytest.approx(expected, abs=1e-8)


def test_lines_are_found_and_noise_is_not():
    x, y, draw = rows(0)
    groups = np.arange(100)
    found = regress(x, x @ np.arange(6.0), groups, PARTS)
    assert found.r2 == pytest.approx(1, abs=1e-3) and found.rows == (40, 20, 40)
    assert found.strength == 1e-4
    assert regress(x, draw.normal(size=100), groups, PARTS).r2 < 0.1
    chosen = regress(x, y, groups, PARTS)
    tried = {one: squared_errors(x, y, PARTS.train, PARTS.validation, (one,))[0] for one in STRENGTHS}
    assert chosen.strength == min(tried, key=lambda one: tried[one])
    both = np.concatenate([PARTS.train, PARTS.validation])
    [error] = squared_errors(x, y, both, PARTS.test, (chosen.strength,))
    assert chosen.r2 == pytest.approx(1 - error / (40 * y[PARTS.test].var()))


def test_without_a_validation_part_the_strength_is_chosen_as_scikit_learn_does():
    x, y, _ = rows(3, 60)
    groups, split = np.arange(100) // 10, Split(np.arange(60), np.arange(0), np.arange(60, 100))
    chosen = regress(x, y, groups, split, lots=6)
    errors = {}
    for strength in STRENGTHS:
        called = np.zeros(60)
        for one in range(6):
            out = groups[:60] == one
            peer = make_pipeline(StandardScaler(), Ridge(strength * 50)).fit(x[:60][~out], y[:60][~out])
            called[out] = peer.predict(x[:60][out])
        errors[strength] = ((y[:60] - called) ** 2).sum()
    assert chosen.strength == min(errors, key=lambda one: errors[one])
    assert chosen.validated == pytest.approx(1 - errors[chosen.strength] / (60 * y[:60].var()))


def test_what_cannot_be_predicted_is_refused():
    x, y, _ = rows(0)
    with unchecked(), pytest.raises(ValueError, match="the test part has only one value, 2"):
        regress(x, np.where(np.arange(100) < 60, y, 2.0), np.arange(100), PARTS)
    with unchecked(), pytest.raises(ValueError, match="lie in train and in validation"):
        regress(x, y, np.arange(100) % 50, PARTS)
    with unchecked(), pytest.raises(ValueError, match="1 of the numbers are not finite"):
        regress(x, np.where(np.arange(100) == 70, np.nan, y), np.arange(100), PARTS)
