"""Embedding of the observation at each step, with memory by a GRU over the episode; and rollouts as sequences for
the minibatches of on-policy learning.

Without memory each step is a sequence of its own. With memory, gradients flow through sequences of the rollout,
each starting from the agent's hidden state there (Hausknecht and Stone 2015, arXiv 1507.06527).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sonarium.agents.networks import EpisodeGRU, Remembered, previous_of
from sonarium.agents.observing.observer import Observer
from sonarium.agents.policy import Policy
from sonarium.agents.rollout import Rollout
from sonarium.models.contract import Engine


@dataclass(frozen=True, eq=False)
class Sequences:
    """A batch of sequences, (step, sequence, …); without memory of one step each."""

    parts: list[Tensor]
    """Prepared parts of the observations."""
    drawn: Shaped[Tensor, "step sequence part"]
    first: Bool[Tensor, "step sequence"]
    weight: Float[Tensor, "step sequence"]
    """0 for padding and for steps whose action was not carried out, otherwise 1."""
    previous: Float[Tensor, "step sequence number"] | None = None
    """Previous action and reward at each step."""
    state: Float[Tensor, "sequence unit"] | None = None
    """Hidden state of the GRU before the first step."""

    def pick(self, rows: Int[Tensor, " some"] | slice) -> "Sequences":
        """The sequences with these indices."""
        return Sequences(
            [part[:, rows] for part in self.parts],
            self.drawn[:, rows],
            self.first[:, rows],
            self.weight[:, rows],
            None if self.previous is None else self.previous[:, rows],
            None if self.state is None else self.state[rows],
        )


@dataclass(frozen=True, eq=False)
class Perception:
    """The networks of an agent below its heads; the agent registers them as its own modules."""

    observer: Observer
    gru: EpisodeGRU | None
    policy: Policy
    """Encodes the actions."""
    reward_scale: float

    @property
    def width(self) -> int:
        """Dimension of the embedding of a step."""
        return self.observer.width if self.gru is None else self.gru.cell.hidden_size

    def initial(self, slots: int, device: torch.device) -> Remembered | None:
        if self.gru is None:
            return None
        return Remembered.nothing(slots, self.gru.cell.hidden_size, self.policy.width, device)

    def now(
        self, memory: Remembered | None, observation: Any, first: Bool[np.ndarray, " slot"], device: torch.device
    ) -> tuple[Float[Tensor, "slot number"], dict[str, Any]]:
        """Embedding of the current observation, with a GRU its hidden state; and the prepared binaural parts, as
        extras to store."""
        parts = self.observer.prepared(self.observer.rows(observation, device))
        known = self.observer(parts)
        if self.gru is not None:
            assert memory is not None
            begins = torch.from_numpy(first).to(device)
            inputs = torch.cat([known, previous_of(memory.action, memory.reward, begins)], 1)
            known = self.gru(inputs[None], begins[None], memory.state)[0]
        return known, {f"heard {number}": parts[number].cpu().numpy() for number in self.observer.heard}

    def remembered(
        self, known: Float[Tensor, "slot number"], drawn: Shaped[Tensor, "slot part"]
    ) -> Remembered | None:
        """The memory after an action."""
        if self.gru is None:
            return None
        return Remembered(known, self.policy.encode(drawn), known.new_zeros(len(known)))

    def sequences(self, data: Rollout, device: torch.device) -> Sequences:
        """The rollout as tensors; each slot is one sequence."""
        steps, slots = data.reward.shape
        heard = {
            number: torch.from_numpy(data.extras[f"heard {number}"]).to(device).flatten(0, 1)
            for number in self.observer.heard
        }
        rows = self.observer.prepared(self.observer.rows(data.observation, device), heard)
        parts = [part.unflatten(0, (steps, slots)) for part in rows]
        drawn = torch.from_numpy(data.extras["drawn"]).to(device)
        first = torch.from_numpy(data.first).to(device)
        weight = torch.ones(steps, slots) if data.acted is None else torch.from_numpy(data.acted).float()
        if self.gru is None:
            return Sequences(parts, drawn, first, weight.to(device))
        encoded = self.policy.encode(drawn.flatten(0, 1)).unflatten(0, (steps, slots))
        action = torch.cat([data.memory.action[None], encoded[:-1]])
        reward = torch.cat([data.memory.reward[None], self.scaled(data.reward, device)[:-1]])
        previous = previous_of(action.flatten(0, 1), reward.flatten(), first.flatten())
        return Sequences(
            parts, drawn, first, weight.to(device), previous.unflatten(0, (steps, slots)), data.memory.state
        )

    def scaled(self, reward: Float[np.ndarray, "*shape"], device: torch.device) -> Float[Tensor, "*shape"]:
        """Scaled rewards, as inputs of the GRU."""
        return torch.from_numpy(reward * self.reward_scale).to(device, torch.float32)

    def through(
        self, sequences: Sequences
    ) -> tuple[Float[Tensor, "row number"], Float[Tensor, "step sequence unit"] | None]:
        """Embedding of each step, as rows, and the hidden states of the GRU."""
        known = self.observer([part.flatten(0, 1) for part in sequences.parts])
        if self.gru is None:
            return known, None
        assert sequences.previous is not None and sequences.state is not None
        inputs = torch.cat([known.unflatten(0, sequences.first.shape), sequences.previous], 2)
        states = self.gru(inputs, sequences.first, sequences.state)
        return states.flatten(0, 1), states

    def after(
        self,
        data: Rollout,
        acted: Sequences,
        asked: Bool[np.ndarray, "step slot"],
        states: Float[Tensor, "step slot unit"] | None,
    ) -> Float[Tensor, "asked number"]:
        """Embedding of the observation after each of the marked steps."""
        device = acted.first.device
        if not asked.any():
            return torch.zeros(0, self.width, device=device)
        chosen = torch.from_numpy(np.flatnonzero(asked)).to(device)
        parts = self.observer.rows(data.last, device)
        known = self.observer(self.observer.prepared([part[chosen] for part in parts]))
        if self.gru is None:
            return known
        assert states is not None
        action = self.policy.encode(acted.drawn.flatten(0, 1)[chosen])
        reward = self.scaled(data.reward[asked], device)
        return self.gru.cell(torch.cat([known, action, reward[:, None]], 1), states.flatten(0, 1)[chosen])


def cut(
    acted: Sequences, states: Float[Tensor, "step slot unit"] | None, sequence_steps: int
) -> tuple[Sequences, Callable[[Tensor], Tensor]]:
    """Sequences for minibatches, and a function that cuts values of each step and slot in the same way. Without
    memory these are the single steps whose actions were carried out; with memory, sequences of equal length, the
    last ones padded. 0 steps take the whole rollout."""
    if states is None:
        rows = acted.weight.flatten().nonzero()[:, 0]
        every = len(rows) == acted.weight.numel()

        def alone(values: Tensor) -> Tensor:
            joined = values.flatten(0, 1)
            return (joined if every else joined[rows])[None]

        parts = [alone(part) for part in acted.parts]
        return Sequences(parts, alone(acted.drawn), alone(acted.first), alone(acted.weight)), alone
    steps = len(acted.first)
    length = min(sequence_steps or steps, steps)
    assert acted.previous is not None and acted.state is not None
    # The hidden state before the first step of each sequence.
    before = torch.cat([acted.state[None], states[:-1]])[::length]

    lacking = -steps % length

    def pieces(values: Tensor) -> Tensor:
        # Zeros need not be in the space of an observation.
        padded = torch.cat([values, values[-1:].expand(lacking, *values.shape[1:])]) if lacking else values
        return padded.unflatten(0, (-1, length)).transpose(0, 1).flatten(1, 2)

    weight = pieces(acted.weight)
    if lacking:
        weight[length - lacking :, -acted.weight.shape[1] :] = 0
    sequences = Sequences(
        [pieces(part) for part in acted.parts],
        pieces(acted.drawn),
        pieces(acted.first),
        weight,
        pieces(acted.previous),
        before.flatten(0, 1),
    )
    return sequences, pieces


def minibatches(count: int, parts: int, engine: Engine) -> tuple[Int[Tensor, " sequence"] | slice, list[slice]]:
    """Random order of all sequences, and at most `parts` minibatches as ranges in it."""
    parts = min(parts, count)
    if parts == 1:
        return slice(None), [slice(None)]
    order = torch.randperm(count, generator=engine.generator, device=engine.generator.device)
    size, longer = divmod(count, parts)
    bounds = [part * size + min(part, longer) for part in range(parts + 1)]
    return order, [slice(*ends) for ends in pairwise(bounds)]
