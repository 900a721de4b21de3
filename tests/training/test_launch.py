"""Start, supervision and end of processes, and the error message for one that failed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sonarium_process import ENVIRONMENT, Forked, fork, without_progress

from sonarium.commands.train import explain
from sonarium.training import launch as module
from sonarium.training.journal import read_metrics
from sonarium.training.launch import (
    LAUNCHER,
    LOST,
    Failed,
    Started,
    blamed,
    end_with_launcher,
    passing_on,
    started,
    watch,
)
from sonarium.training.run import step_of

NAMES = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES")
SRUN = {"SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "3", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0"}


@pytest.fixture
def environment(monkeypatch):
    for name in (*NAMES, "SLURM_STEP_ID", LAUNCHER):
        monkeypatch.delenv(name, raising=False)

    def put(values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({}, Started("itself", 1, 1)),
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}, Started("torchrun", 2, 1)),
        ({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, Started("torchrun", 4, 2)),
        # torchrun inside an allocation of Slurm: the inner launcher counts.
        (SRUN | {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}, Started("torchrun", 2, 1)),
        (SRUN, Started("srun", 3, 2)),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"}, Started("itself", 1, 1)),
        # A batch script that does not use srun, and the shell of an allocation.
        ({"SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "3", "SLURM_NNODES": "2"}, Started("itself", 1, 1)),
    ],
)
def test_the_environment_says_how_this_process_was_started(environment, values, place):
    environment(values)
    assert started() == place


def test_an_environment_that_does_not_say_enough_is_refused(environment):
    environment({"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"})
    with pytest.raises(ValueError, match="srun started 2 tasks without --ntasks-per-node: give that flag"):
        started()
    environment({"LOCAL_RANK": "0", "WORLD_SIZE": "two"})
    with pytest.raises(ValueError, match="WORLD_SIZE is 'two', expected a whole number of at least 1"):
        started()


@pytest.mark.parametrize(
    ("codes", "rank"),
    [
        ([LOST, -9], 1), ([-9, LOST], 0), ([1, -9], 1), ([0, 1], 1), ([1, 1], 0), ([LOST, 1], 1), ([130, 130], 0),
        ([LOST, LOST], 0), ([None, -11, LOST], 1),
    ],
)  # fmt: skip
def test_the_process_to_blame_is_the_one_that_did_not_fail_for_want_of_another(codes, rank):
    assert blamed(codes) == (rank, codes[rank])


def test_processes_share_the_cores_that_this_one_may_use(monkeypatch):
    """A cluster lends some of the cores of a machine."""
    started_with = []
    monkeypatch.setattr(module, "usable_cores", lambda: 6)
    monkeypatch.setattr(module, "start", lambda *given: started_with.append(given[4]))
    monkeypatch.setattr(module, "watch", lambda workers: None)
    assert module.launch(["train"], 2) is None
    assert started_with == [3, 3]


def workers(*scripts: str) -> list[subprocess.Popen]:
    return [subprocess.Popen(["sh", "-c", script]) for script in scripts]


def test_the_others_end_when_one_dies(monkeypatch):
    assert watch(workers("exit 0", "exit 0")) is None
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    hanging = workers("kill -KILL $$", "trap '' TERM; sleep 600 & wait")
    assert watch(hanging) == (0, -9)
    assert all(worker.returncode == -9 for worker in hanging)
    # A worker that exits by itself is waited for, and its exit code is reported.
    monkeypatch.setattr(module, "PATIENCE", 60.0)
    assert watch(workers(f"exit {LOST}", "sleep 0.3; exit 3")) == (1, 3)


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_what_is_asked_of_the_launcher_is_asked_of_all_once(asked):
    count = f"n=0; trap 'n=$((n+1))' {asked.name.removeprefix('SIG')}; echo ready; "
    count += "while [ $n = 0 ]; do sleep 0.02; done; sleep 0.2; exit $((100 + n))"
    before = signal.getsignal(asked)
    asked_of: list[subprocess.Popen] = []
    with passing_on(asked_of):
        for _ in range(2):
            asked_of.append(subprocess.Popen(["sh", "-c", count], stdout=subprocess.PIPE, process_group=0))
        for worker in asked_of:
            assert worker.stdout is not None and worker.stdout.readline() == b"ready\n"
        os.kill(os.getpid(), asked)
        assert [worker.wait(20) for worker in asked_of] == [101, 101]
    for worker in asked_of:
        assert worker.stdout is not None
        worker.stdout.close()
    assert signal.getsignal(asked) is before


def test_on_windows_the_console_interrupts_the_workers_and_has_no_suspension(monkeypatch):
    """Sending them the signal is refused there, and its number is not known."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(signal, "SIGTSTP")
    asked_of = workers("exec sleep 600")
    with passing_on(asked_of):
        os.kill(os.getpid(), signal.SIGINT)
        assert asked_of[0].poll() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked_of[0].wait(20) == -signal.SIGTERM


def test_on_windows_the_parent_may_be_the_python_of_a_virtual_environment(environment, monkeypatch):
    environment({LAUNCHER: "1"})
    monkeypatch.setattr(sys, "platform", "win32")
    end_with_launcher()


@pytest.mark.parametrize(
    ("failed", "line"),
    [
        (
            Failed(1, -9, ""),
            r"process 1 of 2 was killed by signal 9 \(SIGKILL\); the others were ended, and the same",
        ),
        (
            Failed(1, LOST, ""),
            "process 1 of 2 lost the connection to the others; .* resumes from the last checkpoint",
        ),
        (Failed(1, 3, "Traceback …\nKeyError: 'x'\n"), "process 1 of 2 ended with code 3; "),
    ],
)
def test_a_failure_is_told_in_one_line(failed, line):
    with pytest.raises(OSError, match=line):
        explain(failed, 2)


def test_what_a_process_said_itself_is_not_told_twice(capsys):
    with pytest.raises(SystemExit) as first:
        explain(Failed(0, 2, ""), 2)
    with pytest.raises(SystemExit) as second:
        explain(Failed(1, 1, "noise\nsonarium: clip 7 of world 'x' has NaN: mend it\n\n"), 2)
    assert (first.value.code, second.value.code) == (2, 1)
    assert capsys.readouterr().err == "sonarium: clip 7 of world 'x' has NaN: mend it\n"


def test_a_process_does_not_outlive_its_launcher(monkeypatch):
    # Nobody is the parent of itself; the tests may be a child of process 1, as in a container.
    monkeypatch.setenv(LAUNCHER, str(os.getpid()))
    with pytest.raises(KeyboardInterrupt, match="the process that launched this one has ended"):
        end_with_launcher()


TRAIN = "train vae --world digits --batch-size 48 --log-every 2 --save-every 2 --test 0 --device cpu".split()
LIMIT = 100
"""Time limit in seconds for the first steps of training."""
ENDLESS = ["--steps", "1000000"]


def children(process: Forked) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in listed.split()]


def wait_for_step(process: Forked, folder: Path, step: int) -> None:
    """Wait until the metrics have reached this step."""
    limit = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < limit:
        records = read_metrics(folder / "metrics.jsonl")
        if records and records[-1]["step"] >= step:
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"it did not come to step {step}: {process.communicate(timeout=30)}")


def gone(pid: int) -> bool:
    """Whether a process has ended, or ends within ten seconds; an orphan may remain as a zombie."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the children of a process")
def test_killed_and_interrupted_the_same_words_go_on(tmp_path):
    folder = tmp_path / "run"

    def newest() -> int:
        return max([step_of(path) for path in (folder / "checkpoints").glob("step-*")], default=0)

    def stopped(how: Callable[[Forked, list[int]], object]) -> tuple[int | None, str]:
        process = fork(*TRAIN, *ENDLESS, "--processes", "2", "--run", folder)
        wait_for_step(process, folder, newest() + 4)
        pids = children(process)
        assert len(pids) == 2
        how(process, pids)
        out, said = process.communicate(timeout=30)
        # A surviving process would hold the pipe of the error stream open.
        assert all(map(gone, pids)) and out == ""
        return process.returncode, without_progress(said)

    # Kill the process that writes the run folder.
    code, said = stopped(lambda _, pids: os.kill(pids[0], signal.SIGKILL))
    assert code == 1
    assert said == (
        "sonarium: process 0 of 2 was killed by signal 9 (SIGKILL); the others were ended, and the same "
        "command resumes from the last checkpoint\n"
    )
    code, said = stopped(lambda process, _: process.send_signal(signal.SIGINT))
    assert code == 130
    assert said == f"sonarium: stopped after step {newest()}; the same command resumes from there\n"
    # If the launcher is killed, its workers save a checkpoint and exit.
    _, said = stopped(lambda process, _: process.kill())
    assert said == f"sonarium: stopped after step {newest()}; the same command resumes from there\n"


def test_torchrun_starts_them_too(tmp_path):
    words = [*TRAIN, "--no-pictures", "--steps", "4", "--run", str(tmp_path / "run")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "--"]
    command = [*torchrun, "sonarium", *words]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 4: ") == 1, "the first says what there is to say"
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
    assert (tmp_path / "run/checkpoints/step-4/whole.json").exists()
