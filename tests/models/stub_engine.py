"""The least machinery with which a learner can learn."""

from contextlib import nullcontext

import torch


class StubEngine:
    def __init__(self, seed: int = 0, clips: int = 100):
        self.generator = torch.Generator().manual_seed(seed)
        self.clips = clips

    def autocast(self):
        return nullcontext()

    def descend(self, loss, optimiser):
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
