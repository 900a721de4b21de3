"""Forecast scores on held-out sound by horizon, with baselines of the same tokens.

At moments of held-out pieces, the past is observed and the tokens ahead are predicted without further input. All
models are compared in token space: states through a ridge regression that was fitted on the training split with
the states frozen, averaged over samples. A prediction is a Gaussian about this mean, whose spread by number and
horizon is that of the errors in training pieces held out from fitting. The true token competes with its neighbours
in the same recording, with tokens of the same group, and with all (`measures/forecasts.py`). The samples
themselves are compared with the truth (coverage), and as sets with real tokens (`likeness.py`).

Baselines: the last token repeated (persistence); ridge regression on the last tokens (linear AR); a hidden Markov
model and a GRU trained on the same tokens; the same learner with a shuffled past, and before training. Ridge
regression on its states, one for each horizon, shows what they encode about the future, independently of the
futures drawn from them (direct).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonarium.evaluation.codebits import Coded, code_bits
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.fitting import SEED, TokenHMM
from sonarium.evaluation.likeness import Likeness, fitted_embedding
from sonarium.evaluation.pieces import (
    HORIZONS,
    Moments,
    Pieces,
    come,
    divided,
    horizons,
    moments,
    truth,
)
from sonarium.evaluation.predictors import (
    Decoder,
    Predict,
    Predicted,
    TokenGRU,
    decoded_tokens,
    decoder_of,
    followed,
    hidden,
    linear,
    of_learner,
    of_states,
    persistence,
    recurrent,
    trained_gru,
)
from sonarium.evaluation.realtokens import (
    BLOCK,
    MOST,
    front_of,
    use_of_classes,
)
from sonarium.measures.forecasts import chance_of, coverage, gaussian, retrieved
from sonarium.models.contract import Forecaster
from sonarium.models.objectives import mean_squares
from sonarium.worlds.contract import Progress

NEAR, OTHERS = 3, 20
"""Negatives of the true token: tokens before and after it, and tokens drawn from other clips."""
POOL = 512
"""Maximum number of held-out tokens that samples are compared with."""


@dataclass(frozen=True)
class Trial:
    """Moments of held-out pieces, with targets and negatives for forecasts of them."""

    learner: Forecaster
    """Learner whose front end computes the tokens."""
    ahead: tuple[int, ...]
    fitted: Pieces
    """Training pieces for fitting."""
    calibration: Pieces
    """Training pieces for estimating the spread of errors, held out from fitting."""
    test: Pieces
    where: Moments
    rivals: "Rivals"
    likeness: Likeness | None
    """None if there are too few tokens."""

    @classmethod
    def of(cls, learner: Forecaster, train: Pieces, test: Pieces) -> "Trial | None":
        """None if all pieces are too short."""
        fitted, calibration = divided(train)
        ahead = horizons(learner, fitted, calibration, test)
        if not ahead:
            return None
        where = moments(test, learner.burn_in, ahead[-1])
        embed = fitted_embedding(fitted.tokens, fitted.counts, fitted.labels)
        real = test.tokens[come(test, where, ahead[-1])]
        likeness = Likeness.of(embed, real, calibration.tokens[calibration.inside])
        rivals = Rivals.of(fitted, test, where, ahead)
        return cls(learner, ahead, fitted, calibration, test, where, rivals, likeness)

    def scores(self, predict: Predict) -> dict[str, float]:
        calibrating = moments(self.calibration, self.learner.burn_in, self.ahead[-1])
        made = predict(self.calibration, calibrating, self.ahead).mean
        errors = made - truth(self.calibration, calibrating, self.ahead)
        spread = errors.double().std(0, correction=0).clamp(min=1e-2).numpy()
        predicted = predict(self.test, self.where, self.ahead)
        return self.rivals.scores(predicted, spread, self.learner, self.ahead) | self.unlikeness(predicted.drawn)

    def unlikeness(self, drawn: Float[Tensor, "sample query step number"] | None) -> dict[str, float]:
        """Set distances of the tokens of one future per moment; empty for a model that does not sample."""
        if drawn is None or self.likeness is None:
            return {}
        one = torch.randint(len(drawn), (drawn.shape[1],), generator=torch.Generator().manual_seed(SEED))
        return self.called(self.likeness.distances(drawn[one, torch.arange(len(one))].flatten(0, 1)))

    def called(self, distances: dict[str, float]) -> dict[str, float]:
        name = named(self.learner, self.ahead)[-1]
        return {f"forecast-{kind}/{name}": value for kind, value in distances.items()}


class Fits:
    """Cache of models fitted to training pieces: decoders of learners, and models of tokens."""

    def __init__(self, train: Pieces, config: EvaluationConfig = EvaluationConfig()):
        self.train, self.config = train, config
        self.pieces, _ = divided(train)
        self.decoders: dict[tuple[int, bool], Decoder] = {}
        self.grus: dict[bool, TokenGRU] = {}
        self.chain: TokenHMM | None = None

    def decoder(self, learner: Forecaster, acted: bool = False) -> Decoder:
        """Decoder of states with all actions given, or with none."""
        key = id(learner), acted
        if key not in self.decoders:
            self.decoders[key] = decoder_of(learner, self.pieces, acted)
        return self.decoders[key]

    def gru(self, acted: bool = False) -> "TokenGRU":
        if acted not in self.grus:
            self.grus[acted] = trained_gru(self.pieces, self.config, acted)
        return self.grus[acted]

    def hmm(self) -> TokenHMM:
        if self.chain is None:
            self.chain = TokenHMM.of(self.pieces.tokens, self.pieces.counts)
        return self.chain


@torch.no_grad()
def forecasting(
    learner: Forecaster,
    untrained: Forecaster | None,
    fits: Fits,
    test: Pieces,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Scores of the learner (`scores`), of each control and of `chance`, `curves` by horizon, and `notes`."""
    trial = Trial.of(learner, fits.train, test)
    if trial is None:
        shortest = 1000 * HORIZONS[0]
        note = f"forecasts are not scored: pieces are shorter than the burn-in and {shortest:.0f} ms"
        return {"scores": {}, "chance": {}, "curves": {}, "notes": [note]}
    fitted, ahead, where, rivals = trial.fitted, trial.ahead, trial.where, trial.rivals
    own = fits.decoder(learner)
    every: dict[str, Callable[[], Predict]] = {
        "scores": lambda: of_states(learner, own),
        "persistence": lambda: persistence,
        "linear_ar": lambda: linear(fitted, ahead),
        "direct": lambda: linear(fitted, ahead, of_learner(learner)),
        "hmm": lambda: hidden(fits.hmm()),
        "gru_ar": lambda: recurrent(fits.gru()),
        "shuffled_past": lambda: of_states(learner, own, shuffled=True),
    }
    if untrained is not None:
        every["random"] = lambda: of_states(untrained, fits.decoder(untrained))
    made: dict[str, Any] = {}
    for done, (name, make) in enumerate(every.items()):
        progress("forecasting", done, len(every))
        made[name] = trial.scores(make())
    progress("forecasting", len(every), len(every))
    notes = []
    if trial.likeness is None:
        notes.append(
            "kernel and Fréchet distance are not scored: training or test split have too few different tokens"
        )
    else:
        copy = decoded_tokens(learner, own, test)[come(test, where, ahead[-1])]
        made["copy"] = trial.called(trial.likeness.distances(copy))
        made["real"] = trial.called(trial.likeness.floor)
    scores, chance = made["scores"], rivals.chance(learner, ahead)
    scores |= states(learner, test)
    if learner.entries:
        known, held = (Coded(learner.classes(followed(learner, part)), part.counts) for part in (fitted, test))
        for name, bits in code_bits(known, held, learner.entries, learner.burn_in, fits.config).items():
            made[name] = made.get(name, {}) | {"state/bits a token": bits}
    if learner.actions.width:
        scores |= shuffle_ratio(learner, fits, test, where, ahead)
        chance |= {key: 1.0 for key in scores if key.startswith("action-shuffle/")}
    return {**made, "chance": chance, "curves": curves(made, chance, learner, ahead), "notes": notes}


@dataclass(frozen=True)
class Rivals:
    """True tokens of all moments and horizons, and their negatives."""

    true: Float[np.ndarray, "query horizon number"]
    others: dict[str, Float[np.ndarray, "query horizon _other number"]]
    """Negatives by kind; NaN where there are fewer."""
    pool: Float[np.ndarray, "_pool number"]
    """Tokens of test pieces, drawn at random."""
    elsewhere: Bool[np.ndarray, "query _pool"]
    """Mask of the pool tokens that are from other pieces than the truth."""
    real: Float[Tensor, "real number"]
    """Real tokens of training pieces; a sampled token is replaced by the nearest of them. Otherwise no noisy
    sample of a density would come near the truth, while its mean is never far from it."""

    @classmethod
    def of(cls, fitted: Pieces, test: Pieces, where: Moments, ahead: tuple[int, ...]) -> "Rivals":
        random = np.random.default_rng([SEED, 0xF0CA])
        tokens, counts, group = test.tokens.double().numpy(), test.counts.numpy(), test.group.numpy()
        true = truth(test, where, ahead).double().numpy()
        shape = (len(where.token), len(ahead))
        found = {
            kind: np.full((*shape, count, tokens.shape[2]), np.nan)
            for kind, count in (("near", 2 * NEAR), ("group", OTHERS), ("all", OTHERS))
        }
        flat = [(piece, token) for piece, count in enumerate(counts) for token in range(count)]
        pieces_of, tokens_of = np.array(flat).T
        some = np.random.default_rng([SEED, 0xD12A]).permutation(len(flat))[:POOL]
        apart = pieces_of[some] != where.piece.numpy()[:, None]
        known = fitted.tokens[fitted.inside]
        real = known[:: -(-len(known) // MOST)]
        for query, (piece, token) in enumerate(zip(where.piece.tolist(), where.token.tolist(), strict=True)):
            elsewhere = np.flatnonzero(pieces_of != piece)
            alike = elsewhere[group[pieces_of[elsewhere]] == group[piece]]
            for at, horizon in enumerate(ahead):
                goal = token + horizon
                steps = [one for one in (*range(-NEAR, 0), *range(1, NEAR + 1)) if 0 <= goal + one < counts[piece]]
                found["near"][query, at, : len(steps)] = tokens[piece, [goal + one for one in steps]]
                for kind, pool in (("group", alike), ("all", elsewhere)):
                    chosen = random.permutation(pool)[:OTHERS]
                    found[kind][query, at, : len(chosen)] = tokens[pieces_of[chosen], tokens_of[chosen]]
        return cls(true, found, tokens[pieces_of[some], tokens_of[some]], apart, real)

    def scores(
        self,
        predicted: Predicted,
        spread: Float[np.ndarray, "horizon number"],
        learner: Forecaster,
        ahead: tuple[int, ...],
    ) -> dict[str, float]:
        scores: dict[str, dict[str, float]] = {}
        made = predicted.mean.double().numpy()
        own = np.square((self.true - made) / spread).mean(-1)
        levels = [front_of(learner).levels(torch.from_numpy(one)).numpy() for one in (made, self.true)]
        for kind, others in self.others.items():
            apart = np.square((others - made[:, :, None]) / spread[:, None]).mean(-1)
            for at, name in enumerate(named(learner, ahead)):
                if not np.isnan(value := retrieved(own[:, at], apart[:, at])):
                    scores.setdefault(f"forecast-{kind}", {})[name] = value
        for at, name in enumerate(named(learner, ahead)):
            likely = gaussian(self.true[:, at], made[:, at], spread[at])
            distance = float(np.sqrt(np.square(levels[0][:, at] - levels[1][:, at]).mean(-1)).mean())
            scores.setdefault("forecast-likelihood", {})[name] = likely
            scores.setdefault("forecast-distance", {})[name] = distance
            if predicted.drawn is None:
                # The coverage of one forecast is meaningless beside that of many futures.
                continue
            if not np.isnan(covered := self.covered(predicted.drawn[:, :, ahead[at] - 1], spread, at)):
                scores.setdefault("forecast-coverage", {})[name] = covered
        return {f"{kind}/{name}": value for kind, by in scores.items() for name, value in by.items()}

    def covered(
        self, drawn: Float[Tensor, "sample query number"], spread: Float[np.ndarray, "horizon number"], at: int
    ) -> float:
        """Mean coverage of the true token by the samples, replaced by their nearest real tokens, relative to
        tokens of other pieces; NaN without any."""
        nearest = torch.cat([mean_squares(some, self.real).argmin(1) for some in drawn.flatten(0, 1).split(BLOCK)])
        samples = self.real[nearest].double().numpy().reshape(drawn.shape)
        own = np.square((samples - self.true[:, at]) / spread[at]).mean(-1)
        each = []
        for query, elsewhere in enumerate(self.elsewhere):
            others = np.square((self.pool[elsewhere] - self.true[query, at]) / spread[at]).mean(-1)
            each += [coverage(own[:, query], others)] if len(others) else []
        return float(np.mean(each)) if each else np.nan

    def chance(self, learner: Forecaster, ahead: tuple[int, ...]) -> dict[str, float]:
        made = {
            f"forecast-{kind}/{name}": chance_of(others[:, at, :, 0])
            for kind, others in self.others.items()
            for at, name in enumerate(named(learner, ahead))
        }
        return {key: value for key, value in made.items() if not np.isnan(value)}


def named(learner: Forecaster, ahead: tuple[int, ...]) -> list[str]:
    return [f"{1000 * horizon / learner.code_rate:.0f} ms" for horizon in ahead]


def states(learner: Forecaster, test: Pieces) -> dict[str, float]:
    """Statistics of the states on held-out sound: use of classes, divergence, likelihood, and entropies of prior
    and posterior."""
    heard = followed(learner, test)
    inside = test.inside & (torch.arange(heard.shape[1]) >= learner.burn_in)
    made = {}
    surprise = learner.surprise(test.signal, test.tokens.flatten(0, 1)[:1])
    for measure, name in (("kl", "divergence in nats"), ("nll", "negative log-likelihood in nats")):
        if measure in surprise:
            made[f"state/{name}"] = float(surprise[measure][inside].double().mean())
    if expected := learner.expectations(test.signal):
        for name in ("prior", "posterior"):
            made[f"state/entropy of the {name} in nats"] = float(expected[name][inside].double().mean())
        if learner.entries:
            made["state/bits a token"] = -float(expected["log prior"][inside].double().mean()) / log(2)
    if learner.entries:
        used, perplexity = use_of_classes(learner, heard[inside])
        made["state/perplexity of a variable"] = float(perplexity.mean())
        made["state/share of dead classes"] = float((used == 0).double().mean())
    return made


def shuffle_ratio(
    learner: Forecaster, fits: Fits, test: Pieces, where: Moments, ahead: tuple[int, ...]
) -> dict[str, float]:
    """Ratio of the error with the actions of another piece to that with the true ones, by horizon."""
    predict = of_states(learner, fits.decoder(learner, acted=True), acted=True)
    drawn = torch.randperm(len(test.counts), generator=torch.Generator().manual_seed(SEED))
    order = torch.empty_like(drawn)
    order[drawn] = drawn.roll(1)
    wrong = replace(test, actions=test.actions[order])
    goal = truth(test, where, ahead)
    errors = [(predict(some, where, ahead).mean - goal).double().square().mean((0, 2)) for some in (test, wrong)]
    ratio = (errors[1] / errors[0].clamp(min=1e-12)).tolist()
    return {f"action-shuffle/{name}": value for name, value in zip(named(learner, ahead), ratio, strict=True)}


def curves(
    made: dict[str, dict[str, float]], chance: dict[str, float], learner: Forecaster, ahead: tuple[int, ...]
) -> dict[str, Any]:
    """Values over horizons, by kind of score and by model."""
    seconds, names, found = [horizon / learner.code_rate for horizon in ahead], named(learner, ahead), {}
    for kind in ("near", "group", "all", "likelihood", "distance"):
        keys = [f"forecast-{kind}/{name}" for name in names]
        every = {name: scores for name, scores in (*made.items(), ("chance", chance)) if keys[0] in scores}
        if every:
            found[f"horizons/{kind}"] = {
                name: {"seconds": seconds, "values": [scores[key] for key in keys]}
                for name, scores in every.items()
            }
    return found
