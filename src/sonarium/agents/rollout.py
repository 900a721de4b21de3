"""Rollouts as a source: an agent that learns acts in copies of one Gymnasium environment.

Episodes begin anew in the step after they end, and terminated is kept apart from truncated. An environment whose
state can be saved (`StatefulEnv`) resumes bit for bit; any other begins new episodes on resuming.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped

from sonarium.agents.contract import Agent
from sonarium.training.contract import Engine, Progress, Tree


class StatefulEnv(gymnasium.Env, ABC):
    """An environment whose whole state, its random numbers among them, is a tree that a checkpoint can keep."""

    @abstractmethod
    def state_dict(self) -> Tree: ...

    @abstractmethod
    def load_state_dict(self, state: Tree, /) -> None: ...


@dataclass(frozen=True)
class RolloutConfig:
    env: str = ""
    """Environment id of Gymnasium, such as CartPole-v1, or module:Id-v0 to import a module that registers it."""
    envs: int = 8
    """Copies of the environment that are stepped side by side."""
    rollout_steps: int = 32
    """Steps of each copy in one rollout, which is one batch."""

    def __post_init__(self) -> None:
        for name in ("envs", "rollout_steps"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: give a whole number of at least 1"
                )


@dataclass(frozen=True)
class Rollout:
    """Steps of all copies, as arrays of (step, slot, …); `final` has one more step, after the last action."""

    observation: Shaped[np.ndarray, "step slot *observed"]
    first: Bool[np.ndarray, "step slot"]
    """Whether an episode begins with this observation."""
    action: Shaped[np.ndarray, "step slot *action"]
    reward: Float[np.ndarray, "step slot"]
    terminated: Bool[np.ndarray, "step slot"]
    truncated: Bool[np.ndarray, "step slot"]
    last: Shaped[np.ndarray, "step slot *observed"]
    """What is observed after each action, the end of an episode included."""
    memory: Any
    """The agent's memory before the first step."""
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    """What the agent returned with its actions."""


def make(env: str) -> gymnasium.Env:
    """One copy of an environment, or a ValueError that says why there is none."""
    if not env:
        raise ValueError("in which environment? give --env, an id of Gymnasium such as CartPole-v1")
    try:
        return gymnasium.make(env)
    except (gymnasium.error.Error, ModuleNotFoundError, ImportError) as error:
        raise ValueError(f"--env {env}: {' '.join(str(error).split())}") from None


class Rollouts:
    """Rollouts of the agent that learns, without end."""

    unit = "steps"
    pass_ended = False

    def __init__(self, config: RolloutConfig, seed: int):
        self.config, self.seed = config, seed
        self.batch_size = config.envs * config.rollout_steps
        self.envs = [make(config.env) for _ in range(config.envs)]
        self.agent: Agent | None = None
        self.observation: list[Any] | None = None
        """What each copy shows now; None before the first reset."""
        self.first = np.ones(config.envs, bool)
        self.memory: Any = None
        self.resets = 0
        """Sessions so far: copies whose state cannot be saved are seeded by it."""

    def attach(self, learner: Any, engine: Engine) -> None:
        if not isinstance(learner, Agent):
            raise ValueError(f"{type(learner).__name__} is no agent, and cannot act in {self.config.env}")
        if engine.ranks > 1:
            raise ValueError("agents learn in one process: leave out --processes, and use more --envs")
        self.agent, self.engine = learner, engine

    def preview(self, progress: Progress) -> Iterator[Rollout]:
        return iter(())

    def __iter__(self) -> Iterator[Rollout]:
        return self

    def start(self) -> None:
        """Begin an episode in every copy."""
        assert self.agent is not None
        seeds = (
            np.random.default_rng([self.seed, 0xE75, self.resets]).integers(2**31, size=len(self.envs)).tolist()
        )
        self.observation = [env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=True)]
        self.memory = self.agent.initial(len(self.envs))
        self.first = np.ones(len(self.envs), bool)
        self.resets += 1

    @torch.no_grad()
    def __next__(self) -> Rollout:
        assert self.agent is not None, "attach an agent first"
        if self.observation is None:
            self.start()
        memory, steps = self.memory, []
        for _ in range(self.config.rollout_steps):
            steps.append(self.step())
        observation, first, action, reward, terminated, truncated, last = (
            np.stack(column) for column in zip(*(step[:-1] for step in steps), strict=True)
        )
        extras = {name: np.stack([step[-1][name] for step in steps]) for name in steps[0][-1]}
        return Rollout(observation, first, action, reward, terminated, truncated, last, memory, extras)

    def step(self) -> tuple:
        """One step of every copy; an episode that ended begins anew."""
        assert self.agent is not None and self.observation is not None
        before, first = np.stack(self.observation), self.first
        self.memory, action, extras = self.agent.act(self.memory, before, first, self.engine.generator, {})
        after, reward, terminated, truncated = [], [], [], []
        for slot, env in enumerate(self.envs):
            observation, earned, ended, cut, _ = env.step(action[slot])
            after.append(observation)
            reward.append(float(earned))
            terminated.append(ended)
            truncated.append(cut)
            self.observation[slot] = env.reset()[0] if ended or cut else observation
        ends, cuts = np.array(terminated), np.array(truncated)
        self.first = ends | cuts
        arrays = {name: np.asarray(value) for name, value in extras.items()}
        return before, first, np.asarray(action), np.array(reward), ends, cuts, np.stack(after), arrays

    def state_dict(self) -> Tree:
        states = [env.unwrapped.state_dict() for env in self.envs if isinstance(env.unwrapped, StatefulEnv)]
        if len(states) < len(self.envs) or self.observation is None:
            return {"resets": self.resets}
        # Wrappers that Gymnasium puts around an environment count its steps.
        counts = [elapsed(env) for env in self.envs]
        return {
            "resets": self.resets,
            "envs": states,
            "elapsed": counts,
            "observation": [np.asarray(one) for one in self.observation],
            "first": self.first,
            "memory": self.memory,
        }

    def load_state_dict(self, state: Tree) -> None:
        self.resets = state["resets"]
        if "envs" not in state:
            return
        for env, own, count in zip(self.envs, state["envs"], state["elapsed"], strict=True):
            assert isinstance(env.unwrapped, StatefulEnv)
            env.reset()
            env.unwrapped.load_state_dict(own)
            put_elapsed(env, count)
        self.observation = list(state["observation"])
        self.first, self.memory = np.array(state["first"]), state["memory"]


def limits(env: gymnasium.Env) -> Iterator[gymnasium.wrappers.TimeLimit]:
    """The wrappers that truncate episodes by counting steps."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            yield env
        env = env.env


def elapsed(env: gymnasium.Env) -> list[int]:
    return [limit._elapsed_steps or 0 for limit in limits(env)]


def put_elapsed(env: gymnasium.Env, counts: list[int]) -> None:
    for limit, count in zip(limits(env), counts, strict=True):
        limit._elapsed_steps = count
