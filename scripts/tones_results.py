"""Train and score what `docs/tones.md` reports: SynTone's four models and Sonarium's best, five seeds each.

    .venv/bin/python scripts/tones_results.py            # train what is missing, then score and write
    .venv/bin/python scripts/tones_results.py --only beta-vae/default

The data are SynTone's own waves, aliases included, on the 100 × 10 × 4 grid of its readme. Each run has its own
split, order, weights and noise, all from its seed. Interrupted, it goes on where it was.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SEEDS = range(100, 105)
GRID = "--world tones --lowest 400 --frequencies 100 --amplitudes 10 --alias --syntone-time".split()
TWENTY_EPOCHS = 20 * 3200 // 64
MODELS = {
    "beta-vae/default": ["--steps", "3000"],
    "vae/syntone": ["--preset", "syntone", "--steps", str(TWENTY_EPOCHS)],
    "beta-vae/syntone": ["--preset", "syntone", "--steps", str(TWENTY_EPOCHS)],
    "tc-vae/syntone": ["--preset", "syntone", "--steps", str(TWENTY_EPOCHS)],
    # SynTone doubles batch and epochs for this one, since half of each batch only feeds the discriminator.
    "factor-vae/syntone": ["--preset", "syntone", "--steps", str(TWENTY_EPOCHS), "--batch", "128"],
}
SONARIUM = [sys.executable, "-m", "sonarium"]


def train(model: str, seed: int, folder: Path) -> Path:
    run = folder / f"{model.replace('/', '-')}-{seed}"
    words = ["train", model.partition("/")[0], *GRID, *MODELS[model], "--seed", str(seed), "--run", str(run)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run([*SONARIUM, *words, "--precision", "bf16", "--save-every", "500"], env=environment)
    if done.returncode:
        raise SystemExit(f"{run} failed")
    print(run, "trained", flush=True)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "tones", help="where the runs go")
    parser.add_argument("--only", choices=MODELS, action="append", help="train just this one")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each")
    flags = parser.parse_args()
    wanted = [(model, seed) for model in flags.only or MODELS for seed in SEEDS]
    with ThreadPoolExecutor(flags.jobs) as pool:
        runs = list(pool.map(lambda job: train(*job, flags.folder), wanted))
    for protocol in ("standard", "syntone"):
        words = ["score", *map(str, runs), "--protocol", protocol, "--json"]
        found = json.loads(subprocess.run([*SONARIUM, *words], check=True, capture_output=True).stdout)
        out = ROOT / "docs" / "results" / f"tones-{protocol}.json"
        out.parent.mkdir(exist_ok=True, parents=True)
        for row in found["summary"]:
            row["runs"] = [Path(run).name for run in row["runs"]]
        out.write_text(json.dumps({"seeds": list(SEEDS), "summary": found["summary"]}, indent=1) + "\n")
        print(out)


if __name__ == "__main__":
    main()
