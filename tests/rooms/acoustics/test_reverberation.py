"""Reverberation times: closed forms, round trips, and synthetic decays of known time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms.oracles import ELL, rooms
from typechecking import unchecked

from sonarium.rooms.acoustics.absorption import OCTAVES, Air
from sonarium.rooms.acoustics.geometry import polygon, shoebox
from sonarium.rooms.acoustics.impulse_responses import simulate
from sonarium.rooms.acoustics.reverberation import (
    absorption_for,
    mean_free_path,
    measure_decay,
    reverberation_time,
)

RATE = 16000


def test_sabine_and_eyring_in_a_room_known_from_books():
    # 0.161 V / (S α), with 24 ln 10 / c in place of 0.161; V = 60, S = 94.
    room = shoebox((5, 4, 3), absorption=0.1)
    factor = 24 * np.log(10) / room.speed
    assert factor == pytest.approx(0.161, abs=2e-4)
    assert reverberation_time(room, "sabine")[0] == pytest.approx(factor * 60 / (94 * 0.1))
    assert reverberation_time(room)[0] == pytest.approx(factor * 60 / (94 * -np.log(0.9)))


def test_walls_count_by_their_surface():
    room = shoebox((5, 4, 3), absorption=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    lost = 15 * 0.1 + 12 * 0.2 + 15 * 0.3 + 12 * 0.4 + 20 * 0.5 + 20 * 0.6
    assert reverberation_time(room, "sabine")[0] == pytest.approx(24 * np.log(10) / 343 * 60 / lost)


@pytest.mark.parametrize("room", [shoebox((5, 3)), polygon(ELL)])
def test_the_mean_free_path_in_the_plane_is_that_of_many_rays(room):
    """Oracle: chords of rays in a diffuse field, which leave random points of the walls by Lambert's law."""
    random = np.random.default_rng(0)
    along = room.next_corners - room.corners
    lengths = np.linalg.norm(along, axis=1)
    wall = random.choice(len(along), 20000, p=lengths / lengths.sum())
    start = room.corners[wall] + random.random(20000)[:, None] * along[wall]
    angle = np.arcsin(random.uniform(-1, 1, 20000))
    inward = np.stack([-along[wall, 1], along[wall, 0]], axis=1) / lengths[wall][:, None]
    ray = np.cos(angle)[:, None] * inward + np.sin(angle)[:, None] * along[wall] / lengths[wall][:, None]
    offset = room.corners - start[:, None]
    slope = ray[:, None, 0] * along[:, 1] - ray[:, None, 1] * along[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        way = (offset[..., 0] * along[:, 1] - offset[..., 1] * along[:, 0]) / slope
        share = (offset[..., 0] * ray[:, None, 1] - offset[..., 1] * ray[:, None, 0]) / slope
    way[(way < 1e-9) | (share < 0) | (share > 1) | ~np.isfinite(way)] = np.inf
    assert way.min(axis=1).mean() == pytest.approx(mean_free_path(room), rel=0.02)


@settings(max_examples=30)
@given(
    st.sampled_from((2, 3)).flatmap(rooms),
    st.floats(0.02, 0.6),
    st.sampled_from(("sabine", "eyring")),
    st.booleans(),
)
def test_there_and_back_again(room, share, formula, damp):
    known = polygon(room.corners, room.height, share, OCTAVES[:4], Air() if damp else None)
    wanted = reverberation_time(known, formula)
    found = absorption_for(known, wanted.tolist(), formula)
    assert found.shape == known.absorption.shape and found == pytest.approx(share)
    again = polygon(room.corners, room.height, found, OCTAVES[:4], known.air)
    assert reverberation_time(again, formula) == pytest.approx(wanted)


def test_hard_walls_ring_for_ever_and_soft_ones_not_at_all():
    assert np.isinf(reverberation_time(shoebox((5, 4), absorption=0.0))[0])
    assert reverberation_time(shoebox((5, 4), absorption=1.0))[0] == 0


@pytest.mark.parametrize(
    ("seconds", "formula", "says"),
    [
        (0.01, "sabine", "is impossible by sabine"),
        (0.0, "eyring", "positive seconds"),
        (-1.0, "eyring", "positive seconds"),
        (np.nan, "eyring", "positive seconds"),
        ([0.5, np.inf], "sabine", "positive seconds"),
        (0.5, "fitzroy", "choose sabine or eyring"),
    ],
)
def test_what_no_wall_can_do_is_refused(seconds, formula, says):
    with unchecked(), pytest.raises(ValueError, match=says):
        absorption_for(shoebox((5, 4, 3)), seconds, formula)


def test_longer_than_air_allows_is_refused():
    dry = shoebox((5, 4, 3), bands=(8000.0,), air=Air(20, 20))
    with pytest.raises(ValueError, match="air absorption limits the longest time"):
        absorption_for(dry, 20.0)


def decaying(seconds: float, random: np.random.Generator, noise: float = -np.inf) -> np.ndarray:
    """Noise that decays by 60 dB in `seconds`, plus stationary noise at a level in dB."""
    count = int(RATE * (0.3 + 1.8 * seconds))
    sound = random.standard_normal(count) * 10 ** (-3 * np.arange(count) / RATE / seconds)
    return sound + 10 ** (noise / 20) * random.standard_normal(count)


@settings(max_examples=20)
@given(st.floats(0.3, 4), st.floats(-90, -38.5), st.integers(0, 2**32 - 1))
def test_a_decay_over_noise_is_read_right(seconds, noise, seed):
    found = measure_decay(decaying(seconds, np.random.default_rng(seed), noise), RATE)
    assert found.t30[0] == pytest.approx(seconds, rel=0.07)
    assert found.t20[0] == pytest.approx(seconds, rel=0.07)
    assert found.edt[0] == pytest.approx(seconds, rel=0.2)


def test_what_noise_hides_is_not_a_number():
    found = measure_decay(decaying(1.0, np.random.default_rng(0), -30), RATE)
    assert np.isnan(found.t30[0]) and found.t20[0] == pytest.approx(1.0, rel=0.05)


def test_each_octave_has_its_own_decay():
    random = np.random.default_rng(1)
    bands, seconds = (500.0, 1000.0, 2000.0, 4000.0), (2.0, 1.7, 1.5, 1.3)
    frequency = np.fft.rfftfreq(4 * RATE, 1 / RATE)
    sound = np.zeros(4 * RATE)
    for band, time in zip(bands, seconds, strict=True):
        # Ideal octaves of noise, which do not leak into each other's bands.
        within = (frequency > band / 2**0.5) & (frequency < band * 2**0.5)
        noise = np.fft.irfft(np.fft.rfft(random.standard_normal(4 * RATE)) * within)
        sound += noise * 10 ** (-3 * np.arange(4 * RATE) / RATE / time)
    found = measure_decay(sound, RATE, bands)
    # The shallow slopes of a filter pass a little of an adjacent band that decays more slowly.
    assert found.t30 == pytest.approx(np.array(seconds), rel=0.07)


def test_a_pure_exponential_has_its_time_in_all_parts():
    found = measure_decay(10 ** (-3 * np.arange(2 * RATE) / RATE / 0.8), RATE)
    assert found.t30[0] == pytest.approx(0.8, rel=1e-3) and found.t20[0] == pytest.approx(0.8, rel=1e-3)
    assert found.edt[0] == pytest.approx(0.8, rel=1e-3)


def test_a_simulated_room_decays_as_the_energy_of_its_images():
    size, source, ear, share, order = (5, 4.2, 3.1), (1.2, 1.1, 1.3), (3.9, 3.2, 1.7), 0.3, 40
    response = simulate(shoebox(size, absorption=share), [source], [ear], RATE, order)[0, 0]
    found = measure_decay(response, RATE, (1000.0, 2000.0, 4000.0))
    number = np.arange(-order, order + 1)
    ways = [
        number * length + np.where(number % 2, length - place, place) - here
        for length, place, here in zip(size, source, ear, strict=True)
    ]
    x, y, z = np.meshgrid(*ways, indexing="ij")
    times = np.add.outer(np.add.outer(abs(number), abs(number)), abs(number))
    distance = np.sqrt(x * x + y * y + z * z)[times <= order]
    energy = (1 - share) ** times[times <= order] / distance**2
    late = np.argsort(distance)
    left = np.cumsum(energy[late][::-1])[::-1]
    level = 10 * np.log10(left / left[0])
    part = (level <= -5) & (level >= -25)
    slope = np.polyfit(distance[late][part] / 343, level[part], 1)[0]
    # Coinciding images interfere, so that single bands differ from the sum of energies.
    assert found.t20.mean() == pytest.approx(-60 / slope, rel=0.1)


@pytest.mark.parametrize(
    ("response", "bands", "says"),
    [
        (np.zeros(1000), (), "not all 0"),
        (np.full(1000, np.nan), (), "finite samples"),
        (np.ones((2, 1000)), (), "one ear"),
        (np.ones(1000), (8000.0,), "below half the rate"),
        (np.ones(1000), (-1.0,), "below half the rate"),
    ],
)
def test_a_response_that_tells_nothing_is_refused(response, bands, says):
    with unchecked(), pytest.raises(ValueError, match=says):
        measure_decay(response, RATE, bands)
