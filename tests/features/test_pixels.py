"""The front end of pictures."""

import pytest
import torch

from sonarium.features.pixels import Pixels, PixelsConfig


def test_pixels_are_left_as_they_are():
    front = Pixels(PixelsConfig(), 8, 6)
    pictures = torch.rand(3, 8, 6, generator=torch.Generator().manual_seed(0))
    front.fit([pictures])
    features = front(pictures)
    assert features.shape[1:] == front.shape(8) == (1, 8, 6)
    assert torch.equal(features[:, 0], pictures)
    assert not front.state_dict()


@pytest.mark.parametrize("shape", [(3, 6, 8), (3, 8, 7)])
def test_pictures_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(clip, 8, 6\): give a batch of pictures"):
        Pixels(PixelsConfig(), 8, 6)(torch.zeros(shape))
    with pytest.raises(ValueError, match="got pictures of 6 rows, expected 8"):
        Pixels(PixelsConfig(), 8, 6).shape(6)
