"""One offline page of episodes in rooms: how often the sources were found, and films and sounds of some episodes.

What is shown comes as plain values, pictures and sounds as the bytes of their files; whoever has the rooms joins
them. As on every page, all lies in the one file and nothing is fetched.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sonarium.report.album import put
from sonarium.report.page import TEMPLATES


@dataclass(frozen=True)
class Picture:
    """A PNG file with its words."""

    title: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class EpisodeShown:
    """An episode that can be seen and heard."""

    title: str
    facts: Sequence[tuple[str, str]]
    film: bytes | None
    """MP4 with sound."""
    poster: bytes
    """A PNG file that is seen before the film is played."""
    sound: bytes | str
    """Stereo WAV, the left ear first; or the name under which it lies beside the page."""
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Scores:
    """A row for each agent: what was measured, as it should be written."""

    names: Sequence[str]
    """Of the measures."""
    sentences: Sequence[str]
    """What each of them means."""
    rows: Sequence[tuple[str, Sequence[str]]]
    """The agent, and its values."""
    note: str


def listening_page(
    title: str,
    lead: str,
    scores: Scores,
    episodes: Sequence[EpisodeShown],
    settings: Sequence[tuple[str, str]],
    out: Path,
) -> None:
    """Write the page."""
    if any(len(values) != len(scores.names) for _, values in scores.rows) or len(scores.sentences) != len(
        scores.names
    ):
        raise ValueError(f"got rows that do not fit the measures {tuple(scores.names)}: give one value for each")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("episode.html").render(
        title=title, lead=lead, scores=scores, episodes=episodes, settings=settings, uri=uri
    )
    put(out, text.encode())


def uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
