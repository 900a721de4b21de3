"""Carried ears: a separator whose state is carried from window to window of an episode.

The state of the separator is part of the agent's memory and is reset at the start of each episode: the sources of
a window are a segment of those of all sound since then. The wrapped agent acts on, stores and learns from features
of the sources, which are computed once, as it acts; it never receives the sound. The observation after the last
step of an episode or a rollout is separated from the state at that step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from sonarium.agents.contract import Agent, Info, Memory, Separated, SourceListener, Stochastic
from sonarium.agents.observing.hearing import HEARD_AT_ONCE
from sonarium.agents.observing.listening import EarsInside, ears_inside
from sonarium.agents.rollout import Rollout
from sonarium.models.contract import Engine, Learner, State, StreamSeparator
from sonarium.training.contract import Source, Stateful

READ, STATES = "read", "states of the ears"
"""Extras of a rollout: the features of each window, and the state of the separator after it."""


@dataclass(frozen=True, eq=False)
class Carried:
    """Memory of the wrapped agent, with the state of the separator."""

    own: Memory
    ears: list[State]
    """One state per slot: after different numbers of windows they may differ in shape."""


class CarriedEars(Learner, Agent, Stochastic, SourceListener):
    """An agent whose separator carries its state from window to window."""

    def __init__(self, agent: Learner):
        super().__init__()
        inside = ears_inside(agent)
        assert isinstance(agent, Agent) and isinstance(agent, Stochastic) and inside is not None, type(agent)
        self.agent: Any = agent
        self.inside: EarsInside = inside
        check_rows(self.separator)

    @property
    def separator(self) -> StreamSeparator:
        separator = self.inside.ears.separation.separator
        assert isinstance(separator, StreamSeparator), type(separator)
        return separator

    # Hearing

    @torch.no_grad()
    def apart(
        self, sound: Float[np.ndarray, "row 2 time"], states: Sequence[State]
    ) -> tuple[Float[Tensor, "row source 2 time"], list[State]]:
        """Sources of windows, each separated from the state before it, and the states after them."""
        rows = rearrange(self.inside.tensor(sound), "row ear time -> row time ear")
        found: list[Any] = [None] * len(rows)
        after: list[State] = [None] * len(rows)
        for some in alike(states):
            made, then = self.separator.go_on(rows[some], joined([states[row] for row in some]))
            for number, row in enumerate(some):
                found[row], after[row] = made[number], only(then, number)
        if not found:
            return rows.new_zeros(0, self.separator.sources, 2, rows.shape[1]), []
        return rearrange(found, "row time source ear -> row source ear time"), after

    def read(
        self, sound: Float[np.ndarray, "row 2 time"], states: Sequence[State]
    ) -> tuple[Float[np.ndarray, "row *made"], list[State]]:
        """Features of windows, and the states after them."""
        sources, after = self.apart(sound, states)
        with torch.no_grad():
            return self.inside.ears.reading.made(sources).cpu().numpy(), after

    def before(self, memory: Carried, first: Bool[np.ndarray, " slot"]) -> list[State]:
        """States before a window; the initial state where an episode begins."""
        begun = self.separator.begin(1)
        return [begun if begins else state for state, begins in zip(memory.ears, first.tolist(), strict=True)]

    @property
    def latency(self) -> int:
        return self.separator.latency

    def sources(
        self, memory: Carried, observation: Any, first: Bool[np.ndarray, " slot"]
    ) -> tuple[Float[np.ndarray, "slot 2 time"], Float[np.ndarray, "slot source 2 time"]]:
        sound = self.inside.observer.sound(observation)
        return sound, self.apart(sound, self.before(memory, first))[0].cpu().numpy()

    def separated(self, observation: Any) -> Separated:
        """Sources of the windows joined into one sound, without the latency."""
        return self.inside.separated(self.inside.observer.sound(observation), True)

    # Acting

    def initial(self, slots: int) -> Carried:
        return Carried(self.agent.initial(slots), [self.separator.begin(1)] * slots)

    def act(
        self,
        memory: Carried,
        observation: Any,
        first: Bool[np.ndarray, " slot"],
        generator: torch.Generator,
        info: Info,
    ) -> tuple[Carried, Shaped[np.ndarray, "slot *action"], dict[str, Any]]:
        observer = self.inside.observer
        made, states = self.read(observer.sound(observation), self.before(memory, first))
        own, action, extras = self.agent.act(
            memory.own, observer.reading(observation, made), first, generator, info
        )
        kept = np.empty(len(states), object)
        for slot, state in enumerate(states):
            kept[slot] = state
        return Carried(own, states), action, extras | {READ: made, STATES: kept}

    def rewarded(self, memory: Carried, reward: Float[np.ndarray, " slot"]) -> Carried:
        return replace(memory, own=self.agent.rewarded(memory.own, reward))

    @property
    def greedy(self) -> bool:
        return self.agent.greedy

    @greedy.setter
    def greedy(self, greedy: bool) -> None:
        self.agent.greedy = greedy

    # Learning

    def update(self, data: Rollout, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        return self.agent.update(self.heard(data), engine)

    def heard(self, data: Rollout) -> Rollout:
        """The rollout with the features in place of the sound."""
        observer, extras = self.inside.observer, dict(data.extras)
        made, states = extras.pop(READ), extras.pop(STATES)
        last = np.empty_like(made)
        last[:-1] = made[1:]
        # At the end of an episode or of the rollout, no later step holds the features of the last observation.
        unheard = np.ones(data.first.shape, bool)
        unheard[:-1] = data.first[1:]
        last[unheard] = self.read(observer.sound(data.last)[unheard], states[unheard].tolist())[0]
        return replace(
            data,
            observation=observer.reading(data.observation, made),
            last=observer.reading(data.last, last),
            memory=data.memory.own,
            extras=extras,
        )

    def check(self, source: Source) -> Sequence[str]:
        return self.agent.check(source)

    def remarks(self, metrics: Mapping[str, float]) -> Sequence[str]:
        return self.agent.remarks(metrics)

    def prepare(self, source: Source, engine: Engine) -> None:
        self.agent.prepare(source, engine)

    def end_pass(self, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        return self.agent.end_pass(engine)

    def restart(self) -> None:
        self.agent.restart()

    def weights_of(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {f"agent.{name}": weights for name, weights in self.agent.weights_of(tensors).items()}

    def parts(self) -> dict[str, Stateful]:
        return self.agent.parts()


def carrying(build: Callable[..., Learner]) -> Callable[..., Learner]:
    """Wrap `build` so that the agent is a `CarriedEars` where its configuration sets `carry_ears`."""

    def built(config: Any, *given: Any) -> Learner:
        agent = build(config, *given)
        return CarriedEars(agent) if config.carry_ears else agent

    return built


def leaves(state: State) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [leaf for part in state for leaf in leaves(part)]


def alike(states: Sequence[State]) -> list[list[int]]:
    """Rows of states grouped by equal shapes, at most `HEARD_AT_ONCE` in a group."""
    found: dict[Any, list[int]] = {}
    for row, state in enumerate(states):
        found.setdefault(tuple(leaf.shape for leaf in leaves(state)), []).append(row)
    return [
        rows[start : start + HEARD_AT_ONCE]
        for rows in found.values()
        for start in range(0, len(rows), HEARD_AT_ONCE)
    ]


def joined(states: Sequence[State]) -> State:
    """State of a batch of clips, concatenated from the state of each."""
    if isinstance(states[0], Tensor):
        return torch.cat(list(states))
    return tuple(joined(parts) for parts in zip(*states, strict=True))


def only(state: State, row: int) -> State:
    """State of one clip of a batch."""
    return state[row : row + 1] if isinstance(state, Tensor) else tuple(only(part, row) for part in state)


def check_rows(separator: StreamSeparator) -> None:
    """Refuse a separator whose state does not have one row per clip."""
    rows = {leaf.shape[:1] for leaf in leaves(separator.begin(2))}
    if rows != {(2,)}:
        raise ValueError(
            f"carry_ears=True: the state of {type(separator).__name__} is not made of tensors with one row "
            "for each clip; leave out --carry-ears"
        )
