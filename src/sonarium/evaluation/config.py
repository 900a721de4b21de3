"""Settings of an evaluation, in a file that loads at once: the command line shows them as flags."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EvaluationConfig:
    """How codes are evaluated."""

    protocol: Literal["standard", "syntone"] = "standard"
    """Disentanglement scores as their papers define them, or as SynTone's evaluator calls them."""
    probe: Literal["ridge", "logistic", "mlp"] = "ridge"
    """Probe: ridge regression, logistic regression, or a network with one hidden layer."""
    pooling: Literal["thirds", "mean"] = "thirds"
    """Pooling of a clip's frames: means of three thirds and their standard deviation, or the mean."""
    remove_mean: bool = False
    """Subtract each clip's mean from its frames, which removes what only identifies the recording channel."""
    frames: bool = False
    """Also predict clip labels from single frames; labels of segments always are."""
    abx: bool = False
    """Also compute ABX errors within and across groups, on segments or else on whole clips."""
    few_labels: bool = False
    """Also fit probes on 1, 2, 5 and 10 labelled clips per class, or marked segments."""
    max_clips: int = 2000
    """Maximum number of clips per split; more are subsampled at random."""
    max_frames: int = 10_000
    """Maximum number of frames that probes are given, evenly spaced."""
    draws: int = 64
    """Samples per clip for the importance-weighted bound (IWAE) of the log-likelihood."""

    episodes: int = 100
    """Episodes of an agent."""

    def __post_init__(self) -> None:
        if self.remove_mean and self.pooling == "mean":
            raise ValueError(
                "--remove-mean --pooling mean: a clip's mean less its mean is nothing; take --pooling thirds"
            )
        for name in ("max_clips", "max_frames"):
            if getattr(self, name) < 10:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: give at least 10")
        if self.episodes < 1:
            raise ValueError(f"--episodes {self.episodes}: give at least 1")
        if self.draws < 1:
            raise ValueError(f"--draws {self.draws}: a bound needs at least one sample per clip")
