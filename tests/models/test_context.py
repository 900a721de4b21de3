"""Context networks are causal; attention and recurrence against their definitions, frame by frame."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from typechecking import unchecked

from sonarium.models.cpc.context import CausalLayer, Context, ContextConfig
from sonarium.models.cpc.cpc import PredictorConfig, Predictors
from sonarium.models.scanned import recur

NETWORKS = ("gru", "lstm", "transformer")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("given", [8, 5])
def test_nothing_that_comes_later_is_heard(network, given):
    torch.manual_seed(0)
    context = Context(ContextConfig(network, width=8, depth=2, heads=2, reach=3), given).double()
    latents = torch.randn(2, 7, given, dtype=torch.double, requires_grad=True)
    made = context(latents)
    assert made.shape == (2, 7, 8)
    for time in range(7):
        # A weighted sum, because normalisation keeps the plain sum at zero.
        (gradient,) = torch.autograd.grad(made[0, time] @ torch.arange(8.0).double(), latents, retain_graph=True)
        heard = gradient.abs().sum(-1) > 0
        assert heard[0, : time + 1].all() and not heard[0, time + 1 :].any() and not heard[1].any()
    torch.testing.assert_close(context(latents[:, :4]), made[:, :4])


def test_attention_is_its_definition():
    torch.manual_seed(0)
    layer = CausalLayer(6, heads=2, reach=3, hidden=5).double()
    frames = torch.randn(2, 5, 6, dtype=torch.double)
    with torch.no_grad():
        q, k, v = layer.asked(frames), layer.known(frames), layer.told(frames)
        heard = torch.zeros(2, 5, 6, dtype=torch.double)
        for clip in range(2):
            for head in (slice(0, 3), slice(3, 6)):
                for i in range(5):
                    scores = []
                    for j in range(i + 1):
                        distance = layer.distance[min(i - j, 2)]
                        scores.append(float(q[clip, i, head] @ (k[clip, j, head] + distance)) / math.sqrt(3))
                    weights = torch.tensor(scores, dtype=torch.double).softmax(0)
                    heard[clip, i, head] = sum(w * v[clip, j, head] for j, w in enumerate(weights))
        attended = layer.attended(frames + layer.joined(heard))
        torch.testing.assert_close(layer(frames), layer.thought(attended + layer.think(attended)))


def test_attention_is_the_same_one_frame_at_a_time():
    torch.manual_seed(0)
    layer = CausalLayer(6, heads=2, reach=3, hidden=5).double()
    frames = torch.randn(2, 7, 6, dtype=torch.double)
    made, memory = layer.read(frames[:, :2])
    found = [made]
    for time in range(2, 7):
        made, memory = layer.read(frames[:, time : time + 1], memory)
        found.append(made)
    torch.testing.assert_close(torch.cat(found, 1), layer(frames))
    torch.testing.assert_close(layer.read(frames[:, :1])[0], layer(frames)[:, :1])


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_recurrence_step_by_step_is_torchs(kind, both):
    torch.manual_seed(0)
    network = kind(3, 4, 2, batch_first=True, bidirectional=both).double()
    frames = torch.randn(2, 6, 3, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(recur(network, frames), network(frames)[0])


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (PredictorConfig("linear", steps_ahead=3), 3 * 16 * 6),
        (PredictorConfig("linear", steps_ahead=3, predictor_bias=True), 3 * (16 * 6 + 6)),
        (PredictorConfig("mlp", steps_ahead=3, units=5), 3 * (16 * 5 + 5 + 5 * 6 + 6)),
        (
            PredictorConfig("transformer", steps_ahead=2, span=4),
            2 * (4 * 16 * 16 + 4 * 2 + 4 * 16 + 2 * 16 * 2048 + 2048 + 16 + 16 * 6),
        ),
    ],
)
def test_predictors_have_their_weights_and_the_last_guess_is_the_last(config, parameters):
    torch.manual_seed(0)
    predictors = Predictors(config, 16, 6)
    assert sum(weight.numel() for weight in predictors.parameters()) == parameters
    context = torch.randn(2, 5, 16)
    guesses = predictors(context)
    assert guesses.shape == (2, 5, config.steps_ahead, 6)
    torch.testing.assert_close(predictors(context, last=True), guesses[:, -1:])
    assert not torch.equal(guesses[:, :, 0], guesses[:, :, 1])


def test_a_linear_guess_is_its_own_matrix():
    torch.manual_seed(0)
    predictors = Predictors(PredictorConfig("linear", steps_ahead=3), 4, 2)
    assert isinstance(predictors.layers, nn.Linear)
    context = torch.randn(1, 1, 4)
    for step in range(3):
        expected = predictors.layers.weight[2 * step : 2 * step + 2] @ context[0, 0]
        torch.testing.assert_close(predictors(context)[0, 0, step], expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": "rnn"}, "network='rnn': give gru, lstm or transformer"),
        ({"width": 0}, "width=0: give a whole number from 1 to 16384"),
        ({"depth": 0}, "depth=0"),
        ({"network": "transformer", "width": 10, "heads": 4}, "width=10 is not a multiple of heads=4"),
    ],
)
def test_impossible_contexts_are_refused(changed, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        replace(ContextConfig(), **changed)


@pytest.mark.parametrize(
    ("changed", "message"), [({"form": "tree"}, "form='tree'"), ({"steps_ahead": 0}, "steps_ahead=0")]
)
def test_impossible_predictors_are_refused(changed, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        replace(PredictorConfig(), **changed)
