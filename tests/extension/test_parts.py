"""The parts of the extension against closed forms, brute force and other libraries."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import hilbert
from scipy.stats import spearmanr
from sklearn.cluster import KMeans as ReferenceKMeans
from sonarium_extension.chirps import MOTIFS, SYLLABLES, Chirps, ChirpsConfig
from sonarium_extension.corridor import corridor
from sonarium_extension.environment import Beeps
from sonarium_extension.gammatone import Gammatone, GammatoneConfig
from sonarium_extension.kmeans import KMeans, KMeansConfig
from sonarium_extension.reinforce import Reinforce, ReinforceConfig, Replay
from sonarium_extension.similarity import similarity
from stub_engine import StubEngine

from sonarium.agents.rollout import Rollout
from sonarium.rooms.acoustics.geometry import polygon
from sonarium.rooms.seek.config import SeekConfig
from sonarium.training.state import FileSegments
from sonarium.worlds.contract import Batch, Signal


def test_the_frequency_track_is_that_of_the_sound():
    """Against the derivative of the phase of the analytic signal of the first harmonic."""
    world = Chirps(ChirpsConfig(clips=40, singers=40), 3)
    batch = world.whole(torch.arange(40))
    assert batch.tracks is not None and batch.lengths is not None
    rate, hop = world.config.rate, round(world.config.rate / world.track_rate)
    for row in range(40):
        spectrum = np.fft.rfft(batch.signal[row, : batch.lengths[row]].double().numpy())
        pitch = float(batch.factors[row, 2])
        # Only the first harmonic: the second is above 2 ** 0.75 times the middle frequency.
        hertz = np.fft.rfftfreq(int(batch.lengths[row]), 1 / rate)
        first = np.fft.irfft(np.where(hertz < 1.55 * pitch, spectrum, 0), int(batch.lengths[row]))
        phase = np.unwrap(np.angle(np.asarray(hilbert(first))))
        for start, stop, kind in world.marks(torch.tensor([row]))[0]:
            # Without the frames at both ends, which the sharp filter smears.
            frames = range(int(start / 0.01) + 2, int(stop / 0.01) - 2)
            told = batch.tracks[row, list(frames), 0].numpy()
            found = [(phase[(f + 1) * hop] - phase[f * hop]) * rate / (2 * np.pi * hop) for f in frames]
            np.testing.assert_allclose(found, told, rtol=0.05)
            assert (batch.tracks[row, list(frames), 1] == SYLLABLES.index(kind)).all()
            rising = np.sign(np.diff(told, prepend=told[:1])[1:])
            assert (rising == {"rise": 1, "fall": -1, "flat": 0}[kind]).all()


def test_a_song_has_the_syllables_of_its_motif_and_is_silent_between_them():
    world = Chirps(ChirpsConfig(clips=12), 0)
    index = torch.arange(12)
    batch = world.whole(index)
    assert len(set(world.lengths(index).tolist())) > 6 and world.cropped()
    for row, marks in enumerate(world.marks(index)):
        assert "-".join(kind for _, _, kind in marks) == MOTIFS[int(batch.factors[row, 1])]
        sounding = torch.zeros(batch.signal.shape[1], dtype=torch.bool)
        for start, stop, _ in marks:
            sounding[round(start * 8000) : round(stop * 8000)] = True
        assert (batch.signal[row, ~sounding] == 0).all() and batch.signal[row, sounding].abs().max() > 0.1


def test_a_sine_at_the_centre_of_a_band_has_the_level_of_its_amplitude():
    front = Gammatone(GammatoneConfig(bands=12), Signal("wave", (8000,), 8000))
    time = np.arange(8000) / 8000
    waves = torch.tensor(np.array([0.5 * np.sin(2 * np.pi * hertz * time) for hertz in front.hertz])).float()
    levels = front.levels(waves)[..., 20:]
    own = levels[torch.arange(12), torch.arange(12)]
    torch.testing.assert_close(own, torch.full_like(own, 20 * np.log10(0.5)), rtol=0, atol=0.5)
    # It is the loudest band of its clip.
    assert (levels.argmax(1) == torch.arange(12)[:, None]).all()


def test_lloyds_steps_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    frames = (random.standard_normal((60, 3)) + 3 * random.integers(0, 3, (60, 1))).astype(np.float32)
    learner, engine = KMeans(KMeansConfig(4), Signal("codes", (12, 3), frame_rate=10.0)), StubEngine()
    start = torch.tensor(frames[[0, 20, 40, 59]])
    learner.centroids.copy_(start)
    for passes in range(1, 4):
        for several in torch.tensor(frames).view(5, 12, 3).split(2):
            # Padding, which must have no effect.
            padded = torch.cat([several, torch.full((len(several), 4, 3), 50.0)], 1)
            lengths = torch.full((len(several),), 12)
            index, nothing = torch.arange(len(several)), torch.empty(len(several), 0)
            learner.update(Batch(index, padded, nothing, lengths=lengths), engine)
        learner.end_pass(engine)
        how: Any = {"init": start.numpy(), "n_init": 1, "max_iter": passes, "tol": 0, "algorithm": "lloyd"}
        reference = ReferenceKMeans(4, **how).fit(frames)
        np.testing.assert_allclose(learner.centroids.numpy(), reference.cluster_centers_, rtol=1e-5, atol=1e-5)


def test_returns_bootstrap_through_truncation_and_not_through_termination():
    env = Beeps()
    agent = Reinforce(ReinforceConfig(discount=0.5), env.observation_space, env.action_space)
    random = np.random.default_rng(0)
    steps, slots = 12, 3
    last = random.standard_normal((steps, slots, 16)).astype(np.float32)
    ends = random.integers(0, 4, (steps, slots))
    data = Rollout(
        last, np.zeros((steps, slots), bool), np.zeros((steps, slots), int), random.random((steps, slots)),
        ends == 0, ends == 1, last, None,
    )  # fmt: skip
    found = agent.returns(data)
    values = agent.baseline(torch.tensor(last).view(-1, 16)).detach().view(steps, slots).numpy()
    for slot in range(slots):
        for step in range(steps):
            expected, weight = 0.0, 1.0
            for later in range(step, steps):
                expected += weight * data.reward[later, slot]
                weight *= 0.5
                if data.terminated[later, slot]:
                    break
                if data.truncated[later, slot] or later == steps - 1:
                    expected += weight * values[later, slot]
                    break
            assert found[step, slot] == pytest.approx(expected, rel=1e-5)


def test_steps_whose_action_was_ignored_are_not_learnt_from(tmp_path, monkeypatch):
    monkeypatch.setattr(StubEngine, "segments", lambda engine, name: FileSegments(tmp_path / name))
    env, random, learnt = Beeps(), np.random.default_rng(0), []
    steps, slots = 6, 2
    shown = random.standard_normal((steps, slots, 16)).astype(np.float32)
    ends, acted = np.zeros((steps, slots), bool), np.ones((steps, slots), bool)
    # Episodes end at these steps, and are reset at the next ones.
    ends[2, 0] = ends[3, 1] = True
    acted[3, 0] = acted[4, 1] = False
    reward = random.random((steps, slots))
    for other in (False, True):
        torch.manual_seed(0)
        agent, engine = Reinforce(ReinforceConfig(), env.observation_space, env.action_space), StubEngine(1)
        seen, action = shown.copy(), np.zeros((steps, slots), int)
        if other:
            seen[~acted], action[~acted] = 9.0, 1
        agent.update(
            Rollout(seen, ~acted, action, reward * acted, ends, np.zeros_like(ends), shown, None, {}, acted),
            engine,
        )
        assert len(agent.replay.segments[0].load()["returns"]) == acted.sum()
        learnt.append(torch.cat([one.detach().flatten() for one in agent.parameters()]))
    assert (learnt[0] == learnt[1]).all()


def test_the_replay_follows_the_seed_of_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(StubEngine, "segments", lambda engine, name: FileSegments(tmp_path / name))
    drawn = []
    for seed in (1, 1, 2):
        replay = Replay(2)
        replay.add(np.zeros((50, 3), np.float32), np.arange(50, dtype=np.float32), StubEngine(seed))
        drawn.append(replay.draw(8)[1].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_representational_similarity_by_brute_force():
    random = np.random.default_rng(1)
    factors = np.stack([random.integers(0, 3, 20), random.random(20)], axis=1)
    codes = random.standard_normal((20, 4))
    pairs = list(combinations(range(20), 2))
    span = np.ptp(factors[:, 1])
    apart = [(factors[a, 0] != factors[b, 0]) + abs(factors[a, 1] - factors[b, 1]) / span for a, b in pairs]
    expected = np.asarray(spearmanr([np.linalg.norm(codes[a] - codes[b]) for a, b in pairs], apart))[0]
    assert similarity(codes, factors, (True, False), 0)["rsa"] == pytest.approx(expected)
    assert similarity(factors * [0, 1 / span], factors * [0, 1], (True, False), 0)["rsa"] == pytest.approx(1)
    assert similarity(codes * 0, factors, (True, False), 0)["rsa"] == 0


@pytest.mark.parametrize("seed", range(8))
def test_a_corridor_has_one_bend_around_which_nothing_is_seen(seed):
    config = SeekConfig()
    room = polygon(corridor(config, np.random.default_rng(seed)), None, 0.3)
    assert len(room.corners) == 6 and not room.convex
    # Midpoints of the two short walls at the ends of the arms.
    lengths = np.linalg.norm(room.next_corners - room.corners, axis=1)
    width = lengths.min()
    ends = np.flatnonzero(np.isclose(lengths, width))
    middles = (room.corners[ends] + room.next_corners[ends]) / 2
    inward = 0.05 * (room.corners.mean(axis=0) - middles)
    assert len(ends) == 2 and not room.in_sight(middles[:1] + inward[:1], middles[1:] + inward[1:])[0]
