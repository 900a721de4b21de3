"""Offline page of the least certain syllables to review next, with a spectrogram and a player for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sonarium.features.syllables import BandsConfig, band_levels
from sonarium.files import as_utf8
from sonarium.report.album import peak_safe, put, wav
from sonarium.report.rendering import data_uri, rendered
from sonarium.report.style import FIELD, png, sheet, tidy
from sonarium.worlds.contract import Mark

BANDS = BandsConfig(bands=64)
DEPTH = 60.0
"""Dynamic range of the spectrograms in decibels."""


@dataclass(frozen=True)
class Doubtful:
    """An uncertain syllable with the sound around it."""

    song: str
    label: str
    onset: float
    """Seconds in the song."""
    offset: float
    certainty: float
    begin: float
    """Seconds in the song at which the excerpt begins."""
    wave: Float[np.ndarray, " time"]
    rate: int
    around: Sequence[Mark]
    """All syllables within the excerpt, in seconds of the song."""

    @property
    def title(self) -> str:
        return f"{self.label} at {self.onset:.3f} s of {self.song}"

    @property
    def picture(self) -> str:
        return data_uri(drawn(self), "image/png")

    @property
    def sound(self) -> str:
        return data_uri(wav(peak_safe([self.wave])[0], self.rate), "audio/wav")


def drawn(one: Doubtful) -> bytes:
    """Spectrogram with the syllables' labels; the uncertain one is framed."""
    figure = sheet(5, 2.2)
    axes = figure.subplots()
    levels = band_levels(one.wave, one.rate, BANDS).T
    end = one.begin + len(one.wave) / one.rate
    top = float(levels.max())
    extent = (one.begin, end, 0, BANDS.bands)
    axes.imshow(levels, cmap=FIELD, vmin=top - DEPTH, vmax=top, aspect="auto", origin="lower", extent=extent)
    for start, stop, label in one.around:
        own = (start, stop) == (one.onset, one.offset)
        colour = "#ffb000" if own else "#d0d7de"
        axes.plot([start, stop], [BANDS.bands - 2] * 2, color=colour, linewidth=4 if own else 2)
        seen = max(start, one.begin) + min(stop, end)
        axes.text(seen / 2, BANDS.bands - 4, label, color=colour, ha="center", va="top", fontsize=8)
    axes.axvspan(one.onset, one.offset, fill=False, edgecolor="#ffb000", linewidth=1)
    axes.set_xlim(one.begin, end)
    tidy(axes, "", "seconds", "mel band")
    return png(figure)


def review_page(title: str, lead: str, syllables: Sequence[Doubtful], out: Path) -> None:
    """Write the page to `out`."""
    text = rendered("review.html", title=title, lead=lead, syllables=syllables)
    put(out, as_utf8(text))
