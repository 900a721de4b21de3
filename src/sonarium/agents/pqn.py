"""Parallelised Q-network (Gallici et al. 2024, "Simplifying deep temporal difference learning", arXiv 2407.04811).

    L = E[l(Q(s, a) − G)],    G(t) = r(t) + γ [λ G(t + 1) + (1 − λ) max_a Q(s(t + 1), a)]

over several epochs of minibatches of one rollout in many environments at once. The returns G are those of Q(λ) by
Peng and Williams (1996). There is neither a replay buffer nor a target network: layer normalisation and the many
environments keep learning stable. Actions are ε-greedy.

With `memory`, a GRU reads the observation with the previous action and reward, and minibatches consist of
sequences (`agents/perception.py`).
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium import Space
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from sonarium.agents.contract import Agent, Hearing, Info, Separation, Stochastic
from sonarium.agents.dense import descend
from sonarium.agents.networks import Remembered, RunningMeanStd, threads_for
from sonarium.agents.observing.observer import Observer
from sonarium.agents.perception import Perception, Sequences, cut, minibatches
from sonarium.agents.policy import Categoricals
from sonarium.agents.returns import bootstrapped, lambda_returns, values_after
from sonarium.agents.rollout import Rollout
from sonarium.agents.tally import Tally
from sonarium.agents.values import LOSSES, SLOPES, Values, discrete, epsilon_after, epsilon_greedy
from sonarium.config import Range, check_ranges
from sonarium.models.contract import Engine, Learner
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.training.contract import Stateful


@dataclass(frozen=True)
class PQNConfig:
    units: Annotated[int, Range(1, 8192)] = 128
    """Hidden units per layer, and size of the embedding of an image or a sound."""
    layers: Annotated[int, Range(0, 16)] = 2
    """Number of hidden layers."""
    activation: Literal["tanh", "relu"] = "relu"
    """Activation function of the hidden layers."""
    layer_norm: bool = True
    """Layer normalisation before each activation."""
    duelling: bool = False
    """Duelling network: separate heads for the state value and the action advantages."""
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
    """With --ears: fine-tune the encoder or separator with the Q-network; otherwise it is frozen."""
    separated: Literal["cues", "sums", "means", "loudness"] | None = None
    """With the run of a separator as --ears: features of each source. cues (the default): log-mel bands of both
    ears and interaural differences over time, through convolutions. sums: interaural phase and level differences
    per bin, weighted by the source's share and averaged over time. means: these averaged over all bins, too, and
    the level (OtoWorld's six numbers for two sources). loudness: loudness at each ear."""
    carry_ears: bool = False
    """With the run of a separator as --ears: carry its state from window to window of an episode; otherwise each
    window is separated independently."""
    discount: Annotated[float, Range(0, 1)] = 0.99
    """Discount factor γ of future rewards."""
    trace: Annotated[float, Range(0, 1)] = 0.95
    """Trace parameter λ of Q(λ): 0 takes the one-step return, 1 all rewards of the rollout."""
    bootstrap_truncated: bool = True
    """Bootstrap from the value after a truncated episode; otherwise truncation counts as termination."""
    recompute: bool = False
    """Recompute the returns before each epoch, with the current values."""
    reward_scale: Annotated[float, Range(0, 1e6, above=True)] = 1.0
    """Scaling factor of the rewards."""
    normalise_rewards: bool = True
    """Divide rewards by the running standard deviation of the discounted return."""
    normalise_observations: bool = False
    """Standardise numeric observations by their running mean and standard deviation."""
    epochs: Annotated[int, Range(1, 1000)] = 4
    """Epochs per rollout."""
    minibatches: Annotated[int, Range(1, 10**6)] = 8
    """Minibatches per epoch: of steps, or with memory of whole sequences; at most one per step or sequence."""
    loss: Literal["huber", "squared", "absolute"] = "squared"
    """Loss of the TD error: huber (smooth L1), squared, or absolute."""
    epsilon_start: Annotated[float, Range(0, 1)] = 1.0
    """Initial exploration rate ε, the probability of a random action."""
    epsilon_end: Annotated[float, Range(0, 1)] = 0.05
    """Final exploration rate ε; it decays linearly."""
    epsilon_steps: Annotated[int, Range(0, 10**9)] = 0
    """Training steps over which ε decays; 0 takes a fifth of the `--steps` that the run began with."""
    gradient_clip: Annotated[float, Range(0, 1e6)] = 10.0
    """Gradient clipping norm; 0 disables clipping."""
    optimiser: AdamConfig = AdamConfig(learning_rate=1e-3, epsilon=1e-5)
    schedule: ScheduleConfig = ScheduleConfig("linear")

    def __post_init__(self) -> None:
        check_ranges(self)


class PQN(Learner, Agent, Stochastic):
    """Parallelised Q-network; `greedy` takes the best action, otherwise actions are ε-greedy."""

    updates: Tensor

    def __init__(
        self, config: PQNConfig, observed: Space, acted: Space, hearing: Hearing | Separation | None = None
    ):
        super().__init__()
        self.config = config
        self.actions = Categoricals(discrete(acted, "PQN"))
        observer = Observer(
            observed,
            config.units,
            config.normalise_observations,
            config.sound_rate,
            hearing,
            config.train_ears,
            config.separated,
            carried=config.carry_ears,
        )
        sizes = config.units, config.layers, config.activation, config.memory
        self.network = Values(observer, self.actions, *sizes, config.duelling, config.layer_norm)
        self.perception = Perception(observer, self.network.gru, self.actions, config.reward_scale)
        self.rewards = RunningMeanStd(1) if config.normalise_rewards else None
        self.optimiser = config.optimiser.build(
            [one for one in self.parameters() if one.requires_grad], fused=True
        )
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.tally = Tally()
        self.threads = threads_for(config.units, observer, self.network.gru)

    def restart(self) -> None:
        self.updates.zero_()

    def parts(self) -> dict[str, Stateful]:
        return {"optimiser": self.optimiser, "tally": self.tally}

    @property
    def device(self) -> torch.device:
        return next(self.network.advantage.parameters()).device

    @property
    def epsilon(self) -> float:
        config = self.config
        return epsilon_after(int(self.updates), config.epsilon_start, config.epsilon_end, config.epsilon_steps)

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
        values = self.network.of(known)
        chosen = values.argmax(1) if self.greedy else epsilon_greedy(values, self.epsilon, generator)
        drawn = chosen[:, None]
        extras["drawn"] = drawn.cpu().numpy()
        return self.perception.remembered(known, drawn), self.actions.action(drawn), extras

    def rewarded(self, memory: Any, reward: Float[np.ndarray, " slot"]) -> Any:
        return None if memory is None else replace(memory, reward=self.perception.scaled(reward, self.device))

    def update(self, data: Rollout, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        config, terms = self.config, self.tally.episodes(data)
        terms["policy/epsilon"] = torch.tensor(self.epsilon)
        acted = self.perception.sequences(data, self.device)
        reward = self.tally.scaled(data, config.reward_scale, config.discount, self.rewards)
        returns, states = self.returns(data, acted, reward)
        sequences, likewise = cut(acted, states, config.sequence_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = config.optimiser.learning_rate * config.schedule.fraction(int(self.updates))
        found: list[dict[str, Tensor]] = []
        for epoch in range(config.epochs):
            if epoch and config.recompute:
                returns, _ = self.returns(data, acted, reward)
            found += self.epoch(sequences, likewise(returns), engine)
        self.updates += 1
        if config.normalise_observations:
            counted = acted.weight.flatten() > 0
            parts = self.network.observer.rows(data.observation, self.device)
            self.network.observer.learn([part[counted] for part in parts])
        return terms | {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}

    @torch.no_grad()
    def returns(
        self, data: Rollout, acted: Sequences, reward: Float[np.ndarray, "step slot"]
    ) -> tuple[Float[Tensor, "step slot"], Float[Tensor, "step slot unit"] | None]:
        """Target value of each step, by Q(λ), and the hidden states of the GRU."""
        config, over = self.config, data.terminated | data.truncated
        known, states = self.perception.through(acted)
        asked = bootstrapped(data.truncated & ~data.terminated, over, config.bootstrap_truncated)
        rest = best(self.network.of(self.perception.after(data, acted, asked, states)))
        after = values_after(best(self.network.of(known)).reshape(over.shape), asked, rest, over)
        found = lambda_returns(reward, after, over, config.discount, config.trace)
        return torch.from_numpy(found).to(self.device, torch.float32), states

    def epoch(
        self, sequences: Sequences, returns: Float[Tensor, "step sequence"], engine: Engine
    ) -> list[dict[str, Float[Tensor, ""]]]:
        """One epoch over the sequences."""
        found = []
        order, ranges = minibatches(sequences.first.shape[1], self.config.minibatches, engine)
        sequences, returns = sequences.pick(order), returns[:, order]
        for rows in ranges:
            found.append(self.descend(sequences.pick(rows), returns[:, rows], engine))
        return found

    def descend(
        self, sequences: Sequences, returns: Float[Tensor, "step sequence"], engine: Engine
    ) -> dict[str, Float[Tensor, ""]]:
        """One gradient step: terms of its loss."""
        known, _ = self.perception.through(sequences)
        with torch.no_grad():
            values, below = self.network.vjp(known)
            action, wanted = sequences.drawn.flatten(0, 1), returns.flatten()
            weight = sequences.weight.flatten() / sequences.weight.sum().clamp(min=1)
            chosen = values.gather(1, action)[:, 0]
            error = chosen - wanted
            slope = SLOPES[self.config.loss](error) * weight
            gradient = torch.zeros_like(values).scatter_(1, action, slope[:, None])
        descend(known, lambda: below(gradient), self.optimiser, engine, self.config.gradient_clip or None)
        return {
            "loss/value": LOSSES[self.config.loss](chosen, wanted, reduction="none") @ weight,
            "value/error": error.abs() @ weight,
            "value/mean": chosen @ weight,
        }


def best(values: Float[Tensor, "row action"]) -> Float[np.ndarray, " row"]:
    return values.max(1).values.double().cpu().numpy()
