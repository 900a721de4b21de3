"""Tokens of sound and of codes: receptive field, scale, the two views, and inversion to sound."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonarium.features.mel import mel_filters
from sonarium.features.tokens import VOICES, CodeTokens, Draws, LogMelTokens, TokensConfig, ViewsConfig
from sonarium.worlds.contract import Signal

RATE = 8000
SMALL = TokensConfig(token_seconds=0.032, token_frames=4, bands=12)
STILL = ViewsConfig(shift_frames=0, shift_bands=0, gain_db=0.0, mask_bands=0, mask_tokens=0.0)


def front(config: TokensConfig = SMALL) -> LogMelTokens:
    made = config.build(Signal("wave", (4000,), RATE))
    assert isinstance(made, LogMelTokens)
    return made.double()


def fitted(config: TokensConfig = SMALL) -> LogMelTokens:
    made = front(config)
    made.fit([noise(3, 4000)])
    return made


def noise(clips: int, samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(clips, samples, generator=generator, dtype=torch.double)


def test_a_frame_is_the_spectrum_of_its_window_mirrored_at_the_ends_of_the_token():
    own, wave = front(), noise(1, 600)
    assert (own.hop, own.window, own.shortest) == (64, 128, 256)
    found = own.decibels(wave)[0]
    fft = own.spectrogram.config.fft
    window = np.hanning(129)[:128]
    filters = mel_filters(RATE, fft, 12, 50.0, RATE / 2)
    full = (window.sum() / 2) ** 2 * filters.max()
    for token in range(2):
        alone = np.pad(wave[0, token * 256 : token * 256 + 256].numpy(), 32, mode="reflect")
        for frame in range(4):
            power = np.abs(np.fft.rfft(alone[frame * 64 : frame * 64 + 128] * window, fft)) ** 2
            expected = 10 * np.log10(np.maximum(filters @ power / full, 1e-8))
            np.testing.assert_allclose(found[4 * token + frame].numpy(), expected, rtol=1e-5, atol=1e-4)


@settings(max_examples=10)
@given(st.integers(0, 1023))
def test_no_token_sees_a_sample_of_its_neighbours(sample):
    own, wave = front(), noise(1, 1024)
    changed = wave.clone()
    changed[0, sample] += 0.5
    apart = (own.decibels(changed) != own.decibels(wave))[0].any(1).view(4, 4).any(1)
    assert apart.nonzero().flatten().tolist() == [sample // 256]
    shared = front(TokensConfig(token_seconds=0.032, token_frames=4, bands=12, overlapping=True))
    near = (shared.decibels(changed) != shared.decibels(wave))[0].any(1).view(4, 4).any(1)
    # Windows of 128 samples with a hop of 64 extend 32 samples beyond their token.
    assert near[sample // 256]
    assert set(near.nonzero().flatten().tolist()) <= {(sample - 32) // 256, (sample + 32) // 256}


def test_each_band_is_scaled_by_its_own_statistics_without_padding():
    own, wave = front(), noise(3, 2000)
    # A spectral tilt makes the bands differ.
    wave = wave.cumsum(1) * 0.1 + 0.01 * wave
    lengths = torch.tensor([2000, 1000, 600])
    padded = torch.where(torch.arange(2000) < lengths[:, None], wave, 0)
    own.fit([padded[:2], padded[2:]], [lengths[:2], lengths[2:]])
    parts = [own.decibels(wave[clip : clip + 1, :n])[0] for clip, n in enumerate(lengths.tolist())]
    frames = torch.cat(parts)
    torch.testing.assert_close(own.offset, frames.mean(0))
    torch.testing.assert_close(own.spread, frames.std(0, correction=0))
    made = own(wave[:1])
    torch.testing.assert_close(made[0, 0].T, (parts[0] - own.offset) / own.spread)
    assert own.shape(2000) == tuple(made.shape[1:]) and own.frames(lengths).tolist() == [28, 12, 8]
    assert torch.equal(own.features_of(own.tokens(made)), made)


def test_a_token_that_the_end_of_a_clip_cuts_does_not_count():
    own = front()
    assert own.counts(torch.tensor([0, 255, 256, 511, 512])).tolist() == [0, 0, 1, 1, 2]


def draws(clips: int, tokens: int, seed: int = 0) -> Draws:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.rand(clips, Draws.NUMBERS, generator=generator).double() for _ in range(2))
    return Draws(first, second, torch.rand(clips, 2, tokens, 1, generator=generator).double())


def test_the_views_shift_gain_and_mask_and_the_second_is_never_the_earlier_one():
    own, wave = fitted(), noise(4, 2560, 3)
    features, counts = own(wave), torch.tensor([10, 10, 10, 5])
    drawn = draws(4, 10)
    still = [own.view(features, counts, STILL, drawn, which) for which in (0, 1)]
    torch.testing.assert_close(still[0], features)
    torch.testing.assert_close(still[1], features)
    config = ViewsConfig(shift_frames=3, shift_bands=0, gain_db=0.0, mask_bands=0, mask_tokens=0.0)
    later = (drawn.shifts * 4).long().clamp(max=3)
    assert bool((later[:, 1] >= later[:, 0]).all()) and bool((later[:, 1] > later[:, 0]).any())
    for which in (0, 1):
        made = own.view(features, counts, config, drawn, which)
        for clip in range(4):
            shift, end = int(later[clip, which]), 4 * int(counts[clip])
            expected = torch.cat(
                [features[clip, :, :, shift:end], features[clip, :, :, end - 1 : end].expand(-1, -1, shift)], 2
            )
            torch.testing.assert_close(made[clip, :, :, :end], expected)
    gained = own.view(features, counts, ViewsConfig(2, 0, 0, 6.0, 0, 0.0), drawn, 0)
    expected = (2 * drawn.first[:, 2] - 1) * 6
    change = own.unscaled(gained[:, 0]) - own.unscaled(features[:, 0])
    torch.testing.assert_close(change, expected[:, None, None].expand_as(change))
    masked = own.view(features, counts, ViewsConfig(2, 0, 0, 0.0, 6, 0.3), drawn, 1)
    hidden = (masked == 0)[:, 0]
    assert torch.equal(hidden.all(1), (drawn.masked[:, 1, :, 0] < 0.3).repeat_interleave(4, 1))
    assert bool(hidden.all(2).any(1).any()) and torch.equal(masked[~hidden[:, None]], features[~hidden[:, None]])
    raised = own.view(features, counts, ViewsConfig(2, 0, 2, 0.0, 0, 0.0), drawn, 0)
    by = (drawn.first[:, 1] * 5).long() - 2
    rows = (torch.arange(12) + by[:, None]).clamp(0, 11)
    dB = own.unscaled(features[:, 0])
    expected = torch.stack([dB[clip, rows[clip]] for clip in range(4)])
    torch.testing.assert_close(own.unscaled(raised[:, 0]), expected)


@pytest.mark.parametrize("snr", [0.0, 6.0])
def test_babble_is_of_other_clips_and_as_loud_as_asked(snr):
    own, generator = fitted(), torch.Generator().manual_seed(0)
    features = own(noise(5, 2560, 3))
    drawn = torch.rand(5, VOICES, 2, generator=generator).double()
    babble, power = own.babble(features, drawn), 10 ** (own.unscaled(features[:, 0]) / 10)
    frames = power.shape[2]
    for clip in range(5):
        expected = torch.zeros_like(power[0])
        for partner, since in drawn[clip]:
            other = (clip + 1 + int(4 * partner)) % 5
            assert other != clip
            expected += power[other].roll(-int(frames * since), 1)
        torch.testing.assert_close(babble[clip], expected)
    asked = snr + torch.arange(5).double()
    added = 10 ** (own.unscaled(own.in_babble(features, babble, asked)[:, 0]) / 10) - power
    ratio = 10 * torch.log10(power.mean((1, 2)) / added.mean((1, 2)))
    torch.testing.assert_close(ratio, asked)


def test_tokens_become_sound_again():
    """A tone is reconstructed at its frequency and level."""
    own = fitted(TokensConfig(token_seconds=0.032, token_frames=4, bands=40))
    time = torch.arange(2000).double() / RATE
    wave = (0.3 * torch.sin(2 * torch.pi * 900 * time))[None]
    heard = own.invert(own(wave), 2000)
    assert heard.shape == wave.shape
    middle = heard[0, 500:1500]
    spectrum = torch.fft.rfft(middle * torch.hann_window(1000).double()).abs()
    assert abs(int(spectrum.argmax()) * RATE / 1000 - 900) <= 60
    assert 0.5 < float(middle.square().mean().sqrt() / wave.square().mean().sqrt()) < 2
    with pytest.raises(ValueError, match="give the length of the clips"):
        own.invert(own(wave), 1700)


def test_discrete_tokens_are_the_entries_of_each_slot():
    config = TokensConfig(slots=2, entries=3)
    own = config.build(Signal("codes", (4, 4), frame_rate=10.0))
    assert isinstance(own, CodeTokens) and own.width == 6
    books = torch.tensor([[[0.0, 1.0], [2.0, 0.0], [5.0, 5.0]], [[1.0, 1.0], [-1.0, 3.0], [0.0, 0.0]]])
    index = torch.tensor([[[0, 2], [1, 1], [2, 0], [0, 0]]])
    codes = torch.cat([books[0][index[..., 0]], books[1][index[..., 1]]], -1)
    padded = torch.cat([codes, torch.full((1, 1, 4), 9.0)], 1)
    own.fit([padded], [torch.tensor([4])])
    made = own(codes)[0].view(4, 2, 3)
    assert torch.equal(made.sum(-1), torch.ones(4, 2))
    found = torch.einsum("fse,sec->fsc", made, own.codebooks).flatten(1)
    assert torch.equal(found, codes[0])
    views = ViewsConfig(mask_tokens=0.5)
    slots = torch.tensor([[[[0.2, 0.8], [0.7, 0.1], [0.1, 0.3], [0.6, 0.9]]] * 2])
    slots[0, 1] = slots[0, 1].flip(0, 1)
    for which in (0, 1):
        drawn = Draws(torch.rand(1, Draws.NUMBERS), torch.rand(1, Draws.NUMBERS), slots)
        seen = own.view(made.view(1, 4, 6), torch.tensor([4]), views, drawn, which).view(4, 2, 3)
        hidden = slots[0, which] < 0.5
        assert torch.equal(seen.sum(-1) == 0, hidden) and torch.equal(seen[~hidden], made[~hidden])
    with pytest.raises(ValueError, match="slot 1 of 2 has more than entries=3"):
        own.fit([torch.randn(1, 9, 4)])
    with pytest.raises(ValueError, match="slots=3 do not divide codes of 4"):
        TokensConfig(slots=3).build(Signal("codes", (4, 4), frame_rate=10.0))


def test_of_codes_as_numbers_whole_tokens_are_masked():
    own = TokensConfig().build(Signal("codes", (6, 4), frame_rate=10.0))
    features = 1 + torch.rand(3, 6, 4)
    drawn = draws(3, 6)
    made = own.view(features, torch.tensor([6, 6, 6]), ViewsConfig(mask_tokens=0.4), drawn, 1)
    hidden = drawn.masked[:, 1, :, 0] < 0.4
    assert 0 < int(hidden.sum()) < 18
    assert not made[hidden].any() and torch.equal(made[~hidden], features[~hidden])


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: front()(noise(1, 600)), "needs statistics"),
        (lambda: fitted()(noise(1, 200)), "shorter than a token of 256"),
        (lambda: front().fit([torch.zeros(2, 600).double()]), "all silent"),
        (lambda: TokensConfig(token_seconds=0.001).build(Signal("wave", (400,), RATE)), "give longer tokens"),
        (lambda: TokensConfig().build(Signal("picture", (4, 4))), "choose a world of sound"),
        (lambda: TokensConfig(slots=2).build(Signal("wave", (4000,), 8000)), "slots=2: sound has no codebooks"),
        (lambda: TokensConfig(slots=1024, entries=128), "entries=128: give at most 64"),
    ],
)
def test_what_cannot_be_tokens_is_refused(act, said):
    with pytest.raises(ValueError, match=said):
        act()
