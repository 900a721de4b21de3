"""What has been heard so far, frame by frame: a recurrent network or a causal transformer over latent codes."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sonarium.models.cpc.attention import CausalLayer, sizes
from sonarium.models.cpc.recurrence import recur


@dataclass(frozen=True)
class ContextConfig:
    network: Literal["gru", "lstm", "transformer"] = "gru"
    """What sums up the frames so far."""
    width: int = 256
    """Numbers in the context of one frame."""
    depth: int = 1
    """Layers, one over the other."""
    heads: int = 8
    """Heads of attention of a transformer."""
    reach: int = 128
    """Frames back that a transformer tells apart; those further back seem equally far."""
    both_ways: bool = False
    """Whether a second network hears the sound from its end, as CDCK6 does; codes are then of twice the width."""

    def __post_init__(self) -> None:
        if self.network not in ("gru", "lstm", "transformer"):
            raise ValueError(f"network={self.network!r}: give gru, lstm or transformer")
        for name in ("width", "depth", "heads", "reach"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give a whole number of at least 1")
        if self.network == "transformer":
            sizes(self.width, self.heads, "width")


class Context(nn.Module):
    """One way through the frames; nothing that comes later is heard."""

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
        # The steps of a recurrent network are too small to gain by 16 bits, and lose by converting to them.
        with torch.autocast(kind, enabled=False):
            return self.network(latents.float())[0]
