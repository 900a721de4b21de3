"""The table of worlds: one line makes a world known to every verb."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sonarium.worlds.contract import SignalKind, World
from sonarium.worlds.digits import Digits, DigitsConfig
from sonarium.worlds.syntone import SyntoneFile, SyntoneFileConfig
from sonarium.worlds.tones import Tones, TonesConfig


@dataclass(frozen=True)
class Entry:
    """One line of the table of worlds."""

    summary: str
    kind: SignalKind
    Config: type
    """A frozen dataclass of defaults."""
    build: Callable[[Any, int], World]
    """From a configuration and a seed."""


WORLDS: dict[str, Entry] = {
    "tones": Entry("tones on a grid of waveform, frequency, amplitude and more", "wave", TonesConfig, Tones),
    "syntone-file": Entry(
        "tones from an .npz file of SynTone, or of `sonarium make tones`",
        "wave",
        SyntoneFileConfig,
        lambda config, seed: SyntoneFile(config),
    ),
    "digits": Entry("handwritten digits: scikit-learn's, or MNIST from a folder", "picture", DigitsConfig, Digits),
}
