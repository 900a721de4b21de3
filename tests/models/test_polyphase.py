"""Convolution with three quarters of the multiplications, against torch's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from sonarium.models.cpc import polyphase


@given(
    clips=st.integers(1, 5),
    stride=st.integers(1, 5),
    extra=st.integers(0, 40),
    padding=st.integers(0, 4),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    rows=st.integers(1, 40),
)
def test_it_is_the_convolution_with_its_gradients(clips, stride, extra, padding, channels, rows):
    kernel = 2 * stride
    padding = min(padding, kernel - 1)
    torch.manual_seed(extra)
    time = max(1, kernel - 2 * padding) + extra
    sound = torch.randn(clips, time, channels[0], dtype=torch.double, requires_grad=True)
    weight = torch.randn(channels[1], channels[0], kernel, dtype=torch.double, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polyphase, "ROWS", rows)
        made = polyphase.convolve(sound, weight, stride, padding)
        expected = functional.conv1d(sound.transpose(1, 2), weight, None, stride, padding).transpose(1, 2)
        assert made.shape == expected.shape
        torch.testing.assert_close(made, expected)
        direction = torch.randn_like(made)
        got = torch.autograd.grad(made, [sound, weight], direction)
    for one, other in zip(got, torch.autograd.grad(expected, [sound, weight], direction), strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_are_those_of_small_differences():
    torch.manual_seed(0)
    sound = torch.randn(2, 13, 2, dtype=torch.double, requires_grad=True)
    weight = torch.randn(3, 2, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: polyphase.convolve(x, w, 2, 1), (sound, weight))


def test_sixteen_bits_stay_as_close_as_sixteen_bits_can():
    torch.manual_seed(0)
    sound, weight = torch.randn(2, 64, 32), torch.randn(16, 32, 8) / 16
    expected = functional.conv1d(sound.transpose(1, 2), weight, None, 4, 2).transpose(1, 2)
    made = polyphase.convolve(sound.bfloat16(), weight.bfloat16(), 4, 2).float()
    plain = functional.conv1d(sound.bfloat16().transpose(1, 2), weight.bfloat16(), None, 4, 2).transpose(1, 2)
    error = (made - expected).square().mean().sqrt()
    assert error < 3 * (plain.float() - expected).square().mean().sqrt() < 0.05


def test_another_kernel_is_refused():
    with pytest.raises(AssertionError, match="a kernel of 3 is not twice the stride of 2"):
        polyphase.convolve(torch.ones(1, 9, 1), torch.ones(1, 1, 3), 2, 1)
