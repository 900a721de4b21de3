"""Loops compiled by numba, with an on-disk cache if there is a writable folder for it."""

from collections.abc import Callable
from typing import Any, Literal

from numba import njit

Function = Callable[..., Any]


def compiled(error_model: Literal["python", "numpy"] = "python") -> Callable[[Function], Function]:
    """Decorator that compiles a function, which then runs without the GIL."""

    def compile(function: Function) -> Function:
        try:
            return njit(nogil=True, cache=True, error_model=error_model)(function)
        except RuntimeError:
            # Neither the package nor the user's cache is writable, as in a container: compile in each process.
            return njit(nogil=True, error_model=error_model)(function)

    return compile
