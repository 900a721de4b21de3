"""Every measure of disentanglement, of two arrays: codes, and the factors of the same clips.

Each score is oriented as in its paper, 1 best; the papers are named where each is computed. What is fitted is
fitted on one half of the clips and scored on the other. If all codes are dead, all scores are 0.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from sonarium.measures.disentanglement import information, syntone
from sonarium.measures.disentanglement.binning import bin_columns, joint_counts
from sonarium.measures.disentanglement.forest import ForestConfig
from sonarium.measures.disentanglement.interventions import (
    Draws,
    Sampler,
    beta_vae,
    factor_vae,
    from_table,
    from_world,
    irs,
)
from sonarium.measures.disentanglement.predictability import dci, explicitness, sap
from sonarium.measures.disentanglement.table import Table, checked, matrix

Generate = Callable[[np.ndarray], ArrayLike | Tensor]
DRAWS, FOREST = Draws(), ForestConfig()
SCORES = (
    "mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness", "modularity",
    "explicitness", "jemmig", "dcimig", "beta_vae", "factor_vae", "irs",
)  # fmt: skip


def disentangle(
    codes: ArrayLike | Tensor,
    factors: ArrayLike | Tensor,
    discrete: bool | Sequence[bool] | Sequence[int] = False,
    *,
    protocol: Literal["standard", "syntone"] = "standard",
    seed: int = 0,
    generate: Generate | None = None,
    bins: int = 20,
    dead_below: float = 0.0,
    draws: Draws = DRAWS,
    forest: ForestConfig = FOREST,
) -> dict[str, Any]:
    """How well each factor is encoded by one code, and each code encodes one factor.

    codes: (clip, code), an array or a tensor, at best posterior means of clips that were not trained on.
    factors: (clip, factor), the factors of the same clips; a category by the position of its value.
    discrete: which factors are categories: one bool, a bool for each, or the positions of those that are.
    protocol: "syntone" computes five scores as SynTone's evaluator called them, factors and codes exchanged.
    seed: of the halves, the forests and the draws; the same seed gives the same numbers.
    generate: makes codes (clip, code) from factors (clip, factor); `beta_vae` and `factor_vae` draw from
        it. Without it they draw from the clips given, where every factor's values repeat.
    bins: equal-width bins for numbers and codes that have more values than that.
    dead_below: a code whose standard deviation is no greater is dead; a constant code always is.

    Returns the scores by name, with `dead_codes` (how many) and `notes` (what was left out, and why).
    """
    if protocol not in ("standard", "syntone"):
        raise ValueError(f"got protocol={protocol!r}: 'standard' or 'syntone' is expected")
    if not isinstance(bins, (int, np.integer)) or bins < 2:
        raise ValueError(f"got bins={bins!r}: a whole number, at least 2, is expected")
    table = checked(codes, factors, discrete, dead_below)
    if protocol == "syntone":
        scores = dict[str, Any](syntone.as_called(matrix(codes, "codes"), table.factors))
        notes = ["protocol syntone: factors and codes exchanged, 10 bins, categories taken as numbers"]
    elif not table.live.any():
        scores, notes = dict[str, Any].fromkeys(SCORES, 0.0), ["all codes are dead: every score is 0"]
    else:
        scores, notes = _standard(table, seed, generate, int(bins), draws, forest)
    return scores | {"dead_codes": table.dead_codes, "notes": notes}


def closed_scores(table: Table, seed: int, bins: int) -> dict[str, float]:
    """The scores computed from joint counts and moments, without training a model."""
    half = halves(len(table.codes), seed)
    code_bins, code_sizes = bin_columns(table.codes, bins)
    factor_bins, factor_sizes = bin_columns(table.factors, bins, keep=table.discrete)
    counts = joint_counts(code_bins, factor_bins, code_sizes, factor_sizes, half)
    mutual = information.information(counts.sum(axis=0), code_sizes, factor_sizes)
    return {
        "mig": information.mig(mutual),
        "sap": sap(table, counts),
        "modularity": information.modularity(mutual),
        "jemmig": information.jemmig(mutual, bins),
        "dcimig": information.dcimig(mutual),
        "irs": irs(table.codes, factor_bins, factor_sizes),
    }


def halves(clips: int, seed: int) -> np.ndarray:
    """0 for the training clips, 1 for those that are scored."""
    order = np.random.default_rng([seed, 0x4A]).permutation(clips)
    half = np.zeros(clips, np.int64)
    half[order[: clips // 2]] = 1
    return half


def _standard(
    table: Table, seed: int, generate: Generate | None, bins: int, draws: Draws, forest: ForestConfig
) -> tuple[dict[str, Any], list[str]]:
    half = halves(len(table.codes), seed)
    scores = closed_scores(table, seed, bins)
    read = dci(table, half, forest, seed)
    scores["dci_disentanglement"] = read.disentanglement
    scores["dci_completeness"] = read.completeness
    scores["dci_informativeness"] = read.informativeness
    factor_bins, _ = bin_columns(table.factors, bins, keep=table.discrete)
    scores["explicitness"] = explicitness(table, factor_bins, half)
    notes = []
    sampler = _sampler(table, generate)
    if isinstance(sampler, str):
        notes.append(f"beta_vae and factor_vae are left out: {sampler}, and there is no `generate`")
    else:
        factors = table.factors.shape[1]
        scores["beta_vae"] = beta_vae(sampler, factors, draws, seed)
        scores["factor_vae"] = factor_vae(sampler, table.codes.std(axis=0), factors, draws, seed)
    if len(table.codes) < 10 * bins:
        notes.append(f"{len(table.codes)} clips for {bins} bins: mutual information is overestimated")
    # rounding may leave a perfect score a hair above 1, and a code's IRS can be worse than none at all
    return {name: min(max(scores[name], 0.0), 1.0) for name in SCORES if name in scores}, notes


def _sampler(table: Table, generate: Generate | None) -> Sampler | str:
    if generate is None:
        return from_table(table.codes, table.factors)

    def living(factors: Float[np.ndarray, "clip factor"]) -> Float[np.ndarray, "clip live"]:
        made = matrix(generate(factors), "codes from `generate`")
        if made.shape != (len(factors), table.code_count):
            raise ValueError(
                f"`generate` made codes of shape {made.shape} from {len(factors)} clips: "
                f"{(len(factors), table.code_count)} is expected, as in `codes`"
            )
        return made[:, table.live]

    return from_world(living, table.factors)
