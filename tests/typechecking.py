"""How signatures are checked while tests run: an int is welcome where a float is asked for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import config

strict = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable) -> Callable:
    """The function with its arguments checked. The checks are made at its first call: those of the thousands of
    functions that no test in this process calls would take seconds. A function within another is made anew by each
    call of that one, and its checks would be, too: it has none."""
    if "<locals>" in function.__qualname__:
        return function
    made = cache(lambda: strict(function))

    def checked(*args: Any, **kwargs: Any) -> Any:
        return made()(*args, **kwargs)

    return checked


@contextmanager
def unchecked() -> Iterator[None]:
    """As users run: for tests of refusals that are our own, of values that the check would refuse first."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)
