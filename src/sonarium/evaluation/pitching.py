"""Whether actions change the pitch: for shifted actions, as in `steering.py`, the change in log fundamental
frequency of the sound of decoded tokens is compared with the change that the same shift makes in the world itself,
where it can render it. Where it cannot, the expected change is the slope of a regression of that logarithm on the
action in real training sound.

Only the world's sound determines which frames count: those in tokens louder than the mean one that have a pitch,
in the world's shifted sound, too. In generated sound the best frequency of each of these frames is taken, however
weak its pitch is. The front end inverts tokens to sound; real tokens, of the world's own sound with shifted
actions, show what inversion and pitch tracking lose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sonarium.evaluation.fitting import SEED
from sonarium.evaluation.pieces import Moments, Pieces
from sonarium.evaluation.realtokens import front_of
from sonarium.features.contract import PictureFrontEnd
from sonarium.features.pitch import PitchConfig, track
from sonarium.features.tokens import Tokens
from sonarium.models.contract import Forecaster
from sonarium.worlds.contract import World, cut

PITCH = PitchConfig(hop=0.005)
PERIODIC = 0.2
"""Aperiodicity below which a frame of real sound has a pitch."""
MOST = 32
"""Maximum number of moments, and of training pieces of the regression."""
ITERATIONS = 16
"""Iterations of the inversion."""
FEWEST = 32
"""Minimum number of frames for a regression."""
Pitches = Float[np.ndarray, "sound frame"]
"""Log frequencies; NaN where real sound has no pitch."""


@dataclass(frozen=True)
class Listener:
    """Pitch tracker of tokens and of sound."""

    learner: Forecaster
    rate: int

    @classmethod
    def of(cls, learner: Forecaster, world: World) -> "Listener | None":
        """None if tokens cannot be inverted to sound."""
        front, rate = front_of(learner), world.signal.rate
        if rate is None or not isinstance(front, PictureFrontEnd) or not front.invertible:
            return None
        return cls(learner, rate)

    @property
    def front(self) -> Tokens:
        return front_of(self.learner)

    def of_sound(self, waves: Float[Tensor, "sound time"], periodic: float = PERIODIC) -> Pitches:
        """Pitch of the frames whose aperiodicity is below `periodic`."""
        heard = [track(wave, self.rate, PITCH) for wave in waves.double().numpy()]
        return np.stack([np.where(one.aperiodicity < periodic, np.log(one.hertz), np.nan) for one in heard])

    def of_tokens(self, tokens: Float[Tensor, "sound token number"]) -> Pitches:
        front = self.front
        assert isinstance(front, PictureFrontEnd)
        samples = tokens.shape[1] * front.shortest
        return self.of_sound(front.invert(front.features_of(tokens), samples, ITERATIONS), np.inf)

    def tokens(self, waves: Float[Tensor, "sound time"]) -> Float[Tensor, "sound token number"]:
        assert isinstance(self.front, PictureFrontEnd)
        return self.front.tokens(self.front(waves))

    def in_frames(
        self, tokens: Shaped[np.ndarray, "sound token"], frames: int
    ) -> Shaped[np.ndarray, "sound frame"]:
        """Values of tokens at the frames of the pitch."""
        token = np.floor(np.arange(frames) * PITCH.hop * self.learner.code_rate + 1e-6).astype(int)
        return tokens[:, token.clip(max=tokens.shape[1] - 1)]


@dataclass(frozen=True)
class Expected:
    """Expected effects of the same shifts."""

    counting: Bool[np.ndarray, "shift moment frame"]
    """Mask of the frames that count."""
    asked: Float[np.ndarray, "shift moment"]
    """Expected change in log frequency; NaN where no frame counts."""
    real: tuple[Float[np.ndarray, " some"], Float[np.ndarray, " some"]]
    """Expected and measured changes of real tokens."""


def changed(
    plain: Pitches, moved: Pitches, counting: Bool[np.ndarray, "sound frame"]
) -> Float[np.ndarray, " sound"]:
    """Mean change over the frames that count; NaN where there is none."""
    return mean_of(moved - plain, counting)


def chosen_moments(sounds: Bool[Tensor, "moment step"]) -> Int[np.ndarray, " chosen"]:
    """At most MOST moments, evenly spaced among those with a counted token."""
    some = sounds.any(1).nonzero()[:, 0].numpy()
    return some[np.unique(np.linspace(0, len(some) - 1, min(MOST, len(some))).round().astype(int))]


def responses(
    listener: Listener,
    made: Sequence[Float[Tensor, "moment step number"]],
    counting: Bool[np.ndarray, "shift moment frame"],
    asked: Float[np.ndarray, "shift moment"],
) -> tuple[Float[np.ndarray, " some"], Float[np.ndarray, " some"]]:
    """Expected and measured changes; `made` holds the tokens generated with the true actions, then with each
    shift."""
    plain, *moved = (listener.of_tokens(one) for one in made)
    heard = np.stack([changed(plain, one, which) for one, which in zip(moved, counting, strict=True)])
    some = np.isfinite(asked)
    return asked[some], heard[some]


def expectation(
    listener: Listener,
    world: World,
    clips: Int[Tensor, " piece"],
    fitted: Pieces,
    test: Pieces,
    where: Moments,
    sounds: Bool[Tensor, "moment step"],
    moved: Sequence[Float[Tensor, "moment step"]],
    action: int,
) -> Expected | None:
    """Expected changes by the world itself or by the regression; None if too little sound has a pitch. `moved`
    holds the shifts of an action in standard deviations."""
    size, steps = listener.front.shortest, sounds.shape[1]
    at = (where.token + 1) * size
    own = cut(test.signal[where.piece], at, torch.full_like(at, steps * size), steps * size)
    plain = listener.of_sound(own)
    loud = listener.in_frames(sounds.numpy(), plain.shape[1])
    counting = loud & np.isfinite(plain)
    others = [remade(listener, world, clips, where, one, action) for one in moved]
    if all(one is not None for one in others):
        waves = [one for one in others if one is not None]
        heard = [listener.of_sound(one) for one in waves]
        counting = np.stack([counting & np.isfinite(one) for one in heard])
        asked = np.stack([changed(plain, one, which) for one, which in zip(heard, counting, strict=True)])
        real = responses(listener, [listener.tokens(one) for one in (own, *waves)], counting, asked)
        found = Expected(counting, asked, real)
    else:
        found = by_regression(listener, fitted, test, where, own, counting, moved, action)
    return found if found is not None and np.isfinite(found.asked).any() else None


def remade(
    listener: Listener,
    world: World,
    clips: Int[Tensor, " piece"],
    where: Moments,
    moved: Float[Tensor, "moment step"],
    action: int,
) -> Float[Tensor, "moment time"] | None:
    """Sound of the target tokens, rendered by the world with shifted actions; None if it cannot render them."""
    learner, size, steps = listener.learner, listener.front.shortest, moved.shape[1]
    index, begin = clips[where.piece], world.beginnings(clips, SEED, 0)[where.piece]
    batch, own = world.whole(index), learner.actions.actions[action]
    assert batch.tracks is not None, own
    time = (torch.arange(batch.tracks.shape[1]) + 0.5) / world.track_rate - begin[:, None] / listener.rate
    step = (time * learner.code_rate).floor().long() - where.token[:, None] - 1
    inside = (step >= 0) & (step < steps)
    added = moved.gather(1, step.clamp(0, steps - 1)).where(inside, 0) * learner.actions.scale[action]
    tracks = batch.tracks.clone()
    tracks[..., own.column] += added.to(tracks)
    made = world.remade(index, tracks)
    if made is None:
        return None
    at = begin + (where.token + 1) * size
    return cut(made.signal, at, torch.full_like(at, steps * size), steps * size)


def by_regression(
    listener: Listener,
    fitted: Pieces,
    test: Pieces,
    where: Moments,
    own: Float[Tensor, "moment time"],
    counting: Bool[np.ndarray, "moment frame"],
    moved: Sequence[Float[Tensor, "moment step"]],
    action: int,
) -> Expected | None:
    """Expected changes by regression; None if too little training sound has a pitch, or the action is constant."""
    column = listener.learner.actions.places()[action].start
    slope = slope_of(listener, fitted, column)
    if slope is None:
        return None
    frames, steps = counting.shape[1], moved[0].shape[1]
    shifts = [listener.in_frames(one.double().numpy(), frames) for one in moved]
    asked = np.stack([mean_of(slope * one, counting) for one in shifts])
    token = where.token[:, None] + 1 + torch.arange(steps)
    action_of = test.actions[where.piece[:, None], token][..., column].double().numpy()
    heard = listener.of_tokens(test.tokens[where.piece[:, None], token])
    expected = mean_of(slope * listener.in_frames(action_of, frames), counting)
    found = mean_of(heard, counting)
    some = np.isfinite(found)
    if not some.any():
        return None
    real = expected[some] - expected[some].mean(), found[some] - found[some].mean()
    return Expected(np.stack([counting] * len(moved)), asked, real)


def mean_of(
    values: Float[np.ndarray, "sound frame"], which: Bool[np.ndarray, "sound frame"]
) -> Float[np.ndarray, " sound"]:
    """Mean over the marked frames; NaN where there is none."""
    total = np.where(which, values, 0).sum(1)
    return np.where(which.any(1), total / np.maximum(which.sum(1), 1), np.nan)


def slope_of(listener: Listener, fitted: Pieces, column: int) -> float | None:
    """Slope of log frequency on an action, in the loud tokens of training pieces."""
    some = fitted.rows(torch.arange(min(MOST, len(fitted.counts))))
    size = listener.front.shortest
    heard = listener.of_sound(some.signal[:, : some.tokens.shape[1] * size])
    levels = listener.front.levels(some.tokens).mean(-1)
    loud = (some.inside & (levels > levels[some.inside].mean())).numpy()
    frames = heard.shape[1]
    which = listener.in_frames(loud, frames) & np.isfinite(heard)
    action = listener.in_frames(some.actions[..., column].double().numpy(), frames)[which]
    if len(action) < FEWEST or not action.std() > 0:
        return None
    return float(np.cov(action, heard[which])[0, 1] / action.var(ddof=1))


def scored(
    listener: Listener, made: Mapping[str, Sequence[Tensor]], expected: Expected
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Expected and measured changes of each model, and of real tokens."""
    found = {who: responses(listener, some, expected.counting, expected.asked) for who, some in made.items()}
    return found | {"real": expected.real}
