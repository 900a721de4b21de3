"""Steering, on tokens whose numbers are known functions of an action."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contracts.small import SEED, config_of, ignore, learner_config
from stub_engine import StubEngine

from sonarium.catalogue import MODELS, WORLDS
from sonarium.evaluation import pitching
from sonarium.evaluation import steering as own
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.forecasting import Fits
from sonarium.evaluation.pieces import Moments, Pieces, chosen_clips, pieces
from sonarium.evaluation.splits import split_world
from sonarium.training.clips import Clips, ClipsConfig


def planted(pieces: int, seed: int) -> Pieces:
    """Tokens on a circle whose angle is the action; column 0 of the actions is a constant flag."""
    random = torch.Generator().manual_seed(seed)
    walk = 0.4 * torch.randn(pieces, 20, 1, generator=random)
    action = (walk + 0.8 * torch.randn(pieces, 1, 1, generator=random)).clamp(-1.4, 1.4)
    tokens = torch.cat([action.cos(), action.sin()], -1)
    actions = torch.cat([torch.ones_like(action), action], -1)
    counts, none = torch.full((pieces,), 20), torch.zeros(pieces, 20, 0, dtype=torch.long)
    return Pieces(tokens[..., 0], tokens, counts, torch.arange(pieces), actions, none)


def response(make: Any, test: Pieces, come: Any, estimator: Any, name: str) -> dict[str, float]:
    """Response to shifts of the action in column 1."""
    moved = own.shifts(test, come, 1)
    made = [make(test.actions), *(make(own.with_shift(test, come, 1, one)) for one in moved)]
    return own.responses(made, moved, come, estimator, name)


@pytest.fixture(scope="module")
def setting() -> Any:
    fitted, test = planted(80, 0), planted(12, 1)
    where = Moments(torch.arange(12), torch.tensor([5, 9]).repeat(6))
    come = own.Coming(where, where.token[:, None] + 1 + torch.arange(4), torch.ones(12, 4, dtype=torch.bool))
    return fitted, test, come, own.ActionEstimator.of(fitted, 1)


def test_what_is_heard_is_the_action_of_real_tokens(setting):
    _, test, _, estimator = setting
    heard = estimator.estimate(test.tokens.flatten(0, 1).double().numpy())
    np.testing.assert_allclose(heard, test.actions[..., 1].flatten().numpy(), atol=0.06)


def test_one_who_obeys_has_slope_and_correlation_of_1_and_one_who_does_not_has_none(setting):
    _, test, come, estimator = setting

    def obeys(actions: Any) -> Any:
        angle = actions[come.rows][..., 1]
        return torch.stack([angle.cos(), angle.sin()], -1)

    found = response(obeys, test, come, estimator, "angle")
    assert found["steering/correlation of angle"] == pytest.approx(1, abs=0.02)
    assert found["steering/slope of angle"] == pytest.approx(1, abs=0.05)
    deaf = response(lambda _: obeys(test.actions), test, come, estimator, "angle")
    assert set(deaf.values()) == {0.0}
    contrary = own.agreement("angle", np.array([1.0, -2.0]), np.array([-0.5, 1.0]))
    assert contrary == {"steering/correlation of angle": pytest.approx(-1), "steering/slope of angle": -0.5}


def test_baselines_that_know_the_actions_obey(setting):
    fitted, test, come, estimator = setting
    fits = Fits(fitted, EvaluationConfig(gru_units=16, gru_steps=150))
    for make in (own.of_actions(fitted, test, come), own.of_gru(fits, test, come)):
        found = response(make, test, come, estimator, "angle")
        assert found["steering/correlation of angle"] > 0.9
        assert 0.7 < found["steering/slope of angle"] < 1.3


def test_shifts_stay_within_what_the_pieces_have_and_silence_does_not_count(setting):
    _, test, come, estimator = setting
    seen = []

    def watch(actions: Any) -> Any:
        seen.append(actions[..., 1])
        return test.tokens[come.rows]

    response(watch, test, come, estimator, "angle")
    low, high = float(test.actions[..., 1].min()), float(test.actions[..., 1].max())
    assert len(seen) == 1 + len(own.SHIFTS)
    assert all(low <= float(one.min()) and float(one.max()) <= high for one in seen)
    values = torch.tensor([[1.0, 5.0], [2.0, 2.0]], dtype=torch.double)
    sounds = torch.tensor([[True, False], [False, False]])
    np.testing.assert_array_equal(own.over(values, sounds), [1.0])


@pytest.fixture(scope="module")
def birds(tmp_path_factory) -> Any:
    world: Any = WORLDS["songbird"].build(config_of("songbird", tmp_path_factory.mktemp("birds")), SEED, ignore)
    entry = MODELS["dreaming"]
    config = replace(learner_config("dreaming", "wave"), actions=("tension",))
    learner: Any = entry.build(entry.complete(config, world, 10), world.signal).eval()
    split = split_world(world, 0, 0.4)
    learner.prepare(Clips(world, split.train, ClipsConfig(batch_size=8), 0), StubEngine(0))
    with torch.no_grad():
        fitted, test = (pieces(learner, world, part, 40) for part in (split.train, split.test))
    return world, learner, fitted, test, chosen_clips(world, split.test, 40)


@pytest.mark.parametrize("renders", [True, False])
def test_a_model_of_birds_is_steered_by_tension(birds, monkeypatch, renders):
    world, learner, fitted, test, clips = birds
    if not renders:
        monkeypatch.setattr(world, "remade", lambda *_: None)
    monkeypatch.setattr(pitching, "MOST", 6)
    fits = Fits(fitted, EvaluationConfig(gru_units=4, gru_steps=2))
    found = own.steering(learner, fits, test, world, clips)
    assert found.keys() == {"scores", "gru_ar", "actions_alone", "real"}
    for scores in found.values():
        assert scores.keys() == {
            f"steering/{name} of {what}"
            for name in ("correlation", "slope") for what in ("tension", "pitch by tension")
        }  # fmt: skip
        assert np.isfinite(list(scores.values())).all()
    # Tension can be estimated from the sound of a bird.
    assert found["real"]["steering/correlation of tension"] > 0.5
