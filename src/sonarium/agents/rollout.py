"""Rollouts as a data source: a learning agent acts in copies of one Gymnasium environment, or in the slots of its
vectorised version.

Termination and truncation are distinguished. Resuming is exact to the bit where the state can be saved
(`StatefulEnv`, `StatefulVectorEnv`). In copies of other environments episodes are seeded one by one, and replayed
up to where they were saved; where that does not lead to the same observation, and in other vectorised
environments, new episodes begin.
"""

import copy
from ast import literal_eval
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Shaped

from sonarium.agents.contract import Agent, stacked, stacked_info
from sonarium.agents.guards import check_finite, check_observation, naming_faults, naming_kwargs, stacked_in
from sonarium.agents.vectors import Stepped, Vector, make_vector, success_in
from sonarium.config import Range, check_ranges
from sonarium.environment import EnvironmentFault, StatefulEnv, loaded_random
from sonarium.training.contract import Engine, Progress, Tree


@dataclass(frozen=True)
class RolloutConfig:
    env: str = ""
    """Gymnasium environment id, such as CartPole-v1, or module:Id-v0 to import the module that registers it."""
    env_kwargs: tuple[str, ...] = ()
    """Keyword arguments of the environment, each NAME=VALUE with a Python literal or text as value, such as
    sources=3 rt60=0.4 for sonarium/Seek-v0."""
    envs: Annotated[int, Range(1, 4096)] = 8
    """Number of parallel environments."""
    rollout_steps: Annotated[int, Range(1, 10**6)] = 32
    """Rollout length in steps per environment, an upper bound with `rollout_episodes`; a rollout is one batch."""
    rollout_episodes: Annotated[int, Range(0, 10**6)] = 0
    """End a rollout once this many episodes have ended; 0 always takes `rollout_steps` steps."""
    vector: Literal["no", "yes", "auto"] = "no"
    """Step all environments in one call of their own vectorised version: no, yes, or auto where there is one."""
    validation_episodes: Annotated[int, Range(0, 10**6)] = 0
    """Validation episodes at every checkpoint, with the most probable actions and seeds apart from training and
    scoring; the weights with the best mean return are kept for `--best`. 0 disables validation."""

    def __post_init__(self) -> None:
        check_ranges(self)
        names = [one.partition("=")[0] for one in self.env_kwargs]
        for name, one in zip(names, self.env_kwargs, strict=True):
            if not name.isidentifier() or "=" not in one or names.count(name) > 1:
                raise ValueError(f"env_kwargs={one!r}: give each as NAME=VALUE, once")

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment by name."""
        return {name: value_of(text) for name, _, text in (one.partition("=") for one in self.env_kwargs)}

    def make(self, **more: Any) -> gymnasium.Env:
        """One copy of the environment."""
        return make(self.env, self.kwargs, **more)


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
    """Observation after each action, including that after the end of an episode."""
    memory: Any
    """The agent's memory before the first step."""
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    """Extras that the agent returned with its actions."""
    acted: Bool[np.ndarray, "step slot"] | None = None
    """Whether the action was carried out: some vector environments ignore it in the step in which they reset. None
    where all were."""
    success: Bool[np.ndarray, "step slot"] | None = None
    """Whether an episode ended here with success; None where the environment does not say."""


class Step(NamedTuple):
    """One row of a rollout."""

    observation: Any
    first: Bool[np.ndarray, " slot"]
    action: Shaped[np.ndarray, "slot *action"]
    reward: Float[np.ndarray, " slot"]
    terminated: Bool[np.ndarray, " slot"]
    truncated: Bool[np.ndarray, " slot"]
    last: Any
    acted: Bool[np.ndarray, " slot"]
    success: Bool[np.ndarray, " slot"] | None
    extras: dict[str, np.ndarray]


def value_of(text: str) -> Any:
    """Value of a Python literal, or the text if it is none."""
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def make(env: str, kwargs: Mapping[str, Any] = {}, **more: Any) -> gymnasium.Env:
    """One copy of an environment with these keyword arguments, or a ValueError that says why there is none."""
    if not env:
        raise ValueError("in which environment? give --env, an id of Gymnasium such as CartPole-v1")
    with naming_kwargs(env, kwargs), naming_faults(env):
        return gymnasium.make(env, **{**kwargs, **more})


def check_observations(space: gymnasium.Space, env: str) -> None:
    """Refuse observation spaces whose elements cannot be stacked to arrays with one row per slot."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part in space.values() if isinstance(space, spaces.Dict) else space:
            check_observations(part, env)
    elif isinstance(space, spaces.Text | spaces.Graph | spaces.Sequence | spaces.OneOf):
        raise EnvironmentFault(
            f"--env {env}: observations in {space} differ in shape from step to step, and an agent takes arrays "
            "with one row per copy: wrap the environment so that it shows Box, Discrete, MultiBinary or "
            "MultiDiscrete, alone or in Dict and Tuple"
        )


@dataclass
class Episode:
    """What reproduces the current state of a copy: the seed of its episode, and the actions since."""

    number: int
    """Number of earlier episodes of this copy."""
    seed: int
    actions: list[Any] = field(default_factory=list)


class Copies:
    """Copies of one environment, stepped one after another; each is reset in the step that ends its episode."""

    def __init__(self, name: str, count: int, seed: int, kwargs: Mapping[str, Any] = {}):
        self.name, self.seed = name, seed
        self.envs = [make(name, kwargs) for _ in range(count)]
        self.space = self.envs[0].observation_space
        self.stateful = all(isinstance(env.unwrapped, StatefulEnv) for env in self.envs)
        self.episodes: list[Episode] = []
        """Current episode of each copy, for environments whose state cannot be saved."""
        self.astray = False
        """Whether a replayed episode ended before the step at which it was saved."""

    def begin(self, seeds: list[int]) -> tuple[Any, dict[str, Any]]:
        begun = [env.reset(seed=seed) for env, seed in zip(self.envs, seeds, strict=True)]
        self.episodes = [Episode(0, seed) for seed in seeds]
        return self.rows([observation for observation, _ in begun]), stacked_info([info for _, info in begun])

    def rows(self, observations: list[Any]) -> Any:
        return stacked_in(self.space, observations, self.name)

    def anew(self, slot: int) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode of a copy."""
        if self.stateful:
            return self.envs[slot].reset()
        before = self.episodes[slot]
        seed = int(np.random.default_rng([self.seed, 0xE75, before.seed, before.number]).integers(2**31))
        self.episodes[slot] = Episode(before.number + 1, seed)
        return self.envs[slot].reset(seed=seed)

    def step(self, action: Any) -> Stepped:
        after, reward, terminated, truncated, shown, infos, ends_with = [], [], [], [], [], [], []
        for slot, env in enumerate(self.envs):
            if not self.stateful:
                self.episodes[slot].actions.append(action[slot])
            observation, earned, ended, cut, info = env.step(action[slot])
            after.append(observation)
            reward.append(float(earned))
            terminated.append(ended)
            truncated.append(cut)
            ends_with.append(info)
            if ended or cut:
                observation, info = self.anew(slot)
            shown.append(observation)
            infos.append(info)
        ends, cuts = np.array(terminated, bool), np.array(truncated, bool)
        every = np.ones(len(self.envs), bool)
        return Stepped(
            self.rows(after), self.rows(shown), ends | cuts, np.array(reward), ends, cuts, stacked_info(infos),
            every, success_in(ends_with, ends | cuts),
        )  # fmt: skip

    def state_dict(self) -> Tree | None:
        if not self.stateful:
            rows = [(one.number, one.seed, np.array(one.actions)) for one in self.episodes]
            return {"episodes": [{"number": n, "seed": s, "actions": actions} for n, s, actions in rows]}
        states = [env.unwrapped.state_dict() for env in self.envs if isinstance(env.unwrapped, StatefulEnv)]
        # Wrappers that Gymnasium puts around an environment count its steps.
        return {"envs": states, "elapsed": [elapsed(env) for env in self.envs]}

    def load_state_dict(self, state: Tree) -> Any:
        """Restore the copies; return their current observations, or some of the same structure."""
        if "episodes" in state:
            if self.stateful:
                raise ValueError(f"it holds episodes to play again, and {self.name} keeps its state")
            return self.rows([self.replay(slot, one) for slot, one in enumerate(state["episodes"])])
        shown = []
        for env, own, count in zip(self.envs, state["envs"], state["elapsed"], strict=True):
            if not isinstance(env.unwrapped, StatefulEnv):
                raise ValueError(f"it holds the state of an environment, which {self.name} does not keep")
            with naming_faults(self.name):
                shown.append(env.reset()[0])
            env.unwrapped.load_state_dict(own)
            put_elapsed(env, count)
        return self.rows(shown)

    def replay(self, slot: int, state: Tree) -> Any:
        """Replay the episode of a copy up to where it was saved; return the observation there."""
        env, number, seed, actions = self.envs[slot], state["number"], state["seed"], state["actions"]
        if slot == 0:
            self.episodes = []
        for name, value in (("number", number), ("seed", seed)):
            if type(value) is not int or not 0 <= value < 2**63:
                raise ValueError(f"{name} is {value!r:.60}, expected a whole number of at least 0")
        if not isinstance(actions, np.ndarray) or not all(env.action_space.contains(one) for one in actions):
            raise ValueError(f"the actions are none of {self.name}")
        with naming_faults(self.name):
            shown = env.reset(seed=seed)[0]
        for action in actions:
            with naming_faults(self.name):
                shown, _, ended, cut, _ = env.step(action)
            if ended or cut:
                self.astray = True
                break
        self.episodes.append(Episode(number, seed, list(actions)))
        return shown

    def close(self) -> None:
        for env in self.envs:
            env.close()


def slots_of(config: RolloutConfig, seed: int) -> Copies | Vector:
    """Copies of an environment, or its vectorised version."""
    vector = (
        None if config.vector == "no" or not config.env else make_vector(config.env, config.envs, config.kwargs)
    )
    if vector is not None:
        return Vector(config.env, vector)
    if config.vector == "yes":
        raise ValueError(f"--vector yes: {config.env} has no vector version; give --vector auto or no")
    return Copies(config.env, config.envs, seed, config.kwargs)


class Rollouts:
    """Endless iterator over rollouts of the learning agent."""

    unit = "steps"
    pass_ended = False

    def __init__(self, config: RolloutConfig, seed: int):
        self.config, self.seed = config, seed
        self.batch_size = config.envs * config.rollout_steps
        self.slots = slots_of(config, seed)
        check_observations(self.slots.space, config.env)
        self.agent: Agent | None = None
        self.observation: Any = None
        """Current observations of the copies, stacked; None before the first reset."""
        self.info: dict[str, Any] = {}
        self.first = np.ones(config.envs, bool)
        self.memory: Any = None
        self.restored: list[Any] | None = None
        """Leaves of the agent's memory from a checkpoint, until the agent is attached."""
        self.random: np.random.Generator | None = None
        """For agents that take NumPy's generators; seeded by the engine's before the first step."""
        self.resets = 0
        """Number of sessions so far, from which copies whose state cannot be saved are seeded."""

    def attach(self, learner: Any, engine: Engine) -> None:
        if not isinstance(learner, Agent):
            raise ValueError(f"{type(learner).__name__} is not an agent, and cannot act in {self.config.env}")
        if engine.ranks > 1:
            raise ValueError("agents learn in one process: leave out --processes, and use more --envs")
        self.agent, self.engine = learner, engine
        if self.restored is not None:
            like = learner.initial(self.config.envs)
            check_structure(learner, like, self.restored)
            self.memory, self.restored = rebuilt(like, iter(self.restored), engine.device), None

    def preview(self, progress: Progress) -> Iterator[Rollout]:
        return iter(())

    def __iter__(self) -> Iterator[Rollout]:
        return self

    def start(self) -> None:
        """Begin an episode in every copy."""
        assert self.agent is not None
        copies = self.config.envs
        seeds = np.random.default_rng([self.seed, 0xE75, self.resets]).integers(2**31, size=copies).tolist()
        with naming_faults(self.config.env):
            self.observation, self.info = self.slots.begin(seeds)
        check_observation(self.observation, self.slots.space, self.config.env, self.config.envs)
        self.memory = self.agent.initial(copies)
        self.first = np.ones(copies, bool)
        self.resets += 1

    @torch.no_grad()
    def __next__(self) -> Rollout:
        assert self.agent is not None, "attach an agent first"
        if self.observation is None:
            self.start()
        memory, steps, ended = self.memory, [], 0
        for _ in range(self.config.rollout_steps):
            steps.append(self.step())
            ended += int((steps[-1].terminated | steps[-1].truncated).sum())
            if 0 < self.config.rollout_episodes <= ended:
                break
        while not any(step.acted.any() for step in steps):
            # A rollout in which no action was carried out has nothing to learn from.
            steps.append(self.step())
        self.batch_size = len(steps) * self.config.envs
        *arrays, acted, success, extras = zip(*steps, strict=True)
        observation, first, action, reward, terminated, truncated, last = map(stacked, arrays)
        acted, told = np.stack(acted), not any(one is None for one in success)
        kept = {name: np.stack([one[name] for one in extras]) for name in extras[0]}
        return Rollout(
            observation, first, action, reward, terminated, truncated, last, memory, kept,
            None if acted.all() else acted, np.stack(success) if told else None,
        )  # fmt: skip

    def step(self) -> Step:
        """One step of every copy; those whose episode ended are reset."""
        assert self.agent is not None and self.observation is not None
        before, first = self.observation, self.first
        self.memory, action, extras = self.agent.act(self.memory, before, first, self.generator(), self.info)
        with naming_faults(self.config.env):
            made = self.slots.step(action)
        check_finite(made.reward, self.config.env, "reward")
        check_observation(made.after, self.slots.space, self.config.env, self.config.envs)
        if made.first.any():
            check_observation(made.shown, self.slots.space, self.config.env, self.config.envs)
        self.memory = self.agent.rewarded(self.memory, made.reward)
        self.observation, self.info, self.first = made.shown, made.info, made.first
        arrays = {name: np.asarray(value) for name, value in extras.items()}
        ends = made.terminated, made.truncated
        return Step(
            before, first, np.asarray(action), made.reward, *ends, made.after, made.acted, made.success, arrays
        )

    def generator(self) -> torch.Generator | np.random.Generator:
        """Random generator of the kind that the agent takes."""
        assert self.agent is not None
        if self.agent.generator_kind == "torch":
            return self.engine.generator
        if self.random is None:
            self.random = np.random.default_rng(drawn_seed(self.engine.generator))
        return self.random

    def state_dict(self) -> Tree:
        begun = {"resets": self.resets, "random": copy.deepcopy(self.random)}
        state = None if self.observation is None else self.slots.state_dict()
        if state is None:
            return begun
        assert self.agent is not None, "attach an agent first"
        memory = leaves(self.memory)
        check_structure(self.agent, self.agent.initial(self.config.envs), memory)
        return begun | state | {
            "observation": leaves(self.observation),
            "info": saved_info(self.info),
            "first": self.first,
            "memory": memory,
        }  # fmt: skip

    def load_state_dict(self, state: Tree) -> None:
        resets, random = state["resets"], state["random"]
        if type(resets) is not int or not 0 <= resets < 2**63:
            raise ValueError(f"resets is {resets!r:.60}, expected a whole number of at least 0")
        self.resets, self.random = resets, None if random is None else loaded_random(random)
        if not state.keys() & {"envs", "episodes", "vector"}:
            return
        like = self.slots.load_state_dict(state)
        observation = rebuilt(like, iter(state["observation"]), torch.device("cpu"))
        shown = list(zip(leaves(like), leaves(observation), strict=True))
        for own, saved in shown:
            if not isinstance(saved, np.ndarray) or (saved.shape, saved.dtype) != (own.shape, own.dtype):
                raise ValueError(f"the observation is none of {self.config.env}")
        astray = isinstance(self.slots, Copies) and self.slots.astray
        if "episodes" in state and (astray or not all(np.array_equal(own, saved) for own, saved in shown)):
            # The environment is not reproducible from its seed: new episodes begin.
            return
        first = np.array(state["first"])
        if first.shape != (self.config.envs,) or first.dtype != bool:
            raise ValueError(f"first has the shape {first.shape}, expected {self.config.envs} truth values")
        self.observation = observation
        self.info = loaded_info(state["info"])
        self.first, self.restored = first, list(state["memory"])


def drawn_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))


def parts_of(tree: Any) -> list[tuple[Any, Any]] | None:
    """Children of a tree node as (name, value) pairs in canonical order; None for a leaf."""
    if is_dataclass(tree) and not isinstance(tree, type):
        return [(one.name, getattr(tree, one.name)) for one in fields(tree)]
    if isinstance(tree, Mapping):
        return sorted(tree.items(), key=lambda item: repr(item[0]))
    if isinstance(tree, list | tuple):
        return list(enumerate(tree))
    return None


def leaves(tree: Any) -> list[Any]:
    """Leaves of a tree: arrays, tensors, numbers. NumPy scalars become arrays, which keep their type in a file."""
    parts = parts_of(tree)
    if parts is None:
        return [np.asarray(tree) if isinstance(tree, np.generic) else tree]
    return [leaf for _, part in parts for leaf in leaves(part)]


def rebuilt(like: Any, saved: Iterator[Any], device: torch.device) -> Any:
    """Tree with the structure of `like` and the saved leaves. Tensors keep their type and are moved to the
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
        # The constructor of a named tuple takes its values as separate arguments.
        return type(like)(values.values()) if type(like) in (list, tuple) else type(like)(*values.values())
    # A copy, so that nothing is recomputed from the fields; frozen ones are set, too.
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
