"""Codebooks against computations by hand."""

import math
from dataclasses import replace

import pytest
import torch
from stub_engine import StubEngine

from sonarium.features.pixels import PixelsConfig
from sonarium.models.vqvae import VQVAE, Codebooks, VQVAEConfig, perplexity
from sonarium.worlds.contract import Batch, Signal

SMALL = VQVAEConfig(slots=2, dimension=3, entries=5, decay=0.8, network="dense", front=PixelsConfig())


def vectors(clips: int = 40) -> torch.Tensor:
    return torch.randn(clips, 2, 3, generator=torch.Generator().manual_seed(0))


def started() -> Codebooks:
    books = Codebooks(SMALL)
    books.start(vectors(), torch.Generator().manual_seed(1))
    return books


def test_each_vector_goes_to_the_nearest_entry_of_its_own_slot():
    books, given = started(), vectors()
    index = books.nearest(given)
    for clip in range(len(given)):
        for slot in range(2):
            distances = (books.entries[slot] - given[clip, slot]).norm(dim=1)
            assert index[clip, slot] == distances.argmin()
            assert torch.equal(books.look_up(index)[clip, slot], books.entries[slot, index[clip, slot]])


def test_entries_follow_by_moving_averages():
    books, given = started(), vectors()
    index = books.nearest(given)
    uses, sums = books.uses.clone(), books.sums.clone()
    books.follow(given, index, torch.Generator().manual_seed(2))
    for slot in range(2):
        for entry in range(5):
            mine = given[index[:, slot] == entry, slot]
            expected_uses = 0.8 * uses[slot, entry] + 0.2 * len(mine)
            expected = (0.8 * sums[slot, entry] + 0.2 * mine.sum(0)) / expected_uses
            torch.testing.assert_close(books.entries[slot, entry], expected)


def test_entries_settle_at_the_means_of_clusters():
    centres = torch.tensor([[-4.0, 0, 0], [4.0, 0, 0], [0, 4.0, 0], [0, -4.0, 0], [0, 0, 4.0]])
    generator = torch.Generator().manual_seed(3)
    books = started()
    books.entries.copy_(centres + torch.rand(2, 5, 3, generator=generator))
    books.sums.copy_(books.entries * books.uses[..., None])
    for _ in range(100):
        chosen = torch.randint(5, (64, 2), generator=generator)
        given = centres[chosen] + 0.1 * torch.randn(64, 2, 3, generator=generator)
        books.follow(given, books.nearest(given), generator)
    for slot in range(2):
        nearest = torch.cdist(centres, books.entries[slot]).min(1).values
        assert nearest.max() < 0.1


def test_an_entry_that_nothing_uses_is_revived_at_a_vector_of_the_batch():
    books, given = started(), vectors()
    books.entries[0, 2] = 1000.0
    books.uses[0, 2] = 1e-6
    revived = books.follow(given, books.nearest(given), torch.Generator().manual_seed(4))
    assert revived == 1
    assert (given[:, 0] - books.entries[0, 2]).norm(dim=1).min() < 1e-4


@pytest.mark.parametrize(("index", "expected"), [([0, 1, 2, 3], 4.0), ([2, 2, 2, 2], 1.0), ([0, 0, 1, 1], 2.0)])
def test_perplexity_counts_entries_used_evenly(index, expected):
    assert perplexity(torch.tensor(index)[:, None], 8).item() == pytest.approx(expected)


def test_perplexity_of_an_uneven_use():
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert perplexity(torch.tensor([[0], [0], [0], [5]]), 8).item() == pytest.approx(expected)


def test_the_gradient_passes_the_quantisation_and_codes_are_entries():
    learner = VQVAE(SMALL, Signal("picture", (4, 4)))
    pictures = torch.rand(32, 4, 4, generator=torch.Generator().manual_seed(5))
    nothing = torch.empty(32, 0)
    before = [p.detach().clone() for p in learner.encoder.parameters()]
    learner.update(Batch(torch.arange(32), pictures, nothing), StubEngine())
    assert any(not torch.equal(a, b) for a, b in zip(before, learner.encoder.parameters(), strict=True))
    codes = learner.encode(pictures).reshape(32, 2, 3)
    for slot in range(2):
        same = codes[:, slot, None] == learner.codebooks.entries[slot]
        assert same.all(2).any(1).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"slots": 0}, "slots=0: give a whole number from 1 to 16384"),
        ({"slots": 10**6}, "slots=1000000"),
        ({"dimension": 0}, "dimension=0"),
        ({"dimension": 8193}, "dimension=8193: give 1 or more, at most 16384 in all slots together"),
        ({"entries": 0}, "entries=0"),
        ({"entries": 699_051}, "entries=699051: give a whole number from 1 to 699050"),
        ({"decay": 1.0}, "decay=1.0"),
        ({"commitment": math.nan}, "commitment=nan"),
        ({"revival": 0.0}, "revival=0.0"),
        ({"learning_rate": math.nan}, "learning_rate=nan: give a positive number"),
    ],
)
def test_impossible_codebooks_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changed)
