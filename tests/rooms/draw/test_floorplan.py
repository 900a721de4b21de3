"""Pictures of rooms: positions against plain geometry, paths of sound against the law of reflection."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sonarium.rooms.acoustics.geometry import Room, polygon, regular, shoebox
from sonarium.rooms.acoustics.images import audible, find_images
from sonarium.rooms.draw import canvas
from sonarium.rooms.draw.ansi import ARROWS, text
from sonarium.rooms.draw.floorplan import picture
from sonarium.rooms.draw.overlay import MOST_ORDER, SILENCE, sound_field, way
from sonarium.rooms.seek.episode import Scene

L_SHAPE = polygon([(0, 0), (8, 0), (8, 3), (3, 3), (3, 7), (0, 7)])
RNG = np.random.default_rng


def scene(
    room: Room | None = None,
    pose: tuple[float, float, float] = (2.0, 2.0, 0.0),
    sources: tuple[tuple[float, float], ...] = ((6.0, 2.5),),
    on: tuple[bool, ...] | None = None,
    trajectory: list[tuple[float, float, float]] | None = None,
) -> Scene:
    """A scene whose level falls by 6 dB per doubling of the distance from its first source."""
    places = np.array(sources)

    def level(points):
        return -20 * np.log10(np.linalg.norm(points[:, :2] - places[0], axis=1))

    sounding = np.array([True] * len(sources) if on is None else on)
    return Scene(
        room=shoebox((8, 5)) if room is None else room,
        pose=np.array(pose),
        trajectory=np.array([pose] if trajectory is None else trajectory),
        sources=places,
        on=sounding,
        found_at=np.where(sounding, -1, 0),
        sounds=("tone",) * len(sources),
        radius=0.5,
        ear_distance=0.2,
        ear_height=1.5,
        level_map=level,
    )


def near(seen: np.ndarray, colour: str, tolerance: int = 12) -> np.ndarray:
    """Rows and columns of pixels of a colour, without the text below the room."""
    wanted = np.array(canvas.mixed(colour, canvas.PAPER, 1.0))
    hit = np.abs(seen.astype(int) - wanted).max(axis=2) <= tolerance
    hit[-round(0.08 * len(seen)) :] = False
    return np.argwhere(hit)


def walls_box(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last row and column of the walls, which are the only long dark lines."""
    dark = seen.astype(int).max(axis=2) < 90
    least = len(seen) / 6
    rows, columns = np.flatnonzero(dark.sum(1) > least), np.flatnonzero(dark.sum(0) > least)
    return np.array([rows.min(), columns.min()]), np.array([rows.max(), columns.max()])


def test_a_picture_is_a_square_of_colours():
    seen = picture(scene(), 200)
    assert seen.shape == (200, 200, 3) and seen.dtype == np.uint8


@settings(max_examples=15)
@given(x=st.floats(0.6, 7.4), y=st.floats(0.6, 4.4), size=st.sampled_from([300, 480, 641]))
def test_a_source_stands_in_its_place(x, y, size):
    assume(np.hypot(x - 2, y - 2) > 1)
    seen = picture(scene(sources=((x, y),)), size)
    low, high = walls_box(seen)
    expected = low + np.array([1 - y / 5, x / 8]) * (high - low)
    found = near(seen, canvas.ORANGE).mean(axis=0)
    assert np.abs(found - expected).max() < 0.006 * size


@settings(max_examples=25)
@given(heading=st.floats(-7, 7))
def test_the_left_ear_is_left_of_the_heading(heading):
    seen = picture(scene(pose=(4.0, 2.5, heading), sources=((1.0, 1.0),)), 480)
    left, right = near(seen, canvas.LEFT).mean(axis=0), near(seen, canvas.RIGHT).mean(axis=0)
    # Row numbers increase downwards.
    up, across = right[0] - left[0], left[1] - right[1]
    assert np.abs(np.angle(np.exp(1j * (np.arctan2(up, across) - heading - np.pi / 2)))) < 0.15


def test_sources_that_are_found_are_grey_and_hidden_ones_are_not_seen():
    there = near(picture(scene()), canvas.ORANGE)
    assert len(there) > 100
    found = picture(scene(on=(False,)))
    assert len(near(found, canvas.ORANGE)) == 0 and len(near(found, canvas.GREYED)) > 80
    assert len(near(picture(scene(), hide=True), canvas.ORANGE)) == 0


def test_distractors_have_a_colour_of_their_own_unless_the_player_has_to_tell_them_by_ear():
    drawn = replace(scene(sources=((6.0, 2.5), (1.0, 4.0))), distractors=1)
    target, distractor = (near(picture(drawn), colour).mean(axis=0) for colour in (canvas.ORANGE, canvas.PURPLE))
    assert target[1] > distractor[1] + 100
    assert len(near(picture(drawn, alike=True), canvas.PURPLE)) == 0
    assert "\x1b[35m♪" in text(drawn) and "\x1b[35m♪" not in text(drawn, alike=True)
    # Once found, a distractor has a cross, whoever looks.
    over = replace(drawn, on=np.array([True, False]))
    assert "×" in text(over, alike=True) and "✓" not in text(over)
    assert np.any(picture(over) != picture(replace(over, distractors=0)))


def test_the_way_gone_is_paler_the_older_it_is():
    along = [(0.5 + 0.25 * step, 1.0, 0.0) for step in range(25)]
    seen = picture(scene(pose=along[-1], trajectory=along, sources=((2.0, 4.0),)))
    low, high = walls_box(seen)
    row = round(low[0] + 0.8 * (high[0] - low[0]))
    columns = [round(low[1] + x / 8 * (high[1] - low[1])) for x in (1.0, 2.5, 4.0, 5.5)]
    strip = seen[row - 2 : row + 3, columns].astype(int)
    # The trajectory is green: it differs most from the paper in the red channel.
    darkest = strip[..., 0].min(axis=0)
    assert (np.diff(darkest) < 0).all()


def test_each_part_is_drawn_in_time():
    drawn = scene(regular(6, 4.0), (4.0, 4.0, 1.0), ((3.0, 3.0), (5.5, 4.0)))
    field = sound_field(drawn)
    took = []
    for _ in range(15):
        start = time.perf_counter()
        picture(drawn, 480, field)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.03


@pytest.mark.parametrize("size", [10, 10_000])
def test_senseless_sizes_are_refused(size):
    with pytest.raises(ValueError, match="give from 64 to 4096"):
        picture(scene(), size)


@pytest.mark.parametrize("room", [shoebox((8, 5)), L_SHAPE, shoebox((8, 5, 3))])
def test_the_field_is_the_level_of_each_cell(room):
    drawn = scene(room, sources=((1.5, 1.5),))
    field = sound_field(drawn, cells=48)
    rows, columns = field.decibels.shape
    x = (np.arange(columns) + 0.5) * field.high[0] / columns
    y = (np.arange(rows) + 0.5) * field.high[1] / rows
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    distance = np.hypot(*(grid - [1.5, 1.5]).T)
    deep = (Room(room.corners, None, room.absorption).clearance(grid) > 0.4) & (distance > 1)
    np.testing.assert_allclose(field.decibels.ravel()[deep], -20 * np.log10(distance[deep]), atol=0.2)
    assert deep.sum() > 500 and np.isfinite(field.decibels).all()


def test_the_loudest_colour_surrounds_the_source_and_silence_is_pale():
    drawn = scene(sources=((6.0, 1.0),))
    seen = picture(drawn, 480, sound_field(drawn), hide=True)
    low, high = walls_box(seen)
    at = (low + np.array([0.8, 0.75]) * (high - low)).round().astype(int)
    far = (low + np.array([0.5, 0.06]) * (high - low)).round().astype(int)
    assert seen[tuple(at)].sum() < 300 < 500 < seen[tuple(far)].sum()
    silent = sound_field(scene(on=(False,)))
    assert (silent.decibels == SILENCE).all()
    pale = picture(scene(on=(False,)), 480, silent)
    assert (pale[tuple(far)] == 255).all()


def law_of_mirrors(found: np.ndarray, room: Room) -> None:
    """Assert that the path is reflected at each wall at the angle of incidence, on the same side."""
    for before, at, after in zip(found[:-2], found[1:-1], found[2:], strict=True):
        along = room.next_corners - room.corners
        offset = at - room.corners
        apart = np.abs(along[:, 0] * offset[:, 1] - along[:, 1] * offset[:, 0]) / np.linalg.norm(along, axis=1)
        wall = along[apart.argmin()] / np.linalg.norm(along[apart.argmin()])
        assert apart.min() < 1e-9
        first, second = (at - before) / np.linalg.norm(at - before), (after - at) / np.linalg.norm(after - at)
        np.testing.assert_allclose(first @ wall, second @ wall, atol=1e-9)
        assert (first @ [-wall[1], wall[0]]) < 0 < (second @ [-wall[1], wall[0]])


@settings(max_examples=25)
@given(
    room=st.sampled_from([shoebox((8, 5)), regular(6, 4.0), regular(5, 3.0), L_SHAPE]), seed=st.integers(0, 10_000)
)
def test_ways_are_those_of_mirrors_and_as_many_as_images_are_heard(room, seed):
    low, high = room.corners.min(axis=0), room.corners.max(axis=0)
    points = RNG(seed).uniform(low, high, (40, 2))
    points = points[room.clearance(points) > 0.1]
    ear, source = points[0], points[1]
    images = find_images(room, source, MOST_ORDER, lattice=False)
    ways = [way(room, images, beam, ear) for beam in range(len(images.apex))]
    heard = np.array([found is not None for found in ways])
    np.testing.assert_array_equal(heard, np.ravel(audible(room, images, ear[None])))
    for beam, found in enumerate(ways):
        if found is not None:
            length = np.linalg.norm(np.diff(found, axis=0), axis=1).sum()
            assert len(found) == images.depth[beam] + 2
            np.testing.assert_allclose(length, np.linalg.norm(images.apex[beam] - ear), rtol=1e-9)
            law_of_mirrors(found, room)


def test_a_box_has_all_its_ways():
    room = shoebox((8, 5))
    images = find_images(room, np.array([2.2, 1.3]), 3, lattice=False)
    ear = np.array([6.1, 3.7])
    assert sum(way(room, images, beam, ear) is not None for beam in range(len(images.apex))) == 1 + 2 * 3 * 4


def test_images_are_drawn_where_mirrors_put_them():
    drawn = scene(pose=(3.0, 2.0, 0.0), sources=((6.0, 2.5),))
    seen = picture(drawn, 480, images=1)
    low, high = walls_box(seen)
    scale = (high - low) / [5, 8]
    # The image beyond the left wall is outside the picture.
    for x, y in ((10, 2.5), (6, 7.5), (6, -2.5)):
        row, column = low + np.array([5 - y, x]) * scale
        patch = seen[round(row), round(column)].astype(int)
        assert np.abs(patch - canvas.mixed(canvas.VERMILION, canvas.PAPER, 1.0)).max() < 12, (x, y)


def plain(drawn: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", drawn)


@settings(max_examples=20)
@given(heading=st.floats(-7, 7), columns=st.integers(12, 120), room=st.sampled_from([shoebox((8, 5)), L_SHAPE]))
def test_letters_show_listener_and_sources(heading, columns, room):
    drawn = scene(room, (1.5, 1.5, heading), ((6.0, 2.2), (1.0, 2.9)), (True, False))
    said = text(drawn, columns, colour=False)
    assert plain(text(drawn, columns)) == said
    *lines, below = said.split("\n")
    assert max(map(len, lines)) <= columns
    letters = "".join(lines)
    assert letters.count("♪") == 1 and letters.count("✓") == 1
    (arrow,) = re.findall(f"[{ARROWS}]", letters)
    angle = np.pi / 4 * ARROWS.index(arrow)
    assert np.cos(angle - heading) >= np.cos(np.pi / 8) - 1e-9
    assert f"heading {round(np.degrees(heading)) % 360}°" in below and "found 1 of 2" in below


def test_letters_lie_where_things_are():
    drawn = scene(pose=(0.8, 4.5, 0.0), sources=((7.2, 0.5), (4.0, 2.5)))
    lines = text(drawn, 60, colour=False).split("\n")[:-1]
    places = {sign: [(row, line.index(sign)) for row, line in enumerate(lines) if sign in line] for sign in "→♪"}
    ((row, column),) = places["→"]
    assert row / len(lines) < 0.2 and column / 60 < 0.2
    assert [round(column / 60, 1) for _, column in sorted(places["♪"])] == [0.5, 0.9]
    assert "♪" not in text(drawn, 60, hide=True)


def test_too_few_columns_are_refused():
    with pytest.raises(ValueError, match="at least 12"):
        text(scene(), 5)
