"""Binaural listeners: positions of the ears, and the effect of a spherical head, against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms.oracles import placed, rooms

from sonarium.rooms.acoustics.arrivals import LEAD
from sonarium.rooms.acoustics.geometry import shoebox
from sonarium.rooms.acoustics.simulator import Acoustics

RATE = 8000


def click(count: int) -> np.ndarray:
    return np.eye(1, count, dtype=np.float32)[0]


def one(value: object) -> np.ndarray:
    return np.array([value], float)


def test_ears_are_left_and_right_of_the_heading():
    acoustics = Acoustics(1, 1, RATE, 400, 0, ear_distance=0.3, clock="clip")
    acoustics.enter(0, shoebox((10, 10)), np.array([[5, 8.0]]), [click(400)])
    # The source is to the north. Looking east it is on the left, looking west on the right.
    for heading, near in ((0.0, 0), (np.pi, 1), (0.4, 0), (-2.5, 1)):
        heard = acoustics.hear(one([5, 5.0]), one(heading))[0]
        left = 0.15 * np.array([-np.sin(heading), np.cos(heading)])
        distances = np.array([np.linalg.norm(np.array([5, 5]) + side * left - (5, 8)) for side in (1, -1)])
        arrivals = np.abs(heard).argmax(axis=1) - LEAD
        assert np.abs(arrivals - distances / 343 * RATE).max() <= 0.5
        assert distances.argmin() == near == np.abs(heard).max(axis=1).argmax()


@settings(max_examples=15)
@given(rooms(), st.integers(0, 2**32 - 1), st.sampled_from(("none", "sphere")))
def test_who_turns_round_has_the_ears_exchanged(room, seed, head):
    random = np.random.default_rng(seed)
    source, place = placed(room, random, 2, 0.2)
    heading = random.uniform(-3, 3)
    acoustics = Acoustics(1, 1, RATE, 500, 2, clock="clip", head=head)
    acoustics.enter(0, room, source[None], [random.standard_normal(500).astype(np.float32)])
    ahead = acoustics.hear(place[None], one(heading))[0]
    behind = acoustics.hear(place[None], one(heading + np.pi))[0]
    assert np.abs(ahead - behind[::-1]).max() <= 1e-5 * np.abs(ahead).max(initial=1e-9)


def arrival(spectrum: np.ndarray, frequency: np.ndarray) -> float:
    """Delay in seconds, from the slope of the phase."""
    return -np.polyfit(2 * np.pi * frequency, np.unwrap(np.angle(spectrum)), 1)[0]


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 130, 180, -60, -150])
def test_a_head_delays_by_the_way_round_it(degrees):
    """Woodworth: an interaural delay of a (θ + sin θ) / c for a distant source at lateral angle θ."""
    rate, radius = 16000, 0.0875
    acoustics = Acoustics(1, 1, rate, 4000, 0, 2 * radius, clock="clip", head="sphere")
    acoustics.enter(0, shoebox((60, 60), absorption=1.0), np.array([[55, 30.0]]), [click(4000)])
    azimuth = np.deg2rad(degrees)
    heard = acoustics.hear(one([30, 30.0]), one(-azimuth))[0]
    side = np.arcsin(np.sin(azimuth))
    frequency = np.fft.rfftfreq(4000, 1 / rate)
    use = (frequency > 1500) & (frequency < 6000)
    delays = [arrival(np.fft.rfft(ear)[use], frequency[use]) for ear in heard]
    assert delays[1] - delays[0] == pytest.approx(radius / 343 * (side + np.sin(side)), abs=3e-6)
    level = 20 * np.log10(np.abs(np.fft.rfft(heard))[:, use].mean(axis=1))
    assert np.sign(level[0] - level[1]) == np.sign(np.round(side, 6)) or abs(degrees) in (0, 180)


@pytest.mark.parametrize(("degrees", "decibels"), [(0, 6.0), (90, -2.4), (150, -18.0)])
def test_a_head_shades_as_brown_and_duda_say(degrees, decibels):
    """High-frequency gains: pressure is doubled in front of the ear, and nearly .1 in the deepest shadow."""
    acoustics = Acoustics(1, 1, 44100, 4000, 0, 0.35, clock="clip", head="sphere")
    acoustics.enter(0, shoebox((40, 40), absorption=1.0), np.array([[30, 20.0]]), [click(4000)])
    # The left ear faces the source when the head faces south.
    heard = acoustics.hear(one([20, 20.0]), one(-np.pi / 2 + np.deg2rad(degrees)))[0, 0]
    spectrum = np.abs(np.fft.rfft(heard, 44100))[8000] * 10
    # Brown and Duda's filter at 8 kHz and a radius of .175 m, just short of its high-frequency limit.
    limit = 1.05 + 0.95 * np.cos(np.deg2rad(degrees) * 1.2)
    ratio = np.pi * 8000 * 0.175 / 343
    expected = 20 * np.log10(np.sqrt((1 + (limit * ratio) ** 2) / (1 + ratio**2)))
    found = 20 * np.log10(spectrum)
    assert found == pytest.approx(expected, abs=0.2)
    assert expected == pytest.approx(decibels, abs=0.1)
