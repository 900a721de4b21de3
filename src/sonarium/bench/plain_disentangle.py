"""The disentanglement scores written plainly with scikit-learn and NumPy, pair by pair.

Same definitions as `sonarium.measures`, none of its code: the peer of its benchmark, and an
independent check of its numbers. Mutual informations of pairs are computed once and shared.
"""

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import balanced_accuracy_score, mutual_info_score, r2_score


def plain_bins(column: np.ndarray, bins: int, discrete: bool = False) -> np.ndarray:
    """Indices of equal-width bins, from 0; each value is a bin if there are few of them, or for a category.

    Values on an edge move towards the middle, and the exact middle is a separate bin.
    """
    values, inverse = np.unique(column, return_inverse=True)
    if discrete or len(values) <= bins:
        return inverse
    place = bins * (column - column.min()) / (column.max() - column.min())
    inwards = place + 3e-5 * np.sign(bins / 2 - place)
    place = np.where(np.abs(place - np.round(place)) < 1e-5, inwards, place)
    ordered = np.where(place == bins / 2, bins / 2 - 0.5, np.floor(place))
    return np.unique(np.append(ordered, np.arange(bins)), return_inverse=True)[1][: len(column)]


def plain_closed_scores(
    codes: np.ndarray, factors: np.ndarray, discrete: tuple[bool, ...], half: np.ndarray, bins: int
) -> dict[str, float]:
    """MIG, SAP, JEMMIG, DCIMIG and IRS."""
    binned_codes = [plain_bins(column, bins) for column in codes.T]
    binned_factors = [plain_bins(*both) for both in zip(factors.T, [bins] * len(discrete), discrete, strict=True)]
    mutual = np.array([[mutual_info_score(c, v) for v in binned_factors] for c in binned_codes])
    joint = np.array([[_joint_entropy(c, v) for v in binned_factors] for c in binned_codes])
    entropy = np.array([mutual_info_score(v, v) for v in binned_factors])
    return {
        **_from_informations(mutual, joint, entropy, bins),
        "sap": _sap(codes, factors, discrete, binned_codes, half),
        "irs": _irs(codes, binned_factors),
    }


def _joint_entropy(code: np.ndarray, factor: np.ndarray) -> float:
    table, _, _ = np.histogram2d(code, factor, bins=[code.max() + 1, factor.max() + 1])
    share = table[table > 0] / len(code)
    return float(-np.sum(share * np.log(share)))


def _from_informations(mutual: np.ndarray, joint: np.ndarray, entropy: np.ndarray, bins: int) -> dict[str, float]:
    gaps, rewards, kept = [], [], np.zeros_like(mutual)
    for factor in range(mutual.shape[1]):
        order = np.argsort(mutual[:, factor])
        best, second = mutual[order[-1], factor], mutual[order[-2], factor]
        gaps.append((best - second) / entropy[factor])
        unnormalised = joint[order[-1], factor] - best + second
        rewards.append(1 - unnormalised / (entropy[factor] + np.log(bins)))
    for code in range(mutual.shape[0]):
        order = np.argsort(mutual[code])
        kept[code, order[-1]] = mutual[code, order[-1]] - mutual[code, order[-2]]
    return {
        "mig": float(np.mean(gaps)),
        "jemmig": float(np.mean(rewards)),
        "dcimig": float(kept.max(axis=0).sum() / entropy.sum()),
    }


def _sap(
    codes: np.ndarray,
    factors: np.ndarray,
    discrete: tuple[bool, ...],
    binned: list[np.ndarray],
    half: np.ndarray,
) -> float:
    gaps = []
    for factor, is_category in enumerate(discrete):
        target, scores = factors[:, factor], []
        for code in range(codes.shape[1]):
            if is_category:
                scores.append(_by_bins(binned[code], target, half))
            else:
                one = codes[:, [code]]
                scores.append(r2_score(target, LinearRegression().fit(one, target).predict(one)))
        gaps.append(np.sort(scores)[-1] - np.sort(scores)[-2])
    return float(np.mean(gaps))


def _by_bins(code: np.ndarray, target: np.ndarray, half: np.ndarray) -> float:
    classes = np.unique(target)
    learn, truth = half == 0, target[half == 1]
    edges = [np.arange(code.max() + 2), np.append(classes, classes[-1] + 1)]
    table, _, _ = np.histogram2d(code[learn], target[learn], bins=edges)
    called = classes[np.argmax(table / table.sum(axis=0), axis=1)]
    called[table.sum(axis=1) == 0] = classes.max() + 1  # a bin without training data predicts no class
    predicted = called[code[half == 1]]
    recall = [np.mean(predicted[truth == value] == value) for value in classes]
    return max(0.0, (float(np.mean(recall)) - 1 / len(classes)) / (1 - 1 / len(classes)))


def _irs(codes: np.ndarray, factors: list[np.ndarray]) -> float:
    widest = np.abs(codes - codes.mean(axis=0)).max(axis=0)
    robust = np.zeros((codes.shape[1], len(factors)))
    for factor, bins in enumerate(factors):
        swings = []
        for value in np.unique(bins):
            held = codes[bins == value]
            swings.append(np.abs(held - held.mean(axis=0)).max(axis=0))
        robust[:, factor] = 1 - np.mean(swings, axis=0) / widest
    return float(np.average(robust.max(axis=1), weights=widest))


def plain_dci(
    codes: np.ndarray,
    factors: np.ndarray,
    discrete: tuple[bool, ...],
    half: np.ndarray,
    size: dict[str, int],
    seed: int,
) -> tuple[float, float, float]:
    """Disentanglement, completeness, informativeness, from scikit-learn's forests on all cores."""
    learn, score = half == 0, half == 1
    importance, informed = [], []
    for factor, is_category in enumerate(discrete):
        asked = {
            "n_estimators": size["trees"],
            "max_depth": size["depth"],
            "min_samples_leaf": size["leaf"],
            "max_features": None,
            "n_jobs": -1,
            "random_state": seed + factor,
        }
        forest = RandomForestClassifier(**asked) if is_category else RandomForestRegressor(**asked)
        forest.fit(codes[learn], factors[learn, factor])
        importance.append(forest.feature_importances_)
        predicted, truth = forest.predict(codes[score]), factors[score, factor]
        if is_category:
            informed.append(max(0.0, balanced_accuracy_score(truth, predicted, adjusted=True)))
        else:
            informed.append(max(0.0, float(r2_score(truth, predicted))))
    weights = np.array(importance).T
    return _pure(weights, weights.sum(axis=1)), _pure(weights.T, None), float(np.mean(informed))


def _pure(rows: np.ndarray, weights: np.ndarray | None) -> float:
    share = rows / rows.sum(axis=1, keepdims=True)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return float(np.average(1 + (share * logs).sum(axis=1) / np.log(rows.shape[1]), weights=weights))
