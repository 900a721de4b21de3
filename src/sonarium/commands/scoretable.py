"""The table of `sonarium score` on a terminal: scores down, models across, and beside them what they must beat.

A world has a table of its own, which is cut into several where the terminal is too narrow for all models.
"""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sonarium.report.meanings import control, explained, meaning

GAP = 2
"""Blanks between two columns."""
NAMED = ("standard", "syntone")
"""Protocols of disentanglement; others say themselves what they are."""
SCALE = "1 is best and 0 is worst, the best model bold."
REMARKS = {
    "dead_codes": "Fewer dead codes are better.",
    "elbo": "A higher likelihood is better.",
    "eer": "Of EER and minDCF less is better.",
    "abx-within": "Of ABX less is better.",
}
SYNTONE = "Factors and codes are exchanged, as SynTone's evaluator called them: compare with its own table only."

Row = dict[str, Any]
"""A row of the summary that `--json` prints."""


def show(rows: list[Row], console: Console) -> None:
    for world, protocol in dict.fromkeys((row["world"], row["protocol"]) for row in rows):
        here = [row for row in rows if (row["world"], row["protocol"]) == (world, protocol)]
        title = f"{world}, protocol {protocol}" if protocol in NAMED else f"{world}, {protocol}"
        for table in tables(here, title, console.width):
            console.print(table)
            console.print()
    seeds = max(row["seeds"] for row in rows)
    names = {name for row in rows for name in row["scores"]}
    said = [
        SCALE if any(meaning(name).rising and meaning(name).share for name in names) else "",
        *(sentence for name, sentence in REMARKS.items() if name in {name.partition("/")[0] for name in names}),
        "± is half the 95 % interval over seeds." if seeds > 1 else "",
        explained(row["control"] for row in rows),
        SYNTONE if any(row["protocol"] == "syntone" for row in rows) else "",
    ]
    console.print(" ".join(filter(None, said)), highlight=False)


def tables(rows: list[Row], title: str, width: int) -> list[Table]:
    """As many tables as it takes to show all models within this width."""
    models = [row for row in rows if row["control"] is None]
    names = list(dict.fromkeys(name for row in models for name in row["scores"]))
    labels = ["", *(meaning(name).name for name in names)]
    best = [winners(name, [row["scores"].get(name) for row in models]) for name in names]
    columns = [[heading(row, models), *(cell(name, row["scores"].get(name)) for name in names)] for row in models]
    beside = controls(rows, names)
    made = []
    for block in blocks(columns, width - sum(map(breadth, [labels, *beside]))):
        above = f"{title} (more)" if made else title
        table = Table(title=above, title_justify="left", box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        table.add_column(labels[0])
        for at in block:
            table.add_column(columns[at][0], justify="right", no_wrap=True)
        for column in beside:
            table.add_column(column[0], justify="right", no_wrap=True, style="dim", header_style="dim")
        for line, label in enumerate(labels[1:], start=1):
            own = [Text(columns[at][line], "bold" if best[line - 1][at] else "") for at in block]
            table.add_row(label, *own, *(column[line] for column in beside))
        made.append(table)
    return made


def blocks(columns: list[list[str]], room: int) -> list[list[int]]:
    """The columns in their order, as many together as there is room for, but at least one."""
    found: list[list[int]] = [[]]
    left = room
    for at, column in enumerate(columns):
        if found[-1] and breadth(column) > left:
            found.append([])
            left = room
        found[-1].append(at)
        left -= breadth(column)
    return found


def breadth(column: list[str]) -> int:
    return GAP + max(len(line) for text in column for line in text.split("\n"))


def heading(row: Row, models: list[Row]) -> str:
    """The model, its preset below it, and its folder where another has the same name."""
    lines = [row["model"].replace(" (", "\n(")]
    if sum(other["model"] == row["model"] for other in models) > 1:
        lines.append(Path(row["runs"][0]).name)
    if row["seeds"] > 1:
        lines.append(f"{row['seeds']} seeds")
    return "\n".join(lines)


def controls(rows: list[Row], names: list[str]) -> list[list[str]]:
    """A column for each control, the mean over the models: each has its own, but they differ little."""
    found = []
    for who in dict.fromkeys(row["control"] for row in rows if row["control"] is not None):
        own = [row["scores"] for row in rows if row["control"] == who]
        column = [control(who)]
        for name in names:
            means = [scores[name]["mean"] for scores in own if name in scores and meaning(name).share]
            column.append(number(name, sum(means) / len(means)) if means else "")
        found.append(column)
    return found


def winners(name: str, scores: list[dict[str, Any] | None]) -> list[bool]:
    """Which of several models are the best as it is written; none where nothing tells them apart."""
    best = max if meaning(name).rising else min
    means = [None if score is None else float(f"{score['mean']:.2f}") for score in scores]
    known = [mean for mean in means if mean is not None]
    contested = name != "dead_codes" and len(set(known)) > 1
    return [contested and mean == best(known) for mean in means]


def cell(name: str, score: dict[str, Any] | None) -> str:
    if score is None:
        return "–"
    text = number(name, score["mean"])
    return text if score["low"] is None else f"{text}±{number(name, (score['high'] - score['low']) / 2)}"


def number(name: str, value: float) -> str:
    """Shares to the hundredth without their leading 0, counts as they are, nats to the tenth."""
    if meaning(name).share:
        text = f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:.2f}"
    else:
        text = f"{value:.0f}" if value == round(value) else f"{value:.1f}"
    return text.replace("-", "−")
