"""Initialisation of EM: states from k-means, from a Gaussian mixture, or at random.

Every method labels the frames; a label is taken as a state with probability 0.9, so that no initial distribution
is degenerate and no symbol impossible.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from sonarium.models.hmm.config import HMMConfig
from sonarium.models.hmm.em import Model
from sonarium.models.hmm.emissions import Categorical, Counts, Emission, Gaussian, Mixture, Poisson
from sonarium.models.hmm.inference import Chain
from sonarium.models.hmm.structure import Structure, allowed_by

CERTAIN = 0.9
"""Probability with which a label is taken as a state."""
CONTEXT, FADING = 5, 0.8
"""Symbols on either side that initially distinguish states of one symbol, and the decay of their weight."""
FEW = 20_000
"""Number of frames above which k-means uses minibatches."""


@dataclass(frozen=True)
class Known:
    """Arrays over states that constrain the chain in addition to its configuration."""

    start: Float[np.ndarray, " state"] | None = None
    transitions: Float[np.ndarray, "state state"] | None = None
    transition_prior: Float[np.ndarray, "state state"] | None = None
    fixed: np.ndarray | None = None
    tied: np.ndarray | None = None


def labels_of(
    frames: Float[np.ndarray, "frame feature"],
    lengths: Int[np.ndarray, " sequence"],
    config: HMMConfig,
    rng: np.random.Generator,
) -> Int[np.ndarray, " frame"]:
    """State label of each frame, from which EM starts."""
    states, kind, start = config.states, config.emission, config.start
    seed = int(rng.integers(2**31))
    if states == 1:
        return np.zeros(len(frames), np.int64)
    points = surroundings(frames[:, 0].astype(np.int64), lengths) if kind == "categorical" else frames
    if start == "random":
        centres = points[rng.choice(len(points), states, replace=False)]
        centres = centres + 1e-3 * points.std(0) * rng.standard_normal(centres.shape)
        return nearest(points, centres)
    distinct = len(np.unique(points, axis=0))
    if start == "mixture" and distinct >= states:
        kinds = {"spherical": "spherical", "diagonal": "diag", "tied": "tied", "full": "full"}
        mixture = GaussianMixture(
            states,
            covariance_type=kinds[config.covariance],
            random_state=seed,
            max_iter=50,
            tol=0.1,
            reg_covar=1e-3,
        )
        return quietly(mixture, points)
    clusters = min(states, distinct)
    if len(points) > FEW:
        found = quietly(clustering(MiniBatchKMeans, clusters, seed), points)
    else:
        found = quietly(clustering(KMeans, clusters, seed), points)
    if clusters < states:
        # Fewer distinct frames than states: each cluster is divided at random.
        times = -(-states // clusters)
        return (found + clusters * rng.integers(times, size=len(found))) % states
    return found


def nearest(points: Float[np.ndarray, "frame some"], centres: Float[np.ndarray, "state some"]) -> np.ndarray:
    squares = np.square(centres).sum(1) - 2 * points @ centres.T
    return squares.argmin(1)


def clustering(kind: type[KMeans] | type[MiniBatchKMeans], clusters: int, seed: int) -> KMeans | MiniBatchKMeans:
    one: Any = 1
    return kind(clusters, random_state=seed, n_init=one)


def quietly(clusters: KMeans | MiniBatchKMeans | GaussianMixture, points: np.ndarray) -> Int[np.ndarray, " frame"]:
    """Cluster labels, without warnings that the clustering has not converged: an initialisation need not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clusters.fit_predict(points).astype(np.int64)


def surroundings(
    symbols: Int[np.ndarray, " frame"], lengths: Int[np.ndarray, " sequence"]
) -> Float[np.ndarray, "frame some"]:
    """One-hot symbols of each frame and those around it, which distinguish states of one symbol in different
    contexts. The symbol itself weighs most, those around it less with distance."""
    count = int(symbols.max()) + 1
    hot, edge = np.eye(count + 1)[symbols], np.eye(count + 1)[count]
    place = np.concatenate([np.arange(length) for length in lengths])
    left = np.repeat(lengths, lengths) - 1 - place
    columns = [3 * hot]
    for away in range(1, CONTEXT + 1):
        before, after = np.roll(hot, away, 0), np.roll(hot, -away, 0)
        before[place < away], after[left < away] = edge, edge
        columns += [FADING ** (away - 1) * before, FADING ** (away - 1) * after]
    return np.hstack(columns)


def start_model(
    config: HMMConfig,
    frames: Float[np.ndarray, "frame feature"],
    lengths: Int[np.ndarray, " sequence"],
    rng: np.random.Generator,
    like: Tensor,
    known: Known | None = None,
    symbols: int | None = None,
) -> Model:
    """Initial model of EM on these frames; `like` is a tensor with the dtype and device of the computation."""
    states, known = config.states, known or Known()
    structure = structure_of(config, known, rng, like.device)
    if config.topology == "left-right":
        labels = even_segments(lengths, states)
    else:
        labels = labels_of(frames, lengths, config, rng)
    centre = torch.from_numpy(frames.mean(0)).to(like)
    count = symbols or int(frames.max()) + 1 if config.emission == "categorical" else 0
    emission = first_emission(config, count, centre)
    emission = emission_from(emission, frames, labels, rng, like)
    first, moves = successions(labels, lengths, states)
    durations = None
    if config.durations != "geometric":
        np.fill_diagonal(moves, 0)
        runs = runs_of(labels, lengths, states, config.max_duration)
        durations = duration_start(runs, structure, like)
    # Every allowed transition is initially possible.
    moves = torch.from_numpy(moves + moves.sum(1, keepdims=True) / (10 * states) + 0.1).to(like)
    first = torch.from_numpy(first + 0.1).to(like) * structure.start_allowed
    before = torch.from_numpy(known.transitions).to(like) if known.transitions is not None else moves
    moves = structure.rows(moves * structure.allowed, before)
    if known.transitions is not None:
        moves = torch.from_numpy(known.transitions).to(like)
    start = first / first.sum() if known.start is None else torch.from_numpy(known.start).to(like)
    return Model(structure, Chain(start, moves, durations), emission)


def structure_of(config: HMMConfig, known: Known, rng: np.random.Generator, device: torch.device) -> Structure:
    states = config.states
    allowed = allowed_by(config.topology, states, config.sparsity, rng)
    if known.transitions is not None:
        allowed = known.transitions > 0
    if config.durations != "geometric":
        allowed = allowed & ~np.eye(states, dtype=bool)
        if config.topology == "left-right":
            allowed[-1, -1] = True
        if states == 1:
            allowed[:] = True
    first = np.ones(states, bool) if known.start is None else known.start > 0
    if config.topology == "left-right" and known.start is None:
        first[1:] = False

    def tensor(values: np.ndarray | None) -> Tensor | None:
        return None if values is None else torch.from_numpy(values).to(device)

    start_allowed, transitions = torch.from_numpy(first).to(device), torch.from_numpy(allowed).to(device)
    prior = config.transition_prior if known.transition_prior is None else tensor(known.transition_prior)
    assert prior is not None
    return Structure(
        start_allowed,
        transitions,
        config.start_prior,
        prior,
        config.duration_prior,
        config.durations,
        tensor(known.fixed),
        tensor(known.tied),
    )


def duration_start(runs: np.ndarray, structure: Structure, like: Tensor) -> Float[Tensor, "state duration"]:
    """Initial durations from runs of labels, mixed with geometric ones of the same mean, so that none is 0."""
    frames = np.arange(1, runs.shape[1] + 1)
    mean = (runs @ frames + 1) / (runs.sum(1) + 1)
    leave = 1 / np.clip(mean, 1.01, None)[:, None]
    geometric = leave * (1 - leave) ** (frames - 1)
    geometric /= geometric.sum(1, keepdims=True)
    counts = torch.from_numpy(runs + (1 + runs.sum(1, keepdims=True)) * geometric).to(like)
    return structure.lasting(counts, torch.ones_like(counts) / counts.shape[1])


def soft(labels: Int[np.ndarray, " frame"], states: int, like: Tensor) -> Float[Tensor, "frame state"]:
    found = torch.full((len(labels), states), (1 - CERTAIN) / states).to(like)
    found[torch.arange(len(labels)), torch.from_numpy(labels)] += CERTAIN
    return found


def first_emission(config: HMMConfig, symbols: int, centre: Float[Tensor, " feature"]) -> Emission:
    """Emission of the configured form with placeholder parameters."""
    size, states, kind = len(centre), config.states, config.emission
    prior, covariance, components = config.prior, config.covariance, config.components
    if kind == "categorical":
        return Categorical(prior, torch.full((states, symbols), 1 / symbols).to(centre))
    if kind == "poisson":
        return Poisson(prior, torch.ones(states, size).to(centre))
    count = states * components if kind == "mixture" else states
    shapes = {"spherical": (count,), "diagonal": (count, size), "tied": (size, size), "full": (count, size, size)}
    spread = torch.ones(shapes[covariance]) if covariance in ("spherical", "diagonal") else torch.eye(size)
    spread = spread.expand(shapes[covariance]).clone().to(centre)
    gaussian = Gaussian(prior, covariance, centre.expand(count, -1).clone(), spread, centre)
    if kind == "gaussian":
        return gaussian
    return Mixture(prior, torch.full((states, components), 1 / components).to(centre), gaussian)


def emission_from(
    emission: Emission,
    frames: Float[np.ndarray, "frame feature"],
    labels: Int[np.ndarray, " frame"],
    rng: np.random.Generator,
    like: Tensor,
) -> Emission:
    """The M-step of an emission from labelled frames."""
    features = emission.features(torch.from_numpy(frames).to(like))
    posterior = soft(labels, emission.states, like)
    counts: Counts
    if isinstance(emission, Mixture):
        each = emission.weights.shape[1]
        inner = np.zeros(len(frames), np.int64)
        for state in range(emission.states):
            own = labels == state
            if own.sum() > 2 * each and each > 1:
                seed = int(rng.integers(2**31))
                own_frames = frames[own]
                count = min(each, len(np.unique(own_frames, axis=0)))
                inner[own] = quietly(clustering(KMeans, count, seed), own_frames)
            elif own.any():
                inner[own] = rng.integers(each, size=own.sum())
        counts = emission.count_components(features, posterior[:, :, None] * soft(inner, each, like)[:, None])
    else:
        counts = emission.count(features, posterior)
    return emission.maximise(counts)


def successions(
    labels: Int[np.ndarray, " frame"], lengths: Int[np.ndarray, " sequence"], states: int
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of each initial state, and of the transitions between states."""
    firsts = np.cumsum(lengths) - lengths
    inside = np.ones(len(labels), bool)
    inside[firsts] = False
    later = np.flatnonzero(inside)
    moves = np.zeros((states, states))
    np.add.at(moves, (labels[later - 1], labels[later]), 1)
    return np.bincount(labels[firsts], minlength=states).astype(float), moves


def runs_of(
    labels: Int[np.ndarray, " frame"], lengths: Int[np.ndarray, " sequence"], states: int, longest: int
) -> np.ndarray:
    """Counts of runs of 1, 2, … frames in each state; longer runs count as the longest."""
    begins = np.zeros(len(labels), bool)
    begins[np.cumsum(lengths) - lengths] = True
    begins[1:] |= labels[1:] != labels[:-1]
    at = np.flatnonzero(begins)
    last = np.diff(np.append(at, len(labels))).clip(max=longest)
    found = np.zeros((states, longest))
    np.add.at(found, (labels[at], last - 1), 1)
    return found


def even_segments(lengths: Int[np.ndarray, " sequence"], states: int) -> Int[np.ndarray, " frame"]:
    """States that divide each sequence evenly and in order, for the initialisation of a left-right model."""
    return np.concatenate([np.arange(length) * states // length for length in lengths])
