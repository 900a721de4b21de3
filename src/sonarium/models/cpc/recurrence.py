"""Torch's recurrent networks as a loop that an exported program keeps, whatever the length of a clip.

Torch's own are unrolled in export, for clips of one length. The equations are those of `torch.nn.GRU` and
`torch.nn.LSTM`, whose weights these are.
"""

from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

State = tuple[Tensor, ...]


def recur(
    network: nn.GRU | nn.LSTM, frames: Float[Tensor, "clip frame given"]
) -> Float[Tensor, "clip frame context"]:
    """What `network(frames)[0]` gives."""
    # Takes long to read, and only an export needs it.
    from torch._higher_order_ops.scan import scan

    for layer in range(network.num_layers):
        names = (f"{name}_l{layer}" for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"))
        of_input, constant, of_state, state_constant = (getattr(network, name) for name in names)
        given = functional.linear(frames, of_input, constant).transpose(0, 1)
        silence = frames.new_zeros(frames.shape[0], network.hidden_size)

        # What is not type-checked in tests can be traced there.
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
            _, heard = scan(gru, (silence,), given)
        else:
            _, heard = scan(lstm, (silence, silence.clone()), given)
        frames = heard.transpose(0, 1)
    return frames
