"""Contrastive predictive coding (van den Oord et al. 2018, arXiv 1807.03748): to tell the sound that comes next.

    z = encoder(wave)    c_t = context(z_1 … z_t)    guess_k(c_t) ≈ z_{t+k}, judged by `contrast.py`

Every variant is this learner with another configuration; `cpc_presets.py` has those that were published.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonarium.features.waveform import Waveform, WaveformConfig, sounding
from sonarium.models.contract import Engine, Learner
from sonarium.models.contrast import ContrastConfig, Outcome, contrast, draw_time
from sonarium.models.cpc.context import Context, ContextConfig
from sonarium.models.cpc.predictors import PredictorConfig, Predictors
from sonarium.models.cpc.strided import Encoder, EncoderConfig
from sonarium.models.schedule import ScheduleConfig, share
from sonarium.worlds.contract import Batch, Signal

Code = Literal["context", "latent"]


@dataclass(frozen=True)
class AdamConfig:
    learning_rate: float = 1e-3
    """Learning rate of Adam, at the highest point of its schedule."""
    second_moment: float = 0.999
    """How slowly the mean of squared gradients forgets."""
    epsilon: float = 1e-8
    """Added to the root of that mean."""
    weight_decay: float = 0.0
    """How strongly weights are drawn to zero, through the gradient."""
    amsgrad: bool = False
    """Whether the mean of squared gradients counts at its highest so far (Reddi et al. 2018)."""

    def __post_init__(self) -> None:
        demands = [
            ("learning_rate", 0 < self.learning_rate < math.inf, "a positive number, such as 0.001"),
            ("second_moment", 0 <= self.second_moment < 1, "a number from 0 to below 1, such as 0.999"),
            ("epsilon", 0 < self.epsilon < math.inf, "a positive number, such as 1e-8"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "a number of at least 0"),
        ]
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name}={getattr(self, name)}: give {expected}")


@dataclass(frozen=True)
class CPCConfig:
    code: Code = "context"
    """What `encode` gives: context (what has been heard so far) or latent (what each frame is)."""
    speaker: int | str | None = None
    """The label that tells who speaks, for negatives from the same speaker: its name, or its number from 0."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    context: ContextConfig = field(default_factory=ContextConfig)
    predictors: PredictorConfig = field(default_factory=PredictorConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    adam: AdamConfig = field(default_factory=AdamConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    front: WaveformConfig = field(default_factory=WaveformConfig)

    def __post_init__(self) -> None:
        if self.code not in ("context", "latent"):
            raise ValueError(f"code={self.code!r}: give context or latent")
        if self.contrast.from_speaker and self.speaker is None:
            raise ValueError(
                f"from_speaker={self.contrast.from_speaker}, but no `speaker`: give the label that tells who "
                "speaks"
            )


class CPC(Learner):
    capabilities: ClassVar = ("encode",)
    front: Waveform

    def __init__(self, config: CPCConfig, signal: Signal):
        super().__init__()
        self.config, self.signal = config, signal
        self.front = Waveform(config.front, signal)
        self.encoder = Encoder(config.encoder, self.front.rate)
        ways = 1 + config.context.both_ways
        self.contexts = nn.ModuleList(Context(config.context, self.encoder.width) for _ in range(ways))
        self.predictors = nn.ModuleList(
            Predictors(config.predictors, config.context.width, self.encoder.width) for _ in range(ways)
        )
        self.code_rate = self.front.rate / self.encoder.hop
        self.code_first = self.encoder.centre / self.front.rate
        self.least_batch = 2 if config.contrast.same_time or config.contrast.but_own else 1
        self.check(signal.shape[0])
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.optimiser = torch.optim.Adam(
            self.parameters(),
            config.adam.learning_rate,
            (0.9, config.adam.second_moment),
            config.adam.epsilon,
            config.adam.weight_decay,
            config.adam.amsgrad,
            fused=True,
        )

    def check(self, samples: int) -> None:
        frames, ahead = self.encoder.frames(samples), self.config.predictors.ahead
        if frames <= ahead:
            raise ValueError(
                f"clips of {samples} samples make {frames} frame(s), which leaves nothing to guess {ahead} ahead: "
                "use longer clips, smaller strides, or a smaller ahead"
            )

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"adam": self.optimiser}

    def features(self, batch: Batch) -> Float[Tensor, "clip time"]:
        return self.front(batch.signal, batch.lengths) if batch.features is None else batch.features

    def update(self, batch: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.adam.learning_rate * share(self.config.schedule, int(self.updates))
        outcomes = self.outcomes(self.features(batch), batch.lengths, self.speakers(batch), engine)
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
                f"speaker={column}, but the clips come with {batch.factors.shape[1]} factor(s): "
                "give the number of the factor that tells who speaks, 0 for the first"
            )
        return batch.factors[:, column]

    def outcomes(
        self,
        wave: Float[Tensor, "clip time"],
        lengths: Int[Tensor, " clip"] | None,
        speakers: Float[Tensor, " clip"] | None,
        engine: Engine,
    ) -> list[Outcome]:
        """One contest; two where the sound is also heard from its end."""
        config = self.config
        samples = torch.full((len(wave),), wave.shape[1], device=wave.device) if lengths is None else lengths
        frames = self.encoder.frames(samples)
        time = draw_time(config.contrast, frames, config.predictors.ahead, engine.generator)
        found = []
        for way, (context, predictors) in enumerate(zip(self.contexts, self.predictors, strict=True)):
            with engine.autocast():
                latents = self.encoder(turned(wave, lengths) if way else wave, lengths)
                # A single guess needs no context of what comes after it.
                heard = context(latents if time is None else latents[:, : time + 1])
                guesses = predictors(heard, last=time is not None)
            found.append(
                contrast(guesses, latents, frames, config.contrast, engine.generator, time or 0, speakers)
            )
        return found

    @torch.no_grad()
    def encode(
        self,
        wave: Float[Tensor, "clip time"],
        lengths: Int[Tensor, " clip"] | None = None,
        code: Code | None = None,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """Codes at `code_rate`; zeros beyond the `code_lengths` of clips that have lengths.

        `power` is the mean square of what the clips are parts of, where that should set their level.
        """
        if self.encoder.frames(wave.shape[1]) < 1:
            raise ValueError(f"{wave.shape[1]} samples are too few for a frame: give longer sound")
        learning = self.training
        self.eval()
        try:
            return self.codes(self.front(wave, lengths, power), lengths, code or self.config.code)
        finally:
            self.train(learning)

    def codes(
        self, heard: Float[Tensor, "clip time"], lengths: Int[Tensor, " clip"] | None, code: Code
    ) -> Float[Tensor, "clip frame code"]:
        latents = self.encoder(heard, lengths)
        if code == "latent":
            return latents
        frames = None if lengths is None else self.encoder.frames(lengths)
        contexts = [self.contexts[0](latents)]
        if self.config.context.both_ways:
            backwards = self.contexts[1](self.encoder(turned(heard, lengths), lengths))
            contexts.append(turned(backwards, frames))
        made = torch.cat(contexts, -1)
        if frames is None:
            return made
        return made * rearrange(sounding(made.shape[1], frames), "clip frame -> clip frame 1")

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Frames of each clip that are sound."""
        return self.encoder.frames(lengths)


def turned(sequence: Float[Tensor, "clip time *rest"], lengths: Int[Tensor, " clip"] | None) -> Tensor:
    """Each clip from its end to its beginning, what lies beyond its end left there."""
    if lengths is None:
        return sequence.flip(1)
    time = torch.arange(sequence.shape[1], device=sequence.device)
    mirrored = rearrange(lengths, "clip -> clip 1") - 1 - time
    index = torch.where(mirrored >= 0, mirrored, time)
    return sequence[torch.arange(len(sequence), device=sequence.device)[:, None], index]
