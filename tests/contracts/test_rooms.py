"""Contract of every room shape: corners enclose a room of the stated extent, and depend only on the generator."""

import numpy as np
import pytest

from sonarium.catalogue import ROOMS
from sonarium.rooms.acoustics.geometry import polygon
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.generate import draw_layout

pytestmark = pytest.mark.parametrize("name", ROOMS.loadable())
SIZES = (
    {},
    {"smallest": 3.0, "largest": 3.5},
    {"smallest": 6.0, "largest": 6.0},
    {"smallest": 4.0, "largest": 20.0},
)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_corners_enclose_a_room_of_the_stated_extent(name, sizes):
    config = SeekConfig(room=name, **sizes)
    areas = set()
    for seed in range(60):
        corners = np.asarray(ROOMS[name].draw(config, np.random.default_rng(seed)))
        assert corners.shape == (len(corners), 2) and len(corners) >= 3 and np.isfinite(corners).all()
        extent = np.ptp(corners, axis=0)
        assert config.smallest * (1 - 1e-9) <= extent.max() <= config.largest * (1 + 1e-9)
        room = polygon(corners, None, 0.3)
        assert 0 < room.area <= extent.prod() * (1 + 1e-9)
        areas.add(round(room.area, 9))
        again = np.asarray(ROOMS[name].draw(config, np.random.default_rng(seed)))
        assert (again == corners).all()
    assert len(areas) > 30 or config.smallest == config.largest


def test_sources_and_listener_find_their_places(name):
    config = SeekConfig(room=name, sources=2)
    for seed in range(5):
        layout = draw_layout(config, np.random.default_rng(seed))
        assert layout.plan.holds(layout.sources).all() and layout.plan.holds(layout.pose[None, :2]).all()
        assert (layout.room.corners.min(axis=0) == 0).all()
