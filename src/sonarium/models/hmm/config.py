"""Settings of hidden Markov models: one dataclass, for the estimator and for the learner."""

from dataclasses import dataclass
from typing import Literal

from sonarium.models.hmm.emissions import Covariance, EmissionKind, EmissionPrior
from sonarium.models.hmm.inference import Arithmetic
from sonarium.models.hmm.structure import Durations, Topology

Start = Literal["k-means", "mixture", "random"]
CHOICES = {
    "emission": ("gaussian", "mixture", "categorical", "poisson"),
    "covariance": ("spherical", "diagonal", "tied", "full"),
    "topology": ("ergodic", "left-right", "sparse"),
    "durations": ("geometric", "categorical", "poisson"),
    "start": ("k-means", "mixture", "random"),
    "arithmetic": ("scaled", "log"),
    "dtype": ("float64", "float32"),
}


@dataclass(frozen=True)
class HMMConfig:
    states: int = 16
    """Number of states."""
    emission: EmissionKind = "gaussian"
    """Emission of a state: gaussian, mixture (of Gaussians), categorical (symbols 0, 1, …) or poisson (counts)."""
    covariance: Covariance = "diagonal"
    """Covariance of Gaussians: spherical, diagonal, tied (one full matrix for all states) or full."""
    components: int = 2
    """Gaussians of a mixture."""
    topology: Topology = "ergodic"
    """Transitions: ergodic (all), left-right (a state to itself and the next), or sparse (a random part)."""
    sparsity: float = 0.3
    """Fraction of transitions that the sparse topology leaves out."""
    durations: Durations = "geometric"
    """Frames in a state: geometric (a Markov chain), or explicit (semi-Markov): categorical or poisson."""
    max_duration: int = 50
    """Longest explicit duration in frames."""
    start_prior: float = 1.0
    """Dirichlet prior of the first state; 1 is flat."""
    transition_prior: float = 1.0
    """Dirichlet prior of transitions; 1 is flat."""
    duration_prior: float = 1.0
    """Dirichlet prior of categorical durations; 1 is flat."""
    prior: EmissionPrior = EmissionPrior()
    """Priors of emissions."""
    start: Start = "k-means"
    """What EM starts from: k-means, a mixture of Gaussians, or random frames as centres."""
    repair: bool = True
    """Replace a state without frames by half of the largest."""
    arithmetic: Arithmetic = "scaled"
    """Arithmetic of forward-backward: scaled (fast; where it underflows, log takes over) or log."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision of the computation."""

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}")
        for name, least in (("states", 1), ("components", 1), ("max_duration", 2)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)}: give a whole number of at least {least}")
        for name in ("start_prior", "transition_prior", "duration_prior"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name}={getattr(self, name)}: give a number of at least 1, which is flat")
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity={self.sparsity}: give a fraction of at least 0 and below 1")
