"""Agents that hear each source by itself, and what they hear."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn

from sonarium.agents.contract import Agent, Memory, SourceListener
from sonarium.agents.observing.hearing import SeparatedEars
from sonarium.agents.observing.observer import Observer


@dataclass(frozen=True, eq=False)
class EachWindow(SourceListener):
    """Separates each window by itself."""

    observer: Observer
    part: int
    """The part of an observation that is sound."""
    ears: SeparatedEars

    @torch.no_grad()
    def sources(
        self, memory: Memory, observation: Any, first: Bool[np.ndarray, " slot"]
    ) -> tuple[Float[np.ndarray, "slot 2 time"], Float[np.ndarray, "slot source 2 time"]]:
        device = next(self.ears.learner.parameters()).device
        sound = self.observer.rows(observation, device)[self.part].float()
        return sound.cpu().numpy(), self.ears.separated(sound).cpu().numpy()


def source_listener(agent: Agent) -> SourceListener | None:
    """The agent as one that hears each source by itself; None where it has no separator for ears."""
    if isinstance(agent, SourceListener):
        return agent
    modules = agent.modules() if isinstance(agent, nn.Module) else ()
    for observer in (one for one in modules if isinstance(one, Observer)):
        for number, part in enumerate(observer.parts):
            if isinstance(part, SeparatedEars):
                return EachWindow(observer, number, part)
    return None
