"""Building blocks of agents: hidden layers, a GRU over episodes with its memory, and running statistics."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

LARGEST = 10.0
"""Standardised numbers are clipped to ± this."""


class RunningMeanStd(nn.Module):
    """Standardisation by the running mean and standard deviation (Chan, Golub and LeVeque 1983)."""

    mean: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("square", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @property
    def variance(self) -> Float[Tensor, " number"]:
        return self.square / self.count.clamp(min=1)

    def forward(self, rows: Shaped[Tensor, "row number"]) -> Float[Tensor, "row number"]:
        scale = (self.variance + 1e-8).rsqrt()
        return ((rows.double() - self.mean) * scale).float().clamp(-LARGEST, LARGEST)

    def undone(self, rows: Float[Tensor, "row number"]) -> Float[Tensor, "row number"]:
        """Inverse of `forward`, except for clipping."""
        return (rows.double() * (self.variance + 1e-8).sqrt() + self.mean).float()

    @torch.no_grad()
    def learn(self, rows: Shaped[Tensor, "row number"]) -> None:
        rows = rows.double()
        count, mean = len(rows), rows.mean(0)
        square = (rows - mean).square().sum(0)
        if not self.count:
            self.square.zero_()
        total, apart = self.count + count, mean - self.mean
        self.square += square + apart.square() * self.count * count / total
        self.mean += apart * count / total
        self.count.copy_(total)


def hidden(
    given: int, units: int, layers: int, activation: Literal["tanh", "relu"], layer_norm: bool = False
) -> nn.Sequential:
    """Linear layers, each followed by its activation, with optional layer normalisation in between."""
    made: list[nn.Module] = []
    for layer in range(layers):
        made.append(nn.Linear(units if layer else given, units))
        made += [nn.LayerNorm(units)] if layer_norm else []
        made.append(nn.Tanh() if activation == "tanh" else nn.ReLU())
    return nn.Sequential(*made)


def threads_for(units: int, *below: nn.Module | None) -> int | None:
    """Maximum number of CPU threads in training: 1 if the hidden layers have at most 128 units and the networks
    below have no weights, otherwise no limit."""
    others = [weight for network in below if network is not None for weight in network.parameters()]
    return None if others or units > 128 else 1


def orthogonal(layer: nn.Linear, gain: float) -> None:
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)


@dataclass(frozen=True, eq=False)
class Remembered:
    """Memory of a recurrent agent."""

    state: Float[Tensor, "slot unit"]
    """Hidden state of the GRU."""
    action: Float[Tensor, "slot number"]
    """The last action, encoded."""
    reward: Float[Tensor, " slot"]
    """Reward of the last action, scaled."""

    @classmethod
    def nothing(cls, slots: int, units: int, width: int, device: torch.device) -> "Remembered":
        """Memory at the beginning of an episode: zeros."""
        state = torch.zeros(slots, units, device=device)
        return cls(state, state.new_zeros(slots, width), state.new_zeros(slots))


def previous_of(
    action: Float[Tensor, "row number"], reward: Float[Tensor, " row"], first: Bool[Tensor, " row"]
) -> Float[Tensor, "row numbers"]:
    """Previous action and reward as inputs; zeros at the first step of an episode."""
    return torch.cat([action, reward[:, None]], 1) * (~first).float()[:, None]


class EpisodeGRU(nn.Module):
    """A GRU over a batch of sequences, whose hidden state is reset at the start of each episode."""

    def __init__(self, given: int, units: int):
        super().__init__()
        self.cell = nn.GRUCell(given, units)

    def forward(
        self,
        inputs: Float[Tensor, "step sequence input"],
        first: Bool[Tensor, "step sequence"],
        state: Float[Tensor, "sequence unit"],
    ) -> Float[Tensor, "step sequence unit"]:
        """The state after each step."""
        kept, found = (~first).float()[..., None], []
        for now, keep in zip(inputs, kept, strict=True):
            state = self.cell(now, state * keep)
            found.append(state)
        return torch.stack(found)
