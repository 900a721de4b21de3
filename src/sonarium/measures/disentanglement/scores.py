"""All disentanglement measures of two arrays: codes, and the factors of the same clips.

Each score is oriented as in its paper, 1 is best; the papers are cited where each is computed. Models are fitted
on one half of the clips and scored on the other. If all codes are dead, all scores are 0. The scores come with
those of noise: the same codes with their clips permuted. A score that cannot fail is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from sonarium.measures.disentanglement import information, syntone
from sonarium.measures.disentanglement.binning import bin_columns, joint_counts
from sonarium.measures.disentanglement.forest import ForestConfig
from sonarium.measures.disentanglement.halves import halves, predictable
from sonarium.measures.disentanglement.interventions import (
    Draws,
    Samplers,
    beta_vae,
    factor_vae,
    from_nothing,
    from_table,
    from_world,
    irs,
)
from sonarium.measures.disentanglement.predictability import dci, explicitness, sap
from sonarium.measures.disentanglement.table import Table, checked, matrix
from sonarium.measures.statistics import prediction_interval, within

Generate = Callable[[np.ndarray], ArrayLike | Tensor]
DRAWS, FOREST = Draws(), ForestConfig()
SCORES = (
    "mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness", "modularity",
    "explicitness", "jemmig", "dcimig", "beta_vae", "factor_vae", "irs",
)  # fmt: skip
OF_GROUPS = ("beta_vae", "factor_vae")
OF_SEVERAL_FACTORS = ("dci_disentanglement", "modularity", *OF_GROUPS)
"""Scores that distinguish factors: with one factor any codes are perfect."""
OF_PREDICTION = ("sap", "dci_disentanglement", "dci_completeness", "dci_informativeness", "explicitness")
PERMUTATIONS = 5
"""Number of random permutations of the clips that are scored as noise."""
NOISE_LIMIT = 0.5
"""A score is left out if noise exceeds this on the scale from chance (0) to perfect (1)."""


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
    permutations: int = PERMUTATIONS,
) -> dict[str, Any]:
    """How well each factor is encoded by one code, and each code encodes one factor.

    codes: (clip, code), an array or a tensor, preferably posterior means of held-out clips.
    factors: (clip, factor), the factors of the same clips; a category by the index of its value.
    discrete: which factors are categories: one bool, a bool for each, or the indices of the categories.
    protocol: "syntone" computes five scores as SynTone's evaluator does, factors and codes exchanged.
    seed: seed of the halves, the forests, the draws and the permutations; the same seed gives the same scores.
    generate: function from factors (clip, factor) to codes (clip, code), for `beta_vae` and `factor_vae`.
        Without it they draw from the given clips, if every factor's values repeat: groups to learn from
        come from one half, groups to score from the other.
    bins: number of equal-width bins for numbers and codes that have more values than that.
    dead_below: a code whose standard deviation is no greater is dead; a constant code always is.
    permutations: number of random permutations of the codes' clips that are scored as noise; 0 for none.

    Returns the scores by name, with `dead_codes` (their number), `notes` (what was left out, and why) and `noise`:
    for each score the mean, std and count over the permutations, and low and high, the limits of a 95 %
    prediction interval.
    """
    if protocol not in ("standard", "syntone"):
        raise ValueError(f"got protocol={protocol!r}: 'standard' or 'syntone' is expected")
    if not isinstance(bins, (int, np.integer)) or bins < 2:
        raise ValueError(f"got bins={bins!r}: a whole number, at least 2, is expected")
    if not isinstance(permutations, (int, np.integer)) or permutations < 0 or permutations == 1:
        raise ValueError(
            f"got permutations={permutations!r}: a whole number, at least 2, is expected, or 0 for none"
        )
    table = checked(codes, factors, discrete, dead_below)
    orders = np.random.default_rng([seed, 0x401])
    if protocol == "syntone":
        notes = ["protocol syntone: factors and codes exchanged, 10 bins, categories taken as numbers"]
        every = matrix(codes, "codes")
        scores = syntone.as_called(every, table.factors)
        blind = [syntone.as_called(orders.permutation(every), table.factors) for _ in range(permutations)]
        noise = _noise(blind)
    else:
        standard = _Standard(halves(table.factors, seed), generate, seed, int(bins), draws, forest)
        scores, notes = standard.scores(table)
        noise = {}
        if table.live.any():
            permuted = (replace(table, codes=orders.permutation(table.codes)) for _ in range(permutations))
            noise = _noise([standard.scores(one, knows_nothing=True)[0] for one in permuted])
            notes += _leave_out_what_noise_has(scores, noise, table.factors.shape[1])
    return scores | {"dead_codes": table.dead_codes, "notes": notes, "noise": noise}


def _noise(scored: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    names = scored[0] if scored else ()
    every = {name: prediction_interval([one[name] for one in scored]) for name in names}
    return {name: asdict(within(one, 0.0, 1.0)) for name, one in every.items()}


def _leave_out_what_noise_has(
    scores: dict[str, float], noise: dict[str, dict[str, Any]], factors: int
) -> list[str]:
    notes = []
    for name in list(noise):
        chance = 1 / factors if name in OF_GROUPS else 0.0
        if (mean := noise[name]["mean"]) > chance + NOISE_LIMIT * (1 - chance):
            del scores[name], noise[name]
            notes.append(f"{name} is left out: codes that know nothing of the factors score {mean:.2f} on average")
    return notes


@dataclass(frozen=True)
class _Standard:
    """The scores as their papers define them, with settings that are the same for codes and for noise."""

    half: Int[np.ndarray, " clip"]
    generate: Generate | None
    seed: int
    bins: int
    draws: Draws
    forest: ForestConfig

    def scores(self, table: Table, knows_nothing: bool = False) -> tuple[dict[str, Any], list[str]]:
        """Scores that these clips allow, and notes on the others; `knows_nothing` for noise codes."""
        samplers = self.samplers(table, knows_nothing)
        out, notes = left_out(table, self.half, samplers)
        if not table.live.any():
            said = [*notes, "all codes are dead: every score is 0"]
            return {name: 0.0 for name in SCORES if name not in out}, said
        scores = closed_scores(table, self.half, self.bins)
        if "modularity" not in out:
            scores["modularity"] = modularity(table, self.bins, self.seed)
        if "explicitness" not in out:
            scores |= self.predictions(table.of(predictable_ones(table, self.half)))
        if not isinstance(samplers, str) and "beta_vae" not in out:
            factors = table.factors.shape[1]
            scores["beta_vae"] = beta_vae(samplers, factors, self.draws, self.seed)
            scores["factor_vae"] = factor_vae(samplers, factors, self.draws, self.seed)
        if len(table.codes) < 10 * self.bins:
            notes.append(f"{len(table.codes)} clips for {self.bins} bins: mutual information is overestimated")
        # rounding may leave a perfect score slightly above 1, and IRS may be negative
        kept = [name for name in SCORES if name in scores and name not in out]
        return {name: min(max(scores[name], 0.0), 1.0) for name in kept}, notes

    def predictions(self, table: Table) -> dict[str, float]:
        read = dci(table, self.half, self.forest, self.seed)
        factor_bins, _ = bin_columns(table.factors, self.bins, keep=table.discrete)
        return {
            "dci_disentanglement": read.disentanglement,
            "dci_completeness": read.completeness,
            "dci_informativeness": read.informativeness,
            "explicitness": explicitness(table, factor_bins, self.half),
        }

    def samplers(self, table: Table, knows_nothing: bool) -> Samplers | str:
        """Samplers of clips that share a factor, with standardised codes; a text with the reason if none exist."""
        mean, spread = table.codes.mean(axis=0), table.codes.std(axis=0)
        scaled, generate, clips = (table.codes - mean) / spread, self.generate, self.draws.clips
        if generate is None:
            return from_table(scaled, table.factors, self.half, clips)
        if knows_nothing:
            return from_nothing(scaled, clips)

        def living(factors: Float[np.ndarray, "clip factor"]) -> Float[np.ndarray, "clip live"]:
            made = matrix(generate(factors), "codes from `generate`")
            if made.shape != (len(factors), table.code_count):
                raise ValueError(
                    f"`generate` made codes of shape {made.shape} from {len(factors)} clips: "
                    f"{(len(factors), table.code_count)} is expected, as in `codes`"
                )
            return (made[:, table.live] - mean) / spread

        return from_world(living, table.factors, clips)


def left_out(table: Table, half: Int[np.ndarray, " clip"], samplers: Samplers | str) -> tuple[set[str], list[str]]:
    """Scores that could not fail, or cannot be computed, and notes that say why."""
    out, notes = set[str](), []
    known = predictable_ones(table, half)
    if table.factors.shape[1] == 1:
        out |= {*OF_SEVERAL_FACTORS}
        notes.append(f"{', '.join(OF_SEVERAL_FACTORS)} are left out: with one factor any codes are perfect")
    elif isinstance(samplers, str):
        out |= {*OF_GROUPS}
        notes.append(f"beta_vae and factor_vae are left out: {samplers}, and there is no `generate`")
    if int(table.live.sum()) == 1:
        out.add("dci_completeness")
        notes.append("dci_completeness is left out: with one live code any code is perfect")
    for factor in sorted({*range(table.factors.shape[1])} - {*known}):
        notes.append(f"factor {factor} has no part in sap, dci and explicitness: it does not vary in both halves")
    if not known:
        out |= {*OF_PREDICTION}
    elif len(known) == 1 < table.factors.shape[1]:
        out.add("dci_disentanglement")
        notes.append("dci_disentanglement is left out: one factor alone can be predicted")
    return out, notes


def predictable_ones(table: Table, half: Int[np.ndarray, " clip"]) -> list[int]:
    """Indices of the factors that vary in both halves."""
    return [
        factor
        for factor, is_category in enumerate(table.discrete)
        if predictable(table.factors[:, factor], half, is_category)
    ]


def closed_scores(table: Table, half: Int[np.ndarray, " clip"], bins: int) -> dict[str, float]:
    """Scores computed from joint counts and moments, without sampling or training."""
    code_bins, code_sizes = bin_columns(table.codes, bins)
    factor_bins, factor_sizes = bin_columns(table.factors, bins, keep=table.discrete)
    counts = joint_counts(code_bins, factor_bins, code_sizes, factor_sizes, half)
    mutual = information.information(counts.sum(axis=0))
    known = predictable_ones(table, half)
    scores = {"sap": sap(table.of(known), counts[:, :, known])} if known else {}
    return scores | {
        "mig": information.mig(mutual),
        "jemmig": information.jemmig(mutual, bins),
        "dcimig": information.dcimig(mutual),
        "irs": irs(table.codes, factor_bins, factor_sizes),
    }


def modularity(table: Table, bins: int, seed: int) -> float:
    """Modularity, with a permutation test of the information that exceeds chance."""
    code_bins, code_sizes = bin_columns(table.codes, bins)
    factor_bins, factor_sizes = bin_columns(table.factors, bins, keep=table.discrete)
    mutual = information.information(joint_counts(code_bins, factor_bins, code_sizes, factor_sizes)[0])
    return information.modularity(mutual, information.chance(mutual, code_bins, factor_bins, seed))
