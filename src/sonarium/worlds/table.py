"""The table of worlds: one line makes a world known to every verb."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sonarium.worlds.contract import World
from sonarium.worlds.digits import Digits, DigitsConfig
from sonarium.worlds.tones import Tones, TonesConfig


@dataclass(frozen=True)
class Entry:
    """One line of the table of worlds."""

    summary: str
    Config: type
    """A frozen dataclass of defaults."""
    build: Callable[[Any, int], World]
    """From a configuration and a seed."""


WORLDS: dict[str, Entry] = {
    "tones": Entry("tones on a grid of waveform, frequency, amplitude and more", TonesConfig, Tones),
    "digits": Entry(
        "pictures of handwritten digits: scikit-learn's, or MNIST from a folder", DigitsConfig, Digits
    ),
}
