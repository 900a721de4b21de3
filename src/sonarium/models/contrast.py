"""InfoNCE (van den Oord et al. 2018, arXiv 1807.03748), with configurable negatives.

    loss = − mean over k of mean over utterances i and times t of
               log  exp f(p_k(c_it), z_i,t+k) / Σ_candidates exp f(…)

A prediction p_k(c_it) and the latent code z_i,t+k are a positive pair. The candidates are this pair and the pairs
in which a negative replaces the code (side `targets`) or the prediction (side `predictions`). Padding is excluded
from predictions, codes and negatives. Pairs without a negative are ignored.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.features.waveform import sounding
from sonarium.models.blocks import wide

Predictions = Float[Tensor, "clip time step code"]
Scores = Float[Tensor, "clip time step negative"]


@dataclass(frozen=True)
class ContrastConfig:
    same_time: bool = False
    """Use the other utterances of the batch at the same time as negatives."""
    from_sequence: Annotated[int, Range(0, 2**20)] = 64
    """Number of negatives from other times of the same utterance."""
    from_speaker: Annotated[int, Range(0, 2**20)] = 0
    """Number of negatives from utterances of the same speaker; needs `speaker`."""
    from_batch: Annotated[int, Range(0, 2**20)] = 64
    """Number of negatives from the whole batch."""
    whole_batch: bool = False
    """Use every frame of the batch as a negative, in one matrix product."""
    exclude_own: bool = False
    """Exclude the utterance itself from the negatives of the speaker and of the batch."""
    drawn: Literal["each", "together"] = "together"
    """Sampling of negatives: each (anew for each time of an utterance, with replacement), or together (the same
    for all times, without replacement, which is far cheaper)."""
    times: Literal["all", "common", "one"] = "all"
    """Contexts that predict: all with a target, common (those with a target at every step ahead), or one (one
    random time for the whole batch)."""
    side: Literal["targets", "predictions"] = "targets"
    """What negatives replace: targets (the latent code of a prediction), or predictions (the prediction of a
    latent code)."""
    score: Literal["dot", "mean", "cosine"] = "dot"
    """Similarity score of a pair: dot product, mean of the products, or cosine similarity."""
    temperature: Annotated[float, Range(0, above=True)] = 1.0
    """Softmax temperature, by which scores are divided; 0.1 suits cosine."""

    def __post_init__(self) -> None:
        check_ranges(self)
        counts = ("from_sequence", "from_speaker", "from_batch")
        if not (self.same_time or self.whole_batch or any(getattr(self, name) for name in counts)):
            raise ValueError(
                "no negatives: give same_time, or a number for from_sequence, from_speaker or from_batch"
            )
        if self.whole_batch and (self.side == "predictions" or self.exclude_own):
            raise ValueError(
                "whole_batch takes every latent code of the batch: use side 'targets' and no "
                "exclude_own, or numbers of negatives in its place"
            )
        if self.times == "one" and self.side == "predictions" and not self.same_time and not self.reaches_others:
            raise ValueError("one time of one utterance has no other prediction: give same_time, or times=all")

    @property
    def reaches_others(self) -> bool:
        return bool(self.from_speaker or self.from_batch)


@dataclass(frozen=True)
class Outcome:
    """InfoNCE loss and its components; `step` counts the steps ahead."""

    loss: Float[Tensor, ""]
    losses: Float[Tensor, " step"]
    accuracies: Float[Tensor, " step"]
    """Fractions of the pairs that score higher than all their negatives."""
    chance: Float[Tensor, ""]
    """The loss if all scores were equal."""
    pair_losses: Float[Tensor, "clip time step"]
    """The loss of each pair; 0 where there is no target or no negative."""


def draw_time(
    config: ContrastConfig, frames: Int[Tensor, " clip"], steps_ahead: int, generator: torch.Generator
) -> int | None:
    """Random time that predicts if times is "one", else None; with same_time, at least two utterances reach it."""
    if config.times != "one":
        return None
    longest = int(frames.sort(descending=True).values[: 2 if config.same_time else 1][-1])
    device = generator.device
    return int(torch.randint(max(1, longest - steps_ahead), (), generator=generator, device=device))


def contrast(
    predictions: Predictions,
    latents: Float[Tensor, "clip frame code"],
    frames: Int[Tensor, " clip"],
    config: ContrastConfig,
    generator: torch.Generator,
    start: int = 0,
    speakers: Float[Tensor, " clip"] | None = None,
    alike: Bool[Tensor, "clip frame clip frame"] | None = None,
) -> Outcome:
    """InfoNCE loss of predictions from the contexts at `start` onwards; `frames` is the length of each clip
    without padding. Prediction `k` of a context is of the frame `k + 1` after it; with a `start` of −1, the first
    is of the context's own frame. With `whole_batch`, frames marked `alike` the target are no negatives."""
    with torch.autocast(latents.device.type, enabled=False):
        real = real_pairs(predictions, frames, start, common=config.times == "common")
        predictions, latents = scaled(predictions, wide(latents), config)
        targets = followers(latents, start, *predictions.shape[1:3])
        own, negatives = None, []
        if config.same_time:
            there = real_pairs(predictions, frames, start, common=False)
            own, others = at_the_same_time(predictions, targets, there, config.side)
            negatives.append(others)
        if config.whole_batch:
            negatives.append(every_frame(predictions, latents, frames, start, alike))
        for pool in pools(config, len(latents), latents.device, speakers):
            if config.side == "targets":
                negatives.append(negative_codes(wide(predictions), latents, frames, start, pool, generator))
            else:
                negatives.append(negative_predictions(targets, predictions, frames, start, pool, generator))
        if own is None:
            pairs = zip(predictions.unbind(2), targets, strict=True)
            own = torch.stack([(wide(prediction) * target).sum(-1) for prediction, target in pairs], 2)
        return summarise(own, torch.cat(negatives, -1), real)


def scaled(predictions: Predictions, latents: Tensor, config: ContrastConfig) -> tuple[Tensor, Tensor]:
    """Predictions and latent codes scaled so that their dot product is the score."""
    if config.score == "cosine":
        predictions, latents = (
            functional.normalize(wide(predictions), dim=-1),
            functional.normalize(latents, dim=-1),
        )
    factor = (1 / predictions.shape[-1] if config.score == "mean" else 1.0) / config.temperature
    # The smaller of the two tensors is multiplied.
    return predictions, latents if factor == 1 else latents * factor


def followers(latents: Float[Tensor, "clip frame code"], start: int, times: int, steps: int) -> list[Tensor]:
    """Targets of the predictions for each step ahead, as (clip, time, code); zeros beyond the last frame."""
    ample = functional.pad(latents, (0, 0, 0, max(0, start + times + steps - latents.shape[1])))
    return [ample[:, start + step : start + step + times] for step in range(1, steps + 1)]


def real_pairs(
    predictions: Predictions, frames: Int[Tensor, " clip"], start: int, common: bool
) -> Bool[Tensor, "clip time step"]:
    """Mask of predictions with a target; if `common`, only of contexts with a target at every step ahead."""
    time = torch.arange(predictions.shape[1], device=frames.device) + start
    ahead = torch.arange(predictions.shape[2], device=frames.device) + 1
    target = rearrange(time, "time -> time 1") + (ahead[-1:] if common else ahead)
    return (target < rearrange(frames, "clip -> clip 1 1")).expand(predictions.shape[:3])


def at_the_same_time(
    predictions: Predictions, targets: list[Tensor], there: Bool[Tensor, "clip time step"], side: str
) -> tuple[Float[Tensor, "clip time step"], Scores]:
    """Scores of the positive pairs, and of those with the other utterances; −∞ where there is none."""
    own, negatives = [], []
    itself = torch.eye(len(there), dtype=torch.bool, device=there.device)
    # Step by step, while the converted operands are still in the cache.
    for prediction, target, real in zip(predictions.unbind(2), targets, there.unbind(2), strict=True):
        anchors, others = (wide(prediction), target) if side == "targets" else (target, wide(prediction))
        scores = torch.bmm(
            rearrange(anchors, "clip time code -> time clip code"),
            rearrange(others, "other time code -> time code other"),
        )
        own.append(rearrange(scores.diagonal(dim1=1, dim2=2), "time clip -> clip time"))
        absent = ~rearrange(real, "other time -> time 1 other") | itself
        negatives.append(rearrange(scores.masked_fill(absent, -torch.inf), "time clip other -> clip time other"))
    return torch.stack(own, 2), torch.stack(negatives, 2)


@dataclass(frozen=True)
class Pool:
    """Utterances from which negatives are sampled."""

    members: Bool[Tensor, "clip other"]
    """Mask of the utterances from which the negatives of each utterance may come."""
    count: int
    together: bool


def pools(
    config: ContrastConfig, clips: int, device: torch.device, speakers: Float[Tensor, " clip"] | None
) -> list[Pool]:
    own, together = torch.eye(clips, dtype=torch.bool, device=device), config.drawn == "together"
    found = [Pool(own, config.from_sequence, together)]
    if config.from_speaker:
        if speakers is None:
            raise ValueError("negatives from the same speaker need `speaker`: give the factor that is the speaker")
        alike = rearrange(speakers, "clip -> clip 1") == speakers
        found.append(Pool(alike & ~own if config.exclude_own else alike, config.from_speaker, together))
    found.append(Pool(~own if config.exclude_own else torch.ones_like(own), config.from_batch, together))
    return [pool for pool in found if pool.count]


def every_frame(
    predictions: Predictions,
    latents: Float[Tensor, "clip frame code"],
    frames: Int[Tensor, " clip"],
    start: int,
    alike: Bool[Tensor, "clip frame clip frame"] | None,
) -> Scores:
    """Scores of the predictions with every latent code of the batch as a negative."""
    places = latents.shape[1]
    scores = wide(predictions) @ rearrange(latents, "other frame code -> code (other frame)")
    index = torch.arange(scores.shape[-1], device=scores.device).expand(len(scores), -1)
    positive = positives(predictions, places, start)
    found = without(scores, index, sounding(places, frames).flatten().expand(len(scores), -1), positive)
    if alike is None:
        return found
    rows = rearrange(alike, "clip frame other place -> (clip frame) (other place)")
    # Beyond the last frame there is no pair, and the choice of row has no effect.
    return found.masked_fill(rows[positive[..., 0].clamp(max=len(rows) - 1)], -torch.inf)


def positives(predictions: Predictions, places: int, start: int) -> Int[Tensor, "clip time step 1"]:
    """Index of the target frame of each pair, among the frames of all utterances."""
    clip, time, step = (torch.arange(n, device=predictions.device) for n in predictions.shape[:3])
    return clip[:, None, None, None] * places + start + time[:, None, None] + 1 + step[:, None]


def negative_codes(
    predictions: Predictions,
    latents: Float[Tensor, "clip frame code"],
    frames: Int[Tensor, " clip"],
    start: int,
    pool: Pool,
    generator: torch.Generator,
) -> Scores:
    """Scores of the predictions with latent codes from a pool; all steps ahead share the same codes."""
    places = latents.shape[1]
    index, there = draw(pool, sounding(places, frames), predictions.shape[1], generator)
    # The gradient of an embedding is faster than that of indexing.
    codes = functional.embedding(index, latents.flatten(0, 1))
    shape = "clip negative code" if pool.together else "clip time negative code"
    scores = einsum(predictions, codes, f"clip time step code, {shape} -> clip time step negative")
    return without(scores, index, there, positives(predictions, places, start))


def negative_predictions(
    targets: list[Tensor],
    predictions: Predictions,
    frames: Int[Tensor, " clip"],
    start: int,
    pool: Pool,
    generator: torch.Generator,
) -> Scores:
    """Scores of the target codes with predictions from a pool, at the same step ahead."""
    clips, times = predictions.shape[:2]
    index, there = draw(pool, sounding(times, (frames - start).clamp(min=0)), times, generator)
    shape = "clip negative code" if pool.together else "clip time negative code"
    scores = [
        einsum(
            target,
            functional.embedding(index, wide(prediction).flatten(0, 1)),
            f"clip time code, {shape} -> clip time negative",
        )
        for target, prediction in zip(targets, predictions.unbind(2), strict=True)
    ]
    own = torch.arange(clips * times, device=index.device).view(clips, times, 1, 1)
    return without(torch.stack(scores, 2), index, there, own)


def without(
    scores: Scores,
    index: Int[Tensor, "clip *time negative"],
    there: Bool[Tensor, "clip *time negative"],
    own: Tensor,
) -> Scores:
    """Scores with −∞ where a negative is absent, or is the positive itself."""
    if index.ndim == 2:
        index, there = index[:, None], there[:, None]
    return scores.masked_fill((index[:, :, None] == own) | ~there[:, :, None], -torch.inf)


def draw(
    pool: Pool, inside: Bool[Tensor, "other frame"], times: int, generator: torch.Generator
) -> tuple[Int[Tensor, "clip *time negative"], Bool[Tensor, "clip *time negative"]]:
    """Indices, over the frames of all utterances, drawn from each utterance's pool, and which are valid."""
    allowed = rearrange(pool.members[:, :, None] & inside, "clip other frame -> clip (other frame)")
    clips, places = allowed.shape
    if pool.together:
        lots = torch.rand(clips, places, generator=generator, device=allowed.device).masked_fill(~allowed, -1)
        highest, index = lots.topk(min(pool.count, places))
        return index, highest >= 0
    numbers = allowed.sum(1)
    order = allowed.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    lots = torch.rand(clips, times * pool.count, generator=generator, device=allowed.device, dtype=torch.float64)
    last = (numbers - 1).clamp(min=0)[:, None]
    chosen = order.gather(1, (lots * numbers[:, None]).long().minimum(last))
    there = (numbers > 0)[:, None, None].expand(clips, times, pool.count)
    return rearrange(chosen, "clip (time negative) -> clip time negative", time=times), there


def summarise(
    own: Float[Tensor, "clip time step"], negatives: Scores, real: Bool[Tensor, "clip time step"]
) -> Outcome:
    """Averages over the pairs of each step ahead with a negative, then over the steps with such pairs."""
    numbers = (negatives > -torch.inf).sum(-1)
    counted = real & (numbers > 0)
    counts = counted.sum((0, 1))
    within = counts.clamp(min=1)
    pair_losses = (torch.cat([own[..., None], negatives], -1).logsumexp(-1) - own).masked_fill(~counted, 0)
    losses = pair_losses.sum((0, 1)) / within
    won = counted & (own > negatives.amax(-1))
    chances = numbers.add(1).to(own.dtype).log().masked_fill(~counted, 0).sum((0, 1)) / within
    steps = (counts > 0).sum().clamp(min=1)
    accuracies = won.sum((0, 1)) / within
    return Outcome(losses.sum() / steps, losses, accuracies, chances.sum() / steps, pair_losses)
