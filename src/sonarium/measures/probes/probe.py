"""Probes: how well a simple classifier predicts labels from codes, on held-out groups.

A probe is fitted on training groups, its regularisation and size are chosen on validation groups, or by
cross-validation over the training groups, and it is scored on test groups; a group in two of them is an error.
Rows are frames or clips (both from frames.py). Probing by linear classifiers follows Alain and Bengio (2016); for
speech, van den Oord, Li and Vinyals (2018).
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from threadpoolctl import threadpool_limits

from sonarium.config import Range, check_ranges
from sonarium.measures.probes.classifiers import (
    NetworkConfig,
    Scores,
    fit_network,
    logistic_path,
    ridge_path,
    scale_of,
)
from sonarium.measures.probes.frames import checked_codes
from sonarium.measures.splits import Split, check_split, folds, listed, to_choose


@dataclass(frozen=True)
class ProbeConfig:
    """Kind of classifier, and the settings to choose from."""

    kind: Literal["ridge", "logistic", "mlp"] = "ridge"
    """Linear classifiers (least squares or cross entropy), or a network with one hidden layer."""
    strengths: Annotated[tuple[float, ...], Range(0, above=True)] = (10.0, 1.0, 0.1, 1e-2, 1e-3)
    """Strengths of regularisation of ridge and logistic probes to choose from, per row."""
    network: NetworkConfig = NetworkConfig()
    """Sizes and training of the network."""
    lots: Annotated[int, Range(2)] = 5
    """Folds of groups that hyperparameters are chosen on where there are no validation groups."""
    refit: bool = False
    """Whether the chosen probe is fitted once more, on the training and validation groups together."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.strengths:
            raise ValueError(f"strengths={self.strengths}: give at least one")
        if not self.network.hidden:
            raise ValueError(f"hidden={self.network.hidden}: give at least one size")


@dataclass(frozen=True)
class Setting:
    """The chosen hyperparameters: a strength, or a hidden size with its number of epochs."""

    strength: float | None = None
    hidden: int | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Choice:
    """The chosen setting, and its validation score."""

    setting: Setting
    validated: float | None = None
    """Balanced accuracy on the rows on which it was chosen, averaged over folds; None if there was only one
    setting."""


@dataclass(frozen=True)
class ProbeScore:
    """How well a probe predicts the labels of held-out groups."""

    accuracy: float
    """Fraction of the test rows that are predicted correctly."""
    balanced: float
    """Balanced accuracy: the mean of the recalls of the classes of the test rows."""
    chance: float
    """Fraction of the test rows in their most frequent class: the accuracy of a constant prediction."""
    balanced_chance: float
    """One over the number of classes in the test rows."""
    rows: tuple[int, int, int]
    """Numbers of training, validation and test rows."""
    setting: Setting
    validated: float | None
    """Balanced accuracy on the rows on which the setting was chosen; None if there was only one."""
    unseen: tuple[Any, ...]
    """Labels of test rows that occur in no training row; they count as wrong."""
    predicted: Shaped[np.ndarray, " test"] = field(repr=False, compare=False)
    """The predicted label of each test row."""


def probe(
    codes: Float[np.ndarray, "row code"],
    labels: Shaped[np.ndarray, " row"],
    groups: Shaped[np.ndarray, " row"],
    split: Split[np.ndarray],
    generator: np.random.Generator,
    config: ProbeConfig = ProbeConfig(),
) -> ProbeScore:
    """Fit on training rows, choose the setting on validation rows or by cross-validation, score on test rows."""
    table = table_of(codes, labels, groups)
    check_split(groups, split, may_lack_validation=True)
    seed = drawn_seed(generator)
    parts = [] if only_setting(config) else to_choose(groups, split, config.lots, table.label)
    choice = choose(table, parts, config, seed)
    fitted = np.concatenate([split.train, split.validation]) if config.refit else split.train
    chosen_on = sum(len(watched) for _, watched in parts)
    return fit_and_score(table, fitted, chosen_on, split.test, choice, config, seed)


def leave_one_group_out(
    codes: Float[np.ndarray, "row code"],
    labels: Shaped[np.ndarray, " row"],
    groups: Shaped[np.ndarray, " row"],
    generator: np.random.Generator,
    config: ProbeConfig = ProbeConfig(),
) -> dict[Any, ProbeScore]:
    """Score each group by a probe fitted on all others.

    Hyperparameters are chosen on those other groups only, by leaving each of them (or each fold) out in turn.
    """
    table = table_of(codes, labels, groups)
    names = np.unique(groups)
    least = 2 if only_setting(config) else 3
    if len(names) < least:
        raise ValueError(
            f"got {len(names)} group(s), {listed(names)}: at least {least} are needed to fit, to choose and to "
            "score on different ones; with two, give one strength, so that there is nothing to choose"
        )
    seed = drawn_seed(generator)
    scores = {}
    for name in names:
        rest, test = np.flatnonzero(groups != name), np.flatnonzero(groups == name)
        choice = choose(table, folds(groups, rest, config.lots, table.label), config, seed)
        chosen_on = 0 if only_setting(config) else len(rest)
        scores[name.item()] = fit_and_score(table, rest, chosen_on, test, choice, config, seed)
    return scores


@dataclass(frozen=True)
class ProbeTable:
    """Codes, with their labels as class indices."""

    codes: Float[np.ndarray, "row code"]
    classes: Shaped[np.ndarray, " class_"]
    label: Int[np.ndarray, " row"]


def table_of(codes: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> ProbeTable:
    """Checked rows: finite codes, with a label and a group each."""
    checked = checked_codes(codes, {"labels": labels, "groups": groups})
    classes, label = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"every row has the label {classes[0]!r}: a probe needs at least two classes")
    return ProbeTable(checked, classes, label)


def only_setting(config: ProbeConfig) -> Setting | None:
    """The only setting, else None; the number of epochs of a network always has to be chosen."""
    alone = config.kind != "mlp" and len(config.strengths) == 1
    return Setting(strength=config.strengths[0]) if alone else None


def drawn_seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**63))


def choose(
    table: ProbeTable, lots: Iterable[tuple[np.ndarray, np.ndarray]], config: ProbeConfig, seed: int
) -> Choice:
    """Setting with the best balanced accuracy on held-out rows; the most regularised one of ties."""
    if alone := only_setting(config):
        return Choice(alone)

    def without(lot: tuple[np.ndarray, np.ndarray]) -> list[tuple[Setting, float]]:
        fitted, watched = lot
        asked, true = table.codes[watched], table.label[watched]
        found = fits(table, fitted, config, seed, watched)
        return [(setting, recall(true, scores(asked).argmax(axis=1))) for setting, scores in found]

    lots = list(lots)
    threads = min(len(lots), torch.get_num_threads())
    if threads > 1 and config.kind != "mlp":
        # The matrix products of one fold are too small for several threads; networks are multithreaded already.
        with ThreadPoolExecutor(threads) as pool, threadpool_limits(1, "blas"):
            tried = list(pool.map(without, lots))
    else:
        tried = [without(lot) for lot in lots]
    means = np.mean([[score for _, score in lot] for lot in tried], axis=0)
    best = int(np.argmax(means.round(12)))
    chosen = [lot[best][0] for lot in tried]
    passes = [setting.epochs for setting in chosen if setting.epochs is not None]
    epochs = max(1, round(float(np.mean(passes)))) if passes else None
    return Choice(replace(chosen[0], epochs=epochs), float(means[best]))


def fits(
    table: ProbeTable, rows: np.ndarray, config: ProbeConfig, seed: int, watched: np.ndarray | None = None
) -> Iterator[tuple[Setting, Scores]]:
    """Fitted probe of every setting, the most regularised first; classes without training rows score −∞."""
    present, y = np.unique(table.label[rows], return_inverse=True)
    scale = scale_of(table.codes[rows])
    x = scale(table.codes[rows])

    def whole(scores: Scores) -> Scores:
        def of_all_classes(codes: np.ndarray) -> np.ndarray:
            every = np.full((len(codes), len(table.classes)), -np.inf)
            every[:, present] = scores(scale(codes))
            return every

        return of_all_classes

    if config.kind == "mlp":
        known = np.array([], int) if watched is None else watched[np.isin(table.label[watched], present)]
        watch = scale(table.codes[known]), np.searchsorted(present, table.label[known])
        for hidden in sorted(config.network.hidden):
            given = watch if len(known) else None
            scores, epochs = fit_network(x, y, len(present), hidden, config.network, seed, given)
            yield Setting(hidden=hidden, epochs=epochs), whole(scores)
        return
    path = ridge_path if config.kind == "ridge" else logistic_path
    strengths = tuple(sorted(config.strengths, reverse=True))
    for strength, scores in zip(strengths, path(x, y, len(present), strengths), strict=True):
        yield Setting(strength=strength), whole(scores)


def fitted_as(table: ProbeTable, rows: np.ndarray, setting: Setting, config: ProbeConfig, seed: int) -> Scores:
    """Fitted probe of one setting."""
    if setting.strength is not None:
        alone = replace(config, strengths=(setting.strength,))
    else:
        assert setting.hidden is not None and setting.epochs is not None, setting
        alone = replace(config, network=replace(config.network, hidden=(setting.hidden,), epochs=setting.epochs))
    return next(fits(table, rows, alone, seed))[1]


def fit_and_score(
    table: ProbeTable,
    fitted: np.ndarray,
    chosen_on: int,
    test: np.ndarray,
    choice: Choice,
    config: ProbeConfig,
    seed: int,
) -> ProbeScore:
    """Fit on the rows `fitted`, score on the rows `test`."""
    predicted = fitted_as(table, fitted, choice.setting, config, seed)(table.codes[test]).argmax(axis=1)
    true = table.label[test]
    classes, counts = np.unique(true, return_counts=True)
    return ProbeScore(
        accuracy=float(np.mean(predicted == true)),
        balanced=recall(true, predicted),
        chance=float(counts.max() / len(true)),
        balanced_chance=1 / len(classes),
        rows=(len(fitted), chosen_on, len(test)),
        setting=choice.setting,
        validated=choice.validated,
        unseen=tuple(table.classes[np.setdiff1d(classes, table.label[fitted])].tolist()),
        predicted=table.classes[predicted],
    )


def recall(true: Int[np.ndarray, " row"], predicted: Int[np.ndarray, " row"]) -> float:
    """Balanced accuracy: recall averaged over the classes that occur."""
    asked = np.bincount(true)
    right = np.bincount(true[predicted == true], minlength=len(asked))
    return float(np.mean(right[asked > 0] / asked[asked > 0]))
