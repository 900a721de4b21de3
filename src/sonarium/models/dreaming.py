"""Dreaming: a world model of sound whose discrete state is learnt by contrast, without reconstruction (Okada and
Taniguchi 2020, arXiv 2007.14535; 2022, arXiv 2203.00494).

    e_t = encoder(x_t)      h, z of a recurrent state-space model (models/rssm.py)
    one view of a piece is the input, the tokens of another view are the targets of open-loop predictions of the
    state (models/objectives.py); on states without gradient, a decoder makes them audible, and a joint prior
    (models/nade.py) learns the distribution of the next state, from which futures are sampled

Tokens (`features/tokens.py`) are slices of a log-mel spectrogram, or codes of another run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.features.tokens import VOICES, Draws, LogMelTokens, TokensConfig, ViewsConfig
from sonarium.models.actions import Actions, completed, parsed
from sonarium.models.blocks import wide
from sonarium.models.contract import Forecast, ModelEntry, Recipe
from sonarium.models.latent import Categorical
from sonarium.models.nade import NADE
from sonarium.models.objectives import (
    OBJECTIVES,
    ObjectiveConfig,
    Observed,
    alike,
    kl,
    mean_over,
    most_likely,
    pairs_alike,
    remarks_of,
    token_error,
)
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.models.rssm import RSSM, DynamicsConfig, Rollout
from sonarium.models.tokens import DECAY, TokenModel
from sonarium.training.contract import Engine, Source, Stateful
from sonarium.worlds.contract import Batch, Signal, SignalKind, World

Code = Literal["feature", "state", "latent", "embedding"]
CODES: tuple[Code, ...] = get_args(Code)
Gradient = Literal["off", "frozen", "live"]
ENDS = "ends/share"
"""Name of the metric that is the fraction of pieces known to contain the end of their clip."""
NO_ENDS = (
    "no piece is known to hold the end of its clip, so that --ends learns nothing: give longer --seconds than the "
    "clips have, or --cut whole with clips of unlike lengths"
)


@dataclass(frozen=True)
class HeadsConfig:
    decoder: Gradient = "frozen"
    """Token decoder: off, frozen (on states without gradient), or live (its gradient also trains the states,
    always so with objective reconstruction or twister)."""
    reward: str = ""
    """Track or label of the world that a reward head predicts; none by default."""
    ends: bool = False
    """Train a continuation head, which predicts whether the clip goes on after a token."""
    live_heads: bool = False
    """Let the gradients of the reward and continuation heads also train the states."""
    joint_prior: bool = True
    """Sample futures of categorical states from a joint prior, trained on frozen states, instead of the prior of
    the objective, whose variables are independent."""
    joint_views: bool = False
    """Train the joint prior on the states of augmented sound (the input view) instead of unaugmented sound, so
    that it does not memorise recordings of only a few minutes."""
    joint_units: Annotated[int, Range(1, 2**13)] = 128
    """Hidden units of the joint prior."""
    joint_learning_rate: Annotated[float, Range(0, above=True)] = 1e-2
    """Learning rate of the joint prior, which tracks changing states; its schedule is the square root of that of
    the model."""
    units: Annotated[int, Range(1, 2**13)] = 256
    """Hidden units of the other heads."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class DreamingConfig:
    code: Code = "feature"
    """Codes returned by `encode`: feature ([h, z]), state (h), latent (z), or embedding (of each token alone)."""
    actions: tuple[str, ...] = ()
    """Actions that condition each token: names of tracks and labels of the world, `elapsed` for the time since the
    beginning of the piece; none by default."""
    action_dropout: Annotated[float, Range(0, 1, below=True)] = 0.2
    """Action dropout: fraction of clips whose actions are hidden, so that sound can be encoded and forecast
    without any."""
    burn_in: Annotated[int, Range(0, 2**12)] = 4
    """Burn-in tokens at the beginning of a piece, which have no loss and no gradient."""
    embedding: Annotated[int, Range(1, 2**13)] = 256
    """Dimension of the token embedding."""
    gradient_clip: Annotated[float, Range(0, above=True)] = 100.0
    """Gradient clipping norm."""
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    augmentation: ViewsConfig = field(default_factory=ViewsConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    adam: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=1e-3))
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(warmup_steps=100))
    front: TokensConfig = field(default_factory=TokensConfig)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.heads.joint_views and self.augmentation.views == 1:
            raise ValueError("joint_views=True, views=1: there is no augmented view; leave out one of the two")
        if self.heads.joint_views and not (self.heads.joint_prior and self.dynamics.latent == "categorical"):
            raise ValueError("joint_views=True: there is no joint prior; leave it out")


class Modes(NamedTuple):
    """States with each z the mode, without gradients."""

    clear: Rollout
    """Those of tokens without view augmentation."""
    learnt: Rollout
    """Those that the joint prior learns: the same, or with `joint_views` those of the input view."""


def complete(config: DreamingConfig, world: World, steps: int) -> DreamingConfig:
    """Configuration with actions and reward of this world, and a cosine schedule that ends with the training."""
    reward = completed([config.heads.reward], world, "--reward")[0] if config.heads.reward else ""
    return replace(
        config,
        actions=completed(config.actions, world),
        heads=replace(config.heads, reward=reward),
        schedule=config.schedule.ending(steps),
    )


def network(given: int, hidden: int, made: int) -> nn.Sequential:
    """Perceptron with one hidden layer, layer normalisation and ELU."""
    return nn.Sequential(nn.Linear(given, hidden), nn.LayerNorm(hidden), nn.ELU(), nn.Linear(hidden, made))


class Dreaming(TokenModel[DreamingConfig]):
    part_names = CODES

    def __init__(self, config: DreamingConfig, signal: Signal):
        super().__init__(config, signal)
        if config.augmentation.babble_db is not None:
            if not isinstance(self.front, LogMelTokens):
                raise ValueError("babble is of sound, not of codes: give none, or train on a world of sound")
            # Babble consists of other clips of the batch.
            self.minimum_batch_size = 2
        embedding, hidden = config.embedding, config.dynamics.hidden
        self.encoder = nn.Sequential(
            network(self.front.width, hidden, embedding), nn.LayerNorm(embedding), nn.ELU()
        )
        self.dynamics = RSSM(config.dynamics, embedding, self.actions.width)
        latent = self.dynamics.latent
        self.entries = latent.classes if isinstance(latent, Categorical) else 0
        self.state_width = config.dynamics.deter + latent.size
        kind = OBJECTIVES[config.objective.objective]
        self.objective = kind(config.objective, self.dynamics, embedding, hidden)
        self.make_heads()
        self.optimiser = config.adam.build(self.trained(live=True), fused=True)
        frozen = self.trained(live=False)
        self.heads_optimiser = config.adam.build(frozen, fused=True) if frozen else None
        quick = replace(config.adam, learning_rate=config.heads.joint_learning_rate)
        self.joint_optimiser = None if self.joint is None else quick.build(self.joint.parameters(), fused=True)

    def make_heads(self) -> None:
        heads, number = self.config.heads, self.state_width
        decodes = self.objective.decodes or heads.decoder != "off"
        self.live_decoder = self.objective.decodes or heads.decoder == "live"
        self.decoder = network(number, heads.units, self.front.width) if decodes else None
        self.decodes = decodes
        self.wanted = Actions(parsed([heads.reward] if heads.reward else []), self.code_rate, flagged=False)
        self.reward = network(number, heads.units, self.wanted.width) if heads.reward else None
        self.goes_on = network(number, heads.units, 1) if heads.ends else None
        latent, deter = self.dynamics.latent, self.config.dynamics.deter
        self.joint = None
        if heads.joint_prior and isinstance(latent, Categorical):
            self.joint = NADE(deter, latent.variables, latent.classes, heads.joint_units)

    def heads(self, live: bool) -> list[nn.Module]:
        """Heads whose gradients reach the states if `live`, otherwise those whose gradients do not."""
        found = [self.decoder] if self.decoder is not None and self.live_decoder == live else []
        others = (self.reward, self.goes_on) if self.config.heads.live_heads == live else ()
        return [*found, *(head for head in others if head is not None)]

    def trained(self, live: bool) -> list[nn.Parameter]:
        """Parameters of one optimiser: heads on frozen states, or if `live` all others but the joint prior."""
        frozen = [weight for head in self.heads(live=False) for weight in head.parameters()]
        held = {id(weight) for weight in (*frozen, *([] if self.joint is None else self.joint.parameters()))}
        return [weight for weight in self.parameters() if id(weight) not in held] if live else frozen

    def prepare(self, source: Source, engine: Engine) -> None:
        tokens = self.signal.shape[0] // self.front.shortest
        batches = source.preview(engine.progress)
        seen = self.actions.see(batches, tokens, self.token_counts)
        self.front.fit_batches(self.wanted.see(seen, tokens, self.token_counts))

    def parts(self) -> dict[str, Stateful]:
        beside: dict[str, Stateful | None] = {"heads": self.heads_optimiser, "joint": self.joint_optimiser}
        return {"adam": self.optimiser} | {name: one for name, one in beside.items() if one is not None}

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        config = self.config
        for optimiser in (self.optimiser, self.heads_optimiser):
            if optimiser is not None:
                self.set_learning_rate(optimiser)
        observed, tokens, modes = self.observed(data, engine)
        loss, terms = self.objective(observed, self.dynamics, engine)
        rollout, latent, own = observed.rollout, self.dynamics.latent, config.objective
        divergence = mean_over(
            kl(latent, rollout.posterior, rollout.prior, own.kl_balance, own.free_nats), observed.inside, engine
        )
        loss = loss + own.kl_weight * divergence
        live, frozen = (self.head_losses(observed, modes, tokens, data, engine, one) for one in (True, False))
        total = loss + sum(live.values(), start=loss.new_zeros(()))
        engine.descend(total, self.optimiser, config.gradient_clip)
        if self.heads_optimiser is not None:
            engine.descend(torch.stack([*frozen.values()]).sum(), self.heads_optimiser, config.gradient_clip)
        if self.joint_optimiser is not None and modes is not None:
            frozen["loss/joint_prior"] = self.joint_loss(modes.learnt, observed.inside, engine)
            for group in self.joint_optimiser.param_groups:
                # Slower than the model's decay: only when the states have settled can the joint prior catch up.
                group["lr"] = config.heads.joint_learning_rate * config.schedule.fraction(int(self.updates)) ** 0.5
            engine.descend(frozen["loss/joint_prior"], self.joint_optimiser, config.gradient_clip)
        self.updates += 1
        with torch.no_grad():
            beside = {
                f"entropy/{name}": mean_over(latent.entropy(raw), observed.inside, engine)
                for name, raw in (("posterior", rollout.posterior), ("prior", rollout.prior))
            }
            if self.goes_on is not None:
                there = (observed.counts > 0) & (observed.counts < observed.target.shape[1])
                beside[ENDS] = engine.mean(there.to(total.dtype).mean())
        terms = {"loss/total": total, "kl/divergence": divergence, **terms, **live, **frozen, **beside}
        return {name: value.detach() for name, value in terms.items()}

    def remarks(self, metrics: Mapping[str, float]) -> Sequence[str]:
        return (*remarks_of(self.config.objective, metrics), *((NO_ENDS,) if metrics.get(ENDS) == 0 else ()))

    def observed(
        self, data: Batch, engine: Engine
    ) -> tuple[Observed, Float[Tensor, "clip token number"], Modes | None]:
        """After the burn-in: states and targets; tokens without view augmentation; and, if there is a joint prior,
        states with each z the mode, as it meets them in use."""
        config, clear = self.config, self.features(data)
        heard = self.in_babble(clear, engine)
        tokens = self.front.tokens(heard[0])
        count = tokens.shape[1]
        counts = self.token_counts(data, count)
        given, other = self.views(heard, counts, engine)
        burn, actions = config.burn_in, self.acted(data, count, engine)
        with engine.autocast():
            embedded = self.encoder(given)
            target = embedded if other is None else self.encoder(other)
            rollout, past = self.observe(embedded, actions, engine)
        # A whole clip may be shorter than a piece.
        missing = max(0, burn + 2 - count)
        if missing:
            tokens, given, target, actions = (
                functional.pad(one, (0, 0, 0, missing)) for one in (tokens, given, target, actions)
            )
        modes = None
        if self.joint is not None:
            with torch.no_grad(), engine.autocast():
                seen = (tokens, given) if config.heads.joint_views else (tokens,)
                found = [self.dynamics.observe(self.encoder(one), actions).since(burn) for one in seen]
            modes = Modes(found[0], found[-1])
        tokens, target = tokens[:, burn:], target[:, burn:]
        same = alike(engine.gather(tokens), config.objective.alike_below, self.front.slots)
        return Observed(rollout, target, (counts - burn).clamp(min=0), same, past), tokens, modes

    def in_babble(
        self, features: Float[Tensor, "clip *feature"], engine: Engine
    ) -> tuple[Float[Tensor, "clip *feature"], Float[Tensor, "clip *feature"]]:
        """Features for each of the two views, mixed with babble of other clips if configured."""
        config = self.config.augmentation
        lowest = config.babble_db
        if lowest is None:
            return features, features
        assert isinstance(self.front, LogMelTokens)
        everyone = engine.gather(features)
        if len(everyone) < 2:
            raise ValueError("babble is made of other clips of the batch: give a batch size of 2 or more")
        shape = (2, len(everyone), VOICES, 2)
        drawn = torch.rand(shape, generator=engine.generator, device=engine.generator.device).to(features)
        snr = features.new_full(shape[:2], lowest)
        if config.babble_up_to_db is not None:
            higher = torch.rand(shape[:2], generator=engine.generator, device=engine.generator.device)
            snr += (config.babble_up_to_db - lowest) * higher.to(snr)
        one, other = (
            self.front.in_babble(features, engine.share(self.front.babble(everyone, each)), engine.share(own))
            for each, own in zip(drawn, snr, strict=True)
        )
        return one, other

    def views(
        self,
        heard: tuple[Float[Tensor, "clip *feature"], Float[Tensor, "clip *feature"]],
        counts: Int[Tensor, " clip"],
        engine: Engine,
    ) -> tuple[Float[Tensor, "clip token number"], Float[Tensor, "clip token number"] | None]:
        """Tokens of the input view, and of the target view if it differs, from the features for each."""
        config, tokens = self.config.augmentation, self.front.tokens(heard[0])
        if config.views == 1:
            return tokens, None
        clips, device = len(tokens) * engine.ranks, engine.generator.device
        masked = (clips, 2, tokens.shape[1], max(1, self.front.slots))
        shapes = ((clips, Draws.NUMBERS), (clips, Draws.NUMBERS), masked)
        drawn = (torch.rand(shape, generator=engine.generator, device=device).to(tokens) for shape in shapes)
        draws = Draws(*map(engine.share, drawn))
        given, other = (
            self.front.tokens(self.front.view(one, counts, config, draws, which))
            for which, one in enumerate(heard)
        )
        return given, other

    def observe(self, embedded: Tensor, actions: Tensor, engine: Engine) -> tuple[Rollout, Rollout | None]:
        """States after the burn-in, which is observed without gradients; and those of the burn-in, if the dynamics
        attend to them."""
        burn, latent = self.config.burn_in, self.dynamics.latent
        missing = max(0, burn + 2 - embedded.shape[1])
        if missing:
            embedded, actions = (functional.pad(one, (0, 0, 0, missing)) for one in (embedded, actions))
        clips, tokens = embedded.shape[:2]
        weight = self.dynamics.of_latent.weight
        noise = engine.share(latent.noise((clips * engine.ranks, tokens), engine.generator, weight))
        if not burn:
            return self.dynamics.observe(embedded, actions, noise), None
        if self.config.dynamics.dynamics == "transformer":
            # A transformer has no initial state; it attends to the burn-in.
            whole = torch.cat([embedded[:, :burn].detach(), embedded[:, burn:]], 1)
            every = self.dynamics.observe(whole, actions, noise)
            return every.since(burn), every.until(burn)
        with torch.no_grad():
            past = self.dynamics.observe(embedded[:, :burn], actions[:, :burn], noise[:, :burn])
        state = (past.h[:, -1].to(weight), past.z[:, -1].to(weight))
        return self.dynamics.observe(embedded[:, burn:], actions[:, burn:], noise[:, burn:], None, state), None

    def head_losses(
        self, observed: Observed, modes: Modes | None, tokens: Tensor, data: Batch, engine: Engine, live: bool
    ) -> dict[str, Float[Tensor, ""]]:
        """Losses of the heads that train the states, or of those that do not. The latter are trained on the states
        that they meet in use: modes, if futures consist of these."""
        rollout, found = observed.rollout if live or modes is None else modes.clear, {}
        feature = rollout.feature if live else rollout.feature.detach()
        heads, burn = self.heads(live), self.config.burn_in
        with engine.autocast():
            made = [head(feature) for head in heads]
        for head, output in zip(heads, made, strict=True):
            if head is self.decoder:
                error = token_error(output, tokens, self.front.slots)
                found["loss/decoder"] = mean_over(error, observed.inside, engine)
            elif head is self.reward:
                wanted = self.wanted(data, burn + feature.shape[1])[:, burn:]
                found["loss/reward"] = mean_over(
                    (output.to(wanted) - wanted).square().sum(-1), observed.inside, engine
                )
            else:
                # Whether the last token of a full piece ends its clip is unknown.
                places = torch.arange(feature.shape[1] - 1, device=feature.device)
                last = places == observed.counts[:, None] - 1
                error = functional.binary_cross_entropy_with_logits(
                    output[:, :-1, 0].to(feature.dtype), (~last).to(feature.dtype), reduction="none"
                )
                found["loss/ends"] = mean_over(error, observed.inside[:, :-1], engine)
        return found

    def joint_loss(self, modes: Rollout, inside: Tensor, engine: Engine) -> Float[Tensor, ""]:
        """Negative log-probability of the modes under the joint prior."""
        assert self.joint is not None
        with engine.autocast():
            raw = self.joint(modes.h, modes.z)
        return mean_over(-self.joint.latent.log_probability(raw, modes.z), inside, engine)

    @torch.no_grad()
    def encode(
        self,
        signal: Float[Tensor, "clip time *rest"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
        code: Code | None = None,
        actions: Float[Tensor, "clip token action"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """Codes at `code_rate`; zeros beyond the `code_lengths` of clips that have lengths. Each z is the mode.
        `actions` are the output of `Actions`, by default unknown; `power` is not used."""
        if torch.compiler.is_exporting():
            raise ValueError("a world model has no exported program: give --forms weights")
        chosen = code or self.config.code
        embedded = self.encoder(self.tokens(signal, lengths))
        made = embedded if chosen == "embedding" else self.chosen(self.followed(embedded, actions), chosen)
        return self.alone(made, lengths)

    def followed(self, embedded: Tensor, actions: Tensor | None) -> Rollout:
        if actions is None:
            actions = self.actions.unknown(*embedded.shape[:2])
        return self.dynamics.observe(embedded, actions)

    def chosen(self, rollout: Rollout, code: Code) -> Float[Tensor, "clip token code"]:
        return {"state": rollout.h, "latent": rollout.z, "feature": rollout.feature}[code]

    def classes(self, states: Float[Tensor, "clip token code"]) -> Int[Tensor, "clip token variable"]:
        latent = self.dynamics.latent
        if not isinstance(latent, Categorical):
            return super().classes(states)
        return latent.split(states[..., self.config.dynamics.deter :]).argmax(-1)

    @torch.no_grad()
    def go_on(
        self,
        states: Float[Tensor, "clip token code"],
        frames: int,
        samples: int,
        generator: torch.Generator,
        *,
        actions: Float[Tensor, "clip all action"] | None = None,
        temperature: float = 1.0,
    ) -> Forecast:
        """Continuations [h, z] of these states, sampled from the prior (the joint prior if there is one)."""
        actions = self.check_future(states, frames, samples, actions)
        clips, past_tokens = states.shape[:2]
        latent, config = self.dynamics.latent, self.config.dynamics
        h, z = states.split([config.deter, latent.size], -1)
        none = states.new_zeros(clips, past_tokens, latent.parameters)
        past = Rollout(h, z, none, none, actions[:, :past_tokens])
        if config.dynamics == "gru":
            past = past.since(past_tokens - 1)
        # All samples are drawn together.
        every = Rollout(*(value.repeat(samples, 1, 1) for value in vars(past).values()))
        noise = latent.noise((samples, clips, frames), generator, states).flatten(0, 1)
        coming = actions[:, past_tokens:].repeat(samples, 1, 1)
        made = self.dynamics.imagine(every, coming, noise, self.joint, temperature)
        drawn_from = latent if self.joint is None else self.joint.latent
        log_probability = drawn_from.log_probability(made.prior, made.z)
        return Forecast(*(value.unflatten(0, (samples, clips)) for value in (made.feature, log_probability)))

    @torch.no_grad()
    def surprise(
        self,
        signal: Float[Tensor, "clip time *rest"],
        others: Float[Tensor, "other number"],
        *,
        actions: Float[Tensor, "clip token action"] | None = None,
    ) -> dict[str, Float[Tensor, "clip token"]]:
        """kl: KL divergence of posterior and prior. nce, if the objective has it: contrastive loss of the
        prediction from the previous token, with the token as positive and the others as negatives."""
        tokens = self.tokens(signal)
        embedded = self.encoder(tokens)
        rollout = self.followed(embedded, actions)
        below, slots = self.config.objective.alike_below, self.front.slots
        same = pairs_alike(wide(tokens).flatten(0, 1), wide(others), below, slots).unflatten(0, tokens.shape[:2])
        divergence = self.dynamics.latent.divergence(rollout.posterior, rollout.prior)
        return {
            "kl": divergence,
            **self.objective.unexpected(rollout, embedded, self.encoder(others), same),
        }

    @torch.no_grad()
    def expectations(
        self,
        signal: Float[Tensor, "clip time *rest"],
        *,
        actions: Float[Tensor, "clip token action"] | None = None,
    ) -> dict[str, Float[Tensor, "clip token"]]:
        latent = self.dynamics.latent
        rollout = self.followed(self.encoder(self.tokens(signal)), actions)
        if self.joint is None:
            log_prior = latent.log_probability(rollout.prior, rollout.z)
        else:
            log_prior = self.joint.latent.log_probability(self.joint(rollout.h, rollout.z), rollout.z)
        return {
            "log prior": log_prior,
            "prior": latent.entropy(rollout.prior),
            "posterior": latent.entropy(rollout.posterior),
        }

    @torch.no_grad()
    def predict_reward(self, codes: Float[Tensor, "clip frame code"]) -> Float[Tensor, "clip frame value"]:
        """Reward at codes of the form [h, z]: a number in the unit of its track or label; for a category, the
        probability of each class (by least squares, so that it may lie outside 0 to 1)."""
        if self.reward is None:
            raise ValueError("this model was trained without a reward: train it with --reward NAME")
        return self.wanted.in_world(wide(self.reward(self.checked(codes))))

    @torch.no_grad()
    def predict_continue(self, codes: Float[Tensor, "clip frame code"]) -> Float[Tensor, "clip frame"]:
        """Probability that the clip continues after codes of the form [h, z]."""
        if self.goes_on is None:
            raise ValueError("this model was trained without the end of clips: train it with --ends")
        return wide(self.goes_on(self.checked(codes)))[..., 0].sigmoid()

    @torch.no_grad()
    def decode(self, codes: Float[Tensor, "clip frame code"]) -> Float[Tensor, "clip *feature"]:
        """Features of codes of the form [h, z]: for sound, scaled log-mel bands, which the front end inverts."""
        if self.decoder is None:
            raise ValueError("this model was trained without a decoder: train it with --decoder frozen")
        return self.front.features_of(most_likely(self.decoder(self.checked(codes)), self.front.slots))


def default(kind: SignalKind) -> DreamingConfig:
    return DreamingConfig(schedule=DECAY)


def speech(kind: SignalKind) -> DreamingConfig:
    """Tokens of 40 ms."""
    return DreamingConfig(schedule=DECAY, front=TokensConfig(token_seconds=0.04, token_frames=5))


def paper(kind: SignalKind) -> DreamingConfig:
    """Sizes of DreamerV2, with all steps ahead in every update."""
    return DreamingConfig(
        dynamics=DynamicsConfig(variables=32, classes=32, deter=600, hidden=600, uniform_mix=0.0),
        objective=ObjectiveConfig(overshoot="all"),
        schedule=DECAY,
    )


ENTRY = ModelEntry(
    "world model: Dreaming V2, discrete latent dynamics with a contrastive loss",
    Dreaming,
    {"default": default, "speech": speech, "paper": paper},
    kinds=("wave", "codes"),
    recipes={
        name: Recipe(steps=3000, clips={"batch_size": 16}, world={"seconds": 2.0})
        for name in ("default", "speech", "paper")
    },
    main=(
        "objective", "horizon", "actions", "burn_in", "token_seconds", "deter", "variables", "classes", "latent",
        "decoder", "code", "learning_rate",
    ),
    complete=complete,
)  # fmt: skip
