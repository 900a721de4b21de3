"""The media folder of a run: files with an index of all that a page needs, so that the page can be made later.

Each file is written under a temporary name and renamed, the index last: every file that the index names is
complete.
"""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import soundfile
from jaxtyping import Float, UInt8
from PIL import Image

from sonarium.files import as_utf8, read_json, written_aside

INDEX = "index.json"
FORMAT = 1
Kind = Literal["picture", "sound", "animation", "film"]
FRAME_MILLISECONDS = 220
"""Duration of each frame of an animation."""
NEARLY_WHITE = 246


@dataclass(frozen=True)
class Medium:
    """One file of a media folder."""

    kind: Kind
    file: str
    """Name within the folder."""
    title: str
    caption: str
    group: str
    """codes, reconstructions, samples, traversals or episodes; after a slash, the card to which it belongs."""


def put(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old one or the new one, never a part."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


def wav(wave: Float[np.ndarray, "time *ear"], rate: int) -> bytes:
    """A 16-bit WAV file with one or two channels; the wave must lie within −1 and 1."""
    assert np.abs(wave).max(initial=0) <= 1, np.abs(wave).max()
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, subtype="PCM_16", format="WAV")
    return buffer.getvalue()


def peak_safe(waves: Sequence[Float[np.ndarray, "_ *ear"]]) -> list[Float[np.ndarray, "_ *ear"]]:
    """Scale sounds that are compared by a common gain if any would clip; otherwise leave them unchanged."""
    loudest = max((float(np.abs(wave).max(initial=0)) for wave in waves), default=0.0)
    return [np.clip(wave / max(1.0, loudest), -1, 1) for wave in waves]


def gif(frames: Sequence[UInt8[np.ndarray, "row column colour"]]) -> bytes:
    """An endless animation; one palette for all frames, since static parts would flicker otherwise."""
    images = [Image.fromarray(frame) for frame in frames]
    few = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 4)]))
    palette = few.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    # The palette holds means, of which the lightest stand for the paper.
    palette.putpalette(bytes(255 if tone >= NEARLY_WHITE else tone for tone in palette.getpalette() or ()))
    drawn = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    drawn[0].save(buffer, "GIF", save_all=True, append_images=drawn[1:], duration=FRAME_MILLISECONDS, loop=0)
    return buffer.getvalue()


def write_index(folder: Path, media: Sequence[Medium]) -> None:
    """Write an index of these files, and remove files that only the old index names."""
    try:
        before = {medium.file for medium in read_index(folder)}
    except ValueError:
        # The files of a damaged index are unknown: they stay, and the new index replaces it.
        before = set()
    listed = {"format": FORMAT, "media": [asdict(medium) for medium in media]}
    put(folder / INDEX, as_utf8(json.dumps(listed, indent=2, ensure_ascii=False) + "\n"))
    for stale in before - {medium.file for medium in media}:
        (folder / stale).unlink(missing_ok=True)


def add(folder: Path, media: Sequence[Medium], files: Mapping[str, bytes]) -> None:
    """Write these files to a folder that may hold others, replacing media of the same kinds."""
    kinds = {medium.group.split("/")[0] for medium in media}
    others = [medium for medium in read_index(folder) if medium.group.split("/")[0] not in kinds]
    for medium in media:
        put(folder / medium.file, files[medium.file])
    write_index(folder, [*others, *media])


def read_index(folder: Path) -> list[Medium]:
    """Media in the folder's index; empty if there is no index."""
    path = folder / INDEX
    if not path.exists():
        return []
    try:
        listed = read_json(path)
        if listed["format"] != FORMAT:
            raise ValueError(f"it has format {listed['format']!r}, this version reads {FORMAT}")
        return [checked(entry) for entry in listed["media"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"'{path}' is not an index of media ({error}): remove it and make the pictures anew"
        ) from None


def checked(entry: dict[str, Any]) -> Medium:
    """Parse a medium of an index, which must not name a file outside its folder."""
    if entry["kind"] not in get_args(Kind):
        raise ValueError(f"kind {entry['kind']!r} is none of {', '.join(get_args(Kind))}")
    medium = Medium(**{key: str(value) for key, value in entry.items()})  # pyright: ignore[reportArgumentType]
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", medium.file):
        raise ValueError(f"{medium.file!r} is not the name of a file in this folder")
    return medium
