"""One offline HTML page of episodes in rooms: a table of scores, and films and sounds of some episodes.

The page is built from plain values and from the bytes of pictures and sounds, independent of any room. Like every
page, it embeds all its media and fetches nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sonarium.files import as_utf8
from sonarium.report.album import put
from sonarium.report.rendering import data_uri, rendered


@dataclass(frozen=True)
class Picture:
    """A PNG file with its caption."""

    title: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class EpisodeShown:
    """An episode that can be seen and heard."""

    title: str
    facts: Sequence[tuple[str, str]]
    film: bytes | None
    """MP4 with sound, or None."""
    poster: bytes
    """A PNG file shown before the film plays."""
    sound: bytes | str
    """Stereo WAV, left ear first; or the name of a file beside the page."""
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Scores:
    """A table with one row per agent, its values formatted."""

    names: Sequence[str]
    """Names of the measures."""
    sentences: Sequence[str]
    """Definition of each measure."""
    rows: Sequence[tuple[str, Sequence[str]]]
    """Agent and values."""
    note: str


def listening_page(
    title: str,
    lead: str,
    scores: Scores,
    episodes: Sequence[EpisodeShown],
    settings: Sequence[tuple[str, str]],
    out: Path,
) -> None:
    """Write the page to `out`."""
    if any(len(values) != len(scores.names) for _, values in scores.rows) or len(scores.sentences) != len(
        scores.names
    ):
        raise ValueError(f"got rows that do not fit the measures {tuple(scores.names)}: give one value for each")
    text = rendered(
        "episode.html", title=title, lead=lead, scores=scores, episodes=episodes, settings=settings, uri=data_uri
    )
    put(out, as_utf8(text))
