"""Which label a forecaster lets come next, where sequences of labels have a planted grammar.

At ends of segments in held-out clips continuations are drawn, and decoded to frames by the ridge regression of
`forecasting.py`. A probe that was fitted on labelled frames of real training sound (`labelling.py`) says which
label comes first in each; their distribution is compared with the planted one
(`measures/sequence/continuation.py`). Beside it stand a hidden Markov model and a GRU of the same tokens, the
untrained learner, draws from the grammar itself, and the true continuations, as they are and as the learner
decodes them, which say how well the probe understands real and decoded sound.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.forecasting import Moments, Pieces, TokenGRU, decoder_of, trained_gru
from sonarium.evaluation.labelling import LabellingConfig, SyllableProbe
from sonarium.evaluation.realtokens import counts_of, front_of
from sonarium.features.tokens import Tokens
from sonarium.measures.probes.classifiers import principal_axes
from sonarium.measures.sequence.continuation import as_planted, next_label
from sonarium.measures.splits import Split
from sonarium.models.contract import FeatureLearner, Forecaster
from sonarium.models.hmm import HMM
from sonarium.worlds.contract import Mark, Progress
from sonarium.worlds.sequences import Sequences

CLIPS = 64
"""Clips that the probe is fitted on, and as many at most from whose segments continuations are drawn."""
MOMENTS = 64
SAMPLES = 32
"""Continuations of each moment."""
BEFORE = 1
"""Segments of a clip before the first moment at least."""
LONGEST = 64
"""Most tokens of a continuation."""
STATES, COMPONENTS, ROUNDS = 64, 24, 30
"""Of the hidden Markov model: states, principal components of the tokens, and rounds of EM."""
SEED = 0


@dataclass(frozen=True)
class WholeClips:
    index: Int[Tensor, " clip"]
    signal: Float[Tensor, "clip time"]
    tokens: Float[Tensor, "clip token number"]
    counts: Int[Tensor, " clip"]
    marks: list[tuple[Mark, ...]]


@dataclass(frozen=True)
class Ends:
    """Moments at the ends of segments."""

    where: Moments
    planted: Float[np.ndarray, "moment label"]
    true: Int[np.ndarray, " moment"]
    """Number of the label that really came."""


Draw = Callable[[Tensor, int, int, torch.Generator], Float[Tensor, "sample row step number"]]
"""From the clips of some rows, the tokens heard in each, and the tokens to come: continuations."""


@torch.no_grad()
def continuations(
    learner: Forecaster,
    untrained: Forecaster | None,
    world: Sequences,
    split: Split[Tensor],
    fitted: Pieces,
    config: EvaluationConfig = EvaluationConfig(),
    progress: Progress = lambda *_: None,
) -> dict[str, dict[str, float]]:
    """`scores` of the learner, and those of each control; empty where no held-out segment follows another."""
    train, test = (whole_clips(learner, world, index) for index in (split.train, split.test))
    labels = world.label_names
    moments = ends(learner, world, test)
    if not len(moments.true):
        return {}
    probe = probe_of(learner, train)
    steps = longest(train.marks, learner.code_rate)
    decoder = decoder_of(learner, fitted)
    every: dict[str, Callable[[], Draw]] = {
        "scores": lambda: of_states(learner, test, decoder),
        "hmm": lambda: of_chain(fitted.tokens, fitted.counts, test),
        "gru_ar": lambda: of_gru(trained_gru(fitted, config), test),
    }
    if untrained is not None:
        every["random"] = lambda: of_states(untrained, test, decoder_of(untrained, fitted))
    made: dict[str, dict[str, float]] = {}
    for done, (name, make) in enumerate(every.items()):
        progress("drawing continuations", done, len(every))
        counts, certainty = drawn_labels(make(), moments, steps, front_of(learner), probe, labels)
        made[name] = named(next_label(counts, SAMPLES, moments.planted, moments.true) | {"certainty": certainty})
    progress("drawing continuations", len(every), len(every))
    made["planted"] = named(as_planted(moments.planted, SAMPLES))
    decoded = learner.states(test.signal) @ decoder[0] + decoder[1]
    for name, tokens in (("real", test.tokens), ("copy", decoded)):
        made[name] = named(recognised(tokens, test.counts, moments, steps, front_of(learner), probe, labels))
    return made


def named(scores: dict[str, float]) -> dict[str, float]:
    return {f"next/{name}": value for name, value in scores.items()}


def whole_clips(learner: Forecaster, world: Sequences, index: Int[Tensor, " clip"]) -> WholeClips:
    """Random clips, whole."""
    assert isinstance(learner, FeatureLearner), type(learner)
    chosen = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(SEED))][:CLIPS]
    batch = world.whole(chosen)
    tokens = front_of(learner).tokens(learner.features(batch))
    return WholeClips(chosen, batch.signal, tokens, counts_of(learner, batch), world.marks(chosen))


def ends(learner: Forecaster, world: Sequences, test: WholeClips) -> Ends:
    """Evenly chosen ends of segments that another one follows after them."""
    found, half = [], 0.5 / learner.code_rate
    clips = zip(test.index.tolist(), test.marks, test.counts.tolist(), strict=True)
    for clip, (number, marks, count) in enumerate(clips):
        said = [label for *_, label in marks]
        for at in range(BEFORE, len(marks) - 1):
            tokens = round(marks[at][1] * learner.code_rate)
            # The next segment has not begun, but for less than half a token.
            begun = tokens / learner.code_rate - half > marks[at + 1][0]
            if learner.burn_in < tokens < count and not begun:
                # A grammar may have some of the labels of the world.
                grammar, following = world.grammar_of(number), np.zeros(len(world.label_names))
                own = [world.label_names.index(label) for label in grammar.labels]
                following[own] = grammar.following(said[: at + 1])
                found.append((clip, tokens, following, world.label_names.index(said[at + 1])))
    chosen = np.unique(np.linspace(0, len(found) - 1, MOMENTS).round().astype(int)) if found else []
    rows = [found[at] for at in chosen]
    clip, tokens, true = (np.array([row[at] for row in rows], np.int64) for at in (0, 1, 3))
    where = Moments(torch.from_numpy(clip), torch.from_numpy(tokens) - 1)
    return Ends(where, np.array([row[2] for row in rows]).reshape(len(rows), -1), true)


def longest(marks: Sequence[Sequence[Mark]], rate: float) -> int:
    """Tokens in which nearly every next segment ends."""
    spans = [after[1] - before[1] for own in marks for before, after in pairwise(own)]
    return min(LONGEST, round(float(np.quantile(spans, 0.95)) * rate) + 2)


# What says which label a sound has.


def frames_of(front: Tokens, tokens: Float[Tensor, "clip token number"]) -> Float[np.ndarray, "clip frame band"]:
    features = front.features_of(tokens)
    rows = features[:, 0].transpose(1, 2) if features.ndim == 4 else features
    return rows.double().numpy()


def probe_of(learner: Forecaster, train: WholeClips) -> SyllableProbe:
    """A probe of frames of real sound; shorter segments than a third of the usual ones do not count."""
    front = front_of(learner)
    each = frames_of(front, train.tokens[:1, :1]).shape[1]
    rate = learner.code_rate * each
    usual = np.median([offset - onset for own in train.marks for onset, offset, _ in own])
    config = LabellingConfig(shortest_syllable=float(usual) / 3)
    first = learner.code_first - 0.5 / learner.code_rate + 0.5 / rate
    songs = [
        frames_of(front, tokens[None, :count])[0]
        for tokens, count in zip(train.tokens, train.counts.tolist(), strict=True)
    ]
    return SyllableProbe(rate, config, first).fit(songs, train.marks)


def drawn_labels(
    draw: Draw, moments: Ends, steps: int, front: Tokens, probe: SyllableProbe, labels: tuple[str, ...]
) -> tuple[Int[np.ndarray, "moment label"], float]:
    """How often each label comes first, and the mean certainty of the probe; 0 where there is none."""
    generator = torch.Generator().manual_seed(SEED)
    counts, certain = np.zeros(moments.planted.shape, np.int64), []
    for heard, at in moments.where.together():
        made = draw(moments.where.piece[at], heard, steps, generator)
        first = first_labels(probe, list(frames_of(front, made.flatten(0, 1))))
        for moment, (label, certainty) in zip(at.repeat(SAMPLES).tolist(), first, strict=True):
            certain.append(certainty)
            if label is not None:
                counts[moment, labels.index(label)] += 1
    return counts, float(np.mean(certain))


def first_labels(
    probe: SyllableProbe, songs: Sequence[Float[np.ndarray, "_frame band"]]
) -> list[tuple[str | None, float]]:
    """The first label of each, and the certainty of the probe; 0 where there is none."""
    return [
        (found.marks[0][2], found.certainty[0]) if found.marks else (None, 0.0)
        for found in probe.label_each(songs)
    ]


# What draws continuations.


def of_states(learner: Forecaster, test: WholeClips, decoder: tuple[Tensor, Tensor]) -> Draw:
    states = learner.states(test.signal)

    def draw(clip: Tensor, tokens: int, steps: int, generator: torch.Generator) -> Tensor:
        drawn = learner.go_on(states[clip, :tokens], steps, SAMPLES, generator).codes
        return drawn @ decoder[0] + decoder[1]

    return draw


def of_gru(network: TokenGRU, test: WholeClips) -> Draw:
    def draw(clip: Tensor, tokens: int, steps: int, generator: torch.Generator) -> Tensor:
        return network.drawn(test.tokens[clip, :tokens], steps, SAMPLES, generator)[1]

    return draw


def of_chain(tokens: Float[Tensor, "piece token number"], counts: Int[Tensor, " piece"], test: WholeClips) -> Draw:
    """A hidden Markov model of principal components of the tokens, with a covariance of each state."""
    inside = torch.arange(tokens.shape[1]) < counts[:, None]
    rows = tokens[inside].double().numpy()
    centre = rows.mean(0)
    axes = principal_axes(rows - centre)[1][:, -COMPONENTS:]
    model = HMM(min(STATES, len(rows)), covariance="full", max_iter=ROUNDS, random_state=SEED, floor=1e-2)
    lengths = [count for count in counts.tolist() if count]
    model.fit((rows - centre) @ axes, lengths=lengths)
    spread = np.linalg.cholesky(model.covars_)

    def draw(clip: Tensor, tokens: int, steps: int, generator: torch.Generator) -> Tensor:
        past = (test.tokens[clip, :tokens].double().numpy() - centre) @ axes
        posterior = model.predict_proba(past.reshape(-1, axes.shape[1]), lengths=[tokens] * len(past))
        belief = torch.from_numpy(posterior.reshape(len(past), tokens, -1)[:, -1])
        state = torch.multinomial(belief, SAMPLES, True, generator=generator).T.flatten()
        moves, found = torch.from_numpy(model.transmat_), []
        for _ in range(steps):
            state = torch.multinomial(moves[state], 1, generator=generator)[:, 0]
            noise = torch.randn(len(state), axes.shape[1], 1, generator=generator, dtype=torch.double).numpy()
            found.append(model.means_[state] + (spread[state] @ noise)[..., 0])
        made = np.stack(found, 1) @ axes.T + centre
        return torch.from_numpy(made).to(test.tokens).unflatten(0, (SAMPLES, len(past)))

    return draw


def recognised(
    made: Float[Tensor, "clip token number"],
    counts: Int[Tensor, " clip"],
    moments: Ends,
    steps: int,
    front: Tokens,
    probe: SyllableProbe,
    labels: tuple[str, ...],
) -> dict[str, float]:
    """Of the true continuations in these tokens: how often the probe is right, and how certain it is."""
    songs = []
    for clip, token in zip(moments.where.piece.tolist(), moments.where.token.tolist(), strict=True):
        last = min(token + 1 + steps, int(counts[clip]))
        songs.append(frames_of(front, made[clip : clip + 1, token + 1 : last])[0])
    first = first_labels(probe, songs)
    right = [label == labels[true] for (label, _), true in zip(first, moments.true, strict=True)]
    certainty = float(np.mean([certainty for _, certainty in first]))
    return {"certainty": certainty, "share recognised": float(np.mean(right))}
