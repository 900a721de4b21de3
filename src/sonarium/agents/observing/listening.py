"""The separator inside an agent: its estimates of the sources, and their masks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sonarium.agents.contract import Agent, Memory, Separated, SourceListener
from sonarium.agents.observing.hearing import SeparatedEars
from sonarium.agents.observing.observer import Observer


@dataclass(frozen=True, eq=False)
class EarsInside:
    """The separator ears of an agent, with the agent and the observer that contain them."""

    agent: nn.Module
    observer: Observer
    ears: SeparatedEars

    @property
    def device(self) -> torch.device:
        return next(self.agent.parameters()).device

    def tensor(self, sound: Float[np.ndarray, "row 2 time"]) -> Float[Tensor, "row 2 time"]:
        return torch.from_numpy(np.ascontiguousarray(sound)).to(self.device, torch.float32)

    @torch.no_grad()
    def separated(self, sound: Float[np.ndarray, "window 2 time"], carried: bool) -> Separated:
        """Sources and masks of windows, separated independently or, if `carried`, as one sound."""
        count = len(sound)
        clips = self.tensor(rearrange(sound, "window ear time -> 1 ear (window time)") if carried else sound)
        each = [self.ears.separation.separator.masks(rearrange(one, "ear time -> 1 time ear")) for one in clips]
        masks = rearrange(torch.cat(each, 1).mean(-1), "1 frame bin source -> frame bin source")
        apart = self.ears.separated(clips)
        if carried:
            apart = rearrange(apart, "1 source ear (window time) -> window source ear time", window=count)
        sources, made = (one.cpu().numpy() for one in (apart, masks))
        return Separated(sound, sources, made, self.ears.separation.rate, carried)


def ears_inside(agent: Any) -> EarsInside | None:
    """The separator ears of an agent; None if it hears without a separator."""
    if not isinstance(agent, nn.Module):
        return None
    observers = [one for one in agent.modules() if isinstance(one, Observer)]
    found = [(one, part) for one in observers for part in one.parts if isinstance(part, SeparatedEars)]
    return EarsInside(agent, *found[0]) if found else None


@dataclass(frozen=True, eq=False)
class EachWindow(SourceListener):
    """Separates each window independently."""

    inside: EarsInside

    @torch.no_grad()
    def sources(
        self, memory: Memory, observation: Any, first: Bool[np.ndarray, " slot"]
    ) -> tuple[Float[np.ndarray, "slot 2 time"], Float[np.ndarray, "slot source 2 time"]]:
        sound = self.inside.observer.sound(observation)
        return sound, self.inside.ears.separated(self.inside.tensor(sound)).cpu().numpy()

    def separated(self, observation: Any) -> Separated:
        return self.inside.separated(self.inside.observer.sound(observation), False)


def source_listener(agent: Agent) -> SourceListener | None:
    """Source listener of an agent; None if it hears without a separator."""
    if isinstance(agent, SourceListener):
        return agent
    inside = ears_inside(agent)
    return None if inside is None else EachWindow(inside)
