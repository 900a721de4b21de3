"""Autoregressive token models, trained by maximum likelihood.

    h_t = f(h_{t−1}, x_t, a_t)     a GRU, or a causal transformer over all tokens so far
    p(x_{t+1} | h_t, a_{t+1})      continuous tokens: a mixture of diagonal Gaussians (`mixture.py`); codebook
                                   entries: a categorical distribution for each slot

The baseline of world models: the same tokens, front end, actions and forecasts, but no latent variables. On the
codes of a VQ-VAE (--codes RUN --slots N) it is a language model of sound (GSLM, arXiv 2102.01192).
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, cast, get_args

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.features.tokens import TokensConfig
from sonarium.features.waveform import sounding
from sonarium.models.actions import completed
from sonarium.models.blocks import wide
from sonarium.models.contract import Forecast, ModelEntry, Recipe
from sonarium.models.cpc.context import Attended, CausalLayer, CausalStack, check_heads
from sonarium.models.mixture import GaussianMixture
from sonarium.models.objectives import mean_over
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.models.tokens import DECAY, TokenModel
from sonarium.training.contract import Engine, Stateful
from sonarium.worlds.contract import Batch, Signal, SignalKind, World

Code = Literal["feature", "state"]
CODES: tuple[Code, ...] = get_args(Code)
NARROWEST = 0.1
"""Minimum standard deviation of a component, in standard deviations of a band: otherwise silence, which is the
same in every token, would dominate the likelihood."""


@dataclass(frozen=True)
class AutoregressiveConfig:
    network: Literal["gru", "transformer"] = "gru"
    """Network that computes h: the state of a GRU, or the output of a causal transformer."""
    units: Annotated[int, Range(1, 2**13)] = 400
    """Dimension of h."""
    layers: Annotated[int, Range(1, 64)] = 1
    """Number of layers of the network."""
    heads: Annotated[int, Range(1, 1024)] = 4
    """Number of attention heads of a transformer."""
    reach: Annotated[int, Range(1, 2**14)] = 64
    """Maximum relative position of a transformer in tokens, to which larger ones are clipped."""
    components: Annotated[int, Range(1, 256)] = 4
    """Components of the Gaussian mixture of the next token."""
    code: Code = "feature"
    """Codes returned by `encode`: feature ([h, x]) or state (h)."""
    actions: tuple[str, ...] = ()
    """Actions that condition each token: names of tracks and labels of the world, `elapsed` for the time since the
    beginning of the piece; none by default."""
    action_dropout: Annotated[float, Range(0, 1, below=True)] = 0.2
    """Action dropout: fraction of clips whose actions are hidden, so that sound can be encoded and forecast
    without any."""
    burn_in: Annotated[int, Range(1, 2**12)] = 4
    """Burn-in tokens at the beginning of a piece, which have no loss."""
    gradient_clip: Annotated[float, Range(0, above=True)] = 1.0
    """Gradient clipping norm."""
    adam: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=1e-3))
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(warmup_steps=100))
    front: TokensConfig = field(default_factory=TokensConfig)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.network == "transformer":
            check_heads(self.units, self.heads, "units")


def complete(config: AutoregressiveConfig, world: World, steps: int) -> AutoregressiveConfig:
    """Configuration with actions resolved for this world, and a cosine schedule that ends with the training."""
    return replace(config, actions=completed(config.actions, world), schedule=config.schedule.ending(steps))


class GRUStack(nn.Module):
    """Stacked GRU layers with concatenated states."""

    def __init__(self, given: int, units: int, layers: int):
        super().__init__()
        sizes = [given, *[units] * (layers - 1)]
        self.layers = nn.ModuleList(nn.GRU(size, units, batch_first=True) for size in sizes)

    def forward(
        self, frames: Float[Tensor, "clip token given"], state: Float[Tensor, "clip all"] | None = None
    ) -> Float[Tensor, "clip token all"]:
        """States of all layers after each token, concatenated from the first layer to the last."""
        if not frames.shape[1]:
            # A single token has no successor to predict, and nn.GRU refuses an empty sequence.
            return frames.new_zeros(len(frames), 0, sum(cast(int, layer.hidden_size) for layer in self.layers))
        found = []
        for at, layer in enumerate(self.layers):
            size = cast(int, layer.hidden_size)
            begun = None if state is None else state[None, :, at * size : (at + 1) * size].contiguous()
            frames = layer(frames, begun)[0]
            found.append(frames)
        return torch.cat(found, -1)


class Autoregressive(TokenModel[AutoregressiveConfig]):
    part_names = CODES

    def __init__(self, config: AutoregressiveConfig, signal: Signal):
        super().__init__(config, signal)
        width, actions = self.front.width, self.actions.width
        self.slots = self.front.slots
        self.entries = width // self.slots if self.slots else 0
        if config.network == "gru":
            self.network = GRUStack(width + actions, config.units, config.layers)
        else:
            layers = [
                CausalLayer(config.units, config.heads, config.reach, 4 * config.units)
                for _ in range(config.layers)
            ]
            self.network = CausalStack(nn.Linear(width + actions, config.units), *layers)
        self.size = config.units * (config.layers if config.network == "gru" else 1)
        """Dimension of h."""
        self.state_width = self.size + width
        outputs = width if self.slots else GaussianMixture.parameters(config.components, width)
        self.head = nn.Linear(config.units + actions, outputs)
        self.optimiser = config.adam.build(self.parameters(), fused=True)

    def parts(self) -> dict[str, Stateful]:
        return {"adam": self.optimiser}

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        self.set_learning_rate(self.optimiser)
        tokens, burn = self.front.tokens(self.features(data)), self.burn_in
        # A whole clip may be shorter than a piece.
        tokens = functional.pad(tokens, (0, 0, 0, max(0, burn + 1 - tokens.shape[1])))
        count = tokens.shape[1]
        actions = self.acted(data, count, engine)
        with engine.autocast():
            h = self.read(tokens[:, :-1], actions[:, :-1])
            told = self.told(h[:, burn - 1 :], actions[:, burn:])
        likely = self.log_probability(told, tokens[:, burn:])
        inside = sounding(count - burn, (self.token_counts(data, count) - burn).clamp(min=0))
        loss = -mean_over(likely, inside, engine)
        engine.descend(loss, self.optimiser, self.config.gradient_clip)
        self.updates += 1
        return {"loss/negative_log_likelihood": loss.detach()}

    def read(
        self, tokens: Float[Tensor, "clip token number"], actions: Float[Tensor, "clip token action"]
    ) -> Float[Tensor, "clip token state"]:
        """h after each token."""
        return self.network(torch.cat([tokens, actions], -1))

    def told(
        self, h: Float[Tensor, "*rows state"], actions: Float[Tensor, "*rows action"]
    ) -> Float[Tensor, "*rows output"]:
        """Distribution parameters of the next token, given its actions."""
        return wide(self.head(torch.cat([h[..., -self.config.units :], actions.to(h)], -1)))

    def mixture(self, told: Float[Tensor, "*rows output"]) -> GaussianMixture:
        return GaussianMixture.of(told, self.config.components, NARROWEST)

    def logits(self, told: Float[Tensor, "*rows output"]) -> Float[Tensor, "*rows slot entry"]:
        """Log-probabilities of the entries of each slot."""
        return told.unflatten(-1, (self.slots, self.entries)).log_softmax(-1)

    def log_probability(
        self, told: Float[Tensor, "*rows output"], tokens: Float[Tensor, "*rows number"]
    ) -> Float[Tensor, "*rows"]:
        """Log-probability of tokens (log-density if continuous) in nats."""
        if self.slots:
            return (self.logits(told) * tokens.unflatten(-1, (self.slots, self.entries))).sum((-2, -1))
        return self.mixture(told).log_density(tokens)

    def draw(
        self, told: Float[Tensor, "row output"], generator: torch.Generator, temperature: float
    ) -> Float[Tensor, "row number"]:
        """Sample of the next token."""
        if self.slots:
            likely = (self.logits(told) / temperature).softmax(-1).flatten(0, 1)
            chosen = torch.multinomial(likely, 1, generator=generator)[:, 0]
            ones = functional.one_hot(chosen, self.entries).to(told)
            return rearrange(ones, "(row slot) entry -> row (slot entry)", slot=self.slots)
        return self.mixture(told).draw(generator, temperature)

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
        """Codes at `code_rate`; zeros beyond the `code_lengths` of clips that have lengths. `actions` are the
        output of `Actions`, by default unknown; `power` is not used."""
        if torch.compiler.is_exporting():
            raise ValueError("a model of tokens has no exported program: give --forms weights")
        tokens = self.tokens(signal, lengths)
        h = self.read(tokens, self.actions.unknown(*tokens.shape[:2]) if actions is None else actions)
        return self.alone(h if (code or self.config.code) == "state" else torch.cat([h, tokens], -1), lengths)

    def classes(self, states: Float[Tensor, "clip token code"]) -> Int[Tensor, "clip token variable"]:
        if not self.slots:
            return super().classes(states)
        return states[..., self.size :].unflatten(-1, (self.slots, self.entries)).argmax(-1)

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
        """Continuations [h, x] of these states, each x sampled given those before it."""
        actions = self.check_future(states, frames, samples, actions)
        clips, past = states.shape[:2]
        h, tokens = states.split([self.size, self.front.width], -1)
        # All samples are drawn together, and share what was read of the past.
        memory = self.remembered(torch.cat([tokens, actions[:, :past]], -1), samples)
        acts, h, found = actions.repeat(samples, 1, 1), h[:, -1].repeat(samples, 1), []
        for at in range(past, past + frames):
            told = self.told(h, acts[:, at])
            token = self.draw(told, generator, temperature)
            new = torch.cat([token, acts[:, at]], -1)[:, None]
            if isinstance(self.network, CausalStack):
                read, memory = self.network.read(new, memory)
            else:
                read = self.network(new, h)
            h = read[:, -1]
            found.append((torch.cat([h, token], -1), self.log_probability(told, token)))
        codes, likely = (torch.stack(each, 1).unflatten(0, (samples, clips)) for each in zip(*found, strict=True))
        return Forecast(codes, likely)

    def remembered(self, past: Float[Tensor, "clip token given"], samples: int) -> list[Attended]:
        """Keys and values of a transformer's layers after the past, for each sample; a GRU has none."""
        if not isinstance(self.network, CausalStack):
            return []
        _, memory = self.network.read(past)
        return [(k.repeat(samples, 1, 1, 1), v.repeat(samples, 1, 1, 1)) for k, v in memory]

    @torch.no_grad()
    def surprise(
        self,
        signal: Float[Tensor, "clip time *rest"],
        others: Float[Tensor, "other number"],
        *,
        actions: Float[Tensor, "clip token action"] | None = None,
    ) -> dict[str, Float[Tensor, "clip token"]]:
        """nll: negative log-probability of each token; 0 for the first."""
        return {"nll": -self.expected(signal, actions)[0]}

    @torch.no_grad()
    def expectations(
        self,
        signal: Float[Tensor, "clip time *rest"],
        *,
        actions: Float[Tensor, "clip token action"] | None = None,
    ) -> dict[str, Float[Tensor, "clip token"]]:
        """For discrete tokens only: the entropy of a density is not comparable."""
        if not self.slots:
            return {}
        likely, told = self.expected(signal, actions)
        logs = self.logits(told)
        entropy = functional.pad(-(logs.exp() * logs).sum((-2, -1)), (1, 0))
        return {"log prior": likely, "prior": entropy, "posterior": torch.zeros_like(entropy)}

    def expected(
        self, signal: Tensor, actions: Tensor | None
    ) -> tuple[Float[Tensor, "clip token"], Float[Tensor, "clip later output"]]:
        """Log-probability of each token (0 for the first), and distribution parameters of all but the first."""
        tokens = self.tokens(signal)
        acts = self.actions.unknown(*tokens.shape[:2]) if actions is None else actions
        told = self.told(self.read(tokens[:, :-1], acts[:, :-1]), acts[:, 1:])
        return functional.pad(self.log_probability(told, tokens[:, 1:]), (1, 0)), told

    def decode(self, codes: Float[Tensor, "clip frame code"]) -> Float[Tensor, "clip *feature"]:
        """Features of codes of the form [h, x]: for sound, scaled log-mel bands, which the front end inverts."""
        return self.front.features_of(self.checked(codes)[..., self.size :])


def default(kind: SignalKind) -> AutoregressiveConfig:
    return AutoregressiveConfig(schedule=DECAY)


def transformer(kind: SignalKind) -> AutoregressiveConfig:
    """A causal transformer of the same size."""
    return AutoregressiveConfig(network="transformer", units=192, layers=2, schedule=DECAY)


def speech(kind: SignalKind) -> AutoregressiveConfig:
    """Tokens of 40 ms."""
    return AutoregressiveConfig(schedule=DECAY, front=TokensConfig(token_seconds=0.04, token_frames=5))


PRESETS = {"default": default, "transformer": transformer, "speech": speech}
ENTRY = ModelEntry(
    "autoregressive token model: GRU or transformer, by maximum likelihood",
    Autoregressive,
    PRESETS,
    kinds=("wave", "codes"),
    recipes={name: Recipe(steps=3000, clips={"batch_size": 16}, world={"seconds": 2.0}) for name in PRESETS},
    main=(
        "network",
        "units",
        "layers",
        "components",
        "actions",
        "burn_in",
        "token_seconds",
        "code",
        "learning_rate",
    ),
    complete=complete,
)
