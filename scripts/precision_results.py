"""Compare the scores of training in bf16 and in 32 bits: SynTone's VAE in both, on the same five seeds.

.venv/bin/python scripts/precision_results.py        # train missing runs, then score and write docs/speed.md
"""

import json
import subprocess
from pathlib import Path

from tones_results import GRID, ONE_THREAD, ROOT, SEEDS, SONARIUM, TWENTY_EPOCHS, insert, table

from sonarium.measures.statistics import interval, paired

FOLDER = ROOT / "runs" / "precision"
SHOWN = ("mig", "dci_disentanglement", "dci_informativeness", "jemmig", "explicitness", "elbo")
HEADS = {"dci_disentanglement": "DCI D", "dci_informativeness": "DCI I", "elbo": "ELBO"}


def train(precision: str, seed: int) -> Path:
    run = FOLDER / f"{precision}-{seed}"
    words = f"train vae --preset syntone --steps {TWENTY_EPOCHS} --save-every 500 --precision {precision}".split()
    # A complete run returns at once.
    subprocess.run(
        [*SONARIUM, *words, *GRID, "--seed", str(seed), "--run", str(run)],
        env=ONE_THREAD,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return run


def scores(runs: list[Path]) -> list[dict[str, float]]:
    done = subprocess.run(
        [*SONARIUM, "score", *map(str, runs), "--draws", "4", "--json"],
        check=True,
        capture_output=True,
        env=ONE_THREAD,
    )
    return [run["scores"] | run["likelihood"] for run in json.loads(done.stdout)["runs"]]


def main() -> None:
    found = {name: scores([train(name, seed) for seed in SEEDS]) for name in ("32", "bf16")}
    rows = []
    for name in SHOWN:
        full, half = ([run[name] for run in found[precision]] for precision in ("32", "bf16"))
        gap = paired(half, full)
        low, high = gap.difference.low, gap.difference.high
        means = [f"{interval(values).mean:.3f}" for values in (full, half)]
        rows.append(
            [
                HEADS.get(name, name),
                *means,
                f"{gap.difference.mean:+.3f} [{low:+.3f}, {high:+.3f}]",
                f"{gap.p:.2f}",
            ]
        )
    insert("precision", table(["", "32 bits", "bf16", "difference, 95 %", "p"], rows), "speed.md")
    (ROOT / "docs" / "results" / "precision.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
