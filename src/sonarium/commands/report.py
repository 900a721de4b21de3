"""`sonarium report RUN… --out page.html`: one offline page with pictures and sound."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sonarium.commands.flags import parse
from sonarium.report.page import RunPage, page
from sonarium.training.journal import read_metrics
from sonarium.training.run import Run


@dataclass(frozen=True)
class ReportFlags:
    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUNS…")]
    """Run folders to show beside one another."""
    out: Path
    """The page, an .html file that opens without a network."""
    json: bool = False
    """Print what was written as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(ReportFlags, arguments, "report", "One offline page about one run or several.")
    if not flags.runs:
        raise ValueError("no run to report: name one or more run folders")
    if flags.out.suffix not in (".html", ".htm"):
        raise ValueError(f"--out {flags.out} does not end in .html: give the page such a name")
    page([run_page(folder) for folder in flags.runs], flags.out)
    if flags.json:
        print(json.dumps({"out": str(flags.out), "bytes": flags.out.stat().st_size, "runs": len(flags.runs)}))
    else:
        print(
            f"{flags.out}: {len(flags.runs)} run(s), {flags.out.stat().st_size / 2**20:.1f} MB; open it in a browser"
        )


def run_page(folder: Path) -> RunPage:
    run = Run.read(folder)
    metrics = read_metrics(folder / "metrics.jsonl")
    if not metrics:
        raise ValueError(f"'{folder}' has no metrics yet: train it with `sonarium train`")
    warnings = [] if (folder / "scores.json").exists() else [f"not scored yet: sonarium score {folder}"]
    return RunPage(
        name=folder.name,
        model=run.config["model"],
        world=run.config["world"],
        config=run.config,
        environment=read_json(folder / "environment.json") or {},
        metrics=metrics,
        scores=read_json(folder / "scores.json"),
        media=folder / "media",
        warnings=warnings,
    )


def read_json(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged ({error}): make it again") from None
