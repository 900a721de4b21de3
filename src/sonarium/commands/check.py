"""`sonarium check FOLDER`: what recordings there are, and which cannot be used, before anything is learnt.

Takes the flags of the world `recordings`. The exit code is 0 if a training of seed 0 would begin, and 1 if too
many files are bad or no split can be trusted. `--json` prints one object: `path`, `layout`, `ok`, `refused` (why
not, or null); how many `files` and `clips`; `hours`; `seconds` (shortest, median, longest clip); files by `rates`,
`channels` and `formats`; `labels` and `segments` with their counts; `group` and `groups` with clips and hours;
`bad_files`, `bad_clips` and `remarks` with their reasons; `duplicates` (one recording under several names) and
`leaks` (one in several groups); `passed_over`, other files by their endings; `cache` (`path`, `bytes`, `damage`).
"""

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import tyro

from sonarium.commands.faults import UsageError
from sonarium.commands.flags import parse
from sonarium.commands.progress import bars, plainly
from sonarium.worlds.contract import UNKNOWN
from sonarium.worlds.recordings.survey import FILE, RecordingsConfig, Survey, survey
from sonarium.worlds.recordings.world import Recordings
from sonarium.worlds.splits import deal

SHOWN = 12
"""Values that are listed of each kind; --json has all."""


@dataclass(frozen=True)
class CheckFlags:
    folder: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of recordings, or a manifest (.csv, .tsv or .parquet)."""
    json: bool = False
    """Print everything as JSON."""


def main(arguments: list[str]) -> None:
    fields = [("world_config", RecordingsConfig, field(default_factory=RecordingsConfig))]
    schema = dataclasses.make_dataclass("Check", fields, bases=(CheckFlags,), frozen=True)
    flags = parse(schema, arguments, "check", "Look through recordings before learning from them.")
    config: RecordingsConfig = flags.world_config
    if (flags.folder is None) == (config.path is None):
        raise UsageError("check which recordings? name one folder or manifest: `sonarium check FOLDER`")
    if flags.folder is not None:
        config = dataclasses.replace(config, path=str(flags.folder))
    with bars() as progress:
        found = survey(config, plainly(progress))
    told = account(found)
    print(json.dumps(told, indent=2) if flags.json else "\n".join(in_words(told, found)))
    if not told["ok"]:
        raise SystemExit(1)


def account(found: Survey) -> dict[str, Any]:
    """Everything that was found, in JSON's terms."""
    rate, clips = found.config.rate, found.clips
    entries = {clip.row.path: found.cache.entries[clip.content] for clip in clips}
    lengths = sorted(clip.length / rate for clip in clips)
    quarantine, refused = found.quarantine.record(), refusal(found)
    return {
        "path": found.config.path,
        "layout": found.listing.layout,
        "ok": refused is None,
        "refused": refused,
        "files": quarantine["files"],
        "clips": len(clips),
        "hours": sum(lengths) / 3600,
        "seconds": [lengths[0], median(lengths), lengths[-1]] if lengths else [],
        "rates": counted(entry.rate for entry in entries.values()),
        "channels": counted(entry.channels for entry in entries.values()),
        "formats": counted(entry.form for entry in entries.values()),
        "labels": {name: counted(found.value(clip, name) for clip in clips) for name in found.factors},
        "segments": counted(label for clip in clips for _, _, label in clip.row.segments),
        "group": found.group,
        "groups": groups(found),
        "bad_files": quarantine["bad_files"],
        "bad_clips": quarantine["bad_clips"],
        "remarks": quarantine["remarks"],
        **doubles(found),
        "passed_over": dict(sorted(found.listing.passed.items())),
        "cache": {"path": str(found.cache.path), "bytes": found.cache.bytes, "damage": found.cache.damage},
    }


def refusal(found: Survey) -> str | None:
    """Why a training would not begin."""
    quarantine, allowed = found.quarantine, found.config.bad_share
    if not found.clips:
        return "nothing is left"
    if quarantine.share > allowed:
        return "mend or remove them, or give a larger --bad-share"
    try:
        deal(Recordings.of(found), seed=0)
    except ValueError as error:
        return str(error)
    return None


def counted(values: Any) -> dict[str, int]:
    """How often each value comes, in order; whole numbers by size."""
    counts = Counter(str(value) for value in values)
    numeric = all(value.isdecimal() for value in counts)
    return dict(sorted(counts.items(), key=lambda item: (int(item[0]) if numeric else 0, item[0])))


def groups(found: Survey) -> dict[str, dict[str, float]]:
    """Clips and hours of each group; where each file stands for itself, they would only repeat the files."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: {"clips": 0, "hours": 0.0})
    for clip in found.clips:
        name = str(clip.row.path) if found.group == FILE else found.value(clip, found.group)
        sums[name]["clips"] += 1
        sums[name]["hours"] += clip.length / found.config.rate / 3600
    return dict(sorted(sums.items()))


def doubles(found: Survey) -> dict[str, list[list[str]]]:
    """Files with the same content, and recordings that lie in several groups."""
    paths, inside = defaultdict(set), defaultdict(set)
    for clip in found.clips:
        paths[clip.content].add(str(clip.row.path))
        inside[clip.content].add(found.value(clip, found.group))
    several = sorted(sorted(names) for names in paths.values() if len(names) > 1)
    leaks = sorted(sorted(paths[content]) for content, names in inside.items() if len(names) > 1)
    return {"duplicates": several, "leaks": leaks}


def in_words(told: dict[str, Any], found: Survey) -> list[str]:
    """The same for people."""
    lines = [f"{told['path']}: layout {told['layout']}, {told['files']} files, {told['clips']} clips"]

    def say(name: str, text: str) -> None:
        lines.append(f"  {name:<12}{text}")

    if told["seconds"]:
        shortest, middle, longest = told["seconds"]
        say(
            "hours",
            f"{told['hours']:.3f}; a clip has {shortest:.2f} to {longest:.2f} s, in the middle {middle:.2f}",
        )
    for name, unit in (("rates", " Hz"), ("channels", ""), ("formats", "")):
        say(name, ", ".join(f"{value}{unit} ({count})" for value, count in told[name].items()) or "none")
    for name, counts in told["labels"].items():
        say("label", f"{name}, {valued(counts)}")
    if told["segments"]:
        segments = told["segments"]
        say("segments", f"{sum(segments.values())} with {len(segments)} labels: {listed(segments)}")
    say("split by", splits(told))
    for title, faults in (("bad files", "bad_files"), ("bad clips", "bad_clips"), ("remarks", "remarks")):
        reasons = [f"{fault['path']} {fault['reason']}" for fault in told[faults]]
        for line in some(reasons) if faults == "remarks" else reasons:
            say(title, line)
    for names in some([" = ".join(names) for names in told["duplicates"]]):
        say("same sound", names)
    if told["leaks"]:
        names = ", ".join(some([names[0] for names in told["leaks"]]))
        say("leaks", f"in several groups, which no split may have on both sides: {names}")
    if told["passed_over"]:
        say("passed over", listed(told["passed_over"]))
    cache = told["cache"]
    damage = f"; the one found was damaged and is made anew: {cache['damage']}" if cache["damage"] else ""
    say("cache", f"{cache['path']}, {cache['bytes'] / 1e6:.1f} MB{damage}")
    return [*lines, conclusion(told, found)]


def conclusion(told: dict[str, Any], found: Survey) -> str:
    quarantine, allowed = found.quarantine, found.config.bad_share
    bad = f"{len(quarantine.faults)} of {quarantine.files} files bad"
    if quarantine.stretches:
        bad += f" and {len(quarantine.stretches)} of {quarantine.clips} clips"
    said = f"{bad} ({quarantine.share:.2%}, allowed are {allowed:.2%})"
    return f"ready: {said}" if told["ok"] else f"not ready: {said}: {told['refused']}"


def splits(told: dict[str, Any]) -> str:
    groups = told["groups"]
    if told["group"] == FILE:
        return "file, each for itself; if several have one speaker, bird or session, name that label with --group"
    clips = {name: int(sums["clips"]) for name, sums in groups.items()}
    return f"{told['group']}, {len(groups)} groups: {listed(clips)}"


def valued(counts: Mapping[str, int]) -> str:
    """How many values there are and how often each comes; clips without one are no value."""
    named = {value: count for value, count in counts.items() if value != UNKNOWN}
    lacking = f"; {counts[UNKNOWN]} clips have none" if UNKNOWN in counts else ""
    return f"{len(named)} values: {listed(named)}{lacking}"


def listed(counts: Mapping[str, int]) -> str:
    return ", ".join(some([f"{value} ({count})" for value, count in counts.items()]))


def some(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines if more <= 1 else [*lines[:SHOWN], f"and {more} more"]
