"""Errors against measurements: dEchorate (Di Carlo et al., 2021), a sports hall of the Open AIR library, and
the head of the Surrey set of binaural responses, without a room.

Nothing is fitted: walls, positions and speed of sound are given by the data, the head radius by the literature.
"""

import csv
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import scipy.signal
import soundfile

from sonarium.rooms.acoustics.arrivals import LEAD
from sonarium.rooms.acoustics.geometry import shoebox
from sonarium.rooms.acoustics.images import find_images
from sonarium.rooms.acoustics.impulse_responses import simulate
from sonarium.rooms.acoustics.reverberation import measure_decay
from sonarium.rooms.acoustics.simulator import Acoustics

ROOM, SPEED = (5.705, 5.965, 2.355), 345.844
DECHORATE_T30 = 0.57
"""Broadband T30 in seconds."""
WALLS = ("south", "east", "north", "west", "floor", "ceiling")
HEAD = 0.0875
"""Radius in metres of an average head in the literature on interaural delays (Kuhn, 1977)."""
BANDS = (500.0, 1000.0, 2000.0, 4000.0)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def point(row: dict[str, str], name: str) -> np.ndarray:
    return np.array([float(row[f"{name}_{axis}"]) for axis in "xyz"])


def first_echoes(source: np.ndarray, microphone: np.ndarray) -> dict[str, float]:
    """Arrival times in seconds of the direct sound and each wall's echo, with only that wall reflecting."""
    found = {}
    for wall in range(-1, 6):
        room = shoebox(ROOM, absorption=[0.5 if other == wall else 1.0 for other in range(6)], speed=SPEED)
        images = find_images(room, source, 1)
        place = np.array([*images.apex[-1], images.heights[images.height_gain[:, 0] > 0][-1]])
        found["direct" if wall < 0 else WALLS[wall]] = float(np.linalg.norm(place - microphone)) / SPEED
    return found


def echo_errors(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Errors of arrival times in milliseconds: (pair,) of direct sounds, (pair, wall) of echoes."""
    direct, echoes = [], []
    for row in rows_of(data / "rir" / "dechorate" / "echo_toa.csv"):
        times = first_echoes(point(row, "src"), point(row, "mic"))
        direct.append(1000 * (float(row["toa_direct_s"]) - times["direct"]))
        echoes.append([1000 * (float(row[f"toa_{wall}_s"]) - times[wall]) for wall in WALLS])
    return np.array(direct), np.array(echoes)


def dechorate(data: Path) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Measured responses (microphone, time) at 48 kHz, and the positions of the source and the microphones."""
    folder = data / "rir" / "dechorate"
    measured = scipy.io.loadmat(folder / "data_rooge.mat")
    rows = rows_of(folder / "rir_columns.csv")
    microphones = [np.array([float(row[f"{axis}_m"]) for axis in "xyz"]) for row in rows]
    return np.asarray(measured["rirs"], float).squeeze().T, np.asarray(measured["src"], float).ravel(), microphones


def peak_errors(data: Path) -> np.ndarray:
    """Milliseconds between the peaks of measured and simulated responses."""
    theirs, source, microphones = dechorate(data)
    ours = simulate(shoebox(ROOM, absorption=0.3, speed=SPEED), [source], microphones, 48000, 1)[0]
    return (np.abs(theirs).argmax(axis=1) - np.abs(ours).argmax(axis=1) + LEAD) / 48


def dechorate_decays(data: Path) -> np.ndarray:
    """T30 in seconds at each microphone."""
    return np.array([measure_decay(response, 48000).t30[0] for response in dechorate(data)[0]])


def hall_decays(data: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """T30 and EDT by band: the values that another package's tests expect, and those computed here."""
    folder = data / "rir" / "openair"
    response, rate = soundfile.read(folder / "ir_sportscentre_omni.wav")
    found = measure_decay(response, rate, BANDS)
    known = {
        (row["measure"], float(row["band_hz"])): float(row["value"]) for row in rows_of(folder / "expected.csv")
    }
    expected = {name: np.array([known[name, band] for band in BANDS]) for name in ("t30", "edt")}
    return {"t30": (expected["t30"], found.t30), "edt": (expected["edt"], found.edt)}


def ear_delays(data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Delays of the right ear in microseconds at 37 azimuths: measured, of a sphere, and of two ears with nothing
    between them."""
    with h5py.File(data / "rir" / "iosr" / "UniS_Anechoic_BRIR_16k.sofa") as file:
        responses, places = np.asarray(file["Data.IR"]), np.asarray(file["SourcePosition"])
    azimuths, distance = np.deg2rad(places[:, 0]), float(places[0, 2])
    listener = Acoustics(1, 1, 16000, 2000, 0, 2 * HEAD, clock="clip", head="sphere")
    middle = np.array([[10.0, 10.0]])
    click = np.eye(1, 2000, dtype=np.float32)[0]
    listener.enter(0, shoebox((20, 20), absorption=1.0), middle + np.array([distance, 0]), [click])
    # Azimuths of this set are clockwise: at 90 degrees the right ear is near.
    ours = [listener.hear(middle, np.array([azimuth]))[0] for azimuth in azimuths]
    bare = -2e6 * HEAD / 343 * np.sin(azimuths)
    return np.array([*map(between_ears, responses)]), np.array([*map(between_ears, ours)]), bare


def between_ears(ears: np.ndarray) -> float:
    """Delay of the right ear in microseconds: the maximum of the cross-correlation."""
    fine = scipy.signal.resample_poly(ears.astype(float), 16, 1, axis=-1)
    correlation = scipy.signal.correlate(fine[1], fine[0])
    return (int(correlation.argmax()) - (fine.shape[1] - 1)) / 16000 / 16 * 1e6
