"""Convolution for two ears by Fourier transforms: compiled, in single precision, several times a library's speed.

A transform of rows × columns points runs down the columns, so that each step is a loop along whole vectors, turns
every value, is transposed, and runs down once more (Bailey 1990, "FFTs in external or hierarchical memory"). A
spectrum stays in the order in which it falls out: products do not mind, and the way back undoes the same steps.
What the left ear hears is the real part of a signal and what the right one hears the imaginary part: sounds are
real, so one product serves both, and they come apart by themselves.
"""

import math
from functools import cache
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Int

from sonarium.rooms.acoustics.beams import compiled
from sonarium.rooms.acoustics.butterflies import go_down, go_up

SHORTEST = 16
"""Rows or columns: a whole vector."""
LAST_STEPS = (1, 2, 3, 5)
"""What the number of rows or columns may be times a power of four."""
WIDEST = 5
"""Times as many columns as rows, at most."""


class Plan(NamedTuple):
    """How transforms of one size are made."""

    down: Int[np.ndarray, " step"]
    """Of how many points each step down the columns is."""
    down_turns: Float[np.ndarray, "2 row"]
    """Cosines and sines of the turns by a row."""
    across: Int[np.ndarray, " step"]
    across_turns: Float[np.ndarray, "2 column"]
    twist: Float[np.ndarray, "2 row column"]
    """The turn of each value before the transposition."""


@cache
def sides() -> list[int]:
    """Numbers of rows or columns, increasing."""
    return sorted(SHORTEST * 4**power * last for power in range(6) for last in LAST_STEPS)


@cache
def sizes() -> dict[int, tuple[int, int]]:
    """Sizes of transforms, increasing, and their rows and columns: as near to a square as can be."""
    found: dict[int, tuple[int, int]] = {}
    for rows in reversed(sides()):
        for columns in sides():
            if rows <= columns <= WIDEST * rows:
                found.setdefault(rows * columns, (rows, columns))
    return dict(sorted(found.items()))


@cache
def fitting(needed: int) -> int:
    """The least size of a transform that holds so many samples."""
    for size in sizes():
        if size >= needed:
            return size
    raise ValueError(f"{needed} samples are too many for one transform: at most {max(sizes())} fit")


@cache
def block_size(response: int, window: int, forward: int) -> int:
    """The size with which overlap and save convolves a long window soonest, where `forward` transforms of
    responses are made, whatever the number of blocks."""

    def work(size: int) -> float:
        blocks = -(-window // (size - response + 1))
        return (forward + blocks) * size * math.log2(size)

    fitting(2 * response)
    return min((size for size in sizes() if size >= response + SHORTEST), key=work)


@cache
def plan(size: int) -> Plan:
    rows, columns = sizes()[size]
    down, across = steps(rows), steps(columns)
    turn = np.outer(frequencies(down), np.arange(columns)) / size
    return Plan(down, turns(rows), across, turns(columns), cosines_and_sines(turn))


def steps(points: int) -> Int[np.ndarray, " step"]:
    """Fours, and at the end what is left; that step needs no turns."""
    found = []
    while points % 4 == 0:
        found.append(4)
        points //= 4
    return np.array([*found, points] if points > 1 else found, np.int64)


def frequencies(steps: Int[np.ndarray, " step"]) -> Int[np.ndarray, " row"]:
    """Which frequency stands in which row after these steps."""
    found = np.zeros(1, np.int64)
    for radix in reversed(steps):
        found = (np.arange(radix)[:, None] + radix * found).ravel()
    return found


def turns(points: int) -> Float[np.ndarray, "2 row"]:
    return cosines_and_sines(np.arange(points) / points)


def cosines_and_sines(share: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "2 *shape"]:
    """Of turns backwards by this share of a circle."""
    return np.stack([np.cos(2 * np.pi * share), -np.sin(2 * np.pi * share)]).astype(np.float32)


def spectra(signals: Float[np.ndarray, "signal size"]) -> Float[np.ndarray, "signal 2 size"]:
    """Real and imaginary parts of the spectra of real signals, over their size: the way back divides no more."""
    count, size = signals.shape
    out = np.empty((count, 2, size), np.float32)
    transform(out, signals, plan(size), *sizes()[size])
    return out


def convolve(
    out: Float[np.ndarray, "row 2 time"],
    rows: Int[np.ndarray, " room"],
    responses: Float[np.ndarray, "room source 2 band length"],
    filters: Float[np.ndarray, "filter 2 size"],
    sounds: Float[np.ndarray, "sound block 2 size"],
    playing: Int[np.ndarray, "room source"],
) -> None:
    """Fill some rows with what both ears hear by overlap and save: of each block, the samples behind a whole
    response are right. Each source plays one of the sounds; without filters there is one band."""
    size = sounds.shape[-1]
    overlap(out, rows, responses, filters, sounds, playing, plan(size), *sizes()[size])


@compiled
@no_type_check
def transform(out, signals, plan, rows, columns):
    sound, spectrum = aligned(2, rows, columns), aligned(2, columns, rows)
    share = np.float32(1.0 / (rows * columns))
    for number in range(len(signals)):
        flat, signal = sound[0].reshape(-1), signals[number]
        for point in range(len(flat)):
            flat[point] = share * signal[point]
        sound[1] = 0.0
        forward(sound[0], sound[1], spectrum[0], spectrum[1], plan)
        for part in range(2):
            copy(out[number, part], spectrum[part].reshape(-1))


@compiled
@no_type_check
def overlap(out, chosen, responses, filters, sounds, playing, plan, rows, columns):
    sources, length, time = responses.shape[1], responses.shape[4], out.shape[2]
    hop = rows * columns - length + 1
    answers = aligned(sources * 2, columns, rows).reshape(sources, 2, columns, rows)
    heard, spectrum = aligned(2, rows, columns), aligned(2, columns, rows)
    for room in range(len(responses)):
        for source in range(sources):
            answer(answers[source], responses[room, source], filters, heard, spectrum, plan)
        flat = answers.reshape(sources, 2, -1)
        for block in range((time + hop - 1) // hop):
            for source in range(sources):
                multiply(spectrum.reshape(2, -1), sounds[playing[room, source], block], flat[source], source > 0)
            backward(spectrum[0], spectrum[1], heard[0], heard[1], plan)
            first, last = block * hop, min(time, (block + 1) * hop)
            for ear in range(2):
                copy(out[chosen[room], ear, first:last], heard[ear].reshape(-1)[length - 1 :])


@compiled
@no_type_check
def answer(out, response, filters, heard, spectrum, plan):
    """The spectrum of the responses to both ears, all bands through their filters."""
    length = response.shape[2]
    for band in range(response.shape[1]):
        for ear in range(2):
            flat = heard[ear].reshape(-1)
            copy(flat[:length], response[ear, band])
            flat[length:] = 0.0
        if len(filters) == 0:
            forward(heard[0], heard[1], out[0], out[1], plan)
        else:
            forward(heard[0], heard[1], spectrum[0], spectrum[1], plan)
            multiply(out.reshape(2, -1), filters[band], spectrum.reshape(2, -1), band > 0)


@compiled
@no_type_check
def copy(out, given):
    """As long as `out` is; whole vectors, which an assignment of slices is not."""
    for point in range(len(out)):
        out[point] = given[point]


@compiled
@no_type_check
def multiply(out, one, other, more):
    """The product of two spectra, added to what is there if there is more."""
    real, imaginary = out[0], out[1]
    a, b, c, d = one[0], one[1], other[0], other[1]
    if more:
        for point in range(len(real)):
            real[point] += a[point] * c[point] - b[point] * d[point]
            imaginary[point] += a[point] * d[point] + b[point] * c[point]
    else:
        for point in range(len(real)):
            real[point] = a[point] * c[point] - b[point] * d[point]
            imaginary[point] = a[point] * d[point] + b[point] * c[point]


@compiled
@no_type_check
def forward(real, imaginary, out_real, out_imaginary, plan):
    """From rows × columns to columns × rows; what was there is overwritten."""
    go_down(real, imaginary, plan.down, plan.down_turns)
    twist(real, imaginary, plan.twist[0], plan.twist[1])
    transpose(out_real, real)
    transpose(out_imaginary, imaginary)
    go_down(out_real, out_imaginary, plan.across, plan.across_turns)


@compiled
@no_type_check
def backward(real, imaginary, out_real, out_imaginary, plan):
    """The way back, times the size."""
    go_up(real, imaginary, plan.across, plan.across_turns)
    transpose(out_real, real)
    transpose(out_imaginary, imaginary)
    # The inverse of a turn, by exchanged parts.
    twist(out_imaginary, out_real, plan.twist[0], plan.twist[1])
    go_up(out_real, out_imaginary, plan.down, plan.down_turns)


@compiled
@no_type_check
def twist(real, imaginary, cosines, sines):
    for row in range(len(real)):
        x, y, cosine, sine = real[row], imaginary[row], cosines[row], sines[row]
        for column in range(len(x)):
            here, there = x[column], y[column]
            x[column] = here * cosine[column] - there * sine[column]
            y[column] = here * sine[column] + there * cosine[column]


@compiled
@no_type_check
def transpose(out, given):
    """A vector's width of rows at a time, which the cache holds."""
    for first in range(0, given.shape[0], SHORTEST):
        for column in range(given.shape[1]):
            for row in range(first, first + SHORTEST):
                out[column, row] = given[row, column]


@compiled
@no_type_check
def aligned(count, rows, columns):
    """Memory for matrices that begins with a whole vector: steps are half as fast across its borders."""
    size = count * rows * columns
    room = np.empty(size + SHORTEST, np.float32)
    first = -(room.ctypes.data // 4) % SHORTEST
    return room[first : first + size].reshape(count, rows, columns)
