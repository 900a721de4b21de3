"""Building blocks shared by several models."""

from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.features.contract import FrontEnd, FrontEndConfig, PictureFrontEnd
from sonarium.features.waveform import sounding
from sonarium.training.contract import Engine
from sonarium.worlds.contract import Signal


def perceptron(sizes: list[int], slope: float, final: bool = False) -> list[nn.Module]:
    """Linear layers with leaky ReLUs between them, and one at the end if `final`."""
    layers: list[nn.Module] = []
    for given, made in pairwise(sizes):
        layers += [nn.Linear(given, made), nn.LeakyReLU(slope)]
    return layers if final else layers[:-1]


def wide(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Cast to at least 32 bits: losses and statistics in 16 bits are off by tenths."""
    return values if values.dtype == torch.float64 else values.float()


def picture_front(config: FrontEndConfig, signal: Signal) -> PictureFrontEnd:
    """Front end for this signal; a ValueError unless its features are rows and frames of one channel."""
    front = config.build(signal)
    if not isinstance(front, PictureFrontEnd) or front.shape(signal.shape[0])[0] != 1:
        raise ValueError(
            f"an autoencoder needs features of rows and frames with one channel, and {type(front).__name__} gives "
            "others: choose a spectrogram or pixels"
        )
    return front


def own_frames(
    front: FrontEnd, lengths: Int[Tensor, " clip"] | None, frames: int
) -> Bool[Tensor, "clip 1 1 frame"] | None:
    """Mask of the frames of each clip without padding; None where nothing is padded, as for pictures."""
    counts = None if lengths is None else front.frames(lengths)
    return None if counts is None else rearrange(sounding(frames, counts), "clip frame -> clip 1 1 frame")


def mean_squared_error(
    made: Float[Tensor, "clip channel row frame"],
    features: Float[Tensor, "clip channel row frame"],
    own: Bool[Tensor, "clip 1 1 frame"] | None,
    engine: Engine,
) -> Float[Tensor, ""]:
    """Mean squared error over unpadded frames; its mean over ranks is that of the global batch."""
    if own is None:
        return functional.mse_loss(made, features)
    squares = (made - features).square().where(own, 0)
    # Clips differ in length, so the number of bins of the global batch is only known over all ranks.
    return squares.sum() / engine.mean(own.expand_as(squares).sum().to(squares.dtype))


def over_ranks(norm: nn.BatchNorm1d, engine: Engine, rows: Float[Tensor, "row made"]) -> Float[Tensor, "row made"]:
    """Batch normalisation with statistics over the rows of all ranks, which also update the running averages."""
    values = wide(rows)
    # Ranks may differ in their number of frames, so sums and counts are averaged, not means.
    number = engine.mean(torch.tensor(float(len(rows)), dtype=values.dtype, device=rows.device))
    mean = engine.mean(values.sum(0)) / number
    centred = values - mean
    variance = engine.mean(centred.square().sum(0)) / number
    if norm.track_running_stats:
        assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
        assert norm.num_batches_tracked is not None
        every = engine.ranks * number
        with torch.no_grad():
            norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
            norm.running_var.lerp_((variance * every / (every - 1)).to(norm.running_var), norm.momentum)
            norm.num_batches_tracked += 1
    return (centred * (variance + norm.eps).rsqrt() * norm.weight + norm.bias).to(rows.dtype)
