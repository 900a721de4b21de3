"""`sonarium bench NAME`: speed beside other ways to do the same work.

`--json` prints one object: `bench`; `hardware`; and `cases`, each with `name`, `work`, `ours_s`, `peer`,
`peer_s` and `ratio`, the peer's time over ours; times are medians of interleaved runs.
"""

import importlib
import json
from dataclasses import dataclass
from typing import Annotated

from rich.console import Console
from rich.table import Table

from sonarium.bench.timing import hardware
from sonarium.commands.faults import UsageError
from sonarium.commands.flags import choose, leading_word, parse, wants_help
from sonarium.config import Range

BENCHES = {
    "tones": "rendering, against NumPy and SciPy clip by clip",
    "features": "spectrograms, against librosa clip by clip",
    "vae": "a training step, against a bare PyTorch loop of the same network",
    "disentangle": "the measures, against plain scikit-learn and NumPy",
    "cpc": "a training step of predictive coding, against the plain form of the same network",
    "loader": "random pieces of recordings, against opening a file for each",
    "processes": "training in 2 processes of 1 thread, against 1 process of 2 threads",
    "syrinx": "a batch of birds, against the same equations in NumPy, and against real time",
    "rooms": "binaural rendering for a moving listener, against pyroomacoustics",
    "seek": "a step of each mode that makes seeking hard, against one of the default",
    "dreaming": "the world model: its loop against the plain one, and a whole update against the naive one",
    "mrgan": "a training step of the mode-regularised GAN, against its six steps in bare PyTorch",
    "hmm": "expectation-maximisation of a hidden Markov model, against hmmlearn",
    "separator": "separation by windows, against OtoWorld's network",
    "ppo": "acting and learning in CartPole, against Stable-Baselines3",
    "rollout": "acting without updates, against Stable-Baselines3, and rooms against copies of one",
    "dqn": "Q-learning in CartPole, against Stable-Baselines3",
    "pqn": "Q-learning without replay in CartPole, against our PPO with the same settings",
    "dreamer": "an update of actor, critic and world model, against the plain loop, and what it imagines",
    "replay": "drawing sequences and steps, against a list of arrays and Stable-Baselines3",
}


@dataclass(frozen=True)
class BenchFlags:
    repeats: Annotated[int, Range(1, 10**6)] = 5
    """Timed repetitions of each side, interleaved; the medians are compared."""
    json: bool = False
    """Print JSON instead of a table."""


def main(arguments: list[str]) -> None:
    name, rest = leading_word(arguments)
    if name is None and not wants_help(rest):
        raise UsageError(f"bench what? choose one of {', '.join(BENCHES)}")
    name = choose("bench", name or "tones", BENCHES)
    flags = parse(BenchFlags, rest, f"bench {name}", f"Speed of {name}: {BENCHES[name]}.")
    cases = importlib.import_module(f"sonarium.bench.{name}").cases(repeats=flags.repeats)
    if flags.json:
        print(json.dumps({"bench": name, "hardware": hardware(), "cases": cases}, indent=2))
        return
    table = Table("case", "work", "ours s", "peer", "peer s", "ratio", title=hardware())
    for case in cases:
        table.add_row(
            case["name"], case["work"], f"{case['ours_s']:.4g}", case["peer"], f"{case['peer_s']:.4g}",
            f"{case['ratio']:.2f} ×",
        )  # fmt: skip
    Console().print(table)
