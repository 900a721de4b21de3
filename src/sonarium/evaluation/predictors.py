"""Predictors of the tokens that follow a moment: the states of a learner, and baselines on the same tokens."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.fitting import SEED, TokenHMM, trained
from sonarium.evaluation.pieces import Moments, Pieces, everywhere, truth
from sonarium.evaluation.realtokens import front_of, regression, ridge
from sonarium.models.contract import Forecaster
from sonarium.models.gru import Recurrent

FOLLOWED = 64
"""Pieces per batch when states are computed."""
SAMPLES = 64
"""Number of futures averaged: with sixteen, a sixteenth of their variance would remain, some hundredths of a
nat."""
COVERING = 16
"""Number of futures for the coverage of the true one."""
LAST = 4
"""Order of linear AR in tokens."""


@dataclass(frozen=True)
class Predicted:
    """Predictions at each moment."""

    mean: Float[Tensor, "query horizon number"]
    drawn: Float[Tensor, "sample query step number"] | None = None
    """Sampled tokens up to the furthest horizon; None for a predictor that does not sample."""


Predict = Callable[[Pieces, Moments, tuple[int, ...]], Predicted]
Given = Callable[[Pieces, Moments], Float[np.ndarray, "query number"]]
"""Maps pieces and moments to the inputs of a regression."""
Decoder = tuple[Float[Tensor, "code number"], Float[Tensor, " number"]]
"""Weights and offset of the ridge regression from states to tokens."""


def followed(learner: Forecaster, some: Pieces, acted: bool = False) -> Float[Tensor, "piece token code"]:
    """States of all pieces, computed in batches; with all actions given, or with none."""
    parts = zip(some.signal.split(FOLLOWED), some.actions.split(FOLLOWED), strict=True)
    return torch.cat([learner.states(signal, actions=own if acted else None) for signal, own in parts])


def persistence(some: Pieces, where: Moments, ahead: tuple[int, ...]) -> Predicted:
    return Predicted(some.tokens[where.piece, where.token][:, None].expand(-1, len(ahead), -1))


def of_states(learner: Forecaster, decoder: Decoder, shuffled: bool = False, acted: bool = False) -> Predict:
    """Predict by the mean of decoded futures; with the past shuffled, or with all actions given."""
    size = front_of(learner).shortest

    def predict(some: Pieces, where: Moments, ahead: tuple[int, ...]) -> Predicted:
        generator = torch.Generator().manual_seed(SEED)
        own = some.actions if acted else None
        made = some.tokens.new_zeros(SAMPLES, len(where.token), ahead[-1], some.tokens.shape[2])
        states = None if shuffled else followed(learner, some, acted)
        for heard, at in where.together():
            if states is None:
                past = learner.states(out_of_order(some, where.piece[at], heard, size, generator))
            else:
                past = states[where.piece[at], :heard]
            known = None if own is None else own[where.piece[at], : heard + ahead[-1]]
            drawn = learner.go_on(past, ahead[-1], SAMPLES, generator, actions=known).codes
            made[:, at] = decoded(drawn, decoder).to(made)
        return Predicted(made.mean(0)[:, torch.tensor(ahead) - 1], made[:COVERING])

    return predict


def decoder_of(learner: Forecaster, fitted: Pieces, acted: bool = False) -> Decoder:
    warm = fitted.inside & (torch.arange(fitted.tokens.shape[1]) >= learner.burn_in)
    number = torch.arange(len(warm))[:, None].expand(warm.shape)
    known, inside = followed(learner, fitted, acted), fitted.inside
    weights, offset, _ = regression([known[inside]], fitted.tokens[inside], number[inside], warm[inside])
    return weights, offset


def decoded(states: Float[Tensor, "*some code"], decoder: Decoder) -> Float[Tensor, "*some number"]:
    return states @ decoder[0] + decoder[1]


def decoded_tokens(learner: Forecaster, decoder: Decoder, some: Pieces) -> Float[Tensor, "piece token number"]:
    """Reconstruction of the true tokens from the learner's states."""
    return decoded(followed(learner, some), decoder).to(some.tokens)


def out_of_order(
    some: Pieces, piece: Int[Tensor, " row"], tokens: int, size: int, generator: torch.Generator
) -> Float[Tensor, "row time *rest"]:
    """The observed sound, with its tokens in random order."""
    parts = some.signal[piece, : tokens * size].unflatten(1, (tokens, size))
    order = torch.rand(len(piece), tokens, generator=generator).argsort(1)
    return parts[torch.arange(len(piece))[:, None], order].flatten(1, 2)


def linear(fitted: Pieces, ahead: tuple[int, ...], given: Given | None = None) -> Predict:
    """Ridge regression to the tokens ahead, from the last tokens or from the inputs of `given`."""
    given, where = given or last, everywhere(fitted, ahead[-1])
    goal = truth(fitted, where, ahead)
    line, _ = ridge(given(fitted, where), goal.flatten(1).double().numpy(), where.piece.numpy())

    def predict(some: Pieces, where: Moments, ahead: tuple[int, ...]) -> Predicted:
        made = torch.from_numpy(line(given(some, where))).to(some.tokens)
        return Predicted(made.unflatten(1, goal.shape[1:]))

    return predict


def of_learner(learner: Forecaster) -> Given:
    """The learner's state at a moment."""
    return lambda some, where: followed(learner, some)[where.piece, where.token].double().numpy()


def last(some: Pieces, where: Moments) -> Float[np.ndarray, "query number"]:
    """The last tokens up to a moment, padded with the first token of the piece."""
    at = (where.token[:, None] - torch.arange(LAST)).clamp(min=0)
    return some.tokens[where.piece[:, None], at].flatten(1).double().numpy()


class TokenGRU(nn.Module):
    """Autoregressive GRU over tokens and, where there are any, the actions of the next token: predicts the mean of
    the next token, with a learnt log standard deviation of each number."""

    def __init__(self, numbers: int, units: int, actions: int = 0):
        super().__init__()
        self.network = Recurrent(numbers + actions, numbers, units, 1)
        self.spread = nn.Parameter(torch.zeros(numbers))

    def loss(
        self,
        tokens: Float[Tensor, "piece token number"],
        counts: Int[Tensor, " piece"],
        actions: Float[Tensor, "piece token action"],
    ) -> Tensor:
        known = torch.cat([tokens, actions.roll(-1, 1)], -1)
        error = ((tokens - self.network(known)) / self.spread.exp()).square() / 2 + self.spread
        inside = torch.arange(tokens.shape[1]) < counts[:, None]
        return error.mean(-1)[inside].mean()

    def drawn(
        self,
        past: Float[Tensor, "row token number"],
        steps: int,
        samples: int,
        generator: torch.Generator,
        actions: Float[Tensor, "row all action"] | None = None,
    ) -> tuple[Float[Tensor, "sample row step number"], Float[Tensor, "sample row step number"]]:
        """Draw futures autoregressively: the mean of each token given its predecessors, and the sampled token."""
        if actions is None:
            actions = past.new_zeros(len(past), past.shape[1] + steps, 0)
        known = torch.cat([past, actions[:, 1 : past.shape[1] + 1]], -1)
        memory = self.network.gru(known, self.network.begin(len(past)))[1].repeat_interleave(samples, 1)
        later = actions[:, past.shape[1] + 1 :].repeat_interleave(samples, 0)
        means, tokens = [], []
        for step in range(steps):
            means.append(self.network.head(memory[-1]))
            noise = torch.randn(means[-1].shape, generator=generator).to(means[-1])
            tokens.append(means[-1] + self.spread.exp() * noise)
            if step < steps - 1:
                known = torch.cat([tokens[-1], later[:, step]], -1)
                memory = self.network.gru(known[:, None], memory)[1]
        shape = (len(past), samples)
        both = (torch.stack(one, 1).unflatten(0, shape).transpose(0, 1) for one in (means, tokens))
        return tuple(both)  # pyright: ignore[reportReturnType]


def trained_gru(fitted: Pieces, config: EvaluationConfig, acted: bool = False) -> TokenGRU:
    actions = fitted.actions if acted else fitted.actions[..., :0]
    return trained(
        lambda: TokenGRU(fitted.tokens.shape[2], config.gru_units, actions.shape[2]).to(fitted.tokens),
        lambda network, rows: network.loss(fitted.tokens[rows], fitted.counts[rows], actions[rows]),
        len(fitted.counts),
        config.gru_steps,
    )


Futures = Callable[
    [Float[Tensor, "row token number"], int, torch.Generator],
    tuple[Float[Tensor, "row step number"], Float[Tensor, "sample row step number"]],
]
"""Maps observed tokens, number of steps and generator to the mean of each future token, and samples."""


def by_moment(futures: Futures) -> Predict:
    """Batch the moments with equally many observed tokens."""

    def predict(some: Pieces, where: Moments, ahead: tuple[int, ...]) -> Predicted:
        generator, steps = torch.Generator().manual_seed(SEED), torch.tensor(ahead) - 1
        mean = some.tokens.new_zeros(len(where.token), ahead[-1], some.tokens.shape[2])
        samples = mean.new_zeros(COVERING, *mean.shape)
        for heard, at in where.together():
            made = futures(some.tokens[where.piece[at], :heard], ahead[-1], generator)
            mean[at], samples[:, at] = (one.to(mean) for one in made)
        return Predicted(mean[:, steps], samples)

    return predict


def recurrent(network: TokenGRU) -> Predict:
    def futures(past: Tensor, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        means, drawn = network.drawn(past, steps, SAMPLES, generator)
        # The mean of conditional means has a lower variance than the mean of samples.
        return means.mean(0), drawn[:COVERING]

    return by_moment(futures)


def hidden(model: TokenHMM) -> Predict:
    def futures(past: Tensor, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        belief = model.belief(past)
        return model.expected(belief, steps), model.drawn(belief, steps, COVERING, generator)

    return by_moment(futures)
