"""Base class of token models: a token front end, the actions that produce the tokens, and a burn-in."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.features.tokens import CodeTokens, LogMelTokens, TokensConfig
from sonarium.features.waveform import sounding
from sonarium.models.actions import Actions, parsed
from sonarium.models.contract import Decoder, FeatureLearner, Forecaster, Learner
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.training.contract import ClipSource, Engine, Source
from sonarium.worlds.contract import Batch, Signal

DECAY = ScheduleConfig("cosine", warmup_steps=100)
"""Learning-rate schedule of the presets: as states settle, the networks trained on them catch up."""


@runtime_checkable
class TokenModelConfig(Protocol):
    @property
    def actions(self) -> tuple[str, ...]: ...
    @property
    def action_dropout(self) -> float: ...
    @property
    def burn_in(self) -> int: ...
    @property
    def adam(self) -> AdamConfig: ...
    @property
    def schedule(self) -> ScheduleConfig: ...
    @property
    def front(self) -> TokensConfig: ...


Config = TypeVar("Config", bound=TokenModelConfig)


class TokenModel(Learner, FeatureLearner, Forecaster, Decoder, ABC, Generic[Config]):
    front: LogMelTokens | CodeTokens
    updates: Tensor
    optimiser: torch.optim.Optimizer
    state_width: int
    """Dimension of a state. Subclasses set this and `optimiser`."""

    def __init__(self, config: Config, signal: Signal):
        super().__init__()
        self.config, self.signal, self.burn_in = config, signal, config.burn_in
        self.front = config.front.build(signal)
        self.code_rate, self.code_first = self.front.token_rate, self.front.token_first
        tokens = signal.shape[0] // self.front.shortest
        if tokens < config.burn_in + 2:
            raise ValueError(
                f"pieces of {signal.shape[0]} {'samples' if signal.kind == 'wave' else 'frames'} make {tokens} "
                f"token(s), too few for a burn_in of {config.burn_in} and two to learn from: use longer pieces, "
                "shorter tokens, or a smaller burn_in"
            )
        self.actions = Actions(parsed(config.actions), self.code_rate)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def check(self, source: Source) -> Sequence[str]:
        """Refuse a source whose clips are all too short to learn from; remark on some that are."""
        if not isinstance(source, ClipSource):
            raise ValueError(
                f"a model of tokens trains on clips of sound or codes, but {type(source).__name__} gives "
                f"{source.unit}: give a world of sound"
            )
        lengths = source.world.lengths(source.index.unique()).clamp(max=self.signal.shape[0])
        short = int((self.code_lengths(lengths) < self.burn_in + 2).sum())
        least = (self.burn_in + 2) / self.code_rate
        if short == len(lengths):
            raise ValueError(
                f"all {short} training clips are shorter than {least:.3g} s, a burn-in of {self.burn_in} and two "
                "tokens: use longer clips, shorter tokens, or a smaller --burn-in"
            )
        said = f"{short} of {len(lengths)} training clips are shorter than {least:.3g} s and add little or no loss"
        return [said] * bool(short)

    def prepare(self, source: Source, engine: Engine) -> None:
        tokens = self.signal.shape[0] // self.front.shortest
        self.front.fit_batches(self.actions.see(source.preview(engine.progress), tokens, self.token_counts))

    def restart(self) -> None:
        self.updates.zero_()

    def set_learning_rate(self, optimiser: torch.optim.Optimizer) -> None:
        """Set the scheduled learning rate of this update."""
        for group in optimiser.param_groups:
            group["lr"] = self.config.adam.learning_rate * self.config.schedule.fraction(int(self.updates))

    def features(self, batch: Batch) -> Float[Tensor, "clip *feature"]:
        return self.measured(batch.signal, batch.lengths) if batch.features is None else batch.features

    def measured(self, signal: Tensor, lengths: Tensor | None) -> Float[Tensor, "clip *feature"]:
        """Front-end features of the signal, set to 0 beyond each clip's length."""
        if lengths is not None:
            inside = sounding(signal.shape[1], lengths)
            signal = signal.where(inside.view(*inside.shape, *[1] * (signal.ndim - 2)), 0)
        return self.front(signal)

    def tokens(self, signal: Tensor, lengths: Tensor | None = None) -> Float[Tensor, "clip token number"]:
        return self.front.tokens(self.measured(signal, lengths))

    def token_counts(self, data: Batch, count: int) -> Int[Tensor, " clip"]:
        """Number of tokens of each clip of a batch."""
        if data.lengths is None:
            return torch.full((len(data.index),), count, device=data.index.device)
        return self.code_lengths(data.lengths).clamp(max=count)

    def acted(self, data: Batch, tokens: int, engine: Engine) -> Float[Tensor, "clip token action"]:
        """Actions of a batch, with dropout of all actions of a clip."""
        actions, dropout = self.actions(data, tokens), self.config.action_dropout
        if not self.actions.width or not dropout:
            return actions
        clips, device = len(actions) * engine.ranks, engine.generator.device
        drawn = engine.share(torch.rand(clips, generator=engine.generator, device=device)).to(actions.device)
        return actions.masked_fill((drawn < dropout)[:, None, None], 0)

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Number of whole tokens of clips of these lengths."""
        return self.front.counts(lengths)

    @abstractmethod
    def encode(
        self,
        signal: Float[Tensor, "clip time *rest"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
        code: Any = None,
        actions: Float[Tensor, "clip token action"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """Codes at `code_rate`: the part of the state named `code`, by default that of the configuration; zeros
        beyond the `code_lengths` of clips where lengths are given. `actions` are in the encoding of `Actions`,
        unknown by default; `power` is not used."""

    def states(
        self,
        signal: Float[Tensor, "clip time *rest"],
        *,
        actions: Float[Tensor, "clip token action"] | None = None,
    ) -> Float[Tensor, "clip token code"]:
        """The part `feature` of the state of each token."""
        return self.encode(signal, code="feature", actions=actions)

    def encode_part(
        self, signal: Float[Tensor, "clip time *rest"], lengths: Int[Tensor, " clip"] | None, part: str
    ) -> Float[Tensor, "clip frame code"]:
        if part not in self.part_names:
            return super().encode_part(signal, lengths, part)
        return self.encode(signal, lengths, code=part)

    def checked(self, codes: Float[Tensor, "clip frame code"]) -> Float[Tensor, "clip frame code"]:
        """The codes unchanged; ValueError unless they have the dimension of states."""
        if codes.shape[2] != self.state_width:
            raise ValueError(
                f"codes of {codes.shape[2]} numbers are no states: give those of code feature, {self.state_width} "
                "numbers"
            )
        return codes

    def alone(
        self, codes: Float[Tensor, "clip token code"], lengths: Int[Tensor, " clip"] | None
    ) -> Float[Tensor, "clip frame code"]:
        """Codes cut to the longest clip, zeros beyond each clip's length."""
        if lengths is None:
            return codes
        own = self.code_lengths(lengths)
        count = int(own.max()) if len(own) else 0
        return codes[:, :count].where(sounding(count, own)[..., None], 0)

    def check_future(self, states: Tensor, frames: int, samples: int, actions: Tensor | None) -> Tensor:
        """Validated actions of past and future frames, unknown unless given."""
        if frames < 1 or samples < 1:
            raise ValueError(f"got frames={frames}, samples={samples}: give at least 1 of each")
        clips, past = states.shape[:2]
        if not past:
            raise ValueError("there is no state to go on from: give sound of at least one token")
        if actions is None:
            return self.actions.unknown(clips, past + frames)
        wanted = (clips, past + frames, self.actions.width)
        if actions.shape != wanted:
            raise ValueError(
                f"actions of shape {tuple(actions.shape)}: give {wanted}, for each clip those of {past} tokens of "
                f"the past and {frames} to come, as `actions` of the model makes them"
            )
        return actions
