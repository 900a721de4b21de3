"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

    L = −E[min(ρ A, clip(ρ, 1 − ε, 1 + ε) A)] + c E[(V − R)²] − h E[H(π)],    ρ = π(a|s) / π_acted(a|s)

over several epochs of minibatches of one on-policy rollout. The advantage A is by generalised advantage
estimation, R is A + V. Every detail that is known to matter (Huang et al. 2022, "The 37 implementation details of
PPO"; Andrychowicz et al. 2021, arXiv 2006.05990) is a setting. One epoch without clipping is advantage
actor-critic (Huang et al. 2022, arXiv 2205.09123).

With `memory`, a GRU reads the observation with the previous action and reward, and minibatches consist of
sequences (`agents/perception.py`). Each loss returns its derivative as well; autograd is used below the heads only
(`agents/dense.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium import Space
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from sonarium.agents.contract import Agent, Hearing, Info, Separation, Stochastic
from sonarium.agents.dense import dense, dense_vjp, descend
from sonarium.agents.networks import EpisodeGRU, Remembered, RunningMeanStd, hidden, orthogonal, threads_for
from sonarium.agents.observing.observer import Observer
from sonarium.agents.perception import Perception, Sequences, cut, minibatches
from sonarium.agents.policy import policy_of
from sonarium.agents.returns import advantages, bootstrapped, n_step_returns, values_after
from sonarium.agents.rollout import Rollout
from sonarium.agents.tally import Tally
from sonarium.config import Range, check_ranges
from sonarium.models.contract import Engine, Learner
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.training.contract import Stateful

MINIMALRL = (("heads.hidden.0", "fc1"), ("heads.policy.0", "fc_pi"), ("heads.value.0", "fc_v"))
"""Names of the layers here and in minimalRL's ppo.py."""


@dataclass(frozen=True)
class PPOConfig:
    units: Annotated[int, Range(1, 8192)] = 64
    """Hidden units per layer, and size of the embedding of an image or a sound."""
    layers: Annotated[int, Range(0, 16)] = 2
    """Number of hidden layers."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Activation function of the hidden layers."""
    shared: bool = False
    """Share the hidden layers of policy and value; convolutions and GRU are always shared."""
    orthogonal: bool = True
    """Orthogonal initialisation with gain √2, .01 for the policy and 1 for the value; otherwise PyTorch's
    default."""
    memory: Annotated[int, Range(0, 8192)] = 0
    """Hidden units of a GRU over the episode, which also reads the previous action and reward; 0 is no
    recurrence."""
    sequence_steps: Annotated[int, Range(0, 10**6)] = 0
    """With memory: truncate backpropagation through time to this many steps, each sequence starting from the
    hidden state at that point; 0 takes the whole rollout."""
    sound_rate: Annotated[int, Range(0, 10**6)] = 0
    """Sampling rate in Hz of binaural sound, which is then input as log-mel bands and interaural differences; 0
    inputs the waveform."""
    train_ears: bool = False
    """With --ears: fine-tune the encoder or separator with the policy; otherwise it is frozen."""
    separated: Literal["cues", "sums", "means", "loudness"] | None = None
    """With the run of a separator as --ears: features of each source. cues (the default): log-mel bands of both
    ears and interaural differences over time, through convolutions. sums: interaural phase and level differences
    per bin, weighted by the source's share and averaged over time. means: these averaged over all bins, too, and
    the level (OtoWorld's six numbers for two sources). loudness: loudness at each ear."""
    carry_ears: bool = False
    """With the run of a separator as --ears: carry its state from window to window of an episode; otherwise each
    window is separated independently."""
    deviation: Annotated[float, Range(0, 1e3, above=True)] = 1.0
    """Initial standard deviation of continuous actions."""
    discount: Annotated[float, Range(0, 1)] = 0.99
    """Discount factor γ of future rewards."""
    trace: Annotated[float, Range(0, 1)] = 0.95
    """Trace parameter λ of generalised advantage estimation (GAE)."""
    n_steps: Annotated[int, Range(0, 10**6)] = 0
    """Estimate advantages from n-step returns with this n instead of generalised advantage estimation (GAE); 0
    uses GAE."""
    value_target: Literal["return", "one-step"] = "return"
    """Target of the value function: return (that of the advantage estimate), or one-step (the TD target, reward
    plus discounted next value)."""
    bootstrap_truncated: bool = True
    """Bootstrap from the value after a truncated episode; otherwise truncation counts as termination."""
    recompute: bool = False
    """Recompute the advantages before each epoch, with the current value function."""
    reward_scale: Annotated[float, Range(0, 1e6, above=True)] = 1.0
    """Scaling factor of the rewards."""
    normalise_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return, and clip them to ±10."""
    normalise_observations: bool = False
    """Standardise numeric observations by their running mean and standard deviation."""
    normalise_advantages: Literal["minibatch", "rollout", "none"] = "minibatch"
    """Standardise the advantages per minibatch, per rollout, or not at all."""
    epochs: Annotated[int, Range(1, 1000)] = 4
    """Epochs per rollout."""
    minibatches: Annotated[int, Range(1, 10**6)] = 4
    """Minibatches per epoch: of steps, or with memory of whole sequences; at most one per step or sequence."""
    clip: Annotated[float, Range(0, 1e3)] = 0.2
    """Clipping range ε of the probability ratio; 0 disables clipping."""
    clip_decays: bool = False
    """Anneal the clipping range ε with the learning-rate schedule."""
    value_clip: Annotated[float, Range(0, 1e6)] = 0.0
    """Clipping range of the change in value; 0 disables clipping."""
    value_loss: Literal["squared", "huber"] = "squared"
    """Value loss: squared error, or huber (smooth L1)."""
    value_weight: Annotated[float, Range(0, 1e6)] = 0.5
    """Coefficient of the value loss."""
    entropy_weight: Annotated[float, Range(0, 1e6)] = 0.01
    """Entropy coefficient, which keeps the policy exploring."""
    max_kl: Annotated[float, Range(0, 1e6)] = 0.0
    """Target KL divergence from the policy that acted: the epochs of a rollout stop early above 1.5 times this; 0
    disables early stopping."""
    gradient_clip: Annotated[float, Range(0, 1e6)] = 0.5
    """Gradient clipping norm; 0 disables clipping."""
    optimiser: AdamConfig = AdamConfig(learning_rate=2.5e-4, epsilon=1e-5)
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        check_ranges(self)


def complete(config: PPOConfig, steps: int) -> PPOConfig:
    """Let the schedule end with the steps of a new run."""
    return replace(config, schedule=config.schedule.ending(steps))


class Heads(nn.Module):
    """Policy and value from the embedding: separate networks, or one with two heads."""

    def __init__(self, config: PPOConfig, given: int, outputs: int):
        super().__init__()
        width = config.units if config.layers else given
        sizes = given, config.units, config.layers, config.activation
        self.hidden = hidden(*sizes) if config.shared else nn.Sequential()
        own = [nn.Sequential() if config.shared else hidden(*sizes) for _ in range(2)]
        self.policy = nn.Sequential(*own[0], nn.Linear(width, outputs))
        self.value = nn.Sequential(*own[1], nn.Linear(width, 1))
        if config.orthogonal:
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    orthogonal(layer, sqrt(2))
            for network, gain in ((self.policy, 0.01), (self.value, 1.0)):
                last = network[-1]
                assert isinstance(last, nn.Linear)
                orthogonal(last, gain)

    def forward(
        self, known: Float[Tensor, "row number"]
    ) -> tuple[Float[Tensor, "row output"], Float[Tensor, " row"]]:
        known = dense(self.hidden, known)
        return dense(self.policy, known), dense(self.value, known)[:, 0]

    def outputs(self, known: Float[Tensor, "row number"]) -> Float[Tensor, "row output"]:
        return dense(self.policy, dense(self.hidden, known))

    def values(self, known: Float[Tensor, "row number"]) -> Float[Tensor, " row"]:
        return dense(self.value, dense(self.hidden, known))[:, 0]

    def vjp(
        self, known: Float[Tensor, "row number"]
    ) -> tuple[Float[Tensor, "row output"], Float[Tensor, " row"], Callable[[Tensor, Tensor], Tensor]]:
        """Policy outputs, value, and a function from their gradients to that of the embedding, which sets those of
        the weights."""
        known, below = dense_vjp(self.hidden, known)
        outputs, below_policy = dense_vjp(self.policy, known)
        value, below_value = dense_vjp(self.value, known)

        def backward(outputs: Tensor, value: Tensor) -> Tensor:
            return below(below_policy(outputs) + below_value(value[:, None]))

        return outputs, value[:, 0], backward


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimates from the rollout that the losses refer to, (step, sequence)."""

    log_probability: Float[Tensor, "step sequence"]
    """Log-probability of the actions under the policy that acted."""
    value: Float[Tensor, "step sequence"]
    """Value by the network that acted."""
    advantage: Float[Tensor, "step sequence"]
    target: Float[Tensor, "step sequence"]

    def pick(self, rows: Int[Tensor, " some"] | slice) -> "Estimates":
        return Estimates(*(values[:, rows] for values in vars(self).values()))


class PPO(Learner, Agent, Stochastic):
    updates: Tensor

    def __init__(
        self, config: PPOConfig, observed: Space, acted: Space, hearing: Hearing | Separation | None = None
    ):
        super().__init__()
        self.config = config
        self.observer = Observer(
            observed,
            config.units,
            config.normalise_observations,
            config.sound_rate,
            hearing,
            config.train_ears,
            config.separated,
            carried=config.carry_ears,
        )
        self.policy = policy_of(acted, config.deviation)
        given = self.observer.width
        self.gru = EpisodeGRU(given + self.policy.width + 1, config.memory) if config.memory else None
        self.perception = Perception(self.observer, self.gru, self.policy, config.reward_scale)
        self.heads = Heads(config, config.memory or given, self.policy.outputs)
        self.rewards = RunningMeanStd(1) if config.normalise_rewards else None
        self.optimiser = config.optimiser.build(
            [one for one in self.parameters() if one.requires_grad], fused=True
        )
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.tally = Tally()
        self.threads = threads_for(config.units, self.observer, self.gru)

    def restart(self) -> None:
        self.updates.zero_()

    def weights_of(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights saved by minimalRL's ppo.py, and so by Audio_ML_study: one hidden layer and two heads."""
        found = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in MINIMALRL for kind in ("weight", "bias")}
        if tensors.keys() != set(found.values()):
            raise ValueError(
                f"it holds {', '.join(sorted(tensors))[:90]}, not fc1, fc_pi and fc_v of minimalRL's ppo.py"
            )
        own = self.state_dict()
        if not found.keys() <= own.keys() or len(found) != len(list(self.parameters())):
            raise ValueError("it is of one shared layer and two heads: give --preset study, or minimalrl")
        for name, theirs in found.items():
            if tensors[theirs].shape != own[name].shape:
                raise ValueError(
                    f"{theirs} has the shape {tuple(tensors[theirs].shape)}, expected {tuple(own[name].shape)}: "
                    "it was trained in another environment, or with another number of --units"
                )
        return own | {name: tensors[theirs] for name, theirs in found.items()}

    def parts(self) -> dict[str, Stateful]:
        return {"optimiser": self.optimiser, "tally": self.tally}

    @property
    def device(self) -> torch.device:
        return self.updates.device

    def initial(self, slots: int) -> Remembered | None:
        return self.perception.initial(slots, self.device)

    @torch.no_grad()
    def act(
        self,
        memory: Any,
        observation: Any,
        first: Bool[np.ndarray, " slot"],
        generator: torch.Generator,
        info: Info,
    ) -> tuple[Any, Shaped[np.ndarray, "slot *action"], dict[str, Any]]:
        known, extras = self.perception.now(memory, observation, first, self.device)
        drawn = self.policy.draw(self.heads.outputs(known), None if self.greedy else generator)
        extras["drawn"] = drawn.cpu().numpy()
        return self.perception.remembered(known, drawn), self.policy.action(drawn), extras

    def rewarded(self, memory: Any, reward: Float[np.ndarray, " slot"]) -> Any:
        return None if memory is None else replace(memory, reward=self.perception.scaled(reward, self.device))

    def tensor(self, rows: Shaped[np.ndarray, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.from_numpy(rows).to(self.device, torch.float32)

    def update(self, data: Rollout, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        config, tally = self.config, self.tally.episodes(data)
        acted = self.perception.sequences(data, self.device)
        with torch.no_grad():
            outputs, value, states = self.through(acted)
            log_probability = self.policy.evaluate(outputs, acted.drawn.flatten(0, 1))[0].view(data.reward.shape)
        reward = self.tally.scaled(data, config.reward_scale, config.discount, self.rewards)
        estimates = self.estimated(data, acted, reward, log_probability, value.view(data.reward.shape), states)
        sequences, old = self.cut(acted, estimates, states)
        fraction = config.schedule.fraction(int(self.updates))
        for group in self.optimiser.param_groups:
            group["lr"] = config.optimiser.learning_rate * fraction
        clip = config.clip * (fraction if config.clip_decays else 1)
        totals: list[dict[str, Tensor]] = []
        for epoch in range(config.epochs):
            if epoch and config.recompute:
                with torch.no_grad():
                    _, value, states = self.through(acted)
                again = self.estimated(data, acted, reward, log_probability, value.view(data.reward.shape), states)
                old = replace(self.cut(acted, again, states)[1], value=old.value)
            if self.epoch(sequences, old, clip, engine, totals):
                break
        self.updates += 1
        if config.normalise_observations:
            counted = acted.weight.flatten() > 0
            self.observer.learn([part[counted] for part in self.observer.rows(data.observation, self.device)])
        means = {name: torch.stack([terms[name] for terms in totals]).mean() for name in totals[0]}
        means["policy/updates"] = torch.tensor(float(len(totals)))
        counted = acted.weight > 0
        target, residual = estimates.target[counted], (estimates.target - estimates.value)[counted]
        if len(target) > 1 and target.var() > 0:
            means["value/explained"] = 1 - residual.var() / target.var()
        return means | tally

    def through(
        self, sequences: Sequences
    ) -> tuple[Float[Tensor, "row output"], Float[Tensor, " row"], Float[Tensor, "step sequence unit"] | None]:
        """Policy outputs and value at each step, as rows, and the hidden states of the GRU."""
        known, states = self.perception.through(sequences)
        return *self.heads(known), states

    @torch.no_grad()
    def estimated(
        self,
        data: Rollout,
        acted: Sequences,
        reward: Float[np.ndarray, "step slot"],
        log_probability: Float[Tensor, "step slot"],
        value: Float[Tensor, "step slot"],
        states: Float[Tensor, "step slot unit"] | None,
    ) -> Estimates:
        """Advantages and value targets, (step, slot)."""
        config, over = self.config, data.terminated | data.truncated
        asked = bootstrapped(data.truncated & ~data.terminated, over, config.bootstrap_truncated)
        bootstrap = self.heads.values(self.perception.after(data, acted, asked, states)).double().cpu().numpy()
        values = value.double().cpu().numpy()
        after = values_after(values, asked, bootstrap, over)
        if config.n_steps:
            returns = n_step_returns(reward, after, over, config.discount, config.n_steps)
            advantage = returns - values
        else:
            advantage = advantages(reward, values, after, over, config.discount, config.trace)
            returns = advantage + values
        target = reward + config.discount * after if config.value_target == "one-step" else returns
        normalised = self.tensor(advantage)
        if config.normalise_advantages == "rollout":
            normalised = standardised(normalised, acted.weight)
        return Estimates(log_probability, value, normalised, self.tensor(target))

    def cut(
        self, acted: Sequences, estimates: Estimates, states: Float[Tensor, "step slot unit"] | None
    ) -> tuple[Sequences, Estimates]:
        sequences, cut_rows = cut(acted, states, self.config.sequence_steps)
        return sequences, Estimates(*(cut_rows(values) for values in vars(estimates).values()))

    def epoch(
        self,
        sequences: Sequences,
        old: Estimates,
        clip: float,
        engine: Engine,
        totals: list[dict[str, Tensor]],
    ) -> bool:
        """One epoch over the sequences; return whether it stopped early, at a KL divergence above the limit."""
        order, ranges = minibatches(sequences.first.shape[1], self.config.minibatches, engine)
        sequences, old = sequences.pick(order), old.pick(order)
        for rows in ranges:
            minibatch = sequences.pick(rows)
            embedding, _ = self.perception.through(minibatch)
            terms, backward = self.loss(embedding, minibatch, old.pick(rows), clip)
            totals.append(terms)
            if self.config.max_kl and float(terms["policy/kl"]) > 1.5 * self.config.max_kl:
                return True
            descend(embedding, backward, self.optimiser, engine, self.config.gradient_clip or None)
        return False

    @torch.no_grad()
    def loss(
        self, embedding: Float[Tensor, "row number"], sequences: Sequences, old: Estimates, clip: float
    ) -> tuple[dict[str, Float[Tensor, ""]], Callable[[], Tensor]]:
        """Terms of the loss, and a function that returns its gradient with respect to the embedding, and sets
        those of the weights of heads and policy."""
        config = self.config
        outputs, value, below_heads = self.heads.vjp(embedding)
        log_probability, entropy, below_policy = self.policy.evaluate_vjp(outputs, sequences.drawn.flatten(0, 1))
        weight = sequences.weight.flatten() / sequences.weight.sum().clamp(min=1)
        advantage = old.advantage
        if config.normalise_advantages == "minibatch":
            advantage = standardised(advantage, sequences.weight)
        log_ratio = log_probability - old.log_probability.flatten()
        ratio = log_ratio.exp()
        policy, of_log_ratio = policy_loss(ratio, advantage.flatten(), clip)
        error, of_value = self.value_loss(value, old.value.flatten(), old.target.flatten())
        terms = {
            "loss/policy": policy @ weight,
            "loss/value": error @ weight,
            "policy/entropy": entropy @ weight,
            # The unbiased estimator of the KL divergence with the least variance (Schulman 2020).
            "policy/kl": (ratio - 1 - log_ratio) @ weight,
        }
        if clip:
            terms["policy/clipped"] = ((ratio - 1).abs() > clip).to(weight) @ weight

        def backward() -> Tensor:
            of_outputs = below_policy(of_log_ratio * weight, -config.entropy_weight * weight)
            return below_heads(of_outputs, config.value_weight * of_value * weight)

        return terms, backward

    def value_loss(
        self, value: Float[Tensor, " row"], old: Float[Tensor, " row"], target: Float[Tensor, " row"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
        """Value loss of each step and its derivative with respect to the value; with `value_clip` the larger of
        the losses of the value and the clipped value."""
        config = self.config

        def error(found: Tensor) -> Tensor:
            if config.value_loss == "huber":
                return functional.smooth_l1_loss(found, target, reduction="none")
            return (found - target).square()

        residual, change, limit = value - target, value - old, config.value_clip
        slope = residual.clamp(-1, 1) if config.value_loss == "huber" else 2 * residual
        plain = error(value)
        if not limit:
            return plain, slope
        # Within the range old + change differs from the value by rounding.
        beyond = change.abs() > limit
        clipped = error(torch.where(beyond, old + change.clamp(-limit, limit), value))
        return torch.maximum(plain, clipped), slope.masked_fill(beyond & (clipped > plain), 0)


def policy_loss(
    ratio: Float[Tensor, " row"], advantage: Float[Tensor, " row"], clip: float
) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
    """Clipped surrogate loss −min(ρ A, clip(ρ) A) of each step, and its derivative with respect to log ρ."""
    plain = ratio * advantage
    if not clip:
        return -plain, -plain
    clipped = ratio.clamp(1 - clip, 1 + clip) * advantage
    # Where the clipped product is the smaller, the ratio is beyond the range.
    return -torch.minimum(plain, clipped), (-plain).masked_fill(clipped < plain, 0)


def standardised(
    values: Float[Tensor, "step sequence"], weight: Float[Tensor, "step sequence"]
) -> Float[Tensor, "step sequence"]:
    """Values standardised over the steps that count; unchanged if there are fewer than two."""
    count = float(weight.sum())
    if count < 2:
        return values
    if count == values.numel():
        deviation, mean = torch.std_mean(values)
        return (values - mean) / (deviation + 1e-8)
    centred = values - (values * weight).sum() / count
    return centred / (((centred.square() * weight).sum() / (count - 1)).sqrt() + 1e-8)
