"""Similarity of clips, or of their marked segments, by their codes, for the media folder of a run with frame
codes: maps of held-out clips, and sounds of some of them with their nearest neighbours."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.extraction import Extractor, encoded, extract, extract_segments, of_learner
from sonarium.evaluation.factors import device_of
from sonarium.evaluation.tasks import Corpus, corpus
from sonarium.features.classical import LogMel, LogMelConfig
from sonarium.measures.probes.frames import clip_means
from sonarium.measures.probes.segments import labels_of_frames
from sonarium.measures.splits import Split
from sonarium.models.contract import FrameEncoder, Learner, MarkovChain
from sonarium.report.album import Medium, peak_safe, put, wav, write_index
from sonarium.report.figures import song
from sonarium.report.grammar import grammar_graph
from sonarium.report.media import named_factors
from sonarium.report.neighbours import Asked, code_map, retrieval_picture, retrieval_table, tsne
from sonarium.report.style import png
from sonarium.worlds.contract import World

MOST = 500
"""Maximum number of held-out clips shown."""
MAPS = 4
"""Maximum number of labels by which the map is coloured."""
ASKED, NEAREST = 6, 4
"""Clips with playable neighbours, and the number of neighbours of each."""
SECONDS = 6.0
"""Maximum duration of a played clip."""
FEWEST = 4
"""Minimum number of clips, or of segments, for a map."""
SONGS, SONG_SECONDS = 4, 4.0
"""Number of clips drawn with their segments and played, and the seconds of each."""
AROUND = 0.1
"""Seconds played before and after a segment."""
SILENT = "–"
"""Name of states between segments."""
SEGMENT = "segment"
"""Name of the label of segments."""


def illustrate_likeness(
    learner: Learner, world: World, test: Int[Tensor, " clip"], folder: Path, seed: int
) -> list[Medium]:
    """Write maps and neighbours of held-out clips to `folder`; a seed gives the same files."""
    assert isinstance(learner, FrameEncoder), type(learner)
    device = device_of(learner)
    config, random = EvaluationConfig(max_clips=MOST), np.random.default_rng([seed, 0x11CE])
    nothing = torch.empty(0, dtype=torch.int64)
    known = corpus(world, Split(nothing, nothing, test), learner, config, random)
    media: list[Medium] = []
    extractor = of_learner(learner, world.signal, device)
    graph = [grammar(learner, known, extractor, world, folder)] if isinstance(learner, MarkovChain) else []
    if known.marked:
        known, codes = segments_of(known, extractor, world, random)
        things = "segments"
    elif len(known.index) >= FEWEST:
        codes = extract(extractor, world, known.index, known.lengths, known.marks, config, None).means
        things = "clips"
    else:
        codes, things = np.empty((0, 1)), "clips"
    if len(codes) >= FEWEST:
        # Cosines of codes that share a large mean are all near 1.
        codes = codes - codes.mean(axis=0)
        media = maps(known, codes, things, random, folder)
        media += neighbours(known, codes, things, world, random, folder)
    if world.signal.rate and (things == "segments" or not media):
        media = songs(world, test, extractor, folder) + media
    write_index(folder, media + graph)
    return media + graph


def grammar(learner: MarkovChain, known: Corpus, extractor: Extractor, world: World, folder: Path) -> Medium:
    """Graph of the states, each named by the most frequent label of its frames if segments are labelled."""
    occupancy, moves = learner.chain()
    names = [str(state + 1) for state in range(len(occupancy))]
    if known.marked:
        states, labels = [], []
        for some in encoded(extractor, world, known.index, known.lengths):
            marks = [known.marks[one] for one in some.members]
            labels.append(labels_of_frames(some.counts, marks, extractor.rate, extractor.first, SILENT))
            states += [row[:count].argmax(1) for row, count in zip(some.codes, some.counts, strict=True)]
        state, label = np.concatenate(states), np.concatenate(labels)
        for one in np.unique(state).tolist():
            own, counts = np.unique(label[state == one], return_counts=True)
            names[one] = str(own[counts.argmax()])
    put(folder / "grammar.png", png(grammar_graph(occupancy, moves, names)))
    caption = (
        "States, the larger the more of the time is spent in them, and which follows which, the broader the more "
        f"probable; named by the label of most of their frames where segments are labelled, {SILENT} between them."
    )
    return Medium("picture", "grammar.png", "Which state follows which", caption, "grammar")


def segments_of(
    known: Corpus, extractor: Extractor, world: World, random: np.random.Generator
) -> tuple[Corpus, Float[np.ndarray, "segment code"]]:
    """Labelled segments of these clips as if each were a clip, and their mean codes."""
    frames, item, label, clip = extract_segments(extractor, world, known.index, known.lengths, known.marks)
    codes, _ = clip_means(frames, item)
    # The segments of a clip follow one another in the order of its marks.
    first = np.flatnonzero(np.r_[True, clip[1:] != clip[:-1]])
    place = np.arange(len(clip)) - np.repeat(first, np.diff(np.r_[first, len(clip)]))
    named = np.flatnonzero(label != "")
    kept = np.sort(random.permutation(named)[:MOST])
    of = clip[kept]
    marks = [(known.marks[one][at],) for one, at in zip(of.tolist(), place[kept].tolist(), strict=True)]
    made = replace(
        known,
        index=known.index[torch.from_numpy(of)],
        lengths=known.lengths[of],
        labels={SEGMENT: label[kept]},
        numbers={},
        group=known.group[of],
        recording=known.recording[of],
        marks=marks,
    )
    return made, codes[kept]


def songs(world: World, test: Int[Tensor, " clip"], extractor: Extractor, folder: Path) -> list[Medium]:
    """Beginnings of some held-out clips: spectrogram with segments, and sound."""
    assert world.signal.rate is not None, world.signal
    rate, media = world.signal.rate, []
    mel = LogMel(LogMelConfig(), rate)
    lengths = world.lengths(test)
    for number, clip in enumerate(test[extractor.code_lengths(lengths) > 0][:SONGS].tolist(), start=1):
        index = torch.tensor([clip])
        batch = world.whole(index)
        wave = batch.signal[0, : min(int(world.lengths(index)), round(SONG_SECONDS * rate))]
        [marks] = world.marks(index)
        shown = [mark for mark in marks if mark[0] < len(wave) / rate]
        title = named_factors(world.factors, batch.factors[0].tolist()) or Path(world.path(clip)).name
        caption = f"{Path(world.path(clip)).name}: log-mel spectrogram" + (
            ", with the annotated segments above." if shown else "."
        )
        file = f"song-{number}"
        figure = song(mel(wave[None])[0].numpy().T, len(wave) / rate, rate / 2, shown)
        put(folder / f"{file}.png", png(figure))
        put(folder / f"{file}.wav", wav(peak_safe([wave.numpy()])[0], rate))
        media.append(Medium("picture", f"{file}.png", title, caption, f"songs/{number}"))
        media.append(Medium("sound", f"{file}.wav", "sound", title, f"songs/{number}"))
    return media


def varied(known: Corpus) -> dict[str, Shaped[np.ndarray, " clip"]]:
    """Labels with several values, including the group unless each file is its own group."""
    labels = {name: label for name, label in known.labels.items() if len(np.unique(label)) > 1}
    groups = len(np.unique(known.group))
    if known.kind not in known.labels and 1 < groups < len(known.index) / 2:
        labels[known.kind] = known.group
    return labels


def maps(
    known: Corpus,
    codes: Float[np.ndarray, "clip code"],
    things: str,
    random: np.random.Generator,
    folder: Path,
) -> list[Medium]:
    points = tsne(codes, random)
    media = []
    for name, label in list(varied(known).items())[:MAPS] or [("", np.full(len(codes), things[:-1]))]:
        caption = (
            f"{len(codes):,} held-out {things} by t-SNE of their mean codes: {things} that lie together have "
            "similar codes; the distance between clusters means nothing."
        )
        by = "label" if name == SEGMENT else name.replace("_", " ")
        title = f"Held-out {things} by {by}" if name else f"Held-out {things}"
        file = f"map-{len(media) + 1}.png"
        put(folder / file, png(code_map(points, label, title, by or "what")))
        media.append(Medium("picture", file, title, caption, f"map/{len(media) + 1}"))
    return media


def neighbours(
    known: Corpus,
    codes: Float[np.ndarray, "clip code"],
    things: str,
    world: World,
    random: np.random.Generator,
    folder: Path,
) -> list[Medium]:
    """Random clips with their nearest neighbours, in other groups if there are any."""
    label, name, apart, of = compared_by(known)
    others = min(int((apart != one).sum()) for one in np.unique(apart))
    if others < 1:
        return []
    table = retrieval_table(codes, label, random, apart, ASKED, min(NEAREST, others))
    media = []
    if name:
        caption = (
            f"{things.capitalize()} drawn at random, each with those nearest to it by the cosine of their codes, "
            f"from {of}; blue where the {'label' if name == SEGMENT else name} is the same. Their sound is below."
        )
        put(folder / "nearest.png", png(retrieval_picture(table, name)))
        media.append(Medium("picture", "nearest.png", "Nearest neighbours", caption, "nearest"))
    for number, query in enumerate(table if world.signal.rate else [], start=1):
        media += players(known, query, number, world, folder)
    return media


def compared_by(known: Corpus) -> tuple[np.ndarray, str, np.ndarray, str]:
    """Label by which neighbours are compared, its name, the grouping that must differ between them, and that
    grouping in words."""
    labels = varied(known)
    if SEGMENT in known.labels:
        # Different birds seldom share syllables.
        by, name = (labels[SEGMENT], SEGMENT) if SEGMENT in labels else (known.recording.astype(str), "")
        return by, name, known.recording, "other files"
    several = len(np.unique(known.group)) > 1 and known.kind not in ("file", "clip")
    name = next((name for name in labels if name != known.kind), next(iter(labels), ""))
    if several and name != known.kind:
        return labels.get(name, known.group), name, known.group, f"other groups ({known.kind})"
    return labels.get(name, known.recording.astype(str)), name, known.recording, "other files"


def players(known: Corpus, query: Asked, number: int, world: World, folder: Path) -> list[Medium]:
    """Sounds of a clip and its neighbours in order."""
    rows = [query.row, *(found.row for found in query.found)]
    batch = world.whole(known.index[rows])
    assert world.signal.rate is not None, world.signal
    most = round(SECONDS * world.signal.rate)
    waves = []
    for wave, length, row in zip(batch.signal, known.lengths[rows].tolist(), rows, strict=True):
        first, last = 0, length
        if SEGMENT in known.labels:
            (start, stop, _), *_ = known.marks[row]
            first = max(0, round((start - AROUND) * world.signal.rate))
            last = min(length, round((stop + AROUND) * world.signal.rate))
        waves.append(wave[first : min(last, first + most)].numpy())
    media = []
    for place, (wave, factors, row) in enumerate(zip(peak_safe(waves), batch.factors.tolist(), rows, strict=True)):
        what = named_factors(world.factors, factors) or group_of(known, row)
        if SEGMENT in known.labels:
            what = f"{known.labels[SEGMENT][row]} ({what})"
        title = f"Nearest to this: {what}" if place == 0 else f"{place}. {what}"
        file = f"nearest-{number}-{place}.wav"
        put(folder / file, wav(wave, world.signal.rate))
        caption = f"clip {int(known.index[row])}" + (
            "" if place == 0 else f", cosine {query.found[place - 1].cosine:.2f}"
        )
        media.append(Medium("sound", file, title, caption, f"heard/{number}"))
    return media


def group_of(known: Corpus, row: int) -> str:
    return Path(str(known.group[row])).name
