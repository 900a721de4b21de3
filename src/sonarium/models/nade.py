"""Autoregressive joint distribution of one-hot variables (NADE, Uria et al. 2016, arXiv 1605.02226).

    p(z | h) = Π_i p(z_i | z_1, …, z_{i−1}, h)      logits of z_i: V_i elu(W h + Σ_{j<i} U_j z_j) + b_i

The hidden layer is shared: each variable adds its column to it before the next one is predicted.
"""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sonarium.models.latent import Categorical


class NADE(nn.Module):
    def __init__(self, given: int, variables: int, classes: int, hidden: int):
        super().__init__()
        self.latent = Categorical(variables, classes)
        self.given = nn.Linear(given, hidden)
        bound = 1 / sqrt(hidden)
        self.before = nn.Parameter(torch.empty(variables - 1, classes, hidden).uniform_(-bound, bound))
        self.out = nn.Parameter(torch.empty(variables, hidden, classes).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(variables, classes))

    def forward(
        self, h: Float[Tensor, "*rows given"], z: Float[Tensor, "*rows size"]
    ) -> Float[Tensor, "*rows raw"]:
        """Logits of each variable given the preceding ones in z (teacher forcing)."""
        known = self.latent.split(z)[..., :-1, :].to(self.before)
        added = torch.einsum("...vc,vch->...vh", known, self.before).cumsum(-2)
        seen = self.given(h)[..., None, :] + functional.pad(added, (0, 0, 1, 0))
        return (torch.einsum("...vh,vhc->...vc", functional.elu(seen), self.out) + self.bias).flatten(-2)

    def draw(
        self, h: Float[Tensor, "*rows given"], noise: Float[Tensor, "*rows draw"] | None, temperature: float = 1.0
    ) -> tuple[Float[Tensor, "*rows size"], Float[Tensor, "*rows raw"]]:
        """Draw from the logits divided by the temperature, and the undivided logits; without noise, each variable
        takes its most likely class given those before it."""
        seen, chosen, logits = self.given(h), [], []
        for variable in range(self.latent.variables):
            raw = functional.elu(seen) @ self.out[variable] + self.bias[variable]
            own = None if noise is None else noise[..., variable : variable + 1]
            index = self.latent.chosen((raw / temperature).softmax(-1)[..., None, :], own)[..., 0]
            if variable < len(self.before):
                seen = seen + self.before[variable][index]
            chosen.append(index)
            logits.append(raw)
        z = functional.one_hot(torch.stack(chosen, -1), self.latent.classes).to(h.dtype)
        return z.flatten(-2), torch.cat(logits, -1)
