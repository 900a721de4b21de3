"""The run folder: round trips, detection of damage, and which checkpoints are kept."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import no_room_beyond
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonarium.training import run as module
from sonarium.training.run import (
    KEPT,
    MARK,
    MARKED,
    RunFolder,
    damage,
    difference,
    digest,
    restore_weights,
)

COLD = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same_as_recorded(config: dict) -> dict:
    return config


def fault(checkpoint: Path) -> str | None:
    return damage(checkpoint, checkpoint.parents[1], set())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run with two intact checkpoints."""
    run = RunFolder.create(tmp_path_factory.mktemp("trained") / "run", {"model": "none"}, same_as_recorded)
    for step in (5, 10):
        run.save(
            step, {"w": torch.full((7,), float(step))}, {"parts": {}, "random": torch.arange(9), "count": step}
        )
    return run.folder


@COLD
@given(data=st.data())
def test_any_changed_byte_of_the_newest_checkpoint_is_noticed(trained, tmp_path, data):
    name = data.draw(st.sampled_from([MARK, *sorted(MARKED)]))
    content = bytearray((trained / "checkpoints" / "step-10" / name).read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    cut = data.draw(st.booleans())
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    shutil.copytree(trained, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "step-10"
    content[where] ^= flip
    changed = bytes(content[:where]) if cut else bytes(content)
    (newest / name).write_bytes(changed)
    if (
        name == MARK
        and not cut
        and json_or_none(changed) == json.loads((trained / "checkpoints/step-10" / MARK).read_text())
    ):
        return  # A space in place of a newline does not change the marks.
    run = RunFolder.read(tmp_path / "run")
    saved = run.load()
    assert saved is not None and saved[0] == 5
    assert torch.equal(saved[1]["w"], torch.full((7,), 5.0)) and saved[2]["count"] == 5
    assert len(run.passed_over) == 1 and "step-10 is not whole" in run.passed_over[0]


def json_or_none(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


@pytest.mark.parametrize("name", [MARK, *sorted(MARKED)])
def test_a_missing_file_or_a_folder_in_its_place_is_noticed(trained, tmp_path, name):
    shutil.copytree(trained / "checkpoints" / "step-10", tmp_path / "step-10")
    (tmp_path / "step-10" / name).unlink()
    assert fault(tmp_path / "step-10") == f"{name} is missing"
    (tmp_path / "step-10" / name).mkdir()
    assert f"{name} cannot be read" in str(fault(tmp_path / "step-10"))


@pytest.mark.parametrize("marks", ["{}", "[]", "3", "null", '{"weights.safetensors": "0"}', "[" * 100_000])
def test_marks_that_do_not_name_all_files_mark_nothing(trained, tmp_path, marks):
    shutil.copytree(trained / "checkpoints" / "step-10", tmp_path / "step-10")
    (tmp_path / "step-10" / MARK).write_text(marks)
    assert fault(tmp_path / "step-10") is not None
    assert fault(trained / "checkpoints" / "step-10") is None


def test_only_the_newest_whole_checkpoints_are_kept(tmp_path):
    run = RunFolder.create(tmp_path / "run", {}, same_as_recorded)
    for step in range(1, 5):
        run.save(step, {"w": torch.zeros(1)}, {})
    (tmp_path / "run/checkpoints/step-4/weights.safetensors").write_bytes(b"")
    (tmp_path / "run/checkpoints/step-nine").mkdir()
    # Read the folder again, as resumed training does.
    run = RunFolder.read(tmp_path / "run")
    run.save(5, {"w": torch.zeros(1)}, {})
    assert [path.name for path in run.checkpoints()] == ["step-5", "step-4", "step-3"]
    run.save(6, {"w": torch.zeros(1)}, {})
    assert [path.name for path in run.checkpoints()] == ["step-6", "step-5", "step-4"]
    assert [path.name for path in run.checkpoints() if fault(path) is None] == ["step-6", "step-5"]
    assert KEPT == 2


def test_a_checkpoint_is_hashed_once(tmp_path, monkeypatch):
    run = RunFolder.create(tmp_path / "run", {}, same_as_recorded)
    for step in (1, 2):
        run.save(
            step,
            {"w": torch.zeros(1)},
            {"parts": {"replay": run.segments("replay").append({"a": np.arange(step)})}},
        )
    hashed: list[str] = []
    monkeypatch.setattr(module, "digest", lambda path: hashed.append(path.name) or digest(path))
    resumed = RunFolder.read(tmp_path / "run")
    saved = resumed.load()
    assert saved is not None
    read = {*MARKED, saved[2]["parts"]["replay"].path.name}
    assert set(hashed) == read and len(hashed) == len(read)
    for step in (3, 4, 5):
        hashed.clear()
        resumed.save(step, saved[1], saved[2])
        assert sorted(hashed) == sorted(MARKED), "only what was just written"


@COLD
@given(room=st.integers(0, 3000))
def test_a_disk_that_fills_while_saving_leaves_the_earlier_checkpoint(trained, tmp_path, room):
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    shutil.copytree(trained, tmp_path / "run")
    run = RunFolder.read(tmp_path / "run")
    large = {"w": torch.zeros(1000)}
    with no_room_beyond(room), pytest.raises(OSError, match="could not save the checkpoint of step 15"):
        run.save(15, large, {"parts": {}, "more": torch.zeros(1000)})
    assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == ["step-10", "step-5"]
    saved = run.load()
    assert saved is not None and saved[0] == 10
    run.save(15, large, {"parts": {}, "more": torch.zeros(1000)})
    saved = run.load()
    assert saved is not None and saved[0] == 15


def test_a_changed_configuration_is_refused_with_the_difference(tmp_path):
    config = {"model": "vae", "fit": {"seed": 0, "test": 0.2}, "waves": ("sine", "square")}
    run = RunFolder.create(tmp_path / "run", config, same_as_recorded)
    assert RunFolder.create(tmp_path / "run", config, same_as_recorded).config == run.config
    changed = {"model": "vae", "fit": {"seed": 1, "test": 0.2, "more": 1}, "waves": ("sine",)}
    with pytest.raises(ValueError, match="holds a run of another configuration") as refusal:
        RunFolder.create(tmp_path / "run", changed, same_as_recorded)
    assert "fit.seed: 0 in the folder, 1 now; fit.more: 'absent' in the folder, 1 now; waves: " in str(
        refusal.value
    )


def test_difference_names_what_was_taken_away_and_nothing_else():
    assert difference({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {}}) == ["b.c: 2 in the folder, 'absent' now"]
    assert difference({"a": {"b": 1}}, {"a": {"b": 1}}) == []
    assert difference({"a": {"b": 1}}, {"a": 1}) == ["a: {'b': 1} in the folder, 1 now"]


def test_folders_that_are_no_run_are_left_alone(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / ".config.json.123.partial").touch()
    with pytest.raises(ValueError, match="is a file"):
        RunFolder.create(tmp_path / "file", {}, same_as_recorded)
    with pytest.raises(ValueError, match="is not a run folder"):
        RunFolder.create(tmp_path / "full", {}, same_as_recorded)
    with pytest.raises(ValueError, match="is not a run folder"):
        RunFolder.read(tmp_path / "full")
    # Files that a killed process left half-written do not count.
    assert RunFolder.create(tmp_path / "left", {"a": 1}, same_as_recorded).config == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"3", b"[" * 100_000])
def test_a_damaged_configuration_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json' is damaged"):
        RunFolder.read(tmp_path)


def test_two_trainings_in_one_folder_are_refused_and_leftovers_swept(tmp_path):
    run = RunFolder.create(tmp_path / "run", {}, same_as_recorded)
    (tmp_path / "run" / "checkpoints" / ".step-3.partial").mkdir(parents=True)
    (tmp_path / "run" / ".metrics.jsonl.12.partial").touch()
    (tmp_path / "run" / ".scores.json.12.partial").touch()
    with run.locked():
        assert not list((tmp_path / "run" / "checkpoints").iterdir())
        assert [path.name for path in (tmp_path / "run").glob("*.partial")] == [".scores.json.12.partial"]
        with (
            pytest.raises(ValueError, match="another process is training"),
            RunFolder.read(tmp_path / "run").locked(),
        ):
            pass
    with run.locked():
        pass


def test_weights_of_another_form_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"the weights in 'x' do not fit .*size mismatch.*new run folder"):
        restore_weights(torch.nn.Linear(2, 3), torch.nn.Linear(3, 3).state_dict(), "'x'")
