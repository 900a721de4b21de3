"""State in files: round trips of all kinds of state; segments are written once and kept while referenced."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from full_disk import no_room_beyond
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonarium.training.run import RunFolder
from sonarium.training.state import KINDS, FileSegment, pack, segments_in, unpack

COLD = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
TENSORS = st.builds(
    lambda values, kind: torch.tensor(values).to(kind),
    st.lists(st.integers(-100, 100), max_size=4),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.int64, torch.bool]),
)
ARRAYS = st.builds(
    lambda values, kind: np.array(values).astype(kind),
    st.lists(st.integers(-100, 100), max_size=4) | st.integers(0, 3),
    st.sampled_from([np.float32, np.float64, np.float16, np.int8, np.uint16, np.uint32, np.uint64, np.bool_]),
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
NAMES = st.text("abc_", min_size=1, max_size=3)
KEYS = NAMES | st.integers(-3, 3)
TREES = st.recursive(
    LEAVES | TENSORS | ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)


def create(folder: Path) -> RunFolder:
    return RunFolder.create(folder, {}, lambda config: config)


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and bool(one.dtype == other.dtype) and np.array_equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return one == other and type(one) is type(other)


@COLD
@given(tree=st.dictionaries(NAMES, TREES))
def test_a_saved_state_is_loaded_as_it_was(tmp_path, tree):
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    run = create(tmp_path / "run")
    state = {"parts": {}, "tree": tree}
    run.save(3, {"w": torch.arange(3.0)}, state)
    saved = run.load()
    assert saved is not None
    assert saved[0] == 3 and torch.equal(saved[1]["w"], torch.arange(3.0))
    assert same(state, saved[2])


def packed_and_back(tree: Any, root: Path) -> Any:
    tensors: dict[str, torch.Tensor] = {}
    return unpack(json.loads(json.dumps(pack(tree, tensors, root))), tensors, root)


def test_tensors_that_share_memory_are_saved_apart(tmp_path):
    shared = torch.arange(4.0)
    tensors: dict[str, torch.Tensor] = {}
    packed = pack({"a": shared, "b": [shared[1:], shared.reshape(2, 2).T]}, tensors, tmp_path)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 3
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    there = unpack(json.loads(json.dumps(packed)), tensors, tmp_path)
    assert torch.equal(there["b"][1], torch.tensor([[0.0, 2], [1, 3]]))


def test_names_that_would_be_mistaken_are_refused(tmp_path):
    with pytest.raises(AssertionError, match="two tensors"):
        pack({"a": {"b": torch.zeros(1)}, "a/b": torch.zeros(1)}, {}, tmp_path)
    for reserved in ("tensor", "$array", "$generator", "$segment", "$pairs"):
        with pytest.raises(AssertionError, match=f"{re.escape(reserved)}'.*which is reserved"):
            pack({"a": {reserved: "x"}}, {}, tmp_path)
    # Next to other keys, it is an ordinary name.
    assert packed_and_back({"tensor": 1, "b": 2}, tmp_path) == {"tensor": 1, "b": 2}


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
@pytest.mark.parametrize("drawn", [0, 3])
def test_generators_of_every_kind_go_on_where_they_stood(tmp_path, kind, drawn):
    generator = np.random.Generator(getattr(np.random, kind)(7))
    generator.integers(10, size=drawn, dtype=np.int32)
    run = create(tmp_path / "run")
    run.save(1, {}, {"parts": {"random": generator}})
    saved = run.load()
    assert saved is not None
    again = saved[2]["parts"]["random"]
    assert type(again.bit_generator) is type(generator.bit_generator)
    # Draws of 32 bits leave half of a 64-bit draw buffered, which must be restored, too.
    for _ in range(3):
        assert np.array_equal(
            again.integers(99, size=3, dtype=np.int32), generator.integers(99, size=3, dtype=np.int32)
        )
        assert np.array_equal(again.normal(size=3), generator.normal(size=3))


def test_tuples_come_back_as_lists_and_numbers_of_numpy_as_those_of_python(tmp_path):
    tree = {"a": (1, (2.5, None)), 3: np.float64(0.5), -1: np.int64(4), "b": {0: {1: np.bool_(True)}}}
    assert packed_and_back(tree, tmp_path) == {"a": [1, [2.5, None]], 3: 0.5, -1: 4, "b": {0: {1: True}}}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"a": [object()]}, "the state at /a/0 is a object"),
        ({"a": {1, 2}}, "the state at /a is a set"),
        ({"a": lambda: 0}, "the state at /a is a function"),
        ({"a": np.array(["x"])}, "the state at /a is an array of <U1"),
        ({"a": np.array([None])}, "the state at /a is an array of object"),
        ({"a": {(1, 2): 3}}, "the state at /a has a tuple as a key"),
        ({"a": np.random.RandomState(0)}, "the state at /a is a RandomState"),
    ],
)
def test_what_no_checkpoint_can_keep_is_named(tmp_path, wrong, said):
    run = create(tmp_path / "run")
    with pytest.raises(TypeError, match=f"{said}, which no checkpoint can keep: give tensors, arrays, numbers"):
        run.save(1, {}, wrong)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return create(tmp_path / "run")


def files(run: RunFolder) -> set[str]:
    return {path.name for path in (run.folder / "segments").glob("*/*")}


@COLD
@given(arrays=st.dictionaries(NAMES, ARRAYS, min_size=1))
def test_a_segment_is_mapped_as_it_was_written(tmp_path, arrays):
    segment = create(tmp_path / "run").segments("replay").append(arrays)
    assert segment.bytes == segment.path.stat().st_size
    for name, array in segment.load().items():
        assert array.dtype == arrays[name].dtype and np.array_equal(array, arrays[name])
    assert segment.load().keys() == arrays.keys()


def test_a_segment_has_one_name_on_every_system():
    class Windows(type(Path())):
        def __str__(self):
            return self.as_posix().replace("/", "\\")

        def as_posix(self):
            return super().__str__()

        def exists(self):
            return True

    name, root = f"segments/replay/{'0' * 32}.safetensors", Windows("run")
    assert str(root / name).startswith("run\\segments\\replay")
    packed = pack(FileSegment(root / "segments" / "replay" / Path(name).name, "abc", 8), {}, root)
    assert list(segments_in(packed)) == [(name, "abc", 8, False)]


def test_all_types_of_numbers_that_segments_hold_are_mapped(run):
    for kind in KINDS.values():
        given_array = np.zeros((2, 3), kind)
        assert run.segments("replay").append({"a": given_array}).load()["a"].dtype == given_array.dtype


def test_a_segment_is_written_once_and_referred_to_by_each_checkpoint(run):
    replay = run.segments("replay")
    first = replay.append({"reward": np.arange(5.0)})
    before = first.path.stat().st_mtime_ns, first.path.stat().st_ino
    run.save(1, {}, {"parts": {"replay": [first]}})
    assert replay.append({"reward": np.arange(5.0)}) == first
    second = replay.append({"reward": np.arange(6.0)})
    run.save(2, {}, {"parts": {"replay": [first, second]}})
    assert (first.path.stat().st_mtime_ns, first.path.stat().st_ino) == before
    saved = RunFolder.read(run.folder).load()
    assert saved is not None and saved[2]["parts"]["replay"] == [first, second]
    assert np.array_equal(saved[2]["parts"]["replay"][1].load()["reward"], np.arange(6.0))


def test_only_segments_that_no_kept_checkpoint_refers_to_are_removed(run):
    replay, other = run.segments("replay"), run.segments("other").append({"a": np.arange(9)})
    segments = [replay.append({"a": np.arange(1)})]
    for step in range(1, 4):
        segments.append(replay.append({"a": np.arange(step + 1)}))
        # The oldest segment is dropped, as from a full replay.
        run.save(step, {}, {"parts": {"replay": segments[step - 1 : step + 1], "nested": {0: (other,)}}})
        kept = segments[max(step - 2, 0) : step + 1]
        assert files(run) == {segment.path.name for segment in [*kept, other]}
    with pytest.raises(AssertionError, match="was removed, for the last checkpoints did not refer to it"):
        run.save(4, {}, {"parts": {"replay": segments}})


def damaged(segment: FileSegment) -> Iterator[str]:
    content = segment.path.read_bytes()
    segment.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    yield "differs from its checksum"
    segment.path.write_bytes(content[:-1])
    yield "differs from its checksum"
    segment.path.unlink()
    yield "is missing"


def test_a_damaged_segment_is_named_and_the_checkpoint_before_it_taken(run):
    replay = run.segments("replay")
    first = replay.append({"a": np.arange(3)})
    run.save(1, {}, {"parts": {"replay": [first]}})
    second = replay.append({"a": np.arange(4)})
    run.save(2, {}, {"parts": {"replay": [first, second]}})
    for how in damaged(second):
        again = RunFolder.read(run.folder)
        saved = again.load()
        assert saved is not None and saved[0] == 1 and saved[2]["parts"]["replay"] == [first]
        [said] = again.passed_over
        assert "step-2 is not whole" in said and second.path.name in said and how in said


def test_a_checkpoint_is_whole_without_a_damaged_optional_segment(run):
    arrays = {"a": np.arange(3)}
    segment = run.segments("replay").append(arrays, optional=True)
    run.save(1, {}, {"parts": {"replay": [segment]}})
    for how in damaged(segment):
        again = RunFolder.read(run.folder)
        saved = again.load()
        assert saved is not None and again.passed_over == []
        assert again.left_out == [f"segments/replay/{segment.path.name} {how}"]
        assert [one.fault for one in saved[2]["parts"]["replay"]] == [how]
        # Appending the same arrays again repairs it.
        assert run.segments("replay").append(arrays, optional=True) == segment
        again = RunFolder.read(run.folder)
        assert again.load() is not None and again.left_out == []
        segment.path.write_bytes(segment.path.read_bytes())


def test_what_was_appended_after_the_last_checkpoint_is_removed_at_the_next(run):
    first = run.segments("replay").append({"a": np.arange(3)})
    run.save(1, {}, {"parts": {"replay": [first]}})
    lost = run.segments("replay").append({"a": np.arange(4)})
    # Killed here: resumed training does not know of the segment.
    again = RunFolder.read(run.folder)
    with again.locked():
        saved = again.load()
        assert saved is not None and saved[2]["parts"]["replay"] == [first]
        assert lost.path.exists()
        again.save(2, {}, saved[2])
    assert files(run) == {first.path.name}


def test_half_written_segments_are_swept(run):
    whole = run.segments("replay").append({"a": np.arange(3)})
    half = whole.path.with_name(f".{whole.path.name}.partial")
    half.write_bytes(b"half")
    with run.locked():
        assert files(run) == {whole.path.name}


def test_a_full_disk_leaves_no_half_segment_for_whole(run):
    with no_room_beyond(1000), pytest.raises(OSError, match=r"cannot write .*resumes from the last checkpoint"):
        run.segments("replay").append({"a": np.zeros(1000)})
    assert not [name for name in files(run) if not name.startswith(".")]
    assert run.segments("replay").append({"a": np.zeros(1000)}).path.exists()
