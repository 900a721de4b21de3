"""Separation of two ears' sound into its sources by masks: one network for both ears, causal, window by window.

Recurrent layers read each frame of the spectrum at both ears, its level and the interaural differences of phase
and level, and give each source a share of every bin, the same at either ear: an estimate keeps the differences
that say where its source is. They learn to maximise the SNR of the time signals (`masking.py`).

Presets are the separator of OtoWorld (arXiv 2007.06123), which hears each ear alone and needs the whole clip, and
those of `clustering.py`.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sonarium.config import Range, check_ranges
from sonarium.models.clustering import AnchorsConfig, DeepClusteringConfig
from sonarium.models.contract import (
    Engine,
    Learner,
    ModelEntry,
    Recipe,
    State,
    Stateful,
    StreamSeparator,
)
from sonarium.models.masking import (
    Descent,
    DescentConfig,
    MaskSeparator,
    Sources,
    Spectra,
    Spectrum,
    both_ears,
    cues,
    fit,
    loudness_so_far,
    masked,
    power,
    separated_from,
)
from sonarium.worlds.contract import Batch, Signal, World

CUES = 3
"""Of each bin: cosine and sine of the interaural phase, and the level difference."""


@dataclass(frozen=True)
class SeparatorConfig:
    fft: Annotated[int, Range(4, 2**14)] = 256
    """FFT size and length of the window in samples, a multiple of the hop."""
    hop: Annotated[int, Range(1, 2**13)] = 128
    """Hop length in samples."""
    units: Annotated[int, Range(1, 4096)] = 128
    """Units of each recurrent layer."""
    layers: Annotated[int, Range(1, 16)] = 2
    """Recurrent layers (GRU)."""
    descent: DescentConfig = DescentConfig()
    """Adam on a schedule."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, signal: Signal) -> Learner:
        return JointSeparator(self, signal)


class MaskNetwork(nn.Module):
    """From frames to the share of each source in each bin."""

    def __init__(self, config: SeparatorConfig, bins: int, sources: int):
        super().__init__()
        self.sources, self.bins = sources, bins
        self.into = nn.Sequential(nn.Linear((1 + CUES) * bins, config.units), nn.LayerNorm(config.units))
        self.gru = nn.GRU(config.units, config.units, config.layers, batch_first=True)
        self.head = nn.Linear(config.units, sources * bins)

    def forward(
        self,
        level: Float[Tensor, "clip frame bin"],
        ears: Float[Tensor, "clip frame bin 3"],
        memory: Float[Tensor, "layer clip unit"],
    ) -> tuple[Float[Tensor, "clip frame bin source"], Float[Tensor, "layer clip unit"]]:
        inputs = torch.cat([level, rearrange(ears, "clip frame bin cue -> clip frame (cue bin)")], -1)
        states, memory = self.gru(self.into(inputs), memory)
        told = rearrange(
            self.head(states), "clip frame (source bin) -> clip frame bin source", source=self.sources
        )
        return told.softmax(-1), memory


class JointSeparator(Learner, MaskSeparator, StreamSeparator):
    def __init__(self, config: SeparatorConfig, signal: Signal):
        super().__init__()
        self.config, self.sources = config, separated_from(signal)
        self.spectrum = Spectrum(config.fft, config.hop)
        self.network = MaskNetwork(config, self.spectrum.bins, self.sources)
        self.descent = Descent(config.descent, self.network.parameters())
        self.latency = config.fft - 1

    def parts(self) -> dict[str, Stateful]:
        return {"separator": self.descent.optimiser}

    def restart(self) -> None:
        self.descent.done.zero_()

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        with engine.autocast():
            estimates = self.estimates(data.signal)
        loss = -fit(estimates, data)
        self.descent.step(loss, engine)
        return {"loss/negative_snr": loss.detach()}

    def begin(self, clips: int) -> State:
        weights = self.spectrum.window
        past = weights.new_zeros(clips, self.spectrum.past, 2)
        tail, waiting = (
            weights.new_zeros(clips, samples, self.sources, 2)
            for samples in (self.spectrum.past, self.spectrum.hop - 1)
        )
        return past, tail, waiting, self.first(clips)

    def first(self, clips: int) -> State:
        """What the network has heard before the first frame: no loudness, and its memory."""
        weights = self.spectrum.window
        heard = weights.new_zeros(clips, dtype=torch.float64), weights.new_zeros((), dtype=torch.float64)
        return heard, weights.new_zeros(self.config.layers, clips, self.config.units)

    def after(self, spectra: Spectra, state: State) -> tuple[Float[Tensor, "clip frame bin source 2"], State]:
        """The masks of frames, and what was heard by their end."""
        heard, memory = state
        if not spectra.shape[2]:
            return spectra.real.new_zeros(len(spectra), 0, self.spectrum.bins, self.sources, 2), state
        loudness, heard = loudness_so_far(spectra, heard)
        masks, memory = self.network(*cues(spectra, loudness), memory)
        return both_ears(masks), (heard, memory)

    def shares(self, spectra: Spectra) -> Float[Tensor, "clip frame bin source 2"]:
        return self.after(spectra, self.first(len(spectra)))[0]

    @torch.no_grad()
    def go_on(self, window: Float[Tensor, "clip time 2"], state: State) -> tuple[Sources, State]:
        past, tail, waiting, before = state
        sound = torch.cat([past, window], 1)
        spectra = self.spectrum(sound)
        masks, before = self.after(spectra, before)
        made, tail = self.spectrum.overlap(masked(spectra, masks), tail)
        waiting = torch.cat([waiting, made], 1)
        past = sound[:, spectra.shape[2] * self.spectrum.hop :]
        count = window.shape[1]
        return waiting[:, :count], (past, tail, waiting[:, count:], before)


@dataclass(frozen=True)
class OtoWorldConfig:
    fft: Annotated[int, Range(4, 2**14)] = 256
    """FFT size and length of the window in samples, a multiple of the hop."""
    hop: Annotated[int, Range(1, 2**13)] = 64
    """Hop length in samples."""
    units: Annotated[int, Range(1, 4096)] = 50
    """Units of the LSTM in each direction."""
    descent: DescentConfig = DescentConfig()
    """Adam on a schedule."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, signal: Signal) -> Learner:
        return OtoWorldSeparator(self, signal)


class OtoWorldSeparator(Learner, MaskSeparator):
    """A bidirectional LSTM over log magnitudes, each ear by itself."""

    def __init__(self, config: OtoWorldConfig, signal: Signal):
        super().__init__()
        self.config, self.sources = config, separated_from(signal)
        self.spectrum = Spectrum(config.fft, config.hop)
        bins = self.spectrum.bins
        # One scale and one shift for all bins, as in OtoWorld.
        self.norm = nn.BatchNorm2d(1)
        self.lstm = nn.LSTM(bins, config.units, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * config.units, self.sources * bins)
        self.descent = Descent(config.descent, self.parameters())

    def parts(self) -> dict[str, Stateful]:
        return {"separator": self.descent.optimiser}

    def restart(self) -> None:
        self.descent.done.zero_()

    def shares(self, spectra: Spectra) -> Float[Tensor, "clip frame bin source 2"]:
        level = (power(spectra) + 1e-10).log() / 2
        frames = rearrange(level, "clip ear frame bin -> (clip ear) 1 frame bin")
        states = self.lstm(self.norm(frames)[:, 0])[0]
        return rearrange(
            self.head(states), "(clip ear) frame (source bin) -> clip frame bin source ear",
            ear=2, source=self.sources,
        ).softmax(3)  # fmt: skip

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        with engine.autocast():
            estimates = self.estimates(data.signal)
        loss = -fit(estimates, data)
        self.descent.step(loss, engine)
        return {"loss/negative_snr": loss.detach()}


def complete(config: Any, world: World, steps: int) -> Any:
    """A cosine schedule ends with the training."""
    descent = config.descent
    return replace(config, descent=replace(descent, schedule=descent.schedule.ending(steps)))


ENTRY = ModelEntry(
    "the sources of what two ears hear",
    lambda config, signal: config.build(signal),
    {
        "default": lambda kind: SeparatorConfig(),
        "otoworld": lambda kind: OtoWorldConfig(),
        "deep-clustering": lambda kind: DeepClusteringConfig(),
        "anchors": lambda kind: AnchorsConfig(),
    },
    kinds=("binaural",),
    recipes=dict.fromkeys(
        ("default", "otoworld", "deep-clustering", "anchors"), Recipe(steps=2000, clips={"batch_size": 8})
    ),
    main=("units", "layers", "fft", "hop", "learning_rate"),
    complete=complete,
)
