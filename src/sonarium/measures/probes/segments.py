"""Conversion of segments in seconds to frames: the frames of each segment, and the label of each frame.

Frame `k` of a clip is at the time `first + k / rate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

Marks = Sequence[tuple[float, float, str]]
"""Segments of one clip: onset and offset in seconds, and label."""

SLACK = 3
"""Number of frames that an encoder may lack at a clip's end; a segment there gets the last frame."""


@dataclass(frozen=True)
class Segments:
    """Segments, numbered from 0 in the order of the clips and of their marks."""

    codes: Float[np.ndarray, "row code"]
    """The frames of all segments, stacked."""
    item: Int[np.ndarray, " row"]
    """Index of the segment of each frame."""
    label: Shaped[np.ndarray, " item"]
    clip: Int[np.ndarray, " item"]


def frames_of_segments(
    codes: Float[np.ndarray, "clip frame code"],
    counts: Int[np.ndarray, " clip"],
    marks: Sequence[Marks],
    rate: float,
    first: float = 0.0,
) -> Segments:
    """Extract the frames of each segment; one that falls between two frames gets the nearest."""
    check_marks(len(codes), counts, marks, rate, first)
    rows, items, labels, clips = [], [], [], []
    for clip, (own, count) in enumerate(zip(marks, counts.tolist(), strict=True)):
        for start, end, label in own:
            begin, stop = span(start, end, rate, first, count)
            rows.append(codes[clip, begin:stop])
            items.append(np.full(stop - begin, len(labels)))
            labels.append(label)
            clips.append(clip)
    if not labels:
        raise ValueError("no clip has a segment: give the marks of at least one")
    return Segments(np.concatenate(rows), np.concatenate(items), np.array(labels), np.array(clips))


def labels_of_frames(
    counts: Int[np.ndarray, " clip"], marks: Sequence[Marks], rate: float, first: float = 0.0, unmarked: str = ""
) -> Shaped[np.ndarray, " row"]:
    """Label of each frame of all clips, stacked; where segments overlap, the later one's."""
    check_marks(len(counts), counts, marks, rate, first)
    labels = []
    for own, count in zip(marks, counts.tolist(), strict=True):
        of_clip = np.full(count, unmarked, dtype=object)
        for start, end, label in own:
            of_clip[slice(*span(start, end, rate, first, count))] = label
        labels.append(of_clip)
    return np.concatenate(labels).astype(str)


def span(start: float, end: float, rate: float, first: float, count: int) -> tuple[int, int]:
    """Range of frames from `start` up to `end` in seconds, at least one, of a clip with `count` frames."""
    # A mark on a frame belongs to it, regardless of rounding of the product.
    begin, stop = (int(np.ceil(round((time - first) * rate, 6))) for time in (start, end))
    begin, stop = max(0, begin), min(stop, count)
    if stop > begin:
        return begin, stop
    middle = round(((start + end) / 2 - first) * rate)
    nearest = min(max(0, middle), count - 1)
    return nearest, nearest + 1


def check_marks(clips: int, counts: np.ndarray, marks: Sequence[Marks], rate: float, first: float) -> None:
    """Raise ValueError for impossible marks, and for marks of clips without a frame."""
    if not len(marks) == clips == len(counts):
        raise ValueError(
            f"got marks of {len(marks)} clips and {len(counts)} counts for {clips} clips: give one each"
        )
    if not rate > 0:
        raise ValueError(f"got rate={rate}: give the frames a second")
    for clip, own in enumerate(marks):
        for start, end, label in own:
            if not 0 <= start < end < np.inf:
                raise ValueError(
                    f"'{label}' of clip {clip} is marked from {start} to {end}: give 0 <= start < end"
                )
            if counts[clip] and (start - first) * rate > counts[clip] + SLACK:
                raise ValueError(
                    f"'{label}' of clip {clip} begins at {start} s, but its {counts[clip]} frames end before: "
                    "give marks in seconds, and the rate of the frames"
                )
            if not counts[clip]:
                raise ValueError(f"clip {clip} has no frames, but marks: leave it out")
