"""Tones with planted factors: waveform, frequency and amplitude, and optionally seven more; and with slow
modulation, whose pitch and level are known frame by frame.

The order of the clips is that of SynTone (Brima et al., 2024, arXiv 2402.10547), whose grid and waves are the
world `syntone`. The default grid is lower and logarithmic: between 220 and 1760 Hz the waveforms differ in their
partials below half the sampling rate, while above 4 kHz all four are a sine with different gains. No grid is
stored: the index of a clip is a number in mixed radix whose digits select the value of each factor, and the
samples follow.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.config import Range, check_ranges
from sonarium.worlds import counter as noise
from sonarium.worlds.contract import Batch, Factor, Progress, Signal, World, WorldEntry
from sonarium.worlds.tones.modulation import Modulation, drawn
from sonarium.worlds.tones.oscillator import COLUMNS, WAVEFORMS, render

MOST_SAMPLES = 2**25
"""Maximum number of samples in a clip: half an hour at 16 kHz."""
MOST_CLIPS = 2 * 10**6
"""Maximum number of clips in a grid: a split lists them all, which takes seconds at this size."""
COUNTS = (
    "frequencies", "amplitudes", "phases", "attacks", "decays", "noises", "vibrato_rates", "vibrato_depths",
    "second_partials",
)  # fmt: skip
"""Fields with the number of values of a factor."""
MOST_TURNS = 2**25
"""Maximum number of periods in a clip for which the phase is reduced exactly."""
FRAME_RATE = 1000.0
"""Frames of the tracks per second."""


@dataclass(frozen=True)
class TonesConfig:
    """Grid of tones. A factor with one value is fixed, at the value of a plain tone."""

    rate: Annotated[int, Range(1, 10**6)] = 16000
    """Sampling rate in Hz."""
    seconds: Annotated[float, Range(0, 3600, above=True)] = 1.0
    """Duration of a clip in seconds."""
    waveforms: tuple[str, ...] = WAVEFORMS
    """Waveforms: sine, triangle, sawtooth, square; a category is the position in this list."""
    lowest: Annotated[float, Range(0, 10**7, above=True)] = 220.0
    """Lowest frequency in Hz."""
    highest: Annotated[float, Range(0, 10**7, above=True)] = 1760.0
    """Highest frequency in Hz; band-limited waveforms at or above half the sampling rate are silent."""
    frequencies: Annotated[int, Range(1, 10**6)] = 145
    """Number of frequencies from lowest to highest; by default a quarter of a semitone apart."""
    frequency_spacing: Literal["log", "linear"] = "log"
    """Spacing of the frequencies: equal ratios (log), or equal steps in Hz (linear)."""
    quietest: Annotated[float, Range(0, 1000)] = 0.1
    """Lowest amplitude; 1 is full scale."""
    loudest: Annotated[float, Range(0, 1000)] = 1.0
    """Highest amplitude."""
    amplitudes: Annotated[int, Range(1, 10**6)] = 20
    """Number of amplitudes, evenly spaced from quietest to loudest."""
    phases: Annotated[int, Range(1, 10**6)] = 1
    """Number of initial phases, evenly spaced over one period; 1 starts every clip at phase 0."""
    attacks: Annotated[int, Range(1, 10**6)] = 1
    """Number of attack times: multiples of longest_attack / attacks; 1 is no attack."""
    longest_attack: Annotated[float, Range(0, 3600, above=True)] = 0.2
    """Longest attack in seconds, a raised cosine."""
    decays: Annotated[int, Range(1, 10**6)] = 1
    """Number of decay times: multiples of longest_decay / decays; 1 is no decay."""
    longest_decay: Annotated[float, Range(0, 3600, above=True)] = 0.5
    """Longest decay in seconds, a raised cosine that ends with the clip."""
    noises: Annotated[int, Range(1, 10**6)] = 1
    """Number of levels of white noise, evenly spaced from 0 to loudest_noise; 1 is no noise."""
    loudest_noise: Annotated[float, Range(0, 1000)] = 0.1
    """Highest standard deviation of the noise; it does not scale with the amplitude."""
    vibrato_rates: Annotated[int, Range(1, 10**6)] = 1
    """Number of vibrato rates: multiples of fastest_vibrato / vibrato_rates."""
    fastest_vibrato: Annotated[float, Range(0, 10**6, above=True)] = 8.0
    """Highest vibrato rate in Hz; the only one if vibrato_rates is 1 and depths vary."""
    vibrato_depths: Annotated[int, Range(1, 10**6)] = 1
    """Number of vibrato depths, likewise up to deepest_vibrato; one depth and one rate are no vibrato."""
    deepest_vibrato: Annotated[float, Range(0, 1, below=True)] = 0.03
    """Highest vibrato depth as a fraction of the frequency; the only one if vibrato_depths is 1 and rates vary."""
    second_partials: Annotated[int, Range(1, 10**6)] = 1
    """Number of levels of an added second partial, evenly spaced from 0 to strongest_second; 1 is none."""
    strongest_second: Annotated[float, Range(0, 1000)] = 1.0
    """Highest level of the second partial as a fraction of the amplitude."""
    glide_semitones: Annotated[float, Range(0, 48)] = 0.0
    """Slow pitch modulation: maximum deviation up and down in semitones, known frame by frame as the track
    `pitch`; 0 is none."""
    tremolo_db: Annotated[float, Range(0, 120)] = 0.0
    """Slow level modulation: maximum decrease below the amplitude in decibels, known frame by frame as the track
    `level`; 0 is none."""
    modulation_hz: Annotated[float, Range(0, 50, above=True)] = 2.0
    """Highest rate of the slow modulation in Hz."""
    alias: bool = False
    """Sample the ideal waveforms with aliasing, as SciPy does; by default they are band-limited."""
    syntone_time: bool = False
    """SynTone's time grid, whose last sample falls on the end of the clip."""

    def __post_init__(self) -> None:
        check_ranges(self)
        unknown = [waveform for waveform in self.waveforms if waveform not in WAVEFORMS]
        if unknown or not self.waveforms or len(set(self.waveforms)) < len(self.waveforms):
            raise ValueError(f"waveforms={self.waveforms}: give one or more of {', '.join(WAVEFORMS)}, each once")
        self.check_together()

    @property
    def clips(self) -> int:
        """Number of clips in the grid."""
        return len(self.waveforms) * math.prod(getattr(self, name) for name in COUNTS)

    def check_together(self) -> None:
        """Raise ValueError for combinations that give no tones, or more than can be listed."""
        for low, high in (("lowest", "highest"), ("quietest", "loudest")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low}={getattr(self, low)}, {high}={getattr(self, high)}: give {low} no more than {high}"
                )
        if not 2 <= self.rate * self.seconds <= MOST_SAMPLES:
            raise ValueError(
                f"rate={self.rate} and seconds={self.seconds} give {self.rate * self.seconds:.4g} samples a clip: "
                f"give from 2 to {MOST_SAMPLES}"
            )
        if self.clips > MOST_CLIPS:
            grid = ", ".join(f"{name}={getattr(self, name)}" for name in COUNTS if getattr(self, name) > 1)
            raise ValueError(
                f"{grid} and {len(self.waveforms)} waveforms make {self.clips:,} clips, more than the "
                f"{MOST_CLIPS:,} that can be listed: give fewer values"
            )
        if self.highest * octaves(self.glide_semitones) * self.seconds > MOST_TURNS:
            raise ValueError(
                f"highest={self.highest} Hz over seconds={self.seconds} is more than {MOST_TURNS} periods: "
                "shorten the clips"
            )
        if self.tremolo_db and not self.quietest:
            raise ValueError(
                f"quietest={self.quietest}, tremolo_db={self.tremolo_db}: silence has no level in dB; "
                "give quietest above 0"
            )


@dataclass(frozen=True)
class SyntoneConfig(TonesConfig):
    """SynTone's grid: the defaults of its generator."""

    lowest: Annotated[float, Range(0, 10**7, above=True)] = 440.0
    """Lowest frequency in Hz."""
    highest: Annotated[float, Range(0, 10**7, above=True)] = 8000.0
    """Highest frequency in Hz."""
    frequencies: Annotated[int, Range(1, 10**6)] = 400
    """Number of frequencies from lowest to highest."""
    frequency_spacing: Literal["log", "linear"] = "linear"
    """Spacing of the frequencies: equal ratios (log), or equal steps in Hz (linear)."""
    alias: bool = True
    """Sample the ideal waveforms with aliasing, as SciPy does; otherwise they are band-limited."""
    syntone_time: bool = True
    """SynTone's time grid, whose last sample falls on the end of the clip."""


def steps(count: int, largest: float) -> tuple[float, ...]:
    """`count` evenly spaced values up to `largest`, without zero."""
    return tuple((np.arange(1, count + 1) * (largest / count)).tolist())


def rising(count: int, least: float, largest: float) -> tuple[float, ...]:
    """`count` evenly spaced values from `least` to `largest`."""
    return tuple(np.linspace(least, largest, count).tolist())


def frequencies(config: TonesConfig) -> tuple[float, ...]:
    between = np.geomspace if config.frequency_spacing == "log" else np.linspace
    return tuple(between(config.lowest, config.highest, config.frequencies).tolist())


def grid(config: TonesConfig) -> tuple[Factor, ...]:
    """All ten factors in the order of COLUMNS; those that do not vary have one value."""
    vibrato = config.vibrato_rates > 1 or config.vibrato_depths > 1
    depth = config.deepest_vibrato if vibrato else 0.0
    attack = config.longest_attack if config.attacks > 1 else 0.0
    decay = config.longest_decay if config.decays > 1 else 0.0
    return (
        Factor("waveform", config.waveforms),
        Factor("frequency", frequencies(config), "Hz"),
        Factor("amplitude", rising(config.amplitudes, config.quietest, config.loudest)),
        Factor("phase", tuple((np.arange(config.phases) / config.phases).tolist()), "periods"),
        Factor("attack", steps(config.attacks, attack), "s"),
        Factor("decay", steps(config.decays, decay), "s"),
        Factor("noise", rising(config.noises, 0.0, config.loudest_noise)),
        Factor("vibrato_rate", steps(config.vibrato_rates, config.fastest_vibrato), "Hz"),
        Factor("vibrato_depth", steps(config.vibrato_depths, depth)),
        Factor("second_partial", rising(config.second_partials, 0.0, config.strongest_second)),
    )


def octaves(semitones: float) -> float:
    """Frequency ratio of an interval in semitones."""
    return 2 ** (semitones / 12)


def midi(hertz: Float[Tensor, "*some"]) -> Float[Tensor, "*some"]:
    """Frequencies in Hz as MIDI note numbers: in semitones, 69 at 440 Hz."""
    return 69 + 12 * torch.log2(hertz / 440)


def full_scale(amplitude: Float[Tensor, "*some"]) -> Float[Tensor, "*some"]:
    """Amplitudes in dB of full scale."""
    return 20 * torch.log10(amplitude)


def tracks_of(config: TonesConfig) -> tuple[Factor, ...]:
    """The modulated quantities, with the minimum and maximum that they may take."""
    found = []
    if glide := config.glide_semitones:
        low, high = midi(torch.tensor([config.lowest, config.highest], dtype=torch.float64)).tolist()
        found.append(Factor("pitch", (low - glide, high + glide), "MIDI note number"))
    if tremolo := config.tremolo_db:
        low, high = full_scale(torch.tensor([config.quietest, config.loudest], dtype=torch.float64)).tolist()
        found.append(Factor("level", (low - tremolo, high), "dB of full scale"))
    return tuple(found)


class Tones(World):
    """A grid of tones rendered on demand; only noise and slow modulation depend on the seed."""

    name = "tones"
    rendered = True

    def __init__(self, config: TonesConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        samples = round(config.rate * config.seconds)
        self.signal = Signal("wave", (samples,), config.rate)
        self.grid = grid(config)
        assert tuple(factor.name for factor in self.grid) == COLUMNS
        self.varied = [column for column, factor in enumerate(self.grid) if len(factor.values) > 1]
        if not self.varied:
            raise ValueError(
                "every factor of the tones has one value only: give at least one more, as --frequencies 10"
            )
        self.factors = tuple(self.grid[column] for column in self.varied)
        self.tracks = tracks_of(config)
        self.track_rate = FRAME_RATE if self.tracks else 0.0
        # SynTone's loop order, innermost first: waveform, amplitude, frequency, then the factors that it lacks.
        self.order = [0, 2, 1, *range(3, len(COLUMNS))]
        codes = tuple(float(WAVEFORMS.index(waveform)) for waveform in config.waveforms)
        values = (codes, *(factor.values for factor in self.grid[1:]))
        self.values = [torch.tensor(value, dtype=torch.float64) for value in values]
        self.time = torch.from_numpy(
            np.linspace(0, config.seconds, samples) if config.syntone_time else np.arange(samples) / config.rate
        )

    def __len__(self) -> int:
        return math.prod(len(factor.values) for factor in self.grid)

    def positions(self, index: Int[Tensor, " clip"]) -> Int[Tensor, "clip column"]:
        """Index of each factor's value in its list of values, for each clip."""
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= len(self)):
            raise ValueError(
                f"the index has clips {int(index.min())} to {int(index.max())}, these tones have {len(self)}: "
                f"give clips 0 to {len(self) - 1}"
            )
        digits = torch.zeros(len(index), len(self.grid), dtype=torch.int64)
        rest = index.cpu()
        for column in self.order:
            digits[:, column] = rest % len(self.values[column])
            rest = rest // len(self.values[column])
        return digits

    def locate(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        """Varied factors of these clips in double precision, the input of `generate`."""
        digits = self.positions(index)
        numbers = [
            digits[:, column].double() if column == 0 else self.values[column][digits[:, column]]
            for column in self.varied
        ]
        return torch.stack(numbers, dim=1)

    def generate(
        self,
        factors: Float[Tensor, "clip factor"],
        index: Int[Tensor, " clip"] | None = None,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "clip time"]:
        """Render clips with any values of the varied factors, on the grid or off it; `index` seeds the noise and
        the slow modulation."""
        tones = self.completed(factors)
        if not len(tones):
            return torch.empty(0, *self.signal.shape, device=device)
        clip = torch.arange(len(factors)) if index is None else index.cpu()
        streams = noise.stream(self.seed, clip)
        alias, place = self.config.alias, torch.device(device)
        return render(tones, streams, self.time, alias, place, self.modulation(streams))

    def completed(self, factors: Float[Tensor, "clip factor"]) -> Float[Tensor, "clip column"]:
        """All columns of tones, given their varied factors."""
        factors = factors.cpu().double()
        if factors.shape[1:] != (len(self.factors),) or not bool(torch.isfinite(factors).all()):
            raise ValueError(
                f"factors of shape {tuple(factors.shape)}: give finite numbers, one column for each of "
                f"{', '.join(factor.name for factor in self.factors)}"
            )
        tones = torch.stack([values[:1].expand(len(factors)) for values in self.values], dim=1)
        tones[:, self.varied] = factors
        if 0 in self.varied:
            position = factors[:, self.varied.index(0)].long()
            if bool(((position < 0) | (position >= len(self.values[0]))).any()):
                raise ValueError(
                    f"a waveform's position {position.min()} to {position.max()}: "
                    f"give 0 to {len(self.values[0]) - 1}, for {', '.join(self.config.waveforms)}"
                )
            tones[:, 0] = self.values[0][position]
        return tones

    def modulation(self, streams: Int[Tensor, " clip"]) -> Modulation | None:
        """Slow modulation of clips, given their random streams."""
        config = self.config
        if not self.tracks:
            return None
        return drawn(streams, config.glide_semitones, config.tremolo_db, config.modulation_hz)

    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        factors = self.locate(index)
        signal = self.generate(factors, index, device)
        tracks = self.tracked(factors, index).to(device) if self.tracks else None
        return Batch(index=index.to(device), signal=signal, factors=factors.float().to(device), tracks=tracks)

    def tracked(
        self, factors: Float[Tensor, "clip factor"], index: Int[Tensor, " clip"]
    ) -> Float[Tensor, "clip frame track"]:
        """Pitch and level of the tone at the middle of each frame, without vibrato, attack and decay."""
        slow = self.modulation(noise.stream(self.seed, index.cpu()))
        assert slow is not None, "the tones are not modulated"
        tones, count = self.completed(factors), int(self.frames_of(torch.tensor([len(self.time)])))
        time = (torch.arange(count, dtype=torch.float64) + 0.5) / self.track_rate
        found = {
            "pitch": midi(tones[:, 1, None]) + slow.semitones(time),
            "level": full_scale(tones[:, 2, None]) + slow.decibels(time),
        }
        return torch.stack([found[track.name] for track in self.tracks], 2).float()

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        return self.locate(index).float()


def save_npz(world: Tones, path: Path, progress: Progress) -> None:
    """Write SynTone's file format."""
    from sonarium.worlds.tones.syntone import save_syntone

    save_syntone(world, path, progress)


def made(config: TonesConfig, seed: int, progress: Progress) -> Tones:
    return Tones(config, seed)


TONES = WorldEntry(
    "tones on a grid of waveform, frequency, amplitude and more",
    "wave",
    TonesConfig,
    made,
    formats={".npz": save_npz},
)
SYNTONE = WorldEntry(
    "tones on SynTone's grid, with its waveforms", "wave", SyntoneConfig, made, formats={".npz": save_npz}
)
