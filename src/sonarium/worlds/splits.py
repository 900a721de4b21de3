"""Splits that can be trusted: no group, no file and no sound on both sides; and what a split is, in words."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from sonarium.worlds.contract import Split, World, split
from sonarium.worlds.recordings.listing import relative
from sonarium.worlds.recordings.world import Recordings

TOLD = 5
"""Groups that are named in one message."""


def deal(
    world: World,
    seed: int,
    test: float = 0.2,
    validation: float = 0.0,
    test_groups: Sequence[str] = (),
    validation_groups: Sequence[str] = (),
) -> Split:
    """Parts of these shares, or of these groups, which can be trusted."""
    if not test_groups and not validation_groups:
        parts = split(world, seed, test, validation)
        check_split(world, parts)
        return parts
    if not isinstance(world, Recordings):
        raise ValueError(
            f"--test-groups: world '{world.name}' has no groups with names; take --test, a share of it"
        )
    if not test_groups:
        raise ValueError("--validation-groups without --test-groups: name the groups to judge on, too")
    return split_by(world, test_groups, validation_groups)


def check_split(world: World, parts: Split) -> None:
    """Refuse a split in which a clip, a group, or the same sound under two names lies in two parts."""
    sides = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    names = world.group_names if isinstance(world, Recordings) else None
    kind = world.group_name if isinstance(world, Recordings) else "group"
    for name, side in sides.items():
        if len(side) and not 0 <= int(side.min()) <= int(side.max()) < len(world):
            raise ValueError(f"the {name} part has clips that world '{world.name}' of {len(world)} clips has not")
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        shared = common(world.group(sides[one]), world.group(sides[other]))
        if shared:
            told = ", ".join(names[group] if names else str(group) for group in shared[:TOLD])
            more = f" and {len(shared) - TOLD} more" if len(shared) > TOLD else ""
            raise ValueError(
                f"the split leaks: {kind} {told}{more} is in the {one} and in the {other} part; "
                "deal out whole groups, or choose another --group"
            )
        if isinstance(world, Recordings):
            check_sound(world, one, sides[one], other, sides[other])


def check_sound(
    world: Recordings, one: str, first: Int[Tensor, " one"], other: str, second: Int[Tensor, " other"]
) -> None:
    """The same bytes may lie under two names with two labels."""
    shared = common(world.contents[first], world.contents[second])
    if shared:
        here, there = (world.paths[int(side[world.contents[side] == shared[0]][0])] for side in (first, second))
        if here == there:
            raise ValueError(
                f"the split leaks: of '{here}' there are stretches in the {one} and in the {other} part "
                f"({len(shared)} such files); choose a --group that holds a file together, such as file"
            )
        raise ValueError(
            f"the split leaks: '{here}' in the {one} part and '{there}' in the {other} "
            f"part are the same recording ({len(shared)} such); leave one of each out, or choose another --group"
        )


def common(one: Int[Tensor, " one"], other: Int[Tensor, " other"]) -> list[int]:
    return sorted(set(one.tolist()) & set(other.tolist()))


def split_by(world: Recordings, test: Sequence[str], validation: Sequence[str] = ()) -> Split:
    """Named groups for judging and for choosing, all others to learn from."""
    number = {name: at for at, name in enumerate(world.group_names)}
    # A file may also be named by its whole path.
    test, validation = (
        [name if name in number else relative(Path(name), world.root) for name in names]
        for names in (test, validation)
    )
    for name in (*test, *validation):
        if name not in number:
            known = ", ".join(world.group_names[:20])
            raise ValueError(f"no {world.group_name} is called '{name}': there are {known}")
    everything = torch.arange(len(world))

    def clips_of(names: Sequence[str]) -> Tensor:
        return torch.isin(world.groups, torch.tensor([number[name] for name in names], dtype=torch.int64))

    judged, chosen = clips_of(test), clips_of(validation)
    if not (~judged & ~chosen).any():
        raise ValueError(f"the groups to judge and to choose on are every {world.group_name}: leave some to learn")
    parts = Split(everything[~judged & ~chosen], everything[chosen], everything[judged])
    check_split(world, parts)
    return parts


def in_words(world: World, parts: Split) -> str:
    """What a split was made by, and how much each part has."""
    kind = world.group_name if isinstance(world, Recordings) else "group"
    told = []
    for name, side in (("train", parts.train), ("validation", parts.validation), ("test", parts.test)):
        if len(side):
            groups = len(set(world.group(side).tolist()))
            hours = f", {float(world.duration(side).sum()) / 3600:.2f} h" if isinstance(world, Recordings) else ""
            told.append(f"{name} {len(side)} clips of {groups}{hours}")
    nothing = "" if len(parts.test) else "; nothing is kept for judging"
    return f"split by {kind}, none in two parts: {'; '.join(told)}{nothing}"
