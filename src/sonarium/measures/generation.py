"""Distances of generated sounds from real ones: between two sets of embeddings, and between two spectrograms.

Every distance of sets should be compared with its floor: real against real.

    kernel_distance   KAD (Chung et al. 2025, arXiv 2502.15602): 100 · unbiased MMD² with the kernel
                      exp(−|x − y|² / 2σ²), σ the median distance within the real set. Unbiased for few samples too
    frechet_distance  of two Gaussians with the means and covariances of the sets (Heusel et al. 2017). It falls
                      with the number of samples: compare it only at equal numbers
    neighbourhoods    precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020),
                      and authenticity (Alaa et al. 2022), by nearest neighbours
    real_or_made      AUC of a classifier, cross-validated by group: .5 means indistinguishable
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
"""Factor by which KAD multiplies the squared MMD."""
NEAREST = 5
"""Number of neighbours that define the neighbourhood of a sample, as in Naeem et al."""
FOLDS = 5
QUIET, ABOVE = 0.2, 15.0
"""Noise floor of a band, as a quantile of its levels, and the decibels above it that noise rarely exceeds."""
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
    """|m₁ − m₂|² + tr(C₁ + C₂ − 2 √(C₁C₂)); no shift or ridge is added, even with fewer samples than codes."""
    check_sets(real, made)
    means = real.mean(0) - made.mean(0)
    # The trace of √(C₁C₂) is the sum of the singular values of the product of the scaled, centred samples.
    # Their triangular factors give the same, and are small if there are more samples than codes.
    one, other = (np.linalg.qr((rows - rows.mean(0)) / (len(rows) - 1) ** 0.5).R for rows in (real, made))
    shared = np.linalg.svd(one @ other.T, compute_uv=False)
    return max(float(means @ means + np.square(one).sum() + np.square(other).sum() - 2 * shared.sum()), 0.0)


def neighbourhoods(real: Rows, made: Rows, nearest: int = NEAREST) -> dict[str, float]:
    """Fractions, except density, which has no upper bound: precision (made samples in the neighbourhood of a real
    one), recall (real samples in that of a made one), density (number of real neighbourhoods that contain a made
    sample, over its expectation), coverage (real neighbourhoods that contain any), authenticity (made samples
    farther from their nearest real one than that is from any other real one, which excludes copies)."""
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
    """AUC of a logistic regression that discriminates made from real samples, cross-validated by group (song) and
    averaged over folds."""
    check_sets(real, made)
    rows, is_made = np.concatenate([real, made]), np.repeat([False, True], [len(real), len(made)])
    # Groups of real and of made samples are distinct, even if they have the same name.
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
    """Frames in decibels with equal noise floors: in each band both are raised to the higher of their floors plus
    a margin that noise rarely exceeds; otherwise a classifier would detect only the noise."""
    lowest = np.maximum(np.quantile(real, QUIET, 0), np.quantile(made, QUIET, 0)) + ABOVE
    return np.maximum(real, lowest), np.maximum(made, lowest)


def wasserstein(real: Float[np.ndarray, " value"], made: Float[np.ndarray, " other"]) -> float:
    """Wasserstein distance: minimum mean distance to move the values of one set to those of the other."""
    if not len(real) or not len(made):
        raise ValueError(f"{len(real)} real and {len(made)} made values: give at least one of each")
    return float(stats.wasserstein_distance(real, made))


def stretches(sounding: Bool[np.ndarray, " frame"], rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Durations in seconds of sounding stretches, and of gaps between them; silence at the ends is not a gap."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], sounding, [False]]).astype(int)))
    onsets, offsets = edges[::2], edges[1::2]
    gaps = [later - offset for offset, later in zip(offsets, onsets[1:], strict=False)]
    return (offsets - onsets) / rate, np.array(gaps, float) / rate


def log_spectral_distance(
    real: Float[np.ndarray, "frame bin"], made: Float[np.ndarray, "frame bin"], floor_db: float = -80.0
) -> float:
    """Root mean square over bins of the difference of levels in decibels, averaged over frames. Inputs are powers;
    they are raised to `floor_db` re the maximum of the real ones."""
    if real.shape != made.shape:
        raise ValueError(f"spectra of {real.shape} and {made.shape}: give the same frames and bins of both")
    least = float(real.max()) * 10 ** (floor_db / 10)
    if not least > 0:
        raise ValueError("the real spectrum is silent: there is nothing to compare with")
    apart = 10 * np.log10(np.maximum(real, least) / np.maximum(made, least))
    return float(np.sqrt(np.square(apart).mean(1)).mean())


def reconstruction(real: Float[np.ndarray, "frame bin"], made: Float[np.ndarray, "frame bin"]) -> dict[str, float]:
    """Mean absolute and mean squared error of aligned features."""
    if real.shape != made.shape:
        raise ValueError(f"features of {real.shape} and {made.shape}: give the same frames and bins of both")
    apart = real - made
    return {"l1": float(np.abs(apart).mean()), "mse": float(np.square(apart).mean())}
