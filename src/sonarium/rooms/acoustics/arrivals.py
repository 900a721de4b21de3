"""From images to impulse responses: a compiled loop over rooms, sources and ears.

Every image that an ear hears arrives after distance over speed of sound, with the walls' gain over the distance,
as a sinc under a Hann window of 81 samples. The windowed sinc is read from a table of places between two samples,
with a straight line between neighbours: within 7e-6 of the formula in single precision, whose table stays in the
cache, within 1e-7 in double. `LEAD` samples stand before the time of emission, because the sinc begins before its
arrival.

An optional spherical head delays what comes from the other side by the way round it (Woodworth, 1938) and shades
it by band (Brown & Duda, 1998).
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Float

from sonarium.rooms.acoustics.images import unobstructed
from sonarium.rooms.acoustics.jit import compiled

HALF = 40
"""Samples on either side of the middle of the windowed sinc."""
LEAD = HALF
"""Samples of a response that lie before the time of emission."""
TAPS = 2 * HALF + 1
"""Samples that one arrival touches."""
PADDED = 88
"""Taps with zeros behind them, so that the loop over them is whole vectors."""
NEAREST = 0.01
"""Metres: nobody hears a source from nearer than this, where 1/distance ends."""


def windowed_sinc(place: Float[np.ndarray, " place"]) -> Float[np.ndarray, "place tap"]:
    """The taps of an arrival at these places between two samples. The window stays on the samples, as in
    pyroomacoustics; the sinc moves."""
    tap = np.arange(TAPS)
    window = 0.5 - 0.5 * np.cos(np.pi * tap / HALF)
    return window * np.sinc(tap - HALF - place[:, None])


def sinc_table(dtype: type = np.float32) -> Float[np.ndarray, "place 2 tap"]:
    """The taps at even places between two samples, and how they change up to the next place."""
    places = 256 if dtype == np.float32 else 2048
    taps = np.zeros((places + 1, PADDED))
    taps[:, :TAPS] = windowed_sinc(np.arange(places + 1) / places)
    return np.stack([taps[:-1], taps[1:] - taps[:-1]], axis=1).astype(dtype)


@compiled
@no_type_check
def add_arrival(response, taps, arrival, amplitude):
    """Lay one windowed sinc into a response, as far as it reaches."""
    whole = int(arrival)
    if amplitude == 0.0 or whole >= len(response):
        return
    place = (arrival - whole) * len(taps)
    row = min(int(place), len(taps) - 1)
    share = response.dtype.type(place - row)
    level = response.dtype.type(amplitude)
    values, slopes = taps[row, 0], taps[row, 1]
    if whole + PADDED <= len(response):
        reached = response[whole : whole + PADDED]
        for tap in range(PADDED):
            reached[tap] += level * (values[tap] + share * slopes[tap])
    else:
        for tap in range(len(response) - whole):
            response[whole + tap] += level * (values[tap] + share * slopes[tap])


@compiled
@no_type_check
def stand_in(within, lines, x, y):
    """In which beams a point lies: on the inner side of both lines."""
    point_x, point_y, zero = lines.dtype.type(x), lines.dtype.type(y), lines.dtype.type(0)
    for beam in range(len(within)):
        right = lines[0, beam] * point_x + lines[1, beam] * point_y + lines[2, beam]
        left = lines[3, beam] * point_x + lines[4, beam] * point_y + lines[5, beam]
        within[beam] = (right >= zero) & (left >= zero)


@compiled
@no_type_check
def shade(cosine, radius, frequency, speed):
    """What a sphere leaves of a band's sound pressure, by the angle of incidence at the ear."""
    angle = np.arccos(min(1.0, max(-1.0, cosine)))
    brightness = 1.05 + 0.95 * np.cos(angle * 1.2)
    ratio = np.pi * frequency * radius / speed
    return np.sqrt((1.0 + (brightness * ratio) ** 2) / (1.0 + ratio**2))


@compiled
@no_type_check
def detour(cosine, radius):
    """Metres that a sphere adds to the way from an image to the middle of the head."""
    if cosine >= 0.0:
        return -radius * cosine
    return radius * (np.arccos(max(-1.0, cosine)) - np.pi / 2)


@compiled
@no_type_check
def respond(
    out, chosen, ears, apex, lines, links, gain, beams, heights, height_gain, order, corners, walls,
    convex, air, speed, rate, heard, head, bands, taps,
):  # fmt: skip
    """Fill the responses of all (chosen slot, source, ear)."""
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
    """Leave out the beams whose way back from the listener meets a wall."""
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
    """Seconds and amplitudes of all images that an ear hears; how many they are."""
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
