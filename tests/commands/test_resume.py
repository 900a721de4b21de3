"""After any interruption of a training, the same command ends with the same bits as without."""

import random
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from corpus import SMALL, TINY, write_corpus
from safetensors.torch import load_file
from sonarium_process import fork

from sonarium.__main__ import dispatch

STEPS = 36
TRAININGS = {
    "digits": "train factor-vae --world digits --units 64 --batch-size 48 --log-every 3 --save-every 4".split(),
    "tones": (
        "train vq-vae --world tones --frequencies 9 --amplitudes 3 --seconds 0.05 --batch-size 16 --network "
        "convolutional --log-every 3 --save-every 4 --noises 2"
    ).split(),
    "recordings": [
        *"train cpc --world recordings --path CORPUS --log-every 3 --save-every 4".split(),
        *SMALL,
        *TINY,
    ],
}


def lines(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def stop_after(words: Sequence[str], folder: Path, records: int, how: signal.Signals) -> int:
    """Start the training, send it a signal once it has this number of records, and return its exit code."""
    process = fork(*words, "--run", folder, "--steps", str(STEPS))
    limit = time.monotonic() + 200
    while lines(folder) < records and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(how)
    out, said = process.communicate(timeout=100)
    assert process.returncode, f"it was over before it could be stopped: {out}{said}"
    return process.returncode


def weights(folder: Path, step: int = STEPS) -> dict[str, bytes]:
    found = load_file(folder / "checkpoints" / f"step-{step}" / "weights.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in found.items()}


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Pictures are made after everything is saved, and would take most of the time."""
    monkeypatch.setattr("sonarium.runs.train.present", lambda *_: None)


def here(*words: object) -> None:
    """Run the command in this process, which saves starting another."""
    dispatch([*map(str, words)])


@pytest.mark.parametrize("world", TRAININGS)
def test_two_kills_at_random_steps_change_no_bit(world, tmp_path):
    words = TRAININGS[world]
    if world == "recordings":
        words = [str(write_corpus(tmp_path / "speech")) if word == "CORPUS" else word for word in words]
        words += ["--cache", str(tmp_path / "cache")]
    here(*words, "--run", tmp_path / "whole", "--steps", STEPS)
    dice = random.Random(world)
    first = dice.randint(1, 5)
    stop_after(words, tmp_path / "broken", first, signal.SIGKILL)
    stop_after(words, tmp_path / "broken", first + dice.randint(2, 4), signal.SIGKILL)
    here(*words, "--run", tmp_path / "broken", "--steps", STEPS)
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    whole, broken = tmp_path / "whole" / "metrics.jsonl", tmp_path / "broken" / "metrics.jsonl"
    assert broken.read_bytes() == whole.read_bytes()
    assert lines(tmp_path / "whole") == -(-STEPS // 3)
    assert not list((tmp_path / "broken").rglob("*.partial"))


def test_ctrl_c_saves_says_how_to_go_on_and_resumes(tmp_path, capsys):
    words = TRAININGS["digits"]
    process = fork(*words, "--run", tmp_path / "run", "--steps", "100000")
    while lines(tmp_path / "run") < 2:
        time.sleep(0.01)
        assert process.poll() is None, process.communicate(100)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "the same command resumes" in said and len(said.splitlines()) == 1
    step = int(said.split("after step ")[1].split(";")[0])
    assert (tmp_path / "run" / "checkpoints" / f"step-{step}" / "whole.json").exists()
    here(*words, "--run", tmp_path / "run", "--steps", step + 20)
    assert f"step {step + 20}" in capsys.readouterr().out


def test_a_damaged_checkpoint_is_passed_over_and_a_changed_configuration_refused(tmp_path, capsys):
    words = TRAININGS["digits"]
    here(*words, "--run", tmp_path / "run", "--steps", 8)
    shutil.copytree(tmp_path / "run", tmp_path / "flipped")
    shutil.copytree(tmp_path / "run", tmp_path / "cut")
    newest = Path("checkpoints") / "step-8" / "weights.safetensors"
    content = bytearray((tmp_path / "flipped" / newest).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped" / newest).write_bytes(content)
    (tmp_path / "cut" / newest).write_bytes(content[:1000])
    for folder in ("flipped", "cut"):
        capsys.readouterr()
        here(*words, "--run", tmp_path / folder, "--steps", 12)
        out, said = capsys.readouterr()
        assert "step 12" in out
        assert "step-8 is not whole (weights.safetensors differs from its checksum); going on from step 4" in said
    here(*words, "--run", tmp_path / "run", "--steps", 12)
    assert weights(tmp_path / "flipped", 12) == weights(tmp_path / "run", 12)
    with pytest.raises(ValueError, match="holds a run of another configuration") as refusal:
        here(*words, "--run", tmp_path / "run", "--steps", 12, "--kl-weight", 2, "--seed", 4)
    assert "model.config.penalty.kl_weight: 1.0 in the folder, 2.0 now" in str(refusal.value)
    assert "loop.seed: 0 in the folder, 4 now" in str(refusal.value)
