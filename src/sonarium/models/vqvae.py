"""The vector-quantised autoencoder (van den Oord et al. 2017, arXiv 1711.00937).

A clip is encoded as `slots` vectors, each replaced by the nearest entry of its slot's codebook. The codebooks
are exponential moving averages of the vectors assigned to them (appendix A.1); an entry that has been unused
for a while is reset to a vector of the batch (Williams et al. 2020, arXiv 2002.08111).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.features.contract import FrontEndConfig, PictureFrontEnd
from sonarium.features.spectrogram import SpectrogramConfig
from sonarium.models.blocks import mean_squared_error, own_frames, picture_front, wide
from sonarium.models.coders import Network, coders
from sonarium.models.contract import (
    Decoder,
    Describer,
    Description,
    Encoder,
    FeatureLearner,
    Learner,
    Sampler,
    Traversal,
)
from sonarium.models.describing import STEPS
from sonarium.models.optim import Adam
from sonarium.training.contract import Engine, Source, Stateful
from sonarium.worlds.contract import Batch, Signal

MOST_NUMBERS = 2**22
"""Maximum size of all codebooks together: 16,384 entries of 256 numbers, as in the largest published ones. A batch
takes many times as much memory."""
ROUNDING = 4
"""Tolerance in machine epsilons within which squared distances count as equal."""
MOST_CODES = 2**14
"""Maximum dimension of the vectors of one clip together."""


@dataclass(frozen=True)
class VQVAEConfig:
    slots: Annotated[int, Range(1, MOST_CODES)] = 8
    """Quantised vectors per clip, each with its own codebook."""
    dimension: Annotated[int, Range(1, MOST_CODES)] = 8
    """Dimension of the codebook entries."""
    entries: Annotated[int, Range(1, MOST_NUMBERS)] = 64
    """Entries per codebook."""
    decay: Annotated[float, Range(0, 1, below=True)] = 0.95
    """Decay of the exponential moving average (EMA) that updates the codebooks."""
    commitment: Annotated[float, Range(0)] = 0.25
    """Weight β of the commitment loss."""
    # Averages of an entry that is never reset would shrink until their ratio is 0/0.
    revival: Annotated[float, Range(0, 1, above=True)] = 0.01
    """Usage below which dead codebook entries are reset to a vector of the batch, as a fraction of uniform use."""
    network: Network = "convolutional"
    """Encoder and decoder: locating, convolutional, syntone (VAEDeep), or dense."""
    learning_rate: Annotated[float, Range(0, above=True, example=0.001)] = 1e-3
    """Learning rate of Adam."""
    front: FrontEndConfig = field(default_factory=SpectrogramConfig)

    def __post_init__(self) -> None:
        check_ranges(self)
        codes = self.slots * self.dimension
        most = MOST_NUMBERS // max(1, codes)
        demands = [
            ("dimension", codes <= MOST_CODES, f"1 or more, at most {MOST_CODES} in all slots together"),
            (
                "entries",
                self.entries <= most,
                f"a whole number from 1 to {most} with slots={self.slots}, dimension={self.dimension}",
            ),
        ]
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name}={getattr(self, name)}: give {expected}")


class Codebooks(nn.Module):
    """One codebook per slot, updated by moving averages rather than by gradients."""

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
        # The default algorithm depends on the batch size.
        squares = torch.cdist(given, self.entries, compute_mode="use_mm_for_euclid_dist").square()
        # Entries initialised with the same vector differ by rounding alone: the first of them is taken, so that
        # the assignment depends neither on how many clips are compared at once, nor on the number of ranks.
        scale = given.square().sum(2, keepdim=True) + self.entries.square().sum(2)[:, None]
        least = squares.amin(2, keepdim=True)
        return (squares <= least + ROUNDING * torch.finfo(squares.dtype).eps * scale).to(torch.uint8).argmax(2).T

    def look_up(self, index: Int[Tensor, "clip slot"]) -> Float[Tensor, "clip slot dim"]:
        return self.entries[torch.arange(index.shape[1], device=index.device), index]

    def pick(
        self, vectors: Float[Tensor, "clip slot dim"], generator: torch.Generator
    ) -> Float[Tensor, "slot entry dim"]:
        """A random vector of the batch for each entry."""
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
        """Update the averages with the global batch and reset dead entries; return how many were reset."""
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
        """Initialise the entries with vectors of the first global batch."""
        self.entries.copy_(self.pick(vectors, generator))
        self.uses.fill_(len(vectors) / self.config.entries)
        self.sums.copy_(self.entries * self.uses[..., None])
        self.started.fill_(True)


def perplexity(index: Int[Tensor, "clip slot"], entries: int) -> Float[Tensor, ""]:
    """exp(entropy) of the use of the entries, averaged over slots: `entries` if all are used equally."""
    usage = functional.one_hot(index, entries).double().mean(0)
    return torch.special.entr(usage).sum(1).exp().mean().float()


class VQVAE(Learner, FeatureLearner, Encoder, Decoder, Sampler, Describer):
    front: PictureFrontEnd

    def __init__(self, config: VQVAEConfig, signal: Signal):
        super().__init__()
        self.config, self.signal = config, signal
        self.front = picture_front(config.front, signal)
        width = config.slots * config.dimension
        self.encoder, self.decoder = coders(config.network, self.front, signal, width, width)
        self.codebooks = Codebooks(config)
        own = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimiser = Adam(own, config.learning_rate)

    def prepare(self, source: Source, engine: Engine) -> None:
        self.front.fit_batches(source.preview(engine.progress))

    def parts(self) -> dict[str, Stateful]:
        return {"autoencoder": self.optimiser}

    def features(self, batch: Batch) -> Float[Tensor, "clip channel row frame"]:
        return self.front(batch.signal) if batch.features is None else batch.features

    def vectors(self, features: Float[Tensor, "clip channel row frame"]) -> Float[Tensor, "clip slot dim"]:
        return rearrange(wide(self.encoder(features)), "clip (slot dim) -> clip slot dim", slot=self.config.slots)

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        features = self.features(data)
        own = own_frames(self.front, data.lengths, features.shape[-1])
        with engine.autocast():
            vectors = self.vectors(features)
            # The codebooks are updated from the global batch, so that they stay equal on all ranks.
            every = engine.gather(vectors.detach())
            if not self.codebooks.started:
                self.codebooks.start(every, engine.generator)
            index = self.codebooks.nearest(vectors.detach())
            quantised = self.codebooks.look_up(index)
            # Straight-through estimator of the gradient.
            through = vectors + (quantised - vectors).detach()
            made = wide(self.decoder(rearrange(through, "clip slot dim -> clip (slot dim)")))
        error = mean_squared_error(made, features, own, engine)
        commitment = functional.mse_loss(vectors, quantised)
        loss = error + self.config.commitment * commitment
        engine.descend(loss, self.optimiser)
        index = engine.gather(index)
        revived = self.codebooks.follow(every, index, engine.generator)
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
        """Nearest entries of all slots, concatenated in one frame."""
        entries = self.codebooks.look_up(self.codebooks.nearest(self.vectors(self.front(signal))))
        return rearrange(entries, "clip slot dim -> clip 1 (slot dim)")

    @torch.no_grad()
    def decode(self, codes: Float[Tensor, "clip 1 code"]) -> Float[Tensor, "clip channel row frame"]:
        return wide(self.decoder(rearrange(codes, "clip 1 code -> clip code")))

    @torch.no_grad()
    def sample(self, clips: int, generator: torch.Generator) -> Float[Tensor, "clip 1 code"]:
        """Entries drawn independently per slot by training frequency."""
        chosen = torch.multinomial(self.codebooks.uses, clips, replacement=True, generator=generator).T
        return rearrange(self.codebooks.look_up(chosen), "clip slot dim -> clip 1 (slot dim)")

    @torch.no_grad()
    def describe(self, batches: Sequence[Batch]) -> tuple[Description, int, tuple[Traversal, ...]]:
        """Description of slots, ordered by perplexity; the central clip is that of the most frequent entries."""
        index = torch.cat([self.codebooks.nearest(self.vectors(self.features(batch))) for batch in batches])
        entries = self.config.entries
        counts = torch.stack([torch.bincount(slot, minlength=entries) for slot in index.T])
        usage = counts.double() / len(index)
        perplexities = torch.special.entr(usage).sum(1).exp().cpu().numpy()
        description = Description(
            values=index.cpu().double().numpy(),
            names=tuple(f"slot {position + 1}" for position in range(index.shape[1])),
            worth=perplexities,
            notes=tuple(f"perplexity {one:.1f}" for one in perplexities.tolist()),
            alive=(usage > 0).sum(1).cpu().numpy() > 1,
            entries=entries,
        )
        central = int(usage.gather(1, index.T).log().sum(0).argmax())
        return description, central, self.traversals(description, index[central], usage)

    def traversals(
        self, description: Description, base: Int[Tensor, " slot"], usage: Float[Tensor, "slot entry"]
    ) -> tuple[Traversal, ...]:
        """Traversal of each slot: its most frequent entries, ordered along their first principal component."""
        found = []
        for slot in description.order:
            used = usage[slot].argsort(descending=True, stable=True)[: len(STEPS)]
            used = used[usage[slot, used] > 0]
            own = base[slot]
            if not bool((used == own).any()):
                used = torch.cat([used[:-1], own[None]])
            moved = repeat(base, "slot -> step slot", step=len(used)).clone()
            moved[:, slot] = used
            places = self.codebooks.look_up(moved)[:, slot].double()
            along = torch.linalg.svd(places - places.mean(0), full_matrices=False)[2][0]
            # The sign of a principal component is arbitrary; it is fixed so that plots are reproducible.
            along = along * torch.sign(along[along.abs().argmax()])
            order = (places @ along).argsort(stable=True)
            used = used[order]
            vectors = rearrange(self.codebooks.look_up(moved[order]), "step slot dim -> step 1 (slot dim)")
            at = int((used == own).nonzero()[0])
            steps = tuple(f"entry {entry}" for entry in used.tolist())
            name, note, alive = description.names[slot], description.notes[slot], bool(description.alive[slot])
            found.append(Traversal(name, note, alive, steps, at, vectors))
        return tuple(found)
