"""Separation by clustering: affinity loss against all pairs, k-means, directions and anchors."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from sonarium.models.clustering import SpatialClustering, affinity, k_means
from sonarium.models.masking import best_orders, snr_of_pairs
from sonarium.worlds.contract import Signal


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_affinity_is_that_of_all_pairs():
    points = functional.normalize(noise(2, 3, 4, 5), dim=-1)
    classes = functional.one_hot((noise(2, 3, 4, seed=1) > 0).long(), 2).float()
    weights = (noise(2, 3, 4, seed=2) > -0.5).float()
    expected = []
    for one, own, heavy in zip(points, classes, weights, strict=True):
        v, y = (part[heavy > 0].double() for part in (one, own))
        expected.append(float((v @ v.T - y @ y.T).square().mean()))
    assert float(affinity(points, classes, weights)) == pytest.approx(np.mean(expected), rel=1e-4)
    # The loss is zero for equal embeddings of one source, orthogonal to those of other sources.
    assert float(affinity(classes, classes, weights)) == pytest.approx(0, abs=1e-6)


def test_k_means_finds_clusters_whatever_lies_beside_them():
    centres = torch.tensor([[0.0, 0], [5, 0], [0, 7]])
    own = torch.arange(90) % 3
    points = torch.stack([centres[own] + 0.1 * noise(90, 2, seed=seed) for seed in (1, 2)])
    # Points of weight 0 have no effect.
    points = torch.cat([points, 100 + noise(2, 20, 2)], 1)
    weights = torch.cat([torch.ones(2, 90), torch.zeros(2, 20)], 1)
    for found in k_means(points, weights, 3):
        nearest = torch.cdist(found, centres).min(1)
        assert set(nearest.indices.tolist()) == {0, 1, 2} and (nearest.values < 0.1).all()


def test_more_clusters_than_points_leave_centres_where_they_are():
    found = k_means(torch.ones(1, 4, 2), torch.ones(1, 4), 3)
    assert found.shape == (1, 3, 2) and (found == 1).all()


def bands(delays: tuple[int, ...]) -> torch.Tensor:
    """Noise in disjoint bands, each from a different direction: (clip, time, source, ear)."""
    spectra = torch.fft.rfft(noise(4, len(delays), 8000))
    bins, count = torch.arange(spectra.shape[2]), 8 * len(delays)
    keeps = [(bins * count // spectra.shape[2]) % len(delays) == number for number in range(len(delays))]
    waves = torch.fft.irfft(spectra * torch.stack(keeps), 8000)
    late = torch.stack([waves[:, number].roll(delay, 1) for number, delay in enumerate(delays)], 1)
    return torch.stack([waves, late], 3).transpose(1, 2)


@pytest.mark.parametrize("delays", [(-3, 2), (4, 0), (-4, 0, 3)])
def test_directions_tell_bands_of_noise_apart(delays):
    sources = bands(delays)
    mixture = sources.sum(2)
    clustering = SpatialClustering(len(delays), 8000)
    estimates = clustering.separate(mixture)
    gained = best_orders(sources, estimates)[0] - snr_of_pairs(sources, mixture[:, :, None]).mean((1, 2))
    assert (gained > 6).all()
    torch.testing.assert_close(estimates.sum(2), mixture, atol=1e-4, rtol=1e-3)


def test_clusters_are_of_a_clip_alone():
    mixture = bands((-3, 2)).sum(2)
    clustering = SpatialClustering(2, 8000)
    together = clustering.masks(mixture)
    for row in range(len(mixture)):
        torch.testing.assert_close(clustering.masks(mixture[row : row + 1])[0], together[row])


def test_anchors_fewer_than_sources_are_refused():
    from sonarium.models.clustering import AnchorsConfig

    with pytest.raises(ValueError, match="at least as many"):
        AnchorsConfig(anchors=2).build(Signal("binaural", (100, 2), 8000, sources=3))
