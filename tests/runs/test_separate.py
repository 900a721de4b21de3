"""Separation of sound of any length: windows equal the whole, and pieces keep the order of the sources."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sonarium.models.contract import Separator, StreamSeparator
from sonarium.runs.separate import by_pieces, by_windows, ears_of, joined, separated


def sound(samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((samples, 2)).astype(np.float32)


def blocks(whole: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(whole, np.cumsum(sizes)[np.cumsum(sizes) < len(whole)])


class Late(StreamSeparator):
    """Separates a signal into itself and its negative, with a latency of three samples."""

    sources, latency = 2, 3

    def begin(self, clips: int) -> Tensor:
        return torch.zeros(clips, 3, 2)

    def go_on(self, window: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([state, window], 1)
        made = both[:, : window.shape[1]]
        return torch.stack([made, -made], 2), both[:, window.shape[1] :]

    def masks(self, signal: Tensor) -> Tensor:
        raise NotImplementedError

    def separate(self, signal: Tensor) -> Tensor:
        raise NotImplementedError


@given(samples=st.integers(1, 60), sizes=st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_windows_come_in_time_and_in_full(samples, sizes):
    whole = sound(samples)
    made = np.concatenate(list(by_windows(Late(), blocks(whole, sizes), "cpu")))
    np.testing.assert_array_equal(made, np.stack([whole, -whole], 1))


class Shuffling(Separator):
    """Separates a signal into itself and its exchanged channels, in alternating order from call to call."""

    sources = 2

    def __init__(self):
        self.pieces: list[int] = []

    def separate(self, signal: Tensor) -> Tensor:
        self.pieces.append(signal.shape[1])
        made = torch.stack([signal, signal.flip(2)], 2)
        return made.flip(2) if len(self.pieces) % 2 else made

    def masks(self, signal: Tensor) -> Tensor:
        raise NotImplementedError


@given(samples=st.integers(1, 400), sizes=st.lists(st.integers(1, 90), min_size=1, max_size=6))
def test_pieces_keep_their_order_and_are_bounded(samples, sizes):
    whole, separator = sound(samples), Shuffling()
    made = np.concatenate(list(by_pieces(separator, blocks(whole, sizes), 40, 16, "cpu")))
    expected = np.stack([whole, whole[:, ::-1]], 1)
    assert made.shape == expected.shape
    order = [0, 1] if np.allclose(made[0], expected[0]) else [1, 0]
    np.testing.assert_allclose(made[:, order], expected, atol=1e-6)
    assert max(separator.pieces) < 80


def test_pieces_are_faded_into_each_other():
    before, made = np.zeros((4, 2, 2), np.float32), np.ones((6, 2, 2), np.float32)
    np.testing.assert_allclose(joined(before, made)[:, 0, 0], [0.125, 0.375, 0.625, 0.875, 1, 1])


def test_it_is_asked_what_it_can_do():
    whole = sound(100)
    for separator in (Late(), Shuffling()):
        assert sum(len(part) for part in separated(separator, [whole], 8000)) == 100


def test_files_of_two_channels_are_read_as_they_are(tmp_path):
    import soundfile

    whole = 0.1 * sound(9000)
    soundfile.write(tmp_path / "two.wav", whole, 8000, subtype="FLOAT")
    np.testing.assert_array_equal(np.concatenate(list(ears_of(tmp_path / "two.wav", 8000))), whole)
    assert abs(sum(map(len, ears_of(tmp_path / "two.wav", 16000))) - 18000) <= 2
    for channels in (1, 3):
        soundfile.write(tmp_path / "other.wav", whole[:, :1].repeat(channels, 1), 8000)
        with pytest.raises(ValueError, match=f"has {channels} channel.* give a recording of two channels"):
            list(ears_of(tmp_path / "other.wav", 8000))
