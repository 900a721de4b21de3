"""Linear layers with layer normalisation and activations, and their vector–Jacobian product written out.

Networks of agents are so small that autograd takes longer to record and replay them than their matrix products
take.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sonarium.models.contract import Engine

Backward = Callable[[Tensor], Tensor]
"""From the gradient of the outputs, which it may overwrite, to that of the inputs; sets the gradients of the
weights."""


def applied(layer: nn.Module, rows: Tensor) -> Tensor:
    """Output of a layer; tanh and ReLU overwrite their input."""
    if isinstance(layer, nn.Linear):
        return torch.addmm(layer.bias, rows, layer.weight.t())
    if isinstance(layer, nn.LayerNorm):
        return layer(rows)
    assert isinstance(layer, nn.Tanh | nn.ReLU), layer
    return rows.tanh_() if isinstance(layer, nn.Tanh) else rows.relu_()


def dense(network: Iterable[nn.Module], rows: Float[Tensor, "row number"]) -> Float[Tensor, "row output"]:
    """Outputs of a sequence of Linear, LayerNorm, Tanh and ReLU that does not begin with an activation."""
    for layer in network:
        rows = applied(layer, rows)
    return rows


def dense_vjp(
    network: Iterable[nn.Module], rows: Float[Tensor, "row number"]
) -> tuple[Float[Tensor, "row output"], Backward]:
    """The same outputs without autograd, and their vector–Jacobian product."""
    trace = []
    with torch.no_grad():
        for layer in network:
            given, rows = rows, applied(layer, rows)
            trace.append((layer, given, rows))

    def backward(gradient: Tensor) -> Tensor:
        with torch.no_grad():
            for layer, given, made in reversed(trace):
                if isinstance(layer, nn.Linear):
                    layer.weight.grad, layer.bias.grad = gradient.t().mm(given), gradient.sum(0)
                    gradient = gradient.mm(layer.weight)
                elif isinstance(layer, nn.LayerNorm):
                    gradient, layer.weight.grad, layer.bias.grad = normalised_vjp(layer, given, gradient)
                elif isinstance(layer, nn.Tanh):
                    torch.ops.aten.tanh_backward(gradient, made, grad_input=gradient)
                else:
                    torch.ops.aten.threshold_backward(gradient, made, 0, grad_input=gradient)
        return gradient

    return rows, backward


def descend(
    known: Float[Tensor, "row number"],
    backward: Callable[[], Tensor],
    optimiser: torch.optim.Optimizer,
    engine: Engine,
    clip: float | None,
) -> None:
    """One optimiser step. `backward` sets the gradients of the heads and returns that of the embedding `known`,
    from which autograd goes on where weights lie below: convolutions, a GRU, ears that are trained."""
    below = known.requires_grad
    if below:
        optimiser.zero_grad()
    with torch.no_grad():
        gradient = backward()
    if below:
        known.backward(gradient)
    engine.step(optimiser, clip)


def normalised_vjp(
    layer: nn.LayerNorm, rows: Float[Tensor, "row number"], gradient: Float[Tensor, "row number"]
) -> tuple[Float[Tensor, "row number"], Float[Tensor, " number"], Float[Tensor, " number"]]:
    """Gradients of the input, the weight and the bias of layer normalisation."""
    variance, mean = torch.var_mean(rows, 1, correction=0, keepdim=True)
    scale = (variance + layer.eps).rsqrt()
    standard, own = (rows - mean) * scale, gradient * layer.weight
    apart = own - own.mean(1, keepdim=True) - standard * (own * standard).mean(1, keepdim=True)
    return scale * apart, (gradient * standard).sum(0), gradient.sum(0)
