"""Random rooms, and random positions of sources and agent: inside, separated and reachable."""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from sonarium.catalogue import ROOMS
from sonarium.rooms.acoustics.geometry import Room, polygon
from sonarium.rooms.contract import RoomEntry
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.paths import Plan, grid_reached, plan_of, reached

ROOMS_TRIED = 100
DRAWS_TRIED = 200
CANDIDATES = 64
TURNS = 16
"""Number of waypoints of a source's walk, which it walks to and fro."""
MOST_DIRECTIONS = 360
"""Maximum number of headings that are searched if the turns do not close a circle."""
TOUCHING = 0.01
"""Distance in metres below which sources coincide."""
THINNEST_ARM = 1.2
"""Minimum width in metres of an arm of an L, T or U, in rooms that are large enough."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """The parts of a layout that are given rather than drawn."""

    room: Room | None = None
    places: Float[np.ndarray, "..."] | None = None
    """Positions of the sources, (source 2)."""
    pose: Float[np.ndarray, "..."] | None = None
    """x, y, heading."""


@dataclass(frozen=True, eq=False)
class Layout:
    """A room, its sources and the start pose."""

    room: Room
    plan: Plan
    sources: Float[np.ndarray, "source 2"]
    pose: Float[np.ndarray, "3"]
    """x, y, heading."""


def draw_layout(config: SeekConfig, random: np.random.Generator, wanted: Wanted = Wanted()) -> Layout:
    """A random room with sources and start; raises ValueError if the constraints cannot be met."""
    fixed, reason = config.room == "fixed" or wanted.room is not None, ""
    for _ in range(1 if fixed else ROOMS_TRIED):
        try:
            room = wanted.room or draw_room(config, random)
            plan = plan_of(room, config.margin)
        except ValueError as unfit:
            if fixed:
                raise
            reason = str(unfit)
            continue
        check_wanted(config, room, plan, wanted)
        for _ in range(DRAWS_TRIED if fixed else DRAWS_TRIED // 20):
            drawn, reason = draw_places(config, room, plan, random, wanted)
            if drawn is not None:
                return Layout(room, plan, *drawn)
    raise ValueError(
        f"found no room with {config.emitters} sources, {reason}: enlarge the room, or reduce sources, "
        f"wall_distance={config.wall_distance}, source_distance={config.source_distance}, "
        f"start_distance={config.start_distance}, or step={config.step} against radius={config.radius}"
    )


def check_wanted(config: SeekConfig, room: Room, plan: Plan, wanted: Wanted) -> None:
    """Raise ValueError if a given room, position or pose is impossible."""
    if room.dimension != config.dimension:
        raise ValueError(
            f"got a room in {room.dimension} dimensions where height={config.height} asks for {config.dimension}: "
            "give the configuration a height, or the room none"
        )
    farthest = float(np.abs(room.corners).max())
    if config.pose and farthest > config.extent:
        raise ValueError(
            f"got a room with a corner at {farthest:g} m where observed poses are bounded by "
            f"{config.extent:g} m: give largest=..., or a smaller room"
        )
    sources, pose = wanted.places, wanted.pose
    if pose is not None:
        if pose.shape != (3,) or not np.isfinite(pose).all():
            raise ValueError(f"got the pose {pose.tolist()}: give finite x, y and heading")
        if not plan.holds(pose[None, :2])[0]:
            raise ValueError(
                f"the pose at {pose[:2].tolist()} is not in the room, {config.margin:g} m from its walls"
            )
    if sources is None:
        return
    if sources.shape != (config.emitters, 2) or not np.isfinite(sources).all():
        raise ValueError(f"got sources of shape {sources.shape}: give finite x and y of {config.emitters}")
    outside = np.flatnonzero(~plan.holds(sources))
    if len(outside):
        raise ValueError(
            f"source {outside[0]} at {sources[outside[0]].tolist()} is not in the room, {config.margin:g} m from "
            "its walls: move it"
        )
    apart = np.linalg.norm(sources[:, None] - sources, axis=-1) + np.diag(np.full(len(sources), np.inf))
    if apart.min() < TOUCHING:
        one, other = np.unravel_index(apart.argmin(), apart.shape)
        raise ValueError(f"sources {one} and {other} are in the same place: move them apart")
    if pose is not None and not (found := reachable(config, room, plan, sources, pose, thorough=True)).all():
        raise ValueError(
            f"source {found.argmin()} cannot be reached from the pose by steps of {config.step} m: move it"
        )


def draw_room(config: SeekConfig, random: np.random.Generator) -> Room:
    """The fixed room, or a random one whose lower left corner is the origin."""
    absorption = config.absorption
    if config.absorption_span:
        absorption += config.absorption_span * random.uniform(-1, 1)
    if config.room == "fixed":
        x, y = config.size
        corners = np.array(config.corners or [(0, 0), (x, 0), (x, y), (0, y)], np.float64)
        return reverberant(config, polygon(corners, config.height, float(absorption)))
    corners = np.asarray(ROOMS.select(config.room).draw(config, random), np.float64)
    try:
        room = polygon(corners - corners.min(axis=0), config.height, float(absorption))
    except ValueError as refused:
        raise ValueError(f"room '{config.room}' drew corners that enclose no room: {refused}") from None
    return reverberant(config, room)


def reverberant(config: SeekConfig, room: Room) -> Room:
    """The room with the absorption for the configured reverberation time, if there is one."""
    if config.rt60 is None:
        return room
    # This imports scipy.signal, which takes longer than all other imports.
    from sonarium.rooms.acoustics.reverberation import absorption_for, mean_free_path

    reflections = config.rt60 * room.speed / mean_free_path(room)
    if config.order < reflections / 2:
        raise ValueError(
            f"rt60={config.rt60} s takes {reflections:.0f} reflections in this room, more than twice order="
            f"{config.order}, so that responses end before they have decayed: give order={math.ceil(reflections)}"
        )
    return replace(room, absorption=absorption_for(room, config.rt60))


def draw_walk(
    config: SeekConfig, room: Room, plan: Plan, start: Float[np.ndarray, "2"], random: np.random.Generator
) -> Float[np.ndarray, "turn 2"]:
    """A random walk of a source: straight legs between waypoints, none of which crosses a wall."""
    low, high = plan.corners.min(axis=0), plan.corners.max(axis=0)
    drawn = random.uniform(low, high, (CANDIDATES // 2, 2))
    drawn = drawn[plan.holds(drawn) & (room.clearance(drawn) >= config.wall_distance)]
    points = np.concatenate([start[None], drawn])
    if len(plan.bends):
        one, other = np.broadcast_arrays(points[:, None], points)
        free = plan.free(one.reshape(-1, 2), other.reshape(-1, 2)).reshape(len(points), -1)
    else:
        free = np.ones((len(points), len(points)), bool)
    way, left = [0], free.copy()
    left[:, 0] = False
    while len(way) < TURNS and left[way[-1]].any():
        way.append(int(left[way[-1]].argmax()))
        left[:, way[-1]] = False
    return points[way + way[-1:] * (TURNS - len(way))]


def rectangle(config: SeekConfig, random: np.random.Generator) -> Float[np.ndarray, "corner 2"]:
    x, y = random.uniform(config.smallest, config.largest, 2)
    return np.array([(0, 0), (x, 0), (x, y), (0, y)])


def convex_polygon(config: SeekConfig, random: np.random.Generator) -> Float[np.ndarray, "corner 2"]:
    """Corners on an ellipse, at regular angles with jitter; points on an ellipse are always convex."""
    sides = int(random.integers(config.fewest_sides, config.most_sides + 1))
    shift = 0.4 * config.irregular * random.uniform(-1, 1, sides)
    angle = 2 * np.pi * (np.arange(sides) + shift) / sides
    flat = 1 - 0.4 * config.irregular * random.random()
    corners = rotated(np.stack([np.cos(angle), flat * np.sin(angle)], axis=1), random.uniform(0, 2 * np.pi))
    return fitted(corners, random.uniform(config.smallest, config.largest))


def nonconvex_polygon(config: SeekConfig, random: np.random.Generator) -> Float[np.ndarray, "corner 2"]:
    """An L, T or U, rotated and mirrored at random, or a star."""
    if random.random() < 0.25:
        return star(config, random)
    x, y = random.uniform(config.smallest, config.largest, 2)
    arm = min(THINNEST_ARM, 0.3 * min(x, y))
    shape = int(random.integers(3))
    # Position of the cuts into the rectangle; arms keep their minimum width.
    depth = random.uniform(0.35 * y, y - arm)
    if shape == 0:
        cut = random.uniform(arm, 0.7 * x)
        corners = [(0, 0), (x, 0), (x, y - depth), (cut, y - depth), (cut, y), (0, y)]
    else:
        left = random.uniform(arm, 0.5 * x - arm / 2)
        right = random.uniform(left + arm, x - arm)
        top, foot = y, y - depth
        if shape == 1:
            corners = [
                (0, 0),
                (x, 0),
                (x, foot),
                (right, foot),
                (right, top),
                (left, top),
                (left, foot),
                (0, foot),
            ]
        else:
            corners = [(0, 0), (x, 0), (x, top), (right, top), (right, foot), (left, foot), (left, top), (0, top)]
    turned = rotated(np.array(corners), np.pi / 2 * int(random.integers(4)))
    return turned * [random.choice([-1.0, 1.0]), 1.0]


def star(config: SeekConfig, random: np.random.Generator) -> Float[np.ndarray, "corner 2"]:
    """A star-shaped polygon with alternately far and near corners."""
    points = int(random.integers(4, 7))
    angle = np.pi * (np.arange(2 * points) + random.uniform(-0.2, 0.2, 2 * points)) / points
    near, far = random.uniform(0.45, 0.75, points), random.uniform(0.85, 1.0, points)
    radius = np.stack([far, near], axis=1).ravel()
    corners = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return fitted(rotated(corners, random.uniform(0, 2 * np.pi)), random.uniform(config.smallest, config.largest))


def rotated(corners: Float[np.ndarray, "corner 2"], angle: float) -> Float[np.ndarray, "corner 2"]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return corners @ np.array([[cosine, sine], [-sine, cosine]])


def fitted(corners: Float[np.ndarray, "corner 2"], extent: float) -> Float[np.ndarray, "corner 2"]:
    """Corners scaled so that the larger extent along x or y is `extent` metres."""
    return corners * (extent / np.ptp(corners, axis=0).max())


SHOEBOX = RoomEntry("Rectangles with sides from `smallest` to `largest`.", rectangle)
NGON = RoomEntry("Convex polygons with `fewest_sides` to `most_sides` walls.", convex_polygon)
NONCONVEX = RoomEntry("Non-convex rooms: L, T and U shapes, and stars.", nonconvex_polygon)
"""The entries of the catalogue."""


def draw_places(
    config: SeekConfig, room: Room, plan: Plan, random: np.random.Generator, wanted: Wanted
) -> tuple[tuple[Float[np.ndarray, "source 2"], Float[np.ndarray, "3"]] | None, str]:
    """Sources and a pose from one draw of candidates, or None with a reason."""
    low, high = plan.corners.min(axis=0), plan.corners.max(axis=0)
    candidates = random.uniform(low, high, (CANDIDATES, 2))
    heading = random.uniform(-np.pi, np.pi)
    allowed = plan.holds(candidates) & (room.clearance(candidates) >= config.wall_distance)
    candidates = candidates[allowed]
    places = [] if wanted.places is None else list(wanted.places)
    tried = 0
    while len(places) < config.emitters and tried < len(candidates):
        candidate, tried = candidates[tried], tried + 1
        from_start = np.inf if wanted.pose is None else np.hypot(*(candidate - wanted.pose[:2]))
        apart = all(np.hypot(*(candidate - place)) >= config.source_distance for place in places)
        if apart and from_start >= config.start_distance:
            places.append(candidate)
    if len(places) < config.emitters:
        return None, f"for want of {config.emitters} places far enough apart and from walls"
    sources, pose = np.array(places), wanted.pose
    if pose is None:
        # Only candidates after the last source: the earlier ones were rejected, which biases them.
        distances = np.linalg.norm(candidates[tried:, None] - sources, axis=-1).min(axis=1)
        far = np.flatnonzero(distances >= config.start_distance)
        if not len(far):
            return None, "for want of a start far enough from the sources"
        pose = np.append(candidates[tried + far[0]], heading)
    if not reachable(config, room, plan, sources, pose).all() and (wanted.pose is None or wanted.places is None):
        return None, "for some source could not be reached by steps"
    return (sources, pose), ""


def reachable(
    config: SeekConfig,
    room: Room,
    plan: Plan,
    sources: Float[np.ndarray, "source 2"],
    pose: Float[np.ndarray, "3"],
    thorough: bool = False,
) -> Bool[np.ndarray, " source"]:
    """Whether the agent's steps can find each source. Where turns allow right angles, a grid of steps is searched;
    `thorough` also searches the headings in between."""
    if config.actions == "continuous":
        return plan.holds(sources)
    quarter = 90 / config.turn
    square = config.actions == "compass" or quarter == round(quarter)
    # Grid points within this distance of a straight path in open space are connected.
    needed = config.step / np.sqrt(2)
    open_way = square and not len(plan.bends) and needed <= config.radius
    if open_way and room.clearance(np.vstack([sources, pose[:2]])).min() >= config.margin + needed:
        return np.ones(len(sources), bool)
    directions = directions_of(config, float(pose[2]))
    if config.actions == "compass" or (square and not thorough):
        places = grid_reached(plan, pose[:2], config.step, float(directions[0]))
    else:
        places = reached(plan, pose[:2], config.step, directions)
    near = np.linalg.norm(places[:, None] - sources, axis=-1) <= config.radius
    place, source = np.nonzero(near)
    seen = room.in_sight(places[place], sources[source])
    return np.isin(np.arange(len(sources)), source[seen])


def directions_of(config: SeekConfig, heading: float) -> Float[np.ndarray, " direction"]:
    """Directions of movement in radians."""
    if config.actions == "compass":
        return np.arange(4) * np.pi / 2
    turns = next((count for count in range(1, MOST_DIRECTIONS) if count * config.turn % 360 == 0), MOST_DIRECTIONS)
    forward = heading + np.radians(config.turn) * np.arange(turns)
    return np.concatenate([forward, forward + np.pi])
