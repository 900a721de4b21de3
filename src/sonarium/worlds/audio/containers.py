"""Completeness checks of audio containers, where decoders ignore damage silently.

WAV, AIFF and similar formats state the size of their samples; each Ogg page has a checksum (RFC 3533), and the
last one a flag; a FLAC file has the MD5 sum of its sound (RFC 9639); MPEG audio is in `mpeg.py`.
"""

import mmap
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from sonarium.worlds.audio import mpeg

Flaw = str | None
"""What is wrong, as the end of a sentence that begins with the file's name; None if nothing is."""
ALL_BITS = 0xFFFFFFFF
LEFT_OPEN = (range(0x7FFFF000, 0x80000001), range(0xFFFFFF00, 0x100000000), range((1 << 64) - 1, 1 << 64))
"""Placeholder sizes of programs that write to a pipe and cannot know the size."""
SONY = rb"riff.\x91\xcf\x11"
"""Magic bytes of a W64 file."""
EVEN = (1, 3, 6, 7, 0xFFFE)
"""WAV and W64 encodings with a constant frame size: integers, floating point, A-law, µ-law."""
UNCLOSED = ("W64", "NIST")
"""Formats (libsndfile names) for which libsndfile takes the sound to extend to the end of the file."""
PADDING = 4096
"""Bytes allowed after the samples, as some programs write padding there."""
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def flaw(path: Path) -> Flaw:
    """What the container proves to be missing or altered; None if it proves nothing."""
    if path.stat().st_size == 0:
        return "is empty"
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # Some programs put ID3 tags before any format; decoders skip them.
        at = mpeg.after_tags(content, 0)
        for begins, check in CHECKS:
            if re.match(begins, content[at : at + 16], re.DOTALL):
                return check(content, at)
        # The MPEG decoder would search any file with this suffix for frames, and print complaints.
        return mpeg.flaw(content) if path.suffix.lower() == ".mp3" else None


@dataclass(frozen=True)
class Chunks:
    """Chunk layout of a format: each chunk is a name, a size, and that number of bytes."""

    first: int
    """Offset of the first chunk."""
    name: int
    """Bytes of a name."""
    size: int
    """Bytes of a size."""
    order: Literal["little", "big"]
    wanted: bytes
    """Prefix of the name of the chunk with the samples."""
    step: int
    """Alignment of chunks in bytes."""
    inclusive: bool = False
    """Whether a size includes the name and size fields."""


W64 = Chunks(40, 16, 8, "little", b"data", 8, inclusive=True)


def in_chunks(content: mmap.mmap, begin: int, form: Chunks) -> Flaw:
    """Flaw of the chunk with the samples, or of what follows; a missing chunk of metadata after it is none."""
    long = None
    for name, at, size in chunks(content, begin + form.first, form):
        if size < 0:
            return f"is damaged: the chunk before byte {at} has an impossible size"
        if name == b"ds64":
            # A WAV file beyond 4 GB has its sizes here, and all bits set in their usual fields.
            long = int.from_bytes(content[at + 8 : at + 16], "little")
        if name.startswith(form.wanted):
            promised = size if long is None else long
            flawed = in_samples(promised, len(content) - at, long is None)
            return flawed or behind(content, at + promised, -promised % form.step, form)
    return "is cut short: it ends before its samples begin"


def chunks(content: mmap.mmap, at: int, form: Chunks) -> Iterator[tuple[bytes, int, int]]:
    """Name, content offset and content size of each chunk; below 0 if a size does not even include its fields."""
    head = form.name + form.size
    while at + head <= len(content):
        name, field = content[at : at + form.name], content[at + form.name : at + head]
        size = int.from_bytes(field, form.order) - (head if form.inclusive else 0)
        yield name, at + head, size
        if size < 0:
            return
        at += head + -(-size // form.step) * form.step


def behind(content: mmap.mmap, end: int, gap: int, form: Chunks) -> Flaw:
    """Flaw if the data after the samples and a gap are more samples: an interrupted recorder wrote its header
    early."""
    rest = len(content) - end
    if rest <= PADDING:
        return None
    for name, _, size in chunks(content, end + gap, form):
        if not any(name):
            return None
        if size < 0 or not all(32 <= byte < 127 for byte in name[:4]):
            return more_follows(rest)
    return None


def more_follows(rest: int) -> Flaw:
    return f"is damaged: {rest} bytes follow the sound that its header speaks of, and are no part of it"


def in_samples(promised: int, there: int, may_be_open: bool) -> Flaw:
    if promised > there and not (may_be_open and any(promised in sizes for sizes in LEFT_OPEN)):
        return f"is cut short: its header promises {promised} bytes of sound, and {there} are there"
    if promised == 0 and there > 0:
        return f"was never completed: its header promises no sound, though {there} bytes follow"
    return None


def in_au(content: mmap.mmap, begin: int) -> Flaw:
    start, size = (int.from_bytes(content[begin + at : begin + at + 4], "big") for at in (4, 8))
    there = len(content) - begin - start
    return in_samples(size, there, True) or (more_follows(there - size) if there - size > PADDING else None)


def in_sphere(content: mmap.mmap, begin: int) -> Flaw:
    """Flaw if the bytes after the header do not match its number of samples."""
    head = sphere(content, begin)
    if head is None:
        return None
    there, promised = len(content) - begin - head.bytes, head.frames * head.frame
    return in_samples(promised, there, False) or (more_follows(there - promised) if there > promised else None)


@dataclass(frozen=True)
class Sphere:
    """Header of a NIST SPHERE file."""

    bytes: int
    """Size of the header."""
    frames: int
    frame: int
    """Bytes per frame, over all channels."""


def sphere(content: mmap.mmap, begin: int) -> Sphere | None:
    """Parse the header; None if it lacks a number that determines the size of the sound."""
    opening = re.match(rb"NIST_1A\n *(\d{1,6})\n", content[begin : begin + 16])
    if opening is None:
        return None
    size = int(opening[1])
    text = content[begin : begin + size].partition(b"\nend_head")[0]
    found = [
        re.search(rb"^%b -i (\d{1,18})[ \r]*$" % name, text, re.MULTILINE)
        for name in (b"sample_count", b"channel_count", b"sample_n_bytes")
    ]
    frames, channels, width = (int(number[1]) if number else 0 for number in found)
    return Sphere(size, frames, channels * width) if frames and channels and width else None


def promised_frames(path: Path) -> int | None:
    """Frames according to the container, for formats whose decoder reads trailing data as sound."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = mpeg.after_tags(content, 0)
        if content[begin : begin + 7] == b"NIST_1A":
            head = sphere(content, begin)
            return head.frames if head is not None else None
        if re.match(SONY, content[begin : begin + 16], re.DOTALL) is None:
            return None
        sizes = {name[:4]: (at, size) for name, at, size in chunks(content, begin + W64.first, W64)}
        (about, _), (samples, size) = sizes.get(b"fmt ", (0, 0)), sizes.get(b"data", (0, 0))
        kind, frame = (int.from_bytes(content[about + at : about + at + 2], "little") for at in (0, 12))
        there = len(content) - samples
        return size // frame if kind in EVEN and frame and samples and size <= there else None


def in_flac(content: mmap.mmap, begin: int) -> Flaw:
    return "is cut short: it ends within its header" if len(content) < begin + 42 else None


def flac_sum(path: Path) -> tuple[bytes, int] | None:
    """MD5 sum of a FLAC file's sound, in whole bytes per sample, and bits per sample; None if absent."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = mpeg.after_tags(content, 0)
        head = content[begin : begin + 42]
    # Bits per sample, minus one, span two bytes: the last bit of one and the first four of the next.
    bits = ((int.from_bytes(head[20:22], "big") >> 4) & 0x1F) + 1
    known = head[:4] == b"fLaC" and len(head) == 42 and any(head[26:])
    return (head[26:42], bits) if known else None


def in_ogg(content: mmap.mmap, begin: int) -> Flaw:
    """Flaw unless all pages are complete, with correct checksums, none missing, and the last one marked."""
    at, ended = begin, False
    streams: dict[bytes, Stream] = {}
    while at < len(content):
        if content[at : at + 4] != b"OggS":
            # Data after a marked end are a tag or padding of another program.
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
        stream = streams.setdefault(page[14:18], Stream())
        if (wrong := stream.add(page, table)) is not None:
            return f"is damaged: the page at byte {at} {wrong}"
        ended = bool(page[5] & 4)
        at += len(page)
    return None if ended else "is cut short: its last page is not marked as the last"


@dataclass
class Stream:
    """Progress of reading one Ogg stream."""

    pages: int = 0
    position: int = 0
    """Samples up to the end of the last page that states a position."""
    packets: int = 0
    """Number of packets that began."""
    longest: Callable[[bytes], int] = lambda packet: UNKNOWN_LENGTH
    """Maximum number of samples in a packet of this codec."""
    held: int = 0
    """Maximum number of samples in the packets since the last position."""

    def add(self, page: bytes, table: bytes) -> Flaw:
        """Flaw of the next page, if any."""
        if int.from_bytes(page[18:22], "little") != self.pages:
            return f"has the number {int.from_bytes(page[18:22], 'little')}, where {self.pages} is expected"
        begins = 27 + len(table)
        self.count(page, begins, table)
        self.pages += 1
        position = int.from_bytes(page[6:14], "little")
        # All bits are set if no packet ends in the page.
        if position == (1 << 64) - 1:
            return None
        last, held = self.position, self.held
        if position < last:
            return f"ends at sample {position}, the one before at {last}"
        # In a recorded broadcast, the first page with sound may begin later than at 0.
        if (last or page[5] & 4) and position - last > held:
            return f"promises {position - last} samples, and its packets hold {held} at most"
        self.position, self.held = position, 0
        return None

    def count(self, page: bytes, at: int, table: bytes) -> None:
        """Count the samples of the packets that begin in a page."""
        begins = not page[5] & 1
        for size in table:
            if begins:
                packet = page[at : at + 30]
                if self.packets == 0:
                    self.longest = longest_packet(packet)
                self.held += self.longest(packet)
                self.packets += 1
            begins = size < 255
            at += size


UNKNOWN_LENGTH = 1 << 62


def longest_packet(head: bytes) -> Callable[[bytes], int]:
    """The codec's maximum number of samples by a packet's first bytes, from the stream's first bytes."""
    if head.startswith(b"OpusHead"):
        return opus_samples
    if head.startswith(b"\x01vorbis") and len(head) > 28:
        # A packet adds at most half its window; the upper four bits are log2 of the longer window.
        most = (1 << (head[28] >> 4)) // 2
        return lambda packet: most
    return lambda packet: UNKNOWN_LENGTH


def opus_samples(packet: bytes) -> int:
    """Samples of an Opus packet at 48 kHz, from its first two bytes (RFC 6716, section 3.1)."""
    if not packet:
        return 0
    kind = packet[0] >> 3
    if kind < 12:
        frame = (480, 960, 1920, 2880)[kind % 4]
    elif kind < 16:
        frame = (480, 960)[kind % 2]
    else:
        frame = (120, 240, 480, 960)[kind % 4]
    number = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[packet[0] & 3]
    return frame * number


def ogg_checksum(page: bytes) -> int:
    """CRC-32 of an Ogg page; zlib takes the bits in reverse order, so input and result are mirrored."""
    mirrored = zlib.crc32(page.translate(MIRRORED), ALL_BITS) ^ ALL_BITS
    return int(f"{mirrored:032b}"[::-1], 2)


CHECKS: tuple[tuple[bytes, Callable[[mmap.mmap, int], Flaw]], ...] = (
    (rb"R(?:IFF|F64)....WAVE", partial(in_chunks, form=Chunks(12, 4, 4, "little", b"data", 2))),
    (rb"RIFX....WAVE", partial(in_chunks, form=Chunks(12, 4, 4, "big", b"data", 2))),
    (rb"FORM....AIF[FC]", partial(in_chunks, form=Chunks(12, 4, 4, "big", b"SSND", 2))),
    (rb"caff", partial(in_chunks, form=Chunks(8, 4, 8, "big", b"data", 1))),
    (SONY, partial(in_chunks, form=W64)),
    (rb"NIST_1A\n", in_sphere),
    (rb"\.snd", in_au),
    (rb"fLaC", in_flac),
    (rb"OggS", in_ogg),
    (rb"\xff[\xe0-\xff]", lambda content, begin: mpeg.flaw(content)),
)
"""Magic bytes of each format, and its check."""
