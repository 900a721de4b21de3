"""Damaged sound files of every format, decoded: `python scripts/fuzz_sounds.py [--inputs 20000] [--formats w64]`.

Small files of each format are altered at random from a seed: bits, bytes, sizes of chunks and pages, parts that
are cut out, doubled or added, with the checksums of Ogg repaired and that of FLAC left out in some. Each is
decoded as `sonarium` decodes it. A line a format has the number of inputs; `good`, decoded, and of these `same`,
with the sound of the file before; `bad`, refused with a reason; of these `killed`, `crashed` and `unnamed`, which
ended their decoder or were refused with an error of Python; `lost`, good with less or more sound although only
their length was altered, or with far more; the slowest (seconds of the clock, which other programs delay), and
the memory that a decoder took at most. The exit code is 1 if any was killed, crashed, unnamed or lost, took two
seconds, or a gigabyte.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import soundfile

from sonarium.worlds.audio.containers import ogg_checksum
from sonarium.worlds.audio.decoder import WORKERS, Worker, opened
from sonarium.worlds.audio.file import BadAudio

Alter = Callable[[bytes, np.random.Generator], bytes]
RATE = 16_000
FORMS = {
    "wav": ("WAV", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "sph": ("NIST", "PCM_16"),
    "cbin": None,
}
"""Format and encoding of the files that are altered, by suffix."""
EXTREMES = (0, 1, 2, 7, 8, 24, 255, *(2**bits + off for bits in (15, 31, 32, 63, 64) for off in (-2, -1, 0)))
REC = "ADFREQ = 32000\nChans = 2\nSamples = {}\n"
SECONDS, BYTES = 2.0, 1e9
"""Limits of time and memory for one file."""
LONGER = 64
"""Limit of the ratio of lengths: an altered rate, width or number of channels makes sound longer, but by less."""


@dataclass(frozen=True)
class Original:
    """An unaltered file."""

    content: bytes
    rec: str
    """Content of the .rec file beside it, if it is a .cbin file."""
    sound: bytes


@dataclass
class Tally:
    """Outcomes of the inputs of one format."""

    inputs: int = 0
    good: int = 0
    same: int = 0
    bad: int = 0
    faults: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in FAULTS})
    slowest: float = 0.0
    memory: int = 0

    def fine(self) -> bool:
        return not any(self.faults.values()) and self.slowest < SECONDS and self.memory < BYTES


FAULTS = {
    "killed": "keeps its decoder",
    "crashed": "crashes its decoder",
    "unnamed": "cannot be decoded",
    "lost": "",
}
"""Kinds of faults of the program, and how their reasons begin."""


def originals(suffix: str, folder: Path) -> list[Original]:
    """One mono and one stereo file, of noise with rising level."""
    found = []
    for channels in (1, 2):
        random = np.random.default_rng(channels)
        rising = np.linspace(0.01, 0.2, 1600 * channels)[:, None]
        samples = random.standard_normal((1600 * channels, channels)) * rising
        path, rec = folder / f"original.{suffix}", ""
        if (form := FORMS[suffix]) is None:
            path.write_bytes((samples * 2**15).astype(">i2").tobytes())
            rec = REC.format(samples.size // 2)
            path.with_suffix(".rec").write_text(rec)
        else:
            soundfile.write(path, samples.clip(-0.9, 0.9), RATE, form[1], format=form[0])
        content = path.read_bytes()
        found.append(Original(content, rec, decode(path)))
        if suffix == "flac":
            # The same without the checksum of its sound.
            found.append(Original(content[:26] + bytes(16) + content[42:], "", found[-1].sound))
    return found


def decode(path: Path) -> bytes:
    with opened(path, RATE) as (_, blocks):
        return b"".join(block.tobytes() for block in blocks)


def flip(content: bytes, random: np.random.Generator) -> bytes:
    """Flip some bits, half of the time in the first 256 bytes."""
    altered = bytearray(content)
    within = len(altered) if random.random() < 0.5 else min(len(altered), 256)
    for at in random.integers(within, size=random.integers(1, 9)):
        altered[at] ^= 1 << random.integers(8)
    return bytes(altered)


def number(random: np.random.Generator, width: int, order: Literal["little", "big"], below: int) -> bytes:
    """A random number of `width` bytes, half of the time an extreme one."""
    value = (
        int(random.choice(np.array(EXTREMES, object))) if random.random() < 0.5 else int(random.integers(below))
    )
    return (value % 2 ** (8 * width)).to_bytes(width, order)


def resize(content: bytes, random: np.random.Generator) -> bytes:
    """Overwrite a number of two, four or eight bytes, mostly near the beginning."""
    width = int(random.choice([2, 4, 8]))
    within = min(len(content), 160) if random.random() < 0.8 else len(content)
    at = int(random.integers(max(within - width, 1)))
    made = number(random, width, "little" if random.random() < 0.5 else "big", 2**32)
    return content[:at] + made + content[at + width :]


def chunk(content: bytes, random: np.random.Generator) -> bytes:
    """Overwrite the size of a chunk, which follows its name."""
    known = (b"fmt ", b"data", b"SSND", b"COMM", b"fact", b"ds64", b"desc", b"PEAK", b"riff", b"RIFF")
    names = [at for name in known if (at := content.find(name)) >= 0]
    if not names:
        return resize(content, random)
    at = int(random.choice(names)) + (16 if content[:4] == b"riff" else 4)
    width = 8 if content[:4] in (b"riff", b"caff") else 4
    made = number(random, width, "big" if content[:4] in (b"FORM", b"caff", b".snd") else "little", 2**14)
    return content[:at] + made + content[at + width :]


def cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(len(content))]


def append(content: bytes, random: np.random.Generator) -> bytes:
    size = int(random.choice([1, 100, 4000, 9000]))
    return content + (bytes(size) if random.random() < 0.3 else random.bytes(size))


def remove(content: bytes, random: np.random.Generator) -> bytes:
    at = int(random.integers(len(content)))
    return content[:at] + content[at + int(random.integers(1, 400)) :]


def double(content: bytes, random: np.random.Generator) -> bytes:
    at, size = int(random.integers(len(content))), int(random.integers(1, 400))
    return content[: at + size] + content[at:]


def insert(content: bytes, random: np.random.Generator) -> bytes:
    at = int(random.integers(len(content)))
    return content[:at] + random.bytes(int(random.integers(1, 300))) + content[at:]


def foreign(content: bytes, random: np.random.Generator) -> bytes:
    """The beginning of the file, followed by noise."""
    return content[: random.integers(64)] + random.bytes(len(content))


def repaired(alter: Alter) -> Alter:
    """The same alteration, with the checksums of Ogg pages corrected."""

    def altered(content: bytes, random: np.random.Generator) -> bytes:
        made, at = bytearray(alter(content, random)), 0
        while made[at : at + 4] == b"OggS" and at + 27 <= len(made):
            size = 27 + made[at + 26] + sum(made[at + 27 : at + 27 + made[at + 26]])
            page = bytes(made[at : at + size])
            made[at + 22 : at + 26] = ogg_checksum(page[:22] + bytes(4) + page[26:]).to_bytes(4, "little")
            at += size
        return bytes(made)

    return altered


def granule(content: bytes, random: np.random.Generator) -> bytes:
    """Overwrite the position, serial or sequence number, or flags of one Ogg page."""
    pages = [at for at in range(len(content)) if content[at : at + 4] == b"OggS"] or [0]
    page = int(random.choice(pages))
    at, width = [(page + 6, 8), (page + 18, 4), (page + 5, 1), (page + 14, 4)][random.integers(4)]
    return content[:at] + number(random, width, "little", 10**9) + content[at + width :]


ALTERATIONS = (flip, resize, chunk, cut, append, remove, double, insert, foreign)
OF_OGG = (repaired(flip), repaired(resize), repaired(granule), repaired(granule), repaired(remove))
LENGTH = (cut, append)
"""Alterations of the length only."""
OF_REC = ("1e400", "0", "-1", "1e308", "99999999999999999999", "3.2e4", "nan", "1", "1e9", "x", "")


class Mutant(NamedTuple):
    original: Original
    content: bytes
    rec: str
    only_length: bool
    """Whether only the length was altered."""


def mutants(suffix: str, whole: list[Original], count: int, seed: int) -> Iterator[Mutant]:
    random = np.random.default_rng([seed, *suffix.encode()])
    known = (*ALTERATIONS, *OF_OGG) if suffix in ("ogg", "opus") else ALTERATIONS
    for _ in range(count):
        original = whole[random.integers(len(whole))]
        alter = known[random.integers(len(known))]
        rec = original.rec
        if rec and random.random() < 0.5:
            line = int(random.integers(3))
            lines = rec.splitlines()
            lines[line] = f"{lines[line].split('=')[0]}= {random.choice(OF_REC)}"
            text = "\n" * int(random.choice([0, 100_000])) + "\n".join(lines)
            yield Mutant(original, original.content, text, False)
        else:
            content = alter(original.content, random)
            if random.random() < 0.2 and content:
                content = alter(content, random)
            yield Mutant(original, content, rec, alter in LENGTH)


def fuzz(suffix: str, count: int, seed: int, folder: Path) -> Tally:
    """Decode mutants of one format."""
    tally, path = Tally(), folder / f"mutant.{suffix}"
    for at, made in enumerate(mutants(suffix, originals(suffix, folder), count, seed)):
        path.write_bytes(made.content)
        if made.rec:
            path.with_suffix(".rec").write_text(made.rec)
        begin = time.perf_counter()
        try:
            sound = decode(path)
        except BadAudio as error:
            tally.bad += 1
            for kind, words in FAULTS.items():
                if words and error.reason.startswith(words):
                    tally.faults[kind].append(f"{at}: {error.reason}")
        else:
            tally.good += 1
            before = made.original.sound
            tally.same += sound == before
            if (made.only_length and sound != before) or len(sound) > LONGER * len(before):
                tally.faults["lost"].append(f"{at}: {len(sound) // 4} samples of {len(before) // 4}")
        tally.inputs += 1
        tally.slowest = max(tally.slowest, time.perf_counter() - begin)
        if at % 100 == 99 or at == count - 1:
            tally.memory = max([tally.memory, *map(peak, WORKERS.waiting)])
    return tally


def peak(worker: Worker) -> int:
    """Peak memory of a process in bytes."""
    lines = Path(f"/proc/{worker.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs of each format")
    parser.add_argument("--formats", nargs="*", choices=FORMS, default=list(FORMS))
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    fine = True
    head = ("format", "inputs", "good", "same", "bad", *FAULTS, "slowest s", "memory MB")
    print(("{:<8}" + "{:>10}" * (len(head) - 1)).format(*head))
    for suffix in flags.formats:
        with tempfile.TemporaryDirectory() as folder:
            tally = fuzz(suffix, flags.inputs, flags.seed, Path(folder))
        faults = [len(tally.faults[name]) for name in FAULTS]
        counts = (tally.inputs, tally.good, tally.same, tally.bad, *faults)
        row = f"{suffix:<8}" + "".join(f"{count:>10}" for count in counts)
        print(f"{row}{tally.slowest:>10.2f}{tally.memory / 1e6:>10.0f}", flush=True)
        for kind, named in tally.faults.items():
            for one in named[:5]:
                print(f"    {kind} {one}")
        fine = fine and tally.fine()
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
