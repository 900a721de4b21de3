"""The media folder of a run: files with an index that says all a page needs, so that it can be made later.

Each file is written aside and renamed, the index last: what the index names is whole.
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
"""How long each frame of an animation stays."""
NEARLY_WHITE = 246


@dataclass(frozen=True)
class Medium:
    """One file of a media folder."""

    kind: Kind
    file: str
    """Its name within the folder."""
    title: str
    caption: str
    group: str
    """codes, reconstructions, samples, traversals or episodes; after a stroke, the card to which it belongs."""


def put(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new, never a part."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


def wav(wave: Float[np.ndarray, "time *ear"], rate: int) -> bytes:
    """A WAV file of 16 bits a sample, of one channel or of two; the wave must lie within −1 and 1."""
    assert np.abs(wave).max(initial=0) <= 1, np.abs(wave).max()
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, subtype="PCM_16", format="WAV")
    return buffer.getvalue()


def peak_safe(waves: Sequence[Float[np.ndarray, "_ *ear"]]) -> list[Float[np.ndarray, "_ *ear"]]:
    """Sounds that are compared: made softer alike where one of them would clip, else as they are."""
    loudest = max((float(np.abs(wave).max(initial=0)) for wave in waves), default=0.0)
    return [np.clip(wave / max(1.0, loudest), -1, 1) for wave in waves]


def gif(frames: Sequence[UInt8[np.ndarray, "row column colour"]]) -> bytes:
    """An endless animation; one palette for all frames, or still parts would flicker."""
    images = [Image.fromarray(frame) for frame in frames]
    few = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 4)]))
    palette = few.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    # The palette is of means; the lightest of them stands for the paper.
    palette.putpalette(bytes(255 if tone >= NEARLY_WHITE else tone for tone in palette.getpalette() or ()))
    drawn = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    drawn[0].save(buffer, "GIF", save_all=True, append_images=drawn[1:], duration=FRAME_MILLISECONDS, loop=0)
    return buffer.getvalue()


def write_index(folder: Path, media: Sequence[Medium]) -> None:
    """Name these files, and remove those that an older index names and this one does not."""
    try:
        before = {medium.file for medium in read_index(folder)}
    except ValueError:
        # What a damaged index named cannot be known: its files stay, and the new index takes its place.
        before = set()
    listed = {"format": FORMAT, "media": [asdict(medium) for medium in media]}
    put(folder / INDEX, as_utf8(json.dumps(listed, indent=2, ensure_ascii=False) + "\n"))
    for stale in before - {medium.file for medium in media}:
        (folder / stale).unlink(missing_ok=True)


def add(folder: Path, media: Sequence[Medium], files: Mapping[str, bytes]) -> None:
    """Write these files into a folder that may have others, in the place of those of the same kinds."""
    kinds = {medium.group.split("/")[0] for medium in media}
    others = [medium for medium in read_index(folder) if medium.group.split("/")[0] not in kinds]
    for medium in media:
        put(folder / medium.file, files[medium.file])
    write_index(folder, [*others, *media])


def read_index(folder: Path) -> list[Medium]:
    """What the folder's index names; nothing if there is no index."""
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
    """A medium of an index, which must not name a file outside its folder."""
    if entry["kind"] not in get_args(Kind):
        raise ValueError(f"kind {entry['kind']!r} is none of {', '.join(get_args(Kind))}")
    medium = Medium(**{key: str(value) for key, value in entry.items()})  # pyright: ignore[reportArgumentType]
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", medium.file):
        raise ValueError(f"{medium.file!r} is not the name of a file in this folder")
    return medium
