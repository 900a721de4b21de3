"""The table of worlds: one line makes a world known to every verb."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sonarium.worlds.contract import Signal, SignalKind, World
from sonarium.worlds.digits import Digits, DigitsConfig
from sonarium.worlds.recordings.survey import Progress
from sonarium.worlds.recordings.world import Recordings, RecordingsConfig, piece
from sonarium.worlds.tones.syntone import SyntoneFile, SyntoneFileConfig
from sonarium.worlds.tones.world import Tones, TonesConfig


@dataclass(frozen=True)
class Entry:
    """One line of the table of worlds."""

    summary: str
    kind: SignalKind
    Config: type
    """A frozen dataclass of defaults."""
    build: Callable[[Any, int, Progress], World]
    """From a configuration and a seed; what takes long tells how far it is."""
    signal: Callable[[Any], Signal] | None = None
    """The form of a clip, where it follows from the configuration and what is on disk need not be read for it."""


def quick(world: Callable[[Any, int], World]) -> Callable[[Any, int, Progress], World]:
    """A world that is there at once."""
    return lambda config, seed, progress: world(config, seed)


WORLDS: dict[str, Entry] = {
    "tones": Entry(
        "tones on a grid of waveform, frequency, amplitude and more", "wave", TonesConfig, quick(Tones)
    ),
    "syntone-file": Entry(
        "tones from an .npz file of SynTone, or of `sonarium make tones`",
        "wave",
        SyntoneFileConfig,
        lambda config, seed, progress: SyntoneFile(config),
    ),
    "digits": Entry(
        "handwritten digits: scikit-learn's, or MNIST from a folder", "picture", DigitsConfig, quick(Digits)
    ),
    "recordings": Entry(
        "your own: a folder or a manifest (--path), with labels from folders, names or tables",
        "wave",
        RecordingsConfig,
        Recordings,
        piece,
    ),
}
