"""Pieces of sound as tokens, and the moments in them at which forecasts begin."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.fitting import SEED
from sonarium.evaluation.likeness import UNKNOWN
from sonarium.evaluation.realtokens import WATCHED, counts_of, front_of
from sonarium.evaluation.tasks import INDIVIDUALS
from sonarium.measures.splits import Split
from sonarium.models.contract import FeatureLearner, Forecaster
from sonarium.worlds.contract import World

HORIZONS = (0.1, 0.2, 0.4)
"""Forecast horizons in seconds."""
TEST, CALIBRATION = 64, 32
"""Number of test pieces to score, and of training pieces for estimating the error variance."""
MOMENTS = 4
"""Maximum number of moments per piece."""


@dataclass(frozen=True)
class Pieces:
    """Pieces of one split."""

    signal: Float[Tensor, "piece time *rest"]
    tokens: Float[Tensor, "piece token number"]
    counts: Int[Tensor, " piece"]
    group: Int[Tensor, " piece"]
    actions: Float[Tensor, "piece token action"]
    labels: Int[Tensor, "piece token kind"]
    """Index of the label of each token by kind, or `UNKNOWN`."""

    def rows(self, which: Tensor) -> "Pieces":
        return Pieces(*(value[which] for value in vars(self).values()))

    @property
    def inside(self) -> Bool[Tensor, "piece token"]:
        return torch.arange(self.tokens.shape[1]) < self.counts[:, None]


@dataclass(frozen=True)
class Moments:
    """Origins of forecasts: the last observed token."""

    piece: Int[Tensor, " query"]
    token: Int[Tensor, " query"]

    def together(self) -> Iterator[tuple[int, Int[Tensor, " some"]]]:
        """Number of observed tokens, and the moments with this number, which can be forecast in one batch."""
        for token in self.token.unique().tolist():
            yield token + 1, (self.token == token).nonzero()[:, 0]


def pieces_of(
    learner: Forecaster, world: World, split: Split[Tensor], config: EvaluationConfig = EvaluationConfig()
) -> tuple[Pieces, Pieces]:
    """Training pieces for fitting baselines and decoders, and test pieces."""
    return pieces(learner, world, split.train, config.max_pieces), pieces(learner, world, split.test, TEST)


def divided(train: Pieces) -> tuple[Pieces, Pieces]:
    """Training pieces for fitting, and those for estimating the error variance."""
    number = torch.arange(len(train.counts))
    apart = (number % WATCHED == WATCHED - 1) & (number < WATCHED * CALIBRATION)
    return (train.rows(~apart), train.rows(apart)) if apart.any() else (train, train)


def chosen_clips(world: World, index: Int[Tensor, " clip"], most: int) -> Int[Tensor, " piece"]:
    """Random clips, each repeated in proportion to its length."""
    portions = world.portions(index[world.lengths(index) > 0])
    return portions[torch.randperm(len(portions), generator=torch.Generator().manual_seed(SEED))][:most]


def pieces(learner: Forecaster, world: World, index: Int[Tensor, " clip"], most: int) -> Pieces:
    """Random pieces of clips, which are repeated in proportion to their length."""
    assert isinstance(learner, FeatureLearner), type(learner)
    chosen = chosen_clips(world, index, most)
    batch = world.piece(chosen, SEED, 0)
    tokens = front_of(learner).tokens(learner.features(batch))
    actions, labels = learner.actions(batch, tokens.shape[1]), labels_of(learner, world, chosen, tokens.shape[1])
    return Pieces(batch.signal, tokens, counts_of(learner, batch), individuals(world, chosen), actions, labels)


def labels_of(
    learner: Forecaster, world: World, chosen: Int[Tensor, " piece"], tokens: int
) -> Int[Tensor, "piece token kind"]:
    """Labels of each token: the categorical factors of its clip, and the segment at its middle, with 0 between
    segments."""
    factors = [at for at, factor in enumerate(world.factors) if factor.discrete]
    found = world.factor_values(chosen)[:, None, factors].long().expand(-1, tokens, -1)
    marks, steps = world.marks(chosen), world.signal.steps_per_second
    names = sorted({label for own in marks for *_, label in own})
    if not names or not steps:
        return found
    within = torch.full((len(chosen), tokens), UNKNOWN)
    begin = world.beginnings(chosen, SEED, 0) / steps
    middles = begin[:, None] + learner.code_first + torch.arange(tokens) / learner.code_rate
    for row, (own, time) in enumerate(zip(marks, middles, strict=True)):
        if own:
            within[row] = 0
        for onset, offset, label in own:
            within[row, (time >= onset) & (time < offset)] = 1 + names.index(label)
    return torch.cat([found, within[..., None]], -1)


def individuals(world: World, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
    """The speaker or bird of each clip, where that is a factor; otherwise its group."""
    for column, factor in enumerate(world.factors):
        if factor.name in INDIVIDUALS and factor.discrete:
            return world.factor_values(index)[:, column].long()
    return world.group(index)


def horizons(learner: Forecaster, *parts: Pieces) -> tuple[int, ...]:
    """Horizons in tokens, as far as each split has a piece that is long enough."""
    longest = min(int(part.counts.max()) for part in parts) - max(1, learner.burn_in)
    wanted = [max(1, round(one * learner.code_rate)) for one in HORIZONS]
    return tuple(dict.fromkeys(one for one in wanted if one <= longest))


def moments(some: Pieces, burn_in: int, furthest: int) -> Moments:
    """Evenly spaced moments after the burn-in, up to the last with all horizons inside the piece."""
    first, where = max(1, burn_in) - 1, []
    for piece, count in enumerate(some.counts.tolist()):
        last = count - furthest - 1
        if last >= first:
            at = np.unique(np.linspace(first, last, MOMENTS + 1)[1:].round().astype(int))
            where += [(piece, int(token)) for token in at]
    piece, token = torch.tensor(where).view(-1, 2).unbind(1)
    return Moments(piece, token)


def everywhere(some: Pieces, horizon: int) -> Moments:
    """All tokens with a target `horizon` tokens ahead."""
    inside = torch.arange(some.tokens.shape[1]) + horizon < some.counts[:, None]
    return Moments(*inside.nonzero().unbind(1))


def truth(some: Pieces, where: Moments, ahead: Sequence[int]) -> Float[Tensor, "query horizon number"]:
    return some.tokens[where.piece[:, None], where.token[:, None] + torch.tensor(ahead)]


def come(some: Pieces, where: Moments, furthest: int) -> Bool[Tensor, "piece token"]:
    """Mask of the tokens that follow any of the moments, up to the furthest horizon."""
    found = torch.zeros(some.tokens.shape[:2], dtype=torch.bool)
    found[where.piece[:, None], where.token[:, None] + 1 + torch.arange(furthest)] = True
    return found
