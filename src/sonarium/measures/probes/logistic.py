"""Binary logistic regressions of many targets on the same clips, by Newton's method.

Minimises Σ log(1 + exp(−±xᵀw)) + ½ penalty·|w|² for each target; the intercept is not penalised.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

Scorer = Callable[[Float[np.ndarray, "clip code"]], Float[np.ndarray, "clip question"]]


def fit_logistic(
    codes: Float[np.ndarray, "clip code"],
    answers: Bool[np.ndarray, "clip question"],
    penalty: float = 1.0,
    steps: int = 50,
) -> Scorer:
    """Fitted function from codes to the log-odds of each target."""
    inputs = _with_one(codes)
    ridge = np.full(inputs.shape[1], penalty)
    ridge[-1] = 1e-6  # keeps the step defined; the intercept is practically not penalised
    weights = np.zeros((answers.shape[1], inputs.shape[1]))
    for question in range(answers.shape[1]):
        weights[question] = _newton(inputs, answers[:, question].astype(np.float64), ridge, steps)
    return lambda codes: _with_one(codes) @ weights.T


def _newton(
    x: Float[np.ndarray, "clip code"],
    y: Float[np.ndarray, " clip"],
    ridge: Float[np.ndarray, " code"],
    steps: int,
) -> Float[np.ndarray, " code"]:
    w = np.zeros(x.shape[1])
    loss = _loss(x, y, ridge, w)
    for _ in range(steps):
        p = 0.5 * (1 + np.tanh(0.5 * (x @ w)))
        gradient = x.T @ (p - y) + ridge * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        fraction = 1.0
        while (next_loss := _loss(x, y, ridge, w - fraction * step)) > loss and fraction > 1e-4:
            fraction /= 2
        if loss - next_loss <= 1e-9 * loss:
            break
        w, loss = w - fraction * step, next_loss
    return w


def _loss(
    x: Float[np.ndarray, "clip code"],
    y: Float[np.ndarray, " clip"],
    ridge: Float[np.ndarray, " code"],
    w: Float[np.ndarray, " code"],
) -> float:
    logits = x @ w
    return float(np.sum(np.logaddexp(0, logits) - y * logits) + 0.5 * np.sum(ridge * w**2))


def _with_one(codes: Float[np.ndarray, "clip code"]) -> Float[np.ndarray, "clip code_and_one"]:
    return np.hstack([codes, np.ones((len(codes), 1))])
