"""Development by day against closed forms, on songs drawn from known distributions."""

import numpy as np
import pytest
import torch

from sonarium.evaluation.development import (
    DevelopConfig,
    Song,
    above_noise,
    develop,
    level_of,
    natural,
    of_syllables,
    raised,
    relative,
    songs_by_day,
)
from sonarium.evaluation.extraction import Extractor
from sonarium.worlds.songbird.world import Songbird, SongbirdConfig

PLAIN = Extractor(lambda codes, _: codes, lambda lengths: lengths, 100.0, 0.0, torch.device("cpu"))
MEANS = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
MOVES = np.array([[0.1, 0.8, 0.1], [0.2, 0.1, 0.7], [0.6, 0.3, 0.1]])
FLAT = np.full((3, 3), 1 / 3)
LABELS = ("a", "b", "c")


def songs(seed, count=60, length=20, moves=MOVES, spread=0.5, late=0.0, gap=0.3):
    """Songs of three Gaussian types in spectrum and timing; the first syllable has the stationary distribution."""
    rng, found = np.random.default_rng(seed), []
    occupancy = np.linalg.matrix_power(moves, 50)[0]
    for _ in range(count):
        states = [int(rng.choice(3, p=occupancy))]
        while len(states) < length:
            states.append(int(rng.choice(3, p=moves[states[-1]])))
        spectrum = MEANS[states] + spread * rng.normal(size=(length, 2))
        timing = np.stack([-2.5 + late + 0.2 * rng.normal(size=length), -3.0 + gap * rng.normal(size=length)], 1)
        timing[-1, 1] = np.nan
        found.append(Song(spectrum, timing, tuple(LABELS[state] for state in states)))
    return found


def parts(days, config=DevelopConfig(labels=True, bootstrap=0)):
    found = develop("", days, "syllables", config)
    return {day.day: {name: part.value for name, part in day.parts.items()} for day in found.days}, found


def test_the_three_parts_are_those_of_the_distributions():
    tutor = songs(0, 200)
    days = {
        "wide": songs(1, 200, spread=1.0),
        "late": songs(2, 200, late=0.4),
        "flat": songs(3, 200, moves=FLAT),
        "same": songs(4, 200),
        "tutor": tutor,
    }
    found, _ = parts(days)
    # KL divergences: two columns whose deviation doubles; one that moves by two deviations; rows of transitions.
    widened = 2 * (np.log2(2) + (0.25 - 1) / 2 / np.log(2))
    moved = 0.5 * 2**2 / np.log(2)
    occupancy = np.linalg.matrix_power(MOVES, 50)[0]
    flattened = occupancy @ (MOVES * np.log2(MOVES / FLAT)).sum(1)
    assert found["wide"]["spectrum"] == pytest.approx(widened, rel=0.1)
    assert found["late"]["timing"] == pytest.approx(moved, rel=0.1)
    assert found["flat"]["grammar"] == pytest.approx(flattened, rel=0.1)
    for day, own in (("wide", "spectrum"), ("late", "timing"), ("flat", "grammar"), ("same", "")):
        assert all(found[day][name] < 0.05 for name in ("spectrum", "timing", "grammar") if name != own), day
        assert found[day]["total"] == pytest.approx(sum(found[day][n] for n in ("spectrum", "timing", "grammar")))
    assert found["tutor"]["total"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("chain", ["backward", "forward", "all"])
def test_states_that_are_learnt_say_the_same_as_labels(chain):
    days = {"day 9": songs(1, moves=FLAT, spread=0.8, late=0.3), "day 10": songs(2), "tutor": songs(0)}
    known, _ = parts(days)
    # With `forward`, the first model is that of the first day.
    heard, found = parts(days, DevelopConfig(bootstrap=0, chain=chain, states=3))
    assert len(found.names) == 3 and set(found.names) == set(LABELS)
    for day in ("day 9", "day 10"):
        assert heard[day] == pytest.approx(known[day], abs=0.05 + 0.05 * known[day]["total"])
    assert found.days[0].active == 3 and found.days[0].entropies["transition"] == pytest.approx(
        np.log2(3), abs=0.05
    )


def test_intervals_hold_the_value_and_the_floor_is_what_chance_makes():
    days = {"day 1": songs(1, 30, late=0.4), "day 2": songs(2, 30), "tutor": songs(0, 30)}
    found = develop("bird 1", days, "syllables", DevelopConfig(labels=True, bootstrap=60))
    late, same = found.days[0].parts["timing"], found.days[1].parts["timing"]
    assert late.low is not None and late.high is not None and late.low < late.value < late.high
    exact = 0.5 * 2**2 / np.log(2)
    assert late.low < exact < late.high and late.high - late.low < exact
    floor = found.floor["timing"]
    assert floor is not None and same.value < 4 * floor < late.value
    assert found.days[-1].day == "tutor" and found.days[-1].parts["total"].low is None


def test_the_rate_of_what_is_heard_is_the_total_where_states_are_plain():
    found = develop(
        "", {"day": songs(1, moves=FLAT), "tutor": songs(0)}, "syllables", DevelopConfig(labels=True, bootstrap=0)
    )
    day = found.days[0]
    assert day.rate == pytest.approx(day.parts["total"].value, abs=4 * day.rate_error + 0.02)


def test_frames_have_durations():
    def frames(seed, lasting, spread=0.3):
        rng, found = np.random.default_rng(seed), []
        for _ in range(12):
            states = np.concatenate([np.full(rng.poisson(lasting) + 1, one % 2) for one in range(16)])
            found.append(
                Song(
                    4.0 * states[:, None] + spread * rng.normal(size=(len(states), 1)),
                    np.zeros((len(states), 0)),
                    ("",) * len(states),
                )
            )
        return found

    config = DevelopConfig(states=2, bootstrap=2)
    days = {"1": frames(1, 4), "2": frames(2, 12), "3": frames(3, 4, 0.6), "tutor": frames(0, 4)}
    found = {
        day.day: {name: part.value for name, part in day.parts.items()}
        for day in develop("", days, "frames", config).days
    }
    assert found["2"]["timing"] > 5 * found["1"]["timing"] and found["2"]["timing"] > 5 * found["3"]["timing"]
    assert found["3"]["spectrum"] > 0.3 > 5 * max(found["1"]["spectrum"], found["2"]["spectrum"])
    assert all(one["grammar"] < 1e-3 for one in found.values())


def test_days_without_song_and_with_little_are_named_and_lose_nothing():
    few = [Song(one.spectrum[:1], one.timing[:1], one.labels[:1]) for one in songs(1, 2)]
    days = {"day 1": [], "day 2": few, "day 3": songs(2), "tutor": songs(0)}
    found = develop("bird 1", days, "syllables", DevelopConfig(bootstrap=0, states=3))
    assert [day.day for day in found.days] == ["day 3", "tutor"]
    assert found.notes == (
        "bird 1: day 1 has no song: left out",
        "bird 1: day 2 has 2 syllables, fewer than the 3 states: left out",
    )


def test_one_syllable_and_songs_of_one_syllable_will_do():
    alone = {
        day: [
            Song(
                np.random.default_rng([at, one]).normal(size=(4, 3)),
                np.random.default_rng(one).normal(size=(4, 2)),
                ("a",) * 4,
            )
            for one in range(8)
        ]
        for at, day in enumerate(("day 1", "tutor"))
    }
    for config in (DevelopConfig(bootstrap=3), DevelopConfig(labels=True, bootstrap=3)):
        found = develop("", alone, "syllables", config)
        assert found.days[0].parts["grammar"].value == pytest.approx(0, abs=1e-3)
    short = {
        day: [Song(one.spectrum[:1], one.timing[-1:], one.labels[:1]) for one in songs(at)]
        for at, day in enumerate(("day 1", "tutor"))
    }
    assert all(np.isnan(song.timing[0, 1]) for song in short["tutor"])
    found = develop("", short, "syllables", DevelopConfig(bootstrap=3))
    assert all(np.isfinite(part.value) for part in found.days[0].parts.values())


@pytest.mark.parametrize(
    ("days", "config", "said"),
    [
        ({"day 1": [], "tutor": songs(0, 3)}, DevelopConfig(), r"1 day\(s\) with song: give two"),
        ({"day 1": songs(1, 3), "day 2": []}, DevelopConfig(reference="day 2"), "give two"),
        ({"1": songs(1, 3), "2": songs(0, 3)}, DevelopConfig(reference="3"), "choose one of 1, 2"),
        (
            {"1": songs(1, 3), "2": songs(0, 3)},
            DevelopConfig(states=99),
            "2 has 60 syllables, give no more states",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(days, config, said):
    with pytest.raises(ValueError, match=said):
        develop("", days, "syllables", config)


def test_days_are_ordered_by_their_numbers():
    assert sorted(["day 10", "day 9", "tutor", "day 101"], key=natural) == ["day 9", "day 10", "day 101", "tutor"]
    assert sorted(["day²", "day 1"], key=natural) == ["day 1", "day²"]
    assert sorted(["2020-10-01", "2020-09-30", "2019-12-31"], key=natural)[0] == "2019-12-31"


def test_syllables_are_read_between_frames_and_gaps_to_the_next():
    ramp = np.arange(100.0)[:, None]
    song = of_syllables(ramp, [(0.1, 0.2, "a"), (0.3, 0.35, "b")], PLAIN)
    assert np.allclose(song.spectrum[0], [11, 13, 15, 17, 19]) and np.allclose(song.spectrum[1, 0], 30.5)
    assert np.allclose(np.exp(song.timing[:, 0]), [0.1, 0.05]) and np.allclose(np.exp(song.timing[0, 1]), 0.1)
    assert np.isnan(song.timing[1, 1])
    louder = relative(Song(song.spectrum + 20, song.timing, song.labels), "syllables")
    assert np.allclose(louder.spectrum, relative(song, "syllables").spectrum) and louder.spectrum.max() == 0


def noisy(gain: float, noise: float, gaps: int = 2, loud: float = 0.0, seed: int = 0) -> np.ndarray:
    """Levels of a noisy clip with song in one of every `gaps` frames, in three of six bands."""
    rng = np.random.default_rng(seed)
    song = np.full((400, 6), -100.0)
    song[::gaps, :3] = np.resize(np.random.default_rng(1).uniform(-15, 0, (200, 3)), (len(song[::gaps]), 3)) + loud
    return np.maximum(song, 10 * np.log10(rng.gamma(4, 0.25, song.shape)) + noise) + gain


def marks_of(gaps: int) -> list[tuple[float, float, str]]:
    # Frames are 10 ms apart, and a syllable is one frame.
    return [((frame - 0.1) / 100, (frame + 0.1) / 100, "a") for frame in range(0, 400, gaps)]


@pytest.mark.parametrize("annotated", [True, False])
def test_neither_gain_nor_noise_tells_the_days_of_a_bird_apart(annotated):
    clips = {0: noisy(0, -60), 1: noisy(12, -60, seed=1), 2: noisy(-20, -32, seed=2), 3: np.zeros((0, 6))}
    marks = [marks_of(2) if annotated else [] for _ in clips]
    lowest = above_noise(clips, marks, PLAIN, "aaaa", "1122")["a"]
    assert lowest is not None and np.allclose(lowest, -22.5, atol=2)
    found = {clip: raised(own, lowest) - level_of(own) for clip, own in clips.items() if len(own)}
    loud = noisy(0, -200) > -50
    for other in (1, 2):
        # The level of a clip is a quantile over its frames, whose noise differs.
        np.testing.assert_allclose(found[other][loud], found[0][loud], atol=0.01)
        assert (np.abs(found[other] - found[0]) < 0.01).mean() > (0.99 if annotated else 0.95)
    assert len(raised(clips[3], lowest)) == 0


@pytest.mark.parametrize(
    "other", [noisy(30, -60), noisy(0, -60, loud=12), noisy(0, -60, gaps=10)], ids=["gain", "loudness", "gaps"]
)
def test_days_of_equal_noise_keep_what_is_heard(other: np.ndarray):
    marks = [marks_of(2), marks_of(10 if (other > -30).sum() < 200 else 2)]
    assert above_noise({0: noisy(0, -60), 1: other}, marks, PLAIN, "aa", "12") == {"a": None}


def test_clips_without_days_are_refused():
    world = Songbird(SongbirdConfig(birds=2, songs=1, shortest=2, longest=2), 0)
    with pytest.raises(ValueError, match="no category 'day'"):
        songs_by_day(world, PLAIN, "syllables")
