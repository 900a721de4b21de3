"""Train and score the results of `docs/cpc.md`, with the commands that it shows.

    .venv/bin/python scripts/cpc_results.py                       # all missing parts, then the page
    .venv/bin/python scripts/cpc_results.py --parts digits finch  # these parts
    .venv/bin/python scripts/cpc_results.py --seeds 1 --parts digits
    .venv/bin/python scripts/cpc_results.py --write               # only the page, from existing results

Recordings are in ../shared/data. Everything runs on one thread. Each training is saved in runs/cpc and each score
in docs/results/cpc.json at once, so that the same command resumes after an interruption.
"""

import argparse
import io
import json
import shutil
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
from cpc_tables import write
from tones_results import ROOT

from sonarium.__main__ import dispatch
from sonarium.bench.timing import hardware

DATA, RUNS = ROOT.parent / "shared" / "data", ROOT / "runs" / "cpc"
RESULTS = ROOT / "docs" / "results" / "cpc.json"
FIRST_SEED = 100
SPEAKERS = ("george", "jackson", "lucas", "theo")
FINCH = sorted(path.name for path in (DATA / "bengalese_finch" / "gy6or6").glob("*_240312_*.cbin"))


@dataclass(frozen=True)
class Part:
    """Trainings that differ in their seed and their test split, and how they are scored."""

    data: str
    train: str
    """Flags of `sonarium train cpc` besides path, run and seed."""
    tests: tuple[tuple[str, ...], ...]
    """Groups of each test split."""
    keys: tuple[str, ...]
    """Scores that are saved."""
    score: str = ""
    """Flags of `sonarium score`."""
    seeds: int = 5
    transductive: bool = False
    """Whether it trains on the sound of all splits, so that one training serves all test splits."""

    def command(self, test: tuple[str, ...]) -> list[str]:
        groups = ["--test-groups", *test] if test else []
        return f"--world recordings --path {DATA / self.data} {self.train}".split() + groups


FSDD = "--rate 8000 --seconds 0.64 --batch-size 24 --schedule cosine"
ESC = "--batch-size 24 --schedule cosine"
SAME_SPEAKER = "--speaker speaker --from-sequence 32 --from-speaker 64 --from-batch 0"
SCHEMES = {
    "within-sequence": "--from-sequence 96 --from-batch 0",
    "same-speaker": SAME_SPEAKER,
    "mixed": "",
    "other-utterances": "--from-sequence 0 --from-batch 96 --exclude-own",
}
ONE_OUT, FOLDS = tuple((one,) for one in SPEAKERS), (("2",), ("1",))
DIGIT, CLASS = ("clips/digit",), ("clips/class",)
FEW = tuple(f"few-{count}/segment" for count in (1, 2, 5, 10))
ALL = "--train-on all"
PARTS = {
    "digits": Part("fsdd", f"{FSDD} --steps 300", ONE_OUT, DIGIT),
    "samples": Part("fsdd", f"--preset samples {FSDD} {SAME_SPEAKER} --steps 1500", ONE_OUT, DIGIT, seeds=3),
    "speech": Part("fsdd", "--preset speech", ONE_OUT, DIGIT, transductive=True),
    "samples-transductive": Part(
        "fsdd", f"--preset samples {FSDD} {SAME_SPEAKER} {ALL} --steps 1500", ONE_OUT, DIGIT, seeds=3,
        transductive=True,
    ),
    **{
        f"scheme {name}": Part("fsdd", f"{FSDD} {flags} --steps 300", ONE_OUT, DIGIT, seeds=3)
        for name, flags in SCHEMES.items()
        if name != "mixed"
    },
    **{
        f"transductive {name}": Part(
            "fsdd", f"{FSDD} {flags} {ALL} --steps 300", ONE_OUT, DIGIT, transductive=True
        )
        for name, flags in SCHEMES.items()
    },
    "sounds": Part("esc10", f"{ESC} --steps 300", FOLDS, CLASS),
    "samples-sounds": Part("esc10", f"--preset samples {ESC} --steps 1500", FOLDS, CLASS, seeds=3),
    "sounds-transductive": Part("esc10", f"{ESC} {ALL} --steps 1500", FOLDS, CLASS, seeds=3, transductive=True),
    "samples-sounds-transductive": Part(
        "esc10", f"--preset samples {ESC} {ALL} --steps 1500", FOLDS, CLASS, seeds=3, transductive=True
    ),
    "finch": Part(
        "bengalese_finch", "--rate 32000 --group file --batch-size 24 --schedule cosine --steps 300",
        (tuple(f"gy6or6/{name}" for name in FINCH),), FEW, "--few-labels", seeds=3,
    ),
    "speaker-frames": Part(
        "librispeech/test-other", f"{ESC} {ALL} --steps 600", (("3331",),), ("frames/speaker",),
        "--frames --remove-mean", seeds=3, transductive=True,
    ),
    "speaker-frames-mlp": Part(
        "librispeech/test-other", f"{ESC} {ALL} --steps 600", (("3331",),), ("frames/speaker",),
        "--frames --remove-mean --probe mlp", seeds=3, transductive=True,
    ),
}  # fmt: skip


def trained(name: str, part: Part, test: tuple[str, ...], seed: int) -> Path:
    """The run folder of a training; the same call resumes an interrupted one."""
    run = RUNS / f"{name.replace(' ', '-')}-{'-'.join(test)[:40].replace('/', '-')}-{seed}"
    first = part.tests[0]
    if part.transductive and test != first:
        # Training on all splits does not depend on the test split: the same weights serve.
        shutil.copytree(trained(name, part, first, seed), run, dirs_exist_ok=True)
        config = json.loads((run / "config.json").read_text())
        config["source"]["split"]["test_groups"] = list(test)
        (run / "config.json").write_text(json.dumps(config))
        (run / "split.json").unlink(missing_ok=True)
        return run
    run.parent.mkdir(parents=True, exist_ok=True)
    said("train", "cpc", *part.command(test), "--device", "cpu", "--seed", str(seed), "--run", str(run))
    return run


def said(*words: str) -> str:
    """Run a command of `sonarium` and return its output."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        dispatch(list(words))
    return out.getvalue()


def scored(part: Part, run: Path) -> dict[str, dict[str, float]]:
    """The selected scores, in percent, of the learner and of its controls."""
    found = json.loads(said("score", str(run), *part.score.split(), "--json"))["runs"][0]
    every = {"CPC": found["scores"], **found["controls"]}
    return {who: {key: 100 * scores[key] for key in part.keys} for who, scores in every.items()}


def read() -> dict:
    if RESULTS.exists():
        return json.loads(RESULTS.read_text())
    return {"hardware": hardware(), "parts": {}}


def measure(name: str, part: Part, seeds: int) -> None:
    if not (DATA / part.data).is_dir():
        print(f"{name}: skipped, for there is no {DATA / part.data}", flush=True)
        return
    for seed in range(FIRST_SEED, FIRST_SEED + min(seeds, part.seeds)):
        for number, test in enumerate(part.tests):
            label = test[0] if len(part.tests) > 1 else ""
            job = f"{label}/{seed}"
            if job in read()["parts"].get(name, {}):
                continue
            begin, busy = time.perf_counter(), time.process_time()
            score = scored(part, trained(name, part, test, seed))
            seconds = {"wall_s": time.perf_counter() - begin, "cpu_s": time.process_time() - busy}
            kept = read()
            kept["parts"].setdefault(name, {})[job] = {"score": score} | seconds
            RESULTS.parent.mkdir(exist_ok=True, parents=True)
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
            told = {who: round(scores[part.keys[0]], 1) for who, scores in score.items()}
            print(name, job, f"{number + 1} of {len(part.tests)}", told, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Results of predictive coding.")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=5, help="at most so many seeds of each")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    for name in flags.parts:
        if not flags.write:
            measure(name, PARTS[name], flags.seeds)
    write(read(), {name: (part.data, part.train, part.score) for name, part in PARTS.items()})


if __name__ == "__main__":
    main()
