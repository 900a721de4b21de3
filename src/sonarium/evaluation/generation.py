"""Distances of generated songs from recorded ones in a fixed embedding, each with its floor of recorded against
recorded songs. Both use equally many songs: one half of the recorded songs is compared with generated ones, and
with the other half.

The embedding is plain: log-mel frames of 40 bands with equalised noise floors, cut into snippets of a tenth of a
second and projected onto the principal components of the recorded snippets. It is fitted to recorded songs only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
import torch
from jaxtyping import Float, Int

from sonarium.features.classical import LogMel, LogMelConfig
from sonarium.features.pitch import PitchConfig, track
from sonarium.measures import generation as measures
from sonarium.measures.contract import Meaning
from sonarium.measures.probes.classifiers import principal_axes

MEL = LogMelConfig(hop=0.01, bands=40, fmin=300.0, range_db=None, equal_levels=True)
SNIPPET = 10
"""Frames per snippet."""
COMPONENTS = 32
MOST = 2000
"""Maximum number of snippets per set."""
PERIODIC = 0.2
"""Aperiodicity below which a frame has a pitch."""
PITCH = PitchConfig(hop=0.005)
HALVINGS = 3
LEAST_SONGS = 4
"""Two halves of two songs each: fewer leave nothing to learn from, or nothing to score."""
EMBEDDING = "log-mel snippets of 0.1 s with equal noise floors, in 32 principal components of the recorded ones"
MEANINGS = {
    "kernel_distance": Meaning(
        "KAD",
        "100 × unbiased squared maximum mean discrepancy; Gaussian kernel, median bandwidth",
        None,
        None,
        False,
    ),
    "frechet_distance": Meaning("Fréchet distance", "of Gaussians with the same moments", 0.0, None, False),
    "precision": Meaning("precision", "made snippets that lie among recorded ones"),
    "recall": Meaning("recall", "recorded snippets that lie among made ones"),
    "density": Meaning(
        "density", "recorded neighbourhoods that hold a made snippet, over those expected", 0.0, None
    ),
    "coverage": Meaning("coverage", "recorded neighbourhoods that hold a made snippet"),
    "authenticity": Meaning("authenticity", "made snippets that are no copies of a recorded one"),
    "auc": Meaning("AUC", "of a classifier of made and recorded snippets; 0.5 tells nothing", 0.0, 1.0, False),
    "pitch": Meaning("pitch", "Wasserstein distance of pitches in octaves", 0.0, None, False),
    "duration": Meaning("duration", "Wasserstein distance of the stretches that sound, in ms", 0.0, None, False),
    "gap": Meaning("gap", "Wasserstein distance of the gaps between them, in ms", 0.0, None, False),
}
"""Each measure has a floor: its value for recorded against recorded songs."""
Wave = Float[np.ndarray, " _time"]


@dataclass(frozen=True)
class Described:
    """Features by which sets of songs are compared."""

    snippets: Float[np.ndarray, "snippet value"]
    song: Int[np.ndarray, " snippet"]
    octaves: tuple[Float[np.ndarray, " _frame"], ...]
    """Pitch of the voiced frames of each song, as log2 of hertz."""
    durations: tuple[Float[np.ndarray, " _stretch"], ...]
    """Durations of the sounding stretches of each song in milliseconds."""
    gaps: tuple[Float[np.ndarray, " _gap"], ...]

    def of(self, songs: Int[np.ndarray, " chosen"]) -> "Described":
        rows = np.isin(self.song, songs)
        lists = (tuple(one[at] for at in songs) for one in (self.octaves, self.durations, self.gaps))
        return Described(self.snippets[rows], self.song[rows], *lists)


def compare_songs(
    real: Sequence[Wave], made: Sequence[Wave], rate: int, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Each measure of generated songs against recorded ones, with its floor."""
    for name, songs in (("recorded", real), ("made", made)):
        if len(songs) < LEAST_SONGS:
            raise ValueError(
                f"{len(songs)} {name} song(s): give {LEAST_SONGS} or more, which are halved for the floor"
            )
    frames = [[levels(wave, rate) for wave in songs] for songs in (real, made)]
    raised = measures.equal_floors(*(np.concatenate(one) for one in frames))
    own, other = (
        described(np.split(rows, np.cumsum([len(one) for one in parts])[:-1]), songs, rate, raised)
        for rows, parts, songs in zip(raised, frames, (real, made), strict=True)
    )
    rng = np.random.default_rng(seed)
    own, other = embedded(own, other, rng)
    found, lowest = [], []
    for _ in range(HALVINGS):
        order, half = rng.permutation(len(real)), len(real) // 2
        beside = other.of(rng.permutation(len(made))[: len(real) - half])
        found.append(distances(own.of(order[:half]), beside, rng))
        lowest.append(distances(own.of(order[:half]), own.of(order[half:]), rng))
    return {
        name: {"value": mean(one[name] for one in found), "floor": mean(one[name] for one in lowest)}
        for name in MEANINGS
    }


def levels(wave: Wave, rate: int) -> Float[np.ndarray, "frame band"]:
    """Log-mel frames in decibels."""
    mel = LogMel(MEL, rate)
    with torch.no_grad():
        sound = torch.from_numpy(np.ascontiguousarray(wave, np.float32))[None]
        return mel(sound, torch.tensor([sound.shape[1]]))[0].double().numpy()


def described(
    frames: Sequence[Float[np.ndarray, "_frame band"]],
    waves: Sequence[Wave],
    rate: int,
    both: tuple[np.ndarray, ...],
) -> Described:
    """Features of songs from frames with equalised noise floors; silent snippets are left out."""
    quietest = np.concatenate(both).min(0)
    snippets, song, octaves, durations, gaps = [], [], [], [], []
    for number, (own, wave) in enumerate(zip(frames, waves, strict=True)):
        sounding = (own > quietest + 1e-9).mean(1) > 0.05
        count = len(own) // SNIPPET
        cut = own[: count * SNIPPET].reshape(count, -1)
        kept = sounding[: count * SNIPPET].reshape(count, SNIPPET).any(1)
        snippets.append(cut[kept])
        song += [number] * int(kept.sum())
        lasting, between = measures.stretches(sounding, 1 / MEL.hop)
        durations.append(1000 * lasting)
        gaps.append(1000 * between)
        pitch = track(wave.astype(np.float64), rate, PITCH)
        octaves.append(np.log2(pitch.hertz[pitch.aperiodicity < PERIODIC]))
    return Described(np.concatenate(snippets), np.array(song, int), tuple(octaves), tuple(durations), tuple(gaps))


def embedded(real: Described, made: Described, rng: np.random.Generator) -> tuple[Described, Described]:
    """Project snippets of both sets onto the principal components of the recorded ones."""
    if not len(real.snippets) or not len(made.snippets):
        silent = "recorded" if not len(real.snippets) else "made"
        raise ValueError(f"nothing sounds above the noise in the {silent} songs: give others")
    centre = real.snippets.mean(0)
    _, axes = principal_axes(real.snippets - centre)
    found = []
    for one in (real, made):
        rows = np.sort(rng.permutation(len(one.song))[:MOST])
        codes = (one.snippets[rows] - centre) @ axes[:, ::-1][:, :COMPONENTS]
        found.append(Described(codes, one.song[rows], one.octaves, one.durations, one.gaps))
    return found[0], found[1]


def distances(real: Described, made: Described, rng: np.random.Generator) -> dict[str, float]:
    """All measures of one set against another; Fréchet distance and neighbourhoods at equal sample sizes."""
    least = min(len(real.song), len(made.song))
    if least <= measures.NEAREST:
        raise ValueError(f"{least} snippets sound: give longer songs")
    equal = [one.snippets[rng.permutation(len(one.song))[:least]] for one in (real, made)]
    found = {
        "kernel_distance": measures.kernel_distance(real.snippets, made.snippets),
        "frechet_distance": measures.frechet_distance(equal[0], equal[1]),
        **measures.neighbourhoods(equal[0], equal[1]),
        "auc": measures.real_or_made(real.snippets, made.snippets, real.song, made.song),
    }
    for name, one, other in (
        ("pitch", real.octaves, made.octaves),
        ("duration", real.durations, made.durations),
        ("gap", real.gaps, made.gaps),
    ):
        values = [np.concatenate(part) for part in (one, other)]
        found[name] = measures.wasserstein(*values) if all(map(len, values)) else float("nan")
    return found
