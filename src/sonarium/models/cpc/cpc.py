"""Contrastive predictive coding (van den Oord et al. 2018, arXiv 1807.03748).

    z = encoder(wave)    c_t = context(z_1 … z_t)    p_k(c_t) predicts z_{t+k}
    minimise the InfoNCE loss of the predictions (`models/contrast.py`)

This file has the configuration, the predictors p_k, and the learner; the encoder is in `encoder.py`, the context
network in `context.py`. Every variant is a configuration of this learner; published ones are in `presets.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonarium.config import Range, check_ranges
from sonarium.features.waveform import Waveform, WaveformConfig, sounding
from sonarium.models.contract import FeatureLearner, FrameEncoder, Learner
from sonarium.models.contrast import ContrastConfig, Outcome, contrast, draw_time
from sonarium.models.cpc.context import CausalLayer, Context, ContextConfig, check_heads
from sonarium.models.cpc.encoder import Encoder, EncoderConfig
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.training.contract import ClipSource, Engine, Source, Stateful
from sonarium.worlds.contract import UNKNOWN, Batch, Signal, World

Code = Literal["context", "latent"]
HEADS, HIDDEN = 8, 2048
"""Attention heads and hidden units of the feed-forward layer of CPC_audio's transformer predictors."""


@dataclass(frozen=True)
class PredictorConfig:
    form: Literal["linear", "mlp", "transformer"] = "linear"
    """Predictor: linear (one matrix), mlp (two with a ReLU between), or transformer (one causal layer)."""
    steps_ahead: Annotated[int, Range(1, 1024)] = 12
    """Prediction horizon in frames: frames 1 to N ahead are predicted."""
    predictor_bias: bool = False
    """Use a bias in linear predictors."""
    units: Annotated[int, Range(1, 2**16)] = 256
    """Hidden units of an mlp predictor."""
    span: Annotated[int, Range(1, 2**16)] = 116
    """Maximum relative position of a transformer predictor in frames, to which larger ones are clipped."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class CPCConfig:
    code: Code = "context"
    """Codes returned by `encode`: context (of all frames so far) or latent (of each frame alone)."""
    speaker: int | str | None = None
    """Speaker label, for negatives from the same speaker: its name, or its index from 0."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    context: ContextConfig = field(default_factory=ContextConfig)
    predictors: PredictorConfig = field(default_factory=PredictorConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    adam: AdamConfig = field(default_factory=AdamConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    front: WaveformConfig = field(default_factory=WaveformConfig)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.contrast.from_speaker and self.speaker is None:
            raise ValueError(
                f"from_speaker={self.contrast.from_speaker}, but no `speaker`: give the label that is the speaker"
            )


def complete(config: CPCConfig, world: World, steps: int) -> CPCConfig:
    """Configuration with the index of the speaker label, and a cosine schedule that ends with the training."""
    config = replace(config, schedule=config.schedule.ending(steps))
    speaker = config.speaker
    if speaker is None:
        return config
    labels = {factor.name: at for at, factor in enumerate(world.factors) if factor.discrete}
    number = labels.get(speaker, speaker) if isinstance(speaker, str) else speaker
    if number not in labels.values():
        known = ", ".join(f"{name} ({at})" for name, at in labels.items())
        raise ValueError(
            f"--speaker {speaker}: the labels of these clips are {known or 'none'}; choose one of them"
        )
    return replace(config, speaker=number)


class Predictors(nn.Module):
    """Predictors of the next frames from contexts; all steps ahead in one matrix product where possible."""

    def __init__(self, config: PredictorConfig, context: int, code: int):
        super().__init__()
        self.steps_ahead, form = config.steps_ahead, config.form
        if form == "transformer":
            check_heads(context, HEADS, "width")
            self.layers = nn.ModuleList(
                nn.Sequential(
                    CausalLayer(context, HEADS, config.span, HIDDEN),
                    nn.Identity() if context == code else nn.Linear(context, code, bias=False),
                )
                for _ in range(config.steps_ahead)
            )
        elif form == "mlp":
            self.layers = nn.Sequential(nn.Linear(context, config.steps_ahead * config.units), nn.ReLU())
            bound = config.units**-0.5
            weight = torch.empty(config.steps_ahead, config.units, code)
            self.weight = nn.Parameter(weight.uniform_(-bound, bound))
            self.bias = nn.Parameter(torch.zeros(config.steps_ahead, code))
        else:
            self.layers = nn.Linear(context, config.steps_ahead * code, bias=config.predictor_bias)

    def forward(
        self, context: Float[Tensor, "clip frame context"], last: bool = False
    ) -> Float[Tensor, "clip time step code"]:
        """One prediction per context and step ahead; with `last`, only those of the last context."""
        if isinstance(self.layers, nn.ModuleList):
            predictions = torch.stack([layer(context) for layer in self.layers], 2)
            return predictions[:, -1:] if last else predictions
        flat = self.layers(context[:, -1:] if last else context)
        by_step = rearrange(flat, "clip time (step unit) -> clip time step unit", step=self.steps_ahead)
        if isinstance(self.layers, nn.Linear):
            return by_step
        joined = einsum(by_step, self.weight, "clip time step unit, step unit code -> clip time step code")
        return joined + self.bias


class CPC(Learner, FeatureLearner, FrameEncoder):
    front: Waveform
    updates: Tensor

    def __init__(self, config: CPCConfig, signal: Signal):
        super().__init__()
        self.config, self.signal = config, signal
        self.front = config.front.build(signal)
        self.encoder = Encoder(config.encoder, self.front.rate)
        frames, steps_ahead = self.encoder.frames(signal.shape[0]), config.predictors.steps_ahead
        if frames <= steps_ahead:
            raise ValueError(
                f"clips of {signal.shape[0]} samples make {frames} frame(s), too few to predict {steps_ahead} "
                "ahead: use longer clips, smaller strides, or smaller steps_ahead"
            )
        ways = 1 + config.context.bidirectional
        self.contexts = nn.ModuleList(Context(config.context, self.encoder.width) for _ in range(ways))
        self.predictors = nn.ModuleList(
            Predictors(config.predictors, config.context.width, self.encoder.width) for _ in range(ways)
        )
        self.code_rate = self.front.rate / self.encoder.hop
        self.code_first = self.encoder.centre / self.front.rate
        self.minimum_batch_size = 2 if config.contrast.same_time or config.contrast.exclude_own else 1
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.optimiser = config.adam.build(self.parameters(), fused=True)

    def check(self, source: Source) -> Sequence[str]:
        """Refuse sources whose clips are all too short for a prediction, or some of whose clips have no
        speaker."""
        if not isinstance(source, ClipSource):
            raise ValueError(
                f"predictive coding trains on clips of sound, but {type(source).__name__} gives {source.unit}: "
                "give a world of sound"
            )
        return [*self.check_lengths(source), *self.check_speakers(source.world)]

    def check_lengths(self, source: ClipSource) -> Sequence[str]:
        lengths = source.world.lengths(source.index.unique()).clamp(max=self.signal.shape[0])
        short = int((self.code_lengths(lengths) < 2).sum())
        if short == len(lengths):
            raise ValueError(
                f"all {short} training clips are too short: a frame comes every {1 / self.code_rate:.3g} s, and a "
                "prediction needs two; use longer clips or smaller --strides"
            )
        return [f"{short} of {len(lengths)} training clips are too short for two frames and add no loss"] * bool(
            short
        )

    def check_speakers(self, world: World) -> Sequence[str]:
        """Refuse clips without a speaker label, which would count as those of one speaker."""
        column = self.config.speaker
        if not isinstance(column, int):
            return ()
        label = world.factors[column]
        if UNKNOWN in label.values:
            raise ValueError(
                f"--speaker {label.name}: some clips have no {label.name}, and would count as one speaker's; "
                "label them, or leave them out by a manifest"
            )
        return (f"negatives of the same speaker are clips with the same {label.name}",)

    def prepare(self, source: Source, engine: Engine) -> None:
        self.front.fit_batches(source.preview(engine.progress))

    def restart(self) -> None:
        self.updates.zero_()

    def parts(self) -> dict[str, Stateful]:
        return {"adam": self.optimiser}

    def features(self, batch: Batch) -> Float[Tensor, "clip time"]:
        return self.front(batch.signal, batch.lengths) if batch.features is None else batch.features

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.adam.learning_rate * self.config.schedule.fraction(int(self.updates))
        outcomes = self.outcomes(self.features(data), data.lengths, self.speakers(data), engine)
        loss = torch.stack([outcome.loss for outcome in outcomes]).mean()
        engine.descend(loss, self.optimiser)
        self.updates += 1
        accuracies = torch.stack([outcome.accuracies for outcome in outcomes]).mean(0)
        terms = {
            "contrast/loss": loss,
            "contrast/chance": outcomes[0].chance,
            "contrast/accuracy": accuracies.mean(),
            "contrast/accuracy_1": accuracies[0],
            f"contrast/accuracy_{len(accuracies)}": accuracies[-1],
        }
        return {name: value.detach() for name, value in terms.items()}

    def speakers(self, batch: Batch) -> Float[Tensor, " clip"] | None:
        column = self.config.speaker
        if column is None:
            return None
        if isinstance(column, str) or not 0 <= column < batch.factors.shape[1]:
            raise ValueError(
                f"speaker={column}, but the clips have {batch.factors.shape[1]} factor(s): give the number of the "
                "factor that is the speaker, 0 for the first"
            )
        return batch.factors[:, column]

    def outcomes(
        self,
        wave: Float[Tensor, "clip time"],
        lengths: Int[Tensor, " clip"] | None,
        speakers: Float[Tensor, " clip"] | None,
        engine: Engine,
    ) -> list[Outcome]:
        """Loss of each direction; negatives are sampled from the global batch."""
        config = self.config
        samples = torch.full((len(wave),), wave.shape[1], device=wave.device) if lengths is None else lengths
        frames = engine.gather(self.encoder.frames(samples))
        speakers = None if speakers is None else engine.gather(speakers)
        time = draw_time(config.contrast, frames, config.predictors.steps_ahead, engine.generator)
        found = []
        for way, (context, predictors) in enumerate(zip(self.contexts, self.predictors, strict=True)):
            with engine.autocast():
                latents = self.encoder(reversed_in_time(wave, lengths) if way else wave, lengths, engine)
                # A single time requires no contexts after it.
                contexts = context(latents if time is None else latents[:, : time + 1])
                predictions = predictors(contexts, last=time is not None)
            found.append(
                contrast(
                    engine.gather(predictions),
                    engine.gather(latents),
                    frames,
                    config.contrast,
                    engine.generator,
                    time or 0,
                    speakers,
                )
            )
        return found

    @torch.no_grad()
    def encode(
        self,
        signal: Float[Tensor, "clip time"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
        code: Code | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """Codes at `code_rate`; zeros beyond the `code_lengths` of clips that have lengths.

        `power` is the mean square of the whole sound that a clip is part of, if that is to set its level.
        """
        if self.encoder.frames(signal.shape[1]) < 1:
            raise ValueError(f"{signal.shape[1]} samples are too few for a frame: give longer sound")
        training = self.training
        self.eval()
        try:
            return self.codes(self.front(signal, lengths, power), lengths, code or self.config.code)
        finally:
            self.train(training)

    def codes(
        self, wave: Float[Tensor, "clip time"], lengths: Int[Tensor, " clip"] | None, code: Code
    ) -> Float[Tensor, "clip frame code"]:
        latents = self.encoder(wave, lengths)
        if code == "latent":
            return latents
        frames = None if lengths is None else self.encoder.frames(lengths)
        contexts = [self.contexts[0](latents)]
        if self.config.context.bidirectional:
            backwards = self.contexts[1](self.encoder(reversed_in_time(wave, lengths), lengths))
            contexts.append(reversed_in_time(backwards, frames))
        made = torch.cat(contexts, -1)
        if frames is None:
            return made
        return made * rearrange(sounding(made.shape[1], frames), "clip frame -> clip frame 1")

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Number of frames of clips of these lengths in samples."""
        return self.encoder.frames(lengths)


def reversed_in_time(
    sequence: Float[Tensor, "clip time *rest"], lengths: Int[Tensor, " clip"] | None
) -> Float[Tensor, "clip time *rest"]:
    """Clips reversed in time; padding stays at the end."""
    if lengths is None:
        return sequence.flip(1)
    time = torch.arange(sequence.shape[1], device=sequence.device)
    mirrored = rearrange(lengths, "clip -> clip 1") - 1 - time
    index = torch.where(mirrored >= 0, mirrored, time)
    return sequence[torch.arange(len(sequence), device=sequence.device)[:, None], index]
