"""Images of the sources: each equals the source rendered alone, and their sum equals the observation."""

import math

import numpy as np
import pytest
import torch

from sonarium.rooms.acoustics import convolution
from sonarium.rooms.acoustics.cuda import CudaBackend
from sonarium.rooms.acoustics.geometry import polygon, shoebox
from sonarium.rooms.acoustics.simulator import Acoustics
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.vector import SeekVector

RATE, WINDOW = 8000, 700
ELL = polygon([(0, 0), (8, 0), (8, 3), (3, 3), (3, 8), (0, 8)], absorption=0.2)
PLACES = np.array([[7.0, 1.5], [1.5, 7.0], [1.0, 1.0]])
POSES = [(2.0, 2.0, 0.3), (2.5, 2.0, 0.3), (2.5, 2.0, 1.4), (2.5, 1.5, -2.0), (2.0, 1.5, -2.0)]
QUICK = SeekConfig(
    threads=1, seconds=0.1, loop=0.5, period=0.5, order=2, max_steps=9, radius=1.0, step=1.0, start_distance=1.5,
    source_info=True,
)  # fmt: skip


def walked(acoustics, count, silent):
    """Signals along a walk on which a source is switched off; with several sources, the mixture and each image."""
    random, found = np.random.default_rng(0), []
    sounds = [random.standard_normal(1000).astype(np.float32) for _ in PLACES]
    chosen = range(len(PLACES)) if count > 1 else [silent[1]]
    acoustics.enter(0, ELL, PLACES[list(chosen)], [sounds[one] for one in chosen], np.arange(3)[list(chosen)] * 50)
    for step, (*place, heading) in enumerate(POSES):
        if step == 2 and silent[0] in chosen:
            acoustics.switch_off(0, list(chosen).index(silent[0]))
        found.append(acoustics.hear(np.array([place]), np.array([heading]))[0].copy())
        if count > 1:
            found[-1] = np.concatenate([found[-1][None], acoustics.images[0]])
    return np.concatenate(found, -1)


@pytest.mark.parametrize("clock", ["stream", "clip"])
@pytest.mark.parametrize("head", ["none", "sphere"])
def test_an_image_is_what_is_heard_where_nothing_else_sounds(clock, head):
    def room(sources, **changes):
        return Acoustics(1, sources, RATE, WINDOW, 2, clock=clock, head=head, threads=1, **changes)

    mixture, *images = walked(room(3, apart=True), 3, (1, None))
    np.testing.assert_array_equal(walked(room(3, apart=True), 3, (1, None))[0], mixture)
    for source, image in enumerate(images):
        alone = walked(room(1), 1, (1, source))
        assert np.abs(image - alone).max() <= 2e-5 * np.abs(mixture).max() and np.abs(alone).max() > 0.01
    assert np.abs(sum(images) - mixture).max() <= 2e-5 * np.abs(mixture).max()


@pytest.mark.parametrize(
    "changes",
    [{}, {"clock": "clip", "gain": 0.5}, {"moving": 0.25, "room": "nonconvex", "height": 3.0, "sources": 3}],
)
def test_images_make_up_what_is_observed(changes):
    rooms, plain = SeekVector(4, QUICK, **changes), SeekVector(4, QUICK, source_info=False, **changes)
    assert "images" not in plain.reset(seed=3)[1]
    seen, info = rooms.reset(seed=3)
    for step in range(12):
        assert np.abs(info["images"].sum(1) - seen).max() <= 1e-5
        actions = np.random.default_rng(step).integers(0, 4, 4)
        seen, _, _, _, info = rooms.step(actions)
        np.testing.assert_array_equal(plain.step(actions)[0], seen)


@pytest.mark.parametrize("clock", ["stream", "clip"])
def test_a_source_that_was_found_fades_out(clock):
    room = Seek(QUICK, clock=clock)
    start = {"room": shoebox((9, 8)), "places": [(5.0, 4.0), (2.0, 7.0)], "pose": (3.5, 4.0, 0.0)}
    room.reset(seed=0, options=start)
    seen, _, _, _, info = room.step(0)
    assert info["on"].tolist() == [False, True] and np.abs(info["images"].sum(0) - seen).max() <= 1e-5
    levels = [np.abs(info["images"][0]).max()] + [np.abs(room.step(2)[4]["images"][0]).max() for _ in range(3)]
    assert (levels[0] > 0) == (clock == "stream") and levels[-1] == 0


def test_threads_and_tensors_render_the_same_images(monkeypatch):
    expected = SeekVector(8, QUICK)
    threaded = SeekVector(8, QUICK, threads=2)
    with monkeypatch.context() as patch:
        patch.setattr(convolution, "CpuBackend", lambda *given: CudaBackend(*given, device=torch.device("cpu")))
        tensors = SeekVector(8, QUICK)
    for rooms in (expected, threaded, tensors):
        rooms.reset(seed=1)
    for action in (0, 0, 2, 0):
        wanted, same, near = (one.step(np.full(8, action))[4]["images"] for one in (expected, threaded, tensors))
        np.testing.assert_array_equal(same, wanted)
        np.testing.assert_allclose(near, wanted, atol=1e-5)


def test_while_the_target_is_told_nothing_is_heard_of_the_room():
    rooms = SeekVector(2, QUICK, sources=1, distractors=2, cue=0.2)
    assert not rooms.reset(seed=0)[1]["images"].any()
    told = [rooms.step(np.full(2, 2))[4]["images"] for _ in range(2)]
    assert not told[0].any() and np.abs(told[1]).max() > 0 and told[1].shape == (2, 3, 2, 800)


def test_noise_is_no_source():
    info = SeekVector(2, QUICK, point_noise=-40.0).reset(seed=0)[1]
    assert info["images"].shape == (2, 2, 2, 800) and info["lateral"].shape == (2, 2)


@pytest.mark.parametrize(
    ("degrees", "lateral"), [(0, 0), (30, 30), (90, 90), (150, 30), (180, 0), (-30, -30), (-120, -60)]
)
def test_the_lateral_angle_is_folded_between_front_and_back(degrees, lateral):
    angle = 0.4 + math.radians(degrees)
    place = (6 + 3 * math.cos(angle), 5 + 3 * math.sin(angle))
    room = Seek(QUICK, sources=1)
    start = {"room": shoebox((12, 10)), "places": [place], "pose": (6.0, 5.0, 0.4)}
    found = room.reset(seed=0, options=start)[1]["lateral"]
    np.testing.assert_allclose(np.degrees(found), [lateral], atol=1e-5)


def test_a_lower_source_lies_nearer_to_the_plane_between_the_ears():
    room = Seek(QUICK, sources=1, height=3.0, ear_height=2.0, source_height=1.0)
    start = {"room": shoebox((12, 10, 3)), "places": [(6.0, 7.0)], "pose": (6.0, 5.0, 0.0)}
    assert room.reset(seed=0, options=start)[1]["lateral"] == pytest.approx(np.arctan2(2, 1))
