"""Syllables and grammar of planted birds from sound alone: what `docs/songbird.md` reports of the ladder.

    nice -n 10 .venv/bin/python scripts/songbird_ladder.py            # what is missing, then the page
    nice -n 10 .venv/bin/python scripts/songbird_ladder.py --write    # only the page, from what is there

Ten birds of the middle level, five of the others; and recorded syllables of two birds of ../shared/data in the
order of planted grammars of the middle level, five each. Songs are cut and clustered as `sonarium annotate` does,
without labels and without the number of clusters: clusters are those of the first songs, and the other songs get
the label of their nearest neighbours. Of recorded syllables, the first songs are so few that each recorded example
is there about once: the same example many times is a cluster of its own. The order of the grammar is chosen, and
models of it are fitted, by the labels that were found; the same by planted labels stands beside it. One thread;
each bird is kept in docs/results/songbird-ladder.json as soon as it is there.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from songbird_grammar import bits, fitted, ngram_bits
from tones_results import ROOT, insert, table

from sonarium.bench.timing import hardware
from sonarium.evaluation.songs import cluster_segments, label_segments
from sonarium.measures.sequence.boundaries import Counts, longest_overlap, matched
from sonarium.measures.sequence.clusters import agreement
from sonarium.measures.sequence.ngrams import markov_order
from sonarium.measures.statistics import interval
from sonarium.models.hmm import HMM
from sonarium.runs.annotate import Frames
from sonarium.worlds.contract import Mark
from sonarium.worlds.grammar import Grammar
from sonarium.worlds.songbird.world import LADDER, Aviary, SongbirdConfig, build

RESULTS = ROOT / "docs" / "results" / "songbird-ladder.json"
DATA = ROOT.parent / "shared" / "data"
BIRDS = {"easy": range(300, 305), "middle": range(300, 310), "hard": range(300, 305)}
REAL = range(300, 305)
SOURCES = {"gy6or6": "bengalese_finch/gy6or6", "das_male": "zebra_finch/das_male"}
CLUSTERED, CLUSTERED_REAL = 80, 25
"""Number of songs that are clustered."""
TRAIN, CHOOSE, SONGS = 800, 1000, 1200
"""Ends of the training and the validation songs, and the number of songs; the rest are test songs. A bird sings as
many in a few days."""
SIZES = (1, 2, 4, 8)
"""Candidate numbers of states of the hidden Markov model, as multiples of the number of labels."""
FIRST = 5
"""First syllable of which bits are counted: earlier ones are less predictable than the entropy rate."""
TOLERANCE = 0.01
FRAMES = Frames(None)
Labels = list[np.ndarray]


def times(marks: list[Mark] | tuple[Mark, ...]) -> np.ndarray:
    return np.array([(start, stop) for start, stop, _ in marks]).reshape(-1, 2)


def measured(world: Aviary, rate: int, clustered: int) -> dict[str, Any]:
    """Results of one bird: segments, clusters, order and bits."""
    planted = [world.segments(song) for song in range(SONGS)]
    heard = [FRAMES.segments(wave, rate) for song in range(SONGS) for wave in world.sounds([song])]
    first = cluster_segments(heard[:clustered])
    later = label_segments(heard[clustered:], first.repertoire)
    cut = [song.marks for song in (*first.songs, *later.songs)]
    named = np.split(np.concatenate([first.labels, later.labels]), np.cumsum([len(one) for one in cut])[:-1])
    clusters = np.unique(np.concatenate(named))
    found = [np.searchsorted(clusters, one) for one in named]
    number = {label: at for at, label in enumerate(world.grammar(0).labels)}
    true = [np.array([number[label] for *_, label in marks]) for marks in planted]
    tested = range(CHOOSE, SONGS)
    overlapped = [longest_overlap(times(cut[song]), times(planted[song])) for song in tested]
    beneath = [
        np.where(at >= 0, true[song][np.maximum(at, 0)], len(number))
        for song, at in zip(tested, overlapped, strict=True)
    ]
    onsets = [matched(times(cut[song])[:, 0], times(planted[song])[:, 0], TOLERANCE) for song in tested]
    return {
        "onset f1": sum(onsets, Counts(0, 0, 0)).f1,
        "segments": sum(len(cut[song]) for song in tested),
        "planted segments": sum(len(planted[song]) for song in tested),
        **asdict(agreement(np.concatenate([found[song] for song in tested]), np.concatenate(beneath))),
        "sound": grammar_of(found, len(clusters), world.grammar(0), true),
        "labels": grammar_of(true, len(number), world.grammar(0), true),
    }


def grammar_of(songs: Labels, symbols: int, grammar: Grammar, true: Labels) -> dict[str, float]:
    """The chosen order, and the excess bits per syllable of a hidden Markov model of these labels, and of n-grams
    of that order, over the planted grammar on the planted labels of the same songs."""
    train, choose, test = songs[:TRAIN], songs[TRAIN:CHOOSE], songs[CHOOSE:]
    order, _ = markov_order(train, choose, symbols)
    models = [fitted(train, symbols, times * symbols, 0) for times in SIZES]
    best = min(models, key=lambda model: bits(model, choose).mean)
    start, moves, emissions = grammar.hidden_markov()
    bird = HMM.from_parameters(start, moves, probabilities=emissions)
    rate = bits(bird, true[CHOOSE:], FIRST).mean
    return {
        "order": order,
        "states": best.states,
        "planted bits": rate,
        "missed": bits(best, test, FIRST).mean - rate,
        "n-gram missed": ngram_bits(order, symbols, songs[:CHOOSE], test, FIRST) - rate,
    }


def jobs() -> dict[str, tuple[SongbirdConfig, int]]:
    config = SongbirdConfig(birds=1, songs=SONGS)
    found = {f"{level}/{seed}": (replace(config, level=level), seed) for level in LADDER for seed in BIRDS[level]}
    for name, folder in SOURCES.items():
        real = replace(config, level="middle", source=str(DATA / folder), rate=32_000)
        found |= {f"{name}/{seed}": (real, seed) for seed in REAL}
    return found


def write(kept: dict[str, Any]) -> None:
    rows = []
    for name in dict.fromkeys(job.split("/")[0] for job in jobs()):
        each = [kept[job] for job in jobs() if job.split("/")[0] == name]
        syllables, order, noise = LADDER.get(name, LADDER["middle"])
        bird = f"{name}: {syllables} syllables, order {order}, {noise:g} dB" if name in LADDER else name
        right = [sum(one[source]["order"] == order for one in each) for source in ("sound", "labels")]
        rows.append(
            [
                bird,
                f"{np.mean([one['onset f1'] for one in each]):.3f}",
                *(str(interval([one[key] for one in each])) for key in ("ari", "v")),
                ", ".join(str(one["clusters"]) for one in each),
                *(f"{count} of {len(each)}" for count in right),
                *(
                    str(interval([one[source][missed] for one in each]))
                    for source in ("sound", "labels")
                    for missed in ("missed", "n-gram missed")
                ),
            ]
        )
    head = ["birds", "onsets, 10 ms", "ARI", "V", "clusters", "order from sound", "order from labels"]
    head += [
        f"bits missed from {source}, {model}" for source in ("sound", "labels") for model in ("HMM", "n-gram")
    ]
    insert("ladder", table(head, rows), "songbird.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="birds of this name")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    kept: dict[str, Any] = (
        json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"hardware": hardware()}
    )
    for name, (config, seed) in jobs().items():
        if flags.write or name in kept or (flags.only and name.split("/")[0] != flags.only):
            continue
        if config.source and not Path(config.source).is_dir():
            print(f"{name}: skipped, for there is no {config.source}", flush=True)
            continue
        clustered = CLUSTERED if config.source is None else CLUSTERED_REAL
        kept[name] = measured(build(config, seed, lambda *_: None), config.rate, clustered)
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(name, kept[name], flush=True)
    if all(name in kept for name in jobs()):
        write(kept)


if __name__ == "__main__":
    main()
