"""Tones with planted factors: waveform, frequency and amplitude, and on request seven more.

The order of the clips is that of SynTone (Brima et al., 2024, arXiv 2402.10547), whose grid and waves are the
world `syntone`. The default grid is lower and logarithmic: between 220 and 1760 Hz each waveform has partials of
its own below half the rate, while above 4 kHz the four are one sine with four gains. No grid is stored: the index
of a clip is a number in mixed radix whose digits choose the value of each factor, and the samples follow.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.worlds import counter as noise
from sonarium.worlds.contract import Batch, Factor, Progress, Signal, World, WorldEntry
from sonarium.worlds.tones.oscillator import COLUMNS, WAVEFORMS, render

MOST_TURNS = 2**25
"""Up to this many periods in a clip the phase is reduced exactly."""


@dataclass(frozen=True)
class TonesConfig:
    """Grid of tones. A factor with one value is fixed, at the value of a plain tone."""

    rate: int = 16000
    """Sampling rate in Hz."""
    seconds: float = 1.0
    """Duration of a clip in seconds."""
    waveforms: tuple[str, ...] = WAVEFORMS
    """Waveforms: sine, triangle, sawtooth, square; a category is the position in this list."""
    lowest: float = 220.0
    """Lowest frequency in Hz."""
    highest: float = 1760.0
    """Highest frequency in Hz; band-limited waves at or above half the rate are silent."""
    frequencies: int = 145
    """Number of frequencies from lowest to highest; by default a quarter of a semitone apart."""
    frequency_spacing: Literal["log", "linear"] = "log"
    """Spacing of the frequencies: equal ratios (log), or equal steps in Hz (linear)."""
    quietest: float = 0.1
    """Lowest amplitude; 1 is full scale."""
    loudest: float = 1.0
    """Highest amplitude."""
    amplitudes: int = 20
    """Number of amplitudes, evenly spaced from quietest to loudest."""
    phases: int = 1
    """Number of initial phases, evenly spaced over one period; 1 starts every clip at phase 0."""
    attacks: int = 1
    """Number of attack times: multiples of longest_attack / attacks; 1 is no attack."""
    longest_attack: float = 0.2
    """Longest attack in seconds, a raised cosine."""
    decays: int = 1
    """Number of decay times: multiples of longest_decay / decays; 1 is no decay."""
    longest_decay: float = 0.5
    """Longest decay in seconds, a raised cosine that ends with the clip."""
    noises: int = 1
    """Number of levels of white noise, evenly spaced from 0 to loudest_noise; 1 is no noise."""
    loudest_noise: float = 0.1
    """Highest standard deviation of the noise; it does not scale with the amplitude."""
    vibrato_rates: int = 1
    """Number of vibrato rates: multiples of fastest_vibrato / vibrato_rates."""
    fastest_vibrato: float = 8.0
    """Highest vibrato rate in Hz; the only one if vibrato_rates is 1 and depths vary."""
    vibrato_depths: int = 1
    """Number of vibrato depths, likewise up to deepest_vibrato; one depth and one rate are no vibrato."""
    deepest_vibrato: float = 0.03
    """Highest vibrato depth as a fraction of the frequency; the only one if vibrato_depths is 1 and rates vary."""
    second_partials: int = 1
    """Number of levels of an added second partial, evenly spaced from 0 to strongest_second; 1 is none."""
    strongest_second: float = 1.0
    """Highest level of the second partial as a fraction of the amplitude."""
    alias: bool = False
    """Sample the ideal waves as SciPy does, with aliasing; by default waves are band-limited."""
    syntone_time: bool = False
    """SynTone's time grid, whose last sample falls on the end of the clip."""

    def __post_init__(self) -> None:
        unknown = [waveform for waveform in self.waveforms if waveform not in WAVEFORMS]
        if unknown or not self.waveforms or len(set(self.waveforms)) < len(self.waveforms):
            raise ValueError(f"waveforms={self.waveforms}: give one or more of {', '.join(WAVEFORMS)}, each once")
        counts = ("frequencies", "amplitudes", "phases", "attacks", "decays", "noises")
        for field in (*counts, "vibrato_rates", "vibrato_depths", "second_partials", "rate"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)}: give a whole number of at least 1")
        self.check_ranges()

    def check_ranges(self) -> None:
        """Refuse numbers that are not finite, or of which no tone can be made."""
        positive = ("seconds", "lowest", "fastest_vibrato", "longest_attack", "longest_decay")
        for field in (*positive, "quietest", "loudest_noise", "deepest_vibrato", "strongest_second"):
            value = getattr(self, field)
            if not (math.isfinite(value) and (value > 0 if field in positive else value >= 0)):
                raise ValueError(f"{field}={value}: give a finite number above 0")
        for low, high in (("lowest", "highest"), ("quietest", "loudest")):
            if not (math.isfinite(getattr(self, high)) and getattr(self, low) <= getattr(self, high)):
                raise ValueError(
                    f"{low}={getattr(self, low)}, {high}={getattr(self, high)}: "
                    f"give finite numbers with {low} no more than {high}"
                )
        if self.rate * self.seconds < 2:
            raise ValueError(
                f"rate={self.rate} and seconds={self.seconds} give fewer than 2 samples: lengthen the clips"
            )
        if self.highest * self.seconds > MOST_TURNS:
            raise ValueError(
                f"highest={self.highest} Hz over seconds={self.seconds} is more than {MOST_TURNS} periods: "
                "shorten the clips"
            )
        if self.deepest_vibrato >= 1:
            raise ValueError(f"deepest_vibrato={self.deepest_vibrato}: give a fraction of the frequency below 1")


@dataclass(frozen=True)
class SyntoneConfig(TonesConfig):
    """SynTone's grid: the defaults of its generator."""

    lowest: float = 440.0
    """Lowest frequency in Hz."""
    highest: float = 8000.0
    """Highest frequency in Hz."""
    frequencies: int = 400
    """Number of frequencies from lowest to highest."""
    frequency_spacing: Literal["log", "linear"] = "linear"
    """Spacing of the frequencies: equal ratios (log), or equal steps in Hz (linear)."""
    alias: bool = True
    """Sample the ideal waves as SciPy does, with aliasing; without, waves are band-limited."""
    syntone_time: bool = True
    """SynTone's time grid, whose last sample falls on the end of the clip."""


def steps(count: int, largest: float) -> tuple[float, ...]:
    """`count` values in even steps up to `largest`, zero not among them."""
    return tuple((np.arange(1, count + 1) * (largest / count)).tolist())


def rising(count: int, least: float, largest: float) -> tuple[float, ...]:
    """`count` values in even steps between two."""
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


class Tones(World):
    """A grid of tones rendered on demand; only the noise depends on the seed."""

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
        # SynTone's loops, the innermost first: waveform in amplitude in frequency, then the factors that it lacks.
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
        """The position in its list of values of each factor of each clip."""
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
        """The varied factors of these clips in double precision, as `generate` takes them."""
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
        """Clips with any values of the varied factors, on the grid or off it; `index` numbers the noise."""
        factors = factors.cpu().double()
        if factors.shape[1:] != (len(self.factors),) or not bool(torch.isfinite(factors).all()):
            raise ValueError(
                f"factors of shape {tuple(factors.shape)}: give finite numbers, one column for each of "
                f"{', '.join(factor.name for factor in self.factors)}"
            )
        if not len(factors):
            return torch.empty(0, *self.signal.shape, device=device)
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
        clip = torch.arange(len(factors)) if index is None else index.cpu()
        streams = noise.stream(self.seed, clip)
        return render(tones, streams, self.time, self.config.alias, torch.device(device))

    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        factors = self.locate(index)
        signal = self.generate(factors, index, device)
        return Batch(index=index.to(device), signal=signal, factors=factors.float().to(device))

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        return self.locate(index).float()


def save_npz(world: Tones, path: Path, progress: Progress) -> None:
    """SynTone's file format."""
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
    "the same on SynTone's grid, with its waves", "wave", SyntoneConfig, made, formats={".npz": save_npz}
)
