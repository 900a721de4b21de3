"""Records of training: metrics that survive damage, and event files that TensorBoard's own reader loads."""

import json

import numpy as np
import pytest
from full_disk import no_room_beyond
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sonarium.training.journal import Journal, read_metrics


def test_resuming_forgets_what_came_later_and_what_was_cut_short(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss/total": 1 / step}) for step in (10, 20, 30)]
    path.write_bytes("\n".join(lines).encode() + b'\n{"step": 40, "loss/to')
    assert [record["step"] for record in read_metrics(path)] == [10, 20, 30]
    journal = Journal(tmp_path, resumed_from=20)
    assert path.read_text() == "\n".join(lines[:2]) + "\n"
    journal.scalars(30, {"loss/total": 1 / 30})
    journal.close()
    assert path.read_text() == "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "damage", [b"\xff\x00", b"null", b"3", b'{"loss": 1}', b'{"step": "x"}', b"", b"[" * 99_999]
)
def test_a_damaged_line_takes_no_other_with_it(tmp_path, damage):
    (tmp_path / "m").write_bytes(b'{"step": 1}\n' + damage + b'\n{"step": 2}\n')
    assert read_metrics(tmp_path / "m") == [{"step": 1}, {"step": 2}]
    assert read_metrics(tmp_path / "none") == []


def test_tensorboard_gets_numbers_pictures_and_sounds(tmp_path):
    journal = Journal(tmp_path, 0)
    journal.scalars(5, {"loss/total": 2.5})
    journal.speed(5, 100.0, "clips")
    journal.picture(5, "a picture", np.zeros((4, 6, 3), np.uint8))
    journal.sound(5, "a sound", np.zeros(100, np.float32), 8000)
    journal.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/total")] == [(5, 2.5)]
    assert events.Scalars("speed/clips_per_second")[0].value == 100
    assert (events.Images("a picture")[0].height, events.Images("a picture")[0].width) == (4, 6)
    assert events.Audio("a sound")[0].sample_rate == 8000
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 5, "loss/total": 2.5}


def fill(folder):
    journal = Journal(folder, 0)
    try:
        for step in range(1, 1000):
            journal.scalars(step, {"loss/total": 1.0, "loss/error": 2.0})
            journal.sync()
    finally:
        journal.close()


@pytest.mark.parametrize("room", [0, 40, 100, 500, 2000])
def test_a_full_disk_is_one_clear_error_and_no_noise_of_threads(tmp_path, room, capfd):
    refused = pytest.raises(OSError, match=r"cannot write '.*(metrics.jsonl|tensorboard)' \(File too large\)")
    with refused, no_room_beyond(room):
        fill(tmp_path)
    assert capfd.readouterr().err == ""
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))


def test_the_clock_goes_on_where_a_training_resumes(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("sonarium.training.journal.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("sonarium.training.journal.time.process_time", lambda: now[0] / 2)
    journal = Journal(tmp_path, 0)
    for step in (1, 2, 3):
        assert journal.clock is not None
        journal.clock.items += 8
        now[0] += 3
        journal.tick(step)
        # The time that validation takes is not counted.
        now[0] += 50
        journal.clock.go()
    journal.close()
    expected = [{"step": step, "items": 8 * step, "wall_s": 3 * step, "cpu_s": 1.5 * step} for step in (1, 2, 3)]
    assert read_metrics(tmp_path / "clock.jsonl") == expected
    now[0] += 1000
    journal = Journal(tmp_path, 2)
    assert journal.clock is not None and journal.clock.items == 16
    journal.clock.items += 8
    now[0] += 4
    journal.tick(3)
    journal.close()
    assert read_metrics(tmp_path / "clock.jsonl") == [
        *expected[:2],
        {"step": 3, "items": 24, "wall_s": 10, "cpu_s": 5},
    ]


def test_a_run_whose_beginning_was_not_timed_has_no_clock(tmp_path):
    journal = Journal(tmp_path, 5)
    assert journal.clock is None
    journal.tick(6)
    journal.close()
    assert read_metrics(tmp_path / "clock.jsonl") == []
