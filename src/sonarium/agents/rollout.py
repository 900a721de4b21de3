"""Rollouts as a source: an agent that learns acts in copies of one Gymnasium environment.

Episodes begin anew in the step after they end, and terminated is kept apart from truncated. An environment whose
state can be saved (`StatefulEnv`) resumes bit for bit; any other begins new episodes on resuming.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Shaped

from sonarium.agents.contract import Agent, stacked, stacked_info
from sonarium.config import Range, check_ranges
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
    envs: Annotated[int, Range(1, 4096)] = 8
    """Copies of the environment that are stepped side by side."""
    rollout_steps: Annotated[int, Range(1, 10**6)] = 32
    """Steps of each copy in one rollout, which is one batch."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Rollout:
    """Steps of all copies, as arrays of (step, slot, …); observations in a Dict or Tuple space are a dictionary or
    tuple of them."""

    observation: Shaped[np.ndarray, "step slot *observed"] | dict[str, Any] | tuple[Any, ...]
    first: Bool[np.ndarray, "step slot"]
    """Whether an episode begins with this observation."""
    action: Shaped[np.ndarray, "step slot *action"]
    reward: Float[np.ndarray, "step slot"]
    terminated: Bool[np.ndarray, "step slot"]
    truncated: Bool[np.ndarray, "step slot"]
    last: Shaped[np.ndarray, "step slot *observed"] | dict[str, Any] | tuple[Any, ...]
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


def check_observations(space: gymnasium.Space, env: str) -> None:
    """Refuse observations that make no arrays of one row per slot."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part in space.values() if isinstance(space, spaces.Dict) else space:
            check_observations(part, env)
    elif isinstance(space, spaces.Text | spaces.Graph | spaces.Sequence | spaces.OneOf):
        raise ValueError(
            f"--env {env}: observations in {space} differ in shape from step to step, and an agent takes arrays "
            "with one row per copy: wrap the environment so that it shows Box, Discrete, MultiBinary or "
            "MultiDiscrete, alone or in Dict and Tuple"
        )


class Rollouts:
    """Rollouts of the agent that learns, without end."""

    unit = "steps"
    pass_ended = False

    def __init__(self, config: RolloutConfig, seed: int):
        self.config, self.seed = config, seed
        self.batch_size = config.envs * config.rollout_steps
        self.envs = [make(config.env) for _ in range(config.envs)]
        check_observations(self.envs[0].observation_space, config.env)
        self.agent: Agent | None = None
        self.observation: Any = None
        """What the copies show now, stacked; None before the first reset."""
        self.info: dict[str, Any] = {}
        self.first = np.ones(config.envs, bool)
        self.memory: Any = None
        self.restored: list[Any] | None = None
        """Leaves of the memory in a checkpoint, until an agent is attached whose memory they are."""
        self.random: np.random.Generator | None = None
        """For agents that draw from NumPy's generators; seeded by the engine's before the first step."""
        self.resets = 0
        """Sessions so far: copies whose state cannot be saved are seeded by it."""

    def attach(self, learner: Any, engine: Engine) -> None:
        if not isinstance(learner, Agent):
            raise ValueError(f"{type(learner).__name__} is no agent, and cannot act in {self.config.env}")
        if engine.ranks > 1:
            raise ValueError("agents learn in one process: leave out --processes, and use more --envs")
        self.agent, self.engine = learner, engine
        if self.restored is not None:
            like = learner.initial(len(self.envs))
            check_structure(learner, like, self.restored)
            self.memory, self.restored = rebuilt(like, iter(self.restored), engine.device), None

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
        begun = [env.reset(seed=seed) for env, seed in zip(self.envs, seeds, strict=True)]
        self.observation = stacked([observation for observation, _ in begun])
        self.info = stacked_info([info for _, info in begun])
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
            stacked(column) for column in zip(*(step[:-1] for step in steps), strict=True)
        )
        extras = {name: np.stack([step[-1][name] for step in steps]) for name in steps[0][-1]}
        return Rollout(observation, first, action, reward, terminated, truncated, last, memory, extras)

    def step(self) -> tuple:
        """One step of every copy; an episode that ended begins anew."""
        assert self.agent is not None and self.observation is not None
        before, first = self.observation, self.first
        self.memory, action, extras = self.agent.act(self.memory, before, first, self.generator(), self.info)
        after, reward, terminated, truncated, shown, infos = [], [], [], [], [], []
        for slot, env in enumerate(self.envs):
            observation, earned, ended, cut, info = env.step(action[slot])
            after.append(observation)
            reward.append(float(earned))
            terminated.append(ended)
            truncated.append(cut)
            if ended or cut:
                observation, info = env.reset()
            shown.append(observation)
            infos.append(info)
        self.observation, self.info = stacked(shown), stacked_info(infos)
        ends, cuts = np.array(terminated), np.array(truncated)
        self.first = ends | cuts
        arrays = {name: np.asarray(value) for name, value in extras.items()}
        return before, first, np.asarray(action), np.array(reward), ends, cuts, stacked(after), arrays

    def generator(self) -> torch.Generator | np.random.Generator:
        """The kind that the agent takes."""
        assert self.agent is not None
        if self.agent.generator_kind == "torch":
            return self.engine.generator
        if self.random is None:
            self.random = np.random.default_rng(drawn_seed(self.engine.generator))
        return self.random

    def state_dict(self) -> Tree:
        begun = {"resets": self.resets, "random": copy.deepcopy(self.random)}
        states = [env.unwrapped.state_dict() for env in self.envs if isinstance(env.unwrapped, StatefulEnv)]
        if len(states) < len(self.envs) or self.observation is None:
            return begun
        assert self.agent is not None, "attach an agent first"
        memory = leaves(self.memory)
        check_structure(self.agent, self.agent.initial(len(self.envs)), memory)
        # Wrappers that Gymnasium puts around an environment count its steps.
        counts = [elapsed(env) for env in self.envs]
        return begun | {
            "envs": states,
            "elapsed": counts,
            "observation": leaves(self.observation),
            "info": saved_info(self.info),
            "first": self.first,
            "memory": memory,
        }

    def load_state_dict(self, state: Tree) -> None:
        resets, random = state["resets"], state["random"]
        if type(resets) is not int or not 0 <= resets < 2**63:
            raise ValueError(f"resets is {resets!r:.60}, expected a whole number of at least 0")
        if not isinstance(random, np.random.Generator | None):
            raise ValueError(f"random is {random!r:.60}, expected the state of a generator")
        self.resets, self.random = resets, copy.deepcopy(random)
        if "envs" not in state:
            return
        shown = []
        for env, own, count in zip(self.envs, state["envs"], state["elapsed"], strict=True):
            if not isinstance(env.unwrapped, StatefulEnv):
                raise ValueError(f"it holds the state of an environment, which {self.config.env} does not keep")
            shown.append(env.reset()[0])
            env.unwrapped.load_state_dict(own)
            put_elapsed(env, count)
        like = stacked(shown)
        self.observation = rebuilt(like, iter(state["observation"]), torch.device("cpu"))
        for own, saved in zip(leaves(like), leaves(self.observation), strict=True):
            if not isinstance(saved, np.ndarray) or (saved.shape, saved.dtype) != (own.shape, own.dtype):
                raise ValueError(f"the observation is none of {self.config.env}")
        first = np.array(state["first"])
        if first.shape != (len(self.envs),) or first.dtype != bool:
            raise ValueError(f"first has the shape {first.shape}, expected {len(self.envs)} truth values")
        self.info = loaded_info(state["info"])
        self.first, self.restored = first, list(state["memory"])


def drawn_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))


def parts_of(tree: Any) -> list[tuple[Any, Any]] | None:
    """Names and values of what a tree holds, in an order that does not depend on how it was filled; None of a
    leaf."""
    if is_dataclass(tree) and not isinstance(tree, type):
        return [(one.name, getattr(tree, one.name)) for one in fields(tree)]
    if isinstance(tree, Mapping):
        return sorted(tree.items(), key=lambda item: repr(item[0]))
    if isinstance(tree, list | tuple):
        return list(enumerate(tree))
    return None


def leaves(tree: Any) -> list[Any]:
    """Arrays, tensors and numbers of a tree; NumPy's numbers become arrays, which keep their type in a file."""
    parts = parts_of(tree)
    if parts is None:
        return [np.asarray(tree) if isinstance(tree, np.generic) else tree]
    return [leaf for _, part in parts for leaf in leaves(part)]


def rebuilt(like: Any, saved: Iterator[Any], device: torch.device) -> Any:
    """The tree with the structure of `like` that has the saved leaves. Tensors keep their type and come to the
    device."""
    parts = parts_of(like)
    if parts is None:
        leaf = next(saved)
        if isinstance(leaf, torch.Tensor):
            return leaf.to(device)
        number = isinstance(leaf, np.ndarray) and leaf.ndim == 0 and not isinstance(like, np.ndarray)
        return leaf[()] if number else leaf
    values = {name: rebuilt(part, saved, device) for name, part in parts}
    if isinstance(like, Mapping):
        return {name: values[name] for name in like}
    if isinstance(like, list | tuple):
        # The class of a named tuple takes its values one by one.
        return type(like)(values.values()) if type(like) in (list, tuple) else type(like)(*values.values())
    # As it was: nothing is computed anew from the fields, and frozen ones are set, too.
    tree = copy.copy(like)
    for name, value in values.items():
        object.__setattr__(tree, name, value)
    return tree


def check_structure(agent: Agent, initial: Any, saved: list[Any]) -> None:
    if (expected := len(leaves(initial))) != len(saved):
        raise ValueError(
            f"the memory of {type(agent).__name__} holds {len(saved)} arrays, tensors and numbers, but {expected} "
            "in initial(slots): give the memory the same structure at every step, or start a new run folder"
        )


def saved_info(info: Mapping[str, Any]) -> Tree:
    """Name, kind and rows of each entry, as a checkpoint can keep them."""
    saved = []
    for name, rows in info.items():
        if isinstance(rows, Mapping):
            saved.append([name, "info", saved_info(rows)])
        elif rows.dtype.kind == "U":
            saved.append([name, "text", rows.tolist()])
        else:
            saved.append([name, "rows", rows])
    return saved


def loaded_info(saved: Tree) -> dict[str, Any]:
    kinds = {"info": loaded_info, "text": np.array, "rows": np.asarray}
    return {name: kinds[kind](rows) for name, kind, rows in saved}


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
        if type(count) is not int or not 0 <= count < 2**63:
            raise ValueError(f"the count of steps is {count!r:.60}, expected a whole number of at least 0")
        limit._elapsed_steps = count
