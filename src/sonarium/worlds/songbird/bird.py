"""A bird drawn from a seed: its syllables, its grammar and its timing; and how a pupil learns them day by day.

A pupil's song is that of its tutor, seen through three looseness parameters that fall from 1 (babble) to 0
(crystallised song): of the spectrum (gestures stray from the tutor's), of the timing (durations and gaps vary), and
of the grammar (syllables drawn from all alike). Each part has random numbers of its own, so that freezing one changes
nothing in the others.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sonarium.worlds.songbird import syrinx
from sonarium.worlds.songbird.grammar import Grammar, draw_grammar

KNOTS = 17
"""Points of a gesture, evenly spaced from onset to offset."""
REST_PRESSURE = 0.15
"""α between syllables, at which the labia rest."""
RAMP = 0.004
"""Seconds in which the pressure rises before a syllable, and falls after it."""
LEVEL = 0.1
"""Root mean square of a syllable of a crystallised song."""
SHORTEST, LONGEST = 0.02, 0.5
"""Limits of the duration of a syllable in seconds."""
CLOSEST = 0.01
"""Least gap in seconds."""
Path = Float[np.ndarray, " knot"]
PLACES = np.linspace(0, 1, KNOTS)


@dataclass(frozen=True)
class Gesture:
    """What a bird does in one syllable."""

    duration: float
    """Seconds."""
    pressure: float
    """α while the syllable sounds."""
    hertz: Path
    """The fundamental frequency that the tension is set for."""
    envelope: Path
    """Amplitude of the flow."""
    turbulence: Path
    """Level of the noise in the flow, as a multiple of the envelope."""

    def tension(self, gamma: float) -> Path:
        """β at the knots."""
        return syrinx.tension_of(self.hertz, self.pressure, gamma)


@dataclass(frozen=True)
class Looseness:
    """How far a pupil is from its tutor: 1 in babble, 0 in crystallised song."""

    spectrum: float = 0.0
    timing: float = 0.0
    grammar: float = 0.0


@dataclass(frozen=True)
class Bird:
    """A singer: one gesture a label, the grammar of the labels, and the gap after each label in seconds."""

    labels: tuple[str, ...]
    gestures: dict[str, Gesture]
    grammar: Grammar
    gaps: dict[str, float]
    gamma: float


@dataclass(frozen=True)
class Song:
    """What is sung when: syllables in order, each with its onset in seconds."""

    labels: list[str]
    onsets: list[float]
    gestures: list[Gesture]
    seconds: float
    """Length of the clip, silence at both ends included."""


def level_path(attack: float, decay: float, swell: float) -> Path:
    """An envelope that rises and falls within these fractions of the syllable, with a swell in its middle."""
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
    """A breathy note whose partials are drowned."""
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
    """Two notes without a gap, the breath held for a moment between them."""
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
"""Kinds of notes; a bird takes them in turn, so that each has harmonic and noisy ones."""


def draw_bird(seed: int, number: int, syllables: int, order: int, repeats: int) -> Bird:
    """The bird of this number among those of a seed."""
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
    """a to z, then aa, ab and so on."""
    first, last = divmod(number, 26)
    return (label_of(first - 1) if first else "") + chr(ord("a") + last)


def levelled(gestures: list[Gesture], gamma: float) -> list[Gesture]:
    """The same, each with an envelope of which it sounds at LEVEL."""
    rate, found = 16_000, []
    for gesture in gestures:
        song = Song(["a"], [RAMP], [gesture], gesture.duration + 2 * RAMP)
        wave = render([song], [gamma], rate, [0])[0]
        power = float(wave.astype(np.float64) @ wave) / (gesture.duration * rate)
        found.append(replace(gesture, envelope=gesture.envelope * LEVEL / math.sqrt(power)))
    return found


def sing_song(bird: Bird, loose: Looseness, count: int, key: list[int], lead: float) -> Song:
    """One song of this many syllables; `key` begins its random numbers, `lead` is the silence at both ends."""
    words, clock, throat = (np.random.default_rng([*key, part]) for part in range(3))
    labels = bird.grammar.flattened(loose.grammar).sample(count, words) if count else []
    onsets, gestures, now = [], [], lead
    for label in labels:
        gesture = varied(bird.gestures[label], loose.spectrum, throat)
        stretch = math.exp(clock.normal() * (0.03 + 0.4 * loose.timing))
        duration = float(np.clip(gesture.duration * stretch, SHORTEST, LONGEST))
        gestures.append(replace(gesture, duration=duration))
        onsets.append(now)
        spread = math.exp(clock.normal() * (0.1 + 0.6 * loose.timing))
        gap = bird.gaps[label] * (1 + loose.timing) * spread
        now += duration + float(np.clip(gap, CLOSEST, LONGEST))
    seconds = (onsets[-1] + gestures[-1].duration if labels else lead) + lead
    return Song(labels, onsets, gestures, seconds)


def varied(gesture: Gesture, loose: float, rng: np.random.Generator) -> Gesture:
    """The gesture as it comes out this time."""
    shift, wander = rng.normal(size=2), np.cumsum(rng.normal(size=(2, KNOTS)), 1) / math.sqrt(KNOTS)
    hertz = gesture.hertz * np.exp((0.008 + 0.3 * loose) * shift[0] + (0.004 + 0.3 * loose) * wander[0])
    envelope = gesture.envelope * np.exp((0.05 + 0.3 * loose) * shift[1] + (0.03 + 0.5 * loose) * wander[1])
    breath, pressure = rng.exponential(), rng.normal()
    return replace(
        gesture,
        pressure=float(np.clip(gesture.pressure + 0.02 * loose * pressure, -0.26, -0.14)),
        hertz=np.clip(hertz, 350, 5500),
        envelope=envelope,
        turbulence=gesture.turbulence + 0.1 * loose * breath,
    )


PATHS = ("tension", "pressure", "envelope", "turbulence")


def paths(song: Song, gamma: float, times: Float[np.ndarray, " frame"]) -> Float[np.ndarray, "path frame"]:
    """Tension, pressure, envelope and turbulence at these times in seconds.

    Between syllables the tension goes straight from one to the next, and the pressure is at rest.
    """
    if not song.labels:
        made = np.zeros((len(PATHS), len(times)))
        made[:2] = REST_PRESSURE
        return made
    begin, length = np.array(song.onsets), np.array([gesture.duration for gesture in song.gestures])
    at = (begin[:, None] + length[:, None] * PLACES).ravel()
    held = [
        np.concatenate([gesture.tension(gamma) for gesture in song.gestures]),
        np.concatenate([gesture.envelope for gesture in song.gestures]),
        np.concatenate([gesture.turbulence for gesture in song.gestures]),
    ]
    tension, envelope, turbulence = (np.interp(times, at, path) for path in held)
    corners = (begin[:, None] + np.stack([np.full_like(length, -RAMP), 0 * length, length, length + RAMP], 1)).ravel()
    alpha = np.array([gesture.pressure for gesture in song.gestures])
    rest = np.full_like(alpha, REST_PRESSURE)
    pressure = np.interp(times, corners, np.stack([rest, alpha, alpha, rest], 1).ravel())
    return np.stack([tension, pressure, envelope, turbulence])


FRAME_RATE = 1000
"""Frames of a gesture a second."""


def render(songs: list[Song], gammas: list[float], rate: int, seeds: list[int]) -> list[Float[np.ndarray, " time"]]:
    """The sound of each song, without noise; its samples follow from the song and its seed alone."""
    lengths = [round(song.seconds * rate) for song in songs]
    frames = math.ceil(max(lengths) * FRAME_RATE / rate) + 1
    times = np.arange(frames) / FRAME_RATE
    tension, pressure, envelope, turbulence = np.stack(
        [paths(song, gamma, times) for song, gamma in zip(songs, gammas, strict=True)], 1
    )
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
