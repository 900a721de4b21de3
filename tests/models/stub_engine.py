"""Minimal engine for the training of a learner: one rank on a CPU."""

from contextlib import nullcontext

import torch


class StubEngine:
    rank, ranks, device = 0, 1, torch.device("cpu")

    def __init__(self, seed: int = 0, clips: int = 100):
        self.generator = torch.Generator().manual_seed(seed)
        self.dataset_size = clips

    def autocast(self):
        return nullcontext()

    def descend(self, loss, optimiser, clip=None):
        optimiser.zero_grad()
        loss.backward()
        self.step(optimiser, clip)

    def step(self, optimiser, clip=None):
        optimiser.step()

    def share(self, rows):
        return rows

    def gather(self, rows):
        return rows

    def mean(self, value):
        return value

    def segments(self, name):
        raise NotImplementedError(name)

    def progress(self, stage, done, total):
        pass


class Resting(StubEngine):
    """An engine that takes no step, and leaves the gradients."""

    def step(self, optimiser, clip=None):
        pass
