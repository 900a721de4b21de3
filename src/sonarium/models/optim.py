"""Adam and learning-rate schedules, as settings for any learner.

A schedule is a function of the number of steps done, so a resumed run continues as an uninterrupted one.
"""

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import nn

from sonarium.config import Range, check_ranges


class Adam(torch.optim.Adam):
    """Adam constructed without torch's compiler, which takes seconds to import: opening a run never steps."""

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step. Fused steps call the kernel directly, since torch's bookkeeping around it takes longer than
        the update of a small network."""
        own = [(group, [one for one in group["params"] if one.grad is not None]) for group in self.param_groups]
        begun = all(self.state.get(one) for _, weights in own for one in weights)
        if closure is not None or not begun or not all(group["fused"] for group, _ in own):
            return super().step(closure)
        for group, weights in own:
            states = [self.state[one] for one in weights]
            mean, square, largest, steps = (
                [state[name] for state in states if name in state]
                for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step")
            )
            if not weights:
                continue
            torch._foreach_add_(steps, 1)
            torch._fused_adam_(
                weights,
                [one.grad for one in weights],
                mean,
                square,
                largest,
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=group["amsgrad"],
                maximize=False,
            )
        return None


@dataclass(frozen=True)
class AdamConfig:
    learning_rate: Annotated[float, Range(0, above=True, example=0.001)] = 1e-3
    """Learning rate of Adam, the peak of its schedule."""
    beta1: Annotated[float, Range(0, 1, below=True, example=0.9)] = 0.9
    """Adam β₁, decay rate of the first moment."""
    beta2: Annotated[float, Range(0, 1, below=True, example=0.999)] = 0.999
    """Adam β₂, decay rate of the second moment."""
    epsilon: Annotated[float, Range(0, above=True, example=1e-8)] = 1e-8
    """Adam ε, added to the denominator."""
    weight_decay: Annotated[float, Range(0)] = 0.0
    """Weight decay (L2 penalty, added to the gradient)."""
    amsgrad: bool = False
    """Use AMSGrad (Reddi et al. 2018)."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, parameters: Iterable[nn.Parameter], fused: bool = False) -> Adam:
        """Adam over these parameters; `fused` updates all of them in one kernel."""
        return Adam(
            parameters,
            self.learning_rate,
            (self.beta1, self.beta2),
            self.epsilon,
            self.weight_decay,
            self.amsgrad,
            fused=fused or None,
        )


DECAYING = ("cosine", "linear")


@dataclass(frozen=True)
class ScheduleConfig:
    schedule: Literal["constant", "noam", "cosine", "linear"] = "constant"
    """Learning-rate schedule after the warm-up: constant, noam (inverse square root of the step; Vaswani et al.
    2017, arXiv 1706.03762), or cosine or linear (to 0 at `decay_steps`, linear after it)."""
    warmup_steps: Annotated[int, Range(0)] = 0
    """Linear warm-up steps; noam needs at least 1. If a cosine or linear schedule would end during the warm-up, it
    is shortened to a tenth of the `--steps`."""
    decay_steps: Annotated[int, Range(0)] = 0
    """Step, counted with the warm-up, at which a cosine schedule reaches 0, and after which a linear one does; 0
    takes the `--steps` that the run began with."""

    def __post_init__(self) -> None:
        check_ranges(self)
        decays, least = self.schedule in DECAYING, int(self.schedule == "noam")
        demands = [
            ("warmup_steps", self.warmup_steps >= least, "a whole number, for noam of at least 1"),
            (
                "decay_steps",
                not decays or not self.decay_steps or self.decay_steps > self.warmup_steps,
                "more steps than warmup_steps",
            ),
        ]
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name}={getattr(self, name)!r}: give {expected}")

    def fraction(self, done: int) -> float:
        """Learning rate in step `done` + 1, as a fraction of the peak."""
        step = done + 1
        if step <= self.warmup_steps:
            return step / self.warmup_steps
        if self.schedule == "noam":
            return math.sqrt(self.warmup_steps / step)
        if self.schedule in DECAYING:
            if not self.decay_steps:
                raise ValueError(f"decay_steps=0: give the step at which the {self.schedule} schedule reaches 0")
            if self.schedule == "linear":
                # The first step has the peak, as in Stable-Baselines3 and CleanRL.
                return max(0.0, 1 - (step - 1 - self.warmup_steps) / (self.decay_steps - self.warmup_steps))
            progress = (step - self.warmup_steps) / (self.decay_steps - self.warmup_steps)
            return (1 + math.cos(math.pi * min(1.0, progress))) / 2
        return 1.0

    def ending(self, steps: int) -> "ScheduleConfig":
        """This schedule, in which a decay without `decay_steps` ends with the last of `steps`, unless they are
        0."""
        if self.schedule not in DECAYING or self.decay_steps or not steps:
            return self
        warmup_steps = self.warmup_steps if steps > self.warmup_steps else steps // 10
        return ScheduleConfig(self.schedule, warmup_steps, steps)
