"""Counter-based random numbers (Salmon et al., 2011): a pure function of seed, clip and position, and therefore
independent of the order of evaluation.

A counter goes through the finaliser of SplitMix64 (Steele, Lea & Flood, 2014); the two halves of the result become
two normal samples by the method of Box and Muller (1958). `kernels.add_normal` takes the same integers through the
same steps in compiled loops.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

STEP = 0x9E3779B97F4A7C15
FIRST = 0xBF58476D1CE4E5B9
SECOND = 0x94D049BB133111EB
TAU = 2 * math.pi


def signed(word: int) -> int:
    """The same 64 bits as a signed integer, the only kind that torch multiplies."""
    return word - (1 << 64) if word >> 63 else word


def mix(word: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """SplitMix64's finaliser; the masks turn torch's arithmetic shifts into logical ones."""
    word = (word ^ ((word >> 30) & ((1 << 34) - 1))) * signed(FIRST)
    word = (word ^ ((word >> 27) & ((1 << 37) - 1))) * signed(SECOND)
    return word ^ ((word >> 31) & ((1 << 33) - 1))


def stream(seed: int, clip: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
    """Starting counter of each clip's random numbers."""
    start = mix(torch.full_like(clip, signed(seed % (1 << 64))) * signed(STEP) + 1)
    return mix(start + clip * signed(STEP))


def uniform(start: Int[Tensor, " clip"], count: int) -> Float[Tensor, "clip number"]:
    """Uniform numbers in [0, 1) in float64, with 53 random bits each."""
    word = mix(start[:, None] + torch.arange(1, count + 1, device=start.device) * signed(STEP))
    return ((word >> 11) & ((1 << 53) - 1)).double() / 2**53


def normal(start: Int[Tensor, " clip"], samples: int) -> Float[Tensor, "clip time"]:
    """Standard normal noise in float64; samples 2m and 2m+1 share one counter."""
    pair = torch.arange(1, (samples + 1) // 2 + 1, device=start.device)
    word = mix(start[:, None] + pair * signed(STEP))
    uniform = (((word >> 32) & 0xFFFFFFFF) + 1).double() / 2**32
    angle = (word & 0xFFFFFFFF).double() * (TAU / 2**32)
    radius = torch.sqrt(-2 * torch.log(uniform))
    pairs = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)
    return pairs.reshape(len(start), -1)[:, :samples]


def places(seed: int, step: int, clip: Int[Tensor, " clip"], count: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
    """Random index below `count` for each clip; repetitions of a clip within a batch get different ones."""
    same = clip[:, None] == clip
    times_before = same.tril(-1).sum(1)
    word = mix(stream(seed, clip) + signed(step * STEP % (1 << 64)) + times_before * signed(FIRST))
    return (word & ((1 << 63) - 1)) % count
