"""Probes of labels and numbers from codes, scored on held-out groups, and the meaning of their scores."""

from sonarium.measures.contract import Meaning

MEANINGS = {
    "clips": Meaning("{label}", "Accuracy of a probe that predicts the {label} of clips."),
    "frames": Meaning("{label}, frames", "Accuracy of a probe that predicts the {label} of single frames."),
    "segments": Meaning("{label}, whole", "Accuracy of a probe on whole annotated segments: {label}."),
    "number": Meaning("{label}, R²", "R² of a linear regression of {label} on the codes.", low=None),
    "few": Meaning(
        "{label}, {count} each",
        "Balanced accuracy from {count} labelled clips per {label}; as many more choose the probe's setting, and "
        "are then fitted to as well.",
    ),
}
"""By kind of score: the part of its name before the slash; the label follows. few-5/LABEL is from 5 labels."""
