"""Next labels of sampled continuations, on sentences of pure tones, whose labels a probe cannot confuse."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contracts.small import SEED, config_of, ignore, learner_of
from stub_engine import StubEngine

from sonarium.catalogue import WORLDS
from sonarium.evaluation import continuations as own
from sonarium.evaluation import fitting
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.fitting import TokenHMM
from sonarium.evaluation.forecasting import Fits
from sonarium.evaluation.pieces import pieces
from sonarium.evaluation.splits import split_world
from sonarium.training.clips import Clips, ClipsConfig


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> Any:
    config = replace(config_of("sentences", tmp_path_factory.mktemp("continuations")), longest=5, sets=3)
    world: Any = WORLDS["sentences"].build(config, SEED, ignore)
    split = split_world(world, 0, 0.4)
    learner: Any = learner_of("dreaming", "wave", world.signal).eval()
    learner.prepare(Clips(world, split.train, ClipsConfig(batch_size=8), 0), StubEngine(0))
    with torch.no_grad():
        return (
            learner,
            world,
            split,
            own.whole_clips(learner, world, split.train),
            own.whole_clips(learner, world, split.test),
        )


def test_moments_are_ends_of_segments_with_their_planted_continuations(setting):
    learner, world, _, _, test = setting
    where = own.ends(learner, world, test)
    assert len(where.true) > 4
    clips, heard = where.where.piece.tolist(), (where.where.token + 1).tolist()
    for clip, tokens, planted, true in zip(clips, heard, where.planted, where.true, strict=True):
        number, seconds = int(test.index[clip]), tokens / learner.code_rate
        said = world.segments(number)
        at = next(at for at, (_, offset, _) in enumerate(said) if abs(offset - seconds) <= 0.5 / learner.code_rate)
        assert said[at + 1][2] == world.label_names[true] and planted[true] > 0
        words = [label for *_, label in said]
        after, before = (world.grammar_of(number).log_probability(words[: at + n]) for n in (2, 1))
        assert planted[true] == pytest.approx(np.exp(after - before)) and planted.sum() == pytest.approx(1)


def test_a_grammar_of_some_of_the_labels_is_set_beside_all(setting, monkeypatch):
    """As with several birds that each have their own syllables."""
    learner, world, _, _, test = setting
    plain = own.ends(learner, world, test)
    names = ("never sung", *world.label_names)
    monkeypatch.setattr(world, "label_names", names)
    found = own.ends(learner, world, test)
    np.testing.assert_array_equal(found.planted[:, 1:], plain.planted)
    assert not found.planted[:, 0].any() and (found.true == plain.true + 1).all()


def test_the_probe_knows_true_continuations_and_counts_each_sample(setting):
    learner, world, _, train, test = setting
    where, steps = own.ends(learner, world, test), own.longest(train.marks, learner.code_rate)
    ear, front = own.Ear.of(learner, train, world.label_names), learner.front
    real, found = own.recognised(test.tokens, test.counts, where, steps, ear)
    assert (found == where.true).all()
    assert real["share recognised"] == 1 and real["certainty"] > 0.9 and real["share of clear ones"] > 0.6

    def draw(clip: Any, tokens: int, steps: int, generator: Any) -> Any:
        return test.tokens[clip, tokens : tokens + steps].expand(own.SAMPLES, -1, -1, -1)

    counts, heard = own.drawn_labels(draw, where, steps, ear)
    assert (counts[np.arange(len(where.true)), where.true] == own.SAMPLES).all()
    assert counts.sum() == own.SAMPLES * len(where.true) and heard["certainty"] > 0.9
    assert heard["share of clear ones"] > 0.6

    def blurred(clip: Any, tokens: int, steps: int, generator: Any) -> Any:
        """The mean of all sounds, plus noise, as an uninformed model would sample."""
        mean = train.tokens[:, :8].mean((0, 1)).expand(own.SAMPLES, len(clip), steps, -1)
        return mean + 0.1 * torch.randn(mean.shape, generator=generator)

    assert own.drawn_labels(blurred, where, steps, ear)[1]["share of clear ones"] < 0.1
    counts, heard = own.drawn_labels(
        lambda clip, *_: torch.zeros(own.SAMPLES, len(clip), 0, front.width), where, steps, ear
    )
    assert counts.sum() == 0 and set(heard.values()) == {0.0}


def test_a_hidden_markov_model_goes_on_from_where_it_is(setting):
    _, _, _, train, test = setting
    draw = own.of_hmm(TokenHMM.of(train.tokens, train.counts), test)
    made = draw(torch.tensor([0, 2]), 8, 3, torch.Generator().manual_seed(0))
    assert made.shape == (own.SAMPLES, 2, 3, train.tokens.shape[2]) and bool(made.isfinite().all())
    again = draw(torch.tensor([0, 2]), 8, 3, torch.Generator().manual_seed(0))
    assert torch.equal(made, again)
    # Mostly the sound of the previous token continues.
    far = (train.tokens[:, :20].mean((0, 1)) - test.tokens[0, 7]).square().mean()
    assert (made[:, 0, 0].mean(0) - test.tokens[0, 7]).square().mean() < far


def test_every_score_stands_beside_its_baselines(setting, monkeypatch):
    learner, world, split, *_ = setting
    for module, name, value in ((fitting, "STATES", (8,)), (own, "MOMENTS", 4), (own, "CLIPS", 8)):
        monkeypatch.setattr(module, name, value)
    fits = Fits(pieces(learner, world, split.train, 20), EvaluationConfig(gru_steps=2))
    found = own.continuations(learner, learner, world, split, fits)
    assert set(found) == {"scores", "hmm", "gru_ar", "random", "planted", "real", "copy"}
    assert found["scores"] == found["random"]
    for name in ("scores", "hmm", "gru_ar", "planted", "real", "copy"):
        assert {"next/excess bits", "next/entropy in bits", "next/coverage of 8"} <= found[name].keys()
    for name in ("scores", "hmm", "gru_ar", "random", "real", "copy"):
        assert 0 <= found[name]["next/share of clear ones"] <= 1
    assert found["planted"]["next/excess bits"] < found["scores"]["next/excess bits"]
