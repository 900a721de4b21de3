"""Image sources and their audibility, against pyroomacoustics, a brute-force search, and known counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms.oracles import (
    CUP,
    ELL,
    TEE,
    Heard,
    heard_by_peer,
    imagined,
    near_edge,
    ours,
    placed,
    rooms,
    searched,
    unmatched,
)
from typechecking import unchecked

from sonarium.rooms.acoustics.geometry import Room, polygon, regular, shoebox
from sonarium.rooms.acoustics.images import audible, find_images
from sonarium.rooms.acoustics.impulse_responses import simulate

SEEDS = st.integers(0, 2**32 - 1)
SIDE = 2 * np.sqrt(2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("source", "ear"),
    [((2, 2), (3, 2)), ((2, 2), (2, 3.1)), ((1.5, 2), (3, 2)), ((2, 2.5), (2, 1.3)), ((2, 2), (2.5, 2.3))],
)
def test_a_square_on_its_corner_sounds_as_a_box_even_on_its_axes(source, ear, dtype):
    def turned(point):
        x, y = np.subtract(point, 2.0) / np.sqrt(2)
        return x - y + SIDE / 2, x + y + SIDE / 2

    diamond, box = regular(4, 2.0, absorption=0.2), shoebox((SIDE, SIDE), 0.2)
    made = simulate(diamond, [source], [ear], 16_000, order=6, length=1600, dtype=dtype)
    expected = simulate(box, [turned(source)], [turned(ear)], 16_000, order=6, length=1600, dtype=dtype)
    np.testing.assert_allclose(made, expected, atol=1e-5 if dtype is np.float64 else 2e-3)
    found = find_images(diamond, np.array(source, float), 6)
    assert audible(diamond, found, np.array([ear], float)).sum() == 85


CONVEX = ("box", "regular", "ellipse")
BENT = ("ell", "tee", "cup", "star")


def assert_same(room: Room, source: np.ndarray, ear: np.ndarray, order: int, other: Heard) -> None:
    """Assert positions within .1 mm, gains within 1e-5, and the same images except on the edge of a beam."""
    found = ours(room, source, ear, order)
    extra, missing, gains_differ = unmatched(found, other)
    assert gains_differ < 1e-5
    for place in [*extra, *missing]:
        assert near_edge(room, source, ear, order, place), f"{place} is heard by one and not by the other"


@settings(max_examples=30)
@given(rooms(), SEEDS, st.integers(0, 3))
def test_in_the_plane_as_a_search_through_all_sequences(room, seed, order):
    source, ear = placed(room, np.random.default_rng(seed), 2)
    assert_same(room, source, ear, order, searched(room, source, ear, order))


@settings(max_examples=12)
@given(rooms(3), SEEDS, st.integers(1, 2))
def test_in_space_as_a_search_through_all_sequences(room, seed, order):
    source, ear = placed(room, np.random.default_rng(seed), 2)
    assert_same(room, source, ear, order, searched(room, source, ear, order))


@settings(max_examples=40)
@given(rooms(shapes=CONVEX), SEEDS, st.integers(1, 6))
def test_convex_rooms_as_pyroomacoustics(room, seed, order):
    source, *ears = placed(room, np.random.default_rng(seed), 3)
    found = imagined(room, [source], ears, order)
    for number, ear in enumerate(ears):
        assert_same(room, source, ear, order, heard_by_peer(found, 0, number))


@settings(max_examples=40)
@given(rooms(shapes=BENT), SEEDS, st.integers(1, 4))
def test_rooms_with_corners_that_hide_as_pyroomacoustics(room, seed, order):
    source, *ears = placed(room, np.random.default_rng(seed), 3)
    found = imagined(room, [source], ears, order)
    for number, ear in enumerate(ears):
        assert_same(room, source, ear, order, heard_by_peer(found, 0, number))


@settings(max_examples=20)
@given(rooms(3), SEEDS, st.integers(1, 3))
def test_rooms_with_a_height_as_pyroomacoustics(room, seed, order):
    source, ear = placed(room, np.random.default_rng(seed), 2)
    assert_same(room, source, ear, order, heard_by_peer(imagined(room, [source], [ear], order), 0, 0))


@settings(max_examples=20)
@given(st.sampled_from((2, 3)).flatmap(lambda dimension: rooms(dimension, ("box",))), SEEDS, st.integers(0, 7))
def test_a_box_as_a_polygon_is_a_box(room, seed, order):
    source, ear = placed(room, np.random.default_rng(seed), 2)
    lattice, beams = (ours(room, source, ear, order, way) for way in (True, False))
    extra, missing, gains_differ = unmatched(lattice, beams, 1e-9)
    assert len(extra) == len(missing) == 0 and gains_differ < 1e-12


@pytest.mark.parametrize(("room", "order"), [(regular(6, 4.0, absorption=0.2), 8), (polygon(CUP), 6)])
def test_narrow_beams_are_found_too(room, order):
    """Some beams of high order are a thousandth of their wall wide; forty ears lie in a few of them."""
    source, *ears = placed(room, np.random.default_rng(11), 41)
    found = imagined(room, [source], ears, order)
    for number, ear in enumerate(ears):
        assert_same(room, source, ear, order, heard_by_peer(found, 0, number))


@pytest.mark.parametrize("order", [0, 1, 2, 10])
def test_a_box_hears_as_many_images_as_a_ball_has_lattice_points(order):
    plane = find_images(shoebox((8, 7)), np.array([2, 3.1]), order)
    assert plane.levels().sum() == 1 + 2 * order * (order + 1)
    space = find_images(shoebox((8, 7, 3)), np.array([2, 3.1, 1.2]), order)
    axis = np.abs(np.arange(-order, order + 1))
    steps = axis[:, None, None] + axis[:, None] + axis
    assert space.levels().sum() == (steps <= order).sum() == {0: 1, 1: 7, 2: 25, 10: 1561}[order]


@pytest.mark.parametrize(("order", "beams", "heard"), [(3, 85, 32), (6, 484, 102), (10, 1961, 258)])
def test_a_hexagon_has_about_as_many_beams_as_were_counted_elsewhere(order, beams, heard):
    room = regular(6, 4.0)
    counts, audibles = [], []
    for source, ear in zip(*np.split(placed(room, np.random.default_rng(0), 24), 2), strict=True):
        images = find_images(room, source, order)
        counts.append(len(images.apex))
        audibles.append(audible(room, images, ear[None]).sum())
    # The reference counts are for a single source; its position matters somewhat.
    assert np.mean(counts) == pytest.approx(beams, rel=0.1) and np.max(counts) == pytest.approx(beams, rel=0.05)
    assert np.mean(audibles) == pytest.approx(heard, rel=0.1)


@pytest.mark.parametrize("room", [polygon(ELL), polygon(TEE), polygon(CUP, 3.0), regular(5, 3.0)])
def test_every_beam_is_heard_by_somebody_and_order_by_order(room):
    random = np.random.default_rng(1)
    images = find_images(room, placed(room, random, 1)[0], 3)
    assert (np.diff(images.depth) >= 0).all() and images.wall[0] == images.parent[0] == -1
    assert (images.depth[1:] == images.depth[images.parent[1:]] + 1).all()
    if room.convex:
        ears = random.uniform(room.bounds[0], room.bounds[1], (3000, 2))
        ears = ears[room.inside(ears)]
        missed = ~audible(room, images, ears).any(axis=0)
        # Narrow beams at the corners may miss all of the 3000 ears.
        assert missed.mean() < 0.05


def test_walls_that_take_everything_make_no_images():
    room = shoebox((5, 4, 3), absorption=[0.2, 1, 0.2, 0.2, 0.2, 1])
    source, ear = np.array([1, 1.2, 0.9]), np.array([3, 2.1, 1.7])
    for lattice in (True, False):
        found = ours(room, source, ear, 3, lattice)
        assert (found.places[:, 0] < 5).all() and (found.places[:, 2] < 3).all()
        assert_same(room, source, ear, 3, searched(room, source, ear, 3))
    assert len(find_images(regular(6, 3, absorption=1.0), np.array([3.0, 3.2]), 50).apex) == 1
    by_band = shoebox((5, 4), absorption=[[1, 0.5], [1, 1], [0, 1], [1, 1]], bands=(500, 1000))
    # South reflects only the upper band and north only the lower: no band survives both.
    assert len(find_images(by_band, np.array([1.0, 1.0]), 5).apex) == 3


@settings(max_examples=15)
@given(rooms(shapes=(*CONVEX, *BENT)), SEEDS)
def test_reach_is_as_far_as_the_farthest_image_is_heard(room, seed):
    random = np.random.default_rng(seed)
    source, *ears = placed(room, random, 20, 0.01)
    reach = find_images(room, source, 3).reach(room)
    farthest = max(np.linalg.norm(ours(room, source, ear, 3).places - ear, axis=1).max(initial=0) for ear in ears)
    assert farthest <= reach <= 2.5 * farthest + 10


@settings(max_examples=15)
@given(rooms(shapes=BENT), SEEDS)
def test_what_one_hears_of_the_other_the_other_hears_of_the_one(room, seed):
    one, other = placed(room, np.random.default_rng(seed), 2)
    there, back = ours(room, one, other, 3), ours(room, other, one, 3)
    ways = [
        sorted(zip(np.linalg.norm(heard.places - ear, axis=1).round(9), heard.gains.round(9), strict=True))
        for heard, ear in ((there, other), (back, one))
    ]
    # A path along the edge of a beam may be audible in one direction only.
    if len(set(ways[0]) ^ set(ways[1])) > 1:
        for heard, source, ear in ((there, one, other), (back, other, one)):
            missed, invented, _ = unmatched(heard, searched(room, source, ear, 3))
            assert all(near_edge(room, source, ear, 3, place) for place in (*missed, *invented))


@pytest.mark.parametrize(
    ("source", "order", "says"),
    [
        ((5.5, 1), 2, "not inside the room: move it off the walls"),
        ((5, 1), 2, "not inside"),
        ((5, 0), 2, "not inside"),
        ((np.nan, 1), 2, "not inside"),
        ((1, 1, 1), 2, "3 coordinates in a room of 2"),
        ((1, 1), -1, "order=-1"),
    ],
)
def test_bad_sources_and_orders_are_refused(source, order, says):
    with unchecked(), pytest.raises(ValueError, match=says):
        find_images(shoebox((5, 4)), np.array(source, float), order)
