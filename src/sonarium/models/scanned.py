"""Recurrent networks for export: one step, scanned over any number of frames.

`torch.export` specialises `torch.nn.GRU` and `torch.nn.LSTM` to a single length.
"""

from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

State = tuple[Tensor, ...]


def recur(
    network: nn.GRU | nn.LSTM, frames: Float[Tensor, "clip frame given"]
) -> Float[Tensor, "clip frame state"]:
    """Equal to `network(frames)[0]`."""
    for layer in range(network.num_layers):
        states = one_way(network, frames, f"_l{layer}")
        if network.bidirectional:
            back = one_way(network, frames.flip(1), f"_l{layer}_reverse").flip(1)
            states = torch.cat([states, back], -1)
        frames = states
    return frames


def one_way(
    network: nn.GRU | nn.LSTM, frames: Float[Tensor, "clip frame given"], layer: str
) -> Float[Tensor, "clip frame state"]:
    """A layer in one direction, by the equations of `torch.nn.GRU` and `torch.nn.LSTM`."""
    # Slow to import, and only needed in export.
    from torch._higher_order_ops.scan import scan

    names = (f"{name}{layer}" for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"))
    of_input, constant, of_state, state_constant = (getattr(network, name) for name in names)
    given = functional.linear(frames, of_input, constant).transpose(0, 1)
    zeros = frames.new_zeros(frames.shape[0], network.hidden_size)

    # Functions with run-time type checks, as in tests, cannot be traced.
    @no_type_check
    def gru(state: State, now: Tensor, weight: Tensor = of_state, bias: Tensor = state_constant):
        (before,) = state
        reset, keep, new = now.chunk(3, 1)
        own_reset, own_keep, own_new = functional.linear(before, weight, bias).chunk(3, 1)
        proposed = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
        after = proposed + torch.sigmoid(keep + own_keep) * (before - proposed)
        return (after,), after.clone()

    @no_type_check
    def lstm(state: State, now: Tensor, weight: Tensor = of_state, bias: Tensor = state_constant):
        before, cell = state
        enter, keep, new, leave = (now + functional.linear(before, weight, bias)).chunk(4, 1)
        held = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
        after = torch.sigmoid(leave) * torch.tanh(held)
        return (after, held), after.clone()

    if isinstance(network, nn.GRU):
        _, states = scan(gru, (zeros,), given)
    else:
        _, states = scan(lstm, (zeros, zeros.clone()), given)
    return states.transpose(0, 1)
