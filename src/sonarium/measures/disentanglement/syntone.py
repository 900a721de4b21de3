"""Disentanglement scores as computed by SynTone's evaluator, for a like-for-like comparison.

SynTone (arXiv:2402.10547) passes the codes as the factors and the factors as the codes. Each score
below therefore measures something other than its paper defines: "MIG" tests whether every code encodes
one factor only (and a noise code costs as much as an entangled one), "modularity" whether every
factor is encoded by one code. Everything is cut into 10 bins of equal width, in bits, and the waveform
is treated as a number. If all codes are dead the evaluator divides 0 by 0; the result is 0 here.
"""

import numpy as np
from jaxtyping import Float, Int

from sonarium.measures.disentanglement.binning import joint_counts
from sonarium.measures.disentanglement.information import Information, dcimig, information, top_two

BINS = 10


def as_called(
    codes: Float[np.ndarray, "clip code"], factors: Float[np.ndarray, "clip factor"]
) -> dict[str, float]:
    """MIG, SAP, DCIMIG, JEMMIG and modularity with codes and factors exchanged; dead codes are included."""
    code_bins, factor_bins = _ten_bins(codes), _ten_bins(factors)
    sizes = np.full(codes.shape[1], BINS), np.full(factors.shape[1], BINS)
    counts = joint_counts(factor_bins, code_bins, sizes[1], sizes[0])[0]
    # in `table`, the evaluator's "codes" are our factors, and its "factors" our codes
    table = information(counts)
    if table.mutual.max() == 0:
        return dict.fromkeys(("mig", "sap", "dcimig", "jemmig", "modularity"), 0.0)
    return {
        "mig": _mig(table),
        "sap": _sap(codes, factors),
        "dcimig": dcimig(table),
        "jemmig": _jemmig(table),
        "modularity": _modularity(table),
    }


def _mig(table: Information) -> float:
    """Mutual information over the entropy of the evaluator's code (our factor), then the mean of the gaps."""
    best, second = top_two(table.mutual / table.code[:, None])
    return float(np.mean(best - second))


def _sap(codes: Float[np.ndarray, "clip code"], factors: Float[np.ndarray, "clip factor"]) -> float:
    """Gap of squared correlations, for a waveform as a number, too; a constant explains nothing."""
    scaled = [_standard(factors), _standard(codes)]
    best, second = top_two((scaled[0].T @ scaled[1] / len(codes)) ** 2)
    return float(np.mean(best - second))


def _jemmig(table: Information) -> float:
    """JEMMIG; of factors with equal information, as on a dead code, the evaluator's sort takes the last."""
    best, second = top_two(table.mutual)
    last = len(table.mutual) - 1 - table.mutual[::-1].round(12).argmax(axis=0)
    joint = table.joint[last, np.arange(table.mutual.shape[1])]
    return float(np.mean(1 - (joint - best + second) / (table.factor + np.log(BINS))))


def _modularity(table: Information) -> float:
    """Modularity in which all of the evaluator's codes (our factors) have the same weight, informative or not."""
    best = table.mutual.max(axis=1)
    others = (table.mutual**2).sum(axis=1) - best**2
    rivals = max(table.mutual.shape[1] - 1, 1)
    return float(np.mean(1 - others / (np.where(best > 0, best, 1.0) ** 2 * rivals)))


def _ten_bins(values: Float[np.ndarray, "clip column"]) -> Int[np.ndarray, "clip column"]:
    low, high = values.min(axis=0), values.max(axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    return np.digitize(scaled, np.linspace(0, 1, BINS + 1)[:-1]) - 1


def _standard(values: Float[np.ndarray, "clip column"]) -> Float[np.ndarray, "clip column"]:
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
