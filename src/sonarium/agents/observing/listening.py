"""Agents that hear each source by itself, and what they hear."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sonarium.agents.contract import Agent, Memory, SourceListener
from sonarium.agents.observing.hearing import SeparatedEars
from sonarium.agents.observing.observer import Observer


@dataclass(frozen=True, eq=False)
class EarsInside:
    """The ears of an agent, and where they are."""

    agent: nn.Module
    observer: Observer
    ears: SeparatedEars

    @property
    def device(self) -> torch.device:
        return next(self.agent.parameters()).device

    def tensor(self, sound: Float[np.ndarray, "row 2 time"]) -> Float[Tensor, "row 2 time"]:
        return torch.from_numpy(np.ascontiguousarray(sound)).to(self.device, torch.float32)


def ears_inside(agent: Any) -> EarsInside | None:
    """None where an agent has no separator for ears."""
    if not isinstance(agent, nn.Module):
        return None
    observers = [one for one in agent.modules() if isinstance(one, Observer)]
    found = [(one, part) for one in observers for part in one.parts if isinstance(part, SeparatedEars)]
    return EarsInside(agent, *found[0]) if found else None


@dataclass(frozen=True, eq=False)
class EachWindow(SourceListener):
    """Separates each window by itself."""

    inside: EarsInside

    @torch.no_grad()
    def sources(
        self, memory: Memory, observation: Any, first: Bool[np.ndarray, " slot"]
    ) -> tuple[Float[np.ndarray, "slot 2 time"], Float[np.ndarray, "slot source 2 time"]]:
        sound = self.inside.observer.sound(observation)
        return sound, self.inside.ears.separated(self.inside.tensor(sound)).cpu().numpy()


def source_listener(agent: Agent) -> SourceListener | None:
    """The agent as one that hears each source by itself; None where it has no separator for ears."""
    if isinstance(agent, SourceListener):
        return agent
    inside = ears_inside(agent)
    return None if inside is None else EachWindow(inside)
