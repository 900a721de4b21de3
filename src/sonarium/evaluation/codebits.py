"""Bits per token of held-out discrete states under fitted models: n-grams of each variable alone, a hidden Markov
model and a GRU of all variables. Few bits are no merit of states that carry little information.

The hidden Markov model emits all variables of a token at once, conditionally independent given its state: a
product of categorical distributions. Poisson emissions of one-hot rows equal that up to a constant: their rates
are fitted to shares, which sum to 1 for each variable, so that each variable subtracts exactly 1 nat from the
log-likelihood of a token.
"""

from dataclasses import dataclass
from math import log

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.fitting import chosen_hmm, trained
from sonarium.measures.sequence.ngrams import NGrams
from sonarium.models.gru import Recurrent
from sonarium.models.hmm import HMM

ORDER = 2
"""Order of the n-grams."""
SEEN = 0.1
"""Pseudocount of each class of each variable in each state of the hidden Markov model."""


@dataclass(frozen=True)
class Coded:
    """Discrete states of a set of pieces."""

    classes: Int[Tensor, "piece token variable"]
    counts: Int[Tensor, " piece"]

    @property
    def inside(self) -> Bool[Tensor, "piece token"]:
        return torch.arange(self.classes.shape[1]) < self.counts[:, None]

    @property
    def lengths(self) -> list[int]:
        return [count for count in self.counts.tolist() if count]

    def variable(self, number: int) -> list[Int[np.ndarray, " _token"]]:
        """The classes of one variable in each piece."""
        return [row[keep, number].numpy() for row, keep in zip(self.classes, self.inside, strict=True)]

    def rows(self, entries: int) -> Float[np.ndarray, "token entry"]:
        """All tokens, each variable one-hot."""
        return nn.functional.one_hot(self.classes[self.inside], entries).flatten(1).double().numpy()


@torch.no_grad()
def code_bits(known: Coded, held: Coded, entries: int, burn_in: int, config: EvaluationConfig) -> dict[str, float]:
    """Bits per held-out token under each model fitted to the known ones."""
    by_ngrams, by_hmm = (torch.zeros(held.classes.shape[:2], dtype=torch.float64) for _ in range(2))
    for number in range(held.classes.shape[2]):
        model = NGrams(ORDER, entries).fit(known.variable(number))
        logs = model.log_probabilities(held.variable(number))
        by_ngrams[held.inside] += torch.from_numpy(np.concatenate(logs))
    by_hmm[held.inside] = torch.from_numpy(hmm_log_probability(fitted_hmm(known, entries), held, entries))
    by_gru = code_log_probability(trained_code_gru(known, entries, config), held.classes, entries)
    scored = held.inside & (torch.arange(held.classes.shape[1]) >= burn_in)
    every = {"n_gram": by_ngrams, "hmm": by_hmm, "gru_ar": by_gru}
    return {name: -float(logs[scored].double().mean()) / log(2) for name, logs in every.items()}


def fitted_hmm(known: Coded, entries: int) -> HMM:
    """A hidden Markov model whose states emit a class of each variable."""
    # This weight keeps the rates of each variable summing to 1.
    smoothing = {"rate_prior": SEEN, "rate_weight": SEEN * entries}
    found = chosen_hmm(known.rows(entries), known.lengths, emission="poisson", **smoothing)
    return of_classes(found.startprob_, found.transmat_, found.lambdas_.reshape(found.states, -1, entries))


def of_classes(
    initial: Float[np.ndarray, " state"],
    transitions: Float[np.ndarray, "state state"],
    probabilities: Float[np.ndarray, "state variable entry"],
) -> HMM:
    """Model with these parameters, normalised: the rates of a state that EM has just re-initialised do not sum to
    1."""
    first, moves, shares = (
        rows.astype(np.float64) / rows.sum(-1, keepdims=True, dtype=np.float64)
        for rows in (initial, transitions, probabilities)
    )
    return HMM.from_parameters(first, moves, rates=shares.reshape(len(shares), -1))


def hmm_log_probability(model: HMM, held: Coded, entries: int) -> Float[np.ndarray, " token"]:
    """Log-probability of the classes of each token given its predecessors in the piece, in nats."""
    logs = model.score_samples(held.rows(entries), held.lengths)
    return logs.astype(np.float64) + held.classes.shape[2]


def code_log_probability(
    network: Recurrent, classes: Int[Tensor, "piece token variable"], entries: int
) -> Float[Tensor, "piece token"]:
    """Log-probability of the classes of each token given its predecessors, in nats."""
    ones = nn.functional.one_hot(classes, entries).float()
    logs = network(ones.flatten(2)).unflatten(2, (-1, entries)).log_softmax(-1)
    return (logs * ones).sum((2, 3))


def trained_code_gru(known: Coded, entries: int, config: EvaluationConfig) -> Recurrent:
    classes, inside, numbers = known.classes, known.inside, known.classes.shape[2] * entries
    return trained(
        lambda: Recurrent(numbers, numbers, config.gru_units, 1),
        lambda network, rows: -code_log_probability(network, classes[rows], entries)[inside[rows]].mean(),
        len(classes),
        config.gru_steps,
    )
