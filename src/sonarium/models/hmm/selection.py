"""Number of states by validation, AIC or BIC; and the smallest model that a test does not reject.

Merging (Stolcke and Omohundro 1993) joins the states with the most similar statistics, and refits the model. A
merged model is rejected where held-out sequences are less probable under it than under the model before all
merging (paired test over sequences), or, for symbols, where the observed sequences are further from its
expectation than its samples (the idea of POMM, Lu et al. 2025: as few states as a p-value allows).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from sklearn.base import clone
from sklearn.utils.validation import check_random_state
from torch import Tensor

from sonarium.models.hmm.em import Model, Statistics, m_step
from sonarium.models.hmm.emissions import Categorical
from sonarium.models.hmm.estimator import HMM
from sonarium.models.hmm.packing import lengths_of

Criterion = Literal["validation", "aic", "bic"]
Test = Literal["held-out", "sequences"]


@dataclass(frozen=True)
class Choice:
    """A number of states, with its fitted model and its score."""

    states: int
    parameters: int
    log_likelihood: float
    """Log-likelihood of the training frames."""
    score: float
    """The criterion; lower is better. Validation: negative log-likelihood per frame of the held-out sequences."""
    model: HMM


def choose_states(
    template: HMM,
    candidates: Iterable[int],
    X: Any,
    lengths: Sequence[int] | np.ndarray,
    *,
    criterion: Criterion = "validation",
    held_out: float = 0.2,
    random_state: Any = None,
) -> tuple[HMM, list[Choice]]:
    """Fit the template with each number of states; return the best model, and all choices. For validation, a
    fraction of the sequences is held out from the fit; AIC and BIC are those of the fit to all sequences."""
    frames, own = np.asarray(X), lengths_of(len(X), lengths)
    train, validation = split_sequences(own, held_out if criterion == "validation" else 0, random_state)
    fitted, held = rows_of(own, train), rows_of(own, validation)
    found = []
    for states in candidates:
        model = copy_of(template, states=states).fit(frames[fitted], lengths=own[train])
        if criterion == "validation":
            score = -model.score(frames[held], lengths=own[validation]) / len(held)
        else:
            measure = model.aic if criterion == "aic" else model.bic
            score = measure(frames[fitted], own[train])
        reached = model.score(frames[fitted], lengths=own[train])
        found.append(Choice(states, model.n_parameters_, reached, score, model))
    if not found:
        raise ValueError("no numbers of states to choose from: give at least one")
    return min(found, key=lambda choice: choice.score).model, found


def copy_of(template: HMM, **changed: Any) -> HMM:
    """Unfitted estimator with the same settings except for these."""
    made = clone(template)
    assert isinstance(made, HMM), made
    return made.set_params(**changed)


def split_sequences(
    lengths: Int[np.ndarray, " sequence"], held_out: float, random_state: Any
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " held"]]:
    """Indices of the training sequences, and of the held-out ones."""
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out={held_out}: give a fraction of at least 0 and below 1")
    order = check_random_state(random_state).permutation(len(lengths))
    count = max(1, round(held_out * len(lengths))) if held_out else 0
    if count >= len(lengths):
        raise ValueError(
            f"{len(lengths)} sequence(s): none is left to fit to when {count} are held out, give more"
        )
    return np.sort(order[count:]), np.sort(order[:count])


def rows_of(lengths: Int[np.ndarray, " sequence"], numbers: Int[np.ndarray, " chosen"]) -> Int[np.ndarray, " row"]:
    """Rows of the frames of these sequences."""
    chosen = np.zeros(len(lengths), bool)
    chosen[numbers] = True
    return np.flatnonzero(np.repeat(chosen, lengths))


def by_sequence(model: HMM, X: np.ndarray, lengths: np.ndarray) -> Float[np.ndarray, " sequence"]:
    """log p of each sequence."""
    return np.add.reduceat(model.score_samples(X, lengths), np.cumsum(lengths) - lengths)


@dataclass(frozen=True)
class Merge:
    """A model tested during merging, and the result of the test."""

    states: int
    p_value: float
    score: float
    """log p per frame of the held-out sequences."""


def merge_states(
    model: HMM,
    X: Any,
    lengths: Sequence[int] | np.ndarray,
    held: Any,
    held_lengths: Sequence[int] | np.ndarray,
    *,
    test: Test = "held-out",
    level: float = 0.05,
    max_iter: int = 20,
    least: int = 1,
    at_once: int = 0,
    random_state: Any = None,
) -> tuple[HMM, list[Merge]]:
    """Smallest model, found by merging the states of a fitted one, that the test does not reject at this level;
    and all tested models. Models are fitted to X, and tested on the held-out sequences. At least `least` states
    remain; `at_once` pairs are merged at a time (0: a tenth of the states), and half as many after each
    rejection."""
    frames, own = np.asarray(X), lengths_of(len(X), lengths)
    others, others_own = np.asarray(held), lengths_of(len(held), held_lengths)
    structure = model.model_.structure
    if structure.fixed is not None or structure.tied is not None or isinstance(structure.transition_prior, Tensor):
        raise ValueError(
            "merging needs free transitions under one prior: fit without fixed, tied or a matrix of priors"
        )
    rng = check_random_state(random_state)
    reference = by_sequence(model, others, others_own)
    current, tested = model, []
    at_once = at_once or max(1, model.states // 10)
    while current.states > least:
        counts = current.expected_counts(frames, own)
        count = min(at_once, current.states - least)
        smaller = refitted(
            current, merged(current.model_, counts, groups(current.model_, counts, count)), max_iter
        )
        smaller.fit(frames, lengths=own, start_from=smaller)
        likelihood = by_sequence(smaller, others, others_own)
        if test == "held-out":
            p_value = paired_p_value(reference - likelihood)
        else:
            p_value = sequence_p_value(smaller, others, others_own, random_state=rng)
        tested.append(Merge(smaller.states, p_value, float(likelihood.sum() / len(others))))
        if p_value >= level:
            current = smaller
        elif at_once == 1:
            break
        else:
            at_once //= 2
    return current, tested


def paired_p_value(losses: Float[np.ndarray, " sequence"]) -> float:
    """One-sided t-test p-value of the mean loss over sequences, under the null hypothesis of no loss."""
    if len(losses) < 2:
        raise ValueError(f"{len(losses)} held-out sequence: give at least 2, so that their spread is known")
    if np.ptp(losses) == 0:
        return float(losses[0] <= 0)
    test: Any = stats.ttest_1samp(losses, 0, alternative="greater")
    return float(test.pvalue)


def sequence_p_value(
    model: HMM,
    X: Any,
    lengths: Sequence[int] | np.ndarray,
    *,
    order: int = 5,
    samples: int = 200,
    random_state: Any = None,
) -> float:
    """Monte Carlo p-value for symbols: fraction of the sets of sequences drawn from the model that are as far from
    its expectation as the observed set, or further, in total variation of n-grams up to this order."""
    if not isinstance(model.model_.emission, Categorical):
        raise ValueError("n-grams need symbols: fit a model with categorical emissions")
    own = lengths_of(len(X), lengths)
    rng = check_random_state(random_state)
    symbols = model.model_.emission.probabilities.shape[1]
    if (symbols + 1) ** order >= 2**63:
        raise ValueError(
            f"order={order}: {symbols} symbols have more n-grams of this order than 64 bits can number, give a "
            "smaller one"
        )

    def one_set() -> np.ndarray:
        longest, count = int(own.max()), len(own)
        drawn = model.sample(longest, rng, sequences=count)[0][:, 0].reshape(count, longest)
        return drawn[np.arange(longest) < own[:, None]]

    tables = [ngram_shares(one_set(), own, order, symbols) for _ in range(samples + 1)]
    tables.append(ngram_shares(np.asarray(X, np.float64)[:, 0], own, order, symbols))
    keys = np.unique(np.concatenate([keys for keys, _ in tables]))
    shares = np.zeros((len(tables), len(keys)))
    for row, (used, share) in zip(shares, tables, strict=True):
        row[np.searchsorted(keys, used)] = share
    expected = shares[:-1].mean(0)
    apart = 0.5 * np.abs(shares - expected).sum(1)
    # The observed set counts as one of them (Davison and Hinkley 1997).
    return float((1 + (apart[:-1] >= apart[-1]).sum()) / (1 + len(apart[:-1])))


def ngram_shares(
    symbols: Float[np.ndarray, " frame"], lengths: Int[np.ndarray, " sequence"], order: int, count: int
) -> tuple[Int[np.ndarray, " key"], Float[np.ndarray, " key"]]:
    """Relative frequency of each n-gram that occurs, including shorter ones at the beginning of a sequence."""
    place = np.concatenate([np.arange(length) for length in lengths])
    key = np.zeros(len(symbols), np.int64)
    for back in range(order):
        shifted = np.roll(symbols, back).astype(np.int64) + 1
        key = key * (count + 1) + np.where(place >= back, shifted, 0)
    keys, times = np.unique(key, return_counts=True)
    return keys, times / len(symbols)


def groups(model: Model, counts: Statistics, merges: int) -> Int[np.ndarray, " state"]:
    """Group of each state after the cheapest merges of pairs, with no state in two merges."""
    cost = merging_costs(model, counts)
    group, used = np.arange(model.states), set()
    rows, columns = np.triu_indices(model.states, 1)
    for at in np.argsort(cost[rows, columns], kind="stable"):
        one, other = int(rows[at]), int(columns[at])
        if merges and one not in used and other not in used:
            group[other] = one
            used |= {one, other}
            merges -= 1
    return np.unique(group, return_inverse=True)[1]


def merging_costs(model: Model, counts: Statistics) -> Float[np.ndarray, "state state"]:
    """Cost in nats of merging each pair of states, over transitions, durations and emissions."""
    cost = pooling_costs(counts.transitions)
    if counts.durations is not None:
        cost = cost + pooling_costs(counts.durations)
    if isinstance(model.emission, Categorical):
        cost = cost + pooling_costs(counts.emission["symbol"])
    else:
        apart = model.emission.divergence(model.emission)
        if apart is None:
            # Mixtures differ by the distance of their means, in units of the variance of all means.
            means = model.emission.expected()
            apart = torch.cdist(means, means).square() / means.var(0).mean().clamp(min=1e-12)
        weight = counts.occupancy
        pooled = weight[:, None] * weight / (weight[:, None] + weight).clamp(min=1e-12)
        cost = cost + pooled * (apart + apart.T) / 2
    return cost.nan_to_num(posinf=1e300).cpu().numpy()


def pooling_costs(counts: Float[Tensor, "state choice"]) -> Float[Tensor, "state state"]:
    """Loss of log-likelihood in nats when each pair of rows of counts shares one distribution."""

    def own(rows: Float[Tensor, "*rows choice"]) -> Float[Tensor, "*rows"]:
        total = rows.sum(-1)
        return torch.special.xlogy(rows, rows).sum(-1) - torch.special.xlogy(total, total)

    alone = own(counts)
    return torch.stack([alone[state] + alone - own(counts[state] + counts) for state in range(len(counts))])


def merged(model: Model, counts: Statistics, group: Int[np.ndarray, " state"]) -> Model:
    """Model with one state per group: the M-step from the summed statistics."""
    into = torch.from_numpy(np.eye(int(group.max()) + 1)[group].T).to(counts.occupancy)
    first = torch.from_numpy(np.unique(group, return_index=True)[1]).to(counts.occupancy.device)
    structure = replace(
        model.structure,
        allowed=(into @ model.structure.allowed.to(into) @ into.T) > 0,
        start_allowed=(into @ model.structure.start_allowed.to(into)) > 0,
    )
    chain = model.chain
    durations = None
    if chain.durations is not None and counts.durations is not None:
        durations = into @ counts.durations
        apart = ~torch.eye(len(into), dtype=torch.bool, device=into.device)
        # A state with no other successor, such as the last of a left-right model, keeps its self-transition.
        last = ~(structure.allowed & apart).any(1, keepdim=True)
        structure = replace(structure, allowed=structure.allowed & (apart | last))
    summed = Statistics(
        counts.log_likelihood,
        into @ counts.occupancy,
        into @ counts.start,
        into @ counts.transitions @ into.T,
        durations,
        {
            name: value if len(value) != model.states else torch.tensordot(into, value, 1)
            for name, value in counts.emission.items()
        },
    )
    smaller = Model(
        structure,
        replace(
            chain,
            start=chain.start[first],
            transitions=chain.transitions[first][:, first],
            durations=None if chain.durations is None else chain.durations[first],
        ),
        model.emission.take(first),
    )
    return m_step(smaller, summed)


def refitted(template: HMM, model: Model, max_iter: int) -> HMM:
    """Estimator with these parameters, whose fit can be continued."""
    made = copy_of(template, states=model.states, max_iter=max_iter, initial=None, transitions=None)
    made.model_, made.n_features_in_ = model, model.emission.dimensions
    return made
