"""Mask-based separators: causal, equal window by window and on the whole, with the same masks at both ears."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typechecking import unchecked

from sonarium.catalogue import MODELS
from sonarium.models.contract import Learner, Separator, StreamSeparator
from sonarium.models.masking import DescentConfig, best_orders, cues, power, snr_of_pairs
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.models.separator import DIRECTIONS
from sonarium.training.engine import FabricEngine
from sonarium.worlds.contract import Batch, Signal

ENTRY = MODELS["separator"]
CONSTANT = DescentConfig(AdamConfig(5e-3), ScheduleConfig())
SIGNAL = Signal("binaural", (4000, 2), 8000, sources=2)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(preset: str = "default", signal: Signal = SIGNAL, **changes: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ENTRY.build(replace(ENTRY.presets[preset]("binaural"), **changes), signal).eval()


SMALL = made(units=8, fft=32, hop=8)


def test_validation_is_the_same_in_any_number_of_processes():
    learner = made("otoworld", units=8)
    spectra, before = learner.spectrum.around(noise(2, 4000, 2)), learner.norm.running_mean.clone()
    several: Any = SimpleNamespace(ranks=2)
    with unchecked():
        assert torch.equal(learner.shares(spectra, several), learner.shares(spectra))
    assert torch.equal(learner.norm.running_mean, before)


def test_the_default_is_small_and_otoworlds_is_of_its_size():
    count = {name: sum(one.numel() for one in made(name).parameters()) for name in ("default", "otoworld")}
    assert count["default"] <= 300_000 and count["otoworld"] == 98_460


@pytest.mark.parametrize("preset", ENTRY.presets)
def test_the_sources_sum_up_to_the_mixture(preset):
    """The masks of a bin sum to 1."""
    for sources in (2, 3):
        learner = made(preset, replace(SIGNAL, sources=sources), units=8)
        assert isinstance(learner, Learner) and isinstance(learner, Separator) and learner.sources == sources
        sound = noise(2, 1001, 2)
        apart, masks = learner.separate(sound), learner.masks(sound)
        assert apart.shape == (2, 1001, sources, 2) and masks.shape[3:] == (sources, 2)
        torch.testing.assert_close(apart.sum(2), sound, atol=1e-5, rtol=1e-4)
        assert ((masks >= 0) & (masks <= 1)).all()


@given(cuts=st.lists(st.integers(1, 90), min_size=1, max_size=8))
def test_window_by_window_it_makes_what_it_makes_of_the_whole(cuts):
    sound, state, parts, at = noise(2, 200, 2), SMALL.begin(2), [], 0
    padded = torch.cat([sound, torch.zeros(2, SMALL.latency, 2)], 1)
    for size in [*cuts, padded.shape[1]]:
        part, state = SMALL.go_on(padded[:, at : at + size], state)
        assert part.shape[1] == padded[:, at : at + size].shape[1]
        parts.append(part)
        at += size
    streamed = torch.cat(parts, 1)
    assert not streamed[:, : SMALL.latency - SMALL.spectrum.past].any()
    torch.testing.assert_close(streamed[:, SMALL.latency :], SMALL.separate(sound), atol=1e-6, rtol=1e-4)


def test_a_state_is_a_value():
    """Continuing from a state does not change it: twice from the same state gives the same output."""
    sound = noise(1, 300, 2)
    _, state = SMALL.go_on(sound, SMALL.begin(1))
    one, other = (SMALL.go_on(noise(1, 50, 2, seed=1), state)[0] for _ in range(2))
    assert torch.equal(one, other)


def test_what_comes_later_changes_nothing_before():
    sound = noise(1, 400, 2)
    other = sound.clone()
    other[:, 240:] = noise(1, 160, 2, seed=1)
    one, two = SMALL.separate(sound), SMALL.separate(other)
    known = 240 - SMALL.spectrum.fft
    torch.testing.assert_close(one[:, :known], two[:, :known], atol=1e-7, rtol=0)
    assert not torch.allclose(one[:, 250:], two[:, 250:])


def test_both_ears_have_one_mask_so_that_differences_stay():
    """If one ear is a delayed and softer copy of the other, each estimate has the same level difference."""
    left = noise(1, 2000)
    sound = torch.stack([left, 0.5 * left.roll(3, 1)], 2)
    masks = SMALL.masks(sound)
    assert torch.equal(masks[..., 0], masks[..., 1])
    energy = SMALL.separate(sound).square().sum(1)[0]
    torch.testing.assert_close(energy[:, 1] / energy[:, 0], torch.full((2,), 0.25), rtol=0.1, atol=0)


def test_it_does_not_matter_how_loud_the_sound_is():
    sound = noise(1, 600, 2)
    torch.testing.assert_close(SMALL.separate(20 * sound), 20 * SMALL.separate(sound), atol=1e-2, rtol=1e-2)


@torch.no_grad()
def test_where_directions_are_trusted_it_separates_by_them_from_right_to_left():
    """Noise in disjoint bands, each delayed at a different ear."""
    spectra, keeps = torch.fft.rfft(noise(3, 2, 16000)), torch.arange(8001) // 250 % 2 == 0
    waves = torch.fft.irfft(spectra * torch.stack([keeps, ~keeps]), 16000)
    # The second source is delayed at the right ear, so it comes from the left.
    other = torch.stack([waves[:, 0].roll(-3, 1), waves[:, 1].roll(3, 1)], 1)
    sources = torch.stack([waves, other], 3).transpose(1, 2)
    mixture = sources.sum(2)
    learner = made(units=8)
    learner.network.head.weight.zero_()
    learner.network.head.bias.zero_()
    before_trusted = learner.separate(mixture)
    learner.network.trust.fill_(1)
    estimates = learner.separate(mixture)
    # Without trust and with a zero head, all sources have the same mask.
    torch.testing.assert_close(before_trusted, mixture[:, :, None].expand_as(estimates) / 2, atol=1e-4, rtol=0)
    before = snr_of_pairs(sources, mixture[:, :, None]).squeeze(2)
    gained = snr_of_pairs(sources, estimates).diagonal(dim1=1, dim2=2) - before
    assert (gained > 6).all(), gained


def test_directions_that_were_heard_are_forgotten():
    """The shorter the memory of directions, the sooner a source that has moved is found again."""
    wave = noise(1, 24000)
    first, then = (torch.stack([wave, wave.roll(late, 1)], 2) for late in (4, -4))
    moved = torch.cat([first[:, :16000], then[:, 16000:]], 1)
    at = []
    for remembered in (0.2, 100.0):
        learner = made(units=8, remembered=remembered)
        spectra = learner.spectrum.around(moved)
        ears = cues(spectra, power(spectra).sum(1).mean(2))[1]
        fits, after = learner.directions(ears[..., :2], power(spectra).sum(1).sqrt(), learner.first(1)[1])
        assert fits.shape == (1, spectra.shape[2], 2, spectra.shape[3])
        at.append(int(after[0, 0].argmax()) - DIRECTIONS // 2)
    # The middle direction is straight ahead: 4 samples at 8 kHz are 0.5 ms, half the 1 ms of the outermost ones.
    assert at == [-(DIRECTIONS // 4), DIRECTIONS // 4]


def tones(clips: int) -> Batch:
    """Low tones from the right and high tones from the left."""
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(2000) / 8000
    sources = []
    for low, high, late in ((200, 800, -2), (1500, 3000, 2)):
        hertz = low + (high - low) * torch.rand(clips, 1, generator=generator)
        wave = 0.1 * (2 * torch.pi * hertz * time).sin()
        sources.append(torch.stack([wave, wave.roll(late, 1)], 2))
    both = torch.stack(sources, 2)
    return Batch(torch.arange(clips), both.sum(2), torch.zeros(clips, 0), sources=both)


@pytest.mark.parametrize("preset", ENTRY.presets)
def test_it_learns_to_tell_low_from_high(preset):
    learner, engine, data = (
        made(preset, units=16, descent=CONSTANT).train(),
        FabricEngine("cpu", "32", 0),
        tones(8),
    )
    assert data.sources is not None
    for _ in range(40):
        learner.update(data, engine)
    learner.eval()
    gained = best_orders(data.sources, learner.separate(data.signal))[0].mean()
    assert gained - snr_of_pairs(data.sources, data.signal[:, :, None]).mean() > 6


def test_a_learner_that_is_started_anew_begins_its_schedule():
    learner, engine = made(units=8, descent=CONSTANT), FabricEngine("cpu", "32", 0)
    learner.update(tones(2), engine)
    assert int(learner.descent.done) == 1
    learner.restart()
    assert int(learner.descent.done) == 0


def test_only_the_default_streams():
    streams = {name for name in ENTRY.presets if isinstance(made(name), StreamSeparator)}
    assert streams == {"default"}
