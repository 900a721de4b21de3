"""Sampling from the replay, compared with a plain list of steps and with Stable-Baselines3's buffer.

Sequences of sound, which ours stores in 16 bits on disk and the list in 32 bits in memory; and single steps of the
size of CartPole's, which Stable-Baselines3 stores in arrays in memory.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import stable_baselines3
from gymnasium import spaces
from jaxtyping import Float
from stable_baselines3.common.buffers import ReplayBuffer

from sonarium.agents.replay import Replay, ReplayConfig
from sonarium.agents.rollout import Rollout
from sonarium.bench.timing import case, interleaved
from sonarium.training.engine import FabricEngine
from sonarium.training.state import FileSegments

WINDOW, SEQUENCES, STEPS = 2000, 16, 64
"""Samples per window at each of two ears, sequences per batch, and steps per sequence."""
SLOTS, KEPT = 8, 6400
"""Number of environment copies, and of the steps stored from all of them."""
FLAT, FLAT_BATCH, FLAT_KEPT = 4, 256, 50_000
"""Size of an observation, batch size, and steps of the replay, where single steps are sampled."""
DRAWS = 5
"""Batches per timed run."""
ENDS = 0.005
"""Probability that an episode ends at a step."""


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        found = [sequences(Path(folder), repeats)]
        found += [flat(Path(folder), draw, repeats) for draw in ("uniform", "prioritised")]
    return found


def engine_in(folder: Path) -> FabricEngine:
    engine = FabricEngine("cpu", "32", 0)
    engine.storage = lambda name: FileSegments(folder / name)
    return engine


def rollout(observation: Float[np.ndarray, "step slot *observed"], random: np.random.Generator) -> Rollout:
    """A rollout with these observations and random ends of episodes."""
    steps, slots = observation.shape[:2]
    over = random.random((steps, slots)) < ENDS
    first = np.concatenate([np.zeros((1, slots), bool), over[:-1]])
    action, reward = random.integers(2, size=(steps, slots)), random.standard_normal((steps, slots))
    return Rollout(observation, first, action, reward, over, np.zeros_like(over), observation, None)


def sequences(folder: Path, repeats: int) -> dict[str, Any]:
    random, engine = np.random.default_rng(0), engine_in(folder)
    space = spaces.Box(-1, 1, (2, WINDOW), np.float32)
    config = ReplayConfig(replay_steps=KEPT, sequence_steps=STEPS, cross_episodes=True)
    replay, kept = Replay(config, space), [[] for _ in range(SLOTS)]
    for _ in range(KEPT // (SLOTS * STEPS)):
        sound = random.uniform(-1, 1, (STEPS, SLOTS, 2, WINDOW)).astype(np.float32)
        data = rollout(sound, random)
        replay.add(data, engine)
        for slot, steps in enumerate(kept):
            steps += [
                {"sound": rows[slot], "reward": reward[slot]}
                for rows, reward in zip(sound, data.reward, strict=True)
            ]
    sizes = SEQUENCES * STEPS

    def theirs() -> None:
        for _ in range(DRAWS):
            slots = random.integers(SLOTS, size=SEQUENCES)
            starts = random.integers(len(kept[0]) - STEPS + 1, size=SEQUENCES)
            rows = [
                kept[slot][start + step]
                for slot, start in zip(slots, starts, strict=True)
                for step in range(STEPS)
            ]
            batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
            assert batch["sound"].shape == (sizes, 2, WINDOW)

    work = f"{DRAWS} batches of {SEQUENCES} × {STEPS} steps of {WINDOW} samples at two ears"
    ours_s, theirs_s = interleaved(drawing(replay, SEQUENCES), theirs, repeats)
    each = f"; {1000 * ours_s / DRAWS:.1f} ms a batch, kept in 16 bits on the disk"
    return case("sequences of sound", work + each, "a list of arrays in memory", ours_s, theirs_s)


def drawing(replay: Replay, size: int) -> Callable[[], None]:
    """Function that samples batches and, in a prioritised replay, updates their priorities."""

    def draw() -> None:
        for _ in range(DRAWS):
            batch = replay.sample(size)
            if replay.prioritised:
                replay.prioritise(batch.rows, np.abs(batch.reward[0]))

    return draw


def flat(folder: Path, draw: Any, repeats: int) -> dict[str, Any]:
    random, engine = np.random.default_rng(0), engine_in(folder / draw)
    space, actions = spaces.Box(-1, 1, (FLAT,), np.float32), spaces.Discrete(2)
    replay = Replay(ReplayConfig(replay_steps=FLAT_KEPT, draw=draw), space)
    peer = ReplayBuffer(FLAT_KEPT, space, actions, "cpu", SLOTS)
    data = rollout(random.uniform(-1, 1, (FLAT_KEPT // SLOTS, SLOTS, FLAT)).astype(np.float32), random)
    replay.add(data, engine)
    for step in range(len(data.reward)):
        shown: Any = data.observation
        over, told = data.terminated[step], [{}] * SLOTS
        peer.add(shown[step], shown[step], data.action[step], data.reward[step], over, told)

    def theirs() -> None:
        for _ in range(DRAWS):
            assert len(peer.sample(FLAT_BATCH).rewards) == FLAT_BATCH

    work = f"{DRAWS} batches of {FLAT_BATCH} of {FLAT_KEPT} steps of {FLAT} numbers"
    name = f"single steps, {draw}"
    said = f"Stable-Baselines3 {stable_baselines3.__version__}, uniform"
    return case(name, work, said, *interleaved(drawing(replay, FLAT_BATCH), theirs, repeats))
