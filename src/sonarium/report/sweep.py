"""Asking a learner: what its codes are on held-out clips, and what each code does when it alone is moved.

A sweep moves one code of a real clip and leaves all others as they are; each begins from the clip's own code,
so no movement is left behind for the next (unlike the cumulative traversals of SynTone, arXiv 2402.10547).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sonarium.models.vae import VAE
from sonarium.models.vqvae import VQVAE
from sonarium.worlds.contract import Batch, World

STEPS = tuple(np.linspace(-2.5, 2.5, 11).tolist())
"""How far a code is moved, in its deviations over clips."""
BLOCK = 64
"""Clips that a learner is shown at a time."""


@runtime_checkable
class Autoencoder(Protocol):
    """A learner that can encode, decode and sample, as far as this file asks it."""

    front: nn.Module
    dead_below: ClassVar[float]

    def features(self, batch: Batch) -> Tensor: ...
    def encode(self, signal: Tensor) -> Tensor: ...
    def decode(self, codes: Tensor) -> Tensor: ...
    def sample(self, clips: int, generator: torch.Generator) -> Tensor: ...


@dataclass(frozen=True)
class Codes:
    """The codes of held-out clips beside the causes of those clips."""

    values: Float[np.ndarray, "clip code"]
    """Numbers; or, of a codebook, the position of the entry that was used."""
    factors: Float[np.ndarray, "clip factor"]
    names: tuple[str, ...]
    worth: Float[np.ndarray, " code"]
    """What a code carries, by which codes are ordered."""
    notes: tuple[str, ...]
    """The same in words."""
    alive: Bool[np.ndarray, " code"]
    entries: int | None = None
    """Entries of each codebook, where codes are entries."""

    @property
    def order(self) -> list[int]:
        """The codes that carry most first, the dead ones last."""
        return np.lexsort((-self.worth, ~self.alive)).tolist()


@dataclass(frozen=True)
class Sweep:
    """One code of one clip moved through `steps`, all others held."""

    name: str
    note: str
    alive: bool
    steps: tuple[str, ...]
    own: int
    """The step at which the clip is as it was."""
    codes: Float[Tensor, "step frame code"]


@dataclass(frozen=True)
class Reading:
    """The codes of held-out clips, and a sweep of each code of the most ordinary of these clips."""

    codes: Codes
    central: int
    """Which of the clips is the most ordinary."""
    sweeps: tuple[Sweep, ...]
    """In the order of what the codes carry."""


@torch.no_grad()
def read(learner: Autoencoder, world: World, clips: Int[Tensor, " clip"], device: torch.device) -> Reading:
    """Show the learner these clips and note its codes."""
    blocks = (world.whole(block, device) for block in clips.split(BLOCK))
    return read_entries(learner, blocks) if isinstance(learner, VQVAE) else read_numbers(learner, blocks)


def look(learner: Autoencoder, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Codes (clip, frame, code), with the posterior's variance and divergence where there is a posterior."""
    if not isinstance(learner, VAE):
        return learner.encode(batch.signal), None
    posterior = learner.posterior(learner.features(batch))
    spread = torch.stack([posterior.log_variance.exp(), posterior.divergence()])
    return rearrange(posterior.mean, "clip code -> clip 1 code"), spread


def read_numbers(learner: Autoencoder, blocks: Iterator[Batch]) -> Reading:
    """Codes that are numbers; those of a posterior are ordered by their divergence from the prior."""
    found = [(*look(learner, batch), batch.factors) for batch in blocks]
    codes = torch.cat([code for code, _, _ in found])
    values = reduce(codes, "clip frame code -> clip code", "mean").double()
    varies = values.std(0, correction=0)
    spreads = [spread for _, spread, _ in found if spread is not None]
    if spreads:
        variance, divergence = torch.cat(spreads, dim=1).double().mean(1)
        deviation, worth = (varies**2 + variance).sqrt(), divergence
        notes = tuple(f"{nats:.2f} nats" for nats in worth.tolist())
    else:
        deviation, worth = varies, varies
        notes = tuple(f"deviation {one:.2g}" for one in worth.tolist())
    alive = varies > learner.dead_below
    names = tuple(f"code {position + 1}" for position in range(values.shape[1]))
    factors = torch.cat([factors for _, _, factors in found]).cpu().double().numpy()
    read_codes = Codes(values.cpu().numpy(), factors, names, worth.cpu().numpy(), notes, alive.cpu().numpy())
    scaled = (values - values.mean(0)) / deviation.clamp(min=1e-12)
    central = int((scaled**2).sum(1).argmin())
    moved = sweep_numbers(read_codes, codes[central], deviation.to(codes))
    return Reading(read_codes, central, moved)


def sweep_numbers(
    codes: Codes, base: Float[Tensor, "frame code"], deviation: Float[Tensor, " code"]
) -> tuple[Sweep, ...]:
    """Each code in turn moved by STEPS deviations, from the same base."""
    steps = tuple(f"{step:+.1f}".replace("-", "−") if step else "0" for step in STEPS)
    offsets = torch.tensor(STEPS).to(base)
    sweeps = []
    for code in codes.order:
        moved = repeat(base, "frame code -> step frame code", step=len(STEPS)).clone()
        moved[:, :, code] += rearrange(offsets * deviation[code], "step -> step 1")
        name, note, alive = codes.names[code], codes.notes[code], bool(codes.alive[code])
        sweeps.append(Sweep(name, note, alive, steps, STEPS.index(0), moved))
    return tuple(sweeps)


def read_entries(learner: VQVAE, blocks: Iterator[Batch]) -> Reading:
    """Codes that are entries of codebooks; a slot that uses its entries evenly carries most."""
    found = [(learner.codebooks.nearest(learner.vectors(learner.features(b))), b.factors) for b in blocks]
    index = torch.cat([one for one, _ in found])
    entries = learner.config.entries
    share = torch.stack([torch.bincount(slot, minlength=entries) for slot in index.T]).double() / len(index)
    perplexity = torch.special.entr(share).sum(1).exp().cpu().numpy()
    codes = Codes(
        values=index.cpu().double().numpy(),
        factors=torch.cat([factors for _, factors in found]).cpu().double().numpy(),
        names=tuple(f"slot {position + 1}" for position in range(index.shape[1])),
        worth=perplexity,
        notes=tuple(f"perplexity {one:.1f}" for one in perplexity.tolist()),
        alive=(share > 0).sum(1).cpu().numpy() > 1,
        entries=entries,
    )
    usual = share.gather(1, index.T).log().sum(0)
    central = int(usual.argmax())
    return Reading(codes, central, sweep_entries(learner, codes, index[central], share))


def sweep_entries(
    learner: VQVAE, codes: Codes, base: Int[Tensor, " slot"], share: Float[Tensor, "slot entry"]
) -> tuple[Sweep, ...]:
    """In each slot in turn, the entries that it uses most, along the line on which they differ most."""
    sweeps = []
    for slot in codes.order:
        used = share[slot].argsort(descending=True, stable=True)[: len(STEPS)]
        used = used[share[slot, used] > 0]
        own = base[slot]
        if not bool((used == own).any()):
            used = torch.cat([used[:-1], own[None]])
        moved = repeat(base, "slot -> step slot", step=len(used)).clone()
        moved[:, slot] = used
        places = learner.codebooks.look_up(moved)[:, slot].double()
        along = torch.linalg.svd(places - places.mean(0), full_matrices=False)[2][0]
        # Either end of the line may come first; the sign is fixed so that pictures recur.
        along = along * torch.sign(along[along.abs().argmax()])
        order = (places @ along).argsort(stable=True)
        used = used[order]
        vectors = rearrange(learner.codebooks.look_up(moved[order]), "step slot dim -> step 1 (slot dim)")
        at = int((used == own).nonzero()[0])
        steps = tuple(f"entry {entry}" for entry in used.tolist())
        name, note, alive = codes.names[slot], codes.notes[slot], bool(codes.alive[slot])
        sweeps.append(Sweep(name, note, alive, steps, at, vectors))
    return tuple(sweeps)
