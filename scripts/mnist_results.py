"""Test ELBO and IWAE bound during a training on MNIST, for `docs/autoencoders.md`.

    .venv/bin/python scripts/mnist_results.py --path FOLDER_OF_IDX_FILES

The 784-400-200 Bernoulli network (preset `mnist`) of the plain VAE, three seeds, each with its own training split
of four fifths. The run is stopped at each point of the curve, scored on the held-out clips, and resumed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sonarium.measures.statistics import interval

ROOT = Path(__file__).resolve().parents[1]
SONARIUM = [sys.executable, "-m", "sonarium"]
SEEDS = range(100, 103)
NAMES = {"elbo": "ELBO", "iwae": "IWAE, 256 samples"}
POINTS = (125, 250, 500, 1000, 2000, 3750)
"""Training steps of 64 pictures each; 125 are an epoch of 8,000."""


def curve(seed: int, path: Path, folder: Path) -> list[dict[str, float]]:
    run = folder / f"mnist-{seed}"
    words = ["train", "vae", "--preset", "mnist", "--world", "digits", "--path", str(path)]
    found = []
    for steps in POINTS:
        train = [*words, "--seed", str(seed), "--run", str(run), "--steps", str(steps)]
        subprocess.run([*SONARIUM, *train], check=True, stdout=subprocess.DEVNULL)
        score = [*SONARIUM, "score", str(run), "--draws", "256", "--json"]
        scored = json.loads(subprocess.run(score, check=True, capture_output=True).stdout)
        bounds = scored["runs"][0]["likelihood"]
        found.append({"steps": steps, **bounds})
        print(seed, found[-1], flush=True)
    return found


def draw(curves: list[list[dict[str, float]]]) -> None:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, colour in zip(NAMES, ("#0072b2", "#d55e00"), strict=True):
        values = np.array([[point[name] for point in curve] for curve in curves])
        axes.plot(POINTS, values.mean(0), "o-", color=colour, label=NAMES[name])
        axes.fill_between(POINTS, values.min(0), values.max(0), color=colour, alpha=0.2)
    axes.set(xscale="log", xlabel="steps of 64 pictures", ylabel="nats a picture, held out")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    out = ROOT / "docs" / "figures" / "mnist.png"
    out.parent.mkdir(exist_ok=True, parents=True)
    figure.savefig(out, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description="Test ELBO and IWAE bound along a training on MNIST.")
    parser.add_argument("--path", type=Path, required=True, help="folder of MNIST's idx files")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "mnist", help="where the runs go")
    flags = parser.parse_args()
    curves = [curve(seed, flags.path, flags.folder) for seed in SEEDS]
    out = ROOT / "docs" / "results" / "mnist.json"
    out.parent.mkdir(exist_ok=True, parents=True)
    out.write_text(json.dumps({"seeds": list(SEEDS), "curves": curves}, indent=1) + "\n", encoding="utf-8")
    draw(curves)
    insert(curves)
    print(out)


def insert(curves: list[list[dict[str, float]]]) -> None:
    """Insert the table of the curve between its marks in docs/autoencoders.md."""
    path = ROOT / "docs" / "autoencoders.md"
    lines = ["| steps | ELBO | IWAE, 256 samples |", "| --- | --- | --- |"]
    for number, steps in enumerate(POINTS):
        cells = []
        for name in NAMES:
            found = interval([curve[number][name] for curve in curves])
            assert found.low is not None and found.high is not None, found
            cells.append(f"{found.mean:.2f} ± {(found.high - found.low) / 2:.2f}")
        lines.append(f"| {steps} | {' | '.join(cells)} |")
    before, _, rest = path.read_text(encoding="utf-8").partition("<!-- mnist -->")
    _, _, after = rest.partition("<!-- end of mnist -->")
    path.write_text(
        before + "\n".join(["<!-- mnist -->", *lines, "<!-- end of mnist -->"]) + after, encoding="utf-8"
    )


if __name__ == "__main__":
    main()
