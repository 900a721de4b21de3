"""Steps of fast Fourier transforms down all columns of a matrix at once (Cooley & Tukey 1965), compiled.

Real and imaginary parts lie in matrices of their own, so that every step is a loop along rows, whole vectors at a
time. Steps of four points come first; one of two, three or five may come last, and then needs no turns. On the way
down frequencies fall out in the order of `fourier.frequencies`; the way up takes them in that order.
"""

from typing import no_type_check

import numpy as np

from sonarium.rooms.acoustics.beams import compiled


@compiled
@no_type_check
def go_down(real, imaginary, steps, turns):
    """Transforms of all columns."""
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
    """The way back, times the number of rows: exchanged parts make a transform its inverse."""
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
    """Transforms of 2, 3 or 5 neighbouring rows."""
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
