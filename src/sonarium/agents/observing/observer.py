"""Embedding of an observation: its parts are encoded according to their spaces and concatenated."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from jaxtyping import Float
from torch import Tensor, nn

from sonarium.agents.contract import Hearing, Separation
from sonarium.agents.observing.hearing import READINGS, EncodedEars, SeparatedEars
from sonarium.agents.observing.parts import Categories, Convolutions, Numbers, Perceived
from sonarium.agents.spaces import flat, is_sound, joined, nested, parts_of, text_of
from sonarium.environment import EnvironmentFault
from sonarium.features.ears import EarsConfig
from sonarium.models.contract import StreamSeparator

SIGNED = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}
"""Types of numbers in place of those for which torch lacks most operations."""


class Observer(nn.Module):
    """Encoder of all parts of an observation, whose embeddings are concatenated."""

    def __init__(
        self,
        space: Space,
        width: int,
        standardise: bool,
        rate: int,
        hearing: Hearing | Separation | None = None,
        train_ears: bool = False,
        separated: str | None = None,
        ears: EarsConfig = EarsConfig(),
        carried: bool = False,
    ):
        super().__init__()
        check_hearing(hearing, rate, train_ears, separated)
        check_carried(hearing, train_ears, carried)
        self.observed = self.space = space
        """Observation spaces of the environment and of the agent: where the separator's state is carried over,
        features of the sources replace the sound (`carried.py`)."""
        self.simple = parts_of(space)
        parts = [
            perceiving(part, width, standardise, rate, hearing, train_ears, separated, ears)
            for part in self.simple
        ]
        heard = [number for number, part in enumerate(parts) if isinstance(part, EncodedEars | SeparatedEars)]
        if hearing is not None and len(heard) != 1:
            raise ValueError(
                f"--ears: {len(heard)} parts of what is observed, {space}, are sound at two ears, and it takes "
                "one: leave it out, or choose another --env"
            )
        self.sounding = heard[0] if heard else -1
        """Index of the part that is heard through the model of another run; −1 if there is none."""
        if carried:
            self.carry(parts[self.sounding])
        self.heard = [] if train_ears or carried else [number for number, part in enumerate(parts) if hears(part)]
        """Indices of the binaural parts, whose preprocessing is costly."""
        self.compact = [
            number for number in self.heard if 8 * parts[number].target_width <= size_of(self.simple[number])
        ]
        """Those among them whose preprocessed form before and after a step, in 32 bits, takes no more bytes of a
        replay than the sound in 16 bits."""
        self.parts = nn.ModuleList(parts)
        self.width = sum(part.width for part in self.parts)  # pyright: ignore

    def carry(self, ears: Perceived) -> None:
        """Replace the sound in the agent's observation space by the features of a carried separator."""
        assert isinstance(ears, SeparatedEars), type(ears)
        ears.carried = True
        self.simple[self.sounding] = spaces.Box(-np.inf, np.inf, tuple(ears.reading.size), np.float32)
        self.space = joined(self.observed, iter(self.simple))

    def sound(self, observation: Any) -> Float[np.ndarray, "*rows 2 time"]:
        """Sound in an observation of the environment."""
        return flat(self.observed, observation)[self.sounding]

    def reading(self, observation: Any, made: Float[np.ndarray, "*rows"]) -> Any:
        """Observation of the agent: that of the environment, with the features of the sources as its sound."""
        parts = flat(self.observed, observation)
        parts[self.sounding] = made
        return nested(self.observed, iter(parts))

    def rows(self, observation: Any, device: torch.device) -> list[Tensor]:
        """Parts of the agent's observation as rows: the axes before those of the space are flattened; the types
        are kept, except those that torch hardly supports."""
        found = []
        for part, space in zip(flat(self.space, observation), self.simple, strict=True):
            part = part.astype(SIGNED.get(part.dtype.name, part.dtype), copy=False)
            found.append(torch.from_numpy(np.ascontiguousarray(part)).reshape(-1, *(space.shape or ())).to(device))
        return found

    def prepared(self, parts: list[Tensor], known: Mapping[int, Tensor] | None = None) -> list[Tensor]:
        """Non-trainable preprocessing, computed once per observation; `known` holds parts that are prepared."""
        known = known or {}
        return [
            known[number] if number in known else perceive.prepared(rows)  # pyright: ignore
            for number, (perceive, rows) in enumerate(zip(self.parts, parts, strict=True))
        ]

    def forward(self, parts: list[Tensor]) -> Float[Tensor, "row number"]:
        """Embedding of prepared parts."""
        found = [perceive(rows) for perceive, rows in zip(self.parts, parts, strict=True)]
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def learn(self, parts: list[Tensor]) -> None:
        for perceive, rows in zip(self.parts, parts, strict=True):
            perceive.learn(rows)  # pyright: ignore

    @torch.no_grad()
    def targets(self, parts: list[Tensor]) -> list[Tensor]:
        """Reconstruction targets of prepared parts, (row, number) each."""
        return [perceive.target(rows) for perceive, rows in zip(self.parts, parts, strict=True)]  # pyright: ignore

    def restored(self, targets: Float[Tensor, "time number"]) -> Any:
        """Consecutive observations from the concatenated targets of all parts."""
        own = [part.target_width for part in self.parts]  # pyright: ignore
        parts = zip(self.parts, targets.split(own, 1), strict=True)
        return nested(self.space, (part.restored(rows) for part, rows in parts))  # pyright: ignore


def check_hearing(
    hearing: Hearing | Separation | None, rate: int, train_ears: bool, separated: str | None
) -> None:
    """Refuse settings that do not fit the encoder or separator that the agent hears through."""
    if train_ears and hearing is None:
        raise ValueError("train_ears=True: the encoder or separator is that of another run; give --ears RUN")
    if train_ears and hearing is not None and hearing.differentiable is False:
        made = "sources" if isinstance(hearing, Separation) else "codes"
        raise ValueError(f"train_ears=True: the {made} of --ears have no gradient; leave out --train-ears")
    if rate and hearing is not None:
        raise ValueError(
            f"sound_rate={rate}: the sound is heard by --ears, at {hearing.rate} Hz; give --sound-rate 0"
        )
    if separated is not None and not isinstance(hearing, Separation):
        raise ValueError(
            f"separated={separated!r}: it is read from the sources of a separator; give its run as --ears, or "
            "leave out --separated"
        )
    if separated not in (None, *READINGS):
        raise ValueError(f"separated={separated!r}: give {', '.join(READINGS)}")


def size_of(space: Space) -> int:
    """Bytes of an observation at 16 bits per number."""
    return 2 * int(np.prod(space.shape or ()))


def check_carried(hearing: Hearing | Separation | None, train_ears: bool, carried: bool) -> None:
    """Refuse settings with which the separator's state cannot be carried over."""
    if not carried:
        return
    if not isinstance(hearing, Separation):
        raise ValueError(
            "carry_ears=True: it is a separator that goes on; give the run of one as --ears, or leave out "
            "--carry-ears"
        )
    if not isinstance(hearing.separator, StreamSeparator):
        raise ValueError(
            "carry_ears=True: the separator of --ears needs whole sounds; give the run of one that goes on window "
            "by window, as --preset default does, or leave out --carry-ears"
        )
    if not hearing.consecutive:
        raise ValueError(
            'carry_ears=True: each window of this environment begins anew (clock="clip"), and none goes on from '
            'the one before; leave out --carry-ears, or choose an --env with clock="stream"'
        )
    if train_ears:
        raise ValueError(
            "carry_ears=True, train_ears=True: what is learnt from was heard before; leave out one of the two"
        )


def hears(part: Perceived) -> bool:
    others = isinstance(part, EncodedEars | SeparatedEars)
    return others or (isinstance(part, Convolutions) and part.ears is not None)


def perceiving(
    space: Space,
    width: int,
    standardise: bool,
    rate: int,
    hearing: Hearing | Separation | None,
    train_ears: bool,
    separated: str | None,
    ears: EarsConfig,
) -> Perceived:
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return Categories(space)
    if isinstance(space, spaces.MultiBinary):
        return Numbers(space, standardise)
    if not isinstance(space, spaces.Box):
        raise EnvironmentFault(
            "agents see Box, Discrete, MultiDiscrete and MultiBinary, alone or in Dict and Tuple, not "
            f"{text_of(space)}: wrap the environment, or choose another --env"
        )
    shape = space.shape
    sound = is_sound(space)
    if sound and hearing is not None and shape[0] == 2:
        if isinstance(hearing, Separation):
            return SeparatedEars(space, width, hearing, train_ears, READINGS[separated or "cues"], ears)
        return EncodedEars(space, width, hearing, train_ears)
    if sound and rate and shape[0] != 2:
        raise ValueError(f"--sound-rate {rate}: the sound has {shape[0]} channel(s), not two ears; leave it out")
    picture = len(shape) == 3 or (len(shape) == 2 and space.dtype == np.uint8)
    return Convolutions(space, width, rate, ears) if sound or picture else Numbers(space, standardise)
