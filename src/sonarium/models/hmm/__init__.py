"""Hidden Markov models: an estimator that is usable alone, and a learner of codes."""

from sonarium.models.hmm.estimator import HMM

__all__ = ["HMM"]
