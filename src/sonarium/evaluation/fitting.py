"""What baselines and embeddings are fitted by: a network for some steps, the best of some hidden Markov models."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sonarium.models.hmm import HMM, choose_states
from sonarium.models.optim import AdamConfig

Network = TypeVar("Network", bound=nn.Module)
BATCH, RATE = 16, 3e-3
"""Of networks: pieces in a batch, and learning rate."""
STATES = (32, 64, 128)
"""Numbers of states of hidden Markov models to choose from."""
HELD_OUT = 0.2
"""Share of the training pieces whose likelihood chooses."""
FIRST, MORE = 6, 14
"""Rounds of EM of each number of states, and of the chosen one on all pieces after that."""
SEED = 0
"""All that is drawn follows from the clips alone, as in probing."""


@torch.enable_grad()
def trained(
    make: Callable[[], Network], loss: Callable[[Network, Tensor], Tensor], pieces: int, steps: int
) -> Network:
    """A network after so many steps of Adam on random pieces."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = make()
    optimiser = AdamConfig(learning_rate=RATE).build(network.parameters())
    for _ in range(steps):
        rows = torch.randint(pieces, (BATCH,), generator=generator)
        optimiser.zero_grad()
        loss(network, rows).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return network


def chosen_hmm(rows: Float[np.ndarray, "token number"], lengths: Sequence[int], **settings: Any) -> HMM:
    """The hidden Markov model of the number of states under which held-out pieces are likeliest, fitted to all
    pieces."""
    own = np.array([length for length in lengths if length])
    template = HMM(max_iter=FIRST, random_state=SEED, **settings)
    # A state needs a token, and what is held out is not there.
    room = max(1, len(rows) // 4)
    numbers = [number for number in STATES if number <= room] or [room]
    if len(own) < 4:
        return template.set_params(states=numbers[0], max_iter=FIRST + MORE).fit(rows, lengths=own)
    best, _ = choose_states(template, numbers, rows, own, held_out=HELD_OUT, random_state=SEED)
    return template.set_params(states=best.states, max_iter=MORE).fit(rows, lengths=own, start_from=best)
