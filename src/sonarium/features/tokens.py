"""Tokens: the input sequence of a world model.

A token of sound is a few frames of a log-mel spectrogram, each band scaled by its mean and standard deviation over
the training split. By default tokens share no samples (a window that would reach beyond its token is padded by
reflection), because shared samples make the next token trivial to recognise. A token of codes is one frame of
them, as numbers or as codebook entries.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Annotated

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.features.contract import Axes, FrontEnd, FrontEndConfig, PictureFrontEnd
from sonarium.features.inversion import griffin_lim
from sonarium.features.spectrogram import CACHED, DARKEST_DB, SpectrogramConfig
from sonarium.features.statistics import Statistics
from sonarium.features.waveform import sounding
from sonarium.worlds.contract import Signal

VOICES = 4
"""Number of clips that are summed in the babble."""
FINER = 4
"""FFT points per sample of a window, at least, so that no low band is without a bin."""


@dataclass(frozen=True)
class ViewsConfig:
    """Two independently augmented views of a piece: the input, and the one whose tokens are the targets."""

    views: Annotated[int, Range(1, 2)] = 2
    """Number of views: 2, augmented independently, or 1, both input and target without augmentation."""
    shift_frames: Annotated[int, Range(0, 64)] = 1
    """Maximum time shift in log-mel frames; the target view is never the earlier one."""
    shift_bands: Annotated[int, Range(0, 64)] = 1
    """Maximum frequency shift in mel bands."""
    gain_db: Annotated[float, Range(0, 60)] = 6.0
    """Maximum change of level in decibels."""
    mask_bands: Annotated[int, Range(0, 1024)] = 4
    """Frequency masking: maximum number of adjacent masked bands."""
    mask_tokens: Annotated[float, Range(0, 1, below=True)] = 0.05
    """Fraction of tokens that are masked; with slots, fraction of slots, each masked by itself."""
    babble_db: Annotated[float | None, Range(-60, 60)] = None
    """Signal-to-noise ratio in decibels of added babble, four other clips of the batch, different ones in each
    view; by default none."""
    babble_up_to_db: Annotated[float | None, Range(-60, 60)] = None
    """Largest signal-to-noise ratio of the babble, drawn uniformly from `babble_db` up to this for each view of a
    clip; by default always `babble_db`."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.babble_up_to_db is not None and (self.babble_db is None or self.babble_up_to_db < self.babble_db):
            raise ValueError(
                f"babble_up_to_db={self.babble_up_to_db:g}: give it with a babble_db that is no larger"
            )


@dataclass(frozen=True)
class Draws:
    """Uniform random numbers from 0 to 1 that determine the views of a batch."""

    first: Float[Tensor, "clip number"]
    second: Float[Tensor, "clip number"]
    """Numbers of the target view."""
    masked: Float[Tensor, "clip view token slot"]
    """Numbers that decide on masking; without slots, one per token."""

    NUMBERS = 5

    @property
    def shifts(self) -> Float[Tensor, "clip view"]:
        """Time shifts of both views as fractions of the maximum: the second is at least the first."""
        first, second = self.first[:, 0], self.second[:, 0]
        return torch.stack([first, first + (1 - first) * second], 1)


class Tokens(ABC):
    """Interface of token front ends, in addition to `FrontEnd`."""

    width: int
    """Number of values in a token."""
    token_rate: float
    """Tokens per second."""
    token_first: float
    """Time in seconds from the start of the sound to the centre of the first token."""
    slots: int = 0
    """Number of codebook entries in a discrete token, each of a separate codebook; 0 for continuous tokens."""
    shortest: int = 1
    """Length of a token in samples (of codes: in frames)."""
    unit: str
    """Unit of the output of `levels`."""

    @abstractmethod
    def tokens(self, features: Float[Tensor, "clip *feature"]) -> Float[Tensor, "clip token number"]: ...

    @abstractmethod
    def features_of(self, tokens: Float[Tensor, "clip token number"]) -> Float[Tensor, "clip *feature"]: ...

    @abstractmethod
    def view(
        self,
        features: Float[Tensor, "clip *feature"],
        counts: Int[Tensor, " clip"],
        config: ViewsConfig,
        draws: Draws,
        which: int,
    ) -> Float[Tensor, "clip *feature"]:
        """Input view (`which` is 0) or target view (1); `counts` is the number of tokens of each clip."""

    @abstractmethod
    def levels(self, tokens: Float[Tensor, "*rows number"]) -> Float[Tensor, "*rows number"]:
        """Tokens in the unit in which distances are reported."""

    def counts(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Number of whole tokens in clips of these lengths; tokens that contain padding do not count."""
        return lengths // self.shortest


@dataclass(frozen=True)
class TokensConfig(FrontEndConfig):
    token_seconds: Annotated[float, Range(0, 10, above=True, example=0.032)] = 0.032
    """Duration in seconds of a token of sound."""
    token_frames: Annotated[int, Range(1, 64)] = 4
    """Log-mel frames per token of sound."""
    bands: Annotated[int, Range(1, 512)] = 40
    """Number of mel bands."""
    fmin: Annotated[float, Range(0)] = 50.0
    """Lowest frequency of the bands in Hz."""
    fmax: Annotated[float | None, Range(0, above=True)] = None
    """Highest frequency of the bands in Hz; by default half the sampling rate."""
    floor_db: Annotated[float, Range(-1000, 0, below=True, example=-80)] = -80.0
    """Floor in decibels: quieter bands are raised to it."""
    overlapping: bool = False
    """Let windows overlap into the neighbouring tokens; otherwise each token is padded by reflection."""
    slots: Annotated[int, Range(0, 2**10)] = 0
    """With codes: number of slots, equal parts of a code that are a codebook entry each, as in a VQ-VAE; 0 takes
    codes as continuous."""
    entries: Annotated[int, Range(1, 2**14)] = 64
    """With codes and slots: maximum number of codebook entries."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.slots * self.entries > 2**16:
            raise ValueError(f"entries={self.entries}: give at most {2**16 // self.slots} with slots={self.slots}")

    def build(self, signal: Signal) -> "LogMelTokens | CodeTokens":
        if signal.kind == "codes":
            return CodeTokens(self, signal)
        if signal.kind != "wave" or signal.rate is None:
            raise ValueError(f"tokens are of waves or codes, not of {signal.kind}s: choose a world of sound")
        if self.slots:
            raise ValueError(f"slots={self.slots}: sound has no codebooks; give --codes RUN, or leave it out")
        return LogMelTokens(self, signal.rate)


class LogMelTokens(PictureFrontEnd, Tokens):
    """Log-mel spectrogram whose frames are grouped into tokens."""

    fitted: Tensor
    offset: Tensor
    spread: Tensor
    unit = "dB"

    def __init__(self, config: TokensConfig, rate: int):
        super().__init__()
        self.config, self.rate = config, rate
        self.hop = round(config.token_seconds * rate / config.token_frames)
        if self.hop < 8:
            raise ValueError(
                f"token_seconds={config.token_seconds:g} at {rate} Hz leave {self.hop} "
                "samples a frame: give longer tokens or fewer token_frames"
            )
        self.shortest = self.window_length = self.hop * config.token_frames
        # Windows of two hops overlap by half: enough to resolve a frame, and to invert.
        self.window = min(2 * self.hop, self.shortest)
        self.spectrogram = SpectrogramConfig(
            fft=FINER * 2 ** (self.window - 1).bit_length(),
            window_length=self.window,
            hop=self.hop,
            mels=config.bands,
            fmin=config.fmin,
            fmax=config.fmax,
            floor_db=config.floor_db,
            scaling="none",
        ).build(Signal("wave", (self.shortest,), rate))
        self.width, self.token_rate = config.token_frames * config.bands, rate / self.shortest
        self.token_first = self.shortest / 2 / rate
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("offset", torch.zeros(config.bands))
        self.register_buffer("spread", torch.ones(config.bands))

    def forward(self, signal: Float[Tensor, "clip time"]) -> Float[Tensor, "clip 1 row frame"]:
        if not self.fitted:
            raise ValueError(
                "the scale of each band needs statistics, but there are none: call fit with batches of "
                "the training split, or load a checkpoint"
            )
        return rearrange(
            (self.decibels(signal) - self.offset) / self.spread, "clip frame band -> clip 1 band frame"
        )

    def decibels(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip frame band"]:
        """Levels of the mel bands in decibels re full scale."""
        if wave.shape[1] < self.shortest:
            raise ValueError(
                f"clips of {wave.shape[1]} samples are shorter than a token of {self.shortest}: use "
                "longer clips or smaller token_seconds"
            )
        self.spectrogram.check(wave)
        whole = wave[:, : wave.shape[1] // self.shortest * self.shortest].to(self.offset.dtype)
        size = CACHED * torch.get_num_threads() // (whole.shape[1] // self.hop * self.spectrogram.config.fft)
        with torch.autocast(wave.device.type, enabled=False):
            return torch.cat([self.measured(part) for part in whole.split(max(1, size))])

    def measured(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip frame band"]:
        frames = self.framed(wave) * hann(self.window).to(wave)
        spectrum = torch.fft.rfft(frames, n=self.spectrogram.config.fft)
        power = torch.addcmul(spectrum.real * spectrum.real, spectrum.imag, spectrum.imag)
        filters = self.spectrogram.filters
        assert filters is not None
        bands = [power[..., bins] @ filters[rows, bins].T for rows, bins in self.spectrogram.blocks]
        return self.spectrogram.decibels(torch.cat(bands, -1))

    def framed(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip frame sample"]:
        before = (self.window - self.hop) // 2
        margins = (before, self.window - self.hop - before)
        if self.config.overlapping:
            return functional.pad(wave, margins).unfold(1, self.window, self.hop)
        alone = rearrange(wave, "clip (token time) -> clip token time", time=self.shortest)
        frames = functional.pad(alone, margins, mode="reflect").unfold(2, self.window, self.hop)
        return rearrange(frames, "clip token frame sample -> clip (token frame) sample")

    def fit(
        self,
        signals: Iterable[Float[Tensor, "_clip _time"]],
        lengths: Iterable[Int[Tensor, " _clip"] | None] = repeat(None),
    ) -> None:
        """Estimate mean and standard deviation of each band over the tokens of the training split."""
        each = [Statistics() for _ in range(self.config.bands)]
        for wave, own in zip(signals, lengths, strict=False):
            if wave.shape[1] < self.shortest:
                continue
            frames = self.decibels(wave).detach()
            if own is not None:
                frames = frames[sounding(frames.shape[1], self.frames(own))]
            for statistics, values in zip(each, frames.flatten(0, -2).unbind(-1), strict=True):
                statistics.add(values)
        if not each[0].count or max(one.high for one in each) == min(one.low for one in each):
            raise ValueError(
                f"the training split gave {each[0].count} frames, all silent: give sound of at least one token of "
                f"{self.shortest / self.rate:.3g} s"
            )
        scales = [statistics.scale("standard") for statistics in each]
        self.offset.copy_(torch.tensor([offset for offset, _ in scales]))
        self.spread.copy_(torch.tensor([spread for _, spread in scales]))
        self.fitted.fill_(True)

    def shape(self, samples: int) -> tuple[int, int, int]:
        if samples < self.shortest:
            raise ValueError(
                f"clips of {samples} samples are shorter than a token of {self.shortest}: use longer clips or "
                "smaller token_seconds"
            )
        return 1, self.config.bands, samples // self.shortest * self.config.token_frames

    def frames(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return self.counts(lengths) * self.config.token_frames

    def tokens(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[Tensor, "clip token number"]:
        split = "clip 1 band (token frame) -> clip token (band frame)"
        return rearrange(features, split, frame=self.config.token_frames)

    def features_of(self, tokens: Float[Tensor, "clip token number"]) -> Float[Tensor, "clip 1 row frame"]:
        joined = "clip token (band frame) -> clip 1 band (token frame)"
        return rearrange(tokens, joined, frame=self.config.token_frames)

    def view(
        self,
        features: Float[Tensor, "clip 1 row frame"],
        counts: Int[Tensor, " clip"],
        config: ViewsConfig,
        draws: Draws,
        which: int,
    ) -> Float[Tensor, "clip 1 row frame"]:
        numbers, bands = draws.second if which else draws.first, self.config.bands
        later = whole_number(draws.shifts[:, which], config.shift_frames)
        frame = torch.arange(features.shape[-1], device=features.device)
        last = (counts * self.config.token_frames - 1).clamp(min=0)
        frames = torch.minimum(frame + later[:, None], torch.maximum(last[:, None], frame))
        higher = whole_number(numbers[:, 1], 2 * config.shift_bands) - config.shift_bands
        rows = (torch.arange(bands, device=features.device) + higher[:, None]).clamp(0, bands - 1)
        seen = self.unscaled(features[:, 0])
        seen = seen.gather(2, frames[:, None, :].expand_as(seen)).gather(1, rows[:, :, None].expand_as(seen))
        gain = (2 * numbers[:, 2] - 1) * config.gain_db
        seen = (seen + gain[:, None, None]).clamp(min=self.config.floor_db)
        scaled = (seen - self.offset[:, None]) / self.spread[:, None]
        # Masked values are replaced by the mean of their band, which is 0 after scaling.
        size = whole_number(numbers[:, 3], min(config.mask_bands, bands))
        first = whole_number(numbers[:, 4], bands)
        row = torch.arange(bands, device=features.device)
        masked = (row >= first[:, None]) & (row < (first + size)[:, None])
        hidden = (draws.masked[:, which, :, 0] < config.mask_tokens).repeat_interleave(self.config.token_frames, 1)
        return scaled.masked_fill(masked[:, :, None] | hidden[:, None, :], 0)[:, None]

    def babble(
        self, everyone: Float[Tensor, "clip 1 row frame"], drawn: Float[Tensor, "clip voice two"]
    ) -> Float[Tensor, "clip row frame"]:
        """Sum of the powers of other clips for each clip, circularly shifted; `drawn` is uniform in [0, 1]."""
        clips, frames = len(everyone), everyone.shape[-1]
        power = 10 ** (self.unscaled(everyone[:, 0]) / 10)
        itself = torch.arange(clips, device=power.device)[:, None]
        whose = (itself + 1 + whole_number(drawn[..., 0], clips - 2)) % clips
        since = whole_number(drawn[..., 1], frames - 1)
        at = (torch.arange(frames, device=power.device) + since[..., None]) % frames
        each = power[whose].gather(3, at[:, :, None].expand(-1, -1, power.shape[1], -1))
        return each.sum(1)

    def in_babble(
        self,
        features: Float[Tensor, "clip 1 row frame"],
        babble: Float[Tensor, "clip row frame"],
        snr: Float[Tensor, " clip"],
    ) -> Float[Tensor, "clip 1 row frame"]:
        """Clips mixed with babble at these signal-to-noise ratios in dB; powers of incoherent sounds add up."""
        power = 10 ** (self.unscaled(features[:, 0]) / 10)
        ratio = power.mean((1, 2), keepdim=True) / babble.mean((1, 2), keepdim=True)
        heard = 10 * torch.log10(power + 10 ** (-snr[:, None, None] / 10) * ratio * babble)
        return ((heard - self.offset[:, None]) / self.spread[:, None])[:, None]

    def levels(self, tokens: Float[Tensor, "*rows number"]) -> Float[Tensor, "*rows number"]:
        frames = self.config.token_frames
        spread, offset = (one.repeat_interleave(frames) for one in (self.spread, self.offset))
        return (tokens * spread + offset).clamp(min=self.config.floor_db)

    def unscaled(self, rows: Float[Tensor, "clip row frame"]) -> Float[Tensor, "clip row frame"]:
        return rows * self.spread[:, None] + self.offset[:, None]

    @property
    def axes(self) -> Axes:
        return self.spectrogram.axes

    def drawn(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[np.ndarray, "clip drawn_row column"]:
        return self.unscaled(features[:, 0]).clamp(min=DARKEST_DB).float().cpu().numpy()

    @property
    def invertible(self) -> bool:
        return self.window == 2 * self.hop

    @torch.no_grad()
    def invert(
        self,
        features: Float[Tensor, "clip 1 row frame"],
        length: int,
        iterations: int = 32,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "clip time"]:
        """Waveforms of `length` samples with these features; silent after the last whole token."""
        if features.shape[1:] != self.shape(length):
            raise ValueError(
                f"features of shape {tuple(features.shape[1:])} do not belong to clips of {length} samples, which "
                f"have {self.shape(length)}: give the length of the clips that they came from"
            )
        if not self.invertible:
            raise ValueError(
                "a token of one frame has windows that do not overlap: inversion needs token_frames of 2 or more"
            )
        if not features.isfinite().all():
            raise ValueError("the features hold NaN or infinite values: check the model that made them")
        bins = self.spectrogram.bins(self.unscaled(features[:, 0])[:, None]).sqrt()
        # Frames are half a hop later than those of the STFT, whose first frame is therefore silent.
        magnitudes = functional.pad(bins, (0, 0, 1, 0))
        samples = bins.shape[1] * self.hop
        wave = griffin_lim(magnitudes, self.spectrogram.stft, samples, iterations, generator)[:, self.hop // 2 :]
        return functional.pad(wave, (0, length - wave.shape[1]))


class CodeTokens(FrontEnd, Tokens):
    """Frames of codes: as numbers of mean 0 and standard deviation 1, or as one-hot codebook entries."""

    offset: Tensor
    spread: Tensor
    unit = "standard deviations"
    codebooks: Tensor
    used: Tensor

    def __init__(self, config: TokensConfig, signal: Signal):
        super().__init__()
        assert signal.frame_rate is not None, signal
        self.config, self.slots = config, config.slots
        codes = signal.shape[1]
        if self.slots and codes % self.slots:
            raise ValueError(
                f"slots={self.slots} do not divide codes of {codes} numbers: give a divisor of {codes}"
            )
        self.token_rate, self.token_first = signal.frame_rate, signal.frame_first
        self.width = self.slots * config.entries if self.slots else codes
        self.register_buffer("offset", torch.zeros(codes))
        self.register_buffer("spread", torch.ones(codes))
        if self.slots:
            self.register_buffer("codebooks", torch.zeros(self.slots, config.entries, codes // self.slots))
            self.register_buffer("used", torch.zeros(self.slots, dtype=torch.long))

    def forward(self, signal: Float[Tensor, "clip frame code"]) -> Float[Tensor, "clip frame number"]:
        if not self.slots:
            return (signal - self.offset) / self.spread
        parts = rearrange(signal, "clip frame (slot code) -> clip frame slot 1 code", slot=self.slots)
        apart = (parts - self.codebooks).square().sum(-1)
        free = torch.arange(self.config.entries, device=signal.device) >= self.used[:, None]
        nearest = apart.masked_fill(free, torch.inf).argmin(-1)
        chosen = functional.one_hot(nearest, self.config.entries).to(signal.dtype)
        return rearrange(chosen, "clip frame slot entry -> clip frame (slot entry)")

    def shape(self, samples: int) -> tuple[int, int]:
        return samples, self.width

    def frames(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return lengths

    def fit(
        self,
        signals: Iterable[Float[Tensor, "_clip _frame _code"]],
        lengths: Iterable[Int[Tensor, " _clip"] | None] = repeat(None),
    ) -> None:
        """Estimate mean and standard deviation of each code, and with slots the entries, on the training split."""
        each = [Statistics() for _ in range(len(self.offset))]
        entries: list[Tensor | None] = [None] * self.slots
        for codes, own in zip(signals, lengths, strict=False):
            frames = codes.flatten(0, 1) if own is None else codes[sounding(codes.shape[1], own)]
            for statistics, values in zip(each, frames.unbind(-1), strict=True):
                statistics.add(values)
            for slot, part in enumerate(frames.chunk(self.slots, -1) if self.slots else ()):
                held = entries[slot]
                found = torch.unique(part if held is None else torch.cat([held, part]), dim=0)
                if len(found) > self.config.entries:
                    raise ValueError(
                        f"slot {slot + 1} of {self.slots} has more than entries={self.config.entries} "
                        "different ones: give the slots of the run below, or more entries; slots 0 "
                        "takes the codes as numbers"
                    )
                entries[slot] = found
        if not each[0].count:
            raise ValueError("the codes have no frames: train the run below on longer clips")
        for slot, found in enumerate(entries):
            assert found is not None
            self.codebooks[slot, : len(found)] = found.to(self.codebooks)
            self.used[slot] = len(found)
        scales = [statistics.scale("standard") for statistics in each]
        self.offset.copy_(torch.tensor([offset for offset, _ in scales]))
        self.spread.copy_(torch.tensor([spread for _, spread in scales]))

    def levels(self, tokens: Float[Tensor, "*rows number"]) -> Float[Tensor, "*rows number"]:
        return tokens

    def codes(self, features: Float[Tensor, "clip frame number"]) -> Float[Tensor, "clip frame code"]:
        """Inverse of `forward`: codes from features; with slots, the most likely entry of each."""
        if not self.slots:
            return features * self.spread + self.offset
        chosen = rearrange(features, "clip frame (slot entry) -> clip frame slot entry", slot=self.slots).argmax(
            -1
        )
        return self.codebooks[torch.arange(self.slots, device=chosen.device), chosen].flatten(2)

    def tokens(self, features: Float[Tensor, "clip frame number"]) -> Float[Tensor, "clip frame number"]:
        return features

    def features_of(self, tokens: Float[Tensor, "clip frame number"]) -> Float[Tensor, "clip frame number"]:
        return tokens

    def view(
        self,
        features: Float[Tensor, "clip frame number"],
        counts: Int[Tensor, " clip"],
        config: ViewsConfig,
        draws: Draws,
        which: int,
    ) -> Float[Tensor, "clip frame number"]:
        """Mask codes, slot by slot; there is no other augmentation, as codes have no bands or level to shift."""
        hidden = draws.masked[:, which] < config.mask_tokens
        return features.masked_fill(hidden.repeat_interleave(self.width // hidden.shape[-1], -1), 0)


def hann(samples: int) -> Float[Tensor, " sample"]:
    return torch.hann_window(samples, periodic=True, dtype=torch.float64)


def whole_number(share: Float[Tensor, "*rows"], most: int) -> Int[Tensor, "*rows"]:
    """Integer from 0 to `most`, uniformly distributed if `share` is uniform in [0, 1]."""
    return (share * (most + 1)).long().clamp(max=most)
