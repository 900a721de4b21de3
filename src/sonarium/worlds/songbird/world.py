"""Songbirds as a world: songs with known syllables, gestures, grammar, bird and day.

A bird is drawn from the seed (`bird.py`) and recorded in a cage (`cage.py`). Optionally it is followed from babble
to crystallised song, with its tutor as a further day. With `source`, the songs consist of annotated syllables of
recordings (`resequence.py`) instead.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.config import Range, check_ranges
from sonarium.worlds.contract import Batch, Factor, Mark, Progress, WorldEntry
from sonarium.worlds.grammar import Grammar
from sonarium.worlds.sequences import Sequences, described, signal_of
from sonarium.worlds.songbird.bird import (
    FRAME_RATE,
    LEVEL,
    REST_PRESSURE,
    Bird,
    Looseness,
    Song,
    draw_bird,
    paths,
    render,
    sing_song,
)
from sonarium.worlds.songbird.cage import cage_noise
from sonarium.worlds.songbird.syrinx import in_threads

LADDER = {"easy": (5, 1, 30.0), "middle": (8, 2, 20.0), "hard": (12, 3, 10.0)}
"""Number of syllables, order of the grammar and signal-to-noise ratio in dB of each level."""
LEAD = (0.05, 0.15)
"""Minimum and maximum silence at both ends of a clip in seconds."""
TUTOR = "tutor"
MOST_CONTEXTS = 50_000
"""Maximum number of hidden states of a grammar."""
Part = Literal["spectrum", "timing", "grammar"]


@dataclass(frozen=True)
class SongbirdConfig:
    """Birds, their songs, and how they are recorded."""

    level: Literal["easy", "middle", "hard"] = "easy"
    """Difficulty: easy (5 syllables, order 1, 30 dB), middle (8, order 2, 20 dB) or hard (12, order 3, 10 dB)."""
    birds: Annotated[int, Range(1, 10**4)] = 5
    """Number of birds, each with its own syllables and grammar."""
    songs: Annotated[int, Range(1, 10**5)] = 40
    """Number of songs per bird and day."""
    days: Annotated[tuple[int, ...], Range(0, 10**5)] = ()
    """Ages of the pupil in days, ascending, with its tutor beside them; by default crystallised song alone."""
    frozen: tuple[Part, ...] = ()
    """Parts of song that equal the tutor's from the first day on: spectrum, timing, grammar."""
    syllables: Annotated[int | None, Range(1, 64)] = None
    """Number of syllables per bird; by default that of the level."""
    order: Annotated[int | None, Range(1, 8)] = None
    """Order of the Markov grammar; by default that of the level."""
    snr: Annotated[float | None, Range(-100, 200)] = None
    """Signal-to-noise ratio in dB, with cage noise above 500 Hz; by default that of the level."""
    repeats: Annotated[int, Range(0, 64)] = 0
    """Number of syllables whose repeats are counted: hidden states beyond any low-order Markov chain."""
    shortest: Annotated[int, Range(1, 10**4)] = 8
    """Minimum number of syllables in a song."""
    longest: Annotated[int, Range(1, 10**4)] = 20
    """Maximum number of syllables in a song."""
    babble: Annotated[int, Range(0, 10**5)] = 45
    """Age in days up to which a pupil babbles."""
    crystallised: Annotated[int, Range(0, 10**5)] = 90
    """Age in days from which a pupil sings as its tutor does."""
    rate: Annotated[int, Range(8000, 384_000)] = 16_000
    """Sampling rate in Hz."""
    seconds: Annotated[float, Range(0, 3600, above=True)] = 1.0
    """Duration of a training piece in seconds."""
    source: str | None = None
    """Folder of annotated recordings whose syllables are sung in a planted order, in place of synthesised ones."""
    memory: Annotated[int, Range(0, 10**6)] = 512
    """In-memory cache of songs in megabytes."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.longest < self.shortest:
            raise ValueError(
                f"shortest={self.shortest}, longest={self.longest}: give longest no less than shortest"
            )
        if any(later <= earlier for earlier, later in zip(self.days, self.days[1:], strict=False)):
            raise ValueError(f"days={self.days}: give ages in rising order, each once")
        if self.days and self.babble >= self.crystallised:
            raise ValueError(
                f"babble={self.babble}, crystallised={self.crystallised}: give crystallised after babble"
            )
        if self.rate * self.seconds < 1:
            raise ValueError(f"rate={self.rate}, seconds={self.seconds}: a piece needs at least one sample")
        if self.frozen and not self.days:
            raise ValueError(f"frozen={self.frozen}: without days nothing develops; give days, too")
        syllables, order, _ = self.rung
        if self.repeats > syllables:
            raise ValueError(f"repeats={self.repeats}: give no more than the {syllables} syllables")
        if sum(syllables**length for length in range(order + 1)) * (1 + 6 * bool(self.repeats)) > MOST_CONTEXTS:
            raise ValueError(
                f"syllables={syllables}, order={order}: a grammar of so many contexts is too large: lower order"
            )
        if self.source is not None and self.days:
            raise ValueError(
                f"source={self.source}, days={self.days}: recorded syllables do not develop; leave out days"
            )

    @property
    def rung(self) -> tuple[int, int, float]:
        """Number of syllables, order and signal-to-noise ratio; those of the level unless set."""
        syllables, order, snr = LADDER[self.level]
        return (
            syllables if self.syllables is None else self.syllables,
            order if self.order is None else self.order,
            snr if self.snr is None else self.snr,
        )


class Aviary(Sequences):
    """Songs indexed by bird, day and number, with known syllables and grammar."""

    name = "songbird"
    group_kind = "song"

    def __init__(self, config: SongbirdConfig, birds: tuple[str, ...], labels: tuple[str, ...], seed: int) -> None:
        super().__init__("syllable", labels, float(FRAME_RATE), config.memory)
        self.config, self.seed = config, seed
        self.bird_names = birds
        self.days = (TUTOR, *(f"day {day}" for day in config.days)) if config.days else ()
        self.signal = signal_of(config)
        self.grid = (Factor("bird", birds), Factor("day", self.days))
        # A factor with one value is no prediction target.
        self.varied = [at for at, factor in enumerate(self.grid) if len(factor.values) > 1]
        self.factors = tuple(self.grid[at] for at in self.varied)

    def __len__(self) -> int:
        return len(self.bird_names) * max(len(self.days), 1) * self.config.songs

    def positions(self, clip: int) -> tuple[int, int, int]:
        """Bird, day and song of a clip."""
        if not 0 <= clip < len(self):
            raise ValueError(f"there is no clip {clip}: give 0 to {len(self) - 1}")
        rest, song = divmod(clip, self.config.songs)
        bird, day = divmod(rest, max(len(self.days), 1))
        return bird, day, song

    @abstractmethod
    def grammar(self, bird: int, day: int = 0) -> Grammar:
        """Grammar of a bird on a day, given as indices into the factors' values; day 0 is the tutor."""

    def entropy_rate(self, bird: int, day: int = 0) -> float:
        """Entropy rate of the planted grammar in bits per syllable."""
        return self.grammar(bird, day).entropy_rate()

    def grammar_of(self, clip: int) -> Grammar:
        bird, day, _ = self.positions(clip)
        return self.grammar(bird, day)

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        found = torch.tensor([self.positions(clip)[:2] for clip in index.tolist()], dtype=torch.float32)
        return found.reshape(-1, 2)[:, self.varied]

    def group_names(self) -> tuple[str, ...]:
        return tuple(map(self.path, range(len(self))))

    def path(self, clip: int) -> str:
        bird, day, song = self.positions(clip)
        return ", ".join([self.bird_names[bird], *self.days[day : day + 1], f"song {song + 1}"])

    def about(self) -> dict[str, Any]:
        """The grammar of each bird on each day, and its entropy rate."""
        places = [(bird, day) for bird in range(len(self.bird_names)) for day in range(max(len(self.days), 1))]
        return {"grammars": [self.describe_grammar(bird, day) for bird, day in places]}

    def describe_grammar(self, bird: int, day: int) -> dict[str, Any]:
        day_name = self.days[day] if self.days else None
        return {"bird": self.bird_names[bird], "day": day_name} | described(self.grammar(bird, day))


class Songbird(Aviary):
    """Birds drawn from the seed, whose songs are rendered from gestures."""

    rendered = True

    def __init__(self, config: SongbirdConfig, seed: int) -> None:
        count, order, snr = config.rung
        self.birds: tuple[Bird, ...] = tuple(
            draw_bird(seed, number, count, order, config.repeats) for number in range(config.birds)
        )
        names = tuple(f"bird {number + 1}" for number in range(config.birds))
        super().__init__(config, names, self.birds[0].labels, seed)
        self.noise = LEVEL * 10 ** (-snr / 20)
        self.composed: dict[int, Song] = {}

    @cached_property
    def tracks(self) -> tuple[Factor, ...]:
        """Gestures and syllables."""
        tensions = [gesture.tension(bird.gamma) for bird in self.birds for gesture in bird.gestures.values()]
        loudest = max(float(gesture.envelope.max()) for bird in self.birds for gesture in bird.gestures.values())
        return (
            Factor("tension", (float(np.min(tensions)), float(np.max(tensions)))),
            Factor("pressure", (-0.26, REST_PRESSURE)),
            Factor("envelope", (0.0, loudest)),
            self.labels,
            Factor("turbulence", (0.0, 1.0)),
        )

    def maturity(self, day: int) -> float:
        """Progress of the pupil on this day, given by index: from 0, babble, to 1, the tutor's song."""
        if not self.config.days or day == 0:
            return 1.0
        babble, crystallised = self.config.babble, self.config.crystallised
        return float(np.clip((self.config.days[day - 1] - babble) / (crystallised - babble), 0, 1))

    def looseness(self, day: int) -> Looseness:
        """Deviation of this day's song from the tutor's, for each part of song."""
        loose = 1 - self.maturity(day)
        return Looseness(
            *(0.0 if part in self.config.frozen else loose for part in ("spectrum", "timing", "grammar"))
        )

    def grammar(self, bird: int, day: int = 0) -> Grammar:
        return self.birds[bird].grammar.flattened(self.looseness(day).grammar)

    def song(self, clip: int) -> Song:
        """The song of a clip, drawn on first use."""
        if clip not in self.composed:
            bird, day, song = self.positions(clip)
            age = self.config.days[day - 1] if day else 0
            key = [self.seed, bird, age, song]
            rng = np.random.default_rng([*key, 0x50])
            count = int(rng.integers(self.config.shortest, self.config.longest + 1))
            lead = float(rng.uniform(*LEAD))
            self.composed[clip] = sing_song(self.birds[bird], self.looseness(day), count, key, lead)
        return self.composed[clip]

    def samples_of(self, clip: int) -> int:
        return round(self.song(clip).seconds * self.config.rate)

    def segments(self, clip: int) -> tuple[Mark, ...]:
        song = self.song(clip)
        return tuple(
            (onset, onset + duration, label)
            for onset, duration, label in zip(
                song.onsets.tolist(), song.durations.tolist(), song.labels, strict=True
            )
        )

    def tracks_of(self, clip: int, times: Float[np.ndarray, " frame"]) -> Float[np.ndarray, "track frame"]:
        tension, pressure, envelope, turbulence = paths(self.song(clip), times)
        return np.stack([tension, pressure, envelope, self.labels_at(clip, times), turbulence])

    def render(self, clips: list[int]) -> list[Float[np.ndarray, " time"]]:
        return self.sung(clips)

    def remade(self, index: Int[Tensor, " clip"], tracks: Float[Tensor, "clip frame track"]) -> Batch:
        """Songs with other gestures; the track of syllables has no effect on the sound."""
        own = self.whole(index)
        assert own.tracks is not None and own.lengths is not None
        moved = (tracks.cpu() - own.tracks).double().numpy()
        sounding = [at for at, track in enumerate(self.tracks) if track is not self.labels]
        counts = self.frames_of(own.lengths).tolist()
        changes = [rows[:count, sounding].T for rows, count in zip(moved, counts, strict=True)]
        signal = torch.zeros_like(own.signal)
        for row, wave in enumerate(self.sung(index.tolist(), changes)):
            signal[row, : len(wave)] = torch.from_numpy(wave)
        return replace(own, signal=signal, tracks=tracks.to(own.tracks))

    def sung(
        self, clips: list[int], changes: list[Float[np.ndarray, "path _frame"]] | None = None
    ) -> list[Float[np.ndarray, " time"]]:
        """Sound of these songs in the cage, optionally with changes to their gestures."""
        songs = [self.song(clip) for clip in clips]
        keys = [[self.seed, *self.positions(clip)] for clip in clips]
        seeds = [int(np.random.SeedSequence([*key, 0xB0]).generate_state(1)[0]) for key in keys]
        gammas = [self.birds[bird].gamma for _, bird, *_ in keys]
        waves = render(songs, gammas, self.config.rate, seeds, changes) if clips else []

        def record(at: int) -> None:
            random = np.random.default_rng([*keys[at], 0xCA6E])
            waves[at] += np.float32(self.noise) * cage_noise(len(waves[at]), self.config.rate, random)

        in_threads(record, range(len(clips)))
        return waves

    def describe(self) -> str:
        count, order, snr = self.config.rung
        days = f", {len(self.config.days)} days and the tutor" if self.config.days else ""
        return (
            f"songbird: {len(self)} songs of {len(self.birds)} bird(s){days}; {count} syllables, grammar of order "
            f"{order}, {snr:g} dB"
        )


def build(config: SongbirdConfig, seed: int, progress: Progress) -> Aviary:
    """The world of rendered birds, or of the recordings in `source`."""
    if config.source is None:
        return Songbird(config, seed)
    from sonarium.worlds.songbird.resequence import Resequenced

    return Resequenced(config, seed, progress)


SONGBIRD = WorldEntry(
    "songbirds with planted gestures, syllables, grammar and development",
    "wave",
    SongbirdConfig,
    build,
    signal_of,
    main=("level", "birds", "songs", "days", "frozen", "source", "seconds"),
)
