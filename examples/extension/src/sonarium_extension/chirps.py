"""A world: songs of chirps with known frequency in every frame.

A song is a motif of syllables with pauses between them. A syllable is a chirp whose pitch, on a logarithmic scale,
rises, falls or stays, as in the notes of many songbirds (Tchernichovski et al. 2000). Clips differ in length; the
syllables are marked segments; frequency and syllable are tracks; a group is the songs of one singer, each of whom
has a different timbre.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.worlds.contract import Batch, Factor, Mark, Progress, Signal, World, WorldEntry

SYLLABLES = ("pause", "rise", "fall", "flat")
"""Values of the track `syllable`."""
MOTIFS = ("rise-fall", "fall-rise-fall", "flat-rise", "fall-flat-fall")
PITCHES = (600.0, 900.0, 1350.0)
"""Middle frequencies in Hz."""
OCTAVES = {"rise": 0.5, "fall": -0.5, "flat": 0.0}
"""Change of the frequency within a syllable, in octaves."""
TRACK_RATE = 100.0
LOUDNESS = 0.3
SHORTEST, LONGEST = 0.06, 0.14
"""Range of the duration of a syllable in seconds; pauses are half as long."""
FADE = 0.01
"""Duration of the fade-in and fade-out of a syllable in seconds."""


@dataclass(frozen=True)
class ChirpsConfig:
    """Songs of chirps."""

    clips: int = 96
    """Number of clips."""
    singers: int = 8
    """Number of singers, each with a timbre of their own: the groups of the split."""
    rate: int = 8000
    """Sampling rate in Hz."""
    seconds: float = 0.25
    """Duration of a training piece in seconds; longer clips are cropped at random, shorter ones padded."""

    def __post_init__(self) -> None:
        demands = (
            ("clips", self.clips >= 1, "a whole number of at least 1"),
            ("singers", self.singers >= 1, "a whole number of at least 1"),
            # The third harmonic of the highest chirp must be below the Nyquist frequency.
            ("rate", self.rate >= 8000, "a sampling rate of at least 8000 Hz"),
            ("seconds", 1 / TRACK_RATE <= self.seconds < math.inf, "seconds of a piece, such as 0.25"),
        )
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name}={getattr(self, name)}: give {expected}")


@dataclass(frozen=True)
class Song:
    """Parameters that determine the sound of a clip."""

    singer: int
    motif: int
    pitch: int
    breaks: tuple[float, ...]
    """Times in seconds at which syllables and pauses begin, and the end of the song."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each interval between breaks: syllables, with a pause before and after each."""
        sung = MOTIFS[self.motif].split("-")
        return ("pause", *(kind for syllable in sung for kind in (syllable, "pause")))

    @property
    def marks(self) -> tuple[Mark, ...]:
        spans = zip(self.breaks[:-1], self.breaks[1:], self.kinds, strict=True)
        return tuple((start, stop, kind) for start, stop, kind in spans if kind != "pause")


def compose(config: ChirpsConfig, seed: int, clip: int) -> Song:
    """Song number `clip`, which depends only on the seed and its number."""
    random = np.random.default_rng([seed, clip])
    motif, pitch = int(random.integers(len(MOTIFS))), int(random.integers(len(PITCHES)))
    durations = random.uniform(SHORTEST, LONGEST, 2 * len(MOTIFS[motif].split("-")) + 1)
    durations[::2] /= 2
    # Whole samples, so that the length of a clip is exact.
    breaks = np.round(np.cumsum([0, *durations]) * config.rate) / config.rate
    return Song(clip % config.singers, motif, pitch, tuple(breaks.tolist()))


class Chirps(World):
    """Songs of chirps, rendered on demand."""

    name = "chirps"
    rendered = True
    group_kind = "singer"
    track_rate = TRACK_RATE

    def __init__(self, config: ChirpsConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.signal = signal(config)
        self.factors = (
            Factor("singer", self.group_names()),
            Factor("motif", MOTIFS),
            Factor("pitch", PITCHES, "Hz"),
        )
        highest = PITCHES[-1] * 2 ** (max(OCTAVES.values()) / 2)
        self.tracks = (Factor("frequency", (0.0, highest), "Hz"), Factor("syllable", SYLLABLES))
        self.songs = [compose(config, seed, clip) for clip in range(config.clips)]

    def __len__(self) -> int:
        return self.config.clips

    def lengths(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        samples = [round(self.songs[clip].breaks[-1] * self.config.rate) for clip in index.tolist()]
        # The lengths of zero clips must be integers, too.
        return torch.tensor(samples, dtype=torch.int64)

    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        lengths = self.lengths(index)
        frames = self.frames_of(lengths)
        signal = torch.zeros(len(index), int(lengths.max()))
        tracks = torch.zeros(len(index), int(frames.max()), len(self.tracks))
        songs = [self.songs[clip] for clip in index.tolist()]
        for row, song in enumerate(songs):
            signal[row, : lengths[row]] = torch.from_numpy(sing(song, int(lengths[row]), self.config.rate))
            middle = (np.arange(int(frames[row])) + 0.5) / TRACK_RATE
            tracks[row, : frames[row], 0] = torch.from_numpy(frequency(song, middle))
            tracks[row, : frames[row], 1] = torch.from_numpy(syllable(song, middle))
        return Batch(index.cpu(), signal, self.factor_values(index), lengths=lengths, tracks=tracks).to(device)

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        songs = [self.songs[clip] for clip in index.tolist()]
        return torch.tensor([[song.singer, song.motif, PITCHES[song.pitch]] for song in songs])

    def group(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return torch.tensor([self.songs[clip].singer for clip in index.tolist()], dtype=torch.int64)

    def group_names(self) -> tuple[str, ...]:
        return tuple(f"singer {singer + 1}" for singer in range(self.config.singers))

    def marks(self, index: Int[Tensor, " clip"]) -> list[tuple[Mark, ...]]:
        return [self.songs[clip].marks for clip in index.tolist()]

    def identity(self, index: Int[Tensor, " clip"]) -> list[str]:
        return [f"chirps {self.seed} {clip}" for clip in index.tolist()]


def octaves(song: Song, seconds: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """Distance from the middle frequency, in octaves; a pause glides to where the next syllable begins."""
    at: list[float] = []
    for kind in song.kinds[1::2]:
        at += [-OCTAVES[kind] / 2, OCTAVES[kind] / 2]
    return np.interp(seconds, song.breaks[1:-1], at)


def frequency(song: Song, seconds: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """The instantaneous frequency in Hz; 0 in a pause."""
    sounding = syllable(song, seconds) > 0
    return np.where(sounding, PITCHES[song.pitch] * 2 ** octaves(song, seconds), 0.0)


def syllable(song: Song, seconds: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """Index into SYLLABLES at each time."""
    span = np.searchsorted(song.breaks, seconds, side="right") - 1
    kinds = np.array([SYLLABLES.index(kind) for kind in song.kinds], float)
    return kinds[span.clip(0, len(kinds) - 1)]


def sing(song: Song, samples: int, rate: int) -> Float[np.ndarray, " time"]:
    """The sound: chirps with a second and a third harmonic, whose levels are the timbre of the singer."""
    seconds = np.arange(samples) / rate
    phase = 2 * np.pi * np.cumsum(PITCHES[song.pitch] * 2 ** octaves(song, seconds)) / rate
    timbre = np.random.default_rng(song.singer).uniform(0, 0.5, 2)
    wave = np.sin(phase) + timbre[0] * np.sin(2 * phase) + timbre[1] * np.sin(3 * phase)
    level = np.zeros(samples)
    for start, stop, _ in song.marks:
        level += np.clip(np.minimum(seconds - start, stop - seconds) / FADE, 0, 1)
    return (LOUDNESS * level * wave).astype(np.float32)


def signal(config: ChirpsConfig) -> Signal:
    return Signal("wave", (round(config.seconds * config.rate),), config.rate)


def build(config: ChirpsConfig, seed: int, progress: Progress) -> Chirps:
    return Chirps(config, seed)


CHIRPS = WorldEntry(
    "songs of chirps with known frequency, syllables and singers", "wave", ChirpsConfig, build, signal
)
