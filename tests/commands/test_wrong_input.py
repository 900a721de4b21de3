"""Wrong input of any kind: one line that says what, where and the remedy, and a non-zero exit code."""

import json
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from full_disk import no_room_beyond
from safetensors.torch import load_file, save_file
from typechecking import unchecked

from sonarium.__main__ import main
from sonarium.training.run import RunFolder

TONES = "--frequencies 6 --amplitudes 3 --seconds 0.1 --network dense --test 0.4 --batch-size 16"
SMALL = f"train vae {TONES} --steps 2 --run"


@contextmanager
def signals_kept():
    """Restore the signal handlers, which `main` replaces because it expects its own process."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def sonarium(monkeypatch, capsys):
    """The command line in this process, as users run it: exit code, output and error stream."""

    def call(words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sonarium", *words.split()])
        capsys.readouterr()
        code: object = 0
        with unchecked():
            try:
                main()
            except SystemExit as stop:
                code = stop.code or 0
        out, said = capsys.readouterr()
        assert isinstance(code, int)
        return code, out, said

    with signals_kept():
        yield call


@pytest.fixture(scope="module", autouse=True)
def without_pictures():
    """Pictures are made after everything is saved, and would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonarium.runs.train.present", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory, without_pictures) -> Path:
    """A run of two steps on tones, with a sound file to encode in its folder."""
    folder = tmp_path_factory.mktemp("wrong") / "run"
    patch = pytest.MonkeyPatch()
    patch.setattr(sys, "argv", ["sonarium", *SMALL.split(), str(folder)])
    with signals_kept():
        main()
    patch.undo()
    soundfile.write(folder / "good.wav", np.sin(np.arange(1600) / 3), 16000)
    return folder


def refused(answer: tuple[int, str, str], code: int, fragment: str) -> None:
    found, out, said = answer
    assert found == code, answer
    assert said.startswith("sonarium: ") and said.count("\n") == 1, said
    assert fragment in said, said
    assert out == ""


WORDS = [
    ("", 2, "no command given: choose one of demo, list"),
    ("lst", 2, "no command is called 'lst': choose one of demo"),
    ("--nonsense", 2, "no command is called '--nonsense'"),
    ("list --jsn", 2, "Unrecognized options: --jsn; did you mean --json?; see `sonarium list --help`"),
    ("list more", 2, "Unrecognized options: more"),
    ("train", 2, "train which model? choose one of vae"),
    ("train betavae --run X", 2, "no model or agent is called 'betavae'"),
    ("train --run X", 2, "train which model?"),
    ("train vae", 2, "missing: --run PATH"),
    ("train vae --run", 2, "--run needs a value"),
    ("train vae --run X --world", 2, "--world needs a value"),
    ("train vae --run X --world tonez", 2, "no world is called 'tonez': choose one of tones"),
    ("train vae --run X --world tones --world=tonez", 2, "no world is called 'tonez'"),
    ("train vae --run X --preset none", 2, "no preset of vae is called 'none'"),
    ("train vae --run X --wrld digits", 2, "Unrecognized options: --wrld, digits; did you mean --world?"),
    ("train vae --run X --steps abc", 2, "--steps: 'abc' is not a whole number"),
    ("train vae --run X --beta abc", 2, "--beta: 'abc' is not a number"),
    ("train vae --run X --steps -3", 2, "--steps -3"),
    ("train vae --run X --precision 8", 2, "invalid choice '8' for argument '--precision'"),
    ("train vae --run X --batch-size 0", 2, "--batch-size 0: give a whole number of at least 1"),
    ("train vae --run X --seed -1", 2, "--seed -1"),
    ("train vae --run X --log-every 0", 2, "--log-every 0"),
    ("train vae --run X --save-every 0", 2, "--save-every 0"),
    ("train vae --run X --noises 0", 2, "--noises 0: give a whole number from 1 to 1000000"),
    ("train vae --run X --seconds 0", 2, "--seconds 0.0: give a positive number"),
    ("train vae --run X --world digits --latent 0", 2, "--latent 0"),
    ("train beta-vae --run X --latent 1000000", 2, "--latent 1000000: give a whole number from 1 to 16384"),
    (
        "train vq-vae --run X --entries 1000000000",
        2,
        "--entries 1000000000: give a whole number from 1",
    ),
    ("train vae --run X --learning-rate nan", 2, "--learning-rate nan: give a positive number, such as 0.001"),
    ("train vae --run X --noise nan", 2, "--noise nan: give a positive number"),
    ("train vae --run X --beta -1", 2, "--beta -1.0: give a number of at least 0"),
    ("train vae --run X --seconds 0.01", 1, "clips of 160 samples are shorter than the window of 256: use longer"),
    (
        "train vae --run X --frequencies 90000000000000",
        2,
        "--frequencies 90000000000000: give a whole number",
    ),
    ("train vae --run X --phases 1000000", 2, "phases=1000000 and 4 waveforms make 11,600,000,000 clips"),
    ("train cpc --run X --depth 1000000000", 2, "--depth 1000000000: give a whole number from 1 to 64"),
    ("train vae --run X --power 1000000", 2, "--power 1000000.0: give a positive number up to 8"),
    (f"train vae --run X --steps {10**29}", 2, "--steps 1000"),
    ("check FOLDER --silence 1000000", 2, "--silence 1000000.0: give a number of at most 0, such as -100"),
    ("play --agent random --device cuda:77", 1, "device 'cuda:77': this torch sees"),
    ("play --agent random --threads 1000000", 2, "threads=1000000: give a whole number from 1 to 1024"),
    ("play --agent random --height 1e308", 2, "height=1e+308: give a number from 0.1 to 10000"),
    ("play --agent random --largest 1e6", 2, "largest=1000000.0: give a number from 0.5 to 10000"),
    ("play --agent random --largest 6000", 2, "or a larger longest_response"),
    ("compare cpc --steps-ahead 1000", 1, "too few to predict 1000 ahead"),
    ("train vae --run X --world digits --test -1", 2, "--test -1.0: give a number from 0 to below 1"),
    ("train vae --run X --world digits --test 1", 2, "--test 1.0: give a number from 0 to below 1"),
    ("train vae --run X --frequencies 1 --amplitudes 1 --waveforms sine", 1, "at least one more"),
    (
        "train tc-vae --run X --frequencies 2 --amplitudes 1 --waveforms sine",
        1,
        "needs at least 2 clip(s) a batch, and there are 1 clips to train on: use a larger world",
    ),
    ("train vae --run X --world digits --device tpu", 1, "use --device cpu, cuda or auto"),
    ("train vae --run X --world digits --path /none", 1, "there is no folder or file at /none"),
    ("train vae --run X --world syntone-file --path /etc/hosts", 1, "/etc/hosts"),
    ("train cpc --run X --world digits", 2, "cpc does not train on pictures, which digits gives: take --world"),
    ("train cpc --run X --world recordings", 1, "which recordings? give the folder or manifest with --path"),
    ("train cpc --run X --world recordings --path Y", 1, "Y': give the path of one with recordings"),
    ("train cpc --run X --world recordings --path FOLDER", 1, "names no recordings: it holds 1 of .txt"),
    ("train cpc --run X --world recordings --path FILE", 1, "FILE' has no rows: give a table"),
    ("train cpc --run X --path FOLDER --rate 0", 2, "--rate 0: give a whole number from 1"),
    ("make recordings --out X", 1, "which recordings?"),
    ("make", 2, "make which world? choose one of tones"),
    ("make bells --out X", 2, "no world is called 'bells'"),
    ("make tones", 2, "missing: --out PATH"),
    ("make tones --out X --format mp3", 2, "invalid choice 'mp3'"),
    ("make digits --out X.npz", 1, "give a folder to --out"),
    ("make digits --out X", 1, "has clips of kind 'picture'"),
    ("make tones --frequencies 2 --out FILE/below", 1, "FILE/below' (Not a directory)"),
    ("bench", 2, "bench what? choose one of tones"),
    ("bench speed", 2, "no bench is called 'speed'"),
    ("bench tones --repeats 0", 2, "--repeats 0"),
    ("score", 2, "no run to score"),
    ("score X", 1, "X' is not a run folder (it has no config.json): make one with `sonarium train"),
    ("score RUN X", 1, "X' is not a run folder"),
    ("score RUN/config.json", 1, "config.json' is a file, not a run folder: give the folder of a run"),
    ("score RUN --draws 0", 2, "--draws 0: give a whole number from 1"),
    ("score RUN --device tpu", 1, "use --device"),
    ("score RUN --protocol none", 2, "invalid choice 'none'"),
    ("report --out X.html", 2, "no run to report"),
    ("report RUN", 2, "missing: --out PATH"),
    ("report RUN --out X.pdf", 2, "does not end in .html"),
    ("report X --out X.html", 1, "X' is not a run folder"),
    ("report RUN --out FILE/page.html", 1, "FILE/page.html' (Not a directory)"),
    ("sample RUN --out X --count 0", 2, "--count 0"),
    ("sample RUN --out X --seed -1", 2, "--seed -1"),
    ("sample RUN --out FILE", 1, "is not an empty folder: give --out a new one"),
    ("sample RUN --out FILE/below", 1, "Not a directory"),
    ("sample X --out Y", 1, "X' is not a run folder"),
    ("encode RUN --out X.npz", 2, "no files to encode"),
    ("encode RUN FILE --out X.doc", 2, "ends in none of .npz, .csv, .parquet"),
    ("encode RUN X --out X.npz", 1, "X' does not exist"),
    ("encode RUN FILE --out X.npz", 1, "FILE' is not sound that can be read"),
    ("encode RUN FOLDER --out X.npz", 1, "FOLDER' holds no sound"),
    ("encode RUN FILE FOLDER --out X.npz", 1, "FOLDER' holds no sound"),
    ("score RUN --remove-mean --pooling mean", 2, "a clip's mean less its mean is nothing; take --pooling thirds"),
    ("score RUN --max-clips 3", 2, "--max-clips 3: give a whole number of at least 10"),
    ("export RUN", 2, "missing: --out PATH"),
    ("export RUN --out FILE", 2, "FILE is a file: give a folder"),
    ("export RUN --out X --forms tar", 2, "invalid choice 'tar'"),
    ("export X --out Y", 1, "X' is not a run folder"),
    ("compare", 2, "compare what? choose one of cpc"),
    ("compare vae", 2, "no comparison is called 'vae'"),
    ("check", 2, "check which recordings? name one folder"),
    ("check X", 1, "there is no folder or manifest"),
    ("demo --steps 0", 2, "--steps 0"),
    ("train vae --world digits --run FILE", 1, "FILE' is a file, not a run folder"),
    ("train vae --world digits --run FILE/below", 1, "FILE/below/config.json' (Not a directory)"),
    ("train vae --world digits --run FOLDER", 1, "FOLDER' exists and is not a run folder"),
    (f"train vae {TONES} --steps 1 --run RUN", 1, "stands at step 2 already, beyond --steps 1"),
    (f"train vae {TONES} --steps 9 --beta 7 --run RUN", 1, "model.config.penalty.beta: 1 in the folder, 7.0 now"),
    ("train beta-vae --steps 9 --run RUN", 1, "model.name: 'vae' in the folder, 'beta-vae' now"),
]


@pytest.mark.parametrize(("words", "code", "fragment"), WORDS, ids=[words or "none" for words, *_ in WORDS])
def test_wrong_words_are_one_line_and_leave_nothing(words, code, fragment, sonarium, trained, tmp_path):
    (tmp_path / "FILE").write_text("no sound, no run\n")
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FOLDER" / "thesis.txt").touch()
    places = {name: str(tmp_path / name) for name in ("FILE", "FOLDER", "X", "Y")} | {"RUN": str(trained)}
    for name, place in places.items():
        words = " ".join(place + word[len(name) :] if is_place(word, name) else word for word in words.split())
    refused(sonarium(words), code, fragment)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["FILE", "FOLDER", "thesis.txt"]


def is_place(word: str, name: str) -> bool:
    return word == name or word.startswith((f"{name}/", f"{name}."))


CONFIGS = [
    ('"latent": 10', '"latent": 12', "do not fit the model of its config.json"),
    ('"latent": 10', '"latent": "ten"', "model.config.latent is 'ten', expected something like 10"),
    ('"latent": 10', '"latent": -3', "latent=-3: give a whole number"),
    ('"learning_rate": 0.002', '"learning_rate": NaN', "model.config.learning_rate is nan"),
    ('"latent": 10', '"latex": 10', "unknown keys latex"),
    ('"preset": "default"', '"preset": "best"', "preset is 'best', expected one of default"),
    ('"world": "tones"', '"world": ["tones"]', "source.world is ['tones'], expected a name"),
    ('"seed": 0', '"seed": -1', "loop: seed=-1: give a whole number of at least 0"),
    ('"loop": {', '"lop": {', "lacks model, source or loop"),
    ('"alias": false', '"alias": 1', "source.config.alias is 1"),
    ("{", "", "is damaged"),
]


@pytest.mark.parametrize(("old", "new", "fragment"), CONFIGS, ids=[new or "cut" for _, new, _ in CONFIGS])
def test_an_altered_configuration_is_refused(old, new, fragment, sonarium, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    refused(sonarium(f"sample {tmp_path}/run --out {tmp_path}/clips"), 1, fragment)
    assert not (tmp_path / "clips").exists()


def test_where_no_checkpoint_is_whole_training_starts_over_and_others_refuse(sonarium, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "step-2" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    for words in (f"sample {tmp_path}/run --out {tmp_path}/clips", f"score {tmp_path}/run"):
        refused(sonarium(words), 1, "has no complete checkpoint (step-2 is not whole (weights.safetensors differs")
    code, out, said = sonarium(f"{SMALL} {tmp_path}/run")
    assert code == 0 and "step 2:" in out
    assert said.count("\n") == 1 and "going on from step 0" in said
    repaired = load_file(path)
    whole = load_file(trained / "checkpoints" / "step-2" / "weights.safetensors")
    assert all(repaired[name].equal(whole[name]) for name in whole)


def test_a_run_that_was_never_trained_or_scored(sonarium, trained, tmp_path):
    RunFolder.create(tmp_path / "run", json.loads((trained / "config.json").read_text()), lambda config: config)
    refused(sonarium(f"score {tmp_path}/run"), 1, "has no complete checkpoint (none was saved yet)")
    refused(sonarium(f"report {tmp_path}/run --out {tmp_path}/page.html"), 1, "has no metrics yet: train it")
    shutil.copytree(trained, tmp_path / "unscored")
    code, _, said = sonarium(f"report {tmp_path}/unscored --out {tmp_path}/page.html")
    assert code == 0 and said == ""
    page = (tmp_path / "page.html").read_text()
    assert page.lower().count("not scored") == 1 and f"not scored yet: sonarium score {tmp_path}/unscored" in page


def test_a_training_in_the_same_folder_is_refused(sonarium, trained):
    with RunFolder.read(trained).locked():
        refused(sonarium(f"{SMALL} {trained}"), 1, "another process is training in")


def test_too_few_clips_to_score(sonarium, tmp_path):
    words = "train vae --frequencies 3 --amplitudes 2 --seconds 0.1 --network dense --batch-size 4 --steps 1"
    assert sonarium(f"{words} --run {tmp_path}/run")[0] == 0
    refused(
        sonarium(f"score {tmp_path}/run"), 1, "holds out 5 clips, too few to measure anything: train on a larger"
    )


@pytest.mark.parametrize("model", ["factor-vae --units 8", "tc-vae"])
def test_a_batch_of_one_clip_where_a_penalty_needs_two(model, sonarium, tmp_path):
    words = f"train {model} --world digits --steps 2 --batch-size 1"
    refused(sonarium(f"{words} --run {tmp_path}/run"), 1, "needs at least 2 clip(s) a batch")
    assert not (tmp_path / "run").exists()


def test_a_diverging_training_and_weights_beyond_memory(sonarium, tmp_path, monkeypatch):
    words = f"train vae --world digits --steps 40 --run {tmp_path}"
    refused(sonarium(f"{words}/a --learning-rate 1e9"), 1, "the training has diverged; start a new --run")
    assert RunFolder.read(tmp_path / "a").load() is None
    # Pretend 1 MB of memory, since no model is too large for every machine.
    monkeypatch.setattr("os.sysconf", lambda _: 1024)
    refused(sonarium(f"{words}/b"), 1, "not enough memory")
    assert not (tmp_path / "b").exists()


FULL = [
    (f"train vae {TONES} --steps 4 --run OUT", 100_000, "could not save the checkpoint of step 4"),
    (f"train vae {TONES} --steps 4 --run OUT", 50, "config.json' (File too large): raise the limit on"),
    ("sample RUN --out OUT", 1000, "cannot write"),
    ("report RUN --out OUT.html", 1000, "cannot write"),
    ("encode RUN RUN/good.wav --out OUT.npz", 50, "cannot write"),
    ("encode RUN RUN/good.wav --out OUT.csv", 50, "cannot write"),
    ("make tones --frequencies 6 --seconds 0.1 --out OUT.npz", 1000, "cannot write"),
    ("make tones --frequencies 6 --seconds 0.1 --out OUT", 1000, "cannot write"),
]


@pytest.mark.parametrize(("words", "room", "fragment"), FULL, ids=[words[:40] for words, *_ in FULL])
def test_a_full_disk_is_one_line_and_nothing_half_written(words, room, fragment, sonarium, trained, tmp_path):
    words = words.replace("RUN", str(trained)).replace("OUT", f"{tmp_path}/out")
    with no_room_beyond(room):
        answer = sonarium(words)
    refused(answer, 1, fragment)
    left = [path.name for path in tmp_path.rglob("*")]
    assert not any(name.startswith("out.") or "partial" in name or "step" in name for name in left), left
    if "train" not in words:
        assert left == []
    assert sonarium(words)[0] == 0, "with room it goes on"


SOUNDS = ["empty", "text", "nothing inside", "not a number", "infinite", "cut short"]


@pytest.mark.parametrize("kind", SOUNDS)
def test_files_that_are_no_sound_are_refused_by_name(kind, sonarium, trained, tmp_path):
    path, rate = tmp_path / "bad.wav", 16000
    wave = np.sin(np.arange(4000, dtype=np.float32))
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("RIFF of a guitar")
    else:
        wave = {"nothing inside": wave[:0], "cut short": wave}.get(kind, wave)
        wave[5:6] = {"not a number": np.nan, "infinite": -np.inf}.get(kind, 0)
        soundfile.write(path, wave, rate, subtype="FLOAT")
    if kind == "cut short":
        path.write_bytes(path.read_bytes()[:9000])
    good = trained / "good.wav"
    answer = sonarium(f"encode {trained} {good} {path} --out {tmp_path}/codes.npz")
    refused(answer, 1, "bad.wav'")
    assert not (tmp_path / "codes.npz").exists()


def test_a_checkpoint_of_weights_that_are_whole_but_others(sonarium, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "step-2" / "weights.safetensors"
    save_file({name: value + 1 for name, value in load_file(path).items() if value.is_floating_point()}, path)
    refused(
        sonarium(f"sample {tmp_path}/run --out {tmp_path}/clips"),
        1,
        "weights.safetensors differs from its checksum",
    )
