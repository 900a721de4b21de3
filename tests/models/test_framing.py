"""One code per piece: number and content of pieces, independent of the rest of the batch and of windows."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sonarium.models import framing
from sonarium.models.contract import Encoder, FrameEncoder, Learner
from sonarium.models.cpc.cpc import CPC
from sonarium.models.cpc.presets import CONFIGS
from sonarium.models.framing import Pieces, coded, in_frames
from sonarium.worlds.contract import Signal

SIGNAL = Signal("wave", (10,), 20)


class Echo(Learner, Encoder):
    """Encoder whose code of a piece is the piece itself."""

    def update(self, data: Any, engine: Any) -> Any: ...

    def encode(self, signal: Any) -> Any:
        assert 0 < len(signal) <= framing.PIECES and signal.shape[1] == 10
        return signal[:, None]


def echo() -> Pieces:
    return Pieces(Echo(), SIGNAL)


@pytest.mark.parametrize(
    ("samples", "expected"), [(0, 0), (1, 1), (7, 1), (10, 1), (14, 1), (15, 2), (20, 2), (39, 4)]
)
def test_pieces_hold_all_that_is_half_a_piece_or_more(samples, expected):
    assert echo().code_lengths(torch.tensor([samples])).tolist() == [expected]
    if not samples:
        return
    wave = torch.arange(1.0, samples + 1)
    made = echo().encode(wave[None])
    assert made.shape == (1, expected, 10)
    kept = min(samples, 10 * expected)
    assert torch.equal(made.flatten()[:kept], wave[:kept]) and not made.flatten()[kept:].any()


@given(st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_clips_together_have_the_codes_that_each_has_alone(lengths):
    own = torch.tensor(lengths)
    wave = torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(0))
    together, counts = echo().encode(wave, own), echo().code_lengths(own).tolist()
    assert together.shape[1] == max(counts)
    for clip, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        assert torch.equal(together[clip, :count], echo().encode(wave[clip : clip + 1, :length])[0])
        assert not together[clip, count:].any()


@given(st.integers(1, 3000), st.integers(1, 999))
def test_windows_give_the_codes_of_the_whole(samples, block):
    wave = torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "WINDOW", 6.0)
        patch.setattr(framing, "AROUND", 1.0)
        parts = list(coded(echo(), wave.split(block), samples, 1.0, 20))
    assert torch.equal(torch.cat(parts), echo().encode(wave[None])[0])


def test_times_are_those_of_the_pieces_and_frames_are_left_as_they_are():
    made = in_frames(Echo(), SIGNAL)
    assert isinstance(made, FrameEncoder) and (made.code_rate, made.code_first) == (2.0, 0.25)
    frames = CPC(CONFIGS["default"], Signal("wave", (16000,), 16000))
    assert in_frames(frames, Signal("wave", (16000,), 16000)) is frames
