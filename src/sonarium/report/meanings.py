"""What each score and each control means, in a sentence for people who have not read the papers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    name: str
    sentence: str
    share: bool = True
    """Whether it lies between 0 and 1, 1 best."""


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
        "Dead codes", "Codes that carry nothing; fewer is better, as far as the causes are told.", share=False
    ),
    "elbo": Meaning(
        "ELBO", "Lower bound on the log-likelihood of held-out clips, in nats; more is better.", share=False
    ),
    "iwae": Meaning(
        "IWAE bound", "A tighter such bound, from many samples, in nats; more is better.", share=False
    ),
}
CONTROLS = {"pca": "PCA", "random": "untrained", "chance": "chance"}
CONTROLS_EXPLAINED = (
    "PCA: as many principal components of the same features. Untrained: the same encoder before it learnt. "
    "Chance: codes that know nothing of the clip. A score says something as far as it lies above all three."
)


def meaning(key: str) -> Meaning:
    """Of a score; one that is not known goes by its own name and is drawn without a bar."""
    return SCORES.get(key, Meaning(key.replace("_", " "), "", share=False))


def control(name: str) -> str:
    return CONTROLS.get(name, name.replace("_", " "))
