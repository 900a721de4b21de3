"""Room impulse responses: `simulate(room, sources, ears)` computes them, `render` convolves sounds with them.

room = shoebox((6, 4, 3), absorption=0.3)
responses = simulate(room, sources=[(1, 1, 1.5)], ears=[(4, 2, 1.6), (4.2, 2, 1.6)], rate=16000)
heard = render(responses, sounds)        # (ear, time), from NumPy to NumPy
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.fft import next_fast_len

from sonarium.config import Range, check_number
from sonarium.rooms.acoustics.arrivals import LEAD
from sonarium.rooms.acoustics.filterbank import audible_bands, filters, half_length
from sonarium.rooms.acoustics.geometry import Room
from sonarium.rooms.acoustics.images import find_images
from sonarium.rooms.acoustics.limits import LONGEST_RESPONSE, MOST_IMAGES, check_length
from sonarium.rooms.acoustics.slots import Slots

Points = Sequence[Sequence[float] | Float[np.ndarray, " _"]] | Float[np.ndarray, "_ _"]


def simulate(
    room: Room,
    sources: Points,
    ears: Points,
    rate: int = 16000,
    order: int = 10,
    length: int | None = None,
    dtype: type = np.float32,
    most_images: int = MOST_IMAGES,
    longest_response: float = LONGEST_RESPONSE,
) -> Float[np.ndarray, "source ear time"]:
    """Room impulse responses (RIRs) from every source to every ear (or microphone).

    Time 0 is sample `lead(room, rate)`, because a band-limited arrival begins before its time. `length` truncates
    the responses; None: long enough for the farthest image. More images of a source than `most_images`, or
    responses of more than `longest_response` seconds, raise ValueError before they are computed.
    """
    check_number("rate", rate, Range(1, 10**6), whole=True)
    check_number("order", order, Range(0), whole=True)
    if length is not None:
        check_number("length", length, Range(1), whole=True)
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"got dtype {dtype!r}: give numpy.float32 or numpy.float64")
    order, rate = int(order), int(rate)
    source_places, ear_places = places(sources, room, "source"), places(ears, room, "ear")
    bands = audible_bands(room.bands, rate)
    slots = Slots(1, len(source_places), order, rate, bands, dtype)
    slots.enter(0, room)
    for number, place in enumerate(source_places):
        slots.place(0, number, find_images(room, place, order, most=most_images), room)
    listening = np.zeros((1, len(ear_places), 5))
    listening[0, :, : room.dimension] = ear_places
    check_length(samples := length or slots.length(0), rate, longest_response)
    found = slots.responses(np.zeros(1, np.int64), listening, samples)[0]
    if not bands:
        return found[:, :, 0]
    return joined(found, bands, rate, length).astype(dtype)


def lead(room: Room, rate: int) -> int:
    """The sample of time 0, the emission, in a response of `simulate`."""
    return LEAD + half_length(audible_bands(room.bands, rate), rate)


def joined(
    responses: Float[np.ndarray, "source ear band time"], bands: tuple[float, ...], rate: int, length: int | None
) -> Float[np.ndarray, "source ear total"]:
    """Broadband responses: octave bands filtered and summed."""
    taps = filters(bands, rate)
    total = responses.shape[-1] + taps.shape[1] - 1
    size = next_fast_len(total, real=True)
    spectrum = (np.fft.rfft(responses, size) * np.fft.rfft(taps, size)).sum(axis=2)
    return np.fft.irfft(spectrum, size)[..., : length or total]


def render(
    responses: Float[np.ndarray, "source ear time"], sounds: Float[np.ndarray, "source sample"]
) -> Float[np.ndarray, "ear heard"]:
    """The signals at the ears when each source plays its sound: the full convolution."""
    if len(sounds) != len(responses):
        raise ValueError(f"got {len(sounds)} sounds for {len(responses)} sources: give one for each")
    total = responses.shape[-1] + sounds.shape[-1] - 1
    size = next_fast_len(total, real=True)
    spectrum = np.fft.rfft(responses, size) * np.fft.rfft(sounds, size)[:, None]
    return np.fft.irfft(spectrum.sum(axis=0), size)[:, :total].astype(responses.dtype)


def places(points: Points, room: Room, name: str) -> Float[np.ndarray, "point axis"]:
    """Positions as an array; raises ValueError for those outside the room."""
    found = np.asarray(points, np.float64)
    if found.ndim != 2 or found.shape[1] != room.dimension or len(found) == 0:
        raise ValueError(
            f"got {name}s of shape {found.shape}: give rows of {room.dimension} coordinates, as the room has"
        )
    if not np.isfinite(found).all():
        raise ValueError(f"the places of the {name}s hold NaN or infinite values: give metres")
    outside = np.flatnonzero(~room.inside(found))
    if len(outside):
        at = np.round(found[outside[0]], 3).tolist()
        raise ValueError(f"{name} {outside[0]} at {at} is not inside the room: move it off the walls")
    return found
