"""Context networks: a recurrent network or a causal transformer over latent codes.

The transformer has learned relative positions (Shaw et al. 2018, arXiv 1803.02155; Dai et al. 2019, arXiv
1901.02860), in the form of CPC_audio's predictors (Rivière et al. 2020, arXiv 2002.02848): one vector per
distance, shared by the heads; distances beyond the longest share its vector, so that sound of any length can be
encoded. Layer normalisation follows each residual sum (post-norm), and the attention has no bias.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.models.scanned import recur


@dataclass(frozen=True)
class ContextConfig:
    network: Literal["gru", "lstm", "transformer"] = "gru"
    """Context network."""
    width: Annotated[int, Range(1, 2**14)] = 256
    """Context dimension, the hidden size of the network."""
    depth: Annotated[int, Range(1, 64)] = 1
    """Number of layers."""
    heads: Annotated[int, Range(1, 1024)] = 8
    """Number of attention heads of a transformer."""
    reach: Annotated[int, Range(1, 2**16)] = 128
    """Maximum relative position of a transformer in frames, to which larger ones are clipped."""
    bidirectional: bool = False
    """Add a second network that runs backwards, as in CDCK6; codes are then twice as wide."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.network == "transformer":
            check_heads(self.width, self.heads, "width")


class Context(nn.Module):
    """Causal network from latent codes to contexts."""

    def __init__(self, config: ContextConfig, given: int):
        super().__init__()
        if config.network == "transformer":
            entry = nn.Identity() if given == config.width else nn.Linear(given, config.width)
            layers = [
                CausalLayer(config.width, config.heads, config.reach, 4 * config.width)
                for _ in range(config.depth)
            ]
            self.network = nn.Sequential(entry, *layers)
        else:
            kind = {"gru": nn.GRU, "lstm": nn.LSTM}[config.network]
            self.network = kind(given, config.width, config.depth, batch_first=True)

    def forward(self, latents: Float[Tensor, "clip frame given"]) -> Float[Tensor, "clip frame context"]:
        if isinstance(self.network, nn.Sequential):
            return self.network(latents)
        if torch.compiler.is_exporting():
            return recur(self.network, latents)
        kind = latents.device.type
        if not torch.is_autocast_enabled(kind):
            return self.network(latents)[0]
        # Recurrent steps are too small to profit from 16 bits, and the conversion slows them down.
        with torch.autocast(kind, enabled=False):
            return self.network(latents.float())[0]


def check_heads(width: int, heads: int, name: str) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"{name}={width} is not a multiple of heads={heads}: give one")


Attended = tuple[Float[Tensor, "row head _ part"], Float[Tensor, "row head _ part"]]
"""Keys and values of the frames so far."""
Branched = tuple[Float[Tensor, "row head branch _ part"], Float[Tensor, "row head branch _ part"]]
"""Those of the frames of each branch."""


class CausalLayer(nn.Module):
    """Causal transformer layer: each frame attends to itself and earlier frames."""

    def __init__(self, width: int, heads: int, reach: int, hidden: int):
        super().__init__()
        self.heads, self.reach = heads, reach
        self.asked, self.known, self.told, self.joined = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.distance = nn.Parameter(torch.empty(reach, width // heads))
        nn.init.uniform_(self.distance, -((width // heads) ** -0.5), (width // heads) ** -0.5)
        self.attended, self.thought = nn.LayerNorm(width), nn.LayerNorm(width)
        self.think = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, frames: Float[Tensor, "clip frame width"]) -> Float[Tensor, "clip frame width"]:
        return self.read(frames)[0]

    def read(
        self, frames: Float[Tensor, "clip frame width"], before: Attended | None = None
    ) -> tuple[Float[Tensor, "clip frame width"], Attended]:
        """Outputs, and keys and values of all frames so far; with those of earlier frames, of one more frame."""
        split = "clip frame (head part) -> clip head frame part"
        q, k, v = (rearrange(way(frames), split, head=self.heads) for way in (self.asked, self.known, self.told))
        if before is not None:
            assert frames.shape[1] == 1, frames.shape
            k, v = (torch.cat(both, 2) for both in zip(before, (k, v), strict=True))
        bias = self.nearness(q, k.shape[2]) * q.shape[-1] ** -0.5
        if before is None:
            bias = bias.masked_fill(later(frames.shape[1], q.device), -torch.inf)
        values = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.after(frames, values), (k, v)

    def after(
        self, frames: Float[Tensor, "clip frame width"], values: Float[Tensor, "clip head frame part"]
    ) -> Float[Tensor, "clip frame width"]:
        """Outputs from the frames and what each attends to."""
        joined = self.joined(rearrange(values, "clip head frame part -> clip frame (head part)"))
        attended = self.attended(frames + joined)
        return self.thought(attended + self.think(attended))

    def branch(
        self,
        frames: Float[Tensor, "clip branch width"],
        trunk: Attended,
        tips: Int[Tensor, " branch"],
        before: Branched | None,
    ) -> tuple[Float[Tensor, "clip branch width"], Branched]:
        """Outputs for one more frame of each branch, which attends to the frames of the trunk up to the branch's
        tip and to those of the branch so far; keys and values of the latter."""
        split = "clip branch (head part) -> clip head branch part"
        q, k, v = (rearrange(way(frames), split, head=self.heads) for way in (self.asked, self.known, self.told))
        own, told = (one[..., None, :] for one in (k, v))
        if before is not None:
            own, told = (torch.cat(both, 3) for both in zip(before, (own, told), strict=True))
        count, places = own.shape[3], torch.arange(trunk[0].shape[2], device=tips.device)
        far = (tips[:, None] + count - places).clamp(0, self.reach - 1)
        on_trunk = einsum(q, trunk[0], "clip head branch part, clip head frame part -> clip head branch frame")
        on_trunk = on_trunk + einsum(
            q, self.distance[far], "clip head branch part, branch frame part -> clip head branch frame"
        )
        on_trunk = on_trunk.masked_fill(places > tips[:, None], -torch.inf)
        behind = torch.arange(count - 1, -1, -1, device=tips.device).clamp(max=self.reach - 1)
        on_own = einsum(
            q,
            own + self.distance[behind],
            "clip head branch part, clip head branch step part -> clip head branch step",
        )
        share = (torch.cat([on_trunk, on_own], 3).float() * q.shape[-1] ** -0.5).softmax(3).to(q.dtype)
        of_trunk, of_own = share.split([len(places), count], 3)
        values = of_trunk @ trunk[1] + (of_own[..., None, :] @ told)[..., 0, :]
        return self.after(frames, values), (own, told)

    def nearness(
        self, asked: Float[Tensor, "clip head frame part"], time: int
    ) -> Float[Tensor, "clip head frame {time}"]:
        """Relative-position scores q_i · r_{i−j} at (i, j) of all frames, or of the last one; values above the
        diagonal are meaningless."""
        far_to_near = torch.arange(time - 1, -1, -1, device=asked.device).clamp(max=self.reach - 1)
        by_distance = einsum(
            asked, self.distance[far_to_near], "clip head frame part, distance part -> clip head frame distance"
        )
        if asked.shape[2] == 1:
            return by_distance
        # Row i has distance i − j at column j + time − 1 − i; in rows that are one longer, that is column j.
        padded = functional.pad(by_distance, (1, 0))
        return padded.reshape(*asked.shape[:2], time + 1, time)[:, :, 1:]


class CausalStack(nn.Sequential):
    """A linear layer and causal transformer layers."""

    def read(
        self, frames: Float[Tensor, "clip frame given"], memory: list[Attended] | None = None
    ) -> tuple[Float[Tensor, "clip frame width"], list[Attended]]:
        """Outputs, and keys and values of each layer; with those of earlier frames, of one more frame."""
        project, *layers = self
        found, kept = project(frames), []
        for layer, before in zip(layers, memory or [None] * len(layers), strict=True):
            found, after = cast(CausalLayer, layer).read(found, before)
            kept.append(after)
        return found, kept

    def branch(
        self,
        frames: Float[Tensor, "clip branch given"],
        trunk: list[Attended],
        tips: Int[Tensor, " branch"],
        memory: list[Branched] | None = None,
    ) -> tuple[Float[Tensor, "clip branch width"], list[Branched]]:
        """Outputs for one more frame of each branch of the trunk, whose keys and values `read` returned; and those
        of the branches, for their next frames."""
        project, *layers = self
        found, kept = project(frames), []
        for layer, below, before in zip(layers, trunk, memory or [None] * len(layers), strict=True):
            found, after = cast(CausalLayer, layer).branch(found, below, tips, before)
            kept.append(after)
        return found, kept


def later(time: int, device: torch.device) -> Tensor:
    """Mask of pairs (frame, other) whose other frame is later."""
    return torch.ones(time, time, dtype=torch.bool, device=device).triu(1)
