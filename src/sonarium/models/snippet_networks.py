"""Networks of BirdsongGAN: encoder and generator between spectrogram snippets, of 129 bins × 16 frames, and codes;
and discriminators. For snippets of other sizes, strides are the same and kernels no larger than their input.

Convolutions have layer normalisation (the default), batch normalisation (with separate statistics for
reconstructions and samples) or instance normalisation; or SELU activations (Klambauer et al. 2017) without
normalisation; or discriminators have the spectral norm of their weights normalised (Miyato et al. 2018).

Dense layers may replace the convolutions, and linear layers may run in parallel with either.
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
"""Standard deviation of the initial weights."""
LEAST = 1e-3
"""Minimum feature mean at which a generator is initialised."""
LEAK = 0.2
"""Negative slope of the leaky ReLU of a discriminator."""
UNITS = 32
"""Units of a dense hidden layer per channel of the first convolution."""
SHARPNESS = 2.0
"""Sharpness of the softplus after principal components, in units of one over the mean of the features."""
ROUNDING = 1e-6
"""Fraction of the largest standard deviation below which others count as 0."""
RECONSTRUCTED, GENERATED = 0, 1
"""Origin of a network's input: codes or snippets of sound, or those of the prior; of a discriminator's, true or
false snippets. Batch normalisation keeps separate statistics."""
Normalisation = Literal["layer", "batch", "instance", "selu", "spectral"]
Size = tuple[int, int]
"""Rows and frames."""


@dataclass(frozen=True)
class Layer:
    """Geometry of a convolution, as (rows, frames)."""

    kernel: Size
    stride: Size
    padding: Size

    def fitting(self, size: Size) -> "Layer":
        """Copy with a kernel no larger than the padded input."""
        rows, frames = (
            min(kernel, there + 2 * padding)
            for kernel, there, padding in zip(self.kernel, size, self.padding, strict=True)
        )
        return replace(self, kernel=(rows, frames))

    def after(self, size: Size) -> Size:
        """Output size for an input of this size."""
        rows, frames = (
            (there + 2 * padding - kernel) // stride + 1
            for there, padding, kernel, stride in zip(size, self.padding, self.kernel, self.stride, strict=True)
        )
        return rows, frames

    def remainder(self, size: Size) -> Size:
        """Output padding with which the transposed convolution restores this size."""
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
"""Output sizes for 129 × 16: 63 × 8, 31 × 5, 8 × 4, 3 × 3."""
DISCRIMINATOR = (
    Layer((4, 4), (2, 2), (1, 1)),
    Layer((4, 3), (2, 1), (1, 0)),
    Layer((4, 3), (2, 1), (2, 0)),
    Layer((8, 4), (2, 1), (1, 1)),
)
"""Output sizes for 129 × 16: 64 × 8, 32 × 6, 17 × 4, 6 × 3."""


def plan(layers: Sequence[Layer], size: Size) -> tuple[list[Layer], list[Size]]:
    """Layers for snippets of this size, the last of which leaves one number per channel; and the input size of
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
    """Normalisation of a layer; batch normalisation depends on the origin of the input."""

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
    """Residual block of two convolutions."""

    def __init__(self, kind: Normalisation, channels: int, size: Size, leak: float):
        super().__init__()
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2)]
        )
        self.norms = nn.ModuleList([Norm(kind, channels, size) for _ in range(2)])
        # Not in place: without a norm before it, it would overwrite the input, which is added at the end.
        self.active = activation(kind, leak)

    def forward(
        self, given: Float[Tensor, "clip channel row frame"], what: int
    ) -> Float[Tensor, "clip channel row frame"]:
        made = given
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            made = convolution(self.active(norm(made, what)))
        return given + made


class Stack(nn.Module):
    """Convolutions, each but the last followed by its normalisation, an activation and, optionally, a residual
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
    """Convolutional encoder from snippets to codes."""

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
    """Convolutional generator from codes to snippets: the transposed convolutions of the encoder in reverse."""

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
        """Output before the softplus."""
        return self.stack(rearrange(codes, "clip code -> clip code 1 1"), what)

    @property
    def last(self) -> nn.Module:
        return self.stack.convolutions[-1]

    def begin_at(self, mean: float) -> None:
        begin_at(self.last, mean)


class DenseEncoder(nn.Module):
    """Dense encoder from snippets to codes, with two hidden layers."""

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
    """Dense generator from codes to snippets, with two hidden layers."""

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
    """Standard deviation along each axis; 0 for axes that too few snippets leave undetermined."""


def principal_components(snippets: Float[Tensor, "snippet number"], count: int) -> Components:
    """Principal components of the largest variances."""
    mean = snippets.double().mean(0)
    centred = snippets.double() - mean
    # The smaller of the two Gram matrices has all nonzero eigenvalues.
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
    """Encoder with a parallel linear layer, initialised as principal components of unit variance."""

    def __init__(self, network: SnippetEncoder | DenseEncoder, latent: int, size: Size):
        super().__init__()
        self.network, self.linear = network, nn.Linear(math.prod(size), latent)

    def forward(
        self, snippets: Float[Tensor, "clip 1 row frame"], what: int = RECONSTRUCTED
    ) -> Float[Tensor, "clip code"]:
        return self.linear(snippets.flatten(1)) + self.network(snippets, what)

    @torch.no_grad()
    def begin_with(self, found: Components) -> None:
        """Initialise the linear layer with these components, and the output of the network at 0."""
        weights = (found.axes / found.deviations.where(found.deviations > 0, 1)).T
        self.linear.weight.copy_(weights)
        self.linear.bias.copy_(-weights @ found.mean)
        silence(self.network.last)


class PrincipalGenerator(nn.Module):
    """Generator with a parallel linear layer, initialised as the inverse of the encoder's."""

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
        """Initialise the linear layer with these components, and the output of the network at 0."""
        self.linear.weight.copy_(found.axes * found.deviations)
        self.linear.bias.copy_(found.mean)
        self.sharpness.fill_(SHARPNESS / max(float(found.mean.mean()), LEAST))
        silence(self.network.last)


def hidden_layers(given: int, units: int, made: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(given, units), nn.SiLU(), nn.Linear(units, units), nn.SiLU(), nn.Linear(units, made)
    )


def begin_at(last: nn.Module, mean: float) -> None:
    """Set the bias of the last layer so that its softplus is this mean, at least `LEAST`."""
    bias = last.bias
    assert isinstance(bias, Tensor)
    nn.init.constant_(bias, math.log(math.expm1(max(mean, LEAST))))


def silence(last: nn.Module) -> None:
    """Set all parameters of a last layer to 0."""
    for weight in last.parameters():
        nn.init.zeros_(weight)


class Discriminator(nn.Module):
    """Discriminator: log-odds that a snippet is real."""

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
            # `spectral_norm` adds modules, so those of the network are listed first.
            for module in list(self.modules()):
                if isinstance(module, nn.Conv2d):
                    spectral_norm(module)

    def forward(self, snippets: Float[Tensor, "clip 1 row frame"], what: int) -> Float[Tensor, " clip"]:
        return rearrange(self.stack(snippets, what), "clip 1 1 1 -> clip")


def plain(kind: Normalisation) -> Normalisation:
    """Normalisation of encoder and generator: layer in place of spectral, which is for discriminators alone."""
    return "layer" if kind == "spectral" else kind


def begin(network: nn.Module, kind: Normalisation) -> None:
    """Draw the initial weights: N(0, .02), or, for SELUs, with a variance of one over the fan-in."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if kind == "selu":
                # Fan-in of an output unit; in a transposed convolution the stride skips the other inputs.
                inputs = module.weight[0].numel()
                if isinstance(module, nn.ConvTranspose2d):
                    inputs = module.weight[:, 0].numel() / math.prod(module.stride)
                nn.init.normal_(module.weight, 0, inputs**-0.5)
            else:
                nn.init.normal_(module.weight, 0, DEVIATION)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
