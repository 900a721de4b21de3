"""States of optimisers: each is restored into an optimiser of the same kind, and anything else is refused."""

import copy

import pytest
import torch

from sonarium.training.restoring import restore_part

OPTIMISERS = {
    "Adam": lambda weights: torch.optim.Adam(weights),
    "AMSGrad": lambda weights: torch.optim.Adam(weights, amsgrad=True),
    "fused Adam": lambda weights: torch.optim.Adam(weights, fused=True),
    "AdamW": lambda weights: torch.optim.AdamW(weights),
    "SGD": lambda weights: torch.optim.SGD(weights, 0.1),
    "momentum": lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.9),
    "RMSprop": lambda weights: torch.optim.RMSprop(weights),
    # These cannot take a trial step on a parameter of one element.
    "Adagrad": lambda weights: torch.optim.Adagrad(weights),
    "L-BFGS": lambda weights: torch.optim.LBFGS(weights),
}


def stepped(name: str) -> torch.optim.Optimizer:
    weights = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(2))]
    optimiser = OPTIMISERS[name](weights)

    def loss() -> float:
        optimiser.zero_grad()
        total = torch.stack([weight.square().sum() for weight in weights]).sum()
        total.backward()
        return total.item()

    for _ in range(2):
        optimiser.step(loss)
    return optimiser


@pytest.mark.parametrize("name", OPTIMISERS)
def test_what_an_optimiser_wrote_goes_back(name):
    weights = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(2))]
    again = OPTIMISERS[name](weights)
    # JSON turns tuples into lists.
    state = copy.deepcopy(stepped(name).state_dict())
    for group in state["param_groups"]:
        group |= {key: list(value) for key, value in group.items() if isinstance(value, tuple)}
    restore_part("optimiser", again, state)
    assert again.state_dict()["state"].keys() == state["state"].keys()


WRONG = [
    (lambda state: state["param_groups"][0].update(lr="fast"), "lr is 'fast', expected something like 0.001"),
    (lambda state: state["param_groups"][0].update(lr=float("inf")), "lr is inf"),
    (lambda state: state["param_groups"][0].update(betas=[0.9]), "betas is"),
    (lambda state: state["param_groups"][0].update(amsgrad=1), "amsgrad is 1"),
    (lambda state: state["param_groups"][0]["params"].pop(), "groups of parameters have other sizes"),
    (lambda state: state["state"].update({9: {}}), "unknown parameters"),
    (lambda state: state["state"][0].pop("exp_avg"), "expected .*exp_avg"),
    (lambda state: state["state"][0].update(exp_avg=torch.zeros(2)), "exp_avg .* is not a tensor of shape"),
    (lambda state: state["state"][0].update(exp_avg=torch.zeros(3, 2).long()), "exp_avg .* is not a tensor"),
    (lambda state: state["state"][0].update(exp_avg_sq=torch.full((3, 2), float("nan"))), "NaN or infinite"),
    (lambda state: state["state"][0].update(step=torch.tensor(-1.0)), "is -1.0, expected at least 0"),
    (lambda state: state.clear(), "param_groups"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said for _, said in WRONG])
def test_another_state_is_refused(change, said):
    state = copy.deepcopy(stepped("Adam").state_dict())
    change(state)
    with pytest.raises(ValueError, match=rf"^optimiser: .*{said}"):
        restore_part("optimiser", stepped("Adam"), state)


def test_a_part_may_raise_anything_and_the_disk_speaks_for_itself():
    class Part:
        def __init__(self, error: Exception):
            self.error = error

        def state_dict(self) -> dict:
            return {}

        def load_state_dict(self, state: object) -> None:
            raise self.error

    with pytest.raises(ValueError, match="replay: 'x'"):
        restore_part("replay", Part(KeyError("x")), {})
    with pytest.raises(ValueError, match="replay: AssertionError"):
        restore_part("replay", Part(AssertionError()), {})
    with pytest.raises(OSError, match="disk"):
        restore_part("replay", Part(OSError("disk")), {})
