"""Whether actions steer the continuations of a forecaster: past and noise are held fixed, one scalar action of the
target tokens is shifted, and the measured change of that action is compared with the requested one.

The measured action of a generated token is the mean action of the real training tokens nearest to it; real tokens
show how accurate that is. Only tokens louder than the mean in the true continuation count, since a gesture is
inaudible in silence. Controls are a GRU given the same actions, and ridge regression from the actions alone,
without the past. For sound, the pitch is compared as well (`pitching.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonarium.evaluation import pitching
from sonarium.evaluation.fitting import SEED
from sonarium.evaluation.forecasting import Fits
from sonarium.evaluation.pieces import Moments, Pieces, everywhere, horizons, moments
from sonarium.evaluation.predictors import decoded, followed
from sonarium.evaluation.realtokens import MOST, front_of, ridge
from sonarium.models.contract import Forecaster
from sonarium.worlds.contract import World

SHIFTS = (-1.0, -0.5, 0.5, 1.0)
"""Shifts of an action in standard deviations over the training split."""
HEARD = (0, 3)
"""Indices of the shifts whose change of pitch is measured."""
NEAREST = 8
"""Number of nearest real tokens that an action is estimated from."""
AROUND = 1
"""Tokens on either side whose actions the regression from actions takes as input."""

Make = Callable[[Float[Tensor, "piece token action"]], Float[Tensor, "moment step number"]]
"""Maps the actions of all tokens to a continuation at each moment."""


@dataclass(frozen=True)
class Coming:
    """Target tokens of each moment."""

    where: Moments
    token: Int[Tensor, "moment step"]
    sounds: Bool[Tensor, "moment step"]
    """Mask of the tokens that count: those that are loud enough."""

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Index of the target tokens as (piece, token)."""
        return self.where.piece[:, None], self.token


@dataclass(frozen=True)
class ActionEstimator:
    """Nearest-neighbour regression from a token to the value of an action, on real training tokens."""

    tokens: Float[np.ndarray, "token number"]
    values: Float[np.ndarray, " token"]

    @classmethod
    def of(cls, fitted: Pieces, column: int) -> "ActionEstimator":
        known = fitted.inside
        every = -(-int(known.sum()) // MOST)
        tokens, values = fitted.tokens[known][::every], fitted.actions[known][::every, column]
        return cls(tokens.numpy(), values.double().numpy())

    def estimate(self, tokens: Float[np.ndarray, "some number"]) -> Float[np.ndarray, " some"]:
        apart = (
            np.square(tokens).sum(1)[:, None] - 2 * tokens @ self.tokens.T + np.square(self.tokens).sum(1)[None]
        )
        nearest = np.argpartition(apart, min(NEAREST, len(self.tokens)) - 1, axis=1)[:, :NEAREST]
        return self.values[nearest].mean(1)


@torch.no_grad()
def steering(
    learner: Forecaster, fits: Fits, test: Pieces, world: World, clips: Int[Tensor, " piece"]
) -> dict[str, dict[str, float]]:
    """Scores of the learner (`scores`) and of each control; empty if no action is a scalar from a track. `clips`
    holds the clip of each test piece."""
    numbers = [at for at, one in enumerate(learner.actions.actions) if one.size == 1 and one.source == "track"]
    fitted = fits.pieces
    ahead = horizons(learner, fitted, test)
    if not numbers or not ahead:
        return {}
    where, steps, front = moments(test, learner.burn_in, ahead[-1]), ahead[-1], front_of(learner)
    token = where.token[:, None] + 1 + torch.arange(steps)
    usual = front.levels(fitted.tokens[fitted.inside]).mean()
    come = Coming(where, token, front.levels(test.tokens[where.piece[:, None], token]).mean(-1) > usual)
    makers = {
        "scores": of_states(learner, fits, test, come),
        "gru_ar": of_gru(fits, test, come),
        "actions_alone": of_actions(fitted, test, come),
    }
    listener = pitching.Listener.of(learner, world)
    found: dict[str, dict[str, float]] = {name: {} for name in (*makers, "real")}
    for at in numbers:
        name, column = learner.actions.actions[at].name, learner.actions.places()[at].start
        estimator = ActionEstimator.of(fitted, column)
        moved = shifts(test, come, column)
        made = {
            who: [make(test.actions), *(make(with_shift(test, come, column, one)) for one in moved)]
            for who, make in makers.items()
        }
        for who, some in made.items():
            found[who] |= responses(some, moved, come, estimator, name)
        true = test.actions[come.rows][..., column][come.sounds].double().numpy()
        heard = estimator.estimate(test.tokens[come.rows][come.sounds].numpy())
        found["real"] |= agreement(name, true - true.mean(), heard - heard.mean())
        if listener is not None:
            for who, both in pitches(listener, world, clips, fitted, test, come, moved, made, at).items():
                found[who] |= agreement(f"pitch by {name}", *both)
    return found


def pitches(
    listener: pitching.Listener,
    world: World,
    clips: Int[Tensor, " piece"],
    fitted: Pieces,
    test: Pieces,
    come: Coming,
    moved: list[Float[Tensor, "moment step"]],
    made: dict[str, list[Float[Tensor, "moment step number"]]],
    action: int,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Requested and measured changes of pitch by model, at a subset of the moments; empty if too little real sound
    has a pitch."""
    some = torch.from_numpy(pitching.chosen_moments(come.sounds))
    where, asked = Moments(come.where.piece[some], come.where.token[some]), [moved[at][some] for at in HEARD]
    if not len(some):
        return {}
    expected = pitching.expectation(listener, world, clips, fitted, test, where, come.sounds[some], asked, action)
    if expected is None:
        return {}
    heard = {who: [every[0][some], *(every[1 + at][some] for at in HEARD)] for who, every in made.items()}
    return pitching.scored(listener, heard, expected)


def shifts(test: Pieces, come: Coming, column: int) -> list[Float[Tensor, "moment step"]]:
    """Each shift of an action, clamped to the range of that action in the test pieces."""
    every, own = test.actions[test.inside][..., column], test.actions[come.rows][..., column]
    return [(own + shift).clamp(every.min(), every.max()) - own for shift in SHIFTS]


def with_shift(
    test: Pieces, come: Coming, column: int, moved: Float[Tensor, "moment step"]
) -> Float[Tensor, "piece token action"]:
    """All actions, with one action of the target tokens shifted."""
    actions = test.actions.clone()
    actions[(*come.rows, column)] = test.actions[come.rows][..., column] + moved
    return actions


@torch.no_grad()
def responses(
    made: list[Float[Tensor, "moment step number"]],
    moved: list[Float[Tensor, "moment step"]],
    come: Coming,
    estimator: ActionEstimator,
    name: str,
) -> dict[str, float]:
    """Agreement of requested and measured shifts, each averaged over a continuation; `made` holds the tokens
    generated with the true actions, then with each shift."""
    plain, *others = (estimates(one, estimator) for one in made)
    asked = [over(one.double(), come.sounds) for one in moved]
    heard = [over(one - plain, come.sounds) for one in others]
    return agreement(name, np.concatenate(asked), np.concatenate(heard))


def estimates(
    tokens: Float[Tensor, "moment step number"], estimator: ActionEstimator
) -> Float[Tensor, "moment step"]:
    rows = estimator.estimate(tokens.flatten(0, 1).numpy())
    return torch.from_numpy(rows).unflatten(0, tokens.shape[:2])


def over(values: Float[Tensor, "moment step"], sounds: Bool[Tensor, "moment step"]) -> Float[np.ndarray, " some"]:
    """Mean over the counted tokens of each continuation that has any."""
    some = sounds.any(1)
    return (values.where(sounds, 0).sum(1)[some] / sounds.sum(1)[some]).numpy()


def agreement(name: str, asked: Float[np.ndarray, " some"], heard: Float[np.ndarray, " some"]) -> dict[str, float]:
    """Correlation of the measured with the requested changes about 0, since without a shift nothing should change,
    and slope through 0."""
    square = float(asked @ asked)
    size = float(np.sqrt(square * (heard @ heard)))
    product = float(asked @ heard)
    return {
        f"steering/correlation of {name}": product / size if size else 0.0,
        f"steering/slope of {name}": product / square if square else 0.0,
    }


# Generators of continuations with given actions.


def of_states(learner: Forecaster, fits: Fits, test: Pieces, come: Coming) -> Make:
    decoder, states = fits.decoder(learner, acted=True), followed(learner, test, acted=True)

    def draw(piece: Tensor, past: int, steps: int, actions: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(SEED)
        return decoded(learner.go_on(states[piece, :past], steps, 1, generator, actions=actions).codes[0], decoder)

    return by_moment(draw, test, come)


def of_gru(fits: Fits, test: Pieces, come: Coming) -> Make:
    network = fits.gru(acted=True)

    def draw(piece: Tensor, past: int, steps: int, actions: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(SEED)
        return network.drawn(test.tokens[piece, :past], steps, 1, generator, actions)[0][0]

    return by_moment(draw, test, come)


def by_moment(draw: Callable[[Tensor, int, int, Tensor], Tensor], test: Pieces, come: Coming) -> Make:
    """Batch the moments with equally long pasts; past tokens keep their true actions."""
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
    """Actions of tokens and of their neighbours."""
    beside = (token[:, None] + torch.arange(-AROUND, AROUND + 1)).clamp(0, actions.shape[1] - 1)
    return actions[piece[:, None], beside].flatten(1).double().numpy()
