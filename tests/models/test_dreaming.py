"""Dreaming against its publication, item by item: the contrasts, which losses train which parameters, and what
the states do not depend on."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contracts.small import dreaming as smaller
from stub_engine import StubEngine
from torch.nn import functional

from sonarium.features.tokens import LogMelTokens
from sonarium.features.waveform import sounding
from sonarium.models.contrast import ContrastConfig, contrast
from sonarium.models.dreaming import Dreaming, DreamingConfig
from sonarium.models.latent import Categorical
from sonarium.models.objectives import Dream, Observed, Twister, alike, correlation, kl
from sonarium.models.rssm import Rollout
from sonarium.worlds.contract import Batch, Signal

RATE, TOKENS, CLIPS = 8000, 10, 4
SIGNAL = Signal("wave", (TOKENS * 256,), RATE)
TINY: DreamingConfig = smaller(DreamingConfig())


def changed(**parts: dict[str, Any]) -> DreamingConfig:
    """The tiny configuration with changed settings of its parts; top-level settings under `top`."""
    top = parts.pop("top", {})
    return replace(TINY, **top, **{name: replace(getattr(TINY, name), **own) for name, own in parts.items()})


def batch(seed: int = 0, lengths: list[int] | None = None) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    signal = 0.1 * torch.randn(CLIPS, SIGNAL.shape[0], generator=generator, dtype=torch.double).cumsum(1).sin()
    own = None if lengths is None else torch.tensor(lengths)
    tracks = torch.randn(CLIPS, 40, 1, generator=generator, dtype=torch.double)
    return Batch(torch.arange(CLIPS), signal, torch.zeros(CLIPS, 1).double(), lengths=own, tracks=tracks)


def learner(config: DreamingConfig = TINY) -> Dreaming:
    torch.manual_seed(0)
    made = Dreaming(config, SIGNAL).double()
    made.front.fit_batches([batch()])
    return made


def observed(own: Dreaming, data: Batch | None = None, seed: int = 0) -> Observed:
    return own.observed(data or batch(), StubEngine(seed))[0]


def gradients(loss: torch.Tensor, own: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Nonzero gradients, by name of the parameter."""
    named = dict(own.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {name: one for name, one in zip(named, found, strict=True) if one is not None and bool(one.any())}


ALL = changed(objective={"overshoot": "all", "alike_below": 0.0}, top={"burn_in": 0})


@pytest.mark.parametrize("critic", ["bilinear", "categorical"])
def test_observations_compete_for_a_fixed_predicted_state(critic):
    """J_k^NCE by definition: log f(z̃_t, x_t) − log Σ over all tokens x' of the batch of f(z̃_t, x')."""
    own = learner(replace(ALL, objective=replace(ALL.objective, critic=critic)))
    data = batch(0, [TOKENS * 256, 1300, 2000, 600])
    found = observed(own, data)
    objective = own.objective
    assert isinstance(objective, Dream)
    _, terms = objective(found, own.dynamics, StubEngine(1))
    tilde: Any = objective.tilde.network
    keys = objective.critic(found.target)
    z, ahead = found.rollout.z, []
    for k in range(4):
        if k:
            z = z[:, : TOKENS - k] @ tilde.weight.T + tilde.bias
        state = z
        if critic == "categorical":
            shaped = keys.view(CLIPS, TOKENS, 2, 3).log_softmax(-1).flatten(2)
            state = z if not k else z.view(CLIPS, TOKENS - k, 2, 3).softmax(-1).flatten(2)
        else:
            shaped = keys
        every = torch.cat([shaped[other, : int(found.counts[other])] for other in range(CLIPS)])
        losses = []
        for clip in range(CLIPS):
            for t in range(k, int(found.counts[clip])):
                scores = every @ state[clip, t - k]
                losses.append(scores.logsumexp(0) - state[clip, t - k] @ shaped[clip, t])
        ahead.append(torch.stack(losses).mean())
    torch.testing.assert_close(terms["contrast/loss"], ahead[0])
    torch.testing.assert_close(terms["contrast/loss_ahead"], torch.stack(ahead[1:]).mean())


TENSION = "tension:track:0:1:125.0"


def acting(**parts: dict[str, Any]) -> DreamingConfig:
    """Configuration with one action, which is known in every clip."""
    top = {"actions": (TENSION,), "action_dropout": 0.0, "burn_in": 0, **parts.pop("top", {})}
    objective = {"overshoot": "all", "alike_below": 0.0, **parts.pop("objective", {})}
    return changed(top=top, objective=objective, **parts)


LENGTHS = [TOKENS * 256, 1300, 2000, 1100]


def pairs(counts: torch.Tensor, ahead: int) -> list[tuple[int, int]]:
    """Clip and token of each target that is `ahead` tokens after a state."""
    return [(clip, t) for clip, count in enumerate(counts.tolist()) for t in range(ahead, count)]


def nce(own: torch.Tensor, others: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([own, *others]).logsumexp(0) - own


def test_predictions_take_the_action_of_each_token_that_they_reach():
    """By definition, pair by pair: z̃_t = W_z z̃_{t−1} + W_a a_t + b, from z_{t−k}, and its J_k^NCE."""
    own, data = learner(acting()), batch(0, LENGTHS)
    found = observed(own, data)
    objective, actions = own.objective, own.actions(data, TOKENS)
    assert isinstance(objective, Dream)
    torch.testing.assert_close(found.rollout.actions, actions)
    _, terms = objective(found, own.dynamics, StubEngine(1))
    tilde: Any = objective.tilde.network
    of_z, of_action = tilde.weight.split([6, own.actions.width], 1)
    keys, every, losses = objective.critic(found.target), pairs(found.counts, 0), []
    for k in (1, 2, 3):
        each = []
        for clip, t in pairs(found.counts, k):
            z = found.rollout.z[clip, t - k]
            for at in range(t - k + 1, t + 1):
                z = of_z @ z + of_action @ actions[clip, at] + tilde.bias
            others = [keys[pair] @ z for pair in every if pair != (clip, t)]
            each.append(nce(keys[clip, t] @ z, others))
        losses.append(torch.stack(each).mean())
    torch.testing.assert_close(terms["contrast/loss_ahead"], torch.stack(losses).mean())


def test_twister_predicts_directly_from_the_actions_up_to_each_token():
    steps, discount = 3, 0.5
    config = acting(objective={"objective": "twister", "direct_steps": steps, "direct_discount": discount})
    own, data = learner(config), batch(0, LENGTHS)
    found = observed(own, data)
    actions, objective = own.actions(data, TOKENS), own.objective
    assert isinstance(objective, Twister)
    loss, _ = objective(found, own.dynamics, StubEngine(1))
    unit = functional.normalize(found.target, dim=-1)
    every, losses = pairs(found.counts, 0), []
    for k, layer in enumerate(objective.layers, 1):
        each = []
        for clip, t in pairs(found.counts, k):
            come = [actions[clip, at] for at in range(t - k + 1, t + 1)]
            made = functional.normalize(layer(torch.cat([found.rollout.feature[clip, t - k], *come])), dim=0)
            others = [unit[pair] @ made / 0.1 for pair in every if pair != (clip, t)]
            each.append(nce(unit[clip, t] @ made / 0.1, others))
        losses.append(discount ** (k - 1) * torch.stack(each).mean())
    torch.testing.assert_close(loss, sum(losses) / sum(discount**k for k in range(steps)))


def barlow_twins(rows: list[torch.Tensor], others: list[torch.Tensor]) -> tuple[float, float]:
    """Barlow Twins loss and mean of the diagonal, element by element."""
    one, other = (torch.stack(side).detach().numpy() for side in (rows, others))
    loss, diagonal = 0.0, []
    for i in range(one.shape[1]):
        for j in range(other.shape[1]):
            cross = np.corrcoef(one[:, i], other[:, j])[0, 1]
            loss += (1 - cross) ** 2 if i == j else 5e-3 * cross**2
            diagonal += [cross] if i == j else []
    return loss, float(np.mean(diagonal))


@pytest.mark.parametrize(("name", "ahead"), [("barlow", 0), ("embedding", 1)])
def test_barlow_is_of_the_tokens_own_embedding_and_embedding_of_the_next(name, ahead):
    own, data = learner(acting(objective={"objective": name})), batch(0, LENGTHS)
    found = observed(own, data)
    objective: Any = own.objective
    # So large that the 1e-6 under the root is negligible.
    found, last = replace(found, target=100 * found.target), objective.predict[-1] if ahead else objective.project
    last.weight.data *= 100
    loss, terms = objective(found, own.dynamics, StubEngine(1))
    actions, made, targets = own.actions(data, TOKENS), [], []
    for clip, t in pairs(found.counts, ahead):
        feature = found.rollout.feature[clip, t - ahead]
        made.append(
            objective.predict(torch.cat([feature, actions[clip, t]])) if ahead else objective.project(feature)
        )
        targets.append(found.target[clip, t])
    expected, diagonal = barlow_twins(made, targets)
    assert torch.autograd.grad(loss, found.target, retain_graph=True, allow_unused=True) == (None,)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(terms["barlow/correlation"].detach()) == pytest.approx(diagonal, abs=1e-5)


def test_predictions_are_open_loop():
    """A prediction k tokens ahead depends on the state it starts from, and on none before or after that."""
    own = learner(ALL)
    found = observed(own)
    objective = own.objective
    assert isinstance(objective, Dream)
    z = found.rollout.z.detach().requires_grad_()
    rollout = replace(found.rollout, z=z)
    noise = torch.zeros(CLIPS, TOKENS, 3, 2)
    for k, prediction in enumerate(objective.tilde(rollout, [], 3, noise), 1):
        (reached,) = torch.autograd.grad(prediction[:, 4].sum(), z, retain_graph=True)
        assert reached[:, :4].abs().sum() == 0 and reached[:, 5:].abs().sum() == 0 and bool(reached[:, 4].any()), k


def test_the_predictor_is_linear_and_apart_from_the_prior():
    own = learner(ALL)
    objective = own.objective
    assert isinstance(objective, Dream)
    one, other = torch.randn(2, CLIPS, TOKENS, 6, dtype=torch.double)
    noise = torch.zeros(CLIPS, TOKENS, 3, 2)
    actions = torch.zeros(CLIPS, TOKENS, 0).double()

    def ahead(z: torch.Tensor) -> torch.Tensor:
        return objective.tilde(Rollout(z, z, z, z, actions), [], 3, noise)[2]

    zero = ahead(torch.zeros_like(one))
    torch.testing.assert_close(
        ahead(2 * one - 3 * other) - zero, 2 * (ahead(one) - zero) - 3 * (ahead(other) - zero)
    )
    found = observed(own)
    _, terms = objective(found, own.dynamics, StubEngine(1))
    contrastive = gradients(terms["contrast/loss"] + terms["contrast/loss_ahead"], own)
    divergent = gradients(terms["kl/ahead"], own)
    assert any(name.startswith("objective.tilde") for name in contrastive)
    assert not any(name.startswith("dynamics.prior") for name in contrastive)
    assert any(name.startswith("dynamics.prior") for name in divergent)
    assert not any(name.startswith("objective") for name in divergent)


def test_gradients_reach_the_encoder_from_both_sides():
    own = learner(ALL)
    found = observed(own)
    input_side = replace(found, target=found.target.detach())
    target_side = replace(found, rollout=Rollout(*(part.detach() for part in vars(found.rollout).values())))
    for side in (input_side, target_side):
        _, terms = own.objective(side, own.dynamics, StubEngine(1))
        for name in ("contrast/loss", "contrast/loss_ahead"):
            assert any(one.startswith("encoder") for one in gradients(terms[name], own)), name


def test_the_two_views_are_augmented_independently():
    own, data = learner(), batch()
    features, counts = own.features(data), torch.full((CLIPS,), TOKENS)
    one, other = own.views((features, features), counts, StubEngine(0))
    again, _ = own.views((features, features), counts, StubEngine(0))
    third, _ = own.views((features, features), counts, StubEngine(1))
    assert other is not None
    assert not torch.equal(one, other) and torch.equal(one, again) and not torch.equal(one, third)
    single = learner(changed(augmentation={"views": 1}))
    given, other = single.views((features, features), counts, StubEngine(0))
    assert other is None and torch.equal(given, single.front.tokens(features))


def test_babble_is_another_in_each_view_and_is_what_the_decoder_learns():
    quiet, own, data = learner(), learner(changed(augmentation={"babble_db": 0.0})), batch()
    clear = own.features(data)
    one, other = own.in_babble(clear, StubEngine(0))
    again, _ = own.in_babble(clear, StubEngine(0))
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, clear)
    assert all(torch.equal(same, clear) for same in quiet.in_babble(clear, StubEngine(0)))
    _, tokens, _ = own.observed(data, StubEngine(0))
    torch.testing.assert_close(tokens, own.front.tokens(one)[:, own.burn_in :])
    with pytest.raises(ValueError, match="give a batch size of 2 or more"):
        own.in_babble(clear[:1], StubEngine(0))
    # The minimum keeps a last batch of validation from being a single clip.
    assert (quiet.minimum_batch_size, own.minimum_batch_size) == (1, 2)


def test_babble_may_be_of_any_level_in_a_range():
    """The signal-to-noise ratio follows from the power that is added to a view."""
    own = learner(changed(augmentation={"babble_db": -5.0, "babble_up_to_db": 15.0}))
    clear, front = own.features(batch()), own.front
    assert isinstance(front, LogMelTokens)

    def power(features: torch.Tensor) -> torch.Tensor:
        return (10 ** (front.unscaled(features[:, 0]) / 10)).mean((1, 2))

    views = [view for seed in range(20) for view in own.in_babble(clear, StubEngine(seed))]
    snr = torch.cat([10 * torch.log10(power(clear) / (power(view) - power(clear))) for view in views])
    assert -5.01 < snr.min() < -3 and 13 < snr.max() < 15.01 and abs(snr.mean() - 5) < 2
    one, other = own.in_babble(clear, StubEngine(0))
    assert not torch.allclose(power(one), power(other), rtol=0.01)
    for lowest in (None, 20.0):
        with pytest.raises(ValueError, match=r"babble_up_to_db=15: give it with a babble_db that is no larger"):
            changed(augmentation={"babble_db": lowest, "babble_up_to_db": 15.0})


def test_balancing_divides_the_gradient_and_not_the_value():
    latent = learner().dynamics.latent
    posterior, prior = torch.randn(2, 5, 6, dtype=torch.double).requires_grad_().unbind(0)
    plain = latent.divergence(posterior, prior)
    balanced = kl(latent, posterior, prior, 0.8, 0.0)
    torch.testing.assert_close(balanced, plain)
    expected = torch.autograd.grad(plain.sum(), [posterior, prior], retain_graph=True)
    found = torch.autograd.grad(balanced.sum(), [posterior, prior])
    torch.testing.assert_close(found[0], 0.2 * expected[0])
    torch.testing.assert_close(found[1], 0.8 * expected[1])


def test_free_nats_are_of_each_token():
    latent = learner().dynamics.latent
    posterior, prior = torch.randn(2, 5, 6, dtype=torch.double).requires_grad_().unbind(0)
    plain = latent.divergence(posterior, prior).detach()
    free = float(plain.sort().values[1:3].mean())
    value = kl(latent, posterior, prior, 0.8, free)
    torch.testing.assert_close(value.detach(), plain.clamp(min=free))
    (reached,) = torch.autograd.grad(value.sum(), [prior])
    assert torch.equal(reached.abs().sum(-1) > 0, plain > free)


def test_one_drawn_step_ahead_has_the_expectation_of_all():
    """Without the divergence, which is noisy, the mean over all steps that can be drawn is the full objective."""
    whole = learner(replace(ALL, objective=replace(ALL.objective, kl_ahead=False)))
    found = observed(whole)
    every, _ = whole.objective(found, whole.dynamics, StubEngine(1))
    single = learner(replace(ALL, objective=replace(ALL.objective, kl_ahead=False, overshoot="one")))
    single.load_state_dict(whole.state_dict())
    parts, drawn = {}, []
    objective = single.objective
    assert isinstance(objective, Dream)
    for seed in range(40):
        ahead, weight = objective.ahead(TOKENS - 1, StubEngine(seed))
        drawn += ahead
        assert weight == 3 and len(ahead) == 1
        if ahead[0] not in parts:
            parts[ahead[0]] = objective(found, single.dynamics, StubEngine(seed))[0]
    assert set(parts) == {1, 2, 3} and min(drawn.count(k) for k in parts) >= 5
    torch.testing.assert_close(torch.stack(list(parts.values())).mean(), every)


def test_every_kth_token_has_the_expectation_of_all_in_the_divergence(monkeypatch):
    own = learner(replace(ALL, objective=replace(ALL.objective, overshoot="one")))
    found = observed(own, batch(0, [TOKENS * 256, 1300, 2000, 1100]))
    objective = own.objective
    assert isinstance(objective, Dream)
    monkeypatch.setattr(objective, "ahead", lambda longest, engine: ([3], 3.0))
    values = {}
    for first, stride in ((0, 1), (0, 3), (1, 3), (2, 3)):
        chosen = torch.arange(first, TOKENS, stride), stride
        monkeypatch.setattr(objective, "starts", lambda ahead, tokens, engine, chosen=chosen: chosen)
        values[first, stride] = objective(found, own.dynamics, StubEngine(1))[1]["kl/ahead"]
    drawn = torch.stack([value for (_, stride), value in values.items() if stride == 3])
    torch.testing.assert_close(drawn.mean(), values[0, 1])
    assert len(drawn.unique()) == 3


def test_a_frozen_decoder_and_a_joint_prior_change_nothing_that_others_learn():
    data, states = batch(), {}
    for name, heads in {
        "off": {"decoder": "off", "joint_prior": False},
        "joint": {"decoder": "off"},
        "frozen": {"joint_prior": False},
        "live": {"decoder": "live", "joint_prior": False},
    }.items():
        own = learner(changed(heads=heads))
        engine = StubEngine(3)
        for _ in range(2):
            terms = own.update(data, engine)
        assert ("loss/decoder" in terms) == (name in ("frozen", "live"))
        assert ("loss/joint_prior" in terms) == (name == "joint")
        states[name] = own.state_dict()
    for name, value in states["off"].items():
        assert torch.equal(states["frozen"][name], value), name
        assert torch.equal(states["joint"][name], value), name
    assert any(not torch.equal(states["live"][name], value) for name, value in states["off"].items())
    first = learner().state_dict()
    assert any(not torch.equal(states["frozen"][n], first[n]) for n in first if n.startswith("decoder"))


def test_a_joint_prior_learns_the_modes_of_sound_as_it_is_followed():
    """Its loss is the negative log-likelihood of the states that `followed` gives to unaugmented tokens, without
    burn-in and padding; training lowers it."""
    own, data = learner(), batch(0, LENGTHS)
    found, _, modes = own.observed(data, StubEngine(0))
    assert own.joint is not None and modes is not None
    loss = own.joint_loss(modes.learnt, found.inside, StubEngine(0))
    rollout = own.followed(own.encoder(own.tokens(data.signal, data.lengths)), None)
    raw = own.joint(rollout.h, rollout.z)
    each = (
        -torch.distributions.OneHotCategorical(logits=raw.unflatten(-1, (2, 3)))
        .log_prob(rollout.z.unflatten(-1, (2, 3)).round())
        .sum(-1)
    )
    burn = own.config.burn_in
    rows = [
        row[burn:count] for row, count in zip(each, own.code_lengths(torch.tensor(LENGTHS)).tolist(), strict=True)
    ]
    torch.testing.assert_close(loss, torch.cat(rows).mean())
    reached = gradients(loss, own)
    assert reached and all(name.startswith("joint.") for name in reached)
    terms = [own.update(data, StubEngine(0)) for _ in range(30)]
    assert terms[-1]["loss/joint_prior"] < terms[0]["loss/joint_prior"]
    assert own.joint_optimiser is not None
    rate, model = (one.param_groups[0]["lr"] for one in (own.joint_optimiser, own.optimiser))
    share = model / own.config.adam.learning_rate
    assert 0 < share < 1 and rate == pytest.approx(own.config.heads.joint_learning_rate * share**0.5)


def test_a_joint_prior_may_learn_the_modes_of_augmented_sound():
    """Those of the first view, whose posterior is trained, too; the decoder and all else stay the same."""
    data = batch(0, LENGTHS)
    own, plain = (learner(replace(changed(heads={"joint_views": one}), burn_in=0)) for one in (True, False))
    observed, _, modes = own.observed(data, StubEngine(0))
    _, _, clear = plain.observed(data, StubEngine(0))
    assert modes is not None and clear is not None and clear.clear is clear.learnt
    assert torch.equal(modes.clear.h, clear.clear.h) and torch.equal(modes.clear.z, clear.clear.z)
    assert not torch.equal(modes.learnt.h, modes.clear.h)
    # Later states depend on the noise before them.
    latent = own.dynamics.latent
    assert isinstance(latent, Categorical)
    first = latent.split(observed.rollout.posterior).argmax(-1)[:, 0]
    assert torch.equal(latent.split(modes.learnt.z).argmax(-1)[:, 0], first)
    for each in (own, plain):
        each.update(data, StubEngine(0))
    weights = plain.state_dict()
    differing = {name for name, value in own.state_dict().items() if not torch.equal(value, weights[name])}
    assert differing and all(name.startswith("joint.") for name in differing)
    with pytest.raises(ValueError, match="joint_views=True, views=1: there is no augmented view"):
        changed(heads={"joint_views": True}, augmentation={"views": 1})
    for without in ({"heads": {"joint_prior": False}}, {"dynamics": {"latent": "gaussian"}}):
        with pytest.raises(ValueError, match="joint_views=True: there is no joint prior"):
            changed(**{**without, "heads": {"joint_views": True, **without.get("heads", {})}})


def test_gaussian_states_have_no_joint_prior():
    own = learner(changed(dynamics={"latent": "gaussian"}))
    assert own.joint is None and "loss/joint_prior" not in own.update(batch(), StubEngine(0))


@pytest.mark.parametrize("name", ["contrast", "barlow", "embedding", "twister", "reconstruction"])
def test_every_objective_trains_the_encoder_over_the_same_state(name):
    own = learner(changed(objective={"objective": name}, heads={"decoder": "frozen"}))
    assert own.live_decoder == (name in ("twister", "reconstruction"))
    data, engine = batch(0, [TOKENS * 256, 1300, 2000, 400]), StubEngine(0)
    before = {key: value.clone() for key, value in own.state_dict().items()}
    terms = own.update(data, engine)
    assert all(value.isfinite() for value in terms.values())
    for part in ("encoder", "dynamics.of_token", "dynamics.prior"):
        assert any(
            not torch.equal(before[key], value) for key, value in own.state_dict().items() if key.startswith(part)
        )


def test_the_correlation_is_pearsons():
    one, other = torch.randn(2, 50, 3, dtype=torch.double)
    expected = torch.corrcoef(torch.cat([one, other], 1).T)[:3, 3:]
    torch.testing.assert_close(correlation(one, other), expected, rtol=1e-5, atol=1e-5)


def test_the_whole_update_is_that_of_the_plain_loop():
    """Loss and all gradients, in float64 with equal noise."""
    found = {}
    for loop in ("fast", "plain"):
        own = learner(changed(dynamics={"loop": loop}, objective={"overshoot": "all"}))
        terms = own.update(batch(0, [TOKENS * 256, 1300, 2000, 400]), StubEngine(3))
        found[loop] = (terms["loss/total"], {n: w.grad for n, w in own.named_parameters() if w.grad is not None})
    torch.testing.assert_close(found["fast"][0], found["plain"][0], rtol=1e-10, atol=1e-10)
    assert found["fast"][1].keys() == found["plain"][1].keys()
    for name, value in found["plain"][1].items():
        torch.testing.assert_close(found["fast"][1][name], value, rtol=1e-10, atol=1e-10, msg=name)


def test_what_lies_behind_the_end_of_a_clip_is_not_learnt_from():
    lengths = [TOKENS * 256, 1300, 2000, 400]
    other = batch(9)
    inside = torch.arange(SIGNAL.shape[0]) < torch.tensor(lengths)[:, None] // 256 * 256
    data = batch(0, lengths)
    # Including the token that the end of the clip cuts.
    replaced = replace(data, signal=data.signal.where(inside, other.signal))
    one, two = learner(), learner()
    terms, same = one.update(data, StubEngine(1)), two.update(replaced, StubEngine(1))
    assert all(torch.equal(value, same[name]) for name, value in terms.items())
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("dynamics", [{}, {"dynamics": "transformer", "posterior": "obs", "heads": 2}])
def test_the_burn_in_is_observed_and_not_learnt_from(dynamics):
    own = learner(changed(top={"burn_in": 4}, dynamics=dynamics))
    found = observed(own)
    assert found.target.shape[1] == TOKENS - 4 and found.counts.tolist() == [TOKENS - 4] * CLIPS
    embedded = torch.randn(CLIPS, TOKENS, TINY.embedding, dtype=torch.double, requires_grad=True)
    rollout, past = own.observe(embedded, own.actions.unknown(CLIPS, TOKENS), StubEngine(0))
    assert (past is not None) == bool(dynamics)
    (reached,) = torch.autograd.grad(rollout.feature.square().sum(), embedded)
    assert not reached[:, :4].any() and bool(reached[:, 4:].any())
    other = embedded.detach().clone()
    other[:, :4] *= -30
    changed_rollout, _ = own.observe(other, own.actions.unknown(CLIPS, TOKENS), StubEngine(0))
    assert not torch.equal(changed_rollout.h[:, 0], rollout.h[:, 0])


def test_tokens_that_are_alike_are_no_negatives():
    tokens = torch.tensor([[[0.0, 0.0], [0.1, 0.0]], [[3.0, 0.0], [0.0, 0.0]]]).double()
    found = alike(tokens, 0.08)
    assert found is not None and alike(tokens, 0) is None
    # The root mean square of (0.1, 0) is 0.0707.
    near = [[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 1, 0], [1, 1, 0, 1]]
    assert found.flatten(2).flatten(0, 1).int().tolist() == near
    predictions, latents = torch.randn(2, 2, 2, 1, 2).double(), torch.randn(2, 2, 2).double()
    frames = torch.tensor([2, 2])
    config = ContrastConfig(whole_batch=True, from_sequence=0, from_batch=0)
    made = contrast(predictions[0], latents, frames, config, torch.Generator(), -1, alike=found)
    flat, scores = latents.flatten(0, 1), predictions[0].flatten(0, 2)
    expected = []
    for token in range(4):
        kept = [other for other in range(4) if other == token or not near[token][other]]
        expected.append((scores[token] @ flat[kept].T).logsumexp(0) - scores[token] @ flat[token])
    torch.testing.assert_close(made.pair_losses.flatten(), torch.stack(expected))


@pytest.mark.parametrize(("slots", "entries"), [(1, 256), (3, 4)])
def test_tokens_of_slots_are_alike_where_all_their_entries_are_equal(slots, entries):
    """For any number of entries: with many, the root mean square over one-hot entries is small for all pairs."""
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, 3, (2, 5, slots), generator=generator)
    tokens = functional.one_hot(index, entries).flatten(2).double()
    found = alike(tokens, 0.1, slots)
    assert found is not None and alike(tokens, 0.0, slots) is None
    rows = [tuple(row) for row in index.flatten(0, 1).tolist()]
    expected = [[one == other for other in rows] for one in rows]
    assert found.flatten(2).flatten(0, 1).tolist() == expected
    # Both equal and different tokens occur.
    assert 10 < int(found.sum()) < 100


def of_codes(codes: torch.Tensor, **parts: dict[str, Any]) -> tuple[Dreaming, Batch]:
    """Model of discrete codes with one slot, and a batch of these codes."""
    config = changed(front={"slots": 1, "entries": 256}, top={"burn_in": 0}, **parts)
    torch.manual_seed(0)
    own = Dreaming(config, Signal("codes", (TOKENS, 1), frame_rate=10.0)).double()
    data = Batch(torch.arange(CLIPS), codes, torch.zeros(CLIPS, 0).double())
    every = torch.arange(256.0, dtype=torch.double)[None, :, None]
    own.front.fit_batches([Batch(torch.zeros(1, dtype=torch.long), every, torch.zeros(1, 0).double())])
    return own, data


def test_codes_have_negatives_and_where_there_are_none_it_is_told():
    codes = torch.arange(CLIPS * TOKENS).view(CLIPS, TOKENS, 1).double()
    own, data = of_codes(codes)
    terms = own.update(data, StubEngine(0))
    torch.testing.assert_close(terms["contrast/chance"], torch.tensor(float(CLIPS * TOKENS)).double().log())
    assert terms["contrast/no_negatives"] == 0 and own.remarks({"contrast/no_negatives": 0.0}) == ()
    for objective in ("dreaming", "contrast", "twister"):
        still, data = of_codes(torch.full_like(codes, 7), objective={"objective": objective})
        terms = {name: float(value) for name, value in still.update(data, StubEngine(0)).items()}
        assert terms["contrast/loss"] == 0 and terms["contrast/no_negatives"] == 1
        [line] = still.remarks(terms)
        assert "no token has a negative" in line and "--alike-below than 0.1" in line and "\n" not in line


def test_surprise_of_codes_leaves_out_equal_tokens_alone():
    own, _ = of_codes(torch.zeros(CLIPS, TOKENS, 1).double(), objective={"horizon": 1})
    codes = torch.arange(TOKENS).view(1, TOKENS, 1).double()
    others = own.front.tokens(own.front(torch.tensor([[3.0, 5.0, 200.0]]).double()[..., None]))[0]
    found = own.surprise(codes, others)["nce"][0]
    objective: Any = own.objective
    embedded = own.encoder(own.front.tokens(own.front(codes)))
    z = objective.tilde.network(own.followed(embedded, None).z[0, :-1])
    keys, against = objective.critic(embedded[0]), objective.critic(own.encoder(others))
    for t in range(1, TOKENS):
        kept = [against[at] @ z[t - 1] for at, code in enumerate((3, 5, 200)) if code != t]
        torch.testing.assert_close(found[t], nce(keys[t] @ z[t - 1], kept))


REWARDED = {"heads": {"reward": "r:track:0:1:125.0", "ends": True}}


def test_the_heads_learn_the_reward_and_where_clips_end():
    """Losses and predictions by definition: the squared error in standard deviations, and the cross-entropy of
    whether a token is the last of its clip, which is unknown for the last token of a full piece."""
    own, data = learner(changed(**REWARDED)), batch(0, LENGTHS)
    for _ in own.wanted.see([data], TOKENS, own.token_counts):
        pass
    assert data.tracks is not None
    tracks = data.tracks[..., 0].unflatten(1, (TOKENS, 4)).mean(2)
    there = tracks[sounding(TOKENS, own.token_counts(data, TOKENS))]
    mean, spread = there.mean(), there.std(correction=0)
    found, tokens, modes = own.observed(data, StubEngine(0))
    assert modes is not None
    terms = own.head_losses(found, modes, tokens, data, StubEngine(0), live=False)
    feature, burn = modes.clear.feature, own.burn_in
    reward, goes_on = own.predict_reward(feature), own.predict_continue(feature)
    assert reward.shape == (CLIPS, TOKENS - burn, 1) and goes_on.shape == (CLIPS, TOKENS - burn)
    errors, ends = [], []
    for clip, t in pairs(found.counts, 0):
        errors.append(((reward[clip, t, 0] - tracks[clip, t + burn]) / spread).square())
        if t < TOKENS - burn - 1:
            last = t == found.counts[clip] - 1
            ends.append(-(1 - goes_on[clip, t] if last else goes_on[clip, t]).log())
    torch.testing.assert_close(terms["loss/reward"], torch.stack(errors).mean())
    torch.testing.assert_close(terms["loss/ends"], torch.stack(ends).mean())
    # Without a joint prior, futures do not consist of modes.
    plain = own.head_losses(found, None, tokens, data, StubEngine(0), live=False)
    error = 0.5 * (own.decoder(found.rollout.feature) - tokens).square().sum(-1)  # pyright: ignore
    torch.testing.assert_close(plain["loss/decoder"], error[found.inside].mean())
    torch.testing.assert_close(reward, own.reward(feature) * spread + mean)  # pyright: ignore[reportOptionalCall]
    assert bool((goes_on > 0).all()) and bool((goes_on < 1).all())
    for ask in (learner().predict_reward, learner().predict_continue):
        with pytest.raises(ValueError, match=r"trained without .*: train it with --"):
            ask(feature)
    with pytest.raises(ValueError, match="give those of code feature, 14 numbers"):
        own.predict_reward(feature[..., :3])


def test_pieces_that_never_hold_an_end_are_remarked():
    own = learner(changed(heads={"ends": True}))
    found = {name: float(value) for name, value in own.update(batch(), StubEngine(0)).items()}
    assert found["ends/share"] == 0 and any("--ends learns nothing" in line for line in own.remarks(found))
    found = {name: float(value) for name, value in own.update(batch(0, LENGTHS), StubEngine(0)).items()}
    assert found["ends/share"] > 0 and not own.remarks(found)


@pytest.mark.parametrize("live", [False, True])
def test_live_heads_alone_train_the_states(live):
    heads = {**REWARDED["heads"], "decoder": "off", "live_heads": live, "joint_prior": False}
    own, data = learner(changed(heads=heads)), batch(0, LENGTHS)
    found, tokens, _ = own.observed(data, StubEngine(0))
    assert own.head_losses(found, None, tokens, data, StubEngine(0), live=not live) == {}
    terms = own.head_losses(found, None, tokens, data, StubEngine(0), live=live)
    assert terms.keys() == {"loss/reward", "loss/ends"}
    for name, head in (("loss/reward", "reward"), ("loss/ends", "goes_on")):
        reached = gradients(terms[name], own)
        assert any(one.startswith(head) for one in reached)
        assert any(one.startswith(("encoder", "dynamics")) for one in reached) == live
    # The weights of the other modules change only where the heads are live.
    states = {}
    for trained in (TINY, changed(heads=heads)):
        each = learner(replace(trained, heads=replace(trained.heads, decoder="off", joint_prior=False)))
        each.update(data, StubEngine(3))
        states[trained is TINY] = dict(each.named_parameters())
    same = all(torch.equal(states[False][name], value) for name, value in states[True].items())
    assert same != live


def test_expectations_are_those_of_torch():
    """Log-probability and both entropies of categorical and Gaussian states; log-probability in a joint prior."""
    signal = batch().signal
    for latent in ("categorical", "gaussian"):
        own = learner(changed(dynamics={"latent": latent}, heads={"joint_prior": False}))
        rollout = own.followed(own.encoder(own.tokens(signal)), None)

        def of(raw: torch.Tensor, latent: str = latent) -> Any:
            if latent == "gaussian":
                mean, spread = raw.chunk(2, -1)
                normal = torch.distributions.Normal(mean, functional.softplus(spread) + 0.1)
                return torch.distributions.Independent(normal, 1)
            shares = 0.99 * raw.unflatten(-1, (2, 3)).softmax(-1) + 0.01 / 3
            return torch.distributions.Independent(torch.distributions.OneHotCategorical(shares), 1)

        z = rollout.z if latent == "gaussian" else rollout.z.unflatten(-1, (2, 3)).round()
        found = own.expectations(signal)
        torch.testing.assert_close(found["log prior"], of(rollout.prior).log_prob(z))
        torch.testing.assert_close(found["prior"], of(rollout.prior).entropy())
        torch.testing.assert_close(found["posterior"], of(rollout.posterior).entropy())
    own = learner()
    assert own.joint is not None
    rollout, found = own.followed(own.encoder(own.tokens(signal)), None), own.expectations(signal)
    drawn_from = torch.distributions.OneHotCategorical(
        logits=own.joint(rollout.h, rollout.z).unflatten(-1, (2, 3))
    )
    torch.testing.assert_close(
        found["log prior"], drawn_from.log_prob(rollout.z.unflatten(-1, (2, 3)).round()).sum(-1)
    )


def test_codes_are_causal_and_of_the_form_that_is_asked_for():
    own, signal = learner(), batch().signal
    feature = own.encode(signal)
    config = own.config.dynamics
    parts = {code: own.encode(signal, code=code) for code in ("state", "latent", "embedding")}
    torch.testing.assert_close(feature, torch.cat([parts["state"], parts["latent"]], -1))
    assert [parts[code].shape[2] for code in parts] == [config.deter, 6, TINY.embedding]
    torch.testing.assert_close(own.encode(signal[:, : 5 * 256 + 100]), feature[:, :5])


def test_forecasts_go_on_from_the_end_and_differ_only_by_their_noise():
    own, signal = learner(), batch().signal
    drawn, same = (own.forecast(signal, 4, 3, torch.Generator().manual_seed(1)) for _ in range(2))
    made, again = drawn.codes, same.codes
    assert made.shape == (3, CLIPS, 4, 14) and torch.equal(made, again)
    assert torch.equal(drawn.log_probability, same.log_probability) and bool((drawn.log_probability <= 0).all())
    # The first h is determined by the past; z is drawn.
    assert torch.equal(made[0, :, 0, :8], made[1, :, 0, :8]) and not torch.equal(made[0], made[1])
    past = own.followed(own.encoder(own.front.tokens(own.features(batch()))), None)
    expected = own.dynamics.step(past.h[:, -1], past.z[:, -1], own.actions.unknown(CLIPS, 1)[:, 0])
    torch.testing.assert_close(made[0, :, 0, :8], expected)
    features = own.decode(made[0])
    assert features.shape == (CLIPS, 1, 8, 8)
    assert isinstance(own.front, LogMelTokens)
    assert own.front.invert(features, 4 * 256, 2).isfinite().all()


def test_known_actions_steer_and_unknown_ones_are_zero():
    config = changed(
        top={"actions": ("tension:track:0:1:125.0",), "action_dropout": 0.5},
        heads={"reward": "r:track:0:1:125.0", "ends": True},
    )
    own, data = learner(config), batch(0, [TOKENS * 256, 1300, 2000, 600])
    terms = own.update(data, StubEngine(0))
    assert {"loss/reward", "loss/ends"} <= terms.keys() and own.actions.width == 2
    actions = own.actions(data, TOKENS)
    hidden = own.acted(data, TOKENS, StubEngine(0))
    rows = (hidden == 0).all(2).all(1)
    assert 0 < int(rows.sum()) < CLIPS and torch.equal(hidden[~rows], actions[~rows])
    generator = torch.Generator
    future = torch.cat([actions, actions[:, :3]], 1)
    one = own.forecast(data.signal, 3, 1, generator().manual_seed(1), actions=future).codes
    future[:, TOKENS:, 1] += 2
    other = own.forecast(data.signal, 3, 1, generator().manual_seed(1), actions=future).codes
    free = own.forecast(data.signal, 3, 1, generator().manual_seed(1)).codes
    assert not torch.equal(one, other) and not torch.equal(one, free)
    with pytest.raises(ValueError, match="for each clip those of 10 tokens of the past and 4 to come"):
        own.forecast(data.signal, 4, 1, generator(), actions=future)


def test_discrete_tokens_are_learnt_and_decoded_to_entries():
    signal = Signal("codes", (TOKENS, 4), frame_rate=10.0)
    config = changed(front={"slots": 2, "entries": 4})
    torch.manual_seed(0)
    own = Dreaming(config, signal).double()
    codes = torch.randint(0, 2, (CLIPS, TOKENS, 4), generator=torch.Generator().manual_seed(0)).double()
    data = Batch(torch.arange(CLIPS), codes, torch.zeros(CLIPS, 0).double())
    own.front.fit_batches([data])
    terms = own.update(data, StubEngine(0))
    assert all(value.isfinite() for value in terms.values())
    made = own.decode(own.encode(codes)).view(CLIPS, TOKENS, 2, 4)
    assert torch.equal(made.sum(-1), torch.ones(CLIPS, TOKENS, 2).double())


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (
            lambda: learner(changed(dynamics={"latent": "gaussian"}, objective={"critic": "categorical"})),
            "critic bilinear",
        ),
        (lambda: Dreaming(changed(top={"burn_in": 9}), SIGNAL), "too few for a burn_in of 9"),
        (lambda: learner().encode(batch().signal[:, :100]), "shorter than a token of 256"),
        (lambda: learner().forecast(batch().signal, 0, 1, torch.Generator()), "give at least 1 of each"),
        (lambda: learner().decode(torch.zeros(1, 2, 3).double()), "give those of code feature, 14 numbers"),
        (lambda: learner(changed(heads={"decoder": "off"})).decode(torch.zeros(1, 2, 14)), "--decoder frozen"),
        (
            lambda: learner().forecast(
                batch().signal, 2, 1, torch.Generator(), actions=torch.zeros(CLIPS, TOKENS + 2, 3)
            ),
            r"give \(4, 12, 0\), for each clip those of 10 tokens of the past and 2",
        ),
        (lambda: learner().go_on(torch.zeros(1, 0, 14).double(), 1, 1, torch.Generator()), "at least one token"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(act, said):
    with pytest.raises(ValueError, match=said) as refused:
        act()
    assert "\n" not in str(refused.value)


def test_other_dynamics_learn_by_the_same_objective():
    transformer = {"dynamics": "transformer", "posterior": "obs", "heads": 2}
    for dynamics, objective in (
        (transformer, {}),
        (transformer, {"predictor": "prior", "overshoot": "all"}),
        ({"posterior": "obs"}, {}),
        ({"latent": "gaussian"}, {"predicted": "sample"}),
        ({}, {"predictor": "prior", "overshoot": "all"}),
        ({}, {"predictor": "mlp", "predicted": "sample", "critic": "categorical"}),
        ({}, {"horizon": 0}),
    ):
        own = learner(changed(dynamics=dynamics, objective=objective))
        terms = own.update(batch(), StubEngine(0))
        assert all(value.isfinite() for value in terms.values())
        made = own.forecast(batch().signal, 2, 2, torch.Generator().manual_seed(0)).codes
        assert made.shape[:3] == (2, CLIPS, 2) and made.isfinite().all()


@pytest.mark.parametrize("joint", [False, True])
def test_futures_are_drawn_step_by_step_and_know_their_probability(joint):
    """A forecast iterates the recurrence from the last state, and its log-probability sums over all variables that
    of the class drawn; in a joint prior the second variable depends on the first."""
    own, signal = learner(changed(heads={"joint_prior": joint})), batch().signal
    made = own.forecast(signal, 3, 2, torch.Generator().manual_seed(5))
    latent = own.dynamics.latent
    noise = latent.noise((2, CLIPS, 3), torch.Generator().manual_seed(5), signal)
    states = own.states(signal)
    torch.testing.assert_close(states, own.encode(signal, code="feature"))
    for sample in range(2):
        h, z = states[:, -1].split([8, 6], -1)
        for t in range(3):
            h = own.dynamics.step(h, z, own.actions.unknown(CLIPS, 1)[:, 0])
            if own.joint is None:
                shares = 0.99 * own.dynamics.prior(h).view(CLIPS, 2, 3).softmax(-1) + 0.01 / 3
                chosen = (shares.cumsum(-1) < noise[sample, :, t, :, None]).sum(-1)
            else:
                z = torch.zeros(CLIPS, 6).double()
                for variable in range(2):
                    shares = own.joint(h, z).view(CLIPS, 2, 3).softmax(-1)
                    chosen = (shares.cumsum(-1) < noise[sample, :, t, :, None]).sum(-1)
                    z = z.view(CLIPS, 2, 3)
                    z[:, variable] = torch.nn.functional.one_hot(chosen[:, variable], 3).double()
                    z = z.flatten(1)
            z = torch.nn.functional.one_hot(chosen, 3).double().flatten(1)
            torch.testing.assert_close(made.codes[sample, :, t], torch.cat([h, z], -1))
            expected = shares.gather(-1, chosen[..., None])[..., 0].log().sum(-1)
            torch.testing.assert_close(made.log_probability[sample, :, t], expected)


def test_surprise_is_the_divergence_and_the_contrast_with_other_tokens():
    own, signal = learner(changed(objective={"alike_below": 1.0})), batch().signal
    others = own.front.tokens(own.features(batch(7)))[0]
    found = own.surprise(signal, others)
    tokens = own.front.tokens(own.features(batch()))
    rollout = own.followed(own.encoder(tokens), None)
    torch.testing.assert_close(found["kl"], own.dynamics.latent.divergence(rollout.posterior, rollout.prior))
    objective: Any = own.objective
    z = objective.tilde.network(rollout.z[:, :-1])
    keys, against = objective.critic(own.encoder(tokens)), objective.critic(own.encoder(others))
    left_out = 0
    for clip in range(CLIPS):
        assert found["nce"][clip, 0] == 0
        for t in range(1, TOKENS):
            apart = (tokens[clip, t] - others).square().mean(-1).sqrt() > 1.0
            left_out += int((~apart).sum())
            own_score = keys[clip, t] @ z[clip, t - 1]
            scores = torch.cat([own_score[None], (against @ z[clip, t - 1])[apart]])
            torch.testing.assert_close(found["nce"][clip, t], scores.logsumexp(0) - own_score)
    assert 0 < left_out < CLIPS * (TOKENS - 1) * TOKENS
    assert list(learner(changed(objective={"objective": "barlow"})).surprise(signal, others)) == ["kl"]


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_the_probability_of_a_state_is_that_of_torch(latent):
    own = learner(changed(dynamics={"latent": latent})).dynamics.latent
    raw = torch.randn(5, own.parameters, dtype=torch.double)
    z = own.draw(raw, own.noise((5,), torch.Generator().manual_seed(0), raw))
    if latent == "categorical":
        shares = 0.99 * raw.view(5, 2, 3).softmax(-1) + 0.01 / 3
        expected = torch.distributions.OneHotCategorical(shares).log_prob(z.view(5, 2, 3).round())
    else:
        mean, spread = raw.chunk(2, -1)
        expected = torch.distributions.Normal(mean, torch.nn.functional.softplus(spread) + 0.1).log_prob(z)
    torch.testing.assert_close(own.log_probability(raw, z), expected.sum(-1))


def alternating(clips: int, generator: torch.Generator, deviant: int | None = None) -> Batch:
    """Two alternating tones, one token each; the deviant token repeats the one before it."""
    first = torch.randint(2, (clips, 1), generator=generator)
    which = (first + torch.arange(TOKENS)) % 2
    if deviant is not None:
        which[:, deviant:] = 1 - which[:, deviant:]
    pitch = torch.tensor([400.0, 1600.0]).double()[which].repeat_interleave(256, 1)
    level = 0.1 + 0.1 * torch.rand(clips, 1, generator=generator).double()
    signal = level * (2 * torch.pi * pitch * torch.arange(TOKENS * 256) / RATE).sin()
    noise = 0.01 * torch.randn(clips, TOKENS * 256, generator=generator).double()
    return Batch(torch.arange(clips), signal + noise, torch.zeros(clips, 1).double())


def test_a_planted_deviation_is_more_surprising_than_its_surroundings():
    """Mean over clips, of a model trained on a regular sequence; no token of a sequence without a deviation is as
    surprising."""
    config = changed(
        objective={"alike_below": 0.5},
        dynamics={"deter": 16, "hidden": 16},
        top={
            "embedding": 16,
            "adam": replace(TINY.adam, learning_rate=1e-2),
            "schedule": replace(TINY.schedule, warmup_steps=0),
        },
    )
    torch.manual_seed(0)
    own, generator = Dreaming(config, SIGNAL).double(), torch.Generator().manual_seed(0)
    own.front.fit_batches([alternating(16, generator)])
    for seed in range(60):
        own.update(alternating(16, generator), StubEngine(seed))
    others = own.front.tokens(own.features(alternating(8, generator))).flatten(0, 1)
    own.eval()
    deviant, regular = (
        {name: each.mean(0) for name, each in own.surprise(alternating(64, generator, at).signal, others).items()}
        for at in (6, None)
    )
    for name in ("kl", "nce"):
        around = torch.cat([deviant[name][2:6], regular[name][2:]])
        assert deviant[name][6] > around.max() + 1, name
