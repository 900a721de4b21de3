"""Selection of clips by their factors, and sampling weights of the training clips."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonarium.worlds.contract import Factor, World

NUMBER = re.compile(r"\d+(?:\.\d+)?")
CONDITION = re.compile(r"(?P<factor>[^=!]+)(?P<sign>!?=)(?P<value>.+)")


def selected(
    world: World, index: Int[Tensor, " clip"], only: Sequence[str], part: str = "training"
) -> Int[Tensor, " chosen"]:
    """Clips that meet all conditions, such as `day=65` or `bird!=bird-2`; with `=`, any of one factor."""
    if not only or not len(index):
        return index
    values = world.factor_values(index)
    any_of: dict[int, Tensor] = {}
    kept = torch.ones(len(index), dtype=torch.bool)
    for condition in only:
        parts = CONDITION.fullmatch(condition)
        if parts is None:
            raise ValueError(f"only={condition!r}: give a factor and a value, such as day=65 or bird!=2")
        column, factor = factor_of(world, parts["factor"], "only")
        met = having(factor, values[:, column], parts["value"])
        if parts["sign"] == "=":
            any_of[column] = any_of.get(column, torch.zeros_like(met)) | met
        else:
            kept &= ~met
    for met in any_of.values():
        kept &= met
    if not kept.any():
        raise ValueError(f"only={' '.join(only)}: no clip of the {part} split is left; give other values")
    return index[kept]


def factor_of(world: World, name: str, flag: str) -> tuple[int, Factor]:
    """The column of a factor, and the factor."""
    names = [factor.name for factor in world.factors]
    if name not in names:
        raise ValueError(
            f"{flag}: no factor of {world.name} is called '{name}': choose one of {', '.join(names) or 'none'}"
        )
    return names.index(name), world.factors[names.index(name)]


def having(factor: Factor, values: Float[Tensor, " clip"], wanted: str) -> Bool[Tensor, " clip"]:
    """Mask of clips with a factor value, given by its name or by the number in it."""
    if not factor.discrete:
        try:
            number = float(wanted)
        except ValueError:
            raise ValueError(f"only: {factor.name}={wanted}: give a number") from None
        return torch.isclose(values.double(), torch.tensor(number, dtype=torch.float64))
    number = number_in(wanted)
    named = [at for at, value in enumerate(factor.values) if value == wanted]
    plain = NUMBER.fullmatch(wanted) is not None
    found = named or [at for at, value in enumerate(factor.values) if plain and number_in(str(value)) == number]
    if not found:
        some = ", ".join(map(str, factor.values[:10]))
        raise ValueError(f"only: no {factor.name} is called '{wanted}': choose one of {some}")
    return torch.isin(values.long(), torch.tensor(found))


def number_in(text: str) -> float | None:
    """The number in a name, as in `day 65`; None if there is not exactly one."""
    found = NUMBER.findall(text)
    return float(found[0]) if len(found) == 1 else None


def chances(
    world: World, index: Int[Tensor, " clip"], name: str, power: float
) -> Float[np.ndarray, " clip"] | None:
    """Sampling probability of each clip, proportional to a power of its factor's number; 0 for clips without a
    number. None if all are equal."""
    if not name:
        return None
    column, factor = factor_of(world, name, "weight_by")
    values = world.factor_values(index)[:, column].double().numpy()
    if factor.discrete:
        numbers = np.array([np.nan if (one := number_in(str(value))) is None else one for value in factor.values])
        values = numbers[values.astype(int)]
    known = np.isfinite(values)
    if not known.any() or (values[known] <= 0).any():
        raise ValueError(
            f"weight_by={name}: the clips have no numbers above 0, such as ages, by which to weight them; choose "
            "another factor"
        )
    # Relative to the largest, so that no power overflows.
    weights = np.zeros(len(values))
    weights[known] = np.exp(power * (np.log(values[known]) - np.log(values[known].max())))
    return weights / weights.sum()
