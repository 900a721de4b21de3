"""The split of a world into training, validation and test clips, and its record in a run folder.

No group and no recording is in two splits. The record identifies each clip by its content, so that files that
change on disk later cannot move sound from the training split to the test split.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sonarium.files import read_json, write_whole
from sonarium.measures.splits import Split, deal, listed, of_groups, shared
from sonarium.worlds.contract import World

__all__ = ["Split", "check", "compare", "hold", "in_words", "split_world"]

NAME = "split.json"
Clips = Split[Tensor]
"""Indices of the clips of a world."""


def split_world(
    world: World,
    seed: int,
    test: float = 0.2,
    validation: float = 0.0,
    test_groups: Sequence[str] = (),
    validation_groups: Sequence[str] = (),
) -> Clips:
    """Assign groups to splits at random by these fractions, or by name; the same seed gives the same split."""
    groups = world.group(torch.arange(len(world))).numpy()
    if test_groups or validation_groups:
        found = of_groups(groups, *numbered(world, test_groups, validation_groups))
        if not len(found.train):
            raise ValueError(
                f"the test and validation groups are every {world.group_kind}: leave some for training"
            )
    else:
        found = deal(groups, np.random.default_rng([seed, 0x5B117]), validation, test)
        if test and not len(found.test):
            raise ValueError(
                f"the test split of world '{world.name}' is empty: it has {len(np.unique(groups))} group(s), none "
                "of which may be in two splits; use more clips, or another --group of recordings, such as file, "
                "or --test 0, which trains on all clips and evaluates nothing"
            )
    split = Split(*(torch.from_numpy(rows) for _, rows in found.items()))
    check(world, split)
    return split


def numbered(world: World, test: Sequence[str], validation: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of the validation groups and of the test groups, given by name or by the path of a file."""
    if world.group_kind == "clip":
        raise ValueError(
            f"--test-groups: world '{world.name}' has no groups with names; use --test, the fraction of its clips"
        )
    if not test:
        raise ValueError("--validation-groups without --test-groups: name the groups of the test split, too")
    number = {name: at for at, name in enumerate(world.group_names())}
    if world.group_kind == "file" and not number.keys() >= {*test, *validation}:
        everything = torch.arange(len(world))
        paths = zip(map(world.path, everything.tolist()), world.group(everything).tolist(), strict=True)
        number = dict(paths) | number
    for name in (*test, *validation):
        if name not in number:
            known = ", ".join(world.group_names()[:20])
            raise ValueError(f"no {world.group_kind} is called '{name}': there are {known}")
    return [number[name] for name in validation], [number[name] for name in test]


def check(world: World, split: Clips) -> None:
    """Raise ValueError if a clip, a group, or the same sound under two names is in two splits."""
    for name, side in split.items():
        if len(side) and not 0 <= int(side.min()) <= int(side.max()) < len(world):
            raise ValueError(
                f"the {name} split has clips that world '{world.name}' of {len(world)} clips does not have"
            )
    everything = torch.arange(len(world))
    if leak := shared(world.group(everything).numpy(), split):
        one, other, numbers = leak
        names = [world.group_names()[number] for number in numbers]
        raise ValueError(
            f"the split leaks: {world.group_kind} {listed(names)} is in the {one} and in the {other} split; "
            "keep whole groups together, or choose another --group"
        )
    recordings = world.recording(everything)
    if leak := shared(recordings.numpy(), split):
        one, other, numbers = leak
        sides = dict(split.items())
        here, there = (
            world.path(int(side[recordings[side] == numbers[0]][0])) for side in (sides[one], sides[other])
        )
        if here == there:
            raise ValueError(
                f"the split leaks: parts of '{here}' are in the {one} and in the {other} split "
                f"({len(numbers)} such files); choose a --group that holds a file together, such as file"
            )
        raise ValueError(
            f"the split leaks: '{here}' in the {one} split and '{there}' in the {other} split are the same "
            f"recording ({len(numbers)} such); leave one of each out, or choose another --group"
        )


def in_words(world: World, split: Clips) -> str:
    """Kind of group, and number of clips, groups and hours of each split, in words."""
    said, rate = [], world.signal.steps_per_second
    for name, side in split.items():
        if len(side):
            groups = len(world.group(side).unique())
            hours = f", {float(world.lengths(side).sum()) / rate / 3600:.2f} h" if rate else ""
            said.append(f"{name} {len(side)} clips of {groups}{hours}")
    nothing = "" if len(split.test) else "; there is no test split"
    return f"split by {world.group_kind}, none in two parts: {'; '.join(said)}{nothing}"


def hold(world: World, split: Clips, folder: Path) -> None:
    """Write the split of a run to its folder; raise ValueError if a different one is there.

    Rendered clips follow from the configuration of the run, so their split is not written.
    """
    if world.rendered:
        return
    path = folder / NAME
    if path.exists():
        compare(world, split, folder)
    else:
        write_whole(path, json.dumps({"group": world.group_kind, **sides(world, split)}, indent=1) + "\n")


def sides(world: World, split: Clips) -> dict[str, dict[str, list[str]]]:
    """Groups of each split, and content identifiers of its clips."""
    names = world.group_names()
    return {
        name: {
            "groups": [names[group] for group in sorted(set(world.group(side).tolist()))],
            "clips": world.identity(side),
        }
        for name, side in split.items()
    }


def compare(world: World, split: Clips, folder: Path) -> None:
    """Raise ValueError if the recordings or their split differ from those that the run began with."""
    path = folder / NAME
    if world.rendered or not path.exists():
        return
    try:
        told = read_json(path)
        then = {name: Counter(told[name]["clips"]) for name, _ in split.items()}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"'{path}' is damaged: restore it, or start a new --run") from None
    now = {name: Counter(side["clips"]) for name, side in sides(world, split).items()}
    if then == now:
        return
    before, after = (sum(side.values(), Counter()) for side in (then, now))
    came, went = (after - before).total(), (before - after).total()
    stayed = sum((then[name] & now[name]).total() for name in then)
    moved = (before & after).total() - stayed
    raise ValueError(
        f"world '{world.name}' does not hold the recordings that '{folder}' began with: {came} clip(s) came, "
        f"{went} went, {moved} would lie in another part of the split; restore them, or start a new --run "
        f"(now: {world.describe()})"
    )
