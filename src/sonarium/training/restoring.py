"""Restoring the state of a checkpoint, with checks first: a run may come from an untrusted source.

The state of an optimiser is compared with that after a trial step, since PyTorch loads any names and shapes, and
fails in the middle of the next update.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sonarium.environment import EnvironmentFault
from sonarium.training.contract import Stateful, Tree


def restore_part(name: str, part: Stateful, state: Tree) -> None:
    """Load the saved state into a part; raises ValueError with the reason if it does not fit."""
    try:
        if isinstance(part, Optimizer):
            check_optimiser(part, state)
        part.load_state_dict(state)
    except (OSError, MemoryError, EnvironmentFault):
        raise
    # Parts may belong to learners of other packages, which may raise anything for an invalid state.
    except Exception as error:
        raise ValueError(f"{name}: {str(error) or type(error).__name__}") from None


def check_optimiser(optimiser: Optimizer, state: Tree) -> None:
    """Raise ValueError for a state that this optimiser does not write."""
    groups, moments = state["param_groups"], state["state"]
    if [len(group["params"]) for group in groups] != [len(own["params"]) for own in optimiser.param_groups]:
        raise ValueError("its groups of parameters have other sizes")
    for own, group in zip(optimiser.param_groups, groups, strict=True):
        for key, value in own.items():
            if key != "params" and not alike(value, group.get(key, value)):
                raise ValueError(f"{key} is {group[key]!r:.60}, expected something like {value!r}")
        expected = first_step(optimiser, own)
        for number, parameter in zip(group["params"], own["params"], strict=True):
            if expected is not None and number in moments:
                check_moments(f"the state of parameter {number}", moments[number], parameter, expected)
    unknown = moments.keys() - {number for group in groups for number in group["params"]}
    if unknown:
        raise ValueError(f"it has a state of unknown parameters {sorted(map(str, unknown))[:5]}")


def alike(own: Any, saved: Any) -> bool:
    """Whether a saved hyperparameter has the type of the optimiser's own."""
    if isinstance(own, bool) or own is None or isinstance(own, str):
        return type(saved) is type(own) or (own is None and isinstance(saved, bool))
    if isinstance(own, int | float):
        return isinstance(saved, int | float) and not isinstance(saved, bool) and math.isfinite(saved)
    if isinstance(own, list | tuple):
        return isinstance(saved, list | tuple) and len(own) == len(saved) and all(map(alike, own, saved))
    return isinstance(saved, type(own))


def first_step(optimiser: Optimizer, group: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """State of a one-element parameter after a step of the optimiser; None if it cannot take a bare step."""
    device = group["params"][0].device if group["params"] else None
    number = torch.nn.Parameter(torch.zeros(1, device=device))
    number.grad = torch.zeros(1, device=device)
    try:
        other = copy.copy(optimiser)
        other.param_groups = [{**group, "params": [number]}]
        other.state = defaultdict(dict)
        other.step()
    # Some require a closure, or keep state elsewhere: an optimiser of another package may raise anything.
    except Exception:
        return None
    return other.state[number]


def check_moments(what: str, found: Tree, parameter: Tensor, expected: Mapping[str, Any]) -> None:
    """Raise ValueError for moments with other names, shapes or types, or that are not finite."""
    if found.keys() != expected.keys():
        raise ValueError(f"{what} has {sorted(map(str, found))}, expected {sorted(expected)}")
    for name, value in found.items():
        own = expected[name]
        if not isinstance(own, Tensor):
            if not alike(own, value):
                raise ValueError(f"{name} of {what} is {value!r:.60}, expected something like {own!r}")
            continue
        shape = own.shape if own.ndim == 0 else parameter.shape
        if not isinstance(value, Tensor) or value.shape != shape or not value.is_floating_point():
            raise ValueError(f"{name} of {what} is not a tensor of shape {tuple(shape)}")
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name} of {what} holds NaN or infinite numbers")
        # A scalar counts steps.
        if own.ndim == 0 and value < 0:
            raise ValueError(f"{name} of {what} is {float(value)}, expected at least 0")
