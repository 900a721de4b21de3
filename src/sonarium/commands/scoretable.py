"""The table of `sonarium score` on a terminal: scores down, models across, and the controls beside them.

Each world has a table of its own, which is cut into several where the terminal is too narrow for all models.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as Drawn
from rich.text import Text

from sonarium.commands.flags import NARROWEST
from sonarium.evaluation.aggregate import Group, Score, Table
from sonarium.evaluation.episodes import COMPARED, CONTROLS, SCORES, UNITS, Heard
from sonarium.evaluation.meanings import control, explained
from sonarium.evaluation.meanings import meaning as meaning_of
from sonarium.files import printable
from sonarium.measures.contract import Meaning
from sonarium.measures.forecasts import MEANINGS as FORECASTS
from sonarium.measures.forecasts import OF_STATES
from sonarium.measures.statistics import Interval

GAP = 2
"""Spaces between two columns."""
NAMED = ("standard", "syntone")
"""Protocols of disentanglement, which titles introduce by `protocol`; the names of others are clear without."""
SCALE = "1 is best and 0 is worst."
BEST = (
    "Bold: the best model, where its interval lies beyond those of all other models and of its controls, but for "
    "limits."
)
REMARKS = {
    "dead_codes": "Fewer dead codes are better.",
    "elbo": "A higher likelihood is better.",
    "eer": "Of EER and minDCF less is better.",
    "abx-within": "Of ABX less is better.",
    "forecast-distance": "Of distances less is better.",
}
UNCOMPARED = ("dead_codes",)
"""Scores that are not shown for controls."""
SYNTONE = "Factors and codes are exchanged, as SynTone's evaluator calls them: compare with its own table only."


def show(tables: Sequence[Table], console: Console) -> None:
    console.width = max(NARROWEST, console.width)
    for table in tables:
        title = f"{table.world}, {'protocol ' if table.protocol in NAMED else ''}{table.protocol}"
        for keys, about in families(table.keys):
            for drawn in drawings(table, keys, title + about, console.width):
                console.print(drawn)
                console.print()
    said = [(key, table.meaning(key)) for table in tables for key in table.keys]
    kinds = {key.partition("/")[0] for key, _ in said}
    groups = [group for table in tables for group in table.groups]
    notes = [
        SCALE if any(meaning.rising and meaning.bounded for _, meaning in said) else "",
        *(sentence for name, sentence in REMARKS.items() if name in kinds),
        BEST if any(any(table.best(key)) for table in tables for key in table.keys) else "",
        "Brackets of chance hold 95 % of single draws of it."
        if any(len(group.scored) == 1 and group.own_chance for group in groups)
        else "",
        "Brackets hold the 95 % interval over seeds." if any(len(group.scored) > 1 for group in groups) else "",
        explained(name for group in groups for score in group.scores.values() for name in score.controls),
        "Controls are means over the models." if any(len(table.groups) > 1 for table in tables) else "",
        SYNTONE if any(table.protocol == "syntone" for table in tables) else "",
    ]
    console.print(" ".join(filter(None, notes)), highlight=False)


def show_heard(found: Mapping[str, Heard], title: str, console: Console) -> None:
    """Print how an agent separates and locates the sources in its episodes, by setting."""
    drawn = Drawn("", "", title=Text(f"{title}: what it hears", "table.title"), box=None)
    for setting in found:
        drawn.add_column(Text(setting), justify="right", no_wrap=True)
    for name in SCORES:
        for who in ("", *CONTROLS):
            cells = [one.score(f"{who}/{name}".lstrip("/")) for one in found.values()]
            if any(cell is not None for cell in cells):
                first = "" if who else f"{meaning_of(name).name}, {UNITS[name]}"
                row = [first, control(who) if who else "", *map(plain, cells)]
                drawn.add_row(*map(Text, row), style="dim" if who else "")
    for name in COMPARED:
        for outcome in dict.fromkeys(one.outcome for one in found.values()):
            cells = [one.correlation(name) for one in found.values()]
            row = [f"ρ of {meaning_of(name).name}, {outcome.upper()}", "", *map(plain, cells)]
            drawn.add_row(*map(Text, row))
    console.print(drawn)
    sentences = [f"{meaning_of(name).name}: {meaning_of(name).sentence}" for name in SCORES]
    left_out = [f"{setting}: {one.left_out()}." for setting, one in found.items() if one.silent]
    console.print(" ".join([*sentences, "ρ: rank correlation over episodes.", *left_out]), highlight=False)


def plain(value: Interval | None) -> str:
    """A mean with its interval, with two decimals if it is below 1, else one."""
    if value is None:
        return "–"
    digits = 2 if abs(value.mean) < 1 else 1
    mean, *ends = (f"{one:z.{digits}f}" for one in (value.mean, value.low, value.high) if one is not None)
    return (f"{mean} [{', '.join(ends)}]" if ends else mean).replace("-", "−")


def families(keys: Sequence[str]) -> list[tuple[list[str], str]]:
    """Groups of scores with the same controls, one per table, and the suffix of the table's title."""
    kinds = {key: key.partition("/")[0] for key in keys}
    known = {name.partition("/")[0] for name in FORECASTS | OF_STATES}
    forecasts = [key for key in keys if kinds[key].startswith("forecast-")]
    states = [key for key in keys if kinds[key] in known and key not in forecasts]
    others = [key for key in keys if kinds[key] not in known]
    parts = ((others, ""), (forecasts, ", forecasts"), (states, ", states and actions"))
    return [(some, about) for some, about in parts if some]


def drawings(table: Table, keys: list[str], title: str, width: int) -> list[Drawn]:
    """Tables that show all models, as many as are required within this width."""
    labels = ["", *(printable(table.meaning(key).name) for key in keys)]
    best = [table.best(key) for key in keys]
    columns = [
        [heading(group, table.groups), *(cell(table.meaning(key), group.scores.get(key)) for key in keys)]
        for group in table.groups
    ]
    for intervals in (True, False):
        chances = [own_chance(table, group, keys, intervals) for group in table.groups]
        beside = controls(table, keys, intervals)
        together = [sum(map(breadth, filter(None, both))) for both in zip(columns, chances, strict=True)]
        # A narrow terminal shows controls without their intervals, which are on the page.
        if sum(map(breadth, [labels, *beside])) + max(together) <= width:
            break
    # Controls that do not fit beside a model have separate tables.
    some, *more = blocks(list(map(breadth, beside)), width - breadth(labels) - max(together))
    later = [[beside[at] for at in part] for part in more]
    beside, made = [beside[at] for at in some], []
    for block in blocks(together, width - sum(map(breadth, [labels, *beside]))):
        drawn = empty(f"{title} (more)" if made else title, labels[0])
        for at in block:
            drawn.add_column(Text(columns[at][0]), justify="right", no_wrap=True)
            if chance := chances[at]:
                beside_column(drawn, chance[0])
        for column in beside:
            beside_column(drawn, column[0])
        for line, label in enumerate(labels[1:], start=1):
            own = []
            for at in block:
                own.append(Text(columns[at][line], "bold" if best[line - 1][at] else ""))
                own += [Text(chances[at][line])] if chances[at] else []
            drawn.add_row(Text(label), *own, *(Text(column[line]) for column in beside))
        made.append(drawn)
    return [*made, *(of_controls(f"{title} (more controls)", labels, part) for part in later)]


def empty(title: str, first: str) -> Drawn:
    drawn = Drawn(
        title=Text(printable(title), "table.title"), title_justify="left", box=None, pad_edge=False,
        padding=(0, GAP, 0, 0),
    )  # fmt: skip
    drawn.add_column(first)
    return drawn


def beside_column(drawn: Drawn, name: str) -> None:
    """Add the column of a control. Its name is no markup: Rich would take [h, z] for a style, and drop it."""
    drawn.add_column(Text(name), justify="right", no_wrap=True, style="dim", header_style="dim")


def of_controls(title: str, labels: list[str], columns: list[list[str]]) -> Drawn:
    drawn = empty(title, labels[0])
    for column in columns:
        beside_column(drawn, column[0])
    for line, label in enumerate(labels[1:], start=1):
        if any(column[line] for column in columns):
            drawn.add_row(Text(label), *(Text(column[line]) for column in columns))
    return drawn


def blocks(breadths: list[int], room: int) -> list[list[int]]:
    """Indices of the columns in order, in blocks that fit into the room, with at least one column each."""
    found: list[list[int]] = [[]]
    left = room
    for at, taken in enumerate(breadths):
        if found[-1] and taken > left:
            found.append([])
            left = room
        found[-1].append(at)
        left -= taken
    return found


def breadth(column: list[str]) -> int:
    return GAP + max(len(line) for text in column for line in text.split("\n"))


def heading(group: Group, groups: Sequence[Group]) -> str:
    """The model, its preset below it, its folder if another has the same title, and its number of seeds."""
    lines = [group.first.title.replace(" (", "\n(")]
    if sum(other.first.title == group.first.title for other in groups) > 1:
        lines.append(printable(Path(group.scored[0].run).name))
    if len(group.scored) > 1:
        lines.append(f"{len(group.scored)} seeds")
    return "\n".join(lines)


def own_chance(table: Table, group: Group, keys: list[str], intervals: bool) -> list[str]:
    """Column of chance with its interval, if it depends on the codes of the group; else empty."""
    if not group.own_chance:
        return []
    beside = [group.scores[key].controls.get("chance") if key in group.scores else None for key in keys]
    return [
        control("chance"),
        *(
            "" if one is None else (written if intervals else mean)(table.meaning(key), one)
            for key, one in zip(keys, beside, strict=True)
        ),
    ]


def controls(table: Table, keys: list[str], intervals: bool) -> list[list[str]]:
    """A column for each control that has any of these scores; dead codes are meaningless for controls."""
    return [
        [
            control(who),
            *(
                (written if intervals else mean)(table.meaning(key), scores[key])
                if key in scores and key not in UNCOMPARED
                else ""
                for key in keys
            ),
        ]
        for who, scores in table.controls().items()
        if any(key in scores for key in keys)
    ]


def cell(meaning: Meaning, score: Score | None) -> str:
    if score is None:
        return "–"
    return written(meaning, score.value)


def mean(meaning: Meaning, value: Interval) -> str:
    return number(meaning, value.mean)


def written(meaning: Meaning, value: Interval) -> str:
    """The mean, with its interval if seeds differ."""
    text = number(meaning, value.mean)
    if value.low is None or value.high is None or value.low == value.high:
        return text
    return f"{text} [{number(meaning, value.low)}, {number(meaning, value.high)}]"


def number(meaning: Meaning, value: float) -> str:
    """Bounded scores with two decimals and no leading 0, whole numbers as they are, others with one decimal."""
    if meaning.bounded:
        written = f"{value:z.2f}".replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:.2f}"
    else:
        written = f"{value:.0f}" if value == round(value) else f"{value:z.1f}"
    return written.replace("-", "−")
