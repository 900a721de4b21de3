"""The CPC encoder against the same layers in plain torch, and padded clips against clips alone."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from typechecking import unchecked

from sonarium.models.cpc.encoder import Encoder, EncoderConfig

SMALL = EncoderConfig(filters=(3, 4, 5), kernels=(10, 4, 3), strides=(5, 2, 2), paddings=(3, 1, 1))
NORMS = ("batch", "channel", "none")


def plain(encoder: Encoder) -> nn.Sequential:
    """The same network of torch's modules, channels first, with the encoder's weights."""

    class ChannelsLast(nn.Module):
        def __init__(self, norm: nn.Module):
            super().__init__()
            self.norm = norm

        def forward(self, made):
            return self.norm(made.transpose(1, 2)).transpose(1, 2)

    layers: list[nn.Module] = []
    for layer in encoder.layers:
        norm = ChannelsLast(layer.norm) if isinstance(layer.norm, nn.LayerNorm) else layer.norm
        layers += [layer.convolution, norm, nn.ReLU()]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_layers_written_out(norm, bias, training):
    torch.manual_seed(0)
    encoder = Encoder(replace(SMALL, norm=norm, bias=bias)).double().train(training)
    written = plain(encoder)
    wave = torch.randn(3, 211, dtype=torch.double)
    made, expected = encoder(wave), written(wave[:, None]).transpose(1, 2)
    torch.testing.assert_close(made, expected)
    assert made.shape == (3, encoder.frames(211), 5)
    weights = list(encoder.parameters())
    direction = torch.randn_like(made)
    got = torch.autograd.grad(made, weights, direction)
    for one, other in zip(got, torch.autograd.grad(expected, weights, direction), strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(encoder(wave), made)


@given(
    layers=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(0, 3)).filter(
            lambda layer: layer[2] < layer[0]
        ),
        min_size=1,
        max_size=3,
    ),
    samples=st.integers(1, 90),
)
def test_frames_are_counted_as_they_come(layers, samples):
    kernels, strides, paddings = (tuple(numbers) for numbers in zip(*layers, strict=True))
    encoder = Encoder(EncoderConfig((2,), kernels, strides, paddings, norm="none"))
    expected = encoder.frames(samples)
    assert torch.equal(encoder.frames(torch.tensor([samples])), torch.tensor([expected]))
    if expected:
        assert encoder(torch.zeros(1, samples)).shape == (1, expected, 2)


@pytest.mark.parametrize("norm", NORMS)
def test_a_clip_among_longer_ones_is_encoded_as_alone(norm):
    torch.manual_seed(0)
    encoder = Encoder(replace(SMALL, norm=norm)).double().eval()
    lengths = torch.tensor([211, 97, 64, 150])
    wave = torch.randn(4, 211, dtype=torch.double)
    wave *= torch.arange(211) < lengths[:, None]
    together = encoder(wave, lengths)
    for clip, length in enumerate(lengths.tolist()):
        frames = encoder.frames(length)
        torch.testing.assert_close(together[clip, :frames], encoder(wave[clip : clip + 1, :length])[0])
        assert not together[clip, frames:].any()


def test_statistics_of_a_batch_leave_padding_out():
    torch.manual_seed(0)
    one = Encoder(EncoderConfig((2,), (2,), (2,), (0,), norm="batch", bias=True)).double()
    other = Encoder(one.config).double()
    other.load_state_dict(one.state_dict())
    wave, lengths = torch.randn(2, 40, dtype=torch.double), torch.tensor([40, 20])
    wave[1, 20:] = 0
    made = one(wave, lengths)
    # The same frames without padding: both halves of the first clip, and the first half of the second.
    alone = other(torch.cat([wave[:1, :20], wave[:1, 20:], wave[1:, :20]]))
    torch.testing.assert_close(made[0], torch.cat([alone[0], alone[1]]))
    torch.testing.assert_close(made[1, :10], alone[2])
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kernels": ()}, "kernels=()"),
        ({"strides": (5, 2)}, r"strides=\(5, 2\): give 3 numbers, one per kernel"),
        ({"strides": (5, 2, 0)}, "strides"),
        ({"paddings": (3, 1, 3)}, "paddings"),
        ({"paddings": (3, 1)}, "paddings"),
        ({"filters": (4, 4)}, r"filters=\(4, 4\): give one number, or 3"),
        ({"norm": "layer"}, "norm='layer': give batch, channel or none"),
    ],
)
def test_impossible_layers_are_refused(changed, message):
    with unchecked(), pytest.raises(ValueError, match=message.replace("()", r"\(\)")):
        replace(SMALL, **changed)
