"""How well codes predict factors: SAP, DCI and explicitness.

SAP: Kumar et al. 2018 (arXiv:1711.00848). DCI: Eastwood & Williams 2018 (ICLR). Explicitness:
Ridgeway & Mozer 2018 (arXiv:1802.05312). Models are fitted on half 0 of the clips and scored on
half 1. A category is scored by balanced accuracy from chance (0) to perfect (1), and a number by its
R², so that both can be averaged. Callers must exclude factors without two values in both halves.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy.stats import rankdata

from sonarium.measures.disentanglement.forest import ForestConfig, grow, in_order
from sonarium.measures.disentanglement.information import top_two
from sonarium.measures.disentanglement.table import Table
from sonarium.measures.probes.logistic import fit_logistic


def sap(table: Table, counts: Int[np.ndarray, "half code factor code_bin factor_bin"]) -> float:
    """Separated attribute predictability: score gap between the best code of a factor and the next.

    A number is predicted by a line, scored by its squared correlation; a category by binning the code and
    predicting the class that is, relative to its size, most frequent in each bin.
    """
    codes, factors = table.codes - table.codes.mean(axis=0), table.factors - table.factors.mean(axis=0)
    scores = (codes.T @ factors) ** 2 / np.outer(_power(codes), _power(factors))
    for factor, is_category in enumerate(table.discrete):
        if is_category:
            scores[:, factor] = _bin_classifier(counts[0, :, factor], counts[1, :, factor])
    best, second = top_two(scores)
    return float(np.mean(best - second))


def _power(values: Float[np.ndarray, "clip column"]) -> Float[np.ndarray, " column"]:
    return np.einsum("nc,nc->c", values, values)


def _bin_classifier(
    fitted: Int[np.ndarray, "code bin class_"], scored: Int[np.ndarray, "code bin class_"]
) -> Float[np.ndarray, " code"]:
    known = (fitted[0].sum(axis=0) > 0) & (scored[0].sum(axis=0) > 0)
    share = fitted[..., known] / fitted[..., known].sum(axis=1, keepdims=True)
    called = np.eye(int(known.sum()))[share.argmax(axis=-1)]
    called[share.sum(axis=-1) == 0] = 0.0  # a bin without clips of the first half predicts no class
    recall = (called * scored[..., known]).sum(axis=1) / scored[..., known].sum(axis=1)
    return above_chance(recall)


@dataclass(frozen=True)
class DCI:
    """Disentanglement of codes, completeness of factors, and how well forests predict the factors."""

    disentanglement: float
    completeness: float
    informativeness: float


def dci(table: Table, half: Int[np.ndarray, " clip"], config: ForestConfig, seed: int) -> DCI:
    """DCI scores from one forest per factor, whose importances show which codes it uses."""
    fit, score = half == 0, half == 1
    learnt = in_order(table.codes[fit])
    importance = np.zeros((table.codes.shape[1], table.factors.shape[1]))
    informed = np.zeros(table.factors.shape[1])
    for factor, is_category in enumerate(table.discrete):
        values = table.factors[:, factor]
        forest = grow(learnt, values[fit], is_category, config, seed + factor)
        importance[:, factor] = forest.importance
        informed[factor] = _agreement(values[score], forest.predict(table.codes[score]), forest.classes)
    return DCI(_disentanglement(importance), _completeness(importance, table.code_count), float(informed.mean()))


def _disentanglement(importance: Float[np.ndarray, "code factor"]) -> float:
    """1 − H of a code's importances over factors, to base factors; codes are weighted by their importance."""
    weight = importance.sum(axis=1)
    if weight.sum() == 0:
        return 0.0
    return float(np.average(_concentration(importance, importance.shape[1]), weights=weight))


def _completeness(importance: Float[np.ndarray, "code factor"], codes: int) -> float:
    """1 − H of a factor's importances over codes, to base of all codes, dead ones included."""
    return float(np.mean(_concentration(importance.T, codes)))


def _concentration(rows: Float[np.ndarray, "row column"], base: int) -> Float[np.ndarray, " row"]:
    total = rows.sum(axis=1, keepdims=True)
    share = np.divide(rows, total, out=np.zeros_like(rows), where=total > 0)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    concentration = 1 - entropy / np.log(base) if base > 1 else np.ones(len(rows))
    return np.where(total[:, 0] > 0, concentration, 0.0)


def _agreement(
    true: Float[np.ndarray, " clip"],
    predicted: Float[np.ndarray, " clip"],
    classes: Float[np.ndarray, " class_"] | None,
) -> float:
    if classes is not None:
        # A class that the first half lacks cannot be predicted.
        recall = [np.mean(predicted[true == one] == one) for one in np.intersect1d(true, classes)]
        return float(above_chance(np.array([recall]))[0])
    spread = np.sum((true - true.mean()) ** 2)
    return float(max(0.0, 1 - np.sum((true - predicted) ** 2) / spread))


def explicitness(
    table: Table, factor_bins: Int[np.ndarray, "clip factor"], half: Int[np.ndarray, " clip"]
) -> float:
    """How well linear classifiers predict each value of each factor from all codes: 2·AUC − 1.

    A category is classified one value against the rest. The values of a number are ordered, and no line
    separates a middle one from the rest, so a number is classified by thresholds.
    """
    spread = table.codes[half == 0].std(axis=0)
    scaled = (table.codes - table.codes[half == 0].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    scores = []
    for factor, is_category in enumerate(table.discrete):
        values = np.unique(factor_bins[:, factor])
        bins = factor_bins[:, factor, None]
        asked = bins == values if is_category else bins >= values[1:]
        answered = [asked[half == part].any(0) & ~asked[half == part].all(0) for part in (0, 1)]
        asked = asked[:, answered[0] & answered[1]]
        if asked.shape[1] == 0:  # a number with one outlier: no threshold has both answers in both halves
            scores.append(0.0)
            continue
        logits = fit_logistic(scaled[half == 0], asked[half == 0])(scaled[half == 1])
        scores.append(float(np.mean(2 * area_under_curve(logits, asked[half == 1]) - 1)))
    return float(np.clip(np.mean(scores), 0.0, 1.0))


def area_under_curve(
    scores: Real[np.ndarray, "clip question"], positive: Bool[np.ndarray, "clip question"]
) -> Float[np.ndarray, " question"]:
    """Probability that a positive clip scores above a negative one, from the ranks; ties count half."""
    yes = positive.sum(axis=0)
    ranks = (rankdata(scores, axis=0) * positive).sum(axis=0)
    return (ranks - yes * (yes + 1) / 2) / (yes * (len(positive) - yes))


def above_chance(recall: Float[np.ndarray, "code class_"]) -> Float[np.ndarray, " code"]:
    """Balanced accuracy on a scale from chance (0) to perfect (1); worse than chance is 0."""
    chance = 1 / recall.shape[1]
    return np.maximum((recall.mean(axis=1) - chance) / (1 - chance), 0.0)
