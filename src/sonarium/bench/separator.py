"""Separation by windows compared with OtoWorld's network; rendering of mixtures compared with training on them.

Windows are those of an agent's steps, a quarter of a second at 8 kHz at both ears, of many rooms at once.
OtoWorld's network needs whole clips: here it separates each window as if it were a clip.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sonarium.bench.timing import case, interleaved
from sonarium.catalogue import MODELS, WORLDS
from sonarium.models.contract import Learner, Separator, StreamSeparator
from sonarium.models.optim import ScheduleConfig
from sonarium.training.engine import FabricEngine
from sonarium.worlds.contract import Signal

RATE, WINDOW, WINDOWS = 8000, 2000, 16
ROOMS = (1, 64)
CLIPS = 8


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    return [*(by_windows(rooms, repeats) for rooms in ROOMS), *(mixtures(rt60, repeats) for rt60 in (0.0, 0.3))]


def made(preset: str) -> Learner:
    """An untrained separator."""
    entry = MODELS["separator"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        signal = Signal("binaural", (WINDOW, 2), RATE, sources=2)
        config = entry.presets[preset]("binaural")
        constant = replace(config.descent, schedule=ScheduleConfig())
        return entry.build(replace(config, descent=constant), signal).eval()


def streamed(learner: StreamSeparator, sound: Tensor) -> list[Tensor]:
    state, parts = learner.begin(len(sound)), []
    for window in sound.split(WINDOW, 1):
        part, state = learner.go_on(window, state)
        parts.append(part)
    return parts


def by_windows(rooms: int, repeats: int) -> dict[str, Any]:
    ours, theirs = made("default"), made("otoworld")
    assert isinstance(ours, StreamSeparator) and isinstance(theirs, Separator), "presets that separate"
    sound = 0.1 * torch.randn(rooms, WINDOWS * WINDOW, 2, generator=torch.Generator().manual_seed(0))
    expect_equal(ours, sound)
    own_s, peer_s = interleaved(
        lambda: streamed(ours, sound), lambda: [theirs.separate(one) for one in sound.split(WINDOW, 1)], repeats
    )
    heard = rooms * WINDOWS * WINDOW / RATE
    each = 1000 * own_s / (rooms * WINDOWS)
    work = (
        f"{rooms} room(s) x {WINDOWS} windows of {1000 * WINDOW / RATE:g} ms: {each:.2g} ms a window, "
        f"{heard / own_s:,.0f} × real time"
    )
    return case(f"windows of {rooms} room(s)", work, "OtoWorld's network, window by window", own_s, peer_s)


def expect_equal(learner: StreamSeparator, sound: Tensor) -> None:
    """Assert that sources separated window by window equal those of the whole clip, `latency` samples later."""
    late, whole = torch.cat(streamed(learner, sound), 1), learner.separate(sound)
    count = sound.shape[1] - learner.latency
    apart = float((late[:, learner.latency :] - whole[:, :count]).abs().max())
    assert apart < 1e-5, f"windows and the whole are {apart:.1e} apart"


def mixtures(rt60: float, repeats: int) -> dict[str, Any]:
    """Rendering of a batch, compared with the training step on it."""
    entry, learner = WORLDS["mixtures"], made("default").train()
    world = entry.build(entry.Config(rt60=rt60, variants=1), 0, lambda *_: None)
    batch = world.whole(torch.arange(CLIPS))
    engine = FabricEngine("cpu", "32", 0)
    own_s, peer_s = interleaved(
        lambda: world.whole(torch.arange(CLIPS)), lambda: learner.update(batch, engine), repeats
    )
    work = f"{CLIPS} mixtures of {world.signal.shape[0] / RATE:g} s, reverberation time {rt60:g} s"
    return case(f"mixtures, {rt60:g} s", work, "the training step on them", own_s, peer_s)
