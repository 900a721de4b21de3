"""How near made sounds are to real ones: distances of two sets of embeddings, and of two spectrograms.

Every distance of sets is read beside its floor: real against real.

    kernel_distance   KAD (Chung et al. 2025, arXiv 2502.15602): 100 · unbiased MMD² with the kernel
                      exp(−|x − y|² / 2σ²), σ the median distance within the real set. Unbiased for few samples too
    frechet_distance  of two Gaussians with the means and covariances of the sets (Heusel et al. 2017). It falls
                      with the number of samples, and is to be compared at equal numbers alone
    neighbourhoods    precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020),
                      and authenticity (Alaa et al. 2022), by nearest neighbours
    real_or_made      AUC of a classifier, cross-validated by group: .5 is indistinguishable
"""

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import stats
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics import roc_auc_score

from sonarium.measures.probes.classifiers import scale_of
from sonarium.measures.probes.logistic import fit_logistic
from sonarium.measures.splits import fold_of_each

SCALE = 100.0
"""KAD is the squared discrepancy times this."""
NEAREST = 5
"""Neighbours that bound the neighbourhood of a sample, as in Naeem et al."""
FOLDS = 5
QUIET, ABOVE = 0.2, 15.0
"""The floor of a band: the quantile of its levels, and the decibels above it, that noise hardly reaches."""
Rows = Float[np.ndarray, "_row _code"]


def check_sets(real: Rows, made: Rows, least: int = 2) -> None:
    if real.shape[1] != made.shape[1]:
        raise ValueError(
            f"real and made have {real.shape[1]} and {made.shape[1]} codes: use one embedding for both"
        )
    if min(len(real), len(made)) < least:
        raise ValueError(f"{len(real)} real and {len(made)} made samples: give at least {least} of each")
    for name, rows in (("real", real), ("made", made)):
        if not np.isfinite(rows).all():
            raise ValueError(f"the {name} samples hold NaN or infinite codes: leave them out")


def kernel_distance(real: Rows, made: Rows, bandwidth: float | None = None) -> float:
    """KAD; the bandwidth is the median distance within the real set unless given. Near 0 it may be negative, as an
    unbiased estimate must be."""
    check_sets(real, made)
    width = float(np.median(pdist(real))) if bandwidth is None else bandwidth
    if not width > 0:
        raise ValueError(f"bandwidth {width}: half of the real samples are equal; give another embedding")

    def kernel(one: Rows, other: Rows) -> Float[np.ndarray, "row other"]:
        return np.exp(-cdist(one, other, "sqeuclidean") / (2 * width**2))

    def within(rows: Rows) -> float:
        count = len(rows)
        return float((kernel(rows, rows).sum() - count) / (count * (count - 1)))

    return SCALE * (within(real) + within(made) - 2 * float(kernel(real, made).mean()))


def frechet_distance(real: Rows, made: Rows) -> float:
    """|m₁ − m₂|² + tr(C₁ + C₂ − 2 √(C₁C₂)); without shift or ridge, so that fewer samples than codes will do."""
    check_sets(real, made)
    means = real.mean(0) - made.mean(0)
    # √(C₁C₂) has the trace of the singular values of the product of the centred samples, scaled.
    # Of these, the triangular factors are as good, and small where there are more samples than codes.
    one, other = (np.linalg.qr((rows - rows.mean(0)) / (len(rows) - 1) ** 0.5).R for rows in (real, made))
    shared = np.linalg.svd(one @ other.T, compute_uv=False)
    return max(float(means @ means + np.square(one).sum() + np.square(other).sum() - 2 * shared.sum()), 0.0)


def neighbourhoods(real: Rows, made: Rows, nearest: int = NEAREST) -> dict[str, float]:
    """Fractions, but density, which has no upper limit: precision (made samples in the neighbourhood of a real
    one), recall (real in that of a made one), density (real neighbourhoods that hold a made sample, over what is
    expected), coverage (real neighbourhoods that hold any), authenticity (made samples farther from their nearest
    real one than that is from another: copies are not)."""
    check_sets(real, made, nearest + 1)
    among_real, among_made, across = cdist(real, real), cdist(made, made), cdist(real, made)
    reach, made_reach = (np.partition(each, nearest, 1)[:, nearest] for each in (among_real, among_made))
    inside = across < reach[:, None]
    closest = across.argmin(0)
    alone = np.partition(among_real, 1, 1)[:, 1]
    return {
        "precision": float(inside.any(0).mean()),
        "recall": float((across < made_reach).any(1).mean()),
        "density": float(inside.sum(0).mean() / nearest),
        "coverage": float((across.min(1) < reach).mean()),
        "authenticity": float((across.min(0) > alone[closest]).mean()),
    }


def real_or_made(
    real: Rows,
    made: Rows,
    real_groups: Shaped[np.ndarray, " row"],
    made_groups: Shaped[np.ndarray, " other"],
    penalty: float = 1.0,
) -> float:
    """AUC of a logistic regression that tells made from real, each sample scored by one that has not seen its
    group (song)."""
    check_sets(real, made)
    rows, is_made = np.concatenate([real, made]), np.repeat([False, True], [len(real), len(made)])
    # A group of either kind is its own, whatever they are called.
    numbers = [np.unique(one, return_inverse=True)[1] for one in (real_groups, made_groups)]
    groups = np.concatenate([2 * numbers[0], 2 * numbers[1] + 1])
    fewest = min(int(one.max()) + 1 for one in numbers)
    if fewest < 2:
        raise ValueError(f"{fewest} song of one kind: give two or more real and made songs")
    fold = fold_of_each(groups, min(FOLDS, fewest), is_made.astype(int))
    aucs = []
    for one in range(int(fold.max()) + 1):
        held = fold == one
        if len(np.unique(is_made[held])) < 2 or len(np.unique(is_made[~held])) < 2:
            continue
        scale = scale_of(rows[~held])
        log_odds = fit_logistic(scale(rows[~held]), is_made[~held][:, None], penalty)
        aucs.append(roc_auc_score(is_made[held], log_odds(scale(rows[held]))[:, 0]))
    assert aucs, (fewest, fold)
    return float(np.mean(aucs))


def equal_floors(
    real: Float[np.ndarray, "frame band"], made: Float[np.ndarray, "other band"]
) -> tuple[Float[np.ndarray, "frame band"], Float[np.ndarray, "other band"]]:
    """Frames in decibels whose noise floors are made equal: in each band both are raised to the higher of their
    floors, and to what noise reaches above it, or a classifier would hear nothing but the noise."""
    lowest = np.maximum(np.quantile(real, QUIET, 0), np.quantile(made, QUIET, 0)) + ABOVE
    return np.maximum(real, lowest), np.maximum(made, lowest)


def wasserstein(real: Float[np.ndarray, " value"], made: Float[np.ndarray, " other"]) -> float:
    """The least mean distance by which the values of one must be moved to become those of the other."""
    if not len(real) or not len(made):
        raise ValueError(f"{len(real)} real and {len(made)} made values: give at least one of each")
    return float(stats.wasserstein_distance(real, made))


def stretches(sounding: Bool[np.ndarray, " frame"], rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of each stretch that sounds, and of each gap between two of them; silence at the ends is no gap."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], sounding, [False]]).astype(int)))
    onsets, offsets = edges[::2], edges[1::2]
    gaps = [later - offset for offset, later in zip(offsets, onsets[1:], strict=False)]
    return (offsets - onsets) / rate, np.array(gaps, float) / rate


def log_spectral_distance(
    real: Float[np.ndarray, "frame bin"], made: Float[np.ndarray, "frame bin"], floor_db: float = -80.0
) -> float:
    """Decibels: the root mean square over bins of the difference of levels, averaged over frames. Powers, of which
    none counts as less than `floor_db` below the loudest of the real ones."""
    if real.shape != made.shape:
        raise ValueError(f"spectra of {real.shape} and {made.shape}: give the same frames and bins of both")
    least = float(real.max()) * 10 ** (floor_db / 10)
    if not least > 0:
        raise ValueError("the real spectrum is silent: there is nothing to compare with")
    apart = 10 * np.log10(np.maximum(real, least) / np.maximum(made, least))
    return float(np.sqrt(np.square(apart).mean(1)).mean())


def reconstruction(real: Float[np.ndarray, "frame bin"], made: Float[np.ndarray, "frame bin"]) -> dict[str, float]:
    """Mean absolute and mean squared error of features, frame by frame."""
    if real.shape != made.shape:
        raise ValueError(f"features of {real.shape} and {made.shape}: give the same frames and bins of both")
    apart = real - made
    return {"l1": float(np.abs(apart).mean()), "mse": float(np.square(apart).mean())}
