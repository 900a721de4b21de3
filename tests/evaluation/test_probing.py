"""Probing frames: codes that encode a label predict it, codes without information score chance, and each task has
the split that it states."""

from copy import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from corpus import CLIPS, PATTERN, PITCHES, RATE, SPEAKERS, WORDS, write_corpus
from typechecking import unchecked

from sonarium.evaluation import extraction
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.extraction import (
    Encoded,
    batched,
    extract,
    extract_segments,
    extractors,
    frames_apart,
    of_learner,
)
from sonarium.evaluation.probing import comparable, probing, retrievable, subsampled
from sonarium.evaluation.splits import split_world
from sonarium.evaluation.tasks import corpus, tasks, unpredictable
from sonarium.features.waveform import sounding
from sonarium.measures.splits import Split, folds
from sonarium.models.contract import FrameEncoder
from sonarium.worlds.contract import UNKNOWN, Factor, Signal
from sonarium.worlds.recordings.world import Recordings, RecordingsConfig

HOP = 200
QUICK = EvaluationConfig()


class Planted(FrameEncoder):
    """Codes of the zero-crossing rate (which is the word) and the level (the speaker), or constant codes."""

    code_rate, code_first = RATE / HOP, HOP / 2 / RATE

    def __init__(self, knows: bool):
        self.knows = knows

    def code_lengths(self, lengths: Any) -> Any:
        return lengths // HOP

    def encode(self, signal: Any, lengths: Any = None, *, power: Any = None) -> Any:
        frames = signal[:, : signal.shape[1] // HOP * HOP].unflatten(1, (-1, HOP))
        crossings = (frames[..., 1:].sign() != frames[..., :-1].sign()).float().mean(-1)
        word = (crossings[..., None] - 2 * torch.tensor(PITCHES) / RATE).abs().argmin(-1)
        loudness = frames.square().mean(-1, keepdim=True).clamp(min=1e-12).log()
        codes = torch.cat([torch.nn.functional.one_hot(word, len(WORDS)).float(), loudness], -1)
        codes = codes if self.knows else torch.ones_like(codes)
        return codes if lengths is None else codes * sounding(codes.shape[1], lengths // HOP)[..., None]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Recordings:
    folder = tmp_path_factory.mktemp("judging")
    config = RecordingsConfig(
        path=str(write_corpus(folder / "corpus")),
        pattern=PATTERN,
        labels=("word", "speaker"),
        rate=RATE,
        seconds=0.4,
        cache=str(folder / "cache"),
    )
    return Recordings(config)


@pytest.fixture(scope="module")
def marked(world) -> Recordings:
    """The same world with two segments per clip, labelled by word and half."""
    marks = [((0.0, 0.15, word), (0.15, 0.3, f"{word}'")) for word in words_of(world)]
    other = copy(world)
    setattr(other, "marks", lambda index: [marks[clip] for clip in index.tolist()])  # noqa: B010
    return other


def words_of(world: Recordings) -> list[str]:
    """The word of each clip."""
    return [WORDS[int(word)] for word in world.excerpt(torch.arange(len(world))).factors[:, 0]]


def judged(world: Recordings, knows: bool, config: EvaluationConfig = QUICK, test: float = 0.5) -> dict[str, Any]:
    return probing(Planted(knows), Planted(False), world, split_world(world, 0, test), config, "cpu")


def test_who_knows_is_right_and_who_knows_nothing_is_at_chance(world):
    # Logistic regression, since ridge regression cannot separate six speakers by a single code, the loudness.
    words = replace(QUICK, probe="logistic", frames=True, few_labels=True, abx=True, pooling="mean")
    found = judged(world, True, words)
    own, chance, nothing = found["scores"], found["chance"], found["random"]
    expected = {
        "clips/word", "clips/speaker", "frames/word", "frames/speaker", "retrieval/word", "retrieval/speaker",
        "eer/speaker", "min-dcf/speaker", "abx-within/word", "abx-across/word",
        *(f"few-{count}/{label}" for count in (1, 2) for label in ("word", "speaker")),
    }  # fmt: skip
    assert expected <= set(own) and own.keys() == chance.keys() == found["log_mel"].keys() == nothing.keys()
    assert own["clips/word"] == own["frames/word"] == own["few-1/word"] == 1 and own["clips/speaker"] > 0.9
    assert own["eer/speaker"] < 0.3 and own["abx-within/word"] < 0.05
    for key in ("clips/word", "clips/speaker", "frames/word"):
        assert nothing[key] <= chance[key] + 1e-9
    assert nothing["eer/speaker"] == 0.5 == nothing["abx-within/word"] and nothing["min-dcf/speaker"] == 1
    assert nothing["retrieval/word"] == pytest.approx(chance["retrieval/word"])
    assert chance["clips/word"] == pytest.approx(1 / 3) and chance["few-1/word"] == pytest.approx(1 / 3)
    assert found["details"]["clips/word"]["asked_of"] == "other speakers"
    assert found["details"]["clips/speaker"]["asked_of"] == "other files of the same speakers"
    assert found["notes"] == []


def test_speakers_with_one_file_are_left_out_where_the_speaker_is_predicted(world):
    other = copy(world)
    speaker = world.group(torch.arange(len(world)))
    # All clips of the first two speakers come from one file each.
    single = {one: int(torch.nonzero(speaker == one)[0]) for one in (0, 1)}

    def recording(index: torch.Tensor) -> torch.Tensor:
        return torch.tensor([single.get(int(speaker[clip]), clip) for clip in index.tolist()])

    setattr(other, "recording", recording)  # noqa: B010
    known = corpus(other, split_world(other, 0, 0.5), Planted(True), QUICK, np.random.default_rng(0))
    made, notes = tasks(known, QUICK, np.random.default_rng(0))
    (task,) = [task for task in made if task.key == "clips/speaker"]
    asked = np.concatenate([task.split.train, task.split.test])
    count = int((~torch.isin(speaker, torch.tensor([0, 1]))).sum())
    assert len(np.unique(asked)) == count and len(np.unique(known.group[asked])) == len(np.unique(known.group)) - 2
    assert notes == [
        f"2 of {len(speaker.unique())} speakers have one file only: left out where the speaker is predicted"
    ]


def test_loudness_is_gone_with_the_mean_of_each_clip(world):
    found = judged(world, True, replace(QUICK, frames=True, remove_mean=True))
    assert found["scores"]["frames/speaker"] <= found["chance"]["frames/speaker"] + 0.15


def test_a_single_code_less_its_mean_is_nothing_and_refused(world):
    class Single(Planted):
        def code_lengths(self, lengths: Any) -> Any:
            return lengths.clamp(max=1)

    with pytest.raises(ValueError, match="--remove-mean: every clip has one code alone"):
        probing(
            Single(True),
            Single(False),
            world,
            split_world(world, 0, 0.5),
            replace(QUICK, remove_mean=True),
            "cpu",
        )


def test_a_network_as_probe(world):
    assert judged(world, True, replace(QUICK, probe="mlp", pooling="mean"))["scores"]["clips/word"] == 1


def test_marked_segments_are_asked_frame_by_frame(marked):
    found = judged(marked, True, replace(QUICK, abx=True), 0.2)
    # Both halves of a word sound alike, so at best one of the two is classified correctly.
    assert 0.35 < found["scores"]["frames/segment"] < 0.7
    assert found["details"]["frames/segment"]["asked_of"] == "other speakers"
    assert "abx-within/segment" in found["scores"] and "abx-across/segment" not in found["scores"]
    assert "no ABX of segment across speakers: no two groups of the test split share a label" in found["notes"]


def test_few_labels_of_marked_segments(marked):
    found = judged(marked, True, replace(QUICK, few_labels=True), 0.2)
    expected = {"segments/segment", "few-1/segment", "few-2/segment"}
    assert expected <= found["scores"].keys() == found["log_mel"].keys()
    # Both halves of a word sound alike, so at best one of the two is classified correctly.
    assert all(0.35 < found["scores"][key] < 0.7 for key in ("segments/segment", "few-2/segment"))
    assert found["chance"]["few-1/segment"] == pytest.approx(1 / 6)
    assert "few-labels/segment" in found["curves"] and "segments/segment" not in judged(marked, True)["scores"]


def test_a_label_of_one_value_is_left_out(world):
    """Any code would predict it."""
    other = copy(world)
    setattr(other, "marks", lambda index: [((0.0, 0.15, "call"),)] * len(index))  # noqa: B010
    found = judged(other, True, replace(QUICK, few_labels=True), 0.2)
    assert not any("segment" in key for key in found["scores"])
    assert any(note.startswith("frames/segment is not scored: it does not vary") for note in found["notes"])


@pytest.mark.parametrize("remove", [False, True])
def test_segments_are_pooled_as_clips_are(world, marked, remove):
    """A segment that spans its clip is pooled like the clip."""
    other, index, lengths = copy(world), torch.arange(len(world)), lengths_of(world)
    whole = [((0.0, length / RATE, "all"),) for length in lengths.tolist()]
    extractor = of_learner(Planted(True), world.signal, torch.device("cpu"))
    heard = extract(
        extractor, other, index, lengths, whole, replace(QUICK, remove_mean=remove), None, segments=True
    )
    order = np.argsort(heard.segments.clip)
    np.testing.assert_allclose(heard.segments.rows[order], heard.pooled, atol=1e-6)
    assert set(heard.segments.label) == {"all"}


def test_a_control_takes_the_levels_that_are_better_in_cross_validation(world):
    """Speakers differ in loudness, words in pitch: levels are required for speakers, but removed for words."""
    found = judged(world, True)
    chosen = {key: said["controls"]["log_mel"]["levels"] for key, said in found["details"].items()}
    assert chosen == {"clips/word": "equal levels", "clips/speaker": "levels kept"}
    assert "levels" not in found["details"]["clips/word"]["setting"]


def test_controls_do_not_depend_on_the_learner(world):
    one, other = judged(world, True), judged(world, False)
    assert one["log_mel"] == other["log_mel"] and one["mfcc"] == other["mfcc"]


def test_one_speaker_held_out_can_be_asked_for_words_but_not_verified(world):
    found = judged(world, True, test=0.2)
    assert found["scores"]["clips/word"] == found["scores"]["retrieval/word"] == 1
    assert found["notes"] == ["no speaker is verified: the test split needs two, with two files each"]


def with_unknown(world: Recordings, column: int, values: set[str]) -> Recordings:
    """The same clips, with the label unknown where it is one of `values`."""
    other, factor = copy(world), world.factors[column]
    named = tuple(UNKNOWN if value in values else str(value) for value in factor.values)
    other.factors = tuple(Factor(f.name, named) if f is factor else f for f in world.factors)
    if factor.name == world.group_kind:
        names = tuple(UNKNOWN if name in values else name for name in world.group_names())
        setattr(other, "group_names", lambda: names)  # noqa: B010
    return other


def lengths_of(world: Recordings) -> np.ndarray:
    return world.lengths(torch.arange(len(world))).numpy()


def names_of(world: Recordings, index: torch.Tensor) -> np.ndarray:
    return np.array(world.group_names())[world.group(index).numpy()]


def asked_in_all(found: dict[str, Any], key: str) -> int:
    """Number of clips that a probe is fitted to (finally including the validation clips) and tested on."""
    fitted, _, judged_on = found["details"][key]["rows"]
    return fitted + judged_on


def test_what_is_not_known_is_nothing_that_clips_have_in_common(world):
    names = names_of(world, torch.arange(len(world)))
    test = torch.from_numpy(np.isin(names, ["eve", "flo", "dee"]))
    parts = Split(torch.nonzero(~test)[:, 0], torch.empty(0, dtype=torch.int64), torch.nonzero(test)[:, 0])
    half = with_unknown(world, 1, {"eve", "flo"})
    found = probing(Planted(True), Planted(False), half, parts, replace(QUICK, abx=True), "cpu")
    clips = CLIPS // len(SPEAKERS)
    assert (
        f"{2 * clips} of {CLIPS} clips have no speaker, and are left out where it is predicted" in found["notes"]
    )
    assert asked_in_all(found, "clips/speaker") == 4 * clips
    # Only one speaker of the test split is known: there is nothing to verify or retrieve.
    assert "no speaker is verified: the test split needs two, with two files each" in found["notes"]
    assert not {"eer/speaker", "retrieval/speaker", "abx-across/word"} & set(found["scores"])
    assert found["scores"]["clips/word"] == found["scores"]["retrieval/word"] == 1
    lacking = probing(Planted(True), Planted(False), with_unknown(world, 0, {"gi"}), parts, QUICK, "cpu")
    assert asked_in_all(lacking, "clips/word") == CLIPS * 2 // 3
    assert lacking["chance"]["clips/word"] == 1 / 2


def test_no_group_lies_in_two_parts_of_a_question(world):
    parts = split_world(world, 1, 0.25)
    known = corpus(world, parts, Planted(True), QUICK, np.random.default_rng(0))
    asked, notes = tasks(known, QUICK, np.random.default_rng(0))
    assert notes == [] and [task.key for task in asked] == ["clips/word", "clips/speaker"]
    for task in asked:
        fitted, chosen, tested = (set(task.groups[rows].tolist()) for _, rows in task.split.items())
        assert fitted and tested and not chosen and not fitted & tested
    held_out = set(names_of(world, parts.test))
    assert set(known.group[asked[0].split.test]) == held_out
    assert len(set(known.group[asked[1].split.test])) > 4 and set(known.group[asked[1].split.train]) == set(
        SPEAKERS
    )


def test_with_a_single_group_settings_are_chosen_on_other_files_of_it(world):
    everything = torch.arange(len(world))
    one = world.group(everything) == 0
    known = corpus(
        world,
        Split(everything[one], everything[:0], everything[~one]),
        Planted(True),
        QUICK,
        np.random.default_rng(0),
    )
    asked, _ = tasks(known, QUICK, np.random.default_rng(0))
    train = asked[0].split.train
    parts = list(folds(asked[0].groups, train, 5))
    assert len(parts) == 5 and all(len(fitted) + len(watched) == len(train) for fitted, watched in parts)
    assert not any(set(known.recording[one]) & set(known.recording[other]) for one, other in parts)


def test_clips_without_a_frame_are_left_out_and_large_parts_are_thinned(world):
    class Deaf(Planted):
        def code_lengths(self, lengths):
            return (lengths - 4000).clamp(min=0) // HOP

    parts = split_world(world, 0, 0.5)
    known = corpus(world, parts, Deaf(True), QUICK, np.random.default_rng(0))
    assert 0 < len(known.index) == int((lengths_of(world) >= 4000 + HOP).sum())
    thin = corpus(world, parts, Planted(True), replace(QUICK, max_clips=10), np.random.default_rng(0))
    assert [len(rows) for _, rows in thin.split.items()] == [10, 0, 10]
    assert set(thin.index[thin.split.test].tolist()) <= set(parts.test.tolist())
    train, test = len(parts.train), len(parts.test)
    found = probing(Planted(True), None, world, parts, replace(QUICK, max_clips=10), "cpu")
    said = f"probes are of 10 of {train} train clips, 10 of {test} test clips (--max-clips)"
    assert found["notes"][-1] == said
    assert not subsampled(known, parts, QUICK)


def test_what_is_heard_together_is_heard_as_if_alone(world, monkeypatch):
    monkeypatch.setattr(extraction, "CLIPS", 5)
    index, extractor = torch.arange(len(world)), of_learner(Planted(True), world.signal, torch.device("cpu"))
    marks = [[] for _ in index]
    heard = extract(extractor, world, index, lengths_of(world), marks, replace(QUICK, pooling="mean"), 0.0)
    at = 0
    for clip in np.argsort(lengths_of(world), kind="stable").tolist():
        batch = world.whole(torch.tensor([clip]))
        own = Planted(True).encode(batch.signal)[0].numpy()
        np.testing.assert_allclose(heard.means[clip], own.mean(axis=0), rtol=1e-5)
        rows = heard.clip[at : at + len(own)]
        assert (rows == clip).all()
        np.testing.assert_allclose(heard.frames[at : at + len(own)], own, rtol=1e-5)
        at += len(own)
    assert at == len(heard.frames)


def test_frames_are_taken_from_all_places(world):
    """Sampling the same positions of each clip would reveal where a clip begins, even with its mean removed."""
    index, extractor = torch.arange(len(world)), of_learner(Planted(True), world.signal, torch.device("cpu"))
    heard = extract(extractor, world, index, lengths_of(world), [[] for _ in index], QUICK, 4 / extractor.rate)
    whole = extract(extractor, world, index, lengths_of(world), [[] for _ in index], QUICK, 0.0)
    assert len(heard.frames) == pytest.approx(len(whole.frames) / 4, rel=0.15)
    firsts = [
        (whole.frames[whole.clip == clip][:4] == heard.frames[heard.clip == clip][0]).all(1).argmax()
        for clip in index
    ]
    assert set(map(int, firsts)) == {0, 1, 2, 3}


def test_segments_keep_their_clips_and_labels(marked):
    index, extractor = torch.arange(len(marked)), of_learner(Planted(True), marked.signal, torch.device("cpu"))
    codes, item, label, clip = extract_segments(extractor, marked, index, lengths_of(marked), marked.marks(index))
    assert len(label) == len(clip) == 2 * len(index) and len(codes) == len(item) and (np.diff(item) >= 0).all()
    for one in (0, 7, 40):
        assert label[one].rstrip("'") == words_of(marked)[clip[one]]


@pytest.mark.parametrize("lengths", [[5], [100] * 200, [1, 3_000_000, 3_000_000, 9_000_000, 2]])
def test_batches_hold_every_clip_once_and_not_too_many_samples(lengths):
    blocks = list(batched(np.array(lengths)))
    assert sorted(np.concatenate(blocks).tolist()) == list(range(len(lengths)))
    for block in blocks:
        longest = max(lengths[one] for one in block)
        assert len(block) == 1 or (len(block) <= extraction.CLIPS and len(block) * longest <= extraction.SAMPLES)


def test_a_learner_has_three_controls():
    found = extractors(Planted(True), Planted(False), Signal("wave", (3200,), RATE), "cpu")
    assert list(found) == ["scores", "log_mel", "mfcc", "random"]
    assert [one.setting for one in found["mfcc"]] == ["equal levels", "levels kept"]
    wave, lengths = torch.randn(2, 4000), torch.tensor([4000, 2000])
    widths = {name: one[0].encode(wave, lengths).shape[-1] for name, one in found.items()}
    assert widths == {"scores": 4, "log_mel": 40, "mfcc": 39, "random": 4}


@pytest.mark.parametrize("first", [0.008, 0.03])
def test_tracks_of_codes_are_those_of_the_same_code(first):
    """A code each 16 ms, of which the first has its middle at 30 ms: its own track is the first one."""
    signal = Signal("codes", (12, 3), frame_rate=62.5, frame_first=first)
    codes: Any = SimpleNamespace(code_rate=62.5, code_first=first, encode=None, code_lengths=None)
    tracks, middles = np.arange(12.0)[None, :, None], first + np.arange(12) / 62.5
    some = Encoded(np.array([0]), np.arange(36.0).reshape(1, 12, 3), np.array([12]), tracks, np.array([12]))
    world: Any = SimpleNamespace(signal=signal, track_rate=62.5, tracks=("place",))
    with unchecked():
        learner = of_learner(codes, signal, torch.device("cpu"))
        [control] = extractors(codes, None, signal, "cpu")["input"]
        for one in (learner, control):
            assert one.first == first
            rows, _, mark, track = frames_apart(one, some, [((0.1, 0.2, "a"),)], QUICK, 0.016, world)
            np.testing.assert_array_equal(track[:, 0], rows[:, 0] // 3)
            np.testing.assert_array_equal(mark == "a", (middles >= 0.1) & (middles < 0.2))


def test_what_cannot_be_predicted():
    parts = Split(np.array([0, 1, 2]), np.array([3]), np.array([4, 5]))
    assert unpredictable(np.array(list("abcaab")), parts) == ""
    assert "only one value" in unpredictable(np.array(list("aaaaab")), parts)
    assert "in no other" in unpredictable(np.array(list("abcaxy")), parts)
    assert "test split is empty" in unpredictable(np.array(list("abcaab")), replace(parts, test=np.array([], int)))
    assert retrievable(np.array(list("aabb")), np.array([0, 1, 2, 3]))
    assert not retrievable(np.array(list("aabb")), np.array([0, 0, 1, 1])) and not retrievable(
        np.array(list("aa")), np.arange(2)
    )
    label = np.array(list("aabbab"))
    one, two = np.array([0, 0, 0, 0, 0, 0]), np.array([0, 0, 0, 0, 1, 1])
    assert (
        comparable(label, one, "within")
        and not comparable(label, one, "across")
        and comparable(label, two, "across")
    )
    assert not comparable(np.array(list("aaa")), np.arange(3), "across")
