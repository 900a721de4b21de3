"""A recurrent network over the codes of another run: the neural baseline of sequence models.

A GRU (Cho et al. 2014) reads the frames so far and outputs the density of the next one, a mixture of diagonal
Gaussians (`mixture.py`). It is trained by maximum likelihood. Its codes are the hidden state at each frame.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonarium.config import Range, check_ranges
from sonarium.features.waveform import sounding
from sonarium.models.contract import (
    Engine,
    FrameEncoder,
    Learner,
    ModelEntry,
    Sampler,
    SequenceSampler,
    Source,
    Stateful,
)
from sonarium.models.mixture import GaussianMixture
from sonarium.models.optim import AdamConfig
from sonarium.worlds.contract import Batch, Signal, SignalKind

NARROWEST = 1e-3
"""Minimum standard deviation of a component, in standard deviations of the codes."""


@dataclass(frozen=True)
class GRUConfig:
    units: Annotated[int, Range(1, 4096)] = 64
    """Hidden units per recurrent layer."""
    layers: Annotated[int, Range(1, 16)] = 1
    """Number of recurrent layers."""
    components: Annotated[int, Range(1, 256)] = 4
    """Components of the Gaussian mixture of the next frame."""
    optimiser: AdamConfig = AdamConfig()
    """Adam."""
    gradient_clip: Annotated[float, Range(0, above=True)] = 1.0
    """Gradient clipping norm."""

    def __post_init__(self) -> None:
        check_ranges(self)


class Recurrent(nn.Module):
    """GRU with an output for each frame of a sequence from those before it; the initial state is learnt."""

    def __init__(self, inputs: int, outputs: int, units: int, layers: int):
        super().__init__()
        self.gru = nn.GRU(inputs, units, layers, batch_first=True)
        self.first = nn.Parameter(torch.zeros(layers, 1, units))
        self.head = nn.Linear(units, outputs)

    def begin(self, sequences: int) -> Float[Tensor, "layer sequence unit"]:
        return self.first.expand(-1, sequences, -1).contiguous()

    def states(self, frames: Float[Tensor, "sequence frame input"]) -> Float[Tensor, "sequence frame unit"]:
        """Hidden state after each frame."""
        return self.gru(frames, self.begin(len(frames)))[0]

    def forward(self, frames: Float[Tensor, "sequence frame input"]) -> Float[Tensor, "sequence frame output"]:
        """Output for each frame, from those before it."""
        before = rearrange(self.begin(len(frames))[-1], "sequence unit -> sequence 1 unit")
        if frames.shape[1] < 2:
            return self.head(before[:, : frames.shape[1]])
        return self.head(torch.cat([before, self.states(frames[:, :-1])], 1))


class CodeGRU(Learner, FrameEncoder, Sampler, SequenceSampler):
    mean: Tensor
    scale: Tensor

    def __init__(self, config: GRUConfig, signal: Signal):
        super().__init__()
        if signal.frame_rate is None:
            raise ValueError(f"a GRU over codes takes codes, not {signal.kind}s: give --codes RUN")
        self.config, self.signal = config, signal
        self.code_rate, self.code_first = signal.frame_rate, signal.frame_first
        self.size = signal.shape[1]
        outputs = GaussianMixture.parameters(config.components, self.size)
        self.network = Recurrent(self.size, outputs, config.units, config.layers)
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("scale", torch.ones(self.size))
        self.optimiser = config.optimiser.build(self.network.parameters())

    @torch.no_grad()
    def prepare(self, source: Source, engine: Engine) -> None:
        """Estimate mean and standard deviation of the codes."""
        count, total, square = 0, torch.zeros(self.size).double(), torch.zeros(self.size).double()
        for batch in source.preview(engine.progress):
            frames = own_frames(batch).double().cpu()
            count, total, square = count + len(frames), total + frames.sum(0), square + frames.square().sum(0)
        if not count:
            raise ValueError("the codes have no frames: train the run below on longer clips")
        mean = total / count
        self.mean.copy_(mean)
        self.scale.copy_((square / count - mean.square()).clamp(min=1e-12).sqrt())

    def parts(self) -> dict[str, Stateful]:
        return {"gru": self.optimiser}

    def standard(self, signal: Float[Tensor, "clip frame code"], lengths: Int[Tensor, " clip"] | None) -> Tensor:
        """Standardised codes; zeros beyond a clip's length, regardless of the padding."""
        found = (signal - self.mean) / self.scale
        if lengths is None:
            return found
        return found.where(rearrange(sounding(signal.shape[1], lengths), "clip frame -> clip frame 1"), 0)

    def told(self, outputs: Float[Tensor, "*rows output"]) -> GaussianMixture:
        """Mixture density of the next frame."""
        return GaussianMixture.of(outputs, self.config.components, NARROWEST)

    def log_density(self, frames: Float[Tensor, "clip frame code"]) -> Float[Tensor, "clip frame"]:
        """log p of each standardised frame given those before it."""
        return self.told(self.network(frames).to(frames)).log_density(frames)

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        frames = self.standard(data.signal, data.lengths)
        inside = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        if data.lengths is not None:
            inside = sounding(frames.shape[1], data.lengths)
        # Every frame has the same weight on all ranks.
        count = engine.mean(inside.sum().to(frames)).clamp(min=1)
        with engine.autocast():
            density = self.log_density(frames)
        loss = -density.where(inside, 0).sum() / count
        engine.descend(loss, self.optimiser, self.config.gradient_clip)
        # In the units of the codes, like other densities.
        return {"loss/negative_log_likelihood": (loss + self.scale.log().sum()).detach()}

    @torch.no_grad()
    def encode(
        self,
        signal: Float[Tensor, "clip time code"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip frame unit"]:
        """The hidden state after each frame."""
        if not signal.shape[1]:
            return signal.new_zeros(len(signal), 0, self.config.units)
        states = self.network.states(self.standard(signal, lengths))
        if lengths is None:
            return states
        return states.where(rearrange(sounding(signal.shape[1], lengths), "clip frame -> clip frame 1"), 0)

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return lengths

    @torch.no_grad()
    def sample(self, clips: int, generator: torch.Generator) -> Float[Tensor, "clip frame code"]:
        """Codes of the underlying run, with as many frames as a training piece."""
        return self.sample_frames(clips, self.signal.shape[0], generator)

    @torch.no_grad()
    def sample_frames(
        self, clips: int, frames: int, generator: torch.Generator, temperature: float = 1.0
    ) -> Float[Tensor, "clip frame code"]:
        """Sampled frame by frame, from component densities to the power of 1 / temperature (Ha and Eck 2017)."""
        memory = self.network.begin(clips)
        state, found = memory[-1], []
        for _ in range(frames):
            frame = self.told(self.network.head(state)).draw(generator, temperature)
            found.append(frame)
            memory = self.network.gru(frame[:, None], memory)[1]
            state = memory[-1]
        return torch.stack(found, 1) * self.scale + self.mean


def own_frames(batch: Batch) -> Float[Tensor, "frame code"]:
    """The frames of all clips, without padding."""
    if batch.lengths is None:
        return rearrange(batch.signal, "clip frame code -> (clip frame) code")
    return batch.signal[sounding(batch.signal.shape[1], batch.lengths)]


def default(kind: SignalKind) -> GRUConfig:
    return GRUConfig()


ENTRY = ModelEntry(
    "GRU on codes: the mixture density of the next frame",
    CodeGRU,
    {"default": default},
    kinds=("codes",),
    main=("units", "layers", "components", "learning_rate"),
)
