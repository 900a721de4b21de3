"""Probes of codes by labels and numbers, on groups that they were not fitted on, and what their scores mean."""

from sonarium.measures.contract import Meaning

MEANINGS = {
    "clips": Meaning("{label}", "Accuracy of a probe that predicts the {label} of clips."),
    "frames": Meaning("{label}, frames", "Accuracy of a probe that predicts the {label} of single frames."),
    "segments": Meaning("{label}, whole", "Accuracy of a probe that predicts the label of a whole {label}."),
    "number": Meaning("{label}, R²", "R² of a linear regression of {label} on the codes.", low=None),
    "few": Meaning(
        "{label}, {count} each",
        "Balanced accuracy from {count} labelled clips per {label}; as many more choose the probe's setting, and "
        "are then fitted to as well.",
    ),
}
"""By kind of score: what precedes the stroke in its name, with the label behind it; few-5/LABEL from 5 labels."""
