"""Disentanglement of codes, and the meaning of its scores."""

from sonarium.measures.contract import Meaning

MEANINGS = {
    "mig": Meaning("MIG", "Gap in mutual information with a factor between the best code and the next best."),
    "sap": Meaning("SAP", "Gap in predictability of a factor between the best single code and the next best."),
    "dci_disentanglement": Meaning("DCI disentanglement", "Whether each code is important for one factor only."),
    "dci_completeness": Meaning("DCI completeness", "Whether each factor is predicted by one code only."),
    "dci_informativeness": Meaning("DCI informativeness", "How well all codes together predict the factors."),
    "modularity": Meaning("Modularity", "Whether each code has information on one factor only, beyond chance."),
    "explicitness": Meaning("Explicitness", "How well a linear classifier predicts the factors from all codes."),
    "jemmig": Meaning("JEMMIG", "Like MIG, penalising information of the best code on other factors."),
    "dcimig": Meaning("DCIMIG", "MIG with the gap taken per code, between its best factor and the next best."),
    "beta_vae": Meaning(
        "BetaVAE score", "Accuracy of predicting, from code differences, which factor pairs of clips share."
    ),
    "factor_vae": Meaning(
        "FactorVAE score", "Accuracy of predicting, from the code that varies least, which factor was fixed."
    ),
    "irs": Meaning("IRS", "Robustness of a code to changes of factors other than its own."),
    "dead_codes": Meaning(
        "Dead codes",
        "Codes that carry no information; fewer is better, as long as the factors are encoded.",
        high=None,
        rising=False,
    ),
}
"""By score."""
