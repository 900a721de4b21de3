"""Binaural source separation by masks: one network for both ears, causal, window by window.

Recurrent layers take the level of each frame and the interaural differences of phase and level, and assign each
source a share of every bin, the same at both ears, so that an estimate keeps its interaural differences. They are
trained to maximise the SNR of the time signals (`masking.py`).

The directions of the sources are tracked without training: those that best fit the phase differences of all bins
so far, each on the bins that the previous ones do not explain (as in matching pursuit). The fit of a bin to each,
from right to left, is an input of the network and is added to its output with a learned weight: high for similar
sounds in an anechoic room, low in diffuse reverberation.

Other presets are the separator of OtoWorld (arXiv 2007.06123), which processes each ear separately and requires
the whole clip, and those of `clustering.py`.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from scipy.special import ive
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.models.blocks import over_ranks
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
    Parts,
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
    steering,
    two_parts,
)
from sonarium.models.scanned import recur
from sonarium.worlds.contract import Batch, Signal, World

CUES = 3
"""Cues per bin: cosine and sine of the interaural phase, and the level difference."""
DIRECTIONS = 129
"""Number of candidate directions of the sources."""
HARMONICS = 8
"""Number of harmonics in the series of the phase density."""
CONCENTRATION = 15.0
"""κ of the von Mises density of a phase difference around that of its direction."""
BLOCK = 64
"""Frames per block of the decaying sums."""
SHARPNESS = 10.0
"""Logit that a perfect fit to a direction adds to its source, at a trust of 1."""


@dataclass(frozen=True)
class SeparatorConfig:
    fft: Annotated[int, Range(4, 2**14)] = 256
    """FFT size and window length in samples, a multiple of the hop length."""
    hop: Annotated[int, Range(1, 2**13)] = 128
    """Hop length in samples."""
    units: Annotated[int, Range(1, 4096)] = 112
    """Hidden units per recurrent layer."""
    layers: Annotated[int, Range(1, 16)] = 2
    """Number of recurrent layers (GRU)."""
    remembered: Annotated[float, Range(0, above=True)] = 4.0
    """Time constant in seconds with which the directions heard so far are forgotten."""
    descent: DescentConfig = DescentConfig()
    """Adam on a schedule."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, signal: Signal) -> Learner:
        return JointSeparator(self, signal)


class Directions(nn.Module):
    """Tracks the directions of the sources, and measures how well each bin fits them."""

    steering: Tensor
    likelihood: Tensor
    fading: Tensor

    def __init__(self, config: SeparatorConfig, bins: int, sources: int, rate: float):
        super().__init__()
        self.sources = sources
        keep = math.exp(-config.hop / (rate * config.remembered))
        along = steering(bins, rate, DIRECTIONS)
        self.register_buffer("steering", along, persistent=False)
        # The density exp(κ cos(φ − θ)) as a series of cosines of multiples of φ − θ.
        orders = np.arange(1, HARMONICS + 1)
        weights = torch.from_numpy(ive(orders, CONCENTRATION) / ive(0, CONCENTRATION)).float()
        self.register_buffer("likelihood", multiples(along) * weights[:, None], persistent=False)
        # Decay of each frame at each later one of a block; row 0 is for the sum over all frames before the block.
        ages = torch.arange(1, BLOCK + 1) - torch.arange(BLOCK + 1)[:, None]
        self.register_buffer("fading", torch.where(ages < 0, 0, keep ** ages.float()), persistent=False)

    @torch.no_grad()
    def forward(
        self,
        phase: Float[Tensor, "clip frame bin 2"],
        weights: Float[Tensor, "clip frame bin"],
        before: Float[Tensor, "clip source direction"],
    ) -> tuple[Float[Tensor, "clip frame source bin"], Float[Tensor, "clip source direction"]]:
        """Fit of each bin to the source directions from right to left, and the evidence of each source for each
        direction, which continues `before`."""
        chosen, fits, after, left = [], [], [], weights
        around = multiples(phase)
        for source in range(self.sources):
            speaks = einsum(
                around * left[..., None, None], self.likelihood,
                "clip frame bin order part, bin direction order part -> clip frame direction",
            )  # fmt: skip
            heard = self.faded(speaks, before[:, source])
            chosen.append(heard.argmax(2))
            after.append(heard[:, -1])
            fits.append(self.fit(phase, chosen[-1]))
            # A bin counts for the next direction only as far as the previous ones do not explain it.
            left = torch.minimum(left, weights * (1 - fits[-1]) / 2)
        from_the_right = torch.stack(chosen, 2).argsort(2)[..., None]
        ordered = torch.stack(fits, 2).gather(2, from_the_right.expand(-1, -1, -1, phase.shape[2]))
        return ordered, torch.stack(after, 1)

    def faded(
        self, speaks: Float[Tensor, "clip frame direction"], before: Float[Tensor, "clip direction"]
    ) -> Float[Tensor, "clip frame direction"]:
        """Exponentially decaying sums over the frames up to each."""
        if torch.compiler.is_exporting():
            return self.faded_at_once(speaks, before)
        sums = []
        for block in speaks.split(BLOCK, 1):
            count = block.shape[1] + 1
            known = torch.cat([before[:, None], block], 1)
            sums.append(einsum(
                known, self.fading[:count, :count - 1], "clip old direction, old frame -> clip frame direction"
            ))  # fmt: skip
            before = sums[-1][:, -1]
        return torch.cat(sums, 1)

    def faded_at_once(
        self, speaks: Float[Tensor, "clip frame direction"], before: Float[Tensor, "clip direction"]
    ) -> Float[Tensor, "clip frame direction"]:
        """The same for any number of frames without a loop, which export would specialise to one number: sums
        within blocks, plus the decayed sums of all blocks before each."""
        frames = speaks.shape[1]
        # At least two, because tracing specialises a size of one.
        blocks = frames // BLOCK + 2
        cut = functional.pad(speaks, (0, 0, 0, blocks * BLOCK - frames)).unflatten(1, (blocks, BLOCK))
        within = einsum(
            cut, self.fading[1:, :], "clip block old direction, old frame -> clip block frame direction"
        )
        ends = torch.cat([before[:, None], within[:, :, -1]], 1)
        # Decay from the end of each block to the beginning of each later one.
        ages = torch.arange(blocks)[:, None] - torch.arange(blocks + 1) + 1
        left = torch.where(ages <= 0, 0.0, self.fading[0, -1] ** (ages.clamp(min=1) - 1).to(ends.dtype))
        known = einsum(left, ends, "block old, clip old direction -> clip block direction")
        carried = rearrange(self.fading[0], "frame -> frame 1") * rearrange(
            known, "clip block direction -> clip block 1 direction"
        )
        return (within + carried).flatten(1, 2)[:, :frames]

    def fit(
        self, phase: Float[Tensor, "clip frame bin 2"], direction: Int[Tensor, "clip frame"]
    ) -> Float[Tensor, "clip frame bin"]:
        """Cosine of the angle between the phase of each bin and that of a direction."""
        cosine, sine = rearrange(self.steering, "bin direction part -> part direction bin")
        return torch.addcmul(cosine[direction] * phase[..., 0], sine[direction], phase[..., 1])


def multiples(phase: Float[Tensor, "*shape 2"]) -> Float[Tensor, "*shape order 2"]:
    """Cosine and sine of the multiples 1 to `HARMONICS` of phases, from their cosine and sine."""
    if torch.compiler.is_exporting():
        one = Parts(*phase.unbind(-1))
        return torch.stack([two_parts(each) for each in powers(one)], -2)
    return torch.view_as_real(torch.stack(powers(torch.view_as_complex(phase.contiguous())), -1))


def powers(number: Any) -> list[Any]:
    found = [number]
    while len(found) < HARMONICS:
        found.append(found[-1] * number)
    return found


class MaskNetwork(nn.Module):
    """Recurrent network from frames to the share of each source in each bin."""

    def __init__(self, config: SeparatorConfig, bins: int, sources: int):
        super().__init__()
        self.sources, inputs = sources, (1 + CUES + sources) * bins
        self.into = nn.Sequential(nn.Linear(inputs, config.units), nn.LayerNorm(config.units))
        self.gru = nn.GRU(config.units, config.units, config.layers, batch_first=True)
        self.head = nn.Linear(config.units, sources * bins)
        self.trust = nn.Parameter(torch.zeros(bins))

    def forward(
        self,
        level: Float[Tensor, "clip frame bin"],
        ears: Float[Tensor, "clip frame bin 3"],
        fits: Float[Tensor, "clip frame source bin"],
        memory: Float[Tensor, "layer clip unit"],
    ) -> tuple[Float[Tensor, "clip frame bin source"], Float[Tensor, "layer clip unit"]]:
        inputs = torch.cat([level, *ears.unbind(3), *fits.unbind(2)], -1)
        if torch.compiler.is_exporting():
            # Exported programs take whole clips, whose initial state is 0.
            states = recur(self.gru, self.into(inputs))
        else:
            states, memory = self.gru(self.into(inputs), memory)
        told = rearrange(
            self.head(states), "clip frame (source bin) -> clip frame source bin", source=self.sources
        )
        shares = (told + SHARPNESS * self.trust * fits).softmax(2)
        return rearrange(shares, "clip frame source bin -> clip frame bin source"), memory


class JointSeparator(Learner, MaskSeparator, StreamSeparator):
    def __init__(self, config: SeparatorConfig, signal: Signal):
        super().__init__()
        self.config, self.sources = config, separated_from(signal)
        self.spectrum = Spectrum(config.fft, config.hop)
        assert signal.rate is not None, signal
        self.directions = Directions(config, self.spectrum.bins, self.sources, signal.rate)
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
        """State before the first frame, all 0: loudness, evidence for directions, and state of the network."""
        weights = self.spectrum.window
        heard = tuple(weights.new_zeros(clips, dtype=torch.float64) for _ in range(2))
        places = weights.new_zeros(clips, self.sources, DIRECTIONS)
        return heard, places, weights.new_zeros(clips, self.config.layers, self.config.units)

    def after(self, spectra: Spectra, state: State) -> tuple[Float[Tensor, "clip frame bin source 2"], State]:
        """Masks of frames, and the state after them."""
        heard, places, memory = state
        if not spectra.shape[2]:
            return spectra.real.new_zeros(spectra.shape[0], 0, self.spectrum.bins, self.sources, 2), state
        loudness, heard = loudness_so_far(spectra, heard)
        level, ears = cues(spectra, loudness)
        fits, places = self.directions(ears[..., :2], power(spectra).sum(1).sqrt(), places)
        masks, memory = self.network(level, ears, fits, memory.transpose(0, 1).contiguous())
        return both_ears(masks), (heard, places, memory.transpose(0, 1))

    def shares(self, spectra: Spectra) -> Float[Tensor, "clip frame bin source 2"]:
        return self.after(spectra, self.first(spectra.shape[0]))[0]

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
    """FFT size and window length in samples, a multiple of the hop length."""
    hop: Annotated[int, Range(1, 2**13)] = 64
    """Hop length in samples."""
    units: Annotated[int, Range(1, 4096)] = 50
    """Hidden units of the LSTM per direction."""
    descent: DescentConfig = DescentConfig()
    """Adam on a schedule."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, signal: Signal) -> Learner:
        return OtoWorldSeparator(self, signal)


class OtoWorldSeparator(Learner, MaskSeparator):
    """Bidirectional LSTM over log magnitudes, for each ear separately."""

    def __init__(self, config: OtoWorldConfig, signal: Signal):
        super().__init__()
        self.config, self.sources = config, separated_from(signal)
        self.spectrum = Spectrum(config.fft, config.hop)
        bins = self.spectrum.bins
        # One scale and one shift for all bins, as in OtoWorld.
        self.norm = nn.BatchNorm1d(1)
        self.lstm = nn.LSTM(bins, config.units, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * config.units, self.sources * bins)
        self.descent = Descent(config.descent, self.parameters())

    def parts(self) -> dict[str, Stateful]:
        return {"separator": self.descent.optimiser}

    def restart(self) -> None:
        self.descent.done.zero_()

    def shares(self, spectra: Spectra, engine: Engine | None = None) -> Float[Tensor, "clip frame bin source 2"]:
        """Masks of spectra; with an engine, batch statistics of the levels are those of all ranks."""
        level = (power(spectra) + 1e-10).log() / 2
        frames = rearrange(level, "clip ear frame bin -> (clip ear) frame bin")
        normalise = self.norm
        if self.training and engine is not None and engine.ranks > 1:
            normalise = partial(over_ranks, self.norm, engine)
        levels = normalise(frames.reshape(-1, 1)).view(frames.shape)
        states = recur(self.lstm, levels) if torch.compiler.is_exporting() else self.lstm(levels)[0]
        return rearrange(
            self.head(states), "(clip ear) frame (source bin) -> clip frame bin source ear",
            ear=2, source=self.sources,
        ).softmax(3)  # fmt: skip

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        with engine.autocast():
            spectra = self.spectrum.around(data.signal)
            masks = self.shares(spectra, engine)
            estimates = self.spectrum.sound(masked(spectra, masks), data.signal.shape[1])
        loss = -fit(estimates, data)
        self.descent.step(loss, engine)
        return {"loss/negative_snr": loss.detach()}


def complete(config: Any, world: World, steps: int) -> Any:
    """Configuration in which a cosine or linear schedule reaches 0 at the last step of training."""
    descent = config.descent
    return replace(config, descent=replace(descent, schedule=descent.schedule.ending(steps)))


ENTRY = ModelEntry(
    "binaural source separation",
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
