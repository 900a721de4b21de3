"""Settings of an evaluation, in a module that imports fast: the command line shows them as flags."""

from dataclasses import dataclass
from typing import Annotated, Literal

from sonarium.config import Range, check_ranges


@dataclass(frozen=True)
class EvaluationConfig:
    """How codes are evaluated."""

    protocol: Literal["standard", "syntone"] = "standard"
    """Disentanglement scores: standard (as their papers define them), or syntone (as SynTone's evaluator does)."""
    probe: Literal["ridge", "logistic", "mlp"] = "ridge"
    """Probe: ridge regression, logistic regression, or a network with one hidden layer."""
    pooling: Literal["thirds", "mean"] = "thirds"
    """Pooling of a clip's frames: means of three thirds and their standard deviation, or the mean."""
    remove_mean: bool = False
    """Subtract each clip's mean from its frames, which removes what only identifies the recording channel."""
    frames: bool = False
    """Also predict clip labels from single frames; segment labels always are."""
    abx: bool = False
    """Also compute ABX errors within and across groups, on segments or else on whole clips."""
    few_labels: bool = False
    """Few-shot probes: also fit probes on 1, 2, 5 and 10 labelled clips per class, or marked segments."""
    parts: bool = False
    """For a world model, also probe each part of its states, and the embedding of each token alone."""
    gru_units: Annotated[int, Range(1, 10**5)] = 128
    """Hidden units of the baseline GRU that forecasts are compared with."""
    gru_steps: Annotated[int, Range(1, 10**7)] = 200
    """Training steps of the baseline GRU."""
    max_pieces: Annotated[int, Range(10, 10**6)] = 512
    """Maximum number of training pieces for fitting the baselines and decoders of forecasts."""
    max_clips: Annotated[int, Range(10)] = 2000
    """Maximum number of clips per split; more are subsampled at random."""
    max_frames: Annotated[int, Range(10)] = 10_000
    """Approximate maximum number of frames for fitting probes, evenly spaced."""
    draws: Annotated[int, Range(1, 10**6)] = 64
    """Importance samples per clip for the IWAE bound on the log-likelihood."""
    mixtures: Annotated[int, Range(1, 10**6)] = 100
    """Number of test mixtures to score a separator on."""
    episodes: Annotated[int, Range(1, 10**9)] = 100
    """Number of episodes to score an agent on."""
    separation: bool = False
    """For an agent that hears with a separator, also score its separation and localisation of the sources in the
    same episodes."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.remove_mean and self.pooling == "mean":
            raise ValueError(
                "--remove-mean --pooling mean: a clip's mean less its mean is nothing; take --pooling thirds"
            )
