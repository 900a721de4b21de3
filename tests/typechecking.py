"""How signatures are checked while tests run: an int is welcome where a float is asked for."""

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
"""Calls of a function in a test that are checked: checks of each of the hundred thousand calls in a loop over
episodes would take as long as the loop itself."""
calls: Counter[Callable] = Counter()
left_alone: list[Any] = []
"""What was called that often."""


def check(function: Callable) -> Callable:
    """The function with its arguments checked. The checks are made at its first call: those of the thousands of
    functions that no test in this process calls would take seconds. A function within another is made anew by each
    call of that one, and its checks would be, too: it has none."""
    if "<locals>" in function.__qualname__:
        return function
    made = cache(lambda: strict(function))

    def checked(*args: Any, **kwargs: Any) -> Any:
        calls[made] += 1
        # jaxtyping hands over a copy of the signature, and passes by what bears this mark, for which it looks at
        # the function that it wraps.
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
    """As users run: for tests of refusals that are our own, of values that the check would refuse first."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)
