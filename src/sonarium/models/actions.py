"""Actions of a world model per token: tracks and labels of the world by name, elapsed time, or none.

Numbers are standardised by their mean and standard deviation over the training split, categories are one-hot, and
tracks are averaged over each token. A flag says whether the actions are known: flag and actions are all zero where
they are not, as for a recording that is encoded without actions.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.features.statistics import Statistics
from sonarium.features.waveform import sounding
from sonarium.worlds.contract import BLOCK, UNKNOWN, Batch, Factor, World

ELAPSED = "elapsed"
"""Name of the action that is elapsed time in seconds: since the beginning of the piece in training, of the
recording in a forecast."""


@dataclass(frozen=True)
class Action:
    """Source of an action in a world."""

    name: str
    source: Literal["track", "label", "time"]
    column: int
    size: int
    """Number of classes of a category; 1 for a number."""
    rate: float = 0.0
    """Frame rate of a track in Hz."""

    def __str__(self) -> str:
        return f"{self.name}:{self.source}:{self.column}:{self.size}:{self.rate!r}"


def parsed(written: Sequence[str]) -> tuple[Action, ...]:
    """Parse action specifications that `completed` has resolved."""
    return tuple(map(one_parsed, written))


def one_parsed(written: str) -> Action:
    if written == ELAPSED:
        return Action(ELAPSED, "time", 0, 1)
    name, *parts = written.rsplit(":", 4)
    source = parts[0] if parts else ""
    if len(parts) == 4 and source in ("track", "label") and parts[1].isdecimal() and parts[2].isdecimal():
        column, size, rate = int(parts[1][:9]), int(parts[2][:9]), positive(parts[3])
        if 1 <= size <= 2**14 and (rate > 0 or source == "label"):
            return Action(name, "track" if source == "track" else "label", column, size, rate)
    raise ValueError(
        f"action '{written[:60]}': give the name of a track or label of the world, or '{ELAPSED}'; a "
        "world completes it before a model is built"
    )


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 < value < 1e9 else 0.0


def completed(names: Sequence[str], world: World, flag: str = "--actions") -> tuple[str, ...]:
    """Action names resolved to full specifications for this world; full specifications are kept."""
    found: dict[str, tuple[Literal["track", "label"], int, Factor]] = {}
    found |= {factor.name: ("label", at, factor) for at, factor in enumerate(world.factors)}
    found |= {track.name: ("track", at, track) for at, track in enumerate(world.tracks)}
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        raise ValueError(f"{flag} {twice[0]}: it is there twice; give each once")
    made = []
    for name in names:
        if name == ELAPSED or name.count(":") >= 4:
            made.append(name)
            continue
        if name not in found:
            raise ValueError(
                f"{flag} {name}: this world has {', '.join(found) or 'neither tracks nor labels'}; "
                f"choose of these, or '{ELAPSED}'"
            )
        source, at, factor = found[name]
        if UNKNOWN in factor.values:
            lacking = unlabelled(world, at, factor) if source == "label" else f"some clips have no {name}"
            raise ValueError(f"{flag} {name}: {lacking}; label them, or leave them out by a manifest")
        made.append(str(Action(name, source, at, sizes(factor), world.track_rate if source == "track" else 0.0)))
    return tuple(made)


def unlabelled(world: World, column: int, factor: Factor) -> str:
    """Part of an error message: the number of clips without this label, and the first of them."""
    values = world.factor_values(torch.arange(len(world)))[:, column]
    clips = (values == factor.values.index(UNKNOWN)).nonzero()[:, 0].tolist()
    first = f", the first {world.path(clips[0])}" if clips else ""
    return f"{len(clips)} of {len(world)} clips have no {factor.name}{first}"


@dataclass(frozen=True)
class Taken:
    """Values of an action in the training split: class names, or the range of a number."""

    name: str
    names: tuple[str, ...] = ()
    """Name of each class, the empty string for classes that the training split lacks; no names for a number."""
    low: float = 0.0
    high: float = 0.0

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the classes in the training split."""
        return tuple(filter(None, self.names))

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.known) or self.span})"

    @property
    def span(self) -> str:
        return f"{self.low:.3g} to {self.high:.3g}"


@dataclass(frozen=True)
class Change:
    """New value of an action, or an increment."""

    name: str
    value: str
    relative: bool = False
    """Whether the value is an increment."""


def change(written: str) -> Change:
    """Parse NAME=VALUE; a signed number is an increment, unless NAME==VALUE sets it."""
    name, sign, value = written.partition("=")
    absolute = value.startswith("=")
    value = value.removeprefix("=")
    if not (name and sign and value):
        raise ValueError(
            f"action '{written}': give NAME=VALUE; with a sign, as in tension=+0.3, it is added, and "
            "tension==-0.3 sets it"
        )
    return Change(name, value, not absolute and value[0] in "+-")


def sizes(factor: Factor) -> int:
    return len(factor.values) if factor.discrete else 1


class Actions(nn.Module):
    mean: Tensor
    scale: Tensor

    def __init__(self, actions: Sequence[Action], token_rate: float, flagged: bool = True):
        super().__init__()
        self.actions, self.token_rate = tuple(actions), token_rate
        self.flagged = flagged and bool(actions)
        """Whether a leading flag marks the actions as known."""
        self.width = sum(action.size for action in actions) + self.flagged
        self.register_buffer("mean", torch.zeros(len(actions)))
        self.register_buffer("scale", torch.ones(len(actions)))
        self.seen = [Statistics() for _ in actions]

    def see(
        self, batches: Iterable[Batch], tokens: int, counts: Callable[[Batch, int], Int[Tensor, " clip"]]
    ) -> Iterable[Batch]:
        """Yield the batches, then set mean and scale of numbers over the `counts` tokens of each clip."""
        for batch in batches:
            inside = sounding(tokens, counts(batch, tokens)) if self.actions else None
            for action, statistics in zip(self.actions, self.seen, strict=True):
                if action.size == 1:
                    statistics.add(self.values(action, batch, tokens)[inside])
            yield batch
        for at, statistics in enumerate(self.seen):
            if statistics.count:
                self.mean[at], self.scale[at] = statistics.scale("standard")

    def forward(self, batch: Batch, tokens: int) -> Float[Tensor, "clip token action"]:
        clips, like = len(batch.index), self.mean
        parts = [like.new_ones(clips, tokens, 1)] if self.flagged else []
        for at, action in enumerate(self.actions):
            values = self.values(action, batch, tokens).to(like)
            parts.append((values - self.mean[at]) / self.scale[at] if action.size == 1 else values)
        return torch.cat(parts, -1) if parts else like.new_zeros(clips, tokens, 0)

    def unknown(self, clips: int, tokens: int) -> Float[Tensor, "clip token action"]:
        return self.mean.new_zeros(clips, tokens, self.width)

    def taken(self, batches: Iterable[Batch], tokens: int, world: World) -> tuple[Taken, ...]:
        """Values of each action in these clips, without padding."""
        seen = [Statistics() for _ in self.actions]
        classes = [torch.zeros(action.size, dtype=torch.bool) for action in self.actions]
        for batch in batches:
            inside = sounding(tokens, self.counts(batch, tokens, world))
            for action, statistics, found in zip(self.actions, seen, classes, strict=True):
                values = self.values(action, batch, tokens)[inside]
                statistics.add(values)
                found |= (values > 0).any(0).cpu()
        return tuple(
            Taken(action.name, (), own.low, own.high)
            if action.size == 1
            else Taken(action.name, named(self.factor(action, world), found))
            for action, own, found in zip(self.actions, seen, classes, strict=True)
        )

    def taken_by_all(
        self, taken: Sequence[Taken], world: World, index: Int[Tensor, " clip"], tokens: int
    ) -> tuple[Taken, ...]:
        """Values seen in pieces, extended to the whole clips of the split, the longest of which has `tokens`
        tokens: all labels, classes of a track that no piece contained, and elapsed time."""
        found, labels = [], world.factor_values(index)
        for action, own in zip(self.actions, taken, strict=True):
            if action.source == "label":
                values = labels[:, action.column]
                if action.size > 1:
                    there = torch.zeros(action.size, dtype=torch.bool)
                    there[values.long().clamp(0, action.size - 1).cpu()] = True
                    own = replace(own, names=named(self.factor(action, world), there))
                elif len(values):
                    own = replace(own, low=float(values.min()), high=float(values.max()))
            elif action.source == "time":
                own = replace(own, low=0.0, high=(tokens - 1) / self.token_rate)
            elif "" in own.names:
                own = replace(
                    own, names=named(self.factor(action, world), self.classes(action, own, world, index))
                )
            found.append(own)
        return tuple(found)

    def classes(
        self, action: Action, taken: Taken, world: World, index: Int[Tensor, " clip"]
    ) -> Bool[Tensor, " class"]:
        """Mask of the classes of a track in whole clips; the search stops once all are found."""
        there = torch.tensor([bool(name) for name in taken.names])
        for block in index.split(BLOCK):
            if there.all():
                break
            batch = world.whole(block)
            assert batch.tracks is not None, world.name
            frames = batch.tracks[..., action.column]
            if batch.lengths is not None:
                frames = frames[sounding(frames.shape[1], world.frames_of(batch.lengths))]
            there[frames.long().clamp(0, action.size - 1).unique()] = True
        return there

    def factor(self, action: Action, world: World) -> Factor:
        return (world.tracks if action.source == "track" else world.factors)[action.column]

    def counts(self, batch: Batch, tokens: int, world: World) -> Int[Tensor, " clip"]:
        """Number of tokens of each clip."""
        per_second = world.signal.steps_per_second
        if batch.lengths is None or per_second is None:
            return torch.full((len(batch.index),), tokens, device=batch.index.device)
        # Rates such as 22050/512 are inexact.
        return (batch.lengths.double() * self.token_rate / per_second + 1e-6).floor().long().clamp(max=tokens)

    def assumed(self, past: int, frames: int, begin: float = 0.0) -> Float[Tensor, "1 token action"]:
        """Actions of a forecast from sound whose actions are unknown and which starts at `begin` seconds: for
        future frames, numbers at their mean over the training split and elapsed time; categories stay zero."""
        made = self.timed(self.unknown(1, past + frames), begin)
        made[:, :past] = 0
        if self.flagged:
            made[:, past:, 0] = 1
        return made

    def timed(self, given: Float[Tensor, "clip token action"], begin: float) -> Float[Tensor, "clip token action"]:
        """Copy of the actions in which elapsed time starts at `begin` seconds."""
        made = given.clone()
        for at, (action, where) in enumerate(zip(self.actions, self.places(), strict=True)):
            if action.source == "time":
                time = begin + torch.arange(given.shape[1]).to(given) / self.token_rate
                made[..., where] = ((time - self.mean[at]) / self.scale[at])[:, None]
        return made

    def too_late(self, given: Float[Tensor, "clip token action"], taken: Sequence[Taken]) -> str:
        """Warning if known elapsed time exceeds that of the training split, otherwise the empty string."""
        known = given[given[..., 0] > 0] if self.flagged else given.flatten(0, 1)
        for at, (action, where, own) in enumerate(zip(self.actions, self.places(), taken, strict=True)):
            if action.source == "time" and len(known):
                latest = float((known[..., where] * self.scale[at] + self.mean[at]).max())
                if latest > own.high + 0.5 / self.token_rate:
                    return (
                        f"{action.name} reaches {latest:.3g} s, and the model was trained on {own.span} s of a "
                        "piece: what it makes of later times is a guess; set the time, as in --action "
                        f"{action.name}={own.high:.3g}, or train on longer --seconds"
                    )
        return ""

    def in_world(self, given: Float[Tensor, "clip token action"]) -> Float[Tensor, "clip token value"]:
        """Actions without the flag: numbers in the units of the world, categories unchanged."""
        parts = [
            given[..., where] * self.scale[at] + self.mean[at] if action.size == 1 else given[..., where]
            for at, (action, where) in enumerate(zip(self.actions, self.places(), strict=True))
        ]
        return torch.cat(parts, -1) if parts else given[..., :0]

    def places(self) -> list[slice]:
        """Slice of each action in the last axis."""
        found, start = [], int(self.flagged)
        for action in self.actions:
            found.append(slice(start, start + action.size))
            start += action.size
        return found

    def steered(
        self, given: Float[Tensor, "clip token action"], changes: Sequence[Change], taken: Sequence[Taken]
    ) -> Float[Tensor, "clip token action"]:
        """Changed copy of the actions; a ValueError for values that the training split does not cover."""
        made, names = given.clone(), [action.name for action in self.actions]
        for asked in changes:
            if asked.name not in names:
                known = "; ".join(map(str, taken))
                raise ValueError(
                    f"action '{asked.name}': the model knows "
                    + (f"{known}; choose of these" if known else "none; train it with --actions")
                )
            at = names.index(asked.name)
            self.change(made[..., self.places()[at]], at, asked, taken[at])
        for action, where, own in zip(self.actions, self.places(), taken, strict=True):
            if action.size > 1 and changes and not bool(made[..., where].any(-1).all()):
                raise ValueError(
                    f"action '{action.name}' is not known of this sound: give it, too, one of "
                    f"{', '.join(own.known)}"
                )
        return made

    def change(self, values: Float[Tensor, "clip token size"], at: int, asked: Change, taken: Taken) -> None:
        """Change one action in place."""
        if taken.names:
            if asked.value not in taken.known:
                raise ValueError(
                    f"action '{asked.name}={asked.value}': of {asked.name} the training split has "
                    f"{', '.join(taken.known)}; give one of these"
                )
            values.copy_(functional.one_hot(torch.tensor(taken.names.index(asked.value)), values.shape[-1]))
            return
        number = finite(asked)
        world = values * self.scale[at] + self.mean[at]
        wanted = world + number if asked.relative else torch.full_like(world, number)
        low, high = float(wanted.min()), float(wanted.max())
        # The given actions may already exceed the range of the training split.
        least, most = min(taken.low, float(world.min())), max(taken.high, float(world.max()))
        room = 1e-6 * max(1.0, abs(least), abs(most))
        if low < least - room or high > most + room:
            reached = low if low < least - room else high
            fits = f"give {least:.3g} to {most:.3g}"
            if asked.relative:
                fits = f"give {least - float(world.min()):+.3g} to {most - float(world.max()):+.3g}"
            raise ValueError(
                f"action '{asked.name}={asked.value}' reaches {reached:.3g}, and the training split has "
                f"{taken.span}: {fits}"
            )
        values.copy_((wanted - self.mean[at]) / self.scale[at])

    def values(self, action: Action, batch: Batch, tokens: int) -> Float[Tensor, "clip token size"]:
        """Values of an action per token: numbers in the units of the world, categories one-hot."""
        clips, device = len(batch.index), batch.index.device
        if action.source == "time":
            time = torch.arange(tokens, device=device, dtype=self.mean.dtype) / self.token_rate
            return time[None, :, None].expand(clips, -1, -1)
        held = batch.factors if action.source == "label" else batch.tracks
        if held is None or action.column >= held.shape[-1]:
            raise ValueError(
                f"action '{action.name}' is {action.source} {action.column + 1}, and these clips have "
                f"{0 if held is None else held.shape[-1]}: use the world that the model was trained on"
            )
        values = held[..., action.column]
        if action.size > 1:
            values = functional.one_hot(values.long().clamp(0, action.size - 1), action.size).to(self.mean)
        else:
            values = values[..., None].to(self.mean)
        if action.source == "label":
            return rearrange(values, "clip size -> clip 1 size").expand(-1, tokens, -1)
        return averaged(values, tokens, action.rate / self.token_rate)


def named(factor: Factor, there: Bool[Tensor, " class"]) -> tuple[str, ...]:
    """Name of each class, the empty string for classes that are absent."""
    return tuple(str(name) if held else "" for name, held in zip(factor.values, there.tolist(), strict=True))


def finite(asked: Change) -> float:
    try:
        number = float(asked.value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"action '{asked.name}={asked.value}': {asked.name} is a number; give one, as +0.3")
    return number


def averaged(
    frames: Float[Tensor, "clip frame size"], tokens: int, each: float
) -> Float[Tensor, "clip token size"]:
    """Mean over the frames of each token, with `each` frames per token; where that is less than one, the frame in
    which the token starts."""
    if not frames.shape[1]:
        return frames.new_zeros(len(frames), tokens, frames.shape[2])
    edge = torch.arange(tokens + 1, device=frames.device, dtype=torch.float64) * each
    # Rates such as 22050/512 are inexact.
    first = (edge[:-1] + 1e-6).floor().long().clamp(max=frames.shape[1] - 1)
    last = torch.maximum((edge[1:] + 1e-6).floor().long().clamp(max=frames.shape[1]), first + 1)
    sums = functional.pad(frames.double().cumsum(1), (0, 0, 1, 0))
    return ((sums[:, last] - sums[:, first]) / (last - first)[:, None]).to(frames)
