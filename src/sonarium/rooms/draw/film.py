"""An episode as stereo WAV and as a film with that sound.

The film is H.264 and AAC in MP4, which every browser plays. Each window of sound plays while the listener moves to
the pose at which it is rendered; frames between two steps interpolate the pose.

The strip below the room shows the interaural phase and level differences by frequency and time: blue is the left
ear, vermilion the right one, as on the listener's head; silence is pale. In view `ears`, the loudness at each ear
replaces the room, so that the viewer has to guess where the sources are.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from sonarium.features.ears import Ears, EarsConfig
from sonarium.files import written_aside
from sonarium.rooms.draw import canvas
from sonarium.rooms.draw.floorplan import picture
from sonarium.rooms.draw.overlay import SoundField
from sonarium.rooms.seek.episode import Scene

View = Literal["above", "ears"]
LEAST_FRAMES = 12
"""Minimum frame rate."""
PEAK = 0.9
MOST_GAIN = 1000.0
"""Maximum gain, so that a nearly silent episode stays nearly silent."""
ARRIVED = 0.7
"""Fraction of a window after which the listener has arrived at its pose."""
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
OTHERWISE = 48000
STRIP_SECONDS = 4.0
"""Duration in seconds that the strip shows."""
HEARD = f"the last {STRIP_SECONDS:g} s, low frequencies below; blue: left ear leads or is louder"
TRACKS = ("sound", "imagined one step before")
"""Titles of the audio tracks of a film."""
IMAGINED = "the same as the agent imagined it one step before"
LOUDNESS = f"loudness at either ear, the last {STRIP_SECONDS:g} s, low frequencies below"
LOUDNESS_BANDS = 48
LOUDNESS_TALL = 0.36
"""Height of the loudness strip per ear, as a fraction of its width."""
STRIP_BANDS = 24
STRIP_TALL = 0.13
FLOOR = -120.0
"""Level in dB re full scale at which a bin counts as silent."""
STRIP_RANGE = 50.0
"""Level in dB below the loudest bin at which the strip is pale."""
LEVEL_RANGE = 12.0
"""Interaural level difference in dB with full colour."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """An episode: its windows of sound, and the scene of each window."""

    scenes: Sequence[Scene]
    windows: Float[np.ndarray, "step 2 window"]
    rate: int
    fields: Sequence[SoundField] = ()
    """Sound field of each scene, which must be computed before the next episode begins; or empty."""
    imagined: Float[np.ndarray, "step 2 window"] | None = None
    """The agent's prediction of each window, made one step before."""

    def __post_init__(self) -> None:
        if self.fields and len(self.fields) != len(self.scenes):
            raise ValueError(
                f"got {len(self.fields)} fields for {len(self.scenes)} scenes: give one each, or none"
            )
        if len(self.scenes) != len(self.windows) or not len(self.scenes):
            raise ValueError(
                f"got {len(self.scenes)} scenes and {len(self.windows)} windows of sound: give one scene for each "
                "window, and at least one"
            )

    @property
    def seconds(self) -> float:
        return self.windows.shape[0] * self.windows.shape[2] / self.rate

    def wave(self, imagined: bool = False) -> Float[np.ndarray, "2 time"]:
        """All windows concatenated and normalised as a whole: those heard, or those predicted by the agent."""
        windows = self.windows if not imagined or self.imagined is None else self.imagined
        joined = np.concatenate(list(windows), axis=1).astype(np.float32)
        peak = float(np.abs(joined).max(initial=0))
        gain = min(PEAK / peak, MOST_GAIN) if peak > 0 else 1.0
        return joined * np.float32(gain)


def wav(recorded: Recorded) -> bytes:
    """A stereo WAV file with 16 bits per sample, left ear first."""
    buffer = io.BytesIO()
    soundfile.write(buffer, recorded.wave().T, recorded.rate, subtype="PCM_16", format="WAV")
    return buffer.getvalue()


def film(
    recorded: Recorded, path: Path, size: int = 480, images: int = 0, strip: bool = True, view: View = "above"
) -> None:
    """Write the episode as MP4: the room from above, below it the interaural differences, and the sound; in view
    `ears`, the loudness at each ear instead of the room. What the agent predicted is a second audio track."""
    try:
        import av
    except ModuleNotFoundError:
        raise ValueError("a film needs the package av: `pip install av`") from None
    titles = TRACKS[: 1 if recorded.imagined is None else 2]
    tracks = [playable(recorded.wave(imagined=number > 0), recorded.rate) for number in range(len(titles))]
    each = frames_a_window(recorded)
    with (
        written_aside(path) as aside,
        av.open(str(aside), "w", format="mp4", options={"movflags": "faststart"}) as out,
    ):
        pictures = frames(recorded, size, images, strip, view)
        first = next(pictures)
        seen = out.add_stream("libx264", rate=Fraction(recorded.rate * each, recorded.windows.shape[2]))
        seen.height, seen.width = first.shape[:2]
        seen.pix_fmt, seen.options = "yuv420p", {"crf": "22", "preset": "veryfast"}
        streams = []
        for title, (_, rate) in zip(titles, tracks, strict=True):
            heard = out.add_stream("aac", rate=rate, layout="stereo", bit_rate=min(128_000, 8 * rate))
            # The handler name is the title that MP4 keeps of a track.
            heard.metadata["handler_name"] = title
            streams.append(heard)
        total, done = len(recorded.windows) * each, 0
        for number, frame in enumerate(whole(first, pictures)):
            out.mux(seen.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            # Audio is interleaved frame by frame, so that players need not seek.
            upto = tracks[0][0].shape[1] * (number + 1) // total
            for heard, (wave, rate) in zip(streams, tracks, strict=True) if upto > done else ():
                piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, done:upto]), "fltp", "stereo")
                piece.sample_rate, piece.pts, piece.time_base = rate, done, Fraction(1, rate)
                out.mux(heard.encode(piece))
            done = upto
        for stream in (seen, *streams):
            out.mux(stream.encode())


def playable(wave: Float[np.ndarray, "2 time"], rate: int) -> tuple[Float[np.ndarray, "2 _time"], int]:
    """The sound and its rate, resampled if AAC does not support it."""
    if rate in AAC_RATES:
        return wave, rate
    import soxr

    return np.ascontiguousarray(soxr.resample(wave.T, rate, OTHERWISE).T), OTHERWISE


def frames_a_window(recorded: Recorded) -> int:
    return max(1, math.ceil(LEAST_FRAMES * recorded.windows.shape[2] / recorded.rate))


def whole(
    first: UInt8[np.ndarray, "row column 3"], others: Iterator[UInt8[np.ndarray, "row column 3"]]
) -> Iterator[UInt8[np.ndarray, "row column 3"]]:
    yield first
    yield from others


def frames(
    recorded: Recorded, size: int = 480, images: int = 0, strip: bool = True, view: View = "above"
) -> Iterator[UInt8[np.ndarray, "row column 3"]]:
    """All frames of the film, of even height and width, as H.264 requires."""
    size += size % 2
    each = frames_a_window(recorded)
    below: list[Strip] = [Differences(recorded.wave(), recorded.rate, size)] if strip else []
    if strip and recorded.imagined is not None:
        below.append(Differences(recorded.wave(imagined=True), recorded.rate, size, IMAGINED))
    if view == "ears":
        below.insert(0, Loudness(recorded.wave(), recorded.rate, size))
    window = recorded.windows.shape[2] / recorded.rate
    for number, scene in enumerate(recorded.scenes):
        before = recorded.scenes[max(0, number - 1)]
        field = recorded.fields[number] if recorded.fields else None
        for part in range(1, each + 1):
            drawn = [np.asarray(one.at((number + part / each) * window)) for one in below]
            if view == "above":
                drawn.insert(0, picture(between(before, scene, part / each), size, field, images))
            yield np.concatenate(drawn)


def between(before: Scene, scene: Scene, fraction: float) -> Scene:
    """The scene with its pose interpolated from that of the previous scene."""
    along = min(1.0, fraction / ARRIVED)
    along = along * along * (3 - 2 * along)
    turned = (scene.pose[2] - before.pose[2] + np.pi) % (2 * np.pi) - np.pi
    moved = np.append(scene.pose[:2] - before.pose[:2], turned)
    pose = before.pose + along * moved if along < 1 else scene.pose
    return replace(scene, pose=pose, trajectory=np.concatenate([scene.trajectory[:-1], pose[None]]))


def still(seen: UInt8[np.ndarray, "row column 3"]) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(seen).quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class Strip:
    """Stacked time-frequency images of a whole sound, computed once; `at` draws the part before any time."""

    def __init__(
        self,
        fields: Mapping[str, UInt8[np.ndarray, "row column 3"]],
        hop: float,
        width: int,
        tall: float,
        said: str,
    ) -> None:
        """`hop` is the time in seconds between columns."""
        self.fields, self.said = fields, said
        self.columns_a_second = 1 / hop
        self.width, self.height = width, 2 * round(tall * width)

    def at(self, seconds: float) -> Image.Image:
        """Picture of the last `STRIP_SECONDS` before a time, which is at the right edge."""
        image = Image.new("RGB", (self.width, self.height), canvas.OUTSIDE)
        edge, type_size = max(8, round(0.035 * self.width)), max(9, self.width // 42)
        # Align the left edges of all strips.
        left = edge + round(canvas.type_of(type_size).getlength("phase ")) + 4
        tall = max(1, (self.height - edge) // len(self.fields) - 6)
        pen = ImageDraw.Draw(image)
        for number, (name, field) in enumerate(self.fields.items()):
            top = 2 + number * (tall + 6)
            shown = Image.fromarray(self.seen(field, seconds)).resize((self.width - edge - left, tall), 0)
            image.paste(shown, (left, top))
            pen.rectangle((left - 1, top - 1, self.width - edge, top + tall), outline=canvas.GRID)
            canvas.write(image, (edge, top + tall / 2), name, type_size, canvas.FAINT, "lm")
        used = len(self.fields) * (tall + 6)
        below = used + (self.height - used) / 2
        canvas.write(image, (left, below), self.said, type_size, canvas.FAINT, "lm")
        return image

    def seen(self, field: UInt8[np.ndarray, "row column 3"], seconds: float) -> UInt8[np.ndarray, "row shown 3"]:
        """Columns of the last `STRIP_SECONDS`; white before the beginning of the sound."""
        shown = round(STRIP_SECONDS * self.columns_a_second)
        end = min(field.shape[1], round(seconds * self.columns_a_second))
        part = field[:, max(0, end - shown) : end]
        before = np.full((field.shape[0], shown - part.shape[1], 3), 255, np.uint8)
        return np.concatenate([before, part], axis=1)


class Differences(Strip):
    """Strip of interaural phase and level differences."""

    def __init__(self, wave: Float[np.ndarray, "2 time"], rate: int, width: int, said: str = HEARD) -> None:
        rows, hop = features_of(wave, rate, STRIP_BANDS)
        left, right, sine, _, level = np.split(rows, 5)
        audible = audible_in(np.maximum(left, right))
        fields = {"phase": shaded(sine, audible), "level": shaded(level / LEVEL_RANGE, audible)}
        super().__init__(fields, hop, width, STRIP_TALL, said)


class Loudness(Strip):
    """Strip of the loudness at the left and the right ear, on a common scale."""

    def __init__(self, wave: Float[np.ndarray, "2 time"], rate: int, width: int) -> None:
        rows, hop = features_of(wave, rate, LOUDNESS_BANDS)
        both = audible_in(np.stack(np.split(rows, 5)[:2]))
        sides = {"left": 1.0, "right": -1.0}
        fields = {
            name: shaded(np.full_like(own, side), own)
            for (name, side), own in zip(sides.items(), both, strict=True)
        }
        super().__init__(fields, hop, width, LOUDNESS_TALL, LOUDNESS)


def features_of(
    wave: Float[np.ndarray, "2 time"], rate: int, bands: int
) -> tuple[Float[np.ndarray, "row column"], float]:
    """Log-mel bands of both ears, sine and cosine of interaural phase, level difference; and hop in seconds."""
    fft = max(64, 2 ** round(np.log2(0.032 * rate)))
    hop = max(1, round(0.016 * rate))
    ears = Ears(EarsConfig(fft=fft, hop=hop, bands=bands, floor_db=FLOOR, level_unit=1.0), rate)
    padded = np.pad(wave.astype(np.float32), ((0, 0), (0, max(0, fft - wave.shape[1]))))
    return ears(torch.from_numpy(padded)[None])[0].numpy(), hop / rate


def audible_in(bands: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Audibility, linear in dB: 1 in the loudest bin, 0 in bins `STRIP_RANGE` below it or at the floor."""
    decibels = FLOOR / 2 * (1 - bands)
    return np.clip(1 + (decibels - decibels.max()) / STRIP_RANGE, 0, 1) * (decibels > FLOOR)


def shaded(
    side: Float[np.ndarray, "row column"], audible: Float[np.ndarray, "row column"]
) -> UInt8[np.ndarray, "row column 3"]:
    """Colours of values from −1 (right ear) to 1 (left ear); the highest band in the first row."""
    ends = [np.array(canvas.mixed(colour, canvas.PAPER, 1.0)) for colour in (canvas.RIGHT, canvas.LEFT)]
    middle = np.array(canvas.mixed(canvas.GRID, canvas.PAPER, 1.0))
    fraction = np.clip(np.abs(side), 0, 1)[..., None]
    colour = (1 - fraction) * middle + fraction * np.where(side[..., None] > 0, ends[1], ends[0])
    shown = audible[..., None] * colour + (1 - audible[..., None]) * 255
    return np.rint(shown[::-1]).astype(np.uint8)
