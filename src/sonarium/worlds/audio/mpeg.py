"""MPEG audio (MP3): a sequence of frames, without a statement of the total length.

Most programs write a first frame without sound, headed Xing or Info, that counts the others. Where it is missing,
libsndfile estimates the length from the first frame's bit rate, and drops the frames beyond; so the frames are
counted here, and such a header is prepended.
"""

import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Kilobits per second by version (1, or 2 and 2.5) and layer (ISO/IEC 11172-3 and 13818-3)."""
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Sampling rates in Hz by the two version bits."""

SPARE = 2
"""Frames allowed beyond the header's count: some programs omit its own frame, or the last one."""


@lru_cache(1 << 16)
def frame_bytes(head: bytes) -> int:
    """Bytes of the frame with this header; 0 if it is none, or of free format."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer, rate, bits = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 2 & 3, head[2] >> 4
    if version not in RATES or layer == 4 or rate == 3 or bits in (0, 15):
        return 0
    generation = 1 if version == 3 else 2
    kilobits = BIT_RATES[generation, layer if generation == 1 else min(layer, 2)][bits - 1]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return (12_000 * kilobits // RATES[version][rate] + padding) * 4
    return frame_samples(head) * 125 * kilobits // RATES[version][rate] + padding


def frame_samples(head: bytes) -> int:
    """Samples per channel of a frame."""
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    return 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152


def after_tags(content: mmap.mmap, at: int) -> int:
    """End of the ID3 tags that begin at this offset; the same offset if there are none."""
    while content[at : at + 3] == b"ID3":
        size = content[at + 6 : at + 10]
        at += 10 + sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(size))
    return at


LIKELY = re.compile(rb"\xff[\xe0-\xff]|ID3", re.DOTALL)
"""First bytes of a frame or a tag."""


def runs(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Start and end of each run of frames without gaps."""
    at = 0
    while at < len(content):
        start = at = after_tags(content, at)
        while at < len(content) and (size := frame_bytes(content[at : at + 4])):
            at += size
        if at > start:
            yield start, at
        else:
            found = LIKELY.search(content, at + 1)
            at = len(content) if found is None else found.start()


def all_runs(content: mmap.mmap) -> list[tuple[int, int]]:
    """Runs of at least two frames: within a tag or a damaged part, bytes may look like a frame, but hardly ever
    like two in sequence."""
    return [run for run in runs(content) if run[1] - run[0] > frame_bytes(content[run[0] : run[0] + 4])]


@dataclass(frozen=True)
class Counted:
    """Counts in the Xing or Info header of the first frame; 0 for those that it omits."""

    frames: int
    bytes: int


def counted(content: mmap.mmap, first: int) -> Counted | None:
    """Counts of the Xing or Info header, if the first frame has one."""
    named = re.search(rb"(?:Xing|Info)\0\0\0([\0-\17])", content[first : first + 64], re.DOTALL)
    if named is None:
        return None
    place, counts = first + named.end(), []
    for bit in (1, 2):
        known = named[1][0] & bit
        counts.append(int.from_bytes(content[place : place + 4], "big") if known else 0)
        place += 4 if known else 0
    return Counted(*counts)


def flaw(content: mmap.mmap) -> str | None:
    """Flaw if frames have gaps, are cut short, or do not match the counts of the first one."""
    found = all_runs(content)
    if not found:
        return "is not sound that can be read (it has no frames of MPEG audio)"
    first, end = found[0][0], found[-1][1]
    if end > len(content):
        return f"is cut short: its last frame lacks {end - len(content)} bytes"
    promised, there = counted(content, first) or Counted(0, 0), len(content) - first
    if promised.bytes > there:
        return f"is cut short: its header promises {promised.bytes} bytes of sound, and {there} are there"
    frames = number_of_frames(content, found) if promised.frames else 0
    if frames > promised.frames + SPARE:
        return f"is damaged: its header counts {promised.frames} frames, and {frames} are there"
    for (_, stop), (start, _) in pairwise(found):
        if content[stop : stop + 3] != b"ID3":
            return f"is damaged: {start - stop} bytes at byte {stop} are no frame"
    return None


def missing_header(path: Path) -> tuple[bytes, int] | None:
    """The missing counting frame, and the offset of the first frame; None if present, or not an MP3."""
    if path.suffix.lower() != ".mp3" or path.stat().st_size == 0:
        return None
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = all_runs(content)
        if not found or counted(content, found[0][0]) is not None:
            return None
        frames = number_of_frames(content, found)
        first = found[0][0]
        return counting_frame(content[first : first + 4], frames, found[-1][1] - first), first


def number_of_frames(content: mmap.mmap, runs: list[tuple[int, int]]) -> int:
    number = 0
    for at, end in runs:
        while at < end:
            at += frame_bytes(content[at : at + 4])
            number += 1
    return number


def counting_frame(head: bytes, frames: int, size: int) -> bytes:
    """A frame without sound that counts the others, equal to them except for its bit rate."""
    first_version, one_channel = head[1] >> 3 & 3 == 3, head[3] >> 6 == 3
    side = (17 if one_channel else 32) if first_version else (9 if one_channel else 17)
    # No checksum, no padding, and the lowest bit rate at which the frame has room.
    forms = (bytes([head[0], head[1] | 1, bits << 4 | head[2] & 0b1100, head[3]]) for bits in range(1, 15))
    own = next(form for form in forms if frame_bytes(form) >= 4 + side + 16)
    long = frame_bytes(own)
    counts = (3, frames, size + long)
    frame = own + bytes(side) + b"Info" + b"".join(number.to_bytes(4, "big") for number in counts)
    return frame.ljust(long, b"\0")


class Joined:
    """File object that concatenates a head and another file from some byte on."""

    def __init__(self, head: bytes, path: Path, first: int):
        self.head, self.first, self.file, self.at = head, first, open(path, "rb"), 0
        self.size = len(head) + path.stat().st_size - first

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.size}[whence]
        return self.at

    def read(self, size: int = -1) -> bytes:
        wanted = self.size - self.at if size < 0 else size
        content = self.head[self.at : self.at + wanted]
        self.file.seek(max(self.at - len(self.head), 0) + self.first)
        content += self.file.read(wanted - len(content))
        self.at += len(content)
        return content

    def close(self) -> None:
        self.file.close()
