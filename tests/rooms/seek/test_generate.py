"""Random layouts: positions inside, at a distance, and reachable; clear errors where no layout is possible."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typechecking import unchecked

from sonarium.catalogue import ROOMS
from sonarium.rooms.acoustics.geometry import polygon, shoebox
from sonarium.rooms.contract import RoomEntry
from sonarium.rooms.seek import config as config_module
from sonarium.rooms.seek import generate
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.generate import NGON, NONCONVEX, SHOEBOX, Wanted, draw_layout, draw_room, reachable
from sonarium.rooms.seek.paths import plan_of

KINDS = ("fixed", "shoebox", "ngon", "nonconvex")


def layout(seed, **changes):
    return draw_layout(SeekConfig(**changes), np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10**9))
@settings(max_examples=25)
def test_places_are_inside_and_apart(kind, seed):
    config = SeekConfig(room=kind, sources=3)
    drawn = draw_layout(config, np.random.default_rng(seed))
    room, sources, pose = drawn.room, drawn.sources, drawn.pose
    assert room.inside(sources).all() and (room.clearance(sources) >= config.wall_distance).all()
    between = np.linalg.norm(sources[:, None] - sources, axis=-1)[np.triu_indices(3, 1)]
    assert between.min() >= config.source_distance
    assert np.linalg.norm(sources - pose[:2], axis=1).min() >= config.start_distance
    left = np.array([-np.sin(pose[2]), np.cos(pose[2])])
    ears = pose[:2] + config.ear_distance / 2 * np.stack([left, -left])
    assert room.inside(ears).all() and room.clearance(pose[None, :2])[0] >= config.wall_distance


def test_two_hundred_hexagons_never_start_outside():
    """OtoWorld spawned the agent outside in 5 of 12."""
    for seed in range(200):
        drawn = layout(seed, room="ngon", fewest_sides=6, most_sides=6, irregular=0.0)
        corners = drawn.room.corners
        lengths = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
        assert len(corners) == 6 and np.ptp(lengths) < 1e-9
        # By half planes, independent of the room's own test.
        along = np.roll(corners, -1, axis=0) - corners
        for place in (*drawn.sources, drawn.pose[:2]):
            offset = place - corners
            assert (along[:, 0] * offset[:, 1] - along[:, 1] * offset[:, 0] > 0).all()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_random_rooms_have_the_extent_that_was_asked_for_and_differ(kind):
    config = SeekConfig(room=kind, smallest=4.0, largest=7.0)
    rooms = [draw_room(config, np.random.default_rng(seed)) for seed in range(40)]
    extents = np.array([np.ptp(room.corners, axis=0) for room in rooms])
    assert extents.max() <= 7 + 1e-9 and extents.max(axis=1).min() >= 4 - 1e-9
    assert all(np.abs(room.corners.min(axis=0)).max() < 1e-9 for room in rooms)
    assert len({room.corners.tobytes() for room in rooms}) == 40
    assert all(room.convex == (kind != "nonconvex") for room in rooms)


def test_non_convex_rooms_have_several_shapes():
    config = SeekConfig(room="nonconvex")
    corners = {len(draw_room(config, np.random.default_rng(seed)).corners) for seed in range(40)}
    assert {6, 8} <= corners and len(corners) >= 4, "L, T or U, and stars of several points"


def test_polygons_have_the_sides_that_were_asked_for():
    config = SeekConfig(room="ngon", fewest_sides=4, most_sides=7, irregular=1.0)
    assert {len(draw_room(config, np.random.default_rng(seed)).corners) for seed in range(40)} == {4, 5, 6, 7}


def test_absorption_is_drawn_from_its_span():
    shares = [
        draw_room(SeekConfig(absorption=0.5, absorption_span=0.3), np.random.default_rng(seed)).absorption.max()
        for seed in range(40)
    ]
    assert 0.2 <= min(shares) < 0.3 and 0.7 < max(shares) <= 0.8
    assert layout(0, absorption=1.0).room.absorption.min() == 1


def test_a_height_makes_rooms_of_three_dimensions():
    assert layout(0, height=3.0).room.dimension == 3


@pytest.mark.parametrize("actions", ["turn", "compass"])
@pytest.mark.parametrize("kind", ["shoebox", "nonconvex"])
def test_every_source_is_within_reach_of_a_walk(kind, actions):
    """Oracle: flood fill over the positions that steps lead to, one by one, with the room's own walls."""
    config = SeekConfig(room=kind, actions=actions, step=1.0, smallest=5.0, largest=7.0)
    for seed in range(5):
        drawn = draw_layout(config, np.random.default_rng(seed))
        angle = 0.0 if actions == "compass" else float(drawn.pose[2])
        x, y = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        seen, waiting = {(0, 0)}, [(0, 0)]
        unfound = {0, 1}
        while waiting:
            column, row = waiting.pop()
            here = drawn.pose[:2] + column * x + row * y
            for source in list(unfound):
                goal = drawn.sources[source]
                if np.hypot(*(goal - here)) <= 0.5 and drawn.room.in_sight(here[None], goal[None])[0]:
                    unfound.remove(source)
            for cell in ((column + 1, row), (column - 1, row), (column, row + 1), (column, row - 1)):
                there = drawn.pose[:2] + cell[0] * x + cell[1] * y
                steps = np.linspace(here, there, 50)
                if (
                    cell not in seen
                    and drawn.plan.holds(there[None])[0]
                    and (drawn.room.clearance(steps) > 0.1).all()
                ):
                    seen.add(cell)
                    waiting.append(cell)
        assert not unfound


def test_reach_sees_what_a_grid_of_steps_misses():
    """No point of a 1 m grid lies within 0.5 m of a source at the centre of a cell."""
    config = SeekConfig(actions="compass", step=1.0, radius=0.5)
    room = shoebox((5, 5))
    plan = plan_of(room, config.margin)
    pose = np.array([1.0, 1.0, 0.3])
    sources = np.array([[3.5, 3.5], [3.1, 3.2]])
    assert reachable(config, room, plan, sources, pose).tolist() == [False, True]
    # Turns of 30 degrees lead off the grid, which only the thorough search follows.
    turning = SeekConfig(actions="turn", step=1.0, radius=0.5)
    assert reachable(turning, room, plan, sources, pose, thorough=True).all()
    assert reachable(SeekConfig(actions="continuous", step=1.0), room, plan, sources, pose).all()


@pytest.mark.parametrize("turn", [45.0, 60.0, 72.0, 50.0, 180.0])
def test_turns_of_any_angle_are_followed(turn):
    config = SeekConfig(turn=turn, room="fixed", size=(5.0, 5.0), sources=1)
    if turn == 180.0:
        # The agent moves on a single line, which hardly any source is near.
        room = shoebox((5, 5))
        pose = np.array([1.0, 1.0, 0.0])
        found = reachable(config, room, plan_of(room, config.margin), np.array([[3.0, 1.4], [3.0, 1.6]]), pose)
        assert found.tolist() == [True, False]
    else:
        assert draw_layout(config, np.random.default_rng(0)).room.convex


@pytest.mark.parametrize(
    "changes",
    [
        {"room": "fixed", "size": (1.0, 1.0), "sources": 2},
        {"room": "fixed", "size": (4.0, 4.0), "sources": 8},
        {"room": "shoebox", "smallest": 0.6, "largest": 0.7},
        {"room": "nonconvex", "wall_distance": 4.0},
        {"room": "fixed", "size": (3.0, 0.7), "sources": 1, "start_distance": 2.9},
        {"room": "nonconvex", "ear_distance": 2.0, "smallest": 3.0, "largest": 4.0},
        {"room": "fixed", "corners": ((0, 0), (3, 2), (3, 0), (0, 1))},
    ],
)
def test_what_cannot_be_is_refused_and_soon(changes):
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"no room with|narrower than|cross or touch"):
        layout(0, **changes)
    assert time.monotonic() - started < 20


def test_the_word_names_what_was_lacking():
    with pytest.raises(ValueError, match=r"want of a start far enough from the sources.*start_distance=50"):
        layout(0, start_distance=50.0)
    with pytest.raises(ValueError, match="want of 8 places far enough apart"):
        layout(0, room="fixed", size=(4.0, 4.0), sources=8)


ROOM = polygon([(0, 0), (6, 0), (6, 2), (2, 2), (2, 6), (0, 6)])


def test_what_is_wanted_is_kept_and_the_rest_is_drawn():
    config = SeekConfig()
    places, pose = np.array([[1.0, 5.0], [5.0, 1.0]]), np.array([1.0, 1.0, 0.5])
    drawn = draw_layout(config, np.random.default_rng(0), Wanted(ROOM, places, pose))
    assert drawn.room is ROOM and (drawn.sources == places).all() and (drawn.pose == pose).all()
    drawn = draw_layout(config, np.random.default_rng(0), Wanted(ROOM, places))
    assert (drawn.sources == places).all() and ROOM.inside(drawn.pose[None, :2])[0]
    drawn = draw_layout(config, np.random.default_rng(0), Wanted(ROOM, None, pose))
    assert (drawn.pose == pose).all()
    assert np.linalg.norm(drawn.sources - pose[:2], axis=1).min() >= config.start_distance


@pytest.mark.parametrize(
    ("places", "pose", "message"),
    [
        ([[1, 5], [4, 4]], None, r"source 1 at \[4.0, 4.0\] is not in the room"),
        ([[1, 5], [1, 5]], None, "sources 0 and 1 are in the same place"),
        ([[1, 5], [np.nan, 1]], None, "finite"),
        ([[1, 5]], None, "give finite x and y of 2"),
        (None, [4, 4, 0], "the pose at .* is not in the room"),
        (None, [1, np.inf, 0], "finite x, y and heading"),
        (None, [1, 1], "finite x, y and heading"),
        ([[1, 5], [5.95, 1.0]], [1, 1, 0], "source 1 at .* is not in the room, 0.15 m"),
    ],
)
def test_wanted_places_that_cannot_be_are_refused(places, pose, message):
    arrays = [None if value is None else np.array(value, float) for value in (places, pose)]
    with pytest.raises(ValueError, match=message):
        draw_layout(SeekConfig(), np.random.default_rng(0), Wanted(ROOM, *arrays))


def test_wanted_places_out_of_reach_are_refused():
    config = SeekConfig(actions="compass", step=1.0, radius=0.5)
    places, pose = np.array([[3.5, 3.5], [1.0, 3.0]]), np.array([1.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="source 0 cannot be reached"):
        draw_layout(config, np.random.default_rng(0), Wanted(shoebox((5, 5)), places, pose))


def test_a_room_of_the_wrong_dimension_is_refused():
    with pytest.raises(ValueError, match="got a room in 3 dimensions"):
        draw_layout(SeekConfig(), np.random.default_rng(0), Wanted(shoebox((5, 5, 3))))


def with_room(monkeypatch, name: str, draw) -> SeekConfig:
    """A configuration with a room shape of another package."""
    known = {"shoebox": SHOEBOX, name: RoomEntry("A room of a test.", draw)}

    class Rooms(dict):
        def select(self, name):
            return self[name]

    for module in (config_module, generate):
        monkeypatch.setattr(module, "ROOMS", Rooms(known))
    return SeekConfig(room=name, sources=1, smallest=4.0, largest=6.0)


def test_a_room_of_another_package_is_a_room_as_any_other(monkeypatch):
    """An octagon whose corners are not placed at the origin."""

    def octagon(config, random):
        angle = np.pi / 4 * np.arange(8)
        radius = random.uniform(config.smallest, config.largest) / 2
        return 7 + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    config = with_room(monkeypatch, "octagon", octagon)
    room = Seek(config)
    heard, _ = room.reset(seed=3)
    corners = room.scene().room.corners
    assert corners.shape == (8, 2) and np.abs(corners.min(axis=0)).max() < 1e-12
    assert 4 <= np.ptp(corners, axis=0).max() <= 6
    assert np.abs(heard).max() > 0
    again, _ = room.reset(seed=3)
    np.testing.assert_array_equal(again, heard)


@pytest.mark.parametrize(
    "corners", [[(0, 0), (4, 4), (4, 0), (0, 4)], [(0, 0), (4, 0)], [(0, 0), (np.nan, 1), (4, 4)]]
)
def test_a_shape_that_encloses_no_room_is_named(monkeypatch, corners):
    config = with_room(monkeypatch, "knot", lambda config, random: corners)
    with pytest.raises(ValueError, match="room 'knot' drew corners that enclose no room: "):
        draw_room(config, np.random.default_rng(0))


def test_the_built_in_shapes_are_in_the_catalogue():
    assert {name: ROOMS[name] for name in ("shoebox", "ngon", "nonconvex")} == {
        "shoebox": SHOEBOX,
        "ngon": NGON,
        "nonconvex": NONCONVEX,
    }
    with unchecked(), pytest.raises(ValueError, match="'cave': choose one of fixed, shoebox, ngon, nonconvex"):
        SeekConfig(room="cave")
