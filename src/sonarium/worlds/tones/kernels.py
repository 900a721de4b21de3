"""The oscillator on a CPU: compiled loops over short blocks that fit in the L1 cache and vectorise.

The equations are those of `oscillator.py`. Each clip is computed separately, without fused or reordered sums, so
it has the same bits at any position in a batch. Sine and cosine are polynomials on half a turn, accurate to the
last bits of a double: calls to the C library would not vectorise.
"""

import math
from typing import no_type_check

import numpy as np

from sonarium import jit
from sonarium.worlds.counter import FIRST, SECOND, STEP
from sonarium.worlds.tones.modulation import NEPERS, OCTAVES
from sonarium.worlds.tones.oscillator import SAWTOOTH, SINE, TRIANGLE

PI = math.pi
TAU = 2 * math.pi
TAU_HIGH = math.floor(TAU * 2**24) / 2**24
"""The first 27 bits of the double nearest to 2π: its product with a whole number below 2^26 is exact."""
TAU_LOW = TAU - TAU_HIGH
TAU_MISSING = 2.4492935982947064e-16
"""2π minus the double nearest to it."""
SINE_TERMS = (
    -2.7314447669863995e-15,
    7.643970296798572e-13,
    -1.6058977312464087e-10,
    2.5052107616996182e-08,
    -2.7557319219163234e-06,
    0.00019841269841254974,
    -0.008333333333333316,
    0.16666666666666666,
)
"""(1 − sin x / x) / x² as a polynomial in x², highest power first, interpolated at the Chebyshev nodes of |x| ≤
π/2. Its error is at most 2e-18, so that only rounding errors remain."""
COSINE_TERMS = (
    -4.6276759850181716e-14,
    1.1464689885720029e-11,
    -2.0876630867422994e-09,
    2.755731776732053e-07,
    -2.4801587292446213e-05,
    0.0013888888888860709,
    -0.04166666666666634,
    0.5,
)
"""(1 − cos x) / x² likewise, within 2e-17."""
BLOCK = 1024
SEMITONE = OCTAVES * math.log(2)

compiled = jit.compiled("numpy")
# `no_type_check` below it keeps jaxtyping's import hook from wrapping compiled functions.


@compiled
@no_type_check
def sine_series(x):
    """sin x for |x| ≤ π/2."""
    square = x * x
    series = 0.0
    for term in SINE_TERMS:
        series = term + series * square
    return x - x * (series * square)


@compiled
@no_type_check
def cosine_series(x):
    """cos x for |x| ≤ π/2."""
    square = x * x
    series = 0.0
    for term in COSINE_TERMS:
        series = term + series * square
    return 1.0 - series * square


@compiled
@no_type_check
def cosine_turns(turns):
    """cos 2πx."""
    turn = turns - np.rint(turns)
    half = np.rint(2 * turn)
    cosine = cosine_series(TAU * (turn - 0.5 * half))
    return cosine if half == 0 else -cosine


@compiled
@no_type_check
def remainder(angle):
    """`angle` modulo the double nearest to 2π, exactly, for up to 2^26 turns.

    The quotient may be off by one; the differences are exact nevertheless.
    """
    quotient = np.floor(angle * (1 / TAU))
    rest = (angle - quotient * TAU_HIGH) - quotient * TAU_LOW
    rest = rest + TAU if rest < 0 else rest
    return rest - TAU if rest >= TAU else rest


@compiled
@no_type_check
def sine_angle(angle):
    """Sine of an angle of many turns."""
    halves = np.rint(angle * (1 / PI))
    rest = (angle - halves * (0.5 * TAU_HIGH)) - halves * (0.5 * TAU_LOW)
    sine = sine_series(rest - halves * (0.5 * TAU_MISSING))
    return sine if np.rint(0.5 * halves) == 0.5 * halves else -sine


@compiled
@no_type_check
def vibrate(shift, time, offset, swing, rate):
    """Set the phase shift to its offset plus the integral of the vibrato's frequency deviation."""
    for i in range(len(time)):
        shift[i] = offset + swing * (1.0 - cosine_turns(rate * time[i]))


@compiled
@no_type_check
def wander(values, walk, time):
    """Set the values to a walk, a sum of slow sines."""
    values[:] = 0.0
    for sine in range(len(walk)):
        frequency, phase, amplitude = walk[sine, 0], walk[sine, 1] - 0.25, walk[sine, 2]
        for i in range(len(time)):
            values[i] += amplitude * cosine_turns(frequency * time[i] + phase)


@compiled
@no_type_check
def glide(shift, time, offset, speed, walk, rate, depth, total, last, step, begins):
    """Set the phase shift to its offset plus the integral of a modulated frequency's deviation.

    `total` and `last` are the integral and the deviation at the previous sample; returns both at the last one.
    """
    wander(shift, walk, time)
    for i in range(len(time)):
        shift[i] = math.exp(SEMITONE * shift[i]) - 1.0
    if depth != 0 and rate != 0:
        for i in range(len(time)):
            shift[i] = (1.0 + shift[i]) * (1.0 + depth * cosine_turns(rate * time[i] - 0.25)) - 1.0
    if begins:
        last = -shift[0]  # which makes the first step 0
    for i in range(len(time)):
        departure = shift[i]
        total += 0.5 * (last + departure) * step
        last = departure
        shift[i] = offset + speed * total
    return total, last


@compiled
@no_type_check
def fade(wave, time, walk, levels):
    """Attenuate the wave by a walk of the level in decibels, whose maximum is 0."""
    wander(levels, walk, time)
    most = walk[:, 2].sum()
    for i in range(len(wave)):
        wave[i] *= math.exp(NEPERS * (levels[i] - most))


@compiled
@no_type_check
def naive_wave(wave, speed, time, shift, waveform):
    """Waveform at the angles speed · t + shift, with aliasing, as SciPy samples it."""
    if waveform == SINE:
        for i in range(len(wave)):
            wave[i] = sine_angle(speed * time[i] + shift[i])
    elif waveform == TRIANGLE:
        for i in range(len(wave)):
            rest = remainder(speed * time[i] + shift[i])
            rise = rest if rest < PI else PI * 1.5 - rest
            wave[i] = rise / (PI * 0.5) - (1.0 if rest < PI else 0.0)
    elif waveform == SAWTOOTH:
        for i in range(len(wave)):
            rest = remainder(speed * time[i] + shift[i])
            wave[i] = rest / PI - 1
    else:
        for i in range(len(wave)):
            rest = remainder(speed * time[i] + shift[i])
            wave[i] = 1.0 if rest < PI else -1.0


@compiled
@no_type_check
def clenshaw(near, far, double_cosine, amplitudes):
    """Store the sums b1 and b2 of Clenshaw's recurrence over the partials in `near` and `far`."""
    near[:] = 0.0
    far[:] = 0.0
    last = len(amplitudes)
    if last % 2:
        last -= 1
        near[:] = amplitudes[last]
    for k in range(last - 1, 0, -2):
        higher, lower = amplitudes[k], amplitudes[k - 1]
        for i in range(len(near)):
            between = higher + double_cosine[i] * near[i] - far[i]
            far[i] = between
            near[i] = lower + double_cosine[i] * between - near[i]


@compiled
@no_type_check
def limited_wave(wave, speed, time, shift, waveform, amplitudes, second, scratch):
    """Sum of partials with these amplitudes: all orders for a sawtooth, else the odd ones."""
    many = len(wave)
    sine, cosine, step = scratch[2][:many], scratch[3][:many], scratch[4][:many]
    near, far = scratch[5][:many], scratch[6][:many]
    for i in range(len(wave)):
        turns = speed * time[i] + shift[i]
        turn = turns - np.rint(turns)
        half = np.rint(2 * turn)
        angle = TAU * (turn - 0.5 * half)
        sign = 1.0 if half == 0 else -1.0
        sine[i] = sign * sine_series(angle)
        cosine[i] = sign * cosine_series(angle)
    if waveform == SAWTOOTH:
        for i in range(len(wave)):
            step[i] = 2 * cosine[i]
    else:
        for i in range(len(wave)):
            step[i] = 2 - 4 * sine[i] * sine[i]
    clenshaw(near, far, step, amplitudes)
    if waveform == SAWTOOTH:
        for i in range(len(wave)):
            wave[i] = near[i] * sine[i]
    elif waveform == TRIANGLE:
        for i in range(len(wave)):
            wave[i] = (near[i] - far[i]) * cosine[i]
    else:
        for i in range(len(wave)):
            wave[i] = (near[i] + far[i]) * sine[i]
    if second != 0:
        for i in range(len(wave)):
            wave[i] += 2 * second * sine[i] * cosine[i]


@compiled
@no_type_check
def shape_envelope(wave, time, attack, decay, end):
    """Apply raised cosines: up over the first `attack` seconds, down over the last `decay`."""
    if attack > 0 and time[0] < attack:
        for i in range(len(wave)):
            wave[i] *= 0.5 - 0.5 * cosine_turns(0.5 * min(time[i] / attack, 1.0))
    if decay > 0 and time[-1] > end - decay:
        for i in range(len(wave)):
            left = max(end - time[i], 0.0)
            wave[i] *= 0.5 - 0.5 * cosine_turns(0.5 * min(left / decay, 1.0))


@compiled
@no_type_check
def add_second(wave, speed, time, shift, second):
    """Add a partial at twice the frequency."""
    for i in range(len(wave)):
        wave[i] += second * sine_angle(2 * (speed * time[i] + shift[i]))


@compiled
@no_type_check
def add_normal(wave, level, start, first):
    """Add noise with standard deviation `level` to a clip's block that begins at the even sample `first`."""
    for sample in range(0, len(wave), 2):
        word = np.uint64(start) + np.uint64((first + sample) // 2 + 1) * np.uint64(STEP)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(FIRST)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(SECOND)
        word ^= word >> np.uint64(31)
        uniform = (np.float64(word >> np.uint64(32)) + 1.0) / 2.0**32
        angle = np.float64(word & np.uint64(0xFFFFFFFF)) * (TAU / 2.0**32)
        radius = level * math.sqrt(-2.0 * math.log(uniform))
        wave[sample] += radius * math.cos(angle)
        if sample + 1 < len(wave):
            wave[sample + 1] += radius * math.sin(angle)


@compiled
@no_type_check
def render(tones, series, terms, streams, pitches, levels, time, end, alias, out):
    """Fill `out` with clips; the columns of `tones` are in the order of `oscillator.COLUMNS`."""
    step = time[1] - time[0]
    scratch = np.empty((7, BLOCK))
    for clip in range(len(tones)):
        code, frequency, amplitude, phase, attack, decay, noise, rate, depth, second = tones[clip]
        waveform = int(code)
        unit = TAU if alias else 1.0
        speed, offset = unit * frequency, unit * phase
        scratch[1] = offset
        total, last = 0.0, 0.0
        for first in range(0, len(time), BLOCK):
            now = time[first : min(first + BLOCK, len(time))]
            wave, shift = scratch[0][: len(now)], scratch[1][: len(now)]
            if len(pitches[clip]):
                total, last = glide(
                    shift, now, offset, speed, pitches[clip], rate, depth, total, last, step, first == 0
                )
            elif depth != 0 and rate != 0:
                vibrate(shift, now, offset, unit * frequency * depth / (TAU * rate), rate)
            if alias:
                naive_wave(wave, speed, now, shift, waveform)
                if second != 0:
                    add_second(wave, speed, now, shift, second)
            else:
                amplitudes = series[waveform, : terms[clip]]
                limited_wave(wave, speed, now, shift, waveform, amplitudes, second, scratch)
            shape_envelope(wave, now, attack, decay, end)
            if len(levels[clip]):
                fade(wave, now, levels[clip], shift)
            target = out[clip, first : first + len(now)]
            if noise == 0:
                for i in range(len(now)):
                    target[i] = amplitude * wave[i]
            else:
                for i in range(len(now)):
                    wave[i] *= amplitude
                add_normal(wave, noise, streams[clip], first)
                target[:] = wave
