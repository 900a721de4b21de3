"""Returns and advantages: generalised advantage estimation, λ-returns and n-step returns.

    δ(t) = r(t) + γ V(after t) − V(t)
    A(t) = δ(t) + γ λ A(t + 1)                          (Schulman et al. 2016, arXiv 1506.02438)
    G(t) = r(t) + γ [λ G(t + 1) + (1 − λ) V(after t)]   (the λ-return, A(t) + V(t))

With the value of the best action, V = max Q, the λ-return is that of Q(λ) by Peng and Williams (1996).

The value after a terminated episode is 0. After an episode that is truncated, by a time limit or by the end of the
rollout, returns are bootstrapped: the value of the last observation stands for the remaining rewards (Pardo et al.
2018, arXiv 1712.00378). Sums stop at the end of an episode, whether its environment resets in the same step or in
the next one, whose row of the rollout no sum crosses.
"""

import numpy as np
from jaxtyping import Bool, Float

Steps = Float[np.ndarray, "step slot"]
Ends = Bool[np.ndarray, "step slot"]


def bootstrapped(truncated: Ends, over: Ends, bootstrap: bool = True) -> Ends:
    """Mask of the steps after which the value must be computed, because no later step of the rollout has it: at
    the end of the rollout, and (with `bootstrap`) where an episode is truncated."""
    asked = truncated & bootstrap
    asked[-1] |= ~over[-1]
    return asked


def values_after(value: Steps, asked: Ends, bootstrap: Float[np.ndarray, " asked"], over: Ends) -> Steps:
    """Value of the observation after each step: 0 after the end of an episode, unless bootstrapped."""
    after = np.zeros_like(value)
    after[:-1] = np.where(over[:-1], 0, value[1:])
    after[asked] = bootstrap
    return after


def advantages(reward: Steps, value: Steps, after: Steps, over: Ends, discount: float, trace: float) -> Steps:
    """Generalised advantage estimation with the discount γ and the trace λ; `over` marks the last step of each
    episode, terminated or truncated."""
    found = reward + discount * after - value
    kept = discount * trace * ~over
    for step in range(len(found) - 2, -1, -1):
        found[step] += kept[step] * found[step + 1]
    return found


def lambda_returns(reward: Steps, after: Steps, over: Ends, discount: float, trace: float) -> Steps:
    """λ-returns: averages of the n-step returns within the episode and the rollout, weighted by the trace λ.
    `after` is the value after each step."""
    found = reward + discount * after
    kept = discount * trace * ~over
    for step in range(len(found) - 2, -1, -1):
        found[step] += kept[step] * (found[step + 1] - after[step])
    return found


def n_step_returns(reward: Steps, after: Steps, over: Ends, discount: float, steps: int) -> Steps:
    """n-step returns: the discounted rewards of n steps and the value after them; of fewer steps where the episode
    or the rollout ends before."""
    if steps < 1:
        raise ValueError(f"got steps={steps}: give at least 1")
    found = reward + discount * after
    shorter = found
    for _ in range(min(steps, len(reward)) - 1):
        longer = np.where(over[:-1], shorter[:-1], reward[:-1] + discount * shorter[1:])
        shorter = np.concatenate([longer, found[-1:]])
    return shorter


def discounted(reward: Steps, first: Ends, discount: float, before: Float[np.ndarray, " slot"]) -> Steps:
    """Discounted sum of the rewards since the beginning of each episode; `before` is the sum at the step before
    the first one."""
    found = np.empty(reward.shape)
    for step, (earned, begins) in enumerate(zip(reward, first, strict=True)):
        before = found[step] = np.where(begins, 0, discount * before) + earned
    return found
