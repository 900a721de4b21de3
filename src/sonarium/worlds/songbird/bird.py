"""A bird drawn from a seed: its syllables, its grammar and its timing; and how a pupil learns them day by day.

A pupil's song is that of its tutor, with three looseness parameters that fall from 1 (babble) to 0 (crystallised
song): spectrum (gestures deviate from the tutor's), timing (durations and gaps vary), and grammar (syllables drawn
uniformly). Each part has separate random numbers, so that freezing one changes nothing in the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sonarium.worlds.grammar import Grammar, draw_grammar
from sonarium.worlds.songbird import syrinx

KNOTS = 17
"""Points of a gesture, evenly spaced from onset to offset."""
REST_PRESSURE = 0.15
"""α between syllables, at which the labia rest."""
RAMP = 0.004
"""Seconds over which the pressure rises before a syllable, and falls after it."""
LEVEL = 0.1
"""Root mean square of a syllable in crystallised song."""
SHORTEST, LONGEST = 0.02, 0.5
"""Limits of the duration of a syllable in seconds."""
LOWEST, HIGHEST = 350.0, 5500.0
"""Limits of the fundamental frequency in Hz."""
CLOSEST = 0.01
"""Minimum gap in seconds."""
Path = Float[np.ndarray, " knot"]
PLACES = np.linspace(0, 1, KNOTS)


@dataclass(frozen=True)
class Gesture:
    """Motor gesture of one syllable."""

    duration: float
    """Seconds."""
    pressure: float
    """α during the syllable."""
    hertz: Path
    """Target fundamental frequency in Hz, which determines the tension."""
    envelope: Path
    """Amplitude of the flow."""
    turbulence: Path
    """Level of the noise in the flow, as a multiple of the envelope."""

    def tension(self, gamma: float) -> Path:
        """β at the knots."""
        return syrinx.tension_of(self.hertz[None], np.array([self.pressure]), gamma)[0]


@dataclass(frozen=True)
class Looseness:
    """Deviation of a pupil from its tutor: 1 in babble, 0 in crystallised song."""

    spectrum: float = 0.0
    timing: float = 0.0
    grammar: float = 0.0


@dataclass(frozen=True)
class Bird:
    """A singer: one gesture per label, the grammar of the labels, and the gap after each label in seconds."""

    labels: tuple[str, ...]
    gestures: dict[str, Gesture]
    grammar: Grammar
    gaps: dict[str, float]
    gamma: float


@dataclass(frozen=True)
class Song:
    """The syllables of a song in order, with their times and gestures."""

    labels: list[str]
    onsets: Float[np.ndarray, " syllable"]
    """Seconds."""
    durations: Float[np.ndarray, " syllable"]
    """Seconds."""
    pressure: Float[np.ndarray, " syllable"]
    hertz: Float[np.ndarray, "syllable knot"]
    tension: Float[np.ndarray, "syllable knot"]
    envelope: Float[np.ndarray, "syllable knot"]
    turbulence: Float[np.ndarray, "syllable knot"]
    seconds: float
    """Duration of the clip, including silence at both ends."""


def level_path(attack: float, decay: float, swell: float) -> Path:
    """An envelope that rises and falls over these fractions of the syllable, with a swell in the middle."""
    rise, fall = np.clip(PLACES / attack, 0, 1), np.clip((1 - PLACES) / decay, 0, 1)
    return np.sin(np.pi / 2 * rise) * np.sin(np.pi / 2 * fall) * (1 + swell * np.sin(np.pi * PLACES))


def stack(rng: np.random.Generator) -> Gesture:
    """A harmonic stack: a low fundamental with many partials, almost level."""
    base, bend = rng.uniform(450, 780), rng.uniform(-0.12, 0.12)
    hertz = base * np.exp(bend * (PLACES - 0.5) + rng.uniform(-0.06, 0.06) * np.sin(np.pi * PLACES))
    envelope = level_path(rng.uniform(0.08, 0.2), rng.uniform(0.15, 0.4), rng.uniform(0, 0.5))
    return Gesture(rng.uniform(0.08, 0.2), rng.uniform(-0.17, -0.145), hertz, envelope, np.full(KNOTS, 0.01))


def sweep(rng: np.random.Generator) -> Gesture:
    """A downward sweep through one to three octaves."""
    high, low, bend = rng.uniform(1600, 4200), rng.uniform(450, 850), rng.uniform(0.5, 1.6)
    hertz = low * (high / low) ** ((1 - PLACES) ** bend)
    envelope = level_path(rng.uniform(0.1, 0.25), rng.uniform(0.2, 0.5), rng.uniform(-0.3, 0.5))
    return Gesture(rng.uniform(0.04, 0.1), rng.uniform(-0.2, -0.15), hertz, envelope, np.full(KNOTS, 0.02))


def high_note(rng: np.random.Generator) -> Gesture:
    """A short tone with few partials."""
    hertz = rng.uniform(2600, 4800) * np.exp(rng.uniform(-0.15, 0.15) * (2 * PLACES - 1))
    envelope = level_path(rng.uniform(0.2, 0.35), rng.uniform(0.25, 0.4), rng.uniform(0, 0.6))
    return Gesture(rng.uniform(0.03, 0.07), rng.uniform(-0.2, -0.15), hertz, envelope, np.full(KNOTS, 0.03))


def noisy_note(rng: np.random.Generator) -> Gesture:
    """A breathy note whose partials are masked by noise."""
    hertz = rng.uniform(350, 700) * np.exp(rng.uniform(-0.4, 0.4) * (PLACES - 0.5))
    envelope = level_path(rng.uniform(0.1, 0.4), rng.uniform(0.2, 0.5), rng.uniform(-0.4, 0.4))
    turbulence = rng.uniform(0.4, 1.0) * (1 + rng.uniform(-0.6, 0.6) * np.cos(np.pi * PLACES))
    return Gesture(rng.uniform(0.03, 0.11), rng.uniform(-0.17, -0.145), hertz, envelope, turbulence)


def arch(rng: np.random.Generator) -> Gesture:
    """A fundamental that rises and falls."""
    base, height, peak = rng.uniform(480, 800), rng.uniform(0.4, 1.1), rng.uniform(0.25, 0.75)
    hertz = base * np.exp(height * np.sin(np.pi * PLACES ** (math.log(0.5) / math.log(peak))))
    envelope = level_path(rng.uniform(0.1, 0.25), rng.uniform(0.15, 0.4), rng.uniform(-0.3, 0.6))
    return Gesture(rng.uniform(0.06, 0.15), rng.uniform(-0.19, -0.15), hertz, envelope, np.full(KNOTS, 0.02))


def trill(rng: np.random.Generator) -> Gesture:
    """A rapid vibrato."""
    turns, depth, base = rng.uniform(2, 4), rng.uniform(0.12, 0.3), rng.uniform(700, 1600)
    hertz = base * np.exp(depth * np.sin(2 * np.pi * (turns * PLACES + rng.uniform())))
    envelope = level_path(rng.uniform(0.08, 0.2), rng.uniform(0.1, 0.3), rng.uniform(0, 0.5))
    return Gesture(rng.uniform(0.08, 0.16), rng.uniform(-0.19, -0.15), hertz, envelope, np.full(KNOTS, 0.02))


def joined(rng: np.random.Generator) -> Gesture:
    """Two notes without a gap, with a dip of the envelope between them."""
    first, second = (SIMPLE[at](rng) for at in rng.permutation(len(SIMPLE))[:2])
    cut = int(rng.integers(6, KNOTS - 6))
    early = np.arange(KNOTS) <= cut
    dip = 1 - rng.uniform(0.5, 0.9) * np.exp(-(((np.arange(KNOTS) - cut - 0.5) / 0.8) ** 2))
    return Gesture(
        rng.uniform(0.09, 0.19),
        first.pressure,
        np.where(early, first.hertz, second.hertz),
        level_path(0.12, 0.25, rng.uniform(-0.2, 0.3)) * dip,
        np.where(early, first.turbulence, second.turbulence),
    )


SIMPLE = (stack, sweep, noisy_note, arch, high_note, trill)
KINDS = (stack, sweep, noisy_note, joined, arch, high_note, trill)
"""Kinds of notes; a bird takes them in turn, so that each bird has harmonic and noisy ones."""


def draw_bird(seed: int, number: int, syllables: int, order: int, repeats: int) -> Bird:
    """Draw the bird of this number for a seed."""
    rng = np.random.default_rng([seed, number, 0xB17D])
    labels = tuple(map(label_of, range(syllables)))
    gamma = syrinx.GAMMA * float(rng.uniform(0.95, 1.05))
    kinds = [KINDS[at % len(KINDS)] for at in range(syllables)]
    drawn = [kinds[at](rng) for at in rng.permutation(syllables)]
    return Bird(
        labels,
        dict(zip(labels, levelled(drawn, gamma), strict=True)),
        draw_grammar(labels, order, np.random.default_rng([seed, number, 0x64A3]), repeats=repeats),
        {label: float(rng.uniform(0.028, 0.052)) for label in labels},
        gamma,
    )


def label_of(number: int) -> str:
    """Label of a syllable: a to z, then aa, ab and so on."""
    first, last = divmod(number, 26)
    return (label_of(first - 1) if first else "") + chr(ord("a") + last)


def levelled(gestures: list[Gesture], gamma: float) -> list[Gesture]:
    """The same gestures, with envelopes scaled so that each sounds at LEVEL."""
    rate, found = 16_000, []
    for gesture in gestures:
        song = Song(
            ["a"],
            np.array([RAMP]),
            np.array([gesture.duration]),
            np.array([gesture.pressure]),
            gesture.hertz[None],
            gesture.tension(gamma)[None],
            gesture.envelope[None],
            gesture.turbulence[None],
            gesture.duration + 2 * RAMP,
        )
        wave = render([song], [gamma], rate, [0])[0]
        power = float(wave.astype(np.float64) @ wave) / (gesture.duration * rate)
        found.append(replace(gesture, envelope=gesture.envelope * LEVEL / math.sqrt(power)))
    return found


def sing_song(bird: Bird, loose: Looseness, count: int, key: list[int], lead: float) -> Song:
    """One song of `count` syllables; `key` seeds its random numbers, `lead` is the silence at both ends."""
    words, clock, throat = (np.random.default_rng([*key, part]) for part in range(3))
    labels = bird.grammar.flattened(loose.grammar).sample(count, words)
    meant = [bird.gestures[label] for label in labels]
    durations, gaps = timed(meant, np.array([bird.gaps[label] for label in labels]), loose.timing, clock)
    onsets = lead + np.cumsum(durations + gaps) - durations - gaps
    pressure, hertz, envelope, turbulence = varied(meant, loose.spectrum, throat)
    return Song(
        labels,
        onsets,
        durations,
        pressure,
        hertz,
        syrinx.tension_of(hertz, pressure, bird.gamma),
        envelope,
        turbulence,
        float(onsets[-1] + durations[-1]) + lead,
    )


Varied = tuple[
    Float[np.ndarray, " syllable"],
    Float[np.ndarray, "syllable knot"],
    Float[np.ndarray, "syllable knot"],
    Float[np.ndarray, "syllable knot"],
]


def timed(
    meant: list[Gesture], gaps: Float[np.ndarray, " syllable"], loose: float, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " syllable"], Float[np.ndarray, " syllable"]]:
    """Durations of the syllables, and the gaps that follow, with random variation."""
    drawn = rng.normal(size=(len(meant), 2))
    usual = np.array([gesture.duration for gesture in meant])
    durations = np.clip(usual * np.exp((0.03 + 0.4 * loose) * drawn[:, 0]), SHORTEST, LONGEST)
    spread = np.exp((0.1 + 0.6 * loose) * drawn[:, 1])
    return durations, np.clip(gaps * (1 + loose) * spread, CLOSEST, LONGEST)


def varied(meant: list[Gesture], loose: float, rng: np.random.Generator) -> Varied:
    """Pressure, frequency, envelope and turbulence of the syllables, with random variation."""
    count = len(meant)
    shift, pressure, breath = rng.normal(size=(count, 2)), rng.normal(size=count), rng.exponential(size=count)
    wander = np.cumsum(rng.normal(size=(count, 2, KNOTS)), 2) / math.sqrt(KNOTS)
    pitch = (0.008 + 0.3 * loose) * shift[:, :1] + (0.004 + 0.3 * loose) * wander[:, 0]
    level = (0.05 + 0.3 * loose) * shift[:, 1:] + (0.03 + 0.5 * loose) * wander[:, 1]
    return (
        np.clip(np.array([gesture.pressure for gesture in meant]) + 0.02 * loose * pressure, -0.26, -0.14),
        np.clip(np.stack([gesture.hertz for gesture in meant]) * np.exp(pitch), LOWEST, HIGHEST),
        np.stack([gesture.envelope for gesture in meant]) * np.exp(level),
        np.stack([gesture.turbulence for gesture in meant]) + 0.1 * loose * breath[:, None],
    )


PATHS = ("tension", "pressure", "envelope", "turbulence")


def paths(song: Song, times: Float[np.ndarray, " frame"]) -> Float[np.ndarray, "path frame"]:
    """Tension, pressure, envelope and turbulence at these times in seconds.

    Between syllables the tension is interpolated linearly, and the pressure is at rest.
    """
    begin, end = song.onsets, song.onsets + song.durations
    at = (begin[:, None] + song.durations[:, None] * PLACES).ravel()
    held = (path.ravel() for path in (song.tension, song.envelope, song.turbulence))
    tension, envelope, turbulence = (np.interp(times, at, path) for path in held)
    corners = np.stack([begin - RAMP, begin, end, end + RAMP], 1).ravel()
    rest = np.full_like(song.pressure, REST_PRESSURE)
    pressure = np.interp(times, corners, np.stack([rest, song.pressure, song.pressure, rest], 1).ravel())
    return np.stack([tension, pressure, envelope, turbulence])


FRAME_RATE = 1000
"""Frames of a gesture per second."""


def render(
    songs: list[Song],
    gammas: list[float],
    rate: int,
    seeds: list[int],
    changes: Sequence[Float[np.ndarray, "path _frame"]] | None = None,
) -> list[Float[np.ndarray, " time"]]:
    """The sound of each song, without cage noise; its samples depend on the song and its seed alone. `changes` are
    added to its paths, at the middles of frames."""
    lengths = [round(song.seconds * rate) for song in songs]
    frames = math.ceil(max(lengths) * FRAME_RATE / rate) + 1
    times = np.arange(frames) / FRAME_RATE
    every = np.stack([paths(song, times) for song in songs], 1)
    for song, change in enumerate(changes or ()):
        middles = (np.arange(change.shape[1]) + 0.5) / FRAME_RATE
        for path, added in zip(every[:, song], change, strict=True):
            path += np.interp(times, middles, added)
    tension, pressure, envelope, turbulence = every
    envelope = np.maximum(envelope, 0.0)
    waves = syrinx.sing(
        pressure,
        tension,
        envelope,
        frame_rate=FRAME_RATE,
        rate=rate,
        lengths=lengths,
        turbulence=turbulence,
        seeds=np.array(seeds, np.int64),
        gamma=np.array(gammas),
    )
    return [wave[:length].numpy() for wave, length in zip(waves, lengths, strict=True)]
