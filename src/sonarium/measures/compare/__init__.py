"""Comparisons of items by their codes (ABX, retrieval and verification), and the meaning of their scores."""

from sonarium.measures.contract import Meaning

MEANINGS = {
    "retrieval": Meaning("{label}, nearest", "Mean average precision of retrieving clips of the same {label}."),
    "eer": Meaning("{label} EER", "Equal error rate of {label} verification; less is better.", rising=False),
    "min-dcf": Meaning(
        "{label} minDCF", "Minimum detection cost of {label} verification; less is better.", rising=False
    ),
    "abx-within": Meaning(
        "{label} ABX within", "ABX error of {label} within groups; less is better.", rising=False
    ),
    "abx-across": Meaning(
        "{label} ABX across", "ABX error of {label} across groups; less is better.", rising=False
    ),
}
"""By kind of score: the part of its name before the slash; the label follows."""
