"""Whether the container of a sound file is complete, where decoders ignore damage silently.

WAV, AIFF and their like say how long their samples are; the pages of Ogg carry a checksum each (RFC 3533), and the
last one a mark; a FLAC file holds the MD5 sum of its sound (RFC 9639); MPEG audio has a file of its own here.
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
"""What is wrong, as the end of a sentence that begins with the file's name."""
ALL_BITS = 0xFFFFFFFF
LEFT_OPEN = (range(0x7FFFF000, 0x80000001), range(0xFFFFFF00, 0x100000000), range((1 << 64) - 1, 1 << 64))
"""Sizes written by programs that write to a pipe and cannot know it."""
SONY = rb"riff.\x91\xcf\x11"
"""How a W64 file begins."""
EVEN = (1, 3, 6, 7, 0xFFFE)
"""Encodings of WAV and W64 whose frames all have as many bytes: integers, floating point, A-law, µ-law."""
UNCLOSED = ("W64", "NIST")
"""Formats, as libsndfile names them, whose sound it takes to end where the file does."""
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


W64 = Chunks(40, 16, 8, "little", b"data", 8, inclusive=True)


def in_chunks(content: mmap.mmap, begin: int, form: Chunks) -> Flaw:
    """Whether the part with the samples is as long as it says; a part with remarks behind it may be missing."""
    long = None
    for name, at, size in chunks(content, begin + form.first, form):
        if size < 0:
            return f"is damaged: the chunk before byte {at} has an impossible size"
        if name == b"ds64":
            # A WAV file beyond 4 GB has its sizes here, and all bits set in their usual place.
            long = int.from_bytes(content[at + 8 : at + 16], "little")
        if name.startswith(form.wanted):
            promised = size if long is None else long
            flawed = in_samples(promised, len(content) - at, long is None)
            return flawed or behind(content, at + promised, -promised % form.step, form)
    return "is cut short: it ends before its samples begin"


def chunks(content: mmap.mmap, at: int, form: Chunks) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and size of the content of each chunk; below 0 where a size does not even count itself."""
    head = form.name + form.size
    while at + head <= len(content):
        name, field = content[at : at + form.name], content[at + form.name : at + head]
        size = int.from_bytes(field, form.order) - (head if form.inclusive else 0)
        yield name, at + head, size
        if size < 0:
            return
        at += head + -(-size // form.step) * form.step


def behind(content: mmap.mmap, end: int, gap: int, form: Chunks) -> Flaw:
    """Whether what follows the samples and a gap is more of them: a recorder that was interrupted wrote its
    header early."""
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
    """As many bytes behind the header as it has samples."""
    head = sphere(content, begin)
    if head is None:
        return None
    there, promised = len(content) - begin - head.bytes, head.frames * head.frame
    return in_samples(promised, there, False) or (more_follows(there - promised) if there > promised else None)


@dataclass(frozen=True)
class Sphere:
    """What the header of a file of NIST (SPHERE) says."""

    bytes: int
    """Of the header."""
    frames: int
    frame: int
    """Bytes of the samples of all channels at one time."""


def sphere(content: mmap.mmap, begin: int) -> Sphere | None:
    """The header, if it has all numbers that its sound follows from."""
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
    """Frames according to the container, where the decoder takes for sound whatever follows it."""
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
    """The MD5 sum of a FLAC file's sound as whole bytes a sample, and its bits a sample, if it has them."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = mpeg.after_tags(content, 0)
        head = content[begin : begin + 42]
    # Bits a sample lie across two bytes: the last of one and the first four of the next, less one.
    bits = ((int.from_bytes(head[20:22], "big") >> 4) & 0x1F) + 1
    known = head[:4] == b"fLaC" and len(head) == 42 and any(head[26:])
    return (head[26:42], bits) if known else None


def in_ogg(content: mmap.mmap, begin: int) -> Flaw:
    """Every page whole, its checksum right, no page missing, and the last one marked as the last."""
    at, ended = begin, False
    streams: dict[bytes, Stream] = {}
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
        stream = streams.setdefault(page[14:18], Stream())
        if (wrong := stream.add(page, table)) is not None:
            return f"is damaged: the page at byte {at} {wrong}"
        ended = bool(page[5] & 4)
        at += len(page)
    return None if ended else "is cut short: its last page is not marked as the last"


@dataclass
class Stream:
    """One stream of Ogg, as far as it was read."""

    pages: int = 0
    position: int = 0
    """Samples up to the end of the last page that says so."""
    packets: int = 0
    """Packets that began."""
    longest: Callable[[bytes], int] = lambda packet: UNKNOWN_LENGTH
    """Samples that a packet of this codec holds at most."""
    held: int = 0
    """Samples that packets since the last position hold at most."""

    def add(self, page: bytes, table: bytes) -> Flaw:
        """What is wrong with the next page."""
        if int.from_bytes(page[18:22], "little") != self.pages:
            return f"has the number {int.from_bytes(page[18:22], 'little')}, where {self.pages} is expected"
        begins = 27 + len(table)
        self.count(page, begins, table)
        self.pages += 1
        position = int.from_bytes(page[6:14], "little")
        # All bits are set where no packet ends.
        if position == (1 << 64) - 1:
            return None
        last, held = self.position, self.held
        if position < last:
            return f"ends at sample {position}, the one before at {last}"
        # The first page with sound may begin later than at 0, in what was recorded of a broadcast.
        if (last or page[5] & 4) and position - last > held:
            return f"promises {position - last} samples, and its packets hold {held} at most"
        self.position, self.held = position, 0
        return None

    def count(self, page: bytes, at: int, table: bytes) -> None:
        """The samples of the packets that begin in a page."""
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
    """The most samples that a packet holds, by its first bytes, from the first bytes of the stream."""
    if head.startswith(b"OpusHead"):
        return opus_samples
    if head.startswith(b"\x01vorbis") and len(head) > 28:
        # A packet adds half of its window at most; the higher four bits have the size of the longer window.
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
    """Ogg's CRC goes through the bits from the left and zlib's from the right: mirror, and mirror back."""
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
"""How a file begins, and the check of its format."""
