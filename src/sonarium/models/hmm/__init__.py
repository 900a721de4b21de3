"""Hidden Markov models: a stand-alone estimator, and a learner on codes."""

from sonarium.models.hmm.divergence import Divergence, Parts, divergence_parts, divergence_rate
from sonarium.models.hmm.estimator import HMM
from sonarium.models.hmm.selection import choose_states, merge_states, sequence_p_value

__all__ = [
    "HMM", "Divergence", "Parts", "choose_states", "divergence_parts", "divergence_rate", "merge_states",
    "sequence_p_value",
]  # fmt: skip
