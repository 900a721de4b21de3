"""Geometry of rooms against closed forms, winding numbers and pyroomacoustics; refusal of invalid rooms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms.oracles import CUP, ELL, TEE, met, peer, placed, rooms, walls_of, within_outline
from typechecking import unchecked

from sonarium.rooms.acoustics.geometry import polygon, regular, shoebox


def test_areas_perimeters_and_bounds_of_known_shapes():
    box, hexagon, ell = shoebox((4, 3)), regular(6, 2.0), polygon(ELL)
    assert box.area == 12 and box.perimeter == 14 and box.walls == 4 and box.dimension == 2
    assert hexagon.area == pytest.approx(6 * np.sqrt(3)) and hexagon.perimeter == pytest.approx(12)
    assert ell.area == 27 and ell.perimeter == 24 and not ell.convex and hexagon.convex
    low, high = regular(6, 2.0, height=3).bounds
    assert low == pytest.approx([0, 2 - np.sqrt(3), 0]) and high == pytest.approx([4, 2 + np.sqrt(3), 3])
    assert shoebox((4, 3, 2)).walls == 6 and shoebox((4, 3, 2)).dimension == 3


@settings(max_examples=25)
@given(rooms(), st.integers(0, 2**32 - 1))
def test_inside_is_a_full_turn_of_the_outline(room, seed):
    random = np.random.default_rng(seed)
    low, high = room.bounds
    points = random.uniform(low - 0.5, high + 0.5, (50, 2))
    sure = np.abs(room.clearance(points)) > 1e-6
    turned = np.array([within_outline(room.corners, point) for point in points])
    assert (room.inside(points) == turned)[sure].all()
    assert (np.sign(room.clearance(points)) == np.where(turned, 1, -1))[sure].all()


@settings(max_examples=15)
@given(rooms(), st.integers(0, 2**32 - 1))
def test_clearance_is_the_least_of_many_distances_to_the_walls(room, seed):
    points = placed(room, np.random.default_rng(seed), 3, clearance=0.01)
    share = np.linspace(0, 1, 4001)[:, None, None]
    along = room.corners + share * (room.next_corners - room.corners)
    distances = np.linalg.norm(points[:, None, None] - along, axis=-1).min(axis=(1, 2))
    # The nearest of 4001 points on a wall of at most 10 m lies within 1.3 mm of the nearest point.
    assert np.abs(room.clearance(points) - distances).max() < 2e-3


@settings(max_examples=25)
@given(rooms(shapes=("ell", "tee", "cup", "star")), st.integers(0, 2**32 - 1))
def test_a_line_of_sight_meets_no_wall(room, seed):
    random = np.random.default_rng(seed)
    start, end = placed(room, random, 8, 0.02), placed(room, random, 8, 0.02)
    seen = [not met(walls_of(room), one, other, ()) for one, other in zip(start, end, strict=True)]
    assert room.in_sight(start, end).tolist() == seen == room.in_sight(end, start).tolist()


def test_points_on_a_wall_and_beyond_floor_and_ceiling_are_not_inside():
    room = shoebox((4, 3, 2))
    points = np.array([[0, 1, 1], [4, 1, 1], [2, 1, 0], [2, 1, 2], [2, 1, -1], [2, 1, 2.5], [2, 1, 1]])
    assert room.inside(points).tolist() == [False] * 6 + [True]


@pytest.mark.parametrize("corners", [ELL, TEE, CUP])
def test_clockwise_corners_keep_their_walls(corners):
    shares = np.linspace(0.1, 0.8, len(corners) + 2)
    one = polygon(corners, 3.0, shares)
    # Reversed from the first corner, the corners have their walls in reverse order.
    backwards = np.r_[shares[:-2][::-1], shares[-2:]]
    other = polygon(corners[:1] + corners[:0:-1], 3.0, backwards)
    points = placed(one, np.random.default_rng(3), 2)
    ways = [peer(room, points[:1], points[1:], 8000, 2).rir[0][0] for room in (one, other)]
    assert other.area > 0 and sorted(map(tuple, one.corners)) == sorted(map(tuple, other.corners))
    assert np.abs(ways[0] - ways[1]).max() < 1e-4 * np.abs(ways[0]).max()
    assert set(zip(map(tuple, one.corners), one.absorption[:-2, 0], strict=True)) == set(
        zip(map(tuple, other.corners), other.absorption[:-2, 0], strict=True)
    )


NAN = ((0, 0), (4, 0), (np.nan, 3))
BAD_PLANS = [
    ([(0, 0), (4, 4), (4, 0), (0, 4)], "walls 0 and 2 cross or touch"),
    ([(0, 0), (4, 4), (4, 0), (0, 3)], "walls 0 and 2 cross or touch"),
    ([(0, 0), (4, 0), (4, 3), (2, 0), (0, 3)], "cross or touch"),
    ([(0, 0), (4, 0), (2, 0), (2, 3)], "cross or touch"),
    ([(0, 0), (4, 0), (4, 0), (0, 3)], "corners 1 and 2 are the same point"),
    ([(0, 0), (4, 0), (0, 3), (0, 0)], "corners 3 and 0 are the same point"),
    ([(0, 0), (2, 0), (4, 0)], "enclose no area"),
    ([(0, 0), (4, 0)], "at least 3 corners"),
    (NAN, "NaN or infinite"),
    ([(0, 0), (4, 0), (np.inf, 3)], "NaN or infinite"),
    ([(0, 0, 0), (4, 0, 0), (0, 3, 0)], "shape"),
]


@pytest.mark.parametrize(("corners", "says"), BAD_PLANS)
def test_a_plan_that_encloses_nothing_or_twice_is_refused(corners, says):
    with unchecked(), pytest.raises(ValueError, match=says):
        polygon(corners)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: shoebox((4,)), "two or three positive lengths"),
        (lambda: shoebox((4, -3)), "two or three positive lengths"),
        (lambda: shoebox((4, np.nan)), "two or three positive lengths"),
        (lambda: regular(2, 3.0), "got sides=2: give a whole number from 3 to 1000"),
        (lambda: regular(3.5, 1.0), "got sides=3.5: give a whole number"),  # pyright: ignore[reportArgumentType]
        (lambda: regular(10_000, 5.0), "got sides=10000"),
        (lambda: polygon(np.random.default_rng(0).random((10_000, 2))), "got 10000 corners: give at most 1000"),
        (lambda: regular(6, np.nan), "got radius=nan: give a positive number"),
        (lambda: polygon(ELL, height=0.0), "height 0"),
        (lambda: polygon(ELL, height=np.nan), "height nan"),
        (lambda: shoebox((4, 3), speed=0.0), "speed of sound"),
        (lambda: shoebox((4, 3), absorption=1.2), "coefficients from 0 to 1"),
        (lambda: shoebox((4, 3), absorption=[0.1, 0.2, -0.1, 0.3]), "coefficients from 0 to 1"),
        (lambda: shoebox((4, 3), absorption=np.nan), "coefficients from 0 to 1"),
        (lambda: shoebox((4, 3), absorption=[0.1, 0.2]), r"shape \(2,\) for 4 walls and 0 bands"),
        (lambda: shoebox((4, 3, 2), absorption=[0.1] * 4), "6 walls .*floor and ceiling last"),
        (lambda: shoebox((4, 3), absorption=np.full((4, 2), 0.1)), "for 4 walls and 0 bands"),
        (lambda: shoebox((4, 3), bands=(1000, 500)), "increasing centre frequencies"),
        (lambda: shoebox((4, 3), bands=(-500.0,)), "increasing centre frequencies"),
        (lambda: shoebox((4, 3), bands=(500, np.nan)), "increasing centre frequencies"),
    ],
)
def test_other_bad_input_is_refused(make, says):
    with unchecked(), pytest.raises(ValueError, match=says):
        make()


def test_a_room_is_never_changed():
    corners = np.array(ELL, float)
    room = polygon(corners)
    corners[0] = 1.0
    assert room.corners[0].tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        room.corners[0] = 1.0
