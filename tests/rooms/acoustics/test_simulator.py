"""Moving listeners: against one long convolution, many rooms against single ones, clocks, switched sources."""

import os
import signal
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms.oracles import CUP, ELL, TEE, placed, rooms
from scipy.signal import fftconvolve

from sonarium.rooms.acoustics.absorption import OCTAVES, Air
from sonarium.rooms.acoustics.arrivals import LEAD
from sonarium.rooms.acoustics.geometry import Room, polygon, regular, shoebox
from sonarium.rooms.acoustics.impulse_responses import lead, simulate
from sonarium.rooms.acoustics.simulator import FADE, Acoustics

RATE, WINDOW = 8000, 700
FADED = round(FADE * RATE)
HALF = 0.1
"""Distance in metres from the centre of the head to an ear."""


def noise(seed: int, *lengths: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(length).astype(np.float32) for length in lengths]


def ears_of(place: np.ndarray, heading: float, distance: float = 2 * HALF) -> np.ndarray:
    """Positions of the left and right ear of a head at `place`."""
    left = np.zeros(len(place))
    left[:2] = -np.sin(heading), np.cos(heading)
    return np.stack([place + distance / 2 * left, place - distance / 2 * left])


def looped(sound: np.ndarray, offset: int, before: int, count: int) -> np.ndarray:
    """Samples of a sound that has looped forever, from `before` samples before time 0."""
    return sound[(np.arange(-before, count) + offset) % len(sound)].astype(float)


def long_way(
    room: Room, sources: np.ndarray, ears: np.ndarray, sounds: list[np.ndarray], order: int
) -> np.ndarray:
    """Oracle: one convolution of float64 responses with sounds whose history is as long as the responses."""
    found = simulate(room, sources, ears, RATE, order, dtype=np.float64)
    parts = [
        fftconvolve(found[source], sounds[source][None], axes=-1)[:, found.shape[-1] - 1 : len(sounds[source])]
        for source in range(len(sources))
    ]
    return np.sum(parts, axis=0)


def history(room: Room, sources: np.ndarray, ears: np.ndarray, order: int) -> int:
    return simulate(room, sources, ears, RATE, order).shape[-1] - 1


def one(value: object) -> np.ndarray:
    return np.array([value], float)


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 2e-5) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@settings(max_examples=15)
@given(st.sampled_from((2, 2, 3)).flatmap(rooms), st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(1, 2))
def test_windows_of_a_stream_are_pieces_of_one_long_convolution(room, seed, order, threads):
    random = np.random.default_rng(seed)
    *sources, place = placed(room, random, 3, 0.2)
    sources, heading = np.array(sources), random.uniform(-7, 7)
    sounds, offsets = noise(seed, 333, 1501), np.array([100, 2000])
    acoustics = Acoustics(1, 2, RATE, WINDOW, order, threads=threads)
    acoustics.enter(0, room, sources, sounds, offsets)
    heard = np.concatenate([acoustics.hear(place[None], one(heading))[0] for _ in range(4)], axis=1)
    ears = ears_of(place, heading)
    before = history(room, sources, ears, order)
    playing = [looped(sound, at, before, heard.shape[1]) for sound, at in zip(sounds, offsets, strict=True)]
    expected = long_way(room, sources, ears, playing, order)
    assert heard.dtype == np.float32 and np.abs(heard - expected).max() <= 2e-5 * np.abs(expected).max(
        initial=1e-9
    )


@pytest.mark.parametrize(
    ("room", "bands"),
    [
        (shoebox((5, 4, 3), absorption=np.linspace(0.1, 0.6, 36).reshape(6, 6), bands=OCTAVES[:6]), OCTAVES[:6]),
        (polygon(ELL, absorption=0.3, bands=OCTAVES, air=Air(25, 30)), OCTAVES),
    ],
)
def test_streams_in_octave_bands(room, bands):
    sources = placed(room, np.random.default_rng(0), 3, 0.2)
    sources, place = sources[:2], sources[2]
    sounds = noise(0, 900, 900)
    acoustics = Acoustics(1, 2, RATE, WINDOW, 2, bands=bands)
    acoustics.enter(0, room, sources, sounds)
    heard = np.concatenate([acoustics.hear(place[None], one(0.4))[0] for _ in range(3)], axis=1)
    assert acoustics.lead == lead(room, RATE) > LEAD
    ears = ears_of(place, 0.4)
    before = history(room, sources, ears, 2)
    close(
        heard, long_way(room, sources, ears, [looped(one, 0, before, heard.shape[1]) for one in sounds], 2), 5e-5
    )


@pytest.mark.parametrize("window", [500, 3000, 9000])
@pytest.mark.parametrize("room", [shoebox((6, 5)), regular(6, 3.0), polygon(TEE, 3.0)])
def test_a_clip_is_the_whole_convolution_from_its_beginning(room, window):
    sources = placed(room, np.random.default_rng(1), 3, 0.2)
    sources, place = sources[:2], sources[2]
    sounds = noise(1, window, 400)
    acoustics = Acoustics(1, 2, RATE, window, 3, clock="clip")
    acoustics.enter(0, room, sources, sounds)
    found = simulate(room, sources, ears_of(place, 1.0), RATE, 3, dtype=np.float64)
    whole = [fftconvolve(found[at], sounds[at][None].astype(float), axes=-1) for at in (0, 1)]
    expected = np.zeros((2, max(window, *(part.shape[1] for part in whole))))
    for part in whole:
        expected[:, : part.shape[1]] += part
    for _ in range(2):
        close(acoustics.hear(place[None], one(1.0))[0], expected[:, :window])


MANY = [
    shoebox((5, 4)),
    regular(6, 4.0),
    polygon(TEE),
    polygon(CUP),
    shoebox((11, 13), absorption=0.05),
    regular(5, 2.0),
]


@pytest.mark.parametrize("clock", ["stream", "clip"])
@pytest.mark.parametrize("threads", [1, 2])
def test_many_rooms_are_each_as_if_alone(clock, threads):
    """Rooms of different sizes and shapes, sounds of different lengths: the same samples to the last bit."""
    random = np.random.default_rng(2)
    points = [placed(room, random, 3, 0.5) for room in MANY]
    sounds = [noise(at, 300 + 77 * at, 1000) for at in range(len(MANY))]
    together = Acoustics(len(MANY), 2, RATE, WINDOW, 3, clock=clock, threads=threads)
    for slot, room in enumerate(MANY):
        together.enter(slot, room, points[slot][:2], sounds[slot], np.array([slot, 5]))
    middles = np.array([some[2] for some in points])
    random = np.random.default_rng(9)
    alone = [Acoustics(1, 2, RATE, WINDOW, 3, clock=clock, threads=1) for _ in MANY]
    for slot, room in enumerate(MANY):
        alone[slot].enter(0, room, points[slot][:2], sounds[slot], np.array([slot, 5]))
    for _ in range(3):
        places, headings = middles + random.uniform(-0.2, 0.2, middles.shape), random.uniform(-4, 4, len(MANY))
        heard = together.hear(places, headings)
        for slot in range(len(MANY)):
            assert heard[slot].any()
            assert (heard[slot] == alone[slot].hear(places[slot, None], headings[slot, None])[0]).all()


def test_a_plane_beside_a_room_with_a_height():
    flat, tall = shoebox((5, 4)), shoebox((5, 4, 3))
    sounds = noise(3, 900)
    both = Acoustics(2, 1, RATE, WINDOW, 3)
    both.enter(0, flat, np.array([[1, 1.0]]), sounds)
    both.enter(1, tall, np.array([[1, 1, 1.0]]), sounds)
    heard = both.hear(np.array([[3, 2, 1.5], [3, 2, 1.5]]), np.zeros(2))
    for slot, (room, source, place) in enumerate([(flat, [1, 1.0], [3, 2.0]), (tall, [1, 1, 1.0], [3, 2, 1.5])]):
        alone = Acoustics(1, 1, RATE, WINDOW, 3)
        alone.enter(0, room, one(source), sounds)
        close(heard[slot], alone.hear(one(place), np.zeros(1))[0], 1e-6)


def test_a_plane_after_a_room_with_a_height():
    used, fresh = Acoustics(1, 1, RATE, WINDOW, 3), Acoustics(1, 1, RATE, WINDOW, 3)
    used.enter(0, shoebox((5, 4, 3)), np.array([[1, 1, 1.0]]), noise(3, 900))
    used.hear(one([3, 2, 1.5]), np.zeros(1))
    for acoustics in (used, fresh):
        acoustics.enter(0, shoebox((5, 4)), np.array([[1, 1.0]]), noise(3, 900))
    assert (used.hear(one([3, 2.0]), np.zeros(1)) == fresh.hear(one([3, 2.0]), np.zeros(1))).all()


def test_some_slots_may_be_heard_and_the_others_wait():
    rooms_, random = MANY[:3], np.random.default_rng(4)
    points = [placed(room, random, 2, 0.5) for room in rooms_]
    ways = [Acoustics(3, 1, RATE, WINDOW, 2) for _ in range(2)]
    for acoustics in ways:
        for slot, room in enumerate(rooms_):
            acoustics.enter(slot, room, points[slot][:1], noise(slot, 900))
    places = np.array([some[1] for some in points])
    all_at_once = [ways[0].hear(places, np.zeros(3)) for _ in range(2)]
    first = ways[1].hear(places[[2, 0]], np.zeros(2), np.array([2, 0]))
    second = ways[1].hear(places, np.zeros(3))
    assert (first == all_at_once[0][[2, 0]]).all()
    assert (second[[0, 2]] == all_at_once[1][[0, 2]]).all() and (second[1] == all_at_once[0][1]).all()


def test_a_step_makes_no_click():
    """A low tone differs little from sample to sample; switching responses must not add a larger jump."""
    room, source = shoebox((8, 7), absorption=0.4), np.array([[2, 3.0]])
    tone = np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE).astype(np.float32)
    place, far = np.array([4, 3.0]), np.array([4.5, 3.4])
    resting, moving = (Acoustics(1, 1, RATE, WINDOW, 6) for _ in range(2))
    for acoustics in (resting, moving):
        acoustics.enter(0, room, source, [tone])
    still, steps = [], []
    for step in range(8):
        still.append(resting.hear(place[None], one(0.0))[0])
        steps.append(moving.hear((place if step % 2 else far)[None], one(2.5 * step))[0])
    jumps = [np.abs(np.diff(np.concatenate(heard, axis=1))).max() for heard in (still, steps)]
    # Without the cross-fade the jump is about ten times larger than any in the tone.
    assert jumps[1] < 1.3 * jumps[0]
    edges = np.arange(1, 8) * WINDOW
    joined = np.concatenate(steps, axis=1)
    bare = np.abs(joined[:, edges] - joined[:, edges - 1]).max()
    assert bare < 1.2 * jumps[0]


def test_while_the_responses_change_the_old_give_way_to_the_new():
    room, source, sound = shoebox((6, 5)), np.array([[2, 3.0]]), noise(6, 2000)
    here, there = np.array([[4, 2.0]]), np.array([[4.4, 2.2]])
    acoustics = Acoustics(1, 1, RATE, WINDOW, 4)
    acoustics.enter(0, room, source, sound)
    acoustics.hear(here, one(0.0))
    mixed = acoustics.hear(there, one(1.0))[0]
    parts = []
    for place, heading in ((here, 0.0), (there, 1.0)):
        ears = ears_of(place[0], heading)
        before = history(room, source, ears, 4)
        parts.append(long_way(room, source, ears, [looped(sound[0], 0, before, 2 * WINDOW)], 4)[:, WINDOW:])
    fading = (mixed - parts[0]) / (parts[1] - parts[0])
    assert fading[:, FADED:] == pytest.approx(1, abs=0.01)
    expected = np.sin(np.pi / 2 * (np.arange(FADED) + 0.5) / FADED) ** 2
    sure = np.abs(parts[1] - parts[0])[:, :FADED] > 0.1
    assert np.abs(fading[:, :FADED] - expected)[sure].max() < 1e-3


@pytest.mark.parametrize("room", [shoebox((6, 5), absorption=0.1), polygon(CUP, 2.5, absorption=0.1)])
def test_what_is_switched_off_rings_out_as_the_cut_sound_would(room):
    points = placed(room, np.random.default_rng(5), 3, 0.3)
    sources, place = points[:2], points[2]
    sounds = noise(7, 500, 800)
    acoustics = Acoustics(1, 2, RATE, WINDOW, 6)
    acoustics.enter(0, room, sources, sounds)
    heard = []
    for step in range(12):
        if step == 3:
            acoustics.switch_off(0, 1)
        if step == 4:
            acoustics.switch_off(0, 0)
            acoustics.switch_off(0, 1)
        heard.append(acoustics.hear(place[None], one(0.2))[0])
    ears = ears_of(place, 0.2)
    before, total = history(room, sources, ears, 6), 12 * WINDOW
    playing = [looped(sound, 0, before, total) for sound in sounds]
    playing[0][before + 4 * WINDOW :], playing[1][before + 3 * WINDOW :] = 0, 0
    expected = long_way(room, sources, ears, playing, 6)
    found, sure = np.concatenate(heard, axis=1), np.ones(total, bool)
    for step in (3, 4):
        # To avoid a click, the continuation of the sound fades out for 8 ms after the cut.
        sure[step * WINDOW : step * WINDOW + FADED] = False
    assert np.abs(found - expected)[:, sure].max() <= 2e-5 * np.abs(expected).max()
    silent = (4 * WINDOW + before + WINDOW) // WINDOW + 1
    assert silent < 11 and np.abs(found[:, silent * WINDOW :]).max() <= 2e-5 * np.abs(expected).max()
    assert not acoustics.slots.heard.any() and not heard[-1].any()


def test_a_clip_that_is_switched_off_is_silent_even_if_it_moves():
    acoustics = Acoustics(1, 2, RATE, 2000, 2, clock="clip")
    sources = np.array([[1, 1.0], [4, 3.0]])
    acoustics.enter(0, shoebox((5, 4)), sources, noise(8, 2000, 2000))
    both = acoustics.hear(one([2, 2.5]), one(0.0))
    acoustics.switch_off(0, 1)
    alone = acoustics.hear(one([2, 2.5]), one(0.0))
    acoustics.move(0, 1, np.array([3, 3.0]))
    assert not (both == alone).all() and (acoustics.hear(one([2, 2.5]), one(0.0)) == alone).all()
    acoustics.switch_off(0, 0)
    assert not acoustics.hear(one([2, 2.5]), one(0.0)).any()
    acoustics.enter(0, shoebox((5, 4)), sources, noise(8, 2000, 2000))
    assert (acoustics.hear(one([2, 2.5]), one(0.0)) == both).all()


def test_a_source_that_moved_is_heard_from_its_new_place():
    room, sound = polygon(ELL), noise(10, 1200)
    moved, settled = (Acoustics(1, 1, RATE, WINDOW, 3) for _ in range(2))
    moved.enter(0, room, np.array([[1, 1.0]]), sound)
    settled.enter(0, room, np.array([[5, 2.0]]), sound)
    place = one([2, 1.5])
    for acoustics in (moved, settled):
        acoustics.hear(place, one(0.0))
    moved.move(0, 0, np.array([5, 2.0]))
    after, expected = moved.hear(place, one(0.0))[0], settled.hear(place, one(0.0))[0]
    close(after[:, FADED:], expected[:, FADED:], 1e-6)
    assert np.abs(after[:, : FADED // 2] - expected[:, : FADED // 2]).max() > 0.01


@pytest.mark.parametrize("clock", ["stream", "clip"])
def test_a_slot_that_is_entered_again_remembers_nothing(clock):
    sounds, others = noise(11, 800, 900), noise(12, 3100, 200)
    used, fresh = (Acoustics(2, 2, RATE, WINDOW, 3, clock=clock) for _ in range(2))
    big, small = regular(8, 5.0, absorption=0.05), shoebox((4, 3))
    for slot in range(2):
        used.enter(slot, big, np.array([[3, 4.0], [6, 5.0]]), others)
    used.switch_off(1, 0)
    for _ in range(3):
        used.hear(np.full((2, 2), 4.5), np.zeros(2))
    for acoustics in (used, fresh):
        for slot in range(2):
            acoustics.enter(slot, small, np.array([[1, 1.0], [3, 2.0]]), sounds, np.array([slot, 7]))
    for _ in range(2):
        again, first = (acoustics.hear(np.full((2, 2), 1.7), np.ones(2)) for acoustics in (used, fresh))
        assert first.any() and (again == first).all()


def test_the_map_tells_levels_of_what_is_on():
    room = shoebox((9, 8), absorption=1.0)
    acoustics = Acoustics(1, 2, RATE, WINDOW, 0)
    acoustics.enter(0, room, np.array([[2, 4.0], [7, 4.0]]), noise(0, 500, 500))
    points = np.array([[2, 5.0], [2, 6.0], [4.5, 4.0]])
    acoustics.switch_off(0, 1)
    assert acoustics.levels(0, points) == pytest.approx([0, -6.02, -7.96], abs=0.1)
    acoustics.enter(0, room, np.array([[2, 4.0], [7, 4.0]]), noise(0, 500, 500))
    assert acoustics.levels(0, points)[2] == pytest.approx(-7.96 + 3.01, abs=0.1)


def test_a_forked_process_has_threads_of_its_own():
    count = 64
    acoustics = Acoustics(count, 1, RATE, WINDOW, 1, threads=2)
    for slot in range(count):
        acoustics.enter(slot, shoebox((5, 4)), np.array([[1.0, 1.0]]), noise(slot, 300))
    places, headings = np.full((count, 2), 2.0), np.zeros(count)
    acoustics.hear(places, headings)
    with warnings.catch_warnings():
        # Newer versions of Python warn about every fork of a multi-threaded process.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        # The alarm kills a child that waits for threads it does not have.
        signal.alarm(300)
        try:
            os._exit(0 if np.isfinite(acoustics.hear(places, headings)).all() else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
