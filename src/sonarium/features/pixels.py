"""The front end of pictures: it adds the channel and leaves the pixels as they are."""

from collections.abc import Iterable
from dataclasses import dataclass

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class PixelsConfig:
    """Pictures are taken as they come, so there is nothing to set."""


class Pixels(nn.Module):
    """Pictures of `rows` by `columns`, with an axis for their one channel."""

    def __init__(self, config: PixelsConfig, rows: int, columns: int):
        super().__init__()
        self.config = config
        self.rows, self.columns = rows, columns

    def forward(self, picture: Float[Tensor, "clip row column"]) -> Float[Tensor, "clip 1 row column"]:
        if picture.ndim != 3 or picture.shape[1:] != (self.rows, self.columns):
            raise ValueError(
                f"pictures of shape {tuple(picture.shape)} came where (clip, {self.rows}, {self.columns}) was "
                "expected: give a batch of pictures of the size that this front end was made for"
            )
        return rearrange(picture, "clip row column -> clip 1 row column")

    def fit(self, pictures: Iterable[Tensor], lengths: Iterable[None] = ()) -> None:
        """Pixels need no statistics; the method is here so that every front end can be fitted alike."""

    def shape(self) -> tuple[int, int, int]:
        """Channel, rows and columns of what `forward` gives for one picture."""
        return 1, self.rows, self.columns
