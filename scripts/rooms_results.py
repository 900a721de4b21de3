"""Measure the accuracy and speed of the room acoustics for `docs/rooms.md`, on an idle machine.

.venv/bin/python scripts/rooms_results.py                 # minutes; requires ../shared/data for measured rooms
.venv/bin/python scripts/rooms_results.py speed limits    # these parts: speed, limits, proof, "measured rooms"

Proof: random rooms and poses against fresh rooms of pyroomacoustics and against an exhaustive search through
sequences of walls (`tests/rooms/oracles.py`), streams against long convolutions, measured rooms. Speed: `sonarium
bench rooms`, and its ratio to the time of the Fourier transforms alone.
"""

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
from scipy.signal import fftconvolve
from tones_results import ROOT, SONARIUM, insert, table

from sonarium.bench import rooms as bench
from sonarium.bench.plain_rooms import PlainRoom
from sonarium.bench.rooms import memory
from sonarium.rooms.acoustics import fourier
from sonarium.rooms.acoustics.geometry import Room, polygon, regular, shoebox
from sonarium.rooms.acoustics.impulse_responses import simulate
from sonarium.rooms.acoustics.simulator import Acoustics, place_ears
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.vector import SeekVector

sys.path.insert(0, str(ROOT / "tests"))
from rooms import measured, oracles  # pyright: ignore[reportMissingImports]

DATA = ROOT.parent / "shared" / "data"
RATE = 16000
ROOMS = 60
"""Number of rooms of each shape."""
KINDS = {
    # name: shape, orders in the plane, orders with a height
    "shoeboxes": ("box", 10, 6),
    "regular polygons": ("regular", 7, 4),
    "convex polygons": ("ellipse", 6, 4),
    "L, T and U": ("bent", 4, 3),
    "star-shaped": ("star", 4, 3),
}


def draw(shape: str, height: float | None, random: np.random.Generator) -> Room:
    """A random room of this shape with a random absorption coefficient for each wall."""
    count = int(random.integers(4, 8))
    if shape == "box":
        x, y = random.uniform(2.5, 8, 2)
        corners = np.array([(0, 0), (x, 0), (x, y), (0, y)])
    elif shape == "bent":
        outlines = (oracles.ELL, oracles.TEE, oracles.CUP)
        corners = np.array(outlines[random.integers(3)]) * random.uniform(0.7, 1.4, 2)
    else:
        radii = random.uniform(1.5, 4.5, count) if shape == "star" else np.full(count, 3.0)
        shift = np.zeros(count) if shape == "regular" else random.uniform(0, 1, count)
        corners = oracles.starlike(count, radii.tolist(), shift.tolist())
        corners = corners * (1, 1 if shape == "regular" else 0.7)
    return polygon(corners, height, random.uniform(0.02, 0.7, len(corners) + (0 if height is None else 2)))


def against_peers(shape: str, orders: tuple[int, int]) -> dict[str, float]:
    """Image sources and responses against pyroomacoustics, and double-precision responses against the formula."""
    random = np.random.default_rng(0)
    names = ("images", "edge", "unlike", "place_m", "gain", "response", "theirs", "single", "double")
    found: dict[str, float] = {name: 0.0 for name in names}
    for number in range(ROOMS):
        tall = number % 3 == 2
        order = orders[1] if tall else orders[0]
        room = draw(shape, float(random.uniform(2.2, 4)) if tall else None, random)
        source, ear = oracles.placed(room, random, 2)
        mine = oracles.ours(room, source, ear, order)
        other = oracles.imagined(room, [source], [ear], order, RATE)
        theirs = oracles.heard_by_peer(other, 0, 0)
        extra, missing, gain = oracles.unmatched(mine, theirs)
        lonely = [*extra, *missing]
        at_edge = sum(oracles.near_edge(room, source, ear, order, place) for place in lonely)
        found["images"] += len(mine.places)
        found["edge"] += at_edge
        found["unlike"] += len(lonely) - at_edge
        found["gain"] = max(found["gain"], gain)
        if not lonely and len(mine.places):
            gaps = np.abs(mine.places[:, None] - theirs.places[None]).max(axis=2).min(axis=1)
            found["place_m"] = max(found["place_m"], float(gaps.max()))
            other.compute_rir()
            heard = simulate(room, [source], [ear], RATE, order)[0, 0]
            exact = oracles.responded(mine, ear, RATE, room.speed, len(heard))
            found["response"] = max(found["response"], apart(heard, other.rir[0][0]))
            found["theirs"] = max(found["theirs"], apart(other.rir[0][0], exact))
            found["single"] = max(found["single"], apart(heard, exact))
        found["double"] = max(found["double"], beside_formula(room, source, ear, 2))
    return found


def beside_formula(room: Room, source: np.ndarray, ear: np.ndarray, order: int) -> float:
    """Error of the double-precision response against the taps of all paths found by exhaustive search through
    sequences of walls."""
    heard = simulate(room, [source], [ear], RATE, order, dtype=np.float64)[0, 0]
    paths = oracles.searched(room, source, ear, order)
    return apart(heard, oracles.responded(paths, ear, RATE, room.speed, len(heard)))


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Maximum difference as a fraction of the peak."""
    length = max(len(one), len(other))
    one, other = (np.pad(signal, (0, length - len(signal))) for signal in (one, other))
    return float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-12))


def long_stream() -> float:
    """Error of the windows of a stream of two sources against one long convolution in double precision."""
    random, worst = np.random.default_rng(1), 0.0
    for shape, _, _ in KINDS.values():
        room = draw(shape, None, random)
        *sources, place = oracles.placed(room, random, 3, 0.2)
        sounds = [random.standard_normal(length).astype(np.float32) for length in (3001, 5003)]
        acoustics = Acoustics(1, 2, RATE, 4000, 4)
        acoustics.enter(0, room, np.array(sources), sounds)
        heard = np.concatenate([acoustics.hear(place[None], np.zeros(1))[0] for _ in range(4)], axis=1)
        ears = place + np.array([(0, 0.1), (0, -0.1)])
        responses = simulate(room, sources, ears, RATE, 4, dtype=np.float64)
        before = responses.shape[-1] - 1
        span = np.arange(-before, heard.shape[1])
        parts = [
            fftconvolve(responses[at], sound[span % len(sound)][None].astype(float), axes=-1)
            for at, sound in enumerate(sounds)
        ]
        expected = np.sum(parts, axis=0)[:, before : before + heard.shape[1]]
        worst = max(worst, float(np.abs(heard - expected).max() / np.abs(expected).max()))
    return worst


def proof() -> dict:
    found = {name: against_peers(shape, (flat, tall)) for name, (shape, flat, tall) in KINDS.items()}
    return {"rooms_a_kind": ROOMS, "rate": RATE, "kinds": found, "stream": long_stream()}


def proof_table(found: dict) -> str:
    head = [
        "",
        "audible images",
        "unmatched",
        "on the edge of a beam",
        "place, m",
        "gain",
        "response",
        "theirs",
        "single",
        "double",
    ]
    rows = [
        [
            name, f"{row['images']:.0f}", f"{row['unlike']:.0f}", f"{row['edge']:.0f}", f"{row['place_m']:.0e}",
            f"{row['gain']:.0e}", *(f"{row[column]:.1e}" for column in ("response", "theirs", "single", "double")),
        ]
        for name, row in found["kinds"].items()
    ]  # fmt: skip
    return (
        table(head, rows)
        + f"\n\nWindows of a stream against one long convolution: {found['stream']:.0e} of the peak."
    )


def measurements() -> list[list[str]] | None:
    """Rows: quantity, error, number of cases."""
    if not DATA.is_dir():
        return None
    direct, echoes = (np.abs(errors) for errors in measured.echo_errors(DATA))
    decays, hall = measured.dechorate_decays(DATA), measured.hall_decays(DATA)
    theirs, ours, bare = measured.ear_delays(DATA)
    errors, without = np.abs(ours - theirs), np.abs(bare - theirs)
    peaks = np.abs(measured.peak_errors(DATA))
    rows = [
        ["dEchorate, direct sound", f"median {np.median(direct):.3f} ms, largest {direct.max():.2f}", "60 pairs"],
        ["dEchorate, first echoes", f"median {np.median(echoes):.3f} ms", "360 echoes, annotated by hand"],
        ["dEchorate, peak of the response", f"median {np.median(peaks):.3f} ms", "12 microphones"],
        [
            f"dEchorate, T30 (about {measured.DECHORATE_T30} s)",
            f"{np.median(decays):.3f} s, from {decays.min():.3f} to {decays.max():.3f}",
            "12 microphones",
        ],
    ]
    for name, (expected, found) in hall.items():
        pairs = ", ".join(f"{one:.2f} ({other:.2f})" for one, other in zip(found, expected, strict=True))
        rows.append([f"Open AIR sports hall, {name.upper()} (expected), s", pairs, "500, 1000, 2000, 4000 Hz"])
    rows.append(
        [
            "Surrey head, interaural delay",
            f"sphere: median {np.median(errors):.0f} µs, largest {errors.max():.0f}; "
            f"no head: {np.median(without):.0f} and {without.max():.0f}",
            "37 azimuths",
        ]
    )
    return rows


def measured_table(rows: list[list[str]]) -> str:
    return table(["", "result", "cases"], rows)


def limits() -> list[dict[str, Any]]:
    """Microseconds per step or pose, beside those of the transforms alone and of beams and arrivals alone."""
    rows = [stream_limit(rooms) for rooms in (16, 64, 256, 1024)]
    box, hexagon = shoebox((8, 8), absorption=0.2), regular(6, 4.0, absorption=0.2)
    rows.append(clip_limit("shoebox, clip of 1 s, one listener", box, bench.RATE))
    rows.append(clip_limit("hexagon, clip of 1 s, one listener", hexagon, bench.RATE))
    rows.append(clip_limit("shoebox, clip of 4.3 s, one listener", box, bench.OTOWORLD_CLIP))
    return rows


def stream_limit(rooms: int) -> dict[str, Any]:
    """Time of a step of the vector environment with this number of rooms."""
    environment = SeekVector(rooms, SeekConfig())
    environment.reset(seed=0)
    random = np.random.default_rng(0)
    actions = [random.integers(0, 4, rooms) for _ in range(max(8, 2048 // rooms))]
    environment.step(actions[0])
    begin = time.perf_counter()
    for row in actions:
        environment.step(row)
    seconds = (time.perf_counter() - begin) / len(actions) / rooms
    acoustics, episodes = environment.episodes.acoustics, environment.episodes
    # Two sounds, two pairs of responses, and one pair of signals at the ears.
    alone = transforms(acoustics, 5) / acoustics.threads
    arriving = arrivals(acoustics, episodes.place, episodes.heading) / acoustics.threads
    return limit(f"stream of .25 s, {rooms} rooms", seconds, alone, arriving, acoustics)


def clip_limit(name: str, room: Room, samples: int) -> dict[str, Any]:
    """Time of a pose of one listener, order 10, one thread."""
    sources, sounds = np.array([[2.6, 3.1], [5.2, 4.7]]), bench.noise(2, samples)
    plain = PlainRoom(room, sources, sounds, bench.RATE, 10)
    acoustics = bench.listener(room, sources, sounds, plain)
    place, heading = (np.array([one]) for one in bench.places(room, 1)[0])
    length = int(acoustics.lengths[0])
    blocks = -(-acoustics.window // (acoustics.convolver.size(length) - length + 1))
    seconds = best(lambda: acoustics.hear(place, heading))
    alone = transforms(acoustics, acoustics.slots.sources + blocks)
    return limit(name, seconds, alone, arrivals(acoustics, place, heading), acoustics)


def limit(name: str, seconds: float, alone: float, arriving: float, acoustics: Acoustics) -> dict[str, Any]:
    return {
        "what": name,
        "us": 1e6 * seconds,
        "a_second": 1 / seconds,
        "transforms_us": 1e6 * alone,
        "arrivals_us": 1e6 * arriving,
        "times_the_floor": seconds / (alone + arriving),
        "kilobytes": memory(acoustics) / 1024,
    }


def transforms(acoustics: Acoustics, count: int) -> float:
    """Seconds of `count` Fourier transforms for one room."""
    size, rooms = acoustics.convolver.size(int(np.median(acoustics.lengths))), 64
    signals = np.zeros((count * rooms, size), np.float32)
    return best(lambda: fourier.spectra(signals)) / rooms


def arrivals(acoustics: Acoustics, places: np.ndarray, headings: np.ndarray) -> float:
    """Seconds of beams and arrivals for one room."""
    every, length = np.arange(len(places)), int(acoustics.lengths.max())
    ears = place_ears(places, headings, every, acoustics.dimensions, acoustics.aside)
    return best(lambda: acoustics.slots.responses(every, ears, length)) / len(ears)


def best(work) -> float:
    seconds = []
    for _ in range(7):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def limits_table(rows: list[dict[str, Any]]) -> str:
    head = [
        "",
        "µs",
        "per second",
        "transforms alone, µs",
        "beams and arrivals alone, µs",
        "× both",
        "kB per room",
    ]
    digits = (0, 0, 0, 0, 1, 0)
    cells = [
        [row["what"], *(f"{value:,.{n}f}" for value, n in zip(list(row.values())[1:], digits, strict=True))]
        for row in rows
    ]
    return table(head, cells)


def speed() -> dict:
    words = [*SONARIUM, "bench", "rooms", "--repeats", "9", "--json"]
    return json.loads(subprocess.run(words, check=True, capture_output=True).stdout)


def speed_table(found: dict) -> str:
    rows = [
        [
            case["name"], case["work"], case["peer"], f"{case['ours_s']:.4f}", f"{case['peer_s']:.4f}",
            f"{case['ratio']:.1f} ×",
        ]
        for case in found["cases"]
    ]  # fmt: skip
    return f"{found['hardware']}\n\n" + table(["case", "work", "peer", "ours s", "peer s", "ratio"], rows)


PARTS = {
    # part of the page: function that measures it, function that formats it
    "speed": (speed, speed_table),
    "limits": (limits, limits_table),
    "proof": (proof, proof_table),
    "measured rooms": (measurements, measured_table),
}


def main() -> None:
    wanted = sys.argv[1:] or list(PARTS)
    path = ROOT / "docs" / "results" / "rooms.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    for name in wanted:
        measure, written = PARTS[name]
        found = measure()
        if found is None:
            print(f"{name}: skipped, for there is no {DATA}", flush=True)
            continue
        results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(results | {name: found}, indent=1) + "\n", encoding="utf-8")
        insert(name, written(found), "rooms.md")
        print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
