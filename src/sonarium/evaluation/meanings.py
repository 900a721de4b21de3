"""Meanings of scores and controls, for tables and pages."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from sonarium.evaluation.likelihood import MEANINGS as OF_LIKELIHOOD
from sonarium.measures import compare, disentanglement, forecasts, probes, separation
from sonarium.measures.contract import Meaning
from sonarium.measures.sequence import continuation

SCORES = (
    disentanglement.MEANINGS | OF_LIKELIHOOD | separation.MEANINGS | forecasts.OF_STATES | continuation.MEANINGS
)
OF_LABELS = probes.MEANINGS | compare.MEANINGS | forecasts.MEANINGS
"""Keyed by the part of a score's name before the slash; the part after it is the label."""


@dataclass(frozen=True)
class Control:
    """A baseline or limit that a learner is compared with."""

    name: str
    """Name in tables."""
    sentence: str
    limit: bool = False
    """Whether it has information that no learner has, so that no learner needs to be better."""


CONTROLS = {
    "pca": Control("PCA", "as many principal components of the same features"),
    "log_mel": Control(
        "log-mel", "40 bands in decibels, given to the same probes, with the better of equal and kept levels"
    ),
    "mfcc": Control("MFCC", "13 cepstra with their slopes, likewise"),
    "input": Control("input", "the codes that it was trained on, given to the same probes"),
    "part_feature": Control("[h, z]", "h and z of the state"),
    "part_state": Control("h", "the deterministic part of the state"),
    "part_latent": Control("z", "the stochastic part of the state"),
    "part_embedding": Control("embedding", "each token alone"),
    "persistence": Control("persistence", "the last token again"),
    "linear_ar": Control("linear AR", "ridge regression on the last four tokens"),
    "direct": Control("direct", "ridge regression on the learner's states, one for each horizon, without futures"),
    "gru_ar": Control("GRU-AR", "a GRU trained on the same tokens, or for bits on the same states"),
    "n_gram": Control("n-gram", "each variable of the states from its last two classes"),
    "hmm": Control("HMM", "a hidden Markov model of the same tokens, or for bits of the same states"),
    "actions_alone": Control("actions alone", "ridge regression from the actions, which knows no past"),
    "planted": Control("planted", "draws from the planted grammar itself", limit=True),
    "real": Control(
        "real",
        "the true sound as it is; of distances, other real sound; of next labels, the grammar as heard in it",
        limit=True,
    ),
    "copy": Control(
        "decoded", "the true sound, followed and decoded; of next labels, the grammar as heard in it", limit=True
    ),
    "shuffled_past": Control("shuffled past", "the learner, the order of what it heard shuffled"),
    "mixture": Control("mixture", "the mixture in place of each source"),
    "spatial_clustering": Control(
        "spatial clustering", "bins of the spectrum by their interaural phase, without training"
    ),
    "ideal_mask": Control("ideal mask", "the ratio mask of the true sources, which none can know", limit=True),
    "true_sources": Control("true sources", "the true sound of each source in place of its estimate", limit=True),
    "random": Control("untrained", "the same network before training"),
    "chance": Control("chance", "codes that are independent of the clip; for planted factors its own, permuted"),
    "random_actions": Control("random actions", "each action drawn from the action space"),
}


def meaning(key: str, more: Mapping[str, Meaning] = {}) -> Meaning:
    """Meaning of a score by its name; `more` holds those of other packages' measures. An unknown score has no
    range."""
    if key in more:
        return more[key]
    kind, _, label = key.partition("/")
    kind, _, count = kind.partition("-") if kind.startswith("few-") else (kind, "", "")
    if label and kind in OF_LABELS:
        template, words = OF_LABELS[kind], {"label": label.replace("_", " "), "count": count}
        return replace(template, name=template.name.format(**words), sentence=template.sentence.format(**words))
    return SCORES.get(key, Meaning(key.replace("_", " "), "", low=None, high=None))


def recorded(meanings: Mapping[str, Meaning]) -> dict[str, dict[str, Any]]:
    """Meanings as JSON, for a record that may be read without the measures' package."""
    return {key: asdict(one) for key, one in meanings.items()}


def read(values: object) -> dict[str, Meaning]:
    """Meanings of a record; entries that this version does not understand are dropped."""
    if not isinstance(values, Mapping):
        return {}
    return {
        str(key): Meaning(**one) for key, one in values.items() if isinstance(one, Mapping) and understood(one)
    }


def understood(values: Mapping[str, Any]) -> bool:
    """Whether these are the fields of a meaning, each of its type."""
    if not {"name", "sentence"} <= values.keys() <= {field.name for field in fields(Meaning)}:
        return False
    ends = [values.get(end) for end in ("low", "high")]
    return all(isinstance(values[name], str) for name in ("name", "sentence")) and all(
        end is None or isinstance(end, int | float) for end in ends
    )


def control(name: str) -> str:
    return CONTROLS[name].name if name in CONTROLS else name.replace("_", " ")


def is_limit(name: str) -> bool:
    return name in CONTROLS and CONTROLS[name].limit


def explained(names: Iterable[str]) -> str:
    """Description of these controls, and how to read scores relative to them."""
    asked = set(names)
    known = [one for name, one in CONTROLS.items() if name in asked]
    if not known:
        return ""
    said = " ".join(f"{one.name[0].upper()}{one.name[1:]}: {one.sentence}." for one in known)
    limits = ", ".join(one.name for one in known if one.limit)
    but = f", but for the limits: {limits}" if limits else ""
    return f"{said} A score is meaningful as far as it is better than all of these{but}."
