"""A causal transformer layer with learned relative positions (Shaw et al. 2018, arXiv 1803.02155; Dai et al. 2019,
arXiv 1901.02860), in the form that CPC_audio predicts with (Rivière et al. 2020, arXiv 2002.02848).

One vector a distance, shared by the heads; distances beyond the longest share its vector, so that sound of any
length can be heard. Each half is normalised after its sum, and the attention has no constants.
"""

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


def sizes(width: int, heads: int, name: str) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"{name}={width} cannot be shared out evenly to heads={heads}: give a multiple of heads")


class CausalLayer(nn.Module):
    """Each frame attends to itself and those before it."""

    def __init__(self, width: int, heads: int, reach: int, hidden: int):
        super().__init__()
        self.heads, self.reach = heads, reach
        self.asked, self.known, self.told, self.joined = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.distance = nn.Parameter(torch.empty(reach, width // heads))
        nn.init.uniform_(self.distance, -((width // heads) ** -0.5), (width // heads) ** -0.5)
        self.attended, self.thought = nn.LayerNorm(width), nn.LayerNorm(width)
        self.think = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, frames: Float[Tensor, "clip frame width"]) -> Float[Tensor, "clip frame width"]:
        split = "clip frame (head part) -> clip head frame part"
        q, k, v = (rearrange(way(frames), split, head=self.heads) for way in (self.asked, self.known, self.told))
        bias = (self.nearness(q) * q.shape[-1] ** -0.5).masked_fill(later(frames.shape[1], q.device), -torch.inf)
        heard = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        attended = self.attended(
            frames + self.joined(rearrange(heard, "clip head frame part -> clip frame (head part)"))
        )
        return self.thought(attended + self.think(attended))

    def nearness(self, asked: Float[Tensor, "clip head frame part"]) -> Float[Tensor, "clip head frame other"]:
        """q_i · r_{i−j} at (i, j); what lies above the diagonal has no meaning."""
        time = asked.shape[2]
        far_to_near = torch.arange(time - 1, -1, -1, device=asked.device).clamp(max=self.reach - 1)
        by_distance = einsum(
            asked, self.distance[far_to_near], "clip head frame part, distance part -> clip head frame distance"
        )
        # Row i has distance i − j at column j + time − 1 − i; in rows that are one longer, it comes to column j.
        padded = functional.pad(by_distance, (1, 0))
        return padded.reshape(*asked.shape[:2], time + 1, time)[:, :, 1:]


def later(time: int, device: torch.device) -> Tensor:
    """Which (frame, other) has the other after the frame."""
    return torch.ones(time, time, dtype=torch.bool, device=device).triu(1)
