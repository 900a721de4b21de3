"""The networks of BirdsongGAN: between snippets of spectrograms, of 129 bins × 16 frames, and codes; and those
that judge snippets. Snippets of other sizes have the same strides, and kernels no larger than what there is.

Layers are normalised by layer (the default), batch (statistics of reconstructions and of samples apart) or
instance; or activations are SELUs (Klambauer et al. 2017) and nothing is normalised; or discriminators are held
by the spectral norm of their weights (Miyato et al. 2018).

Dense layers may take the place of the convolutions, and linear layers stand beside either.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

DEVIATION = 0.02
"""Standard deviation of the first weights."""
LEAST = 1e-3
"""Least mean of the features at which a generator begins."""
LEAK = 0.2
"""Negative slope of the leaky ReLU of a discriminator."""
UNITS = 32
"""Units of a dense hidden layer for each channel of a first convolution."""
SHARPNESS = 2.0
"""Of the softplus after principal components, in units of one over the mean of the features."""
ROUNDING = 1e-6
"""A standard deviation below this fraction of the largest is none."""
RECONSTRUCTED, GENERATED = 0, 1
"""What a network is given: codes or snippets of sound, or those of the prior. Batch normalisation keeps statistics
of each."""
Normalisation = Literal["layer", "batch", "instance", "selu", "spectral"]
Size = tuple[int, int]
"""Rows and frames."""


@dataclass(frozen=True)
class Layer:
    """A convolution: rows, then frames."""

    kernel: Size
    stride: Size
    padding: Size

    def fitting(self, size: Size) -> "Layer":
        """With a kernel no larger than what there is."""
        rows, frames = (
            min(kernel, there + 2 * padding)
            for kernel, there, padding in zip(self.kernel, size, self.padding, strict=True)
        )
        return replace(self, kernel=(rows, frames))

    def after(self, size: Size) -> Size:
        """The size that it makes of this one."""
        rows, frames = (
            (there + 2 * padding - kernel) // stride + 1
            for there, padding, kernel, stride in zip(size, self.padding, self.kernel, self.stride, strict=True)
        )
        return rows, frames

    def remainder(self, size: Size) -> Size:
        """What its transpose adds at the end, to give this size again."""
        rows, frames = (
            (there + 2 * padding - kernel) % stride
            for there, padding, kernel, stride in zip(size, self.padding, self.kernel, self.stride, strict=True)
        )
        return rows, frames


ENCODER = (
    Layer((5, 4), (2, 2), (0, 1)),
    Layer((5, 4), (2, 1), (1, 0)),
    Layer((5, 4), (4, 1), (1, 1)),
    Layer((4, 4), (3, 1), (1, 1)),
)
"""Of 129 × 16: 63 × 8, 31 × 5, 8 × 4, 3 × 3."""
DISCRIMINATOR = (
    Layer((4, 4), (2, 2), (1, 1)),
    Layer((4, 3), (2, 1), (1, 0)),
    Layer((4, 3), (2, 1), (2, 0)),
    Layer((8, 4), (2, 1), (1, 1)),
)
"""Of 129 × 16: 64 × 8, 32 × 6, 17 × 4, 6 × 3."""


def plan(layers: Sequence[Layer], size: Size) -> tuple[list[Layer], list[Size]]:
    """The layers for snippets of this size, the last of which leaves one number a channel; and the sizes before
    each."""
    fitted, sizes = [], [size]
    for layer in layers:
        fitted.append(layer.fitting(sizes[-1]))
        sizes.append(fitted[-1].after(sizes[-1]))
    return [*fitted, Layer(sizes[-1], (1, 1), (0, 0))], sizes


def activation(kind: Normalisation, leak: float, inplace: bool = False) -> nn.Module:
    if kind == "selu":
        return nn.SELU(inplace)
    return nn.LeakyReLU(leak, inplace) if leak else nn.ReLU(inplace)


class Norm(nn.Module):
    """Normalisation of a layer, by what it is given."""

    def __init__(self, kind: Normalisation, channels: int, size: Size):
        super().__init__()
        if kind == "batch":
            apart = [nn.BatchNorm2d(channels) for _ in (RECONSTRUCTED, GENERATED)]
            for one in apart:
                nn.init.normal_(one.weight, 1, DEVIATION)
            made: list[nn.Module] = [*apart]
        elif kind == "instance":
            if size == (1, 1):
                raise ValueError(
                    "instance normalisation of a single number is nothing: choose another normalisation, or more "
                    "frames or a larger fft"
                )
            made = [nn.InstanceNorm2d(channels, affine=True)]
        elif kind == "layer":
            made = [nn.LayerNorm([channels, *size])]
        else:
            made = [nn.Identity()]
        self.each = nn.ModuleList(made)

    def forward(
        self, given: Float[Tensor, "clip channel row frame"], what: int
    ) -> Float[Tensor, "clip channel row frame"]:
        return self.each[min(what, len(self.each) - 1)](given)


class Residual(nn.Module):
    """Two convolutions that change nothing but what they add."""

    def __init__(self, kind: Normalisation, channels: int, size: Size, leak: float):
        super().__init__()
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2)]
        )
        self.norms = nn.ModuleList([Norm(kind, channels, size) for _ in range(2)])
        # Not in place, where there may be no norm between what is given and what is made of it.
        self.active = activation(kind, leak)

    def forward(
        self, given: Float[Tensor, "clip channel row frame"], what: int
    ) -> Float[Tensor, "clip channel row frame"]:
        made = given
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            made = convolution(self.active(norm(made, what)))
        return given + made


class Stack(nn.Module):
    """Convolutions, each but the last followed by its normalisation, an activation and, on request, a residual
    block."""

    def __init__(
        self,
        convolutions: Sequence[nn.Module],
        channels: Sequence[int],
        sizes: Sequence[Size],
        kind: Normalisation,
        leak: float,
        residual: bool,
    ):
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        made = list(zip(channels, sizes, strict=True))
        self.norms = nn.ModuleList([Norm(kind, *one) for one in made])
        self.blocks = nn.ModuleList([Residual(kind, *one, leak) for one in made] if residual else [])
        self.active = activation(kind, leak, inplace=True)

    def forward(
        self, given: Float[Tensor, "clip channel row frame"], what: int
    ) -> Float[Tensor, "clip made_channel made_row made_frame"]:
        made = given
        for at, norm in enumerate(self.norms):
            made = self.active(norm(self.convolutions[at](made), what))
            if self.blocks:
                made = self.blocks[at](made, what)
        return self.convolutions[-1](made)


class SnippetEncoder(nn.Module):
    """From snippets to codes."""

    def __init__(self, latent: int, width: int, kind: Normalisation, residual: bool, size: Size):
        super().__init__()
        layers, sizes = plan(ENCODER, size)
        channels = [1, *(width * 2**depth for depth in range(4)), latent]
        convolutions = [
            nn.Conv2d(before, after, layer.kernel, layer.stride, layer.padding, bias=False)
            for before, after, layer in zip(channels[:-1], channels[1:], layers, strict=True)
        ]
        kind = plain(kind)
        self.stack = Stack(convolutions, channels[1:-1], sizes[1:], kind, 0.0, residual)
        active = activation(kind, 0.0, inplace=True)
        self.head = nn.Sequential(nn.Linear(latent, 2 * latent), active, nn.Linear(2 * latent, latent))
        begin(self, kind)

    def forward(
        self, snippets: Float[Tensor, "clip 1 row frame"], what: int = RECONSTRUCTED
    ) -> Float[Tensor, "clip code"]:
        return self.head(self.stack(snippets, what).flatten(1))

    @property
    def last(self) -> nn.Module:
        return self.head[-1]


class Generator(nn.Module):
    """From codes to snippets: the encoder's convolutions transposed, in reverse order."""

    def __init__(self, latent: int, width: int, kind: Normalisation, residual: bool, size: Size):
        super().__init__()
        layers, sizes = plan(ENCODER, size)
        channels = [1, *(width * 2**depth for depth in range(4)), latent]
        convolutions = [
            nn.ConvTranspose2d(
                channels[at + 1],
                channels[at],
                layers[at].kernel,
                layers[at].stride,
                layers[at].padding,
                layers[at].remainder(sizes[at]),
                bias=at == 0,
            )
            for at in reversed(range(len(layers)))
        ]
        kind = plain(kind)
        self.stack = Stack(convolutions, channels[-2:0:-1], sizes[:0:-1], kind, 0.0, residual)
        begin(self, kind)

    def forward(
        self, codes: Float[Tensor, "clip code"], what: int = RECONSTRUCTED
    ) -> Float[Tensor, "clip 1 row frame"]:
        return functional.softplus(self.unbounded(codes, what))

    def unbounded(self, codes: Float[Tensor, "clip code"], what: int) -> Float[Tensor, "clip 1 row frame"]:
        """Before the softplus."""
        return self.stack(rearrange(codes, "clip code -> clip code 1 1"), what)

    @property
    def last(self) -> nn.Module:
        return self.stack.convolutions[-1]

    def begin_at(self, mean: float) -> None:
        begin_at(self.last, mean)


class DenseEncoder(nn.Module):
    """From snippets to codes by two hidden layers."""

    def __init__(self, latent: int, width: int, size: Size):
        super().__init__()
        self.layers = hidden_layers(math.prod(size), UNITS * width, latent)

    def forward(
        self, snippets: Float[Tensor, "clip 1 row frame"], what: int = RECONSTRUCTED
    ) -> Float[Tensor, "clip code"]:
        return self.layers(snippets.flatten(1))

    @property
    def last(self) -> nn.Module:
        return self.layers[-1]


class DenseGenerator(nn.Module):
    """From codes to snippets by two hidden layers."""

    def __init__(self, latent: int, width: int, size: Size):
        super().__init__()
        self.size = size
        self.layers = hidden_layers(latent, UNITS * width, math.prod(size))

    def forward(
        self, codes: Float[Tensor, "clip code"], what: int = RECONSTRUCTED
    ) -> Float[Tensor, "clip 1 row frame"]:
        return functional.softplus(self.unbounded(codes, what))

    def unbounded(self, codes: Float[Tensor, "clip code"], what: int) -> Float[Tensor, "clip 1 row frame"]:
        return self.layers(codes).view(-1, 1, *self.size)

    @property
    def last(self) -> nn.Module:
        return self.layers[-1]

    def begin_at(self, mean: float) -> None:
        begin_at(self.last, mean)


class Components(NamedTuple):
    """Principal components of snippets."""

    mean: Float[Tensor, " number"]
    axes: Float[Tensor, "number code"]
    deviations: Float[Tensor, " code"]
    """Standard deviation along each axis; 0 of what snippets are too few to tell."""


def principal_components(snippets: Float[Tensor, "snippet number"], count: int) -> Components:
    """Those of the largest variances."""
    mean = snippets.double().mean(0)
    centred = snippets.double() - mean
    # The smaller of the two products of the snippets with themselves has all there is.
    few = len(centred) < centred.shape[1]
    squares, vectors = torch.linalg.eigh(centred @ centred.T if few else centred.T @ centred)
    found = min(count, len(squares))
    lengths = squares[-found:].clamp(min=0).sqrt()
    known = lengths > ROUNDING * lengths.max()
    axes = vectors[:, -found:] * known
    if few:
        axes = centred.T @ axes / lengths.where(known, 1)
    deviations = lengths * known / max(1, len(centred) - 1) ** 0.5
    missing = 0, count - found
    return Components(mean, functional.pad(axes, missing), functional.pad(deviations, missing))


class PrincipalEncoder(nn.Module):
    """A network and a linear layer beside it, which begins as principal components of unit variance."""

    def __init__(self, network: SnippetEncoder | DenseEncoder, latent: int, size: Size):
        super().__init__()
        self.network, self.linear = network, nn.Linear(math.prod(size), latent)

    def forward(
        self, snippets: Float[Tensor, "clip 1 row frame"], what: int = RECONSTRUCTED
    ) -> Float[Tensor, "clip code"]:
        return self.linear(snippets.flatten(1)) + self.network(snippets, what)

    @torch.no_grad()
    def begin_with(self, found: Components) -> None:
        """Begin as these; the network adds nothing yet."""
        weights = (found.axes / found.deviations.where(found.deviations > 0, 1)).T
        self.linear.weight.copy_(weights)
        self.linear.bias.copy_(-weights @ found.mean)
        silence(self.network.last)


class PrincipalGenerator(nn.Module):
    """A network and a linear layer beside it, which begins as the inverse of the encoder's."""

    sharpness: Tensor

    def __init__(self, network: Generator | DenseGenerator, latent: int, size: Size):
        super().__init__()
        self.size = size
        self.network, self.linear = network, nn.Linear(latent, math.prod(size))
        self.register_buffer("sharpness", torch.ones(()))

    def forward(
        self, codes: Float[Tensor, "clip code"], what: int = RECONSTRUCTED
    ) -> Float[Tensor, "clip 1 row frame"]:
        made = self.linear(codes).view(-1, 1, *self.size) + self.network.unbounded(codes, what)
        return functional.softplus(made * self.sharpness) / self.sharpness

    @torch.no_grad()
    def begin_with(self, found: Components) -> None:
        """Begin with these; the network adds nothing yet."""
        self.linear.weight.copy_(found.axes * found.deviations)
        self.linear.bias.copy_(found.mean)
        self.sharpness.fill_(SHARPNESS / max(float(found.mean.mean()), LEAST))
        silence(self.network.last)


def hidden_layers(given: int, units: int, made: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(given, units), nn.SiLU(), nn.Linear(units, units), nn.SiLU(), nn.Linear(units, made)
    )


def begin_at(last: nn.Module, mean: float) -> None:
    """Set the bias of the last layer so that codes of nothing make this number."""
    bias = last.bias
    assert isinstance(bias, Tensor)
    nn.init.constant_(bias, math.log(math.expm1(max(mean, LEAST))))


def silence(last: nn.Module) -> None:
    """Set the weights of a last layer to 0."""
    for weight in last.parameters():
        nn.init.zeros_(weight)


class Discriminator(nn.Module):
    """The logarithm of the odds that a snippet is real."""

    def __init__(self, width: int, kind: Normalisation, residual: bool, size: Size):
        super().__init__()
        layers, sizes = plan(DISCRIMINATOR, size)
        channels = [1, *(width * 2**depth for depth in range(4)), 1]
        convolutions: list[nn.Module] = [
            nn.Conv2d(before, after, layer.kernel, layer.stride, layer.padding, bias=False)
            for before, after, layer in zip(channels[:-1], channels[1:], layers, strict=True)
        ]
        self.stack = Stack(convolutions, channels[1:-1], sizes[1:], kind, LEAK, residual)
        begin(self, kind)
        if kind == "spectral":
            # In place, for the modules are listed already.
            for module in list(self.modules()):
                if isinstance(module, nn.Conv2d):
                    spectral_norm(module)

    def forward(self, snippets: Float[Tensor, "clip 1 row frame"], what: int) -> Float[Tensor, " clip"]:
        return rearrange(self.stack(snippets, what), "clip 1 1 1 -> clip")


def plain(kind: Normalisation) -> Normalisation:
    """The normalisation of encoder and generator: the spectral norm is for discriminators."""
    return "layer" if kind == "spectral" else kind


def begin(network: nn.Module, kind: Normalisation) -> None:
    """Draw the first weights: N(0, .02), or what keeps the variance of SELUs."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if kind == "selu":
                # Each input of a unit: of a transposed convolution its stride leaves out the others.
                inputs = module.weight[0].numel()
                if isinstance(module, nn.ConvTranspose2d):
                    inputs = module.weight[:, 0].numel() / math.prod(module.stride)
                nn.init.normal_(module.weight, 0, inputs**-0.5)
            else:
                nn.init.normal_(module.weight, 0, DEVIATION)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
