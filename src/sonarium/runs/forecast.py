"""Forecasts of a sound by the forecaster of a run folder: decoded, as real tokens, and as sound.

The states of the past are inferred, and future states are sampled from the model. What is fitted on the training
split to decode them (`evaluation/realtokens.py`) is saved in the run folder, under the hash of the weights, so
that later calls require only the folder.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.evaluation.realtokens import RealTokens, collect, decoded, joined
from sonarium.features.contract import PictureFrontEnd
from sonarium.features.tokens import CodeTokens, LogMelTokens
from sonarium.measures.forecasts import coverage, distances, nearer
from sonarium.models.actions import Change
from sonarium.models.contract import FeatureLearner, Forecaster, Learner
from sonarium.runs.build import Built, Data, Progress, Remark, clips_below, open_learner, open_run, silent
from sonarium.runs.coder import Coder, load_coder
from sonarium.runs.sing import ROUNDS, Voice, open_voice
from sonarium.training.run import RunFolder, digest
from sonarium.worlds.contract import Batch, Signal, World, crop

KEPT = "forecast"
"""Subfolder of a run for what is fitted for forecasts."""
EDITION = 2
"""Version of what is fitted; other versions in the folder are refitted."""
LONGEST = 60.0
"""Maximum duration of a forecast in seconds: an hour of sound without any input is meaningless."""
PAST = 30.0
"""Maximum duration of the past in seconds."""
HORIZONS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Horizons in seconds for which distances are given, besides the whole forecast."""
MOST_SAMPLES = 1000


@dataclass(frozen=True)
class Sound:
    """Past and future of a moment, as input of the learner, a whole number of tokens each."""

    name: str
    at: float
    """The moment in seconds."""
    past: Float[Tensor, "1 past *rest"]
    future: Float[Tensor, "1 future *rest"]
    """True continuation; may be shorter than the forecast, or empty."""
    wave: Float[np.ndarray, " sample"]
    """Sound of past and future."""
    moment: int
    """Number of samples of the wave before the moment."""
    begin: float = 0.0
    """Start of the past in seconds from the beginning of the recording; offset of the action `elapsed`."""
    actions: Float[Tensor, "1 token action"] | None = None
    """Actions of past and future, where the last one is held, except for elapsed time; None if unknown."""


@dataclass(frozen=True)
class Future:
    """One sampled future."""

    tokens: Float[np.ndarray, "token number"]
    """Decoded tokens, in the unit of the front end."""
    real: Float[np.ndarray, "token number"]
    """The nearest real tokens."""
    log_probability: Float[np.ndarray, " token"]
    """Log-probability of each state given those before it, in nats."""


@dataclass(frozen=True)
class Heard:
    """The sound of a future."""

    decoded: Float[np.ndarray, " time"]
    """Sound of the decoded tokens, with phase by the Griffin-Lim algorithm."""
    real: Float[np.ndarray, " time"]
    """Sound of the nearest real tokens, cross-faded."""
    completed: Float[np.ndarray, " all"]
    """The past, followed by the real tokens."""


@dataclass(frozen=True)
class Nearness:
    """Distances of the samples to the true continuation, up to a horizon."""

    seconds: float
    samples: Float[np.ndarray, " sample"]
    """Distance of the nearest real tokens of each sample."""
    decoded: Float[np.ndarray, " sample"]
    """Distance of the decoded tokens of each sample."""
    persistence: float
    """Distance of the last token of the past, repeated."""
    copy: float
    """Distance of the true future, inferred and decoded: no forecast can be expected to come nearer."""
    coverage: float | None
    """Probability that none of as many real stretches of training sound comes as near as the nearest sample; None
    beyond the length of a training piece."""
    nearer: float
    """Fraction of the samples that come nearer than persistence."""


@dataclass(frozen=True)
class Forecasts:
    """Futures of one sound."""

    sound: Sound
    rate: int
    token_seconds: float
    unit: str
    futures: tuple[Future, ...]
    past_tokens: Float[np.ndarray, "past number"]
    true_tokens: Float[np.ndarray, "true number"]
    """Tokens of the true continuation, as far as there is one."""
    nearness: tuple[Nearness, ...]
    made: Float[Tensor, "sample token width"]
    """Decoded tokens in the scale of the front end."""
    temperature: float = 1.0
    actions: tuple[Change, ...] = ()
    remarks: tuple[str, ...] = ()
    """Remarks for the user."""


@dataclass(frozen=True)
class RunForecaster:
    """The forecaster of a run, with its front end, real tokens and decoder to sound."""

    folder: Path
    model: str
    signal: Signal
    coder: Coder
    learner: Forecaster
    front: LogMelTokens | CodeTokens
    real: RealTokens
    voice: Voice | None
    """Decoder to sound of tokens that are codes of another run; None for other tokens."""
    data: Data | None = None
    """Clips that the run was trained on, if they were opened."""
    below: World | None = None
    """World with the sound of these clips, if they are codes."""

    @property
    def rate(self) -> int:
        return self.coder.rate

    @property
    def token_seconds(self) -> float:
        return 1 / self.learner.code_rate

    # Past and future.

    def file(self, path: Path, at: float | None, seconds: float) -> Sound:
        """Past and future of a moment in a file, by default its end."""
        start, samples, kept = 0, 0, []
        first = None if at is None else max(0, round((at - PAST) * self.rate))
        last = None if at is None else round((at + seconds) * self.rate)
        held = 0
        for block in self.coder.blocks(path):
            begin, samples = samples, samples + len(block)
            low = 0 if first is None else max(0, first - begin)
            high = len(block) if last is None else max(0, last - begin)
            kept.append(block[low:high])
            held += len(kept[-1])
            while at is None and held - len(kept[0]) > PAST * self.rate:
                held -= len(kept[0])
                start += len(kept.pop(0))
        duration = samples / self.rate
        at = duration if at is None else at
        if not 0 < at <= duration + 1e-9:
            raise ValueError(f"--at {at:g}: '{path}' lasts {duration:.3f} s; give a time within it")
        start = start if first is None else min(first, samples)
        return self.sound(np.concatenate(kept), round(at * self.rate) - start, at, seconds, str(path))

    def sound(self, wave: Float[np.ndarray, " time"], moment: int, at: float, seconds: float, name: str) -> Sound:
        """Past and future of sample `moment`, at time `at`, in sound at the rate of the model."""
        self.check_seconds(seconds)
        given = torch.from_numpy(np.ascontiguousarray(wave, np.float32))
        if self.coder.below is None:
            step = self.front.shortest
            tokens = moment // step
            begin = moment - tokens * step
            coming = min(self.frames(seconds), (len(given) - moment) // step)
            self.check_past(tokens, moment, at, name)
            past, future = given[begin:moment], given[moment : moment + coming * step]
            return Sound(
                name, at, past[None], future[None], given[begin : moment + coming * step].numpy(), moment - begin,
                at - (moment - begin) / self.rate,
            )  # fmt: skip
        below, rate = self.coder.below, self.learner.code_rate
        # Codes end at the moment, as tokens do.
        begin = max(0, moment - round(math.floor(moment / self.rate * rate + 1e-6) / rate * self.rate))
        given, moment = given[begin:], moment - begin
        tokens = below.rows(moment) if moment else 0
        self.check_past(tokens, moment, at, name)
        # Sound after the moment must not leak into the codes before it.
        past = torch.from_numpy(below.encode(given[:moment].numpy(), self.rate))
        whole = torch.from_numpy(below.encode(given.numpy(), self.rate))
        future = whole[len(past) : len(past) + self.frames(seconds)]
        return Sound(name, at, past[None], future[None], given.numpy(), moment, at - moment / self.rate)

    def clip(self, number: int, at: float | None, seconds: float) -> Sound:
        """Past and future of a moment in a clip of the run's world, whose actions are known."""
        self.check_seconds(seconds)
        assert self.data is not None, self.folder
        world, step = self.data.world, self.front.shortest
        heard = world if self.below is None else self.below
        if not 0 <= number < len(world):
            raise ValueError(f"clip {number}: world '{world.name}' has clips 0 to {len(world) - 1}")
        index = torch.tensor([number])
        [part] = [part for part, rows in self.data.split.items() if number in rows.tolist()] or ["no"]
        length, name = int(heard.lengths(index)), f"{world.path(number)} ({part} split)"
        moment = length if at is None else round(at * self.rate)
        if not 0 < moment <= length:
            raise ValueError(f"--at {at:g}: {name} lasts {length / self.rate:.3f} s; give a time within it")
        if self.below is not None:
            return self.clip_below(self.below, index, moment, seconds, name)
        tokens = min(moment, round(PAST * self.rate)) // step
        self.check_past(tokens, moment, moment / self.rate, name)
        begin, coming = moment - tokens * step, min(self.frames(seconds), (length - moment) // step)
        count = (tokens + coming) * step
        cut = crop(world.whole(index), torch.tensor([begin]), torch.tensor([count]), count, world.frames_of)
        actions = self.actions_of(cut, tokens + coming, tokens + self.frames(seconds), begin / self.rate)
        wave = cut.signal[0].float()
        split = tokens * step
        return Sound(
            name, moment / self.rate, cut.signal[:, :split], cut.signal[:, split:], wave.numpy(), split,
            begin / self.rate, actions,
        )  # fmt: skip

    def clip_below(self, below: World, index: Int[Tensor, " 1"], moment: int, seconds: float, name: str) -> Sound:
        """As `clip`, for a clip of codes: its sound is encoded again, since its codes may depend on sound after
        the moment."""
        assert self.data is not None, self.folder
        world, rate = self.data.world, self.learner.code_rate
        first = max(0, math.ceil((moment / self.rate - PAST) * rate))
        begin = round(first / rate * self.rate)
        wave = below.whole(index).signal[0, begin : moment + round(seconds * self.rate)].numpy()
        sound = self.sound(wave, moment - begin, moment / self.rate, seconds, name)
        count = sound.past.shape[1] + sound.future.shape[1]
        inside = (world.lengths(index) - first).clamp(max=count)
        cut = crop(world.whole(index), torch.tensor([first]), inside, count, world.frames_of)
        wanted = sound.past.shape[1] + self.frames(seconds)
        return replace(sound, actions=self.actions_of(cut, count, wanted, begin / self.rate))

    def actions_of(self, batch: Batch, tokens: int, wanted: int, begin: float) -> Tensor | None:
        """Actions of a clip from `begin` seconds on; after its end the last one is held, and time continues."""
        knows = self.learner.actions
        if not knows.width:
            return None
        own = knows(batch, tokens)
        return knows.timed(torch.cat([own, own[:, -1:].expand(-1, wanted - tokens, -1)], 1), begin)

    def frames(self, seconds: float) -> int:
        return max(1, round(seconds * self.learner.code_rate))

    def check_seconds(self, seconds: float) -> None:
        if not 0 < seconds <= LONGEST:
            raise ValueError(f"seconds={seconds:g}: give more than 0, and at most {LONGEST:g}")

    def check_past(self, tokens: int, samples: int, at: float, name: str) -> None:
        needed = max(1, self.learner.burn_in)
        if tokens < needed:
            raise ValueError(
                f"'{name}' has {samples / self.rate:.3f} s before {at:g} s, {tokens} token(s), and the model "
                f"needs {needed} (its burn-in), {needed * self.token_seconds:.3f} s: give a later --at, or longer "
                "sound"
            )

    # Forecasts.

    @torch.no_grad()
    def forecast(
        self,
        sound: Sound,
        seconds: float,
        samples: int = 8,
        seed: int = 0,
        actions: Sequence[Change] = (),
        temperature: float = 1.0,
    ) -> Forecasts:
        """Sample futures of a sound, with changes of actions if given; a temperature below 1 keeps to what is
        likely, above 1 strays from it."""
        self.check_seconds(seconds)
        check_temperature(temperature)
        if not 1 <= samples <= MOST_SAMPLES:
            raise ValueError(f"samples={samples}: give 1 to {MOST_SAMPLES}")
        frames = self.frames(seconds)
        states, acted = self.followed(sound, frames, actions)
        generator = torch.Generator().manual_seed(seed)
        drawn = self.learner.go_on(states, frames, samples, generator, actions=acted, temperature=temperature)
        made = decoded(self.learner, self.real, drawn.codes.flatten(0, 1))
        levels, real = self.levels(made), self.levels(self.real.tokens[self.real.nearest(made)])
        likely = drawn.log_probability.flatten(0, 1).double().numpy()
        futures = tuple(Future(*each) for each in zip(levels, real, likely, strict=True))
        past = self.tokens(sound.past)
        true = self.tokens(sound.future)[:, :frames]
        late = "" if acted is None else self.learner.actions.too_late(acted, self.real.taken)
        return Forecasts(
            sound, self.rate, self.token_seconds, self.front.unit, futures,
            self.levels(past)[0], self.levels(true)[0],
            tuple(self.nearness(sound, futures, past, true)), made, temperature, tuple(actions),
            (late,) * bool(late),
        )  # fmt: skip

    def followed(
        self, sound: Sound, frames: int, changes: Sequence[Change] = ()
    ) -> tuple[Float[Tensor, "1 token code"], Tensor | None]:
        """States inferred from the past, and actions of past and future."""
        knows, count = self.learner.actions, int(self.learner.code_lengths(torch.tensor([sound.past.shape[1]])))
        acted = sound.actions
        if acted is not None:
            acted = acted[:, : count + frames]
        elif changes and knows.width:
            acted = knows.assumed(count, frames, sound.begin)
        if changes:
            empty = knows.unknown(1, count + frames) if acted is None else acted
            later = knows.steered(empty[:, count:], changes, self.real.taken)
            acted = torch.cat([empty[:, :count], later], 1)
        own = None if acted is None else acted[:, :count]
        return self.learner.states(sound.past, actions=own), acted

    def heard(self, made: Forecasts, count: int | None = None, seed: int = 0) -> list[Heard]:
        """The sound of all futures, or of the first `count`."""
        tokens, sound, margin = made.made[:count], made.sound, self.real.margin
        chosen, past = self.real.nearest(tokens), sound.wave[: sound.moment]
        if margin:
            each = [self.real.heard(one) for one in chosen]
        else:
            each = list(self.waves(self.real.tokens[chosen], seed))
        return [
            Heard(voiced, wave[margin : len(wave) - margin], joined(past, wave[: len(wave) - margin], margin))
            for voiced, wave in zip(self.waves(tokens, seed), each, strict=True)
        ]

    def waves(self, tokens: Float[Tensor, "clip token number"], seed: int) -> Float[np.ndarray, "clip time"]:
        """Sound of tokens, by the Griffin-Lim algorithm."""
        generator = torch.Generator().manual_seed(seed)
        features = self.front.features_of(tokens)
        if isinstance(self.front, CodeTokens):
            assert self.voice is not None, self.folder
            samples = round(tokens.shape[1] * self.token_seconds * self.rate)
            return self.voice.sound(self.front.codes(features), samples, generator)
        samples = tokens.shape[1] * self.front.shortest
        return self.front.invert(features, samples, ROUNDS, generator).float().numpy()

    def tokens(self, signal: Float[Tensor, "clip time *rest"]) -> Float[Tensor, "clip token number"]:
        """Tokens of sound, none if it is shorter than a token."""
        if signal.shape[1] < self.front.shortest:
            return torch.zeros(len(signal), 0, self.front.width)
        return self.front.tokens(self.front(signal))

    def levels(self, tokens: Tensor) -> Float[np.ndarray, "clip token number"]:
        return self.front.levels(tokens).double().numpy()

    def field(self, levels: Float[np.ndarray, "token number"]) -> Float[np.ndarray, "row column"]:
        """Tokens as a picture in the unit `colours`: rows over time."""
        features = self.front.features_of(torch.from_numpy(levels)[None])
        if isinstance(self.front, CodeTokens):
            assert self.voice is not None, self.folder
            return self.voice.picture(self.front.codes(features).float())[0]
        return features[0].flatten(0, -2).numpy()

    @property
    def colours(self) -> str:
        """Unit of the pictures of tokens."""
        return self.front.unit if self.voice is None else self.voice.front.axes.unit

    def nearness(
        self,
        sound: Sound,
        futures: Sequence[Future],
        past: Float[Tensor, "1 past number"],
        true: Float[Tensor, "1 true number"],
    ) -> Iterator[Nearness]:
        count = true.shape[1]
        if not count:
            return
        horizons = sorted({min(count, max(1, round(one / self.token_seconds))) for one in HORIZONS} | {count})
        goal = self.levels(true)[0]
        still = self.levels(past[:, -1:].expand(-1, count, -1))
        whole = torch.cat([sound.past, sound.future], 1)
        known = None if sound.actions is None else sound.actions[:, : past.shape[1] + count]
        states = self.learner.states(whole, actions=known)[:, past.shape[1] : past.shape[1] + count]
        copy = self.levels(decoded(self.learner, self.real, states))
        real, made = (
            distances(np.stack([getattr(one, name)[:count] for one in futures]), goal, horizons)
            for name in ("real", "tokens")
        )
        for at, horizon in enumerate(horizons):
            resting = float(distances(still, goal, horizons)[0, at])
            stretches = self.levels(self.real.stretches(horizon))
            others = distances(stretches, goal[:horizon], (horizon,))[:, 0]
            covered = coverage(real[:, at], others) if len(others) else None
            yield Nearness(
                horizon * self.token_seconds, real[:, at], made[:, at], resting,
                float(distances(copy, goal, horizons)[0, at]), covered, nearer(real[:, at], resting),
            )  # fmt: skip

    # Interpolation.

    @torch.no_grad()
    def between(
        self,
        one: Sound,
        other: Sound,
        seconds: float,
        steps: int,
        seed: int = 0,
        actions: Sequence[Change] = (),
        temperature: float = 1.0,
    ) -> list[tuple[float, Float[np.ndarray, "token number"], Float[np.ndarray, " time"]]]:
        """Interpolate between two sounds: their states are mixed token by token up to the moment, and continued by
        samples with the same noise, with changes of actions if given (the actions of both sounds are mixed, too).
        Returns for each step the weight of the other, decoded tokens and their sound."""
        check_temperature(temperature)
        frames = self.frames(seconds)
        pasts, acts = zip(*(self.followed(sound, frames, actions) for sound in (one, other)), strict=True)
        count = min(past.shape[1] for past in pasts)
        first, last = (past[:, past.shape[1] - count :] for past in pasts)
        made = []
        for weight in np.linspace(0, 1, steps).tolist():
            mixed, acted = torch.lerp(first, last, weight), blended(acts, count + frames, weight)
            generator = torch.Generator().manual_seed(seed)
            drawn = self.learner.go_on(mixed, frames, 1, generator, actions=acted, temperature=temperature)
            shown = torch.cat([mixed[:, -min(count, frames) :], drawn.codes[0]], 1)
            tokens = decoded(self.learner, self.real, shown)
            made.append((weight, self.levels(tokens)[0], self.waves(tokens, seed)[0]))
        return made


def check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature={temperature:g}: give a number above 0")


def blended(
    acts: Sequence[Float[Tensor, "1 _all action"] | None], tokens: int, weight: float
) -> Float[Tensor, "1 token action"] | None:
    """Weighted mean of the actions of two sounds in their last tokens; None if both are unknown."""
    one, other = acts
    if one is None and other is None:
        return None
    known = one if other is None else other
    assert known is not None
    one, other = (known.new_zeros(known.shape) if each is None else each for each in (one, other))
    return torch.lerp(one[:, one.shape[1] - tokens :], other[:, other.shape[1] - tokens :], weight)


def open_forecaster(
    folder: Path,
    remark: Remark = lambda _: None,
    progress: Progress = silent,
    world: bool = False,
    best: bool = False,
) -> RunForecaster:
    """Open the forecaster of a run folder, with its newest weights or those that were `best` in validation; with
    its `world`, if clips of the world are to be forecast."""
    plan, learner, signal = open_learner(folder, remark, best=best)
    if not isinstance(learner, Forecaster) or not isinstance(learner, FeatureLearner):
        raise ValueError(
            f"'{folder}' holds a {plan.model}, which does not forecast: give the run of a world model, as of "
            "`sonarium train dreaming`"
        )
    front = learner.front
    assert isinstance(front, LogMelTokens | CodeTokens), type(front)
    if isinstance(front, PictureFrontEnd) and not front.invertible:
        raise ValueError(f"'{folder}' has tokens that cannot become sound: train with --token-frames 2 or more")
    voice = None if plan.upstream is None else open_voice(plan.upstream, folder, remark=remark)
    below = None if plan.upstream is None else load_coder(plan.upstream.run, best=plan.upstream.best)
    kept = kept_at(RunFolder.read(folder), best)
    opened = open_run(folder, progress, remark, best=best) if world or not kept.exists() else None
    heard = None if opened is None else heard_below(opened, progress, None if world else remark)
    made = None if opened is None or kept.exists() else keep_real(opened, learner, kept, progress, heard)
    real = RealTokens.load(kept) if made is None else made
    coder = Coder(learner, signal, below)
    data = None if opened is None else opened.clips
    return RunForecaster(folder, plan.model, signal, coder, learner, front, real, voice, data, heard)


def heard_below(made: Built, progress: Progress, remark: Remark | None) -> World | None:
    """World with the sound of clips that are codes; None for other clips. If it is gone, this is reported by
    `remark`, or raises ValueError without a `remark`."""
    upstream = made.plan.upstream
    try:
        return None if upstream is None else clips_below(upstream, progress)
    except ValueError as error:
        if remark is None:
            raise
        remark(f"real tokens are heard as the run below decodes them: {error}")
        return None


def forecaster_of(made: Built, learner: Learner, folder: Path) -> RunForecaster | None:
    """The forecaster of a learner that was just trained; None if its tokens cannot become sound. Raises ValueError
    for codes if the upstream run cannot decode them to sound, or is gone."""
    if not isinstance(learner, Forecaster) or not isinstance(learner, FeatureLearner):
        return None
    front, signal, upstream = learner.front, made.data.world.signal, made.plan.upstream
    assert isinstance(front, LogMelTokens | CodeTokens), type(front)
    if isinstance(front, PictureFrontEnd) and not front.invertible:
        return None
    voice = None if upstream is None else open_voice(upstream, folder)
    below = None if upstream is None else load_coder(upstream.run, best=upstream.best)
    coder = Coder(learner.to("cpu"), signal, below)
    heard = heard_below(made, silent, None)
    real = keep_real(made, learner, kept_at(RunFolder.read(folder)), heard=heard)
    return RunForecaster(folder, made.plan.model, signal, coder, learner, front, real, voice, made.clips, heard)


def kept_at(run: RunFolder, best: bool = False) -> Path:
    """File of what is fitted for the newest checkpoint, or for the weights that were best in validation."""
    found = places(run)[best]
    assert found is not None, run.folder
    return found


def places(run: RunFolder) -> tuple[Path | None, Path | None]:
    """Files of what is fitted for the newest weights and for the best, None where there are no such weights."""
    step, best = run.newest(), run.best()
    hashes = None if step is None else digest(run.weights(step)), None if best is None else best.sha256
    newest, other = (
        None if sha256 is None else run.folder / KEPT / f"{sha256[:16]}-{EDITION}.safetensors" for sha256 in hashes
    )
    return newest, other


def keep_real(
    built: Built, learner: Learner, kept: Path, progress: Progress = silent, heard: World | None = None
) -> RealTokens:
    """Collect the real tokens of the training split, save them, and remove those of other weights."""
    assert isinstance(learner, Forecaster), type(learner)
    train = built.data.training(built.plan.clips.clips)
    world, whole = built.data.world, built.plan.clips.clips.cut == "whole"
    real = collect(learner, world, train, built.plan.seed, progress, heard)
    longest = world.lengths(train) if whole else world.lengths(train).clamp(max=world.signal.shape[0])
    tokens = int(learner.code_lengths(longest).max())
    real = replace(real, taken=learner.actions.taken_by_all(real.taken, world, train, tokens))
    real.save(kept)
    for stale in {*kept.parent.glob("*.safetensors")} - {kept, *places(RunFolder.read(kept.parents[1]))}:
        # A concurrent forecast may have removed it already.
        stale.unlink(missing_ok=True)
    return real
