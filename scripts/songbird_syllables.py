"""What `docs/songbird.md` reports of syllables: boundaries, clusters, and labels from few labelled songs.

    .venv/bin/python scripts/songbird_syllables.py --data ../shared/data

How settings were chosen: those of the segmentation on the juveniles, and on every second recording of gy6or6 and
of the adults in the order of their names; those of the clusters on every second song of gy6or6, and on das_male;
those of labels from few songs on songs of gy6or6's first day. Boundaries are reported on the other recordings,
labels from few songs on gy6or6's second day; clusters on all songs and on those that chose nothing. Writes
docs/results/songbird-syllables.json and the tables of the page. One thread, two minutes.
"""

import argparse
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from tones_results import ROOT, insert, table

from sonarium.bench.timing import hardware
from sonarium.evaluation.labelling import SyllableProbe
from sonarium.evaluation.songs import cluster_segments
from sonarium.evaluation.syllables import cluster
from sonarium.features.segmentation import segment
from sonarium.measures.sequence.boundaries import (
    TOLERANCES,
    Counts,
    longest_overlap,
    matched,
    syllable_error_rate,
)
from sonarium.measures.sequence.clusters import agreement
from sonarium.measures.statistics import interval
from sonarium.runs.annotate import FINE, Frames
from sonarium.worlds.audio.decoder import read_mono
from sonarium.worlds.contract import Mark

RESULTS = ROOT / "docs" / "results" / "songbird-syllables.json"
RATE = 32_000
SEEDS = 5
DRAWN = 0.7
"""Fraction of the songs that are clustered per seed; the others get the labels of their nearest neighbours."""
LABELLED = (30.0, 75.0)
"""Durations of labelled song in seconds."""
RESAMPLED = 2000
"""Bootstrap draws of recordings for the intervals of F1."""
FRAMES = Frames(None)


class Song:
    def __init__(self, path: Path, marks: list[Mark]):
        self.name, self.marks = path.name, sorted(marks)
        self.wave = read_mono(path, RATE).numpy()
        self.labels = [label for *_, label in self.marks]


def songs_of(folder: Path) -> dict[str, list[Song]]:
    """The annotated songs of each set, sorted by name."""
    marks: dict[str, list[Mark]] = defaultdict(list)
    with (folder / "segments.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            marks[row["file"]].append((float(row["onset_s"]), float(row["offset_s"]), row["label"]))
    found: dict[str, list[Song]] = defaultdict(list)
    for name in sorted(marks):
        found[name.split("/")[0]].append(Song(folder / name, marks[name]))
    return found


def boundaries(songs: Sequence[Song]) -> dict:
    """F1 of onsets and offsets at each tolerance, with 95 % bootstrap intervals over recordings."""
    cut = [segment(song.wave, RATE) for song in songs]
    rng, found = np.random.default_rng(0), {}
    draws = rng.integers(0, len(songs), (RESAMPLED, len(songs)))
    for side, name in enumerate(("onset", "offset")):
        for tolerance in TOLERANCES:
            counts = [
                matched(times(ours)[:, side], times(song.marks)[:, side], tolerance)
                for ours, song in zip(cut, songs, strict=True)
            ]
            total = sum(counts, Counts(0, 0, 0))
            drawn = [sum((counts[at] for at in row), Counts(0, 0, 0)).f1 for row in draws]
            found[f"{name}_{round(tolerance * 1000)}ms"] = {
                "f1": total.f1,
                "precision": total.precision,
                "recall": total.recall,
                "interval": np.quantile(drawn, (0.025, 0.975)).tolist(),
            }
    return {"recordings": len(songs), "segments": sum(len(song.marks) for song in songs), **found}


def embedded(songs: Sequence[Song], marks: Sequence[Sequence[Mark]]) -> list[np.ndarray]:
    return [FRAMES.embedded(song.wave, RATE, own) for song, own in zip(songs, marks, strict=True)]


def numbers(labels: Sequence[str]) -> np.ndarray:
    return np.unique(np.array(labels), return_inverse=True)[1]


def clusters(songs: Sequence[Song], held: Sequence[int], whole: bool) -> dict:
    """Scores of clusters of manual segments: of all songs; of those not used for tuning, if any; and of a draw of
    songs for each seed, with the others by nearest neighbour. For completely annotated songs, also of the segments
    of `annotate`, each with the label of the manual segment that it overlaps longest."""
    rows = embedded(songs, [song.marks for song in songs])
    truth = np.concatenate([song.labels for song in songs])
    once = cluster(np.concatenate(rows))
    found: dict = {"all": asdict(agreement(numbers(once.repertoire.labels.tolist()), truth))}
    found["all"]["noise"] = float(once.noise.mean())
    named = once.repertoire.labels
    found["confusion"] = {
        str(label): dict(Counter(named[truth == label].tolist()).most_common()) for label in np.unique(truth)
    }
    if held:
        other = cluster(np.concatenate([rows[at] for at in held]))
        own = np.concatenate([songs[at].labels for at in held])
        found["not_chosen_on"] = asdict(agreement(numbers(other.repertoire.labels.tolist()), own))
        found["not_chosen_on"]["noise"] = float(other.noise.mean())
    found["seeds"] = []
    for seed in range(SEEDS):
        drawn = np.random.default_rng(seed).permutation(len(songs))[: round(DRAWN * len(songs))]
        made = cluster(np.concatenate([rows[at] for at in drawn]))
        named = np.concatenate([made.repertoire.assign(one).labels for one in rows])
        found["seeds"].append(
            asdict(agreement(numbers(named.tolist()), truth)) | {"noise": float(made.noise.mean())}
        )
    if not whole:
        return found
    sound = cluster_segments([FRAMES.segments(song.wave, RATE) for song in songs])
    hand = [
        song.labels[at] if at >= 0 else "none"
        for song, ours in zip(songs, sound.songs, strict=True)
        for at in longest_overlap(times(ours.marks), times(song.marks)).tolist()
    ]
    found["sound_alone"] = asdict(agreement(numbers(sound.labels.tolist()), np.array(hand)))
    return found


def times(marks: Sequence[Mark]) -> np.ndarray:
    return np.array([(start, stop) for start, stop, _ in marks]).reshape(-1, 2)


def tomorrow(first: Sequence[Song], second: Sequence[Song]) -> dict:
    """Scores of clusters of the first day, transferred to the second day by nearest neighbour."""
    made = cluster(np.concatenate(embedded(first, [song.marks for song in first])))
    rows = np.concatenate(embedded(second, [song.marks for song in second]))
    named = made.repertoire.assign(rows).labels
    return asdict(agreement(numbers(named.tolist()), np.concatenate([song.labels for song in second])))


def few_labels(first: Sequence[Song], second: Sequence[Song], seconds: float) -> dict:
    """Syllable error rate on the second day, from `seconds` of labelled songs of the first."""
    seen = {song.name: FRAMES.seen(song.wave, RATE) for song in (*first, *second)}
    errors, missed = [], []
    for seed in range(SEEDS):
        left, frames, marks = seconds, [], []
        for at in np.random.default_rng(seed).permutation(len(first)):
            end = shortened(first[at], left)
            if end <= 0:
                break
            frames.append(seen[first[at].name][: int(end * FINE.frame_rate)])
            marks.append([mark for mark in first[at].marks if mark[1] <= end])
            left -= len(first[at].wave) / RATE
        probe = SyllableProbe(FINE.frame_rate).fit(frames, marks)
        found = [[label for *_, label in probe.label(seen[song.name]).marks] for song in second]
        errors.append(syllable_error_rate(found, [song.labels for song in second]))
        pairs = zip(found, second, strict=True)
        missed.append([f"{''.join(a)} for {''.join(b.labels)}" for a, b in pairs if a != b.labels])
    # The limit is the number of test syllables, which draws of labelled songs do not account for.
    count = sum(len(song.marks) for song in second)
    tested = stats.binomtest(round(float(np.mean(errors)) * count), count).proportion_ci(method="wilson")
    return {
        "seconds": seconds,
        "errors": errors,
        "mean": float(np.mean(errors)),
        "syllables": count,
        "missed": missed,
        "low": float(tested.low),
        "high": float(tested.high),
    }


def shortened(song: Song, seconds: float) -> float:
    """Seconds of a song that fit into this duration without cutting a syllable."""
    end = min(len(song.wave) / RATE, seconds)
    return min([end, *(start for start, stop, _ in song.marks if start < end < stop)])


def spread(values: Sequence[float]) -> str:
    found = interval(values)
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def write(result: dict) -> None:
    rows = []
    for name, one in result["boundaries"].items():
        shown = [f"{one[key]['f1']:.3f}" for key in ("onset_5ms", "onset_20ms", "offset_10ms", "offset_20ms")]
        low, high = one["onset_10ms"]["interval"]
        ten = f"{one['onset_10ms']['f1']:.3f} [{low:.3f}, {high:.3f}]"
        rows.append([name, str(one["segments"]), shown[0], ten, *shown[1:]])
    head = ["recordings", "segments", "onset 5 ms", "onset 10 ms", "onset 20 ms", "offset 10 ms", "offset 20 ms"]
    insert("syllables-boundaries", table(head, rows), "songbird.md")
    rows = []
    for name, one in result["clusters"].items():
        seeds = one["seeds"]
        for key, what in (
            ("all", "all songs"),
            ("not_chosen_on", "songs that chose no setting"),
            ("sound_alone", "own segments"),
        ):
            if key in one:
                shown = [f"{one[key][score]:.3f}" for score in ("v", "ari", "ami", "noise")]
                rows.append([name, what, *shown, f"{one[key]['clusters']} of {one[key]['labels']}"])
        shown = [spread([seed[score] for seed in seeds]) for score in ("v", "ari", "ami", "noise")]
        counts = ", ".join(str(seed["clusters"]) for seed in seeds)
        rows.append([name, f"{SEEDS} draws of {DRAWN:.0%} of the songs", *shown, counts])
    one = result["tomorrow"]
    shown = [f"{one[score]:.3f}" for score in ("v", "ari", "ami", "noise")]
    rows.append(["gy6or6", "the next day, by nearest neighbour", *shown, f"{one['clusters']} of {one['labels']}"])
    head = ["bird", "clustered", "V", "ARI", "AMI", "noise", "clusters"]
    insert("syllables-clusters", table(head, rows), "songbird.md")
    rows = [
        [
            f"{one['seconds']:g} s",
            f"{100 * one['mean']:.2f} [{100 * one['low']:.2f}, {100 * one['high']:.2f}]",
            ", ".join(f"{100 * error:.2f}" for error in one["errors"]),
        ]
        for one in result["few_labels"]
    ]
    insert("syllables-few", table(["labelled song", "syllable error in %", "each draw"], rows), "songbird.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    data = parser.parse_args().data
    torch.set_num_threads(1)
    zebra, bengalese = songs_of(data / "zebra_finch"), songs_of(data / "bengalese_finch")
    gy6or6 = bengalese["gy6or6"]
    first, second = ([song for song in gy6or6 if day in song.name] for day in ("230312", "240312"))
    result = {
        "hardware": hardware(),
        "seeds": SEEDS,
        "boundaries": {
            "gy6or6": boundaries(gy6or6[1::2]),
            "adults": boundaries(zebra["adults"][1::2]),
            "juveniles (settings chosen on them)": boundaries(zebra["juveniles"]),
        },
        "clusters": {
            "gy6or6": clusters(gy6or6, range(1, len(gy6or6), 2), True),
            "das_male": clusters(zebra["das_male"], (), False),
        },
        "tomorrow": tomorrow(first, second),
        "few_labels": [few_labels(first, second, seconds) for seconds in LABELLED],
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write(result)


if __name__ == "__main__":
    main()
