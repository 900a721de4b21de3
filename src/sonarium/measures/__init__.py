"""Measures: pure functions of arrays that return named numbers, independent of models and worlds.

`disentangle` takes two plain arrays and needs nothing else of this package. It is imported on first use, so that
importing this package does not load the compiler behind it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonarium.measures.disentanglement.scores import disentangle

__all__ = ["disentangle"]


def __getattr__(name: str) -> Any:
    if name == "disentangle":
        from sonarium.measures.disentanglement.scores import disentangle

        return disentangle
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
