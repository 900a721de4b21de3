"""Replay buffer: sequences of past steps, for off-policy learning.

    P(i) = p(i)^α / Σ p^α,    w(i) = (N P(i))^−β / max w        (Schaul et al. 2016, arXiv 1511.05952)

A sequence consists of consecutive steps of one slot from a sampled step on. It ends with its episode, or with
`cross_episodes` continues into the next ones; `first` marks where these begin. It is preceded by burn-in steps,
over which a recurrent agent recomputes its hidden state, starting from the state that it stored there as it acted
(Kapturowski et al. 2019, "Recurrent experience replay in distributed reinforcement learning").

Time is divided into chunks of equally many steps of all slots. A full chunk becomes a segment of the run, a file
that never changes and is memory-mapped; a checkpoint holds its name and hash, and the chunk that is not full yet.
The observation after an action is that of the next step, and is stored only where an episode or a chunk ends.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium import Space
from jaxtyping import Bool, Float, Int, Shaped

from sonarium.agents.chunks import FLAGS, Arrays, FullChunk, OpenChunk, Ring, ends_of
from sonarium.agents.priorities import LEAST_PRIORITY, SumTree
from sonarium.agents.rollout import Rollout, drawn_seed
from sonarium.agents.spaces import flat, is_sound, nested, parts_of
from sonarium.config import Range, check_ranges
from sonarium.environment import loaded_random
from sonarium.training.contract import Engine, Segment, Tree

CHUNKS = 16
"""Number of chunks in a full replay, unless these would be larger than `LARGEST_CHUNK`."""
LARGEST_CHUNK = 2**24
"""Maximum size of a chunk in bytes, and so of the part of the replay that a checkpoint holds."""
SMALL = 256
"""Maximum size of a step of an array, in bytes, for the array to be kept in memory as well."""


@dataclass(frozen=True)
class ReplayConfig:
    replay_steps: Annotated[int, Range(1, 10**9)] = 100_000
    """Replay buffer capacity in steps, over all environments; the oldest are dropped."""
    replay_bytes: Annotated[int, Range(0, 10**15)] = 0
    """Replay buffer capacity in bytes; 0 limits the steps alone."""
    draw: Literal["uniform", "prioritised", "episodes"] = "uniform"
    """Sampling of sequences: uniform over steps, prioritised, or episodes (equally many from each)."""
    sequence_steps: Annotated[int, Range(1, 10**5)] = 1
    """Sequence length in steps, without the burn-in."""
    burn_in: Annotated[int, Range(0, 10**5)] = 0
    """Burn-in steps before each sequence, which warm up the hidden state of a recurrent agent."""
    cross_episodes: bool = False
    """Let sequences continue into the next episode, for agents that support it (DQN and Dreamer do not);
    otherwise they end with their own."""
    newest: bool = False
    """Include the newest sequence in every batch."""
    priority_exponent: Annotated[float, Range(0, 10)] = 0.6
    """Prioritisation exponent α; 0 samples uniformly."""
    importance_exponent: Annotated[float, Range(0, 10)] = 0.4
    """Importance-sampling exponent β; 1 fully corrects for the priorities."""
    half_sound: bool = True
    """Store observed sound in half precision (16-bit floating point)."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.draw == "episodes" and self.cross_episodes:
            raise ValueError("draw='episodes': sequences that cross episodes belong to none; give uniform")


@dataclass(frozen=True, eq=False)
class Replayed:
    """A batch of sequences, (step, sequence, …), the burn-in first. Steps missing before the beginning of an
    episode or after the end of a sequence repeat the nearest step, with weight 0."""

    rows: Int[np.ndarray, " sequence"]
    """Identifiers of the sequences, for updating their priorities."""
    observation: Any
    first: Bool[np.ndarray, "step sequence"]
    action: Shaped[np.ndarray, "step sequence *action"]
    reward: Float[np.ndarray, "step sequence"]
    terminated: Bool[np.ndarray, "step sequence"]
    truncated: Bool[np.ndarray, "step sequence"]
    weight: Float[np.ndarray, "step sequence"]
    """1 for steps to learn from; 0 for burn-in, repeated steps, and steps whose action was not carried out."""
    last: Any
    """Observation after the last step of each sequence, (sequence, …)."""
    extras: dict[str, np.ndarray]
    """Extras that the agent returned with its actions; those needed only at the start are (sequence, …)."""
    importance: Float[np.ndarray, " sequence"]
    """Importance-sampling weights, normalised to a maximum of 1."""


@dataclass(frozen=True)
class HeldEpisode:
    """An episode, as far as it is in the replay."""

    slot: int
    begin: int
    """Time of its first step in the replay."""
    steps: int
    reward: float
    """Sum of its rewards."""
    whole: bool
    """Whether the replay holds it from its first step on."""
    ended: Literal["terminated", "truncated", "cut"]
    """How it ended: cut where it continues past the end of the replay, or into a damaged segment."""


@dataclass(frozen=True, eq=False)
class Recalled:
    """The steps of an episode, (step, …)."""

    parts: list[Shaped[np.ndarray, "time ..."]]
    """Parts of the observations, including the one after the last step."""
    action: Shaped[np.ndarray, "step *action"]
    reward: Float[np.ndarray, " step"]
    terminated: Bool[np.ndarray, " step"]
    truncated: Bool[np.ndarray, " step"]
    priority: Float[np.ndarray, " step"] | None
    """Priority of the sequence from each step; 0 where none can be drawn. None unless sampling is prioritised."""


class Replay:
    """Replay buffer as a part of a learner; its state in a checkpoint refers to segments of the run."""

    def __init__(self, config: ReplayConfig, observed: Space, at_start: Sequence[str] = ()):
        self.config, self.space, self.simple = config, observed, parts_of(observed)
        self.at_start = frozenset(at_start)
        """Extras needed only at the start of a sequence, such as the hidden state of a recurrent agent."""
        self.clear()

    def clear(self) -> None:
        self.slots = self.chunk_steps = self.time = self.oldest = 0
        """`time` is the number of steps of each slot so far, `oldest` the time of the first step that is kept."""
        self.chunks: dict[int, FullChunk] = {}
        self.open: OpenChunk | None = None
        self.layout: dict[str, tuple[Any, tuple[int, ...]]] = {}
        """Type and shape of a step of each array."""
        self.episodes: dict[int, tuple[int, int]] = {}
        """Range of times from which sequences of an episode can be drawn, by the identifier of its first step."""
        self.largest = 1.0
        """Largest priority so far, which new steps are given."""
        self.random: np.random.Generator | None = None
        self.left_out = 0
        """Number of damaged segments that were left out when training was resumed."""

    def __len__(self) -> int:
        """Number of steps that are kept, over all slots."""
        return self.slots * (self.chunk_steps * len(self.chunks) + (self.open.steps if self.open else 0))

    @property
    def added(self) -> int:
        """Number of steps added so far, over all slots."""
        return self.slots * self.time

    @property
    def bytes(self) -> int:
        return sum(chunk.bytes for chunk in self.chunks.values()) + (self.open.bytes if self.open else 0)

    @property
    def step_bytes(self) -> int:
        """Bytes of a step of one slot."""
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.layout.values())

    @property
    def ready(self) -> bool:
        """Whether there is a sequence to draw."""
        return self.open is not None and self.tree.total > 0

    # Adding

    def add(self, data: Rollout, engine: Engine) -> None:
        """Keep the steps of a rollout, and drop the oldest beyond the limits."""
        if self.random is None:
            # Seeded by the first rollout, so that it follows the seed of the training.
            self.random = np.random.default_rng(drawn_seed(engine.generator))
        arrays, last = self.arrays_of(data), self.stored(data.last)
        if not self.layout:
            self.allocate(arrays)
        self.check_layout(arrays)
        steps, done = len(data.reward), 0
        while done < steps:
            assert self.open is not None
            end = min(steps, done + self.chunk_steps - self.open.steps)
            self.write({n: rows[done:end] for n, rows in arrays.items()}, [part[done:end] for part in last])
            if self.open.steps == self.chunk_steps:
                self.seal(self.open, engine)
            done = end
            while self.chunks and self.beyond():
                self.drop_oldest()

    def arrays_of(self, data: Rollout) -> Arrays:
        """Arrays to store, (step, slot, …), by name."""
        acted = np.ones(data.reward.shape, bool) if data.acted is None else data.acted
        kept = {f"observation.{part}": rows for part, rows in enumerate(self.stored(data.observation))}
        kept |= {"action": data.action, "reward": data.reward, "acted": acted, "first": data.first}
        kept |= {"terminated": data.terminated, "truncated": data.truncated}
        return kept | {f"extras.{name}": rows for name, rows in data.extras.items()}

    def stored(self, observation: Any) -> list[np.ndarray]:
        found = []
        for rows, space in zip(flat(self.space, observation), self.simple, strict=True):
            rows = np.asarray(rows, space.dtype)
            if self.config.half_sound and is_sound(space):
                halves = torch.from_numpy(np.ascontiguousarray(rows)).half().numpy()
                if not np.isfinite(halves).all():
                    raise ValueError(
                        f"the sound reaches {np.abs(rows).max():.3g}, more than the 65504 that 16 bits hold: give "
                        "--no-half-sound, or wrap the environment so that its sound is softer"
                    )
                rows = halves
            found.append(rows)
        return found

    def allocate(self, arrays: Arrays) -> None:
        """Set up the chunks for rollouts of this form."""
        config, slots = self.config, arrays["reward"].shape[1]
        step_bytes = sum(rows[0].nbytes for rows in arrays.values())
        if config.replay_steps < slots:
            raise ValueError(
                f"--replay-steps {config.replay_steps}: one step of {slots} copies is more; give at least {slots}"
            )
        if 0 < config.replay_bytes < 2 * step_bytes:
            raise ValueError(
                f"--replay-bytes {config.replay_bytes}: one step of {slots} copies takes {step_bytes}; give at "
                f"least {2 * step_bytes}"
            )
        most = [config.replay_steps // (CHUNKS * slots), LARGEST_CHUNK // step_bytes]
        if config.replay_bytes:
            most.append(config.replay_bytes // (CHUNKS * step_bytes))
        layout = {name: (rows.dtype, rows.shape[2:]) for name, rows in arrays.items()}
        self.begin(slots, max(1, min(most)), layout)

    def begin(self, slots: int, chunk_steps: int, layout: dict[str, tuple[Any, tuple[int, ...]]]) -> None:
        self.slots, self.chunk_steps, self.layout = slots, chunk_steps, layout
        # Steps that are kept, and those that are added before the oldest are dropped.
        length = chunk_steps * (self.config.replay_steps // (slots * chunk_steps) + 2)
        self.ring, self.tree = Ring.empty(length, slots), SumTree(length * slots)
        self.small: Arrays = {
            name: np.zeros((length, slots, *shape), dtype)
            for name, (dtype, shape) in layout.items()
            if np.prod(shape) * dtype.itemsize <= SMALL
        }
        self.open = self.new_chunk()

    def new_chunk(self) -> OpenChunk:
        like = {name: np.empty((1, 1, *shape), dtype) for name, (dtype, shape) in self.layout.items()}
        return OpenChunk(self.slots, self.chunk_steps, like)

    def check_layout(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Refuse steps whose types or shapes differ from the first ones; (slot, step, …) or (step, slot, …)."""
        found = {name: (rows.dtype, rows.shape[2:]) for name, rows in arrays.items()}
        for name in self.layout | found:
            if found.get(name) != self.layout.get(name):
                raise ValueError(
                    f"{name} of the steps is {said(found.get(name))}, and {said(self.layout.get(name))} before: "
                    "the environment and the agent must give the same arrays at every step"
                )

    def write(self, arrays: Arrays, last: list[np.ndarray]) -> None:
        """Write steps that fit into the open chunk."""
        chunk, steps = self.open, len(arrays["reward"])
        assert chunk is not None and arrays["reward"].shape[1] == self.slots, arrays["reward"].shape
        over = ends_of(*(arrays[name].T for name in FLAGS)).T
        if chunk.steps:
            for slot in np.flatnonzero(arrays["first"][0]).tolist():
                place = slot * self.chunk_steps + chunk.steps - 1
                chunk.finals.setdefault(place, [part[slot] for part in chunk.frontier])
        for name, rows in arrays.items():
            chunk.arrays[name][:, chunk.steps : chunk.steps + steps] = rows.swapaxes(0, 1)
        over[-1] |= chunk.steps + steps == self.chunk_steps  # the next step is in another file
        for step, slot in np.argwhere(over).tolist():
            place = slot * self.chunk_steps + chunk.steps + step
            chunk.finals[place] = [part[step, slot].copy() for part in last]
        chunk.frontier = [part[-1].copy() for part in last]
        self.remember(self.time, {name: rows.swapaxes(0, 1) for name, rows in arrays.items()})
        chunk.steps, self.time = chunk.steps + steps, self.time + steps
        self.admit(self.time - steps)

    def remember(self, time: int, arrays: Arrays) -> None:
        """Store flags and small arrays of steps in memory, (slot, step, …)."""
        self.ring.put(time, arrays)
        at = (time + np.arange(arrays["reward"].shape[1])) % self.ring.length
        for name, rows in self.small.items():
            rows[at] = arrays[name].swapaxes(0, 1)

    def admit(self, since: int) -> None:
        """Add the sequences to sampling that steps since this time have made available."""
        times = np.arange(since, self.time)
        if self.config.cross_episodes:
            # Sequences begin where all their steps exist.
            times = times[times >= self.oldest + self.config.sequence_steps - 1] - self.config.sequence_steps + 1
        step, slot = np.nonzero(self.starts(times))
        ids = times[step] * self.slots + slot
        self.tree.set(self.leaves(ids), self.largest**self.config.priority_exponent if self.prioritised else 1.0)
        if self.config.draw == "episodes":
            starts = self.begin_of(times[step], slot) * self.slots + slot
            for start, time in sorted(zip(starts.tolist(), times[step].tolist(), strict=True)):
                low, _ = self.episodes.get(start, (time, time))
                self.episodes[start] = low, time + 1

    def starts(self, times: Int[np.ndarray, " time"]) -> Bool[np.ndarray, "time slot"]:
        """Whether sequences can begin at these times: their burn-in, or the part of it since the beginning of the
        episode, must be held, and with `cross_episodes` all their steps."""
        config, ring, at = self.config, self.ring, times % self.ring.length
        before = np.maximum(times - config.burn_in, 0)[:, None]
        if config.cross_episodes:
            first, last = times - config.burn_in, times + config.sequence_steps - 1
            fits = ((first >= self.oldest) & (last < self.time))[:, None] & ring.acted[at]
            for shift in range(-config.burn_in, config.sequence_steps):
                fits &= ring.held[(times + shift) % ring.length]
            return fits
        slots = np.arange(self.slots)
        begin = self.begin_of(times[:, None], slots)
        known = ring.first[begin % ring.length, slots]
        return ring.held[at] & ring.acted[at] & ((before >= begin) | known)

    def begin_of(self, times: Int[np.ndarray, "..."], slot: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Time at which the episode of each step begins, or its first step that is held."""
        return np.maximum(self.ring.begin[times % self.ring.length, slot], self.oldest)

    def leaves(self, ids: Int[np.ndarray, " some"]) -> Int[np.ndarray, " some"]:
        return ids % (self.ring.length * self.slots)

    @property
    def prioritised(self) -> bool:
        return self.config.draw == "prioritised"

    def seal(self, chunk: OpenChunk, engine: Engine) -> None:
        """Turn the open chunk into a segment, and open a new one."""
        # Optional: a replay that has lost a segment is still of use.
        segment = engine.segments("replay").append(chunk.arrays | chunk.final_arrays(), optional=True)
        self.chunks[self.time // self.chunk_steps - 1] = FullChunk.of(segment)
        self.open = self.new_chunk()

    def beyond(self) -> bool:
        limit = self.config.replay_bytes
        # The span includes segments that were left out.
        span = self.slots * (self.time - self.oldest)
        return span > self.config.replay_steps or (limit > 0 and self.bytes > limit)

    def drop_oldest(self) -> None:
        number = min(self.chunks)
        del self.chunks[number]
        self.forget(number)
        self.oldest = min(self.chunks, default=self.time // self.chunk_steps) * self.chunk_steps
        self.unreachable(self.oldest)
        for start in [one for one in self.episodes if one < self.oldest * self.slots]:
            self.episodes[self.oldest * self.slots + start % self.slots] = self.episodes.pop(start)

    def forget(self, number: int) -> None:
        """Remove the steps of a dropped chunk from sampling."""
        times = np.arange(number * self.chunk_steps, (number + 1) * self.chunk_steps)
        self.ring.held[times % self.ring.length] = False
        self.close(times, np.ones((len(times), self.slots), bool))

    def unreachable(self, since: int) -> None:
        """Close steps from this time on whose burn-in is no longer held."""
        times = np.arange(since, min(since + self.config.burn_in, self.time))
        self.close(times, ~self.starts(times))

    def close(self, times: Int[np.ndarray, " time"], steps: Bool[np.ndarray, "time slot"]) -> None:
        """Exclude these steps as beginnings of sequences."""
        step, slot = np.nonzero(steps)
        self.tree.set(self.leaves(times[step] * self.slots + slot), 0.0)
        if self.config.draw != "episodes" or not len(times):
            return
        for start, (low, high) in list(self.episodes.items()):
            while low < high and not self.tree[self.leaves(np.array([low * self.slots + start % self.slots]))][0]:
                low += 1
            if low == high:
                del self.episodes[start]
            else:
                self.episodes[start] = low, high

    # Drawing

    def sample(self, batch_size: int, batches: int = 1, importance: float | None = None) -> Replayed:
        """Sample sequences; several batches are drawn independently and lie side by side. `importance` overrides
        the β of the configuration."""
        if not self.ready:
            raise ValueError("the replay holds no whole sequence yet: add more rollouts first")
        if self.config.draw == "episodes":
            ids = np.concatenate([self.draw_episodes(batch_size) for _ in range(batches)])
        else:
            ids = self.draw_steps(batch_size, batches)
        if self.config.newest:
            for last in range(batch_size - 1, len(ids), batch_size):
                ids[last] = self.newest(int(ids[last]))
        weights = np.ones((batches, batch_size))
        if self.prioritised:
            beta = self.config.importance_exponent if importance is None else importance
            # The total number of steps N is a common factor of all weights, and cancels.
            weights = ((self.tree[self.leaves(ids)] / self.tree.total) ** -beta).reshape(weights.shape)
        return self.read(ids, (weights / weights.max(1, keepdims=True)).ravel().astype(np.float32))

    def draw_steps(self, count: int, batches: int = 1) -> Int[np.ndarray, " sequence"]:
        """Stratified sampling: per batch one step from each of `count` equal parts of the sum of priorities."""
        assert self.random is not None
        total = self.tree.total
        targets = ((np.arange(count) + self.random.random((batches, count))) / count * total).ravel()
        return self.ids(self.tree.find(np.minimum(targets, np.nextafter(total, 0))))

    def ids(self, leaves: Int[np.ndarray, " some"]) -> Int[np.ndarray, " some"]:
        """Identifiers of the steps that these leaves stand for."""
        turn = self.ring.length * self.slots
        first = self.oldest * self.slots
        return first + (leaves - first) % turn

    def draw_episodes(self, count: int) -> Int[np.ndarray, " sequence"]:
        """The same number of steps from each episode, and one more from random ones for the remainder."""
        assert self.random is not None
        known = sorted(self.episodes)
        chosen = np.tile(np.arange(len(known)), count // len(known))
        rest = self.random.permutation(len(known))[: count % len(known)]
        starts = np.array(known)[np.concatenate([chosen, rest])]
        low, high = np.array([self.episodes[start] for start in starts.tolist()]).T
        times = low + (self.random.random(count) * (high - low)).astype(np.int64)
        return times * self.slots + starts % self.slots

    def newest(self, otherwise: int) -> int:
        """A sequence that ends with the newest step; `otherwise` where none can be drawn yet."""
        assert self.random is not None
        time = self.time - 1
        start = np.full(self.slots, time - self.config.sequence_steps + 1)
        if not self.config.cross_episodes:
            start = np.maximum(start, self.begin_of(np.array([time]), np.arange(self.slots)))
        ids = start * self.slots + np.arange(self.slots)
        there = ids[(start >= self.oldest) & (self.tree[self.leaves(ids)] > 0)]
        return int(there[self.random.integers(len(there))]) if len(there) else otherwise

    def read(self, ids: Int[np.ndarray, " sequence"], importance: Float[np.ndarray, " sequence"]) -> Replayed:
        """The sequences that begin with these steps."""
        times, slot, valid = self.window(ids)
        rows = {name: self.take(name, times, slot) for name in self.layout if name not in self.extras_at_start}
        rows |= {name: self.take(name, times[:1], slot)[0] for name in self.extras_at_start}
        rows["truncated"] |= self.left(times, slot)
        observation = (rows[f"observation.{part}"] for part in range(len(self.simple)))
        last = (self.after(part, times[-1], slot) for part in range(len(self.simple)))
        extras = {
            name.removeprefix("extras."): found for name, found in rows.items() if name.startswith("extras.")
        }
        weight = (valid & rows["acted"]).astype(np.float32)
        return Replayed(
            ids, nested(self.space, observation), rows["first"], rows["action"], rows["reward"],
            rows["terminated"], rows["truncated"], weight, nested(self.space, last), extras, importance,
        )  # fmt: skip

    @property
    def extras_at_start(self) -> set[str]:
        return self.layout.keys() & {f"extras.{name}" for name in self.at_start}

    def window(self, ids: Int[np.ndarray, " sequence"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times of the steps of each sequence, (step, sequence), its slot, and the mask of steps to learn from."""
        config, ring = self.config, self.ring
        start, slot = np.divmod(ids, self.slots)
        times = start + np.arange(-config.burn_in, config.sequence_steps)[:, None]
        at = times % ring.length
        there = (times < self.time) & ring.held[at, slot]
        if not config.cross_episodes:
            ended = ring.over[at, slot]
            there[config.burn_in + 1 :] &= (
                ~ring.first[at, slot][config.burn_in + 1 :] & ~ended[config.burn_in : -1]
            )
        there[: config.burn_in] = True
        there = np.logical_and.accumulate(there)
        times = np.minimum(times, times[0] + there.sum(0) - 1)
        if not config.cross_episodes:
            times = np.maximum(times, self.begin_of(start, slot))
        there[: config.burn_in] = False
        return times, slot, there

    def left(self, times: Int[np.ndarray, "..."], slot: Int[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Whether the next step begins a new episode although this one has not ended: it is truncated there."""
        ring, now, after = self.ring, times % self.ring.length, (times + 1) % self.ring.length
        begins = (times + 1 < self.time) & ring.held[after, slot] & ring.first[after, slot]
        return begins & ring.acted[now, slot] & ~ring.over[now, slot]

    def by_chunk(
        self, times: Int[np.ndarray, " row"]
    ) -> Iterator[tuple[OpenChunk | FullChunk, Int[np.ndarray, " some"]]]:
        """Chunks that hold these steps, each with the positions of its steps in `times`."""
        numbers = times // self.chunk_steps
        for number in np.unique(numbers).tolist():
            chunk = self.chunks.get(number, self.open)
            assert chunk is not None
            yield chunk, np.flatnonzero(numbers == number)

    def take(
        self, name: str, times: Int[np.ndarray, "step sequence"], slot: Int[np.ndarray, " sequence"]
    ) -> Shaped[np.ndarray, "step sequence *rest"]:
        """Values of an array at these steps; sound is converted back to 32 bits."""
        found = self.taken(name, times.T.ravel(), np.repeat(slot, len(times)))
        return found.reshape(len(slot), len(times), *found.shape[1:]).swapaxes(0, 1)

    def taken(
        self, name: str, times: Int[np.ndarray, " row"], slot: Int[np.ndarray, " row"]
    ) -> Shaped[np.ndarray, "row *rest"]:
        if name in self.small:
            return self.small[name][times % self.ring.length, slot]
        shape = self.layout[name][1]
        found = np.empty((len(times), *shape), self.shown_as(name))
        into = torch.from_numpy(found)
        for chunk, some in self.by_chunk(times):
            places = slot[some] * self.chunk_steps + times[some] % self.chunk_steps
            if name in chunk.halves:
                # Consecutive steps are copied in one call.
                for begin, end in runs(places, some):
                    rows = chunk.halves[name][places[begin] : places[begin] + end - begin]
                    into[some[begin] : some[begin] + end - begin].copy_(rows)
            else:
                found[some] = np.take(chunk.arrays[name].reshape(-1, *shape), places, axis=0)
        return found

    def shown_as(self, name: str) -> Any:
        """Type in which an array is returned: for observations that of the space."""
        kind, _, part = name.partition(".")
        return self.simple[int(part)].dtype if kind == "observation" else self.layout[name][0]

    def after(
        self, part: int, times: Int[np.ndarray, " sequence"], slot: Int[np.ndarray, " sequence"]
    ) -> Shaped[np.ndarray, "sequence *observed"]:
        """Observations after these steps."""
        over = self.ring.over[times % self.ring.length, slot] | self.left(times, slot)
        ends = times % self.chunk_steps == self.chunk_steps - 1
        following = ~over & ~ends & (times + 1 < self.time)
        name = f"observation.{part}"
        found = np.empty((len(times), *self.layout[name][1]), self.shown_as(name))
        found[following] = self.taken(name, times[following] + 1, slot[following])
        rest = np.flatnonzero(~following)
        for chunk, some in self.by_chunk(times[rest]):
            some = rest[some]
            newest = ~over[some] & ~ends[some]
            stored = some[~newest]
            if len(stored):
                places = slot[stored] * self.chunk_steps + times[stored] % self.chunk_steps
                found[stored] = chunk.final(part, places)
            if newest.any():
                assert isinstance(chunk, OpenChunk)
                found[some[newest]] = chunk.frontier[part][slot[some[newest]]]
        return found

    def prioritise(self, rows: Int[np.ndarray, " sequence"], priority: Float[np.ndarray, " sequence"]) -> None:
        """Set the priorities of sequences that were drawn; those that have been dropped since are skipped."""
        if not np.isfinite(priority).all() or (priority < 0).any():
            raise ValueError(
                f"a priority is {priority.min()}, expected numbers of at least 0: the training diverged"
            )
        leaves = self.leaves(rows)
        there = (rows >= self.oldest * self.slots) & (self.tree[leaves] > 0)
        sizes = priority[there] + LEAST_PRIORITY
        self.largest = max(self.largest, float(sizes.max(initial=0)))
        self.tree.set(leaves[there], sizes**self.config.priority_exponent)

    # Browsing

    def held(self) -> list[HeldEpisode]:
        """Episodes in the replay, in the order of their last steps."""
        if self.open is None:
            return []
        ring, times, found = self.ring, np.arange(self.oldest, self.time), []
        at = times % ring.length
        for slot in range(self.slots):
            there = times[ring.held[at, slot] & ring.acted[at, slot]]
            begins, counts = np.unique(self.begin_of(there, np.array(slot)), return_counts=True)
            pairs = zip(begins.tolist(), counts.tolist(), strict=True)
            found += [self.held_episode(slot, begin, steps) for begin, steps in pairs]
        return sorted(found, key=lambda one: (one.begin + one.steps, one.slot))

    def held_episode(self, slot: int, begin: int, steps: int) -> HeldEpisode:
        times, slots = begin + np.arange(steps), np.full(steps, slot)
        terminated, truncated = self.ends(times[-1:], slots[-1:])
        ended = "terminated" if terminated[0] else "truncated" if truncated[0] else "cut"
        whole = bool(self.ring.first[begin % self.ring.length, slot])
        return HeldEpisode(slot, begin, steps, float(self.taken("reward", times, slots).sum()), whole, ended)

    def ends(
        self, times: Int[np.ndarray, " row"], slot: Int[np.ndarray, " row"]
    ) -> tuple[Bool[np.ndarray, " row"], Bool[np.ndarray, " row"]]:
        """Where episodes are terminated, and where truncated, including those left before their end."""
        truncated = self.taken("truncated", times, slot) | self.left(times, slot)
        return self.taken("terminated", times, slot), truncated

    def recall(self, episode: HeldEpisode) -> Recalled:
        """Steps of an episode, read from the segments."""
        times, slots = episode.begin + np.arange(episode.steps), np.full(episode.steps, episode.slot)
        parts = [
            np.concatenate(
                [self.taken(f"observation.{part}", times, slots), self.after(part, times[-1:], slots[-1:])]
            )
            for part in range(len(self.simple))
        ]
        priority = None
        if self.prioritised and self.config.priority_exponent:
            priority = self.tree[self.leaves(times * self.slots + slots)] ** (1 / self.config.priority_exponent)
        action, reward = (self.taken(name, times, slots) for name in ("action", "reward"))
        return Recalled(parts, action, reward, *self.ends(times, slots), priority)

    # Checkpoints

    def state_dict(self) -> Tree:
        if self.open is None:
            return {}
        chunk, ids = self.open, np.arange(self.oldest * self.slots, self.time * self.slots)
        kept = {name: rows[:, : chunk.steps].copy() for name, rows in chunk.arrays.items()}
        return {
            "slots": self.slots,
            "chunk_steps": self.chunk_steps,
            "time": self.time,
            "oldest": self.oldest,
            "segments": [[number, chunk.segment] for number, chunk in self.chunks.items()],
            "open": kept | chunk.final_arrays(),
            "frontier": [part.copy() for part in chunk.frontier],
            "priorities": self.tree[self.leaves(ids)],
            "largest": self.largest,
            "random": copy.deepcopy(self.random),
            "left_out": self.left_out,
        }

    def load_state_dict(self, state: Tree, /) -> None:
        self.clear()
        if not state:
            return
        slots, chunk_steps, time, oldest, left_out = (
            whole(state, name) for name in ("slots", "chunk_steps", "time", "oldest", "left_out")
        )
        newest = time % chunk_steps if chunk_steps else 0
        kept, frontier, random = state["open"], state["frontier"], loaded_random(state["random"])
        final = {name: kept[name] for name in kept if name.startswith("final")}
        arrays = {name: rows for name, rows in kept.items() if name not in final}
        limit = self.config.replay_steps
        possible = 0 < slots * chunk_steps <= self.config.replay_steps and oldest % chunk_steps == 0
        if not possible or not 0 <= (time - oldest) * slots <= limit:
            raise ValueError(f"a replay of {slots} copies from step {oldest} to {time} is none of {limit} steps")
        self.begin(slots, chunk_steps, {name: (rows.dtype, rows.shape[2:]) for name, rows in arrays.items()})
        self.check_form(arrays, newest)
        self.time, self.oldest, self.left_out, self.random = time, oldest, left_out, random
        self.load_chunks(state["segments"])
        self.load_open(arrays, final, frontier, newest)
        self.load_priorities(state["priorities"], state["largest"])
        self.oldest = min(self.chunks, default=time // chunk_steps) * chunk_steps

    def check_form(self, arrays: Arrays, steps: int) -> None:
        """Refuse arrays of a chunk, (slot, step, …), whose types or shapes are not those of this replay."""
        self.check_layout(arrays)
        flags: dict[str, Any] = {name: (np.dtype(bool), ()) for name in FLAGS}
        flags["reward"] = (np.dtype(float), ())
        for part, space in enumerate(self.simple):
            half = self.config.half_sound and is_sound(space)
            flags[f"observation.{part}"] = (np.dtype(np.float16 if half else space.dtype), space.shape)
        for name, form in flags.items():
            if self.layout.get(name) != form:
                raise ValueError(f"{name} is {said(self.layout.get(name))}, expected {said(form)}")
        for name, rows in arrays.items():
            if rows.shape[:2] != (self.slots, steps):
                raise ValueError(f"{name} has {rows.shape[:2]} rows, expected {(self.slots, steps)}")

    def load_chunks(self, segments: Tree) -> None:
        for number, segment in segments:
            if type(number) is not int or not isinstance(segment, Segment):
                raise ValueError(f"it holds {number!r:.40} where the number of a segment is expected")
            if number in self.chunks or not self.oldest <= number * self.chunk_steps < self.time:
                raise ValueError(f"the segment {number} does not lie between steps {self.oldest} and {self.time}")
            if segment.fault is not None:
                self.left_out += 1
                continue
            chunk = FullChunk.of(segment)
            arrays = chunk.arrays
            final = {name: arrays[name] for name in arrays if name.startswith("final")}
            self.check_form({name: rows for name, rows in arrays.items() if name not in final}, self.chunk_steps)
            self.check_finals(final, arrays)
            self.chunks[number] = chunk
            self.remember(number * self.chunk_steps, arrays)

    def check_finals(self, final: Arrays, arrays: Arrays) -> None:
        """Refuse a chunk that lacks the observation after the end of an episode or of the chunk."""
        places, over = final["final_at"], ends_of(*(arrays[name] for name in FLAGS))
        if over.shape[1] == self.chunk_steps:
            over[:, -1] = True
        slot, step = np.nonzero(over)
        wanted = slot * self.chunk_steps + step
        if places.dtype != np.int64 or places.ndim != 1 or not np.isin(wanted, places).all():
            raise ValueError("a chunk lacks the last observations of its episodes")
        if (np.diff(places) <= 0).any() or not set(places.tolist()) <= set(range(self.slots * self.chunk_steps)):
            raise ValueError("the last observations of a chunk are in no order")
        for part in range(len(self.simple)):
            dtype, shape = self.layout[f"observation.{part}"]
            rows = final[f"final.{part}"]
            if (rows.dtype, rows.shape) != (dtype, (len(places), *shape)):
                raise ValueError(f"the last observations of a chunk are {said((rows.dtype, rows.shape))}")

    def load_open(self, arrays: Arrays, final: Arrays, frontier: list[np.ndarray], steps: int) -> None:
        assert self.open is not None
        self.check_finals(final, arrays)
        for name, rows in arrays.items():
            self.open.arrays[name][:, :steps] = rows
        self.open.steps, self.open.frontier = steps, [np.array(part) for part in frontier]
        for part, shown in enumerate(frontier):
            dtype, shape = self.layout[f"observation.{part}"]
            if (shown.dtype, shown.shape) != (dtype, (self.slots, *shape)):
                raise ValueError(f"the newest observation is {said((shown.dtype, shown.shape))}")
        if steps and len(frontier) != len(self.simple):
            raise ValueError(f"the newest observation has {len(frontier)} parts, expected {len(self.simple)}")
        for row, place in enumerate(final["final_at"].tolist()):
            self.open.finals[place] = [np.array(final[f"final.{part}"][row]) for part in range(len(self.simple))]
        if steps:
            self.remember(self.time - steps, arrays)

    def load_priorities(self, priorities: Any, largest: Any) -> None:
        """Restore the priorities; 0 where no sequence can begin any more because a segment is left out."""
        times = np.arange(self.oldest, self.time)
        ids = np.arange(self.oldest * self.slots, self.time * self.slots)
        if not isinstance(priorities, np.ndarray) or (priorities.shape, priorities.dtype) != (ids.shape, float):
            raise ValueError(f"the priorities are none of {len(ids)} steps")
        if not isinstance(largest, float) or not np.isfinite(largest) or largest <= 0:
            raise ValueError(f"the largest priority is {largest!r:.40}, expected a positive number")
        if not np.isfinite(priorities).all() or (priorities < 0).any():
            raise ValueError("the priorities are not finite numbers of at least 0")
        self.largest = largest
        if len(times):
            self.tree.set(self.leaves(ids), np.where(self.starts(times).ravel(), priorities, 0.0))
        if self.config.draw == "episodes":
            for number in np.flatnonzero(self.tree[self.leaves(ids)]).tolist():
                time, slot = divmod(int(ids[number]), self.slots)
                begin = self.begin_of(np.array([time]), np.array([slot]))
                start = int(begin[0]) * self.slots + slot
                low, _ = self.episodes.get(start, (time, time))
                self.episodes[start] = low, time + 1


def runs(*rows: Int[np.ndarray, " row"]) -> Iterator[tuple[int, int]]:
    """Ranges in which all of these arrays increase by 1 from element to element."""
    breaks = np.flatnonzero(np.any([np.diff(one) != 1 for one in rows], 0)) + 1
    return pairwise([0, *breaks.tolist(), len(rows[0])])


def said(form: tuple[Any, tuple[int, ...]] | None) -> str:
    return "missing" if form is None else f"{form[0]} of shape {form[1]}"


def whole(state: Tree, name: str) -> int:
    value = state[name]
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{name} is {value!r:.60}, expected a whole number of at least 0")
    return value
