"""What `scripts/cpc_results.py` measures: predictive coding on the sound at hand, scored by probes.

No training uses labels of what was said. The speaker, fold or song of the test split is not in the training sound,
but for the parts named `heard`, where it is there without labels. Strengths of probes are chosen among the groups
that they are fitted on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tones_results import ROOT
from torch import Tensor

from sonarium.features.classical import LogMel, LogMelConfig, Mfcc, MfccConfig
from sonarium.measures.probes.classifiers import NetworkConfig
from sonarium.measures.probes.fewlabels import few_labels
from sonarium.measures.probes.frames import clip_means, rows_of
from sonarium.measures.probes.probe import ProbeConfig, choose, fit_and_score, table_of
from sonarium.measures.probes.segments import frames_of_segments
from sonarium.measures.splits import folds, of_groups
from sonarium.models.cpc.cpc import CPC, CPCConfig
from sonarium.models.cpc.presets import DEFAULT, SAMPLES
from sonarium.models.optim import ScheduleConfig
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.training.engine import FabricEngine, fastest_precision
from sonarium.training.fit import Callbacks, LoopConfig, fit
from sonarium.training.run import RunFolder
from sonarium.worlds.recordings.world import Recordings, RecordingsConfig

PHONED = "4051-11218-0044"
"""The utterance of CPC_audio's tests."""
DATA = ROOT.parent / "shared" / "data"
RUNS = ROOT / "runs" / "cpc"
BATCH = 24
STEPS, MORE_STEPS = 300, 1500
"""Of the mel bands of the default, and of samples, which take longer to learn."""
PARTS_OF_DATA = {
    "digits": "fsdd",
    "heard": "fsdd",
    "sounds": "esc10",
    "finch": "bengalese_finch",
    "phones": "speech_phones",
    "speaker-frames": "librispeech",
    "schemes": "fsdd",
    "samples-heard": "fsdd",
    "sounds-heard": "esc10",
    "longer-heard": "fsdd",
    "samples": "fsdd",
    "samples-sounds": "esc10",
}
"""The parts of the results, and the data that each is about."""
FIRST_SEED = 100
"""The controls have no seed, and are scored with this one."""
RIDGE = ProbeConfig("ridge", strengths=(3.0, 1.0, 0.3, 0.1, 0.03, 0.01))
FRAMES = ProbeConfig("ridge", strengths=(0.1, 0.01, 0.001))
NETWORK = ProbeConfig("mlp", network=NetworkConfig((128,), epochs=20))
Score = dict[str, float]
"""By control or code."""


def sound(name: str, rate: int = 16_000, seconds: float = 1.28, **more) -> Recordings:
    return Recordings(RecordingsConfig(str(DATA / name), rate=rate, seconds=seconds, **more))


def learn(name: str, world: Recordings, clips: Tensor, config: CPCConfig, seed: int, steps: int = STEPS) -> CPC:
    """A learner, trained on these clips; taken up again where an earlier call was interrupted."""
    config = replace(config, schedule=ScheduleConfig("cosine", min(100, steps // 3), steps))
    torch.manual_seed(seed)
    learner = CPC(config, world.signal)
    recorded = {"steps": steps, "seed": seed, "config": repr(config)}
    run = RunFolder.create(RUNS / f"{name}-{seed}", recorded, lambda found: found)
    loop = LoopConfig(seed, fastest_precision())
    engine = FabricEngine("cpu", loop.precision, seed)
    fit(learner, Clips(world, clips, ClipsConfig(BATCH), seed), run, engine, loop, steps, Callbacks())
    return learner.eval()


def untrained(world: Recordings, config: CPCConfig, seed: int) -> CPC:
    torch.manual_seed(seed)
    return CPC(config, world.signal).eval()


def controls(rate: int) -> dict[str, LogMel | Mfcc]:
    return {"log-mel": LogMel(LogMelConfig(), rate), "MFCC": Mfcc(MfccConfig(), rate)}


Features = CPC | LogMel | Mfcc


@torch.no_grad()
def encoded(world: Recordings, by: Features, clips: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Clips of about one length at a time: which, their frames, and how many each has."""
    order = clips[world.lengths(clips).argsort(stable=True)]
    for index in order.split(64):
        batch = world.whole(index)
        assert batch.lengths is not None
        codes = by.encode(batch.signal, batch.lengths) if isinstance(by, CPC) else by(batch.signal, batch.lengths)
        yield index.numpy(), codes.double().numpy(), by.code_lengths(batch.lengths).numpy()


def pooled(world: Recordings, by: Features) -> np.ndarray:
    """Each clip's means in three thirds and the standard deviation, in the order of the clips."""
    rows: dict[int, np.ndarray] = {}
    for index, codes, counts in encoded(world, by, torch.arange(len(world))):
        rows |= dict(zip(index.tolist(), rows_of(codes, counts, "clip", "thirds")[0], strict=True))
    return np.array([rows[clip] for clip in range(len(world))])


def across(codes: np.ndarray, labels: np.ndarray, groups: np.ndarray, train: np.ndarray, test: np.ndarray,
           config: ProbeConfig = RIDGE) -> float:  # fmt: skip
    """Per cent right on test rows, of a probe fitted on train rows and chosen by leaving groups of them out."""
    table = table_of(codes, labels, groups)
    setting = choose(table, folds(groups, train, config.lots), config, 0)
    return 100 * fit_and_score(table, train, 0, test, setting, config, 0).accuracy


# Digits: the test speaker is unknown to learner and probe.


def digits_world() -> Recordings:
    return sound("fsdd", rate=8000, seconds=0.64)


def digit_score(world: Recordings, by: Features, speakers: list[str], test: str) -> float:
    return digit_of(world, pooled(world, by), speakers, test)


def digit_of(world: Recordings, codes: np.ndarray, speakers: list[str], test: str) -> float:
    """Digits of one speaker, by a probe fitted on others."""
    digit, speaker = (column.numpy() for column in world.values.long().T)
    names = np.array(world.factors[1].values)[speaker]
    train, tested = np.flatnonzero(np.isin(names, speakers)), np.flatnonzero(names == test)
    return across(codes, digit, names, train, tested)


def of_speakers(world: Recordings, speakers: list[str]) -> Tensor:
    names = np.array(world.factors[1].values)[world.values[:, 1].long().numpy()]
    return torch.from_numpy(np.flatnonzero(np.isin(names, speakers)))


def digits(seed: int, test: str, config: CPCConfig = DEFAULT, name: str = "default", steps: int = STEPS,
           plain: bool = True) -> Score:  # fmt: skip
    """Pre-trained on three speakers' sound, tested on the fourth; untrained; once, the controls."""
    world = digits_world()
    others = [str(one) for one in world.factors[1].values if one != test]
    learner = learn(f"digits-{name}-{test}", world, of_speakers(world, others), config, seed, steps)
    found = {"CPC": digit_score(world, learner, others, test)}
    if plain:
        found["untrained"] = digit_score(world, untrained(world, config, seed), others, test)
    if plain and seed == FIRST_SEED:
        found |= {label: digit_score(world, by, others, test) for label, by in controls(world.rate).items()}
    return found


SCHEMES = {
    "within-sequence": {"from_sequence": 96, "from_batch": 0},
    "same-speaker": {"from_sequence": 32, "from_batch": 0, "from_speaker": 64},
    "mixed": {"from_sequence": 32, "from_batch": 64},
    "other utterances only": {"from_sequence": 0, "from_batch": 96, "exclude_own": True},
}


def of_scheme(name: str, config: CPCConfig = DEFAULT) -> CPCConfig:
    """All schemes have 96 negatives; mixed is the default itself."""
    if name == "mixed":
        return config
    return replace(config, speaker=1, contrast=replace(config.contrast, **SCHEMES[name]))


def scheme(seed: int, test: str, name: str) -> Score:
    known_as = "default" if name == "mixed" else name.replace(" ", "-")
    return digits(seed, test, of_scheme(name), known_as, plain=False)


def unlabelled(seed: int, name: str, config: CPCConfig = DEFAULT, steps: int = STEPS,
                     plain: bool = False) -> Score:  # fmt: skip
    """One learner of the sound of all speakers; each one's digits predicted by a probe fitted on the others."""
    world, config = digits_world(), of_scheme(name, config)
    everyone = [str(one) for one in world.factors[1].values]
    known_as = name.replace(" ", "-") + ("" if steps == STEPS else f"-{steps}")
    known_as += "-samples" if not config.encoder.mels else ""
    ways = {"": learn(f"heard-{known_as}", world, torch.arange(len(world)), config, seed, steps)}
    if plain:
        ways[" untrained"] = untrained(world, config, seed)
    found = {}
    for way, by in ways.items():
        codes = pooled(world, by)
        for test in everyone:
            found[test + way] = digit_of(world, codes, [one for one in everyone if one != test], test)
    return found


def samples(seed: int, test: str) -> Score:
    config = of_scheme("same-speaker", SAMPLES)
    return digits(seed, test, config, f"samples-{MORE_STEPS}", MORE_STEPS)


# Environmental sounds: trained and fitted on one fold, tested on the other.


def source_of(path: Path) -> str:
    """The recording that a clip of ESC is from."""
    return "-".join(path.stem.split("-")[:2])


def sounds(seed: int, train: str, config: CPCConfig = DEFAULT, name: str = "default", steps: int = STEPS) -> Score:
    """Pre-trained on one fold's sound, tested on the other's."""
    world = sound("esc10")
    learner = learn(f"sounds-{name}-{train}", world, torch.from_numpy(of_fold(world, train)), config, seed, steps)
    return by_all(world, seed, learner, lambda by: {"": sound_score(world, pooled(world, by), train)})


def sounds_heard(seed: int, config: CPCConfig, name: str, steps: int) -> Score:
    """One learner of the sound of both folds; the classes of each predicted by a probe fitted on the other."""
    world = sound("esc10")
    learner = learn(f"sounds-heard-{name}", world, torch.arange(len(world)), config, seed, steps)
    found = {}
    for way, by in (("CPC", learner), ("untrained", untrained(world, config, seed))):
        codes = pooled(world, by)
        found |= {f"{way} {train}": sound_score(world, codes, train) for train in ("1", "2")}
    return found


def of_fold(world: Recordings, fold: str) -> np.ndarray:
    return np.flatnonzero(np.array(world.factors[1].values)[world.values[:, 1].long().numpy()] == fold)


def sound_score(world: Recordings, codes: np.ndarray, train: str) -> float:
    source = np.array([source_of(path) for path in world.paths])
    fitted = of_fold(world, train)
    tested = np.setdiff1d(np.arange(len(world)), fitted)
    assert not set(source[fitted]) & set(source[tested])
    return across(codes, world.values[:, 0].long().numpy(), source, fitted, tested)


def by_all(world: Recordings, seed: int, learner: CPC, score: Callable[[Features], Score]) -> Score:
    """The scores of a learner, of the same untrained, and, of the first seed, of the controls."""
    ways: dict[str, Features] = {"CPC": learner, "untrained": untrained(world, learner.config, seed)}
    ways |= controls(world.rate) if seed == FIRST_SEED else {}
    return {f"{label}{more}": value for label, by in ways.items() for more, value in score(by).items()}


# Speech: who speaks, frame by frame with each utterance's mean removed; and which phone.


def speech(seed: int) -> tuple[Recordings, CPC, np.ndarray]:
    """Trained on LibriSpeech but for three of the ten utterances of each of the seven speakers who have ten."""
    world = sound("librispeech")
    seven = np.array(world.factors[1].values)[world.values[:, 1].long().numpy()] == "test-other"
    speaker = world.values[:, 0].long().numpy()
    tested = np.concatenate([np.flatnonzero(seven & (speaker == one))[-3:] for one in np.unique(speaker[seven])])
    known_before = torch.from_numpy(np.setdiff1d(np.arange(len(world)), tested))
    return world, learn("speech", world, known_before, DEFAULT, seed, 2 * STEPS), tested


def speaker_frames(seed: int) -> Score:
    world, learner, tested = speech(seed)
    speaker = world.values[:, 0].long().numpy()
    ten = np.flatnonzero(np.isin(speaker, speaker[tested]))

    def score(by: Features) -> Score:
        rows, clips = [], []
        for index, codes, counts in encoded(world, by, torch.from_numpy(ten)):
            frames, clip = rows_of(codes, counts, "frame", remove_mean=True)
            step = max(1, round(by.code_rate / 25))
            rows.append(frames[::step])
            clips.append(index[clip[::step]])
        codes, clip = np.concatenate(rows), np.concatenate(clips)
        train, test = np.flatnonzero(~np.isin(clip, tested)), np.flatnonzero(np.isin(clip, tested))
        watched = train[clip[train] % 7 == 0]
        table = table_of(codes, speaker[clip], clip)
        found = {}
        for kind, config in (("", FRAMES), (" by a network", NETWORK)):
            setting = choose(table, [(np.setdiff1d(train, watched), watched)], config, 0)
            found[kind] = 100 * fit_and_score(table, train, len(watched), test, setting, config, 0).balanced
        return found

    return by_all(world, seed, learner, score)


def phones(seed: int) -> Score:
    """Per frame of the one utterance that has a phone every 10 ms: each tenth of it in turn is the test split."""
    learner = speech(seed)[1]
    world = sound("speech_phones")
    at = next(clip for clip, path in enumerate(world.paths) if path.stem == PHONED)
    table = np.genfromtxt(
        world.paths[at].with_name(f"{PHONED}.phones_10ms.csv"), int, delimiter=",", skip_header=1
    )

    def score(by: Features) -> Score:
        _, codes, counts = next(encoded(world, by, torch.tensor([at])))
        first = by.code_first if isinstance(by, CPC) else 0.0
        place = ((first + np.arange(counts[0]) / by.code_rate) / 0.010).astype(int)
        place = place[place < len(table)]
        label, tenth = table[place, 1], 10 * place // len(table)
        right = 0.0
        for one in range(10):
            train, test = np.flatnonzero(tenth != one), np.flatnonzero(tenth == one)
            right += across(codes[0, : len(place)], label, tenth, train, test, FRAMES) * len(test)
        return {"": right / len(place), " chance": 100 * float(np.bincount(label).max() / len(label))}

    return by_all(world, seed, learner, score)


# Song: syllables of one day, from few labels of the day before.


@dataclass(frozen=True)
class Song:
    codes: np.ndarray
    label: np.ndarray
    clip: np.ndarray


def syllables(world: Recordings, by: Features) -> Song:
    """The mean frame of each syllable."""
    parts: list[Song] = []
    for index, codes, counts in encoded(world, by, torch.arange(len(world))):
        first = by.code_first if isinstance(by, CPC) else 0.0
        marks = world.marks(torch.from_numpy(index))
        found = frames_of_segments(codes, counts, marks, by.code_rate, first)
        parts.append(Song(clip_means(found.codes, found.item)[0], found.label, index[found.clip]))
    return Song(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "label", "clip")))


def finch(seed: int) -> Score:
    world = sound("bengalese_finch", rate=32_000)
    names = np.array([path.name for path in world.paths])
    first_day = np.flatnonzero(np.char.find(names, "230312") >= 0)
    second_day = np.setdiff1d(np.arange(len(world)), first_day)
    chosen = first_day[::3]
    learner = learn("finch", world, torch.from_numpy(first_day), DEFAULT, seed)

    def score(by: Features) -> Score:
        song = syllables(world, by)
        parts = of_groups(song.clip, chosen.tolist(), second_day.tolist())
        random = np.random.default_rng(0)
        curve = few_labels(song.codes, song.label, song.clip, parts, random, (1, 2, 5, 10), 10, RIDGE)
        return {f" {n}": 100 * float(mean) for n, mean in zip(curve.counts, curve.scores.mean(0), strict=True)}

    return by_all(world, seed, learner, score)
