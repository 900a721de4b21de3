"""Codes of clips and of their frames as plain rows: pooling over frames, removal of clip means, checks.

Frames of clips of unequal length are stacked, each with the index of its clip, so that padding never reaches a
measure.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor


def flattened(
    codes: Float[np.ndarray, "clip frame code"], counts: Int[np.ndarray, " clip"]
) -> tuple[Float[np.ndarray, "row code"], Int[np.ndarray, " row"]]:
    """Frames without padding, stacked, and the clip index of each."""
    if counts.min() < 0 or counts.max() > codes.shape[1]:
        raise ValueError(
            f"got counts from {counts.min()} to {counts.max()} for clips of up to {codes.shape[1]} frames: "
            "give the number of each clip's own frames"
        )
    own = np.arange(codes.shape[1]) < counts[:, None]
    return codes[own], np.nonzero(own)[0]


def clip_means(
    codes: Float[np.ndarray, "row code"], clips: Int[np.ndarray, " row"]
) -> tuple[Float[np.ndarray, "clip code"], Int[np.ndarray, " clip"]]:
    """Mean frame of each clip, and the sorted clip indices."""
    numbers, place = np.unique(clips, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(numbers)))
    sums = np.add.reduceat(codes[order].astype(np.float64), starts, axis=0)
    return sums / np.bincount(place)[:, None], numbers


def without_clip_mean(
    codes: Float[np.ndarray, "row code"], clips: Int[np.ndarray, " row"]
) -> Float[np.ndarray, "row code"]:
    """Frames minus the mean of their clip, which removes information on the channel of a recording."""
    means, numbers = clip_means(codes, clips)
    return codes - means[np.searchsorted(numbers, clips)]


def rows_of(
    codes: Float[np.ndarray, "clip frame code"],
    counts: Int[np.ndarray, " clip"],
    level: Literal["frame", "clip"],
    pooling: Literal["mean", "thirds"] = "mean",
    remove_mean: bool = False,
) -> tuple[Float[np.ndarray, "row feature"], Int[np.ndarray, " row"]]:
    """Rows of a probe, one per frame or per clip, and the clip index of each.

    A clip's row is its mean frame, or the means of its three thirds and the standard deviation of all frames.
    With `remove_mean` each clip's mean is subtracted from its frames first.
    """
    if level == "clip" and pooling == "mean" and remove_mean:
        raise ValueError("a clip's mean frame less the clip's mean is zero: pool by 'thirds', or keep the mean")
    if level not in ("frame", "clip") or pooling not in ("mean", "thirds"):
        raise ValueError(f"got level={level!r}, pooling={pooling!r}: give 'frame' or 'clip', 'mean' or 'thirds'")
    frames, clips = flattened(codes, counts)
    if remove_mean:
        frames = without_clip_mean(frames, clips)
    if level == "frame":
        return frames, clips
    if pooling == "mean":
        return clip_means(frames, clips)
    kept = np.flatnonzero(counts)
    padded = np.zeros((len(codes), *codes.shape[1:]))
    padded[np.arange(codes.shape[1]) < counts[:, None]] = frames
    pooled = thirds_and_deviation(torch.from_numpy(padded[kept]), torch.from_numpy(counts[kept]))
    return pooled.numpy(), kept


def thirds_and_deviation(
    frames: Float[Tensor, "clip frame code"], counts: Int[Tensor, " clip"]
) -> Float[Tensor, "clip statistic"]:
    """Mean of each code in the first, second and last third of a clip, then its overall standard deviation.

    Frames that straddle the boundary of two thirds belong to both.
    """
    place = torch.arange(frames.shape[1], device=frames.device)
    part = torch.arange(3, device=frames.device)[:, None]
    n = counts[:, None, None]
    inside = (place >= torch.div(part * n, 3, rounding_mode="floor")) & (
        place < -torch.div(-(part + 1) * n, 3, rounding_mode="floor")
    )
    weight = inside.to(frames.dtype)
    means = (weight @ frames) / weight.sum(-1, keepdim=True)
    own = (place < counts[:, None])[..., None]
    number = counts[:, None].to(frames.dtype)
    mean = frames.where(own, 0).sum(1) / number
    spread = ((frames - mean[:, None]).where(own, 0).square().sum(1) / number).sqrt()
    return torch.cat([rearrange(means, "clip third code -> clip (third code)"), spread], 1)


def checked_codes(codes: np.ndarray, columns: Mapping[str, np.ndarray | None]) -> Float[np.ndarray, "row code"]:
    """Codes in double precision; raises ValueError if they are not finite rows, or a column has another length."""
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(f"codes have shape {codes.shape}: rows by codes are expected, at least one of each")
    bad = ~np.isfinite(codes).all(axis=1)
    if bad.any():
        raise ValueError(
            f"codes hold values that are not finite in {bad.sum()} row(s), the first at row {bad.argmax()}: "
            "fix the encoder or leave these rows out"
        )
    for name, column in columns.items():
        if column is not None and np.shape(column) != (len(codes),):
            raise ValueError(f"{name} has shape {np.shape(column)} for {len(codes)} rows of codes: give one a row")
    return codes.astype(np.float64)
