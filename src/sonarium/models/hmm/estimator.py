"""Hidden Markov models with the interface of scikit-learn: `fit`, `predict`, `predict_proba`, `score`, `sample`.

    from sonarium.models.hmm import HMM

    model = HMM(states=10, covariance="full", random_state=0).fit(frames, lengths=lengths)
    model.predict(frames, lengths), model.score(other), model.sample(100)

The frames of all sequences are concatenated, and `lengths` are the lengths of the sequences, as in hmmlearn.
The algorithms of Rabiner 1989 are in `inference.py`, expectation-maximisation in `em.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import log, nan
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data
from torch import Tensor

from sonarium.models.hmm.config import HMMConfig, Start
from sonarium.models.hmm.em import Model, Statistics, e_step, empty_states, m_step, repair, rises
from sonarium.models.hmm.emissions import (
    Categorical,
    Covariance,
    EmissionKind,
    EmissionPrior,
    Gaussian,
    Mixture,
    Poisson,
)
from sonarium.models.hmm.inference import Arithmetic, Chain, Workspace, expect, viterbi
from sonarium.models.hmm.packing import Block, lengths_of, pack
from sonarium.models.hmm.sampling import draw
from sonarium.models.hmm.starting import Known, start_model, structure_of
from sonarium.models.hmm.structure import Durations, Topology

DEFAULT = HMMConfig()
PRIOR = EmissionPrior()
Lengths = Sequence[int] | np.ndarray | None
Packed = list[tuple[Block, Tensor]]


class HMM(BaseEstimator):
    """A hidden Markov model, fitted by expectation-maximisation.

    The settings of `HMMConfig` and `EmissionPrior` have the same meaning here. In addition:

    symbols: number of symbols of categorical emissions; by default one more than the largest that `fit` is given.
    initial, transitions: initial-state and transition probabilities from which EM starts; zeros remain 0.
    fixed: boolean matrix of the transitions that keep their probability in `transitions`.
    tied: integer matrix; transitions with the same number above 0 have the same probability.
    transition_prior: a number, or a matrix.
    learn: parts that EM updates, of "chain" and "emissions".
    n_init: number of starts of EM, of which the best is kept.
    max_iter, tol: maximum number of iterations, and minimum gain of the objective in nats for EM to continue.
    device: device of the computation, "cpu" or "cuda".
    """

    emission: EmissionKind
    covariance: Covariance
    topology: Topology
    durations: Durations
    start: Start
    arithmetic: Arithmetic
    dtype: Literal["float64", "float32"]
    n_features_in_: int
    model_: Model
    counts_: Statistics | None

    def __init__(
        self,
        states: int = 1,
        emission: EmissionKind = DEFAULT.emission,
        *,
        covariance: Covariance = DEFAULT.covariance,
        components: int = DEFAULT.components,
        symbols: int | None = None,
        topology: Topology = DEFAULT.topology,
        sparsity: float = DEFAULT.sparsity,
        durations: Durations = DEFAULT.durations,
        max_duration: int = DEFAULT.max_duration,
        initial: Any = None,
        transitions: Any = None,
        fixed: Any = None,
        tied: Any = None,
        start_prior: float = DEFAULT.start_prior,
        transition_prior: Any = DEFAULT.transition_prior,
        duration_prior: float = DEFAULT.duration_prior,
        covariance_prior: float = PRIOR.covariance_prior,
        covariance_weight: float = PRIOR.covariance_weight,
        mean_prior: float = PRIOR.mean_prior,
        mean_weight: float = PRIOR.mean_weight,
        floor: float = PRIOR.floor,
        emission_prior: float = PRIOR.emission_prior,
        rate_prior: float = PRIOR.rate_prior,
        rate_weight: float = PRIOR.rate_weight,
        start: Start = DEFAULT.start,
        repair: bool = DEFAULT.repair,
        learn: tuple[str, ...] = ("chain", "emissions"),
        n_init: int = 1,
        max_iter: int = 100,
        tol: float = 1e-2,
        arithmetic: Arithmetic = DEFAULT.arithmetic,
        dtype: Literal["float64", "float32"] = DEFAULT.dtype,
        device: str = "cpu",
        random_state: Any = None,
    ):
        self.states = states
        self.emission = emission
        self.covariance = covariance
        self.components = components
        self.symbols = symbols
        self.topology = topology
        self.sparsity = sparsity
        self.durations = durations
        self.max_duration = max_duration
        self.initial = initial
        self.transitions = transitions
        self.fixed = fixed
        self.tied = tied
        self.start_prior = start_prior
        self.transition_prior = transition_prior
        self.duration_prior = duration_prior
        self.covariance_prior = covariance_prior
        self.covariance_weight = covariance_weight
        self.mean_prior = mean_prior
        self.mean_weight = mean_weight
        self.floor = floor
        self.emission_prior = emission_prior
        self.rate_prior = rate_prior
        self.rate_weight = rate_weight
        self.start = start
        self.repair = repair
        self.learn = learn
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.arithmetic = arithmetic
        self.dtype = dtype
        self.device = device
        self.random_state = random_state

    def config(self) -> HMMConfig:
        """Validated settings that are shared with the learner."""
        prior = EmissionPrior(
            self.covariance_prior,
            self.covariance_weight,
            self.mean_prior,
            self.mean_weight,
            self.floor,
            self.emission_prior,
            self.rate_prior,
            self.rate_weight,
        )
        flat = isinstance(self.transition_prior, int | float)
        return HMMConfig(
            states=self.states,
            emission=self.emission,
            covariance=self.covariance,
            components=self.components,
            topology=self.topology,
            sparsity=self.sparsity,
            durations=self.durations,
            max_duration=self.max_duration,
            start_prior=self.start_prior,
            transition_prior=self.transition_prior if flat else 1.0,
            duration_prior=self.duration_prior,
            prior=prior,
            start=self.start,
            repair=self.repair,
            arithmetic=self.arithmetic,
            dtype=self.dtype,
        )

    def known(self) -> Known:
        """Validated array settings."""
        square = (self.states, self.states)
        found = {}
        for name, shape in (("initial", square[:1]), ("transitions", square), ("fixed", square), ("tied", square)):
            value = getattr(self, name)
            if value is None:
                continue
            array = np.asarray(value, {"fixed": bool, "tied": np.int64}.get(name, np.float64))
            if array.shape != shape:
                raise ValueError(f"{name} has the shape {array.shape}: give one of {shape}")
            if name in ("initial", "transitions") and (
                not (array >= 0).all() or not np.allclose(array.sum(-1), 1, atol=1e-6)
            ):
                raise ValueError(f"{name} must be probabilities: rows of at least 0 that sum to 1")
            found["start" if name == "initial" else name] = array
        if self.durations != "geometric" and "transitions" in found:
            # A state without another successor keeps its own.
            lasting = np.diagonal(found["transitions"])
            if ((lasting > 0) & (lasting < 1)).any():
                raise ValueError(
                    f"durations={self.durations!r} with transitions from a state to itself: give 0 on the diagonal"
                )
        if self.fixed is not None and self.transitions is None:
            raise ValueError("fixed transitions need their probabilities: give transitions, too")
        if not isinstance(self.transition_prior, int | float):
            prior = np.asarray(self.transition_prior, np.float64)
            if prior.shape != square or not (prior >= 1).all():
                raise ValueError(f"transition_prior: give a number, or a matrix of {square}, of at least 1")
            found["transition_prior"] = prior
        return Known(**found)

    @property
    def like(self) -> Float[Tensor, ""]:
        """Tensor with the dtype and device of the computation."""
        return torch.zeros(
            (), dtype=torch.float64 if self.dtype == "float64" else torch.float32, device=self.device
        )

    def frames(self, X: Any, reset: bool) -> Float[np.ndarray, "frame feature"]:
        frames: Any = validate_data(self, X, dtype=np.float64, reset=reset)
        if self.emission in ("categorical", "poisson"):
            if (frames < 0).any() or (frames != np.floor(frames)).any():
                raise ValueError(
                    "Negative values in data passed to HMM, or fractions: give whole numbers of at least 0 as "
                    f"{self.emission} emissions"
                )
            if self.emission == "categorical" and frames.shape[1] != 1:
                raise ValueError(
                    f"categorical emissions: got {frames.shape[1]} columns, give one column of symbols"
                )
        return frames

    def packed(self, frames: np.ndarray, lengths: np.ndarray, model: Model) -> Packed:
        """Blocks of sequences with the emission features of their frames."""
        width = self.states * (1 if model.chain.durations is None else model.chain.durations.shape[1])
        features = model.emission.features(torch.from_numpy(np.array(frames)).to(self.like))
        blocks = pack(lengths, width, self.device)
        return [(block, features.index_select(0, block.source)) for block in blocks]

    def fit(self, X: Any, y: Any = None, lengths: Lengths = None, start_from: "HMM | None" = None) -> "HMM":
        """Fit to frames by EM; `start_from`, a fitted model with as many states (of the day before, say), replaces
        the initialisation."""
        frames = self.frames(X, reset=True)
        config, known = self.config(), self.known()
        own = lengths_of(len(frames), lengths)
        if len(frames) < self.states:
            raise ValueError(
                f"n_samples={len(frames)} frames, {self.states} states: give at least as many frames as states"
            )
        if self.n_init < 1 or self.max_iter < 1:
            raise ValueError(f"n_init={self.n_init}, max_iter={self.max_iter}: give at least 1 of each")
        if self.emission == "categorical" and self.symbols:
            check_symbols(frames, self.symbols)
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
        best: Fitted | None = None
        for _ in range(self.n_init if start_from is None else 1):
            if start_from is None:
                model = start_model(config, frames, own, rng, self.like, known, self.symbols)
            else:
                model = self.continued(start_from, config, known, rng)
            self.check_model(frames, model)
            found = self.maximise(model, self.packed(frames, own, model))
            if best is None or found.objective[-1] > best.objective[-1]:
                best = found
        assert best is not None
        self.model_, self.counts_ = best.model, best.counts
        self.history_, self.objective_ = np.array(best.history), np.array(best.objective)
        self.n_iter_, self.converged_ = len(best.history), best.converged
        return self

    def continued(self, other: "HMM", config: HMMConfig, known: Known, rng: np.random.Generator) -> Model:
        """Parameters of a fitted model under the structure and priors of this one."""
        check_is_fitted(other, "model_")
        model = other.model_
        if model.states != self.states or model.emission.dimensions != self.n_features_in_:
            raise ValueError(
                f"start_from has {model.states} states of {model.emission.dimensions} columns: "
                f"expected {self.states} of {self.n_features_in_}"
            )
        emission = model.emission
        normal = emission.gaussian if isinstance(emission, Mixture) else emission
        theirs = {
            "emission": type(emission).__name__.lower(),
            "covariance": normal.covariance if isinstance(normal, Gaussian) else self.covariance,
            "durations": "geometric" if model.chain.durations is None else "explicit",
        }
        ours = {"emission": self.emission, "covariance": self.covariance}
        ours |= {"durations": "geometric" if self.durations == "geometric" else "explicit"}
        for name, value in theirs.items():
            if value != ours[name]:
                raise ValueError(
                    f"start_from has {name}={value!r}, this model {ours[name]!r}: give the same to both"
                )
        structure = structure_of(config, known, rng, self.like.device)
        if self.topology == other.topology and self.initial is None and self.transitions is None:
            # Keep the transitions of the other model: of a sparse topology, and without those it has lost.
            structure = replace(
                structure,
                allowed=model.structure.allowed & (model.chain.transitions > 0),
                start_allowed=model.structure.start_allowed & (model.chain.start > 0),
            )
        chain = model.chain
        moves = structure.rows(chain.transitions * structure.allowed, chain.transitions)
        first = chain.start * structure.start_allowed
        emission = replace(emission, prior=config.prior)
        if isinstance(emission, Mixture):
            emission = replace(emission, gaussian=replace(emission.gaussian, prior=config.prior))
        return Model(structure, Chain(first / first.sum(), moves, chain.durations), emission)

    def check_model(self, frames: np.ndarray, model: Model) -> None:
        if isinstance(model.emission, Categorical):
            check_symbols(frames, model.emission.probabilities.shape[1])

    def maximise(self, model: Model, packed: Packed) -> "Fitted":
        space, repairs = Workspace(), self.states if self.repair else 0
        found = Fitted(model)
        repaired = True
        for iteration in range(self.max_iter):
            found.counts = counts = e_step(found.model, packed, self.arithmetic, space)
            found.history.append(float(counts.log_likelihood))
            now = found.history[-1] + float(found.model.penalty())
            if not repaired:
                rising = rises(found.objective[-1], now)
                assert rising or self.dtype == "float32", (found.objective[-1], now)
                found.converged = now - found.objective[-1] < self.tol
            elif not np.isfinite(now):
                rises(nan, now)
            found.objective.append(now)
            if found.converged:
                break
            found.model, repaired = m_step(found.model, counts, self.learn), False
            empty = len(empty_states(counts))
            # After the last iteration, the score of a repaired model would be unknown.
            if empty and repairs >= empty and iteration + 1 < self.max_iter:
                found.model, repairs, repaired = repair(found.model, counts), repairs - empty, True
        return found

    def blocks(self, X: Any, lengths: Lengths) -> Iterator[tuple[Block, Float[Tensor, "frame some"]]]:
        check_is_fitted(self, "model_")
        frames = self.frames(X, reset=False)
        self.check_model(frames, self.model_)
        yield from self.packed(frames, lengths_of(len(frames), lengths), self.model_)

    def predict(self, X: Any, lengths: Lengths = None) -> Int[np.ndarray, " frame"]:
        """The most likely sequence of states (Viterbi)."""
        return self.decode(X, lengths)[1]

    def decode(self, X: Any, lengths: Lengths = None) -> tuple[float, Int[np.ndarray, " frame"]]:
        """Joint log-probability of the frames and their most likely states (Viterbi), and these states."""
        total, found = 0.0, {}
        for block, features in self.blocks(X, lengths):
            path, best = viterbi(self.model_.chain, self.model_.emission.log_density(features), block)
            total += float(best.sum())
            found[block.source] = path
        return total, gathered(found)

    def predict_proba(self, X: Any, lengths: Lengths = None) -> Float[np.ndarray, "frame state"]:
        """Posterior probability of each state at each frame, given the whole sequence."""
        found, space = {}, Workspace()
        for block, features in self.blocks(X, lengths):
            expected = expect(
                self.model_.chain, lambda own=features: self.model_.emission.log_density(own), block,
                self.arithmetic, space,
            )  # fmt: skip
            assert expected.posterior is not None
            found[block.source] = expected.posterior.clone()
        return gathered(found)

    def score_samples(self, X: Any, lengths: Lengths = None) -> Float[np.ndarray, " frame"]:
        """log p of each frame given those before it in its sequence; they sum to the score."""
        found, space = {}, Workspace()
        for block, features in self.blocks(X, lengths):
            expected = expect(
                self.model_.chain, lambda own=features: self.model_.emission.log_density(own), block,
                self.arithmetic, space, posteriors=False,
            )  # fmt: skip
            found[block.source] = expected.predictive
        return gathered(found)

    def score(self, X: Any, y: Any = None, lengths: Lengths = None) -> float:
        """The log-likelihood of all sequences, in nats."""
        return float(self.score_samples(X, lengths).sum())

    def expected_counts(self, X: Any, lengths: Lengths = None) -> Statistics:
        """Expected counts (E-step)."""
        return e_step(self.model_, self.blocks(X, lengths), self.arithmetic)

    @property
    def n_parameters_(self) -> int:
        """Number of free parameters."""
        check_is_fitted(self, "model_")
        return self.model_.free()

    def aic(self, X: Any, lengths: Lengths = None) -> float:
        """Akaike information criterion; lower is better."""
        return 2 * self.n_parameters_ - 2 * self.score(X, lengths=lengths)

    def bic(self, X: Any, lengths: Lengths = None) -> float:
        """Bayesian information criterion, with the number of frames as sample size; lower is better."""
        return self.n_parameters_ * log(len(X)) - 2 * self.score(X, lengths=lengths)

    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        sequences: int = 1,
        temperature: float = 1.0,
        mean: bool = False,
    ) -> tuple[Float[np.ndarray, "frame feature"], Int[np.ndarray, " frame"]]:
        """Frames and their states, of concatenated sequences of `n_samples` frames. The initial state is drawn and
        emits, too. `temperature` flattens (above 1) or sharpens the probabilities of states; with `mean`, each
        frame is the mean of its state instead of a draw from it."""
        check_is_fitted(self, "model_")
        if n_samples < 1 or sequences < 1 or not temperature > 0:
            raise ValueError(
                f"n_samples={n_samples}, sequences={sequences}, temperature={temperature}: give 1 or more "
                "frames and sequences, and a temperature above 0"
            )
        seed = check_random_state(self.random_state if random_state is None else random_state).randint(2**31)
        generator = torch.Generator(self.device).manual_seed(int(seed))
        states, frames = draw(self.model_, sequences, n_samples, generator, temperature, mean)
        return frames.flatten(0, 1).cpu().numpy(), states.flatten().cpu().numpy()

    @classmethod
    def from_parameters(
        cls,
        initial: Any,
        transitions: Any,
        *,
        means: Any = None,
        covariances: Any = None,
        weights: Any = None,
        probabilities: Any = None,
        rates: Any = None,
        durations: Any = None,
        **settings: Any,
    ) -> "HMM":
        """Model with these parameters, without fitting: of Gaussians, mixtures (with weights), symbols (with
        probabilities) or counts (with rates)."""
        kind: EmissionKind = "mixture" if weights is not None else "gaussian"
        if probabilities is not None or rates is not None:
            kind = "categorical" if rates is None else "poisson"
        made = cls(len(initial), kind, initial=initial, transitions=transitions, **settings)
        if durations is not None and made.durations == "geometric":
            made.set_params(durations="categorical", max_duration=len(durations[0]))
        config, known, like = made.config(), made.known(), made.like

        def tensor(value: Any) -> Tensor:
            return torch.from_numpy(np.array(value, np.float64)).to(like)

        structure = structure_of(config, known, np.random.default_rng(0), like.device)
        chain = Chain(tensor(initial), tensor(transitions), None if durations is None else tensor(durations))
        prior = config.prior
        if probabilities is not None:
            emission = Categorical(prior, tensor(probabilities))
        elif rates is not None:
            emission = Poisson(prior, tensor(rates))
        else:
            mean = tensor(means)
            size = mean.shape[-1]
            spread = tensor(covariances)
            if weights is not None:
                spread = spread if made.covariance == "tied" else spread.flatten(0, 1)
            emission = Gaussian(
                prior, config.covariance, mean.reshape(-1, size), spread, mean.reshape(-1, size).mean(0)
            )
            if weights is not None:
                emission = Mixture(prior, tensor(weights), emission)
        made.model_, made.n_features_in_ = Model(structure, chain, emission), emission.dimensions
        return made

    # The parameters as arrays, by their names in hmmlearn.

    @property
    def startprob_(self) -> Float[np.ndarray, " state"]:
        return array(self.model_.chain.start)

    @property
    def transmat_(self) -> Float[np.ndarray, "state state"]:
        return array(self.model_.chain.transitions)

    @property
    def durations_(self) -> Float[np.ndarray, "state duration"] | None:
        """Probability of 1, 2, … frames in each state, where durations are explicit."""
        durations = self.model_.chain.durations
        return None if durations is None else array(durations)

    @property
    def means_(self) -> Float[np.ndarray, "state *rest"]:
        emission = self.model_.emission
        if isinstance(emission, Mixture):
            return array(emission.gaussian.mean).reshape(emission.states, -1, emission.dimensions)
        return array(emission.expected())

    @property
    def covars_(self) -> Float[np.ndarray, "*shape"]:
        emission = self.model_.emission
        if isinstance(emission, Mixture):
            spread = array(emission.gaussian.spread)
            return spread if self.covariance == "tied" else spread.reshape(emission.states, -1, *spread.shape[1:])
        assert isinstance(emission, Gaussian), emission
        return array(emission.spread)

    @property
    def weights_(self) -> Float[np.ndarray, "state component"]:
        assert isinstance(self.model_.emission, Mixture), self.emission
        return array(self.model_.emission.weights)

    @property
    def emissionprob_(self) -> Float[np.ndarray, "state symbol"]:
        assert isinstance(self.model_.emission, Categorical), self.emission
        return array(self.model_.emission.probabilities)

    @property
    def lambdas_(self) -> Float[np.ndarray, "state feature"]:
        assert isinstance(self.model_.emission, Poisson), self.emission
        return array(self.model_.emission.rate)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.emission in ("categorical", "poisson")
        return tags


class Fitted:
    """Result of EM from one start."""

    def __init__(self, model: Model):
        self.model = model
        self.counts: Statistics | None = None
        self.history: list[float] = []
        self.objective: list[float] = []
        self.converged = False


def check_symbols(frames: np.ndarray, count: int) -> None:
    if frames.max() >= count:
        raise ValueError(f"symbol {frames.max():.0f}: there are {count}, from 0 on; give symbols=")


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def gathered(found: dict[Tensor, Tensor]) -> np.ndarray:
    """Rows of blocks in the original order of the frames."""
    source, rows = torch.cat(list(found)), torch.cat(list(found.values()))
    return array(torch.empty_like(rows).index_copy_(0, source, rows))
