"""Compiled loops over the beams of `images.py`: how they grow from wall to wall, and who stands in them."""

from typing import no_type_check

import numpy as np
from numba import njit

compiled = njit(nogil=True, cache=True, error_model="numpy")
"""No sum is reordered, no product joined with a sum: with such freedom, which functions were compiled before would
show in the last bit, and so in what a seed makes."""
# `no_type_check` below it keeps jaxtyping's import hook, which wraps functions, from what is compiled.
NARROWEST = 1e-9
"""Share of a wall below which a beam has nothing to fall on."""
ENDS = 1e-9
"""Share of a leg at either end that may lie on a wall: it begins and ends on walls."""


@compiled
@no_type_check
def lit(corner, far_corner, apex, edges, wall, wall_start, wall_end):
    """From which to which share of its length a wall lies in a beam that comes through another wall."""
    first, last = 0.0, 1.0
    along_x, along_y = far_corner[0] - corner[0], far_corner[1] - corner[1]
    # The apex must be on the inner side, or the wall would be hit from behind.
    if along_x * (apex[1] - corner[1]) - along_y * (apex[0] - corner[0]) <= 0.0:
        return 1.0, 0.0
    if wall < 0:
        return first, last
    for side in range(3):
        # Each side of the beam is a line; what must be positive changes linearly along the wall.
        if side == 0:
            x, y, toward_x, toward_y = apex[0], apex[1], edges[0] - apex[0], edges[1] - apex[1]
        elif side == 1:
            x, y, toward_x, toward_y = apex[0], apex[1], apex[0] - edges[2], apex[1] - edges[3]
        else:
            x, y = wall_start[0], wall_start[1]
            toward_x, toward_y = wall_end[0] - x, wall_end[1] - y
        at_corner = toward_x * (corner[1] - y) - toward_y * (corner[0] - x)
        change = toward_x * along_y - toward_y * along_x
        if change == 0.0:
            if at_corner <= 0.0:
                return 1.0, 0.0
        elif change > 0.0:
            first = max(first, -at_corner / change)
        else:
            last = min(last, -at_corner / change)
    return first, last


@compiled
@no_type_check
def grow(corners, far_corners, gains, source, order):
    """The plan's images, breadth first: apex, edges, wall, parent, depth and gain of each beam."""
    room = 64
    apex, edges = np.empty((room, 2)), np.empty((room, 4))
    gain = np.empty((room, gains.shape[1]))
    ints = np.empty((room, 3), np.int32)  # wall, parent, depth
    apex[0], edges[0], gain[0] = source, 0.0, 1.0
    ints[0, 0], ints[0, 1], ints[0, 2] = -1, -1, 0
    count, beam = 1, 0
    while beam < count and ints[beam, 2] < order:
        for wall in range(len(corners)):
            last_wall = ints[beam, 0]
            if wall == last_wall or (gain[beam] * gains[wall]).max() <= 0.0:
                continue
            corner, far_corner = corners[wall], far_corners[wall]
            first, last = lit(
                corner, far_corner, apex[beam], edges[beam], last_wall, corners[last_wall], far_corners[last_wall]
            )
            if last - first <= NARROWEST:
                continue
            if count == room:
                room *= 2
                apex, edges, gain, ints = longer(apex), longer(edges), longer(gain), longer(ints)
            along = far_corner - corner
            # Seen from behind the wall, the end of the wall is on the right.
            edges[count, :2], edges[count, 2:] = corner + last * along, corner + first * along
            offset = apex[beam] - corner
            twice = 2 * (along[0] * offset[1] - along[1] * offset[0]) / (along[0] ** 2 + along[1] ** 2)
            apex[count, 0] = apex[beam, 0] + twice * along[1]
            apex[count, 1] = apex[beam, 1] - twice * along[0]
            gain[count] = gain[beam] * gains[wall]
            ints[count, 0], ints[count, 1], ints[count, 2] = wall, beam, ints[beam, 2] + 1
            count += 1
        beam += 1
    ints = ints[:count]
    return apex[:count], edges[:count], ints[:, 0].copy(), ints[:, 1].copy(), ints[:, 2].copy(), gain[:count]


@compiled
@no_type_check
def longer(rows):
    doubled = np.empty((2 * rows.shape[0], rows.shape[1]), rows.dtype)
    doubled[: rows.shape[0]] = rows
    return doubled


@compiled
@no_type_check
def in_beam(apex_x, apex_y, edges, x, y):
    """Whether a point lies between the two edges: two vector products."""
    right = (edges[0] - apex_x) * (y - apex_y) - (edges[1] - apex_y) * (x - apex_x)
    left = (edges[2] - apex_x) * (y - apex_y) - (edges[3] - apex_y) * (x - apex_x)
    return right >= 0.0 and left <= 0.0


@compiled
@no_type_check
def unobstructed(beam, apex, wall, parent, corners, far_corners, walls, x, y):
    """Whether the way back from the listener to the source, wall by wall, meets no other wall."""
    came_from = np.int64(-1)
    while True:
        toward = np.int64(wall[beam])
        to_x, to_y = apex[beam, 0] - x, apex[beam, 1] - y
        end_x, end_y = x + to_x, y + to_y
        if toward >= 0:
            # The leg ends where the line to the image meets its wall.
            corner_x, corner_y = corners[toward, 0], corners[toward, 1]
            along_x, along_y = far_corners[toward, 0] - corner_x, far_corners[toward, 1] - corner_y
            slope = to_x * along_y - to_y * along_x
            if slope == 0.0:
                return False
            share = ((corner_x - x) * along_y - (corner_y - y) * along_x) / slope
            end_x, end_y = x + share * to_x, y + share * to_y
        for other in range(walls):
            if other in (toward, came_from):
                continue
            if crosses(x, y, end_x, end_y, corners[other], far_corners[other]):
                return False
        if toward < 0:
            return True
        x, y, came_from, beam = end_x, end_y, toward, parent[beam]


@compiled
@no_type_check
def crosses(x, y, end_x, end_y, corner, far_corner):
    """Whether a wall cuts the leg from (x, y) to its end."""
    leg_x, leg_y = end_x - x, end_y - y
    along_x, along_y = far_corner[0] - corner[0], far_corner[1] - corner[1]
    slope = leg_x * along_y - leg_y * along_x
    if slope == 0.0:
        return False
    to_x, to_y = corner[0] - x, corner[1] - y
    on_leg = (to_x * along_y - to_y * along_x) / slope
    on_wall = (to_x * leg_y - to_y * leg_x) / slope
    return ENDS < on_leg < 1.0 - ENDS and 0.0 <= on_wall <= 1.0


@compiled
@no_type_check
def heard(found, apex, edges, links, corners, far_corners, convex, listeners):
    """Which listener stands in which beam, with nothing in the way."""
    for listener in range(len(listeners)):
        x, y = listeners[listener, 0], listeners[listener, 1]
        for beam in range(len(apex)):
            within = links[beam, 0] < 0 or in_beam(apex[beam, 0], apex[beam, 1], edges[beam], x, y)
            found[listener, beam] = within and (
                convex
                or unobstructed(beam, apex, links[:, 0], links[:, 1], corners, far_corners, len(corners), x, y)
            )
