"""Loops compiled by numba, which keeps the compiled code for the next process where there is a folder for it."""

from collections.abc import Callable
from typing import Any, Literal

from numba import njit

Function = Callable[..., Any]


def compiled(error_model: Literal["python", "numpy"] = "python") -> Callable[[Function], Function]:
    """Decorator of a function that is compiled, and runs without the interpreter's lock."""

    def compile(function: Function) -> Function:
        try:
            return njit(nogil=True, cache=True, error_model=error_model)(function)
        except RuntimeError:
            # Neither the package nor the user's cache can be written, as in a container: compiled anew every time.
            return njit(nogil=True, error_model=error_model)(function)

    return compile
