"""Separation and localisation by an agent with a separator, in the episodes that it plays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from sonarium.agents.contract import Agent, Info, Memory, SourceListener
from sonarium.agents.observing.listening import source_listener
from sonarium.evaluation.episodes import Listening, TwoEars

TOLD = ("images", "on", "lateral")
"""Keys of `info` with the ground truth of each source, as in sonarium/Seek-v0 with `source_info`."""


def listener_of(agent: Agent, name: str) -> SourceListener:
    """The agent as a listener to each source; raises ValueError if it has no separator."""
    listener = source_listener(agent)
    if listener is None:
        raise ValueError(
            f"--separation: '{name}' does not hear with a separator: give a run that was trained with one as "
            "--ears, or leave it out"
        )
    return listener


class Witness:
    """Records the observations of a listener and the sources that it separates, in parallel episodes."""

    def __init__(self, listener: SourceListener, told: Mapping[str, Any], slots: int):
        ears = TwoEars(float(told["sound_rate"]), float(told["ear_distance"]), told["head"])
        self.listener, self.listening = listener, Listening(slots, ears, listener.latency)

    def take(
        self,
        memory: Memory,
        observation: Any,
        first: Bool[np.ndarray, " slot"],
        info: Info,
        going: Bool[np.ndarray, " slot"],
    ) -> None:
        """Record a step, before the agent acts in the slots (`going`) whose episode is running."""
        sound, sources = self.listener.sources(memory, observation, first)
        images, on, lateral = (np.asarray(info[name]) for name in TOLD)
        self.listening.take(sound, sources, images, on, lateral, first, going)

    def episodes(self) -> Sequence[Mapping[str, float]]:
        return self.listening.episodes()
