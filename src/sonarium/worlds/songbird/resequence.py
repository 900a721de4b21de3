"""Songs of recorded syllables in a planted order, for evaluating models of grammar on real sound.

A bird is a group of the recordings (individual, bird); its syllables are the annotated segments. Their order
follows a grammar drawn from the seed; durations of gaps are drawn from real gaps, which are filled with the
quietest real noise between syllables.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.worlds.contract import Mark, Progress, World
from sonarium.worlds.grammar import Grammar, draw_grammar
from sonarium.worlds.joining import FADE, PIECE, hash_of, joined, noise_bed, pieces, quietest
from sonarium.worlds.recordings.listing import FILE
from sonarium.worlds.recordings.survey import RecordingsConfig, Survey, survey
from sonarium.worlds.recordings.world import usable
from sonarium.worlds.songbird.world import LEAD, Aviary, SongbirdConfig

FEWEST = 5
"""Minimum number of syllables of a label for the label to be used."""
LONGEST_GAP = 0.2
"""Maximum gap in seconds between two syllables of one song; a longer silence separates songs."""
QUIET = 0.25
"""Fraction of the pieces of noise that is kept: only the quietest, as gaps may contain unannotated song."""
OVERLAP = 0.001
"""Seconds by which segments may overlap through rounding."""


@dataclass(frozen=True)
class Repertoire:
    """Syllables, gaps and noise cut from the recordings of one bird."""

    name: str
    syllables: dict[str, list[np.ndarray]]
    """Sound of each example, with a margin for the fade at both ends."""
    gaps: Float[np.ndarray, " gap"]
    """Durations in seconds."""
    noise: list[Float[np.ndarray, " piece"]]


@dataclass(frozen=True)
class Score:
    """One song: label, index of the example and first sample of each syllable."""

    parts: list[tuple[str, int, int]]
    samples: int


class Resequenced(Aviary):
    """Songs of recorded syllables; their gestures are unknown."""

    def __init__(self, config: SongbirdConfig, seed: int, progress: Progress) -> None:
        found = survey(RecordingsConfig(config.source, layout="segments", rate=config.rate), progress)
        found.quarantine.enforce(found.config.bad_fraction, found.root)
        check(found)
        recordings = usable(found)
        self.birds = repertoires(recordings, found.root, config)
        names = tuple(bird.name for bird in self.birds)
        labels = tuple(sorted({label for bird in self.birds for label in bird.syllables}))
        super().__init__(config, names, labels, seed)
        self.tracks = (self.labels,)
        order = config.rung[1]
        self.grammars = tuple(
            draw_grammar(
                tuple(bird.syllables),
                order,
                np.random.default_rng([seed, number, 0x64A3]),
                repeats=min(config.repeats, len(bird.syllables)),
            )
            for number, bird in enumerate(self.birds)
        )
        self.fade = round(FADE * config.rate)
        self.content = sorted(recordings.identity(torch.arange(len(recordings))))
        self.scores: dict[int, Score] = {}

    def grammar(self, bird: int, day: int = 0) -> Grammar:
        return self.grammars[bird]

    def score(self, clip: int) -> Score:
        """The score of a clip, drawn on first use."""
        if clip not in self.scores:
            number, _, song = self.positions(clip)
            bird, rate = self.birds[number], self.config.rate
            rng = np.random.default_rng([self.seed, number, song, 0x50])
            count = int(rng.integers(self.config.shortest, self.config.longest + 1))
            lead = round(float(rng.uniform(*LEAD)) * rate)
            labels = self.grammars[number].sample(count, np.random.default_rng([self.seed, number, song, 0]))
            parts, now = [], lead
            for label in labels:
                example = int(rng.integers(len(bird.syllables[label])))
                parts.append((label, example, now))
                now += (
                    len(bird.syllables[label][example])
                    - 2 * self.fade
                    + round(float(rng.choice(bird.gaps)) * rate)
                )
            label, example, last = parts[-1]
            end = last + len(bird.syllables[label][example]) - 2 * self.fade
            self.scores[clip] = Score(parts, end + lead)
        return self.scores[clip]

    def samples_of(self, clip: int) -> int:
        return self.score(clip).samples

    def segments(self, clip: int) -> tuple[Mark, ...]:
        bird, rate = self.birds[self.positions(clip)[0]], self.config.rate
        found = []
        for label, example, onset in self.score(clip).parts:
            length = len(bird.syllables[label][example]) - 2 * self.fade
            found.append((onset / rate, (onset + length) / rate, label))
        return tuple(found)

    def render(self, clips: list[int]) -> list[Float[np.ndarray, " time"]]:
        return [self.assemble(clip) for clip in clips]

    def assemble(self, clip: int) -> Float[np.ndarray, " time"]:
        """Continuous noise, into which the syllables are faded with equal power."""
        number, _, song = self.positions(clip)
        bird, score = self.birds[number], self.score(clip)
        rng = np.random.default_rng([self.seed, number, song, 0xCA6E])
        bed = noise_bed(bird.noise, score.samples, self.fade, rng)
        parts = [(bird.syllables[label][example], onset - self.fade) for label, example, onset in score.parts]
        return joined(bed, parts, self.fade)

    def identity(self, index: Int[Tensor, " clip"]) -> list[str]:
        # With other recordings, the same clip is a different sound.
        content = hash_of(self.content)
        return [f"{self.name} {content} {self.seed} {clip}" for clip in index.tolist()]

    def describe(self) -> str:
        songs = f"songbird: {len(self)} songs of {len(self.birds)} bird(s) from {self.config.source}"
        return f"{songs}; grammar of order {self.config.rung[1]}"


def check(found: Survey) -> None:
    """Raise ValueError for annotations that overlap, lie outside their recording, or have no label."""
    for remark in found.quarantine.remarks:
        raise ValueError(f"'{remark.path}': {remark.reason}; correct the annotation, or fetch the whole recording")
    for clip in found.clips:
        name = clip.row.path
        marks = sorted(clip.row.segments)
        for onset, offset, label in marks:
            if not label.strip():
                raise ValueError(f"'{name}' has a segment from {onset:g} to {offset:g} s without a label: name it")
        for (onset, offset, label), (next_onset, next_offset, next_label) in itertools.pairwise(marks):
            if next_onset < offset - OVERLAP:
                raise ValueError(
                    f"'{name}' has segments that overlap, '{label}' from {onset:g} to {offset:g} s and "
                    f"'{next_label}' from {next_onset:g} to {next_offset:g} s: let one end before the next begins"
                )


def repertoires(recordings: World, root: Path, config: SongbirdConfig) -> tuple[Repertoire, ...]:
    """Repertoires of the birds of a folder, those with the most syllables first."""
    everything = torch.arange(len(recordings))
    groups = recordings.group(everything) if recordings.group_kind != FILE else torch.zeros_like(everything)
    names = recordings.group_names() if recordings.group_kind != FILE else (root.name,)
    found = [gather(recordings, everything[groups == group], names[group], config) for group in groups.unique()]
    found = [bird for bird in found if bird.syllables and bird.noise and len(bird.gaps)]
    if not found:
        raise ValueError(
            f"'{root}' has no bird with a label of at least {FEWEST} segments, and gaps between segments: "
            "annotate more of it"
        )
    found.sort(key=lambda bird: -sum(map(len, bird.syllables.values())))
    return tuple(found[: config.birds])


def gather(recordings: World, clips: Tensor, name: str, config: SongbirdConfig) -> Repertoire:
    """Cut the syllables, gaps and noise of one bird."""
    rate, fade = config.rate, round(FADE * config.rate)
    examples: dict[str, list[np.ndarray]] = {}
    gaps, noise = [], []
    for clip in clips:
        batch = recordings.whole(clip[None])
        wave, [marks] = batch.signal[0].numpy(), recordings.marks(clip[None])
        for onset, offset, label in marks:
            first, last = round(onset * rate) - fade, round(offset * rate) + fade
            if first >= 0 and last <= len(wave) and last - first > 4 * fade:
                examples.setdefault(label, []).append(wave[first:last].copy())
        for (_, before, _), (after, _, _) in itertools.pairwise(marks):
            if 0 < after - before <= LONGEST_GAP:
                gaps.append(after - before)
            noise += pieces(wave[round(before * rate) : round(after * rate)], round(PIECE * rate))
    common = sorted(examples, key=lambda label: (-len(examples[label]), label))
    kept = [label for label in common if len(examples[label]) >= FEWEST][: config.syllables]
    return Repertoire(
        name, {label: examples[label] for label in sorted(kept)}, np.array(gaps), quietest(noise, QUIET)
    )
