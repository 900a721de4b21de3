"""Dreamer: actor and critic that learn in the imagination of a world model (Hafner et al. 2020, arXiv 1912.01603;
2021, arXiv 2010.02193; 2023, arXiv 2301.04104).

    h_t, z_t     state of a recurrent state-space model (models/rssm.py) of observations and previous actions
    r̂, ĉ         the reward on arriving at a state, and the probability that the episode continues from there
    V_t = r̂_{t+1} + γ ĉ_{t+1} ((1 − λ) v(s_{t+1}) + λ V_{t+1}),    V_H = v(s_H)
    actor        −E[w_t (ρ log π(a_t|s_t) (V_t − v(s_t)) + (1 − ρ) V_t) / S + η H[π(·|s_t)])]
    critic       v(s_t) regresses to V_t, which is computed with a slow copy of the critic

along H imagined steps from every state of sequences of the replay, w_t = Π γ ĉ. S is the range of the returns.
The objectives of the state are those of `models/dreaming.py`: reconstruction of the observation (DreamerV2), or a
contrastive one without reconstruction (Dreaming, arXiv 2007.14535); a separate decoder then makes imagined
observations audible.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium import Space
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from sonarium.agents.contract import Agent, Hearing, Imaginer, Info, NotObservable, Separation, Stochastic
from sonarium.agents.observing.observer import Observer
from sonarium.agents.policy import Policy, policy_of
from sonarium.agents.replay import Replay, ReplayConfig, Replayed
from sonarium.agents.rollout import Rollout
from sonarium.agents.tally import Tally
from sonarium.config import Range, check_ranges
from sonarium.features.ears import EarsConfig
from sonarium.models.contract import Engine, Learner
from sonarium.models.objectives import (
    OBJECTIVES,
    ObjectiveConfig,
    Observed,
    alike,
    kl,
    mean_over,
    remarks_of,
)
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.models.rssm import RSSM, DynamicsConfig
from sonarium.models.rssm import Rollout as States
from sonarium.training.contract import Stateful

MEMORY = "memory"
"""The extra that is stored: h, z and the action before each step."""
BINS = 127
"""Number of bins of the distribution of a return or a reward."""
LARGEST = 10.0
"""Symlog of the outermost bins, which are at ± 22,025."""
RANGE = (0.05, 0.95)
"""Quantiles between which the returns are normalised (DreamerV3)."""
RANGE_DECAY = 0.99


@dataclass(frozen=True)
class DreamerConfig:
    units: Annotated[int, Range(1, 8192)] = 128
    """Hidden units per layer, and size of the embedding of an image or a sound."""
    layers: Annotated[int, Range(1, 16)] = 2
    """Number of hidden layers of actor, critic, reward and continuation heads; encoder and decoder have one."""
    embedding: Annotated[int, Range(1, 2**13)] = 128
    """Dimension of the observation embedding."""
    sound_rate: Annotated[int, Range(0, 10**6)] = 0
    """Sampling rate in Hz of binaural sound, which is then input as log-mel bands and interaural differences; 0
    inputs the waveform."""
    train_ears: bool = False
    """With --ears: fine-tune the encoder or separator with the world model; otherwise it is frozen."""
    separated: Literal["cues", "sums", "means", "loudness"] | None = None
    """With the run of a separator as --ears: features of each source. cues (the default): log-mel bands of both
    ears and interaural differences over time, through convolutions. sums: interaural phase and level differences
    per bin, weighted by the source's share and averaged over time. means: these averaged over all bins, too, and
    the level (OtoWorld's six numbers for two sources). loudness: loudness at each ear."""
    carry_ears: bool = False
    """With the run of a separator as --ears: carry its state from window to window of an episode; otherwise each
    window is separated independently."""
    decoder: Literal["off", "frozen", "live"] = "frozen"
    """Observation decoder: off, frozen (on states without gradient), or live (its gradient also trains the states,
    always so with objective reconstruction or twister)."""
    decoder_weight: Annotated[float, Range(0, 1e6)] = 1.0
    """Weight of the decoder loss, which is summed over the observation."""
    deviation: Annotated[float, Range(0, 1e3, above=True)] = 1.0
    """Initial standard deviation of continuous actions."""
    imagination_horizon: Annotated[int, Range(1, 1000)] = 15
    """Imagination horizon: steps imagined from each state."""
    imagined_from: Annotated[int, Range(0, 10**9)] = 0
    """Number of states per batch to imagine from, resampled in each update; 0 takes all."""
    discount: Annotated[float, Range(0, 1)] = 0.99
    """Discount factor γ of future rewards."""
    trace: Annotated[float, Range(0, 1)] = 0.98
    """Trace parameter λ of the λ-returns of imagined trajectories."""
    reinforce: Annotated[float, Range(0, 1)] = 1.0
    """Fraction ρ of REINFORCE in the actor's gradient; the rest is backpropagated through the imagined dynamics,
    with straight-through gradients of discrete actions and states."""
    entropy_weight: Annotated[float, Range(0, 1e6)] = 3e-3
    """Entropy coefficient, which keeps the policy exploring."""
    entropy_decays: bool = False
    """Anneal the entropy coefficient with the learning-rate schedule."""
    normalise_returns: bool = True
    """Divide the actor's objective by a running average of the range from the 5th to the 95th percentile of the
    imagined returns, where that is above 1."""
    slow_critic: Annotated[float, Range(0, 1, above=True)] = 0.2
    """Update rate of the slow target critic, which bootstraps the imagined returns: the fraction of the critic's
    weights taken over in each update; 1 keeps it equal to the critic."""
    actor_learning_rate: Annotated[float, Range(0, above=True, example=1e-3)] = 1e-3
    """Learning rate of the actor."""
    value_learning_rate: Annotated[float, Range(0, above=True, example=1e-3)] = 1e-3
    """Learning rate of the critic."""
    learning_starts: Annotated[int, Range(0, 10**9)] = 512
    """Steps collected in the replay buffer before learning starts."""
    batch_size: Annotated[int, Range(1, 10**6)] = 16
    """Batch size, in sequences from the replay buffer."""
    gradient_steps: Annotated[int, Range(1, 10**6)] = 4
    """Gradient steps after each rollout."""
    gradient_clip: Annotated[float, Range(0, above=True)] = 100.0
    """Gradient clipping norm of world model, actor and critic, each on its own."""
    ears: EarsConfig = EarsConfig(fft=1024, hop=500)
    """Features of sound with a sound_rate: windows are longer than those of other agents, so that the
    reconstruction targets are less noisy."""
    dynamics: DynamicsConfig = field(default_factory=lambda: DynamicsConfig(deter=128, hidden=128))
    objective: ObjectiveConfig = field(
        default_factory=lambda: ObjectiveConfig(
            objective="reconstruction", kl_weight=0.6, kl_balance=0.83, free_nats=1.0
        )
    )
    replay: ReplayConfig = field(default_factory=lambda: ReplayConfig(sequence_steps=16))
    optimiser: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=1e-3))
    """Optimiser of the world model; its β and ε also apply to actor and critic."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.dynamics.dynamics != "gru":
            raise ValueError(
                f"dynamics={self.dynamics.dynamics!r}: an agent follows its state from step to step; give gru"
            )
        if self.replay.cross_episodes:
            raise ValueError("cross_episodes=True: sequences of Dreamer end with their episode; leave it out")
        if self.replay.draw == "prioritised":
            raise ValueError("draw='prioritised': Dreamer has no priorities; give uniform or episodes")


def complete(config: DreamerConfig, steps: int) -> DreamerConfig:
    """Let the schedule end with the steps of a new run."""
    return replace(config, schedule=config.schedule.ending(steps))


def perceptron(given: int, units: int, layers: int, made: int) -> nn.Sequential:
    """Hidden layers with layer norm and SiLU, and a linear output layer."""
    found: list[nn.Module] = []
    for one, other in pairwise([given, *[units] * layers]):
        found += [nn.Linear(one, other), nn.LayerNorm(other), nn.SiLU()]
    return nn.Sequential(*found, nn.Linear(units, made))


class TwoHot(nn.Module):
    """A scalar as the mean of a categorical distribution over symlog-spaced bins, densest near 0 (DreamerV3). The
    initial mean is 0."""

    bins: Tensor

    def __init__(self, given: int, units: int, layers: int):
        super().__init__()
        self.network = perceptron(given, units, layers, BINS)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        places = torch.linspace(-LARGEST, LARGEST, BINS, dtype=torch.float64)
        self.register_buffer("bins", (places.sign() * places.abs().expm1()).float(), persistent=False)

    def forward(self, feature: Float[Tensor, "*rows number"]) -> Float[Tensor, "*rows bin"]:
        """Logits of the bins."""
        return self.network(feature).float()

    def mean(self, logits: Float[Tensor, "*rows bin"]) -> Float[Tensor, "*rows"]:
        # Positive and negative bins are summed separately, so that large ones of small probability cancel exactly.
        shares, middle = logits.softmax(-1) * self.bins, BINS // 2
        return shares[..., middle:].sum(-1) + shares[..., :middle].flip(-1).sum(-1)

    def loss(self, logits: Float[Tensor, "*rows bin"], wanted: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
        """Cross-entropy with the two-hot target on the two nearest bins, whose mean is the wanted value."""
        wanted = wanted.clamp(self.bins[0], self.bins[-1])
        above = torch.searchsorted(self.bins, wanted.contiguous()).clamp(1, BINS - 1)
        low, high = self.bins[above - 1], self.bins[above]
        share = (wanted - low) / (high - low)
        logs = logits.log_softmax(-1)
        pair = logs.gather(-1, torch.stack([above - 1, above], -1))
        return -(pair[..., 0] * (1 - share) + pair[..., 1] * share)


class Decoder(nn.Module):
    """Concatenated targets of all parts of an observation, from the state."""

    def __init__(self, given: int, units: int, observer: Observer):
        super().__init__()
        self.hidden = perceptron(given, units, 1, units)
        self.parts = nn.ModuleList(part.decoder(units) for part in observer.parts)  # pyright: ignore

    def forward(self, feature: Float[Tensor, "*rows number"]) -> Float[Tensor, "*rows target"]:
        known = self.hidden(feature.flatten(0, -2))
        made = torch.cat([part(known) for part in self.parts], 1)
        return made.unflatten(0, feature.shape[:-1])


class WorldModel(nn.Module):
    """States from observations; and from states the observation, the reward, and whether the episode continues."""

    def __init__(self, config: DreamerConfig, observed: Space, actions: int, hearing: Hearing | Separation | None):
        super().__init__()
        units, embedding = config.units, config.embedding
        self.observer = Observer(
            observed,
            units,
            True,
            config.sound_rate,
            hearing,
            config.train_ears,
            config.separated,
            config.ears,
            config.carry_ears,
        )
        self.encoder = perceptron(self.observer.width, units, 1, embedding)
        self.dynamics = RSSM(config.dynamics, embedding, actions)
        self.number = config.dynamics.deter + self.dynamics.latent.size
        kind = OBJECTIVES[config.objective.objective]
        self.objective = kind(config.objective, self.dynamics, embedding, units)
        decodes = self.objective.decodes or config.decoder != "off"
        self.live = self.objective.decodes or config.decoder == "live"
        self.decoder = Decoder(self.number, units, self.observer) if decodes else None
        self.reward = TwoHot(self.number, units, config.layers)
        self.goes_on = perceptron(self.number, units, config.layers, 1)

    def embedded(self, parts: list[Tensor]) -> Float[Tensor, "row embedding"]:
        """Embedding of prepared parts."""
        return self.encoder(self.observer(parts))

    def continues(self, feature: Float[Tensor, "*rows number"]) -> Float[Tensor, "*rows"]:
        """Logit of the probability that the episode continues."""
        return self.goes_on(feature)[..., 0].float()


@dataclass(frozen=True, eq=False)
class Remembered:
    """Memory of the agent."""

    h: Float[Tensor, "slot deter"]
    z: Float[Tensor, "slot size"]
    action: Float[Tensor, "slot number"]
    """The last action, encoded."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences from the replay, (sequence, token, …): one token more than steps, for the last observation."""

    parts: list[Tensor]
    """Prepared parts of the observations, in rows of all tokens."""
    action: Float[Tensor, "sequence token number"]
    """Action that led to each token; zeros at the first one of an episode."""
    first: Bool[Tensor, "sequence token"]
    state: tuple[Tensor, Tensor]
    """h and z before the first token."""
    reward: Float[Tensor, "sequence token"]
    """Reward on arriving at each token."""
    goes_on: Float[Tensor, "sequence token"]
    """0 for the last observation of a terminated episode, otherwise 1."""
    counts: Int[Tensor, " sequence"]
    """Number of tokens after the burn-in."""


@dataclass(frozen=True, eq=False)
class Imagined:
    """Imagined rollouts, (step, row, …)."""

    feature: Float[Tensor, "moment row number"]
    """Features of the states: the initial ones, and one after each action."""
    drawn: Shaped[Tensor, "step row part"]
    """Actions as samples of the policy."""


class Dreamer(Learner, Agent, Stochastic, Imaginer):
    updates: Tensor
    range: Tensor

    def __init__(
        self, config: DreamerConfig, observed: Space, acted: Space, hearing: Hearing | Separation | None = None
    ):
        super().__init__()
        self.config = config
        self.policy: Policy = policy_of(acted, config.deviation)
        self.world = WorldModel(config, observed, self.policy.width, hearing)
        number, units, layers = self.world.number, config.units, config.layers
        self.actor = perceptron(number, units, layers, self.policy.outputs)
        self.critic = TwoHot(number, units, layers)
        self.slow = copy.deepcopy(self.critic).requires_grad_(False)
        own = replace(config.optimiser, learning_rate=config.actor_learning_rate)
        its = replace(config.optimiser, learning_rate=config.value_learning_rate)
        self.optimisers = {
            "world": config.optimiser.build(trained(self.world), fused=True),
            "actor": own.build([*trained(self.actor), *trained(self.policy)], fused=True),
            "critic": its.build(trained(self.critic), fused=True),
        }
        self.rates = {name: one.param_groups[0]["lr"] for name, one in self.optimisers.items()}
        self.replay = Replay(config.replay, self.world.observer.space, [MEMORY])
        self.tally = Tally()
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.register_buffer("range", torch.zeros(()))

    def restart(self) -> None:
        self.updates.zero_()

    def parts(self) -> dict[str, Stateful]:
        return {**self.optimisers, "replay": self.replay, "tally": self.tally}

    @property
    def device(self) -> torch.device:
        return self.range.device

    @property
    def entropy_weight(self) -> float:
        config = self.config
        kept = config.schedule.fraction(int(self.updates) - 1) if config.entropy_decays else 1.0
        return config.entropy_weight * kept

    # Acting

    def initial(self, slots: int) -> Remembered:
        h, z = self.world.dynamics.begin(slots, self.range)
        return Remembered(h, z, self.range.new_zeros(slots, self.policy.width))

    @torch.no_grad()
    def act(
        self,
        memory: Remembered,
        observation: Any,
        first: Bool[np.ndarray, " slot"],
        generator: torch.Generator,
        info: Info,
    ) -> tuple[Remembered, Shaped[np.ndarray, "slot *action"], dict[str, Any]]:
        world, begins = self.world, torch.from_numpy(first).to(self.device)
        kept = (~begins).float()[:, None]
        h, z, action = (part * kept for part in (memory.h, memory.z, memory.action))
        embedded = world.embedded(world.observer.prepared(world.observer.rows(observation, self.device)))
        noise = None if self.greedy else self.noise((len(h), 1), generator)
        states = world.dynamics.observe(embedded[:, None], action[:, None], noise, None, (h, z))
        drawn = self.policy.draw(self.actor(states.feature[:, 0]), None if self.greedy else generator)
        extras = {MEMORY: torch.cat([h, z, action], 1).half().cpu().numpy()}
        chosen = self.policy.action(drawn)
        return Remembered(states.h[:, 0], states.z[:, 0], self.encoded(chosen)), chosen, extras

    def encoded(self, action: Shaped[np.ndarray, "row *action"]) -> Float[Tensor, "row number"]:
        """Actions of the environment, encoded as inputs of the dynamics."""
        return self.policy.encode(self.policy.drawn(action)).to(self.device)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return self.world.dynamics.latent.noise(shape, generator, self.range)

    # Learning

    def update(self, data: Rollout, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        config, terms = self.config, self.tally.episodes(data)
        observer = self.world.observer
        observer.learn(observer.rows(data.observation, self.device))
        self.replay.add(data, engine)
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = self.rates[name] * config.schedule.fraction(int(self.updates))
        self.updates += 1
        if self.replay.ready and self.replay.added >= config.learning_starts:
            found = [self.learn(engine) for _ in range(config.gradient_steps)]
            terms |= {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}
        return terms

    def learn(self, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """One update of world model, actor and critic on sequences of the replay."""
        states, weight, terms = self.model(self.sequences(self.replay.sample(self.config.batch_size)), engine)
        return terms | self.behave(states, weight, engine)

    def sequences(self, some: Replayed) -> Sequences:
        observer, burn = self.world.observer, self.config.replay.burn_in
        steps, count = some.reward.shape
        every = torch.arange(count)
        counted = torch.from_numpy(some.weight[burn:] > 0)
        last = burn + 1 + counted.cumsum(0).argmax(0)
        parts = []
        for rows, ended in zip(observer.rows(some.observation, self.device),
                               observer.rows(some.last, self.device), strict=True):  # fmt: skip
            tokens = torch.cat([rows.unflatten(0, (steps, count)), ended[None]])
            tokens[last, every] = ended
            parts.append(tokens.transpose(0, 1).flatten(0, 1))
        kept = torch.from_numpy(some.extras[MEMORY]).to(self.device, torch.float32)
        dynamics = self.world.dynamics
        h, z, before = kept.split([dynamics.config.deter, dynamics.latent.size, self.policy.width], 1)
        # Steps past the end repeat the last one, which may be the first one of its episode.
        before_end = torch.arange(steps)[:, None] < last
        first = (torch.from_numpy(some.first) & before_end).to(self.device)
        encoded = self.encoded(some.action.reshape(-1, *some.action.shape[2:])).unflatten(0, (steps, count))
        encoded = torch.cat([before[None], encoded])
        encoded[:-1] *= (~first)[..., None]
        reward, ended = (torch.from_numpy(one).to(self.device) for one in (some.reward, some.terminated))
        # Burn-in before an episode repeats its first step, which may be its last one too.
        begins = functional.pad(first, (0, 0, 0, 1))
        goes_on = functional.pad(~ended, (0, 0, 1, 0), value=True) | begins
        return Sequences(
            observer.prepared(parts),
            encoded.transpose(0, 1),
            begins.T,
            (h, z),
            functional.pad(reward.float(), (0, 0, 1, 0)).T,
            goes_on.float().T,
            (counted.sum(0) + 1).to(self.device),
        )

    def remarks(self, metrics: Mapping[str, float]) -> Sequence[str]:
        return remarks_of(self.config.objective, metrics)

    def model(
        self, sequences: Sequences, engine: Engine
    ) -> tuple[Float[Tensor, "row number"], Float[Tensor, " row"], dict[str, Float[Tensor, ""]]]:
        """Update the world model; return the states after the burn-in, weights of 1 for those to imagine from, and
        metrics."""
        config, world, burn = self.config, self.world, self.config.replay.burn_in
        count = len(sequences.counts)
        with engine.autocast():
            embedded = world.embedded(sequences.parts).unflatten(0, (count, -1))
            states = self.observed(embedded, sequences, engine)
        targets = torch.cat(world.observer.targets(sequences.parts), 1).unflatten(0, (count, -1))[:, burn:]
        own, latent = config.objective, world.dynamics.latent
        same = None if own.objective == "reconstruction" else alike(targets, own.alike_below)
        observed = Observed(states, embedded[:, burn:], sequences.counts, same)
        loss, terms = world.objective(observed, world.dynamics, engine)
        divergence = kl(latent, states.posterior, states.prior, own.kl_balance, own.free_nats)
        found = {"kl/divergence": mean_over(divergence, observed.inside, engine)}
        found |= self.head_losses(states.feature, targets, sequences, observed.inside, engine)
        heads = sum((value for name, value in found.items() if name.startswith("loss/")), start=loss)
        total = heads + own.kl_weight * found["kl/divergence"]
        engine.descend(total, self.optimisers["world"], config.gradient_clip)
        weight = observed.inside * sequences.goes_on[:, burn:]
        terms = {"loss/world": total, **terms, **found}
        return (
            states.feature.detach().flatten(0, 1).float(),
            weight.flatten(),
            {name: value.detach() for name, value in terms.items()},
        )

    def observed(self, embedded: Tensor, sequences: Sequences, engine: Engine) -> States:
        """States after the burn-in, which runs without gradients from the stored state."""
        burn, state, dynamics = self.config.replay.burn_in, sequences.state, self.world.dynamics
        noise = self.noise((*embedded.shape[:2],), engine.generator)
        action, first = sequences.action, sequences.first
        if burn:
            with torch.no_grad():
                past = dynamics.observe(
                    embedded[:, :burn], action[:, :burn], noise[:, :burn], first[:, :burn], state
                )
            state = past.h[:, -1].float(), past.z[:, -1].float()
        return dynamics.observe(embedded[:, burn:], action[:, burn:], noise[:, burn:], first[:, burn:], state)

    def head_losses(
        self,
        feature: Float[Tensor, "sequence token number"],
        targets: Float[Tensor, "sequence token part"],
        sequences: Sequences,
        inside: Bool[Tensor, "sequence token"],
        engine: Engine,
    ) -> dict[str, Float[Tensor, ""]]:
        """Losses of the decoder, of the reward, and of the continuation of the episode."""
        world, burn = self.world, self.config.replay.burn_in
        found = {}
        with engine.autocast():
            if world.decoder is not None:
                made = world.decoder(feature if world.live else feature.detach()).float()
            rewards, continues = world.reward(feature), world.continues(feature)
        if world.decoder is not None:
            error = 0.5 * (made - targets).square().sum(-1)
            found["loss/decoder"] = self.config.decoder_weight * mean_over(error, inside, engine)
        # The reward on arriving at the first token is unknown.
        arrived = inside.clone()
        arrived[:, 0] = False
        reward = world.reward.loss(rewards, sequences.reward[:, burn:])
        found["loss/reward"] = mean_over(reward, arrived, engine)
        wanted = sequences.goes_on[:, burn:]
        error = functional.binary_cross_entropy_with_logits(continues, wanted, reduction="none")
        found["loss/continue"] = mean_over(error, inside, engine)
        return found

    # Imagination

    @torch.no_grad()
    def imagined(
        self, memory: Remembered, actions: Shaped[np.ndarray, "step slot *action"], generator: torch.Generator
    ) -> Float[Tensor, "step slot number"]:
        dynamics = self.world.dynamics
        h, z, found = memory.h, memory.z, []
        for action in actions:
            h = dynamics.step(h, z, self.encoded(action))
            z = dynamics.latent.draw(dynamics.prior(h), self.noise((len(h),), generator))
            found.append(torch.cat([h, z], 1))
        return torch.stack(found)

    @torch.no_grad()
    def expected(
        self, states: Float[Tensor, "*rows number"]
    ) -> tuple[Float[np.ndarray, "*rows"], Float[np.ndarray, "*rows"]]:
        reward = self.world.reward
        return (
            reward.mean(reward(states)).cpu().numpy(),
            self.world.continues(states).sigmoid().cpu().numpy(),
        )

    @torch.no_grad()
    def observed_in(self, states: Float[Tensor, "time number"]) -> Any:
        if self.world.decoder is None:
            raise NotObservable("this agent was trained without a decoder: train it with --decoder frozen")
        return self.world.observer.restored(self.world.decoder(states))

    def imagine(
        self, feature: Float[Tensor, "row number"], steps: int, generator: torch.Generator | None
    ) -> Imagined:
        """Roll out the policy in the world model from these states; without a generator, with the most probable
        actions and states. Where gradients are enabled, those of actions and states are straight-through."""
        dynamics, policy = self.world.dynamics, self.policy
        h, z = feature.split([dynamics.config.deter, dynamics.latent.size], -1)
        found, actions = [feature], []
        for _ in range(steps):
            outputs = self.actor(found[-1].detach())
            drawn = policy.draw(outputs.detach(), generator)
            h = dynamics.step(h, z, policy.through(outputs, drawn))
            noise = None if generator is None else self.noise((len(h),), generator)
            z = dynamics.latent.draw(dynamics.prior(h), noise)
            found.append(torch.cat([h, z], -1).float())
            actions.append(drawn)
        return Imagined(torch.stack(found), torch.stack(actions))

    def behave(
        self, feature: Float[Tensor, "row number"], weight: Float[Tensor, " row"], engine: Engine
    ) -> dict[str, Float[Tensor, ""]]:
        """Update actor and critic on rollouts imagined from states of the replay."""
        config = self.config
        rows = weight.nonzero()[:, 0]
        if 0 < config.imagined_from < len(rows):
            lots = torch.rand(len(rows), generator=engine.generator, device=rows.device)
            rows = rows[lots.argsort()[: config.imagined_from]]
        through = config.reinforce < 1
        with torch.set_grad_enabled(through), engine.autocast():
            made = self.imagine(feature[rows], config.imagination_horizon, engine.generator)
            returns, continued = self.returns(made.feature)
        with torch.no_grad():
            # w_t = Π γ ĉ of the states up to t; from the first one the episode is known to continue.
            sure = torch.cat([torch.ones_like(continued[:1]), continued[:-1]]).cumprod(0)
            scale = self.scale(returns.detach())
        feature = made.feature[:-1].detach()
        with engine.autocast():
            outputs, logits = self.actor(feature), self.critic(feature)
        value = self.critic.mean(logits.detach())
        chosen, entropy = self.policy.evaluate(outputs.flatten(0, 1).float(), made.drawn.flatten(0, 1))
        advantage = (returns.detach() - value) / scale
        gain = config.reinforce * chosen.view_as(returns) * advantage
        if through:
            gain = gain + (1 - config.reinforce) * returns / scale
        total = sure.sum()
        entropy = entropy.view_as(returns)
        loss = -((gain + self.entropy_weight * entropy) * sure).sum() / total
        engine.descend(loss, self.optimisers["actor"], config.gradient_clip)
        error = (self.critic.loss(logits, returns.detach()) * sure).sum() / total
        engine.descend(error, self.optimisers["critic"], config.gradient_clip)
        self.follow()
        terms = {
            "loss/actor": loss,
            "loss/critic": error,
            "policy/entropy": (entropy * sure).sum() / total,
            "value/mean": (value * sure).sum() / total,
            "value/return": (returns * sure).sum() / total,
        }
        return {name: term.detach() for name, term in terms.items()}

    def returns(
        self, feature: Float[Tensor, "moment row number"]
    ) -> tuple[Float[Tensor, "step row"], Float[Tensor, "step row"]]:
        """The λ-return of each state but the last, and γ ĉ of the state after each."""
        world, after = self.world, feature[1:]
        reward = world.reward.mean(world.reward(after))
        continued = self.config.discount * world.continues(after).sigmoid()
        value = self.slow.mean(self.slow(after))
        return imagined_returns(reward, continued, value, self.config.trace), continued.detach()

    def scale(self, returns: Float[Tensor, "step row"]) -> Tensor:
        """Running average of the range of the returns, at least 1."""
        if not self.config.normalise_returns:
            return torch.ones_like(self.range)
        low, high = returns.flatten().quantile(torch.tensor(RANGE, device=returns.device))
        decay = RANGE_DECAY if float(self.range) else 0.0
        self.range.lerp_(high - low, 1 - decay)
        return self.range.clamp(min=1)

    @torch.no_grad()
    def follow(self) -> None:
        """Update the slow critic toward the critic."""
        for kept, new in zip(self.slow.parameters(), self.critic.parameters(), strict=True):
            kept.lerp_(new, self.config.slow_critic)


def trained(module: nn.Module) -> list[nn.Parameter]:
    return [one for one in module.parameters() if one.requires_grad]


def imagined_returns(
    reward: Float[Tensor, "step row"],
    continued: Float[Tensor, "step row"],
    value: Float[Tensor, "step row"],
    trace: float,
) -> Float[Tensor, "step row"]:
    """λ-return V of each state, from reward, γ ĉ and value of the state after it; computed backwards."""
    found: list[Tensor] = []
    later = value[-1]
    for now in range(len(reward) - 1, -1, -1):
        later = reward[now] + continued[now] * ((1 - trace) * value[now] + trace * later)
        found.append(later)
    return torch.stack(found[::-1])
