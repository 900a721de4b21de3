"""Sonarium: learning from sound where the factors of the sound are known."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonarium.runs.coder import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # Deferred import: it takes seconds, and `--help` should not wait for it.
    if name == "load":
        from sonarium.runs.coder import load

        return load
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
