"""The modes that make Seek hard: noise, sounds that stop or come in bursts, distractors, moving sources,
reverberation times; and seek-suite, which consists of them."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import SyncVectorEnv
from rooms import oracles

import sonarium.rooms
from sonarium.play.evaluate import evaluate
from sonarium.rooms.acoustics import convolution
from sonarium.rooms.acoustics.cuda import CudaBackend
from sonarium.rooms.acoustics.geometry import polygon, shoebox
from sonarium.rooms.acoustics.impulse_responses import simulate
from sonarium.rooms.acoustics.reverberation import mean_free_path, measure_decay, reverberation_time
from sonarium.rooms.acoustics.simulator import Acoustics
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek, action_space, observation_space, sound_in
from sonarium.rooms.seek.generate import draw_layout
from sonarium.rooms.seek.paths import Walking, plan_of
from sonarium.rooms.seek.sounds import intermittent
from sonarium.rooms.seek.suite import HELD_OUT, SUITE
from sonarium.rooms.seek.vector import SeekVector

CONFIG = SeekConfig(threads=1, order=1, loop=1.0, period=1.0, max_steps=30)
DRY = replace(CONFIG, absorption=1.0, sources=1, room="fixed")
BOX = {"places": np.array([[5.0, 4.0]]), "pose": np.array([3.0, 4.0, 0.0])}
"""A source two metres ahead, in the direction of x."""
FORWARD, LEFT = 0, 2


def decibels(wave):
    return 10 * np.log10(np.mean(np.square(wave, dtype=np.float64)))


@pytest.mark.parametrize("clock", ["stream", "clip"])
def test_diffuse_noise_has_its_level_and_differs_at_either_ear(clock):
    noisy, plain = (Seek(CONFIG, clock=clock, diffuse_noise=level) for level in (-35.0, None))
    added = [noisy.reset(seed=2)[0] - plain.reset(seed=2)[0]]
    added += [noisy.step(LEFT)[0] - plain.step(LEFT)[0] for _ in range(3)]
    wave = np.concatenate(added, axis=1)
    assert decibels(wave[0]) == pytest.approx(-35, abs=0.3) and decibels(wave[1]) == pytest.approx(-35, abs=0.3)
    assert abs(np.corrcoef(wave)[0, 1]) < 0.05
    assert np.abs(np.corrcoef(np.array([one[0] for one in added])) - np.eye(4)).max() < 0.1


@pytest.mark.parametrize("clock", ["stream", "clip"])
def test_point_noise_has_its_level_at_a_metre_and_is_never_found(clock):
    pose, noise = np.array([3.0, 4.0, 0.0]), np.array([3.0, 4.7])
    source = np.array([5.0, 1.0])
    noisy, plain = Seek(DRY, clock=clock, point_noise=-30.0), Seek(DRY, clock=clock)
    heard = noisy.reset(seed=1, options={"places": np.array([source, noise]), "pose": pose})[0]
    added = heard - plain.reset(seed=1, options={"places": source[None], "pose": pose})[0]
    for ear, distance in enumerate((0.6, 0.8)):
        # The first samples precede the arrival of the sound at the ears.
        assert decibels(added[ear, 40:]) == pytest.approx(-30 - 20 * np.log10(distance), abs=0.4)
    for action in (LEFT, LEFT, LEFT, FORWARD):
        *_, terminated, _, info = noisy.step(action)
        assert not terminated and info["found"] == 0
    assert len(noisy.scene().sources) == 1, "nothing to be found is drawn there"


def test_sounds_that_stop_leave_silence_and_are_still_found():
    stopping, plain = Seek(DRY, stops=0.5), Seek(DRY)
    windows = [room.reset(seed=0, options=BOX)[0] for room in (stopping, plain)]
    np.testing.assert_array_equal(*windows)
    np.testing.assert_allclose(stopping.step(LEFT)[0], plain.step(LEFT)[0], atol=1e-6)
    last = stopping.step(LEFT)[0]
    late = round(0.02 * 8000)
    assert np.abs(last[:, :late]).max() > 1e-4, "what was emitted before arrives after"
    assert np.abs(last[:, late:]).max() < 1e-6 < np.abs(plain.step(LEFT)[0][:, late:]).max()
    for action in (3, 3, FORWARD, FORWARD, FORWARD):
        heard, _, terminated, _, info = stopping.step(action)
    assert np.abs(heard).max() < 1e-6 and terminated and info["found"] == 1


def test_in_a_clip_a_step_lasts_its_seconds():
    room = Seek(DRY, clock="clip", stops=0.5, seconds=0.25)
    heard = [room.reset(seed=0, options=BOX)[0], *(room.step(LEFT)[0] for _ in range(3))]
    assert [bool(one.any()) for one in heard] == [True, True, False, False]


def test_bursts_are_the_loudest_of_each_period():
    wave = np.random.default_rng(0).standard_normal(900).astype(np.float32)
    found = intermittent(wave, 60, 300, 5)
    for start in (0, 300, 600):
        period = wave[start : start + 300].astype(np.float64)
        best = max(range(241), key=lambda first: np.square(period[first : first + 60]).sum())
        part = found[start : start + 300]
        assert not part[:best].any() and not part[best + 60 :].any()
        np.testing.assert_array_equal(part[best + 5 : best + 55], wave[start + best + 5 : start + best + 55])
        assert (np.abs(part[best : best + 60]) <= np.abs(wave[start + best : start + best + 60])).all()


@pytest.mark.parametrize("clock", ["stream", "clip"])
def test_intermittent_sources_are_silent_between_bursts(clock):
    room = Seek(DRY, burst=0.25, seconds=1.0, clock=clock)
    room.reset(seed=3, options=BOX)
    heard = room.step(LEFT)[0]
    sounding = np.abs(heard[0]) > 1e-6
    assert 0.2 * 8000 < sounding.sum() < 0.28 * 8000


NAMED = replace(CONFIG, sources=1, distractors=2, oracle_info=True)


def test_distractors_are_of_other_kinds_than_the_target():
    rooms = SeekVector(16, NAMED, target="category")
    space = rooms.single_observation_space
    assert isinstance(space, gymnasium.spaces.Dict) and space["target"] == gymnasium.spaces.Discrete(5)
    observed, info = rooms.reset(seed=0)
    assert rooms.observation_space.contains(observed)
    for slot in range(16):
        sounds = rooms.scene(slot).sounds
        assert len(set(sounds)) == 3 and NAMED.sounds[observed["target"][slot]] == sounds[0]
    assert (info["wrong"] == 0).all() and len(set(observed["target"].tolist())) > 2


@pytest.mark.parametrize(
    "settings",
    [{"cue": 0.5}, {"cue": 2.0, "clock": "clip"}, {"cue": 0.7, "clock": "clip", "loop": 0.5, "period": 0.5}],
)
def test_the_target_is_told_by_its_dry_sound(settings):
    """The cue takes two observations: a quarter of a second each in a stream, a loop each in clips."""
    rooms = SeekVector(2, NAMED, **settings)
    first, _ = rooms.reset(seed=0)
    second, *_ = rooms.step(np.full(2, LEFT))
    third, *_ = rooms.step(np.full(2, LEFT))
    for slot in range(2):
        told = rooms.episodes.sounds.whole(rooms.episodes.picks[slot][0])
        cue = np.concatenate([first[slot], second[slot]], axis=1)
        assert cue.shape[1] == 2 * rooms.config.window and rooms.config.cued_steps == 2
        np.testing.assert_array_equal(cue[0], cue[1])
        matched = np.correlate(np.tile(told, 2), cue[0], "valid").max()
        assert matched == pytest.approx(np.square(cue[0]).sum(), rel=1e-4)
        assert not np.array_equal(third[slot, 0], third[slot, 1])


def test_the_bearing_does_not_avoid_a_distractor_that_is_off():
    env = Seek(sources=1, distractors=1, wrong="costs", oracle_info=True, room="fixed", size=(8.0, 8.0), order=0)
    places = np.array([[6.0, 5.0], [4.0, 4.5]])
    _, info = env.reset(seed=0, options={"places": places, "pose": np.array([2.6, 4.1, 0.0])})
    direct = np.arctan2(0.9, 3.4)
    assert abs(info["bearing"] - direct) > 0.1
    env.episodes.on[0, 1] = False
    assert env.info()["bearing"] == pytest.approx(direct)


@pytest.mark.parametrize("wrong", ["ends", "costs"])
def test_a_distractor_ends_the_episode_or_costs(wrong):
    places = np.array([[3.0, 6.5], [5.0, 4.0], [6.0, 1.0]])
    room = Seek(NAMED, room="fixed", wrong=wrong, radius=0.9)
    room.reset(seed=0, options=BOX | {"places": places})
    plain = [room.step(FORWARD) for _ in range(2)]
    assert not any(step[2] or step[3] for step in plain) and plain[-1][4]["wrong"] == 0
    _, earned, terminated, truncated, info = room.step(FORWARD)
    assert (info["wrong"], info["found"], terminated, truncated) == (1, 0, wrong == "ends", False)
    assert earned == pytest.approx(-10.1, abs=0.6), "ten for the distractor, and a step"
    if wrong == "costs":
        assert not room.step(FORWARD)[2] and room.scene().on.tolist() == [True, False, True]


WALKING = {
    "box": {},
    "tall": {"height": 3.0},
    "bent": {"room": "nonconvex", "sources": 3},
}


@pytest.mark.parametrize("name", WALKING)
def test_sources_walk_without_leaving_their_room(name):
    rooms = SeekVector(6, CONFIG, moving=0.25, oracle_info=True, max_steps=200, **WALKING[name])
    _, info = rooms.reset(seed=1)
    before, over = info["sources"], np.zeros(6, bool)
    for _ in range(40):
        *_, terminated, _, info = rooms.step(np.full(6, LEFT))
        moved = np.linalg.norm(info["sources"] - before, axis=-1)[~over]
        assert (moved <= 0.25 + 1e-9).all() and (moved > 0.24).mean() > 0.5
        for slot in range(6):
            layout = rooms.episodes.layouts[slot]
            assert layout is not None
            assert layout.plan.holds(info["sources"][slot]).all()
            assert over[slot] or layout.room.in_sight(before[slot], info["sources"][slot]).all()
        before, over = info["sources"], terminated


ROOMS = {
    "box": shoebox((6, 4), absorption=0.2),
    "tall": shoebox((6, 4, 3), absorption=0.2),
    "hall": shoebox((6, 4), absorption=[1.0, 0.2, 0.2, 0.2]),
    "bent": polygon(oracles.ELL, absorption=0.2),
}


@pytest.mark.parametrize("name", ROOMS)
def test_sources_that_follow_sound_as_placed_there(name):
    """Oracle: `move`, which recomputes all images."""
    room, random = ROOMS[name], np.random.default_rng(0)
    sounds = [random.standard_normal(900).astype(np.float32) for _ in range(2)]
    ours, theirs = (Acoustics(2, 2, 4000, 500, 3, threads=1) for _ in range(2))
    for one in (ours, theirs):
        for slot in range(2):
            one.enter(slot, room, np.array(oracles.placed(room, np.random.default_rng(slot), 2)), sounds)
    moving = np.array([[True, True], [False, True]])
    for step in range(3):
        places = np.array([oracles.placed(room, np.random.default_rng([7, step, slot]), 2) for slot in range(2)])
        # In 3-D, the height changes once, in the first step.
        places[..., 2:] = 1.2
        ours.follow(moving, places)
        for slot, source in np.argwhere(moving).tolist():
            theirs.move(slot, source, places[slot, source])
        ears = np.array([oracles.placed(room, random, 1)[0] for _ in range(2)])
        np.testing.assert_array_equal(ours.hear(ears, np.zeros(2)), theirs.hear(ears, np.zeros(2)))
        np.testing.assert_array_equal(ours.lengths, theirs.lengths)


def test_shortest_paths_follow_the_sources():
    """Oracle: a room that is entered with the sources in their new positions."""
    config = replace(CONFIG, room="nonconvex", sources=3)
    layouts = [draw_layout(config, np.random.default_rng(seed)) for seed in range(8)]
    walking, fresh = Walking(8, 3, moving=True), Walking(8, 3)
    targets = np.zeros((8, 3, 2))
    for slot, layout in enumerate(layouts):
        walking.enter(slot, layout.plan, layout.sources)
        inside = np.random.default_rng(slot).uniform(0, 10, (400, 2))
        targets[slot] = inside[layout.plan.holds(inside)][:3]
        fresh.enter(slot, plan_of(layout.room, config.margin), targets[slot])
    walking.move(targets.copy())
    places, rows = np.array([layout.pose[:2] for layout in layouts]), np.arange(8)
    for one, other in zip(walking.ahead(places, rows), fresh.ahead(places, rows), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
    np.testing.assert_allclose(walking.tours, fresh.tours, atol=1e-9)


HARD = {
    "noise": {"diffuse_noise": -40.0, "point_noise": -40.0, "burst": 0.1, "stops": 0.3, "moving": 0.25},
    "clip": {"clock": "clip", "loop": 0.25, "period": 0.25, "moving": 0.25, "stops": 0.3, "room": "nonconvex"},
    "cue": {"sources": 1, "distractors": 2, "cue": 0.1, "wrong": "costs"},
    "category": {"sources": 1, "distractors": 2, "target": "category", "pose": True, "rt60": 0.1, "order": 8},
    "apart": {"source_info": True, "stops": 0.2},
}
EASY = replace(
    CONFIG,
    seconds=0.05,
    loop=0.5,
    period=0.5,
    max_steps=9,
    radius=1.5,
    start_distance=1.6,
    step=1.0,
    oracle_info=True,
)


@pytest.mark.parametrize("name", HARD)
def test_rooms_together_are_as_rooms_alone(name):
    changes = HARD[name]
    alone = SyncVectorEnv([lambda: Seek(EASY, **changes)] * 3, autoreset_mode="SameStep")
    together = SeekVector(3, EASY, autoreset_mode="SameStep", **changes)
    assert together.observation_space == alone.observation_space
    assert data_equivalence(alone.reset(seed=5), together.reset(seed=5), exact=True)
    alone.action_space.seed(0)
    for _ in range(11):
        actions = alone.action_space.sample()
        assert data_equivalence(alone.step(actions), together.step(actions), exact=True)


@pytest.mark.parametrize("name", HARD)
def test_tensor_operations_hear_the_modes_too(name, monkeypatch):
    ours = SeekVector(2, EASY, **HARD[name])
    with monkeypatch.context() as patch:
        patch.setattr(convolution, "CpuBackend", lambda *given: CudaBackend(*given, device=torch.device("cpu")))
        theirs = SeekVector(2, EASY, **HARD[name])
    assert isinstance(theirs.episodes.acoustics.convolver.backend, CudaBackend)
    told = [(ours.reset(seed=1), theirs.reset(seed=1))]
    told += [(ours.step([LEFT, FORWARD]), theirs.step([LEFT, FORWARD])) for _ in range(8)]
    for one, other in told:
        # Observation, reward and info hold numbers of all types in nested dictionaries.
        mine, its = flattened(one), flattened(other)
        assert mine.keys() == its.keys() and len(mine) > 5
        for part, value in mine.items():
            np.testing.assert_allclose(value, its[part], atol=1e-5, err_msg=part)
    assert np.abs(sound_in(told[0][0][0])).max() > 1e-3, "something was heard"


def flattened(told: Any, at: str = "") -> dict[str, np.ndarray]:
    """All numbers in the return value of an environment, by their path."""
    if isinstance(told, dict):
        return {k: v for name, part in told.items() for k, v in flattened(part, f"{at}/{name}").items()}
    if isinstance(told, tuple):
        return {k: v for number, part in enumerate(told) for k, v in flattened(part, f"{at}/{number}").items()}
    return {at: np.asarray(told)}


FLAT = SUITE["rt60-300"].tested
DECAYS = {
    "rt60-300": (FLAT, 0.27),
    "rt60-500": (SUITE["rt60-500"].tested, 0.44),
    "rt60-800": (SUITE["rt60-800"].tested, 0.70),
    "three dimensions": (replace(FLAT, height=3.0, order=25), 0.48),
}
"""Configurations, and T30 in seconds as stated in the manual."""


def energy_decay(size: np.ndarray, source: np.ndarray, ear: np.ndarray, absorption: float, order: int) -> float:
    """T30 of the summed energies of all images of a rectangular room, regardless of phase."""
    number = np.arange(-order, order + 1)
    ways = [
        number * length + np.where(number % 2, length - place, place) - here
        for length, place, here in zip(size, source, ear, strict=True)
    ]
    bounces = np.sum(np.meshgrid(*[abs(number)] * len(size), indexing="ij"), axis=0)
    distance = np.sqrt(np.square(np.meshgrid(*ways, indexing="ij")).sum(axis=0))[bounces <= order]
    energy = (1 - absorption) ** bounces[bounces <= order] / distance**2
    late = np.argsort(distance)
    left = np.cumsum(energy[late][::-1])[::-1]
    level = 10 * np.log10(left / left[0])
    part = (level <= -5) & (level >= -35)
    return -60 / float(np.polyfit(distance[late][part] / 343, level[part], 1)[0])


@pytest.mark.parametrize("name", DECAYS)
def test_responses_have_the_reverberation_time(name):
    """In the plane, sound also spreads, and decays faster than by absorption alone; below a ceiling, sound
    between distant walls meets few others, and decays more slowly than in a diffuse field."""
    config, told = DECAYS[name]
    found, expected = [], []
    for seed in range(4):
        layout = draw_layout(config, np.random.default_rng(seed))
        room, corner = layout.room, layout.room.corners.min(axis=0)
        size, source, ear = room.corners.max(axis=0) - corner, layout.sources[0] - corner, layout.pose[:2] - corner
        assert reverberation_time(room)[0] == pytest.approx(config.rt60)
        if config.height is not None:
            raised = (config.height, config.source_height, config.ear_height)
            size, source, ear = (np.append(flat, up) for flat, up in zip((size, source, ear), raised, strict=True))
        placed = [np.append(corner, np.zeros(len(size) - 2)) + one for one in (source, ear)]
        response = simulate(room, placed[:1], placed[1:], 8000, config.order)[0, 0]
        found.append(measure_decay(response, 8000).t30[0])
        expected.append(energy_decay(size, source, ear, room.absorption[0, 0], config.order))
    # The pressures of coinciding images add up, not their energies.
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.12)
    assert np.mean(found) == pytest.approx(told, abs=0.02)


def test_rooms_in_which_a_reverberation_time_cannot_be_are_not_drawn():
    with pytest.raises(ValueError, match=r"more than twice order=3.*: give order="):
        Seek(CONFIG, rt60=0.3, order=3).reset(seed=0)
    # Of rooms of many sizes, those too small for this order are not drawn.
    small = replace(CONFIG, room="shoebox", rt60=0.3, order=20, smallest=2.5, largest=6.0)
    for seed in range(6):
        room = draw_layout(small, np.random.default_rng(seed)).room
        assert small.order >= 0.3 * room.speed / mean_free_path(room) / 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"distractors": 1}, "sources=2: the target is one source"),
        ({"distractors": 5, "sources": 1}, "need as many kinds"),
        ({"distractors": 2, "sources": 1, "sounds": ("bird",) * 3}, "each named once, but sounds names 1 in 3"),
        ({"burst": 2.0, "period": 1.0}, "more than period"),
        ({"burst": 0.1, "period": 0.3}, "not a multiple of period=0.3"),
        ({"stops": 0.0}, "stops"),
    ],
)
def test_modes_that_make_no_sense_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(CONFIG, **changes)


def test_suite():
    assert list(SUITE) == list(sonarium.rooms.SUITE)
    spaces = {(str(observation_space(one.tested)), str(action_space(one.tested))) for one in SUITE.values()}
    assert len(spaces) == 1, "an agent of one setting plays in all of them"
    for name, one in SUITE.items():
        spec = gymnasium.spec(sonarium.rooms.suite_id(name))
        assert spec.kwargs == {"suite": name} and spec.vector_entry_point is not None
        assert one.tested.first_variant >= one.trained.first_variant + one.trained.variants
    alone = gymnasium.make(sonarium.rooms.suite_id("moving"), threads=1)
    many = gymnasium.make_vec(sonarium.rooms.suite_id("moving"), 2, "vector_entry_point", threads=1)
    np.testing.assert_array_equal(alone.reset(seed=3)[0], many.reset(seed=3)[0][0])
    assert isinstance(many, SeekVector) and many.config == replace(SUITE["moving"].trained, threads=1)
    kinds = SUITE["unseen-kinds"]
    assert not set(kinds.trained.sounds) & set(kinds.tested.sounds) and kinds.trained.room != kinds.tested.room


@pytest.mark.parametrize("name", ["named-target", "moving"])
def test_the_oracle_stays_one(name):
    config = replace(SUITE[name].tested, threads=1, order=0)
    found = evaluate(["oracle"], config, 12, HELD_OUT)
    assert found.scores("oracle")["success"].mean == 1 and found.scores("oracle")["sna"].mean == 1
