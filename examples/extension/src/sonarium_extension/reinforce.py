"""An agent: REINFORCE (Williams 1992) with a baseline that is fitted to replayed returns.

    policy:   ascend E[(G − V(s)) ∇ log π(a|s)]
    baseline: descend E[(G − V(s))²] over the newest rollouts

A baseline that does not depend on the action leaves the gradient of the policy unbiased, so it may learn from old
rollouts. These are stored in segments, immutable files; a checkpoint holds only their names.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.agents.contract import Agent, AgentEntry, Info
from sonarium.agents.rollout import Rollout, drawn_seed
from sonarium.models.blocks import perceptron
from sonarium.models.contract import Engine, Learner
from sonarium.models.optim import AdamConfig
from sonarium.training.contract import Segment, Stateful, Tree


@dataclass(frozen=True)
class ReinforceConfig:
    units: int = 32
    """Units in the hidden layer of the policy and of the baseline."""
    discount: float = 0.9
    """Discount factor γ of future rewards."""
    entropy_weight: float = 0.01
    """Weight of the entropy of the policy, which keeps it exploring."""
    replay: int = 8
    """Rollouts that the baseline learns from, the newest."""
    replay_rows: int = 256
    """Steps that the baseline learns from in one update, drawn from one rollout of the replay."""
    policy: AdamConfig = AdamConfig(learning_rate=3e-3)
    baseline: AdamConfig = AdamConfig(learning_rate=3e-3)

    def __post_init__(self) -> None:
        demands = (
            ("units", self.units >= 1, "a whole number of at least 1"),
            ("discount", 0 <= self.discount <= 1, "a number from 0 to 1"),
            ("entropy_weight", self.entropy_weight >= 0, "a number of at least 0"),
            ("replay", self.replay >= 1, "a whole number of at least 1"),
            ("replay_rows", self.replay_rows >= 1, "a whole number of at least 1"),
        )
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name}={getattr(self, name)}: give {expected}")


class Replay:
    """The newest rollouts, each in a segment of the run, and the generator by which steps are drawn."""

    def __init__(self, most: int):
        self.most = most
        self.segments: list[Segment] = []
        self.random: np.random.Generator | None = None

    def add(
        self, observation: Float[np.ndarray, "row *observed"], returns: Float[np.ndarray, " row"], engine: Engine
    ):
        if self.random is None:
            # Seeded by the first rollout, so that it follows the seed of the training.
            self.random = np.random.default_rng(drawn_seed(engine.generator))
        stored = engine.segments("replay").append({"observation": observation, "returns": returns})
        self.segments = [*self.segments, stored][-self.most :]

    def draw(self, rows: int) -> tuple[Float[np.ndarray, "row *observed"], Float[np.ndarray, " row"]]:
        """Random steps of one random rollout."""
        assert self.random is not None, "add a rollout first"
        arrays = self.segments[self.random.integers(len(self.segments))].load()
        chosen = self.random.integers(len(arrays["returns"]), size=rows)
        return arrays["observation"][chosen], arrays["returns"][chosen]

    def state_dict(self) -> Tree:
        return {"segments": self.segments, "random": self.random}

    def load_state_dict(self, state: Tree, /) -> None:
        self.segments, self.random = list(state["segments"]), state["random"]


class Reinforce(Learner, Agent):
    def __init__(self, config: ReinforceConfig, observed: Space, acted: Space):
        super().__init__()
        if not isinstance(observed, spaces.Box) or not isinstance(acted, spaces.Discrete) or acted.start != 0:
            raise ValueError(
                f"REINFORCE takes observations in a Box and actions from 0 in a Discrete space, not {observed} "
                f"and {acted}: choose another --env"
            )
        self.config = config
        size, actions = int(np.prod(observed.shape)), int(acted.n)
        self.policy = nn.Sequential(nn.Flatten(), *perceptron([size, config.units, actions], 0.0))
        self.baseline = nn.Sequential(nn.Flatten(), *perceptron([size, config.units, 1], 0.0))
        self.policy_optimiser = config.policy.build(self.policy.parameters())
        self.baseline_optimiser = config.baseline.build(self.baseline.parameters())
        self.replay = Replay(config.replay)

    def parts(self) -> dict[str, Stateful]:
        return {"policy": self.policy_optimiser, "baseline": self.baseline_optimiser, "replay": self.replay}

    def initial(self, slots: int) -> None:
        """No memory."""

    @torch.no_grad()
    def act(
        self,
        memory: Any,
        observation: Float[np.ndarray, "slot *observed"],
        first: Bool[np.ndarray, " slot"],
        generator: torch.Generator,
        info: Info,
    ) -> tuple[Any, Int[np.ndarray, " slot"], dict[str, Any]]:
        chances = self.policy(self.tensor(observation)).softmax(1)
        return memory, torch.multinomial(chances, 1, generator=generator)[:, 0].cpu().numpy(), {}

    def update(self, data: Rollout, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        # The spaces were checked when the agent was built.
        assert isinstance(data.observation, np.ndarray), type(data.observation)
        # Some vector environments ignore the action of the step that resets an episode.
        acted = np.ones(data.reward.shape, bool) if data.acted is None else data.acted
        observation, gained = data.observation[acted], self.returns(data)[acted].astype(np.float32)
        self.replay.add(observation, gained, engine)
        seen, action = self.tensor(observation), torch.from_numpy(data.action[acted]).to(engine.device)
        policy = torch.distributions.Categorical(logits=self.policy(seen))
        with torch.no_grad():
            advantage = self.tensor(gained) - self.baseline(seen)[:, 0]
        loss, entropy = -(advantage * policy.log_prob(action)).mean(), policy.entropy().mean()
        engine.descend(loss - self.config.entropy_weight * entropy, self.policy_optimiser)
        error = self.update_baseline(engine)
        ended = data.terminated | data.truncated
        terms = {"loss/policy": loss, "loss/baseline": error, "policy/entropy": entropy}
        terms |= {
            "episodes/reward": torch.tensor(data.reward[acted].mean()),
            "episodes/ended": torch.tensor(ended[acted].mean()),
        }
        return {name: value.detach() for name, value in terms.items()}

    def update_baseline(self, engine: Engine) -> Float[Tensor, ""]:
        """Take one step of the baseline on steps of the replay; return its loss."""
        observation, gained = self.replay.draw(self.config.replay_rows)
        error = functional.mse_loss(self.baseline(self.tensor(observation))[:, 0], self.tensor(gained))
        engine.descend(error, self.baseline_optimiser)
        return error

    @torch.no_grad()
    def returns(self, data: Rollout) -> Float[np.ndarray, "step slot"]:
        """Discounted returns, bootstrapped by the baseline where an episode is truncated or the rollout ends, but
        not where an episode terminates."""
        assert isinstance(data.last, np.ndarray), type(data.last)
        steps, slots = data.reward.shape
        last = self.tensor(data.last.reshape(steps * slots, *data.last.shape[2:]))
        values = self.baseline(last)[:, 0].cpu().numpy().reshape(steps, slots)
        found, following = np.empty((steps, slots)), values[-1]
        for step in reversed(range(steps)):
            following = np.where(data.truncated[step], values[step], following)
            following = np.where(data.terminated[step], 0.0, following)
            found[step] = following = data.reward[step] + self.config.discount * following
        return found

    def tensor(self, rows: Float[np.ndarray, "row *rest"]) -> Float[Tensor, "row *rest"]:
        return torch.from_numpy(rows).to(next(self.parameters()))


REINFORCE = AgentEntry(
    "policy gradient with a baseline (Williams 1992)",
    Reinforce,
    {"default": ReinforceConfig},
    main=("units", "discount", "learning_rate"),
)
