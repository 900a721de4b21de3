"""Binaural convolution by fast Fourier transforms: compiled, single precision, several times as fast as a library.

The six-step FFT (Bailey, 1990, "FFTs in external or hierarchical memory"): a transform of rows × columns points
transforms the columns, so that each step is a loop along whole vectors, multiplies by twiddle factors,
transposes, and transforms the columns once more. Spectra stay in permuted order: products do not depend on it,
and the inverse undoes the same steps. The left ear is the real part of a complex signal and the right ear the
imaginary part: sounds are real, so one product serves both.

Butterflies (Cooley & Tukey, 1965) run down all columns of a matrix at once, with real and imaginary parts in
separate matrices: first radix 4, then at most one of radix 2, 3 or 5, which needs no twiddle factors.
"""

import math
from functools import cache
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Int

from sonarium.rooms.acoustics.jit import compiled

SHORTEST = 16
"""Minimum number of rows or columns: one SIMD vector."""
LAST_STEPS = (1, 2, 3, 5)
"""Allowed factors of the number of rows or columns besides powers of four."""
WIDEST = 5
"""Maximum ratio of columns to rows."""


class Plan(NamedTuple):
    """The plan of transforms of one size."""

    down: Int[np.ndarray, " step"]
    """Radix of each step down the columns."""
    down_turns: Float[np.ndarray, "2 row"]
    """Twiddle factors of the columns: cosines and sines."""
    across: Int[np.ndarray, " step"]
    across_turns: Float[np.ndarray, "2 column"]
    twist: Float[np.ndarray, "2 row column"]
    """Twiddle factors before the transposition."""


@cache
def sides() -> list[int]:
    """Allowed numbers of rows or columns, ascending."""
    return sorted(SHORTEST * 4**power * last for power in range(6) for last in LAST_STEPS)


@cache
def sizes() -> dict[int, tuple[int, int]]:
    """Allowed FFT sizes, ascending, and their rows and columns, as near to a square as possible."""
    found: dict[int, tuple[int, int]] = {}
    for rows in reversed(sides()):
        for columns in sides():
            if rows <= columns <= WIDEST * rows:
                found.setdefault(rows * columns, (rows, columns))
    return dict(sorted(found.items()))


@cache
def fitting(needed: int) -> int:
    """The smallest FFT size of at least `needed` samples."""
    for size in sizes():
        if size >= needed:
            return size
    raise ValueError(f"{needed} samples are too many for one transform: at most {max(sizes())} fit")


@cache
def block_size(response: int, window: int, forward: int) -> int:
    """The FFT size with which overlap-save convolves a long window fastest, given `forward` transforms of
    responses regardless of the number of blocks."""

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
    """Radix of each step: 4, and at the end the remaining factor, which needs no twiddle factors."""
    found = []
    while points % 4 == 0:
        found.append(4)
        points //= 4
    return np.array([*found, points] if points > 1 else found, np.int64)


def frequencies(steps: Int[np.ndarray, " step"]) -> Int[np.ndarray, " row"]:
    """Frequency index of each row after these steps."""
    found = np.zeros(1, np.int64)
    for radix in reversed(steps):
        found = (np.arange(radix)[:, None] + radix * found).ravel()
    return found


def turns(points: int) -> Float[np.ndarray, "2 row"]:
    return cosines_and_sines(np.arange(points) / points)


def cosines_and_sines(fraction: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "2 *shape"]:
    """Cosines and sines of angles −2π · fraction."""
    return np.stack([np.cos(2 * np.pi * fraction), -np.sin(2 * np.pi * fraction)]).astype(np.float32)


def spectra(signals: Float[np.ndarray, "signal size"]) -> Float[np.ndarray, "signal 2 size"]:
    """Real and imaginary parts of the spectra of real signals, divided by their size: the inverse does not
    divide."""
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
    """Render binaural signals into rows `rows` of `out` by overlap-save: in each block, the samples after a whole
    response are valid. Each source plays one of the sounds; without filters there is one band."""
    size = sounds.shape[-1]
    overlap(out, rows, responses, filters, sounds, playing, plan(size), *sizes()[size])


@compiled
@no_type_check
def transform(out, signals, plan, rows, columns):
    sound, spectrum = aligned(2, rows, columns), aligned(2, columns, rows)
    fraction = np.float32(1.0 / (rows * columns))
    for number in range(len(signals)):
        flat, signal = sound[0].reshape(-1), signals[number]
        for point in range(len(flat)):
            flat[point] = fraction * signal[point]
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
    """The spectrum of the responses at both ears, all bands filtered and summed."""
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
    """Copy `len(out)` samples; vectorised, which a slice assignment is not."""
    for point in range(len(out)):
        out[point] = given[point]


@compiled
@no_type_check
def multiply(out, one, other, more):
    """The product of two spectra; with `more`, added to `out`."""
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
    """Forward transform from rows × columns to columns × rows; overwrites its input."""
    go_down(real, imaginary, plan.down, plan.down_turns)
    twist(real, imaginary, plan.twist[0], plan.twist[1])
    transpose(out_real, real)
    transpose(out_imaginary, imaginary)
    go_down(out_real, out_imaginary, plan.across, plan.across_turns)


@compiled
@no_type_check
def backward(real, imaginary, out_real, out_imaginary, plan):
    """Inverse transform, times the size; overwrites its input."""
    go_up(real, imaginary, plan.across, plan.across_turns)
    transpose(out_real, real)
    transpose(out_imaginary, imaginary)
    # Swapped real and imaginary parts conjugate the twiddle factors.
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
    """Transpose in blocks of rows of a SIMD vector's width, for the cache."""
    for first in range(0, given.shape[0], SHORTEST):
        for column in range(given.shape[1]):
            for row in range(first, first + SHORTEST):
                out[column, row] = given[row, column]


@compiled
@no_type_check
def aligned(count, rows, columns):
    """Matrices aligned to whole vectors: unaligned steps are half as fast."""
    size = count * rows * columns
    room = np.empty(size + SHORTEST, np.float32)
    first = -(room.ctypes.data // 4) % SHORTEST
    return room[first : first + size].reshape(count, rows, columns)


@compiled
@no_type_check
def go_down(real, imaginary, steps, turns):
    """Transform all columns, by decimation in frequency."""
    span = len(real)
    for radix in steps:
        if radix == 4:
            four_down(real, imaginary, turns, span)
        else:
            few(real, imaginary, radix)
        span //= radix


@compiled
@no_type_check
def go_up(real, imaginary, steps, turns):
    """Inverse-transform all columns, times the number of rows, with real and imaginary parts swapped."""
    span = 1
    for radix in steps[::-1]:
        span *= radix
        if radix == 4:
            four_up(imaginary, real, turns, span)
        else:
            few(imaginary, real, radix)


@compiled
@no_type_check
def four_down(real, imaginary, turns, span):
    quarter, stride = span // 4, len(real) // span
    for first in range(0, len(real), span):
        for row in range(quarter):
            cos_1, sin_1 = turns[0, row * stride], turns[1, row * stride]
            cos_2, sin_2 = turns[0, 2 * row * stride], turns[1, 2 * row * stride]
            cos_3, sin_3 = turns[0, 3 * row * stride], turns[1, 3 * row * stride]
            a, b = first + row, first + row + quarter
            c, d = b + quarter, b + 2 * quarter
            a_r, b_r, c_r, d_r = real[a], real[b], real[c], real[d]
            a_i, b_i, c_i, d_i = imaginary[a], imaginary[b], imaginary[c], imaginary[d]
            for at in range(real.shape[1]):
                sum_r, sum_i = a_r[at] + c_r[at], a_i[at] + c_i[at]
                gap_r, gap_i = a_r[at] - c_r[at], a_i[at] - c_i[at]
                odd_r, odd_i = b_r[at] + d_r[at], b_i[at] + d_i[at]
                far_r, far_i = b_r[at] - d_r[at], b_i[at] - d_i[at]
                a_r[at], a_i[at] = sum_r + odd_r, sum_i + odd_i
                x, y = gap_r + far_i, gap_i - far_r
                b_r[at], b_i[at] = x * cos_1 - y * sin_1, x * sin_1 + y * cos_1
                x, y = sum_r - odd_r, sum_i - odd_i
                c_r[at], c_i[at] = x * cos_2 - y * sin_2, x * sin_2 + y * cos_2
                x, y = gap_r - far_i, gap_i + far_r
                d_r[at], d_i[at] = x * cos_3 - y * sin_3, x * sin_3 + y * cos_3


@compiled
@no_type_check
def four_up(real, imaginary, turns, span):
    quarter, stride = span // 4, len(real) // span
    for first in range(0, len(real), span):
        for row in range(quarter):
            cos_1, sin_1 = turns[0, row * stride], turns[1, row * stride]
            cos_2, sin_2 = turns[0, 2 * row * stride], turns[1, 2 * row * stride]
            cos_3, sin_3 = turns[0, 3 * row * stride], turns[1, 3 * row * stride]
            a, b = first + row, first + row + quarter
            c, d = b + quarter, b + 2 * quarter
            a_r, b_r, c_r, d_r = real[a], real[b], real[c], real[d]
            a_i, b_i, c_i, d_i = imaginary[a], imaginary[b], imaginary[c], imaginary[d]
            for at in range(real.shape[1]):
                x, y = b_r[at] * cos_1 - b_i[at] * sin_1, b_r[at] * sin_1 + b_i[at] * cos_1
                u, v = c_r[at] * cos_2 - c_i[at] * sin_2, c_r[at] * sin_2 + c_i[at] * cos_2
                p, q = d_r[at] * cos_3 - d_i[at] * sin_3, d_r[at] * sin_3 + d_i[at] * cos_3
                sum_r, sum_i, gap_r, gap_i = a_r[at] + u, a_i[at] + v, a_r[at] - u, a_i[at] - v
                odd_r, odd_i, far_r, far_i = x + p, y + q, x - p, y - q
                a_r[at], a_i[at] = sum_r + odd_r, sum_i + odd_i
                b_r[at], b_i[at] = gap_r + far_i, gap_i - far_r
                c_r[at], c_i[at] = sum_r - odd_r, sum_i - odd_i
                d_r[at], d_i[at] = gap_r - far_i, gap_i + far_r


@compiled
@no_type_check
def few(real, imaginary, radix):
    """Butterflies of radix 2, 3 or 5 on neighbouring rows."""
    for first in range(0, len(real), radix):
        if radix == 2:
            two(real[first], real[first + 1])
            two(imaginary[first], imaginary[first + 1])
        elif radix == 3:
            three(real[first : first + 3], imaginary[first : first + 3])
        else:
            five(real[first : first + 5], imaginary[first : first + 5])


@compiled
@no_type_check
def two(a, b):
    for at in range(len(a)):
        a[at], b[at] = a[at] + b[at], a[at] - b[at]


@compiled
@no_type_check
def three(real, imaginary):
    half, height = np.float32(0.5), np.float32(np.sqrt(0.75))
    a_r, b_r, c_r = real[0], real[1], real[2]
    a_i, b_i, c_i = imaginary[0], imaginary[1], imaginary[2]
    for at in range(len(a_r)):
        sum_r, sum_i = b_r[at] + c_r[at], b_i[at] + c_i[at]
        gap_r, gap_i = height * (b_r[at] - c_r[at]), height * (b_i[at] - c_i[at])
        mid_r, mid_i = a_r[at] - half * sum_r, a_i[at] - half * sum_i
        a_r[at], a_i[at] = a_r[at] + sum_r, a_i[at] + sum_i
        b_r[at], b_i[at] = mid_r + gap_i, mid_i - gap_r
        c_r[at], c_i[at] = mid_r - gap_i, mid_i + gap_r


@compiled
@no_type_check
def five(real, imaginary):
    cos_1, sin_1 = np.float32(np.cos(0.4 * np.pi)), np.float32(np.sin(0.4 * np.pi))
    cos_2, sin_2 = np.float32(np.cos(0.8 * np.pi)), np.float32(np.sin(0.8 * np.pi))
    a_r, b_r, c_r, d_r, e_r = real[0], real[1], real[2], real[3], real[4]
    a_i, b_i, c_i, d_i, e_i = imaginary[0], imaginary[1], imaginary[2], imaginary[3], imaginary[4]
    for at in range(len(a_r)):
        near_r, near_i, near_x, near_y = b_r[at] + e_r[at], b_i[at] + e_i[at], b_r[at] - e_r[at], b_i[at] - e_i[at]
        far_r, far_i, far_x, far_y = c_r[at] + d_r[at], c_i[at] + d_i[at], c_r[at] - d_r[at], c_i[at] - d_i[at]
        one_r = a_r[at] + cos_1 * near_r + cos_2 * far_r
        one_i = a_i[at] + cos_1 * near_i + cos_2 * far_i
        two_r = a_r[at] + cos_2 * near_r + cos_1 * far_r
        two_i = a_i[at] + cos_2 * near_i + cos_1 * far_i
        one_x, one_y = sin_1 * near_x + sin_2 * far_x, sin_1 * near_y + sin_2 * far_y
        two_x, two_y = sin_2 * near_x - sin_1 * far_x, sin_2 * near_y - sin_1 * far_y
        a_r[at], a_i[at] = a_r[at] + near_r + far_r, a_i[at] + near_i + far_i
        b_r[at], b_i[at] = one_r + one_y, one_i - one_x
        e_r[at], e_i[at] = one_r - one_y, one_i + one_x
        c_r[at], c_i[at] = two_r + two_y, two_i - two_x
        d_r[at], d_i[at] = two_r - two_y, two_i + two_x
