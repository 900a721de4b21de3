"""A world of a few small pictures, for training that takes milliseconds."""

import pytest
import torch

from sonarium.worlds.contract import Batch, Factor, Signal, World


class Blots(World):
    """Pictures of noise with brightness as their only factor; clip 7 may contain NaN."""

    name = "blots"
    signal = Signal("picture", (8, 8))
    factors = (Factor("brightness", (0.2, 0.8)),)

    def __init__(self, clips: int = 30, damaged: bool = False):
        generator = torch.Generator().manual_seed(1)
        self.brightness = torch.arange(clips) % 2 * 0.6 + 0.2
        self.pictures = torch.rand(clips, 8, 8, generator=generator) * self.brightness[:, None, None]
        if damaged:
            self.pictures[7, 0, 0] = torch.nan

    def __len__(self) -> int:
        return len(self.pictures)

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        return Batch(index, self.pictures[index].to(device), self.brightness[index, None].to(device))


@pytest.fixture
def blots() -> type[Blots]:
    return Blots
