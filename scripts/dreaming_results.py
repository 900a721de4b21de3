"""Train world models and score their forecasts: the tables of docs/dreaming.md.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/dreaming_results.py                       # all missing results
    OMP_NUM_THREADS=1 .venv/bin/python scripts/dreaming_results.py --parts sentences --seeds 2
    OMP_NUM_THREADS=1 .venv/bin/python scripts/dreaming_results.py --write               # only the page

Everything runs through the command line: `sonarium train dreaming` with the flags below, and `sonarium score`.
Each score is saved in docs/results/dreaming.json at once, so that the same command resumes after an interruption.
Recordings are in ../shared/data.
"""

import argparse
import json
import re
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpc_results import said
from tones_results import ROOT, insert, table

from sonarium.bench.timing import hardware
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.forecasting import Trial
from sonarium.evaluation.pieces import Moments, Pieces, pieces_of
from sonarium.evaluation.predictors import decoder_of, linear, of_states
from sonarium.evaluation.probing import probing
from sonarium.features.tokens import VOICES
from sonarium.measures.statistics import interval, paired
from sonarium.models.autoregressive import Autoregressive
from sonarium.models.contract import FrameEncoder
from sonarium.models.dreaming import Dreaming
from sonarium.models.framing import in_frames
from sonarium.runs.build import Opened, open_run
from sonarium.training.journal import read_metrics
from sonarium.worlds.sentences import Sentences

DATA, RUNS = ROOT.parent / "shared" / "data", ROOT / "runs" / "dreaming"
RESULTS = ROOT / "docs" / "results" / "dreaming.json"
SEEDS = range(100, 105)
STEPS = 3000
"""Training steps for sounds of many voices, the default; the others have learnt most after a third of them, which
takes a quarter of an hour with pieces of four seconds."""
SOONER = {"songbird": 1000, "noise": 2000, "speech": 800, "finch": 1000, "steering": 1000, "ablations": 1000}
EDITION = 3
"""Increased when scores or presets are redefined: everything is measured again; scores are saved by edition."""
BEFORE = ("ablations",)
"""Parts that are still shown from the previous edition, with a constant learning rate, and with the mean of 16
futures as forecast."""
BABBLE = 0xBAB
"""Seed of the babble."""
VALIDATED = "--validation 0.15 --save-every 100"
"""For data with little sound per voice: the weights with the lowest loss on held-out voices are scored."""
SONGBIRD = "--world songbird --level middle --birds 1 --songs 400 --seconds 2"
SENTENCES = f"--world sentences --path {DATA / 'fsdd'}"
SOUNDS = {
    "songbird": SONGBIRD,
    "sentences": SENTENCES,
    "speech": f"--world recordings --path {DATA / 'librispeech'} --rate 16000 --seconds 4 {VALIDATED}",
    "finch": f"--world recordings --path {DATA / 'bengalese_finch'} --rate 32000 --group file --seconds 2",
    "noise": SENTENCES,
    "steering": SONGBIRD,
    "ablations": SONGBIRD,
}
"""Flags of the world, by part."""
TOKENS = {
    "sentences": "--token-seconds 0.04",
    "speech": "--token-seconds 0.04 --token-frames 5",
    "noise": "--token-seconds 0.04 --babble-db 0 --babble-up-to-db 20 --kl-weight 0.03",
    "steering": "--actions tension",
}
"""Flags of tokens and actions, by part."""
WORLD_MODELS = ("dreaming", "reconstruction")
SHORT = {"speech": ("--joint-views", 500)}
"""Flags and training steps of the world models on little sound, by part; chosen on seed 1, which is not among the
results. The other models have the steps of the part."""
UNAUGMENTED = "reconstruction, unaugmented"
"""Reconstruction of the input itself, as in DreamerV2; `reconstruction` recovers the clean tokens from an
augmented view."""
HALF = "bf16"
"""`dreaming` with products in 16 bits; all others train in 32."""
MODELS = {
    "dreaming": "dreaming",
    "reconstruction": "dreaming --objective reconstruction",
    UNAUGMENTED: "dreaming --objective reconstruction --views 1",
    HALF: "dreaming --precision bf16",
    "contrast": "dreaming --objective contrast",
    "barlow": "dreaming --objective barlow",
    "embedding": "dreaming --objective embedding",
    "twister": "dreaming --objective twister",
    "gru": "autoregressive",
    "transformer": "autoregressive --preset transformer",
    "gru of codes": "autoregressive --slots 4",
    "transformer of codes": "autoregressive --preset transformer --slots 4",
    "cpc": "cpc --width 384 --batch-size 16",
}
CODED = ("gru of codes", "transformer of codes")
"""Models on the codes of a VQ-VAE, whose pieces are as long as the tokens of the others."""
VQ_VAE, PIECES = "vq-vae --slots 4", 1000
"""Settings of the VQ-VAE, and its training steps."""
ABLATIONS = {
    "K = 0": "--horizon 0",
    "K = 1": "--horizon 1",
    "every k an update": "--overshoot all",
    "p̃ two layers": "--predictor mlp",
    "p̃ the prior": "--predictor prior",
    "one view": "--views 1",
    "KL of k = 0 alone": "--no-kl-ahead",
    "categorical critic": "--critic categorical",
    # With as many weights as the categorical state without its joint prior, which a Gaussian one has not either.
    "Gaussian state": "--latent gaussian --variables 192",
    "transformer for h": "--dynamics transformer --posterior obs --deter 192 --depth 1",
    "alike ones are negatives": "--alike-below 0",
    "no joint prior": "--no-joint-prior",
}
MODELS |= {name: f"dreaming {flags}" for name, flags in ABLATIONS.items()}
MASKED = "tokens masked"
MODELS[MASKED] = "dreaming --mask-tokens 0.3"
"""Masking makes the state depend on the actions; chosen on seed 1, which is not among the results."""
RIVALS = ("dreaming", "reconstruction", "gru", "transformer", *CODED, "cpc")
PARTS = {
    "songbird": (*RIVALS, "contrast", "barlow", "embedding", "twister", UNAUGMENTED, HALF),
    "sentences": (*RIVALS, UNAUGMENTED),
    "speech": RIVALS,
    "finch": RIVALS,
    "noise": ("dreaming", "reconstruction", UNAUGMENTED),
    "steering": ("dreaming", MASKED, "gru"),
    "ablations": tuple(ABLATIONS),
}
OMITTED = {"speech": ("clips/", "retrieval/sex", "retrieval/subset")}
"""Scores that the data cannot tell apart, by part: 40 of the 47 speakers have one utterance, and the test split
has about ten speakers, of one sex in some seeds."""
AHEAD = (("near", "group", "all"), ("likelihood", "distance"), ("coverage",), ("kernel", "frechet"))
"""Scores of forecasts, grouped by table."""
CONTROLS = {
    "persistence": "persistence", "linear_ar": "linear AR", "hmm": "HMM", "gru_ar": "small GRU-AR",
    "shuffled_past": "shuffled past", "random": "untrained", "chance": "chance", "real": "real tokens",
    "copy": "decoded",
}  # fmt: skip
NEXT = {"hmm": "HMM", "gru_ar": "small GRU-AR", "random": "untrained", "planted": "the grammar",
        "real": "real", "copy": "decoded"}  # fmt: skip
PROBES = {"random": "untrained", "log_mel": "log-mel bands", "mfcc": "MFCC", "chance": "chance"}
CODES = {"hmm": "HMM of the states", "gru_ar": "small GRU of the states", "n_gram": "n-grams of the states"}
STEERED = {"gru_ar": "small GRU-AR with actions", "actions_alone": "the actions alone", "real": "real tokens"}


def steps(part: str, model: str) -> int:
    if part in SHORT and model in WORLD_MODELS:
        return SHORT[part][1]
    return SOONER.get(part, STEPS)


def edition(part: str) -> str:
    """Edition of the scores shown for a part."""
    return str(EDITION - (part in BEFORE))


def read() -> dict[str, Any]:
    kept = (
        json.loads(RESULTS.read_text(encoding="utf-8"))
        if RESULTS.exists()
        else {"hardware": hardware(), "scores": {}}
    )
    for number in (EDITION - 1, EDITION):
        kept["scores"].setdefault(str(number), {})
    return kept


def measure(part: str, model: str, seed: int) -> None:
    job = f"{part}/{model}/{seed}"
    if job in read()["scores"][str(EDITION)]:
        return
    run, begin, busy = RUNS / re.sub(r"[^\w-]+", "-", job), time.perf_counter(), time.process_time()
    own, sounds = MODELS[model].split(), SOUNDS[part].split()
    if model == "cpc":
        own += ["--schedule", "cosine"]
    elif model in CODED:
        sounds = ["--codes", str(vq_vae(part, seed)), "--frames", str(tokens_of_piece(part, seed))]
    else:
        own += TOKENS.get(part, "").split()
        own += SHORT[part][0].split() if part in SHORT and model in WORLD_MODELS else []
    train(run, own, sounds, steps(part, model), seed)
    took = {"wall_s": time.perf_counter() - begin, "cpu_s": time.process_time() - busy}
    best = ["--best"] if VALIDATED in SOUNDS[part] else []
    found = in_babble(run) if part == "noise" else json.loads(said("score", str(run), *best, "--json"))["runs"][0]
    if model == "cpc":
        found["scores"] |= from_codes(run, part, seed)
    elif model in CODED:
        found["scores"] |= of_codes(run, part, seed)
    kept = read()
    weights = sum(weight.numel() for weight in open_run(run).learner.parameters())
    made_on = {"hardware": hardware(), "weights": weights, "trained_s": trained_s(run)} | took
    kept["scores"][str(EDITION)][job] = {"scores": {"scores": found["scores"], **found["controls"]}} | made_on
    RESULTS.parent.mkdir(exist_ok=True, parents=True)
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(job, {key: round(value, 3) for key, value in found["scores"].items()}, flush=True)


def trained_s(run: Path) -> float:
    """Processor seconds of the training, pictures and scores apart."""
    return read_metrics(run / "clock.jsonl")[-1]["cpu_s"]


def train(run: Path, model: Sequence[str], sounds: Sequence[str], updates: int, seed: int) -> None:
    said("train", *model, *sounds, "--steps", str(updates), "--device", "cpu", "--no-pictures",
         "--seed", str(seed), "--run", str(run))  # fmt: skip


def opened(run: Path, part: str) -> Opened:
    """Open a run with the weights that are scored."""
    return open_run(run, best=VALIDATED in SOUNDS[part])


@cache
def trial_of(part: str, seed: int) -> tuple[Dreaming, Trial]:
    """An untrained world model of the same clips, and the forecasts that it is scored on."""
    beside = RUNS / f"{part}-tokens-{seed}"
    train(beside, ["dreaming", *TOKENS.get(part, "").split()], SOUNDS[part].split(), 0, seed)
    made = open_run(beside)
    learner = made.learner.eval()
    assert isinstance(learner, Dreaming)
    trial = Trial.of(learner, *pieces_of(learner, made.data.world, made.data.split))
    assert trial is not None
    return learner, trial


def tokens_of_piece(part: str, seed: int) -> int:
    learner, _ = trial_of(part, seed)
    return learner.signal.shape[0] // learner.front.shortest


def vq_vae(part: str, seed: int) -> Path:
    """Train a VQ-VAE on the same clips, in pieces as long as a token."""
    learner, _ = trial_of(part, seed)
    run, words = RUNS / f"{part}-vq-{seed}", SOUNDS[part].split()
    if "--seconds" in words:
        at = words.index("--seconds")
        del words[at : at + 2]
    seconds = repr(1 / learner.code_rate)
    train(run, VQ_VAE.split(), [*words, "--seconds", seconds], PIECES, seed)
    return run


@torch.no_grad()
def of_codes(run: Path, part: str, seed: int) -> dict[str, float]:
    """Scores of forecasts by a model of codes, in the tokens of a world model of the same clips, by ridge
    regression from its states, as for any model; codes and tokens cover the same stretches of sound."""
    tokens, trial = trial_of(part, seed)
    learner, below = opened(run, part).learner.eval(), opened(vq_vae(part, seed), part)
    assert isinstance(learner, Autoregressive)
    encoder = in_frames(below.learner.eval(), below.data.world.signal)
    assert abs(encoder.code_rate - tokens.code_rate) < 1e-6 * tokens.code_rate, encoder.code_rate

    def coded(some: Pieces) -> Pieces:
        # The last code may cover the rest of a piece, which is shorter than a token.
        return replace(some, signal=encoder.encode(some.signal)[:, : some.tokens.shape[1]])

    predict = of_states(learner, decoder_of(learner, coded(trial.fitted)))
    return trial.scores(lambda some, where, ahead: predict(coded(some), where, ahead))


@torch.no_grad()
def from_codes(run: Path, part: str, seed: int) -> dict[str, float]:
    """Scores of forecasts by ridge regressions from the codes of a run, one for each horizon, as in linear AR from
    the last tokens. The tokens are those of a world model of the same clips."""
    learner, trial = trial_of(part, seed)
    encoder, size = opened(run, part).learner.eval(), learner.front.shortest
    assert isinstance(encoder, FrameEncoder)
    late = beyond(encoder, trial.fitted.signal[:1], size)

    def codes(some: Pieces, where: Moments) -> np.ndarray:
        """The last code whose receptive field ends before the moment, or else the first code."""
        heard = encoder.code_lengths((where.token + 1) * size) - 1 - late
        return encoder.encode(some.signal)[where.piece, heard.clamp(min=0)].double().numpy()

    return trial.scores(linear(trial.fitted, trial.ahead, codes))


def beyond(encoder: FrameEncoder, signal: torch.Tensor, size: int) -> int:
    """Number of codes up to a moment whose receptive field extends beyond it."""
    moment = signal.shape[1] // (2 * size) * size
    # Reversed, not zeroed, since a front end may scale a piece by its level.
    other = torch.cat([signal[:, :moment], signal[:, moment:].flip(1)], 1)
    one, two = encoder.encode(signal)[0], encoder.encode(other)[0]
    changed = ((one - two).abs().amax(1) > 1e-4 * one.abs().max()).nonzero()
    return max(0, int(encoder.code_lengths(torch.tensor(moment))) - int(changed[0]))


def in_babble(run: Path) -> dict[str, Any]:
    """Probes of a run on clean sound, and on sound with the babble level of training: for each clip four others of
    the same split, so that no test clip is in the data that probes are fitted to."""
    made = open_run(run)
    learner, world, split = made.learner.eval(), made.data.world, made.data.split
    assert isinstance(learner, Dreaming) and isinstance(world, Sentences)
    snr = learner.config.augmentation.babble_db
    assert snr is not None
    scores, controls = {}, {}
    for name, heard in (("clear", world), ("babble", Babbling.of(world, (split.train, split.test), snr))):
        found = probing(learner, None, heard, split, EvaluationConfig(), "cpu")
        scores |= {f"{name}/{key}": value for key, value in found["scores"].items()}
        for control in ("log_mel", "chance"):
            own = {f"{name}/{key}": value for key, value in found.get(control, {}).items()}
            controls[control] = controls.get(control, {}) | own
    return {"scores": scores, "controls": controls}


class Babbling(Sentences):
    """Sentences, each mixed with babble of others of its split."""

    among: Mapping[int, Sequence[int]]
    snr: float

    @classmethod
    def of(cls, world: Sentences, splits: Sequence[torch.Tensor], snr: float) -> "Babbling":
        made = copy(world)
        made.__class__ = cls
        assert isinstance(made, Babbling)
        made.snr, made.among = snr, {clip: split.tolist() for split in splits for clip in split.tolist()}
        return made

    def sounds(self, clips: list[int]) -> list[np.ndarray]:
        return [self.among_others(clip, wave) for clip, wave in zip(clips, super().sounds(clips), strict=True)]

    def among_others(self, clip: int, wave: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng([BABBLE, clip])
        others = [one for one in self.among[clip] if one != clip]
        babble = np.zeros_like(wave)
        for other in super().sounds(rng.choice(others, VOICES, replace=False).tolist()):
            babble += np.resize(np.roll(other, -int(rng.integers(len(other)))), len(wave))
        loud = np.sqrt((wave**2).mean() / max((babble**2).mean(), 1e-12))
        return wave + 10 ** (-self.snr / 20) * loud * babble


def cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    found = interval(values)
    # An interval over two seeds is meaningless.
    if len(values) < 3 or found.low is None:
        return f"{found.mean:.2f}"
    return f"{found.mean:.2f} ± {found.mean - found.low:.2f}"


def compared(
    scores: Mapping[str, Any], jobs: Mapping[str, str], controls: Mapping[str, str], keys: Sequence[str]
) -> str:
    """Table with a row for each job and each control of the first job that was run, with the number of seeds; rows
    without scores are left out."""
    read_as = (("scores", ""), ("direct", ", direct"))
    who = [(name, job, label + how) for job, label in jobs.items() for name, how in read_as]
    first = next((job for job in jobs if any(f"{job}/{seed}" in scores for seed in SEEDS)), "")
    who += [(name, first, label) for name, label in controls.items()]
    rows = []
    for name, job, label in who:
        found = [scores.get(f"{job}/{seed}", {}).get("scores", {}).get(name, {}) for seed in SEEDS]
        cells = [cell([one[key] for one in found if key in one]) for key in keys]
        if set(cells) != {"–"}:
            rows.append([label, str(sum(any(key in one for key in keys) for one in found)), *cells])
    return table(["", "seeds", *map(head, keys)], rows)


def differences(scores: Mapping[str, Any], part: str, jobs: Mapping[str, str], keys: Sequence[str]) -> str:
    """Table of the paired differences of `dreaming` and each job over common seeds; empty if there are none."""
    own, rows = f"{'songbird' if part == 'ablations' else part}/dreaming", []
    for job, label in jobs.items():
        if job == own:
            continue
        pairs = [
            [scores.get(f"{one}/{seed}", {}).get("scores", {}).get("scores") for one in (own, job)]
            for seed in SEEDS
        ]
        both = [pair for pair in pairs if all(pair)]
        cells = [apart([pair for pair in both if all(key in one for one in pair)], key) for key in keys]
        if set(cells) != {"–"}:
            rows.append([label, str(len(both)), *cells])
    return table(["`dreaming` minus", "seeds", *map(head, keys)], rows) if rows else ""


def apart(pairs: Sequence[Sequence[Mapping[str, float]]], key: str) -> str:
    if not pairs:
        return "–"
    found = paired([own[key] for own, _ in pairs], [other[key] for _, other in pairs]).difference
    if len(pairs) < 3 or found.low is None:
        return f"{found.mean:+.2f}"
    return f"{found.mean:+.2f} ± {found.mean - found.low:.2f}"


def head(key: str) -> str:
    for prefix in ("forecast-", "frames/", "number/", "next/", "steering/"):
        key = key.removeprefix(prefix)
    return key.replace("/", " ")


def sizes(scores: Mapping[str, Any], part: str) -> str:
    """Number of weights of the models of a part, and the minutes that their training took, in words."""
    said = ""
    for key, unit, title in (
        ("weights", 1e6, "millions of weights"), ("trained_s", 60, "processor minutes of training")
    ):  # fmt: skip
        found: dict[str, list[float]] = {}
        for job, one in scores.items():
            if job.startswith(f"{part}/") and key in one:
                found.setdefault(job.split("/")[1], []).append(one[key] / unit)
        means = [f"`{name}` {np.mean(values):.{2 if key == 'weights' else 0}f}" for name, values in found.items()]
        said += f"; {title}: {', '.join(means)}" if means else ""
    return said


def write(kept: Mapping[str, Any]) -> None:
    on_page = [
        one for part in SOUNDS for job, one in kept["scores"][edition(part)].items() if job.startswith(f"{part}/")
    ]
    parts = ["; ".join(sorted({one.get("hardware", kept["hardware"]) for one in on_page}))]
    for part, flags in SOUNDS.items():
        scores = kept["scores"][edition(part)]
        found = {job: one["scores"]["scores"] for job, one in scores.items() if job.startswith(f"{part}/")}
        if not found:
            continue
        words = flags.replace(str(DATA), "../shared/data")
        own = f" {TOKENS[part]}" if part in TOKENS else ""
        own += f" {SHORT[part][0]}" if part in SHORT else ""
        own += " --schedule constant" if part in BEFORE else ""
        keys = list(dict.fromkeys(key for one in found.values() for key in one))
        keys = [key for key in keys if not key.startswith(OMITTED.get(part, ()))]
        near = [key for key in keys if key.startswith("forecast-near")]
        following = [key for key in keys if key.startswith("next/")]
        probes = [key for key in keys if not key.startswith(("forecast", "next/", "state/", "steering/"))]
        parts.append(f"### {part.capitalize()}")
        own += f" --steps {steps(part, 'dreaming')}"
        parts.append(f"`sonarium train dreaming {words}{own}`{sizes(scores, part)}.")
        jobs = {f"{part}/{one}": one if one in (*ABLATIONS, MASKED) else f"`{one}`" for one in PARTS[part]}
        if part == "ablations":
            shown = [*near, "next/excess bits", "next/coverage of 8", "next/share of clear ones"]
            shown += ["frames/syllable", "state/bits a token"]
            jobs = {"songbird/dreaming": "`dreaming`"} | jobs
            parts += [compared(scores, jobs, {}, shown), differences(scores, part, jobs, shown)]
        elif part == "noise":
            parts.append(compared(scores, jobs, {"log_mel": "log-mel bands", "chance": "chance"}, keys))
            parts.append(differences(scores, part, jobs, keys))
        elif part == "steering":
            shown = [key for key in keys if key.startswith(("steering/", "action"))]
            parts += [compared(scores, jobs, STEERED, shown), differences(scores, part, jobs, shown)]
        else:
            for kinds in AHEAD:
                shown = [key for kind in kinds for key in keys if key.startswith(f"forecast-{kind}/")]
                parts.append(compared(scores, jobs, CONTROLS, shown))
            if following:
                parts.append(compared(scores, jobs, NEXT, [*following, "next/share recognised"]))
            parts.append(compared(scores, jobs, PROBES, probes))
            parts.append(compared(scores, jobs, CODES, [key for key in keys if key.startswith("state/")]))
            likely = [key for key in keys if key.startswith("forecast-likelihood/")]
            excess = [key for key in following if "excess" in key]
            parts.append(differences(scores, part, jobs, [*near, *likely, *excess, *probes]))
    insert("results", "\n\n".join(filter(None, parts)), "dreaming.md")


def main() -> None:
    parser = argparse.ArgumentParser(description="Results of world models.")
    parser.add_argument("--parts", nargs="+", default=list(SOUNDS), choices=list(SOUNDS))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), help="by default all of a part")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="at most so many seeds of each")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    for seed in SEEDS[: flags.seeds]:
        for part in flags.parts:
            for model in () if flags.write else PARTS[part]:
                if flags.models is None or model in flags.models:
                    measure(part, model, seed)
    write(read())


if __name__ == "__main__":
    main()
