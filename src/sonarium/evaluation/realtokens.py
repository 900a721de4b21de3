"""Real tokens of the training split, which decode the states of a forecaster and make them audible.

States are computed on pieces of the training split. A ridge regression from these states to their tokens is a
decoder for any learner, trained without changing the states. For listening, decoded tokens are replaced by the
nearest real ones with their sound: real sound without the blur of a mean (as in Generative Spoken Language
Modelling by nearest neighbours, arXiv 2310.05224). The surprise at each of them shows what is usual.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sonarium.features.tokens import Tokens
from sonarium.files import written_aside
from sonarium.measures.probes.classifiers import Scores, least_squares_path, scale_of
from sonarium.models.actions import Taken
from sonarium.models.contract import Decoder, FeatureLearner, Forecaster
from sonarium.models.objectives import mean_squares, most_likely
from sonarium.worlds.contract import Batch, Progress, World

FORMAT = 1
MOST = 2**13
"""Maximum number of tokens kept."""
MOST_SAMPLES = 2**25
"""Maximum number of samples of their sound; fewer tokens are kept if they are long."""
OTHERS = 1024
"""Maximum number of negatives of each token when its surprise is computed."""
STRETCHES = 512
"""Maximum number of stretches of tokens that a future is compared with."""
PIECES = 16
"""Pieces per batch when states are computed."""
FADE = 0.004
"""Seconds on either side of a join over which tokens are cross-faded; at most a quarter of a token."""
STRENGTHS = (1.0, 0.1, 1e-2, 1e-3, 1e-4)
"""Strengths of ridge regression to choose from, per row."""
WATCHED = 4
"""One in this many pieces is held out to choose the strength."""
BLOCK = 1024
"""Tokens per block of the nearest-neighbour search."""


@dataclass(frozen=True)
class RealTokens:
    tokens: Float[Tensor, "token number"]
    """Tokens as computed by the front end."""
    piece: Int[Tensor, " token"]
    """Training piece of each token; the tokens of a piece are consecutive."""
    sound: Float[Tensor, "heard sample"]
    """Waveform of each token, with `margin` samples before and after; empty for codes of inaudible clips."""
    weights: Float[Tensor, "code number"]
    offset: Float[Tensor, " number"]
    """Weights and offset of the ridge regression from states to tokens."""
    spread: Float[Tensor, " number"]
    """Standard deviation of the regression error, on pieces that it was not fitted on."""
    usual: dict[str, Float[Tensor, " _"]]
    """Sorted surprise at tokens of the training split, by measure."""
    taken: tuple[Taken, ...]
    """Values of each action in the training split."""
    margin: int = 0
    """Samples of cross-fading."""

    @property
    def others(self) -> Float[Tensor, "other number"]:
        """Negatives for computing the surprise, from all pieces."""
        return self.tokens[:: -(-len(self.tokens) // OTHERS)]

    def decoded(self, states: Float[Tensor, "clip token code"], slots: int) -> Float[Tensor, "clip token number"]:
        """Decode states to tokens by the regression."""
        return most_likely(states.to(self.weights) @ self.weights + self.offset, slots)

    def nearest(self, tokens: Float[Tensor, "clip token number"]) -> Int[Tensor, "clip token"]:
        """Index of the nearest real token to each token."""
        rows = tokens.to(self.tokens).flatten(0, 1)
        return torch.cat([mean_squares(some, self.tokens).argmin(1) for some in rows.split(BLOCK)]).unflatten(
            0, tokens.shape[:2]
        )

    def heard(self, chosen: Int[Tensor, " token"]) -> Float[np.ndarray, " time"]:
        """Waveform of these real tokens in sequence, cross-faded, with the margin before the first and after the
        last."""
        sound, margin = self.sound[chosen].double().numpy(), self.margin
        each = sound.shape[1] - 2 * margin
        rise = np.sin((np.arange(2 * margin) + 0.5) / (2 * margin) * np.pi / 2) ** 2 if margin else np.ones(0)
        made = np.zeros(len(sound) * each + 2 * margin)
        for number, wave in enumerate(sound):
            window = np.ones(len(wave))
            if margin and number:
                window[: 2 * margin] = rise
            if margin and number < len(sound) - 1:
                window[-2 * margin :] = rise[::-1]
            made[number * each : number * each + len(wave)] += window * wave
        return made

    def stretches(self, count: int) -> Float[Tensor, "stretch token number"]:
        """Stretches of `count` consecutive tokens, evenly spaced over all pieces."""
        if count > len(self.tokens):
            return self.tokens.new_zeros(0, count, self.tokens.shape[1])
        whole = self.piece.unfold(0, count, 1)
        starts = (whole[:, 0] == whole[:, -1]).nonzero()[:, 0]
        starts = starts[:: max(1, -(-len(starts) // STRETCHES))]
        return self.tokens[starts[:, None] + torch.arange(count)]

    def save(self, path: Path) -> None:
        held = {one.name: getattr(self, one.name) for one in fields(self)}
        arrays = {name: value.contiguous() for name, value in held.items() if isinstance(value, Tensor)}
        arrays |= {f"usual.{name}": value.contiguous() for name, value in self.usual.items()}
        about = {"taken": [asdict(one) for one in self.taken], "margin": self.margin, "format": FORMAT}
        with written_aside(path) as aside:
            save_file(arrays, aside, {"about": json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> "RealTokens":
        """Load a saved file; one that is damaged raises ValueError."""
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["about"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about["format"] != FORMAT:
                raise ValueError(f"it has format {about['format']!r}, this version reads {FORMAT}")
            usual = {name.removeprefix("usual."): arrays.pop(name) for name in list(arrays) if "." in name}
            taken = tuple(
                Taken(str(one["name"]), tuple(map(str, one["names"])), float(one["low"]), float(one["high"]))
                for one in about["taken"]
            )
            return cls(**arrays, usual=usual, taken=taken, margin=int(about["margin"]))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"'{path}' is damaged ({error}): remove it, and it is made again") from None


def joined(
    before: Float[np.ndarray, " before"], after: Float[np.ndarray, " after"], margin: int
) -> Float[np.ndarray, " all"]:
    """Concatenate two sounds; the second begins `margin` samples early and is cross-faded there."""
    own = min(margin, len(before))
    rise = np.sin((np.arange(own) + 0.5) / max(1, own) * np.pi / 2) ** 2
    lead = after[margin - own : margin] * rise + before[len(before) - own :] * (1 - rise)
    return np.concatenate([before[: len(before) - own], lead, after[margin:]])


@torch.no_grad()
def collect(
    learner: Forecaster,
    world: World,
    train: Int[Tensor, " clip"],
    seed: int,
    progress: Progress = lambda *_: None,
    heard: World | None = None,
) -> RealTokens:
    """Collect tokens and states from random pieces of the training split until there are enough tokens. `heard`
    may be the world of the clips that codes were made from."""
    assert isinstance(learner, FeatureLearner), type(learner)
    front, actions = front_of(learner), learner.actions
    cut = Cut(front, world, world if heard is None else heard)
    most = min(MOST, MOST_SAMPLES // (cut.size + 2 * cut.margin)) if cut.margin else MOST
    found, batches, lengths, sound = [], [], [], []
    for number, (batch, counts, begins) in enumerate(pieces(learner, world, train, seed, most)):
        tokens = front.tokens(learner.features(batch))
        inside = torch.arange(tokens.shape[1]) < counts[:, None]
        known = [None, actions(batch, tokens.shape[1])] if actions.width else [None]
        states = [learner.states(batch.signal, actions=one) for one in known]
        piece = (number * PIECES + torch.arange(len(counts)))[:, None].expand(inside.shape)
        warm = inside & (torch.arange(tokens.shape[1]) >= learner.burn_in)
        found.append((tokens[inside], piece[inside], [one[inside] for one in states], warm[inside]))
        batches.append(batch)
        lengths.append(counts)
        sound.append(cut.windows(batch, counts, begins))
        progress("collecting tokens", min(most, sum(len(one[0]) for one in found)), most)
    if not found or not any(bool(one[3].any()) for one in found):
        raise ValueError(
            f"no training clip has more tokens than the burn-in of {learner.burn_in}: there is nothing to decode "
            "by"
        )
    tokens, piece, warm = (torch.cat([one[at] for one in found])[:most] for at in (0, 1, 3))
    states = [torch.cat(one)[:most] for one in zip(*(one[2] for one in found), strict=True)]
    weights, offset, spread = regression(states, tokens, piece, warm)
    others = tokens[:: -(-len(tokens) // OTHERS)]
    return RealTokens(
        tokens, piece, torch.cat(sound)[:most], weights, offset, spread,
        usual_of(learner, batches, lengths, others),
        actions.taken(batches, max(int(one.max()) for one in lengths), world),
        cut.margin,
    )  # fmt: skip


def pieces(
    learner: Forecaster, world: World, train: Int[Tensor, " clip"], seed: int, most: int
) -> Iterator[tuple[Batch, Int[Tensor, " clip"], Int[Tensor, " clip"]]]:
    """Batches of pieces, the number of tokens in each piece and where it begins, until there are enough tokens;
    clips are repeated in proportion to their length."""
    portions = world.portions(train[world.lengths(train) > 0])
    generator = torch.Generator().manual_seed(seed)
    order = portions[torch.randperm(len(portions), generator=generator)]
    total = 0
    for step, index in enumerate(order.split(PIECES)):
        if total >= most:
            return
        batch = world.piece(index, seed, step)
        counts = counts_of(learner, batch)
        if int(counts.max()) > 0:
            total += int(counts.sum())
            yield batch, counts, world.beginnings(index, seed, step)


def counts_of(learner: Forecaster, batch: Batch) -> Int[Tensor, " clip"]:
    """Number of tokens of each clip."""
    whole = torch.full((len(batch.index),), batch.signal.shape[1])
    return learner.code_lengths(whole if batch.lengths is None else batch.lengths)


def use_of_classes(
    learner: Forecaster, states: Float[Tensor, "token code"]
) -> tuple[Float[Tensor, "variable entry"], Float[Tensor, " variable"]]:
    """Relative frequency of each class of each variable, and the perplexity of each variable."""
    used = torch.nn.functional.one_hot(learner.classes(states[None])[0], learner.entries).double().mean(0)
    return used, torch.special.entr(used).sum(1).exp()


def front_of(learner: Forecaster) -> Tokens:
    """Front end of the learner, which computes tokens."""
    assert isinstance(learner, FeatureLearner) and isinstance(learner.front, Tokens), type(learner)
    return learner.front


class Cut:
    """Cuts the waveforms of tokens from the clips that are played."""

    def __init__(self, front: Tokens, world: World, heard: World):
        self.world, self.heard, self.rate = world, heard, heard.signal.rate or 0
        self.size = round(self.rate / front.token_rate)
        """Samples per token."""
        self.margin = max(1, min(self.size // 4, round(FADE * self.rate))) if self.rate else 0
        """Samples of cross-fading on either side; 0 if clips are inaudible."""

    def windows(
        self, batch: Batch, counts: Int[Tensor, " clip"], begins: Int[Tensor, " clip"]
    ) -> Float[Tensor, "token sample"]:
        """Waveform of each token of a batch of pieces, with a margin on both sides."""
        if not self.margin:
            return torch.zeros(0, 0)
        if self.heard is self.world:
            return windows(batch.signal, counts, self.size, self.margin)
        return torch.cat([self.below(*one) for one in zip(batch.index.tolist(), counts, begins, strict=True)])

    def below(self, clip: int, count: Int[Tensor, ""], begin: Int[Tensor, ""]) -> Float[Tensor, "token sample"]:
        """The same for frames of codes, from the clip that they encode; silence beyond it."""
        wave, frames = self.heard.whole(torch.tensor([clip])).signal[0], self.world.signal
        assert frames.frame_rate is not None, frames
        middle = frames.frame_first + (begin + torch.arange(int(count)).double()) / frames.frame_rate
        first = (middle * self.rate - self.size / 2).round().long() - self.margin
        at = first[:, None] + torch.arange(self.size + 2 * self.margin)
        inside = (at >= 0) & (at < len(wave))
        return wave[at.where(inside, 0)].where(inside, 0)


def windows(
    signal: Float[Tensor, "clip time"], counts: Int[Tensor, " clip"], size: int, margin: int
) -> Float[Tensor, "token sample"]:
    """Waveform of each token, with a margin on both sides; silence beyond the piece."""
    padded = torch.nn.functional.pad(signal, (margin, margin))
    cut = padded.unfold(1, size + 2 * margin, size)
    return cut[torch.arange(cut.shape[1]) < counts[:, None]]


def regression(
    states: Sequence[Float[Tensor, "token code"]],
    tokens: Float[Tensor, "token number"],
    piece: Int[Tensor, " token"],
    warm: Tensor,
) -> tuple[Float[Tensor, "code number"], Float[Tensor, " number"], Float[Tensor, " number"]]:
    """Weights, offset, and the standard deviation of the error on held-out pieces."""
    x = np.concatenate([one[warm].double().numpy() for one in states])
    y = np.concatenate([tokens[warm].double().numpy()] * len(states))
    number = np.concatenate([piece[warm].numpy()] * len(states))
    made, errors = ridge(x, y, number)
    offset = made(np.zeros((1, x.shape[1])))[0]
    weights = made(np.eye(x.shape[1])) - offset
    return tuple(  # pyright: ignore[reportReturnType]
        torch.from_numpy(one).to(tokens) for one in (weights, offset, errors.std(0).clip(1e-3))
    )


def ridge(
    x: Float[np.ndarray, "token code"], y: Float[np.ndarray, "token number"], piece: Int[np.ndarray, " token"]
) -> tuple[Scores, Float[np.ndarray, "watched number"]]:
    """Ridge regression whose strength is chosen on held-out pieces, refitted to all; and its errors on the
    held-out pieces before the refit."""
    watched = piece % WATCHED == WATCHED - 1
    if not watched.any() or watched.all():
        watched = np.arange(len(x)) % 2 == 1 if len(x) > 1 else np.ones(1, bool)
    fitted, scale = ~watched if (~watched).any() else watched, scale_of(x)
    lines = least_squares_path(scale(x[fitted]), y[fitted], STRENGTHS)
    errors = [y[watched] - line(scale(x[watched])) for line in lines]
    best = int(np.argmin([np.square(one).mean() for one in errors]))
    [line] = least_squares_path(scale(x), y, STRENGTHS[best : best + 1])
    return lambda rows: line(scale(rows)), errors[best]


def usual_of(
    learner: Forecaster,
    batches: list[Batch],
    lengths: list[Int[Tensor, " _"]],
    others: Float[Tensor, "other number"],
) -> dict[str, Float[Tensor, " _"]]:
    found: dict[str, list[Tensor]] = {}
    for batch, counts in zip(batches, lengths, strict=True):
        for name, values in learner.surprise(batch.signal, others).items():
            at = torch.arange(values.shape[1])
            found.setdefault(name, []).append(values[(at >= learner.burn_in) & (at < counts[:, None])])
    return {name: torch.cat(values).sort().values for name, values in found.items()}


def decoded(
    learner: Forecaster, real: RealTokens, states: Float[Tensor, "clip token code"]
) -> Float[Tensor, "clip token number"]:
    """Decode states to tokens, by the learner's decoder if it has one, else by the regression."""
    front = front_of(learner)
    if isinstance(learner, Decoder) and learner.decodes:
        return front.tokens(learner.decode(states))
    return real.decoded(states, front.slots)
