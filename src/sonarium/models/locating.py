"""Encoder and decoder with an explicit position along the frequency axis.

The encoder ends in a spatial softmax (Finn et al. 2016, arXiv 1509.06113): each of its maps reports the
position and the strength of what it attends to. The decoder is a function of position, evaluated at every band
(spatial broadcast, Watters et al. 2019, arXiv 1901.07017), with positions shifted by the first code (spatial-VAE,
Bepler et al. 2019, arXiv 1909.11663). A sound that moves along the axis thus changes one code, not all.

At initialisation, the first code is the position of the loudest band, the second is the level (if it has separate
rows), and the next changes the spectral shape, initially a peak at the position; the other codes have no effect on
the output, and learn the remaining variation as far as the penalty allows. With random initialisation, the seed
decides which codes find position and level, how late, and over how many codes a factor is spread.
"""

import math

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sonarium.models.blocks import perceptron, wide

MAPS = 8
SLOPE = 0.1
"""Negative slope of the leaky ReLUs."""
SHARPNESS = 4.0
"""Inverse temperature of the spatial softmax, so that a map can select one position from the start."""
SHIFT = 0.6
"""Shift per unit of the first code, as a fraction of half the axis: the prior's ±1.7 span the axis."""
OCTAVES = 5
"""Number of octaves of sines and cosines in the position encoding of the decoder."""
SURE = -4.0
"""Initial log-variance of the codes that affect the output: with that of the prior, it would be a blur."""
MOMENTS = 4
"""Number of points in time at which a clip is encoded and decoded; the decoder interpolates between them."""


def drawing(level: bool) -> int:
    """Number of codes that affect the output before training: position, level if it has a code, and shape."""
    return 3 if level else 2


class LocatingEncoder(nn.Module):
    """Encoder from bands, and rows of the level below them, to a vector."""

    place: Float[Tensor, " band"]

    def __init__(self, bands: int, below: int, frames: int, codes: int, made: int):
        """`made` is the output size: the codes, followed by their log-variances if there are any."""
        super().__init__()
        self.bands = bands
        self.moments = min(frames, MOMENTS)
        self.look = nn.Sequential(
            nn.Conv2d(1, 24, (5, 1), padding=(2, 0)),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(24, 24, (5, self.moments), padding=(2, 0)),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(24, 2 * MAPS, (5, 1), padding=(2, 0)),
        )
        self.register_buffer("place", torch.linspace(-2, 2, bands))
        seen = 3 * MAPS + (self.moments if below else 0)
        self.tell = nn.Sequential(*perceptron([seen, 128, 128, made], SLOPE))
        self.begin(bool(below) and codes > 2, codes, made)

    @torch.no_grad()
    def begin(self, level: bool, codes: int, made: int) -> None:
        """Initialise weights so that the first map is the spectrum, and the second code the level."""
        for layer in self.look:
            if isinstance(layer, nn.Conv2d):
                nn.init.zeros_(layer.weight[0])
                assert layer.bias is not None
                nn.init.zeros_(layer.bias[0])
                layer.weight[0, 0, layer.kernel_size[0] // 2] = 1 / layer.kernel_size[1]
        first, second, last = (layer for layer in self.tell if isinstance(layer, nn.Linear))
        nn.init.zeros_(last.weight[0])
        nn.init.zeros_(last.bias[0])
        if made > codes:
            last.bias[codes : codes + drawing(level)] = SURE
        if not level:
            return
        # Two units of opposite signs carry a number through a leaky ReLU: r(x) − r(−x) = (1 + slope) x.
        pair = torch.tensor([1.0, -1.0])
        for layer in (first, second):
            nn.init.zeros_(layer.weight[:2])
            nn.init.zeros_(layer.bias[:2])
        first.weight[:2, -self.moments :] = pair[:, None] / self.moments
        second.weight[:2, :2] = pair[:, None] * pair / (1 + SLOPE)
        nn.init.zeros_(last.weight[:, :2])
        nn.init.zeros_(last.weight[1])
        nn.init.zeros_(last.bias[1])
        last.weight[1, :2] = pair / (1 + SLOPE)

    def forward(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[Tensor, "clip made"]:
        gathered = functional.adaptive_avg_pool2d(features, (features.shape[2], self.moments))
        *layers, last = self.look
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        looked = gathered[:, :, : self.bands]
        for layer in layers:
            looked = layer(looked)
        # A softmax is invariant to a bias, whose gradient is pure rounding error: Adam would step along it.
        bias = torch.cat([last.bias[:MAPS].detach(), last.bias[MAPS:]])
        looked = functional.conv2d(looked, last.weight, bias, padding=(2, 0))
        looked = rearrange(wide(looked), "clip map band 1 -> clip map band")
        where, what = looked.chunk(2, dim=1)
        attention = (SHARPNESS * where).softmax(2)
        # A sum, because a matrix product in half precision would blur the positions.
        position = (attention * self.place).sum(2)
        seen = [position, (attention * what).sum(2), what.mean(2)]
        if features.shape[2] > self.bands:
            seen.append(gathered[:, :, self.bands :].mean(2))
        made = wide(self.tell(torch.cat([part.flatten(1) for part in seen], dim=1)))
        # Skip connection from the position of the first map to the code that shifts the decoder's axis: training
        # finds so short a path before it spreads the position over all codes.
        return torch.cat([made[:, :1] + position[:, :1] / (2 * SHIFT), made[:, 1:]], dim=1)


class LocatingDecoder(nn.Module):
    """Decoder from a vector to bands around a position, and to the rows below them, at coarse time resolution."""

    between: Float[Tensor, "moment frame"]
    place: Float[Tensor, " band"]
    waves: Float[Tensor, " octave"]

    def __init__(self, bands: int, below: int, frames: int, width: int, units: int = 64):
        super().__init__()
        if width < 2:
            raise ValueError(
                f"latent={width}: the locating network needs one code for the position and one for the rest: use "
                "2 or more"
            )
        self.below = below
        self.moments = min(frames, MOMENTS)
        # Linear interpolation as a matrix product: torch's own is many times slower.
        weights = functional.interpolate(torch.eye(self.moments)[None], frames, mode="linear")[0]
        self.register_buffer("between", weights, persistent=False)
        self.register_buffer("place", torch.linspace(-1, 1, bands))
        self.register_buffer("waves", math.pi * 2.0 ** torch.arange(OCTAVES) / 2)
        self.of_code = nn.Linear(width - 1, self.moments * units)
        self.of_place = nn.Linear(1 + 2 * OCTAVES, units, bias=False)
        self.draw = nn.Sequential(nn.LeakyReLU(SLOPE), *perceptron([units, units, units, 1], SLOPE))
        self.level = nn.Sequential(*perceptron([width, 64, self.moments], SLOPE))
        self.begin(bool(below) and width > 2)

    @torch.no_grad()
    def begin(self, level: bool) -> None:
        """Initialise weights so that the output is a peak at the position, changed by one code, and the level
        depends on the second code alone."""
        # The cosines are all 1 at the position, and cancel elsewhere; the first unit of each layer passes them on.
        nn.init.zeros_(self.of_place.weight[0])
        nn.init.ones_(self.of_place.weight[0, -OCTAVES:])
        *hidden, last = (layer for layer in self.draw if isinstance(layer, nn.Linear))
        for layer in hidden:
            nn.init.zeros_(layer.weight[0])
            nn.init.zeros_(layer.bias[0])
            nn.init.ones_(layer.weight[0, 0])
        nn.init.ones_(last.weight[0, 0])
        shape = drawing(level) - 2
        nn.init.zeros_(self.of_code.weight[:, :shape])
        nn.init.zeros_(self.of_code.weight[:, shape + 1 :])
        if level:
            [first, *_] = (layer for layer in self.level if isinstance(layer, nn.Linear))
            nn.init.zeros_(first.weight[:, 0])
            nn.init.zeros_(first.weight[:, 2:])

    def forward(self, code: Float[Tensor, "clip code"]) -> Float[Tensor, "clip 1 row frame"]:
        away = self.place - SHIFT * code[:, :1]
        angles = away[..., None] * self.waves
        known = torch.cat([away[..., None], angles.sin(), angles.cos()], dim=2)
        place = rearrange(self.of_place(known), "clip band unit -> clip band 1 unit")
        timbre = rearrange(
            self.of_code(code[:, 1:]), "clip (moment unit) -> clip 1 moment unit", moment=self.moments
        )
        rows = rearrange(self.draw(place + timbre), "clip band moment 1 -> clip band moment")
        if self.below:
            level = repeat(self.level(code), "clip moment -> clip row moment", row=self.below)
            rows = torch.cat([rows, level], dim=1)
        with torch.autocast(rows.device.type, enabled=False):
            drawn = wide(rows) @ self.between
        return rearrange(drawn, "clip row frame -> clip 1 row frame")
