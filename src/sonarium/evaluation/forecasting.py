"""How well a forecaster forecasts held-out sound, by horizon, beside baselines of the same tokens.

At moments of held-out pieces all that was heard is followed, and tokens ahead are predicted without hearing more.
All are compared in one space, the tokens themselves: states through a ridge regression that was fitted on the
training split with the states frozen, the mean over samples. A prediction is a Gaussian about it, whose spread by
number and horizon is that of the errors in training pieces that nothing was fitted on. The true token competes
with its neighbours in the same recording, with tokens of the same group, and with all (`measures/forecasts.py`).
The samples themselves are compared with the truth (coverage), and all of them with real tokens (kernel and Fréchet
distance), beside the true tokens as the learner decodes them.

Baselines: the last token again (persistence); ridge regression on the last tokens (linear AR); a GRU trained on
the same tokens; the same learner with the order of the past shuffled, and before training.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.realtokens import WATCHED, counts_of, front_of, regression, ridge, use_of_classes
from sonarium.evaluation.tasks import INDIVIDUALS
from sonarium.measures.forecasts import chance_of, coverage, gaussian, retrieved
from sonarium.measures.generation import frechet_distance, kernel_distance
from sonarium.measures.probes.classifiers import principal_axes
from sonarium.measures.sequence.ngrams import NGrams
from sonarium.measures.splits import Split
from sonarium.models.contract import FeatureLearner, Forecaster
from sonarium.models.gru import Recurrent
from sonarium.models.optim import AdamConfig
from sonarium.worlds.contract import Batch, Progress, World

Network = TypeVar("Network", bound=nn.Module)
HORIZONS = (0.1, 0.2, 0.4)
"""Seconds ahead."""
TEST, TRAIN = 64, 128
"""Pieces that are scored, and that baselines and decoder are fitted on."""
MOMENTS = 4
"""Moments of a piece."""
SAMPLES = 16
"""Futures that are averaged."""
LAST = 4
"""Tokens that linear AR sees."""
NEAR, OTHERS = 3, 20
"""Tokens before and after the true one, and tokens drawn from other clips, that compete with it."""
BATCH, RATE = 16, 3e-3
"""Of the GRU: pieces in a batch, and learning rate."""
ORDER = 2
"""Of n-grams of the classes of a variable."""
COMPONENTS = 32
"""Principal components of real tokens, in which distances between sets of tokens are taken."""
SEED = 0
"""All that is drawn follows from the clips alone, as in probing."""


@dataclass(frozen=True)
class Pieces:
    """Pieces of one part of the split."""

    signal: Float[Tensor, "piece time *rest"]
    tokens: Float[Tensor, "piece token number"]
    counts: Int[Tensor, " piece"]
    group: Int[Tensor, " piece"]
    actions: Float[Tensor, "piece token action"]

    def rows(self, which: Tensor) -> "Pieces":
        return Pieces(*(value[which] for value in vars(self).values()))


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
    """Of each moment and horizon."""

    mean: Float[Tensor, "query horizon number"]
    samples: Float[Tensor, "sample query horizon number"]
    """One alone of what does not draw."""

    @classmethod
    def certain(cls, mean: Float[Tensor, "query horizon number"]) -> "Predicted":
        return cls(mean, mean[None])


Predict = Callable[[Pieces, Moments, tuple[int, ...]], Predicted]


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

    @classmethod
    def of(cls, learner: Forecaster, train: Pieces, test: Pieces) -> "Trial | None":
        """None where all pieces are too short."""
        ahead = horizons(learner, train, test)
        if not ahead:
            return None
        apart = torch.arange(len(train.counts)) % WATCHED == WATCHED - 1
        fitted, calibration = (train.rows(~apart), train.rows(apart)) if apart.any() else (train, train)
        where = moments(test, learner.burn_in, ahead[-1])
        return cls(learner, ahead, fitted, calibration, test, where, Rivals.of(test, where, ahead))

    def scores(self, predict: Predict) -> dict[str, float]:
        calibrating = moments(self.calibration, self.learner.burn_in, self.ahead[-1])
        made = predict(self.calibration, calibrating, self.ahead).mean
        errors = made - truth(self.calibration, calibrating, self.ahead)
        spread = errors.double().std(0, correction=0).clamp(min=1e-2).numpy()
        return self.rivals.scores(predict(self.test, self.where, self.ahead), spread, self.learner, self.ahead)


@torch.no_grad()
def forecasting(
    learner: Forecaster,
    untrained: Forecaster | None,
    train: Pieces,
    test: Pieces,
    config: EvaluationConfig = EvaluationConfig(),
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """`scores` of the learner, those of each control, `chance`, `curves` by horizon, and `notes`."""
    trial = Trial.of(learner, train, test)
    if trial is None:
        shortest = 1000 * HORIZONS[0]
        note = f"forecasts are not scored: pieces are shorter than the burn-in and {shortest:.0f} ms"
        return {"scores": {}, "chance": {}, "curves": {}, "notes": [note]}
    fitted, ahead, where, rivals = trial.fitted, trial.ahead, trial.where, trial.rivals
    every: dict[str, Callable[[], Predict]] = {
        "scores": lambda: of_states(learner, fitted),
        "persistence": lambda: persistence,
        "linear_ar": lambda: linear(fitted, ahead),
        "gru_ar": lambda: recurrent(fitted, config),
        "shuffled_past": lambda: of_states(learner, fitted, shuffled=True),
    }
    if untrained is not None:
        every["random"] = lambda: of_states(untrained, fitted)
    made: dict[str, Any] = {}
    for done, (name, make) in enumerate(every.items()):
        progress("forecasting", done, len(every))
        made[name] = trial.scores(make())
    progress("forecasting", len(every), len(every))
    made["copy"] = rivals.unlikeness(decoded_truth(learner, fitted, test, where, ahead)[None], learner, ahead)
    scores, chance = made["scores"], rivals.chance(learner, ahead)
    scores |= states(learner, test)
    if learner.entries:
        known, held = (Coded.of(learner, part) for part in (fitted, test))
        for name, bits in code_bits(known, held, learner.entries, learner.burn_in, config).items():
            made[name] = made.get(name, {}) | {"state/bits a token": bits}
    if learner.actions.width:
        scores |= shuffle_ratio(learner, fitted, test, where, ahead)
        chance |= {key: 1.0 for key in scores if key.startswith("action-shuffle/")}
    return {**made, "chance": chance, "curves": curves(made, chance, learner, ahead), "notes": []}


def pieces_of(learner: Forecaster, world: World, split: Split[Tensor]) -> tuple[Pieces, Pieces]:
    """Training pieces, that baselines and decoders are fitted on, and test pieces."""
    return pieces(learner, world, split.train, TRAIN), pieces(learner, world, split.test, TEST)


def pieces(learner: Forecaster, world: World, index: Int[Tensor, " clip"], most: int) -> Pieces:
    """Random pieces of clips, each clip as often as it is long."""
    assert isinstance(learner, FeatureLearner), type(learner)
    portions = world.portions(index[world.lengths(index) > 0])
    chosen = portions[torch.randperm(len(portions), generator=torch.Generator().manual_seed(SEED))][:most]
    batch: Batch = world.piece(chosen, SEED, 0)
    tokens = front_of(learner).tokens(learner.features(batch))
    actions = learner.actions(batch, tokens.shape[1])
    return Pieces(batch.signal, tokens, counts_of(learner, batch), individuals(world, chosen), actions)


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


# What predicts.


def persistence(some: Pieces, where: Moments, ahead: tuple[int, ...]) -> Predicted:
    return Predicted.certain(some.tokens[where.piece, where.token][:, None].expand(-1, len(ahead), -1))


def of_states(learner: Forecaster, fitted: Pieces, shuffled: bool = False, acted: bool = False) -> Predict:
    """The mean of decoded futures; with the past in a random order, or with all actions known."""
    size = front_of(learner).shortest
    weights, offset = decoder_of(learner, fitted, acted)

    def predict(some: Pieces, where: Moments, ahead: tuple[int, ...]) -> Predicted:
        generator = torch.Generator().manual_seed(SEED)
        own = some.actions if acted else None
        made = some.tokens.new_zeros(SAMPLES, len(where.token), len(ahead), some.tokens.shape[2])
        states = None if shuffled else learner.states(some.signal, actions=own)
        for heard, at in where.together():
            if states is None:
                past = learner.states(out_of_order(some, where.piece[at], heard, size, generator))
            else:
                past = states[where.piece[at], :heard]
            come = None if own is None else own[where.piece[at], : heard + ahead[-1]]
            drawn = learner.go_on(past, ahead[-1], SAMPLES, generator, actions=come).codes
            made[:, at] = (drawn[:, :, torch.tensor(ahead) - 1] @ weights + offset).to(made)
        return Predicted(made.mean(0), made)

    return predict


def decoder_of(
    learner: Forecaster, fitted: Pieces, acted: bool = False
) -> tuple[Float[Tensor, "code number"], Float[Tensor, " number"]]:
    """Weights and offset of the ridge regression from states to tokens."""
    inside = torch.arange(fitted.tokens.shape[1]) < fitted.counts[:, None]
    warm = inside & (torch.arange(inside.shape[1]) >= learner.burn_in)
    heard = learner.states(fitted.signal, actions=fitted.actions if acted else None)
    number = torch.arange(len(inside))[:, None].expand(inside.shape)
    weights, offset, _ = regression([heard[inside]], fitted.tokens[inside], number[inside], warm[inside])
    return weights, offset


def decoded_truth(
    learner: Forecaster, fitted: Pieces, some: Pieces, where: Moments, ahead: tuple[int, ...]
) -> Float[Tensor, "query horizon number"]:
    """The true tokens as the learner decodes them."""
    weights, offset = decoder_of(learner, fitted)
    states = learner.states(some.signal)[where.piece[:, None], where.token[:, None] + torch.tensor(ahead)]
    return (states @ weights + offset).to(some.tokens)


def out_of_order(
    some: Pieces, piece: Int[Tensor, " row"], tokens: int, size: int, generator: torch.Generator
) -> Float[Tensor, "row time *rest"]:
    """The sound before a moment, its tokens in random order."""
    parts = some.signal[piece, : tokens * size].unflatten(1, (tokens, size))
    order = torch.rand(len(piece), tokens, generator=generator).argsort(1)
    return parts[torch.arange(len(piece))[:, None], order].flatten(1, 2)


def linear(fitted: Pieces, ahead: tuple[int, ...], given: "Given | None" = None) -> Predict:
    """Ridge regression to the token ahead, for each horizon, from the last tokens or what else is given."""
    lines, given = [], given or last
    for horizon in ahead:
        where = everywhere(fitted, horizon)
        x, y = given(fitted, where), truth(fitted, where, (horizon,))[:, 0].double().numpy()
        lines.append(ridge(x, y, where.piece.numpy())[0])

    def predict(some: Pieces, where: Moments, ahead: tuple[int, ...]) -> Predicted:
        x = given(some, where)
        return Predicted.certain(torch.stack([torch.from_numpy(line(x)).to(some.tokens) for line in lines], 1))

    return predict


Given = Callable[[Pieces, Moments], Float[np.ndarray, "query number"]]
"""What is known at a moment."""


def everywhere(some: Pieces, horizon: int) -> Moments:
    """Every token that has one so far ahead."""
    inside = torch.arange(some.tokens.shape[1]) + horizon < some.counts[:, None]
    return Moments(*inside.nonzero().unbind(1))


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


def recurrent(fitted: Pieces, config: EvaluationConfig) -> Predict:
    network = trained_gru(fitted, config)

    def predict(some: Pieces, where: Moments, ahead: tuple[int, ...]) -> Predicted:
        generator, steps = torch.Generator().manual_seed(SEED), torch.tensor(ahead) - 1
        mean = some.tokens.new_zeros(len(where.token), len(ahead), some.tokens.shape[2])
        samples = mean.new_zeros(SAMPLES, *mean.shape)
        for heard, at in where.together():
            means, drawn = network.drawn(some.tokens[where.piece[at], :heard], ahead[-1], SAMPLES, generator)
            # The mean of means varies less from draw to draw.
            mean[at], samples[:, at] = means.mean(0)[:, steps], drawn[:, :, steps]
        return Predicted(mean, samples)

    return predict


# What they are compared with.


@dataclass(frozen=True)
class Rivals:
    """The true tokens of all moments and horizons, and those that compete with them."""

    true: Float[np.ndarray, "query horizon number"]
    others: dict[str, Float[np.ndarray, "query horizon _other number"]]
    """By kind; NaN where there are fewer."""

    @classmethod
    def of(cls, test: Pieces, where: Moments, ahead: tuple[int, ...]) -> "Rivals":
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
        return cls(true, found)

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
            if not np.isnan(covered := self.covered(predicted, spread, at)):
                scores.setdefault("forecast-coverage", {})[name] = covered
        flat = {f"{kind}/{name}": value for kind, by in scores.items() for name, value in by.items()}
        return flat | self.unlikeness(predicted.samples, learner, ahead)

    def covered(self, predicted: Predicted, spread: Float[np.ndarray, "horizon number"], at: int) -> float:
        """The mean coverage of the true token by the samples, beside tokens of any clips; NaN without others."""
        samples = predicted.samples[:, :, at].double().numpy()
        own = np.square((samples - self.true[:, at]) / spread[at]).mean(-1)
        others = np.square((self.others["all"][:, at] - self.true[:, at, None]) / spread[at]).mean(-1)
        rivals = [row[~np.isnan(row)] for row in others]
        each = [coverage(own[:, query], row) for query, row in enumerate(rivals) if len(row)]
        return float(np.mean(each)) if each else np.nan

    def unlikeness(
        self, samples: Float[Tensor, "sample query horizon number"], learner: Forecaster, ahead: tuple[int, ...]
    ) -> dict[str, float]:
        """Distances between all drawn tokens and the true ones at the furthest horizon, of equally many of both;
        empty where there are too few."""
        real = self.true[:, -1]
        if len(real) <= COMPONENTS:
            return {}
        order = np.random.default_rng([SEED, 0xD157]).integers(len(samples), size=len(real))
        made = samples[order, np.arange(len(real)), -1].double().numpy()
        axes = principal_axes(real - real.mean(0))[1][:, -COMPONENTS:]
        both = [(rows - real.mean(0)) @ axes for rows in (real, made)]
        name = named(learner, ahead)[-1]
        return {
            f"forecast-kernel/{name}": kernel_distance(*both), f"forecast-frechet/{name}": frechet_distance(*both)
        }  # fmt: skip

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
    heard = learner.states(test.signal)
    inside = torch.arange(heard.shape[1]) < test.counts[:, None]
    inside &= torch.arange(heard.shape[1]) >= learner.burn_in
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


@dataclass(frozen=True)
class Coded:
    """Discrete states of pieces."""

    classes: Int[Tensor, "piece token variable"]
    counts: Int[Tensor, " piece"]

    @classmethod
    def of(cls, learner: Forecaster, some: Pieces) -> "Coded":
        return cls(learner.classes(learner.states(some.signal)), some.counts)

    @property
    def inside(self) -> Bool[Tensor, "piece token"]:
        return torch.arange(self.classes.shape[1]) < self.counts[:, None]

    def variable(self, number: int) -> list[Int[np.ndarray, " _token"]]:
        """The classes of one variable in each piece."""
        return [row[keep, number].numpy() for row, keep in zip(self.classes, self.inside, strict=True)]


@torch.no_grad()
def code_bits(known: Coded, held: Coded, entries: int, burn_in: int, config: EvaluationConfig) -> dict[str, float]:
    """Bits a token in which models of discrete states predict held-out ones: n-grams of each variable alone, and a
    GRU of all. Few bits are no merit of states that say little."""
    by_ngrams = torch.zeros(held.classes.shape[:2], dtype=torch.float64)
    for number in range(held.classes.shape[2]):
        model = NGrams(ORDER, entries).fit(known.variable(number))
        logs = model.log_probabilities(held.variable(number))
        by_ngrams[held.inside] += torch.from_numpy(np.concatenate(logs))
    by_gru = code_log_probability(trained_code_gru(known, entries, config), held.classes, entries)
    scored = held.inside & (torch.arange(held.classes.shape[1]) >= burn_in)
    every = {"n_gram": by_ngrams, "gru_ar": by_gru}
    return {name: -float(logs[scored].double().mean()) / log(2) for name, logs in every.items()}


def code_log_probability(
    network: Recurrent, classes: Int[Tensor, "piece token variable"], entries: int
) -> Float[Tensor, "piece token"]:
    """Of the classes of each token given those before it, in nats."""
    ones = nn.functional.one_hot(classes, entries).float()
    logs = network(ones.flatten(2)).unflatten(2, (-1, entries)).log_softmax(-1)
    return (logs * ones).sum((2, 3))


def trained_code_gru(known: Coded, entries: int, config: EvaluationConfig) -> Recurrent:
    classes, inside, numbers = known.classes, known.inside, known.classes.shape[2] * entries
    return trained(
        lambda: Recurrent(numbers, numbers, config.gru_units, 1),
        lambda network, rows: -code_log_probability(network, classes[rows], entries)[inside[rows]].mean(),
        len(classes),
        config.gru_steps,
    )


def shuffle_ratio(
    learner: Forecaster, fitted: Pieces, test: Pieces, where: Moments, ahead: tuple[int, ...]
) -> dict[str, float]:
    """How much larger the error is with the actions of other moments."""
    predict = of_states(learner, fitted, acted=True)
    drawn = torch.randperm(len(test.counts), generator=torch.Generator().manual_seed(SEED))
    order = torch.empty_like(drawn)
    order[drawn] = drawn.roll(1)
    wrong = Pieces(test.signal, test.tokens, test.counts, test.group, test.actions[order])
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
