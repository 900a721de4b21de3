"""Separation: how close the estimates of a separator on held-out mixtures are to the true sources.

A reference is one source alone as it arrives at the same ears with its reverberation. Estimates are matched with
the references by SNR, once per mixture. Controls are the mixture itself in place of each estimate (0 dB of
improvement), clusters of the bins by interaural phase, without training, the untrained network, and masks computed
from the references, which no mask-based separator can know.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.factors import device_of
from sonarium.measures import separation as measures
from sonarium.models.clustering import SpatialClustering
from sonarium.models.contract import Learner, Separator
from sonarium.models.masking import Spectrum, both_ears, ideal_shares, masked
from sonarium.worlds.contract import Batch, Progress, World

BLOCK = 16
"""Mixtures rendered per batch."""
WINDOW = 0.064
"""Window length of the controls in seconds, rounded to a power of two in samples."""
BEYOND = 100.0
"""Decibels at which ratios are clipped; for a perfect estimate they are infinite."""
Estimate = Callable[[Batch], Tensor]
"""Maps mixtures with their references to estimates, (clip, time, source, ear)."""


def separation(
    learner: Separator,
    untrained: Learner | None,
    world: World,
    test: Tensor,
    config: EvaluationConfig,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Scores and controls of a separator on mixtures of the test split."""
    assert isinstance(learner, Learner) and isinstance(untrained, Separator | None), type(untrained)
    if world.signal.sources != learner.sources or world.signal.rate is None:
        raise ValueError(f"the sources of world '{world.name}' are not known: give one of mixtures")
    chosen = test[torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))][: config.mixtures]
    systems = estimators(learner, untrained, world.signal.rate)
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in systems}
    silent = 0
    for start in range(0, len(chosen), BLOCK):
        batch = world.whole(chosen[start : start + BLOCK], device_of(learner))
        made = {name: arrays(estimate(batch)) for name, estimate in systems.items()}
        for row, (mixture, references) in enumerate(zip(batch.signal, arrays(batch.sources), strict=True)):
            if not np.square(references).sum(-1).all():
                silent += 1
                continue
            heard = rearrange(mixture.cpu().double().numpy(), "time ear -> ear time")
            for name, estimates in made.items():
                found[name].append(scores_of(references, estimates[row], heard, world.signal.rate))
        progress("separating mixtures", min(start + BLOCK, len(chosen)), len(chosen))
    if not found[""]:
        raise ValueError("each mixture of the test split has a silent source: use longer mixtures")
    scores = {name: averaged(rows) for name, rows in found.items()}
    notes = [f"{silent} mixtures with a silent source were left out"] if silent else []
    return {"protocol": "separation", "clips": len(found[""]), "scores": scores.pop(""), "controls": scores} | {
        "notes": notes
    }


def estimators(learner: Separator, untrained: Separator | None, rate: float) -> dict[str, Estimate]:
    """Estimators by name; the learner's name is empty."""
    fft = 2 ** round(np.log2(WINDOW * rate))
    clustering, spectrum = SpatialClustering(learner.sources, rate, fft, fft // 4), Spectrum(fft, fft // 4)

    def ideal(batch: Batch) -> Tensor:
        assert batch.sources is not None, "of mixtures the sources are known"
        masks = both_ears(ideal_shares(spectrum, batch.sources.cpu()))
        return spectrum.sound(masked(spectrum.around(batch.signal.cpu()), masks), batch.signal.shape[1])

    found: dict[str, Estimate] = {
        "": lambda batch: learner.separate(batch.signal),
        "mixture": lambda batch: repeat(
            batch.signal, "clip time ear -> clip time source ear", source=learner.sources
        ),
        "spatial_clustering": lambda batch: clustering.separate(batch.signal.cpu()),
        "ideal_mask": ideal,
    }
    if untrained is not None:
        found["random"] = lambda batch: untrained.separate(batch.signal)
    return found


def arrays(sources: Tensor | None) -> Float[np.ndarray, "clip source ear time"]:
    assert sources is not None, "of mixtures the sources are known"
    return rearrange(sources.cpu().double().numpy(), "clip time source ear -> clip source ear time")


def scores_of(
    references: Float[np.ndarray, "source 2 time"],
    estimates: Float[np.ndarray, "source 2 time"],
    mixture: Float[np.ndarray, "2 time"],
    rate: float,
) -> dict[str, float]:
    """Scores of one mixture, averaged over its sources and both ears."""
    every = [[measures.snr(one, other).mean() for other in estimates] for one in references]
    estimates = estimates[measures.best_order(np.clip(every, -BEYOND, BEYOND))]
    heard = np.broadcast_to(mixture, references.shape)
    gained = {
        name: np.clip(ratio(references, estimates), -BEYOND, BEYOND)
        - np.clip(ratio(references, heard), -BEYOND, BEYOND)
        for name, ratio in (("snr_improvement", measures.snr), ("si_sdr_improvement", measures.si_sdr))
    }
    ears = [measures.bss_eval(references[:, ear], estimates[:, ear], taps=1) for ear in (0, 1)]
    ratios = {
        "si_sir": np.clip([one.sir for one in ears], -BEYOND, BEYOND),
        "si_sar": np.clip([one.sar for one in ears], -BEYOND, BEYOND),
    }
    delays = [measures.time_difference(one, rate) for one in (references, estimates)]
    levels = [np.clip(measures.level_difference(one), -BEYOND, BEYOND) for one in (references, estimates)]
    apart = {
        "itd_error": 1e6 * np.abs(delays[0] - delays[1]),
        "ild_error": np.abs(levels[0] - levels[1]),
    }
    return {name: mean(values) for name, values in (gained | ratios | apart).items()}


def mean(values: Any) -> float:
    """Mean of the finite values: a silent estimate has neither direction nor scale."""
    numbers = np.asarray(values)[np.isfinite(values)]
    return float(numbers.mean()) if len(numbers) else float("nan")


def averaged(rows: list[Mapping[str, float]]) -> dict[str, float]:
    """Mean scores over mixtures, without scores that none of them has."""
    found = {name: mean([row[name] for row in rows]) for name in rows[0]}
    return {name: value for name, value in found.items() if np.isfinite(value)}
