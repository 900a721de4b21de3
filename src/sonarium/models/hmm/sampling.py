"""Sampling of sequences from a hidden Markov model, many at once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.models.hmm.em import Model


def tempered(rows: Float[Tensor, "row choice"], temperature: float) -> Float[Tensor, "row choice"]:
    """Probabilities raised to the power of 1 / temperature, normalised."""
    return rows if temperature == 1 else torch.softmax(rows.log() / temperature, 1)


def draw(
    model: Model,
    sequences: int,
    frames: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    mean: bool = False,
) -> tuple[Int[Tensor, "sequence frame"], Float[Tensor, "sequence frame feature"]]:
    """States and frames of sequences; the initial state is drawn and emits, too. The temperature applies to the
    initial state and to transitions, not to emissions and durations."""
    chain = model.chain
    start = tempered(chain.start[None], temperature)
    moves = tempered(chain.transitions, temperature)
    state = torch.multinomial(start.expand(sequences, -1), 1, generator=generator)[:, 0]
    left = lasting(model, state, generator)
    found = []
    for time in range(frames):
        if time:
            after = torch.multinomial(moves[state], 1, generator=generator)[:, 0]
            if left is None:
                state = after
            else:
                over = left == 1
                state = torch.where(over, after, state)
                fresh = lasting(model, state, generator)
                assert fresh is not None
                left = torch.where(over, fresh, left - 1)
        found.append(state)
    states = torch.stack(found, 1)
    if mean:
        return states, model.emission.expected()[states]
    drawn = model.emission.draw(states.flatten(), generator)
    return states, drawn.view(sequences, frames, -1)


def lasting(
    model: Model, state: Int[Tensor, " sequence"], generator: torch.Generator
) -> Int[Tensor, " sequence"] | None:
    """Drawn duration in frames of the state that each sequence enters; None unless durations are explicit."""
    if model.chain.durations is None:
        return None
    return 1 + torch.multinomial(model.chain.durations[state], 1, generator=generator)[:, 0]
