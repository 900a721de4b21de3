"""The vector-quantised autoencoder (van den Oord et al. 2017, arXiv 1711.00937).

A clip becomes `slots` vectors, each replaced by the nearest entry of its slot's codebook. The codebooks
follow their assignments by exponential moving averages (appendix A.1); an entry that nothing has used for
a while is revived at a vector of the batch (Williams et al. 2020, arXiv 2002.08111).
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.features.frontend import FrontEndConfig, build_front, own_frames
from sonarium.features.spectrogram import SpectrogramConfig
from sonarium.models.blocks import Canvas, Network, coders, mean_squared_error
from sonarium.models.contract import Engine, Learner
from sonarium.worlds.contract import Batch, Signal

MOST_NUMBERS = 2**22
"""In all codebooks together: 16,384 entries of 256 numbers, as large as published ones become. A batch asks for
many times as much memory."""
MOST_CODES = 2**14
"""Numbers in the vectors of one clip."""


@dataclass(frozen=True)
class VQVAEConfig:
    slots: int = 8
    """Number of vectors a clip, each with a codebook of its own."""
    dimension: int = 8
    """Length of each vector."""
    entries: int = 64
    """Entries of a codebook."""
    decay: float = 0.95
    """Decay of the moving averages that the codebooks follow."""
    commitment: float = 0.25
    """Weight of the distance from the encoder's vectors to their entries."""
    revival: float = 0.01
    """An entry is revived when its average use falls below this share of an even use."""
    network: Network = "convolutional"
    """Encoder and decoder: locating, convolutional, syntone (VAEDeep), or dense."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    front: FrontEndConfig = field(default_factory=SpectrogramConfig)

    def __post_init__(self) -> None:
        codes, rate = self.slots * self.dimension, self.learning_rate
        most = MOST_NUMBERS // max(1, codes)
        demands = [
            ("slots", 1 <= self.slots <= MOST_CODES, f"a whole number from 1 to {MOST_CODES}"),
            ("dimension", 1 <= codes <= MOST_CODES, f"1 or more, at most {MOST_CODES} in all slots together"),
            ("entries", 1 <= self.entries <= most, f"a whole number from 1 to {most} for so many slots"),
            ("decay", 0 <= self.decay < 1, "a number from 0 to below 1"),
            ("commitment", 0 <= self.commitment < math.inf, "a number of at least 0"),
            # Averages of an entry that is never revived would shrink until their ratio is 0/0.
            ("revival", 0 < self.revival <= 1, "a share above 0, at most 1"),
            ("learning_rate", 0 < rate < math.inf, "a positive number, such as 0.001"),
        ]
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name}={getattr(self, name)}: give {expected}")


class Codebooks(nn.Module):
    """One codebook a slot, moved by averages rather than by gradients."""

    entries: Float[Tensor, "slot entry dim"]
    sums: Float[Tensor, "slot entry dim"]
    uses: Float[Tensor, "slot entry"]
    started: Bool[Tensor, ""]

    def __init__(self, config: VQVAEConfig):
        super().__init__()
        self.config = config
        shape = (config.slots, config.entries, config.dimension)
        self.register_buffer("entries", torch.randn(shape))
        self.register_buffer("sums", torch.zeros(shape))
        self.register_buffer("uses", torch.zeros(shape[:2]))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def nearest(self, vectors: Float[Tensor, "clip slot dim"]) -> Int[Tensor, "clip slot"]:
        given = rearrange(vectors, "clip slot dim -> slot clip dim")
        # Else the way to compute would depend on how many clips there are.
        return torch.cdist(given, self.entries, compute_mode="use_mm_for_euclid_dist").argmin(2).T

    def look_up(self, index: Int[Tensor, "clip slot"]) -> Float[Tensor, "clip slot dim"]:
        return self.entries[torch.arange(index.shape[1], device=index.device), index]

    def pick(
        self, vectors: Float[Tensor, "clip slot dim"], generator: torch.Generator
    ) -> Float[Tensor, "slot entry dim"]:
        """Vectors of the batch at random, as many as there are entries."""
        drawn = torch.randint(len(vectors), self.uses.shape, generator=generator, device=vectors.device)
        slots = rearrange(torch.arange(self.config.slots, device=vectors.device), "slot -> slot 1")
        return vectors[drawn, slots]

    @torch.no_grad()
    def follow(
        self,
        vectors: Float[Tensor, "clip slot dim"],
        index: Int[Tensor, "clip slot"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Move the averages towards this batch; revive the dead; return how many were revived."""
        assigned = functional.one_hot(index, self.config.entries).to(vectors.dtype)
        decay = self.config.decay
        self.uses.mul_(decay).add_(assigned.sum(0), alpha=1 - decay)
        self.sums.mul_(decay).add_(einsum(assigned, vectors, "b s e, b s d -> s e d"), alpha=1 - decay)
        fresh = self.pick(vectors, generator)
        even_use = len(vectors) / self.config.entries
        dead = self.uses < self.config.revival * even_use
        self.uses.masked_fill_(dead, even_use)
        self.sums.copy_(torch.where(dead[..., None], fresh * even_use, self.sums))
        self.entries.copy_(self.sums / self.uses[..., None])
        return dead.sum().to(vectors.dtype)

    @torch.no_grad()
    def start(self, vectors: Float[Tensor, "clip slot dim"], generator: torch.Generator) -> None:
        """Lay the first entries at vectors of the first batch."""
        self.entries.copy_(self.pick(vectors, generator))
        self.uses.fill_(len(vectors) / self.config.entries)
        self.sums.copy_(self.entries * self.uses[..., None])
        self.started.fill_(True)


def perplexity(index: Int[Tensor, "clip slot"], entries: int) -> Float[Tensor, ""]:
    """exp(entropy) of the use of the entries, averaged over slots: `entries` if all are used evenly."""
    share = functional.one_hot(index, entries).double().mean(0)
    return torch.special.entr(share).sum(1).exp().mean().float()


class VQVAE(Learner):
    capabilities: ClassVar = ("encode", "decode", "sample")

    def __init__(self, config: VQVAEConfig, signal: Signal):
        super().__init__()
        self.config, self.signal = config, signal
        self.front, (rows, frames), level_rows = build_front(config.front, signal)
        width = config.slots * config.dimension
        self.encoder, self.decoder = coders(config.network, Canvas(rows, frames, level_rows), width, width)
        self.codebooks = Codebooks(config)
        own = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimiser = torch.optim.Adam(own, config.learning_rate)

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"autoencoder": self.optimiser}

    def features(self, batch: Batch) -> Float[Tensor, "clip channel band frame"]:
        return self.front(batch.signal) if batch.features is None else batch.features

    def vectors(self, features: Float[Tensor, "clip channel band frame"]) -> Float[Tensor, "clip slot dim"]:
        return rearrange(
            self.encoder(features).float(), "clip (slot dim) -> clip slot dim", slot=self.config.slots
        )

    def update(self, batch: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        features = self.features(batch)
        with engine.autocast():
            vectors = self.vectors(features)
            if not self.codebooks.started:
                self.codebooks.start(vectors.detach(), engine.generator)
            index = self.codebooks.nearest(vectors.detach())
            quantised = self.codebooks.look_up(index)
            # The gradient passes the quantisation as if it were not there.
            through = vectors + (quantised - vectors).detach()
            made = self.decoder(rearrange(through, "clip slot dim -> clip (slot dim)")).float()
        error = mean_squared_error(made, features, own_frames(self.front, batch.lengths, features.shape[-1]))
        commitment = functional.mse_loss(vectors, quantised)
        loss = error + self.config.commitment * commitment
        engine.descend(loss, self.optimiser)
        revived = self.codebooks.follow(vectors.detach(), index, engine.generator)
        terms = {
            "loss/total": loss,
            "loss/error": error,
            "loss/commitment": commitment,
            "codebook/perplexity": perplexity(index, self.config.entries),
            "codebook/revived": revived,
        }
        return {name: value.detach() for name, value in terms.items()}

    @torch.no_grad()
    def encode(self, signal: Float[Tensor, "clip *shape"]) -> Float[Tensor, "clip 1 code"]:
        """The entries that stand for a clip, end to end in one frame."""
        return self.code(self.front(signal))

    @torch.no_grad()
    def code(self, features: Float[Tensor, "clip channel band frame"]) -> Float[Tensor, "clip 1 code"]:
        entries = self.codebooks.look_up(self.codebooks.nearest(self.vectors(features)))
        return rearrange(entries, "clip slot dim -> clip 1 (slot dim)")

    @torch.no_grad()
    def decode(self, codes: Float[Tensor, "clip 1 code"]) -> Float[Tensor, "clip channel band frame"]:
        return self.decoder(rearrange(codes, "clip 1 code -> clip code")).float()

    @torch.no_grad()
    def sample(self, clips: int, generator: torch.Generator) -> Float[Tensor, "clip 1 code"]:
        """Entries drawn slot by slot, as often as training used them."""
        chosen = torch.multinomial(self.codebooks.uses, clips, replacement=True, generator=generator).T
        return rearrange(self.codebooks.look_up(chosen), "clip slot dim -> clip 1 (slot dim)")
