from typing import Any

import gymnasium
import pytest
from guess import Guess
from gymnasium.envs.registration import EnvSpec


@pytest.fixture
def guessing(monkeypatch):
    """Function that registers a `Guess` environment for the duration of a test and returns its id."""

    def register(*args: Any, **kwargs: Any) -> str:
        spec = EnvSpec("Guess-v0", lambda **_: Guess(*args, **kwargs), disable_env_checker=True)
        monkeypatch.setitem(gymnasium.registry, "Guess-v0", spec)
        return "Guess-v0"

    return register
