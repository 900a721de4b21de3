"""How well a forecaster forecasts held-out sound, by horizon, beside baselines of the same tokens.

At moments of held-out pieces all that was heard is followed, and tokens ahead are predicted without hearing more.
All are compared in one space, the tokens themselves: states through a ridge regression that was fitted on the
training split with the states frozen, the mean over samples. A prediction is a Gaussian about it, whose spread by
number and horizon is that of the errors in training pieces that nothing was fitted on. The true token competes
with its neighbours in the same recording, with tokens of the same group, and with all (`measures/forecasts.py`).
The samples themselves are compared with the truth (coverage), and as sets with real tokens (`likeness.py`).

Baselines: the last token again (persistence); ridge regression on the last tokens (linear AR); a hidden Markov
model and a GRU trained on the same tokens; the same learner with the order of the past shuffled, and before
training. Ridge regression on its states, one for each horizon, says what they know of what comes, apart from the
futures that are drawn from them (direct).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sonarium.evaluation.codebits import Coded, code_bits
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.fitting import SEED, TokenHMM, trained
from sonarium.evaluation.likeness import UNKNOWN, Likeness, fitted_embedding
from sonarium.evaluation.realtokens import (
    BLOCK,
    MOST,
    WATCHED,
    counts_of,
    front_of,
    regression,
    ridge,
    use_of_classes,
)
from sonarium.evaluation.tasks import INDIVIDUALS
from sonarium.measures.forecasts import chance_of, coverage, gaussian, retrieved
from sonarium.measures.splits import Split
from sonarium.models.contract import FeatureLearner, Forecaster
from sonarium.models.gru import Recurrent
from sonarium.models.objectives import mean_squares
from sonarium.worlds.contract import Progress, World

HORIZONS = (0.1, 0.2, 0.4)
"""Seconds ahead."""
TEST, CALIBRATION = 64, 32
"""Pieces that are scored, and training pieces from which the spread of errors is known."""
FOLLOWED = 64
"""Pieces that are followed at once."""
MOMENTS = 4
"""Moments of a piece."""
SAMPLES = 64
"""Futures that are averaged: of sixteen, a sixteenth of their variance would be left, some hundredths of a nat."""
COVERING = 16
"""Futures that are to cover the true one."""
LAST = 4
"""Tokens that linear AR sees."""
NEAR, OTHERS = 3, 20
"""Tokens before and after the true one, and tokens drawn from other clips, that compete with it."""
POOL = 512
"""Tokens of held-out sound that what is drawn competes with."""


@dataclass(frozen=True)
class Pieces:
    """Pieces of one part of the split."""

    signal: Float[Tensor, "piece time *rest"]
    tokens: Float[Tensor, "piece token number"]
    counts: Int[Tensor, " piece"]
    group: Int[Tensor, " piece"]
    actions: Float[Tensor, "piece token action"]
    labels: Int[Tensor, "piece token kind"]
    """What is known of each token, by kind: the number of its label, or `UNKNOWN`."""

    def rows(self, which: Tensor) -> "Pieces":
        return Pieces(*(value[which] for value in vars(self).values()))

    @property
    def inside(self) -> Bool[Tensor, "piece token"]:
        return torch.arange(self.tokens.shape[1]) < self.counts[:, None]


@dataclass(frozen=True)
class Moments:
    """Where forecasts begin: the last token that is heard."""

    piece: Int[Tensor, " query"]
    token: Int[Tensor, " query"]

    def together(self) -> Iterator[tuple[int, Int[Tensor, " some"]]]:
        """The moments that have heard as many tokens, which can be forecast at once: how many, and which."""
        for token in self.token.unique().tolist():
            yield token + 1, (self.token == token).nonzero()[:, 0]


@dataclass(frozen=True)
class Predicted:
    """Of each moment."""

    mean: Float[Tensor, "query horizon number"]
    drawn: Float[Tensor, "sample query step number"] | None = None
    """All tokens up to the furthest horizon; None of what does not draw."""


Predict = Callable[[Pieces, Moments, tuple[int, ...]], Predicted]
Decoder = tuple[Float[Tensor, "code number"], Float[Tensor, " number"]]
"""Weights and offset of the ridge regression from states to tokens."""


@dataclass(frozen=True)
class Trial:
    """Moments of held-out pieces, and what forecasts of them are compared with."""

    learner: Forecaster
    """Whose tokens they are."""
    ahead: tuple[int, ...]
    fitted: Pieces
    """Training pieces, that all is fitted to."""
    calibration: Pieces
    """Training pieces, from which the spread of errors is known: nothing is fitted to them."""
    test: Pieces
    where: Moments
    rivals: "Rivals"
    likeness: Likeness | None
    """None where there are too few tokens."""

    @classmethod
    def of(cls, learner: Forecaster, train: Pieces, test: Pieces) -> "Trial | None":
        """None where all pieces are too short."""
        ahead = horizons(learner, train, test)
        if not ahead:
            return None
        fitted, calibration = divided(train)
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
        """Of one future of each moment, all its tokens; empty of what does not draw."""
        if drawn is None or self.likeness is None:
            return {}
        one = torch.randint(len(drawn), (drawn.shape[1],), generator=torch.Generator().manual_seed(SEED))
        return self.called(self.likeness.distances(drawn[one, torch.arange(len(one))].flatten(0, 1)))

    def called(self, distances: dict[str, float]) -> dict[str, float]:
        name = named(self.learner, self.ahead)[-1]
        return {f"forecast-{kind}/{name}": value for kind, value in distances.items()}


class Fits:
    """What is fitted to training pieces, each once: decoders of learners, and models of tokens."""

    def __init__(self, train: Pieces, config: EvaluationConfig = EvaluationConfig()):
        self.train, self.config = train, config
        self.pieces, _ = divided(train)
        self.decoders: dict[tuple[int, bool], Decoder] = {}
        self.grus: dict[bool, TokenGRU] = {}
        self.chain: TokenHMM | None = None

    def decoder(self, learner: Forecaster, acted: bool = False) -> Decoder:
        """With all actions known, or with none."""
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
    """`scores` of the learner, those of each control, `chance`, `curves` by horizon, and `notes`."""
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


def pieces_of(
    learner: Forecaster, world: World, split: Split[Tensor], config: EvaluationConfig = EvaluationConfig()
) -> tuple[Pieces, Pieces]:
    """Training pieces, that baselines and decoders are fitted on, and test pieces."""
    return pieces(learner, world, split.train, config.max_pieces), pieces(learner, world, split.test, TEST)


def divided(train: Pieces) -> tuple[Pieces, Pieces]:
    """Training pieces that all is fitted to, and those from which the spread of errors is known."""
    number = torch.arange(len(train.counts))
    apart = (number % WATCHED == WATCHED - 1) & (number < WATCHED * CALIBRATION)
    return (train.rows(~apart), train.rows(apart)) if apart.any() else (train, train)


def chosen_clips(world: World, index: Int[Tensor, " clip"], most: int) -> Int[Tensor, " piece"]:
    """Clips at random, each as often as it is long."""
    portions = world.portions(index[world.lengths(index) > 0])
    return portions[torch.randperm(len(portions), generator=torch.Generator().manual_seed(SEED))][:most]


def pieces(learner: Forecaster, world: World, index: Int[Tensor, " clip"], most: int) -> Pieces:
    """Random pieces of clips, each clip as often as it is long."""
    assert isinstance(learner, FeatureLearner), type(learner)
    chosen = chosen_clips(world, index, most)
    batch = world.piece(chosen, SEED, 0)
    tokens = front_of(learner).tokens(learner.features(batch))
    actions, labels = learner.actions(batch, tokens.shape[1]), labels_of(learner, world, chosen, tokens.shape[1])
    return Pieces(batch.signal, tokens, counts_of(learner, batch), individuals(world, chosen), actions, labels)


def labels_of(
    learner: Forecaster, world: World, chosen: Int[Tensor, " piece"], tokens: int
) -> Int[Tensor, "piece token kind"]:
    """Of each token of pieces: each categorical factor of its clip, and the segment that its middle lies in; 0 is
    between segments."""
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


def horizons(learner: Forecaster, train: Pieces, test: Pieces) -> tuple[int, ...]:
    """Tokens ahead, as far as pieces are long enough."""
    longest = min(int(train.counts.max()), int(test.counts.max())) - max(1, learner.burn_in)
    wanted = [max(1, round(one * learner.code_rate)) for one in HORIZONS]
    return tuple(dict.fromkeys(one for one in wanted if one <= longest))


def moments(some: Pieces, burn_in: int, furthest: int) -> Moments:
    """Evenly spaced from the burn-in to where the furthest horizon ends."""
    first, where = max(1, burn_in) - 1, []
    for piece, count in enumerate(some.counts.tolist()):
        last = count - furthest - 1
        if last >= first:
            at = np.unique(np.linspace(first, last, MOMENTS + 1)[1:].round().astype(int))
            where += [(piece, int(token)) for token in at]
    piece, token = torch.tensor(where).view(-1, 2).unbind(1)
    return Moments(piece, token)


def truth(some: Pieces, where: Moments, ahead: Sequence[int]) -> Float[Tensor, "query horizon number"]:
    return some.tokens[where.piece[:, None], where.token[:, None] + torch.tensor(ahead)]


def come(some: Pieces, where: Moments, furthest: int) -> Bool[Tensor, "piece token"]:
    """The tokens that come after any of the moments, up to the furthest horizon."""
    found = torch.zeros(some.tokens.shape[:2], dtype=torch.bool)
    found[where.piece[:, None], where.token[:, None] + 1 + torch.arange(furthest)] = True
    return found


def followed(learner: Forecaster, some: Pieces, acted: bool = False) -> Float[Tensor, "piece token code"]:
    """The states of all pieces, a few at once; with all actions known, or with none."""
    parts = zip(some.signal.split(FOLLOWED), some.actions.split(FOLLOWED), strict=True)
    return torch.cat([learner.states(signal, actions=own if acted else None) for signal, own in parts])


# What predicts.


def persistence(some: Pieces, where: Moments, ahead: tuple[int, ...]) -> Predicted:
    return Predicted(some.tokens[where.piece, where.token][:, None].expand(-1, len(ahead), -1))


def of_states(learner: Forecaster, decoder: Decoder, shuffled: bool = False, acted: bool = False) -> Predict:
    """The mean of decoded futures; with the past in a random order, or with all actions known."""
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
    """The true tokens as the learner decodes them."""
    return decoded(followed(learner, some), decoder).to(some.tokens)


def out_of_order(
    some: Pieces, piece: Int[Tensor, " row"], tokens: int, size: int, generator: torch.Generator
) -> Float[Tensor, "row time *rest"]:
    """The sound before a moment, its tokens in random order."""
    parts = some.signal[piece, : tokens * size].unflatten(1, (tokens, size))
    order = torch.rand(len(piece), tokens, generator=generator).argsort(1)
    return parts[torch.arange(len(piece))[:, None], order].flatten(1, 2)


def linear(fitted: Pieces, ahead: tuple[int, ...], given: "Given | None" = None) -> Predict:
    """Ridge regression to the tokens ahead from the last tokens or what else is given."""
    given, where = given or last, everywhere(fitted, ahead[-1])
    goal = truth(fitted, where, ahead)
    line, _ = ridge(given(fitted, where), goal.flatten(1).double().numpy(), where.piece.numpy())

    def predict(some: Pieces, where: Moments, ahead: tuple[int, ...]) -> Predicted:
        made = torch.from_numpy(line(given(some, where))).to(some.tokens)
        return Predicted(made.unflatten(1, goal.shape[1:]))

    return predict


Given = Callable[[Pieces, Moments], Float[np.ndarray, "query number"]]
"""What is known at a moment."""


def everywhere(some: Pieces, horizon: int) -> Moments:
    """Every token that has one so far ahead."""
    inside = torch.arange(some.tokens.shape[1]) + horizon < some.counts[:, None]
    return Moments(*inside.nonzero().unbind(1))


def of_learner(learner: Forecaster) -> Given:
    """The learner's state at a moment."""
    return lambda some, where: followed(learner, some)[where.piece, where.token].double().numpy()


def last(some: Pieces, where: Moments) -> Float[np.ndarray, "query number"]:
    """The last tokens up to a moment; the first one stands for those before it."""
    at = (where.token[:, None] - torch.arange(LAST)).clamp(min=0)
    return some.tokens[where.piece[:, None], at].flatten(1).double().numpy()


class TokenGRU(nn.Module):
    """The next token from those before it, and from its own actions where there are any: its mean, and a spread of
    each number."""

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
        """Futures drawn token by token: the mean of each token given those before it, and the token."""
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
"""From the tokens heard, how many come, and random numbers: the mean of each token that comes, and draws."""


def by_moment(futures: Futures) -> Predict:
    """All moments that have heard as many tokens at once."""

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
        # The mean of means varies less from draw to draw.
        return means.mean(0), drawn[:COVERING]

    return by_moment(futures)


def hidden(model: TokenHMM) -> Predict:
    def futures(past: Tensor, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        belief = model.belief(past)
        return model.expected(belief, steps), model.drawn(belief, steps, COVERING, generator)

    return by_moment(futures)


# What they are compared with.


@dataclass(frozen=True)
class Rivals:
    """The true tokens of all moments and horizons, and those that compete with them."""

    true: Float[np.ndarray, "query horizon number"]
    others: dict[str, Float[np.ndarray, "query horizon _other number"]]
    """By kind; NaN where there are fewer."""
    pool: Float[np.ndarray, "_pool number"]
    """Tokens of test pieces, drawn at random."""
    elsewhere: Bool[np.ndarray, "query _pool"]
    """Which of them are of other pieces than the truth."""
    real: Float[Tensor, "real number"]
    """Real tokens of training pieces, the nearest of which stands for a token that is drawn: the noise of a
    density would come near the truth in no draw, and the mean of one is never far from it."""

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
                # One forecast among as many real tokens as there are futures of others would say nothing.
                continue
            if not np.isnan(covered := self.covered(predicted.drawn[:, :, ahead[at] - 1], spread, at)):
                scores.setdefault("forecast-coverage", {})[name] = covered
        return {f"{kind}/{name}": value for kind, by in scores.items() for name, value in by.items()}

    def covered(
        self, drawn: Float[Tensor, "sample query number"], spread: Float[np.ndarray, "horizon number"], at: int
    ) -> float:
        """The mean coverage of the true token by the samples, as the nearest real tokens, beside tokens of other
        clips; NaN without any."""
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
    """Of the states of held-out sound: classes in use and dead, the divergence, and the entropy of the prior."""
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
    """How much larger the error is with the actions of other moments."""
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
    """By kind of score and by model, a value for each horizon."""
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
