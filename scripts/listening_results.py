"""Train agents in the settings of seek-suite and play its held-out episodes: the tables of docs/agents.md.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/listening_results.py                       # all missing results
    OMP_NUM_THREADS=1 .venv/bin/python scripts/listening_results.py --parts suite --seeds 1
    OMP_NUM_THREADS=1 .venv/bin/python scripts/listening_results.py --write               # only the page

Everything runs through the command line: `sonarium train` with the arguments below, and `sonarium score --suite`.
Each score is saved in docs/results/listening.json at once, with the learning curve of its training, so that the
same command resumes after an interruption; the page has figures of the curves. The last weights play the first
500 held-out episodes greedily; nothing was tuned on these seeds.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from cpc_results import said
from learning_curves import METRICS, MINUTES, STEPS, curve_of, seed_of
from matplotlib.figure import Figure
from tones_results import ROOT, insert, table

from sonarium.bench.timing import hardware
from sonarium.measures.statistics import interval
from sonarium.report.charts import MULTIPLES, multiples
from sonarium.report.learning import Axis, Seed, draw, readable
from sonarium.report.style import BODY, LINES, png, tidy
from sonarium.rooms import SUITE

RUNS = ROOT / "runs" / "listening"
FIGURES = ROOT / "docs" / "figures"
RESULTS = ROOT / "docs" / "results" / "listening.json"
SEEDS = range(100, 103)
EPISODES = 500
LEGEND = (
    "*Share of the episodes of training, with sampled or random actions, in which all sources were found, "
    "smoothed over 5 % of the training: median over seeds, and the band from the lower to the upper quartile. At "
    "first only short episodes have ended.*"
)
UPDATES = 500
"""Training steps, each of 2,048 environment steps."""
DRY_AND_WET = ("dry", "default", "rt60-300", "rt60-500", "rt60-800")
EARS = f"--world recordings --path {ROOT.parent / 'shared' / 'data' / 'librispeech' / 'test-other'} --rate 8000"
"""Training data of the ears' encoders: no sound of the rooms."""
PPO = "ppo --preset seek"
VARIANTS = {
    "": PPO,
    "no memory": f"{PPO} --memory 0",
    "predictive coding": f"{PPO} --sound-rate 0 --ears {{trained}}",
    "world model": f"{PPO} --sound-rate 0 --ears {{imagined}}",
    "untrained encoder": f"{PPO} --sound-rate 0 --ears {{untrained}}",
    "recurrent DQN": "dqn --preset r2d2 --steps 800",
    "Dreamer": "dreamer --preset seek --steps 400",
    "Dreamer, contrast": "dreamer --preset seek --steps 400 --objective dreaming",
}
"""Arguments of `sonarium train`, by variant."""
OTHERS = {"recurrent DQN": 204_800, "Dreamer": 102_400, "Dreamer, contrast": 102_400}
"""Other agents, and their environment steps."""
LISTENERS = {
    "PPO": f"{PPO} --steps 50",
    "recurrent DQN": "dqn --preset r2d2 --steps 400",
    "PQN": "pqn --preset seek --steps 50",
}
"""Agents that hear with a separator, trained for a tenth of the steps."""
SEPARATED_STEPS = 102_400
CARRIED = "--sound-rate 0 --ears {{{}}} --carry-ears"
READ = {
    "features": "",
    "separated, cues": CARRIED.format("separator"),
    "separated, sums": CARRIED.format("separator") + " --separated sums",
    "separated, means": CARRIED.format("separator") + " --separated means",
    "separated, loudness": CARRIED.format("separator") + " --separated loudness",
    # It takes whole sounds, so each window separately.
    "deep clustering, sums": "--sound-rate 0 --ears {clustering} --separated sums",
    "untrained separator, cues": CARRIED.format("mute"),
}
"""Features that they read from the separated sound, with their flags."""
SEPARATED = {f"{agent}, {read}": f"{words} {flags}" for agent, words in LISTENERS.items()
             for read, flags in READ.items()}  # fmt: skip
VARIANTS |= SEPARATED
NEEDED = {
    "trained": f"cpc --preset speech {EARS} --steps 1000",
    "untrained": f"cpc --preset speech {EARS} --steps 0",
    "imagined": f"dreaming --preset speech {EARS} --steps 1000",
    "separator": "separator --moving --steps 2000",
    "clustering": "separator --preset deep-clustering --moving --steps 2000",
    "mute": "separator --moving --steps 0",
}
"""Runs that serve as ears, each trained once."""
PARTS = {
    "suite": [(name, "", (name,)) for name in SUITE],
    "reverberation": [(name, "", DRY_AND_WET) for name in DRY_AND_WET],
    "memory": [(name, "no memory", (name,)) for name in ("default", "intermittent", "stops")],
    "ears": [
        (name, variant, (name,))
        for name in ("default", "intermittent")
        for variant in ("predictive coding", "world model", "untrained encoder")
    ],
    "agents": [(name, variant, (name,)) for name in ("default", "intermittent") for variant in OTHERS],
    "separation": [("default", variant, ("default",)) for variant in SEPARATED],
}
"""By part, the trainings: setting, variant, and the settings in which it is tested."""


def read() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"agents": {}, "scripts": {}}


def keep(kind: str, name: str, found: Mapping[str, Any]) -> None:
    kept = read()
    kept[kind][name] = kept[kind].get(name, {}) | found
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def measure(setting: str, variant: str, tested: Sequence[str], seed: int) -> None:
    job = "/".join([setting, *([variant] if variant else []), str(seed)])
    missing = [name for name in tested if name not in read()["agents"].get(job, {})]
    if not missing:
        return
    run, words = RUNS / job.replace("/", "-").replace(" ", "-").replace(",", ""), VARIANTS[variant]
    ears = [name for name in NEEDED if f"{{{name}}}" in words]
    for name in ears:
        said(
            "train", *NEEDED[name].split(), "--device", "cpu", "--no-pictures", "--run", str(RUNS / f"ears-{name}")
        )
    words = words.format(**{name: RUNS / f"ears-{name}" for name in ears})
    began, busy = time.perf_counter(), time.process_time()
    agent, *own = words.split()
    # If --steps is given twice, the last one counts.
    said("train", agent, "--suite", setting, "--steps", str(UPDATES), *own, "--seed", str(seed),
         "--device", "cpu", "--no-pictures", "--run", str(run))  # fmt: skip
    took = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - busy, "hardware": hardware()}
    if "took" not in read()["agents"].get(job, {}):
        # A run that is only played in further settings is not trained again.
        keep("agents", job, {"took": took})
    if curve := curve_of(run):
        keep("agents", job, {"curve": curve})
    for name in missing:
        apart = ["--separation"] if set(ears) & {"separator", "clustering", "mute"} else []
        found = json.loads(said("score", str(run), "--suite", name, "--episodes", str(EPISODES), "--json", *apart))
        by_agent = found["suite"][str(run)][name]
        keep("agents", job, {name: by_agent.pop("agent")})
        if apart:
            heard = found["separation"][str(run)][name]
            keep("agents", job, {"separation": {key: rows for key, rows in heard.items() if key != "episodes"}})
        keep("scripts", name, by_agent)
        shown = {key: round(read()["agents"][job][name][key]["mean"], 3) for key in ("success", "sna")}
        print(job, "in", name, shown, round(took["cpu_s"]), "s", flush=True)


def cell(kept: Mapping[str, Any], setting: str, variant: str, tested: str, key: str) -> str:
    """The mean over seeds with its 95 % interval; of a single seed the interval over episodes."""
    jobs = ["/".join([setting, *([variant] if variant else []), str(seed)]) for seed in SEEDS]
    found = [kept["agents"][job][tested][key] for job in jobs if tested in kept["agents"].get(job, {})]
    if not found:
        return "–"
    if len(found) == 1:
        return written(found[0])
    over = interval([one["mean"] for one in found])
    assert over.low is not None and over.high is not None
    # A fraction is at most 1.
    return f"{over.mean:.2f} [{max(0, over.low):.2f}, {min(1, over.high):.2f}]"


def written(score: Mapping[str, float]) -> str:
    return f"{score['mean']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


def seeds(kept: Mapping[str, Any], setting: str, variant: str = "") -> int:
    middle = f"{setting}/{variant}/" if variant else f"{setting}/"
    return sum(job.startswith(middle) and job.removeprefix(middle).isdigit() for job in kept["agents"])


def minutes(some: Sequence[Mapping[str, Any]]) -> str:
    return f"{np.median([one['took']['cpu_s'] / 60 for one in some]):.0f}"


def changed(kept: Mapping[str, Any], some: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Rows of settings with a variant, as far as there are results."""
    return [
        [name, variant, str(seeds(kept, name, variant)),
         *(cell(kept, name, variant, name, key) for key in ("success", "sna"))]
        for name, variant in some if seeds(kept, name, variant)
    ]  # fmt: skip


def write(kept: Mapping[str, Any]) -> None:
    agents = kept["agents"]
    machines = sorted({one["took"]["hardware"] for one in agents.values()})
    plain = [one for job, one in agents.items() if not set(job.split("/")) & {*OTHERS, *SEPARATED}]
    parts = [
        f"{'; '.join(machines)}. {UPDATES * 2048:,} steps, {minutes(plain)} minutes of one processor at the "
        "median."
    ]
    rows = []
    for name in SUITE:
        if name in kept["scripts"]:
            rule = kept["scripts"][name]["difference"]
            own = [cell(kept, name, "", name, key) for key in ("success", "sna")]
            rows.append([name, str(seeds(kept, name)), *own, *(written(rule[key]) for key in ("success", "sna"))])
    head = ["setting", "seeds", "success", "SNA", "success of `difference`", "SNA of `difference`"]
    parts.append(table(head, rows))
    wet = [name for name in DRY_AND_WET if any(other in agents.get(f"{name}/{SEEDS[0]}", {}) for other in
                                               DRY_AND_WET if other != name)]  # fmt: skip
    if wet:
        parts.append("SNA, trained in the row, tested in the column:")
        parts.append(table(["", *DRY_AND_WET], [[name, *(cell(kept, name, "", other, "sna")
                                                         for other in DRY_AND_WET)] for name in wet]))  # fmt: skip
    others = [(name, variant) for part in ("memory", "ears") for name, variant, _ in PARTS[part]]
    if rows := changed(kept, others):
        parts.append(table(["setting", "in place of features and memory", "seeds", "success", "SNA"], rows))
    others = [(name, variant) for name, variant, _ in PARTS["agents"]]
    if rows := changed(kept, others):
        rows = [
            [*row, f"{OTHERS[row[1]]:,}",
             minutes([one for job, one in agents.items() if job.startswith(f"{row[0]}/{row[1]}/")])]
            for row in rows
        ]  # fmt: skip
        parts.append(table(["setting", "agent", "seeds", "success", "SNA", "steps", "minutes"], rows))
    if rows := separated(agents):
        head = [
            "agent", "reads", "seeds", "success", "SNA", "SNR improvement", "localisation error",
            "of the mixture", "of the true sources", "ρ of improvement and SNA", "minutes",
        ]  # fmt: skip
        parts.append(
            f"What agents read of separated sources in `default`, after {SEPARATED_STEPS:,} steps; separation in "
            "dB and localisation in degrees, in the episodes that were scored."
        )
        parts.append(table(head, rows))
    parts += figures(agents)
    insert("listening", "\n\n".join(parts), "agents.md")


def separated(agents: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of agents that hear with a separator: their scores, and the separation in the same episodes."""
    rows = []
    for variant in SEPARATED:
        jobs = [job for seed in SEEDS if (job := f"default/{variant}/{seed}") in agents]
        if not jobs:
            continue
        agent, read = variant.split(", ", 1)
        heard = [agents[job]["separation"] for job in jobs if "separation" in agents[job]]
        told = [
            [one["scores"].get("snr_improvement") for one in heard],
            [one["scores"].get("location_error") for one in heard],
            *(
                [one["controls"][who].get("location_error") for one in heard]
                for who in ("mixture", "true_sources")
            ),
        ]
        means = [f"{np.mean([one['mean'] for one in some if one]):.1f}" if any(some) else "–" for some in told]
        rho = [by["snr_improvement"] for one in heard for by in one["rank_correlation"].values()]
        own = [cell({"agents": agents}, "default", variant, "default", key) for key in ("success", "sna")]
        rows.append([
            agent, read, str(len(jobs)), *own, *means,
            f"{np.mean([one['mean'] for one in rho if one]):.2f}" if any(rho) else "–",
            minutes([agents[job] for job in jobs]),
        ])  # fmt: skip
    return rows


def figures(agents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Draw the learning curves, a panel for each setting; return the Markdown that shows them."""
    curves: dict[str, dict[str, list[Seed]]] = {}
    for job, one in agents.items():
        setting, *variant = job.split("/")[:-1]
        if "curve" in one and not set(variant) & set(SEPARATED):
            curves.setdefault(setting, {}).setdefault("".join(variant), []).append(seed_of(one["curve"]))
    shown = []
    for axis, against in ((STEPS, "steps"), (MINUTES, "processor time")) if curves else ():
        file = f"listening-{against.split()[0]}.png"
        (FIGURES / file).write_bytes(png(grid({name: curves[name] for name in SUITE if name in curves}, axis)))
        shown.append(f"![episodes of training that succeed against {against}](figures/{file})")
    return [*shown, LEGEND] if shown else []


def grid(curves: Mapping[str, Mapping[str, Sequence[Seed]]], axis: Axis) -> Figure:
    """A panel for each setting, a colour for each variant."""
    figure, flat = multiples(len(curves), True)
    named: dict[str, Any] = {}
    for number, (axes, (setting, variants)) in enumerate(zip(flat, curves.items(), strict=True)):
        for variant, seeds in variants.items():
            label, colour = variant or "PPO", LINES[list(VARIANTS).index(variant) % len(LINES)]
            if draw(axes, seeds, METRICS["success"], axis, colour, label):
                named |= {label: axes.get_lines()[-1]}
        tidy(axes, setting, axis.name, "share of successes" if not number % MULTIPLES else "", grid=True)
        axes.set_ylim(-0.03, 1.03)
        readable(axes, axis)
    figure.legend(named.values(), named, loc="outside lower center", ncols=5, fontsize=BODY, frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Results of agents that seek sounds.")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--settings", nargs="+", help="names of settings; by default all of a part")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="at most so many seeds of each")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    for seed in SEEDS[: flags.seeds]:
        for part in flags.parts:
            for setting, variant, tested in () if flags.write else PARTS[part]:
                if flags.settings is None or setting in flags.settings:
                    measure(setting, variant, tested, seed)
    write(read())


if __name__ == "__main__":
    main()
