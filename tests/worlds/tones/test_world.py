"""The grid of tones: order, independence of the batch, agreement of both renderers, and refused settings."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonarium.worlds.tones.modulation import none
from sonarium.worlds.tones.oscillator import WAVEFORMS, fourier, order_limit, render_loops, render_operations
from sonarium.worlds.tones.world import SyntoneConfig, Tones, TonesConfig

SMALL = SyntoneConfig(seconds=0.1, frequencies=5, amplitudes=3, alias=False, syntone_time=False)
RICH = dataclasses.replace(
    SMALL,
    phases=2,
    attacks=2,
    decays=2,
    noises=3,
    vibrato_rates=2,
    vibrato_depths=2,
    second_partials=2,
    longest_attack=0.05,
    longest_decay=0.05,
)
MODULATED = dataclasses.replace(RICH, glide_semitones=5.0, tremolo_db=12.0, modulation_hz=20.0)


def test_the_grid_of_the_world_syntone_is_syntones():
    world = Tones(SyntoneConfig(), seed=0)
    assert len(world) == 32000
    assert [(factor.name, len(factor.values)) for factor in world.factors] == [
        ("waveform", 4),
        ("frequency", 400),
        ("amplitude", 20),
    ]
    assert world.signal.shape == (16000,) and world.signal.rate == 16000
    everything = world.locate(torch.arange(len(world)))
    np.testing.assert_array_equal(everything[:, 1].unique(), np.linspace(440, 8000, 400))


def test_the_default_frequencies_are_quarters_of_a_semitone():
    world = Tones(TonesConfig(), seed=0)
    frequency = np.array(world.factors[1].values)
    assert (len(world), frequency[0], frequency[-1]) == (145 * 20 * 4, 220, pytest.approx(1760))
    np.testing.assert_allclose(frequency[1:] / frequency[:-1], 2 ** (1 / 48))


def test_no_two_waveforms_of_the_default_grid_are_alike():
    """Their spectra, relative to the fundamental, differ by more than 1 dB in at least one partial."""
    world = Tones(TonesConfig(amplitudes=1), seed=0)
    frequency = torch.tensor(world.factors[1].values, dtype=torch.float64)
    assert world.signal.rate is not None
    for lowest in (0, len(frequency) - 1):
        waves = world.whole(4 * lowest + torch.arange(4)).signal.to(torch.complex128)
        angle = 2 * torch.pi * frequency[lowest] * torch.arange(waves.shape[1]) / world.signal.rate
        partials = torch.stack([waves @ torch.exp(1j * k * angle) for k in (1, 2, 3, 4)], 1).abs()
        decibels = 20 * (partials / partials[:, :1]).clamp(min=1e-2).log10()
        apart = (decibels[:, None] - decibels).abs().amax(2) + 100 * torch.eye(4)
        assert apart.min() > 1, (float(frequency[lowest]), decibels)


def test_the_order_is_that_of_syntones_loops():
    world = Tones(SMALL, seed=0)
    expected = [
        (waveform, frequency, amplitude)
        for frequency in np.linspace(440, 8000, 5)
        for amplitude in np.linspace(0.1, 1, 3)
        for waveform in range(4)
    ]
    np.testing.assert_array_equal(world.locate(torch.arange(len(world))).numpy(), expected)
    np.testing.assert_array_equal(world.whole(torch.arange(60)).factors.numpy(), np.array(expected, np.float32))


def test_further_factors_lie_outermost_and_all_are_reached():
    world, plain = Tones(RICH, seed=0), Tones(SMALL, seed=0)
    everything = world.locate(torch.arange(len(world)))
    assert len(world) == 60 * 2**6 * 3
    assert len(torch.unique(everything, dim=0)) == len(world)
    assert torch.equal(everything[:60, :3], plain.locate(torch.arange(60)))
    for column, factor in enumerate(world.factors):
        values = range(4) if factor.discrete else factor.values
        assert torch.unique(everything[:, column]).tolist() == pytest.approx(sorted(values))


def test_waveforms_keep_the_order_that_was_asked_for():
    world = Tones(dataclasses.replace(SMALL, waveforms=("square", "sine"), alias=True), seed=0)
    signals = world.whole(torch.tensor([0, 1])).signal
    assert world.factors[0].values == ("square", "sine")
    assert signals[0].unique().numel() == 2 and signals[1].unique().numel() > 2


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_clip_is_the_same_bits_in_any_batch_and_on_any_number_of_threads(data):
    config = data.draw(st.sampled_from([SMALL, dataclasses.replace(SMALL, alias=True), RICH, MODULATED]))
    world = Tones(config, seed=data.draw(st.integers(0, 9)))
    batch = torch.tensor(data.draw(st.lists(st.integers(0, len(world) - 1), min_size=1, max_size=40)))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(data.draw(st.integers(1, 3)))
        together = world.whole(batch).signal
    finally:
        torch.set_num_threads(threads)
    clip = data.draw(st.integers(0, len(batch) - 1))
    alone = Tones(config, seed=world.seed).whole(batch[clip : clip + 1]).signal[0]
    assert torch.equal(together[clip], alone)


def test_another_process_renders_the_same_bits():
    program = (
        "import sys, torch; from sonarium.worlds.tones.world import Tones, TonesConfig\n"
        "torch.set_num_threads(1)\n"
        "batch = Tones(TonesConfig(frequencies=5, noises=3), seed=1).whole(torch.arange(900, 100, -70))\n"
        "sys.stdout.buffer.write(batch.signal.numpy().tobytes())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=120)
    world = Tones(TonesConfig(frequencies=5, noises=3), seed=1)
    ours = world.whole(torch.arange(900, 100, -70).flip(0)).signal.flip(0)
    assert other.stdout == ours.numpy().tobytes()


def test_only_the_noise_follows_the_seed():
    index = torch.arange(60)
    assert torch.equal(Tones(SMALL, 0).whole(index).signal, Tones(SMALL, 1).whole(index).signal)
    noisy = dataclasses.replace(SMALL, noises=2, loudest_noise=0.2)
    one, other = (Tones(noisy, seed).whole(index + 60).signal for seed in (0, 1))
    assert (one - other).std() == pytest.approx(0.2 * 2**0.5, rel=0.02)
    clean = Tones(SMALL, 0).whole(index).signal
    assert (one - clean).std(dim=1).numpy() == pytest.approx(np.full(60, 0.2), rel=0.1)
    assert torch.equal(Tones(noisy, 0).whole(index).signal, clean)


@pytest.mark.parametrize("alias", [True, False])
@pytest.mark.parametrize("config", [SMALL, RICH, MODULATED], ids=["plain", "rich", "modulated"])
def test_tensor_operations_and_compiled_loops_agree(config, alias):
    """Tensor operations for other devices agree with the loops on the CPU within 1e-6."""
    world = Tones(dataclasses.replace(config, alias=alias), seed=3)
    index = torch.randperm(len(world), generator=torch.Generator().manual_seed(0))[:100]
    tones = torch.stack([values[:1].expand(len(index)) for values in world.values], dim=1).clone()
    tones[:, world.varied] = world.locate(index)
    orders = order_limit(tones[:, 1], tones[:, 7], tones[:, 8], 8000.0).long()
    terms = torch.where(tones[:, 0] == 2, orders, (orders + 1) // 2)
    streams = torch.arange(len(index))
    slow = world.modulation(streams) or none(len(index))
    arguments = (tones, fourier(20), terms, streams, world.time, 0.1, alias, slow)
    difference = (render_loops(*arguments) - render_operations(*arguments)).abs()
    assert difference.max() < 1e-6


def test_any_values_can_be_asked_for():
    world = Tones(dataclasses.replace(SMALL, seconds=1.0), seed=0)
    index = torch.arange(len(world)).flip(0)
    assert torch.equal(world.generate(world.locate(index), index), world.whole(index).signal)
    off_grid = world.generate(torch.tensor([[0.0, 1001.0, 0.37]]))[0]
    spectrum = np.abs(np.fft.rfft(off_grid.numpy()))
    assert spectrum.argmax() == 1001 and spectrum.max() / 8000 == pytest.approx(0.37, rel=1e-4)


def test_an_empty_batch_is_empty():
    batch = Tones(SMALL, 0).whole(torch.empty(0, dtype=torch.int64))
    assert batch.signal.shape == (0, 1600) and batch.factors.shape == (0, 3)


def test_every_row_of_every_grid_is_finite_and_the_nyquist_row_silent():
    world = Tones(SMALL, 0)
    batch = world.whole(torch.arange(len(world)))
    assert bool(torch.isfinite(batch.signal).all())
    loud = batch.signal.abs().amax(dim=1) > 0
    assert torch.equal(loud, batch.factors[:, 1] < 8000)


def test_vibrato_with_one_varying_side_takes_the_largest_of_the_other():
    rates = Tones(dataclasses.replace(SMALL, vibrato_rates=2), 0)
    depths = Tones(dataclasses.replace(SMALL, vibrato_depths=2), 0)
    assert [factor.name for factor in rates.factors][3:] == ["vibrato_rate"]
    assert torch.equal(rates.whole(torch.tensor([60])).signal, depths.whole(torch.tensor([60])).signal)
    assert not torch.equal(rates.whole(torch.tensor([0])).signal, Tones(SMALL, 0).whole(torch.tensor([0])).signal)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"waveforms": ("sine", "saw")}, "sine, triangle, sawtooth, square"),
        ({"waveforms": ()}, "one or more"),
        ({"waveforms": ("sine", "sine")}, "each once"),
        ({"frequencies": 0}, "frequencies=0"),
        ({"lowest": float("nan")}, "lowest=nan"),
        ({"lowest": 900.0, "highest": 800.0}, "lowest no more than highest"),
        ({"highest": float("inf")}, "highest=inf: give a positive number"),
        ({"quietest": -0.1}, "quietest=-0.1"),
        ({"seconds": 0.0}, "seconds=0.0"),
        ({"seconds": 1e-5}, "0.16 samples a clip: give from 2"),
        ({"seconds": 1e6}, "seconds=1000000.0: give a positive number up to 3600"),
        ({"seconds": 3600.0, "rate": 384000}, "samples a clip: give from 2 to"),
        ({"rate": 1000, "seconds": 3600.0, "highest": 1e5}, "shorten the clips"),
        ({"attacks": 10**6}, r"attacks=1000000 .* make 11,600,000,000 clips"),
        ({"phases": 10**29}, "phases=1000"),
        ({"deepest_vibrato": 1.0}, "to below 1"),
        ({"rate": 0}, "rate=0"),
    ],
)
def test_a_wrong_configuration_is_refused_with_a_remedy(wrong, told):
    with pytest.raises(ValueError, match=told):
        TonesConfig(**wrong)


def test_wrong_requests_are_refused():
    world = Tones(SMALL, 0)
    with pytest.raises(ValueError, match="clips 0 to 59"):
        world.whole(torch.tensor([60]))
    with pytest.raises(ValueError, match="clips 0 to 59"):
        world.whole(torch.tensor([-1]))
    with pytest.raises(ValueError, match="waveform, frequency, amplitude"):
        world.generate(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="finite"):
        world.generate(torch.full((2, 3), float("nan")))
    with pytest.raises(ValueError, match=r"0 to 3, for sine"):
        world.generate(torch.tensor([[7.0, 440.0, 1.0]]))
    with pytest.raises(ValueError, match="one value only"):
        Tones(TonesConfig(waveforms=WAVEFORMS[:1], frequencies=1, amplitudes=1), 0)
