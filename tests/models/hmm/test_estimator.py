"""HMM estimator: scikit-learn's contract, published likelihoods, monotone EM, and refusals."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.estimator_checks import check_estimator
from typechecking import unchecked

from sonarium.models.hmm import HMM

# Earthquakes of magnitude 7 and more in the world, 1900 to 2006 (Zucchini and MacDonald 2009, table 1.1).
EARTHQUAKES = [
    13, 14, 8, 10, 16, 26, 32, 27, 18, 32, 36, 24, 22, 23, 22, 18, 25, 21, 21, 14, 8, 11, 14, 23, 18, 17, 19, 20,
    22, 19, 13, 26, 13, 14, 22, 24, 21, 22, 26, 21, 23, 24, 27, 41, 31, 27, 35, 26, 28, 36, 39, 21, 17, 22, 17, 19,
    15, 34, 10, 15, 22, 18, 15, 20, 15, 22, 19, 16, 30, 27, 29, 23, 20, 16, 21, 21, 25, 16, 18, 15, 18, 14, 10, 15,
    8, 15, 6, 11, 8, 7, 18, 16, 13, 12, 13, 20, 15, 16, 12, 18, 15, 16, 13, 15, 16, 11, 11,
]  # fmt: skip
LENGTHS = [20, 1, 25, 14]
OF_ROWS = {
    "check_methods_sample_order_invariance": "the state of a frame depends on its neighbours",
    "check_methods_subset_invariance": "the state of a frame depends on its neighbours",
}
"""Checks that hold only if rows are independent, as in a model with one state."""


@pytest.mark.parametrize("states", [1, 3])
def test_it_is_an_estimator_of_scikit_learn(states):
    with unchecked(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(
            HMM(states, max_iter=5), expected_failed_checks=OF_ROWS if states > 1 else {}, on_skip=None
        )


@pytest.mark.parametrize(("states", "expected"), [(1, 391.9189), (2, 341.8787), (3, 328.5275)])
def test_earthquakes(states, expected):
    counts = np.array(EARTHQUAKES)[:, None]
    model = HMM(states, "poisson", tol=1e-6, max_iter=500, n_init=2, random_state=0).fit(counts)
    assert -model.score(counts) == pytest.approx(expected, abs=5e-5)
    assert model.converged_ and len(model.history_) == model.n_iter_ < 500


def frames_of(emission, seed):
    rng = np.random.default_rng(seed)
    states = np.repeat(rng.integers(3, size=12), 5)
    if emission == "categorical":
        return (states + rng.integers(2, size=60))[:, None]
    if emission == "poisson":
        return rng.poisson(1 + 3 * np.stack([states, 2 - states], 1))
    return rng.normal(size=(60, 2)) + 2 * states[:, None]


WRONG: Any = "wrong"
PRIORS: dict[str, Any] = dict(
    start_prior=1.5, transition_prior=2.0, duration_prior=1.5, mean_weight=0.5, mean_prior=1.0,
    covariance_weight=2.0, covariance_prior=0.5, emission_prior=1.5, rate_prior=0.5, rate_weight=0.3,
)  # fmt: skip
VARIANTS: list[dict[str, Any]] = [
    {"emission": "gaussian", "covariance": covariance} for covariance in ("spherical", "diagonal", "tied", "full")
] + [
    {"emission": "mixture", "covariance": "diagonal"},
    {"emission": "mixture", "covariance": "tied"},
    {"emission": "categorical"},
    {"emission": "poisson"},
    {"emission": "gaussian", "durations": "categorical", "max_duration": 6},
    {"emission": "gaussian", "durations": "poisson", "max_duration": 6},
    {"emission": "gaussian", "topology": "left-right"},
    {"emission": "categorical", "topology": "sparse", "start": "random"},
    {"emission": "gaussian", "floor": 0.8, "start": "mixture"},
    {"emission": "gaussian", "arithmetic": "log", "covariance": "full", "floor": 0.8},
]


@settings(max_examples=2)
@given(seed=st.integers(0, 10**6), priors=st.booleans())
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: " ".join(map(str, one.values())))
def test_the_penalised_objective_never_falls(variant, seed, priors):
    model = HMM(
        3, max_iter=8, tol=-np.inf, repair=False, random_state=seed, **variant, **(PRIORS if priors else {})
    )
    model.fit(frames_of(variant["emission"], seed), lengths=LENGTHS)
    steps = np.diff(model.objective_)
    assert len(steps) == 7 and (steps >= -1e-9 * np.abs(model.objective_[1:])).all()
    np.testing.assert_allclose(model.transmat_.sum(1), 1)
    assert model.startprob_.sum() == pytest.approx(1)


def test_fixed_and_tied_transitions_stay_so_and_the_objective_rises():
    frames = frames_of("gaussian", 0)
    moves = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])
    fixed, tied = np.zeros((3, 3), bool), np.zeros((3, 3), int)
    fixed[2, 0] = True
    tied[0, 0] = tied[1, 1] = 1
    model = HMM(3, transitions=moves, fixed=fixed, tied=tied, max_iter=6, tol=-np.inf, random_state=0)
    model.fit(frames, lengths=LENGTHS)
    found = model.transmat_
    assert found[2, 0] == 0.2 and found[0, 0] == pytest.approx(found[1, 1], abs=1e-9)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-9)
    assert abs(found[0, 1] - 0.1) > 1e-3 and (np.diff(model.objective_) >= -1e-7).all()
    # Of two free transitions in each of three rows, one is fixed, and two are tied to each other.
    plain = HMM(3, random_state=0).fit(frames, lengths=LENGTHS)
    assert plain.n_parameters_ - model.n_parameters_ == 2


def test_parameters_are_counted():
    frames = frames_of("gaussian", 0)
    chain = 2 + 6
    covariances: Any = (("spherical", 3), ("diagonal", 6), ("tied", 3), ("full", 9))
    for covariance, each in covariances:
        model = HMM(3, covariance=covariance, max_iter=1, random_state=0).fit(frames)
        assert model.n_parameters_ == chain + 6 + each, covariance
    left = HMM(3, topology="left-right", max_iter=1, random_state=0).fit(frames)
    assert left.n_parameters_ == 2 + 6 + 6
    timed = HMM(3, durations="categorical", max_duration=5, max_iter=1, random_state=0).fit(frames)
    assert timed.n_parameters_ == 2 + 3 + 3 * 4 + 12
    symbols = HMM(3, "categorical", max_iter=1, random_state=0).fit(frames_of("categorical", 0))
    assert symbols.n_parameters_ == chain + 3 * 3
    likelihood = left.score(frames)
    assert left.aic(frames) == pytest.approx(2 * 14 - 2 * likelihood)
    assert left.bic(frames) == pytest.approx(14 * np.log(60) - 2 * likelihood)


def test_a_state_without_frames_is_repaired():
    """Two of the initial means are far from all frames; repair moves them to the frames."""
    frames = np.concatenate([np.full((30, 1), 0.0), np.full((30, 1), 5.0)])
    frames += np.random.default_rng(0).normal(size=frames.shape) * 0.3
    far = HMM.from_parameters(
        np.ones(3) / 3, np.ones((3, 3)) / 3, means=[[2.0], [99.0], [999.0]], covariances=np.ones((3, 1))
    )
    kept = HMM(3, repair=False, max_iter=20).fit(frames, start_from=far)
    repaired = HMM(3, max_iter=60).fit(frames, start_from=far)
    assert kept.means_.max() == pytest.approx(999) and repaired.means_.max() < 10
    assert repaired.score(frames) > kept.score(frames) + 10


def test_the_day_after_goes_on_from_the_day_before():
    frames = frames_of("gaussian", 0)
    before = HMM(3, random_state=0).fit(frames, lengths=LENGTHS)
    after = HMM(3, max_iter=1).fit(frames + 0.01, lengths=LENGTHS, start_from=before)
    np.testing.assert_allclose(after.means_, before.means_, atol=0.2)
    with pytest.raises(ValueError, match="start_from has 3 states"):
        HMM(2).fit(frames, start_from=before)
    for other in (HMM(3, covariance="full"), HMM(3, durations="categorical")):
        with pytest.raises(ValueError, match=r"start_from has (covariance|durations)=.*: give the same to both"):
            other.fit(frames, start_from=before)


def test_transitions_that_were_lost_stay_so_whatever_the_prior():
    frames = np.repeat([0.0, 5.0, 10.0] * 4, 10)[:, None] + np.random.default_rng(0).normal(size=(120, 1)) * 0.1
    before = HMM(3, random_state=0, max_iter=30).fit(frames)
    lost = before.transmat_ == 0
    after = HMM(3, transition_prior=1.1, max_iter=5).fit(frames, start_from=before)
    assert lost.sum() >= 2 and (after.transmat_[lost] == 0).all() and np.isfinite(after.objective_).all()


def test_the_score_is_that_of_the_model_whenever_it_stops():
    """Where the last iteration empties a state, its repair would come without a score."""
    rng = np.random.default_rng(2)
    frames = np.concatenate([rng.normal(size=(60, 1)) * 0.05, 5 + rng.normal(size=(60, 1)) * 0.05])
    model = HMM(6, start="random", random_state=2, max_iter=3, tol=0).fit(frames, lengths=[20] * 6)
    assert model.score(frames, lengths=[20] * 6) >= model.history_[-1]


def test_sampling_begins_with_the_start_state_and_follows_the_temperature():
    model = HMM.from_parameters(
        [0.0, 1.0], [[0.75, 0.25], [0.25, 0.75]], means=[[0.0], [9.0]], covariances=np.ones((2, 1)) * 0.01
    )
    frames, states = model.sample(50, random_state=0, sequences=40)
    assert (states[::50] == 1).all() and (np.abs(frames[:, 0] - 9 * states) < 1).all()
    stays = lambda found: (np.diff(found.reshape(40, 50), axis=1) == 0).mean()  # noqa: E731
    cold = model.sample(50, random_state=0, sequences=40, temperature=0.5)[1]
    # Squared and normalised: 9 to 1.
    assert stays(states) == pytest.approx(0.75, abs=0.05) and stays(cold) == pytest.approx(0.9, abs=0.05)
    assert set(model.sample(20, random_state=1, mean=True)[0][:, 0]) == {0.0, 9.0}


def test_explicit_durations_are_learnt_and_drawn():
    """Every segment lasts 4 frames, which no Markov chain can model."""
    states = np.tile(np.repeat([0, 1, 2], 4), 10)
    frames = 4.0 * states[:, None] + np.random.default_rng(0).normal(size=(120, 1)) * 0.3
    model = HMM(3, durations="categorical", max_duration=8, random_state=0, max_iter=30).fit(
        frames, lengths=[60, 60]
    )
    assert model.durations_ is not None
    assert (model.durations_[:, 3] > 0.9).all() and (np.diagonal(model.transmat_) == 0).all()
    drawn = model.sample(40, random_state=0)[1]
    runs = np.diff(np.flatnonzero(np.append(1, np.diff(drawn))))
    assert (runs == 4).mean() > 0.7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HMM(9).fit(np.zeros((5, 1))), "n_samples=5"),
        (lambda: HMM(2).fit([[1.0], [np.nan], [2.0]]), "NaN"),
        (lambda: HMM(2).fit(np.zeros((0, 1))), "0 sample"),
        (lambda: HMM(2).fit(np.zeros((4, 1)), lengths=[2, 3]), "the lengths sum to 5, but there are 4 frames"),
        (lambda: HMM(2).fit(np.zeros((4, 1)), lengths=[4, 0]), "at least 1 for each sequence"),
        (lambda: HMM(2, "categorical").fit([[0], [1], [-1]]), "whole numbers of at least 0"),
        (lambda: HMM(2, "poisson").fit([[0.5], [1], [1]]), "whole numbers of at least 0"),
        (lambda: HMM(2, WRONG).fit(np.zeros((4, 1))), "emission='wrong': choose one of gaussian"),
        (lambda: HMM(2, covariance=WRONG).fit(np.zeros((4, 1))), "choose one of spherical"),
        (lambda: HMM(2, transition_prior=0.5).fit(np.zeros((4, 1))), "at least 1"),
        (lambda: HMM(2, transitions=[[0.5, 0.6], [0, 1]]).fit(np.zeros((4, 1))), "sum to 1"),
        (lambda: HMM(2, fixed=np.eye(2)).fit(np.zeros((4, 1))), "give transitions, too"),
        (lambda: HMM(2, "categorical", symbols=3).fit([[0], [5], [1]]), "symbol 5: there are 3"),
        (
            lambda: HMM(2, transitions=[[0.9, 0.1], [0.1, 0.9]], durations="categorical").fit(np.zeros((4, 1))),
            "give 0 on the diagonal",
        ),
    ],
)  # fmt: skip
def test_what_it_refuses_it_names_in_one_line(make, message):
    with unchecked(), pytest.raises(ValueError, match=message) as refusal:
        make()
    assert len(str(refusal.value).splitlines()) == 1 or "NaN" in message


def test_a_symbol_that_was_never_seen_is_refused_and_an_impossible_sequence_has_no_likelihood():
    model = HMM.from_parameters([1.0], [[1.0]], probabilities=[[0.5, 0.5, 0.0]])
    assert model.score([[2], [0]]) == -np.inf
    with pytest.raises(ValueError, match="symbol 3: there are 3"):
        model.score([[3]])
    with pytest.raises(ValueError, match="sequence 0 is impossible"):
        model.fit([[2], [0]], start_from=model)


def test_sequences_of_one_frame():
    frames = frames_of("gaussian", 0)
    model = HMM(2, random_state=0).fit(frames, lengths=[1] * 60)
    assert np.isfinite(model.history_).all() and model.predict(frames, [1] * 60).shape == (60,)
    # Without transitions, frames are scored independently.
    assert model.score(frames, lengths=[1] * 60) == pytest.approx(
        sum(model.score(frames[at : at + 1]) for at in range(60))
    )


def test_a_likelihood_that_is_not_a_number_does_not_converge(monkeypatch):
    monkeypatch.setattr("sonarium.models.hmm.em.Model.penalty", lambda self: float("nan"))
    with pytest.raises(ValueError, match="the likelihood became nan"):
        HMM(2, random_state=0).fit(frames_of("gaussian", 0))
