"""Linear layers with their activations, and their vector–Jacobian product written out.

Networks of agents are so small that autograd takes longer to record and replay them than their products take.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Backward = Callable[[Tensor], Tensor]
"""From the gradient of the outputs to that of the inputs; sets the gradients of the weights."""


def applied(layer: nn.Module, rows: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return torch.addmm(layer.bias, rows, layer.weight.t())
    return rows.tanh() if isinstance(layer, nn.Tanh) else rows.relu()


def dense(network: nn.Sequential, rows: Float[Tensor, "row number"]) -> Float[Tensor, "row output"]:
    """Outputs of linear layers, each followed by tanh, ReLU or nothing."""
    for layer in network:
        rows = applied(layer, rows)
    return rows


def dense_vjp(
    network: nn.Sequential, rows: Float[Tensor, "row number"]
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
                elif isinstance(layer, nn.Tanh):
                    gradient = torch.ops.aten.tanh_backward(gradient, made)
                else:
                    gradient = torch.ops.aten.threshold_backward(gradient, made, 0)
        return gradient

    return rows, backward
