"""Similarity of clips by their codes, for the media folder of a run whose codes are frames: maps of held-out
clips, and the sound of some of them with their nearest neighbours."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.extraction import extract, of_learner
from sonarium.evaluation.factors import device_of
from sonarium.evaluation.tasks import Corpus, corpus
from sonarium.measures.splits import Split
from sonarium.models.contract import FrameEncoder, Learner
from sonarium.report.album import Medium, peak_safe, put, wav, write_index
from sonarium.report.media import named_factors
from sonarium.report.neighbours import Asked, code_map, retrieval_picture, retrieval_table, tsne
from sonarium.report.style import png
from sonarium.worlds.contract import World

MOST = 500
"""Held-out clips that are shown."""
MAPS = 4
"""Labels by which the map is coloured."""
ASKED, NEAREST = 6, 4
"""Clips with playable neighbours, and the number of neighbours of each."""
SECONDS = 6.0
"""The part of a clip that is played."""
FEWEST = 4
"""The smallest number of clips of a map."""


def illustrate_likeness(
    learner: Learner, world: World, test: Int[Tensor, " clip"], folder: Path, seed: int
) -> list[Medium]:
    """Write to `folder` maps and neighbours of held-out clips; a seed gives the same files."""
    assert isinstance(learner, FrameEncoder), type(learner)
    device = device_of(learner)
    config, random = EvaluationConfig(max_clips=MOST), np.random.default_rng([seed, 0x11CE])
    nothing = torch.empty(0, dtype=torch.int64)
    known = corpus(world, Split(nothing, nothing, test), learner, config, random)
    media: list[Medium] = []
    if len(known.index) >= FEWEST:
        extractor = of_learner(learner, world.signal, device)
        means = extract(extractor, world, known.index, known.lengths, known.marks, config, None).means
        # Cosines of codes that share a large mean are all near 1.
        codes = means - means.mean(axis=0)
        media = maps(known, codes, random, folder) + neighbours(known, codes, world, random, folder)
    write_index(folder, media)
    return media


def varied(known: Corpus) -> dict[str, Shaped[np.ndarray, " clip"]]:
    """Labels with several values; the group is one of them, unless each file is its own group."""
    labels = {name: label for name, label in known.labels.items() if len(np.unique(label)) > 1}
    groups = len(np.unique(known.group))
    if known.kind not in known.labels and 1 < groups < len(known.index) / 2:
        labels[known.kind] = known.group
    return labels


def maps(
    known: Corpus, codes: Float[np.ndarray, "clip code"], random: np.random.Generator, folder: Path
) -> list[Medium]:
    points = tsne(codes, random)
    media = []
    for name, label in list(varied(known).items())[:MAPS] or [("", np.full(len(codes), "clip"))]:
        caption = (
            f"{len(codes):,} held-out clips by t-SNE of their mean codes: clips that lie together have similar "
            "codes; the distance between clusters means nothing."
        )
        title = f"Held-out clips by {name.replace('_', ' ')}" if name else "Held-out clips"
        file = f"map-{len(media) + 1}.png"
        put(folder / file, png(code_map(points, label, title, name.replace("_", " ") or "what")))
        media.append(Medium("picture", file, title, caption, f"map/{len(media) + 1}"))
    return media


def neighbours(
    known: Corpus,
    codes: Float[np.ndarray, "clip code"],
    world: World,
    random: np.random.Generator,
    folder: Path,
) -> list[Medium]:
    """Some clips with those nearest to them, of other groups where there are any."""
    label, name, apart, of = compared_by(known)
    others = min(int((apart != one).sum()) for one in np.unique(apart))
    if others < 1:
        return []
    table = retrieval_table(codes, label, random, apart, ASKED, min(NEAREST, others))
    media = []
    if name:
        caption = (
            f"Clips drawn at random, each with those nearest to it by the cosine of their codes, from {of}; blue "
            f"where the {name} is the same. Their sound is below."
        )
        put(folder / "nearest.png", png(retrieval_picture(table, name)))
        media.append(Medium("picture", "nearest.png", "Nearest neighbours", caption, "nearest"))
    for number, query in enumerate(table if world.signal.rate else [], start=1):
        media += players(known, query, number, world, folder)
    return media


def compared_by(known: Corpus) -> tuple[np.ndarray, str, np.ndarray, str]:
    """The label by which neighbours are compared, its name, what must differ between them, and that in words."""
    labels = varied(known)
    several = len(np.unique(known.group)) > 1 and known.kind not in ("file", "clip")
    name = next((name for name in labels if name != known.kind), next(iter(labels), ""))
    if several and name != known.kind:
        return labels.get(name, known.group), name, known.group, f"other groups ({known.kind})"
    return labels.get(name, known.recording.astype(str)), name, known.recording, "other files"


def players(known: Corpus, query: Asked, number: int, world: World, folder: Path) -> list[Medium]:
    """A clip and its neighbours, one after the other."""
    rows = [query.row, *(found.row for found in query.found)]
    batch = world.whole(known.index[rows])
    assert world.signal.rate is not None, world.signal
    most = round(SECONDS * world.signal.rate)
    waves = [
        wave[: min(length, most)].numpy()
        for wave, length in zip(batch.signal, known.lengths[rows].tolist(), strict=True)
    ]
    media = []
    for place, (wave, factors, row) in enumerate(zip(peak_safe(waves), batch.factors.tolist(), rows, strict=True)):
        what = named_factors(world.factors, factors) or group_of(known, row)
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
