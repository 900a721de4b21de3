"""The page of the least certain syllables: the figure of each."""

import numpy as np

from sonarium.report import review
from sonarium.report.review import Doubtful


def test_labels_stand_above_what_is_seen_of_their_syllables(monkeypatch):
    """Including a long syllable of which only the end lies in the excerpt."""
    figures = []
    monkeypatch.setattr(review, "png", lambda figure: figures.append(figure) or b"")
    wave = 0.1 * np.random.default_rng(0).normal(size=2400)
    around = [(0.1, 0.95, "b"), (1.0, 1.1, "a"), (1.19, 3.0, "c")]
    review.drawn(Doubtful("song.wav", "a", 1.0, 1.1, 0.2, 0.9, wave, 8000, around))
    [axes] = figures[0].axes
    low, high = axes.get_xlim()
    assert [text.get_text() for text in axes.texts] == ["b", "a", "c"]
    assert all(low < text.get_position()[0] < high for text in axes.texts)
