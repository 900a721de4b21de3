"""`sonarium surprise RUN FILES… --out FOLDER`: how unexpected each moment of recordings is, by a world model.

Of each file, the folder holds a table NAME.csv (start, end and the measures of each token, empty during the
burn-in), a picture NAME.png of the first 30 s, and labels NAME.txt for Audacity: the stretches above the
threshold. The measures, in nats: kl, the divergence of what is found from what was expected; nce, how much better
other tokens of the training split would fit what was expected.

`--json` prints one object: `out`, `by`, `above`, `threshold`, and of each of `files` its path, name, tokens,
onsets (start, end, label), and mean of each measure.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import parse, required
from sonarium.config import Range

if TYPE_CHECKING:
    from sonarium.runs.forecast import RunForecaster
    from sonarium.runs.surprise import Track

MOST_DRAWN = 30.0
"""Maximum duration of the picture of a file in seconds."""


@dataclass(frozen=True)
class SurpriseFlags:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder of a world model, such as dreaming."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], required("FILES…")]
    """Sound files of any sampling rate, length and number of channels; of a folder, all in it."""
    out: Path
    """New output folder for a table, a picture and labels per file."""
    by: str = ""
    """Measure of surprise: of a world model kl, or nce if its objective has it; of an autoregressive model nll. By
    default the first that the model has."""
    above: Annotated[float, Range(0, 1, above=True, below=True, example=0.99)] = 0.99
    """Threshold: quantile of the surprise of training tokens."""
    best: bool = False
    """Use the weights that were best in validation; by default the newest."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(SurpriseFlags, arguments, "surprise", "Measure how surprising each moment of sound files is.")
    if flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise ValueError(f"'{flags.out}' exists and is not an empty folder: give --out a new one")
    if not flags.files:
        raise UsageError("no files to listen to: name one or more sound files after the run folder")
    # Deferred import: models are slow to import, and `--help` should not wait for them.
    from sonarium.commands.progress import bars, plainly
    from sonarium.files import written_aside
    from sonarium.runs.forecast import open_forecaster
    from sonarium.runs.surprise import surprise_meter
    from sonarium.worlds.recordings.listing import named, sounds_at

    files = [file for path in flags.files for file in sounds_at(path)]
    with written_aside(flags.out) as aside, bars() as progress:
        aside.mkdir()
        forecaster = open_forecaster(flags.run, say, plainly(progress), best=flags.best)
        own = surprise_meter(forecaster, flags.by, flags.above)
        summaries = []
        for done, (path, name) in enumerate(zip(files, named(files), strict=True), start=1):
            track = own.file(path)
            write(own.forecaster, path, aside / name, track, own.by)
            summaries.append(summary(path, name, track))
            progress("listening", done, len(files), {})
    if own.coder.resampled:
        say(own.coder.resampled)
    if flags.json:
        about = {"out": str(flags.out), "by": own.by, "above": flags.above, "threshold": own.threshold}
        print(json.dumps(about | {"files": summaries}))
        return
    tell(
        f"{flags.out}: {len(files)} file(s); unexpected is {own.by} above {own.threshold:.3g} nats, which "
        f"{100 * flags.above:g} % of the tokens of the training split lie below"
    )
    for one in summaries:
        tell(f"{one['path']}: {one['tokens']} tokens, {len(one['onsets'])} unexpected")


def summary(path: Path, name: str, track: "Track") -> dict[str, Any]:
    import numpy as np

    means = {key: float(np.nanmean(values)) for key, values in track.values.items()}
    onsets = [{"start": start, "end": stop, "label": label} for start, stop, label in track.onsets]
    tokens = len(next(iter(track.values.values())))
    return {"path": str(path), "name": name, "tokens": tokens, "onsets": onsets, "means": means}


def write(forecaster: "RunForecaster", path: Path, place: Path, track: "Track", by: str) -> None:
    """Write the table, the labels and the picture of one file; `place` is their path without suffix."""
    import csv

    import numpy as np

    from sonarium.report import futures
    from sonarium.report.style import png
    from sonarium.worlds.recordings.formats import AUDACITY, write_audacity

    rows = np.stack([*track.values.values()], 1)
    with open(f"{place}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("start", "end", *track.values))
        for number, row in enumerate(rows.tolist()):
            ends = (track.begin + number * track.seconds, track.begin + (number + 1) * track.seconds)
            writer.writerow((*map(repr, ends), *("" if value != value else repr(value) for value in row)))
    write_audacity(
        Path(f"{place}{AUDACITY}"), track.onsets, track.begin + len(rows) * track.seconds, forecaster.rate
    )
    shown = min(len(rows), round(MOST_DRAWN / track.seconds))
    # The last code of a file may extend beyond its end.
    lasts = sum(map(len, forecaster.coder.blocks(path))) / forecaster.rate
    sound = forecaster.file(path, min(shown * track.seconds, lasts), track.seconds)
    field = forecaster.field(forecaster.levels(forecaster.tokens(sound.past))[0][-shown:])
    tracks = {name: values[:shown] for name, values in track.values.items()}
    ends = (track.begin, track.begin + shown * track.seconds)
    drawn = futures.surprise(field, ends, tracks, by, track.threshold, track.onsets)
    Path(f"{place}.png").write_bytes(png(drawn))
