"""Classifiers of codes: ridge regression, logistic regression, and a network with one hidden layer.

Codes are standardised by the training rows. Strengths of regularisation are per row, so that a strength means the
same for few rows and for many: ridge minimises |Y − XW|²/n + strength·|W|² for targets of ±1, logistic
regression the mean cross entropy + ½·strength·|W|²; the intercept is not penalised.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import nn

from sonarium.config import Range, check_ranges

Scores = Callable[[Float[np.ndarray, "row code"]], Float[np.ndarray, "row class_"]]
Watch = tuple[Float[np.ndarray, "watched code"], Int[np.ndarray, " watched"]]


@dataclass(frozen=True)
class Scale:
    """Offset and divisor of each code."""

    mean: Float[np.ndarray, " code"]
    spread: Float[np.ndarray, " code"]

    def __call__(self, codes: Float[np.ndarray, "row code"]) -> Float[np.ndarray, "row code"]:
        return (codes - self.mean) / self.spread


def scale_of(codes: Float[np.ndarray, "row code"]) -> Scale:
    """Scale to mean 0 and standard deviation 1; a constant code becomes 0."""
    mean, spread = codes.mean(axis=0), codes.std(axis=0)
    still = spread <= 1e-12 * np.maximum(1, np.abs(mean))
    return Scale(mean, np.where(still, 1.0, spread))


def principal_axes(
    centred: Float[np.ndarray, "row code"],
) -> tuple[Float[np.ndarray, " axis"], Float[np.ndarray, "code axis"]]:
    """Principal axes of non-zero variance, and the variance along each."""
    rows, columns = centred.shape
    wide = columns > rows
    power, turned = np.linalg.eigh((centred @ centred.T if wide else centred.T @ centred) / rows)
    kept = power > 1e-12 * max(float(power[-1]), 0.0)
    axes = turned[:, kept]
    return power[kept], centred.T @ axes / np.sqrt(rows * power[kept]) if wide else axes


def linear(
    weights: Float[np.ndarray, "code class_"],
    offset: Float[np.ndarray, " class_"],
    centre: Float[np.ndarray, " code"],
) -> Scores:
    return lambda codes: (codes - centre) @ weights + offset


def ridge_path(
    x: Float[np.ndarray, "row code"], y: Int[np.ndarray, " row"], classes: int, strengths: tuple[float, ...]
) -> Iterator[Scores]:
    """Ridge regression with one target per class, for every strength."""
    return least_squares_path(x, 2.0 * np.eye(classes)[y] - 1, strengths)


def least_squares_path(
    x: Float[np.ndarray, "row code"], targets: Float[np.ndarray, "row target"], strengths: tuple[float, ...]
) -> Iterator[Scores]:
    """Ridge regression for every strength, from one Gram matrix of codes, or of rows if these are fewer."""
    centre, offset = x.mean(axis=0), targets.mean(axis=0)
    centred, wanted = x - centre, targets - offset
    rows, wide = len(x), x.shape[1] > len(x)
    products = (centred @ centred.T if wide else centred.T @ centred) / rows
    asked = (wanted if wide else centred.T @ wanted) / rows
    for strength in strengths:
        # A Cholesky factor for each of a few strengths takes half the time of one eigendecomposition.
        factor = cho_factor(products + strength * np.eye(len(products)), overwrite_a=True, check_finite=False)
        solved = cho_solve(factor, asked, check_finite=False)
        yield linear(centred.T @ solved if wide else solved, offset, centre)


def logistic_path(
    x: Float[np.ndarray, "row code"],
    y: Int[np.ndarray, " row"],
    classes: int,
    strengths: tuple[float, ...],
    tolerance: float = 1e-4,
) -> Iterator[Scores]:
    """Multinomial logistic regression by L-BFGS, each strength warm-started from the previous solution.

    The optimisation runs along the principal axes, each scaled by the bound on the curvature of Böhning (1992),
    half the variance plus the strength: otherwise correlated codes would make it slow.
    """
    rows = len(x)
    targets, centre = np.eye(classes)[y], x.mean(axis=0)
    power, axes = principal_axes(x - centre)
    along = (x - centre) @ axes
    weights, offset = np.zeros((len(power), classes)), np.zeros(classes)
    for strength in strengths:
        unit = 1 / np.sqrt(power / 2 + strength)[:, None]
        inputs, penalty = along * unit.T, strength * unit**2

        def loss(flat: np.ndarray, inputs: np.ndarray = inputs, penalty: np.ndarray = penalty):
            U, b = flat[:-classes].reshape(-1, classes), flat[-classes:]
            log_p = log_softmax(inputs @ U + b, axis=1)
            error = (np.exp(log_p) - targets) / rows
            value = -(log_p * targets).sum() / rows + 0.5 * (penalty * U**2).sum()
            return float(value), np.concatenate([(inputs.T @ error + penalty * U).ravel(), error.sum(axis=0)])

        start = np.concatenate([(weights / unit).ravel(), offset])
        options = {"gtol": tolerance, "ftol": tolerance / 100, "maxiter": 300}
        solution = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
        weights, offset = unit * solution[:-classes].reshape(-1, classes), solution[-classes:]
        yield linear(axes @ weights, offset, centre)


@dataclass(frozen=True)
class NetworkConfig:
    """One hidden layer, and how it is trained."""

    hidden: Annotated[tuple[int, ...], Range(1, 65536)] = (64, 512)
    """Sizes of the hidden layer to choose from."""
    learning_rate: Annotated[float, Range(0, above=True)] = 1e-3
    """Learning rate of AdamW."""
    decay: Annotated[float, Range(0)] = 1e-2
    """Weight decay of AdamW."""
    batch: Annotated[int, Range(1)] = 256
    """Batch size."""
    epochs: Annotated[int, Range(1)] = 100
    """Maximum number of epochs."""
    patience: Annotated[int, Range(1)] = 8
    """Epochs without a lower validation loss after which training stops."""

    def __post_init__(self) -> None:
        check_ranges(self)


def network(codes: int, hidden: int, classes: int, generator: torch.Generator) -> nn.Sequential:
    """Network from codes to logits of classes, with weights drawn from this generator only."""
    first, last = linear_layer(codes, hidden, generator), linear_layer(hidden, classes, generator)
    return nn.Sequential(first, nn.ReLU(), last)


def linear_layer(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def fit_network(
    x: Float[np.ndarray, "row code"],
    y: Int[np.ndarray, " row"],
    classes: int,
    hidden: int,
    config: NetworkConfig,
    seed: int,
    watch: Watch | None = None,
) -> tuple[Scores, int]:
    """Trained network, and its number of epochs.

    With validation rows (`watch`), the weights are those of the epoch with the lowest loss on them; otherwise
    those after all epochs. The seed determines the initial weights and the order of rows.
    """
    generator = torch.Generator().manual_seed(seed)
    model = network(x.shape[1], hidden, classes, generator)
    descent = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.decay)
    inputs, targets = torch.from_numpy(x).float(), torch.from_numpy(y).long()
    watched = None if watch is None else (torch.from_numpy(watch[0]).float(), torch.from_numpy(watch[1]).long())
    best, best_loss = (0, _weights(model)), np.inf
    for epoch in range(1, config.epochs + 1):
        for rows in torch.randperm(len(inputs), generator=generator).split(config.batch):
            descent.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            descent.step()
        if watched is None:
            best = epoch, _weights(model)
            continue
        with torch.no_grad():
            loss = float(nn.functional.cross_entropy(model(watched[0]), watched[1]))
        if loss < best_loss:
            best, best_loss = (epoch, _weights(model)), loss
        elif epoch - best[0] >= config.patience:
            break
    model.load_state_dict(best[1])
    return _scores(model), best[0]


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _scores(model: nn.Module) -> Scores:
    def score(codes: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(codes).float()).numpy().astype(np.float64)

    return score
