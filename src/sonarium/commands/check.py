"""`sonarium check FOLDER`: a survey of recordings, and the files that cannot be used, before any training.

Takes the flags of the world `recordings`. The exit code is 0 if a training with seed 0 would start, and 1 if too
many files are bad or every split would leak. `--json` prints one object: `path`, `layout`, `ok`, `refused` (the
reason, or null); the numbers of `files` and `clips`; `hours`; `seconds` (shortest, median, longest clip); files by
`rates`, `channels` and `formats`; `labels` and `segments` with their counts; `group` and `groups` with clips and
hours; `bad_files`, `bad_clips` and `remarks` with their reasons; `duplicates` (one recording under two names) and
`leaks` (one in several groups); `read`, files of labels and segments, and `passed_over`, all other files, by their
suffixes; `cache` (`path`, `bytes`, `damage`); `pieces`, training pieces of `--seconds` in all clips.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import tyro

from sonarium.commands.faults import UsageError, tell
from sonarium.commands.flags import Group, parse_groups, required
from sonarium.commands.progress import bars, plainly
from sonarium.evaluation.splits import split_world
from sonarium.worlds.contract import UNKNOWN
from sonarium.worlds.recordings.listing import FILE, Listing
from sonarium.worlds.recordings.survey import Survey, survey
from sonarium.worlds.recordings.world import RECORDINGS, usable

SHOWN = 12
"""Maximum number of values listed of each kind; --json has all."""
BLANK = '""'
"""How an empty label is shown."""
ANNOTATION_LIKE = {".csv", ".tsv", ".txt", ".json", ".xml", ".mat", ".textgrid", ".lab", ".phn", ".wrd", ".eaf"}
"""Suffixes of files that may contain labels or segments."""
SILENCE = {"sil", "silence", "silent", "sp", "pau", "pause", "epi", "h#", "#h", "<sil>"}
"""Common labels, in lower case, of segments without sound."""


@dataclass(frozen=True)
class CheckFlags:
    folder: Annotated[tyro.conf.Positional[Path | None], required("FOLDER")] = None
    """Folder of recordings, or a manifest (.csv, .tsv or .parquet)."""
    json: bool = False
    """Print everything as JSON."""


def main(arguments: list[str]) -> None:
    flags, (config,) = parse_groups(
        CheckFlags, [Group("recordings", RECORDINGS.Config(), RECORDINGS.main)], arguments, "check",
        "Check recordings before training.",
    )  # fmt: skip
    if (flags.folder is None) == (config.path is None):
        raise UsageError("check which recordings? name one folder or manifest: `sonarium check FOLDER`")
    if flags.folder is not None:
        config = replace(config, path=str(flags.folder))
    with bars() as progress:
        found = survey(config, plainly(progress))
    result = summary(found)
    if flags.json:
        print(json.dumps(result, indent=2))
    else:
        tell(*in_words(result, found))
    if not result["ok"]:
        raise SystemExit(1)


def summary(found: Survey) -> dict[str, Any]:
    """The results of the survey as JSON values."""
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
        "pieces": sum(max(1, clip.length // round(found.config.seconds * rate)) for clip in clips),
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
        "read": dict(sorted(found.listing.read.items())),
        "passed_over": dict(sorted(found.listing.passed.items())),
        "cache": {"path": str(found.cache.path), "bytes": found.cache.bytes, "damage": found.cache.damage},
    }


def refusal(found: Survey) -> str | None:
    """Reason why a training would not start; None if it would."""
    quarantine, allowed = found.quarantine, found.config.bad_fraction
    if not found.clips:
        return "no clip is left"
    if quarantine.fraction > allowed:
        return "repair or remove them, or raise --bad-fraction"
    try:
        split_world(usable(found), seed=0)
    except ValueError as error:
        return str(error)
    return None


def counted(values: Any) -> dict[str, int]:
    """The count of each value, sorted; whole numbers numerically."""
    counts = Counter(str(value) for value in values)
    numeric = all(value.isdecimal() for value in counts)
    return dict(sorted(counts.items(), key=lambda item: (int(item[0]) if numeric else 0, item[0])))


def groups(found: Survey) -> dict[str, dict[str, float]]:
    """Clips and hours of each group, or of each file if it is its own group."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: {"clips": 0, "hours": 0.0})
    for clip in found.clips:
        name = str(clip.row.path) if found.group == FILE else found.value(clip, found.group)
        sums[name]["clips"] += 1
        sums[name]["hours"] += clip.length / found.config.rate / 3600
    return dict(sorted(sums.items()))


def doubles(found: Survey) -> dict[str, list[list[str]]]:
    """Files with the same content, and recordings that are in several groups."""
    paths, inside = defaultdict(set), defaultdict(set)
    for clip in found.clips:
        paths[clip.content].add(str(clip.row.path))
        inside[clip.content].add(found.value(clip, found.group))
    several = sorted(sorted(names) for names in paths.values() if len(names) > 1)
    leaks = sorted(sorted(paths[content]) for content, names in inside.items() if len(names) > 1)
    return {"duplicates": several, "leaks": leaks}


def in_words(result: dict[str, Any], found: Survey) -> list[str]:
    """The results as lines of text."""
    lines = [f"{result['path']}: layout {result['layout']}, {result['files']} files, {result['clips']} clips"]

    def say(name: str, text: str) -> None:
        lines.append(f"  {name:<12}{text}")

    if result["seconds"]:
        shortest, middle, longest = result["seconds"]
        clips = f"clips last {shortest:.2f} to {longest:.2f} s, median {middle:.2f} s"
        say("hours", f"{result['hours']:.3f}; {clips}")
        say("pieces", f"{result['pieces']} of {found.config.seconds:g} s, of which batches are drawn in training")
    for name, unit in (("rates", " Hz"), ("channels", ""), ("formats", "")):
        say(name, ", ".join(f"{value}{unit} ({count})" for value, count in result[name].items()) or "none")
    for name, counts in result["labels"].items():
        say("label", f"{name}, {valued(counts)}")
    if result["segments"]:
        segments = result["segments"]
        say("segments", f"{sum(segments.values())} with {len(segments)} labels: {listed(segments)}")
        for line in silent(segments):
            say("silence", line)
    if result["read"]:
        say("labels from", listed(result["read"]))
    say("split by", splits(result))
    for title, faults in (("bad files", "bad_files"), ("bad clips", "bad_clips"), ("remarks", "remarks")):
        reasons = [f"{fault['path']} {fault['reason']}" for fault in result[faults]]
        for line in some(reasons) if faults == "remarks" else reasons:
            say(title, line)
    for names in some([" = ".join(names) for names in result["duplicates"]]):
        say("same sound", names)
    if result["leaks"]:
        names = ", ".join(some([names[0] for names in result["leaks"]]))
        say("leaks", f"in several groups, which no two parts of a split may share: {names}")
    for line in left(found.listing):
        say("passed over", line)
    cache = result["cache"]
    damage = f"; the cache found was damaged and was rebuilt: {cache['damage']}" if cache["damage"] else ""
    say("cache", f"{cache['path']}, {cache['bytes'] / 1e6:.1f} MB{damage}")
    return [*lines, conclusion(result, found)]


def conclusion(result: dict[str, Any], found: Survey) -> str:
    quarantine, allowed = found.quarantine, found.config.bad_fraction
    bad = f"{len(quarantine.faults)} of {quarantine.files} files bad"
    if quarantine.stretches:
        bad += f" and {len(quarantine.stretches)} of {quarantine.clips} clips"
    said = f"{bad} ({quarantine.fraction:.2%}, allowed are {allowed:.2%})"
    return f"ready: {said}" if result["ok"] else f"not ready: {said}: {result['refused']}"


def splits(result: dict[str, Any]) -> str:
    groups = result["groups"]
    if result["group"] == FILE:
        return (
            "file, each its own group; if several share a speaker, bird or session, name that label with --group"
        )
    clips = {name: int(sums["clips"]) for name, sums in groups.items()}
    return f"{result['group']}, {len(groups)} groups: {listed(clips)}"


def valued(counts: Mapping[str, int]) -> str:
    """Number of values and count of each, in words; unlabelled clips are counted separately."""
    named = {value: count for value, count in counts.items() if value != UNKNOWN}
    lacking = f"; {counts[UNKNOWN]} clips unlabelled" if UNKNOWN in counts else ""
    return f"{len(named)} values: {listed(named)}{lacking}"


def left(listing: Listing) -> list[str]:
    """Files that were not used, with the reason, in words."""
    superseded = dict(listing.superseded)
    others = Counter(listing.passed) - Counter(superseded)
    perhaps = {name: count for name, count in others.items() if name in ANNOTATION_LIKE}
    rest = {name: count for name, count in others.items() if name not in perhaps}
    return [
        f"{listed(dict(sorted(counts.items())))}: {why}"
        for counts, why in (
            (
                superseded,
                f"segments, for which those of {', '.join(listing.read)} stand: --annotations can choose",
            ),
            (
                perhaps,
                "labels or segments in them are not read; --annotations, --layout and --pattern can say how",
            ),
            (rest, "no sound"),
        )
        if counts
    ]


def silent(segments: Mapping[str, int]) -> list[str]:
    """Remarks on segments that seem to mark silence."""
    named = {value: count for value, count in segments.items() if value.lower() in SILENCE and value}
    return [
        f"{listed(counts)}: {how}"
        for counts, how in (
            ({"": segments[""]} if "" in segments else {}, "blank, which is no label: taken as unmarked"),
            (named, "labels like all others; leave these segments out if they should be none"),
        )
        if counts
    ]


def listed(counts: Mapping[str, int]) -> str:
    return ", ".join(some([f"{value or BLANK} ({count})" for value, count in counts.items()]))


def some(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines if more <= 1 else [*lines[:SHOWN], f"and {more} more"]
