"""Density of a GRU over codes: its closed form with a zero head, causality, training and sampling."""

import math

import pytest
import torch
from stub_engine import StubEngine

from sonarium.models.gru import CodeGRU, GRUConfig
from sonarium.models.optim import AdamConfig
from sonarium.worlds.contract import Batch, Signal

SIGNAL = Signal("codes", (6, 2), frame_rate=10.0)


def gru(**changed):
    torch.manual_seed(0)
    return CodeGRU(GRUConfig(units=8, components=2, **changed), SIGNAL)


def test_a_head_of_zeros_is_a_gaussian_about_the_mean():
    learner = gru()
    torch.nn.init.zeros_(learner.network.head.weight)
    torch.nn.init.zeros_(learner.network.head.bias)
    frames = torch.randn(3, 6, 2)
    spread = torch.tensor(math.log(2) + 1e-3)
    expected = torch.distributions.Normal(0, spread).log_prob(frames).sum(2)
    torch.testing.assert_close(learner.log_density(frames), expected)


def test_a_frame_is_predicted_from_those_before_it_alone():
    learner = gru()
    frames = torch.randn(2, 6, 2)
    changed = frames.clone()
    changed[:, 3] += 1
    one, other = learner.log_density(frames), learner.log_density(changed)
    torch.testing.assert_close(one[:, :3], other[:, :3])
    assert (one[:, 3:] != other[:, 3:]).all()
    torch.testing.assert_close(learner.log_density(frames[:, :1]), one[:, :1])


def test_it_learns_a_signal_that_repeats_and_draws_it():
    """Frames alternate between two values, so that each is determined by the one before."""
    turn = torch.arange(6) % 2
    signal = (
        torch.stack([torch.stack([10 * (turn ^ first), 5.0 * turn], 1) for first in (0, 1)])
        .float()
        .repeat(8, 1, 1)
    )
    batch = Batch(torch.arange(16), signal, torch.zeros(16, 0), lengths=torch.full((16,), 6))
    learner, engine = gru(optimiser=AdamConfig(learning_rate=0.03)), StubEngine()
    learner.mean.copy_(signal.mean((0, 1)))
    learner.scale.copy_(signal.std((0, 1)))
    first = learner.update(batch, engine)["loss/negative_log_likelihood"]
    for _ in range(150):
        last = learner.update(batch, engine)["loss/negative_log_likelihood"]
    assert last < first - 3
    drawn = learner.sample(20, torch.Generator().manual_seed(0))
    assert drawn.shape == (20, 6, 2)
    flips = (drawn[:, 1:, 0] - drawn[:, :-1, 0]).abs()
    assert (flips > 5).float().mean() > 0.6
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(learner.sample_frames(20, 6, generator), drawn)
    hot = learner.sample_frames(20, 12, torch.Generator().manual_seed(0), 50.0)
    assert hot.shape == (20, 12, 2) and hot.std() > drawn.std()


def test_what_it_cannot_learn_from_is_refused():
    with pytest.raises(ValueError, match="give --codes RUN"):
        CodeGRU(GRUConfig(), Signal("wave", (100,), 100))
    with pytest.raises(ValueError, match="units=0"):
        GRUConfig(units=0)
