"""Speed of the disentanglement measures, compared with a plain scikit-learn and NumPy version.

10,000 clips, 8 codes, 4 factors (two categories, two numbers), of which the codes are noisy mixtures.
Scores without randomness must agree to 1e-6, those of random forests to 0.03.
"""

from dataclasses import asdict
from typing import Any

import numpy as np

from sonarium.bench import plain_disentangle as plain
from sonarium.bench.timing import case, interleaved
from sonarium.measures.disentanglement.forest import ForestConfig
from sonarium.measures.disentanglement.halves import halves
from sonarium.measures.disentanglement.predictability import dci
from sonarium.measures.disentanglement.scores import closed_scores
from sonarium.measures.disentanglement.table import checked

CLIPS, CODES, BINS, SEED = 10_000, 8, 20, 0
DISCRETE = (True, False, False, True)
WORK = f"{CLIPS:,} clips x {CODES} codes, 4 factors (2 categories, 2 numbers)"


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """Both rows, after asserting that the two sides agree."""
    codes, factors = mixed(np.random.default_rng(SEED))
    half = halves(factors, SEED)
    config = ForestConfig()

    def ours_closed() -> dict[str, float]:
        return closed_scores(checked(codes, factors, DISCRETE, 0.0), half, BINS)

    def peer_closed() -> dict[str, float]:
        return plain.plain_closed_scores(codes, factors, DISCRETE, half, BINS)

    def ours_dci() -> tuple[float, float, float]:
        read = dci(checked(codes, factors, DISCRETE, 0.0), half, config, SEED)
        return read.disentanglement, read.completeness, read.informativeness

    def peer_dci() -> tuple[float, float, float]:
        return plain.plain_dci(codes, factors, DISCRETE, half, asdict(config), SEED)

    ours, peer = ours_closed(), peer_closed()
    for name, value in peer.items():
        assert abs(ours[name] - value) < 1e-6, (name, ours[name], value)
    np.testing.assert_allclose(ours_dci(), peer_dci(), atol=0.03)
    return [
        case(
            "information: MIG SAP JEMMIG DCIMIG IRS",
            WORK,
            "scikit-learn and NumPy, a loop over pairs",
            *interleaved(ours_closed, peer_closed, repeats),
        ),
        case(
            "DCI",
            f"{WORK}, {config.trees} trees a factor, depth {config.depth}, on all cores",
            "scikit-learn's random forests of the same size",
            *interleaved(ours_dci, peer_dci, repeats),
        ),
    ]


def mixed(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Codes and factors: each code is a noisy mixture of all factors, dominated by one."""
    factors = np.stack(
        [
            rng.integers(0, 4, CLIPS),
            rng.choice(np.linspace(440, 8000, 400), CLIPS),
            rng.choice(np.linspace(0.1, 1, 20), CLIPS),
            rng.integers(0, 10, CLIPS),
        ],
        axis=1,
    )
    scaled = (factors - factors.mean(axis=0)) / factors.std(axis=0)
    mixing = 0.2 * rng.normal(size=(4, CODES)) + np.tile(np.eye(4), CODES // 4)
    return scaled @ mixing + 0.3 * rng.normal(size=(CLIPS, CODES)), factors
