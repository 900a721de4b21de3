"""Accessible floor and shortest paths, against closed forms, independent grids, and all permutations of
sources."""

from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from sonarium.rooms.acoustics.geometry import polygon, shoebox
from sonarium.rooms.seek.config import configured
from sonarium.rooms.seek.generate import draw_room
from sonarium.rooms.seek.paths import Walking, grid_reached, plan_of, reached, tours, ways

ELL = polygon([(0, 0), (6, 0), (6, 2), (2, 2), (2, 6), (0, 6)])
MARGIN = 0.15


def random_room(seed, kind="nonconvex"):
    return draw_room(configured(None, {"room": kind}), np.random.default_rng(seed))


def points_in(room, seed, count=300):
    low, high = room.corners.min(axis=0), room.corners.max(axis=0)
    return np.random.default_rng(seed).uniform(low, high, (count, 2))


def test_a_rectangle_shrinks_on_all_sides():
    corners = plan_of(shoebox((4, 3)), 0.5).corners
    assert sorted(map(tuple, corners.round(9).tolist())) == [(0.5, 0.5), (0.5, 2.5), (3.5, 0.5), (3.5, 2.5)]


@pytest.mark.parametrize("kind", ["shoebox", "ngon"])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_in_convex_rooms_the_plan_is_what_keeps_its_distance(kind, seed):
    room = random_room(seed, kind)
    plan, points = plan_of(room, MARGIN), points_in(room, seed)
    clear = room.clearance(points)
    decided = np.abs(clear - MARGIN) > 1e-9
    np.testing.assert_array_equal(plan.holds(points)[decided], clear[decided] > MARGIN)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=60)
def test_in_other_rooms_the_plan_keeps_its_distance_and_gives_little_away(seed):
    room = random_room(seed)
    plan, points = plan_of(room, MARGIN), points_in(room, seed)
    held, clear = plan.holds(points), room.clearance(points)
    assert (clear[held] >= MARGIN - 1e-9).all()
    # Mitres at reflex corners lose a little of the floor, and only near the corners.
    reach = np.linalg.norm(points[:, None] - room.corners, axis=-1).min(axis=1)
    assert held[(clear > MARGIN) & (reach > 6 * MARGIN)].all()


@pytest.mark.parametrize(
    "wall",
    [
        [(5, 1), (5.1, 1), (5.1, 1.15), (5, 1.15)],  # a nook
        [(5, 1), (5.1, 1), (5.1, 1.15), (5.05, 1.15)],  # a nook beside a wall that is set back
        [(5, 1), (4.9, 1), (4.9, 1.15), (5, 1.15)],  # a pillar
        [(5, 1), (5.05, 1.02), (5.0, 1.1), (5.06, 1.2)],  # uneven plaster
        [(5, 1), (5, 2), (5, 3)],  # corners on a straight wall
        [(5, 1), (4.97, 1), (4.97, 2)],  # a step
    ],
)
def test_small_unevenness_of_a_wall_does_no_harm(wall):
    room = polygon([(0, 0), (5, 0), *wall, (wall[-1][0], 4), (0, 4)])
    plan, points = plan_of(room, 0.2), points_in(room, 0, 2000)
    held, clear = plan.holds(points), room.clearance(points)
    assert (clear[held] >= 0.2 - 1e-9).all()
    # Nothing is lost except at mitres, which are small.
    assert held[clear > 0.35].all() and (clear > 0.2)[~held].mean() < 0.03


def test_a_passage_too_narrow_is_refused():
    hourglass = polygon(
        [(0, 0), (2, 0), (2, 1.9), (4, 1.9), (4, 0), (6, 0), (6, 4), (4, 4), (4, 2.1), (2, 2.1), (2, 4), (0, 4)]
    )
    assert len(plan_of(hourglass, 0.05).bends) == 4
    with pytest.raises(ValueError, match="narrower than"):
        plan_of(hourglass, 0.15)
    with pytest.raises(ValueError, match="narrower than"):
        plan_of(shoebox((0.2, 5.0)), 0.15)


def walk_to(room, sources):
    plan = plan_of(room, MARGIN)
    walking = Walking(1, len(sources))
    walking.enter(0, plan, sources)
    return plan, walking


def test_the_way_round_the_corner_of_an_ell():
    sources = np.array([[1.0, 5.5], [5.5, 1.0]])
    _, walking = walk_to(ELL, sources)
    bend = np.array([2 - MARGIN, 2 - MARGIN])
    start = np.array([[5.0, 0.5]])
    lengths, waypoints = walking.ahead(start, np.array([0]))
    around = np.linalg.norm(bend - start[0]) + np.linalg.norm(sources[0] - bend)
    straight = np.linalg.norm(sources[1] - start[0])
    np.testing.assert_allclose(lengths[0], np.array([around, straight]))
    np.testing.assert_allclose(waypoints[0], [bend, sources[1]])


def test_at_a_bend_the_way_goes_on():
    sources = np.array([[1.0, 5.5]])
    _, walking = walk_to(ELL, sources)
    _, waypoints = walking.ahead(np.array([[2 - MARGIN, 2 - MARGIN]]), np.array([0]))
    np.testing.assert_allclose(waypoints[0, 0], sources[0])


def test_at_one_of_two_bends_the_way_goes_on_to_the_other():
    yard = polygon([(0, 0), (6, 0), (6, 5), (5, 5), (5, 1.5), (1, 1.5), (1, 5), (0, 5)])
    plan, walking = walk_to(yard, np.array([[0.5, 4.5]]))
    right, left = plan.bends[np.argsort(-plan.bends[:, 0])]
    for start, expected in ((np.array([5.5, 4.5]), right), (right, left), (right + np.full(2, 1e-8), left)):
        _, waypoints = walking.ahead(start[None], np.array([0]))
        np.testing.assert_allclose(waypoints[0, 0], expected)


def grid_distances(plan, source, spacing):
    """Points of a fine grid, and lengths of their shortest paths to a source in sixteen directions (Dijkstra)."""
    low, high = plan.corners.min(axis=0), plan.corners.max(axis=0)
    counts = np.ceil((high - low) / spacing).astype(int) + 1
    column, row = np.meshgrid(*map(np.arange, counts), indexing="ij")
    points = np.concatenate([source[None], low + spacing * np.stack([column, row], axis=-1).reshape(-1, 2)])
    held = plan.holds(points)
    number = 1 + np.arange(column.size).reshape(column.shape)
    first, second = [], []
    for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1)):
        a = number[: counts[0] - dx, max(0, -dy) : counts[1] - max(0, dy)]
        b = number[dx:, max(0, dy) : counts[1] + min(0, dy)]
        first.append(a.ravel())
        second.append(b.ravel())
    near = np.flatnonzero(np.linalg.norm(points - source, axis=1) < 2 * spacing)
    first, second = np.concatenate([*first, np.zeros(len(near), int)]), np.concatenate([*second, near])
    good = held[first] & held[second]
    first, second = first[good], second[good]
    free = plan.free(points[first], points[second])
    length = np.linalg.norm(points[first] - points[second], axis=1)
    graph = coo_matrix((length[free], (first[free], second[free])), shape=(len(points),) * 2)
    return points[held], dijkstra(graph.tocsr(), directed=False, indices=0)[held]


@pytest.mark.parametrize("seed", range(6))
def test_ways_agree_with_a_fine_grid(seed):
    room = random_room(seed)
    plan = plan_of(room, MARGIN)
    points = points_in(room, seed)
    source = points[plan.holds(points)][0]
    _, walking = walk_to(room, source[None])
    starts, walked = grid_distances(plan, source, 0.1)
    lengths = walking.round_corners(
        starts, np.zeros(len(starts), int), np.linalg.norm(starts - source, axis=1)[:, None]
    )
    assert np.isfinite(walked).all(), "the plan hangs together"
    # No path on the grid is shorter; its sixteen directions cost at most 2.8 %, its spacing a little more.
    assert (lengths[0][:, 0] <= walked + 1e-3).all()
    assert (walked <= 1.028 * lengths[0][:, 0] + 0.3).all()
    assert (lengths[0][:, 0] >= np.linalg.norm(starts - source, axis=1) - 1e-9).all()


@pytest.mark.parametrize("seed", range(4))
def test_rooms_side_by_side_do_not_touch_each_other(seed):
    random = np.random.default_rng(seed)
    rooms = [random_room(seed), random_room(seed, "ngon"), ELL, random_room(seed + 50)]
    together = Walking(4, 2)
    alone = []
    starts, ends = [], []
    for slot, room in enumerate(rooms):
        plan, points = plan_of(room, MARGIN), points_in(room, seed)
        held = points[plan.holds(points)]
        together.enter(slot, plan, held[:2])
        single = Walking(1, 2)
        single.enter(0, plan, held[:2])
        alone.append((single, plan))
        starts.append(held[2])
        ends.append(points[random.integers(len(points))])
    starts, ends = np.array(starts), np.array(ends)
    free, (lengths, waypoints) = together.free(starts, ends), together.ahead(starts, np.arange(4))
    for slot, (single, plan) in enumerate(alone):
        at = slice(slot, slot + 1)
        assert free[slot] == single.free(starts[at], ends[at])[0]
        assert free[slot] == (plan.holds(ends[at]) & plan.free(starts[at], ends[at]))[0]
        expected = single.ahead(starts[at], np.array([0]))
        np.testing.assert_array_equal(lengths[slot], expected[0][0])
        np.testing.assert_array_equal(waypoints[slot], expected[1][0])


@given(seed=st.integers(0, 10**6), count=st.integers(1, 5))
@settings(max_examples=25)
def test_the_shortest_tour_is_the_best_of_all_orders(seed, count):
    random = np.random.default_rng(seed)
    places = random.uniform(0, 10, (count, 2))
    between = np.linalg.norm(places[:, None] - places, axis=-1)
    found = tours(between)
    walking = Walking(1, count)
    walking.tours[0] = found
    start = random.uniform(0, 10, 2)
    to_each = np.linalg.norm(places - start, axis=1)
    for on in product([False, True], repeat=count):
        members = np.flatnonzero(on)
        lengths = [
            to_each[order[0]] + sum(between[a, b] for a, b in pairwise(order))
            for order in permutations(members)
            if order
        ]
        left = walking.left(to_each[None], np.array([on]), np.array([0]))[0]
        assert left == pytest.approx(min(lengths, default=0.0))


def test_ways_between_sources_go_round_corners():
    sources = np.array([[1.0, 5.5], [5.5, 1.0]])
    bend = np.array([2 - MARGIN, 2 - MARGIN])
    lengths = ways(plan_of(ELL, MARGIN), sources)[1:]
    around = np.linalg.norm(sources - bend, axis=1).sum()
    np.testing.assert_allclose(lengths, [[0, around], [around, 0]])


def flood(plan, start, step, angle):
    """Flood fill of a square grid, one position after the other."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    seen, waiting = {(0, 0)}, [(0, 0)]
    while waiting:
        x, y = waiting.pop()
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            here, there = (start + step * np.array(cell) @ turn for cell in ((x, y), (x + dx, y + dy)))
            if (x + dx, y + dy) in seen or not plan.holds(there[None])[0]:
                continue
            if plan.free(here[None], there[None])[0]:
                seen.add((x + dx, y + dy))
                waiting.append((x + dx, y + dy))
    return np.array([start + step * np.array(cell) @ turn for cell in seen])


def ordered(places):
    return np.array(sorted(map(tuple, places.round(6).tolist())))


def test_no_step_of_a_search_leads_through_a_thin_wall():
    fence = polygon([(0, 0), (4, 0), (4, 3.5), (4.2, 3.5), (4.2, 0), (8, 0), (8, 4), (0, 4)])
    plan = plan_of(fence, MARGIN)
    start = np.array([3.5, 1.0])
    straight = grid_reached(plan, start, 1.0, 0.0)
    # The grid rows at 1, 2 and 3 m end at the fence; no row passes above it.
    assert len(straight) == 4 * 3 and straight[:, 0].max() < 4
    np.testing.assert_allclose(
        ordered(reached(plan, start, 1.0, np.pi / 2 * np.arange(4))), ordered(straight), atol=1e-5
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_places_on_a_grid_of_steps_are_those_that_hang_together(seed, angle):
    room = random_room(seed)
    plan, points = plan_of(room, MARGIN), points_in(room, seed)
    held = points[plan.holds(points)]
    expected = ordered(flood(plan, held[0], 0.8, angle))
    np.testing.assert_allclose(ordered(grid_reached(plan, held[0], 0.8, angle)), expected, atol=1e-5)
    directions = angle + np.pi / 2 * np.arange(4)
    np.testing.assert_allclose(ordered(reached(plan, held[0], 0.8, directions)), expected, atol=1e-5)
