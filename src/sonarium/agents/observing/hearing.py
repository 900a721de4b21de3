"""Binaural sound through the model of another run: the codes of an encoder, or features of a separator's sources.

The features of sources are their interaural differences and levels over time; the means of these over time, or
over time and frequency, which for two sources are the six numbers of OtoWorld's agent (arXiv 2007.06123); or the
loudness of each source at each ear. Each window is separated independently, from the initial state, unless the
state of the separator is carried over (`carried.py`).
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from math import pi

import numpy as np
import torch
from einops import rearrange
from gymnasium import spaces
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from sonarium.agents.contract import Hearing, NotObservable, Separation
from sonarium.agents.observing.parts import Perceived, convolutions, sounding
from sonarium.features.ears import Ears, EarsConfig
from sonarium.models import masking
from sonarium.models.framing import with_gradient

HEARD_AT_ONCE = 256
"""Batch size in which sounds are encoded or separated without a gradient."""
QUIETEST = 1e-9
"""Floor of the mean square in `Loudness`: −90 dB re full scale."""
LEVEL_UNIT = 1e-3
"""Magnitude that is 1 in `Means`, as a fraction of the magnitude of a sine of amplitude 1 in its bin."""


class EncodedEars(Perceived):
    """Codes of each ear by a sound encoder, with the cues that a single-channel encoder lacks: the levels of both
    ears and the differences between them."""

    def __init__(self, space: spaces.Box, width: int, hearing: Hearing, trained: bool):
        super().__init__()
        self.width, self.trained = width, trained
        # Only the learner is registered, so that its weights are saved once: it may be the encoder itself.
        self.learner, self.hearing = hearing.learner.eval().requires_grad_(trained), hearing
        self.differences = Ears(EarsConfig(loudness="none"), hearing.rate)
        self.levels = Ears(EarsConfig(bands=1), hearing.rate)
        frames = int(hearing.encoder.code_lengths(torch.tensor(space.shape[1:])))
        if not frames:
            raise ValueError(f"{space.shape[1]} samples are too few for a code of --ears: choose another run")
        cues = self.cues(torch.zeros(1, *space.shape))
        codes = torch.zeros(1, 2 * hearing.width, frames)
        self.sizes = codes[0].shape, cues[0].shape
        self.hear, heard = convolutions(codes, nn.Conv1d, 3, 2)
        self.compare, compared = convolutions(cues, nn.Conv1d, 3, 2)
        self.join = nn.Linear(heard + compared, width)

    def target(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        return self.encoded(rows) if self.trained else rows

    @property
    def target_width(self) -> int:
        return sum(size.numel() for size in self.sizes)

    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        raise NotObservable("the codes of --ears cannot be heard: train with --sound-rate in the place of --ears")

    def train(self, mode: bool = True) -> "EncodedEars":
        """Keep the encoder in evaluation mode, so that its codes are the same in acting and in learning."""
        super().train(mode)
        self.learner.eval()
        return self

    def coded(self, rows: Float[Tensor, "row 2 time"]) -> Float[Tensor, "row code frame"]:
        """Codes of both ears, concatenated along the code axis."""
        ears, encoder = rows.flatten(0, 1), self.hearing.encoder
        if self.trained and torch.is_grad_enabled():
            # The recurrent kernels of cuDNN have no backward pass in evaluation mode.
            with torch.backends.cudnn.flags(enabled=False):
                codes = with_gradient(encoder, ears)
        else:
            codes = torch.cat([encoder.encode(part) for part in ears.split(HEARD_AT_ONCE)])
        return rearrange(codes, "(row ear) frame code -> row (ear code) frame", ear=2)

    def cues(self, rows: Float[Tensor, "row 2 time"]) -> Float[Tensor, "row cue frame"]:
        return torch.cat([self.levels(rows)[:, :2], self.differences(rows)], 1)

    @torch.no_grad()
    def encoded(self, rows: Float[Tensor, "row 2 time"]) -> Float[Tensor, "row number"]:
        """Codes and cues, flattened and concatenated."""
        return torch.cat([self.coded(rows).flatten(1), self.cues(rows).flatten(1)], 1)

    def prepared(self, rows: Shaped[Tensor, "row *observed"]) -> Shaped[Tensor, "row *made"]:
        rows = rows.float()
        return rows if self.trained else self.encoded(rows)

    def forward(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        if self.trained:
            codes, cues = self.coded(rows), self.cues(rows)
        else:
            parts = rows.split([size.numel() for size in self.sizes], 1)
            codes, cues = (part.unflatten(1, size) for part, size in zip(parts, self.sizes, strict=True))
        return self.join(torch.cat([self.hear(codes), self.compare(cues)], 1)).relu()


class Reading(nn.Module, ABC):
    """Features of separated sources, and their embedding."""

    size: torch.Size
    """Shape of the features of one window."""
    width: int
    """Dimension of the embedding."""

    @abstractmethod
    def made(self, sources: Float[Tensor, "row source 2 time"]) -> Float[Tensor, "row *made"]:
        """Features of each window, computed without trainable weights."""

    def forward(self, made: Float[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        """Embedding of the features: by default the features themselves, flattened."""
        return made.flatten(1)

    def restored(self, made: Float[Tensor, "time *made"], samples: int) -> Float[Tensor, "time 2 sample"]:
        """Sound of consecutive windows, reconstructed from their features."""
        raise NotObservable("of the sources of --ears no sound can be made again: train with --separated cues")


class Cues(Reading):
    """Log-mel bands of each source at both ears, and sine, cosine and level of its interaural differences in each
    band (`features/ears.py`), embedded by three convolutions over time and a linear layer."""

    def __init__(self, sources: int, samples: int, width: int, rate: int, config: EarsConfig):
        super().__init__()
        self.ears = Ears(config, rate)
        rows, frames = self.ears.shape(samples)
        self.size, self.width = torch.Size([sources, rows, frames]), width
        self.convolve, made = convolutions(torch.zeros(1, sources * rows, frames), nn.Conv1d, 3, 2)
        self.join = nn.Linear(made, width)

    def made(self, sources: Float[Tensor, "row source 2 time"]) -> Float[Tensor, "row source cue frame"]:
        cues = self.ears(rearrange(sources, "row source ear time -> (row source) ear time"))
        return rearrange(cues, "(row source) cue frame -> row source cue frame", source=sources.shape[1])

    def forward(self, made: Float[Tensor, "row source cue frame"]) -> Float[Tensor, "row number"]:
        return self.join(self.convolve(made.flatten(1, 2))).relu()

    def restored(
        self, made: Float[Tensor, "time source cue frame"], samples: int
    ) -> Float[Tensor, "time 2 sample"]:
        return torch.stack([sounding(self.ears, one, samples) for one in made.unbind(1)]).sum(0)


class Sums(Reading):
    """Two numbers per source and bin of the spectrum, the means over the frames of a window of

        m φ / π    and    m Λ

    φ is the phase by which the left ear leads, from −π to π, Λ the level of the left ear above the right one, in
    units of 6 dB and clipped to ± 24 dB, both of the separated source; m is its share of the magnitudes of all
    sources in that bin and frame, over both ears: the mask itself where masks sum to 1."""

    def __init__(self, sources: int, samples: int, width: int, rate: int, config: EarsConfig):
        super().__init__()
        self.ears = Ears(replace(config, resolution="bin", loudness="none"), rate)
        self.size = torch.Size([sources, 2, self.ears.compared])
        self.width = self.size.numel()

    def made(self, sources: Float[Tensor, "row source 2 time"]) -> Float[Tensor, "row source 2 bin"]:
        return rearrange(shared(self.ears, sources)[:2].mean(3), "kind row source bin -> row source kind bin")


class Means(Reading):
    """OtoWorld's features, three numbers per source: the means over all frames and bins of

        m φ / π,    m Λ    and    |L| + |R|

    with φ, Λ and m as in `Sums`, and the magnitudes of the source at each ear in units of `LEVEL_UNIT`. OtoWorld
    takes a mask times the magnitudes of the mixture, which is the same where both ears share one mask."""

    def __init__(self, sources: int, samples: int, width: int, rate: int, config: EarsConfig):
        super().__init__()
        self.ears = Ears(replace(config, resolution="bin", loudness="none"), rate)
        self.size = torch.Size([sources, 3])
        self.width = self.size.numel()

    def made(self, sources: Float[Tensor, "row source 2 time"]) -> Float[Tensor, "row source 3"]:
        return rearrange(shared(self.ears, sources).mean((3, 4)), "kind row source -> row source kind")


def shared(ears: Ears, sources: Float[Tensor, "row source 2 time"]) -> Float[Tensor, "3 row source frame bin"]:
    """m φ / π and m Λ of each source in each bin, and |L| + |R| in units of `LEVEL_UNIT`."""
    planes = ears.planes(rearrange(sources, "row source ear time -> (row source) ear time"))
    sine, cosine = ears.phase(planes)
    # The gradient of atan2 at (0, 0) is not finite.
    angle = torch.atan2(sine, cosine.where((sine != 0) | (cosine != 0), 1.0))
    both = (planes[0] + planes[1] + ears.silence).sqrt()
    # Nor is that of the square root at 0.
    loud = (planes[:2] + ears.silence).sqrt().sum(0)
    unit = LEVEL_UNIT * ears.stft.window.sum() / 2
    each = rearrange(
        [both, angle / pi, ears.level(planes), loud / unit],
        "kind (row source) frame bin -> kind row source frame bin", source=sources.shape[1],
    )  # fmt: skip
    share = each[0] / each[0].sum(1, keepdim=True)
    return torch.cat([share * each[1:3], each[3:]])


class Loudness(Reading):
    """Loudness of each source at each ear: its mean square over the window in decibels re full scale, scaled so
    that −50 dB is 0 and −30 dB is 1."""

    def __init__(self, sources: int, samples: int, width: int, rate: int, config: EarsConfig):
        super().__init__()
        self.size = torch.Size([sources, 2])
        self.width = self.size.numel()

    def made(self, sources: Float[Tensor, "row source 2 time"]) -> Float[Tensor, "row source 2"]:
        decibels = 10 * sources.square().mean(3).clamp(min=QUIETEST).log10()
        return (decibels + 50) / 20


ReadingType = type[Cues] | type[Sums] | type[Means] | type[Loudness]
READINGS: dict[str, ReadingType] = {"cues": Cues, "sums": Sums, "means": Means, "loudness": Loudness}


class SeparatedEars(Perceived):
    """Features of the sources that a separator estimates from binaural sound."""

    carried: bool = False
    """Whether the separator's state is carried from window to window: the input then is features already, which
    are computed where the agent acts."""

    def __init__(
        self,
        space: spaces.Box,
        width: int,
        separation: Separation,
        trained: bool,
        reading: ReadingType,
        ears: EarsConfig,
    ):
        super().__init__()
        self.separation, self.trained, self.samples = separation, trained, space.shape[1]
        self.learner = separation.learner.eval().requires_grad_(trained)
        self.reading = reading(separation.separator.sources, self.samples, width, separation.rate, ears)
        self.width = self.reading.width

    def train(self, mode: bool = True) -> "SeparatedEars":
        """Keep the separator in evaluation mode, so that its sources are the same in acting and in learning."""
        super().train(mode)
        self.learner.eval()
        return self

    def separated(self, rows: Float[Tensor, "row 2 time"]) -> Float[Tensor, "row source 2 time"]:
        separator, sound = self.separation.separator, rearrange(rows, "row ear time -> row time ear")
        if not len(rows):
            return rows[:, None].expand(-1, separator.sources, -1, -1)
        if self.trained and torch.is_grad_enabled():
            # The recurrent kernels of cuDNN have no backward pass in evaluation mode.
            with torch.backends.cudnn.flags(enabled=False):
                apart = masking.with_gradient(separator, sound)
        else:
            apart = torch.cat([separator.separate(part) for part in sound.split(HEARD_AT_ONCE)])
        return rearrange(apart, "row time source ear -> row source ear time")

    @torch.no_grad()
    def read(self, rows: Float[Tensor, "row 2 time"]) -> Float[Tensor, "row *made"]:
        """Features of windows without a gradient; computed once per observation where the separator is frozen."""
        return self.reading.made(self.separated(rows))

    def prepared(self, rows: Shaped[Tensor, "row *observed"]) -> Shaped[Tensor, "row *made"]:
        rows = rows.float()
        return rows if self.trained or self.carried else self.read(rows)

    def forward(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        return self.reading(self.reading.made(self.separated(rows)) if self.trained else rows)

    def target(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        return (self.read(rows) if self.trained else rows).flatten(1)

    @property
    def target_width(self) -> int:
        return self.reading.size.numel()

    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        made = targets.unflatten(1, self.reading.size)
        return self.reading.restored(made, self.samples).cpu().numpy()
