"""Devices and precision."""

import platform

import pytest
import torch
from torch import nn
from typechecking import unchecked

from sonarium import __version__
from sonarium.training.engine import FabricEngine, choose_device, environment


@pytest.mark.parametrize("device", ["tpu", "mps", "cuda:0", "", "CPU"])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(ValueError, match="use --device cpu, cuda or auto"):
        choose_device(device)


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="sees no CUDA device; use --device cpu"):
        FabricEngine("cuda", "32", 0)
    assert choose_device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == "cuda"


def test_an_unknown_precision_is_refused():
    with unchecked(), pytest.raises(ValueError, match="use --precision 32 or bf16"):
        FabricEngine("cpu", "16", 0)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("precision", "dtype"), [("32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_forward_pass_and_not_of_the_weights(precision, dtype, capfd):
    engine = FabricEngine("cpu", precision, 0)
    layer = nn.Linear(3, 2)
    optimiser = torch.optim.SGD(layer.parameters(), 0.5)
    with engine.autocast():
        out = layer(torch.ones(4, 3))
    assert out.dtype == dtype
    before = layer.bias.detach().clone()
    engine.descend(out.float().sum(), optimiser)
    assert layer.weight.dtype == torch.float32
    # The gradient of a sum over 4 clips is 4.
    torch.testing.assert_close(layer.bias, before - 0.5 * 4)
    assert capfd.readouterr().err == "", "Fabric announces itself"


def test_gradients_do_not_add_up_from_step_to_step():
    engine, weight = FabricEngine("cpu", "32", 0), nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.SGD([weight], 1.0)
    for _ in range(3):
        engine.descend(weight * 2, optimiser)
    assert weight.item() == -6


def test_the_environment_is_that_of_this_machine():
    engine = FabricEngine("cpu", "32", 3)
    found = environment(engine)
    assert found["sonarium"] == __version__ and found["device"] == "cpu"
    assert str(found["python"]) == platform.python_version()
    assert engine.generator.initial_seed() == 3


def test_denormal_numbers_stay_outside_of_a_step():
    """A step flushes them to zero, since they are slow; later computations keep them."""
    weight, engine = torch.nn.Parameter(torch.ones(3)), FabricEngine("cpu", "32", 0)
    engine.descend(weight.sum(), torch.optim.Adam([weight]))
    assert float(torch.tensor(1e-40) * 1) > 0


@pytest.mark.parametrize("largest", [0.5, 1e3])
def test_gradients_are_clipped_as_by_torch(largest):
    engine = FabricEngine("cpu", "32", 0)
    ours, theirs = ([torch.nn.Parameter(torch.ones(shape)) for shape in ((3, 4), (5,), ())] for _ in range(2))
    unused = torch.nn.Parameter(torch.ones(2))
    factors = [torch.full_like(one, 2.0 + number) for number, one in enumerate(ours)]
    loss = torch.stack([(one * factor).sum() for one, factor in zip(ours, factors, strict=True)]).sum()
    engine.descend(loss, torch.optim.SGD([*ours, unused], 0.1), largest)
    for one, factor in zip(theirs, factors, strict=True):
        one.grad = factor.clone()
    torch.nn.utils.clip_grad_norm_(theirs, largest)
    torch.optim.SGD(theirs, 0.1).step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)
    assert unused.grad is None and bool((unused == 1).all())
