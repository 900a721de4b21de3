"""How well sampled continuations predict the next label, where its distribution is known (planted)."""

from math import comb, log

import numpy as np
from jaxtyping import Float, Int

from sonarium.measures.contract import Meaning
from sonarium.measures.sequence.entropy import entropy

FUTURES = 8
"""Number of continuations for the coverage: one of them should have the true label."""
MEANINGS = {
    "next/excess bits": Meaning(
        "next label: excess bits",
        "KL divergence of the planted distribution of the next label from that of the labels of drawn "
        "continuations, in bits; less is better.",
        0.0,
        None,
        rising=False,
    ),
    "next/entropy in bits": Meaning(
        "next label: entropy in bits",
        "Entropy of the labels of drawn continuations; ideally that of the planted distribution.",
        0.0,
        None,
    ),
    f"next/coverage of {FUTURES}": Meaning(
        f"next label: coverage of {FUTURES}",
        f"Probability that the true next label is among {FUTURES} drawn continuations.",
    ),
    "next/certainty": Meaning(
        "next label: certainty",
        "Mean posterior that the probe gives to the first label of a continuation; 0 without a label.",
    ),
    "next/share of clear ones": Meaning(
        "next label: share of clear ones",
        "Share of continuations whose first segment a second recogniser, of whole segments, finds clear.",
    ),
    "next/share recognised": Meaning(
        "next label: share recognised", "Share of true continuations whose label the probe identifies correctly."
    ),
}


def next_label(
    counts: Int[np.ndarray, "moment label"],
    drawn: int,
    planted: Float[np.ndarray, "moment label"],
    true: Int[np.ndarray, " moment"],
) -> dict[str, float]:
    """Scores from `counts` of each label among `drawn` continuations of each moment (those without a label are not
    counted), its planted probabilities, and the true label.

    `excess bits`: KL divergence of the planted distribution from that of the continuations, with one half added to
    each count, and to that of no label. `entropy in bits`: entropy of the labels with the correction of Miller and
    Madow (1955). `coverage of 8`: probability that the true label is among 8 of the continuations.
    """
    total = counts.sum(1)
    share = (counts + 0.5) / (drawn + 0.5 * (counts.shape[1] + 1))
    safe = np.where(planted > 0, planted, 1)
    excess = (planted * np.log2(safe / share)).sum(1)
    found = counts[total > 0]
    corrected = entropy(found / found.sum(1, keepdims=True)) + (
        ((found > 0).sum(1) - 1) / (2 * log(2) * found.sum(1))
    )
    own = counts[np.arange(len(true)), true]
    few = min(FUTURES, drawn)
    missed = [comb(drawn - int(one), few) / comb(drawn, few) for one in own]
    return {
        "excess bits": float(excess.mean()),
        "entropy in bits": float(corrected.mean()) if len(found) else 0.0,
        f"coverage of {few}": 1 - float(np.mean(missed)),
    }


def as_planted(
    planted: Float[np.ndarray, "moment label"],
    drawn: int,
    heard: Float[np.ndarray, "label label"] | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Scores of ideal continuations, drawn from the planted probabilities, whose labels are known, or recognised
    with the probabilities `heard` (`confusion`); all but the excess bits are exact."""
    rng = np.random.default_rng([seed, 0x9E87])
    law = planted if heard is None else planted @ heard
    none = np.maximum(0, 1 - law.sum(1, keepdims=True))
    counts = rng.multinomial(drawn, np.hstack([law, none]) / (law.sum(1, keepdims=True) + none))[:, :-1]
    true = np.array([rng.choice(planted.shape[1], p=row) for row in planted])
    few = min(FUTURES, drawn)
    labelled = law[law.sum(1) > 0]
    return next_label(counts, drawn, planted, true) | {
        "entropy in bits": float(entropy(labelled / labelled.sum(1, keepdims=True)).mean())
        if len(labelled)
        else 0.0,
        f"coverage of {few}": float((planted * (1 - (1 - law) ** few)).sum(1).mean()),
    }


def confusion(
    true: Int[np.ndarray, " example"], found: Int[np.ndarray, " example"], labels: int
) -> Float[np.ndarray, "label label"]:
    """Confusion matrix, as fractions of each true label; −1 is none. Labels without an example count as found."""
    counts = np.zeros((labels, labels + 1))
    np.add.at(counts, (true, found), 1)
    unseen = counts.sum(1) == 0
    counts[unseen, np.flatnonzero(unseen)] = 1
    return (counts / counts.sum(1, keepdims=True))[:, :-1]
