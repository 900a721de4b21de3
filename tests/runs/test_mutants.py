"""Untrusted run folders: with any file altered, they are refused in one line or harmless; no link is followed.

`python scripts/mutants.py` tries thousands more.
"""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mutants import encode, fault, mutant, resume, sealed, use
from safetensors.torch import load_file, save_file
from typechecking import unchecked

from sonarium.__main__ import dispatch
from sonarium.commands.report import run_page
from sonarium.files import DEEPEST_JSON, read_json
from sonarium.report.page import page
from sonarium.runs.build import check_upstream, open_run
from sonarium.runs.coder import load
from sonarium.runs.plan import Upstream
from sonarium.runs.train import train
from sonarium.training.run import RunFolder, digest
from sonarium.training.state import segments_in, unpack

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "runs-0.1"
WORDS = (
    "train vq-vae --rate 4000 --seconds 0.05 --frequencies 12 --amplitudes 4 --highest 1500 --batch-size 8 "
    "--steps 2 --fft 16 --hop 16 --mels 0 --level-rows 2 --floor-db -40 --slots 2 --dimension 2 --entries 4 --run"
)
MUTANTS = 75
"""Number of mutants of each of two runs."""


@pytest.fixture(autouse=True)
def as_users_run(monkeypatch):
    """Refusals come from the library itself, not from the tests' checks of array shapes; pictures are skipped."""
    monkeypatch.setattr("sonarium.runs.train.present", lambda *_: None)
    with unchecked():
        yield


@pytest.fixture(scope="module")
def current(tmp_path_factory) -> Path:
    """A small run in the current format."""
    folder = tmp_path_factory.mktemp("mutants") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonarium.runs.train.present", lambda *_: None)
        dispatch([*WORDS.split(), str(folder)])
    return folder


@pytest.fixture
def run(current, tmp_path) -> Path:
    return Path(shutil.copytree(current, tmp_path / "run"))


@pytest.fixture
def secret(tmp_path) -> Path:
    """A file outside the run folder, which must stay untouched."""
    path = tmp_path / "secret.txt"
    path.write_text("a secret")
    return path


def changed(path: Path, **tensors: torch.Tensor) -> None:
    """Replace tensors of a checkpoint, with matching checksums."""
    save_file(load_file(path) | tensors, path)
    sealed(path)


def weights(run: Path) -> Path:
    return RunFolder.read(run).weights(RunFolder.read(run).newest() or 0)


@pytest.mark.parametrize("which", ["today", "0.1"])
def test_no_change_ends_in_a_traceback(which, current, tmp_path, secret):
    run = Path(shutil.copytree(current if which == "today" else FIXTURES / "beta-vae", tmp_path / "run"))
    draw = random.Random(which)
    files = sorted(path for path in run.rglob("*") if path.suffix in (".json", ".safetensors"))
    # Files that only pages read are covered by the next test.
    files = [path for path in files if path.name not in ("scores.json", "environment.json")]
    for _ in range(MUTANTS):
        with mutant(draw.choice(files), secret, draw) as change:
            found = fault(lambda: use(run))
            assert found is None, f"{change}: {found!r}"
    assert secret.read_text() == "a secret"
    use(run)


def test_a_page_of_changed_scores_is_drawn_or_refused(tmp_path, secret):
    run = Path(shutil.copytree(FIXTURES / "cpc", tmp_path / "run"))
    (run / "clock.jsonl").write_text('{"step": 4, "items": 32, "wall_s": 0.5, "cpu_s": 0.4}\n')
    draw, out = random.Random(0), tmp_path / "page.html"
    for number in range(60):
        path = run / draw.choice(
            ("scores.json", "quarantine.json", "metrics.jsonl", "clock.jsonl", "environment.json")
        )
        with mutant(path, secret, draw) as change:
            # A change can only break reading; layout takes a second, and is tried in every 20th case.
            call = (lambda: page([run_page(run)], out)) if number % 20 == 0 else (lambda: run_page(run).record)
            found = fault(call)
            assert found is None, f"{change}: {found!r}"


NAMES = (
    "config.json",
    ".lock",
    "tensorboard",
    "media",
    "segments",
    "checkpoints",
    "split.json",
    "codes",
    "scores.json",
    "suite.json",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_nothing_in_a_run_folder_is_a_link_or_a_pipe(name, kind, run, secret):
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "link":
        path.symlink_to(secret)
    else:
        os.mkfifo(path)
    for call in (lambda: open_run(run), lambda: run_page(run), lambda: dispatch([*WORDS.split(), str(run)])):
        with pytest.raises(ValueError, match=rf"{name}' is not a regular file or folder"):
            call()
    assert secret.read_text() == "a secret"


def test_a_link_deep_in_the_folder_is_not_followed(run, secret):
    (run / "media" / "reconstructions").mkdir(parents=True)
    (run / "media" / "reconstructions" / "s.png").symlink_to(secret)
    with pytest.raises(ValueError, match=r"s\.png' is not a regular file"):
        run_page(run)
    shutil.rmtree(run / "media")
    # The run folder itself may be a link, since the user names it.
    link = run.with_name("link")
    link.symlink_to(run)
    assert open_run(link).step == 2


def test_a_lock_of_somebody_is_not_emptied(run):
    (run / ".lock").write_text("held by nobody")
    with RunFolder.read(run).locked():
        pass
    assert (run / ".lock").read_text() == "held by nobody"


BAD_WEIGHTS = [
    (lambda weight: weight.double(), "is of torch.float64, expected torch.float32"),
    (lambda weight: weight.bool(), "is of torch.bool"),
    (lambda weight: weight.long(), "is of torch.int64"),
    (lambda weight: torch.full_like(weight, float("nan")), "holds NaN or infinite numbers"),
    (lambda weight: torch.full_like(weight, float("inf")), "holds NaN or infinite numbers"),
    (lambda weight: weight[:1], "size mismatch"),
]


@pytest.mark.parametrize(("change", "said"), BAD_WEIGHTS, ids=[said for _, said in BAD_WEIGHTS])
def test_weights_of_another_kind_are_refused(change, said, run):
    path = weights(run)
    name, weight = max(load_file(path).items(), key=lambda item: item[1].numel())
    changed(path, **{name: change(weight)})
    with pytest.raises(ValueError, match=f"do not fit the model of its config.json .*{said}"):
        open_run(run)


def test_codes_that_are_not_finite_are_refused(tmp_path):
    run = Path(shutil.copytree(FIXTURES / "beta-vae", tmp_path / "run"))
    path = weights(run)
    changed(path, **{name: torch.full_like(one, 1e30) for name, one in load_file(path).items() if one.ndim > 1})
    with pytest.raises(ValueError, match="the codes are NaN or infinite: the weights are too large"):
        load(run).encode(np.ones(400, np.float32), 4000)


def test_a_model_larger_than_its_weights_is_refused_before_it_is_made(run):
    config = json.loads((run / "config.json").read_text())
    config["model"]["config"]["slots"] = config["model"]["config"]["dimension"] = 128
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="the weights that were saved do not fit the model"):
        open_run(run)


MOMENTS = [
    ({"step": torch.tensor(-1.0)}, "step of .* is -1.0, expected at least 0"),
    ({"exp_avg": torch.zeros(1, 1, 1)}, "exp_avg of .* is not a tensor of shape"),
    ({"exp_avg_sq": None}, "exp_avg_sq of .* is not a tensor"),
    ({"momentum": torch.tensor(1.0)}, "momentum.*expected"),
]


@pytest.mark.parametrize(("change", "said"), MOMENTS, ids=[next(iter(change)) for change, _ in MOMENTS])
def test_a_state_of_the_optimiser_that_it_does_not_write_is_refused(change, said, run, monkeypatch):
    opened = open_run(run)
    loaded = opened.run.load()
    assert loaded is not None
    loaded[2]["parts"]["autoencoder"]["state"][0] |= change
    monkeypatch.setattr(RunFolder, "load", lambda self: loaded)
    with pytest.raises(ValueError, match=f"does not fit this training .autoencoder: .*{said}"):
        resume(opened)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"position": "x"}, "position is 'x'"),
        ({"position": -1}, "position is -1"),
        ([], "list"),
        (None, "NoneType"),
    ],
)
def test_a_state_of_another_type_is_refused(source, said, run, monkeypatch):
    opened = open_run(run)
    loaded = opened.run.load()
    assert loaded is not None
    monkeypatch.setattr(RunFolder, "load", lambda self: (loaded[0], loaded[1], loaded[2] | {"source": source}))
    with pytest.raises(ValueError, match=f"does not fit this training .source: .*{said}"):
        resume(opened)


STATES = [
    ({"tensor": "none"}, "refers to the tensor 'none'"),
    ({"tensor": 3}, "refers to the tensor 3"),
    ({"$pairs": [[[], 1]]}, "expected pairs of a key and a value"),
    ({"$pairs": 1}, "expected pairs"),
    ({"$generator": {"bit_generator": "PCG64"}}, "random state that is none of NumPy's"),
    ({"$generator": {"bit_generator": "eval"}}, "random state that is none of NumPy's"),
    ({"$segment": ["../../secret", "0" * 64, 8]}, "expected segments/NAME/HASH.safetensors"),
    ({"$segment": [f"segments/../{'0' * 32}.safetensors", "0" * 64, 8]}, "expected segments/NAME/HASH"),
    ({"$segment": 7}, "expected segments/NAME/HASH"),
]


@pytest.mark.parametrize(("packed", "said"), STATES, ids=[str(packed)[:40] for packed, _ in STATES])
def test_what_no_state_was_packed_as_is_refused(packed, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        unpack({"a": [packed]}, {}, tmp_path)
    if "$segment" in packed:
        with pytest.raises(ValueError, match=said):
            list(segments_in({"a": [packed]}))


JSONS = [
    ("[" * (DEEPEST_JSON + 1) + "]" * (DEEPEST_JSON + 1), "nested deeper than"),
    ("[" * 100_000 + "]" * 100_000, "nested deeper than"),
    ("9" * 400, "an integer of 400 digits"),
    ("9" * 5000, "an integer of 5000 digits"),
    ("", "Expecting value"),
]


@pytest.mark.parametrize(("text", "said"), JSONS, ids=[said for _, said in JSONS])
def test_json_beyond_its_limits_is_refused(text, said, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * DEEPEST_JSON + "1" + "]" * DEEPEST_JSON)
    with pytest.raises(ValueError, match="nested"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps({"state": 2**128 - 1, "a": [1.5, None]}))
    assert read_json(tmp_path / "a.json") == {"state": 2**128 - 1, "a": [1.5, None]}


def test_a_run_that_is_upstream_of_itself_is_refused(run):
    opened = open_run(run)
    plan = opened.plan.recorded()
    above = {"format": 2, **plan, "upstream": {"plan": plan}}
    upstream = Upstream(str(run), opened.step, digest(opened.run.weights(opened.step)), 4, 1.0, 0.0, above)
    with pytest.raises(ValueError, match=r"has 0 run\(s\) upstream, and 1 when this run began"):
        check_upstream(upstream)


def test_it_still_trains_on(run):
    """An unchanged folder resumes where it stopped."""
    opened = open_run(run)
    encode(opened)
    assert train(opened.plan, run, 3) and open_run(run).step == 3
