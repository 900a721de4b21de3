"""Vectorised environments: many slots in one call, and CartPole and Acrobot whose state a checkpoint keeps.

Gymnasium's vector environments reset in the step that ends an episode (SAME_STEP) or in the one after (NEXT_STEP),
which ignores the action. `Vector` gives both the same interface: the observation after each action, the current
observation, and whether the action was carried out.
"""

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Int, Shaped

from sonarium.agents.guards import naming_faults, naming_kwargs
from sonarium.environment import EnvironmentFault, StatefulVectorEnv, loaded_random
from sonarium.training.contract import Tree

SUCCESS = "is_success"
"""Key in the `info` of an environment: whether the episode succeeded, as in Gymnasium-Robotics."""


class Classic(StatefulVectorEnv):
    """Vectorised version of one of Gymnasium's classic-control environments, with the same equations; slots reset
    in the step that ends their episode."""

    id: ClassVar[str]
    """Id of the Gymnasium environment."""
    limit: ClassVar[float]
    """Initial states are drawn uniformly from ± this."""
    max_steps = 500
    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int):
        env = gymnasium.make(self.id)
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        env.close()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.state = np.zeros((4, num_envs))
        self.steps = np.zeros(num_envs, np.int64)

    @abstractmethod
    def advance(self, action: Int[np.ndarray, " slot"]) -> Bool[np.ndarray, " slot"]:
        """Advance the state by one step; return where the episode terminates."""

    @abstractmethod
    def reward(self, terminated: Bool[np.ndarray, " slot"]) -> Float[np.ndarray, " slot"]: ...

    @abstractmethod
    def observe(self) -> Float[np.ndarray, "slot number"]: ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, "slot number"], dict[str, Any]]:
        super().reset(seed=seed)
        self.begin(np.ones(self.num_envs, bool))
        return self.observe(), {}

    def begin(self, slots: Bool[np.ndarray, " slot"]) -> None:
        self.state[:, slots] = self.np_random.uniform(-self.limit, self.limit, (4, int(slots.sum())))
        self.steps[slots] = 0

    def step(self, actions: Int[np.ndarray, " slot"]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        terminated = self.advance(actions)
        self.steps += 1
        truncated = (self.steps >= self.max_steps) & ~terminated
        observation, reward, over = self.observe(), self.reward(terminated), terminated | truncated
        info: dict[str, Any] = {}
        if over.any():
            info = {"final_obs": observation, "_final_obs": over}
            self.begin(over)
            observation = self.observe()
        return observation, reward, terminated, truncated, info

    def state_dict(self) -> Tree:
        # Copies, which later steps do not change.
        random = copy.deepcopy(self.np_random)
        return {"state": self.state.copy(), "steps": self.steps.copy(), "random": random}

    def load_state_dict(self, state: Tree, /) -> None:
        for name, own in (("state", self.state), ("steps", self.steps)):
            saved = state[name]
            if not isinstance(saved, np.ndarray) or (saved.shape, saved.dtype) != (own.shape, own.dtype):
                raise ValueError(f"{name} is none of {self.num_envs} slots of {self.id}")
        random = loaded_random(state["random"])
        if not np.isfinite(state["state"]).all() or (state["steps"] < 0).any():
            raise ValueError(f"the state is none of {self.id}")
        self.state, self.steps = state["state"].copy(), state["steps"].copy()
        self.np_random = random


class CartPole(Classic):
    """Barto, Sutton and Anderson 1983, as in CartPole-v1."""

    id = "CartPole-v1"
    limit = 0.05

    def advance(self, action: Int[np.ndarray, " slot"]) -> Bool[np.ndarray, " slot"]:
        _, speed, angle, turning = self.state
        cosine, sine = np.cos(angle), np.sin(angle)
        # Masses 1 and .1 kg, half the length of the pole .5 m, force 10 N, steps of .02 s.
        pushed = (20.0 * action - 10.0 + 0.05 * np.square(turning) * sine) / 1.1
        angular = (9.8 * sine - cosine * pushed) / (0.5 * (4.0 / 3.0 - 0.1 * np.square(cosine) / 1.1))
        linear = pushed - 0.05 * angular * cosine / 1.1
        self.state = self.state + 0.02 * np.array((speed, linear, turning, angular))
        return (np.abs(self.state[0]) > 2.4) | (np.abs(self.state[2]) > 12 * 2 * np.pi / 360)

    def reward(self, terminated: Bool[np.ndarray, " slot"]) -> Float[np.ndarray, " slot"]:
        return np.ones(self.num_envs)

    def observe(self) -> Float[np.ndarray, "slot number"]:
        return self.state.T.astype(np.float32)


class Acrobot(Classic):
    """Sutton 1996, as in Acrobot-v1: two links of 1 m and 1 kg, a torque at the joint between them."""

    id = "Acrobot-v1"
    limit = 0.1
    fastest = np.array([[4 * np.pi], [9 * np.pi]])
    """Bounds of the angular velocities."""

    def begin(self, slots: Bool[np.ndarray, " slot"]) -> None:
        super().begin(slots)
        # Gymnasium draws the first state in 32 bits.
        self.state[:, slots] = self.state[:, slots].astype(np.float32)

    def advance(self, action: Int[np.ndarray, " slot"]) -> Bool[np.ndarray, " slot"]:
        torque, step, before = action - 1.0, 0.2, self.state
        # One step of the fourth-order Runge-Kutta method.
        one = self.slope(before, torque)
        two = self.slope(before + step / 2 * one, torque)
        three = self.slope(before + step / 2 * two, torque)
        four = self.slope(before + step * three, torque)
        after = before + step / 6.0 * (one + 2 * two + 2 * three + four)
        after[:2] = (after[:2] + np.pi) % (2 * np.pi) - np.pi
        after[2:] = np.clip(after[2:], -self.fastest, self.fastest)
        self.state = after
        return -np.cos(after[0]) - np.cos(after[1] + after[0]) > 1.0

    def slope(self, state: Float[np.ndarray, "4 slot"], torque: Float[np.ndarray, " slot"]) -> Any:
        """The time derivative of the state: masses 1 kg, centres at .5 m, moments of inertia 1 kg m²."""
        one, two, fast_one, fast_two = state
        cosine, sine, gravity = np.cos(two), np.sin(two), 9.8
        d1 = 0.25 + (1.25 + cosine) + 2.0
        d2 = 0.25 + 0.5 * cosine + 1.0
        phi2 = 0.5 * gravity * np.cos(one + two - np.pi / 2)
        phi1 = -0.5 * fast_two**2 * sine - fast_two * fast_one * sine
        phi1 = phi1 + 1.5 * gravity * np.cos(one - np.pi / 2) + phi2
        pulled = torque + d2 / d1 * phi1 - 0.5 * fast_one**2 * sine - phi2
        second = pulled / (0.25 + 1.0 - d2**2 / d1)
        return np.array((fast_one, fast_two, -(d2 * second + phi1) / d1, second))

    def reward(self, terminated: Bool[np.ndarray, " slot"]) -> Float[np.ndarray, " slot"]:
        return np.where(terminated, 0.0, -1.0)

    def observe(self) -> Float[np.ndarray, "slot number"]:
        one, two, fast_one, fast_two = self.state
        shown = [np.cos(one), np.sin(one), np.cos(two), np.sin(two), fast_one, fast_two]
        return np.stack(shown, 1).astype(np.float32)


OURS: dict[str, type[Classic]] = {env.id: env for env in (CartPole, Acrobot)}


@dataclass(frozen=True)
class Stepped:
    """Result of one step of all slots."""

    after: Any
    """Observation after the action, including that after the end of an episode."""
    shown: Any
    """Current observation: the first of the next episode where one has begun."""
    first: Bool[np.ndarray, " slot"]
    """Whether an episode begins with the current observation."""
    reward: Float[np.ndarray, " slot"]
    terminated: Bool[np.ndarray, " slot"]
    truncated: Bool[np.ndarray, " slot"]
    info: dict[str, Any]
    acted: Bool[np.ndarray, " slot"]
    """Whether the action was carried out."""
    success: Bool[np.ndarray, " slot"] | None = None
    """Where an episode is over: whether it succeeded, by `is_success` in the environment's `info`; None where that
    is not given."""


class Vector:
    """The slots of a vector environment."""

    def __init__(self, name: str, env: VectorEnv):
        self.name, self.env = name, env
        self.space = env.single_observation_space
        mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if mode is AutoresetMode.DISABLED:
            raise ValueError(f"--env {name}: its vector version does not begin episodes anew: give --vector no")
        self.same_step = mode is AutoresetMode.SAME_STEP
        self.over = np.zeros(env.num_envs, bool)

    def begin(self, seeds: list[int]) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seeds[0])
        self.over = np.zeros(self.env.num_envs, bool)
        return copied(observation), info_rows(info)

    def step(self, action: Any) -> Stepped:
        shown, reward, terminated, truncated, info = self.env.step(action)
        # Rollouts keep every step, and an environment may write the next one into the same arrays.
        shown = copied(shown)
        reward = self.column("reward", reward, float)
        terminated, truncated = self.column("terminated", terminated), self.column("truncated", truncated)
        before, self.over = self.over, terminated | truncated
        success = success_in(info.get("final_info", info) if self.same_step else info, self.over)
        if not self.same_step:
            return Stepped(shown, shown, before, reward, terminated, truncated, info_rows(info), ~before, success)
        after = with_rows(shown, info["final_obs"], self.over) if self.over.any() else shown
        acted = np.ones(self.env.num_envs, bool)
        rows = info_rows(info)
        return Stepped(after, shown, self.over, reward, terminated, truncated, rows, acted, success)

    def column(self, name: str, values: Any, kind: type = bool) -> Shaped[np.ndarray, " slot"]:
        """A copy of what the environment returns for each slot."""
        found = np.array(values, kind)
        if found.shape != self.over.shape:
            raise EnvironmentFault(
                f"--env {self.name}: `{name}` of its vector version has the shape {found.shape}, expected "
                f"{self.over.shape}, one for each copy: fix the environment, or give --vector no"
            )
        return found

    def close(self) -> None:
        self.env.close()

    def state_dict(self) -> Tree | None:
        """State of the environment; None where it cannot be saved."""
        if not isinstance(self.env, StatefulVectorEnv):
            return None
        return {"vector": self.env.state_dict(), "over": self.over}

    def load_state_dict(self, state: Tree) -> Any:
        """Restore the state; return an observation with the structure of the current one."""
        if "vector" not in state or not isinstance(self.env, StatefulVectorEnv):
            raise ValueError(f"it holds the state of an environment, which {self.name} does not keep")
        with naming_faults(self.name):
            shown, _ = self.env.reset(seed=0)
        self.env.load_state_dict(state["vector"])
        over = np.array(state["over"])
        if over.shape != self.over.shape or over.dtype != bool:
            raise ValueError(f"over has the shape {over.shape}, expected {len(self.over)} truth values")
        self.over = over
        return shown


def make_vector(name: str, count: int, kwargs: Mapping[str, Any] = {}) -> VectorEnv | None:
    """Vectorised version of an environment, ours or the one registered with it; None if there is none."""
    if name in OURS:
        # Ours have the equations of Gymnasium's with their default arguments.
        return None if kwargs else OURS[name](count)
    with naming_kwargs(name, kwargs), naming_faults(name):
        module, _, own = name.rpartition(":")
        if module:
            # Importing the module registers its environments.
            import_module(module)
        if gymnasium.spec(own).vector_entry_point is None:
            return None
        return gymnasium.make_vec(name, count, gymnasium.VectorizeMode.VECTOR_ENTRY_POINT, **kwargs)


def copied(rows: Any) -> Any:
    """Copies of the arrays of an observation."""
    if isinstance(rows, Mapping):
        return {name: copied(part) for name, part in rows.items()}
    return tuple(map(copied, rows)) if isinstance(rows, tuple) else np.array(rows)


def with_rows(shown: Any, final: Any, over: Bool[np.ndarray, " slot"]) -> Any:
    """Observations, with the final ones where an episode is over; `final` has rows, or one object per slot."""
    rows = copy.deepcopy(shown)
    for slot in np.flatnonzero(over).tolist():
        put(rows, slot, row_of(final, slot))
    return rows


def row_of(rows: Any, slot: int) -> Any:
    if isinstance(rows, Mapping):
        return {name: row_of(part, slot) for name, part in rows.items()}
    return tuple(row_of(part, slot) for part in rows) if isinstance(rows, tuple) else rows[slot]


def put(rows: Any, slot: int, one: Any) -> None:
    if isinstance(rows, Mapping):
        for name, part in rows.items():
            put(part, slot, one[name])
    elif isinstance(rows, tuple):
        for part, value in zip(rows, one, strict=True):
            put(part, slot, value)
    else:
        rows[slot] = one


def success_in(
    info: Mapping[str, Any] | Sequence[Mapping[str, Any]], over: Bool[np.ndarray, " slot"]
) -> Bool[np.ndarray, " slot"] | None:
    """Success of the episodes that are over, from the `info` of all slots or of each; None if not given."""
    if not over.any():
        return np.zeros(over.shape, bool)
    if not isinstance(info, Mapping):
        ended = [info[slot].get(SUCCESS) for slot in np.flatnonzero(over).tolist()]
        told = None if any(one is None for one in ended) else np.array([bool(one.get(SUCCESS)) for one in info])
    else:
        told = info.get(SUCCESS)
    if not isinstance(told, np.ndarray) or told.shape != over.shape or told.dtype.kind not in "biufO":
        return None
    return over & told.astype(bool)


def info_rows(info: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of `info` that every slot has, as `act` takes them."""
    rows: dict[str, Any] = {}
    for name, value in info.items():
        told = info.get(f"_{name}")
        if name.startswith("_") or name.startswith("final_") or (told is not None and not np.all(told)):
            continue
        if isinstance(value, Mapping):
            rows[name] = info_rows(value)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
            rows[name] = value
    return rows
