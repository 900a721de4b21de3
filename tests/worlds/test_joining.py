"""Joining of segments into a sound with fades."""

import numpy as np
import pytest

from sonarium.worlds.joining import joined


@pytest.mark.parametrize("samples", [1, 2, 5, 24, 47, 48, 200])
def test_segments_of_any_length_are_faded_in(samples):
    sound = joined(np.zeros(300, np.float32), [(np.ones(samples, np.float32), 50)], fade=24)
    assert not sound[:50].any() and not sound[50 + samples :].any()
    within = sound[50 : 50 + samples]
    assert 0 < within.min() <= within.max() == pytest.approx(1, abs=0.3) and np.allclose(within, within[::-1])
