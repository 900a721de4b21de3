"""Spectrograms as a learner sees them: magnitudes, mel bands, decibels, and one scale for all cells.

Magnitudes and bands are those of librosa 0.11 (McFee and others, 2015). The scale comes from statistics of
the training split, one pair of numbers for all cells, so that loud and soft stay different. Decibels are
relative to the loudest cell that a sine of amplitude 1 can make, not to the clip's own, for the same reason;
or relative to the frame's level, which then has rows of its own.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonarium.features.inversion import griffin_lim, spread_bands
from sonarium.features.mel import mel_filters
from sonarium.features.statistics import Statistics
from sonarium.features.stft import Stft
from sonarium.features.waveform import sounding

CACHED = 2**19
"""Samples in frames that each thread of a CPU works on at once, so that they stay in its cache."""
FILTER_BLOCK = 16
"""Neighbouring filters multiplied together; a filter is zero almost everywhere, its neighbours alike."""

QUIETEST_DB = -80.0
"""Decibels at which silence lies where the level is kept apart."""


@dataclass(frozen=True)
class SpectrogramConfig:
    """What of a sound is kept, and how it is scaled."""

    fft: int = 2048
    """Points of each Fourier transform."""
    window_length: int | None = None
    """Samples under the Hann window; as many as `fft` unless given."""
    hop: int = 512
    """Samples from one frame to the next."""
    mels: int = 128
    """Mel bands; 0 keeps the bins of the Fourier transform."""
    spacing: Literal["mel", "linear"] = "mel"
    """Whether the bands lie at equal steps of the mel scale or of frequency itself."""
    level_rows: int = 0
    """Rows below the bands that repeat each frame's level (its energy in decibels), and the bands are then
    relative to it: level and colour apart. 0 leaves the level in the bands."""
    lowest_band: float = 0.0
    """Hertz where the lowest mel band begins."""
    highest_band: float | None = None
    """Hertz where the highest mel band ends; half the sampling rate unless given."""
    power: float = 2.0
    """Exponent of the magnitudes: 1 for amplitude, 2 for power."""
    compression: Literal["log", "none"] = "log"
    """`log` gives decibels below the loudest cell of a sine of amplitude 1; `none` leaves the magnitudes."""
    floor_db: float = -80.0
    """Decibels at which silence is taken to lie; quieter cells are raised to it."""
    scaling: Literal["standard", "unit", "frame", "none"] = "standard"
    """`standard` gives the cells of the training split mean 0 and deviation 1, `unit` the range 0 to 1.
    `frame` divides each frame by its largest cell, as SynTone does: amplitude is lost, so only for parity."""

    def __post_init__(self) -> None:
        window = self.fft if self.window_length is None else self.window_length
        demands = [
            ("fft", 2 <= self.fft <= 2**20, f"from 2 to {2**20} points"),
            ("window_length", 2 <= window <= self.fft, f"from 2 to fft={self.fft} samples"),
            ("hop", self.hop >= 1, "at least 1 sample"),
            ("mels", 0 <= self.mels <= self.fft, f"0 for the bins themselves, or up to fft={self.fft} bands"),
            ("spacing", self.spacing in ("mel", "linear"), "'mel' or 'linear'"),
            ("level_rows", 0 <= self.level_rows <= self.fft, f"from 0 to fft={self.fft} rows"),
            ("power", 0 < self.power < math.inf, "a positive number, such as 1 or 2"),
            ("floor_db", -math.inf < self.floor_db < 0, "a negative number of decibels, such as -80"),
            ("compression", self.compression in ("log", "none"), "'log' or 'none'"),
            ("scaling", self.scaling in ("standard", "unit", "frame", "none"), "standard, unit, frame or none"),
        ]
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name} is {getattr(self, name)!r}: give {expected}")
        if self.scaling == "frame" and self.compression == "log":
            raise ValueError(
                "scaling 'frame' divides by the loudest cell, which means nothing for decibels: "
                "use it with compression 'none', or choose scaling 'standard'"
            )
        if self.level_rows and self.compression == "none":
            raise ValueError(
                f"level_rows is {self.level_rows}, but a level in decibels needs bands in decibels: "
                "use compression 'log', or level_rows 0"
            )


class Spectrogram(nn.Module):
    """The front end of sounds: spectrograms with one channel, and the way back to sound."""

    filters: Tensor | None
    fitted: Tensor
    offset: Tensor
    spread: Tensor

    def __init__(self, config: SpectrogramConfig, rate: int):
        super().__init__()
        self.config, self.rate = config, rate
        self.window_length = config.fft if config.window_length is None else config.window_length
        self.stft = Stft(config.fft, self.window_length, config.hop)
        filters = filter_bank(config, rate) if config.mels else None
        self.register_buffer("filters", filters, persistent=False)
        self.blocks = filter_blocks(filters) if filters is not None else []
        loudest = float(filters.max()) if filters is not None else 1.0
        self.full_scale = (float(self.stft.window.double().sum()) / 2) ** config.power * loudest
        self.register_buffer("fitted", torch.tensor(config.scaling in ("frame", "none")))
        self.full_energy = float(self.stft.window.double().square().sum()) * config.fft / 4
        self.bands = config.mels or config.fft // 2 + 1
        self.lowest_db = config.floor_db + (QUIETEST_DB if config.level_rows else 0)
        # One number for the bands, one for the levels.
        self.register_buffer("offset", torch.zeros(2))
        self.register_buffer("spread", torch.ones(2))

    def forward(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip 1 row frame"]:
        if not torch.compiler.is_exporting() and not self.fitted:
            raise ValueError(
                f"scaling '{self.config.scaling}' needs statistics that were never taken: call fit with "
                "batches of the training split, load a checkpoint, or choose scaling 'none'"
            )
        rows = self.rows(wave)
        if self.config.scaling == "frame":
            largest = rows.abs().amax(1, keepdim=True)
            scaled = rows / largest.where(largest >= torch.finfo(rows.dtype).tiny, 1)
        elif self.config.scaling == "none":
            scaled = rows
        else:
            offset, spread = self.scale_of_rows(rows)
            scaled = (rows - offset) / spread
        return rearrange(scaled, "clip row frame -> clip 1 row frame")

    def rows(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip row frame"]:
        """Compressed but not scaled: the bands, and the rows of the level if it is kept apart."""
        measured = self.measured(wave)
        cells = self.decibels(measured[:, :-1])
        if not self.config.level_rows:
            return cells
        energy = measured[:, -1:] / self.full_energy
        level = 10 * energy.clamp(min=10 ** (QUIETEST_DB / 10)).log10()
        colour = (cells - level).clamp(min=self.config.floor_db)
        return torch.cat([colour, level.expand(-1, self.config.level_rows, -1)], dim=1)

    def scale_of_rows(
        self, rows: Float[Tensor, "clip row frame"]
    ) -> tuple[Float[Tensor, "row 1"], Float[Tensor, "row 1"]]:
        """What is subtracted from each row and what it is divided by: one pair for bands, one for levels."""
        kind = torch.zeros(rows.shape[1], dtype=torch.long, device=rows.device)
        kind[self.bands :] = 1
        return self.offset.to(rows)[kind, None], self.spread.to(rows)[kind, None]

    def magnitudes(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip band frame"]:
        """The cells before compression and scaling: |STFT| to the given power, in bins or bands."""
        return self.measured(wave)[:, :-1]

    def measured(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip band_and_energy frame"]:
        """The magnitudes, and below them each frame's energy over all bins."""
        self.check(wave)
        with torch.autocast(wave.device.type, enabled=False):
            sound = wave.to(self.stft.window.dtype)
            if wave.device.type != "cpu" or torch.compiler.is_exporting():
                return self.cells(sound)
            framed = self.stft.frames(wave.shape[1]) * self.config.fft
            parts = sound.split(max(1, CACHED * torch.get_num_threads() // framed))
            return torch.cat([self.cells(part) for part in parts])

    def cells(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip band_and_energy frame"]:
        """The same of a batch that is worked on at once."""
        spectrum = self.stft(wave)
        power = torch.addcmul(spectrum.real * spectrum.real, spectrum.imag, spectrum.imag)
        raised = power if self.config.power == 2 else spectrum.abs() ** self.config.power
        parts = [raised]
        if self.filters is not None:
            parts = [raised[..., bins] @ self.filters[bands, bins].T for bands, bins in self.blocks]
        # Only where the level is wanted is the energy worth its sum.
        energy = power.sum(-1, keepdim=True) if self.config.level_rows else power[..., :1]
        return rearrange(torch.cat([*parts, energy], -1), "clip frame band -> clip band frame")

    def decibels(self, cells: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Decibels relative to full scale, no lower than the floor; or the cells as they are."""
        if self.config.compression == "none":
            return cells
        decade = 20 / self.config.power
        quietest = 10 ** (self.lowest_db / decade)
        return decade * (cells / self.full_scale).clamp(min=quietest).log10()

    def check(self, wave: Tensor) -> None:
        """Refuse what would give features without meaning."""
        if wave.ndim != 2 or not wave.is_floating_point():
            raise ValueError(
                f"waves of shape {tuple(wave.shape)} and type {wave.dtype} came where floating-point (clip, time) "
                "was expected: give a batch of one-channel sounds, wave[None] for a single one"
            )
        if wave.shape[0] == 0:
            raise ValueError("a batch of no clips came: give at least one clip")
        self.shape(wave.shape[1])
        # One sum is the cheapest pass; only if it fails are samples looked at singly. Exported programs cannot.
        if not torch.compiler.is_exporting() and not wave.sum().isfinite() and not wave.isfinite().all():
            bad = (~wave.isfinite().all(1)).nonzero().flatten().tolist()
            raise ValueError(
                f"{len(bad)} clip(s) of the batch hold NaN or infinite samples, the first at position {bad[0]}: "
                "leave these recordings out or mend them"
            )

    def fit(
        self,
        waves: Iterable[Float[Tensor, "_clip _time"]],
        lengths: Iterable[Int[Tensor, " _clip"] | None] = repeat(None),
    ) -> None:
        """Take the scale from the frames that clips of the training split have alone; one batch is in memory."""
        if self.config.scaling in ("frame", "none"):
            return
        bands, levels = Statistics(), Statistics()
        for wave, own in zip(waves, lengths, strict=False):
            rows = rearrange(self.rows(wave).detach(), "clip row frame -> row clip frame")
            heard = rows if own is None else rows[:, sounding(rows.shape[2], self.stft.frames(own))]
            bands.add(heard[: self.bands])
            levels.add(heard[self.bands :])
        if not bands.count or bands.low == bands.high:
            found = f"{bands.count} cells from {bands.low} to {bands.high}"
            raise ValueError(f"the training split gave {found}: give at least one batch of sounds, not all silent")
        for kind, statistics in enumerate((bands, levels) if levels.count else (bands,)):
            self.offset[kind], self.spread[kind] = statistics.scale(self.config.scaling)
        self.fitted.fill_(True)

    def shape(self, samples: int) -> tuple[int, int, int]:
        """Channels, bands and frames of the features of a clip of so many samples."""
        if samples < self.window_length:
            raise ValueError(
                f"clips of {samples} samples are shorter than the window of {self.window_length}: "
                "use longer clips or a smaller fft"
            )
        return 1, self.bands + self.config.level_rows, self.stft.frames(samples)

    def unscale(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[Tensor, "clip band frame"]:
        """The magnitudes that gave these features, but for cells under the floor, which are raised to it.

        Under scaling `frame` the level of each frame is lost: its largest cell comes back as 1.
        """
        rows = self.unscaled_rows(features)
        cells = rows[:, : self.bands]
        if self.config.compression == "none":
            return cells.clamp(min=0)
        return self.raised(cells.clamp(min=self.config.floor_db) + self.level(rows))

    def floor(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[Tensor, "clip 1 frame"]:
        """The magnitude to which each frame's quieter cells were raised: taken for silence, not heard."""
        return self.raised(self.config.floor_db + self.level(self.unscaled_rows(features)))

    def raised(self, decibels: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        return self.full_scale * 10 ** (decibels * self.config.power / 20)

    def level(self, rows: Float[Tensor, "clip row frame"]) -> Float[Tensor, "clip 1 frame"]:
        """Decibels to which the bands are relative: each frame's own, if it is kept apart, or full scale."""
        if not self.config.level_rows:
            return torch.zeros_like(rows[:, :1])
        return rows[:, self.bands :].mean(1, keepdim=True).clamp(min=QUIETEST_DB)

    def unscaled_rows(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[Tensor, "clip row frame"]:
        rows = rearrange(features, "clip 1 row frame -> clip row frame")
        if self.config.scaling in ("standard", "unit"):
            offset, spread = self.scale_of_rows(rows)
            rows = rows * spread + offset
        return rows

    def phase(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip bin frame"]:
        """The angles in radians that magnitudes leave out; keep them for an exact inversion."""
        self.check(wave)
        return rearrange(self.stft(wave.to(self.stft.window.dtype)).angle(), "clip frame bin -> clip bin frame")

    @torch.no_grad()
    def invert(
        self,
        features: Float[Tensor, "clip 1 row frame"],
        length: int,
        iterations: int = 32,
        generator: torch.Generator | None = None,
        phase: Float[Tensor, "clip bin frame"] | None = None,
    ) -> Float[Tensor, "clip time"]:
        """Sounds of `length` samples with these features; phase by Griffin and Lim's way unless it was kept.

        Without a generator the phase begins from the same random numbers each time. After scaling `frame`
        the level of each frame is lost, and every frame comes back about equally loud.
        """
        if features.shape[1:] != self.shape(length):
            raise ValueError(
                f"features of shape {tuple(features.shape[1:])} do not belong to clips of {length} samples, which "
                f"have {self.shape(length)}: give the length of the clips that they came from"
            )
        if 2 * self.config.hop > self.window_length:
            raise ValueError(
                f"a hop of {self.config.hop} leaves samples that the window of {self.window_length} barely sees: "
                "sound can be recovered with a hop of at most half the window, and a quarter is better"
            )
        if not features.isfinite().all():
            raise ValueError("the features hold NaN or infinite cells: check the model that made them")
        with torch.autocast(features.device.type, enabled=False):
            magnitudes = self.bins(features.to(self.stft.window.dtype)) ** (1 / self.config.power)
            if phase is None:
                return griffin_lim(magnitudes, self.stft, length, iterations, generator)
            return self.stft.inverse(torch.polar(magnitudes, phase.mT.to(magnitudes)), length)

    def bins(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[Tensor, "clip frame bin"]:
        """Magnitudes, raised to the power, of every bin of the Fourier transform."""
        cells = self.unscale(features)
        if self.config.compression == "log":
            # Silence lies at the floor, so the floor itself must not be heard as hiss.
            cells = cells - self.floor(features)
        frames = rearrange(cells.clamp(min=0), "clip band frame -> clip frame band")
        return frames if self.filters is None else spread_bands(frames, self.filters)


def filter_bank(config: SpectrogramConfig, rate: int) -> Float[Tensor, "band bin"]:
    """The mel filters of this configuration, refused where a band would hear nothing."""
    highest = rate / 2 if config.highest_band is None else config.highest_band
    if not 0 <= config.lowest_band < highest <= rate / 2:
        raise ValueError(
            f"bands from {config.lowest_band} to {highest} Hz do not fit sound at {rate} samples a second: "
            f"give lowest_band below highest_band, and highest_band at most {rate / 2} Hz"
        )
    scale = "slaney" if config.spacing == "mel" else "linear"
    weights = mel_filters(rate, config.fft, config.mels, config.lowest_band, highest, scale)
    deaf = int((weights.max(1) == 0).sum())
    if deaf:
        fewer = (
            mel_filters(rate, config.fft, n, config.lowest_band, highest, scale)
            for n in range(config.mels - 1, 0, -1)
        )
        most = next((len(w) for w in fewer if (w.max(1) > 0).all()), 0)
        raise ValueError(
            f"{deaf} of {config.mels} mel bands are so narrow that no bin of a transform of {config.fft} points "
            f"falls into them: use mels of at most {most}, or a larger fft"
        )
    return torch.from_numpy(weights).to(torch.get_default_dtype())


def filter_blocks(filters: Float[Tensor, "band bin"]) -> list[tuple[slice, slice]]:
    """Groups of neighbouring bands with the range of bins that they hear: what is outside is zero."""
    blocks = []
    for first in range(0, len(filters), FILTER_BLOCK):
        bands = slice(first, min(first + FILTER_BLOCK, len(filters)))
        heard = filters[bands].sum(0).nonzero()
        blocks.append((bands, slice(int(heard.min()), int(heard.max()) + 1)))
    return blocks
