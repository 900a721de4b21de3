"""Distances between sets of tokens, in an embedding that was fitted to other tokens."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from sonarium.evaluation import likeness
from sonarium.evaluation.likeness import COMPONENTS, FEWEST, UNKNOWN, Likeness, fitted_embedding

NUMBERS = 40
MIXING = torch.randn(NUMBERS, NUMBERS, generator=torch.Generator().manual_seed(9))


def drawn(count: int, seed: int, shift: float = 0.0) -> Tensor:
    rows = torch.randn(count, NUMBERS, generator=torch.Generator().manual_seed(seed)) + shift
    return rows @ MIXING


def nothing_known(tokens: Tensor) -> Tensor:
    return torch.zeros(*tokens.shape[:2], 0, dtype=torch.long)


def test_components_are_white_where_nothing_is_known():
    tokens = drawn(600, 0).unflatten(0, (30, 20))
    embed = fitted_embedding(tokens, torch.full((30,), 20), nothing_known(tokens))
    rows = embed(tokens.flatten(0, 1))
    assert rows.shape == (600, COMPONENTS)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.T @ rows / 600, np.eye(COMPONENTS), atol=1e-4)


def test_padding_and_unknown_labels_are_left_out():
    tokens, counts = drawn(600, 0).unflatten(0, (30, 20)), torch.full((30,), 12)
    labels = (tokens[..., :1] > 0).long()
    other, wrong = tokens.clone(), labels.clone()
    other[:, 12:], wrong[:, 12:] = 1e6, 7
    one, two = (fitted_embedding(*given) for given in ((tokens, counts, labels), (other, counts, wrong)))
    np.testing.assert_array_equal(one(tokens[0]), two(tokens[0]))
    none = torch.full_like(labels, UNKNOWN)
    plain, unknown = (fitted_embedding(tokens, counts, each) for each in (nothing_known(tokens), none))
    np.testing.assert_array_equal(plain(tokens[0]), unknown(tokens[0]))


def test_few_labelled_pieces_are_enough(monkeypatch):
    """Batches of unlabelled pieces have no label, and no effect."""
    monkeypatch.setattr(likeness, "STEPS", 4)
    tokens, counts = drawn(600, 0).unflatten(0, (100, 6)), torch.full((100,), 6)
    labels = torch.full((100, 6, 1), UNKNOWN)
    labels[0, :, 0] = torch.arange(6) % 2
    assert np.isfinite(fitted_embedding(tokens, counts, labels)(tokens[0])).all()


def test_the_embedding_tells_labels_apart_that_hardly_vary():
    """The label is a small part of the variance, which principal components leave out."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (60, 20, 1), generator=random)
    tokens = 3 * torch.randn(60, 20, NUMBERS, generator=random)
    tokens[..., 36:] = 0.05 * tokens[..., 36:]
    tokens[..., 36:39] += 0.6 * torch.nn.functional.one_hot(labels[..., 0], 3)
    counts, fitted = torch.full((60,), 20), slice(0, 40)

    def spread(labels: Tensor) -> float:
        """Ratio of the variances between and within labels, on held-out pieces."""
        embed = fitted_embedding(tokens[fitted], counts[fitted], labels[fitted])
        rows = embed(tokens[40:].flatten(0, 1))
        known = truth[40:].flatten().numpy()
        centres = np.stack([rows[known == one].mean(0) for one in range(3)])
        return float(centres.var(0).sum() / (rows - centres[known]).var(0).sum())

    truth = labels
    assert spread(labels) > 5 * spread(nothing_known(tokens))


def test_distances_grow_with_what_is_wrong_and_real_tokens_have_the_least():
    tokens = drawn(1000, 0).unflatten(0, (50, 20))
    embed = fitted_embedding(tokens, torch.full((50,), 20), nothing_known(tokens))
    made = Likeness.of(embed, drawn(500, 1), drawn(700, 2))
    assert made is not None and len(made.real) == 500
    same, near, far = (made.distances(drawn(500, 3, shift)) for shift in (0.0, 0.3, 1.0))
    for kind in ("kernel", "frechet"):
        assert same[kind] < near[kind] < far[kind]
    assert abs(made.floor["kernel"]) < 0.3 and made.floor["frechet"] == pytest.approx(same["frechet"], rel=0.2)
    # The Fréchet distance, by SciPy's matrix square root.
    rows = embed(drawn(500, 3, 1.0))
    root = np.real(sqrtm(np.cov(made.real.T) @ np.cov(rows.T)))
    apart = made.real.mean(0) - rows.mean(0)
    expected = apart @ apart + np.trace(np.cov(made.real.T) + np.cov(rows.T) - 2 * root)
    assert far["frechet"] == pytest.approx(expected, rel=1e-4)


def test_too_few_tokens_have_no_distances():
    tokens = drawn(1000, 0).unflatten(0, (50, 20))
    embed = fitted_embedding(tokens, torch.full((50,), 20), nothing_known(tokens))
    assert Likeness.of(embed, drawn(FEWEST - 1, 1), drawn(500, 2)) is None
    assert Likeness.of(embed, drawn(500, 1), drawn(FEWEST - 1, 2)) is None
    assert Likeness.of(embed, torch.zeros(500, NUMBERS), drawn(500, 2)) is None
    few = Likeness.of(embed, drawn(100, 1), drawn(100, 2))
    assert few is not None and np.isfinite(list(few.distances(drawn(30, 3)).values())).all()
