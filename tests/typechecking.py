"""Run-time checks of signatures in tests: an int is accepted where a float is annotated."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import config

strict = beartype(conf=BeartypeConf(is_pep484_tower=True))
ENOUGH = 20
"""Number of calls of a function that are checked in a test: checking all hundred thousand calls in a loop over
episodes would take as long as the loop itself."""
calls: Counter[Callable] = Counter()
left_alone: list[Any] = []
"""Functions that were called that often, which are no longer checked."""


def check(function: Callable) -> Callable:
    """The function with its arguments checked. Checks are created at the first call: those of the thousands of
    functions that no test in this process calls would take seconds. A nested function has none, because each call
    of the outer function would create them again."""
    if "<locals>" in function.__qualname__:
        return function
    made = cache(lambda: strict(function))

    def checked(*args: Any, **kwargs: Any) -> Any:
        calls[made] += 1
        # jaxtyping passes a copy of the signature, and skips functions with this mark, which it looks up on the
        # function that it wraps.
        wrapped = sys._getframe(1).f_locals.get("fn") if calls[made] == ENOUGH else None
        if wrapped is not None:
            wrapped.__no_type_check__ = True
            left_alone.append(wrapped)
        return made()(*args, **kwargs)

    return checked


def begin() -> None:
    """Check all functions again."""
    calls.clear()
    while left_alone:
        vars(left_alone.pop()).pop("__no_type_check__", None)


@contextmanager
def unchecked() -> Iterator[None]:
    """Disable checks, as for users: for tests of our own refusals of values that the checks would refuse first."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)
