"""Binaural rendering for moving listeners compared with pyroomacoustics; equality is asserted before timing.

Whole clips, one listener at a time, in a rectangle and in a hexagon; the same in OtoWorld's setting; windows of a
stream in the vector environment, with random actions and observations; and reset to a new room.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from sonarium.bench.plain_rooms import OtoWorldStep, PlainRoom
from sonarium.bench.timing import case, interleaved
from sonarium.cores import usable_cores
from sonarium.rooms.acoustics.geometry import Room, polygon, regular, shoebox
from sonarium.rooms.acoustics.simulator import Acoustics
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.vector import SeekVector

RATE = 8000
EARS = 0.2
"""Distance between the ears in metres."""
SAME = 2e-3
"""Tolerance as a fraction of the peak; pyroomacoustics deviates by half of it from the exact sinc."""
OTOWORLD_CLIP = 34523
"""Length of OtoWorld's sounds in samples."""
POSES = 300
"""Number of poses of a single listener."""
TOGETHER = 20
"""Listeners in parallel, each in its own room."""
HEXAGONS = 10
"""Number of poses or rooms where pyroomacoustics takes a tenth of a second for each."""
FEW, MANY = 64, 1024
"""Rooms in parallel."""
THREADS = usable_cores()
Poses = list[tuple[np.ndarray, float]]


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    shoeboxes, big = SeekConfig(), SeekConfig(room="fixed", order=10)
    hexagons = SeekConfig(room="ngon", fewest_sides=6, most_sides=6)
    return [
        *whole_clips("shoebox 8 x 8 m, clip of 1 s", shoebox((8, 8), absorption=0.2), POSES, repeats),
        *whole_clips("hexagon, clip of 1 s", regular(6, 4.0, absorption=0.2), HEXAGONS, repeats),
        otoworld("whole-clip, OtoWorld's setting", 1, repeats),
        otoworld(f"whole-clip, OtoWorld's setting, {TOGETHER} rooms at once", TOGETHER, repeats),
        stream("stream of .25 s, random shoeboxes, order 3", shoeboxes, 8, repeats),
        stream("stream of .25 s, shoebox 8 x 8 m, order 10", big, 4, repeats),
        stream("stream of .25 s, random hexagons, order 3", hexagons, 4, repeats),
        many(repeats),
        reset(repeats),
    ]


def whole_clips(name: str, room: Room, count: int, repeats: int) -> list[dict[str, Any]]:
    """One listener at a sequence of poses, the whole clip at each: against the straightforward loop, and in a
    rectangle, where images can be reused, against an optimised loop."""
    sources, poses = np.array([[2.6, 3.1], [5.2, 4.7]]), places(room, count)
    sounds = noise(2, RATE)
    plain = PlainRoom(room, sources, sounds, RATE, 10, faster_threads(room, sources, sounds))
    ours = listener(room, sources, sounds, plain)
    work = f"{count} poses, 2 sources, 2 ears, {RATE} samples and the reverberation after them, {setting(10)}"
    peers = {"a pyroomacoustics loop": plain.simulate}
    if plain.box:
        peers["the same, its images kept and its convolutions joined"] = plain.hear
    rows = []
    for peer, hear in peers.items():
        ways = (
            lambda: last(hear_one(ours, *pose) for pose in poses),
            lambda hear=hear: last(hear(ears_of(*pose)) for pose in poses),
        )
        same(ways[0](), ways[1]())
        rows.append(case(name, work, peer, *interleaved(*ways, repeats)))
    return rows


def otoworld(name: str, rooms: int, repeats: int) -> dict[str, Any]:
    """OtoWorld's setting: sounds of 4.3 s, from their beginning at every step; rooms in sequence or in
    parallel."""
    room, sources = shoebox((8, 8), absorption=0.2), np.array([[2.6, 3.1], [5.2, 4.7]])
    poses, sounds = places(room, POSES), noise(2, OTOWORLD_CLIP)
    plain = PlainRoom(room, sources, sounds, RATE, 10, faster_threads(room, sources, sounds))
    ours = listener(room, sources, sounds, plain, rooms)
    theirs = OtoWorldStep(plain, sources)
    where, whither = np.array([place for place, _ in poses]), np.array([heading for _, heading in poses])
    parts = [slice(start, start + rooms) for start in range(0, POSES, rooms)]
    ways = (
        lambda: last(ours.hear(where[part], whither[part]) for part in parts)[-1],
        lambda: last(theirs.step(pose[0], ears_of(*pose))[0] for pose in poses),
    )
    same(ways[0](), ways[1]())
    work = f"{POSES} steps, shoebox 8 x 8 m, 2 sources, 2 ears, {OTOWORLD_CLIP} samples and the reverberation, "
    peer = "the calls of OtoWorld's AudioEnv.step on pyroomacoustics"
    return case(name, work + setting(10), peer, *interleaved(*ways, repeats))


def stream(name: str, config: SeekConfig, steps: int, repeats: int) -> dict[str, Any]:
    """The vector environment with random actions, against one pyroomacoustics simulation per step."""
    rooms, environment = FEW, SeekVector(FEW, config)
    heard, _ = environment.reset(seed=0)
    peers = [PeerOfSlot(environment, slot) for slot in range(rooms)]
    for slot in range(0, rooms, 8):
        same(heard[slot], np.clip(peers[slot].window(0), -1, 1))
    actions = np.random.default_rng(0).integers(0, 4, (steps, rooms))

    def ours() -> None:
        for action in actions:
            environment.step(action)

    def theirs() -> None:
        for step in range(steps):
            for peer in peers:
                peer.window(step)

    kilobytes = memory(environment.episodes.acoustics) / 1024
    work = (
        f"{rooms} rooms x {steps} steps, 2 sources, 2 ears, {config.window} samples a step, "
        f"{setting(config.order)}; {kilobytes:.0f} kB of memory a room"
    )
    return case(name, work, "pyroomacoustics, a simulation a step", *interleaved(ours, theirs, repeats))


class PeerOfSlot:
    """The room of one slot of the environment in pyroomacoustics."""

    def __init__(self, environment: SeekVector, slot: int):
        episodes = environment.episodes
        acoustics, self.config = episodes.acoustics, episodes.config
        bank = acoustics.bank
        sources = np.stack([acoustics.places[slot, source] for source in range(self.config.sources)])
        sounds = [bank.sound(int(row)).copy() for row in bank.rows[slot]]
        self.offsets = bank.offsets[slot].copy()
        self.plain = PlainRoom(acoustics.rooms[slot], sources, sounds, self.config.rate, self.config.order)
        self.ears = ears_of(episodes.place[slot].copy(), float(episodes.heading[slot]))

    def window(self, step: int) -> np.ndarray:
        # A small offset at every step, so that no position repeats.
        aside = 0.01 * np.array([np.cos(step), np.sin(step)]) * (step > 0)
        window = self.config.window
        return self.plain.hear_window(self.ears + aside, step * window, window, self.offsets)


def many(repeats: int) -> dict[str, Any]:
    """Time and memory are linear in the number of rooms: the same steps in many rooms in parallel and in few."""
    sizes, steps = (MANY, FEW), (1, MANY // FEW)
    environments = [SeekVector(size, SeekConfig(observation="audio")) for size in sizes]
    for environment in environments:
        environment.reset(seed=0)
    actions = [
        np.random.default_rng(0).integers(0, 4, (count, size)) for count, size in zip(steps, sizes, strict=True)
    ]

    def step(which: int) -> None:
        for row in actions[which]:
            environments[which].step(row)

    kilobytes = memory(environments[0].episodes.acoustics) / 1024
    work = f"{MANY} rooms x 1 step, .25 s, {setting(3)}; {kilobytes:.0f} kB of memory a room"
    times = interleaved(lambda: step(0), lambda: step(1), repeats)
    return case("stream, time and memory of many rooms", work, f"ours, {FEW} rooms x {MANY // FEW} steps", *times)


def reset(repeats: int) -> dict[str, Any]:
    """Reset: a new room with two sources, up to its first observation of a quarter of a second."""
    random, window, count = np.random.default_rng(0), RATE // 4, HEXAGONS
    sounds, sources = noise(2, RATE), np.array([[-1.2, 0.4], [1.3, -0.9]])
    angles = (np.arange(6) + 0.35 * random.uniform(-1, 1, (count, 6))) * np.pi / 3
    hexagons = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * random.uniform(3.5, 5, (count, 1, 1))
    acoustics = Acoustics(1, 2, RATE, window, 10)
    place, heading = np.array([0.3, 0.2]), 0.5

    def ours() -> list[np.ndarray]:
        heard = []
        for corners in hexagons:
            acoustics.enter(0, polygon(corners, absorption=0.2), sources, sounds)
            heard.append(hear_one(acoustics, place, heading))
        return heard

    def theirs() -> list[np.ndarray]:
        ears, offsets = ears_of(place, heading), np.zeros(2, int)
        rooms = [PlainRoom(polygon(corners, absorption=0.2), sources, sounds, RATE, 10) for corners in hexagons]
        return [room.hear_window(ears, 0, window, offsets) for room in rooms]

    for mine, other in zip(ours(), theirs(), strict=True):
        same(mine, other)
    work = f"{count} random hexagons, 2 sources, images up to order 10, and the first .25 s, {setting(10)}"
    return case("reset, random hexagon", work, "pyroomacoustics", *interleaved(ours, theirs, repeats))


def listener(
    room: Room, sources: np.ndarray, sounds: list[np.ndarray], plain: PlainRoom, rooms: int = 1
) -> Acoustics:
    """A simulator that renders whole clips with their reverberation, as the peer does, in one or several rooms."""
    farthest = max(plain.respond(ears_of(*pose)).shape[-1] for pose in places(room, 5))
    ours = Acoustics(rooms, 2, RATE, len(sounds[0]) + farthest, 10, EARS, "clip")
    for slot in range(rooms):
        ours.enter(slot, room, sources, sounds)
    return ours


def hear_one(acoustics: Acoustics, place: np.ndarray, heading: float) -> Float[np.ndarray, "ear time"]:
    return acoustics.hear(place[None], np.array([heading]))[0]


def last(heard: Iterable[np.ndarray]) -> np.ndarray:
    """The last of all renderings; as for a moving listener, the earlier ones are discarded."""
    for here in heard:
        latest = here
    return latest


def same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Raise ValueError if the results differ, since their speed is then not comparable."""
    length = min(ours.shape[-1], theirs.shape[-1])
    apart = np.abs(ours[:, :length] - theirs[:, :length]).max() / np.abs(theirs).max()
    if not apart <= SAME:
        raise ValueError(f"the two sides differ by {apart:.1e} of the peak: at most {SAME:g} is expected")


def faster_threads(room: Room, sources: np.ndarray, sounds: list[np.ndarray]) -> int:
    """The number of threads with which pyroomacoustics is faster."""
    (place, heading), *_ = places(room, 1)

    def timed(threads: int) -> float:
        plain = PlainRoom(room, sources, sounds, RATE, 10, threads)
        return interleaved(lambda: [plain.respond(ears_of(place, heading)) for _ in range(3)], lambda: None, 3)[0]

    return min({1, THREADS}, key=timed)


def places(room: Room, count: int) -> Poses:
    """Poses in the room, away from its walls."""
    random, found = np.random.default_rng(1), []
    while len(found) < count:
        place = random.uniform(*room.bounds)
        if room.clearance(place[None])[0] > 0.3:
            found.append((place, float(random.uniform(-np.pi, np.pi))))
    return found


def ears_of(place: np.ndarray, heading: float) -> Float[np.ndarray, "ear 2"]:
    left = EARS / 2 * np.array([-np.sin(heading), np.cos(heading)])
    return np.stack([place + left, place - left])


def noise(count: int, length: int) -> list[np.ndarray]:
    random = np.random.default_rng(2)
    return [random.standard_normal(length).astype(np.float32) for _ in range(count)]


def setting(order: int) -> str:
    return f"order {order}, {RATE} Hz, {THREADS} thread(s)"


def memory(acoustics: Acoustics) -> float:
    """Bytes per room: images, beams, sources and cross-fade buffers; sounds are shared and not counted."""
    arrays = [value for value in vars(acoustics.slots).values() if isinstance(value, np.ndarray)]
    owned = sum(array.nbytes for array in arrays if array.shape[:1] == (acoustics.slots.count,))
    return (owned + acoustics.convolver.tails.nbytes) / acoustics.slots.count
