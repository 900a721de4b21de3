"""Sonarium: learning from sound where the factors of the sound are known."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonarium.runs.build import open_run
    from sonarium.runs.coder import load
    from sonarium.runs.plan import default_plan
    from sonarium.runs.train import train

__version__ = "0.1.0"
__all__ = ["__version__", "default_plan", "load", "open_run", "train"]
PLACES = {"default_plan": "plan", "load": "coder", "open_run": "build", "train": "train"}
"""Public functions, and the module of `runs` that defines each."""


def __getattr__(name: str) -> Any:
    # Deferred import: it takes seconds, and `--help` should not wait for it.
    if name in PLACES:
        return getattr(import_module(f"sonarium.runs.{PLACES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})
