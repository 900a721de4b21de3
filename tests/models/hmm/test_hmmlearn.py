"""EM iterations from the same parameters, Viterbi paths, posteriors and scores against hmmlearn."""

import numpy as np
import pytest

from sonarium.models.hmm import HMM

theirs = pytest.importorskip("hmmlearn.hmm")
LENGTHS = [30, 1, 50, 19]
KINDS = {"spherical": "spherical", "diagonal": "diag", "tied": "tied", "full": "full"}


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    states = np.repeat(rng.integers(3, size=20), 5)
    return rng.normal(size=(100, 2)) + 2.0 * states[:, None]


def beside(ours, peer, frames, steps=4, tolerance=1e-8):
    """Assert equal likelihoods of every iteration, and equal parameters after the last."""
    peer.n_iter, peer.tol, peer.init_params = steps, -np.inf, ""
    peer.fit(frames, LENGTHS)
    ours.set_params(max_iter=steps, tol=-np.inf, repair=False)
    ours.fit(frames, lengths=LENGTHS, start_from=ours)
    np.testing.assert_allclose(ours.history_, list(peer.monitor_.history), atol=1e-6, rtol=0)
    np.testing.assert_allclose(ours.startprob_, peer.startprob_, atol=tolerance)
    np.testing.assert_allclose(ours.transmat_, peer.transmat_, atol=tolerance)
    np.testing.assert_allclose(ours.score(frames, lengths=LENGTHS), peer.score(frames, LENGTHS), atol=1e-6)
    np.testing.assert_allclose(
        ours.predict_proba(frames, LENGTHS), peer.predict_proba(frames, LENGTHS), atol=tolerance
    )
    assert np.array_equal(ours.predict(frames, LENGTHS), peer.predict(frames, LENGTHS))


def chain_of(peer, rng):
    peer.startprob_ = rng.dirichlet(np.ones(3))
    peer.transmat_ = rng.dirichlet(np.ones(3), size=3)
    return peer.startprob_, peer.transmat_


@pytest.mark.parametrize("implementation", ["log", "scaling"])
@pytest.mark.parametrize("covariance", KINDS)
def test_gaussian(covariance, implementation, frames):
    rng = np.random.default_rng(1)
    wide = covariance in ("tied", "full")
    # hmmlearn adds a scalar prior to every element of a matrix; ours is a multiple of the identity.
    peer = theirs.GaussianHMM(
        3, KINDS[covariance], covars_prior=0.01 * np.eye(2) if wide else 0.01, implementation=implementation
    )
    start, moves = chain_of(peer, rng)
    peer.n_features = 2
    peer.means_ = rng.normal(size=(3, 2)) * 2 + 2
    covariances = {
        "spherical": np.ones(3), "diagonal": np.ones((3, 2)), "tied": np.eye(2), "full": np.stack([np.eye(2)] * 3)
    }[covariance]  # fmt: skip
    peer.covars_ = covariances
    ours = HMM.from_parameters(
        start, moves, means=peer.means_, covariances=covariances, covariance=covariance,
        arithmetic="log" if implementation == "log" else "scaled",
    )  # fmt: skip
    beside(ours, peer, frames)


@pytest.mark.parametrize("covariance", KINDS)
def test_mixture(covariance, frames):
    """One iteration only, because hmmlearn computes covariances about the means before the step."""
    rng = np.random.default_rng(2)
    peer = theirs.GMMHMM(3, 2, covariance_type=KINDS[covariance])
    start, moves = chain_of(peer, rng)
    means = rng.normal(size=(3, 2, 2)) * 2 + 2
    shapes = {
        "spherical": np.ones((3, 2)), "diagonal": np.ones((3, 2, 2)), "tied": np.stack([np.eye(2)] * 3),
        "full": np.ones((3, 2, 1, 1)) * np.eye(2),
    }  # fmt: skip
    peer.n_features, peer.means_, peer.weights_ = 2, means, rng.dirichlet(np.ones(2), size=3)
    peer.covars_ = shapes[covariance]
    peer.init_params = ""
    peer.n_iter, peer.tol = 1, -np.inf
    ours = HMM.from_parameters(
        start, moves, means=means, weights=peer.weights_, covariance=covariance, covariance_prior=0.0,
        covariances=np.eye(2) if covariance == "tied" else shapes[covariance], floor=1e-6, repair=False,
    )  # fmt: skip
    np.testing.assert_allclose(ours.score(frames, lengths=LENGTHS), peer.score(frames, LENGTHS), atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(frames, LENGTHS), peer.predict_proba(frames, LENGTHS), atol=1e-9)
    peer.fit(frames, LENGTHS)
    ours.set_params(max_iter=1).fit(frames, lengths=LENGTHS, start_from=ours)
    np.testing.assert_allclose(ours.transmat_, peer.transmat_, atol=1e-9)
    np.testing.assert_allclose(ours.weights_, peer.weights_, atol=1e-9)
    np.testing.assert_allclose(ours.means_, peer.means_, atol=1e-9)


def test_categorical():
    rng = np.random.default_rng(3)
    symbols = rng.integers(4, size=(100, 1))
    peer = theirs.CategoricalHMM(3)
    start, moves = chain_of(peer, rng)
    peer.n_features, peer.emissionprob_ = 4, rng.dirichlet(np.ones(4), size=3)
    ours = HMM.from_parameters(start, moves, probabilities=peer.emissionprob_)
    beside(ours, peer, symbols, steps=8)
    np.testing.assert_allclose(ours.emissionprob_, peer.emissionprob_, atol=1e-8)


def test_poisson():
    rng = np.random.default_rng(4)
    counts = rng.poisson(np.repeat(rng.integers(1, 9, size=(20, 2)), 5, axis=0))
    peer = theirs.PoissonHMM(3)
    start, moves = chain_of(peer, rng)
    peer.n_features, peer.lambdas_ = 2, rng.uniform(1, 9, size=(3, 2))
    ours = HMM.from_parameters(start, moves, rates=peer.lambdas_)
    beside(ours, peer, counts, steps=6)
    np.testing.assert_allclose(ours.lambdas_, peer.lambdas_, atol=1e-8)
