"""Separation and localisation in episodes, for sounds from known directions, with scores in closed form."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from sonarium.evaluation.episodes import Heard, Listening, TwoEars, window_scores

RATE, WINDOW = 16000, 1600
EARS = TwoEars(RATE, 0.343)
"""Ears at a distance at which sound from the side has a delay of a millisecond: 16 samples."""
RANDOM = np.random.default_rng(0)


def image(samples: int, gain: float = 0.1, level: float = 1.0) -> np.ndarray:
    """White noise at the two ears; the right one is delayed by `samples` and multiplied by `level`."""
    noise = gain * RANDOM.standard_normal(WINDOW)
    return np.stack([noise, level * np.roll(noise, samples)])


def lateral(*samples: int) -> np.ndarray:
    return np.arcsin(np.array(samples) / 16)


LEFT, RIGHT, AHEAD = image(8), image(-12, level=0.5), image(0)


def test_perfect_estimates_in_any_order_have_no_error():
    found = window_scores(np.stack([LEFT, RIGHT]), np.stack([RIGHT, LEFT]), LEFT + RIGHT, lateral(8, -12), EARS)
    energy = [np.square(one).sum() for one in (LEFT, RIGHT)]
    before = 10 * np.log10(np.array([energy[0] / energy[1], energy[1] / energy[0]]))
    assert found["snr_improvement"] == pytest.approx(np.mean(30 - before))
    assert found["itd_error"] == found["ild_error"] == 0
    assert found["location_error"] == found["true_sources/location_error"] == pytest.approx(0, abs=0.3)


def test_errors_are_those_that_were_made():
    """For an estimate with another direction and another level difference."""
    wrong = np.stack([LEFT[0], 0.5 * np.roll(LEFT[0], 4)])
    found = window_scores(LEFT[None], wrong[None], LEFT + AHEAD, lateral(8), EARS)
    assert found["itd_error"] == pytest.approx(1e6 * 4 / RATE)
    assert found["ild_error"] == pytest.approx(20 * np.log10(2))
    assert found["location_error"] == pytest.approx(30 - np.degrees(np.arcsin(0.25)), abs=0.3)
    difference = 10 * np.log10(np.square(LEFT).sum() / np.square(LEFT - wrong).sum())
    mixture = 10 * np.log10(np.square(LEFT).sum() / np.square(AHEAD).sum())
    assert found["snr_improvement"] == pytest.approx(difference - mixture)


def test_the_mixture_is_heard_where_the_louder_source_is():
    mixture = 4 * LEFT + RIGHT
    found = window_scores(
        np.stack([4 * LEFT, RIGHT]), np.stack([mixture, mixture]), mixture, lateral(8, -12), EARS
    )
    assert found["snr_improvement"] == pytest.approx(0)
    between = 30 + np.degrees(np.arcsin(12 / 16))
    assert found["mixture/location_error"] == found["location_error"] == pytest.approx(between / 2, abs=0.5)
    assert found["mixture/itd_error"] == pytest.approx(1e6 * 20 / RATE / 2)
    assert found["true_sources/location_error"] == pytest.approx(0, abs=0.3)


def test_an_estimate_too_many_or_too_few_has_no_partner():
    one = window_scores(LEFT[None], np.stack([RIGHT, LEFT, AHEAD]), LEFT + RIGHT, lateral(8), EARS)
    two = window_scores(np.stack([LEFT, RIGHT]), LEFT[None], LEFT + RIGHT, lateral(8, -12), EARS)
    assert one == two and one["location_error"] == pytest.approx(0, abs=0.3)


def test_where_one_sounds_alone_there_is_nothing_to_separate():
    found = window_scores(LEFT[None], np.stack([LEFT, 0 * LEFT]), LEFT, lateral(8), EARS)
    assert np.isnan(found["snr_improvement"]) and found["location_error"] == pytest.approx(0, abs=0.3)


def test_a_silent_estimate_has_no_direction():
    found = window_scores(LEFT[None], 0 * LEFT[None], LEFT + RIGHT, lateral(8), EARS)
    assert np.isnan(found["location_error"]) and np.isnan(found["itd_error"])
    assert found["mixture/location_error"] < 90


def test_a_head_makes_delays_longer():
    """Woodworth's formula: half the distance times (θ + sin θ)."""
    ears = TwoEars(RATE, 2 * 8 / RATE * 343 / (0.4 + np.sin(0.4)), "sphere")
    found = window_scores(LEFT[None], LEFT[None], LEFT + RIGHT, np.array([0.4]), ears)
    assert found["location_error"] == pytest.approx(0, abs=0.3)


def take(listening, estimates, images, on, first=False, going=True):
    """Pass one window of a single slot."""
    angles = np.zeros((1, len(images)))
    mixture = np.sum(images, 0)[None]
    listening.take(
        mixture, np.stack(estimates)[None], np.stack(images)[None], np.array([on]), angles,
        np.array([first]), np.array([going]),
    )  # fmt: skip


def test_sources_that_were_found_and_silent_windows_are_left_out():
    listening = Listening(1, EARS)
    take(listening, [LEFT, RIGHT], [LEFT, RIGHT], [True, False], first=True)
    alone = window_scores(LEFT[None], np.stack([LEFT, RIGHT]), LEFT + RIGHT, np.zeros(1), EARS)
    take(listening, [0 * LEFT, RIGHT], [0 * LEFT, RIGHT], [True, False])
    take(listening, [LEFT, RIGHT], [LEFT, RIGHT], [True, True], going=False)
    assert listening.episodes() == [alone | {"windows": 1, "silent": 1}]


def test_an_episode_of_silence_has_no_scores():
    listening = Listening(1, EARS)
    take(listening, [LEFT], [0 * LEFT], [True], first=True)
    heard = Heard(listening.episodes(), "sna", [0.0])
    assert heard.episodes == [{"windows": 0, "silent": 1}] and heard.score("itd_error") is None
    assert json.loads(json.dumps(heard.as_json(), allow_nan=False))["scores"] == {}


def test_late_estimates_are_held_against_what_was_heard_then():
    """The images are delayed by the latency of the separator; no sound of one episode enters the next."""
    late = 100
    waves = [0.1 * RANDOM.standard_normal((2, 2 * WINDOW)) for _ in range(2)]
    padded = [np.concatenate([np.zeros((2, late)), wave], 1) for wave in waves]
    listening, plain = Listening(1, EARS, late), Listening(1, EARS)
    for number in range(2):
        now = slice(number * WINDOW, (number + 1) * WINDOW)
        for one in (listening, plain):
            take(
                one, [wave[:, now] for wave in padded], [wave[:, now] for wave in waves], [True, True], number == 0
            )
    assert listening.episodes()[0]["snr_improvement"] == pytest.approx(30, abs=1)
    assert plain.episodes()[0]["snr_improvement"] < 1
    begun = [wave[:, :WINDOW] for wave in padded]
    take(listening, begun, [wave[:, :WINDOW] for wave in waves], [True, True], first=True)
    assert listening.windows[0][2] == listening.windows[0][0]


def test_success_goes_with_hearing_as_spearman_says():
    rows = [
        {"snr_improvement": value, "location_error": 3.0, "windows": 2, "silent": 1} for value in (3, 1, 2, 5, 5)
    ]
    rows.append({"snr_improvement": float("nan"), "location_error": 3.0, "windows": 1, "silent": 0})
    success = [0.5, 0.1, 0.0, 0.9, 0.7, 1.0]
    heard = Heard(rows, "sna", success)
    found, expected = heard.correlation("snr_improvement"), spearmanr([3, 1, 2, 5, 5], success[:5])[0]
    assert found is not None and found.mean == pytest.approx(expected) and found.count == 5
    assert heard.correlation("location_error") is None, "it is the same in all episodes"
    told = json.loads(json.dumps(heard.as_json(), allow_nan=False))
    assert told["rank_correlation"]["sna"]["location_error"] is None and told["episodes"][5]["sna"] == 1.0
    assert told["scores"]["snr_improvement"]["mean"] == pytest.approx(3.2)
    assert (told["windows"], told["silent"], told["episodes"][5]["snr_improvement"]) == (16, 5, None)
