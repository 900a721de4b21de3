"""Replay: sequences match a plain list of steps, and are drawn with the intended probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from stub_engine import StubEngine
from typechecking import unchecked

from sonarium.agents.priorities import LEAST_PRIORITY, SumTree, sequence_priority
from sonarium.agents.replay import Replay, ReplayConfig
from sonarium.agents.rollout import Rollout
from sonarium.agents.spaces import flat
from sonarium.training.run import RunFolder
from sonarium.training.state import FileSegments, pack, unpack

SLOTS = 3
NESTED = spaces.Dict({
    "where": spaces.Tuple((spaces.Discrete(9), spaces.MultiBinary(2))),
    "sound": spaces.Box(-1, 1, (2, 256), np.float32),
    "picture": spaces.Box(0, 255, (2, 2, 3), np.uint8),
})  # fmt: skip
NUMBER = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Engine(StubEngine):
    """Stub engine that stores segments of the replay in a folder."""

    def __init__(self, folder: Path, seed: int = 0):
        super().__init__(seed)
        self.folder = folder

    def segments(self, name: str) -> FileSegments:
        return FileSegments(self.folder / "segments" / name)


class World:
    """Random rollouts by seed, whose steps are each identified by a number; episodes end, or are abandoned."""

    def __init__(self, seed: int, nested: bool, next_step: bool = False, ends: float = 0.2):
        self.random, self.nested, self.next_step, self.ends = np.random.default_rng(seed), nested, next_step, ends
        self.rows: list[list[dict[str, Any]]] = [[] for _ in range(SLOTS)]
        """All steps so far, per slot: the oracle."""
        self.over = np.zeros(SLOTS, bool)
        self.ignored = np.zeros(SLOTS, bool)
        self.now: list[float] = [self.fresh() for _ in range(SLOTS)]
        self.first = np.ones(SLOTS, bool)

    def fresh(self) -> float:
        return float(self.random.integers(2000))

    def seen(self, numbers: list[float]) -> Any:
        values = np.array(numbers, np.float32)
        if not self.nested:
            return values[:, None]
        return {
            "where": (values.astype(np.int64) % 9, np.stack([values % 2, values % 3 > 0], 1).astype(np.int8)),
            "sound": np.broadcast_to(values[:, None, None] / 2048, (SLOTS, 2, 256)),
            "picture": np.broadcast_to(values.astype(np.uint8)[:, None, None, None], (SLOTS, 2, 2, 3)),
        }

    def rollout(self, steps: int, left: bool = False) -> Rollout:
        """The next steps of all slots; `left` first abandons the current episodes, as on resuming."""
        if left:
            self.now, self.first = [self.fresh() for _ in range(SLOTS)], np.ones(SLOTS, bool)
            self.ignored = np.zeros(SLOTS, bool)
            for rows in self.rows:
                if rows and rows[-1]["acted"] and not rows[-1]["terminated"]:
                    rows[-1]["truncated"] = True
        columns: list[list[Any]] = [[] for _ in range(7)]
        for _ in range(steps):
            before, first, acted = list(self.now), self.first, ~self.ignored
            ended = (self.random.random(SLOTS) < self.ends) & acted
            cut = (self.random.random(SLOTS) < 0.5) & ended
            after = [self.fresh() for _ in range(SLOTS)]
            begins = [self.fresh() for _ in range(SLOTS)]
            action, reward = self.random.integers(5, size=SLOTS), self.random.standard_normal(SLOTS)
            for slot in range(SLOTS):
                self.rows[slot].append({
                    "observation": before[slot], "first": bool(first[slot]), "action": int(action[slot]),
                    "reward": float(reward[slot]), "terminated": bool(ended[slot] & ~cut[slot]),
                    "truncated": bool(cut[slot]), "acted": bool(acted[slot]), "last": after[slot],
                })  # fmt: skip
            if self.next_step:
                self.now, self.first, self.ignored = after, self.ignored, ended
            else:
                self.now = [new if end else old for new, old, end in zip(begins, after, ended, strict=True)]
                self.first = ended
            made = self.seen(before), first, action, reward, ended & ~cut, cut, self.seen(after)
            for column, value in zip(columns, made, strict=True):
                column.append(value)
        acted = np.array([[row["acted"] for row in rows[-steps:]] for rows in self.rows]).T
        observation, last = (stack(columns[place]) for place in (0, 6))
        numbers = np.array([[row["observation"] for row in rows[-steps:]] for rows in self.rows], np.float32).T
        first, action, reward, ended, cut = (np.stack(column) for column in columns[1:6])
        return Rollout(
            observation, first, action, reward, ended, cut, last, None,
            {"state": numbers[..., None], "value": numbers.astype(float)}, None if acted.all() else acted,
        )  # fmt: skip


def stack(seen: list[Any]) -> Any:
    if isinstance(seen[0], dict):
        return {name: stack([one[name] for one in seen]) for name in seen[0]}
    if isinstance(seen[0], tuple):
        return tuple(stack(list(column)) for column in zip(*seen, strict=True))
    return np.stack(seen)


def naive_window(rows: list[dict[str, Any]], start: int, config: ReplayConfig) -> tuple[list[int], list[bool]]:
    """Indices of the steps of a sequence in the list of its slot, and whether each is trained on."""
    places = [start]
    while len(places) < config.sequence_steps and places[-1] + 1 < len(rows):
        here, after = rows[places[-1]], rows[places[-1] + 1]
        if not config.cross_episodes and (here["terminated"] or here["truncated"] or after["first"]):
            break
        places.append(places[-1] + 1)
    weight = [rows[place]["acted"] for place in places]
    lacking = config.sequence_steps - len(places)
    places, weight = [*places, *[places[-1]] * lacking], [*weight, *[False] * lacking]
    for _ in range(config.burn_in):
        begins = not config.cross_episodes and rows[places[0]]["first"]
        places, weight = [places[0] if begins else places[0] - 1, *places], [False, *weight]
    return places, weight


def naive_start(rows: list[dict[str, Any]], start: int, oldest: int, config: ReplayConfig) -> bool:
    if start < oldest or not rows[start]["acted"]:
        return False
    if config.cross_episodes:
        return start - config.burn_in >= oldest and start + config.sequence_steps <= len(rows)
    for place in range(start, start - config.burn_in, -1):
        if rows[place]["first"]:
            return True
        if place - 1 < oldest:
            return False
    return True


def all_starts(replay: Replay, world: World) -> list[int]:
    return [
        time * SLOTS + slot
        for time in range(replay.time)
        for slot in range(SLOTS)
        if naive_start(world.rows[slot], time, replay.oldest, replay.config)
    ]


def check_batch(replay: Replay, world: World, ids: np.ndarray) -> None:
    found = replay.read(ids, np.ones(len(ids), np.float32))
    for place, number in enumerate(ids.tolist()):
        start, slot = divmod(number, SLOTS)
        rows = world.rows[slot]
        places, weight = naive_window(rows, start, replay.config)
        assert found.weight[:, place].tolist() == [float(one) for one in weight]
        for name, values in (
            ("first", found.first), ("action", found.action), ("reward", found.reward),
            ("terminated", found.terminated), ("truncated", found.truncated),
            ("observation", found.extras["value"]),
        ):  # fmt: skip
            assert values[:, place].tolist() == [rows[one][name] for one in places], name
        assert found.extras["state"][place, 0] == rows[places[0]]["observation"]
        expected = stack([world.seen([rows[one]["observation"]] * SLOTS) for one in places])
        shown, last = picked(found.observation, (slice(None), place)), picked(found.last, place)
        assert data_equivalence(shown, picked(expected, (slice(None), 0)))
        assert data_equivalence(last, picked(world.seen([rows[places[-1]]["last"]] * SLOTS), 0))


def picked(tree: Any, at: Any) -> Any:
    if isinstance(tree, dict):
        return {name: picked(part, at) for name, part in tree.items()}
    return tuple(picked(part, at) for part in tree) if isinstance(tree, tuple) else np.array(tree[at])


def replay_of(nested: bool, **settings: Any) -> Replay:
    return Replay(ReplayConfig(**settings), NESTED if nested else NUMBER, ["state"])


@settings(max_examples=15)
@given(
    st.integers(0, 99), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([1, 2, 5]),
    st.sampled_from([0, 1, 3]), st.sampled_from([60, 110, 1000]),
    st.lists(st.integers(1, 9), min_size=2, max_size=6),
)  # fmt: skip
def test_sequences_are_those_of_a_plain_list(
    tmp_path_factory, seed, nested, next_step, cross, steps, burn_in, kept, rollouts
):
    replay = replay_of(
        nested, replay_steps=kept, sequence_steps=steps, burn_in=burn_in, cross_episodes=cross
    )  # fmt: skip
    world, engine = World(seed, nested, next_step), Engine(tmp_path_factory.mktemp("run"))
    for number, length in enumerate(rollouts):
        # Vector environments in Gymnasium's mode NEXT_STEP never abandon an episode.
        replay.add(world.rollout(length, left=number == 2 and not next_step), engine)
        assert len(replay) <= kept and len(replay) == (replay.time - replay.oldest) * SLOTS
    starts = all_starts(replay, world)
    ids = np.arange(replay.oldest * SLOTS, replay.time * SLOTS)
    assert ids[replay.tree[replay.leaves(ids)] > 0].tolist() == starts and replay.ready == bool(starts)
    if starts:
        check_batch(replay, world, np.array(starts))
        assert set(replay.sample(7).rows.tolist()) <= set(starts)
    else:
        with pytest.raises(ValueError, match="no whole sequence yet"):
            replay.sample(1)


def naive_episodes(rows: list[dict[str, Any]], oldest: int) -> list[list[int]]:
    """Indices of the steps of each episode that the replay holds."""
    found: list[list[int]] = []
    goes_on = False
    for place in range(oldest, len(rows)):
        row = rows[place]
        if row["acted"] and goes_on and not row["first"]:
            found[-1].append(place)
        elif row["acted"]:
            found.append([place])
        goes_on = row["acted"] and not (row["terminated"] or row["truncated"])
    return found


@settings(max_examples=15)
@given(
    st.integers(0, 99), st.booleans(), st.booleans(), st.sampled_from([60, 110, 1000]),
    st.lists(st.integers(1, 9), min_size=2, max_size=6),
)  # fmt: skip
def test_episodes_are_those_of_a_plain_list(tmp_path_factory, seed, nested, next_step, kept, rollouts):
    replay = replay_of(nested, replay_steps=kept, draw="prioritised", priority_exponent=0.5)
    assert replay.held() == []
    world, engine = World(seed, nested, next_step), Engine(tmp_path_factory.mktemp("run"))
    for number, length in enumerate(rollouts):
        replay.add(world.rollout(length, left=number == 2 and not next_step), engine)
    starts = np.array(all_starts(replay, world), np.int64)
    replay.prioritise(starts, starts + 1.0)
    held = replay.held()
    assert [one.begin + one.steps for one in held] == sorted(one.begin + one.steps for one in held)
    for slot, rows in enumerate(world.rows):
        own = [one for one in held if one.slot == slot]
        expected = naive_episodes(rows, replay.oldest)
        assert [list(range(one.begin, one.begin + one.steps)) for one in own] == expected
        for one, places in zip(own, expected, strict=True):
            last, found = rows[places[-1]], replay.recall(one)
            ends = [name for name in ("terminated", "truncated") if last[name]]
            assert one.ended == (ends or ["cut"])[0] and one.whole == rows[places[0]]["first"]
            assert one.reward == pytest.approx(sum(rows[place]["reward"] for place in places))
            for name in ("action", "reward", "terminated", "truncated"):
                assert getattr(found, name).tolist() == [rows[place][name] for place in places], name
            numbers = [rows[place]["observation"] for place in places] + [last["last"]]
            shown = [flat(replay.space, picked(world.seen([number] * SLOTS), 0)) for number in numbers]
            for part, column in enumerate(zip(*shown, strict=True)):
                np.testing.assert_array_equal(found.parts[part], np.stack(column))
            drawn = [place * SLOTS + slot for place in places]
            assert found.priority is not None
            np.testing.assert_allclose(found.priority, np.add(drawn, 1 + LEAST_PRIORITY))


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.25]), min_size=1, max_size=20).filter(any), st.integers(0, 99))
def test_the_tree_finds_where_the_running_sum_passes(values, seed):
    tree = SumTree(len(values))
    for leaf in np.random.default_rng(seed).permutation(len(values)).tolist():
        tree.set(np.array([leaf]), np.array([values[leaf]]))
    targets = np.arange(0, sum(values), 0.125)
    expected = np.searchsorted(np.cumsum(values), targets, side="right")
    assert tree.total == sum(values) and tree.find(targets).tolist() == expected.tolist()
    assert tree[np.arange(len(values))].tolist() == values


def filled(folder: Path, steps: int = 40, ends: float = 0.2, **settings: Any) -> tuple[Replay, World, Engine]:
    replay, world, engine = replay_of(False, **settings), World(4, False, ends=ends), Engine(folder)
    replay.add(world.rollout(steps), engine)
    return replay, world, engine


def counted(ids: np.ndarray, replay: Replay) -> np.ndarray:
    """Number of draws of each step."""
    return np.bincount(ids, minlength=replay.time * SLOTS)


def test_every_step_is_as_likely(tmp_path):
    replay, _, _ = filled(tmp_path)
    # Stratified sampling: one draw from each of 360 equal strata, three per step.
    assert np.isin(counted(replay.draw_steps(360), replay), (2, 3, 4)).all()
    alone = np.concatenate([replay.draw_steps(1) for _ in range(600)])
    assert chisquare(counted(alone, replay).reshape(12, 10).sum(1)).pvalue > 0.01


@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.4), (1.0, 1.0), (0.0, 0.5)])
def test_steps_are_drawn_by_their_priority_and_weighted_for_it(tmp_path, alpha, beta):
    replay, world, engine = filled(
        tmp_path, draw="prioritised", priority_exponent=alpha, importance_exponent=beta
    )  # fmt: skip
    priority = np.random.default_rng(0).uniform(0, 4, 120)
    replay.prioritise(np.arange(120), priority)
    chance = (priority + 1e-6) ** alpha
    chance /= chance.sum()
    counts = counted(replay.draw_steps(6000), replay)
    # The strata within a step's share of the sum, give or take the two that overlap its ends.
    assert (np.abs(counts - 6000 * chance) <= 2).all()
    alone = counted(np.concatenate([replay.draw_steps(1) for _ in range(300)]), replay)
    assert chisquare(alone.reshape(6, 20).sum(1), 300 * chance.reshape(6, 20).sum(1)).pvalue > 0.01
    batch = replay.sample(9)
    weights = (120 * chance[batch.rows]) ** -beta
    np.testing.assert_allclose(batch.importance, weights / weights.max(), rtol=1e-6)
    full = replay.sample(9, importance=1.0)
    np.testing.assert_allclose(full.importance * chance[full.rows], chance[full.rows].min(), rtol=1e-5)
    # New steps get the largest priority so far, so that they are drawn soon.
    replay.add(world.rollout(2), engine)
    new = replay.tree[replay.leaves(np.arange(120, 126))]
    np.testing.assert_allclose(new, (priority.max() + 1e-6) ** alpha)


def test_priorities_of_steps_that_are_dropped_are_passed_over(tmp_path):
    replay, world, engine = filled(tmp_path, draw="prioritised", replay_steps=120)
    old = replay.sample(120).rows
    replay.add(world.rollout(20), engine)
    before = replay.tree[np.arange(replay.tree.size)].copy()
    gone = old[old < replay.oldest * SLOTS]
    assert len(gone)
    replay.prioritise(gone, np.full(len(gone), 7.0))
    assert (replay.tree[np.arange(replay.tree.size)] == before).all()
    with pytest.raises(ValueError, match="diverged"):
        replay.prioritise(old[-1:], np.array([np.nan]))


@pytest.mark.parametrize("burn_in", [0, 2])
def test_the_same_number_comes_from_each_episode(tmp_path, burn_in):
    replay, world, engine = filled(tmp_path, draw="episodes", replay_steps=100, sequence_steps=3, burn_in=burn_in)
    replay.add(world.rollout(13), engine)
    episodes: dict[tuple[int, int], list[int]] = {}
    for number in all_starts(replay, world):
        start, slot = divmod(number, SLOTS)
        begin = max(time for time in range(start + 1) if world.rows[slot][time]["first"])
        episodes.setdefault((slot, begin), []).append(number)
    assert len(episodes) > 8
    rows = replay.sample(3 * len(episodes) + 2).rows
    each = [int(np.isin(rows, steps).sum()) for steps in episodes.values()]
    assert sorted(each) == [3] * (len(episodes) - 2) + [4] * 2
    assert len(set(replay.sample(4).rows.tolist())) == 4
    # Within an episode all steps are equally likely.
    longest = max(episodes.values(), key=len)
    drawn = np.concatenate([replay.draw_episodes(20 * len(episodes)) for _ in range(5)])
    counts = counted(drawn, replay)[longest]
    assert len(longest) > 4 and chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("cross", [False, True])
def test_the_newest_sequence_is_in_every_batch(tmp_path, cross):
    replay, world, engine = filled(tmp_path, newest=True, sequence_steps=4, cross_episodes=cross)
    for _ in range(3):
        replay.add(world.rollout(1), engine)
        batch = replay.sample(2)
        newest = [rows[-1]["reward"] for rows in world.rows]
        assert batch.reward[:, -1][batch.weight[:, -1] > 0][-1] in newest


def saved(replay: Replay, root: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    tensors: dict[str, torch.Tensor] = {}
    return pack(replay.state_dict(), tensors, root), tensors


@pytest.mark.parametrize("draw", ["uniform", "prioritised", "episodes"])
def test_it_resumes_bit_for_bit(tmp_path, draw):
    settings: dict[str, Any] = {
        "draw": draw,
        "sequence_steps": 3,
        "burn_in": 1,
        "newest": True,
        "replay_steps": 90,
    }
    whole, broken = replay_of(True, **settings), replay_of(True, **settings)
    world, engine = World(9, True), Engine(tmp_path)
    for length in (5, 1, 30, 2, 9):
        other = replay_of(True, **settings)
        packed, tensors = saved(broken, tmp_path)
        other.load_state_dict(unpack(packed, tensors, tmp_path))
        broken = other
        data, seed = world.rollout(length), engine.generator.get_state()
        batches = []
        for replay in (whole, broken):
            engine.generator.set_state(seed)
            replay.add(data, engine)
            batches.append(replay.sample(6))
            replay.prioritise(batches[-1].rows, np.abs(batches[-1].reward[1]))
            assert (len(replay), replay.bytes) == (len(whole), whole.bytes)
        assert data_equivalence(vars(batches[0]), vars(batches[1]))
    (one, first), (two, second) = saved(whole, tmp_path), saved(broken, tmp_path)
    assert one == two and all(torch.equal(first[name], second[name]) for name in first | second)
    assert whole.chunks


@pytest.mark.parametrize("cross", [False, True])
def test_a_damaged_segment_is_named_left_out_and_counted(tmp_path, cross):
    run = RunFolder.create(tmp_path / "run", {"a": 1}, dict)
    settings: dict[str, Any] = {"replay_steps": 240, "sequence_steps": 4, "burn_in": 2}
    replay, world, engine = filled(run.folder, 78, 0.1, **settings, cross_episodes=cross)
    run.save(1, {}, {"parts": {"replay": replay.state_dict()}})
    lost = replay.chunks[7]
    content = lost.segment.path.read_bytes()
    lost.segment.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = RunFolder.read(run.folder)
    loaded = again.load()
    assert loaded is not None and not again.passed_over
    assert again.left_out == [f"segments/replay/{lost.segment.path.name} differs from its checksum"]
    other = replay_of(False, **settings, cross_episodes=cross)
    other.load_state_dict(loaded[2]["parts"]["replay"])
    length = replay.chunk_steps
    assert other.left_out == 1 and len(replay) - len(other) == length * SLOTS
    # Exactly the sequences that need no lost step can be drawn.
    missing = set(range(7 * length, 8 * length))
    starts = []
    for number in all_starts(replay, world):
        start, slot = divmod(number, SLOTS)
        places = naive_window(world.rows[slot], start, replay.config)[0]
        needed = places[: settings["burn_in"] + 1] if not cross else places
        if not missing & set(needed):
            starts.append(number)
    ids = np.arange(replay.time * SLOTS)
    assert ids[other.tree[other.leaves(ids)] > 0].tolist() == starts
    for batch in (other.sample(50), other.read(np.array(starts), np.ones(len(starts), np.float32))):
        known = {row["reward"] for rows in world.rows for time, row in enumerate(rows) if time not in missing}
        assert set(batch.reward.ravel().tolist()) <= known
    # New steps are stored and drawn as before, and the next checkpoint is complete.
    other.add(world.rollout(30), engine)
    check_batch(other, world, np.array([number for number in other.sample(20).rows if number >= 78 * SLOTS]))
    run.save(2, {}, {"parts": {"replay": other.state_dict()}})
    assert RunFolder.read(run.folder).load() is not None


def test_bytes_are_bounded_and_steps_that_are_dropped_leave_the_disk(tmp_path):
    run = RunFolder.create(tmp_path / "run", {"a": 1}, dict)
    replay, world, engine = replay_of(True, replay_bytes=400_000), World(1, True), Engine(run.folder)
    for step in range(1, 7):
        replay.add(world.rollout(40), engine)
        assert replay.bytes <= 400_000
        run.save(step, {}, {"parts": {"replay": replay.state_dict()}})
    files = list((run.folder / "segments").glob("*/*"))
    # Two checkpoints are kept; a sound of 2 × 256 samples takes 1 KB in 16 bits.
    assert 200_000 < sum(path.stat().st_size for path in files) < 800_000
    assert replay.time > 1.5 * len(replay) / SLOTS and replay.layout["observation.1"][0] == np.float16


def test_sound_is_kept_in_16_bits_unless_told_otherwise(tmp_path):
    space = spaces.Box(-np.inf, np.inf, (2, 256), np.float32)
    sound = np.random.default_rng(0).standard_normal((4, 1, 2, 256)).astype(np.float32)
    flags = np.zeros((4, 1), bool)
    data = Rollout(sound, flags | True, np.zeros((4, 1), int), np.zeros((4, 1)), flags, flags, sound, None)
    for half in (True, False):
        replay = Replay(ReplayConfig(half_sound=half), space)
        replay.add(data, Engine(tmp_path))
        found = replay.read(np.arange(4), np.ones(4, np.float32)).observation[0]
        expected = sound.astype(np.float16).astype(np.float32) if half else sound
        assert found.dtype == np.float32 and (found == expected[:, 0]).all()
    data.observation[1] = 1e5  # pyright: ignore
    with pytest.raises(ValueError, match=r"reaches 1e\+05.*--no-half-sound"):
        Replay(ReplayConfig(), space).add(data, Engine(tmp_path))


def test_the_priority_of_a_sequence_is_between_mean_and_largest_error():
    errors, weight = np.array([[1.0, -4.0], [-3.0, 2.0], [9.0, 0.0]]), np.array([[1, 1], [1, 1], [0, 1]], float)
    np.testing.assert_allclose(sequence_priority(errors, weight), [0.9 * 3 + 0.1 * 2, 0.9 * 4 + 0.1 * 2])


def unknown_draw() -> None:
    with unchecked():
        ReplayConfig(draw="all")  # pyright: ignore


def test_what_no_replay_takes_is_one_line(tmp_path):
    replay, world, engine = filled(tmp_path)
    other = World(0, False).rollout(3)
    other.extras["state"] = other.extras["state"].astype(float)
    for wrong, message in (
        (lambda: replay.add(other, engine), "extras.state of the steps is float64.*float32.* before"),
        (
            lambda: replay_of(False, replay_steps=2).add(world.rollout(1), engine),
            "--replay-steps 2: one step of 3",
        ),
        (lambda: replay_of(False, replay_bytes=9).add(world.rollout(1), engine), "--replay-bytes 9: one step"),
        (unknown_draw, "draw='all': give uniform, prioritised or episodes"),
        (lambda: ReplayConfig(draw="episodes", cross_episodes=True), "belong to none"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            wrong()
        assert "\n" not in str(caught.value)


def test_a_state_that_no_training_wrote_is_refused(tmp_path):
    replay, _, _ = filled(tmp_path, 41, replay_steps=160)
    packed, tensors = saved(replay, tmp_path)

    def state(**changes: Any) -> Any:
        return unpack(packed, tensors, tmp_path) | changes

    good = state()
    rows = good["open"]["reward"]
    for changes, message in (
        ({"slots": -1}, "slots is -1"),
        ({"slots": 10**8}, "is none of 160 steps"),
        ({"chunk_steps": 10**9}, "is none of 160 steps"),
        ({"time": 10**12}, "is none of 160 steps"),
        ({"oldest": 1}, "is none of 160 steps"),
        ({"random": None}, "the state of a generator"),
        ({"priorities": good["priorities"][1:]}, "the priorities are none of"),
        ({"priorities": good["priorities"] * np.nan}, "not finite"),
        ({"largest": 0.0}, "the largest priority is 0.0"),
        ({"segments": [[0, 1]]}, "the number of a segment"),
        ({"segments": [*good["segments"], good["segments"][0]]}, "does not lie between"),
        ({"left_out": "1"}, "left_out is '1'"),
        ({"open": good["open"] | {"reward": rows.astype(np.float32)}}, "reward is float32"),
        ({"open": good["open"] | {"reward": rows[:, :0]}}, "reward has"),
        ({"frontier": []}, "has 0 parts"),
    ):
        with pytest.raises(ValueError, match=message):
            replay_of(False, replay_steps=160).load_state_dict(state(**changes))
    replay_of(False, replay_steps=160).load_state_dict(good)
