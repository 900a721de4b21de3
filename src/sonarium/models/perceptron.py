"""The multilayer perceptron."""

from itertools import pairwise

from torch import nn


def perceptron(sizes: list[int], slope: float, final: bool = False) -> list[nn.Module]:
    """Linear layers with leaky ReLUs between them, and one at the end if `final`."""
    layers: list[nn.Module] = []
    for given, made in pairwise(sizes):
        layers += [nn.Linear(given, made), nn.LeakyReLU(slope)]
    return layers if final else layers[:-1]
