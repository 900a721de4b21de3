"""Development of song: a hidden Markov model for each day, and its divergence from the tutor's song in three
parts.

Where syllables are annotated, a frame is a syllable: its spectrum (codes at a few times, in principal components
of the tutor's) and its timing (log duration, and log of the gap after it). States are kinds of syllables, and
their transitions are the grammar. Otherwise a frame is a frame of codes, and states have explicit durations.

The divergence is that of the tutor's model from the day's, in bits per frame: the loss of the day's model on the
tutor's song. Its parts are exact: emission (spectrum), duration (timing), transition (grammar). With finitely many
songs each part is above 0 even without a difference: `floor` is the divergence of one half of the tutor's songs
from the other. Intervals are bootstrapped over songs, with their states held fixed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonarium.config import Range, check_ranges
from sonarium.evaluation.extraction import Extractor, encoded
from sonarium.features.classical import LogMel, LogMelConfig
from sonarium.features.syllables import sampled
from sonarium.measures.sequence.entropy import grammar_entropies
from sonarium.models.hmm import HMM, choose_states, divergence_parts, divergence_rate
from sonarium.models.hmm.divergence import occupancies
from sonarium.models.hmm.em import Model, Statistics, empty_states, m_step
from sonarium.models.hmm.emissions import Gaussian
from sonarium.models.hmm.inference import Chain
from sonarium.models.hmm.starting import structure_of
from sonarium.worlds.contract import Mark, World

PARTS = ("spectrum", "timing", "grammar")
TIMES = 5
"""Codes sampled from a syllable, evenly spaced from its onset to its offset."""
SHORTEST = 1e-3
"""Lower bound of the duration of gaps and syllables in seconds."""
CANDIDATES = (1, 2, 4, 6, 8, 10, 12, 16, 20)
"""Candidate numbers of states, chosen from on the tutor's songs."""
HALVINGS = 10
ROUNDS = 10
"""EM iterations from one day to the next; with more, overlapping states of babble swap places."""
PRIOR_FRAMES = 5.0
"""Weight in frames of the prior on a state's variance."""
SMOOTHING = 1e-4
"""Smoothing of the day's transitions and durations, so that unseen ones have a large but finite cost."""
TUTOR = "tutor"
SYLLABLE_BANDS = LogMelConfig(window=0.006, hop=0.002, fft=512, bands=20, fmin=300.0, range_db=None)
"""Windows are short relative to a syllable: in longer ones its duration would change the spectrum."""
FRAME_BANDS = LogMelConfig(window=0.016, hop=0.01, bands=20, fmin=300.0, range_db=None)
RANGE = 20.0
"""Dynamic range in decibels below the loudest value."""
LOUD = 0.98
"""Quantile of the frame levels of a song that defines its level."""
ABOVE_NOISE = 10.0
"""Decibels above the median noise that noise rarely exceeds."""
SAME_NOISE = 3.0
"""Difference in decibels between the noise of days that is due to chance."""
QUIETEST = 0.05
"""Fraction of frames, the quietest, taken as noise in a clip without annotations."""
MARGIN = 0.005
"""Seconds around a syllable in which it may still sound."""


@dataclass(frozen=True)
class DevelopConfig:
    """Models of song by day, and how they are compared."""

    reference: str = ""
    """Day that the others are compared with; by default the tutor, or the last day."""
    chain: Literal["backward", "forward", "reference", "all"] = "backward"
    """Training of the models: backward (a chain from the reference to the first day, each initialised from the day
    after), forward (from the first day on, each from the day before), reference (each initialised from it), or all
    (one model of all days)."""
    states: Annotated[int | None, Range(1, 10**3)] = None
    """Number of states; by default chosen on the reference day, by BIC."""
    labels: bool = False
    """Use the annotated labels as states instead of learning them from the sound."""
    unit: Literal["auto", "syllables", "frames"] = "auto"
    """Time step of the models: syllables where they are annotated (auto), or frames of codes."""
    components: Annotated[int, Range(1, 256)] = 8
    """Number of principal components of a syllable's spectrum."""
    bootstrap: Annotated[int, Range(0, 10**5)] = 100
    """Bootstrap resamples of the songs for the confidence intervals."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.labels and self.unit == "frames":
            raise ValueError("labels=True, unit='frames': labels are of syllables; leave one of the two out")


@dataclass(frozen=True)
class Song:
    """One clip: spectrum, timing (may have no columns) and label (may be empty) of each frame."""

    spectrum: Float[np.ndarray, "item code"]
    timing: Float[np.ndarray, "item time"]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.spectrum)


Days = dict[str, list[Song]]


@dataclass(frozen=True)
class Part:
    """Bits per frame, with the bounds of the 95 % interval; None without a bootstrap."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Day:
    day: str
    songs: int
    items: int
    parts: dict[str, Part]
    """spectrum, timing, grammar, and total."""
    rate: float
    """Divergence rate of the observations (Juang and Rabiner 1985), by simulation; at most the total."""
    rate_error: float
    entropies: dict[str, float]
    """Entropies in bits: of the first state, of a transition, and of a frame given its state (differential)."""
    active: int
    """States with at least one expected frame."""
    occupancy: Float[np.ndarray, " state"]
    transitions: Float[np.ndarray, "state state"]


@dataclass(frozen=True)
class Development:
    """Development of one bird."""

    bird: str
    reference: str
    unit: str
    names: tuple[str, ...]
    """Names of the states: the most frequent label of their syllables, where there are labels."""
    floor: dict[str, float | None]
    days: tuple[Day, ...]
    notes: tuple[str, ...]


def natural(name: str) -> list[tuple[int, float | str]]:
    """Natural sort key of days: numbers within names compare as numbers."""
    parts = "".join(letter if letter.isdecimal() else " " for letter in name).split()
    words = "".join(" " if letter.isdecimal() else letter for letter in name).split()
    return [*((0, float(part)) for part in parts), *((1, word) for word in words)]


def unit_of(world: World, config: DevelopConfig) -> str:
    """Unit of the models' frames: syllables, or frames of codes."""
    annotated = any(world.marks(torch.arange(len(world))))
    if config.unit == "syllables" and not annotated:
        raise ValueError("no syllable is annotated: annotate the songs, or use --unit frames")
    if config.unit == "auto":
        return "syllables" if annotated else "frames"
    return config.unit


def plain_bands(rate: int, unit: str) -> Extractor:
    """Extractor of log-mel frames, the spectrum where no run encodes the songs."""
    mel = LogMel(SYLLABLE_BANDS if unit == "syllables" else FRAME_BANDS, rate)
    return Extractor(mel, mel.code_lengths, mel.code_rate, 0.0, torch.device("cpu"))


def songs_by_day(world: World, extractor: Extractor, unit: str, decibels: bool = False) -> dict[str, Days]:
    """Songs of each bird by day. Codes in decibels are raised to the noise of the noisiest day (where noise
    differs), taken relative to the maximum of each syllable (of each song, for frames), and clipped at RANGE below
    it, which removes differences in gain and noise."""
    named = {factor.name: column for column, factor in enumerate(world.factors)}
    if "day" not in named or not world.factors[named["day"]].discrete:
        raise ValueError(
            f"the clips of {world.name} have no category 'day': give recordings in folders of days, or a world "
            "with days"
        )
    everything = torch.arange(len(world))
    marks, values = world.marks(everything), world.factor_values(everything)

    def names(factor: str) -> list[str]:
        if factor not in named:
            return [""] * len(world)
        known = world.factors[named[factor]].values
        return [str(known[int(value)]) for value in values[:, named[factor]]]

    def song_of(clip: int, codes: Float[np.ndarray, "frame code"]) -> Song:
        if unit == "syllables":
            return of_syllables(codes, sorted(marks[clip]), extractor)
        return of_frames(codes)

    birds, days = names("bird"), names("day")
    levels: dict[int, Float[np.ndarray, "_frame code"]] = {}
    songs: dict[int, Song] = {}
    for some in encoded(extractor, world, everything, world.lengths(everything).numpy()):
        for row, clip in enumerate(some.members.tolist()):
            codes = some.codes[row, : some.counts[row]]
            if decibels:
                # Kept until the noise of all days is known.
                levels[clip] = codes
            else:
                songs[clip] = song_of(clip, codes.astype(np.float64))
    if decibels:
        lowest = above_noise(levels, marks, extractor, birds, days)
        for clip, own in levels.items():
            song = song_of(clip, raised(own.astype(np.float64), lowest[birds[clip]]))
            songs[clip] = relative(song, unit) if len(song) else song
    ordered = sorted(map(str, world.factors[named["day"]].values), key=natural)
    found: dict[str, Days] = {bird: {day: [] for day in ordered} for bird in sorted(set(birds), key=natural)}
    for clip, (bird, day) in enumerate(zip(birds, days, strict=True)):
        if len(songs[clip]):
            found[bird][day].append(songs[clip])
    return found


def above_noise(
    levels: Mapping[int, Float[np.ndarray, "_frame band"]],
    marks: Sequence[Sequence[Mark]],
    extractor: Extractor,
    birds: Sequence[str],
    days: Sequence[str],
) -> dict[str, Float[np.ndarray, " band"] | None]:
    """Noise ceiling of each bird in each band, relative to the level of a clip: what the noise of the noisiest day
    rarely exceeds; None if the noise of days does not differ."""
    found: dict[str, Float[np.ndarray, " band"] | None] = {}
    for bird in set(birds):
        recorded: dict[str, list[np.ndarray]] = {}
        sung: dict[str, list[np.ndarray]] = {}
        for clip, own in levels.items():
            if birds[clip] == bird and len(own):
                noise = own[silent(own, marks[clip], extractor)]
                if len(noise):
                    recorded.setdefault(days[clip], []).append(noise)
                    sung.setdefault(days[clip], []).append(noise - level_of(own))
        of_recordings, below_song = (
            [np.median(np.concatenate(noise), axis=0) for noise in each.values()] for each in (recorded, sung)
        )
        # Gain shifts the noise of a recording, loud song the noise relative to it; more noise shifts both.
        apart = [float(np.median(np.ptp(floors, axis=0))) for floors in (of_recordings, below_song) if floors]
        found[bird] = np.max(below_song, axis=0) + ABOVE_NOISE if apart and min(apart) > SAME_NOISE else None
    return found


def silent(
    levels: Float[np.ndarray, "frame band"], marks: Sequence[Mark], extractor: Extractor
) -> Bool[np.ndarray, " frame"]:
    """Mask of the frames outside all syllables; without annotations, of the quietest frames."""
    if not marks:
        loudness = levels.max(1)
        return loudness <= np.quantile(loudness, QUIETEST)
    middles = extractor.first + np.arange(len(levels)) / extractor.rate
    found = np.ones(len(levels), bool)
    for onset, offset, _ in marks:
        found &= (middles < onset - MARGIN) | (middles > offset + MARGIN)
    return found


def raised(
    levels: Float[np.ndarray, "frame band"], lowest: Float[np.ndarray, " band"] | None
) -> Float[np.ndarray, "frame band"]:
    return levels if lowest is None or not len(levels) else np.maximum(levels, lowest + level_of(levels))


def level_of(levels: Float[np.ndarray, "frame band"]) -> float:
    """Level of a song: the LOUD quantile over its frames."""
    return float(np.quantile(levels.max(1), LOUD))


def relative(song: Song, unit: str) -> Song:
    loudest = song.spectrum.max(1, keepdims=True) if unit == "syllables" else song.spectrum.max()
    return replace(song, spectrum=np.maximum(song.spectrum - loudest, -RANGE))


def of_frames(codes: Float[np.ndarray, "frame code"]) -> Song:
    return Song(codes, np.zeros((len(codes), 0)), ("",) * len(codes))


def of_syllables(
    codes: Float[np.ndarray, "frame code"], marks: Sequence[tuple[float, float, str]], extractor: Extractor
) -> Song:
    """One frame per annotated syllable; the unobserved gap after the last one is NaN."""
    if not len(codes) or not marks:
        return Song(np.zeros((0, TIMES * codes.shape[1])), np.zeros((0, 2)), ())
    onsets, offsets = (np.array([mark[end] for mark in marks]) for end in (0, 1))
    share = (np.arange(TIMES) + 0.5) / TIMES
    spectrum = sampled(codes, marks, share, extractor.rate, extractor.first)
    gaps = np.append(onsets[1:] - offsets[:-1], np.nan)
    timing = np.log(np.maximum(np.stack([offsets - onsets, gaps], 1), SHORTEST))
    return Song(spectrum.reshape(len(marks), -1), timing, tuple(mark[2] for mark in marks))


@dataclass(frozen=True)
class Laid:
    """Songs of one day, concatenated as input of the models."""

    frames: Float[np.ndarray, "item column"]
    lengths: Int[np.ndarray, " song"]
    labels: tuple[str, ...]


def lay_out(days: Days, reference: str, components: int, rng: np.random.Generator) -> tuple[dict[str, Laid], int]:
    """Frames of all days, scaled by the reference: principal components of the spectrum with one common scale,
    then standardised timing; and the number of spectral columns."""
    own = np.concatenate([song.spectrum for song in days[reference]])
    centre = own.mean(0)
    _, spread, axes = np.linalg.svd(own - centre, full_matrices=False)
    kept = max(1, min(components, int((spread > 1e-9 * max(spread[0], 1e-300)).sum())))
    width = max(float(np.sqrt((spread[:kept] ** 2).mean() / len(own))), 1e-12)
    timing = np.concatenate([song.timing for song in days[reference]])
    usual = [typical(column) for column in timing.T]
    found = {}
    for day, songs in days.items():
        rows = np.concatenate([song.spectrum for song in songs])
        columns = [(rows - centre) @ axes[:kept].T / width]
        times = np.concatenate([song.timing for song in songs])
        for column, (mean, deviation) in zip(times.T, usual, strict=True):
            columns.append(((heard_or_drawn(column, mean, rng) - mean) / deviation)[:, None])
        lengths = np.array([len(song) for song in songs])
        found[day] = Laid(
            np.concatenate(columns, 1), lengths, tuple(label for song in songs for label in song.labels)
        )
    return found, kept


def typical(column: Float[np.ndarray, " item"]) -> tuple[float, float]:
    known = column[np.isfinite(column)]
    if not len(known):
        return 0.0, 1.0
    return float(known.mean()), max(float(known.std()), 0.1)


def heard_or_drawn(column: Float[np.ndarray, " item"], otherwise: float, rng: np.random.Generator) -> np.ndarray:
    """Impute unobserved values, such as the gap after a song, by draws from the observed ones."""
    missing = ~np.isfinite(column)
    known = column[~missing]
    filled = column.copy()
    filled[missing] = rng.choice(known, int(missing.sum())) if len(known) else otherwise
    return filled


def develop(bird: str, days: Days, unit: str, config: DevelopConfig, seed: int = 0) -> Development:
    """Compare all days of a bird with its reference; days that cannot be compared are named in the notes."""
    prefix = f"{bird}: " if bird else ""
    notes = [f"{prefix}{day} has no song: left out" for day, songs in days.items() if not songs]
    sung = {day: songs for day, songs in days.items() if songs}
    reference = reference_of(sung, config.reference, prefix)
    rng = np.random.default_rng(seed)
    laid, spectral = lay_out(sung, reference, config.components, rng)
    if config.labels:
        names, counts = by_labels(laid, reference, unit)
    else:
        first = first_model(laid[reference], f"{prefix}{reference}", unit, config, seed)
        few = [day for day, own in laid.items() if len(own.frames) < first.states]
        notes += [
            f"{prefix}{day} has {len(laid[day].frames)} {unit}, fewer than the {first.states} states: left out"
            for day in few
        ]
        kept = {day: own for day, own in laid.items() if day not in few}
        laid, first = in_widths(kept, reference, first, unit, seed)
        names, counts = by_models(laid, reference, first, unit, config, seed)
    compare = Comparison(
        spectral, unit, reference, {day: one for day, (_, one) in counts.items()}, counts[reference][0]
    )
    floor = compare.floor(rng)
    order = [day for day in laid if day != reference] + [reference]
    found = [compare.day(day, laid[day], 0 if day == reference else config.bootstrap, rng, seed) for day in order]
    return Development(bird, reference, unit, names, floor, tuple(found), tuple(notes))


def reference_of(days: Days, wanted: str, prefix: str) -> str:
    if len(days) < 2:
        raise ValueError(f"{prefix}{len(days)} day(s) with song: give two or more to compare")
    if wanted and wanted not in days:
        raise ValueError(f"{prefix}no song on the reference day '{wanted}': choose one of {', '.join(days)}")
    return wanted or (TUTOR if TUTOR in days else list(days)[-1])


def estimator(states: int, unit: str, seed: int, in_widths: bool = False) -> HMM:
    """Unfitted HMM. With columns in units of state widths (`in_widths`), the prior weighs few frames: it keeps a
    state with two frames from becoming certain, and hardly changes one with twenty."""
    return HMM(
        states,
        durations="geometric" if unit == "syllables" else "categorical",
        covariance_weight=PRIOR_FRAMES if in_widths else 0.0,
        covariance_prior=PRIOR_FRAMES if in_widths else 0.01,
        transition_prior=1.1,
        duration_prior=1.01,
        start_prior=1.1,
        max_iter=60,
        n_init=3 if unit == "syllables" else 1,
        random_state=seed,
    )


def widths(
    frames: Float[np.ndarray, "item column"], states: Int[np.ndarray, " item"]
) -> Float[np.ndarray, " column"]:
    """Standard deviation of each column about the means of the states."""
    own = np.stack([frames[states == state].mean(0) for state in states])
    return np.sqrt(np.maximum(np.square(frames - own).mean(0), 1e-4))


def in_widths(
    laid: dict[str, Laid], reference: str, first: HMM, unit: str, seed: int
) -> tuple[dict[str, Laid], HMM]:
    """Rescale frames so that the states of the reference have unit width in every column, and refit its model."""
    own = laid[reference]
    wide = widths(own.frames, first.predict(own.frames, own.lengths))
    scaled = {day: replace(one, frames=one.frames / wide) for day, one in laid.items()}
    emission, by = first.model_.emission, torch.from_numpy(wide)
    assert isinstance(emission, Gaussian), emission
    parts = {"mean": emission.mean / by, "spread": emission.spread / by**2, "centre": emission.centre / by}
    start = shell(replace(first.model_, emission=replace(emission, **parts)))
    own = scaled[reference]
    return scaled, estimator(first.states, unit, seed, True).fit(own.frames, lengths=own.lengths, start_from=start)


def first_model(own: Laid, day: str, unit: str, config: DevelopConfig, seed: int) -> HMM:
    """The model of the reference day, with as many states as asked for, or chosen by BIC."""
    if config.states is None:
        # Fewer than five frames per state are uninformative.
        tried = [count for count in CANDIDATES if 5 * count <= len(own.frames) or count == 1]
        return choose_states(estimator(1, unit, seed), tried, own.frames, own.lengths, criterion="bic")[0]
    if len(own.frames) < config.states:
        raise ValueError(f"--states {config.states}: {day} has {len(own.frames)} {unit}, give no more states")
    return estimator(config.states, unit, seed).fit(own.frames, lengths=own.lengths)


Counted = dict[str, tuple[Model, list[Statistics]]]
"""For each day, its model and the sufficient statistics of each song under it."""


def by_models(
    laid: dict[str, Laid], reference: str, first: HMM, unit: str, config: DevelopConfig, seed: int
) -> tuple[tuple[str, ...], Counted]:
    """Models with states learnt by expectation-maximisation."""
    fitted = chained(laid, reference, first, config, unit, seed)
    counts = {day: (fitted[day].model_, by_song(fitted[day], one)) for day, one in laid.items()}
    return names_of(fitted[reference], laid[reference]), counts


def chained(
    laid: dict[str, Laid], reference: str, first: HMM, config: DevelopConfig, unit: str, seed: int
) -> dict[str, HMM]:
    """The model of each day."""
    if config.chain == "all":
        frames = np.concatenate([one.frames for one in laid.values()])
        lengths = np.concatenate([one.lengths for one in laid.values()])
        common = estimator(first.states, unit, seed, True).fit(frames, lengths=lengths, start_from=first)
        return dict.fromkeys(laid, common)
    days = [day for day in laid if day != reference]
    if config.chain == "forward":
        order, found = [*days, reference], {}
    else:
        order, found = days[::-1], {reference: first}
    latest = found.get(reference)
    for day in order:
        own = laid[day]
        latest = found[reference] if config.chain == "reference" else latest
        made = estimator(first.states, unit, seed, True).set_params(max_iter=ROUNDS)
        latest = found[day] = made.fit(own.frames, lengths=own.lengths, start_from=latest)
    return found


def by_song(model: HMM, laid: Laid) -> list[Statistics]:
    ends = np.cumsum(laid.lengths)
    return [
        model.expected_counts(laid.frames[end - length : end])
        for end, length in zip(ends.tolist(), laid.lengths.tolist(), strict=True)
    ]


def names_of(model: HMM, laid: Laid) -> tuple[str, ...]:
    """Most frequent label of each state's frames, numbered where several states share it."""
    states, labels = model.predict(laid.frames, laid.lengths), np.array(laid.labels)
    best = []
    for state in range(model.states):
        own, counts = np.unique(labels[states == state], return_counts=True)
        best.append(str(own[counts.argmax()]) if len(own) and own[counts.argmax()] else str(state + 1))
    return tuple(
        name if best.count(name) == 1 else f"{name}·{best[:at].count(name) + 1}" for at, name in enumerate(best)
    )


def by_labels(laid: dict[str, Laid], reference: str, unit: str) -> tuple[tuple[str, ...], Counted]:
    """Models whose states are the labels."""
    if unit != "syllables":
        raise ValueError("no syllable is annotated: leave out --labels")
    names = tuple(sorted({label for one in laid.values() for label in one.labels}))
    number = {name: at for at, name in enumerate(names)}
    states = {day: np.array([number[label] for label in one.labels]) for day, one in laid.items()}
    wide = widths(laid[reference].frames, states[reference])
    made, zeros = estimator(len(names), unit, 0, True), torch.zeros(len(names), len(wide), dtype=torch.float64)
    structure = structure_of(made.config(), made.known(), np.random.default_rng(0), zeros.device)
    even = torch.full((len(names), len(names)), 1 / len(names), dtype=torch.float64)
    emission = Gaussian(made.config().prior, "diagonal", zeros, zeros + 1, zeros[0])
    template = Model(structure, Chain(even[0], even), emission)
    counts = {}
    for day, one in laid.items():
        ends = np.cumsum(one.lengths)[:-1]
        parts = zip(np.split(one.frames / wide, ends), np.split(states[day], ends), strict=True)
        counts[day] = [counted(template, torch.from_numpy(rows), torch.from_numpy(own)) for rows, own in parts]
    template = m_step(template, total(counts[reference]))
    return names, {day: (template, songs) for day, songs in counts.items()}


def counted(model: Model, frames: Float[Tensor, "item column"], states: Int[Tensor, " item"]) -> Statistics:
    """Sufficient statistics of one song with known states."""
    hot = torch.nn.functional.one_hot(states, model.states).double()
    return Statistics(
        torch.zeros((), dtype=torch.float64),
        hot.sum(0),
        hot[0],
        hot[:-1].T @ hot[1:],
        None,
        model.emission.count(model.emission.features(frames), hot),
    )


def total(songs: Sequence[Statistics], weights: Float[np.ndarray, " song"] | None = None) -> Statistics:
    """Weighted sum over songs of their sufficient statistics."""
    weight = torch.from_numpy(np.ones(len(songs)) if weights is None else weights)

    def mixed(parts: Sequence[Tensor]) -> Tensor:
        return torch.tensordot(weight, torch.stack(list(parts)).double(), 1)

    first = songs[0]
    return Statistics(
        mixed([one.log_likelihood for one in songs]),
        mixed([one.occupancy for one in songs]),
        mixed([one.start for one in songs]),
        mixed([one.transitions for one in songs]),
        None if first.durations is None else mixed([one.durations for one in songs if one.durations is not None]),
        {name: mixed([one.emission[name] for one in songs]) for name in first.emission},
    )


@dataclass(frozen=True)
class Comparison:
    """Models of a bird, each compared with that of the reference day."""

    spectral: int
    """Number of columns of the spectrum, which come first; the others are timing."""
    unit: str
    reference: str
    counts: dict[str, list[Statistics]]
    """Sufficient statistics of each song by day."""
    template: Model
    """Model of the reference day."""

    def fitted(self, counts: Statistics) -> Model:
        """Model of these counts by an M-step. The emission of a state that does not occur is unknown and copied
        from the reference day; its absence counts as grammar."""
        model = m_step(self.template, counts)
        lost, own, known = empty_states(counts), model.emission, self.template.emission
        if not len(lost):
            return model
        assert isinstance(own, Gaussian) and isinstance(known, Gaussian), own
        parts = {"mean": own.mean.clone(), "spread": own.spread.clone()}
        parts["mean"][lost], parts["spread"][lost] = known.mean[lost], known.spread[lost]
        return replace(model, emission=replace(own, **parts))

    def parts(self, one: Model, other: Model) -> dict[str, float]:
        """Parts of the divergence of `other` from `one`, with states matched by their order."""
        if self.unit == "frames":
            split = divergence_parts(shell(one), shell(other), match="order", smoothing=SMOOTHING)
            found = {"spectrum": split.emission, "timing": split.duration, "grammar": split.transition}
            return found | {"total": split.total}
        spectrum, timing = (
            divergence_parts(
                shell(sliced(one, columns)), shell(sliced(other, columns)), match="order", smoothing=SMOOTHING
            )
            for columns in (slice(0, self.spectral), slice(self.spectral, None))
        )
        # Repetition of a syllable counts as grammar, too.
        grammar = spectrum.duration + spectrum.transition
        found = {"spectrum": spectrum.emission, "timing": timing.emission, "grammar": grammar}
        return found | {"total": sum(found.values())}

    def floor(self, rng: np.random.Generator) -> dict[str, float | None]:
        """Median divergence between random halves of the reference day's songs; None for a single song."""
        songs, found = self.counts[self.reference], []
        if len(songs) < 2:
            return dict.fromkeys((*PARTS, "total"))
        for _ in range(HALVINGS):
            half = np.zeros(len(songs))
            half[rng.permutation(len(songs))[: len(songs) // 2]] = 1
            sides = [self.fitted(total(songs, weight)) for weight in (half, 1 - half)]
            found.append(self.parts(*sides))
        return {name: float(np.median([one[name] for one in found])) for name in found[0]}

    def resampled(self, day: str, rng: np.random.Generator) -> Model:
        songs = len(self.counts[day])
        weights = np.bincount(rng.integers(songs, size=songs), minlength=songs).astype(np.float64)
        return self.fitted(total(self.counts[day], weights))

    def day(self, day: str, own: Laid, bootstrap: int, rng: np.random.Generator, seed: int) -> Day:
        reference, model = (self.fitted(total(self.counts[one])) for one in (self.reference, day))
        value = self.parts(reference, model)
        drawn = [
            self.parts(self.resampled(self.reference, rng), self.resampled(day, rng)) for _ in range(bootstrap)
        ]
        parts = {name: Part(one, *ends(one, [each[name] for each in drawn])) for name, one in value.items()}
        rate = divergence_rate(shell(reference), shell(model), sequences=100, frames=40, random_state=seed)
        occupancy = occupancies(model.chain)
        entropies = grammar_entropies(model.chain.start.numpy(), model.chain.transitions.numpy())
        entropies["emission"] = float((occupancy * model.emission.entropy()).sum())
        active = int((total(self.counts[day]).occupancy >= 1).sum())
        chain = occupancy.numpy(), model.chain.transitions.numpy()
        return Day(day, len(own.lengths), len(own.frames), parts, rate.rate, rate.error, entropies, active, *chain)


def ends(value: float, drawn: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % interval of the bootstrap, recentred on the value, since resampled songs differ more."""
    if len(drawn) < 2:
        return None, None
    low, middle, high = np.quantile(drawn, (0.025, 0.5, 0.975)).tolist()
    return max(0.0, value - middle + low), value - middle + high


def shell(model: Model) -> HMM:
    """Wrap a model in a fitted estimator."""
    made = HMM(model.states)
    made.model_, made.n_features_in_ = model, model.emission.dimensions
    return made


def sliced(model: Model, columns: slice) -> Model:
    """The model restricted to these columns; requires diagonal covariances."""
    emission = model.emission
    assert isinstance(emission, Gaussian) and emission.covariance == "diagonal", emission
    parts = {name: getattr(emission, name)[..., columns] for name in ("mean", "spread", "centre")}
    return replace(model, emission=replace(emission, **parts))
