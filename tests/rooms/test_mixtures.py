"""Mixtures in rooms: images of each source, sets that hold out sounds and rooms, and refused settings."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from corpus import PATTERN, RATE, write_corpus
from scipy.signal import fftconvolve

from sonarium.rooms.acoustics.impulse_responses import simulate
from sonarium.rooms.mixtures import MIXTURES, Mixtures, MixturesConfig, Scene, build, rendered

SMALL: dict[str, Any] = {
    "seconds": 0.5,
    "clips": 60,
    "sets": 3,
    "variants": 2,
    "sounds": ("phone", "siren", "tones"),
}


def world(seed: int = 0, **changes: Any) -> Mixtures:
    return build(MixturesConfig(**(SMALL | changes)), seed, lambda *_: None)


def alone(scene: Scene, config: MixturesConfig, window: int, pose: np.ndarray) -> np.ndarray:
    """Oracle: images by plain convolution of loops that have played forever, (source, ear, time)."""
    x, y, heading = pose
    aside = config.ear_distance / 2 * np.array([-np.sin(heading), np.cos(heading)])
    responses = simulate(
        scene.room, scene.places, [np.array([x, y]) + aside, np.array([x, y]) - aside], config.rate, scene.order,
        dtype=np.float64,
    )  # fmt: skip
    found = []
    for response, loop, offset in zip(responses, scene.loops, scene.offsets, strict=True):
        periods = 2 + -(-responses.shape[-1] // len(loop)) + -(-window // len(loop))
        sound = np.roll(np.tile(loop.astype(np.float64), periods), -int(offset))
        first = (periods - 1 - -(-window // len(loop))) * len(loop)
        heard = [fftconvolve(sound, ear) for ear in response]
        found.append([one[first : first + window] for one in heard])
    return np.array(found)


@pytest.mark.parametrize("rt60", [0.0, 0.2])
def test_a_reference_is_the_source_with_its_room_at_either_ear(rt60):
    one = world(rt60=rt60)
    scene = one.scene(4)
    images = rendered(scene, one.config)
    expected = alone(scene, one.config, one.config.samples, scene.poses[0])
    peak = np.abs(expected).max()
    np.testing.assert_allclose(images.transpose(1, 2, 0), expected, atol=2e-3 * peak)
    if rt60:
        assert scene.order > 5 and (scene.room.absorption < 1).all()
    else:
        assert scene.order == 0


def test_windows_of_no_whole_samples_fill_the_clip():
    one = world(moving=True, window=0.1, seconds=0.5, rate=11_025)
    assert rendered(one.scene(0), one.config).shape[0] == one.config.samples == 5512


def test_a_listener_that_moves_hears_each_window_from_its_pose():
    one = world(moving=True, window=0.125, seconds=0.5)
    scene = next(found for found in map(one.scene, range(20)) if len(np.unique(found.poses, axis=0)) == 4)
    images, window = rendered(scene, one.config), 1000
    assert images.shape[0] == 4000 and scene.poses.shape == (4, 3)
    for number, pose in enumerate(scene.poses):
        whole = alone(scene, one.config, 4000, pose)
        # Only what follows the cross-fade from the previous pose.
        inside = slice(number * window + 64, (number + 1) * window)
        expected = whole[..., inside]
        np.testing.assert_allclose(images[inside].transpose(1, 2, 0), expected, atol=2e-3 * np.abs(expected).max())


def test_steps_stay_in_the_room():
    one = world(moving=True, smallest=5.0, largest=5.0, step=2.0, window=0.1, seconds=3.0)
    for number in range(5):
        scene = one.scene(number)
        assert scene.room.inside(scene.poses[:, :2]).all()
        moved = np.linalg.norm(np.diff(scene.poses[:, :2], axis=0), axis=1)
        turned = np.abs(np.diff(scene.poses[:, 2]))
        assert np.isclose(moved[:, None], [0, 2.0]).any(1).all()
        assert np.isclose(turned[:, None], [0, np.radians(30)]).any(1).all()


def test_sources_are_unlike_and_no_set_shares_a_sound():
    one = world()
    kinds = {name: number for number, name in enumerate(SMALL["sounds"])}
    by_set: dict[int, set[bytes]] = {}
    for number in range(24):
        sounds, random = one.sounds(number % 3), np.random.default_rng(number)
        picks, _ = sounds.draw(random, 2)
        names = sounds.names(picks)
        assert len(set(names)) == 2 and set(names) <= kinds.keys()
        waves = {sounds.loop(pick).tobytes() for pick in picks}
        by_set.setdefault(int(one.group(torch.tensor([number]))[0]), set()).update(waves)
    assert len(by_set) == 3 and len(set().union(*by_set.values())) == sum(map(len, by_set.values()))


def test_every_clip_has_a_room_and_levels_of_its_own():
    one = world(level_span=6.0)
    scenes = [one.scene(number) for number in range(6)]
    assert len({scene.room.area for scene in scenes}) == 6
    assert world(seed=1).scene(0).room.area != scenes[0].room.area
    loud = [10 * np.log10(np.square(loop).mean()) for scene in scenes for loop in scene.loops]
    assert np.ptp(loud) > 3


def test_one_kind_gives_two_different_sounds():
    one = world(sounds=("babble",), variants=2)
    for number in range(4):
        first, second = one.scene(number).loops
        assert not np.allclose(first / np.abs(first).max(), second / np.abs(second).max())


def test_rooms_of_three_dimensions_and_heads_are_heard():
    every: list[dict[str, Any]] = [{"height": 2.5, "rt60": 0.15, "order": 3}, {"head": "sphere"}]
    for changes in every:
        batch = world(**changes).whole(torch.arange(2))
        assert batch.sources is not None and batch.sources.square().sum((1, 3)).all()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus")


def recorded(corpus: Any, tmp_path: Any, **changes: Any) -> Mixtures:
    """Mixtures of a folder of recordings, whose file names give the speakers."""
    return world(path=str(corpus), cache=str(tmp_path / "cache"), rate=RATE, pattern=PATTERN, **changes)


def test_recordings_of_different_speakers_are_mixed(corpus, tmp_path):
    one = recorded(corpus, tmp_path)
    speakers = [set(members) for members in one.members]
    assert all(len(some) >= 2 for some in speakers)
    assert len(set().union(*speakers)) == sum(map(len, speakers))
    batch = one.whole(torch.arange(4))
    assert batch.sources is not None and batch.sources.square().sum((1, 3)).all()
    assert not one.rendered
    one.keep(tmp_path)
    assert (tmp_path / "quarantine.json").exists()
    for number in range(6):
        sounds = one.sounds(number % one.sets)
        names = sounds.names(sounds.draw(np.random.default_rng(number), 2)[0])
        assert len(set(names)) == 2


def test_other_recordings_are_other_clips(corpus, tmp_path):
    one, other = (recorded(corpus, tmp_path, sounds=("phone",)) for _ in range(2))
    index = torch.arange(3)
    assert one.identity(index) == other.identity(index)
    del other.members[0][next(iter(other.members[0]))]
    assert one.identity(index)[0] != other.identity(index)[0]
    assert one.identity(index)[1] == other.identity(index)[1]


def test_a_folder_of_too_few_speakers_is_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match="sources of different ones: give a larger folder, or fewer"):
        recorded(corpus, tmp_path, sources=8, variants=3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sounds": ("bells",)}, "no kind of sound is called 'bells'"),
        ({"sounds": ("phone", "phone")}, "each once"),
        ({"sounds": ()}, "one kind or more"),
        ({"sounds": ("babble",), "variants": 1}, "give more"),
        ({"sounds": ("phone", "siren"), "rate": 2000}, "silent at rate=2000"),
        ({"room": "cave"}, "choose one of shoebox"),
        ({"ear_distance": 0.5}, "0.34"),
        ({"ear_distance": 0.3, "head": "sphere"}, "with head=sphere at most 0.26 m"),
        ({"smallest": 8.0, "largest": 6.0}, "give largest no less"),
        ({"moving": True, "window": 2.0, "seconds": 1.0}, "give a shorter one"),
        ({"smallest": 1.0, "largest": 1.0}, "found no room"),
        ({"rt60": 30.0}, "reflections"),
    ],
)
def test_what_cannot_be_rendered_is_refused_before_training(changes, said):
    with pytest.raises(ValueError, match=said):
        world(**changes)


def test_its_signal_tells_how_many_sources_there_are():
    config = replace(MixturesConfig(**SMALL), sources=3)
    assert MIXTURES.signal is not None
    signal = MIXTURES.signal(config)
    assert signal.sources == 3 and signal.shape == (4000, 2) and signal.steps_per_second == 8000
