"""Real tokens of the training split: the regression, nearest neighbours, their sound, and the file they are in."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contracts.small import OF_CODES, Ramps, data_for, learner_of, world_of
from stub_engine import StubEngine

from sonarium.evaluation import realtokens
from sonarium.evaluation.realtokens import RealTokens, collect, joined, regression
from sonarium.training.clips import Clips, ClipsConfig


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    world = data_for("wave", tmp_path_factory.mktemp("real"))
    learner: Any = learner_of("dreaming", "wave", world.signal).eval()
    train = torch.arange(20)
    learner.prepare(Clips(world, train, ClipsConfig(batch_size=8), 0), StubEngine(0))
    return learner, world, train, collect(learner, world, train, 0)


def test_a_linear_map_is_found():
    random = torch.Generator().manual_seed(0)
    states = torch.randn(400, 6, generator=random, dtype=torch.double) * torch.arange(1, 7) + 3
    weights, offset = torch.randn(6, 4, generator=random).double(), torch.randn(4, generator=random).double()
    noise = 0.2 * torch.randn(400, 4, generator=random).double()
    tokens = states @ weights + offset
    found = regression([states], tokens + noise, torch.arange(400) // 20, torch.ones(400, dtype=torch.bool))
    torch.testing.assert_close(found[0], weights, atol=0.05, rtol=0)
    torch.testing.assert_close(states @ found[0] + found[1], tokens, atol=0.15, rtol=0)
    torch.testing.assert_close(found[2], torch.full((4,), 0.2).double(), atol=0.04, rtol=0)


def test_the_tokens_are_those_of_the_training_split(collected):
    learner, world, train, real = collected
    size = learner.front.shortest
    whole = world.whole(train)
    clips = {
        row.numpy().tobytes()
        for wave, count in zip(whole.signal, learner.code_lengths(world.lengths(train)), strict=True)
        for row in wave[: int(count) * size].unfold(0, size, 1)
    }
    sound = real.sound[:, real.margin : -real.margin]
    assert all(row.contiguous().numpy().tobytes() in clips for row in sound[::7])
    torch.testing.assert_close(learner.front.tokens(learner.front(sound[5][None]))[0, 0], real.tokens[5])
    assert real.piece.diff().min() >= 0 and set(real.usual) == {"kl", "nce"}
    assert all(bool((one.diff() >= 0).all()) for one in real.usual.values())


def test_tokens_that_are_codes_have_the_sound_that_they_were_made_of(tmp_path):
    """Each stretch of sound encodes to its code, computed as in `encoded`; its margins hold the adjacent sound."""
    world, ramps = world_of(OF_CODES, tmp_path), Ramps()
    learner: Any = learner_of("dreaming", "codes", world.signal).eval()
    train = torch.arange(20)
    learner.prepare(Clips(world, train, ClipsConfig(batch_size=8), 0), StubEngine(0))
    real = collect(learner, world, train, 0, heard=ramps)
    assert real.margin == 1 and real.sound.shape == (len(real.tokens), 12)
    again = real.sound[:, 1:-1] @ torch.randn(10, 4, generator=torch.Generator().manual_seed(0)) / 10
    torch.testing.assert_close(again, learner.front.codes(real.tokens[None])[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        real.sound[:, 2:-1].diff(), torch.full((len(real.sound), 8), 0.001), atol=1e-5, rtol=0
    )
    first = (real.sound[:, 1] * 1000).round().long() % 1000 == 0
    assert not real.sound[first, 0].any() and first.any() and real.sound[~first, 0].all()
    silent = collect(learner, world, train, 0)
    assert silent.margin == 0 and not silent.sound.numel() and torch.equal(silent.tokens, real.tokens)


def test_of_long_tokens_fewer_are_kept(collected, monkeypatch):
    learner, world, train, real = collected
    monkeypatch.setattr("sonarium.evaluation.realtokens.MOST_SAMPLES", 30 * real.sound.shape[1] + 5)
    fewer = collect(learner, world, train, 0)
    assert len(fewer.tokens) == len(fewer.sound) == 30 and torch.equal(fewer.tokens, real.tokens[:30])


def test_the_nearest_token_is_the_nearest(collected):
    learner, _, _, real = collected
    wanted = real.tokens[[3, 50, 3]] + 1e-3
    found = real.nearest(wanted[None])[0]
    apart = (wanted[:, None] - real.tokens).square().sum(-1)
    assert torch.equal(found, apart.argmin(1)) and found.tolist() == [3, 50, 3]
    assert real.decoded(torch.zeros(1, 2, 14), 0).shape == (1, 2, learner.front.width)


def test_neighbours_are_heard_as_they_were(collected):
    """Consecutive tokens sound like the recording, joins included."""
    learner, _, _, real = collected
    own = (real.piece == real.piece[40]).nonzero()[:, 0][:4]
    assert len(own) == 4
    size, margin = learner.front.shortest, real.margin
    made = real.heard(own)
    recorded = torch.cat([real.sound[own[0]], *(real.sound[one][-size:] for one in own[1:])])
    np.testing.assert_allclose(made, recorded.double().numpy(), atol=1e-7)
    before = recorded[: margin + size].double().numpy()
    after = real.heard(own[1:])
    np.testing.assert_allclose(joined(before, after, margin), recorded.double().numpy(), atol=1e-7)


def test_stretches_follow_one_another(collected, monkeypatch):
    *_, real = collected
    monkeypatch.setattr(realtokens, "STRETCHES", 10**6)
    found = real.stretches(3)
    expected = [
        real.tokens[at : at + 3] for at in range(len(real.tokens) - 2) if real.piece[at] == real.piece[at + 2]
    ]
    assert torch.equal(found, torch.stack(expected)) and len(real.stretches(10**5)) == 0


def test_what_is_kept_is_what_was_collected(collected, tmp_path):
    learner, world, train, real = collected
    path = tmp_path / "kept" / "x.safetensors"
    real.save(path)
    found = RealTokens.load(path)
    for name, value in vars(real).items():
        held = getattr(found, name)
        same = torch.equal(held, value) if isinstance(value, torch.Tensor) else str(held) == str(value)
        assert same, name
    again = collect(learner, world, train, 0)
    assert torch.equal(again.tokens, real.tokens) and torch.equal(again.weights, real.weights)
    content = path.read_bytes()
    for damaged in (
        content[:-9],
        b"",
        content.replace(b'"margin', b'"mergin', 1).replace(b'\\"margin', b'\\"mergin'),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="remove it, and it is made again"):
            RealTokens.load(path)


def test_clips_without_a_state_after_the_burn_in_are_refused(collected):
    learner, world, train, _ = collected
    learner.burn_in = 10**6
    try:
        with pytest.raises(ValueError, match="no training clip has more tokens than the burn-in"):
            collect(learner, world, train, 0)
    finally:
        learner.burn_in = 1
    assert replace(learner.config, burn_in=1) == learner.config
