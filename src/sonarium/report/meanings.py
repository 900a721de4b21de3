"""What each score and each control means, in a sentence for people who have not read the papers."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    name: str
    sentence: str
    share: bool = True
    """Whether it lies between 0 and 1."""
    rising: bool = True
    """Whether more is better."""


SCORES = {
    "mig": Meaning("MIG", "How much more the best code tells of a cause than the next best code does."),
    "sap": Meaning("SAP", "How much better one code alone predicts a cause than the next best code alone."),
    "dci_disentanglement": Meaning("DCI disentanglement", "Whether each code is of use for one cause only."),
    "dci_completeness": Meaning("DCI completeness", "Whether each cause is read from one code only."),
    "dci_informativeness": Meaning("DCI informativeness", "How well all codes together predict the causes."),
    "modularity": Meaning("Modularity", "Whether each code tells of one cause only."),
    "explicitness": Meaning("Explicitness", "How well a linear classifier reads the causes from all codes."),
    "jemmig": Meaning("JEMMIG", "Like MIG, and the best code must tell of nothing else."),
    "dcimig": Meaning("DCIMIG", "The gap of MIG taken from the side of the codes."),
    "beta_vae": Meaning(
        "BetaVAE score", "How often one sees from the codes which cause two groups of clips share."
    ),
    "factor_vae": Meaning(
        "FactorVAE score", "How often the code that varies least names the cause that was held still."
    ),
    "irs": Meaning("IRS", "How little a code moves when causes other than its own are changed."),
    "dead_codes": Meaning(
        "Dead codes",
        "Codes that carry nothing; fewer is better, as far as the causes are told.",
        share=False,
        rising=False,
    ),
    "elbo": Meaning(
        "ELBO", "Lower bound on the log-likelihood of held-out clips, in nats; more is better.", share=False
    ),
    "iwae": Meaning(
        "IWAE bound", "A tighter such bound, from many samples, in nats; more is better.", share=False
    ),
}
OF_LABELS = {
    "clips": Meaning("{label}", "Share of clips that a probe calls by their right {label}."),
    "frames": Meaning("{label}, frames", "Share of single frames that a probe calls by their right {label}."),
    "number": Meaning("{label}, R²", "Share of the variance of {label} that a line through the codes tells."),
    "few": Meaning(
        "{label}, {count} each",
        "The same from {count} labelled clips of each {label}, every {label} weighing alike.",
    ),
    "retrieval": Meaning(
        "{label}, nearest", "Mean average precision: whether the clips nearest to one have its {label}."
    ),
    "eer": Meaning(
        "{label} EER",
        "Equal error rate of telling whether two clips are of one {label}; less is better.",
        rising=False,
    ),
    "min-dcf": Meaning(
        "{label} minDCF", "Least cost of errors in telling the same; less is better.", rising=False
    ),
    "abx-within": Meaning(
        "{label} ABX within",
        "How often X lies nearer to another {label} of the same group; less is better.",
        rising=False,
    ),
    "abx-across": Meaning(
        "{label} ABX across", "The same with X from another group than A and B; less is better.", rising=False
    ),
}
"""By what comes before the stroke in the name of a score; what comes after it is the label."""
CONTROLS = {
    "pca": Meaning("PCA", "as many principal components of the same features"),
    "log_mel": Meaning("log-mel", "40 bands of loudness, given to the same probes"),
    "mfcc": Meaning("MFCC", "13 cepstra with their slopes, likewise"),
    "random": Meaning("untrained", "the same network before it learnt"),
    "chance": Meaning("chance", "codes that know nothing of the clip"),
}


def meaning(key: str) -> Meaning:
    """Of a score; one that is not known goes by its own name and is drawn without a bar."""
    kind, _, label = key.partition("/")
    kind, _, count = kind.partition("-") if kind.startswith("few-") else (kind, "", "")
    if label and kind in OF_LABELS:
        told, words = OF_LABELS[kind], {"label": label.replace("_", " "), "count": count}
        return Meaning(told.name.format(**words), told.sentence.format(**words), told.share, told.rising)
    return SCORES.get(key, Meaning(key.replace("_", " "), "", share=False))


def control(name: str) -> str:
    return CONTROLS[name].name if name in CONTROLS else name.replace("_", " ")


def explained(names: Iterable[str]) -> str:
    """What these controls are, and what they are there for."""
    asked = set(names)
    known = [told for name, told in CONTROLS.items() if name in asked]
    told = " ".join(f"{one.name[0].upper()}{one.name[1:]}: {one.sentence}." for one in known)
    return f"{told} A score says something as far as it is better than all of these." if told else ""
