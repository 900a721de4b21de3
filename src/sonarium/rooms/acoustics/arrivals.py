"""Impulse responses from image sources: a compiled loop over rooms, sources and ears.

Each audible image arrives after distance / speed of sound, with amplitude gain / distance, as a fractional
delay: a sinc under a Hann window of 81 samples. The windowed sinc is interpolated linearly in a table of
fractional delays, with an error of 7e-6 in single precision, whose table fits into the cache, and of 1e-7 in
double. A response begins `LEAD` samples before the emission, because the sinc begins before its arrival.

The optional spherical head adds the interaural delay of Woodworth (1938) and the head shadow of Brown & Duda
(1998).
"""

from functools import cache
from typing import no_type_check

import numpy as np
from jaxtyping import Float

from sonarium.rooms.acoustics.images import ASIDE, unobstructed
from sonarium.rooms.acoustics.jit import compiled

HALF = 40
"""Samples on either side of the centre of the windowed sinc."""
LEAD = HALF
"""Samples of a response before the emission."""
TAPS = 2 * HALF + 1
"""Length of the windowed sinc in samples."""
PADDED = 88
"""Number of taps, zero-padded to whole SIMD vectors."""
NEAREST = 0.01
"""Minimum distance in metres, at which 1/distance is clamped."""


def windowed_sinc(place: Float[np.ndarray, " place"]) -> Float[np.ndarray, "place tap"]:
    """The taps of fractional delays. As in pyroomacoustics, the window stays on the samples and the sinc moves."""
    tap = np.arange(TAPS)
    window = 0.5 - 0.5 * np.cos(np.pi * tap / HALF)
    return window * np.sinc(tap - HALF - place[:, None])


@cache
def sinc_table(dtype: type = np.float32) -> Float[np.ndarray, "place 2 tap"]:
    """The taps on a grid of fractional delays, and their differences to the next delay."""
    places = 256 if dtype == np.float32 else 2048
    taps = np.zeros((places + 1, PADDED))
    taps[:, :TAPS] = windowed_sinc(np.arange(places + 1) / places)
    return np.stack([taps[:-1], taps[1:] - taps[:-1]], axis=1).astype(dtype)


@compiled
@no_type_check
def add_arrival(response, taps, arrival, amplitude):
    """Add one windowed sinc to a response."""
    whole = int(arrival)
    if amplitude == 0.0 or whole >= len(response):
        return
    place = (arrival - whole) * len(taps)
    row = min(int(place), len(taps) - 1)
    fraction = response.dtype.type(place - row)
    level = response.dtype.type(amplitude)
    values, slopes = taps[row, 0], taps[row, 1]
    if whole + PADDED <= len(response):
        reached = response[whole : whole + PADDED]
        for tap in range(PADDED):
            reached[tap] += level * (values[tap] + fraction * slopes[tap])
    else:
        for tap in range(len(response) - whole):
            response[whole + tap] += level * (values[tap] + fraction * slopes[tap])


@compiled
@no_type_check
def stand_in(within, lines, x, y):
    """Mark the beams that contain a point, which is then on the inner side of both edges. Beams that meet in a ray
    are divided beside it, so that rounding does not put a point on the ray, as on a symmetry plane, into both or
    into none."""
    point_x, point_y = lines.dtype.type(x), lines.dtype.type(y)
    rounding = lines.dtype.type(4) * np.finfo(lines.dtype).eps
    aside = lines.dtype.type(ASIDE) + rounding * (abs(point_x) + abs(point_y))
    for beam in range(len(within)):
        right = lines[0, beam] * point_x + lines[1, beam] * point_y + lines[2, beam]
        left = lines[3, beam] * point_x + lines[4, beam] * point_y + lines[5, beam]
        within[beam] = (right >= -aside - rounding * abs(lines[2, beam])) & (
            left >= aside + rounding * abs(lines[5, beam])
        )


@compiled
@no_type_check
def shade(cosine, radius, frequency, speed):
    """Head shadow: the gain of a band by the angle of incidence at the ear."""
    angle = np.arccos(min(1.0, max(-1.0, cosine)))
    brightness = 1.05 + 0.95 * np.cos(angle * 1.2)
    ratio = np.pi * frequency * radius / speed
    return np.sqrt((1.0 + (brightness * ratio) ** 2) / (1.0 + ratio**2))


@compiled
@no_type_check
def detour(cosine, radius):
    """Metres that a spherical head adds to the distance from an image to the centre of the head."""
    if cosine >= 0.0:
        return -radius * cosine
    return radius * (np.arccos(max(-1.0, cosine)) - np.pi / 2)


@compiled
@no_type_check
def respond(
    out, chosen, ears, apex, lines, links, gain, beams, heights, height_gain, order, corners, walls,
    convex, air, speed, rate, heard, head, bands, taps,
):  # fmt: skip
    """Compute the responses of all (chosen slot, source, ear)."""
    sources, listeners = out.shape[1], out.shape[2]
    most = apex.shape[2] * heights.shape[2]
    within, arrivals = np.empty(apex.shape[2], np.uint8), np.empty(most)
    amplitudes = np.empty((len(bands), most))
    for row in range(len(out) * sources * listeners):
        ear, source, number = row % listeners, row // listeners % sources, row // listeners // sources
        slot, response = chosen[number], out[number, source, ear]
        response[:] = 0.0
        if not heard[slot, source]:
            continue
        listener, count = ears[number, ear], beams[slot, source]
        stand_in(within[:count], lines[slot, source], listener[0], listener[1])
        if not convex[slot]:
            look_back(
                within[:count], apex[slot, source], links[slot, source], corners[slot], walls[slot], listener
            )
        found = arrive(
            arrivals, amplitudes, within[:count], apex[slot, source], links[slot, source], gain[slot, source],
            heights[slot, source], height_gain[slot, source], order, listener, air[slot], speed[slot], head[slot],
            bands,
        )  # fmt: skip
        for band in range(len(bands)):
            for image in range(found):
                add_arrival(response[band], taps, arrivals[image] * rate, amplitudes[band, image])


@compiled
@no_type_check
def look_back(within, apex, links, corners, walls, listener):
    """Discard the beams whose path back from the listener is obstructed."""
    for beam in range(len(within)):
        if within[beam] and not unobstructed(
            beam, apex, links[:, 0], links[:, 1], corners[:, :2], corners[:, 2:], walls, listener[0], listener[1]
        ):
            within[beam] = False


@compiled
@no_type_check
def arrive(
    arrivals, amplitudes, within, apex, links, gain, heights, height_gain, order, listener, air, speed, head, bands
):  # fmt: skip
    """Arrival times in seconds and amplitudes of all images audible at an ear; returns their number."""
    count = 0
    x, y, z = listener[0], listener[1], listener[2]
    for beam in range(len(within)):
        if not within[beam]:
            continue
        levels = 1 if len(heights) == 1 else 1 + 2 * (order - links[beam, 2])
        across, up = apex[beam, 0] - x, apex[beam, 1] - y
        for level in range(levels):
            distance = max(np.sqrt(across * across + up * up + (heights[level] - z) ** 2), NEAREST)
            way, cosine = distance, 0.0
            if head > 0.0:
                cosine = (across * listener[3] + up * listener[4]) / distance
                way = max(0.0, way + detour(cosine, head))
            arrivals[count] = way / speed
            for band in range(len(bands)):
                amplitude = gain[beam, band] * height_gain[level, band] / distance
                if air[band] > 0.0:
                    amplitude *= np.exp(-air[band] * distance)
                if head > 0.0:
                    amplitude *= shade(cosine, head, bands[band], speed)
                amplitudes[band, count] = amplitude
            count += 1
    return count
