"""Sentences of recorded words in the order of a planted grammar: speech with a known grammar.

The words are recordings of single words with a label for the word, such as the digits of FSDD. The recordings of
each speaker are divided into disjoint sets, which the parts of a split never share, and a sentence is joined from
one set. All speakers follow one grammar, drawn from the seed. Pauses between words are filled with the quietest
noise of the same speaker.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.config import Range, check_ranges
from sonarium.worlds.contract import UNKNOWN, Factor, Mark, Progress, World, WorldEntry
from sonarium.worlds.grammar import Grammar, draw_grammar
from sonarium.worlds.joining import FADE, PIECE, hash_of, joined, noise_bed, pieces, quietest
from sonarium.worlds.recordings.layouts import Layout
from sonarium.worlds.recordings.listing import FILE
from sonarium.worlds.recordings.survey import RecordingsConfig, survey
from sonarium.worlds.recordings.world import usable
from sonarium.worlds.sequences import Sequences, described, signal_of

FRAME_RATE = 100.0
"""Frames per second of the track of words."""
LEAD = (0.05, 0.15)
"""Minimum and maximum duration of noise at both ends of a clip in seconds."""
QUIET = 0.02
"""Fraction of the pieces of the recordings that is taken as noise: only the quietest, as words leave few
pauses."""


@dataclass(frozen=True)
class SentencesConfig:
    """Recordings of single words, and the sentences that they are joined into."""

    path: str | None = None
    """Folder of recordings of single words, or a manifest."""
    word: str = ""
    """Label of the recordings that names the word; by default the only one besides the speaker."""
    sentences: Annotated[int, Range(1, 10**5)] = 100
    """Number of sentences per speaker."""
    order: Annotated[int, Range(1, 4)] = 2
    """Order of the Markov grammar."""
    sets: Annotated[int, Range(1, 1000)] = 10
    """Number of disjoint sets of each speaker's recordings; a sentence is joined from one of them."""
    group: Literal["set", "speaker"] = "set"
    """Groups for the split, which its parts never share: sets of recordings, or speakers."""
    shortest: Annotated[int, Range(1, 1000)] = 5
    """Minimum number of words in a sentence."""
    longest: Annotated[int, Range(1, 1000)] = 12
    """Maximum number of words in a sentence."""
    gap: Annotated[tuple[float, float], Range(0, 10)] = (0.05, 0.2)
    """Minimum and maximum pause between words in seconds."""
    layout: Layout = "auto"
    """Layout of the folder; auto recognises it by metadata tables and file names."""
    pattern: str = ""
    """Pattern of labels in paths: {speaker}/{digit}_{take}.wav, or a regular expression with (?P<speaker>...)."""
    rate: Annotated[int, Range(1000, 384_000)] = 8000
    """Sampling rate in Hz."""
    seconds: Annotated[float, Range(0, 3600, above=True)] = 4.0
    """Duration of a training piece in seconds."""
    bad_fraction: Annotated[float, Range(0, 1)] = 0.01
    """Abort if more than this fraction of files is bad."""
    cache: str | None = None
    """Cache folder for decoded recordings; by default sonarium/recordings in the user's cache folder."""
    memory: Annotated[int, Range(0, 10**6)] = 512
    """In-memory cache of sentences in megabytes."""

    def __post_init__(self) -> None:
        check_ranges(self)
        for low, high in (("shortest", "longest"), ("gap[0]", "gap[1]")):
            least, most = self.gap if low == "gap[0]" else (self.shortest, self.longest)
            if most < least:
                raise ValueError(f"{low}={least}, {high}={most}: give {high} no less than {low}")
        if self.rate * self.seconds < 1:
            raise ValueError(f"rate={self.rate}, seconds={self.seconds}: a piece needs at least one sample")


@dataclass(frozen=True)
class Sentence:
    """The words, the recording of each, the sample at which each begins, and the length of the sentence."""

    words: list[str]
    takes: list[int]
    onsets: list[int]
    samples: int


class Sentences(Sequences):
    """World of sentences, indexed by speaker and number."""

    name = "sentences"

    def __init__(self, config: SentencesConfig, seed: int, progress: Progress) -> None:
        found = survey(
            RecordingsConfig(
                config.path, config.layout, config.pattern, rate=config.rate, bad_fraction=config.bad_fraction,
                cache=config.cache,
            ),
            progress,
        )  # fmt: skip
        found.quarantine.enforce(config.bad_fraction, found.root)
        self.recordings = usable(found)
        word = word_of(self.recordings, config.word)
        super().__init__(word.name, tuple(map(str, word.values)), FRAME_RATE, config.memory)
        self.config, self.seed, self.group_kind = config, seed, config.group
        # If each file is its own group, the speakers are unknown.
        alone = self.recordings.group_kind == FILE
        self.speakers = (found.root.name,) if alone else self.recordings.group_names()
        self.takes = takes_of(self.recordings, word, self.speakers, config.sets)
        self.signal, self.tracks = signal_of(config), (self.labels,)
        self.factors = (Factor("speaker", self.speakers),) if len(self.speakers) > 1 else ()
        self.grammar = draw_grammar(self.label_names, config.order, np.random.default_rng([seed, 0x64A3]))
        self.content = hash_of(sorted(self.recordings.identity(torch.arange(len(self.recordings)))))
        self.noise: dict[int, list[Float[np.ndarray, " piece"]]] = {}
        self.composed: dict[int, Sentence] = {}

    def __len__(self) -> int:
        return len(self.speakers) * self.config.sentences

    def grammar_of(self, clip: int) -> Grammar:
        return self.grammar

    def positions(self, clip: int) -> tuple[int, int]:
        """Speaker and set of a clip."""
        speaker, sentence = divmod(clip, self.config.sentences)
        return speaker, sentence % self.config.sets

    def sentence(self, clip: int) -> Sentence:
        """The sentence of a clip, drawn on first use."""
        if clip not in self.composed:
            speaker, group = self.positions(clip)
            rng, rate = np.random.default_rng([self.seed, clip, 0x5E]), self.config.rate
            count = int(rng.integers(self.config.shortest, self.config.longest + 1))
            words = self.grammar.sample(count, rng)
            now = lead = round(float(rng.uniform(*LEAD)) * rate)
            takes, onsets, last = [], [], now
            for word in words:
                takes.append(int(rng.choice(self.takes[speaker][word][group])))
                onsets.append(now)
                last = now + int(self.recordings.lengths(torch.tensor(takes[-1:])))
                now = last + round(float(rng.uniform(*self.config.gap)) * rate)
            self.composed[clip] = Sentence(words, takes, onsets, last + lead)
        return self.composed[clip]

    def samples_of(self, clip: int) -> int:
        return self.sentence(clip).samples

    def segments(self, clip: int) -> tuple[Mark, ...]:
        said, rate = self.sentence(clip), self.config.rate
        counts = self.recordings.lengths(torch.tensor(said.takes)).tolist()
        return tuple(
            (onset / rate, (onset + count) / rate, word)
            for word, onset, count in zip(said.words, said.onsets, counts, strict=True)
        )

    def render(self, clips: list[int]) -> list[Float[np.ndarray, " time"]]:
        return [self.assemble(clip) for clip in clips]

    def assemble(self, clip: int) -> Float[np.ndarray, " time"]:
        said, fade = self.sentence(clip), round(FADE * self.config.rate)
        rng = np.random.default_rng([self.seed, clip, 0xBED])
        bed = noise_bed(self.noise_of(self.positions(clip)[0]), said.samples, fade, rng)
        sounds = [self.recorded(take) for take in said.takes]
        return joined(bed, zip(sounds, said.onsets, strict=True), fade)

    def recorded(self, take: int) -> Float[np.ndarray, " time"]:
        return self.recordings.whole(torch.tensor([take])).signal[0].numpy()

    def noise_of(self, speaker: int) -> list[Float[np.ndarray, " piece"]]:
        """Quietest pieces of all recordings of a speaker, from all sets, as one set may have none."""
        if speaker not in self.noise:
            size = round(PIECE * self.config.rate)
            every = [take for sets in self.takes[speaker].values() for some in sets for take in some]
            cut = [piece for take in every for piece in pieces(self.recorded(take), size)]
            self.noise[speaker] = quietest(cut, QUIET) or [np.zeros(size, np.float32)]
        return self.noise[speaker]

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        speaker = torch.tensor([self.positions(clip)[0] for clip in index.tolist()], dtype=torch.float32)
        return speaker.reshape(-1, 1)[:, : len(self.factors)]

    def group(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        by = self.config.group == "set"
        return torch.tensor([self.positions(clip)[by] for clip in index.tolist()], dtype=torch.int64)

    def group_names(self) -> tuple[str, ...]:
        if self.config.group == "speaker":
            return self.speakers
        return tuple(f"set {number + 1}" for number in range(self.config.sets))

    def path(self, clip: int) -> str:
        speaker, sentence = divmod(clip, self.config.sentences)
        return f"{self.speakers[speaker]}, sentence {sentence + 1}"

    def identity(self, index: Int[Tensor, " clip"]) -> list[str]:
        return [f"{self.name} {self.content} {self.seed} {clip}" for clip in index.tolist()]

    def describe(self) -> str:
        return (
            f"sentences: {len(self)} of {len(self.speakers)} speaker(s), {len(self.labels.values) - 1} words from "
            f"{self.config.path}, grammar of order {self.config.order}"
        )

    def about(self) -> dict[str, Any]:
        return {"grammars": [described(self.grammar)]}


def word_of(recordings: World, wanted: str) -> Factor:
    """The factor that names the word."""
    labels = {one.name: one for one in recordings.factors if one.discrete and UNKNOWN not in one.values}
    others = [name for name in labels if name != recordings.group_kind]
    if wanted:
        others = [wanted]
    if len(others) != 1 or others[0] not in labels:
        have = ", ".join(labels) or "none that every recording has"
        raise ValueError(
            f"word='{wanted}': the recordings have the labels {have}; give the one that names the word"
        )
    return labels[others[0]]


def takes_of(
    recordings: World, word: Factor, speakers: tuple[str, ...], sets: int
) -> list[dict[str, list[list[int]]]]:
    """Recordings of each set by speaker and word; duplicates count once."""
    everything = torch.arange(len(recordings))
    said = recordings.factor_values(everything)[:, recordings.factors.index(word)].long().tolist()
    speaking = recordings.group(everything).tolist() if len(speakers) > 1 else [0] * len(said)
    identity = recordings.identity(everything)
    found: list[dict[str, dict[str, int]]] = [{str(value): {} for value in word.values} for _ in speakers]
    for take, (speaker, value) in enumerate(zip(speaking, said, strict=True)):
        found[speaker][str(word.values[value])][identity[take]] = take
    for speaker, by_word in zip(speakers, found, strict=True):
        for value, takes in by_word.items():
            if len(takes) < sets:
                raise ValueError(
                    f"sets={sets}, but {speaker} has {len(takes)} recording(s) of the word '{value}': give fewer "
                    "sets, or leave out the speaker or the word"
                )
    # Sorted by content, so that renaming files changes nothing.
    return [
        {value: [[takes[one] for one in sorted(takes)[start::sets]] for start in range(sets)]
         for value, takes in by_word.items()}
        for by_word in found
    ]  # fmt: skip


SENTENCES = WorldEntry(
    "sentences of recorded words in a planted order, such as digits",
    "wave",
    SentencesConfig,
    Sentences,
    signal_of,
    main=("path", "word", "sentences", "order", "sets", "seconds", "rate"),
)
