"""Next-label distribution of a forecaster, where sequences of labels have a planted grammar.

At ends of segments in held-out clips, continuations are drawn and decoded to frames by the ridge regression of
`forecasting.py`. A probe fitted on labelled frames of real training sound (`labelling.py`) finds the first label
of each; the distribution of these labels is compared with the planted one (`measures/sequence/continuation.py`). A
recogniser of whole segments (`recognition.py`) decides which of these first segments are clear. Controls are a
hidden Markov model and a GRU of the same tokens, the untrained learner, and draws from the grammar itself: with
their labels as drawn, and as the probe predicts them from real sound and from sound that the learner decodes,
since the probe errs, too. The true continuations show how accurate probe and recogniser are on both kinds of
sound.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.evaluation.fitting import TokenHMM
from sonarium.evaluation.forecasting import Fits
from sonarium.evaluation.labelling import LabellingConfig, SyllableProbe
from sonarium.evaluation.pieces import Moments
from sonarium.evaluation.predictors import Decoder, TokenGRU, decoded
from sonarium.evaluation.realtokens import WATCHED, counts_of, front_of
from sonarium.evaluation.recognition import Recogniser
from sonarium.features.tokens import Tokens
from sonarium.measures.sequence.continuation import as_planted, confusion, next_label
from sonarium.measures.splits import Split
from sonarium.models.contract import FeatureLearner, Forecaster
from sonarium.worlds.contract import Mark, Progress
from sonarium.worlds.sequences import Sequences

CLIPS = 64
"""Maximum number of clips that the probe is fitted on, and of clips whose segments are continued."""
MOMENTS = 64
SAMPLES = 32
"""Continuations drawn at each moment."""
BEFORE = 1
"""Initial segments of a clip whose ends are not used as moments."""
LONGEST = 64
"""Maximum number of tokens of a continuation."""
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
    """Index of the true next label."""

    def evenly(self, most: int) -> "Ends":
        """At most `most` of the moments, evenly spaced."""
        count = len(self.true)
        rows = np.unique(np.linspace(0, count - 1, most).round().astype(int)) if count else np.zeros(0, int)
        at = torch.from_numpy(rows)
        where = Moments(self.where.piece[at], self.where.token[at])
        return Ends(where, self.planted[rows], self.true[rows])


Draw = Callable[[Tensor, int, int, torch.Generator], Float[Tensor, "sample row step number"]]
"""Maps the clip of each row, the number of observed tokens, the number of tokens to draw, and a generator to
continuations."""


@torch.no_grad()
def continuations(
    learner: Forecaster,
    untrained: Forecaster | None,
    world: Sequences,
    split: Split[Tensor],
    fits: Fits,
    progress: Progress = lambda *_: None,
) -> dict[str, dict[str, float]]:
    """Scores of the learner (`scores`) and of each control; empty if no held-out segment is followed by
    another."""
    train, test = (whole_clips(learner, world, index) for index in (split.train, split.test))
    labels = world.label_names
    every_end = ends(learner, world, test)
    moments = every_end.evenly(MOMENTS)
    if not len(moments.true):
        return {}
    ear = Ear.of(learner, train, labels)
    steps = longest(train.marks, learner.code_rate)
    decoder = fits.decoder(learner)
    every: dict[str, Callable[[], Draw]] = {
        "scores": lambda: of_states(learner, test, decoder),
        "hmm": lambda: of_hmm(fits.hmm(), test),
        "gru_ar": lambda: of_gru(fits.gru(), test),
    }
    if untrained is not None:
        every["random"] = lambda: of_states(untrained, test, fits.decoder(untrained))
    made: dict[str, dict[str, float]] = {}
    for done, (name, make) in enumerate(every.items()):
        progress("drawing continuations", done, len(every))
        counts, heard = drawn_labels(make(), moments, steps, ear)
        made[name] = named(next_label(counts, SAMPLES, moments.planted, moments.true) | heard)
    progress("drawing continuations", len(every), len(every))
    made["planted"] = named(as_planted(moments.planted, SAMPLES))
    for name, tokens in (("real", test.tokens), ("copy", decoded(learner.states(test.signal), decoder))):
        heard, found = recognised(tokens, test.counts, every_end, steps, ear)
        made[name] = named(
            as_planted(moments.planted, SAMPLES, confusion(every_end.true, found, len(labels))) | heard
        )
    return made


def named(scores: dict[str, float]) -> dict[str, float]:
    return {f"next/{name}": value for name, value in scores.items()}


def whole_clips(learner: Forecaster, world: Sequences, index: Int[Tensor, " clip"]) -> WholeClips:
    """Random whole clips."""
    assert isinstance(learner, FeatureLearner), type(learner)
    chosen = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(SEED))][:CLIPS]
    batch = world.whole(chosen)
    tokens = front_of(learner).tokens(learner.features(batch))
    return WholeClips(chosen, batch.signal, tokens, counts_of(learner, batch), world.marks(chosen))


def ends(learner: Forecaster, world: Sequences, test: WholeClips) -> Ends:
    """Ends of segments that another one follows after them."""
    found, half = [], 0.5 / learner.code_rate
    clips = zip(test.index.tolist(), test.marks, test.counts.tolist(), strict=True)
    for clip, (number, marks, count) in enumerate(clips):
        said = [label for *_, label in marks]
        for at in range(BEFORE, len(marks) - 1):
            tokens = round(marks[at][1] * learner.code_rate)
            # At most half a token of the next segment has been observed.
            begun = tokens / learner.code_rate - half > marks[at + 1][0]
            if learner.burn_in < tokens < count and not begun:
                # A grammar may use only some of the world's labels.
                grammar, following = world.grammar_of(number), np.zeros(len(world.label_names))
                own = [world.label_names.index(label) for label in grammar.labels]
                following[own] = grammar.following(said[: at + 1])
                found.append((clip, tokens, following, world.label_names.index(said[at + 1])))
    clip, tokens, true = (np.array([row[at] for row in found], np.int64) for at in (0, 1, 3))
    where = Moments(torch.from_numpy(clip), torch.from_numpy(tokens) - 1)
    return Ends(where, np.array([row[2] for row in found]).reshape(len(found), -1), true)


def longest(marks: Sequence[Sequence[Mark]], rate: float) -> int:
    """Length of a continuation in tokens, within which nearly every next segment ends."""
    spans = [after[1] - before[1] for own in marks for before, after in pairwise(own)]
    return min(LONGEST, round(float(np.quantile(spans, 0.95)) * rate) + 2)


# Labelling of sound.


def frames_of(front: Tokens, tokens: Float[Tensor, "clip token number"]) -> Float[np.ndarray, "clip frame band"]:
    features = front.features_of(tokens)
    rows = features[:, 0].transpose(1, 2) if features.ndim == 4 else features
    return rows.double().numpy()


@dataclass(frozen=True)
class First:
    """First segment of a sound; `label` is None if there is none."""

    label: str | None = None
    certainty: float = 0.0
    clear: bool = False


@dataclass(frozen=True)
class Ear:
    """Frame probe that finds segments, and recogniser that decides whether they are clear."""

    front: Tokens
    probe: SyllableProbe
    recogniser: Recogniser
    labels: tuple[str, ...]

    @classmethod
    def of(cls, learner: Forecaster, train: WholeClips, labels: tuple[str, ...]) -> "Ear":
        """Fit to frames of real training sound; segments shorter than a third of the median duration are
        dropped."""
        front = front_of(learner)
        each = frames_of(front, train.tokens[:1, :1]).shape[1]
        rate = learner.code_rate * each
        usual = np.median([offset - onset for own in train.marks for onset, offset, _ in own])
        config = LabellingConfig(shortest_syllable=float(usual) / 3)
        begin = learner.code_first - 0.5 / learner.code_rate
        songs = [
            frames_of(front, tokens[None, :count])[0]
            for tokens, count in zip(train.tokens, train.counts.tolist(), strict=True)
        ]
        probe = SyllableProbe(rate, config, begin + 0.5 / rate).fit(songs, train.marks)
        recogniser = Recogniser(rate, begin)
        # With enough clips, the threshold is calibrated on clips that the recogniser was not fitted to.
        every, spare = range(len(songs)), len(songs) >= WATCHED
        fitted = [at for at in every if at % WATCHED < WATCHED - 1] if spare else every
        recogniser.fit([songs[at] for at in fitted], [train.marks[at] for at in fitted])
        held = [songs[at] for at in every if at % WATCHED == WATCHED - 1 or not spare]
        found = [
            (song, mark)
            for song, own in zip(held, probe.label_each(held), strict=True)
            for mark in own.marks
            if mark[2] in recogniser.labels
        ]
        recogniser.calibrate([song for song, _ in found], [mark for _, mark in found])
        return cls(front, probe, recogniser, labels)

    def first(self, songs: Sequence[Float[np.ndarray, "_frame band"]]) -> list[First]:
        """First segment of each sound."""
        found = self.probe.label_each(songs)
        whole = [at for at, own in enumerate(found) if own.marks and own.marks[0][2] in self.recogniser.labels]
        clear = self.recogniser.clear([songs[at] for at in whole], [found[at].marks[0] for at in whole])
        those = {at for at, yes in zip(whole, clear, strict=True) if yes}
        return [
            First(own.marks[0][2], own.certainty[0], at in those) if own.marks else First()
            for at, own in enumerate(found)
        ]


def of_all(found: Sequence[First]) -> dict[str, float]:
    return {
        "certainty": float(np.mean([one.certainty for one in found])),
        "share of clear ones": float(np.mean([one.clear for one in found])),
    }


def drawn_labels(
    draw: Draw, moments: Ends, steps: int, ear: Ear
) -> tuple[Int[np.ndarray, "moment label"], dict[str, float]]:
    """Counts of the first labels, the mean certainty of the probe, and the share of clear segments; a continuation
    without a segment counts as 0 in both."""
    generator = torch.Generator().manual_seed(SEED)
    counts, found = np.zeros(moments.planted.shape, np.int64), []
    for heard, at in moments.where.together():
        made = draw(moments.where.piece[at], heard, steps, generator)
        first = ear.first(list(frames_of(ear.front, made.flatten(0, 1))))
        found += first
        for moment, one in zip(at.repeat(SAMPLES).tolist(), first, strict=True):
            if one.label is not None:
                counts[moment, ear.labels.index(one.label)] += 1
    return counts, of_all(found)


# Generators of continuations.


def of_states(learner: Forecaster, test: WholeClips, decoder: Decoder) -> Draw:
    states = learner.states(test.signal)

    def draw(clip: Tensor, tokens: int, steps: int, generator: torch.Generator) -> Tensor:
        return decoded(learner.go_on(states[clip, :tokens], steps, SAMPLES, generator).codes, decoder)

    return draw


def of_gru(network: TokenGRU, test: WholeClips) -> Draw:
    def draw(clip: Tensor, tokens: int, steps: int, generator: torch.Generator) -> Tensor:
        return network.drawn(test.tokens[clip, :tokens], steps, SAMPLES, generator)[1]

    return draw


def of_hmm(model: TokenHMM, test: WholeClips) -> Draw:
    def draw(clip: Tensor, tokens: int, steps: int, generator: torch.Generator) -> Tensor:
        belief = model.belief(test.tokens[clip, :tokens])
        return model.drawn(belief, steps, SAMPLES, generator).to(test.tokens)

    return draw


def recognised(
    made: Float[Tensor, "clip token number"], counts: Int[Tensor, " clip"], moments: Ends, steps: int, ear: Ear
) -> tuple[dict[str, float], Int[np.ndarray, " moment"]]:
    """Accuracy and mean certainty of the probe and share of clear segments on the true continuations in these
    tokens; and the label found in each, −1 if there is none."""
    songs = []
    for clip, token in zip(moments.where.piece.tolist(), moments.where.token.tolist(), strict=True):
        last = min(token + 1 + steps, int(counts[clip]))
        songs.append(frames_of(ear.front, made[clip : clip + 1, token + 1 : last])[0])
    first = ear.first(songs)
    found = np.array([-1 if one.label is None else ear.labels.index(one.label) for one in first])
    return of_all(first) | {"share recognised": float((found == moments.true).mean())}, found
