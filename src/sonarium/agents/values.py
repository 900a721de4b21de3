"""Values of discrete actions: the Q-network, its losses, and ε-greedy exploration.

A duelling network has separate heads for the value and the advantage of each action (Wang et al. 2016, arXiv
1511.06581).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from gymnasium import Space, spaces
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.agents.dense import Backward, applied, dense, dense_vjp
from sonarium.agents.networks import EpisodeGRU, hidden
from sonarium.agents.observing.observer import Observer
from sonarium.agents.policy import Categoricals
from sonarium.agents.spaces import text_of
from sonarium.environment import EnvironmentFault

LOSSES: dict[str, Callable[..., Tensor]] = {
    "huber": functional.smooth_l1_loss,
    "squared": functional.mse_loss,
    "absolute": functional.l1_loss,
}
"""Losses of the TD error."""
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "huber": lambda error: error.clamp(-1, 1),
    "squared": lambda error: 2 * error,
    "absolute": torch.sign,
}
"""Derivatives of the losses with respect to the value, from the TD error, value − target."""


class Values(nn.Module):
    """Q-network: the value of each action, from the observation and with memory from the hidden state of a GRU."""

    def __init__(
        self,
        observer: Observer,
        actions: Categoricals,
        units: int,
        layers: int,
        activation: Literal["tanh", "relu"],
        memory: int,
        duelling: bool,
        layer_norm: bool = False,
    ):
        super().__init__()
        self.observer = observer
        self.gru = EpisodeGRU(observer.width + actions.width + 1, memory) if memory else None
        given = memory or observer.width
        self.hidden = hidden(given, units, layers, activation, layer_norm)
        width = units if layers else given
        self.advantage = nn.Linear(width, actions.outputs)
        self.value = nn.Linear(width, 1) if duelling else None

    def of(self, known: Float[Tensor, "row number"]) -> Float[Tensor, "row action"]:
        known = dense(self.hidden, known)
        advantage = applied(self.advantage, known)
        if self.value is None:
            return advantage
        return applied(self.value, known) + advantage - advantage.mean(1, keepdim=True)

    def vjp(self, known: Float[Tensor, "row number"]) -> tuple[Float[Tensor, "row action"], Backward]:
        """The same without autograd, and a function from its gradient to that of the embedding, which sets those
        of the weights."""
        known, below = dense_vjp(self.hidden, known)
        advantage, below_advantage = dense_vjp([self.advantage], known)
        if self.value is None:
            return advantage, lambda gradient: below(below_advantage(gradient))
        value, below_value = dense_vjp([self.value], known)

        def backward(gradient: Tensor) -> Tensor:
            apart = gradient - gradient.mean(1, keepdim=True)
            return below(below_advantage(apart) + below_value(gradient.sum(1, keepdim=True)))

        return value + advantage - advantage.mean(1, keepdim=True), backward


def discrete(space: Space, name: str) -> spaces.Discrete:
    """The action space; refused unless it is Discrete."""
    if not isinstance(space, spaces.Discrete):
        raise EnvironmentFault(
            f"{name} acts in Discrete, not in {text_of(space)}: wrap the environment, choose another --env, or "
            "train ppo"
        )
    return space


def ending(config: Any, steps: int) -> Any:
    """Let schedules end with the steps of a new run, and the decay of ε after a fifth of them unless it is set."""
    falls = config.epsilon_steps or max(1, steps // 5)
    return replace(config, schedule=config.schedule.ending(steps), epsilon_steps=falls)


def epsilon_after(done: int, start: float, end: float, steps: int, exponential: bool = False) -> float:
    """Exploration rate ε after `done` training steps, which decays from start to end: linearly over `steps`, or
    exponentially with that time constant."""
    part = done / max(1, steps)
    return start + (1 - math.exp(-part) if exponential else min(1.0, part)) * (end - start)


def epsilon_greedy(
    values: Float[Tensor, "row action"], epsilon: float, generator: torch.Generator
) -> Int[Tensor, " row"]:
    """The best action, or with probability ε a random one."""
    rows, actions = values.shape
    lots = torch.rand(2, rows, generator=generator, device=generator.device).to(values.device)
    other = (lots[1] * actions).long().clamp(max=actions - 1)
    return torch.where(lots[0] < epsilon, other, values.argmax(1))
