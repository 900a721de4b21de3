"""What is heard of clips, as rows for measures: codes of a learner, and the plain features that it must beat.

Clips of unlike lengths are heard together with those nearly as long; one that is too long to be heard at once goes
through in windows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from sonarium.evaluation.config import JudgingConfig
from sonarium.features.classical import LogMel, LogMelConfig, Mfcc, MfccConfig
from sonarium.measures.probes.frames import rows_of
from sonarium.measures.probes.segments import Marks, frames_of_segments, labels_of_frames
from sonarium.models.contract import FrameEncoder
from sonarium.models.framing import AROUND, WINDOW, coded
from sonarium.worlds.contract import World

SAMPLES = 1 << 22
"""Samples, with padding, that are heard at once."""
CLIPS = 64
"""Clips that are heard at once."""


@dataclass(frozen=True)
class Ear:
    """One way to hear: frames of codes."""

    encode: Callable[[Tensor, Tensor], Float[Tensor, "clip frame code"]]
    code_lengths: Callable[[Tensor], Tensor]
    rate: float
    """Frames a second."""
    first: float
    """Seconds to the middle of the first frame."""
    device: torch.device


def ears(learner: FrameEncoder, untrained: FrameEncoder, rate: int, device: str) -> dict[str, Ear]:
    """The learner, and what it is to be compared with: log-mel frames, cepstra, and the same network untrained."""
    where = torch.device(device)
    mel, mfcc = LogMel(LogMelConfig(), rate).to(where), Mfcc(MfccConfig(), rate).to(where)
    plain = {
        name: Ear(features, features.code_lengths, features.code_rate, 0.0, where)
        for name, features in (("log_mel", mel), ("mfcc", mfcc))
    }
    return {"scores": listening(learner, rate, where), **plain, "random": listening(untrained, rate, where)}


def listening(encoder: FrameEncoder, rate: int, device: torch.device) -> Ear:
    def encode(wave: Tensor, lengths: Tensor) -> Tensor:
        if len(wave) > 1 or wave.shape[1] <= (WINDOW + 2 * AROUND) * rate:
            return encoder.encode(wave, lengths)
        sound = wave[0, : int(lengths[0])]
        return torch.cat(list(coded(encoder, [sound], len(sound), float(sound.square().mean()), rate, device)))[
            None
        ]

    return Ear(encode, encoder.code_lengths, encoder.code_rate, encoder.code_first, device)


@dataclass(frozen=True)
class Heard:
    """What one ear heard of clips, in the order in which they were asked for."""

    pooled: Float[np.ndarray, "clip feature"]
    """What a probe of clips is given."""
    whole: Float[np.ndarray, "clip code"]
    """What clips are compared by."""
    frames: Float[np.ndarray, "frame value"]
    """Some frames of all clips."""
    clip: Int[np.ndarray, " frame"]
    """The clip of each of these frames."""
    mark: Shaped[np.ndarray, " frame"]
    """What is marked there; empty where nothing is."""


def batched(lengths: Int[np.ndarray, " clip"]) -> Iterator[Int[np.ndarray, " member"]]:
    """Clips that are heard together, the shortest first."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    for at in range(1, len(order) + 1):
        full = at == len(order) or at - start == CLIPS or (at + 1 - start) * lengths[order[at]] > SAMPLES
        if full:
            yield order[start:at]
            start = at


@torch.no_grad()
def codes_of_clips(
    ear: Ear, world: World, index: Int[Tensor, " clip"], lengths: Int[np.ndarray, " clip"]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Which clips, their frames, and how many each has."""
    for members in batched(lengths):
        batch = world.whole(index[torch.from_numpy(members)], ear.device)
        own = torch.from_numpy(lengths[members]).to(ear.device)
        codes = ear.encode(batch.signal, own).float().cpu().numpy()
        yield members, codes, ear.code_lengths(own).cpu().numpy()


def hear(
    ear: Ear,
    world: World,
    index: Int[Tensor, " clip"],
    lengths: Int[np.ndarray, " clip"],
    marks: Sequence[Marks],
    config: JudgingConfig,
    gap: float | None,
) -> Heard:
    """Every clip once, and single frames that are at least so many seconds apart, if any are asked for."""
    pooled, whole, parts = {}, {}, []
    for members, codes, counts in codes_of_clips(ear, world, index, lengths):
        rows, _ = rows_of(codes, counts, "clip", config.pooling, config.remove_mean)
        plain = rows if config.remove_mean else rows_of(codes, counts, "clip")[0]
        pooled |= dict(zip(members.tolist(), rows, strict=True))
        whole |= dict(zip(members.tolist(), plain, strict=True))
        if gap is not None:
            stride = max(1, round(gap * ear.rate))
            frames, clip = rows_of(codes, counts, "frame", remove_mean=config.remove_mean)
            mark = labels_of_frames(counts, [marks[one] for one in members], ear.rate, ear.first)
            place = np.arange(len(frames)) - np.searchsorted(clip, clip)
            # From a place of its own in each clip: frames of the same places would tell how clips begin and end.
            phase = np.array([np.random.default_rng([stride, int(one)]).integers(stride) for one in members])
            taken = place % stride == phase[clip]
            parts.append((frames[taken].astype(np.float32), members[clip[taken]], mark[taken]))
    empty = (np.zeros((0, 1), np.float32), np.zeros(0, int), np.zeros(0, str))
    frames, clip, mark = (np.concatenate(column) for column in zip(*(parts or [empty]), strict=True))
    ordered = [[of[one] for one in range(len(lengths))] for of in (pooled, whole)]
    return Heard(np.array(ordered[0]), np.array(ordered[1]), frames, clip, mark)


def hear_segments(
    ear: Ear, world: World, index: Int[Tensor, " clip"], lengths: Int[np.ndarray, " clip"], marks: Sequence[Marks]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames of all marked pieces, the piece of each frame, and the label and the clip of each piece."""
    found, pieces = [], 0
    for members, codes, counts in codes_of_clips(ear, world, index, lengths):
        own = [marks[one] if count else [] for one, count in zip(members, counts, strict=True)]
        if any(own):
            part = frames_of_segments(codes, counts, own, ear.rate, ear.first)
            found.append((part.codes, part.item + pieces, part.label, members[part.clip]))
            pieces += len(part.label)
    codes, item, label, clip = (np.concatenate(column) for column in zip(*found, strict=True))
    return codes, item, label, clip
