"""Guards around environments of any package: what they raise, and what they show that an agent cannot take, is one
line that names them."""

from collections.abc import Iterator, Sequence
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
    """An environment of any package may raise anything: one line says which it was."""
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
        raise EnvironmentFault(f"--env {env} failed: {said}; mend the environment") from error


def in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def check_finite(rows: np.ndarray, env: str, what: str) -> None:
    """Refuse NaN and infinite numbers before anything is learnt from them; there is a row for each copy."""
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        slot = int(np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(1))[0])
        where = f" of copy {slot}" if len(rows) > 1 else ""
        raise EnvironmentFault(
            f"--env {env}: the {what}{where} is NaN or infinite: mend the environment, or wrap it"
        )


def check_observation(rows: Any, space: gymnasium.Space, env: str) -> None:
    """Refuse observations, a row for each copy, that have not the form of their space, or are not finite."""
    try:
        parts = list(zip(flat(space, rows), parts_of(space), strict=True))
    except (AssertionError, LookupError, TypeError, ValueError):
        raise EnvironmentFault(
            f"--env {env}: an observation has other parts than its space {text_of(space)}: mend the environment, "
            "or wrap it"
        ) from None
    for part, own in parts:
        found = np.asarray(part)
        if found.shape[1:] != own.shape or found.dtype.kind not in "biuf":
            raise EnvironmentFault(
                f"--env {env}: an observation of shape {found.shape[1:]} and type {found.dtype} is not in its "
                f"space {text_of(own)}: mend the environment, or wrap it"
            )
        check_finite(found, env, "observation")


def stacked_in(space: gymnasium.Space, observations: Sequence[Any], env: str) -> Any:
    """Observations of copies as one, a row for each; one that has not the form of the space is refused."""
    try:
        return stacked(observations)
    except Exception:
        for one in observations:
            check_observation(stacked([one]), space, env)
        raise


class Guarded(gymnasium.Wrapper):
    """The same environment, whose faults name it, and which shows nothing that an agent cannot take."""

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
