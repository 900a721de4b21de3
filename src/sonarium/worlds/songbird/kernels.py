"""The syrinx on a CPU: birds side by side in SIMD lanes, so that one step of all of them is a few vector
instructions.

Sums are neither fused nor reordered, so a bird has the same bits in any lane and next to any other birds. Time is
in units of 1/γ: `h` is γ divided by the number of steps per second.
"""

from typing import no_type_check

import numpy as np

from sonarium import jit

LANES = 8
"""Number of birds integrated at a time: two registers of four doubles."""

compiled = jit.compiled("numpy")
# `no_type_check` below it keeps jaxtyping's import hook from wrapping compiled functions.


@compiled
@no_type_check
def integrate(alpha, beta, envelope, h, frames_per_step, out):
    """Fill `out` (step, lane) with envelope · y/γ by the classical Runge–Kutta method, from rest.

    Gestures (frame, lane) are interpolated linearly, and held constant within a step.
    """
    # One array for the whole state: the compiler sees that its rows do not overlap, and vectorises.
    now = np.zeros((6, LANES))
    now[4] = h
    for step in range(len(out)):
        time = step * frames_per_step
        i = int(time)
        w = time - i
        time += 0.5 * frames_per_step
        j = int(time)
        v = time - j
        for lane in range(LANES):
            now[2, lane] = alpha[j, lane] + v * (alpha[j + 1, lane] - alpha[j, lane])
        for lane in range(LANES):
            now[3, lane] = beta[j, lane] + v * (beta[j + 1, lane] - beta[j, lane])
        for lane in range(LANES):
            now[5, lane] = now[1, lane] * (envelope[i, lane] + w * (envelope[i + 1, lane] - envelope[i, lane]))
        for lane in range(LANES):
            out[step, lane] = now[5, lane]
        for lane in range(LANES):
            x0, y0, a, b, s = now[0, lane], now[1, lane], now[2, lane], now[3, lane], now[4, lane]
            k1 = a + x0 * (b + x0 * (1.0 - x0)) - (x0 + x0 * x0) * y0
            x1, y1 = x0 + 0.5 * s * y0, y0 + 0.5 * s * k1
            k2 = a + x1 * (b + x1 * (1.0 - x1)) - (x1 + x1 * x1) * y1
            x2, y2 = x0 + 0.5 * s * y1, y0 + 0.5 * s * k2
            k3 = a + x2 * (b + x2 * (1.0 - x2)) - (x2 + x2 * x2) * y2
            x3, y3 = x0 + s * y2, y0 + s * k3
            k4 = a + x3 * (b + x3 * (1.0 - x3)) - (x3 + x3 * x3) * y3
            now[0, lane] = x0 + s * (1.0 / 6.0) * (y0 + 2.0 * (y1 + y2) + y3)
            now[1, lane] = y0 + s * (1.0 / 6.0) * (k1 + 2.0 * (k2 + k3) + k4)


@compiled
@no_type_check
def decimate(fine, taps, factor, out):
    """Filter `fine` (step, lane) by a symmetric low-pass filter and keep every `factor`-th sample; zeros beyond
    its ends."""
    half, flat = len(taps) // 2, fine.ravel()
    for sample in range(len(out)):
        first = sample * factor - half
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        for tap in range(max(0, -first), min(len(taps), len(fine) - first)):
            weight, at = taps[tap], (first + tap) * LANES
            s0 += weight * flat[at]
            s1 += weight * flat[at + 1]
            s2 += weight * flat[at + 2]
            s3 += weight * flat[at + 3]
            s4 += weight * flat[at + 4]
            s5 += weight * flat[at + 5]
            s6 += weight * flat[at + 6]
            s7 += weight * flat[at + 7]
        out[sample, 0], out[sample, 1], out[sample, 2], out[sample, 3] = s0, s1, s2, s3
        out[sample, 4], out[sample, 5], out[sample, 6], out[sample, 7] = s4, s5, s6, s7


@compiled
@no_type_check
def blow(flow, noise, level, first, frames_per_sample, pole):
    """Add noise from sample `first` on, high-pass filtered (first order), at the interpolated level of the
    frames."""
    last, before = len(level) - 1, 0.0
    high = 0.0
    for sample in range(len(noise)):
        high = pole * high + 0.5 * (1.0 + pole) * (noise[sample] - before)
        before = noise[sample]
        place = (first + sample) * frames_per_sample
        frame = min(int(place), last)
        after = min(frame + 1, last)
        flow[first + sample] += high * (level[frame] + (place - frame) * (level[after] - level[frame]))
