"""Guesses at the latent codes of the next frames, from the context: one predictor for each step ahead."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sonarium.models.cpc.attention import CausalLayer, sizes

HEADS, HIDDEN = 8, 2048
"""Heads, and units of the middle layer, of CPC_audio's transformers."""


@dataclass(frozen=True)
class PredictorConfig:
    form: Literal["linear", "mlp", "transformer"] = "linear"
    """What makes a guess: a matrix, two with ReLUs between (mlp), or a layer of causal transformer."""
    ahead: int = 12
    """Frames ahead that are guessed at: 1 to so many."""
    constant: bool = False
    """Whether linear predictors add a constant."""
    units: int = 256
    """Units in the middle of a predictor of the form mlp."""
    span: int = 116
    """Frames back that predictors of the form transformer tell apart."""

    def __post_init__(self) -> None:
        if self.form not in ("linear", "mlp", "transformer"):
            raise ValueError(f"form={self.form!r}: give linear, mlp or transformer")
        for name in ("ahead", "units", "span"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give a whole number of at least 1")


class Predictors(nn.Module):
    """From contexts to what each of the next frames may be; all steps ahead in one product where they can be."""

    def __init__(self, config: PredictorConfig, context: int, code: int):
        super().__init__()
        self.ahead, form = config.ahead, config.form
        if form == "transformer":
            sizes(context, HEADS, "width")
            self.layers = nn.ModuleList(
                nn.Sequential(
                    CausalLayer(context, HEADS, config.span, HIDDEN),
                    nn.Identity() if context == code else nn.Linear(context, code, bias=False),
                )
                for _ in range(config.ahead)
            )
        elif form == "mlp":
            self.layers = nn.Sequential(nn.Linear(context, config.ahead * config.units), nn.ReLU())
            bound = config.units**-0.5
            self.weight = nn.Parameter(torch.empty(config.ahead, config.units, code).uniform_(-bound, bound))
            self.bias = nn.Parameter(torch.zeros(config.ahead, code))
        else:
            self.layers = nn.Linear(context, config.ahead * code, bias=config.constant)

    def forward(
        self, context: Float[Tensor, "clip time context"], last: bool = False
    ) -> Float[Tensor, "clip guess step code"]:
        """One guess a context and step ahead, or of the last context alone."""
        if isinstance(self.layers, nn.ModuleList):
            guesses = torch.stack([layer(context) for layer in self.layers], 2)
            return guesses[:, -1:] if last else guesses
        heard = context[:, -1:] if last else context
        flat = self.layers(heard)
        by_step = rearrange(flat, "clip guess (step unit) -> clip guess step unit", step=self.ahead)
        if isinstance(self.layers, nn.Linear):
            return by_step
        joined = einsum(by_step, self.weight, "clip guess step unit, step unit code -> clip guess step code")
        return joined + self.bias
