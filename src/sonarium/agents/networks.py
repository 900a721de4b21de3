"""What an agent perceives and how it acts: encoders of observations, distributions of actions, running statistics.

Numbers go in as they are; categories as one-hot vectors; pictures and sounds through three strided convolutions.
With its sampling rate, sound at two ears goes in as log-mel bands and interaural differences first; with an
encoder of sound, as its codes of either ear, and interaural differences beside them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import log, pi
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from gymnasium import Space, spaces
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from sonarium.agents.contract import Hearing
from sonarium.features.ears import Ears, EarsConfig
from sonarium.models.framing import with_gradient

CHANNELS = (16, 32, 32)
"""Of the three convolutions."""
HEARD_AT_ONCE = 256
"""Sounds that are encoded in one batch, where no gradient is wanted."""
SHORTEST_SOUND = 256
"""Samples from which on an array of channels and time is a sound."""
MOST_EARS = 8
LARGEST = 10.0
"""Standardised numbers are clipped to ± this."""


class RunningMeanStd(nn.Module):
    """Numbers of mean 0 and standard deviation 1 over all that was seen (Chan, Golub and LeVeque 1983)."""

    mean: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("square", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @property
    def variance(self) -> Float[Tensor, " number"]:
        return self.square / self.count.clamp(min=1)

    def forward(self, rows: Float[Tensor, "row number"]) -> Float[Tensor, "row number"]:
        scale = (self.variance + 1e-8).rsqrt()
        return ((rows - self.mean) * scale).float().clamp(-LARGEST, LARGEST)

    def undone(self, rows: Float[Tensor, "row number"]) -> Float[Tensor, "row number"]:
        """The numbers that were standardised."""
        return (rows.double() * (self.variance + 1e-8).sqrt() + self.mean).float()

    @torch.no_grad()
    def learn(self, rows: Float[Tensor, "row number"]) -> None:
        rows = rows.double()
        count, mean = len(rows), rows.mean(0)
        square = (rows - mean).square().sum(0)
        if not self.count:
            self.square.zero_()
        total, apart = self.count + count, mean - self.mean
        self.square += square + apart.square() * self.count * count / total
        self.mean += apart * count / total
        self.count.copy_(total)


class Perceived(nn.Module, ABC):
    """One part of an observation."""

    width: int

    @property
    def target_width(self) -> int:
        """Numbers in a target."""
        return self.width

    @abstractmethod
    def forward(self, rows: Shaped[Tensor, "row *observed"]) -> Float[Tensor, "row number"]: ...

    def prepared(self, rows: Shaped[Tensor, "row *observed"]) -> Shaped[Tensor, "row *made"]:
        """What no training changes, computed once for each observation; `forward` takes it."""
        return rows

    def target(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        """What a decoder reconstructs of a prepared observation: the inputs of the first weights."""
        return self(rows)

    def decoder(self, given: int) -> nn.Module:
        """From this many numbers to the target."""
        return nn.Linear(given, self.target_width)

    @abstractmethod
    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        """Observations that follow one another, from their targets."""

    def learn(self, rows: Shaped[Tensor, "row *observed"]) -> None:
        """Take statistics."""


class Numbers(Perceived):
    def __init__(self, space: spaces.Box | spaces.MultiBinary, standardise: bool):
        super().__init__()
        self.shape, self.width = space.shape, int(np.prod(space.shape))
        self.standard = RunningMeanStd(self.width) if standardise and isinstance(space, spaces.Box) else None

    def forward(self, rows: Shaped[Tensor, "row *observed"]) -> Float[Tensor, "row number"]:
        rows = rows.reshape(len(rows), self.width)
        return rows.float() if self.standard is None else self.standard(rows)

    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        rows = targets if self.standard is None else self.standard.undone(targets)
        return rows.cpu().numpy().reshape(-1, *self.shape)

    def learn(self, rows: Shaped[Tensor, "row *observed"]) -> None:
        if self.standard is not None:
            self.standard.learn(rows.reshape(len(rows), self.width))


class Categories(Perceived):
    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete):
        super().__init__()
        self.sizes, self.start = sizes_of(space)
        self.width = sum(self.sizes)

    def forward(self, rows: Int[Tensor, "row *observed"]) -> Float[Tensor, "row number"]:
        each = rows.reshape(len(rows), -1).long().unbind(1)
        starts = self.start.reshape(-1).tolist()
        parts = zip(each, starts, self.sizes, strict=True)
        return torch.cat([functional.one_hot(one - start, size).float() for one, start, size in parts], 1)

    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        chosen = torch.stack([one.argmax(1) for one in targets.split(self.sizes, 1)], 1)
        return chosen.cpu().numpy().reshape(-1, *self.start.shape) + self.start


class Convolutions(Perceived):
    """Three convolutions with ReLUs, and a linear layer."""

    def __init__(self, space: spaces.Box, width: int, rate: int, ears: EarsConfig):
        super().__init__()
        self.space, self.width, shape = space, width, space.shape
        self.whole = 255.0 if space.dtype == np.uint8 else 1.0
        self.picture = len(shape) == 3 or space.dtype == np.uint8
        self.channels_last = self.picture and len(shape) == 3 and shape[-1] < shape[0]
        self.ears = Ears(ears, rate) if rate and not self.picture else None
        inside, layer = (8, 4) if self.ears is None and not self.picture else (3, 2), nn.Conv1d
        if self.picture:
            inside, layer = (3, 2), nn.Conv2d
        example = self.arranged(torch.zeros(1, *shape))
        self.shape = example.shape[1:]
        self.convolve, made = convolutions(example, layer, *inside)
        self.join = nn.Linear(made, width)

    def arranged(self, rows: Shaped[Tensor, "row *observed"]) -> Float[Tensor, "row channel *place"]:
        rows = rows.float() / self.whole
        if self.picture:
            rows = rows[:, None] if rows.ndim == 3 else rows
            return rows.movedim(-1, 1) if self.channels_last else rows
        return rows if self.ears is None else self.ears(rows)

    def prepared(self, rows: Shaped[Tensor, "row *observed"]) -> Shaped[Tensor, "row *made"]:
        return rows if self.ears is None else self.arranged(rows)

    def shown(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row channel *place"]:
        return rows if self.ears is not None else self.arranged(rows)

    def target(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        return self.shown(rows).flatten(1)

    @property
    def target_width(self) -> int:
        return self.shape.numel()

    def decoder(self, given: int) -> nn.Module:
        return Painted(given, self.shape) if self.picture else super().decoder(given)

    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        shown = targets.unflatten(1, self.shape)
        if self.ears is not None:
            return self.sounding(shown).cpu().numpy()
        shown = shown.movedim(1, -1) if self.channels_last else shown
        rows = (shown * self.whole).cpu().numpy().reshape(-1, *self.space.shape)
        return rows.clip(0, 255).round().astype(np.uint8) if self.whole > 1 else rows

    def sounding(self, shown: Float[Tensor, "time row frame"]) -> Float[Tensor, "time 2 sample"]:
        """The sound of windows that follow one another."""
        assert self.ears is not None
        samples, hop = self.space.shape[1], self.ears.config.hop
        if samples % hop:
            return self.ears.invert(shown, samples)
        # Where two windows meet, the frame of either hears half: the mean of those beside it takes their place.
        inner = shown[..., 1:-1]
        seams = torch.cat([inner[:1, :, 0], (inner[:-1, :, -1] + inner[1:, :, 0]) / 2])
        frames = rearrange(torch.cat([seams[..., None], inner], 2), "time row frame -> 1 row (time frame)")
        wave = self.ears.invert(torch.cat([frames, inner[None, -1, :, -1:]], 2), samples * len(shown))[0]
        return rearrange(wave, "ear (time sample) -> time ear sample", time=len(shown))

    def forward(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        return self.join(self.convolve(self.shown(rows))).relu()


def convolutions(
    example: Float[Tensor, "1 channel *place"], layer: type[nn.Conv1d] | type[nn.Conv2d], kernel: int, stride: int
) -> tuple[nn.Sequential, int]:
    """Three convolutions with ReLUs, and the numbers that they make."""
    sizes = [example.shape[1], *CHANNELS]
    layers = [(layer(a, b, kernel, stride, padding=kernel // 2), nn.ReLU()) for a, b in pairwise(sizes)]
    network = nn.Sequential(*(one for pair in layers for one in pair), nn.Flatten())
    with torch.no_grad():
        return network, network(example).shape[1]


class Painted(nn.Module):
    """A picture by three transposed convolutions, in a row."""

    def __init__(self, given: int, shape: torch.Size):
        super().__init__()
        self.shape = shape
        channels, *size = shape
        # Each layer doubles the size, and what is beyond the picture is cut off.
        self.small = [-(-side // 2 ** len(CHANNELS)) for side in size]
        self.spread = nn.Linear(given, CHANNELS[-1] * int(np.prod(self.small)))
        sizes = [*reversed(CHANNELS), channels]
        layers = [(nn.ReLU(), nn.ConvTranspose2d(a, b, 4, 2, padding=1)) for a, b in pairwise(sizes)]
        self.paint = nn.Sequential(*(one for pair in layers for one in pair))

    def forward(self, rows: Float[Tensor, "row number"]) -> Float[Tensor, "row pixel"]:
        made = self.paint(self.spread(rows).unflatten(1, (CHANNELS[-1], *self.small)))
        return made[..., : self.shape[1], : self.shape[2]].flatten(1)


class EncodedEars(Perceived):
    """The codes of either ear by an encoder of sound, and what an encoder of one channel does not tell: the levels
    of both ears and the differences between them."""

    def __init__(self, space: spaces.Box, width: int, hearing: Hearing, trained: bool):
        super().__init__()
        self.width, self.trained = width, trained
        # Of encoder and learner, which may be one, the learner's weights are kept.
        self.learner, self.hearing = hearing.learner.eval().requires_grad_(trained), hearing
        self.differences = Ears(EarsConfig(loudness="none"), hearing.rate)
        self.levels = Ears(EarsConfig(bands=1), hearing.rate)
        frames = int(hearing.encoder.code_lengths(torch.tensor(space.shape[1:])))
        if not frames:
            raise ValueError(f"{space.shape[1]} samples are too few for a code of --ears: choose another run")
        cues = self.cues(torch.zeros(1, *space.shape))
        codes = torch.zeros(1, 2 * hearing.width, frames)
        self.sizes = codes[0].shape, cues[0].shape
        self.hear, heard = convolutions(codes, nn.Conv1d, 3, 2)
        self.compare, compared = convolutions(cues, nn.Conv1d, 3, 2)
        self.join = nn.Linear(heard + compared, width)

    def target(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        return self.encoded(rows) if self.trained else rows

    @property
    def target_width(self) -> int:
        return sum(size.numel() for size in self.sizes)

    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        raise ValueError("the codes of --ears cannot be heard: train with --sound-rate in the place of --ears")

    def train(self, mode: bool = True) -> "EncodedEars":
        """The encoder is the same while it is heard with as when it was learnt."""
        super().train(mode)
        self.learner.eval()
        return self

    def coded(self, rows: Float[Tensor, "row 2 time"]) -> Float[Tensor, "row code frame"]:
        """The codes of both ears, one below the other."""
        ears, encoder = rows.flatten(0, 1), self.hearing.encoder
        if self.trained and torch.is_grad_enabled():
            # The recurrent kernels of cuDNN have no gradient while a network is evaluated.
            with torch.backends.cudnn.flags(enabled=False):
                codes = with_gradient(encoder, ears)
        else:
            codes = torch.cat([encoder.encode(part) for part in ears.split(HEARD_AT_ONCE)])
        return rearrange(codes, "(row ear) frame code -> row (ear code) frame", ear=2)

    def cues(self, rows: Float[Tensor, "row 2 time"]) -> Float[Tensor, "row cue frame"]:
        return torch.cat([self.levels(rows)[:, :2], self.differences(rows)], 1)

    @torch.no_grad()
    def encoded(self, rows: Float[Tensor, "row 2 time"]) -> Float[Tensor, "row number"]:
        """Codes and cues in a row."""
        return torch.cat([self.coded(rows).flatten(1), self.cues(rows).flatten(1)], 1)

    def prepared(self, rows: Shaped[Tensor, "row *observed"]) -> Shaped[Tensor, "row *made"]:
        rows = rows.float()
        return rows if self.trained else self.encoded(rows)

    def forward(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        if self.trained:
            codes, cues = self.coded(rows), self.cues(rows)
        else:
            parts = rows.split([size.numel() for size in self.sizes], 1)
            codes, cues = (part.unflatten(1, size) for part, size in zip(parts, self.sizes, strict=True))
        return self.join(torch.cat([self.hear(codes), self.compare(cues)], 1)).relu()


class Observer(nn.Module):
    """All parts of an observation side by side."""

    def __init__(
        self,
        space: Space,
        width: int,
        standardise: bool,
        rate: int,
        hearing: Hearing | None = None,
        train_ears: bool = False,
        ears: EarsConfig = EarsConfig(),
    ):
        super().__init__()
        if train_ears and hearing is None:
            raise ValueError("train_ears=True: the encoder is that of another run; give --ears RUN")
        if train_ears and hearing is not None and hearing.differentiable is False:
            raise ValueError("train_ears=True: the codes of --ears have no gradient; leave out --train-ears")
        if rate and hearing is not None:
            raise ValueError(
                f"sound_rate={rate}: the sound is heard by --ears, at {hearing.rate} Hz; give --sound-rate 0"
            )
        self.space, self.simple = space, parts_of(space)
        parts = [perceiving(part, width, standardise, rate, hearing, train_ears, ears) for part in self.simple]
        heard = [number for number, part in enumerate(parts) if isinstance(part, EncodedEars)]
        if hearing is not None and len(heard) != 1:
            raise ValueError(
                f"--ears: {len(heard)} parts of what is observed, {space}, are sound at two ears, and it takes "
                "one: leave it out, or choose another --env"
            )
        self.heard = [] if train_ears else [number for number, part in enumerate(parts) if hears(part)]
        """The parts that are sound at two ears, and prepared at a cost."""
        self.parts = nn.ModuleList(parts)
        self.width = sum(part.width for part in self.parts)  # pyright: ignore

    def rows(self, observation: Any, device: torch.device) -> list[Tensor]:
        """The parts of an observation as rows, its axes before those of the space joined; in its own types."""
        found = []
        for part, space in zip(flat(self.space, observation), self.simple, strict=True):
            found.append(torch.from_numpy(np.ascontiguousarray(part)).reshape(-1, *(space.shape or ())).to(device))
        return found

    def prepared(self, parts: list[Tensor], known: Mapping[int, Tensor] | None = None) -> list[Tensor]:
        """What no training changes, computed once for each observation; some parts may be known."""
        known = known or {}
        return [
            known[number] if number in known else perceive.prepared(rows)  # pyright: ignore
            for number, (perceive, rows) in enumerate(zip(self.parts, parts, strict=True))
        ]

    def forward(self, parts: list[Tensor]) -> Float[Tensor, "row number"]:
        """Of prepared parts."""
        found = [perceive(rows) for perceive, rows in zip(self.parts, parts, strict=True)]
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def learn(self, parts: list[Tensor]) -> None:
        for perceive, rows in zip(self.parts, parts, strict=True):
            perceive.learn(rows)  # pyright: ignore

    @torch.no_grad()
    def targets(self, parts: list[Tensor]) -> list[Tensor]:
        """What a decoder reconstructs of prepared parts, (row, number) each."""
        return [perceive.target(rows) for perceive, rows in zip(self.parts, parts, strict=True)]  # pyright: ignore

    def restored(self, targets: Float[Tensor, "time number"]) -> Any:
        """Observations that follow one another, from all targets in a row."""
        own = [part.target_width for part in self.parts]  # pyright: ignore
        parts = zip(self.parts, targets.split(own, 1), strict=True)
        return nested(self.space, (part.restored(rows) for part, rows in parts))  # pyright: ignore


def hears(part: Perceived) -> bool:
    return isinstance(part, EncodedEars) or (isinstance(part, Convolutions) and part.ears is not None)


def parts_of(space: Space) -> list[Space]:
    """The simple spaces in a space, in the order of `flat`."""
    if isinstance(space, spaces.Dict):
        return [one for name in sorted(space.spaces) for one in parts_of(space[name])]
    return [one for part in space for one in parts_of(part)] if isinstance(space, spaces.Tuple) else [space]


def flat(space: Space, observation: Any) -> list[Any]:
    if isinstance(space, spaces.Dict):
        assert isinstance(observation, Mapping)
        return [one for name in sorted(space.spaces) for one in flat(space[name], observation[name])]
    if isinstance(space, spaces.Tuple):
        return [one for part, seen in zip(space, observation, strict=True) for one in flat(part, seen)]
    return [observation]


def nested(space: Space, parts: Iterator[Any]) -> Any:
    """The observation whose parts, in the order of `flat`, are these."""
    if isinstance(space, spaces.Dict):
        found = {name: nested(space[name], parts) for name in sorted(space.spaces)}
        return {name: found[name] for name in space.spaces}
    return tuple(nested(part, parts) for part in space) if isinstance(space, spaces.Tuple) else next(parts)


def is_sound(space: Space) -> bool:
    """Whether this is an array of channels and time."""
    shape = space.shape or ()
    few = len(shape) == 2 and shape[0] <= MOST_EARS and shape[1] >= SHORTEST_SOUND
    return few and isinstance(space, spaces.Box) and space.dtype != np.uint8


def perceiving(
    space: Space,
    width: int,
    standardise: bool,
    rate: int,
    hearing: Hearing | None,
    train_ears: bool,
    ears: EarsConfig,
) -> Perceived:
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return Categories(space)
    if isinstance(space, spaces.MultiBinary):
        return Numbers(space, standardise)
    if not isinstance(space, spaces.Box):
        raise ValueError(
            "agents see Box, Discrete, MultiDiscrete and MultiBinary, alone or in Dict and Tuple, not "
            f"{space}: wrap the environment, or choose another --env"
        )
    shape = space.shape
    sound = is_sound(space)
    if sound and hearing is not None and shape[0] == 2:
        return EncodedEars(space, width, hearing, train_ears)
    if sound and rate and shape[0] != 2:
        raise ValueError(f"--sound-rate {rate}: the sound has {shape[0]} channel(s), not two ears; leave it out")
    picture = len(shape) == 3 or (len(shape) == 2 and space.dtype == np.uint8)
    return Convolutions(space, width, rate, ears) if sound or picture else Numbers(space, standardise)


def sizes_of(space: spaces.Discrete | spaces.MultiDiscrete) -> tuple[list[int], Int[np.ndarray, "*shape"]]:
    """The number of categories of each, and the first of them."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)], np.array(space.start)
    return [int(size) for size in space.nvec.reshape(-1)], np.array(space.start)


class Policy(nn.Module, ABC):
    """A distribution of actions; `drawn` is what it is of, `action` what the environment takes."""

    outputs: int
    """Numbers of the network that say which distribution."""
    width: int
    """Numbers in an action as an input of the network."""

    @abstractmethod
    def draw(
        self, outputs: Float[Tensor, "row output"], generator: torch.Generator | None
    ) -> Shaped[Tensor, "row part"]:
        """Drawn at random; the most probable without a generator."""

    @abstractmethod
    def action(self, drawn: Shaped[Tensor, "row part"]) -> Shaped[np.ndarray, "row *action"]: ...

    @abstractmethod
    def evaluate(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
        """The log-probability of what was drawn, and the entropy."""

    @abstractmethod
    def encode(self, drawn: Shaped[Tensor, "row part"]) -> Float[Tensor, "row number"]: ...

    @abstractmethod
    def drawn(self, action: Shaped[np.ndarray, "row *action"]) -> Shaped[Tensor, "row part"]:
        """What was drawn, of an action that was carried out."""

    @abstractmethod
    def through(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> Float[Tensor, "row number"]:
        """What was drawn as it is carried out and encoded, with a gradient into the outputs: straight through, or
        of the reparametrised noise."""


class Categoricals(Policy):
    """Independent categories."""

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        super().__init__()
        self.space = space
        if isinstance(space, spaces.MultiBinary):
            self.sizes, self.start = [2] * int(np.prod(space.shape)), np.zeros(space.shape, int)
        else:
            self.sizes, self.start = sizes_of(space)
        self.outputs = self.width = sum(self.sizes)

    def logits(self, outputs: Float[Tensor, "row output"]) -> list[Tensor]:
        return [outputs] if len(self.sizes) == 1 else list(outputs.split(self.sizes, 1))

    def draw(
        self, outputs: Float[Tensor, "row output"], generator: torch.Generator | None
    ) -> Shaped[Tensor, "row part"]:
        if generator is not None:
            # The largest of logits with Gumbel noise is a draw from their softmax.
            noise = torch.empty_like(outputs).exponential_(generator=generator)
            outputs = outputs - noise.log()
        return torch.stack([one.argmax(1) for one in self.logits(outputs)], 1)

    def action(self, drawn: Shaped[Tensor, "row part"]) -> Shaped[np.ndarray, "row *action"]:
        rows = drawn.cpu().numpy().reshape(len(drawn), *self.start.shape) + self.start
        return rows.astype(self.space.dtype)

    def evaluate(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
        found = []
        for logits, one in zip(self.logits(outputs), drawn.split(1, 1), strict=True):
            logs = logits.log_softmax(1)
            found.append((logs.gather(1, one)[:, 0], -(logs.exp() * logs).sum(1)))
        if len(found) == 1:
            return found[0]
        chosen, entropies = zip(*found, strict=True)
        return torch.stack(chosen).sum(0), torch.stack(entropies).sum(0)

    def encode(self, drawn: Shaped[Tensor, "row part"]) -> Float[Tensor, "row number"]:
        parts = zip(drawn.unbind(1), self.sizes, strict=True)
        return torch.cat([functional.one_hot(one, size).float() for one, size in parts], 1)

    def drawn(self, action: Shaped[np.ndarray, "row *action"]) -> Shaped[Tensor, "row part"]:
        return torch.from_numpy(action.astype(np.int64) - self.start).reshape(len(action), len(self.sizes))

    def through(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> Float[Tensor, "row number"]:
        ones, shares = self.encode(drawn), torch.cat([one.softmax(1) for one in self.logits(outputs)], 1)
        return ones + (shares - shares.detach())


class Gaussian(Policy):
    """Independent normal distributions, whose standard deviations are parameters; what is drawn is clipped to the
    bounds of the space for the environment alone."""

    def __init__(self, space: spaces.Box, deviation: float):
        super().__init__()
        self.space = space
        self.outputs = self.width = int(np.prod(space.shape))
        self.log_deviation = nn.Parameter(torch.full((self.outputs,), log(deviation)))

    def draw(
        self, outputs: Float[Tensor, "row output"], generator: torch.Generator | None
    ) -> Shaped[Tensor, "row part"]:
        if generator is None:
            return outputs
        noise = torch.empty_like(outputs).normal_(generator=generator)
        return outputs + self.log_deviation.exp() * noise

    def action(self, drawn: Shaped[Tensor, "row part"]) -> Shaped[np.ndarray, "row *action"]:
        rows = drawn.cpu().numpy().reshape(len(drawn), *self.space.shape)
        return np.clip(rows, self.space.low, self.space.high).astype(self.space.dtype)

    def evaluate(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
        apart = (drawn - outputs) / self.log_deviation.exp()
        logs = -0.5 * (apart.square() + log(2 * pi)) - self.log_deviation
        entropy = (0.5 * (1 + log(2 * pi)) + self.log_deviation).sum()
        return logs.sum(1), entropy.expand(len(outputs))

    def encode(self, drawn: Shaped[Tensor, "row part"]) -> Float[Tensor, "row number"]:
        return drawn.float()

    def drawn(self, action: Shaped[np.ndarray, "row *action"]) -> Shaped[Tensor, "row part"]:
        return torch.from_numpy(action.astype(np.float32)).reshape(len(action), self.outputs)

    def through(
        self, outputs: Float[Tensor, "row output"], drawn: Shaped[Tensor, "row part"]
    ) -> Float[Tensor, "row number"]:
        deviation = self.log_deviation.exp()
        noise = ((drawn - outputs) / deviation).detach()
        low, high = (
            torch.as_tensor(one.reshape(-1), device=drawn.device) for one in (self.space.low, self.space.high)
        )
        return (outputs + deviation * noise).clamp(low, high)


def policy_of(space: Space, deviation: float) -> Policy:
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return Categoricals(space)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return Gaussian(space, deviation)
    raise ValueError(
        f"PPO acts in Discrete, MultiDiscrete, MultiBinary and Box (of floating-point numbers), not in {space}: "
        "wrap the environment, or choose another --env"
    )


def hidden(
    given: int, units: int, layers: int, activation: Literal["tanh", "relu"], layer_norm: bool = False
) -> nn.Sequential:
    """Linear layers of as many units, each with its activation; with layer normalisation before that."""
    made: list[nn.Module] = []
    for layer in range(layers):
        made.append(nn.Linear(units if layer else given, units))
        made += [nn.LayerNorm(units)] if layer_norm else []
        made.append(nn.Tanh() if activation == "tanh" else nn.ReLU())
    return nn.Sequential(*made)


def orthogonal(layer: nn.Linear, gain: float) -> None:
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)


@dataclass(frozen=True, eq=False)
class Remembered:
    """The memory of a recurrent agent."""

    state: Float[Tensor, "slot unit"]
    """Of the GRU."""
    action: Float[Tensor, "slot number"]
    """The last action."""
    reward: Float[Tensor, " slot"]
    """The reward of it, scaled."""

    @classmethod
    def nothing(cls, slots: int, units: int, width: int, device: torch.device) -> "Remembered":
        """At the beginning of an episode."""
        state = torch.zeros(slots, units, device=device)
        return cls(state, state.new_zeros(slots, width), state.new_zeros(slots))


def previous_of(
    action: Float[Tensor, "row number"], reward: Float[Tensor, " row"], first: Bool[Tensor, " row"]
) -> Float[Tensor, "row numbers"]:
    """Action and reward before a step as inputs; nothing comes before the first one of an episode."""
    return torch.cat([action, reward[:, None]], 1) * (~first).float()[:, None]


class EpisodeGRU(nn.Module):
    """A GRU through steps of several sequences side by side, whose state begins anew with each episode."""

    def __init__(self, given: int, units: int):
        super().__init__()
        self.cell = nn.GRUCell(given, units)

    def forward(
        self,
        inputs: Float[Tensor, "step sequence input"],
        first: Bool[Tensor, "step sequence"],
        state: Float[Tensor, "sequence unit"],
    ) -> Float[Tensor, "step sequence unit"]:
        """The state after each step."""
        kept, found = (~first).float()[..., None], []
        for now, keep in zip(inputs, kept, strict=True):
            state = self.cell(now, state * keep)
            found.append(state)
        return torch.stack(found)
