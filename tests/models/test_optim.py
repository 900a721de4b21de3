"""Adam as configured, and learning-rate schedules against their formulas."""

import math
import subprocess
import sys

import pytest
import torch
from typechecking import unchecked

from sonarium.models.optim import AdamConfig, ScheduleConfig


def test_constant_after_a_straight_rise():
    config = ScheduleConfig(warmup_steps=4)
    assert [config.fraction(done) for done in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert ScheduleConfig().fraction(0) == ScheduleConfig().fraction(10**9) == 1


def test_noam_is_that_of_its_paper():
    config = ScheduleConfig("noam", warmup_steps=1000)
    highest = (128 * 1000) ** -0.5
    for step in (1, 10, 999, 1000, 1001, 50_000):
        expected = 128**-0.5 * min(step**-0.5, step * 1000**-1.5)
        assert highest * config.fraction(step - 1) == pytest.approx(expected)


def test_cosine_falls_to_zero_and_stays_there():
    config = ScheduleConfig("cosine", warmup_steps=10, decay_steps=110)
    assert config.fraction(9) == 1
    assert config.fraction(59) == pytest.approx(0.5)
    assert config.fraction(34) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert config.fraction(109) == config.fraction(5000) == 0
    with pytest.raises(ValueError, match="decay_steps=0: give the step"):
        ScheduleConfig("cosine").fraction(0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sine",), "schedule='sine': give constant, noam, cosine or linear"),
        (("noam", 0), "warmup_steps=0: give a whole number, for noam of at least 1"),
        (("constant", -1), "warmup_steps=-1"),
        (("cosine", 100, 100), "decay_steps=100: give more steps than warmup_steps"),
    ],
)
def test_impossible_schedules_are_refused(words, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        ScheduleConfig(*words)


def test_a_cosine_ends_with_the_training_unless_it_has_an_end():
    assert ScheduleConfig("cosine", 10).ending(50) == ScheduleConfig("cosine", 10, 50)
    assert ScheduleConfig("cosine", 10, 30).ending(50) == ScheduleConfig("cosine", 10, 30)
    assert ScheduleConfig("noam", 100).ending(50) == ScheduleConfig("noam", 100)
    # If the training is no longer than the warm-up, the warm-up is a tenth of the training.
    assert ScheduleConfig("cosine", 100).ending(100) == ScheduleConfig("cosine", 10, 100)
    assert ScheduleConfig("linear", 100).ending(4) == ScheduleConfig("linear", 0, 4)


@pytest.mark.parametrize("fused", [False, True])
def test_adam_takes_every_setting(fused):
    weight = torch.nn.Parameter(torch.ones(3))
    adam = AdamConfig(0.1, beta1=0.5, beta2=0.7, epsilon=1e-4, weight_decay=0.2, amsgrad=True).build(
        [weight], fused
    )
    (group,) = adam.param_groups
    expected = {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-4, "weight_decay": 0.2, "amsgrad": True}
    assert {name: group[name] for name in expected} == expected and bool(group["fused"]) == fused


def test_what_opens_a_run_does_not_import_the_compiler():
    story = (
        "import sys, torch; from sonarium.models.optim import AdamConfig; "
        "AdamConfig().build([torch.ones(2, requires_grad=True)]); print('torch._dynamo' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", story], check=True, capture_output=True, text=True).stdout
    assert told == "False\n"


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1, "amsgrad": True}, {"beta1": 0.5, "epsilon": 1e-3}])
def test_fused_steps_are_those_of_torch(settings):
    """Also where a weight has no gradient at times, and after loading a state."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = ([torch.nn.Parameter(torch.ones(shape)) for shape in ((3, 4), (5,), ())] for _ in range(2))
    config = AdamConfig(**settings)
    mine = config.build(ours, fused=True)
    peer = torch.optim.Adam(
        theirs, config.learning_rate, (config.beta1, config.beta2), config.epsilon, config.weight_decay,
        config.amsgrad, fused=True,
    )  # fmt: skip
    for step in range(8):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator) if step % 3 or one.ndim else None
            other.grad = None if one.grad is None else one.grad.clone()
        mine.step()
        peer.step()
        if step == 4:
            state = mine.state_dict()
            mine = config.build(ours, fused=True)
            mine.load_state_dict(state)
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)
