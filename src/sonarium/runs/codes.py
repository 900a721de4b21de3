"""The codes of a run as a world: all clips of its world encoded, with their factors, segments and tracks."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.evaluation.extraction import CLIPS, SAMPLES, of_learner
from sonarium.models.contract import Encoder, Learner
from sonarium.models.framing import in_frames
from sonarium.training.contract import Progress
from sonarium.worlds.codes import Encoded, gather
from sonarium.worlds.contract import Batch, World


def encode_clips(learner: Learner, world: World, progress: Progress) -> Encoded:
    """The codes of all clips of a world."""
    everything = torch.arange(len(world))
    return gather(world, codes_of(learner, world, everything, progress), *frame_times(learner, world))


def frame_times(learner: Learner, world: World) -> tuple[float, float]:
    """Frame rate of the codes in Hz, and time of the middle of the first frame in seconds; the single code of a
    picture counts as one second."""
    if not world.signal.steps_per_second:
        return 1.0, 0.5
    encoder = in_frames(learner, world.signal)
    return encoder.code_rate, encoder.code_first


@torch.no_grad()
def codes_of(
    learner: Learner, world: World, index: Int[Tensor, " clip"], progress: Progress
) -> Iterator[tuple[Batch, Float[Tensor, "_clip _frame _code"], Int[Tensor, " _clip"]]]:
    """Whole clips in order, in batches: each batch, its codes, and the number of frames of each clip."""
    done = 0
    for block in blocks(world.lengths(index)):
        clips = index[block]
        batch = world.whole(clips)
        if world.signal.steps_per_second:
            extractor = of_learner(in_frames(learner, world.signal), world.signal, torch.device("cpu"))
            lengths = world.lengths(clips)
            yield batch, extractor.encode(batch.signal, lengths), extractor.code_lengths(lengths)
        else:
            assert isinstance(learner, Encoder), type(learner)
            yield batch, learner.encode(batch.signal), torch.ones(len(clips), dtype=torch.int64)
        done += len(clips)
        progress("encoding", done, len(index))


def blocks(lengths: Int[Tensor, " clip"]) -> Iterator[slice]:
    """Slices of consecutive clips to encode as batches, bounded in clips and in samples with padding."""
    start, longest = 0, 0
    for at, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        if at > start and (at - start == CLIPS or (at + 1 - start) * longest > SAMPLES):
            yield slice(start, at)
            start, longest = at, length
    if len(lengths):
        yield slice(start, len(lengths))
