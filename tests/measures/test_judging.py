"""Judging frames: codes that tell a label get it right, codes that tell nothing get what chance gives, and what
is asked of whom is as it says."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from corpus import CLIPS, PATTERN, PITCHES, RATE, SPEAKERS, WORDS, write_corpus

from sonarium.evaluation import extraction as hearing
from sonarium.evaluation.config import JudgingConfig
from sonarium.evaluation.extraction import batched, ears, hear, hear_segments, listening
from sonarium.evaluation.judging import askable, findable, judge
from sonarium.evaluation.tasks import corpus, questions, unanswerable
from sonarium.features.waveform import sounding
from sonarium.measures.probes.parts import Parts
from sonarium.worlds.contract import Factor, Split, split
from sonarium.worlds.recordings.listing import UNKNOWN
from sonarium.worlds.recordings.world import Recordings, RecordingsConfig

HOP = 200
QUICK = JudgingConfig()


class Planted:
    """Codes that tell how often the wave crosses zero (the word) and how loud it is (the speaker), or nothing."""

    code_rate, code_first = RATE / HOP, HOP / 2 / RATE

    def __init__(self, knows: bool):
        self.knows = knows

    def code_lengths(self, lengths: Any) -> Any:
        return lengths // HOP

    def encode(self, wave: Any, lengths: Any = None, *, power: Any = None) -> Any:
        frames = wave[:, : wave.shape[1] // HOP * HOP].unflatten(1, (-1, HOP))
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
    """The same with two marked segments in each clip, named after its word and half."""
    other = world.excerpts()
    other.whole = True
    words = [WORDS[int(code)] for code in world.causes[:, 0]]
    other.marks = tuple(((0.0, 0.15, word), (0.15, 0.3, f"{word}'")) for word in words)
    return other


def judged(world: Recordings, knows: bool, config: JudgingConfig = QUICK, test: float = 0.5) -> dict[str, Any]:
    return judge(Planted(knows), Planted(False), world, split(world, 0, test), config, 0, "cpu")


def test_who_knows_is_right_and_who_knows_nothing_is_at_chance(world):
    found = judged(world, True, replace(QUICK, frames=True, few_labels=True, abx=True, pooling="mean"))
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


def test_loudness_is_gone_with_the_mean_of_each_clip(world):
    found = judged(world, True, replace(QUICK, frames=True, remove_mean=True))
    assert found["scores"]["frames/speaker"] <= found["chance"]["frames/speaker"] + 0.15


def test_a_single_code_less_its_mean_is_nothing_and_refused(world):
    class Single(Planted):
        def code_lengths(self, lengths: Any) -> Any:
            return lengths.clamp(max=1)

    with pytest.raises(ValueError, match="--remove-mean: every clip has one code alone"):
        judge(Single(True), Single(False), world, split(world, 0, 0.5), replace(QUICK, remove_mean=True), 0, "cpu")


def test_a_network_as_probe(world):
    assert judged(world, True, replace(QUICK, probe="mlp", pooling="mean"))["scores"]["clips/word"] == 1


def test_marked_segments_are_asked_frame_by_frame(marked):
    found = judged(marked, True, replace(QUICK, abx=True), 0.2)
    # Both halves of a word sound alike, so that at best one of the two is right.
    assert 0.35 < found["scores"]["frames/segment"] < 0.7
    assert found["details"]["frames/segment"]["asked_of"] == "other speakers"
    assert "abx-within/segment" in found["scores"] and "abx-across/segment" not in found["scores"]
    assert "no ABX of segment across speakers: no two groups of the test part share a label" in found["notes"]


def test_one_speaker_held_out_can_be_asked_for_words_but_not_verified(world):
    found = judged(world, True, test=0.2)
    assert found["scores"]["clips/word"] == found["scores"]["retrieval/word"] == 1
    assert found["notes"] == ["no speaker is verified: the test part needs two, with two files each"]


def with_unknown(world: Recordings, column: int, values: set[str]) -> Recordings:
    """The same clips, of which some lack a label."""
    other, factor = world.entire(), world.factors[column]
    named = tuple(UNKNOWN if value in values else str(value) for value in factor.values)
    other.factors = tuple(Factor(f.name, named) if f is factor else f for f in world.factors)
    if factor.name == world.group_name:
        other.group_names = tuple(UNKNOWN if name in values else name for name in world.group_names)
    return other


def asked_in_all(found: dict[str, Any], key: str) -> int:
    """Clips that a probe was fitted on, at last with those that it was chosen by, and judged on."""
    fitted, _, judged_on = found["details"][key]["rows"]
    return fitted + judged_on


def test_what_is_not_known_is_nothing_that_clips_have_in_common(world):
    names = np.array(world.group_names)[world.groups]
    test = torch.from_numpy(np.isin(names, ["eve", "flo", "dee"]))
    parts = Split(torch.nonzero(~test)[:, 0], torch.empty(0, dtype=torch.int64), torch.nonzero(test)[:, 0])
    half = with_unknown(world, 1, {"eve", "flo"})
    found = judge(Planted(True), Planted(False), half, parts, replace(QUICK, abx=True), 0, "cpu")
    clips = CLIPS // len(SPEAKERS)
    assert f"{2 * clips} of {CLIPS} clips have no speaker, and are not asked for it" in found["notes"]
    assert asked_in_all(found, "clips/speaker") == 4 * clips
    # In the test part only one speaker is known: nobody to verify, and nobody to find.
    assert "no speaker is verified: the test part needs two, with two files each" in found["notes"]
    assert not {"eer/speaker", "retrieval/speaker", "abx-across/word"} & set(found["scores"])
    assert found["scores"]["clips/word"] == found["scores"]["retrieval/word"] == 1
    lacking = judge(Planted(True), Planted(False), with_unknown(world, 0, {"gi"}), parts, QUICK, 0, "cpu")
    assert asked_in_all(lacking, "clips/word") == CLIPS * 2 // 3
    assert lacking["chance"]["clips/word"] == 1 / 2


def test_no_group_lies_in_two_parts_of_a_question(world):
    parts = split(world, 1, 0.25)
    known = corpus(world, parts, Planted(True), QUICK, np.random.default_rng(0))
    asked, notes = questions(known, QUICK, np.random.default_rng(0))
    assert notes == [] and [question.key for question in asked] == ["clips/word", "clips/speaker"]
    for question in asked:
        sides = [set(question.groups[rows].tolist()) for _, rows in question.parts.items()]
        assert all(sides) and not sides[0] & sides[1] and not (sides[0] | sides[1]) & sides[2]
    held_out = set(np.array(world.group_names)[world.group(parts.test).numpy()])
    assert set(known.group[asked[0].parts.test]) == held_out
    assert set(known.group[asked[1].parts.test]) == set(SPEAKERS)


def test_a_single_group_to_learn_from_lends_files_to_choose_on(world):
    everything = torch.arange(len(world))
    one = world.group(everything) == 0
    known = corpus(
        world,
        Split(everything[one], everything[:0], everything[~one]),
        Planted(True),
        QUICK,
        np.random.default_rng(0),
    )
    asked, _ = questions(known, QUICK, np.random.default_rng(0))
    train, validation = asked[0].parts.train, asked[0].parts.validation
    assert len(train) and len(validation) and not set(known.file[train]) & set(known.file[validation])


def test_clips_without_a_frame_are_left_out_and_large_parts_are_thinned(world):
    class Deaf(Planted):
        def code_lengths(self, lengths):
            return (lengths - 4000).clamp(min=0) // HOP

    parts = split(world, 0, 0.5)
    known = corpus(world, parts, Deaf(True), QUICK, np.random.default_rng(0))
    assert 0 < len(known.index) == int((world.lengths >= 4000 + HOP).sum())
    thin = corpus(world, parts, Planted(True), replace(QUICK, most_clips=10), np.random.default_rng(0))
    assert [len(rows) for _, rows in thin.parts.items()] == [10, 0, 10]
    assert set(thin.index[thin.parts.test].tolist()) <= set(parts.test.tolist())


def test_what_is_heard_together_is_heard_as_if_alone(world, monkeypatch):
    monkeypatch.setattr(hearing, "CLIPS", 5)
    index, ear = torch.arange(len(world)), listening(Planted(True), RATE, torch.device("cpu"))
    marks = [[] for _ in index]
    heard = hear(ear, world, index, world.lengths.numpy(), marks, replace(QUICK, pooling="mean"), 0.0)
    at = 0
    for clip in np.argsort(world.lengths.numpy(), kind="stable").tolist():
        batch = world.whole(torch.tensor([clip]))
        own = Planted(True).encode(batch.signal)[0].numpy()
        np.testing.assert_allclose(heard.whole[clip], own.mean(axis=0), rtol=1e-5)
        rows = heard.clip[at : at + len(own)]
        assert (rows == clip).all()
        np.testing.assert_allclose(heard.frames[at : at + len(own)], own, rtol=1e-5)
        at += len(own)
    assert at == len(heard.frames)


def test_frames_are_taken_from_all_places(world):
    """Taking the same places of each clip would tell where a clip begins, even with its mean removed."""
    index, ear = torch.arange(len(world)), listening(Planted(True), RATE, torch.device("cpu"))
    heard = hear(ear, world, index, world.lengths.numpy(), [[] for _ in index], QUICK, 4 / ear.rate)
    whole = hear(ear, world, index, world.lengths.numpy(), [[] for _ in index], QUICK, 0.0)
    assert len(heard.frames) == pytest.approx(len(whole.frames) / 4, rel=0.15)
    firsts = [
        (whole.frames[whole.clip == clip][:4] == heard.frames[heard.clip == clip][0]).all(1).argmax()
        for clip in index
    ]
    assert set(map(int, firsts)) == {0, 1, 2, 3}


def test_segments_keep_their_clips_and_labels(marked):
    index, ear = torch.arange(len(marked)), listening(Planted(True), RATE, torch.device("cpu"))
    codes, item, label, clip = hear_segments(ear, marked, index, marked.lengths.numpy(), marked.segments(index))
    assert len(label) == len(clip) == 2 * len(index) and len(codes) == len(item) and (np.diff(item) >= 0).all()
    for one in (0, 7, 40):
        assert label[one].rstrip("'") == WORDS[int(marked.causes[clip[one], 0])]


@pytest.mark.parametrize("lengths", [[5], [100] * 200, [1, 3_000_000, 3_000_000, 9_000_000, 2]])
def test_batches_hold_every_clip_once_and_not_too_many_samples(lengths):
    blocks = list(batched(np.array(lengths)))
    assert sorted(np.concatenate(blocks).tolist()) == list(range(len(lengths)))
    for block in blocks:
        longest = max(lengths[one] for one in block)
        assert len(block) == 1 or (len(block) <= hearing.CLIPS and len(block) * longest <= hearing.SAMPLES)


def test_ears_are_the_learner_and_three_controls():
    found = ears(Planted(True), Planted(False), RATE, "cpu")
    assert list(found) == ["scores", "log_mel", "mfcc", "random"]
    wave, lengths = torch.randn(2, 4000), torch.tensor([4000, 2000])
    widths = {name: ear.encode(wave, lengths).shape[-1] for name, ear in found.items()}
    assert widths == {"scores": 4, "log_mel": 40, "mfcc": 39, "random": 4}


def test_what_cannot_be_asked():
    parts = Parts(np.array([0, 1, 2]), np.array([3]), np.array([4, 5]))
    assert unanswerable(np.array(list("abcaab")), parts) == ""
    assert "only one value" in unanswerable(np.array(list("aaaaab")), parts)
    assert "in no other" in unanswerable(np.array(list("abcaxy")), parts)
    assert "validation part is empty" in unanswerable(
        np.array(list("abcaab")), replace(parts, validation=np.array([], int))
    )
    assert findable(np.array(list("aabb")), np.array([0, 1, 2, 3]))
    assert not findable(np.array(list("aabb")), np.array([0, 0, 1, 1])) and not findable(
        np.array(list("aa")), np.arange(2)
    )
    label = np.array(list("aabbab"))
    one, two = np.array([0, 0, 0, 0, 0, 0]), np.array([0, 0, 0, 0, 1, 1])
    assert askable(label, one, "within") and not askable(label, one, "across") and askable(label, two, "across")
    assert not askable(np.array(list("aaa")), np.arange(3), "across")


@pytest.mark.parametrize(
    "changed", [{"most_clips": 3}, {"most_frames": 0}, {"remove_mean": True, "pooling": "mean"}]
)
def test_impossible_settings_are_refused(changed):
    with pytest.raises(ValueError, match="--"):
        JudgingConfig(**changed)
