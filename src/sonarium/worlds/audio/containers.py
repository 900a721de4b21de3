"""Whether the container of a sound file is complete, where decoders ignore damage silently.

WAV, AIFF and their like say how long their samples are; the pages of Ogg carry a checksum each (RFC 3533), and the
last one a mark; a FLAC file holds the MD5 sum of its sound (RFC 9639); MPEG audio has a file of its own here.
"""

import mmap
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from sonarium.worlds.audio import mpeg

Flaw = str | None
"""What is wrong, as the end of a sentence that begins with the file's name."""
ALL_BITS = 0xFFFFFFFF
LEFT_OPEN = (range(0x7FFFF000, 0x80000001), range(0xFFFFFF00, 0x100000000), range((1 << 64) - 1, 1 << 64))
"""Sizes written by programs that write to a pipe and cannot know it."""
PADDING = 4096
"""Bytes allowed behind the samples, which some programs leave there."""
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def flaw(path: Path) -> Flaw:
    """What the container proves to be missing or altered; none if it proves nothing."""
    if path.stat().st_size == 0:
        return "is empty"
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # Some programs put the tags of MPEG audio before anything; decoders pass over them.
        at = mpeg.after_tags(content, 0)
        for begins, check in CHECKS:
            if re.match(begins, content[at : at + 16], re.DOTALL):
                return check(content, at)
        # The decoder of MPEG audio would look for frames in anything of that name, and complain aloud.
        return mpeg.flaw(content) if path.suffix.lower() == ".mp3" else None


@dataclass(frozen=True)
class Chunks:
    """How a format lays out its chunks: each a name, a size, and that number of bytes."""

    first: int
    """Where the first part begins."""
    name: int
    """Bytes of a name."""
    size: int
    """Bytes of a size."""
    order: Literal["little", "big"]
    wanted: bytes
    """How the name of the part with the samples begins."""
    step: int
    """Parts begin at multiples of this."""
    inclusive: bool = False
    """Whether a size counts its own name and itself."""


def in_chunks(content: mmap.mmap, begin: int, form: Chunks) -> Flaw:
    """Whether the part with the samples is as long as it says; a part with remarks behind it may be missing."""
    at, long, head = begin + form.first, None, form.name + form.size
    while at + head <= len(content):
        name, field = content[at : at + form.name], content[at + form.name : at + head]
        size = int.from_bytes(field, form.order) - (head if form.inclusive else 0)
        if name == b"ds64":
            # A WAV file beyond 4 GB has its sizes here, and all bits set in their usual place.
            long = int.from_bytes(content[at + 16 : at + 24], "little")
        if name.startswith(form.wanted):
            promised, samples = size if long is None else long, at + head
            flawed = in_samples(promised, len(content) - samples, long is None)
            return flawed or (None if form.inclusive else behind(content, samples + promised, form))
        at += head + -(-size // form.step) * form.step
    return "is cut short: it ends before its samples begin"


def behind(content: mmap.mmap, end: int, form: Chunks) -> Flaw:
    """Whether what follows the samples is more of them: a recorder that was interrupted wrote its header early."""
    rest, at = len(content) - end, end + -end % form.step
    if rest <= PADDING:
        return None
    while at + form.name + form.size <= len(content):
        name = content[at : at + form.name]
        if not any(name):
            return None
        if not all(32 <= byte < 127 for byte in name):
            return f"is damaged: {rest} bytes follow the sound that its header speaks of, and are no part of it"
        size = int.from_bytes(content[at + form.name : at + form.name + form.size], form.order)
        at += form.name + form.size + -(-size // form.step) * form.step
    return None


def in_samples(promised: int, there: int, may_be_open: bool) -> Flaw:
    if promised > there and not (may_be_open and any(promised in sizes for sizes in LEFT_OPEN)):
        return f"is cut short: its header promises {promised} bytes of sound, and {there} are there"
    if promised == 0 and there > 0:
        return f"was never completed: its header promises no sound, though {there} bytes follow"
    return None


def in_au(content: mmap.mmap, begin: int) -> Flaw:
    start, size = (int.from_bytes(content[begin + at : begin + at + 4], "big") for at in (4, 8))
    return in_samples(size, len(content) - begin - start, True)


def in_flac(content: mmap.mmap, begin: int) -> Flaw:
    return "is cut short: it ends within its header" if len(content) < begin + 42 else None


def flac_sum(path: Path) -> tuple[bytes, int] | None:
    """The MD5 sum of a FLAC file's sound as whole bytes a sample, and its bits a sample, if it has them."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = mpeg.after_tags(content, 0)
        head = content[begin : begin + 42]
    # Bits a sample lie across two bytes: the last of one and the first four of the next, less one.
    bits = ((int.from_bytes(head[20:22], "big") >> 4) & 0x1F) + 1
    known = head[:4] == b"fLaC" and len(head) == 42 and any(head[26:])
    return (head[26:42], bits) if known else None


def in_ogg(content: mmap.mmap, begin: int) -> Flaw:
    """Every page whole, its checksum right, and the last one marked as the last."""
    at, ended = begin, False
    while at < len(content):
        if content[at : at + 4] != b"OggS":
            # What follows a marked end is a tag or padding of some other program.
            return None if ended else f"is damaged: no page begins at byte {at}"
        table = content[at + 27 : at + 27 + content[at + 26]] if at + 27 <= len(content) else b""
        page = content[at : at + 27 + len(table) + sum(table)]
        if not table or len(page) < 27 + page[26] + sum(table):
            return f"is cut short: its last page is not whole (byte {at})"
        if ogg_checksum(page[:22] + bytes(4) + page[26:]) != int.from_bytes(page[22:26], "little"):
            return f"is damaged: the checksum of the page at byte {at} is wrong"
        if ended and page[5] & 2:
            return (
                f"holds several streams, one behind the other; only the first, up to byte {at}, would be decoded"
            )
        ended = bool(page[5] & 4)
        at += len(page)
    return None if ended else "is cut short: its last page is not marked as the last"


def ogg_checksum(page: bytes) -> int:
    """Ogg's CRC goes through the bits from the left and zlib's from the right: mirror, and mirror back."""
    mirrored = zlib.crc32(page.translate(MIRRORED), ALL_BITS) ^ ALL_BITS
    return int(f"{mirrored:032b}"[::-1], 2)


CHECKS: tuple[tuple[bytes, Callable[[mmap.mmap, int], Flaw]], ...] = (
    (rb"R(?:IFF|F64)....WAVE", partial(in_chunks, form=Chunks(12, 4, 4, "little", b"data", 2))),
    (rb"RIFX....WAVE", partial(in_chunks, form=Chunks(12, 4, 4, "big", b"data", 2))),
    (rb"FORM....AIF[FC]", partial(in_chunks, form=Chunks(12, 4, 4, "big", b"SSND", 2))),
    (rb"caff", partial(in_chunks, form=Chunks(8, 4, 8, "big", b"data", 1))),
    (rb"riff.\x91\xcf\x11", partial(in_chunks, form=Chunks(40, 16, 8, "little", b"data", 8, inclusive=True))),
    (rb"\.snd", in_au),
    (rb"fLaC", in_flac),
    (rb"OggS", in_ogg),
    (rb"\xff[\xe0-\xff]", lambda content, begin: mpeg.flaw(content)),
)
"""How a file begins, and the check of its format."""
