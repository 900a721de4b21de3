"""Shared parts of mask-based separators: spectra and their inverse, cues, and the permutation-invariant loss."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sonarium.measures import separation as measures
from sonarium.models.masking import (
    Descent,
    DescentConfig,
    Spectrum,
    best_orders,
    both_ears,
    cues,
    ideal_shares,
    loudness_so_far,
    masked,
    separated_from,
    snr_of_pairs,
)
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.training.engine import FabricEngine
from sonarium.worlds.contract import Signal


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(hop=st.integers(1, 40), times=st.integers(2, 5), samples=st.integers(1, 300))
def test_a_mask_of_one_gives_the_sound_back(hop, times, samples):
    spectrum, sound = Spectrum(hop * times, hop), noise(2, samples, 2)
    spectra = spectrum.around(sound)
    assert spectra.shape[2] == spectrum.frames(samples + spectrum.past + spectrum.past + -samples % hop)
    masks = both_ears(torch.ones(2, *spectra.shape[2:], 1))
    made = spectrum.sound(masked(spectra, masks), samples)
    torch.testing.assert_close(made[:, :, 0], sound, atol=1e-5, rtol=1e-4)


def test_frames_are_those_of_numpy():
    spectrum, sound = Spectrum(16, 4), noise(1, 40, 2)
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(16) / 16))
    expected = np.fft.rfft(sound[0, 8:24, 1].numpy() * window)
    np.testing.assert_allclose(spectrum(sound)[0, 1, 2].numpy(), expected, atol=1e-5)


def test_an_fft_that_is_no_multiple_of_the_hop_is_refused():
    for fft, hop in ((100, 64), (64, 64)):
        with pytest.raises(ValueError, match="a multiple of the hop"):
            Spectrum(fft, hop)


def test_the_ratio_is_that_of_the_measures_below_its_limit():
    references, apart = noise(2, 500, 3, 2), noise(2, 500, 3, 2, seed=1)
    for level, least in ((1.0, 0.01), (0.1, 0.5)):
        estimates = references + level * apart
        flat = [one.permute(0, 2, 3, 1).flatten(2).double().numpy() for one in (references, estimates)]
        expected = measures.snr(*flat)
        found = snr_of_pairs(references, estimates).diagonal(dim1=1, dim2=2).numpy()
        assert (found < expected).all() and np.abs(found - expected).max() < least
    # A perfect estimate scores the limit.
    perfect = snr_of_pairs(references, references).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(perfect, torch.full((2, 3), 30.0), atol=5e-3, rtol=0)


def test_there_is_one_order_a_clip_over_both_ears():
    references = noise(4, 60, 3, 2)
    orders = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]])
    estimates = torch.stack([one[:, order] for one, order in zip(references, orders, strict=True)])
    estimates += 0.3 * noise(4, 60, 3, 2, seed=1)
    values, found = best_orders(references, estimates)
    every = [
        snr_of_pairs(references, estimates[:, :, list(order)]).diagonal(dim1=1, dim2=2).mean(1)
        for order in permutations(range(3))
    ]
    torch.testing.assert_close(values, torch.stack(every).max(0).values)
    assert torch.equal(torch.gather(orders, 1, found), torch.arange(3).expand(4, -1))
    # Sources that are swapped at one ear fit in no order.
    crossed = references.clone()
    crossed[:, :, :, 1] = references[:, :, [1, 0, 2], 1]
    assert (best_orders(references, crossed)[0] < 15).all()


def test_cues_say_which_ear_leads_and_is_louder():
    time = torch.arange(400) / 8000
    hertz, delay = 500.0, 2e-4
    tone = torch.stack([(2 * torch.pi * hertz * (time - late)).sin() for late in (0.0, delay)], 1)
    tone[:, 1] *= 0.5
    spectra = Spectrum(160, 80)(tone[None])
    level, ears = cues(spectra, loudness_so_far(spectra, start())[0])
    at = ears[0, 1, 10]
    phase = torch.atan2(at[1], at[0])
    assert phase == pytest.approx(2 * torch.pi * hertz * delay, abs=0.02)
    assert at[2] == pytest.approx(np.log(4) / 3, abs=0.02)
    assert level[0, 1].argmax() == 10


def start() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)


@given(gain=st.floats(1e-2, 1e2))
def test_cues_do_not_depend_on_the_gain(gain):
    spectra = Spectrum(32, 16)(noise(1, 200, 2))
    both = [cues(one, loudness_so_far(one, start())[0]) for one in (spectra, gain * spectra)]
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@given(cut=st.integers(0, 12))
def test_loudness_goes_on_from_where_it_was(cut):
    spectra = Spectrum(32, 16)(noise(1, 224, 2))
    whole = loudness_so_far(spectra, start())[0]
    first, state = loudness_so_far(spectra[:, :, :cut], start())
    rest = loudness_so_far(spectra[:, :, cut:], state)[0]
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)
    expected = spectra.abs().square().sum(1).mean(-1)
    torch.testing.assert_close(whole[0, -1], expected.mean())


def test_ideal_shares_follow_the_magnitudes():
    spectrum, sources = Spectrum(32, 16), noise(1, 100, 2, 2)
    shares = ideal_shares(spectrum, sources)
    torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:-1]), atol=1e-3, rtol=0)
    alone = [spectrum.around(one).abs().square().sum(1).sqrt() for one in sources.unbind(2)]
    torch.testing.assert_close(shares[..., 0] / shares[..., 1], alone[0] / alone[1], rtol=1e-3, atol=1e-4)


def test_only_mixtures_can_be_separated():
    assert separated_from(Signal("binaural", (10, 2), 8000, sources=3)) == 3
    for signal in (Signal("wave", (10,), 8000), Signal("binaural", (10, 2), 8000)):
        with pytest.raises(ValueError, match="choose mixtures"):
            separated_from(signal)


def test_the_learning_rate_follows_the_schedule():
    weight = torch.nn.Parameter(torch.ones(1))
    config = DescentConfig(AdamConfig(0.1), ScheduleConfig("linear", decay_steps=4))
    descent, engine, rates = Descent(config, [weight]), FabricEngine("cpu", "32", 0), []
    for _ in range(4):
        descent.step(weight.square().sum(), engine)
        rates.append(descent.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025]) and int(descent.done) == 4
