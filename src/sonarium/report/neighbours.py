"""Similarity of codes: maps coloured by label, and nearest neighbours.

The map is t-SNE (van der Maaten and Hinton, 2008) as in scikit-learn: it preserves neighbourhoods, and distances
between clusters mean nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sonarium.measures.compare.retrieval import neighbours
from sonarium.report.style import BODY, FAINT, GRID, INK, LINES, SMALL, bare, panels, sheet, tidy

COLOURS = (*LINES, "#999999", "#882255", "#117733")
"""Ten, since digits and many other label sets have ten labels; the last three are by Tol (2021)."""
MARKS = "os^Dv"
"""Marker shapes that distinguish labels of one colour."""
MOST_LABELS = len(COLOURS) * len(MARKS) - 1
"""Maximum number of labels that are distinguished; the rest are drawn faintly together."""
RIGHT, WRONG = "#d6ecf8", "#fbe3cf"
"""Background of a neighbour with the same label, and with another."""


def tsne(
    codes: Float[np.ndarray, "row code"], generator: np.random.Generator, perplexity: float = 30.0
) -> Float[np.ndarray, "row 2"]:
    """Coordinates of rows in the plane by t-SNE, which places neighbours close together."""
    if len(codes) < 4:
        raise ValueError(f"got {len(codes)} rows: a map needs at least 4")
    from sklearn.manifold import TSNE  # slow to load, and seldom needed

    spread = codes.std(axis=0)
    varied = (spread > 0) & (np.ptp(codes, axis=0) > 0)
    if not varied.any():
        # Equal rows make scikit-learn return NaN and end the process.
        return np.zeros((len(codes), 2))
    scaled = (codes - codes.mean(axis=0)) / np.where(varied, spread, 1.0)
    made = TSNE(
        # Each row needs about three times as many neighbours as the perplexity counts.
        perplexity=min(perplexity, (len(codes) - 1) / 3),
        # A single code has no two principal components for the initialisation.
        init="pca" if codes.shape[1] > 1 else "random",
        random_state=int(generator.integers(2**31)),
    )
    return np.asarray(made.fit_transform(scaled), np.float64)


def code_map(
    points: Float[np.ndarray, "row 2"], labels: Shaped[np.ndarray, " row"], title: str = "", what: str = "label"
) -> Figure:
    """Scatter plot of rows, coloured by label, with a legend."""
    if len(points) != len(labels):
        raise ValueError(f"got {len(points)} points and {len(labels)} labels: give one of each a row")
    names, counts = np.unique(labels, return_counts=True)
    kept = names if len(names) <= MOST_LABELS else names[np.sort(np.argsort(-counts)[:MOST_LABELS])]
    figure = sheet(5.6, 4.2)
    axes = panels(figure, 1, 1)[0][0]
    size = float(np.clip(4000 / len(points), 4, 22))
    for number, name in enumerate(in_order(kept)):
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number // len(COLOURS)]
        own = points[labels == name].T
        axes.scatter(*own, s=size, c=colour, marker=mark, alpha=0.85, linewidths=0, label=shortened(str(name)))
    rest = ~np.isin(labels, kept)
    if rest.any():
        left_out = f"{len(names) - len(kept)} others"
        axes.scatter(*points[rest].T, s=size, c=GRID, linewidths=0, label=left_out, zorder=0)
    axes.set_title(title, fontsize=BODY, color=INK, loc="left")
    bare(axes)
    columns = 1 + (len(kept) > 18)
    # By default legends leave out names that begin with an underscore.
    names_of = [str(one.get_label()) for one in axes.collections]
    key = figure.legend(
        axes.collections,
        names_of,
        loc="outside right upper",
        title=what,
        fontsize=SMALL,
        frameon=False,
        ncols=columns,
    )
    key.get_title().set(fontsize=SMALL, color=FAINT)
    for handle in key.legend_handles:
        assert isinstance(handle, PathCollection), handle
        handle.set_sizes([26.0])
    return figure


def in_order(names: Shaped[np.ndarray, " name"]) -> list:
    """Sorted names: numerically if all are numbers, even as text; otherwise alphabetically."""
    listed = names.tolist()
    numbers = all(str(name).removeprefix("-").isdecimal() for name in listed)
    return sorted(listed, key=lambda name: int(name)) if numbers else sorted(listed)


@dataclass(frozen=True)
class Found:
    """One neighbour."""

    row: int
    label: str
    cosine: float
    alike: bool


@dataclass(frozen=True)
class Asked:
    """A query clip with its nearest neighbours, the nearest first."""

    row: int
    label: str
    found: tuple[Found, ...]


def retrieval_table(
    codes: Float[np.ndarray, "clip code"],
    labels: Shaped[np.ndarray, " clip"],
    generator: np.random.Generator,
    groups: Shaped[np.ndarray, " clip"] | None = None,
    queries: int = 8,
    nearest: int = 5,
) -> list[Asked]:
    """Random query clips, of as many labels as possible, with their neighbours in other groups."""
    asking = one_of_each(labels, generator, queries)
    rows, cosines = neighbours(codes, asking, nearest, groups)
    table = []
    for query, near, alike in zip(asking.tolist(), rows.tolist(), cosines.tolist(), strict=True):
        own = str(labels[query])
        names = [str(labels[row]) for row in near]
        found = (Found(*one, one[1] == own) for one in zip(near, names, alike, strict=True))
        table.append(Asked(query, own, tuple(found)))
    return table


def one_of_each(
    labels: Shaped[np.ndarray, " clip"], generator: np.random.Generator, count: int
) -> Int[np.ndarray, " query"]:
    """At most `count` rows, in order of their labels: one of each label before any has two."""
    shuffled = generator.permutation(len(labels))
    place = np.zeros(len(labels), int)
    for name in np.unique(labels):
        own = labels[shuffled] == name
        place[own] = np.arange(own.sum())
    drawn = shuffled[np.argsort(place, kind="stable")[:count]]
    return drawn[np.argsort(labels[drawn], kind="stable")]


def retrieval_picture(table: Sequence[Asked], what: str = "label") -> Figure:
    """One row per query clip: its label, then those of its neighbours, blue where they agree."""
    if not table:
        raise ValueError("the table has no rows: draw at least one clip")
    columns = len(table[0].found)
    longest = max(len(text) for one in table for text in (one.label, *(found.label for found in one.found)))
    wide = min(1.6, 0.55 + 0.075 * longest)
    figure = sheet((columns + 1) * wide + 0.4, 0.34 * len(table) + 0.75)
    axes = panels(figure, 1, 1)[0][0]
    middle: dict[str, Any] = {"ha": "center", "va": "center"}
    for down, one in enumerate(table):
        axes.text(0, down, shortened(one.label), fontsize=SMALL, color=INK, weight="bold", **middle)
        for across, found in enumerate(one.found, 1):
            paper = RIGHT if found.alike else WRONG
            axes.add_patch(Rectangle((across - 0.48, down - 0.46), 0.96, 0.92, facecolor=paper, linewidth=0))
            axes.text(across, down - 0.14, shortened(found.label), fontsize=SMALL, color=INK, **middle)
            axes.text(across, down + 0.24, f"{found.cosine:.2f}", fontsize=SMALL - 2, color=FAINT, **middle)
    tidy(axes)
    axes.set(xlim=(-0.5, columns + 0.5), ylim=(len(table) - 0.5, -0.5), yticks=[])
    axes.xaxis.tick_top()
    axes.set_xticks(range(columns + 1), [what, "nearest", *[f"{number}." for number in range(2, columns + 1)]])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def shortened(text: str) -> str:
    """A long name cut in the middle: its beginning or end usually distinguishes it."""
    return text if len(text) <= 16 else f"{text[:7]}…{text[-8:]}"
