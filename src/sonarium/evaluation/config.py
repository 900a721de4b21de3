"""Settings of an evaluation, in a file that loads at once: the command line shows them as flags."""

from dataclasses import dataclass
from typing import Annotated, Literal

from sonarium.config import Range, check_ranges


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
    parts: bool = False
    """Of a world model, also probe each part of its states, and the embedding of each token alone."""
    gru_units: Annotated[int, Range(1, 10**5)] = 128
    """Units of the GRU beside which forecasts are scored."""
    gru_steps: Annotated[int, Range(1, 10**7)] = 200
    """Training steps of that GRU."""
    max_pieces: Annotated[int, Range(10, 10**6)] = 512
    """Maximum number of training pieces that baselines and decoders of forecasts are fitted on."""
    max_clips: Annotated[int, Range(10)] = 2000
    """Maximum number of clips per split; more are subsampled at random."""
    max_frames: Annotated[int, Range(10)] = 10_000
    """Maximum number of frames that probes are given, evenly spaced."""
    draws: Annotated[int, Range(1, 10**6)] = 64
    """Samples per clip for the importance-weighted bound (IWAE) of the log-likelihood."""
    mixtures: Annotated[int, Range(1, 10**6)] = 100
    """Mixtures of the test split that a separator is scored on."""
    episodes: Annotated[int, Range(1, 10**9)] = 100
    """Episodes of an agent."""
    separation: bool = False
    """Of an agent that hears with a separator, also score how it separates and locates the sources in the same
    episodes."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.remove_mean and self.pooling == "mean":
            raise ValueError(
                "--remove-mean --pooling mean: a clip's mean less its mean is nothing; take --pooling thirds"
            )
