"""Deep Q-learning (Mnih et al. 2015, "Human-level control through deep reinforcement learning").

    L = E_replay[w l(Q(s, a) − y)],    y = r + γ Q'(s', argmax_a Q(s', a))

Q' is the target network, a copy of Q that follows it slowly; the next action is selected by Q itself (double
Q-learning, van Hasselt et al. 2016, arXiv 1509.06461), and returns may be of n steps. A duelling network has
separate heads for the value and the advantage of each action (Wang et al. 2016, arXiv 1511.06581). Sampling from
the replay is uniform or prioritised, as its settings say (`agents/replay.py`). The output of frozen ears is
computed once, where the agent acts, and stored beside the sound if it takes no more space than that.

With `memory`, a GRU reads the observation with the previous action and reward, and learning is from sequences: the
hidden state stored in acting, burn-in steps that recompute it with the current weights, and then the steps whose
errors count (Kapturowski et al. 2019, "Recurrent experience replay in distributed reinforcement learning", R2D2).
"""

import copy
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium import Space
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sonarium.agents.contract import Agent, Hearing, Info, Separation, Stochastic
from sonarium.agents.dense import descend
from sonarium.agents.networks import Remembered, previous_of, threads_for
from sonarium.agents.observing.observer import Observer
from sonarium.agents.policy import Categoricals
from sonarium.agents.priorities import sequence_priority
from sonarium.agents.replay import Replay, ReplayConfig, Replayed
from sonarium.agents.returns import n_step_returns
from sonarium.agents.rollout import Rollout
from sonarium.agents.tally import Tally
from sonarium.agents.values import LOSSES, SLOPES, Values, discrete, epsilon_after, epsilon_greedy
from sonarium.config import Range, check_ranges
from sonarium.models.contract import Engine, Learner
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.training.contract import Stateful

RESCALING = 1e-3
"""ε of the rescaled values (Pohlen et al. 2018, arXiv 1805.11593)."""
READ_AT_ONCE = 2**16
"""Bytes of the replay that are read for several updates at once."""
MEMORY = "memory"
"""The extra that a recurrent agent stores: its memory before each step."""


@dataclass(frozen=True)
class DQNConfig:
    units: Annotated[int, Range(1, 8192)] = 64
    """Hidden units per layer, and size of the embedding of an image or a sound."""
    layers: Annotated[int, Range(0, 16)] = 2
    """Number of hidden layers."""
    activation: Literal["tanh", "relu"] = "relu"
    """Activation function of the hidden layers."""
    layer_norm: bool = False
    """Layer normalisation before each activation."""
    duelling: bool = False
    """Duelling network: separate heads for the state value and the action advantages."""
    double: bool = True
    """Double Q-learning: the online network selects the next action, the target network evaluates it; otherwise
    the target network does both."""
    memory: Annotated[int, Range(0, 8192)] = 0
    """Hidden units of a GRU over the episode, which also reads the previous action and reward; 0 is no
    recurrence."""
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
    n_steps: Annotated[int, Range(1, 10**5)] = 1
    """Number of steps n of the n-step returns, before bootstrapping; sequences must be at least as long."""
    bootstrap_truncated: bool = True
    """Bootstrap from the value after a truncated episode; otherwise truncation counts as termination."""
    rescaled: bool = False
    """Value rescaling for rewards of any size (R2D2): learn sign(v) (√(|v| + 1) − 1) + .001 v in place of v."""
    loss: Literal["huber", "squared", "absolute"] = "huber"
    """Loss of the TD error: huber (smooth L1), squared, or absolute."""
    target_update_interval: Annotated[int, Range(1, 10**9)] = 500
    """Gradient steps between updates of the target network."""
    tau: Annotated[float, Range(0, 1, above=True)] = 1.0
    """Soft-update coefficient τ of the target network: 1 copies the weights; a small τ with an update at each
    gradient step is Polyak averaging."""
    epsilon_start: Annotated[float, Range(0, 1)] = 1.0
    """Initial exploration rate ε, the probability of a random action."""
    epsilon_end: Annotated[float, Range(0, 1)] = 0.05
    """Final exploration rate ε."""
    epsilon_schedule: Literal["linear", "exponential"] = "linear"
    """Schedule of ε: linear, or exponential decay, which only approaches the final rate."""
    epsilon_steps: Annotated[int, Range(0, 10**9)] = 0
    """Training steps over which ε decays, or the time constant of its exponential decay (to 37 %); 0 takes a fifth
    of the `--steps` that the run began with."""
    learning_starts: Annotated[int, Range(0, 10**9)] = 1000
    """Steps collected in the replay buffer before learning starts."""
    batch_size: Annotated[int, Range(1, 10**6)] = 64
    """Batch size, in sequences from the replay buffer."""
    gradient_steps: Annotated[int, Range(1, 10**6)] = 32
    """Gradient steps after each rollout."""
    gradient_clip: Annotated[float, Range(0, 1e6)] = 10.0
    """Gradient clipping norm; 0 disables clipping."""
    replay: ReplayConfig = ReplayConfig()
    optimiser: AdamConfig = AdamConfig(learning_rate=1e-3)
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.n_steps > self.replay.sequence_steps:
            raise ValueError(
                f"n_steps={self.n_steps}: the sequences of the replay have {self.replay.sequence_steps}; give "
                f"--sequence-steps {self.n_steps} or more"
            )
        if self.replay.burn_in and not self.memory:
            raise ValueError(f"burn_in={self.replay.burn_in}: it is for agents with --memory; leave it out")
        if self.replay.cross_episodes:
            raise ValueError("cross_episodes=True: sequences of DQN end with their episode; leave it out")


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences from the replay, (step, sequence, …), the burn-in first."""

    parts: list[Tensor]
    """Prepared parts of the observations, the inputs of both networks."""
    last: list[Tensor]
    """Prepared parts of the observation after the last step of each sequence, (sequence, …)."""
    action: Int[Tensor, "step sequence"]
    first: Bool[Tensor, "step sequence"]
    earned: Float[Tensor, "step sequence"]
    """Discounted rewards of the n steps from each step on."""
    behind: Int[Tensor, "step sequence"]
    """Index of the last of these steps, after which the return is bootstrapped."""
    kept: Float[Tensor, "step sequence"]
    """Discount of the bootstrap value, 0 where there is none."""
    ends: Int[Tensor, " sequence"]
    """Index of the last step that counts."""
    share: Float[Tensor, "step sequence"]
    """Weight of each step in the loss of a batch: equal for steps that count, times the sequence's importance."""
    previous: Float[Tensor, "step sequence number"] | None = None
    """Previous action and reward at each step."""
    state: Float[Tensor, "sequence unit"] | None = None
    """Hidden state of the GRU before the first step."""
    after: Float[Tensor, "sequence number"] | None = None
    """Action and reward of the last step that counts."""

    def some(self, begin: int, end: int) -> "Sequences":
        """Sequences from `begin` to `end`."""
        cut = slice(begin, end)
        return Sequences(
            [part[:, cut] for part in self.parts], [part[cut] for part in self.last], self.action[:, cut],
            self.first[:, cut], self.earned[:, cut], self.behind[:, cut], self.kept[:, cut], self.ends[cut],
            self.share[:, cut], *(
                None if rows is None else rows[index]
                for rows, index in ((self.previous, (slice(None), cut)), (self.state, cut), (self.after, cut))
            ),
        )  # fmt: skip


class DQN(Learner, Agent, Stochastic):
    """Deep Q-network; `greedy` takes the best action, otherwise actions are ε-greedy."""

    updates: Tensor
    learnt: Tensor

    def __init__(
        self, config: DQNConfig, observed: Space, acted: Space, hearing: Hearing | Separation | None = None
    ):
        super().__init__()
        self.config, self.space = config, discrete(acted, "DQN")
        self.actions = Categoricals(self.space)
        observer = Observer(
            observed,
            config.units,
            False,
            config.sound_rate,
            hearing,
            config.train_ears,
            config.separated,
            carried=config.carry_ears,
        )
        sizes = config.units, config.layers, config.activation, config.memory
        self.online = Values(observer, self.actions, *sizes, config.duelling, config.layer_norm)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.optimiser = config.optimiser.build(
            [one for one in self.online.parameters() if one.requires_grad], fused=True
        )
        self.replay = Replay(config.replay, observer.space, [MEMORY])
        self.tally = Tally()
        self.threads = threads_for(config.units, observer, self.online.gru)
        # Schedules depend on the number of rollouts, the target network on that of gradient steps.
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.register_buffer("learnt", torch.zeros((), dtype=torch.long))

    def restart(self) -> None:
        self.updates.zero_()
        self.learnt.zero_()

    def parts(self) -> dict[str, Stateful]:
        return {"optimiser": self.optimiser, "replay": self.replay, "tally": self.tally}

    @property
    def device(self) -> torch.device:
        return next(self.online.advantage.parameters()).device

    @property
    def epsilon(self) -> float:
        config = self.config
        exponential = config.epsilon_schedule == "exponential"
        span = config.epsilon_start, config.epsilon_end, config.epsilon_steps
        return epsilon_after(int(self.updates), *span, exponential)

    def initial(self, slots: int) -> Remembered | None:
        if self.online.gru is None:
            return None
        return Remembered.nothing(slots, self.config.memory, self.actions.width, self.device)

    @torch.no_grad()
    def act(
        self,
        memory: Any,
        observation: Any,
        first: Bool[np.ndarray, " slot"],
        generator: torch.Generator,
        info: Info,
    ) -> tuple[Any, Shaped[np.ndarray, "slot *action"], dict[str, Any]]:
        own = self.online
        parts = own.observer.prepared(own.observer.rows(observation, self.device))
        extras = {f"heard {number}": parts[number].cpu().numpy() for number in own.observer.compact}
        known = own.observer(parts)
        if own.gru is not None:
            begins = torch.from_numpy(first).to(self.device)
            previous = previous_of(memory.action, memory.reward, begins)
            kept = memory.state * (~begins).float()[:, None]
            extras[MEMORY] = torch.cat([kept, previous], 1).cpu().numpy()
            known = own.gru(torch.cat([known, previous], 1)[None], begins[None], memory.state)[0]
        values = own.of(known)
        drawn = values.argmax(1) if self.greedy else epsilon_greedy(values, self.epsilon, generator)
        if own.gru is not None:
            memory = Remembered(known, self.actions.encode(drawn[:, None]), torch.zeros_like(memory.reward))
        return memory, self.actions.action(drawn[:, None]), extras

    def rewarded(self, memory: Any, reward: Float[np.ndarray, " slot"]) -> Any:
        return None if memory is None else replace(memory, reward=self.tensor(reward))

    def tensor(self, rows: Shaped[np.ndarray, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.device, torch.float32)

    def update(self, data: Rollout, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        config, terms = self.config, self.tally.episodes(data)
        terms["policy/epsilon"] = torch.tensor(self.epsilon)
        self.replay.add(self.with_heard(data), engine)
        for group in self.optimiser.param_groups:
            group["lr"] = config.optimiser.learning_rate * config.schedule.fraction(int(self.updates))
        self.updates += 1
        if self.replay.ready and self.replay.added >= config.learning_starts:
            done, found = 0, []
            while done < config.gradient_steps:
                batches = min(config.gradient_steps - done, self.batches_at_once)
                learnt = self.learn(self.replay.sample(config.batch_size, batches), batches, engine)
                found += batches * [learnt]
                done += batches
            terms |= {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}
        return terms

    @torch.no_grad()
    def with_heard(self, data: Rollout) -> Rollout:
        """The rollout with the prepared sound after each action, mostly taken from that before the next action."""
        observer, extras = self.online.observer, dict(data.extras)
        if not observer.compact:
            return data
        fresh = data.terminated | data.truncated
        fresh[:-1] |= data.first[1:]
        fresh[-1] = True
        chosen = torch.from_numpy(np.flatnonzero(fresh)).to(self.device)
        parts = observer.prepared([part[chosen] for part in observer.rows(data.last, self.device)])
        for number in observer.compact:
            before = data.extras[f"heard {number}"]
            after = np.concatenate([before[1:], before[-1:]])
            after[fresh] = parts[number].cpu().numpy()
            extras[f"heard after {number}"] = after
        return replace(data, extras=extras)

    @property
    def batches_at_once(self) -> int:
        """Number of batches read from the replay at once: 1 if priorities change with each update, or if batches
        are large."""
        config, replay = self.config, self.config.replay
        if self.replay.prioritised:
            return 1
        steps = config.batch_size * (replay.burn_in + replay.sequence_steps + 1)
        return max(1, READ_AT_ONCE // (steps * self.replay.step_bytes))

    def learn(self, some: Replayed, batches: int, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """One gradient step on each of `batches` batches, which lie side by side."""
        config, size, found = self.config, self.config.batch_size, []
        every, valued = self.sequences(some, batches), torch.zeros(0)
        for batch in range(batches):
            wait = config.target_update_interval - int(self.learnt) % config.target_update_interval
            if not batch or wait == config.target_update_interval:
                # As long as the target network does not change, one pass evaluates the next steps of all batches.
                valued = self.valued(every.some(batch * size, min(batch + wait, batches) * size))
            own, valued = valued[:, :size], valued[:, size:]
            found.append(self.descend(every.some(batch * size, (batch + 1) * size), own, engine))
        loss, chosen, wanted = zip(*found, strict=True)
        errors, weight = torch.cat(chosen, 1) - torch.cat(wanted, 1), every.share[config.replay.burn_in :] > 0
        if self.replay.prioritised:
            rows = errors.double().cpu().numpy(), weight.float().cpu().numpy()
            self.replay.prioritise(some.rows, sequence_priority(*rows))
        return {
            "loss/value": torch.stack(loss).mean(),
            "value/error": errors.abs()[weight].mean(),
            "value/mean": torch.cat(chosen, 1)[weight].mean(),
        }

    @torch.no_grad()
    def valued(self, sequences: Sequences) -> Float[Tensor, "step sequence action"]:
        """Q of the observation after each step past the burn-in, by the target network."""
        return self.behind(self.target, sequences, self.states(self.target, sequences))

    def descend(
        self, sequences: Sequences, valued: Float[Tensor, "step sequence action"], engine: Engine
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "step sequence"], Float[Tensor, "step sequence"]]:
        """One gradient step: its loss, the values of the actions, and their targets."""
        config, burn = self.config, self.config.replay.burn_in
        states = self.states(self.online, sequences)
        known = self.known(sequences, states)
        with torch.no_grad():
            values, below = self.online.vjp(known)
            choosing = self.behind(self.online, sequences, states) if config.double else valued
            wanted = self.wanted(sequences, choosing, valued)
            action, share = sequences.action[burn:].reshape(-1, 1), sequences.share[burn:]
            chosen = values.gather(1, action).view(share.shape)
            loss = (LOSSES[config.loss](chosen, wanted, reduction="none") * share).sum()
            slope = SLOPES[config.loss](chosen - wanted) * share
            gradient = torch.zeros_like(values).scatter_(1, action, slope.view(-1, 1))
        descend(known, lambda: below(gradient), self.optimiser, engine, config.gradient_clip or None)
        self.learnt += 1
        if int(self.learnt) % config.target_update_interval == 0:
            self.renew()
        return loss, chosen, wanted

    @torch.no_grad()
    def renew(self) -> None:
        """Update the target network toward the online network, by τ."""
        pairs = zip(self.target.state_dict().values(), self.online.state_dict().values(), strict=True)
        for kept, new in pairs:
            if kept.is_floating_point():
                kept.lerp_(new, self.config.tau)
            else:
                kept.copy_(new)

    def sequences(self, some: Replayed, batches: int = 1) -> Sequences:
        """Replayed sequences as tensors; `share` is normalised in each of the batches side by side."""
        observer, device, burn = self.online.observer, self.device, self.config.replay.burn_in
        steps, count = some.reward.shape
        heard = {number: self.tensor(some.extras[f"heard {number}"]).flatten(0, 1) for number in observer.compact}
        after = {number: self.tensor(some.extras[f"heard after {number}"][-1]) for number in observer.compact}
        prepared = observer.prepared(observer.rows(some.observation, device), heard)
        parts = [part.unflatten(0, (steps, count)) for part in prepared]
        last = observer.prepared(observer.rows(some.last, device), after)
        first = torch.from_numpy(some.first).to(self.device)
        action = torch.from_numpy(some.action).to(self.device).long() - int(self.space.start)
        # The steps that count are consecutive, after the burn-in; those after them repeat the last one.
        weight = some.weight.reshape(steps, batches, -1)
        ends = burn + (some.weight[burn:] > 0).cumsum(0).argmax(0)
        share = weight / weight.sum((0, 2), keepdims=True).clip(min=1)
        share = self.tensor(share.reshape(steps, count) * some.importance)
        ended = torch.from_numpy(ends).to(self.device)
        known = Sequences(parts, last, action, first, *self.returns(some, ends), ended, share)
        if self.online.gru is None:
            return known
        state, before = self.tensor(some.extras[MEMORY]).split([self.config.memory, self.actions.width + 1], 1)
        encoded = self.actions.encode(action.reshape(-1, 1)).unflatten(0, (steps, count))
        made = torch.cat([encoded, self.tensor(some.reward)[..., None]], 2)
        previous = torch.cat([before[None], made[:-1] * (~first[1:]).float()[..., None]])
        after = made[ended, torch.arange(count, device=self.device)]
        return replace(known, previous=previous, state=state, after=after)

    def returns(
        self, some: Replayed, ends: Int[np.ndarray, " sequence"]
    ) -> tuple[Float[Tensor, "step sequence"], Int[Tensor, "step sequence"], Float[Tensor, "step sequence"]]:
        """Rewards of the n steps from each step on, the last of them, and the discount of the bootstrap value."""
        config, over = self.config, np.zeros(some.reward.shape, bool)
        over[ends, np.arange(len(ends))] = True
        nothing = some.terminated if config.bootstrap_truncated else some.terminated | some.truncated
        none, steps = np.zeros(over.shape), np.arange(float(len(over)))[:, None] + np.zeros(over.shape)
        earned = n_step_returns(some.reward, none, over, config.discount, config.n_steps)
        behind = n_step_returns(none, steps, over, 1, config.n_steps).astype(np.int64)
        kept = n_step_returns(none, 1.0 - nothing, over, config.discount, config.n_steps)
        return self.tensor(earned), torch.from_numpy(behind).to(self.device), self.tensor(kept)

    def states(self, network: Values, sequences: Sequences) -> Float[Tensor, "step sequence unit"] | None:
        """Hidden states of the GRU after each step; the burn-in has no gradient."""
        if network.gru is None:
            return None
        assert sequences.previous is not None and sequences.state is not None
        known = network.observer([part.flatten(0, 1) for part in sequences.parts]).unflatten(
            0, sequences.first.shape
        )
        inputs, first, burn = (
            torch.cat([known, sequences.previous], 2),
            sequences.first,
            self.config.replay.burn_in,
        )
        with torch.no_grad():
            warm = network.gru(inputs[:burn], first[:burn], sequences.state) if burn else inputs[:0, :, :0]
        rest = network.gru(inputs[burn:], first[burn:], warm[-1] if burn else sequences.state)
        return torch.cat([warm, rest]) if burn else rest

    def known(
        self, sequences: Sequences, states: Float[Tensor, "all sequence unit"] | None
    ) -> Float[Tensor, "row number"]:
        """Embedding of each step past the burn-in, as rows."""
        if states is None:
            return self.online.observer([part.flatten(0, 1) for part in sequences.parts])
        return states[self.config.replay.burn_in :].flatten(0, 1)

    def behind(
        self, network: Values, sequences: Sequences, states: Float[Tensor, "all sequence unit"] | None
    ) -> Float[Tensor, "step sequence action"]:
        """Q of the observation after each step past the burn-in: that of the next step, or the last one."""
        burn, count = self.config.replay.burn_in, sequences.first.shape[1]
        every = torch.arange(count, device=sequences.first.device)
        if states is None:
            both = zip(sequences.parts, sequences.last, strict=True)
            known = network.observer([torch.cat([part[1:].flatten(0, 1), last]) for part, last in both])
        else:
            assert network.gru is not None and sequences.after is not None
            inputs = torch.cat([network.observer(sequences.last), sequences.after], 1)
            ended = network.gru.cell(inputs, states[sequences.ends, every])
            known = torch.cat([states[burn + 1 :].flatten(0, 1), ended])
        found = network.of(known).unflatten(0, (-1, count))
        if len(found) > 1:
            found[sequences.ends - burn, every] = found[-1].clone()
        return found

    def wanted(
        self,
        sequences: Sequences,
        choosing: Float[Tensor, "step sequence action"],
        valued: Float[Tensor, "step sequence action"],
    ) -> Float[Tensor, "step sequence"]:
        """Target value of each step past the burn-in, from Q of the observation after it."""
        rescaled, burn = self.config.rescaled, self.config.replay.burn_in
        best = valued.gather(2, choosing.argmax(2, keepdim=True))[..., 0]
        after = (unscaled(best) if rescaled else best).gather(0, sequences.behind[burn:] - burn)
        wanted = torch.addcmul(sequences.earned[burn:], sequences.kept[burn:], after)
        return scaled(wanted) if rescaled else wanted


def scaled(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Rescaled value, sign(v) (√(|v| + 1) − 1) + ε v."""
    return value.sign() * ((value.abs() + 1).sqrt() - 1) + RESCALING * value


def unscaled(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Inverse of `scaled`."""
    root = (1 + 4 * RESCALING * (value.abs() + 1 + RESCALING)).sqrt() - 1
    return value.sign() * ((root / (2 * RESCALING)).square() - 1)
