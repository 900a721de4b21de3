"""A strip of what tells left from right: how phase and level differ between the ears, by frequency and time.

Blue is the left ear, vermilion the right one, as on the listener's head; where nothing is heard the strip is pale.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from sonarium.features.ears import Ears, EarsConfig
from sonarium.rooms.draw import canvas

SECONDS = 4.0
"""How much of the past is seen."""
BANDS = 24
RANGE = 50.0
"""Decibels below the loudest cell at which the strip is pale."""
LEVEL_RANGE = 12.0
"""Decibels between the ears that have the full colour."""


class Strip:
    """The differences of a whole sound, worked out once; `at` draws the strip of any moment."""

    def __init__(self, wave: Float[np.ndarray, "2 time"], rate: int, width: int) -> None:
        fft = max(64, 2 ** round(np.log2(0.032 * rate)))
        hop = max(1, round(0.016 * rate))
        ears = Ears(EarsConfig(fft=fft, hop=hop, bands=BANDS, floor_db=-120, level_unit=1.0), rate)
        padded = np.pad(wave.astype(np.float32), ((0, 0), (0, max(0, fft - wave.shape[1]))))
        rows = ears(torch.from_numpy(padded)[None])[0].numpy()
        left, right, sine, _, level = np.split(rows, 5)
        decibels = -60 * (1 - np.maximum(left, right))
        audible = np.clip(1 + (decibels - decibels.max()) / RANGE, 0, 1) * (decibels > -120)
        self.phase, self.level = shaded(sine, audible), shaded(level / LEVEL_RANGE, audible)
        self.columns_a_second = rate / hop
        self.width, self.height = width, 2 * round(0.13 * width)

    def at(self, seconds: float) -> Image.Image:
        """The last seconds before a moment, now at the right edge."""
        image = Image.new("RGB", (self.width, self.height), canvas.OUTSIDE)
        edge, type_size = max(8, round(0.035 * self.width)), max(9, self.width // 42)
        left = edge + round(canvas.type_of(type_size).getlength("phase ")) + 4
        tall = (self.height - edge) // 2 - 6
        pen = ImageDraw.Draw(image)
        for number, (name, field) in enumerate((("phase", self.phase), ("level", self.level))):
            top = 2 + number * (tall + 6)
            shown = Image.fromarray(self.seen(field, seconds)).resize((self.width - edge - left, tall), 0)
            image.paste(shown, (left, top))
            pen.rectangle((left - 1, top - 1, self.width - edge, top + tall), outline=canvas.GRID)
            canvas.write(image, (edge, top + tall / 2), name, type_size, canvas.FAINT, "lm")
        below = 2 * (tall + 6) + (self.height - 2 * (tall + 6)) / 2
        said = f"the last {SECONDS:g} s, low tones below; blue: left ear first, or louder"
        canvas.write(image, (left, below), said, type_size, canvas.FAINT, "lm")
        return image

    def seen(self, field: UInt8[np.ndarray, "row column 3"], seconds: float) -> UInt8[np.ndarray, "row shown 3"]:
        """The columns of the last seconds; before the beginning there is paper."""
        shown = round(SECONDS * self.columns_a_second)
        end = min(field.shape[1], round(seconds * self.columns_a_second))
        part = field[:, max(0, end - shown) : end]
        before = np.full((field.shape[0], shown - part.shape[1], 3), 255, np.uint8)
        return np.concatenate([before, part], axis=1)


def shaded(
    side: Float[np.ndarray, "row column"], audible: Float[np.ndarray, "row column"]
) -> UInt8[np.ndarray, "row column 3"]:
    """From −1, the right ear, to 1, the left one; the highest band in the first row."""
    ends = [np.array(canvas.mixed(colour, canvas.PAPER, 1.0)) for colour in (canvas.RIGHT, canvas.LEFT)]
    middle = np.array(canvas.mixed(canvas.GRID, canvas.PAPER, 1.0))
    share = np.clip(np.abs(side), 0, 1)[..., None]
    colour = (1 - share) * middle + share * np.where(side[..., None] > 0, ends[1], ends[0])
    shown = audible[..., None] * colour + (1 - audible[..., None]) * 255
    return np.rint(shown[::-1]).astype(np.uint8)
