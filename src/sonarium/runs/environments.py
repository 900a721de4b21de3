"""Record of the environment in which an agent was trained: its id may be registered with other settings later, and
an agent must not be trained or scored in another environment unnoticed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from sonarium.agents.rollout import RolloutConfig
from sonarium.agents.spaces import text_of
from sonarium.config import LARGEST, fits, short, types_of
from sonarium.environment import EnvironmentFault
from sonarium.training.run import difference


@dataclass(frozen=True)
class Registered:
    """An environment as it is registered with Gymnasium."""

    kwargs: dict[str, Any]
    """As JSON values, or as text where JSON has no such type."""
    max_episode_steps: int | None
    observation_space: str
    action_space: str


def registered(rollouts: RolloutConfig) -> Registered:
    """The current registration of an environment."""
    env = rollouts.make()
    try:
        assert env.unwrapped.spec is not None, rollouts.env
        spec = gymnasium.spec(env.unwrapped.spec.id)
        shown, taken = text_of(env.observation_space), text_of(env.action_space)
        return Registered(plain(spec.kwargs), spec.max_episode_steps, shown, taken)
    finally:
        env.close()


def plain(value: Any) -> Any:
    """A setting as a JSON value."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    kept = value is None or isinstance(value, bool | str)
    number = isinstance(value, int | float) and math.isfinite(value) and abs(value) < LARGEST
    return value if kept or number else text_of(value)


def read_registered(values: Mapping[str, Any], where: str) -> Registered:
    """The registration that a configuration records."""
    types = types_of(Registered)
    if values.keys() != types.keys() or not all(fits(hint, values[name]) for name, hint in types.items()):
        raise ValueError(f"{where} is {short(dict(values))}, expected {', '.join(types)}: restore it")
    return Registered(**values)


def changed(env: str, then: Registered | None, now: Registered) -> str:
    """Changes in the settings of an environment, in words; empty if there are none, or if the earlier settings are
    unknown."""
    lines = [] if then is None else difference(vars(then), vars(now))
    return f"{env} is registered otherwise than its run was trained in: {'; '.join(lines)}" if lines else ""


def check_spaces(env: str, then: Registered | None, now: Registered) -> None:
    """Raise EnvironmentFault if the spaces of an environment have changed, so that the agent cannot act in it."""
    if then is None or (then.observation_space, then.action_space) == (now.observation_space, now.action_space):
        return
    raise EnvironmentFault(
        f"--env {env} observes {now.observation_space} and acts in {now.action_space}, and its run was trained to "
        f"observe {then.observation_space} and to act in {then.action_space}: register it as it was"
    )
