"""Policies: categorical or normal distributions over actions, parametrised by the outputs of a network."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import log, pi

import numpy as np
import torch
from gymnasium import Space, spaces
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from sonarium.agents.spaces import sizes_of, text_of
from sonarium.environment import EnvironmentFault

Backward = Callable[[Tensor, Tensor], Tensor]
"""From the gradients of log-probability and entropy to that of the outputs; sets the gradients of the policy's
parameters."""


class Policy(nn.Module, ABC):
    """Distribution over actions; `drawn` is a sample of it, `action` the form that the environment takes."""

    outputs: int
    """Number of network outputs, the parameters of the distribution."""
    width: int
    """Dimension of an encoded action, an input of the network."""

    @abstractmethod
    def draw(
        self, outputs: Float[Tensor, "row output"], generator: torch.Generator | None
    ) -> Shaped[Tensor, "row part"]:
        """Sample of the distribution; its mode without a generator."""

    @abstractmethod
    def action(self, drawn: Shaped[Tensor, "row part"]) -> Shaped[np.ndarray, "row *action"]: ...

    @abstractmethod
    def evaluate(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
        """Log-probability of the sample, and the entropy."""

    @abstractmethod
    def evaluate_vjp(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"], Backward]:
        """The same without autograd, and the vector–Jacobian product."""

    @abstractmethod
    def encode(self, drawn: Shaped[Tensor, "row part"]) -> Float[Tensor, "row number"]: ...

    @abstractmethod
    def drawn(self, action: Shaped[np.ndarray, "row *action"]) -> Shaped[Tensor, "row part"]:
        """The sample that corresponds to an action of the environment."""

    @abstractmethod
    def through(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> Float[Tensor, "row number"]:
        """The sample as it is carried out and encoded, with a gradient to the outputs: straight-through, or by
        reparametrisation."""


class Categoricals(Policy):
    """Independent categorical distributions."""

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        super().__init__()
        self.space = space
        if isinstance(space, spaces.MultiBinary):
            self.sizes, self.start = [2] * int(np.prod(space.shape)), np.zeros(space.shape, int)
        else:
            self.sizes, self.start = sizes_of(space)
        self.outputs = self.width = sum(self.sizes)

    def logits(self, outputs: Float[Tensor, "row output"]) -> list[Tensor]:
        return [outputs] if len(self.sizes) == 1 else list(outputs.split(self.sizes, 1))

    def draw(
        self, outputs: Float[Tensor, "row output"], generator: torch.Generator | None
    ) -> Shaped[Tensor, "row part"]:
        if generator is not None:
            # The argmax of logits with Gumbel noise is a sample of their softmax.
            noise = torch.empty_like(outputs).exponential_(generator=generator)
            outputs = outputs - noise.log()
        chosen = [one.argmax(1, keepdim=True) for one in self.logits(outputs)]
        return chosen[0] if len(chosen) == 1 else torch.cat(chosen, 1)

    def action(self, drawn: Shaped[Tensor, "row part"]) -> Shaped[np.ndarray, "row *action"]:
        rows = drawn.cpu().numpy().reshape(len(drawn), *self.start.shape) + self.start
        return rows.astype(self.space.dtype)

    def evaluate(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
        found = []
        for logits, one in zip(self.logits(outputs), drawn.split(1, 1), strict=True):
            logs = logits.log_softmax(1)
            found.append((logs.gather(1, one)[:, 0], -(logs.exp() * logs).sum(1)))
        if len(found) == 1:
            return found[0]
        chosen, entropies = zip(*found, strict=True)
        return torch.stack(chosen).sum(0), torch.stack(entropies).sum(0)

    @torch.no_grad()
    def evaluate_vjp(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"], Backward]:
        found = []
        for logits, one in zip(self.logits(outputs), drawn.split(1, 1), strict=True):
            logs = logits.log_softmax(1)
            shares = logs.exp()
            found.append((one, logs, shares, logs.gather(1, one)[:, 0], -(shares * logs).sum(1)))

        def backward(chosen: Tensor, entropy: Tensor) -> Tensor:
            # Of log p(a): 1[a] − p. Of the entropy H: −p (log p + H).
            parts = []
            for one, logs, shares, _, own in found:
                made = -shares * torch.addcmul(chosen[:, None], entropy[:, None], logs + own[:, None])
                parts.append(made.scatter_add_(1, one, chosen[:, None]))
            return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

        *_, chosen, entropies = zip(*found, strict=True)
        if len(found) == 1:
            return chosen[0], entropies[0], backward
        return torch.stack(chosen).sum(0), torch.stack(entropies).sum(0), backward

    def encode(self, drawn: Shaped[Tensor, "row part"]) -> Float[Tensor, "row number"]:
        parts = zip(drawn.unbind(1), self.sizes, strict=True)
        return torch.cat([functional.one_hot(one, size).float() for one, size in parts], 1)

    def drawn(self, action: Shaped[np.ndarray, "row *action"]) -> Shaped[Tensor, "row part"]:
        return torch.from_numpy(action.astype(np.int64) - self.start).reshape(len(action), len(self.sizes))

    def through(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> Float[Tensor, "row number"]:
        ones, shares = self.encode(drawn), torch.cat([one.softmax(1) for one in self.logits(outputs)], 1)
        return ones + (shares - shares.detach())


class Gaussian(Policy):
    """Independent normal distributions, whose standard deviations are parameters; samples are clipped to the
    bounds of the space only where they are carried out."""

    def __init__(self, space: spaces.Box, deviation: float):
        super().__init__()
        self.space = space
        self.outputs = self.width = int(np.prod(space.shape))
        self.log_deviation = nn.Parameter(torch.full((self.outputs,), log(deviation)))

    def draw(
        self, outputs: Float[Tensor, "row output"], generator: torch.Generator | None
    ) -> Shaped[Tensor, "row part"]:
        if generator is None:
            return outputs
        noise = torch.empty_like(outputs).normal_(generator=generator)
        return outputs + self.log_deviation.exp() * noise

    def action(self, drawn: Shaped[Tensor, "row part"]) -> Shaped[np.ndarray, "row *action"]:
        rows = drawn.cpu().numpy().reshape(len(drawn), *self.space.shape)
        return np.clip(rows, self.space.low, self.space.high).astype(self.space.dtype)

    def evaluate(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
        apart = (drawn - outputs) / self.log_deviation.exp()
        logs = -0.5 * (apart.square() + log(2 * pi)) - self.log_deviation
        entropy = (0.5 * (1 + log(2 * pi)) + self.log_deviation).sum()
        return logs.sum(1), entropy.expand(len(outputs))

    @torch.no_grad()
    def evaluate_vjp(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"], Backward]:
        deviation = self.log_deviation.exp()
        apart = (drawn - outputs) / deviation

        def backward(chosen: Tensor, entropy: Tensor) -> Tensor:
            self.log_deviation.grad = chosen @ (apart.square() - 1) + entropy.sum()
            return chosen[:, None] * apart / deviation

        return *self.evaluate(outputs, drawn), backward

    def encode(self, drawn: Shaped[Tensor, "row part"]) -> Float[Tensor, "row number"]:
        return drawn.float()

    def drawn(self, action: Shaped[np.ndarray, "row *action"]) -> Shaped[Tensor, "row part"]:
        return torch.from_numpy(action.astype(np.float32)).reshape(len(action), self.outputs)

    def through(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> Float[Tensor, "row number"]:
        deviation = self.log_deviation.exp()
        noise = ((drawn - outputs) / deviation).detach()
        made = outputs + deviation * noise
        # In the floating-point type of the network, which may differ from that of the space.
        low, high = (torch.as_tensor(one.reshape(-1)).to(made) for one in (self.space.low, self.space.high))
        return made.clamp(low, high)


def policy_of(space: Space, deviation: float) -> Policy:
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return Categoricals(space)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return Gaussian(space, deviation)
    raise EnvironmentFault(
        "agents act in Discrete, MultiDiscrete, MultiBinary and Box (of floating-point numbers), not in "
        f"{text_of(space)}: wrap the environment, or choose another --env"
    )
