"""Recordings of EvTAF, as the Bengalese finch song repository has them (Nicholson, Queen & Sober, 2017).

A `.cbin` file is nothing but samples: signed 16-bit integers, the high byte first, channels in turn. What they
mean is in the text file `.rec` of the same name: ADFREQ, Chans and Samples.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

KEYS = {"ADFREQ": "rate", "Chans": "channels", "Samples": "frames"}
NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
LINE = re.compile(rf"^\s*({'|'.join(KEYS)})\s*=\s*({NUMBER})\s*$", re.MULTILINE)


def read_rec(path: Path) -> dict[str, int]:
    """Rate, channels and frames of a .cbin file, from the .rec file beside it."""
    beside = path.with_suffix(".rec")
    if not beside.is_file():
        raise ValueError("has no .rec file beside it, which tells its rate and channels")
    text = beside.read_text(encoding="latin-1")
    found = {KEYS[name]: round(float(number)) for name, number in LINE.findall(text)}
    if missing := sorted(set(KEYS.values()) - set(found)):
        raise ValueError(f"has a .rec file that does not tell its {' and '.join(missing)}")
    if min(found.values()) < 1:
        raise ValueError(f"has a .rec file that tells {found}")
    return found


def size_flaw(path: Path, told: dict[str, int]) -> str | None:
    """The file has to be as long as its .rec file says."""
    expected, there = told["frames"] * told["channels"] * 2, path.stat().st_size
    if there < expected:
        return f"is cut short: its .rec file promises {expected} bytes of sound, and {there} are there"
    if there > expected:
        return f"does not fit its .rec file: that promises {expected} bytes of sound, and {there} are there"
    return None


def read_cbin(path: Path, channels: int, block: int) -> Iterator[Float[np.ndarray, "frame channel"]]:
    """The samples between -1 and 1, some frames at a time."""
    with open(path, "rb") as file:
        while content := file.read(block * channels * 2):
            samples = np.frombuffer(content, ">i2").reshape(-1, channels)
            yield samples.astype(np.float32) / np.float32(32_768)
