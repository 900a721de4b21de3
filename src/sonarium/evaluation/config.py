"""Settings of judging.py, in a file that is read in a moment: the command line shows them as flags."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class JudgingConfig:
    """How codes that are frames at a rate are judged by the labels of their clips."""

    probe: Literal["linear", "mlp"] = "linear"
    """What is to tell the labels from the codes: logistic regression, or a network with one hidden layer."""
    pooling: Literal["thirds", "mean"] = "thirds"
    """What a clip's frames become: their means in three thirds with their deviation, or their mean."""
    remove_mean: bool = False
    """Whether each clip's mean is taken from its frames first: what tells only the channel is then gone."""
    frames: bool = False
    """Whether labels of clips are also told from single frames; labels of segments always are."""
    abx: bool = False
    """Whether ABX errors are measured, of segments or else of whole clips, within and across groups."""
    few_labels: bool = False
    """Whether probes are also fitted on 1, 2, 5 and 10 labelled clips of each class."""
    most_clips: int = 2000
    """Clips of each part (train, validation, test) that are heard, drawn at random from more."""
    most_frames: int = 10_000
    """Frames that probes are given, spread evenly over all."""

    def __post_init__(self) -> None:
        if self.remove_mean and self.pooling == "mean":
            raise ValueError(
                "--remove-mean --pooling mean: a clip's mean less its mean is nothing; take --pooling thirds"
            )
        for name in ("most_clips", "most_frames"):
            if getattr(self, name) < 10:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: give at least 10")
