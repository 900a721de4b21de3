"""Impulse responses against their formula, pyroomacoustics, symmetries and closed forms; refused input."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rooms.oracles import (
    CUP,
    ELL,
    TEE,
    Heard,
    heard_by_peer,
    ours,
    peer,
    placed,
    responded,
    rooms,
    searched,
    starlike,
    unmatched,
)
from typechecking import unchecked

from sonarium.rooms.acoustics.arrivals import LEAD
from sonarium.rooms.acoustics.geometry import Room, polygon, regular, shoebox
from sonarium.rooms.acoustics.impulse_responses import render, simulate

RATE = 16000
SEEDS = st.integers(0, 2**32 - 1)


def response(room: Room, source: np.ndarray, ear: np.ndarray, order: int, rate: int = RATE) -> np.ndarray:
    return simulate(room, source[None], ear[None], rate, order, dtype=np.float64)[0, 0]


@settings(max_examples=25)
@given(st.sampled_from((2, 2, 3)).flatmap(rooms), SEEDS, st.integers(0, 2))
def test_as_the_formula_over_all_sequences_of_walls(room, seed, order):
    source, ear = placed(room, np.random.default_rng(seed), 2)
    heard = searched(room, source, ear, order)
    assume(not any(len(lonely) for lonely in unmatched(ours(room, source, ear, order), heard)[:2]))
    found = response(room, source, ear, order)
    expected = responded(heard, ear, RATE, room.speed, len(found))
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    single = simulate(room, source[None], ear[None], RATE, order)[0, 0]
    assert np.abs(single - expected).max() <= 1e-4 * np.abs(expected).max()


@settings(max_examples=50)
@given(st.sampled_from((2, 2, 3)).flatmap(rooms), SEEDS, st.integers(0, 4))
def test_as_pyroomacoustics(room, seed, order):
    source, *ears = placed(room, np.random.default_rng(seed), 3)
    # pyroomacoustics fails where an ear receives no image.
    assume(all(len(ours(room, source, ear, order).places) for ear in ears))
    found = peer(room, [source], ears, RATE, order)
    for number, ear in enumerate(ears):
        seen, theirs = ours(room, source, ear, order), heard_by_peer(found, 0, number)
        # On the edge of a beam, its single precision decides differently; test_images.py covers these.
        assume(not any(len(lonely) for lonely in unmatched(seen, theirs)[:2]))
        mine = simulate(room, [source], [ear], RATE, order)[0, 0]
        agree(mine, found.rir[number][0], responded(seen, ear, RATE, room.speed, len(mine)))


@pytest.mark.parametrize(
    ("room", "order"),
    [
        (shoebox((8, 7)), 10),
        (regular(6, 4.0), 10),
        (shoebox((5, 4, 3)), 10),
        (polygon(CUP), 5),
        (polygon(ELL, 3.0), 4),
    ],
)
def test_high_orders_as_pyroomacoustics(room, order):
    source, *ears = placed(room, np.random.default_rng(7), 3)
    found = peer(room, [source], ears, RATE, order)
    mine = simulate(room, [source], ears, RATE, order)[0]
    for number in range(len(ears)):
        exact = responded(ours(room, source, ears[number], order), ears[number], RATE, room.speed, mine.shape[1])
        agree(mine[number], found.rir[number][0], exact)


def agree(mine: np.ndarray, theirs: np.ndarray, exact: np.ndarray) -> None:
    """Assert agreement within 1.5e-3 of the peak, or within the error of pyroomacoustics' sinc table where that
    is larger; and always within 1e-4 of the formula."""
    length = max(len(mine), len(theirs))
    mine, theirs, exact = (np.pad(one, (0, length))[:length] for one in (mine, theirs, exact))
    peak, own_error = np.abs(exact).max(), np.abs(theirs - exact).max()
    assert np.abs(mine - theirs).max() <= max(1.5e-3 * peak, 1.05 * own_error) and own_error < 3e-3 * peak
    assert np.abs(mine - exact).max() <= 1e-4 * peak


@pytest.mark.parametrize("metres", [0.3, 1.0, 1.71, 3.43])
def test_order_0_is_a_delayed_share_of_1_over_distance(metres):
    found = simulate(shoebox((6, 5)), [(1, 2)], [(1 + metres, 2)], RATE, 0, dtype=np.float64)[0, 0]
    delay = metres / 343 * RATE
    at = np.arange(len(found)) - LEAD - delay
    # In the flat middle of the window: a pure sinc.
    near = np.abs(at) < 2
    assert found[near] == pytest.approx(np.sinc(at[near]) / metres, abs=0.02 / metres)
    # As a filter: gain 1/d and linear phase up to nearly the Nyquist frequency.
    frequency = np.fft.rfftfreq(4096, 1 / RATE)
    low = frequency < 0.45 * RATE
    spectrum = np.fft.rfft(found, 4096) * np.exp(2j * np.pi * frequency / RATE * (LEAD + delay))
    assert np.abs(spectrum[low] * metres - 1).max() < 2e-3


@settings(max_examples=20)
@given(
    SEEDS,
    st.integers(0, 3),
    st.sampled_from((ELL, TEE, CUP, tuple(map(tuple, starlike(5, [3.0] * 5, [0.1] * 5))))),
)
def test_turned_and_shifted_rooms_sound_the_same(seed, order, corners):
    random = np.random.default_rng(seed)
    shares = random.uniform(0.05, 0.6, len(corners))
    room = polygon(corners, absorption=shares)
    source, ear = placed(room, random, 2)
    angle, shift = random.uniform(0, 2 * np.pi), random.uniform(-20, 20, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = polygon(room.corners @ turn.T + shift, absorption=shares)
    one = response(room, source, ear, order)
    other = response(turned, turn @ source + shift, turn @ ear + shift, order)
    length = min(len(one), len(other))
    assert np.abs(one[:length] - other[:length]).max() <= 1e-9 * np.abs(one).max(initial=1e-9)
    assert not one[length:].any() and not other[length:].any()


@settings(max_examples=20)
@given(st.sampled_from((2, 3)).flatmap(rooms), SEEDS, st.integers(0, 3))
def test_source_and_ear_may_change_places(room, seed, order):
    source, ear = placed(room, np.random.default_rng(seed), 2)
    there, back = response(room, source, ear, order), response(room, ear, source, order)
    length = min(len(there), len(back))
    assume(len(ours(room, source, ear, order).places) == len(ours(room, ear, source, order).places))
    assert np.abs(there[:length] - back[:length]).max() <= 1e-9 * np.abs(there).max(initial=1e-9)


@settings(max_examples=15)
@given(rooms(), SEEDS, st.integers(0, 3))
def test_in_a_mirror_left_is_right(room, seed, order):
    source, left, right = placed(room, np.random.default_rng(seed), 3)
    flip = np.array([-1.0, 1.0])
    # Mirrored corners are clockwise, and `polygon` reverses them and their walls, which start at the other end.
    mirrored = polygon(room.corners * flip, absorption=room.absorption[:, 0])
    ears = simulate(room, [source], [left, right], RATE, order, dtype=np.float64)[0]
    swapped = simulate(mirrored, [source * flip], [right * flip, left * flip], RATE, order, dtype=np.float64)[0]
    length = min(ears.shape[-1], swapped.shape[-1])
    assert np.abs(ears[::-1, :length] - swapped[:, :length]).max() <= 1e-9 * np.abs(ears).max(initial=1e-9)


def test_several_sources_and_ears_are_each_as_if_alone():
    room = polygon(CUP, 2.8)
    points = placed(room, np.random.default_rng(0), 5)
    together = simulate(room, points[:2], points[2:], RATE, 3)
    assert together.shape[:2] == (2, 3)
    for source in range(2):
        for ear in range(3):
            alone = simulate(room, points[source, None], points[2 + ear, None], RATE, 3)[0, 0]
            length = min(len(alone), together.shape[-1])
            assert (together[source, ear, :length] == alone[:length]).all()


@pytest.mark.parametrize("length", [1, 30, 200, 100000])
def test_a_length_only_cuts_or_fills_with_silence(length):
    whole = simulate(shoebox((5, 4)), [(1, 1)], [(3, 2.5)], RATE, 4)[0, 0]
    cut = simulate(shoebox((5, 4)), [(1, 1)], [(3, 2.5)], RATE, 4, length=length)[0, 0]
    assert len(cut) == length and (cut[: len(whole)] == whole[:length]).all() and not cut[len(whole) :].any()


def test_what_is_heard_is_a_plain_convolution():
    random = np.random.default_rng(5)
    room = shoebox((5, 4))
    found = simulate(room, [(1, 1), (4, 3)], [(3, 2.5), (3.2, 2.5)], RATE, 4, dtype=np.float64)
    sounds = random.standard_normal((2, 700))
    expected = np.stack(
        [np.convolve(found[0, ear], sounds[0]) + np.convolve(found[1, ear], sounds[1]) for ear in (0, 1)]
    )
    heard = render(found, sounds)
    assert heard.shape == expected.shape and np.abs(heard - expected).max() < 1e-9
    single = render(found.astype(np.float32), sounds.astype(np.float32))
    assert single.dtype == np.float32 and np.abs(single - expected).max() < 2e-5 * np.abs(expected).max()


def test_a_listener_nobody_reaches_hears_silence():
    room = polygon(CUP)
    # From one arm of the U to the other, sound needs at least three reflections.
    found = simulate(room, [(1, 4.5)], [(6, 4.5)], RATE, 1)
    assert not found.any() and not len(searched(room, np.array([1, 4.5]), np.array([6, 4.5]), 1).places)
    assert simulate(room, [(1, 4.5)], [(6, 4.2)], RATE, 5).any()


def test_images_of_one_distance_add_up():
    """At the centre of a square, the four first-order reflections coincide."""
    found = response(shoebox((4, 4), absorption=0.36), np.array([2, 2.0]), np.array([2, 2.0]) + 1e-9, 1)
    expected = responded(
        Heard(np.full((1, 2), [4 / np.sqrt(2)] * 2), np.array([4 * 0.8])), np.zeros(2), RATE, 343, 400
    )
    # The ear is at the source: the distance of the direct sound is clamped to one centimetre.
    expected[:81] += 100 * np.hanning(81) * np.sinc(np.arange(81) - 40 - 0.01 / 343 * RATE)
    length = min(len(found), len(expected))
    assert np.abs(found[:length] - expected[:length]).max() < 1e-5 * np.abs(expected).max()


def both(source: object = ((1, 1),), ear: object = ((2, 2),), **others: object) -> None:
    simulate(shoebox((5, 4)), source, ear, **others)  # pyright: ignore[reportArgumentType]


def test_what_would_fill_the_memory_is_refused_before_it_is_computed():
    with pytest.raises(ValueError, match=r"lasts 3.2\de\+04 s \(\d{3},\d{3},\d{3} samples\), more than 30 s"):
        simulate(shoebox((1e6, 1e6)), [(1, 1)], [(2, 2)], RATE)
    # A truncated response contains the sound of a nearby source.
    assert simulate(shoebox((1e6, 1e6)), [(1, 1)], [(2, 2)], RATE, 2, length=500).any()
    # A hexagon without absorption, and a cuboid, whose number of images is known beforehand.
    for room, source in ((regular(6, 5, absorption=0.0), (5, 5)), (shoebox((6, 5, 3), absorption=0.0), (1, 1, 1))):
        with pytest.raises(ValueError, match="at order 200 a source has more than 5,000 images"):
            simulate(room, [source], [source], RATE, 200, most_images=5000)


def test_as_many_images_as_are_allowed_are_computed():
    # 1 + 2 N (N + 1) images in the plane, each with its images in floor and ceiling up to the order.
    count = sum(4 * max(depth, 0.25) * (1 + 2 * (3 - depth)) for depth in range(4))
    room, places = shoebox((6, 5, 3)), ([(1, 1, 1)], [(2, 2, 2)])
    assert simulate(room, *places, RATE, 3, most_images=round(count)).any()
    with pytest.raises(ValueError, match="images"):
        simulate(room, *places, RATE, 3, most_images=round(count) - 1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: both(((6, 1),)), r"source 0 at \[6.0, 1.0\] is not inside the room"),
        (lambda: both(ear=((1, 1), (2, 4))), r"ear 1 at \[2.0, 4.0\] is not inside"),
        (lambda: both(((np.nan, 1),)), "sources hold NaN"),
        (lambda: both(ear=((np.inf, 1),)), "ears hold NaN"),
        (lambda: both((1, 1)), "rows of 2 coordinates"),
        (lambda: both(ear=((1, 1, 1),)), "rows of 2 coordinates"),
        (lambda: both(np.zeros((0, 2))), "rows of 2 coordinates"),
        (lambda: both(rate=0), "got rate=0: give a whole number from 1"),
        (lambda: both(order=-1), "got order=-1: give a whole number of at least 0"),
        (lambda: both(order=1.5), "got order=1.5: give a whole number"),
        (lambda: both(length=0), "got length=0"),
        (lambda: both(dtype=int), "got dtype <class 'int'>: give numpy.float32 or numpy.float64"),
        (lambda: both(dtype=np.float16), "give numpy.float32 or numpy.float64"),
        (lambda: both(order=10**6), "more than 1,000,000 images: give a lower order, or a larger most_images"),
        (lambda: both(order=3, most_images=24), "more than 24 images"),
        (lambda: both(longest_response=0.01), "more than 0.01 s: give a smaller room"),
        (lambda: render(np.ones((2, 1, 5)), np.ones((3, 7))), "3 sounds for 2 sources"),
    ],
)
def test_bad_input_is_refused(call, says):
    with unchecked(), pytest.raises(ValueError, match=says):
        call()
