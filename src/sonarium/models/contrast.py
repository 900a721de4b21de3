"""InfoNCE (van den Oord et al. 2018, arXiv 1807.03748), with negatives from anywhere.

    loss = − mean over k of mean over utterances i and times t of
               log  exp f(guess_k(c_it), z_i,t+k) / Σ_candidates exp f(…)

A guess and the latent code it is about are a pair. The candidates are the pair's own score and those with
negatives in the place of the code (side `targets`), or of the guess (side `predictions`). Padding is neither
guess, nor code, nor negative. A pair without a negative is no contest and does not count.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from sonarium.features.waveform import sounding

Guesses = Float[Tensor, "clip guess step code"]
Scores = Float[Tensor, "clip guess step negative"]


@dataclass(frozen=True)
class ContrastConfig:
    same_time: bool = False
    """Negatives: the other utterances of the batch, at the same time."""
    from_sequence: int = 64
    """Negatives: so many from other times of the same utterance."""
    from_speaker: int = 0
    """Negatives: so many from utterances of the same speaker; see `speaker`."""
    from_batch: int = 64
    """Negatives: so many from everywhere in the batch."""
    but_own: bool = False
    """Whether negatives from the speaker and from the batch leave out the utterance itself."""
    drawn: Literal["each", "together"] = "together"
    """Whether each time of an utterance draws its own negatives, with repetition, or all times of it together,
    without repetition and up to all there are, which costs far less."""
    times: Literal["all", "common", "one"] = "all"
    """Which contexts guess: all that a step ahead leaves room for, those that all steps leave room for, or one
    time for the whole batch, drawn anew in each update."""
    side: Literal["targets", "predictions"] = "targets"
    """What competes: latent codes for each guess, or guesses for each latent code."""
    score: Literal["dot", "mean", "cosine"] = "dot"
    """How guess and code are compared: the sum of products, their mean, or the cosine of the angle between."""
    temperature: float = 1.0
    """Scores are divided by this; 0.1 suits the cosine."""

    def __post_init__(self) -> None:
        counts = ("from_sequence", "from_speaker", "from_batch")
        for name in counts:
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: give a whole number of at least 0")
        if not self.same_time and not any(getattr(self, name) for name in counts):
            raise ValueError(
                "no negatives: give same_time, or a number for from_sequence, from_speaker or from_batch"
            )
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}: give a positive number")
        choices = {
            "drawn": ("each", "together"),
            "times": ("all", "common", "one"),
            "side": ("targets", "predictions"),
            "score": ("dot", "mean", "cosine"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: give {', '.join(known)}")
        if self.times == "one" and self.side == "predictions" and not self.same_time and not self.reaches_others:
            raise ValueError("one time of one utterance has no other guess: give same_time, or times=all")

    @property
    def reaches_others(self) -> bool:
        return bool(self.from_speaker or self.from_batch)


@dataclass(frozen=True)
class Outcome:
    """What a contest came to, step by step ahead."""

    loss: Float[Tensor, ""]
    losses: Float[Tensor, " step"]
    accuracies: Float[Tensor, " step"]
    """Shares of the pairs that beat all their negatives."""
    chance: Float[Tensor, ""]
    """The loss if all scores were equal."""
    surprise: Float[Tensor, "clip guess step"]
    """What each pair adds to the loss; 0 where there is no contest."""


def draw_time(
    config: ContrastConfig, frames: Int[Tensor, " clip"], ahead: int, generator: torch.Generator
) -> int | None:
    """The one context that guesses, if it is to be one; two utterances at least are long enough for it."""
    if config.times != "one":
        return None
    longest = int(frames.sort(descending=True).values[: 2 if config.same_time else 1][-1])
    device = generator.device
    return int(torch.randint(max(1, longest - ahead), (), generator=generator, device=device))


def contrast(
    guesses: Guesses,
    latents: Float[Tensor, "clip frame code"],
    frames: Int[Tensor, " clip"],
    config: ContrastConfig,
    generator: torch.Generator,
    start: int = 0,
    speakers: Float[Tensor, " clip"] | None = None,
) -> Outcome:
    """Contests of the guesses of the contexts from `start` on; `frames` of each clip are sound."""
    with torch.autocast(latents.device.type, enabled=False):
        real = real_pairs(guesses, frames, start, common=config.times == "common")
        guesses, latents = scaled(guesses, wide(latents), config)
        targets = followers(latents, start, *guesses.shape[1:3])
        own, negatives = None, []
        if config.same_time:
            there = real_pairs(guesses, frames, start, common=False)
            own, rivals = at_the_same_time(guesses, targets, there, config.side)
            negatives.append(rivals)
        for pool in pools(config, len(latents), latents.device, speakers):
            if config.side == "targets":
                negatives.append(rival_codes(wide(guesses), latents, frames, start, pool, generator))
            else:
                negatives.append(rival_guesses(targets, guesses, frames, start, pool, generator))
        if own is None:
            pairs = zip(guesses.unbind(2), targets, strict=True)
            own = torch.stack([(wide(guess) * target).sum(-1) for guess, target in pairs], 2)
        return judge(own, torch.cat(negatives, -1), real)


def wide(values: Tensor) -> Tensor:
    """Scores of 16 bits would be off by tenths."""
    return values if values.dtype == torch.float64 else values.float()


def scaled(guesses: Guesses, latents: Tensor, config: ContrastConfig) -> tuple[Tensor, Tensor]:
    """Such that their dot product is the score."""
    if config.score == "cosine":
        guesses, latents = functional.normalize(wide(guesses), dim=-1), functional.normalize(latents, dim=-1)
    factor = (1 / guesses.shape[-1] if config.score == "mean" else 1.0) / config.temperature
    # The smaller of the two is multiplied.
    return guesses, latents if factor == 1 else latents * factor


def followers(latents: Float[Tensor, "clip frame code"], start: int, times: int, steps: int) -> list[Tensor]:
    """For each step ahead, the codes that the guesses are about, as (clip, guess, code); zeros beyond the last."""
    ample = functional.pad(latents, (0, 0, 0, max(0, start + times + steps - latents.shape[1])))
    return [ample[:, start + step : start + step + times] for step in range(1, steps + 1)]


def real_pairs(
    guesses: Guesses, frames: Int[Tensor, " clip"], start: int, common: bool
) -> Bool[Tensor, "clip guess step"]:
    """Which guesses are about a frame of sound; if `common`, only of contexts whose guesses all are."""
    time = torch.arange(guesses.shape[1], device=frames.device) + start
    ahead = torch.arange(guesses.shape[2], device=frames.device) + 1
    about = rearrange(time, "guess -> guess 1") + (ahead[-1:] if common else ahead)
    return (about < rearrange(frames, "clip -> clip 1 1")).expand(guesses.shape[:3])


def at_the_same_time(
    guesses: Guesses, targets: list[Tensor], there: Bool[Tensor, "clip guess step"], side: str
) -> tuple[Float[Tensor, "clip guess step"], Scores]:
    """Scores of the pairs, and against the other utterances; −∞ where there is none."""
    own, rivals = [], []
    itself = torch.eye(len(there), dtype=torch.bool, device=there.device)
    # Step by step, so that what is multiplied is still in the cache from being converted.
    for guess, target, real in zip(guesses.unbind(2), targets, there.unbind(2), strict=True):
        anchors, others = (wide(guess), target) if side == "targets" else (target, wide(guess))
        scores = torch.bmm(
            rearrange(anchors, "clip guess code -> guess clip code"),
            rearrange(others, "other guess code -> guess code other"),
        )
        own.append(rearrange(scores.diagonal(dim1=1, dim2=2), "guess clip -> clip guess"))
        absent = ~rearrange(real, "other guess -> guess 1 other") | itself
        rivals.append(rearrange(scores.masked_fill(absent, -torch.inf), "guess clip other -> clip guess other"))
    return torch.stack(own, 2), torch.stack(rivals, 2)


@dataclass(frozen=True)
class Pool:
    """Where drawn negatives come from."""

    members: Bool[Tensor, "clip other"]
    """Of each utterance: which utterances its negatives may be of."""
    count: int
    together: bool


def pools(
    config: ContrastConfig, clips: int, device: torch.device, speakers: Float[Tensor, " clip"] | None
) -> list[Pool]:
    own, together = torch.eye(clips, dtype=torch.bool, device=device), config.drawn == "together"
    found = [Pool(own, config.from_sequence, together)]
    if config.from_speaker:
        if speakers is None:
            raise ValueError(
                "negatives from the same speaker need `speaker`: the number of the factor that tells who speaks"
            )
        alike = rearrange(speakers, "clip -> clip 1") == speakers
        found.append(Pool(alike & ~own if config.but_own else alike, config.from_speaker, together))
    found.append(Pool(~own if config.but_own else torch.ones_like(own), config.from_batch, together))
    return [pool for pool in found if pool.count]


def rival_codes(
    guesses: Guesses,
    latents: Float[Tensor, "clip frame code"],
    frames: Int[Tensor, " clip"],
    start: int,
    pool: Pool,
    generator: torch.Generator,
) -> Scores:
    """Scores of the guesses with latent codes drawn from a pool; the same codes for all steps ahead."""
    (clips, times, steps), places = guesses.shape[:3], latents.shape[1]
    index, there = draw(pool, sounding(places, frames), times, generator)
    # Looked up as in a table, because that has a quick gradient.
    codes = functional.embedding(index, latents.flatten(0, 1))
    rivals = "clip negative code" if pool.together else "clip guess negative code"
    scores = einsum(guesses, codes, f"clip guess step code, {rivals} -> clip guess step negative")
    clip, time, step = (torch.arange(n, device=index.device) for n in (clips, times, steps))
    about = clip[:, None, None, None] * places + start + time[:, None, None] + 1 + step[:, None]
    return without(scores, index, there, about)


def rival_guesses(
    targets: list[Tensor],
    guesses: Guesses,
    frames: Int[Tensor, " clip"],
    start: int,
    pool: Pool,
    generator: torch.Generator,
) -> Scores:
    """Scores of the codes with guesses drawn from a pool that are about as many steps ahead as their own."""
    clips, times = guesses.shape[:2]
    index, there = draw(pool, sounding(times, (frames - start).clamp(min=0)), times, generator)
    rivals = "clip negative code" if pool.together else "clip guess negative code"
    scores = [
        einsum(
            target,
            functional.embedding(index, wide(guess).flatten(0, 1)),
            f"clip guess code, {rivals} -> clip guess negative",
        )
        for target, guess in zip(targets, guesses.unbind(2), strict=True)
    ]
    own = torch.arange(clips * times, device=index.device).view(clips, times, 1, 1)
    return without(torch.stack(scores, 2), index, there, own)


def without(
    scores: Scores,
    index: Int[Tensor, "clip *guess negative"],
    there: Bool[Tensor, "clip *guess negative"],
    own: Tensor,
) -> Scores:
    """Put −∞ for negatives that there are not, and for those that are the pair itself."""
    if index.ndim == 2:
        index, there = index[:, None], there[:, None]
    return scores.masked_fill((index[:, :, None] == own) | ~there[:, :, None], -torch.inf)


def draw(
    pool: Pool, heard: Bool[Tensor, "other time"], guesses: int, generator: torch.Generator
) -> tuple[Int[Tensor, "clip *guess negative"], Bool[Tensor, "clip *guess negative"]]:
    """Places, counted through all utterances, of frames drawn from each one's pool, and which there are."""
    allowed = rearrange(pool.members[:, :, None] & heard, "clip other time -> clip (other time)")
    clips, places = allowed.shape
    if pool.together:
        lots = torch.rand(clips, places, generator=generator, device=allowed.device).masked_fill(~allowed, -1)
        highest, index = lots.topk(min(pool.count, places))
        return index, highest >= 0
    numbers = allowed.sum(1)
    order = allowed.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    lots = torch.rand(clips, guesses * pool.count, generator=generator, device=allowed.device, dtype=torch.float64)
    last = (numbers - 1).clamp(min=0)[:, None]
    chosen = order.gather(1, (lots * numbers[:, None]).long().minimum(last))
    there = (numbers > 0)[:, None, None].expand(clips, guesses, pool.count)
    return rearrange(chosen, "clip (guess negative) -> clip guess negative", guess=guesses), there


def judge(
    own: Float[Tensor, "clip guess step"], negatives: Scores, real: Bool[Tensor, "clip guess step"]
) -> Outcome:
    """Means over the contests of each step ahead, and over the steps that have any."""
    rivals = (negatives > -torch.inf).sum(-1)
    contest = real & (rivals > 0)
    counts = contest.sum((0, 1))
    within = counts.clamp(min=1)
    surprise = (torch.cat([own[..., None], negatives], -1).logsumexp(-1) - own).masked_fill(~contest, 0)
    losses = surprise.sum((0, 1)) / within
    won = contest & (own > negatives.amax(-1))
    chances = rivals.add(1).to(own.dtype).log().masked_fill(~contest, 0).sum((0, 1)) / within
    steps = (counts > 0).sum().clamp(min=1)
    accuracies = won.sum((0, 1)) / within
    return Outcome(losses.sum() / steps, losses, accuracies, chances.sum() / steps, surprise)
