"""Codes of clips as rows for measures: of a learner, and of the plain features that it is compared with.

Clips are batched with others of similar length; a recording too long to be encoded at once is encoded in windows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from sonarium.evaluation.config import EvaluationConfig
from sonarium.features.classical import LogMel, LogMelConfig, Mfcc, MfccConfig
from sonarium.measures.probes.frames import rows_of
from sonarium.measures.probes.segments import Marks, frames_of_segments, labels_of_frames
from sonarium.models.contract import Forecaster, FrameEncoder
from sonarium.models.framing import AROUND, WINDOW, Derived, coded
from sonarium.worlds.contract import Signal, World

SAMPLES = 1 << 22
"""Maximum number of samples per batch, including padding."""
CLIPS = 64
"""Maximum number of clips per batch."""


@dataclass(frozen=True)
class Extractor:
    """Maps padded clips and their lengths to frames of codes."""

    encode: Callable[[Tensor, Tensor], Float[Tensor, "clip frame code"]]
    code_lengths: Callable[[Tensor], Tensor]
    rate: float
    """Frames per second."""
    first: float
    """Seconds to the middle of the first frame."""
    device: torch.device
    setting: str = ""
    """Name of the setting, for a control with several."""


PART = "part_"
"""Prefix of the names of the parts of a forecaster's state, which are probed separately."""


def extractors(
    learner: FrameEncoder, untrained: FrameEncoder | None, signal: Signal, device: str, parts: bool = False
) -> dict[str, list[Extractor]]:
    """The learner, its controls that need no training, and the untrained network if there is one.

    The controls of a waveform are log-mel frames and cepstra, with the levels of clips equalised or kept, since a
    learner may normalise clips before its first layer. The control of codes is the codes themselves.
    """
    where = torch.device(device)
    rate = signal.steps_per_second
    assert rate is not None, signal
    found = {"scores": [of_learner(learner, signal, where)]}
    if signal.kind == "codes":
        whole = Extractor(lambda codes, _: codes, lambda lengths: lengths, rate, signal.frame_first, where)
        found |= {"input": [whole]}
    else:
        found |= {"log_mel": [], "mfcc": []}
        for equal in (True, False):
            mel = LogMelConfig(equal_levels=equal)
            plain = {"log_mel": LogMel(mel, round(rate)), "mfcc": Mfcc(MfccConfig(mel), round(rate))}
            for name, features in plain.items():
                features.to(where)
                setting = "equal levels" if equal else "levels kept"
                lengths, code_rate = features.code_lengths, features.code_rate
                found[name].append(Extractor(features, lengths, code_rate, 0.0, where, setting))
    if parts and isinstance(learner, Forecaster):
        for name in learner.part_names:
            part = Derived(learner, partial(learner.encode_part, part=name))
            found[f"{PART}{name}"] = [of_learner(part, signal, where)]
    return found if untrained is None else found | {"random": [of_learner(untrained, signal, where)]}


def of_learner(encoder: FrameEncoder, signal: Signal, device: torch.device) -> Extractor:
    """Extractor of a learner's codes; a long waveform alone in its batch is encoded in windows."""
    rate = signal.rate

    def encode(batch: Tensor, lengths: Tensor) -> Tensor:
        if rate is None or len(batch) > 1 or batch.shape[1] <= (WINDOW + 2 * AROUND) * rate:
            return encoder.encode(batch, lengths)
        sound = batch[0, : int(lengths[0])]
        return torch.cat(list(coded(encoder, [sound], len(sound), float(sound.square().mean()), rate, device)))[
            None
        ]

    return Extractor(encode, encoder.code_lengths, encoder.code_rate, encoder.code_first, device)


@dataclass(frozen=True)
class Extracted:
    """Codes of clips by one extractor, in the order of the requested clips."""

    pooled: Float[np.ndarray, "clip feature"]
    """Pooled codes, the rows of clip probes."""
    means: Float[np.ndarray, "clip code"]
    """Mean codes, for comparing clips."""
    frames: Float[np.ndarray, "frame value"]
    """Subsampled frames of all clips."""
    clip: Int[np.ndarray, " frame"]
    """The clip of each of these frames."""
    mark: Shaped[np.ndarray, " frame"]
    """The label of the segment at each frame; empty where there is none."""
    tracks: Float[np.ndarray, "frame track"]
    """The frame-wise factors at each frame."""
    segments: "Pooled"
    """Marked segments, if there are tasks of segments."""


@dataclass(frozen=True)
class Pooled:
    """Pooled segments, the rows of segment probes."""

    rows: Float[np.ndarray, "segment feature"]
    label: Shaped[np.ndarray, " segment"]
    clip: Int[np.ndarray, " segment"]


NO_SEGMENTS = Pooled(np.zeros((0, 1)), np.zeros(0, str), np.zeros(0, int))


def batched(lengths: Int[np.ndarray, " clip"]) -> Iterator[Int[np.ndarray, " member"]]:
    """Batches of clips of similar length, the shortest first."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    for at in range(1, len(order) + 1):
        full = at == len(order) or at - start == CLIPS or (at + 1 - start) * lengths[order[at]] > SAMPLES
        if full:
            yield order[start:at]
            start = at


@dataclass(frozen=True)
class Encoded:
    """One batch: indices of its clips, their frames, the number of frames of each, and their frame-wise
    factors."""

    members: Int[np.ndarray, " member"]
    codes: Float[np.ndarray, "member frame code"]
    counts: Int[np.ndarray, " member"]
    tracks: Float[np.ndarray, "member track_frame track"] | None
    track_counts: Int[np.ndarray, " member"] | None


@torch.no_grad()
def encoded(
    extractor: Extractor, world: World, index: Int[Tensor, " clip"], lengths: Int[np.ndarray, " clip"]
) -> Iterator[Encoded]:
    """Encode all clips, batch by batch."""
    for members in batched(lengths):
        batch = world.whole(index[torch.from_numpy(members)], extractor.device)
        own = torch.from_numpy(lengths[members]).to(extractor.device)
        codes = extractor.encode(batch.signal, own).float().cpu().numpy()
        tracks = track_counts = None
        if batch.tracks is not None:
            tracks, track_counts = batch.tracks.cpu().numpy(), world.frames_of(own.cpu()).numpy()
        yield Encoded(members, codes, extractor.code_lengths(own).cpu().numpy(), tracks, track_counts)


def extract(
    extractor: Extractor,
    world: World,
    index: Int[Tensor, " clip"],
    lengths: Int[np.ndarray, " clip"],
    marks: Sequence[Marks],
    config: EvaluationConfig,
    gap: float | None,
    segments: bool = False,
) -> Extracted:
    """Encode every clip once; single frames about `gap` seconds apart, unless it is None; and all marked segments,
    if `segments`."""
    pooled, means, parts, cut = {}, {}, [], []
    for some in encoded(extractor, world, index, lengths):
        rows, _ = rows_of(some.codes, some.counts, "clip", config.pooling, config.remove_mean)
        plain = rows if config.remove_mean else rows_of(some.codes, some.counts, "clip")[0]
        pooled |= dict(zip(some.members.tolist(), rows, strict=True))
        means |= dict(zip(some.members.tolist(), plain, strict=True))
        if gap is not None:
            parts.append(frames_apart(extractor, some, marks, config, gap, world))
        if segments:
            cut.append(pooled_segments(extractor, some, marks, config))
    empty = (
        np.zeros((0, 1), np.float32), np.zeros(0, int), np.zeros(0, str), np.zeros((0, len(world.tracks))),
    )  # fmt: skip
    frames, clip, mark, tracks = (np.concatenate(column) for column in zip(*(parts or [empty]), strict=True))
    ordered = [[of[one] for one in range(len(lengths))] for of in (pooled, means)]
    columns = ([getattr(part, name) for part in cut] for name in ("rows", "label", "clip"))
    joined = Pooled(*map(np.concatenate, columns)) if cut else NO_SEGMENTS
    return Extracted(np.array(ordered[0]), np.array(ordered[1]), frames, clip, mark, tracks, joined)


def pooled_segments(
    extractor: Extractor, some: Encoded, marks: Sequence[Marks], config: EvaluationConfig
) -> Pooled:
    """Frames of each marked segment, pooled like those of a clip."""
    own = [marks[one] if count else [] for one, count in zip(some.members, some.counts, strict=True)]
    if not any(own):
        return Pooled(np.zeros((0, row_width(some.codes.shape[2], config))), np.zeros(0, str), np.zeros(0, int))
    codes = some.codes.astype(np.float64)
    if config.remove_mean:
        inside = np.arange(codes.shape[1]) < some.counts[:, None]
        totals = codes.sum(axis=1, where=inside[..., None], keepdims=True)
        codes = codes - totals / np.maximum(some.counts, 1)[:, None, None]
    found = frames_of_segments(codes, some.counts, own, extractor.rate, extractor.first)
    counts = np.bincount(found.item, minlength=len(found.label))
    padded = np.zeros((len(counts), counts.max(), codes.shape[2]))
    padded[np.arange(counts.max()) < counts[:, None]] = found.codes
    rows, _ = rows_of(padded, counts, "clip", config.pooling)
    return Pooled(rows, found.label, some.members[found.clip])


def row_width(codes: int, config: EvaluationConfig) -> int:
    """Dimensions of a pooled row."""
    return codes * (4 if config.pooling == "thirds" else 1)


def frames_apart(
    extractor: Extractor,
    some: Encoded,
    marks: Sequence[Marks],
    config: EvaluationConfig,
    gap: float,
    world: World,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames about `gap` seconds apart: their codes, clips, marks and tracks."""
    stride = max(1, round(gap * extractor.rate))
    frames, clip = rows_of(some.codes, some.counts, "frame", remove_mean=config.remove_mean)
    mark = labels_of_frames(some.counts, [marks[one] for one in some.members], extractor.rate, extractor.first)
    place = np.arange(len(frames)) - np.searchsorted(clip, clip)
    # Random phase per clip: frames at fixed positions would reveal how clips begin and end.
    phase = np.array([np.random.default_rng([stride, int(one)]).integers(stride) for one in some.members])
    taken = place % stride == phase[clip]
    tracks = np.zeros((int(taken.sum()), len(world.tracks)))
    if some.tracks is not None and some.track_counts is not None:
        # Of codes, the tracks have a value for each code, wherever its middle is.
        begins = world.signal.frame_first - 0.5 / world.track_rate if world.signal.kind == "codes" else 0.0
        seconds = extractor.first - begins + place[taken] / extractor.rate
        # Rounding keeps a time on the edge of a track's frame in that frame.
        at = np.floor(np.round(seconds * world.track_rate, 6)).astype(int)
        last = np.maximum(some.track_counts[clip[taken]] - 1, 0)
        tracks = some.tracks[clip[taken], at.clip(0, last)].astype(float)
    return frames[taken].astype(np.float32), some.members[clip[taken]], mark[taken], tracks


def extract_segments(
    extractor: Extractor,
    world: World,
    index: Int[Tensor, " clip"],
    lengths: Int[np.ndarray, " clip"],
    marks: Sequence[Marks],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames of all marked segments, the segment of each frame, and the label and the clip of each segment."""
    found, segments = [], 0
    for some in encoded(extractor, world, index, lengths):
        own = [marks[one] if count else [] for one, count in zip(some.members, some.counts, strict=True)]
        if any(own):
            part = frames_of_segments(some.codes, some.counts, own, extractor.rate, extractor.first)
            found.append((part.codes, part.item + segments, part.label, some.members[part.clip]))
            segments += len(part.label)
    codes, item, label, clip = (np.concatenate(column) for column in zip(*found, strict=True))
    return codes, item, label, clip
