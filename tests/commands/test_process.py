"""Behaviour that only a separate process shows: broken pipes, full outputs, no stray messages, and signals."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
from sonarium_process import ENVIRONMENT, SONARIUM, run, start

from sonarium.training.engine import fastest_precision

SMALL = "train vae --world digits --batch-size 64 --steps 3 --no-pictures".split()


def test_a_broken_pipe_is_quiet():
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    assert reader.stdin is not None
    reader.wait()
    done = subprocess.run([*SONARIUM, "list"], stdout=reader.stdin, stderr=subprocess.PIPE, env=ENVIRONMENT)
    reader.stdin.close()
    assert done.returncode != 0 and done.stderr == b""


def test_an_output_without_room_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*SONARIUM, "--help"], stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "sonarium: what comes out: No space left on device; free some space there\n"


def test_help_needs_no_library_that_takes_long_to_read():
    code = "import sys; from sonarium.__main__ import dispatch; dispatch(['--help']); print(*sys.modules)"
    done = subprocess.run([SONARIUM[0], "-c", code], capture_output=True, env=ENVIRONMENT, text=True)
    assert "usage: sonarium COMMAND" in done.stdout
    read = set(done.stdout.split())
    assert not read & {"torch", "numpy", "scipy", "sklearn", "numba", "matplotlib", "tensorboard", "rich", "tyro"}


def test_help_of_training_reads_no_more_than_it_shows():
    code = (
        "import sys\nfrom sonarium.__main__ import dispatch\n"
        "try:\n    dispatch(['train', '--help'])\nexcept SystemExit:\n    print(*sys.modules)"
    )
    done = subprocess.run([SONARIUM[0], "-c", code], capture_output=True, env=ENVIRONMENT, text=True)
    assert "--steps" in done.stdout and done.stderr == ""
    assert not set(done.stdout.split()) & {"matplotlib", "tensorboard", "lightning_fabric", "pandas", "librosa"}


@pytest.mark.parametrize("verb", ["forecast", "surprise"])
def test_help_of_world_models_reads_no_model(verb):
    code = (
        "import sys\nfrom sonarium.__main__ import dispatch\n"
        f"try:\n    dispatch(['{verb}', '--help'])\nexcept SystemExit:\n    print(*sys.modules)"
    )
    done = subprocess.run([SONARIUM[0], "-c", code], capture_output=True, env=ENVIRONMENT, text=True)
    assert "--out" in done.stdout and done.stderr == ""
    assert not set(done.stdout.split()) & {"torch", "numpy", "scipy", "numba", "matplotlib", "rich"}


def test_a_training_says_nothing_on_the_error_stream(tmp_path):
    precision = fastest_precision()
    code, out, said = run(*SMALL, "--precision", precision, "--run", tmp_path / "run")
    assert (code, said) == (0, "")
    assert "step 3:" in out


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_while_libraries_are_read_is_one_line(how, tmp_path):
    process = start(*SMALL, "--run", tmp_path / "run")
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch" not in maps.read_text():
        time.sleep(0.01)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.startswith("sonarium: ") and len(said.splitlines()) == 1


def test_closed_streams_do_no_harm(tmp_path):
    command = " ".join(SONARIUM)
    words = ["sh", "-c", f"{command} list --json >&- <&- && {command} lst 2>&-; test $? = 2"]
    done = subprocess.run(words, capture_output=True, env=ENVIRONMENT, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
