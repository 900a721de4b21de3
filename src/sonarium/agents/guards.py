"""Guards around environments of any package: exceptions, and observations and rewards that an agent cannot take,
become errors of one line that name the environment."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from sonarium.agents.contract import stacked
from sonarium.agents.spaces import flat, parts_of, text_of
from sonarium.environment import EnvironmentFault
from sonarium.files import out_of_memory


@contextmanager
def naming_faults(env: str) -> Iterator[None]:
    """Convert exceptions of an environment, except out of memory, to an `EnvironmentFault` that names it."""
    try:
        yield
    except EnvironmentFault:
        raise
    except gymnasium.error.UnregisteredEnv as error:
        raise EnvironmentFault(
            f"--env {env}: {in_one_line(error)} Give the id of a registered environment, or module:Id-v0 to "
            "import the module that registers it"
        ) from None
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise EnvironmentFault(f"--env {env}: {in_one_line(error)}") from None
    except Exception as error:
        if out_of_memory(error):
            raise
        said = f"{type(error).__name__}: {in_one_line(error)}"
        raise EnvironmentFault(f"--env {env} failed: {said}; fix the environment") from error


@contextmanager
def naming_kwargs(env: str, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Name the keyword arguments in faults of an environment that is made with some."""
    try:
        yield
    except EnvironmentFault as fault:
        if not kwargs or fault.__cause__ is None:
            raise
        given = " ".join(f"{name}={value}" for name, value in kwargs.items())
        said = in_one_line(fault.__cause__)
        raise EnvironmentFault(f"--env {env} --env-kwargs {given}: {said}") from fault.__cause__


def in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def check_finite(rows: np.ndarray, env: str, what: str) -> None:
    """Refuse NaN and infinite numbers before the agent learns from them; `rows` has a row for each copy."""
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        slot = int(np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(1))[0])
        where = f" of copy {slot}" if len(rows) > 1 else ""
        raise EnvironmentFault(
            f"--env {env}: the {what}{where} is NaN or infinite: fix the environment, or wrap it"
        )


def check_observation(rows: Any, space: gymnasium.Space, env: str, copies: int = 1) -> None:
    """Refuse observations, a row for each copy, that do not match their space or are not finite."""
    try:
        parts = list(zip(flat(space, rows), parts_of(space), strict=True))
    except (AssertionError, LookupError, TypeError, ValueError):
        raise EnvironmentFault(
            f"--env {env}: an observation has other parts than its space {text_of(space)}: fix the environment, "
            "or wrap it"
        ) from None
    for part, own in parts:
        found = np.asarray(part)
        if found.shape[:1] != (copies,):
            raise EnvironmentFault(
                f"--env {env}: an observation of {copies} copies has the shape {found.shape}: fix its vector "
                "version, or give --vector no"
            )
        if found.shape[1:] != own.shape or found.dtype.kind not in "biuf":
            raise EnvironmentFault(
                f"--env {env}: an observation of shape {found.shape[1:]} and type {found.dtype} is not in its "
                f"space {text_of(own)}: fix the environment, or wrap it"
            )
        check_finite(found, env, "observation")


def stacked_in(space: gymnasium.Space, observations: Sequence[Any], env: str) -> Any:
    """Stacked observations of copies, a row for each; one that does not match the space is refused."""
    try:
        return stacked(observations)
    except Exception:
        for one in observations:
            check_observation(stacked([one]), space, env)
        raise


class Guarded(gymnasium.Wrapper):
    """Wrapper that names the environment in its errors, and refuses what an agent cannot take."""

    def __init__(self, env: gymnasium.Env, name: str = ""):
        super().__init__(env)
        spec = env.unwrapped.spec
        self.name = name or (type(env.unwrapped).__name__ if spec is None else spec.id)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        with naming_faults(self.name):
            observation, info = self.env.reset(seed=seed, options=options)
            self.check(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        with naming_faults(self.name):
            observation, reward, terminated, truncated, info = self.env.step(action)
            earned = float(reward)
            check_finite(np.array([earned]), self.name, "reward")
            self.check(observation)
        return observation, earned, terminated, truncated, info

    def check(self, observation: Any) -> None:
        check_observation(stacked([observation]), self.observation_space, self.name)
