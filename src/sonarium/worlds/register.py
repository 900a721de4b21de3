"""Which recordings lie in which part of a run's split, by their content: what changes on the disk later must not
move sound that was learnt from to where it would be judged."""

import json
from collections import Counter
from pathlib import Path

from sonarium.files import write_whole
from sonarium.worlds.contract import Split
from sonarium.worlds.recordings.world import Recordings

NAME = "split.json"


def hold(world: Recordings, parts: Split, folder: Path) -> None:
    """Write the split of a run into its folder; refuse another one if it is there."""
    path = folder / NAME
    if path.exists():
        compare(world, parts, folder)
    else:
        told = {"group": world.group_name, **sides(world, parts)}
        write_whole(path, json.dumps(told, indent=1) + "\n")


def sides(world: Recordings, parts: Split) -> dict[str, dict[str, list[str]]]:
    """The groups of each part, and the content of its clips."""
    named = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    return {
        name: {
            "groups": [world.group_names[group] for group in sorted(set(world.group(side).tolist()))],
            "clips": [world.identities[clip] for clip in side.tolist()],
        }
        for name, side in named.items()
    }


def compare(world: Recordings, parts: Split, folder: Path) -> None:
    """Refuse to go on with other recordings, or with another split of them, than the run began with."""
    path = folder / NAME
    if not path.exists():
        return
    try:
        told = json.loads(path.read_bytes())
        then = {name: Counter(told[name]["clips"]) for name in ("train", "validation", "test")}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"'{path}' is damaged: restore it, or start a new --run") from None
    now = {name: Counter(side["clips"]) for name, side in sides(world, parts).items()}
    if then == now:
        return
    before, after = (sum(side.values(), Counter()) for side in (then, now))
    came, went = (after - before).total(), (before - after).total()
    stayed = sum((then[name] & now[name]).total() for name in then)
    moved = (before & after).total() - stayed
    raise ValueError(
        f"'{world.root}' does not hold the recordings that '{folder}' began with: {came} clip(s) came, {went} "
        f"went, {moved} would lie in another part of the split; restore them, or start a new --run"
    )
