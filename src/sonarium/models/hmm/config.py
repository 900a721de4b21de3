"""Settings of hidden Markov models, shared by the estimator and the learner."""

from dataclasses import dataclass
from typing import Annotated, Literal

from sonarium.config import Range, check_ranges
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
    states: Annotated[int, Range(1, 10**4)] = 16
    """Number of states."""
    emission: EmissionKind = "gaussian"
    """Emission distribution: gaussian, mixture (of Gaussians), categorical (symbols 0, 1, …) or poisson
    (counts)."""
    covariance: Covariance = "diagonal"
    """Covariance of Gaussians: spherical, diagonal, tied (one full matrix for all states) or full."""
    components: Annotated[int, Range(1, 256)] = 2
    """Components of a Gaussian mixture."""
    topology: Topology = "ergodic"
    """Allowed transitions: ergodic (all), left-right (a state to itself and the next), or sparse (a random
    subset)."""
    sparsity: Annotated[float, Range(0, 1, below=True)] = 0.3
    """Fraction of transitions that the sparse topology removes."""
    durations: Durations = "geometric"
    """State durations: geometric (Markov chain), or explicit (semi-Markov): categorical or poisson."""
    max_duration: Annotated[int, Range(2, 10**4)] = 50
    """Maximum explicit duration in frames."""
    start_prior: Annotated[float, Range(1)] = 1.0
    """Dirichlet concentration of the initial-state distribution; 1 is flat."""
    transition_prior: Annotated[float, Range(1)] = 1.0
    """Dirichlet concentration of the transition probabilities; 1 is flat."""
    duration_prior: Annotated[float, Range(1)] = 1.0
    """Dirichlet concentration of categorical durations; 1 is flat."""
    prior: EmissionPrior = EmissionPrior()
    """Priors of emissions."""
    start: Start = "k-means"
    """Initialisation of EM: k-means, a Gaussian mixture, or random frames as centres."""
    repair: bool = True
    """Re-initialise a state without frames by splitting the largest state."""
    arithmetic: Arithmetic = "scaled"
    """Arithmetic of forward-backward: scaled (fast; where it underflows, log takes over) or log."""
    dtype: Literal["float64", "float32"] = "float64"
    """Floating-point precision of the computation."""

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}")
        check_ranges(self)
