"""HMM learner: takes the EM steps of the estimator, for any batches, and refuses unsuitable data."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from contracts.small import OF_CODES, world_of
from stub_engine import StubEngine

from sonarium.models.hmm import HMM
from sonarium.models.hmm.config import HMMConfig
from sonarium.models.hmm.learner import HiddenMarkov, parts
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.worlds.contract import Signal


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return world_of(OF_CODES, tmp_path_factory.mktemp("codes"))


def source_of(world, learner, engine, size=8):
    source = Clips(world, torch.arange(20), ClipsConfig(size, "whole", drop_last=False), 0)
    source.attach(learner, engine)
    return source


def prepared(world, config):
    torch.manual_seed(0)
    learner, engine = HiddenMarkov(config, world.signal), StubEngine()
    source = source_of(world, learner, engine)
    learner.prepare(source, engine)
    return learner, source, engine


def one_pass(learner, source, engine):
    while True:
        terms = learner.update(next(source), engine)
        if source.pass_ended:
            return terms | learner.end_pass(engine)


@pytest.mark.parametrize(
    "config",
    [
        HMMConfig(states=3),
        HMMConfig(states=3, covariance="tied", arithmetic="log"),
        HMMConfig(states=3, emission="mixture", covariance="full"),
        HMMConfig(states=3, durations="categorical", max_duration=4),
        HMMConfig(states=4, topology="sparse", sparsity=0.9),
    ],
    ids=["diagonal", "tied", "mixture", "durations", "sparse"],
)
def test_passes_are_iterations_of_the_estimator(config, world):
    learner, source, engine = prepared(world, config)
    batch = world.whole(torch.arange(20))
    lengths = batch.lengths.tolist()
    frames = np.concatenate([row[:length].numpy() for row, length in zip(batch.signal, lengths, strict=True)])
    peer = HMM(
        config.states, config.emission, covariance=config.covariance, topology=config.topology,
        durations=config.durations, max_duration=config.max_duration, max_iter=2, tol=-np.inf,
    )  # fmt: skip
    peer.model_, peer.n_features_in_ = replace(learner.model), 4
    peer.fit(frames, lengths=lengths, start_from=peer)
    for _ in range(2):
        terms = one_pass(learner, source, engine)
    assert all(value.isfinite() for value in terms.values())
    np.testing.assert_allclose(learner.model.chain.transitions, peer.transmat_, atol=1e-9)
    np.testing.assert_allclose(learner.model.chain.start, peer.startprob_, atol=1e-9)
    np.testing.assert_allclose(learner.model.emission.expected(), peer.model_.emission.expected(), atol=1e-9)
    assert not any(bool(value.any()) for value in parts(learner.counts).values())
    codes = learner.encode(batch.signal, batch.lengths)
    own = torch.cat([row[:length] for row, length in zip(codes, lengths, strict=True)])
    np.testing.assert_allclose(own, peer.predict_proba(frames, lengths), atol=1e-6)
    if config.topology == "sparse":
        assert (learner.model.chain.transitions == 0).any()
    assert learner.sample(3, torch.Generator().manual_seed(0)).shape == (3, *world.signal.shape)
    assert learner.sample_frames(2, 9, torch.Generator().manual_seed(0), 0.5).shape == (2, 9, 4)
    occupancy, moves = learner.chain()
    assert occupancy.sum() == pytest.approx(1) and not moves.diagonal().any()
    left = moves.sum(1)
    assert np.allclose(left[left > 0], 1)


@pytest.mark.parametrize("topology", ["ergodic", "left-right", "sparse"])
def test_before_it_is_prepared_it_is_a_model(topology, world):
    """The untrained control is scored in this state."""
    learner = HiddenMarkov(HMMConfig(states=3, topology=topology), world.signal)
    batch = world.whole(torch.arange(3))
    codes = learner.encode(batch.signal, batch.lengths)
    np.testing.assert_allclose(codes[0, : int(batch.lengths[0])].sum(1), 1, atol=1e-6)


def test_clips_without_frames_say_nothing(world):
    learner, _, engine = prepared(world, HMMConfig(states=2))
    batch = world.whole(torch.arange(3))
    silent = replace(batch, lengths=torch.zeros(3, dtype=torch.int64))
    before = learner.counts
    learner.update(silent, engine)
    assert torch.equal(learner.counts.occupancy, before.occupancy)
    assert not learner.encode(batch.signal, torch.tensor([0, 2, 0]))[::2].any()


def test_a_state_without_frames_takes_over_half_of_the_largest(world):
    learner, source, engine = prepared(world, HMMConfig(states=3))
    learner.get_buffer("model_mean")[1] = 1e4
    one_pass(learner, source, engine)
    assert learner.get_buffer("model_mean").abs().max() < 1e3 and int(learner.repaired) == 1


def test_begun_with_other_weights_nothing_is_counted_yet(world):
    """A checkpoint within a pass has partial counts, which are not part of the first pass of another run."""
    learner, source, engine = prepared(world, HMMConfig(states=3))
    learner.get_buffer("model_mean")[1] = 1e4
    one_pass(learner, source, engine)
    learner.update(next(source), engine)
    assert learner.counts.occupancy.any() and int(learner.repaired) == 1
    learner.restart()
    assert not any(value.any() for value in parts(learner.counts).values()) and not int(learner.repaired)


def test_what_it_cannot_learn_from_is_refused(world):
    with pytest.raises(ValueError, match="give --codes RUN"):
        HiddenMarkov(HMMConfig(), Signal("wave", (100,), 100))
    with pytest.raises(ValueError, match="codes are continuous"):
        HiddenMarkov(HMMConfig(emission="poisson"), world.signal)
    learner, engine = HiddenMarkov(HMMConfig(states=500), world.signal), StubEngine()
    source = source_of(world, learner, engine)
    with pytest.raises(ValueError, match="--states 500: there are"):
        learner.check(source)
    with pytest.raises(ValueError, match="500 states: there are"):
        learner.prepare(source, engine)
