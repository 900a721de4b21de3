"""Train and score the results of `docs/tones.md`: SynTone's four models and Sonarium's default, by seed.

    .venv/bin/python scripts/tones_results.py            # train missing runs, then score and write
    .venv/bin/python scripts/tones_results.py --only beta-vae/default

The data are SynTone's own waves, including aliasing, on the 100 × 10 × 4 grid of its readme. Each run has its own
split, order, weights and noise, all from its seed. An interrupted run resumes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sonarium.training.engine import fastest_precision

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = "beta-vae/default"
CHOSEN, FRESH = range(10), range(100, 110)
"""Seeds on which the default was chosen, and unseen seeds."""
SEEDS = FRESH[:5]
"""Seeds of SynTone's models."""
GRID = "--world syntone --lowest 400 --frequencies 100 --amplitudes 10".split()
TWENTY_EPOCHS = 20 * 3200 // 64
MODELS = {
    DEFAULT: ["--batch-size", "32", "--steps", "1000"],
    "vae/syntone": ["--preset", "syntone", "--steps", str(TWENTY_EPOCHS)],
    "beta-vae/syntone": ["--preset", "syntone", "--steps", str(TWENTY_EPOCHS)],
    "tc-vae/syntone": ["--preset", "syntone", "--steps", str(TWENTY_EPOCHS)],
    # SynTone doubles batch size and epochs for this one: the number of steps is the same, of twice the batch size.
    "factor-vae/syntone": ["--preset", "syntone", "--steps", str(TWENTY_EPOCHS)],
}
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
SONARIUM = [sys.executable, "-m", "sonarium"]


def train(model: str, seed: int, folder: Path) -> Path:
    run = folder / f"{model.replace('/', '-')}-{seed}"
    if (run / "checkpoints" / f"step-{MODELS[model][-1]}" / "whole.json").exists():
        return run
    words = ["train", model.partition("/")[0], *GRID, *MODELS[model], "--seed", str(seed), "--run", str(run)]
    words += ["--precision", fastest_precision(), "--save-every", "500"]
    done = subprocess.run([*SONARIUM, *words], env=ONE_THREAD, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{run} failed")
    print(run, "trained", flush=True)
    return run


PUBLISHED = {
    "vae/syntone": (0.280, 0.045, 0.005, 0.300, 0.651),
    "beta-vae/syntone": (0.184, 0.035, 0.004, 0.201, 0.750),
    "factor-vae/syntone": (0.118, 0.035, 0.003, 0.126, 0.762),
    "tc-vae/syntone": (0.166, 0.023, 0.005, 0.183, 0.747),
}
"""MIG, SAP, DCIMIG, JEMMIG and modularity in SynTone's readme."""
AS_CALLED = ("mig", "sap", "dcimig", "jemmig", "modularity")
STANDARD = (
    "mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness", "modularity", "explicitness",
    "jemmig", "dcimig", "beta_vae", "factor_vae", "irs", "dead_codes",
)  # fmt: skip
HEADS = {"dci_disentanglement": "DCI D", "dci_completeness": "DCI C", "dci_informativeness": "DCI I"}


def score(runs: list[Path], protocol: str) -> list[dict]:
    """Score the runs, save the summary in docs/results, and return its rows."""
    words = ["score", *map(str, runs), "--protocol", protocol, "--draws", "4", "--json"]
    done = subprocess.run([*SONARIUM, *words], check=True, capture_output=True, env=ONE_THREAD)
    found = json.loads(done.stdout)
    for row in found["summary"]:
        row["runs"] = [Path(run).name for run in row["runs"]]
    out = ROOT / "docs" / "results" / f"tones-{protocol}.json"
    out.parent.mkdir(exist_ok=True, parents=True)
    out.write_text(json.dumps({"summary": found["summary"]}, indent=1) + "\n", encoding="utf-8")
    return found["summary"]


def cell(score: dict | None, digits: int = 2) -> str:
    """Mean ± half of the 95 % interval over seeds; a dash for missing scores."""
    if score is None:
        return "–"
    # An interval is clipped to the range of its score on one side.
    half = max(score["high"] - score["mean"], score["mean"] - score["low"])
    return f"{score['mean']:.{digits}f} ± {half:.{digits}f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def standard_table(rows: list[dict]) -> str:
    """Scores down, models across: thirteen scores are too many for the columns of a page."""
    learners = [row for row in rows if row["control"] is None]
    controls = [row for row in rows if row["control"] is not None][:3]
    shown = [*learners, *controls]
    head = ["", *(row["control"] or row["model"] for row in shown)]
    body = [[HEADS.get(name, name), *(cell(row["scores"].get(name)) for row in shown)] for name in STANDARD]
    return table(head, body)


def as_called_table(rows: list[dict]) -> str:
    body = []
    for row in rows:
        if row["control"] is not None:
            continue
        model = row["runs"][0].rpartition("-")[0]
        body.append([row["model"], "here", *(cell(row["scores"][name], 3) for name in AS_CALLED)])
        published = PUBLISHED.get(model.replace("-syntone", "/syntone"))
        if published:
            body.append(["", "published", *(f"{number:.3f}" for number in published)])
    return table(["", "", "MIG", "SAP", "DCIMIG", "JEMMIG", "modularity"], body)


def insert(name: str, text: str, page: str = "tones.md") -> None:
    """Insert a table between its marks in a page of docs/."""
    path = ROOT / "docs" / page
    before, _, rest = path.read_text(encoding="utf-8").partition(f"<!-- {name} -->")
    _, _, after = rest.partition(f"<!-- end of {name} -->")
    path.write_text(f"{before}<!-- {name} -->\n{text}\n<!-- end of {name} -->{after}", encoding="utf-8")


BY_SEED = {"mig": "MIG", "dci_disentanglement": "DCI D"}
BESIDE = {"scores": "", "pca": "PCA", "random": "untrained"}


def by_seed(runs: list[Path]) -> str:
    """A row for each seed of the default, beside its controls; the numbers are saved in docs/results."""
    found = {}
    for run in runs:
        scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
        rows = {"scores": scores["scores"], **scores["controls"]}
        found[run.name.rpartition("-")[2]] = {who: {name: rows[who][name] for name in BY_SEED} for who in BESIDE}
    (ROOT / "docs" / "results" / "tones-seeds.json").write_text(
        json.dumps(found, indent=1) + "\n", encoding="utf-8"
    )
    head = ["seed", *(f"{score} {who}".strip() for score in BY_SEED.values() for who in BESIDE.values())]
    body = [
        [seed, *(f"{rows[who][name]:.2f}" for name in BY_SEED for who in BESIDE)] for seed, rows in found.items()
    ]
    return table(head, body)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and score what `docs/tones.md` reports.")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "tones", help="where the runs go")
    parser.add_argument("--only", choices=MODELS, action="append", help="train just this one, and score nothing")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each")
    flags = parser.parse_args()
    others = [(model, seed) for model in flags.only or MODELS if model != DEFAULT for seed in SEEDS]
    seeds = [*FRESH, *CHOSEN] if DEFAULT in (flags.only or MODELS) else []
    with ThreadPoolExecutor(flags.jobs) as pool:
        runs = list(
            pool.map(
                lambda job: train(job[0], job[1], flags.folder), [*((DEFAULT, seed) for seed in seeds), *others]
            )
        )
    if flags.only:
        return
    fresh, chosen, rest = runs[: len(FRESH)], runs[len(FRESH) : len(seeds)], runs[len(seeds) :]
    with ThreadPoolExecutor(flags.jobs) as pool:
        standard, as_called = pool.map(lambda protocol: score([*fresh, *rest], protocol), ("standard", "syntone"))
    subprocess.run([*SONARIUM, "score", *map(str, chosen), "--draws", "4"], check=True, env=ONE_THREAD)
    insert("seeds", by_seed([*chosen, *fresh]))
    insert("standard", standard_table(standard))
    insert("as called", as_called_table(as_called))
    for model in ("beta-vae-default", "vae-syntone"):
        picture = flags.folder / f"{model}-{FRESH[0]}" / "media" / "codes.png"
        shutil.copy(picture, ROOT / "docs" / "figures" / f"{model}-codes.png")


if __name__ == "__main__":
    main()
