"""`sonarium score RUN…`: how well the codes of runs recover the planted causes."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from sonarium.commands.assemble import Plan, Trained, assemble, open_run
from sonarium.commands.flags import parse, say
from sonarium.files import write_whole
from sonarium.measures.likelihood import bounds
from sonarium.measures.recovery import batches, recovery
from sonarium.measures.statistics import interval

UNTRAINED_SEED = 1_000_003
"""Added to a run's seed for the weights of its untrained control."""
HEADINGS = {
    "dci_disentanglement": "DCI D",
    "dci_completeness": "DCI C",
    "dci_informativeness": "DCI I",
    "beta_vae": "β-VAE",
    "factor_vae": "Factor",
    "modularity": "modul.",
    "explicitness": "explic.",
    "dead_codes": "dead",
    **{name: name.upper() for name in ("mig", "sap", "jemmig", "dcimig", "irs", "elbo", "iwae")},
}
"""Short enough for a table of all scores to fit a terminal."""


@dataclass(frozen=True)
class ScoreFlags:
    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUNS…")]
    """Run folders; those that differ in nothing but their seed share a row with an interval."""
    protocol: Literal["standard", "syntone"] = "standard"
    """standard: each score as its paper defines it. syntone: as SynTone's evaluator called them."""
    draws: int = 64
    """Samples a clip for the importance-weighted bound of the likelihood."""
    device: str = "cpu"
    """Device to compute on."""
    json: bool = False
    """Print JSON instead of a table."""


def main(arguments: list[str]) -> None:
    flags = parse(ScoreFlags, arguments, "score", "How well the codes of runs recover the planted causes.")
    if not flags.runs:
        raise ValueError("no run to score: name one or more run folders")
    records = []
    for folder in flags.runs:
        trained = open_run(folder)
        for fault in trained.run.passed_over:
            say(f"sonarium: {folder}: {fault}; took step {trained.step}")
        record = score(trained, flags)
        name = "scores.json" if flags.protocol == "standard" else f"scores-{flags.protocol}.json"
        write_whole(folder / name, json.dumps(record, indent=2) + "\n")
        records.append({"run": str(folder), "config": trained.run.config, **record})
    rows = [row for group in grouped(records) for row in summarised(group)]
    if flags.json:
        print(json.dumps({"protocol": flags.protocol, "runs": records, "summary": rows}, indent=2))
    else:
        show(rows, flags.protocol)


def score(trained: Trained, flags: ScoreFlags) -> dict[str, Any]:
    """What `scores.json` holds: the scores of the run, of its controls, and bounds of its likelihood."""
    seed, test = trained.plan.fit.seed, trained.parts.test
    untrained = assemble(seeded(trained, seed + UNTRAINED_SEED)).learner
    untrained.front.load_state_dict(trained.learner.front.state_dict())
    for learner in (trained.learner, untrained):
        learner.to(flags.device).eval()
    found = recovery(trained.learner, untrained, trained.world, trained.parts.train, test, flags.protocol, seed)
    record = {
        "protocol": flags.protocol,
        "step": trained.step,
        "clips": len(test),
        "scores": found.pop("scores"),
        "controls": found,
        "seeds": 1,
    }
    if hasattr(trained.learner, "log_weights"):
        with torch.no_grad():
            held_out = (trained.learner.features(b) for b in batches(trained.world, test, trained.learner))
            record["likelihood"] = bounds(trained.learner, held_out, flags.draws, seed)
    return record


def seeded(trained: Trained, seed: int) -> Plan:
    """The same plan with another seed for its weights."""
    return replace(trained.plan, fit=replace(trained.plan.fit, seed=seed))


def grouped(records: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs of one configuration together, whatever their seed."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        config = record["config"] | {"fit": record["config"]["fit"] | {"seed": None}}
        groups.setdefault(json.dumps(config, sort_keys=True), []).append(record)
    return list(groups.values())


def summarised(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for the learner and one for each control; each score a mean with its 95 % interval over seeds."""
    first = group[0]["config"]
    name = first["model"] if first["preset"] == "default" else f"{first['model']} ({first['preset']})"
    rows = []
    for who in ("scores", *group[0]["controls"]):
        found = [record["scores"] if who == "scores" else record["controls"][who] for record in group]
        shared = [key for key in found[0] if key != "notes" and all(key in scores for scores in found)]
        rows.append(
            {
                "model": name if who == "scores" else f"· {who}",
                "world": first["world"],
                "seeds": len(group),
                "runs": [record["run"] for record in group],
                "scores": {key: asdict(interval([scores[key] for scores in found])) for key in shared},
            }
        )
    if all("likelihood" in record for record in group):
        for bound in ("elbo", "iwae"):
            values = [record["likelihood"][bound] for record in group]
            rows[0]["scores"][bound] = asdict(interval(values))
    return rows


def show(rows: list[dict[str, Any]], protocol: str) -> None:
    """Models down, scores across; the half width of the interval behind ±."""
    names = list(dict.fromkeys(name for row in rows for name in row["scores"]))
    table = Table("", *(HEADINGS.get(name, name) for name in names), title=f"protocol {protocol}", box=None)
    for row in rows:
        table.add_row(row["model"], *(cell(row["scores"].get(name)) for name in names))
    Console().print(table)


def cell(score: dict[str, float] | None) -> str:
    if score is None:
        return ""
    text = f"{score['mean']:.2f}" if abs(score["mean"]) < 100 else f"{score['mean']:.0f}"
    return text if score["low"] is None else f"{text}±{(score['high'] - score['low']) / 2:.2f}"
