"""The front end of pictures: adds the channel axis and leaves the pixels as they are."""

from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from sonarium.features.contract import Axes, FrontEndConfig, FrontEndEntry, PictureFrontEnd
from sonarium.worlds.contract import Signal


@dataclass(frozen=True)
class PixelsConfig(FrontEndConfig):
    """No settings: pixels are passed on unchanged."""

    def build(self, signal: Signal) -> "Pixels":
        if signal.kind != "picture":
            raise ValueError(
                f"the pixel front end takes pictures, but these signals are of the kind {signal.kind}: "
                "choose a spectrogram front end"
            )
        return Pixels(self, *signal.shape)


class Pixels(PictureFrontEnd):
    """Pictures of `rows` by `columns`, with a channel axis of size 1."""

    def __init__(self, config: PixelsConfig, rows: int, columns: int):
        super().__init__()
        self.config = config
        self.rows, self.columns = rows, columns

    def forward(self, signal: Float[Tensor, "clip row column"]) -> Float[Tensor, "clip 1 row column"]:
        if signal.ndim != 3 or signal.shape[1:] != (self.rows, self.columns):
            raise ValueError(
                f"got pictures of shape {tuple(signal.shape)}, expected (clip, {self.rows}, {self.columns}): "
                "give a batch of pictures of the size that this front end was made for"
            )
        return rearrange(signal, "clip row column -> clip 1 row column")

    def shape(self, samples: int) -> tuple[int, int, int]:
        """Channels, rows and columns of the features of a picture of this many rows."""
        if samples != self.rows:
            raise ValueError(
                f"got pictures of {samples} rows, expected {self.rows}: give pictures of the size that this front "
                "end was made for"
            )
        return 1, self.rows, self.columns

    @property
    def axes(self) -> Axes:
        return Axes(0.0, 1.0, "brightness")

    def drawn(self, features: Float[Tensor, "clip 1 row column"]) -> Float[np.ndarray, "clip drawn_row column"]:
        return rearrange(features, "clip 1 row column -> clip row column").float().cpu().numpy()


PIXELS = FrontEndEntry("pixels as they are", PixelsConfig, ("picture",))
