"""Sizes of Fourier transforms."""

import math
from functools import cache


@cache
def next_fast(size: int) -> int:
    """The next multiple of 16 that has no factor above 5."""
    size = -(-size // 16) * 16
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 16


@cache
def block_size(response: int, window: int) -> int:
    """The size with which overlap and save convolves a long window soonest, for two sources and two ears: every
    response is transformed once, every block of either ear once."""
    sizes = [next_fast(response + max(window, response) // parts) for parts in (1, 2, 3, 4, 6, 8, 12, 16)]

    def work(size: int) -> float:
        blocks = -(-window // (size - response + 1))
        return (4 + 2 * blocks) * size * math.log2(size)

    return min(sizes, key=work)
