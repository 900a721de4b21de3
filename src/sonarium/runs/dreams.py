"""Media of a world model's report on held-out sound: futures beside the true continuation, surprise, interpolation
between two sounds, actions swept over their range, and the usage of the discrete states."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonarium.evaluation.realtokens import counts_of, use_of_classes
from sonarium.models.actions import Change, Taken
from sonarium.report import futures
from sonarium.report.album import Medium, add, peak_safe, wav
from sonarium.report.style import png
from sonarium.runs.forecast import Forecasts, RunForecaster, Sound
from sonarium.runs.surprise import surprise_meter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ASKED = 3
"""Number of held-out clips that are forecast."""
SURPRISED = 2
"""Number of held-out clips whose surprise is plotted."""
SAMPLES = 3
"""Number of futures per clip with sound."""
LONGEST = 1.5
"""Maximum duration of a future in seconds."""
SHOWN = 1.5
"""Maximum duration of the past in pictures and sounds, in seconds."""
FEWEST = 8
"""Minimum number of tokens in both, which are longer if tokens are long."""
STEPS = 5
"""Number of steps of a sweep, and of an interpolation between two sounds."""
SURPRISES = {
    "kl": "kl: the divergence of what is found from what was expected",
    "nce": "nce: how much better other tokens would fit",
    "nll": "nll: minus the log-probability of the token",
}
SWEPT = 3
"""Maximum number of actions that are swept."""
READ = 64
"""Number of held-out clips whose states are counted."""


class Page:
    """Collects pictures and sounds, to be written together."""

    def __init__(self, forecaster: RunForecaster, seed: int):
        self.forecaster, self.seed = forecaster, seed
        self.media: list[Medium] = []
        self.files: dict[str, bytes] = {}

    def draw(self, file: str, figure: "Figure", title: str, caption: str, group: str) -> None:
        self.files[file] = png(figure)
        self.media.append(Medium("picture", file, title, caption, group))

    def say(self, sounds: Sequence[tuple[str, str, np.ndarray]], caption: str, group: str) -> None:
        """Add sounds to be compared, given as (file, title, wave)."""
        for (file, title, _), safe in zip(sounds, peak_safe([wave for *_, wave in sounds]), strict=True):
            self.files[file] = wav(safe, self.forecaster.rate)
            self.media.append(Medium("sound", file, title, caption, group))


def illustrate_dreams(forecaster: RunForecaster, test: Tensor, folder: Path, seed: int) -> list[Medium]:
    """Add the media of a world model to `folder`; equal seeds give equal files."""
    page = Page(forecaster, seed)
    heard = list(moments(forecaster, test, seed))
    for number, sound in enumerate(heard, start=1):
        show_futures(page, sound, number)
    for number, sound in enumerate(heard[:SURPRISED], start=1):
        show_surprise(page, sound, number)
    if len(heard) > 1:
        show_between(page, heard[0], heard[1])
    for taken in [one for one in forecaster.real.taken if not one.names and one.high > one.low][:SWEPT]:
        for sound in heard[:1]:
            show_sweep(page, sound, taken)
    if forecaster.learner.entries:
        show_usage(page, test)
    if page.media:
        add(folder, page.media, page.files)
    return page.media


def moments(forecaster: RunForecaster, test: Tensor, seed: int) -> Iterator[Sound]:
    """Past and future around the middle of random held-out clips that are long enough."""
    assert forecaster.data is not None, forecaster.folder
    world, generator = forecaster.data.world, torch.Generator().manual_seed(seed)
    heard = world if forecaster.below is None else forecaster.below
    order = test.cpu()[torch.randperm(len(test), generator=generator)]
    token, found = forecaster.token_seconds, 0
    needed = max(1, forecaster.learner.burn_in) * token
    for clip in order.tolist():
        seconds = int(heard.lengths(torch.tensor([clip]))) / forecaster.rate
        at = seconds / 2
        if at > needed + token and found < ASKED:
            found += 1
            # A code covers a stretch of sound, which the moment should not cut.
            at = at if forecaster.below is None else round(at / token) * token
            yield forecaster.clip(clip, at, min(stretch(forecaster, LONGEST), at))


def stretch(forecaster: RunForecaster, seconds: float) -> float:
    """This duration in seconds, or that of FEWEST tokens if it is longer."""
    return max(seconds, FEWEST * forecaster.token_seconds)


def length(forecaster: RunForecaster, sound: Sound) -> float:
    """Duration of the true continuation in seconds, at least one token."""
    return max(forecaster.token_seconds, (len(sound.wave) - sound.moment) / forecaster.rate)


def show_futures(page: Page, sound: Sound, number: int) -> None:
    forecaster = page.forecaster
    made = forecaster.forecast(sound, length(forecaster, sound), 8, page.seed)
    group, stem = f"futures/{number}", f"future-{number}"
    last = made.nearness[-1] if made.nearness else None
    caption = "The end of the past, and after the line what followed, five futures, and one as real tokens."
    if last is not None:
        caption += (
            f" Up to {1000 * last.seconds:.0f} ms the nearest of {len(last.samples)} futures is "
            f"{last.samples.min():.1f} {made.unit} from what followed, the last token repeated "
            f"{last.persistence:.1f}, and the truth as it is decoded {last.copy:.1f}."
        )
    caption += "".join(f" {remark[0].upper()}{remark[1:]}." for remark in made.remarks)
    if last is not None and last.coverage is not None:
        caption += f" The coverage is {last.coverage:.2f}, where real sound at random has 0.5."
    page.draw(f"{stem}.png", picture(forecaster, made), f"Futures of {sound.name}", caption, group)
    tail = max(0, sound.moment - round(stretch(forecaster, SHOWN) * forecaster.rate))
    waves = [(f"{stem}-true.wav", "what followed", sound.wave[tail:])]
    heard = forecaster.heard(made, SAMPLES, page.seed)
    for at, one in enumerate(heard, start=1):
        waves.append((f"{stem}-{at}.wav", f"future {at}, real tokens", one.completed[tail:]))
    waves.append((f"{stem}-decoded.wav", "future 1, decoded", heard[0].decoded))
    page.say(waves, "The past and what comes after it; the decoded one is the future alone.", group)


def picture(forecaster: RunForecaster, made: Forecasts) -> "Figure":
    """Figure of the past, the true continuation, and some futures, decoded and as real tokens."""
    count = min(len(made.past_tokens), max(1, round(stretch(forecaster, SHOWN) / made.token_seconds)))
    rows = [("what followed", forecaster.field(made.true_tokens))] if len(made.true_tokens) else []
    some = made.futures[: futures.MOST]
    rows += [(f"future {number}", forecaster.field(one.tokens)) for number, one in enumerate(some, start=1)]
    rows.append(("1, real tokens", forecaster.field(made.futures[0].real)))
    past = forecaster.field(made.past_tokens[-count:])
    return futures.futures(past, rows, made.token_seconds * count / past.shape[1], forecaster.colours)


def show_surprise(page: Page, sound: Sound, number: int) -> None:
    own, signal = surprise_meter(page.forecaster), torch.cat([sound.past, sound.future], 1)
    track = own.sound(signal)
    tokens = len(next(iter(track.values.values())))
    field = page.forecaster.field(page.forecaster.levels(page.forecaster.tokens(signal))[0])
    ends = (track.begin, track.begin + tokens * track.seconds)
    figure = futures.surprise(field, ends, track.values, own.by, track.threshold, track.onsets)
    told = "; ".join(SURPRISES.get(name, name) for name in track.values)
    caption = (
        f"{told}. Shaded: above {track.threshold:.3g} nats, which {100 * own.above:g} % of the tokens of "
        "the training split lie below."
    )
    group = f"surprise/{number}"
    page.draw(f"surprise-{number}.png", figure, f"Surprise in {sound.name}", caption, group)
    page.say([(f"surprise-{number}.wav", "sound", sound.wave)], caption, group)


def show_between(page: Page, one: Sound, other: Sound) -> None:
    forecaster = page.forecaster
    seconds = min(length(forecaster, sound) for sound in (one, other))
    steps = forecaster.between(one, other, seconds, STEPS, page.seed)
    caption = (
        f"From {one.name} (above) to {other.name}: their states mixed in steps, decoded, and after the line what "
        "is drawn from the prior with the same noise."
    )
    page.draw("between.png", crossing(forecaster, steps, seconds), "From one sound to another", caption, "between")
    waves = [(f"between-{at}.wav", f"{weight:.2f}", wave) for at, (weight, _, wave) in enumerate(steps, start=1)]
    page.say(waves, caption, "between")


def crossing(
    forecaster: RunForecaster,
    steps: Sequence[tuple[float, Float[np.ndarray, "token number"], Float[np.ndarray, " time"]]],
    seconds: float,
) -> "Figure":
    """Figure of an interpolation between two sounds, with a line where the forecast begins."""
    fields = [(f"{weight:.2f}", forecaster.field(tokens)) for weight, tokens, _ in steps]
    tokens, columns = len(steps[0][1]), fields[0][1].shape[1]
    past = (tokens - forecaster.frames(seconds)) * columns // tokens
    return futures.rows(fields, past, forecaster.token_seconds * tokens / columns, forecaster.colours)


def show_sweep(page: Page, sound: Sound, taken: Taken) -> None:
    """Sweep one action from its minimum to its maximum, with past and noise fixed."""
    forecaster = page.forecaster
    values = np.linspace(taken.low, taken.high, STEPS)
    made = [
        forecaster.forecast(sound, length(forecaster, sound), 1, page.seed, [Change(taken.name, repr(value))])
        for value in values.tolist()
    ]
    fields = [
        (f"{value:.3g}", forecaster.field(one.futures[0].tokens)) for value, one in zip(values, made, strict=True)
    ]
    seconds = forecaster.token_seconds * len(made[0].futures[0].tokens) / fields[0][1].shape[1]
    title, group = f"Steering by {taken.name}", f"steering/{taken.name}"
    caption = (
        f"{taken.name} held at each value from the least to the greatest of the training split, after the same "
        f"past ({sound.name}) and with the same noise."
    )
    stem = "steering-" + "".join(letter if letter.isalnum() else "-" for letter in taken.name)
    page.draw(f"{stem}.png", futures.rows(fields, 0, seconds, forecaster.colours), title, caption, group)
    waves = [
        (f"{stem}-{at}.wav", name, forecaster.heard(one, 1, page.seed)[0].decoded)
        for at, ((name, _), one) in enumerate(zip(fields, made, strict=True), start=1)
    ]
    page.say(waves, caption, group)


def show_usage(page: Page, test: Tensor) -> None:
    forecaster = page.forecaster
    assert forecaster.data is not None, forecaster.folder
    learner = forecaster.learner
    batch = forecaster.data.world.piece(test.cpu()[:READ], page.seed, 0)
    states = learner.states(batch.signal)
    own = states[torch.arange(states.shape[1]) < counts_of(learner, batch)[:, None]]
    used, perplexity = use_of_classes(learner, own)
    dead = int((used == 0).sum())
    caption = (
        f"How often each of {learner.entries} classes of each of {len(used)} variables is found in "
        f"{len(own):,} tokens of held-out sound. {dead} of {used.numel()} are never found; the perplexity of a "
        f"variable is {float(perplexity.min()):.1f} to {float(perplexity.max()):.1f}."
    )
    page.draw("usage.png", futures.usage(used.numpy()), "Use of the discrete states", caption, "usage")
