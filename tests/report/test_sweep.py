"""Traversals vary one code at a time, all others fixed; the informativeness of a code is that of its posterior."""

import numpy as np
import torch
from torch.distributions import Normal, kl_divergence

from sonarium.models.describing import STEPS
from sonarium.report.sweep import read

ALL = torch.arange(140)
CPU = torch.device("cpu")


def test_each_code_is_restored_before_the_next_is_moved(sound_vae, tones):
    asked = []
    decode = sound_vae.decode
    sound_vae.decode = lambda codes: asked.append(codes.clone()) or decode(codes)
    reading = read(sound_vae, tones, ALL, CPU)
    for sweep in reading.sweeps:
        sound_vae.decode(sweep.codes)
    base = sound_vae.encode(tones.whole(ALL[reading.central : reading.central + 1]).signal)[0]
    assert len(asked) == 4
    moved = []
    for codes in asked:
        away = (codes - base).abs().amax((0, 1)) > 1e-5
        assert away.sum() == 1
        moved.append(int(away.nonzero()))
        torch.testing.assert_close(codes[STEPS.index(0)], base)
    assert sorted(moved) == [0, 1, 2, 3]


def test_steps_are_deviations_of_the_aggregate_posterior(sound_vae, tones):
    reading = read(sound_vae, tones, ALL, CPU)
    posterior = sound_vae.posterior(sound_vae.features(tones.whole(ALL)))
    draws = Normal(posterior.mean, (posterior.log_variance / 2).exp()).sample((4000,)).flatten(0, 1)
    for sweep in reading.sweeps:
        code = int(sweep.name.split()[1]) - 1
        span = float(sweep.codes[-1, 0, code] - sweep.codes[0, 0, code])
        np.testing.assert_allclose(span, 5 * draws[:, code].std(), rtol=0.01)


def test_codes_are_ordered_by_their_divergence_from_the_prior(sound_vae, tones):
    codes = read(sound_vae, tones, ALL, CPU).codes
    posterior = sound_vae.posterior(sound_vae.features(tones.whole(ALL)))
    q = Normal(posterior.mean.double(), (posterior.log_variance.double() / 2).exp())
    expected = kl_divergence(q, Normal(0.0, 1.0)).mean(0).detach().numpy()
    np.testing.assert_allclose(codes.worth, expected, rtol=1e-5)
    alive = [code for code in codes.order if codes.alive[code]]
    assert alive == sorted(alive, key=lambda code: -expected[code])


def test_dead_codes_come_last_and_are_marked(sound_vae, tones):
    with torch.no_grad():
        last = [layer for layer in sound_vae.encoder.modules() if isinstance(layer, torch.nn.Linear)][-1]
        last.weight[1] = 0
        last.bias[1] = 3.0  # far from the prior, yet the same for every clip
    reading = read(sound_vae, tones, ALL, CPU)
    assert reading.codes.alive.tolist() == [True, False, True, True]
    assert reading.sweeps[-1].name == "code 2"
    assert [sweep.alive for sweep in reading.sweeps] == [True, True, True, False]


def test_the_central_clip_is_nearest_to_the_mean(sound_vae, tones):
    reading = read(sound_vae, tones, ALL, CPU)
    posterior = sound_vae.posterior(sound_vae.features(tones.whole(ALL)))
    means, variances = posterior.mean.detach(), posterior.log_variance.detach().exp()
    variance = means.var(0, correction=0) + variances.mean(0)
    distance = ((means - means.mean(0)) ** 2 / variance).sum(1)
    assert reading.central == int(distance.argmin())


def test_entries_are_swept_one_slot_at_a_time(sound_vqvae, tones):
    reading = read(sound_vqvae, tones, ALL, CPU)
    base = sound_vqvae.encode(tones.whole(ALL[reading.central : reading.central + 1]).signal)[0, 0]
    books = sound_vqvae.codebooks.entries
    for sweep in reading.sweeps:
        slot = int(sweep.name.split()[1]) - 1
        own = slice(2 * slot, 2 * slot + 2)
        others = [at for at in range(6) if not 2 * slot <= at < 2 * slot + 2]
        torch.testing.assert_close(sweep.codes[:, 0, others], base[others].expand(len(sweep.steps), -1))
        torch.testing.assert_close(sweep.codes[sweep.own, 0], base)
        entries = [int(step.split()[1]) for step in sweep.steps]
        assert len(set(entries)) == len(entries)
        torch.testing.assert_close(sweep.codes[:, 0, own], books[slot, entries])


def test_perplexity_of_each_slot(sound_vqvae, tones):
    codes = read(sound_vqvae, tones, ALL, CPU).codes
    assert codes.entries == 6
    for slot in range(3):
        _, uses = np.unique(codes.values[:, slot], return_counts=True)
        share = uses / uses.sum()
        np.testing.assert_allclose(codes.worth[slot], np.exp(-(share * np.log(share)).sum()))
