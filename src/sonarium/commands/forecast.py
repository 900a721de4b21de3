"""`sonarium forecast RUN FILE --at 3.0 --seconds 2 --out FOLDER`: how a sound may go on, by a world model.

The sound up to `--at` is followed; what comes after it is drawn from the prior, several times. `--clip N` takes a
clip of the run's world instead of a file, whose actions are known; `--toward OTHER` goes from the state of one
sound to that of another.

The folder holds `past.wav`; `truth.wav`, what really followed, if anything; of each sample `future-01.wav`
(decoded), `tokens-01.wav` (the nearest real tokens) and `completed-01.wav` (the past and these); `between-1.wav`
and so on; `futures.png`, `between.png`; and `forecast.json`, which `--json` prints, too:

    run, model, sound, at, seconds, token_seconds, rate, unit, seed, temperature, actions, remarks
    samples     of each: log_probability (nats), log_probabilities (of each token), and the files decoded, tokens
                and completed
    nearness    of each horizon: seconds; samples and decoded (distances to what really followed, in `unit`);
                persistence and copy (distances of the last token repeated, and of the truth as it is decoded);
                coverage (null beyond the length of a training piece) and nearer
    between     of each step: weight and file
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import parse, required
from sonarium.config import Range

if TYPE_CHECKING:
    from sonarium.runs.forecast import Forecasts, RunForecaster, Sound

STEPS = 5
"""Default number of interpolation steps between two sounds."""


@dataclass(frozen=True)
class ForecastFlags:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder of a world model, such as dreaming."""
    out: Path
    """New output folder: WAV files, pictures and forecast.json."""
    file: Annotated[tyro.conf.Positional[Path | None], required("FILE", "required unless --clip")] = None
    """Sound file of any sampling rate, length and number of channels."""
    clip: Annotated[int | None, Range(0)] = None
    """Index of a clip of the world that the run was trained on, in place of a file: its actions are known."""
    at: Annotated[float | None, Range(0, 1e6, above=True, example=3.0)] = None
    """Start of the forecast in seconds from the beginning of the sound; by default its end."""
    seconds: Annotated[float, Range(0, 60, above=True)] = 2.0
    """Forecast horizon in seconds."""
    samples: Annotated[int, Range(1, 1000)] = 8
    """Number of sampled futures."""
    temperature: Annotated[float, Range(0, 100, above=True, example=0.8)] = 1.0
    """Sampling temperature: below 1 the model keeps to what is likely, above 1 it strays."""
    action: tuple[str, ...] = ()
    """Actions to steer by: tension=+0.3 adds to the known value, tension==-0.3 sets it, as does speaker=anna."""
    toward: Path | None = None
    """Second sound file: interpolate between the states of the two files in `--steps` steps; actions steer them,
    too."""
    steps: Annotated[int | None, Range(2, 100)] = None
    """Number of interpolation steps from one sound to the other; by default 5."""
    seed: Annotated[int, Range(0)] = 0
    """Random seed."""
    best: bool = False
    """Use the weights that were best in validation; by default the newest."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(
        ForecastFlags, arguments, "forecast", "Forecast how a sound continues, with the world model of a run."
    )
    if (flags.file is None) == (flags.clip is None):
        raise UsageError("give a sound file after the run folder, or --clip N of the run's own world")
    if flags.toward is not None and flags.file is None:
        raise UsageError("--toward goes from one sound file to another: give FILE in place of --clip")
    if flags.steps is not None and flags.toward is None:
        raise UsageError(f"--steps {flags.steps} without --toward: name the sound file to go to, or leave it out")
    if flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise ValueError(f"'{flags.out}' exists and is not an empty folder: give --out a new one")
    # Deferred import: models are slow to import, and `--help` should not wait for them.
    from sonarium.commands.progress import bars, plainly
    from sonarium.models.actions import change
    from sonarium.runs.forecast import open_forecaster

    try:
        changes = [change(one) for one in flags.action]
    except ValueError as error:
        raise UsageError(str(error)) from None
    with bars() as progress:
        world = flags.clip is not None
        forecaster = open_forecaster(flags.run, say, plainly(progress), world, flags.best)
        sound = heard(forecaster, flags)
        made = forecaster.forecast(sound, flags.seconds, flags.samples, flags.seed, changes, flags.temperature)
        other = None if flags.toward is None else forecaster.file(flags.toward, flags.at, flags.seconds)
    for remark in filter(None, (forecaster.coder.resampled, *made.remarks)):
        say(remark)
    found = write(forecaster, made, other, flags)
    if flags.json:
        print(json.dumps(found))
    else:
        show(found, flags)


def heard(forecaster: "RunForecaster", flags: ForecastFlags) -> "Sound":
    if flags.file is not None:
        return forecaster.file(flags.file, flags.at, flags.seconds)
    assert flags.clip is not None, flags
    return forecaster.clip(flags.clip, flags.at, flags.seconds)


def write(
    forecaster: "RunForecaster", made: "Forecasts", other: "Sound | None", flags: ForecastFlags
) -> dict[str, Any]:
    from sonarium.commands.sample import wav
    from sonarium.files import written_aside
    from sonarium.report.style import png
    from sonarium.runs.dreams import crossing, picture

    found, sound = summary(forecaster, made, flags), made.sound
    with written_aside(flags.out) as aside:
        aside.mkdir()
        (aside / "past.wav").write_bytes(wav(sound.wave[: sound.moment], made.rate))
        if sound.moment < len(sound.wave):
            (aside / "truth.wav").write_bytes(wav(sound.wave[sound.moment :], made.rate))
        for one, files in zip(forecaster.heard(made, seed=flags.seed), found["samples"], strict=True):
            for name, wave in (("decoded", one.decoded), ("tokens", one.real), ("completed", one.completed)):
                (aside / files[name]).write_bytes(wav(wave.astype("float32"), made.rate))
        (aside / "futures.png").write_bytes(png(picture(forecaster, made)))
        if other is not None:
            steps = forecaster.between(
                sound, other, flags.seconds, flags.steps or STEPS, flags.seed, made.actions, made.temperature
            )
            found["between"] = [
                {"weight": weight, "file": f"between-{number}.wav"} for number, (weight, *_) in enumerate(steps, 1)
            ]
            for one, (_, _, wave) in zip(found["between"], steps, strict=True):
                (aside / one["file"]).write_bytes(wav(wave, made.rate))
            (aside / "between.png").write_bytes(png(crossing(forecaster, steps, flags.seconds)))
        (aside / "forecast.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def summary(forecaster: "RunForecaster", made: "Forecasts", flags: ForecastFlags) -> dict[str, Any]:
    samples = [
        {
            "log_probability": float(one.log_probability.sum()),
            "log_probabilities": one.log_probability.tolist(),
            "decoded": f"future-{number:02}.wav",
            "tokens": f"tokens-{number:02}.wav",
            "completed": f"completed-{number:02}.wav",
        }
        for number, one in enumerate(made.futures, start=1)
    ]
    nearness = [
        {**asdict(one), "samples": one.samples.tolist(), "decoded": one.decoded.tolist()} for one in made.nearness
    ]
    return {
        "run": str(flags.run), "model": forecaster.model, "sound": made.sound.name, "at": made.sound.at,
        "seconds": len(made.futures[0].tokens) * made.token_seconds, "token_seconds": made.token_seconds,
        "rate": made.rate, "unit": made.unit, "seed": flags.seed, "temperature": made.temperature,
        "actions": [asdict(one) for one in made.actions], "remarks": list(made.remarks), "samples": samples,
        "nearness": nearness, "between": [],
    }  # fmt: skip


def show(found: dict[str, Any], flags: ForecastFlags) -> None:
    after = f"{found['at']:.3f} s of {found['sound']}"
    tell(
        f"{flags.out}: {len(found['samples'])} future(s) of {found['seconds']:.3g} s after {after}, "
        f"by {found['model']}"
    )
    likely = [one["log_probability"] for one in found["samples"]]
    tell(f"log-probability of the samples: {min(likely):.1f} to {max(likely):.1f} nats")
    for one in found["nearness"]:
        share = one["coverage"]
        covered = "" if share is None else f"; coverage {share:.2f} (real sound at random: 0.5)"
        tell(
            f"up to {1000 * one['seconds']:.0f} ms: the nearest sample is {min(one['samples']):.1f} "
            f"{found['unit']} from what followed (persistence {one['persistence']:.1f}, copy {one['copy']:.1f})"
            + covered
        )
