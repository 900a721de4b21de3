"""The codes of a run as a world: with the lengths, groups, marks and tracks of the clips that were encoded."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.evaluation.extraction import encoded, of_learner
from sonarium.models.contract import Encoder, Learner
from sonarium.models.framing import in_frames
from sonarium.training.contract import Progress
from sonarium.worlds.codes import Encoded
from sonarium.worlds.contract import Batch, World

BLOCK = 64
"""Clips that are read, and pictures that are encoded, at a time."""


def encode_clips(learner: Learner, world: World, source: str, progress: Progress) -> Encoded:
    """The codes of all clips of a world, and what is known of the clips."""
    everything = torch.arange(len(world))
    codes = list(frames_of_clips(learner, world, everything, progress))
    rate, lengths = frame_rate(learner, world), torch.tensor([len(one) for one in codes])
    values, tracks = known_of(world, everything, lengths, rate, first_frame(learner, world))
    return Encoded(
        codes=torch.cat(codes),
        lengths=lengths,
        frame_rate=rate,
        factors=world.factors,
        values=values,
        groups=world.group(everything),
        group_names=world.group_names(),
        group_kind=world.group_kind,
        recordings=world.recording(everything),
        identities=tuple(world.identity(everything)),
        paths=tuple(world.path(clip) for clip in range(len(world))),
        marks=tuple(world.marks(everything)),
        tracks=world.tracks,
        track_values=tracks,
        planted=world.planted,
        source=source,
    )


def frame_rate(learner: Learner, world: World) -> float:
    """Frames of codes a second; the one code of a picture counts as a second."""
    return in_frames(learner, world.signal).code_rate if world.signal.steps_per_second else 1.0


def first_frame(learner: Learner, world: World) -> float:
    """Seconds to the middle of the first frame."""
    return in_frames(learner, world.signal).code_first if world.signal.steps_per_second else 0.0


@torch.no_grad()
def frames_of_clips(
    learner: Learner, world: World, index: Int[Tensor, " clip"], progress: Progress
) -> Iterator[Float[Tensor, "_frame _code"]]:
    """The codes of each clip in its order."""
    if not world.signal.steps_per_second:
        assert isinstance(learner, Encoder), type(learner)
        for done in range(0, len(index), BLOCK):
            yield from learner.encode(world.whole(index[done : done + BLOCK]).signal)
            progress("encoding", min(done + BLOCK, len(index)), len(index))
        return
    extractor = of_learner(in_frames(learner, world.signal), world.signal, torch.device("cpu"))
    found: dict[int, Tensor] = {}
    for some in encoded(extractor, world, index, world.lengths(index).numpy()):
        for clip, codes, count in zip(some.members.tolist(), some.codes, some.counts.tolist(), strict=True):
            found[clip] = torch.from_numpy(codes[:count].copy())
        progress("encoding", len(found), len(index))
    yield from (found[clip] for clip in range(len(index)))


def known_of(
    world: World, index: Int[Tensor, " clip"], lengths: Int[Tensor, " clip"], rate: float, first: float
) -> tuple[Float[Tensor, "clip factor"], Float[Tensor, "frame track"] | None]:
    """The factors of clips, and their tracks at the frames of their codes."""
    values, tracks = [], []
    for block in index.split(BLOCK):
        batch = world.whole(block)
        values.append(batch.factors)
        if world.tracks:
            own = world.frames_of(world.lengths(block))
            tracks += resampled(batch, own, lengths[block], world.track_rate, rate, first)
    return torch.cat(values), torch.cat(tracks) if tracks else None


def resampled(
    batch: Batch, own: Tensor, frames: Tensor, track_rate: float, rate: float, first: float
) -> list[Tensor]:
    """The track frame nearest to the middle of each frame of codes."""
    assert batch.tracks is not None
    made = []
    for track, count, length in zip(batch.tracks, own.tolist(), frames.tolist(), strict=True):
        times = first + np.arange(length) / rate
        nearest = np.clip((times * track_rate).astype(np.int64), 0, max(count - 1, 0))
        made.append(track[torch.from_numpy(nearest)])
    return made
