"""Spectrograms as input features: magnitudes, mel bands, decibels, and one scale for all bins.

Magnitudes and bands are those of librosa 0.11 (McFee and others, 2015). The scale is estimated on the training
split, one pair of numbers for all bins, so that differences in level are preserved. For the same reason decibels
are relative to the loudest bin that a sine of amplitude 1 can produce, not to the maximum of the clip; or relative
to the frame's level, which then has separate rows. The snippets of BirdsongGAN are log(1 + |STFT|) in
linear-frequency bins, unscaled, of frames that lie within the sound.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Annotated, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.config import Range, check_ranges
from sonarium.features.contract import Axes, FrontEndConfig, FrontEndEntry, PictureFrontEnd
from sonarium.features.inversion import griffin_lim, spread_bands
from sonarium.features.mel import mel_filters
from sonarium.features.statistics import Statistics
from sonarium.features.stft import Stft
from sonarium.features.waveform import sounding
from sonarium.worlds.contract import Signal

CACHED = 2**19
"""Number of samples in frames that each CPU thread processes at once, so that they stay in its cache."""
FILTER_BLOCK = 16
"""Number of adjacent filters per matrix product; adjacent filters are zero almost everywhere, in the same bins."""

BUTTERWORTH_ORDER = 4
"""Order of the band-pass filter."""
QUIETEST_DB = -80.0
"""Level in decibels that represents silence where the level has separate rows."""
DARKEST_DB = -80.0
"""Level in decibels that is drawn darkest."""


@dataclass(frozen=True)
class SpectrogramConfig(FrontEndConfig):
    """Transform, bands and scale of a spectrogram."""

    fft: Annotated[int, Range(2, 2**17)] = 2048
    """FFT size in samples."""
    window_length: Annotated[int | None, Range(2, 2**17)] = None
    """Hann window length in samples; by default `fft`."""
    hop: Annotated[int, Range(1, 2**24)] = 512
    """Hop length in samples."""
    centred: bool = True
    """Centre frames on multiples of the hop length, with zero padding at the ends; without, they lie within the
    sound."""
    band_pass: tuple[float, float] | None = None
    """Cut-off frequencies in Hz of a Butterworth band-pass filter, such as 400 12000; an upper one beyond half the
    sampling rate has no effect."""
    mels: Annotated[int, Range(0, 1024)] = 128
    """Number of mel bands; 0 keeps the linear-frequency bins."""
    spacing: Literal["mel", "linear"] = "mel"
    """Spacing of the bands: equal steps of the mel scale, or of frequency."""
    level_rows: Annotated[int, Range(0, 1024)] = 0
    """Rows below the bands that repeat each frame's level (energy in decibels), to which the bands are then
    relative: level and spectral shape apart. 0 leaves the level in the bands."""
    fmin: Annotated[float, Range(0)] = 0.0
    """Lowest frequency of the bands in Hz."""
    fmax: Annotated[float | None, Range(0, above=True)] = None
    """Highest frequency of the bands in Hz; by default half the sampling rate."""
    power: Annotated[float, Range(0, 8, above=True, example=2)] = 2.0
    """Exponent of the magnitudes: 1 for amplitude, 2 for power."""
    compression: Literal["log", "log1p", "none"] = "log"
    """Amplitude scale: log (decibels re a sine of amplitude 1), log1p (log(1 + x), as in BirdsongGAN) or none
    (linear)."""
    floor_db: Annotated[float, Range(-1000, 0, below=True, example=-80)] = -80.0
    """Floor in decibels: quieter bins are raised to it."""
    scaling: Literal["standard", "unit", "frame", "none"] = "standard"
    """Scaling of the features: standard (mean 0 and standard deviation 1 over the training split), unit (range 0
    to 1), frame (each frame divided by its largest bin, as in SynTone; loses the amplitude), or none."""

    def __post_init__(self) -> None:
        check_ranges(self)
        window = self.fft if self.window_length is None else self.window_length
        demands = [
            ("window_length", window <= self.fft, f"from 2 to fft={self.fft} samples"),
            ("mels", self.mels <= self.fft, f"0 for linear-frequency bins, or up to fft={self.fft} bands"),
            ("level_rows", self.level_rows <= self.fft, f"from 0 to fft={self.fft} rows"),
            (
                "band_pass",
                self.band_pass is None or 0 <= self.band_pass[0] < self.band_pass[1] < math.inf,
                "a lower and an upper frequency of 0 or more",
            ),
        ]
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name}={getattr(self, name)!r}: give {expected}")
        if self.scaling == "frame" and self.compression != "none":
            raise ValueError(
                "scaling 'frame' divides by the loudest bin, which means nothing for logarithms: "
                "use it with compression 'none', or choose scaling 'standard'"
            )
        if self.level_rows and self.compression != "log":
            raise ValueError(
                f"level_rows is {self.level_rows}, but a level in decibels needs bands in decibels: "
                "use compression 'log', or level_rows 0"
            )

    def build(self, signal: Signal) -> "Spectrogram":
        if signal.kind != "wave" or signal.rate is None:
            raise ValueError(
                f"the spectrogram front end takes waves, but these signals are of the kind {signal.kind}: choose "
                "a front end of pixels for pictures"
            )
        return Spectrogram(self, signal.rate)


class Spectrogram(PictureFrontEnd):
    """Front end of sounds: spectrograms with one channel, and their inversion to sound."""

    filters: Tensor | None
    response: Tensor | None
    fitted: Tensor
    offset: Tensor
    spread: Tensor

    def __init__(self, config: SpectrogramConfig, rate: int):
        super().__init__()
        self.config, self.rate, self.level_rows = config, rate, config.level_rows
        window = config.fft if config.window_length is None else config.window_length
        self.support = window
        """Window length in samples."""
        self.window_length = window if config.centred else config.fft
        self.stft = Stft(config.fft, window, config.hop, config.centred)
        response = None if config.band_pass is None else band_response(config.fft, config.band_pass, rate)
        self.register_buffer("response", response, persistent=False)
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

    def forward(self, signal: Float[Tensor, "clip time"]) -> Float[Tensor, "clip 1 row frame"]:
        if not torch.compiler.is_exporting() and not self.fitted:
            raise ValueError(
                f"scaling '{self.config.scaling}' needs statistics, but there are none: call fit with "
                "batches of the training split, load a checkpoint, or choose scaling 'none'"
            )
        rows = self.rows(signal)
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
        """Compressed but unscaled features: the bands, then the rows of the level if there are any."""
        measured = self.measured(wave)
        bands = measured[:, :-1].log1p() if self.config.compression == "log1p" else self.decibels(measured[:, :-1])
        if not self.config.level_rows:
            return bands
        energy = measured[:, -1:] / self.full_energy
        level = 10 * energy.clamp(min=10 ** (QUIETEST_DB / 10)).log10()
        shape = (bands - level).clamp(min=self.config.floor_db)
        return torch.cat([shape, level.expand(-1, self.config.level_rows, -1)], dim=1)

    def scale_of_rows(
        self, rows: Float[Tensor, "clip row frame"]
    ) -> tuple[Float[Tensor, "row 1"], Float[Tensor, "row 1"]]:
        """Offset and divisor of each row: one pair for bands, one for levels."""
        kind = torch.zeros(rows.shape[1], dtype=torch.long, device=rows.device)
        kind[self.bands :] = 1
        return self.offset.to(rows)[kind, None], self.spread.to(rows)[kind, None]

    def magnitudes(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip band frame"]:
        """|STFT| raised to `power`, in bins or bands, before compression and scaling."""
        return self.measured(wave)[:, :-1]

    def measured(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip band_and_energy frame"]:
        """Magnitudes, and in the last row each frame's energy over all bins (valid if there are level rows)."""
        self.check(wave)
        with torch.autocast(wave.device.type, enabled=False):
            sound = wave.to(self.stft.window.dtype)
            if wave.device.type != "cpu" or torch.compiler.is_exporting():
                return self.spectra(sound)
            framed = self.stft.frames(wave.shape[1]) * self.config.fft
            parts = sound.split(max(1, CACHED * torch.get_num_threads() // framed))
            return torch.cat([self.spectra(part) for part in parts])

    def spectra(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip band_and_energy frame"]:
        """The same for one batch of clips."""
        spectrum = self.stft(wave)
        if self.response is not None:
            spectrum = spectrum * self.response
        power = torch.addcmul(spectrum.real * spectrum.real, spectrum.imag, spectrum.imag)
        raised = power if self.config.power == 2 else spectrum.abs() ** self.config.power
        parts = [raised]
        if self.filters is not None:
            parts = [raised[..., bins] @ self.filters[bands, bins].T for bands, bins in self.blocks]
        # The sum costs time, so it is taken only where the level is used.
        energy = power.sum(-1, keepdim=True) if self.config.level_rows else power[..., :1]
        return rearrange(torch.cat([*parts, energy], -1), "clip frame band -> clip band frame")

    def decibels(self, magnitudes: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Decibels relative to full scale, no lower than the floor; without compression, unchanged."""
        if self.config.compression == "none":
            return magnitudes
        decade = 20 / self.config.power
        quietest = 10 ** (self.lowest_db / decade)
        return decade * (magnitudes / self.full_scale).clamp(min=quietest).log10()

    def check(self, wave: Tensor) -> None:
        """Raise ValueError for input whose features would be meaningless."""
        if wave.ndim != 2 or not wave.is_floating_point():
            raise ValueError(
                f"got waves of shape {tuple(wave.shape)} and type {wave.dtype}, expected floating-point (clip, "
                "time): give a batch of one-channel sounds, wave[None] for a single one"
            )
        if wave.shape[0] == 0:
            raise ValueError("got a batch of no clips: give at least one clip")
        self.shape(wave.shape[1])
        # A sum is the cheapest test; samples are tested singly only if it fails. Exported programs cannot test.
        if not torch.compiler.is_exporting() and not wave.sum().isfinite() and not wave.isfinite().all():
            bad = (~wave.isfinite().all(1)).nonzero().flatten().tolist()
            raise ValueError(
                f"{len(bad)} clip(s) of the batch hold NaN or infinite samples, the first at position {bad[0]}: "
                "leave these recordings out or fix them"
            )

    def fit(
        self,
        signals: Iterable[Float[Tensor, "_clip _time"]],
        lengths: Iterable[Int[Tensor, " _clip"] | None] = repeat(None),
    ) -> None:
        """Estimate the scale from frames of the training split, padding excluded, a batch at a time."""
        if self.config.scaling in ("frame", "none"):
            return
        bands, levels = Statistics(), Statistics()
        for wave, own in zip(signals, lengths, strict=False):
            rows = rearrange(self.rows(wave).detach(), "clip row frame -> row clip frame")
            sound = rows if own is None else rows[:, sounding(rows.shape[2], self.frames(own))]
            bands.add(sound[: self.bands])
            levels.add(sound[self.bands :])
        if not bands.count or bands.low == bands.high:
            found = f"{bands.count} bins from {bands.low} to {bands.high}"
            raise ValueError(f"the training split gave {found}: give at least one batch of sounds, not all silent")
        for kind, statistics in enumerate((bands, levels) if levels.count else (bands,)):
            self.offset[kind], self.spread[kind] = statistics.scale(self.config.scaling)
        self.fitted.fill_(True)

    def shape(self, samples: int) -> tuple[int, int, int]:
        """Channels, rows and frames of the features of a clip of N samples."""
        if samples < self.window_length:
            raise ValueError(
                f"clips of {samples} samples are shorter than the window of {self.window_length}: "
                "use longer clips or a smaller fft"
            )
        return 1, self.bands + self.level_rows, self.stft.frames(samples)

    def frames(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        # A clip shorter than the window is padded with silence to one frame.
        counts = self.stft.frames(lengths)
        return counts if self.config.centred else counts.clamp(min=1) * (lengths > 0)

    @property
    def axes(self) -> Axes:
        hertz = np.arange(self.config.fft // 2 + 1) * self.rate / self.config.fft
        if self.filters is not None:
            weights = self.filters.cpu().double().numpy()
            hertz = weights @ hertz / weights.sum(1)
        unit = "dB below the frame's loudest bin" if self.config.scaling == "frame" else "dB re full scale"
        return Axes(DARKEST_DB, 0.0, unit, hertz)

    def drawn(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[np.ndarray, "clip drawn_row column"]:
        """Decibels, for any scaling of the features; the rows of the level are not drawn."""
        loudest = 1.0 if self.config.scaling == "frame" else self.full_scale
        decade = 20 / self.config.power
        magnitudes = self.unscale(features)
        if self.config.level_rows:
            magnitudes = magnitudes - self.floor(features)
        magnitudes = magnitudes / loudest
        return (decade * magnitudes.clamp(min=10 ** (DARKEST_DB / decade)).log10()).float().cpu().numpy()

    def unscale(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[Tensor, "clip band frame"]:
        """Magnitudes of these features, with bins below the floor raised to it.

        With scaling `frame` the level of each frame is lost: its largest bin becomes 1.
        """
        rows = self.unscaled_rows(features)
        bands = rows[:, : self.bands]
        if self.config.compression != "log":
            magnitudes = bands.clamp(min=0)
            return magnitudes.expm1() if self.config.compression == "log1p" else magnitudes
        return self.raised(bands.clamp(min=self.config.floor_db) + self.level(rows))

    def floor(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[Tensor, "clip 1 frame"]:
        """Magnitude to which quieter bins of each frame were raised; it represents silence."""
        return self.raised(self.config.floor_db + self.level(self.unscaled_rows(features)))

    def raised(self, decibels: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        return self.full_scale * 10 ** (decibels * self.config.power / 20)

    def level(self, rows: Float[Tensor, "clip row frame"]) -> Float[Tensor, "clip 1 frame"]:
        """Reference of the bands in decibels: each frame's level if it has separate rows, else 0 (full
        scale)."""
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
        """Phase in radians, for an exact inversion."""
        self.check(wave)
        return rearrange(self.stft(wave.to(self.stft.window.dtype)).angle(), "clip frame bin -> clip bin frame")

    @property
    def invertible(self) -> bool:
        return 2 * self.config.hop <= self.support

    @torch.no_grad()
    def invert(
        self,
        features: Float[Tensor, "clip 1 row frame"],
        length: int,
        iterations: int = 32,
        generator: torch.Generator | None = None,
        phase: Float[Tensor, "clip bin frame"] | None = None,
    ) -> Float[Tensor, "clip time"]:
        """Waveforms of `length` samples with these features; the phase by the Griffin-Lim algorithm unless given.

        Without a generator the initial random phase is the same each time. After scaling `frame` the level of
        each frame is lost, and all frames are about equally loud.
        """
        if features.shape[1:] != self.shape(length):
            raise ValueError(
                f"features of shape {tuple(features.shape[1:])} do not belong to clips of {length} samples, which "
                f"have {self.shape(length)}: give the length of the clips that they came from"
            )
        if not self.invertible:
            raise ValueError(
                f"a hop of {self.config.hop} leaves samples that the window of {self.support} barely "
                "covers: inversion needs a hop of at most half the window, and a quarter is better"
            )
        if not features.isfinite().all():
            raise ValueError("the features hold NaN or infinite values: check the model that made them")
        with torch.autocast(features.device.type, enabled=False):
            magnitudes = self.bins(features.to(self.stft.window.dtype)) ** (1 / self.config.power)
            if phase is None:
                return griffin_lim(magnitudes, self.stft, length, iterations, generator)
            return self.stft.inverse(torch.polar(magnitudes, phase.mT.to(magnitudes)), length)

    def bins(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[Tensor, "clip frame bin"]:
        """Magnitudes raised to `power` in every bin of the Fourier transform."""
        bands = self.unscale(features)
        if self.config.compression == "log":
            # The floor represents silence and must not become hiss.
            bands = bands - self.floor(features)
        frames = rearrange(bands.clamp(min=0), "clip band frame -> clip frame band")
        return frames if self.filters is None else spread_bands(frames, self.filters)


def filter_bank(config: SpectrogramConfig, rate: int) -> Float[Tensor, "band bin"]:
    """Filter bank of this configuration; raises ValueError if a band would be empty."""
    fmin, fmax = config.fmin, rate / 2 if config.fmax is None else config.fmax
    if not 0 <= fmin < fmax <= rate / 2:
        raise ValueError(
            f"bands from {fmin} to {fmax} Hz do not fit sound at {rate} Hz: give a lowest frequency "
            f"below the highest, and a highest of at most {rate / 2} Hz"
        )
    scale = "slaney" if config.spacing == "mel" else "linear"
    weights = mel_filters(rate, config.fft, config.mels, fmin, fmax, scale)
    empty = int((weights.max(1) == 0).sum())
    if empty:
        fewer = (mel_filters(rate, config.fft, n, fmin, fmax, scale) for n in range(config.mels - 1, 0, -1))
        most = next((len(w) for w in fewer if (w.max(1) > 0).all()), 0)
        raise ValueError(
            f"{empty} of {config.mels} mel bands are so narrow that no bin of fft={config.fft} falls into them: "
            f"use at most {most} bands, or a larger fft"
        )
    return torch.from_numpy(weights).to(torch.get_default_dtype())


def band_response(fft: int, band_pass: tuple[float, float], rate: int) -> Float[Tensor, " bin"]:
    """Magnitude response of a Butterworth filter run forwards and backwards, at the frequency of each bin."""
    low, high = band_pass
    if low >= rate / 2:
        raise ValueError(
            f"band_pass={band_pass} lets nothing of sound at {rate} Hz pass: give a lower "
            f"frequency below {rate / 2} Hz"
        )
    hertz = torch.arange(fft // 2 + 1, dtype=torch.float64) * rate / fft
    steepness = 2 * BUTTERWORTH_ORDER
    passed = 1 / (1 + (hertz / high) ** steepness) if high < rate / 2 else torch.ones_like(hertz)
    if low:
        above = (hertz / low) ** steepness
        passed = passed * above / (1 + above)
    return passed.to(torch.get_default_dtype())


def filter_blocks(filters: Float[Tensor, "band bin"]) -> list[tuple[slice, slice]]:
    """Groups of neighbouring bands with the range of bins outside which all their weights are zero."""
    blocks = []
    for first in range(0, len(filters), FILTER_BLOCK):
        bands = slice(first, min(first + FILTER_BLOCK, len(filters)))
        covered = filters[bands].sum(0).nonzero()
        blocks.append((bands, slice(int(covered.min()), int(covered.max()) + 1)))
    return blocks


SNIPPETS = SpectrogramConfig(
    fft=256, hop=64, mels=0, power=1.0, compression="log1p", scaling="none", centred=False
)
"""Input of BirdsongGAN: unscaled log(1 + magnitude) of 129 bins."""
SNIPPET_SECONDS = 0.076
"""Duration in seconds of a piece of 16 such frames at 16 kHz."""
SPECTROGRAM = FrontEndEntry("magnitudes in mel bands or linear-frequency bins, in decibels", SpectrogramConfig)
