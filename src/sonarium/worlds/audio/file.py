"""Decoding and validation of an audio file.

The header is compared with the file size and the decoded samples; checksums are verified where the format has them
(`containers.py`); samples must be finite. Files are read in blocks, so that memory does not grow with their
length.

Everything but names and limits runs in a separate process (`decoder.py`), which a damaged file may crash or block
forever. Imports delay the start of that process: neither torch nor jaxtyping is imported here.
"""

import errno
import hashlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import soundfile
import soxr

from sonarium.config import Range, check_ranges
from sonarium.worlds.audio import containers, mpeg

SUFFIXES = frozenset(
    ".wav .wave .rf64 .w64 .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .sph .cbin".split()
)
"""Suffixes of sound files, in lower case."""
BLOCK = 1 << 18
"""Samples over all channels that are read at a time, and limit of a resampled block of one channel."""
MORE = 64
"""Frames requested where the header promises no more."""
LOUDEST = 1e10
"""Largest sample that any recorder writes, at any full scale; damaged samples are often larger."""
ENDLESS = 1 << 40
"""Frame counts from here on mean that the header leaves the length open."""


OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""System errors that say nothing about the file."""
REFETCH = "fetch it again, or leave it out"


class BadAudio(ValueError):
    """A file that cannot be trusted: path, reason, and remedy."""

    def __init__(self, path: Path, reason: str, remedy: str = REFETCH, passing: bool = False):
        super().__init__(f"'{path}' {reason}: {remedy}")
        self.path, self.reason, self.remedy, self.passing = path, reason, remedy, passing
        """`passing`: whether the fault is transient, so that the same file may be good later."""


@dataclass(frozen=True)
class Limits:
    """Limits of a good recording; a file beyond them counts as bad."""

    shortest: Annotated[float, Range(0)] = 0.02
    """Shortest duration of a recording in seconds."""
    longest: Annotated[float, Range(0, infinite=True)] = 36_000.0
    """Longest duration of a recording in seconds."""
    lowest_rate: Annotated[int, Range(0)] = 2_000
    """Lowest sampling rate of a recording in Hz."""
    highest_rate: Annotated[int, Range(1)] = 1_000_000
    """Highest sampling rate of a recording in Hz."""
    most_channels: Annotated[int, Range(1, 1024)] = 32
    """Largest number of channels of a recording."""
    silence: Annotated[float, Range(-math.inf, 0, infinite=True, example=-100)] = -100.0
    """Peak level in dB re full scale below which a recording counts as silent."""

    def __post_init__(self) -> None:
        check_ranges(self)
        for low, high in (("shortest", "longest"), ("lowest_rate", "highest_rate")):
            least, most = getattr(self, low), getattr(self, high)
            if least > most:
                flags = f"--{low.replace('_', '-')} {least} and --{high.replace('_', '-')} {most}"
                raise ValueError(f"{flags}: give two numbers, the first no larger than the second")


ANY = Limits(shortest=0.0, silence=-math.inf)
"""Limits for any sound that is opened, which may be short and silent."""


@dataclass(frozen=True)
class Header:
    """The header of a file."""

    rate: int
    channels: int
    frames: int | None
    """Number of frames according to the header; None if it is not given."""
    form: str
    """Name of the format, such as WAV."""


class Onward(soundfile.SoundFile):
    """A file that is read sequentially and never seeks: libsndfile cannot find a position in a FLAC file whose
    header leaves the length open."""

    def seekable(self) -> bool:
        return False


def is_sound(path: Path) -> bool:
    """Whether the file name has the suffix of a sound file."""
    return path.suffix.lower() in SUFFIXES


class Recording:
    """An audio file with a plausible header; other faults show only on reading."""

    def __init__(self, path: Path, limits: Limits = ANY):
        if not path.is_file():
            raise BadAudio(path, *absence(path))
        self.path, self.limits = path, limits
        self.most = ENDLESS
        """Limit of frames to read, for formats whose decoder reads trailing data as sound."""
        self.read: Callable[[], Iterator[np.ndarray]]
        try:
            if path.suffix.lower() == ".cbin":
                self.open_cbin()
            else:
                self.open_soundfile()
        except OSError as error:
            raise unreadable(path, error) from None
        header = self.header
        if header.frames == 0:
            raise BadAudio(path, "holds no samples", "leave it out")
        if not limits.lowest_rate <= header.rate <= limits.highest_rate:
            self.refuse(f"has {header.rate} Hz", limits.lowest_rate, limits.highest_rate)
        if header.channels > limits.most_channels:
            self.refuse(f"has {header.channels} channels", 1, limits.most_channels)
        if header.frames is not None:
            self.check_seconds(header.frames / header.rate)

    def open_cbin(self) -> None:
        try:
            rec = read_rec(self.path)
        except ValueError as error:
            raise BadAudio(self.path, str(error), "fetch that one, too") from None
        if (flaw := size_flaw(self.path, rec)) is not None:
            raise BadAudio(self.path, flaw)
        self.header = Header(rec["rate"], rec["channels"], rec["frames"], "CBIN")
        self.read = lambda: read_cbin(self.path, rec["channels"], self.at_once)

    def open_soundfile(self) -> None:
        if (flaw := containers.flaw(self.path)) is not None:
            raise BadAudio(self.path, flaw)
        try:
            with self.opened() as file:
                frames = file.frames if file.frames < ENDLESS else None
                self.header = Header(file.samplerate, file.channels, frames, file.format)
            known = self.header.form in containers.UNCLOSED
            if known and (promised := containers.promised_frames(self.path)) is not None:
                self.header, self.most = replace(self.header, frames=promised), promised
        except (soundfile.LibsndfileError, soundfile.SoundFileRuntimeError) as error:
            raise undecodable(self.path, error) from None
        self.read = self.read_flac if self.header.form == "FLAC" else self.read_soundfile

    @contextmanager
    def opened(self) -> Iterator[soundfile.SoundFile]:
        missing = mpeg.missing_header(self.path)
        if missing is None:
            with Onward(openable(self.path)) as file:
                yield file
        else:
            whole: Any = mpeg.Joined(missing[0], self.path, missing[1])
            with closing(whole), Onward(whole) as file:
                yield file

    def read_soundfile(self, dtype: Literal["float32", "int32"] = "float32") -> Iterator[np.ndarray]:
        got, expected = 0, self.header.frames or 0
        try:
            with self.opened() as file:
                # libsndfile zeroes the part of a block that it cannot fill, so a short file gets a short block.
                size = min(self.at_once, max(expected, MORE), self.most)
                while got < self.most and len(block := file.read(size, dtype, always_2d=True)):
                    got += len(block)
                    size = min(self.at_once, max(expected - got, MORE), self.most - got)
                    yield block
        except (soundfile.LibsndfileError, soundfile.SoundFileRuntimeError) as error:
            raise undecodable(self.path, error) from None

    @property
    def at_once(self) -> int:
        """Frames per block."""
        return max(BLOCK // self.header.channels, 1)

    def read_flac(self) -> Iterator[np.ndarray]:
        """Read blocks, and verify the MD5 sum of the integer samples against the header."""
        known = containers.flac_sum(self.path)
        digest, width = hashlib.md5(usedforsecurity=False), -(-known[1] // 8) if known else 0
        for block in self.read_soundfile("int32"):
            if known is not None:
                # Samples are in the high bits; the sum covers only as many low bytes as they need.
                low = np.ascontiguousarray(block >> (32 - known[1]), dtype="<i4")
                digest.update(low.view(np.uint8).reshape(-1, 4)[:, :width].tobytes())
            yield block.astype(np.float32) * np.float32(2**-31)
        if known is not None and digest.digest() != known[0]:
            raise BadAudio(self.path, "is damaged: the checksum of its sound is wrong")

    def check_seconds(self, seconds: float) -> None:
        limits = self.limits
        if not limits.shortest <= seconds <= limits.longest:
            self.refuse(f"lasts {seconds:.4g} s", limits.shortest, limits.longest)

    def refuse(self, is_so: str, least: float, most: float) -> None:
        remedy = REFETCH if self.limits == ANY else "change the limit, or leave it out"
        raise BadAudio(self.path, f"{is_so}, allowed are {least:g} to {most:g}", remedy)

    def mono(self, rate: int, channel: int | None = None) -> Iterator[np.ndarray]:
        """One channel (by default the mean of all; for .cbin the first, which has the song), resampled to `rate`.

        Faults of the file may show only at the end: use no samples before.
        """
        own = self.header.rate
        if own == rate:
            yield from self.checked(channel)
            return
        resampler = soxr.ResampleStream(own, rate, 1, dtype="float32")
        # Upsampling enlarges a block, so it is limited at the higher rate.
        step = max(min(BLOCK, BLOCK * own // rate), 1)
        for samples in self.checked(channel):
            for at in range(0, len(samples), step):
                yield resampler.resample_chunk(samples[at : at + step])
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)

    def checked(self, channel: int | None) -> Iterator[np.ndarray]:
        """One channel at the file's own rate; raises BadAudio as soon as a fault is found."""
        header, frames, lowest, highest = self.header, 0, math.inf, -math.inf
        if channel is None and header.form == "CBIN":
            channel = 0
        if channel is not None and channel >= header.channels:
            raise BadAudio(
                self.path, f"has no channel {channel}, only {header.channels}", "choose another channel"
            )
        for block in self.read():
            # Both min and max propagate NaN.
            least, most = float(block.min()), float(block.max())
            if not math.isfinite(least + most):
                raise BadAudio(self.path, "holds NaN or infinite samples", "repair it or leave it out")
            if (loudest := max(-least, most)) > LOUDEST:
                raise BadAudio(self.path, f"holds a sample of {loudest:.1g}, which no sound has")
            frames += len(block)
            if header.frames is None:
                self.check_most(frames)
            mono = block.mean(axis=1) if channel is None else np.ascontiguousarray(block[:, channel])
            lowest, highest = min(lowest, float(mono.min())), max(highest, float(mono.max()))
            yield mono
        self.check_end(frames, (highest - lowest) / 2)

    def check_most(self, frames: int) -> None:
        if frames / self.header.rate > self.limits.longest:
            self.check_seconds(frames / self.header.rate)

    def check_end(self, frames: int, swing: float) -> None:
        promised = self.header.frames
        if frames == 0:
            raise BadAudio(self.path, "holds no samples", "leave it out")
        if promised is None:
            self.check_seconds(frames / self.header.rate)
        elif frames < promised:
            raise BadAudio(self.path, f"is cut short: its header promises more than its {frames} samples")
        elif frames > promised:
            raise BadAudio(self.path, f"is damaged: it has {frames} samples, its header speaks of {promised}")
        if swing <= 10 ** (self.limits.silence / 20) and self.limits.silence > -math.inf:
            decibels = f"never beyond {20 * math.log10(swing):.0f} dB" if swing > 0 else "nothing but one value"
            remedy = "leave it out, or lower the limit of silence"
            if self.header.channels > 1:
                remedy += "; if its channels only cancel each other, choose one of them with --channel"
            raise BadAudio(self.path, f"is silent: {decibels}", remedy)


def openable(path: Path) -> Any:
    """Path as bytes, so that names that are invalid in the system's encoding are passed through; on Windows as
    text, since libsndfile there decodes bytes by another encoding than Python."""
    return str(path) if sys.platform == "win32" else os.fsencode(path)


def absence(path: Path) -> tuple[str, str]:
    """Why a path is not a file, and the remedy."""
    if path.is_symlink() and not path.exists():
        return "is a link that leads nowhere", "repair it or leave it out"
    is_not = "is not a file" if path.exists() else "does not exist"
    return is_not, "give the path of a WAV, FLAC, OGG, MP3, AIFF or CBIN file"


def unreadable(path: Path, error: OSError) -> BadAudio:
    """Fault of a file that cannot be opened; errors of the machine are raised, as the file may be good."""
    if error.errno in OF_THE_MACHINE:
        raise error
    said = f"cannot be opened ({error.strerror or error})"
    return BadAudio(path, said, "see that it may be read, or leave it out", passing=True)


def undecodable(path: Path, error: Exception) -> BadAudio:
    said = getattr(error, "error_string", None) or str(error)
    if "regular file" in said:
        # libsndfile reports this for any MP3 file in which it finds no frame.
        said = "no sound was found in it"
    said = said.removeprefix("Error :").strip(" .")
    return BadAudio(path, f"is not sound that can be read ({said})", passing=said.startswith("System error"))


# EvTAF recordings, as in the Bengalese finch song repository (Nicholson, Queen & Sober, 2017): a .cbin file has
# only big-endian signed 16-bit integers with interleaved channels; the text file .rec of the same name has the
# sampling rate, and the numbers of channels and frames.
REC_KEYS = {"ADFREQ": "rate", "Chans": "channels", "Samples": "frames"}
NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
REC_LINE = re.compile(rf"^[ \t]*({'|'.join(REC_KEYS)})[ \t]*=[ \t]*({NUMBER})[ \t\r]*$", re.MULTILINE)
REC_BYTES = 1 << 16
"""Bytes read from a .rec file; its numbers are in the first hundred lines."""


def read_rec(path: Path) -> dict[str, int]:
    """Rate, channels and frames of a .cbin file, from the .rec file beside it."""
    beside = path.with_suffix(".rec")
    if not beside.is_file():
        raise ValueError("has no .rec file beside it, which has its rate and channels")
    with open(beside, encoding="latin-1") as file:
        text = file.read(REC_BYTES)
    numbers = {REC_KEYS[name]: float(number) for name, number in REC_LINE.findall(text)}
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError(f"has a .rec file with {numbers}: finite numbers are expected")
    found = {name: round(number) for name, number in numbers.items()}
    if missing := sorted(set(REC_KEYS.values()) - set(found)):
        raise ValueError(f"has a .rec file without its {' and '.join(missing)}")
    if min(found.values()) < 1:
        raise ValueError(f"has a .rec file with {found}: numbers of at least 1 are expected")
    return found


def size_flaw(path: Path, rec: dict[str, int]) -> str | None:
    """Mismatch between the file size and the .rec file; None if they agree."""
    expected, there = rec["frames"] * rec["channels"] * 2, path.stat().st_size
    if there < expected:
        return f"is cut short: its .rec file promises {expected} bytes of sound, and {there} are there"
    if there > expected:
        return f"does not fit its .rec file: that promises {expected} bytes of sound, and {there} are there"
    return None


def read_cbin(path: Path, channels: int, block: int) -> Iterator[np.ndarray]:
    """Samples between -1 and 1, in blocks of frames."""
    with open(path, "rb") as file:
        while content := file.read(block * channels * 2):
            samples = np.frombuffer(content, ">i2").reshape(-1, channels)
            yield samples.astype(np.float32) / np.float32(32_768)
