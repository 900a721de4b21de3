"""`sonarium compare cpc`: two studies' forms of one loss, and ours, shown to be the same.

Audio_ML_study has predictive coding in two forms, one of which scores one time of an utterance and the other all,
and a script that was to show that they agree. Here the weights of the second are copied to the first, back, and to
Sonarium's learner; all three encode the same sound; and the loss and the gradient of every weight are compared
at every time. `--json` prints one object: `agree`; `weights_kept`, whether copying there and back left them as
they were; `forms`; `loss_apart` and `gradient_apart`, the worst of all times, and `tolerance` for both; and
`times`, each with `time`, `losses` by form, `loss_apart`, `gradient_apart`, and `weight`, which one that was of.
Exits with 1 if they do not agree.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sonarium.bench.plain_cpc import AllTimes, OneTime, to_all_times, to_one_time, to_ours
from sonarium.commands.faults import UsageError
from sonarium.commands.flags import choose, leading_word, parse, wants_help
from sonarium.commands.progress import bars
from sonarium.config import Range
from sonarium.models.contrast import contrast
from sonarium.models.cpc.cpc import CPC, CPCConfig
from sonarium.models.cpc.presets import CONFIGS
from sonarium.rooms.seek.sounds import synthesize
from sonarium.worlds.audio.decoder import read_mono
from sonarium.worlds.contract import Signal

SUBJECTS = {"cpc": "predictive coding at one time, at all times, and ours"}
RATE = 16000
TOLERANCE = {"32": (1e-5, 1e-1), "64": (1e-12, 1e-9)}
"""Relative tolerance of losses and of gradients, for rounding."""
FAINT = 1e-3
"""Gradients below this fraction of the largest gradient of all weights are compared relative to that fraction."""

Gradients = Mapping[str, Tensor]


@dataclass(frozen=True)
class CompareFlags:
    sound: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILES…")] = ()
    """Sound files to cut the clips from, preferably speech; by default synthesised babble."""
    clips: Annotated[int, Range(2, 4096)] = 4
    """Batch size in clips; each is a negative for the others. The study has 8."""
    seconds: Annotated[float, Range(0, 60, above=True)] = 0.64
    """Duration of a clip in seconds. The study has 1.28, which takes many minutes (a backward pass per time)."""
    filters: Annotated[int, Range(1, 4096)] = 512
    """Output channels of each convolution of the encoder."""
    width: Annotated[int, Range(1, 4096)] = 256
    """Dimension of the context."""
    steps_ahead: Annotated[int, Range(1, 1024)] = 12
    """Prediction horizon in frames."""
    bits: Literal["32", "64"] = "64"
    """Floating-point precision. With 32 bits, rounding moves a few in a million frames across the kink of a ReLU,
    and single gradients with them; 64 bits leave no room for doubt."""
    seed: Annotated[int, Range(0)] = 0
    """Random seed of the weights and of the synthetic voice."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class Form:
    """One implementation of the loss at any time."""

    name: str
    loss_at: Callable[[int], Float[Tensor, ""]]
    weights: Gradients
    rename: Callable[[Gradients], Gradients]
    """Maps its names of weights to ours."""


@dataclass(frozen=True)
class Row:
    """Results at one time."""

    time: int
    losses: dict[str, float]
    loss_apart: float
    gradient_apart: float
    weight: str


def main(arguments: list[str]) -> None:
    subject, rest = leading_word(arguments)
    if subject is None and not wants_help(rest):
        raise UsageError(f"compare what? choose one of {', '.join(SUBJECTS)}")
    choose("comparison", subject or "cpc", SUBJECTS)
    flags = parse(CompareFlags, rest, "compare cpc", f"Compare {SUBJECTS['cpc']}: losses and gradients.")
    config = small(CONFIGS["study-spijkervet"], flags)
    wave = clips_of(flags).to({"32": torch.float32, "64": torch.float64}[flags.bits])
    forms, kept = build(config, wave, flags.seed)
    frames = CPC(config, Signal("wave", (wave.shape[1],), RATE)).encoder.frames(wave.shape[1])
    rows = []
    with bars() as progress:
        for row in compare(forms, frames - flags.steps_ahead):
            rows.append(row)
            progress("comparing", len(rows), frames - flags.steps_ahead, {})
    if not write(flags, forms, kept, rows):
        raise SystemExit(1)


def small(config: CPCConfig, flags: CompareFlags) -> CPCConfig:
    return replace(
        config,
        encoder=replace(config.encoder, filters=(flags.filters,)),
        context=replace(config.context, width=flags.width),
        predictors=replace(config.predictors, steps_ahead=flags.steps_ahead),
    )


def clips_of(flags: CompareFlags) -> Float[Tensor, "clip time"]:
    """Clips spread evenly over the files, or different clips of synthetic babble."""
    samples = round(flags.seconds * RATE)
    if not flags.sound:
        voices = [
            synthesize("babble", RATE, samples, np.random.default_rng([flags.seed, n])) for n in range(flags.clips)
        ]
        return torch.from_numpy(0.1 * np.stack(voices))
    wave = torch.cat([read_mono(path, RATE) for path in flags.sound])
    room = len(wave) - samples
    if room < flags.clips - 1:
        raise ValueError(
            f"{len(wave) / RATE:.2f} s of sound are too short for {flags.clips} different clips of "
            f"{flags.seconds} s: give more files, or fewer --seconds"
        )
    starts = torch.linspace(0, room, flags.clips).long().tolist()
    return torch.stack([wave[start : start + samples] for start in starts])


def build(config: CPCConfig, wave: Float[Tensor, "clip time"], seed: int) -> tuple[list[Form], bool]:
    """All forms with the same weights on the same sound, and whether copying preserved the weights."""
    with torch.random.fork_rng(devices=[]):
        # Ours first: it rejects clips that are too short.
        ours = CPC(config, Signal("wave", (wave.shape[1],), RATE)).to(wave.dtype)
        torch.manual_seed(seed)
        every = AllTimes(config).to(wave.dtype)
        single = OneTime(config).to(wave.dtype)
    weights = every.state_dict()
    single.load_state_dict(to_one_time(weights))
    returned = to_all_times(single.state_dict())
    kept = returned.keys() == weights.keys() and all(
        torch.equal(returned[name], weights[name]) for name in weights
    )
    ours.load_state_dict(to_ours(weights), strict=False)
    return [at_one_time(single, wave), at_all_times(every, wave), as_ours(ours, wave)], kept


def at_one_time(form: OneTime, wave: Float[Tensor, "clip time"]) -> Form:
    latents = form.encode(wave)
    weights = {
        name: value for name, value in form.named_parameters() if not name.startswith("Wk") or "weight" in name
    }
    rename = lambda found: to_ours(to_all_times(found))  # noqa: E731
    return Form("study-jefflai108", lambda time: form.loss_at(latents, time), weights, rename)


def at_all_times(form: AllTimes, wave: Float[Tensor, "clip time"]) -> Form:
    losses = form.losses(form.encode(wave))

    def loss_at(time: int) -> Tensor:
        return torch.stack([by_time[time] for by_time in losses]).mean()

    return Form("study-spijkervet", loss_at, dict(form.named_parameters()), to_ours)


def as_ours(form: CPC, wave: Float[Tensor, "clip time"]) -> Form:
    latents = form.encoder(form.front(wave))
    predictions = form.predictors[0](form.contexts[0](latents))
    frames = torch.full((len(wave),), latents.shape[1])
    losses = contrast(predictions, latents, frames, form.config.contrast, torch.Generator()).pair_losses
    return Form("sonarium", lambda time: losses[:, time].mean(), dict(form.named_parameters()), dict)


def compare(forms: list[Form], times: int) -> Iterator[Row]:
    for time in range(times):
        losses, gradients = {}, []
        for form in forms:
            loss = form.loss_at(time)
            found = torch.autograd.grad(loss, list(form.weights.values()), retain_graph=True)
            losses[form.name] = loss.item()
            gradients.append(form.rename(dict(zip(form.weights, found, strict=True))))
        values = list(losses.values())
        apart = (max(values) - min(values)) / max(1.0, abs(values[0]))
        yield Row(time, losses, apart, *furthest(gradients))


def furthest(gradients: list[Gradients]) -> tuple[float, str]:
    """Largest relative difference of a gradient from that of the first form, and the name of its weight."""
    first = gradients[0]
    assert all(other.keys() == first.keys() for other in gradients), "the forms differ in their weights"
    greatest = max(float(value.abs().max()) for value in first.values())
    worst = (0.0, "")
    for name, value in first.items():
        scale = max(float(value.abs().max()), FAINT * greatest)
        for other in gradients[1:]:
            worst = max(worst, (float((other[name] - value).abs().max()) / scale, name))
    return worst


def write(flags: CompareFlags, forms: list[Form], kept: bool, rows: list[Row]) -> bool:
    """Print the results; return whether all forms agree."""
    loss_apart = max(row.loss_apart for row in rows)
    gradient_apart = max(row.gradient_apart for row in rows)
    of_loss, of_gradient = TOLERANCE[flags.bits]
    agree = kept and loss_apart <= of_loss and gradient_apart <= of_gradient
    names = [form.name for form in forms]
    if flags.json:
        found = {
            "agree": agree,
            "weights_kept": kept,
            "forms": names,
            "loss_apart": loss_apart,
            "gradient_apart": gradient_apart,
            "tolerance": {"loss": of_loss, "gradient": of_gradient},
            "times": [asdict(row) for row in rows],
        }
        print(json.dumps(found, indent=2))
        return agree
    title = f"loss of {flags.clips} clips at each time, and how far apart"
    table = Table("time", *names, "losses apart", "gradients apart", title=title)
    table.add_column("of", overflow="fold")
    for row in rows:
        losses = (f"{row.losses[name]:.6f}" for name in names)
        table.add_row(str(row.time), *losses, f"{row.loss_apart:.1e}", f"{row.gradient_apart:.1e}", row.weight)
    Console().print(table)
    print(
        f"{'They agree' if agree else 'They DISAGREE'} at {len(rows)} times: losses are at most "
        f"{loss_apart:.1e} apart (allowed {of_loss:.0e}), gradients of {len(forms[-1].weights)} weights "
        f"{gradient_apart:.1e} (allowed {of_gradient:.0e}); weights copied there and back are "
        f"{'the same' if kept else 'NOT the same'}"
    )
    return agree
