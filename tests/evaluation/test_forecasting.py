"""Forecasts of held-out sound and their baselines, on sequences with known dynamics."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contracts.small import data_for, learner_of
from stub_engine import StubEngine

from sonarium.evaluation import fitting, pieces, predictors
from sonarium.evaluation import forecasting as own
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.forecasting import Rivals, forecasting
from sonarium.evaluation.pieces import Moments, Pieces, everywhere, moments, truth
from sonarium.measures.splits import Split
from sonarium.training.clips import Clips, ClipsConfig


def turning(pieces: int, tokens: int, seed: int, noise: float = 0.0) -> Pieces:
    """Noisy points on a circle, which turn by 0.5 rad per token from a random phase."""
    random = torch.Generator().manual_seed(seed)
    phase = 6.3 * torch.rand(pieces, 1, generator=random) + 0.5 * torch.arange(tokens)
    rows = torch.stack([phase.cos(), phase.sin()], -1)
    rows = rows + noise * torch.randn(rows.shape, generator=random)
    counts = torch.full((pieces,), tokens)
    none = torch.zeros(pieces, tokens, 0)
    return Pieces(rows[..., 0], rows, counts, torch.arange(pieces) % 3, none, none.long())


def test_moments_leave_room_for_the_past_and_the_furthest_horizon():
    some = turning(3, 12, 0)
    some = replace(some, counts=torch.tensor([12, 6, 4]))
    found = moments(some, 2, 4)
    assert list(zip(found.piece.tolist(), found.token.tolist(), strict=True)) == [
        (0, 2), (0, 4), (0, 6), (0, 7), (1, 1),
    ]  # fmt: skip
    assert int(found.token.min()) >= 1 and bool((found.token + 4 < some.counts[found.piece]).all())
    every = everywhere(some, 4)
    assert len(every.token) == 8 + 2 and bool((every.token + 4 < some.counts[every.piece]).all())


def test_linear_ar_finds_a_linear_law_and_persistence_repeats():
    fitted, test = turning(40, 12, 0), turning(6, 12, 1)
    where, ahead = moments(test, 1, 4), (1, 4)
    made = predictors.linear(fitted, ahead)(test, where, ahead).mean
    torch.testing.assert_close(made, truth(test, where, ahead), atol=0.02, rtol=0)
    still = predictors.persistence(test, where, ahead).mean
    assert torch.equal(still[:, 0], test.tokens[where.piece, where.token]) and torch.equal(
        still[:, 0], still[:, 1]
    )


def test_the_gru_learns_what_comes_next(monkeypatch):
    monkeypatch.setattr(fitting, "RATE", 1e-2)
    config = EvaluationConfig(gru_units=24, gru_steps=150)
    fitted, test = turning(40, 12, 0, 0.05), turning(6, 12, 1, 0.05)
    where, ahead = moments(test, 4, 3), (1, 3)
    where = Moments(where.piece, where.token)
    errors = {
        name: (predict(test, where, ahead).mean - truth(test, where, ahead)).square().mean((0, 2))
        for name, predict in (
            ("gru", predictors.recurrent(predictors.trained_gru(fitted, config))),
            ("still", predictors.persistence),
        )
    }
    assert bool((errors["gru"] < 0.3 * errors["still"]).all()), errors


def test_the_true_token_competes_with_the_right_ones():
    test = turning(9, 12, 2)
    where, ahead = moments(test, 1, 5), (2, 5)
    rivals = Rivals.of(test, test, where, ahead)
    for query in (0, 7):
        piece, token = int(where.piece[query]), int(where.token[query])
        for at, horizon in enumerate(ahead):
            near = [token + horizon + step for step in (-3, -2, -1, 1, 2, 3)]
            expected = test.tokens[piece, [one for one in near if 0 <= one < 12]].double().numpy()
            got = rivals.others["near"][query, at]
            np.testing.assert_array_equal(got[: len(expected)], expected)
            assert np.isnan(got[len(expected) :]).all()
            same = [one for one in range(9) if one != piece and one % 3 == piece % 3]
            alike = {tuple(row) for row in test.tokens[same].flatten(0, 1).double().tolist()}
            assert {tuple(row) for row in rivals.others["group"][query, at]} <= alike
            own_rows = {tuple(row) for row in test.tokens[piece].double().tolist()}
            assert not own_rows & {tuple(row) for row in rivals.others["all"][query, at]}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    world = data_for("wave", tmp_path_factory.mktemp("forecasting"))
    split = Split(torch.arange(30), torch.arange(30, 33), torch.arange(33, 54))
    learner: Any = learner_of("dreaming", "wave", world.signal).eval()
    learner.prepare(Clips(world, split.train, ClipsConfig(batch_size=8), 0), StubEngine(0))
    untrained: Any = learner_of("dreaming", "wave", world.signal, seed=9).eval()
    untrained.front.load_state_dict(learner.front.state_dict())
    config = EvaluationConfig(gru_units=8, gru_steps=3)
    train, test = pieces.pieces_of(learner, world, split, config)
    return learner, world, split, forecasting(learner, untrained, own.Fits(train, config), test)


def test_every_score_stands_beside_its_baselines(scored):
    _, _, _, found = scored
    names = ("96 ms", "192 ms")
    assert {key.partition("/")[2] for key in found["scores"] if key.startswith("forecast-")} == set(names)
    beside = ("persistence", "linear_ar", "direct", "hmm", "gru_ar", "shuffled_past", "random")
    for kind in ("near", "group", "all", "likelihood", "distance"):
        for name in names:
            key = f"forecast-{kind}/{name}"
            assert all(np.isfinite(found[who][key]) for who in ("scores", *beside))
            assert (key in found["chance"]) == (kind in ("near", "group", "all"))
        assert found["curves"][f"horizons/{kind}"].keys() >= {"scores", *beside}
    for who in ("scores", "hmm", "gru_ar", "shuffled_past", "random", "copy", "real"):
        assert np.isfinite(found[who]["forecast-kernel/192 ms"]) and found[who]["forecast-frechet/192 ms"] >= 0
    for who in ("persistence", "linear_ar", "direct"):
        assert not any(kind in key for key in found[who] for kind in ("coverage", "kernel", "frechet"))
    assert all(found[who]["state/bits a token"] > 0 for who in ("scores", "n_gram", "hmm", "gru_ar"))
    assert 0 <= found["scores"]["state/share of dead classes"] < 1
    assert 1 <= found["scores"]["state/perplexity of a variable"] <= 3


def test_a_prediction_of_the_truth_is_always_retrieved(scored):
    learner, world, split, _ = scored
    test = pieces.pieces(learner, world, split.test, 20)
    where, ahead = moments(test, 1, 6), (3, 6)
    rivals = Rivals.of(test, test, where, ahead)
    spread = np.full((2, test.tokens.shape[2]), 0.5)
    true = truth(test, where, tuple(range(1, 7)))
    best = rivals.scores(predictors.Predicted(truth(test, where, ahead), true[None]), spread, learner, ahead)
    assert all(
        value == 1 for key, value in best.items() if key.split("-")[1][:4] in ("near", "grou", "all/", "cove")
    )
    assert all(value == 0 for key, value in best.items() if key.startswith("forecast-distance"))
    # Persistence predicts the token three steps before the true one, which is itself one of the rivals.
    still = rivals.scores(predictors.persistence(test, where, ahead), spread, learner, ahead)
    assert still["forecast-near/96 ms"] == 0
    # Noise of the samples makes no difference if their nearest real token stays the same.
    noisy = true[None] + 1e-3 * torch.randn(true[None].shape, generator=torch.Generator().manual_seed(0))
    blurred = rivals.scores(predictors.Predicted(truth(test, where, ahead), noisy), spread, learner, ahead)
    assert blurred["forecast-coverage/96 ms"] == 1
    # Coverage requires sampled futures; persistence has a single forecast.
    assert "forecast-coverage/96 ms" in best and not any("coverage" in key for key in still)


def test_the_shuffled_past_has_the_same_tokens_in_another_order(scored):
    learner, world, split, _ = scored
    test = pieces.pieces(learner, world, split.test, 4)
    made = predictors.out_of_order(test, torch.arange(4), 6, 256, torch.Generator().manual_seed(0))
    tokens = learner.front.tokens(learner.front(made))
    for row in range(4):
        one, other = (sorted(map(tuple, rows.tolist())) for rows in (tokens[row], test.tokens[row, :6]))
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert not torch.allclose(tokens, test.tokens[:, :6], atol=1e-3)


def test_what_is_read_directly_is_the_state_of_what_was_heard(scored):
    learner, world, split, _ = scored
    test = pieces.pieces(learner, world, split.test, 4)
    where, size = moments(test, 1, 4), learner.front.shortest
    given = predictors.of_learner(learner)(test, where)
    for query in range(0, len(where.token), 3):
        piece, heard = int(where.piece[query]), int(where.token[query]) + 1
        cut = learner.states(test.signal[piece : piece + 1, : heard * size])[0, -1]
        np.testing.assert_allclose(given[query], cut.double().numpy(), atol=1e-5)


def test_pieces_that_are_too_short_are_noted(scored, monkeypatch):
    learner, world, split, _ = scored
    for module in (own, pieces):
        monkeypatch.setattr(module, "HORIZONS", (9.0,))
    train, test = pieces.pieces_of(learner, world, split)
    found = forecasting(learner, None, own.Fits(train), test)
    assert not found["scores"] and "shorter than the burn-in and 9000 ms" in found["notes"][0]


def test_pieces_that_errors_are_known_from_may_be_too_short(scored):
    """Without an estimate of the error variance nothing is scored."""
    learner, world, split, _ = scored
    train, test = pieces.pieces_of(learner, world, split)
    short = torch.arange(len(train.counts)) % pieces.WATCHED == pieces.WATCHED - 1
    train = replace(train, counts=train.counts.where(~short, max(1, learner.burn_in)))
    found = forecasting(learner, None, own.Fits(train), test)
    assert not found["scores"] and "shorter than the burn-in" in found["notes"][0]
