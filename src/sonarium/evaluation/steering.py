"""Whether actions steer what a forecaster makes: past and noise are held, one number among the actions of the
tokens to come is shifted, and what is heard of it is compared with what was asked.

What is heard of an action in a token is its mean at the real training tokens that are nearest to it; how much that
tells is shown by real tokens. Only tokens count that are louder than the mean one in the true continuation, for in
silence nothing is heard of a gesture. Beside the learner stand a GRU that is given the same actions, and ridge
regression from the actions alone, which knows no past.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.forecasting import (
    SEED,
    Moments,
    Pieces,
    decoder_of,
    everywhere,
    horizons,
    moments,
    trained_gru,
)
from sonarium.evaluation.realtokens import front_of, ridge
from sonarium.models.contract import Forecaster

SHIFTS = (-1.0, -0.5, 0.5, 1.0)
"""In standard deviations over the training split."""
NEAREST = 8
"""Real tokens that say what is heard."""
AROUND = 1
"""Tokens on either side whose actions the regression from actions sees."""

Make = Callable[[Float[Tensor, "piece token action"]], Float[Tensor, "moment step number"]]
"""From all actions to the tokens that come at each moment."""


@dataclass(frozen=True)
class Coming:
    """The tokens to come at each moment."""

    where: Moments
    token: Int[Tensor, "moment step"]
    sounds: Bool[Tensor, "moment step"]
    """Which of them count."""

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Where they stand in pieces."""
        return self.where.piece[:, None], self.token


@dataclass(frozen=True)
class ActionEstimator:
    """The value of an action by the nearest tokens of real training sound."""

    tokens: Float[np.ndarray, "token number"]
    values: Float[np.ndarray, " token"]

    def estimate(self, tokens: Float[np.ndarray, "some number"]) -> Float[np.ndarray, " some"]:
        apart = (
            np.square(tokens).sum(1)[:, None] - 2 * tokens @ self.tokens.T + np.square(self.tokens).sum(1)[None]
        )
        nearest = np.argpartition(apart, min(NEAREST, len(self.tokens)) - 1, axis=1)[:, :NEAREST]
        return self.values[nearest].mean(1)


@torch.no_grad()
def steering(
    learner: Forecaster, fitted: Pieces, test: Pieces, config: EvaluationConfig = EvaluationConfig()
) -> dict[str, dict[str, float]]:
    """`scores` of the learner, and those of each control; empty where no action is a number that a track gives."""
    numbers = [at for at, one in enumerate(learner.actions.actions) if one.size == 1 and one.source == "track"]
    if not numbers:
        return {}
    ahead = horizons(learner, fitted, test)
    if not ahead:
        return {}
    where, steps, front = moments(test, learner.burn_in, ahead[-1]), ahead[-1], front_of(learner)
    token = where.token[:, None] + 1 + torch.arange(steps)
    usual = front.levels(fitted.tokens[inside(fitted)]).mean()
    come = Coming(where, token, front.levels(test.tokens[where.piece[:, None], token]).mean(-1) > usual)
    makers = {
        "scores": of_states(learner, fitted, test, come),
        "gru_ar": of_gru(fitted, test, come, config),
        "actions_alone": of_actions(fitted, test, come),
    }
    found: dict[str, dict[str, float]] = {name: {} for name in (*makers, "real")}
    for at in numbers:
        name, column = learner.actions.actions[at].name, learner.actions.places()[at].start
        known = inside(fitted)
        estimator = ActionEstimator(
            fitted.tokens[known].double().numpy(), fitted.actions[known][:, column].double().numpy()
        )
        for who, make in makers.items():
            found[who] |= responses(make, test, come, column, estimator, name)
        true = test.actions[come.rows][..., column][come.sounds].double().numpy()
        heard = estimator.estimate(test.tokens[come.rows][come.sounds].double().numpy())
        found["real"] |= agreement(name, true - true.mean(), heard - heard.mean())
    return found


def inside(some: Pieces) -> Bool[Tensor, "piece token"]:
    return torch.arange(some.tokens.shape[1]) < some.counts[:, None]


@torch.no_grad()
def responses(
    make: Make, test: Pieces, come: Coming, column: int, estimator: ActionEstimator, name: str
) -> dict[str, float]:
    """Shifts that are asked, kept within what the pieces have, and heard, each a mean over a continuation."""
    own = test.actions[..., column]
    plain, asked, heard = estimates(make(test.actions), estimator), [], []
    for shift in SHIFTS:
        actions = test.actions.clone()
        actions[(*come.rows, column)] = (own[come.rows] + shift).clamp(own.min(), own.max())
        moved = actions[come.rows][..., column] - own[come.rows]
        asked.append(over(moved.double(), come.sounds))
        heard.append(over(estimates(make(actions), estimator) - plain, come.sounds))
    return agreement(name, np.concatenate(asked), np.concatenate(heard))


def estimates(
    tokens: Float[Tensor, "moment step number"], estimator: ActionEstimator
) -> Float[Tensor, "moment step"]:
    rows = estimator.estimate(tokens.double().flatten(0, 1).numpy())
    return torch.from_numpy(rows).unflatten(0, tokens.shape[:2])


def over(values: Float[Tensor, "moment step"], sounds: Bool[Tensor, "moment step"]) -> Float[np.ndarray, " some"]:
    """The mean of each continuation that sounds."""
    some = sounds.any(1)
    return (values.where(sounds, 0).sum(1)[some] / sounds.sum(1)[some]).numpy()


def agreement(name: str, asked: Float[np.ndarray, " some"], heard: Float[np.ndarray, " some"]) -> dict[str, float]:
    """Of what is heard against what is asked: the correlation about 0, for without a shift nothing should change,
    and the slope through 0."""
    square = float(asked @ asked)
    size = float(np.sqrt(square * (heard @ heard)))
    product = float(asked @ heard)
    return {
        f"steering/correlation of {name}": product / size if size else 0.0,
        f"steering/slope of {name}": product / square if square else 0.0,
    }


# What makes continuations with given actions.


def of_states(learner: Forecaster, fitted: Pieces, test: Pieces, come: Coming) -> Make:
    weights, offset = decoder_of(learner, fitted, acted=True)
    states = learner.states(test.signal, actions=test.actions)

    def draw(piece: Tensor, past: int, steps: int, actions: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(SEED)
        return (
            learner.go_on(states[piece, :past], steps, 1, generator, actions=actions).codes[0] @ weights + offset
        )

    return by_moment(draw, test, come)


def of_gru(fitted: Pieces, test: Pieces, come: Coming, config: EvaluationConfig) -> Make:
    network = trained_gru(fitted, config, acted=True)

    def draw(piece: Tensor, past: int, steps: int, actions: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(SEED)
        return network.drawn(test.tokens[piece, :past], steps, 1, generator, actions)[0][0]

    return by_moment(draw, test, come)


def by_moment(draw: Callable[[Tensor, int, int, Tensor], Tensor], test: Pieces, come: Coming) -> Make:
    """All moments of one length of the past at once: the past has its own actions."""
    where, steps = come.where, come.token.shape[1]

    def make(actions: Tensor) -> Tensor:
        made = test.tokens.new_zeros(*come.token.shape, test.tokens.shape[2])
        for past, at in where.together():
            piece = where.piece[at]
            given = torch.cat([test.actions[piece, :past], actions[piece, past : past + steps]], 1)
            made[at] = draw(piece, past, steps, given).to(made)
        return made

    return make


def of_actions(fitted: Pieces, test: Pieces, come: Coming) -> Make:
    every = everywhere(fitted, 0)
    x, y = around(fitted.actions, every.piece, every.token), fitted.tokens[every.piece, every.token]
    line = ridge(x, y.double().numpy(), every.piece.numpy())[0]

    def make(actions: Tensor) -> Tensor:
        piece = come.where.piece[:, None].expand_as(come.token)
        rows = line(around(actions, piece.flatten(), come.token.flatten()))
        return torch.from_numpy(rows).to(test.tokens).unflatten(0, come.token.shape)

    return make


def around(
    actions: Float[Tensor, "piece token action"], piece: Int[Tensor, " row"], token: Int[Tensor, " row"]
) -> Float[np.ndarray, "row some"]:
    """The actions of tokens and of those beside them."""
    beside = (token[:, None] + torch.arange(-AROUND, AROUND + 1)).clamp(0, actions.shape[1] - 1)
    return actions[piece[:, None], beside].flatten(1).double().numpy()
