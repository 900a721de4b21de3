"""`sonarium report RUN… --out page.html`: one offline page with pictures and sound.

`--json` prints one object: `out`, the page; `bytes`, its size; `runs`, how many it shows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sonarium.catalogue import WORLDS
from sonarium.commands.faults import UsageError, tell
from sonarium.commands.flags import parse, required
from sonarium.commands.progress import bars
from sonarium.config import fits, short
from sonarium.files import read_json
from sonarium.report.page import RunPage, page
from sonarium.runs.plan import Summary, mapping, read_plan, summary
from sonarium.training.journal import read_metrics
from sonarium.training.run import RunFolder

SCORES: Mapping[str, Any] = {
    "protocol": str, "step": int, "clips": int, "scores": dict[str, Any], "controls": dict[str, dict[str, Any]],
    "likelihood": dict[str, Any] | None, "settings": dict[str, Any], "planted": bool, "split": str, "asked": str,
    "notes": tuple[str, ...], "curves": dict[str, dict[str, dict[str, Any]]], "best": bool,
}  # fmt: skip
QUARANTINE: Mapping[str, Any] = {"bad_files": tuple[Any, ...], "bad_clips": tuple[Any, ...]}
SUITE: Mapping[str, Any] = {
    "step": int, "episodes": int, "sampled": bool, "measures": dict[str, str],
    "suite": dict[str, dict[str, dict[str, dict[str, float | None]]]],
}  # fmt: skip
"""Keys that a page reads from scores.json, quarantine.json and suite.json, with their types."""


@dataclass(frozen=True)
class ReportFlags:
    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], required("RUNS…")]
    """Run folders, shown side by side."""
    out: Path
    """Output file (.html), which opens offline."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(ReportFlags, arguments, "report", "Write an offline HTML page about one or more runs.")
    if not flags.runs:
        raise UsageError("no run to report: name one or more run folders")
    if flags.out.suffix not in (".html", ".htm"):
        raise UsageError(f"--out {flags.out} does not end in .html: give the page such a name")
    with bars() as progress:
        progress("drawing the page", 0, 1, {})
        page([run_page(folder) for folder in flags.runs], flags.out)
        progress("drawing the page", 1, 1, {})
    size, runs = flags.out.stat().st_size, len(flags.runs)
    if flags.json:
        print(json.dumps({"out": str(flags.out), "bytes": size, "runs": runs}))
    else:
        tell(f"{flags.out}: {runs} run(s), {size / 2**20:.1f} MB; open it in a browser")


def run_page(folder: Path) -> RunPage:
    run = RunFolder.read(folder)
    metrics = read_metrics(folder / "metrics.jsonl")
    if not metrics and run.newest() != 0:
        raise ValueError(f"'{folder}' has no metrics yet: train it with `sonarium train`")
    plan, config = summary(run.config), in_todays_form(run.config)
    scores = read_known(folder / "scores.json", SCORES) or None
    warnings = list(scores.get("notes", ())) if scores else [unscored(folder, plan)]
    quarantine = read_known(folder / "quarantine.json", QUARANTINE)
    for kind in ("file", "clip"):
        if bad := quarantine.get(f"bad_{kind}s"):
            warnings.append(f"{len(bad)} bad {kind}(s) were set aside: quarantine.json has the reasons")
    return RunPage(
        name=folder.resolve().name,
        model=plan.title,
        world=plan.source,
        config=config,
        environment=read_known(folder / "environment.json", {}),
        metrics=metrics,
        scores=scores,
        media=folder / "media",
        warnings=warnings,
        separates=separates(run.config),
        acts="rollouts" in mapping(run.config.get("source")),
        clock=clock_of(run, metrics),
        suite=read_known(folder / "suite.json", SUITE),
        # Without scores: only runs on recordings have a quarantine.json.
        planted=bool((scores or {}).get("planted", not (folder / "quarantine.json").exists())),
    )


def clock_of(run: RunFolder, metrics: Sequence[Mapping[str, float]]) -> Sequence[Mapping[str, float]]:
    """Records of the clock of a training; for an agent that was not timed, its environment steps, if these follow
    from its settings."""
    timed = [one for one in read_metrics(run.folder / "clock.jsonl") if "items" in one and "wall_s" in one]
    rollouts = mapping(mapping(run.config.get("source")).get("rollouts"))
    copies, steps, episodes = (rollouts.get(name) for name in ("envs", "rollout_steps", "rollout_episodes"))
    if timed or not metrics or episodes or not isinstance(copies, int) or not isinstance(steps, int):
        return timed
    last = metrics[-1]["step"]
    return [{"step": last, "items": last * copies * steps}]


def separates(config: Mapping[str, Any]) -> bool:
    """Whether the clips are mixtures, whose separation is shown; False if the world is not installed."""
    world = WORLDS.get(str(mapping(config.get("source")).get("world")))
    return world is not None and world.kind == "binaural"


def in_todays_form(config: dict[str, Any]) -> dict[str, Any]:
    """A recorded plan in the current format; unchanged if a package that it requires is not installed."""
    try:
        return read_plan(config, "config.json").recorded()
    except ValueError:
        return config


def unscored(folder: Path, plan: Summary) -> str:
    if plan.tested:
        return f"not scored yet: sonarium score {folder}"
    return "there is no test split (--test 0), and so there are no scores"


def read_known(path: Path, types: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object whose known keys have values of these types; an empty one if the file does not exist."""
    if not path.exists():
        return {}
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
        for name, hint in types.items():
            if name in found and not fits(hint, found[name]):
                raise ValueError(f"{name} is {short(found[name])}")
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged ({error}): remove it and make it again") from None
    return found
