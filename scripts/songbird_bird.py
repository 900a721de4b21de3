"""The figures and numbers of "The bird" in docs/songbird.md.

    .venv/bin/python scripts/songbird_bird.py --data ../shared/data/zebra_finch

Writes docs/figures/songbird-bird.png (a bird of the world beside a real one, and its development), the first of
these songs as .ogg, and docs/results/songbird-bird.json: tension found again on planted birds, R² with the
interval over birds (Student's t), at three levels of noise, and the pitch of every recording of the data set that
is sung again.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
from PIL import Image
from scipy import signal, stats

from sonarium.features.gestures import fit, pitch_error
from sonarium.worlds.audio.decoder import header_of, read_mono
from sonarium.worlds.songbird.world import Songbird, SongbirdConfig

ROOT = Path(__file__).resolve().parents[1]
SEEDS = range(100, 110)
BIRDS = 2
"""Number of birds per seed."""
NOISES = (40.0, 30.0, 20.0)
LEAST_BREATHY = 0.2
"""Turbulence above which a planted note has no detectable pitch."""
REAL = "adults/zebra_finch_g17y2U-f00007.wav"


def planted(snr: float) -> dict[str, Any]:
    """R² of recovered tension where a pitch was found: all birds together, and the interval over birds."""
    truths, estimates, each, kept = [], [], [], []
    for seed in SEEDS:
        world = Songbird(SongbirdConfig(level="middle", birds=BIRDS, songs=2, snr=snr), seed)
        for bird in range(BIRDS):
            pairs = [compared(world, clip) for clip in range(2 * bird, 2 * bird + 2)]
            true, made = (np.concatenate([pair[at] for pair in pairs]) for at in (0, 1))
            each.append(r_squared(true, made))
            kept.append(np.mean([pair[2] for pair in pairs]))
            truths.append(true)
            estimates.append(made)
    spread = stats.t.ppf(0.975, len(each) - 1) * np.std(each, ddof=1) / len(each) ** 0.5
    return {
        "snr_db": snr,
        "birds": len(each),
        "r2_all": round(r_squared(np.concatenate(truths), np.concatenate(estimates)), 4),
        "r2_bird_mean": round(float(np.mean(each)), 3),
        "r2_bird_half_interval": round(float(spread), 3),
        "r2_bird_median": round(float(np.median(each)), 3),
        "voiced_found": round(float(np.mean(kept)), 3),
    }


def compared(world: Songbird, clip: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Planted and recovered tension of a song, and the fraction of planted frames with a pitch that were found."""
    index = torch.tensor([clip])
    batch, rate = world.whole(index), world.config.rate
    assert batch.tracks is not None
    track = batch.tracks[0].double().numpy()
    found = fit(batch.signal[0].numpy(), rate)
    times, at = (np.arange(len(track)) + 0.5) / 1000, np.arange(len(found.tension)) / 1000
    pitched = (track[:, 2] > 0) & (track[:, 4] < LEAST_BREATHY)
    both = pitched & (np.interp(times, at, found.voiced) > 0.99)
    return track[both, 0], np.interp(times, at, found.tension)[both], float(both.sum() / pitched.sum())


def r_squared(true: np.ndarray, made: np.ndarray) -> float:
    return float(1 - np.square(made - true).sum() / np.square(true - true.mean()).sum())


def real(data: Path) -> dict[str, Any]:
    """Pitch error of each resynthesised recording, as in `sonarium gestures`."""
    found = {}
    for path in sorted(data.rglob("*.wav")):
        rate = min(header_of(path).rate, 48_000)
        wave = read_mono(path, rate).numpy()
        try:
            gestures = fit(wave, rate)
        except ValueError as refusal:
            found[path.name] = str(refusal)
            continue
        apart = pitch_error(gestures, gestures.sing(rate, len(wave)), rate)
        found[path.name] = None if apart is None else round(apart, 5)
    errors = [error for error in found.values() if isinstance(error, float)]
    return {"files": found, "median": float(np.median(errors)), "largest": max(errors)}


def picture(data: Path, out: Path) -> None:
    """Draw spectrograms of a planted song, of a real one, and of the pupil on three days."""
    matplotlib.use("Agg")
    rate, seconds = 32_000, 1.6
    config = SongbirdConfig(
        level="middle", birds=1, songs=1, rate=rate, snr=30.0, days=(45, 68, 90), shortest=12, longest=12
    )
    world = Songbird(config, 0)
    batch = world.whole(torch.arange(4))
    tutor = batch.signal[0, : int(world.lengths(torch.tensor([0])))].numpy()
    soundfile.write(out.with_suffix(".ogg"), 2 * tutor, rate)
    rows = [("planted: the tutor", batch.signal[0].numpy(), world.segments(0))]
    if (data / REAL).is_file():
        rows.append((f"recorded: {Path(REAL).stem}", read_mono(data / REAL, rate).numpy()[rate:], ()))
    rows += [
        (f"planted: its pupil on {world.days[day]}", batch.signal[day].numpy(), world.segments(day))
        for day in (1, 2, 3)
    ]
    figure, axes = plt.subplots(len(rows), 1, figsize=(12, 2.1 * len(rows)), sharex=True)
    for axis, (title, wave, marks) in zip(axes, rows, strict=True):
        hertz, times, spectrum = signal.stft(wave[: round(seconds * rate)], rate, nperseg=512, noverlap=448)
        level = 20 * np.log10(np.abs(spectrum) + 1e-9)
        axis.pcolormesh(
            times, hertz / 1000, level, vmin=level.max() - 60, vmax=level.max(), cmap="magma", rasterized=True
        )
        for onset, offset, label in marks:
            if offset < seconds:
                axis.plot([onset, offset], [11.2, 11.2], color="white", lw=2)
                axis.text((onset + offset) / 2, 9.6, label, color="white", ha="center", fontsize=8)
        axis.set(ylim=(0, 12), xlim=(0, seconds), ylabel="kHz")
        axis.set_title(title, fontsize=9, loc="left")
    axes[-1].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(out, dpi=60)
    plt.close(figure)
    with Image.open(out) as drawn:
        small = drawn.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    small.save(out, optimize=True)


def tables(result: dict[str, Any]) -> str:
    """The results as text with a table, in Markdown."""
    head = (
        "| song above noise | R² of β, all birds | mean of each bird (95 % interval) | median | pitch heard in |"
    )
    rows = [
        f"| {row['snr_db']:g} dB | {row['r2_all']:.3f} "
        f"| {row['r2_bird_mean']:.3f} ± {row['r2_bird_half_interval']:.3f} "
        f"| {row['r2_bird_median']:.3f} | {row['voiced_found']:.0%} of the notes |"
        for row in result["planted"]
    ]
    found = result["real"]
    count = sum(isinstance(error, float) for error in found["files"].values())
    planted = result["planted"][0]["birds"]
    return "\n".join(
        [
            f"Planted tension found again: {planted} birds of level middle ({len(result['seeds'])} seeds), two",
            "songs each, frames in which a pitch was heard.",
            "",
            head,
            "|---" * 5 + "|",
            *rows,
            "",
            f"Real zebra finches, {count} recordings: the pitch of the song sung again is",
            f"{found['median']:.2%} off (median over recordings of the median over time), and",
            f"{found['largest']:.2%} in the worst recording. Every number is in",
            "[results/songbird-bird.json](results/songbird-bird.json), made by `scripts/songbird_bird.py`.",
        ]
    )


def insert(text: str, marker: str) -> None:
    """Insert a text between two marks of docs/songbird.md."""
    page = ROOT / "docs" / "songbird.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(f"<!-- {marker} -->\n")
    _, _, after = rest.partition(f"<!-- end of {marker} -->")
    page.write_text(f"{before}<!-- {marker} -->\n{text}\n<!-- end of {marker} -->{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "zebra_finch")
    parser.add_argument("--only-picture", action="store_true", help="draw the figure alone")
    flags = parser.parse_args()
    picture(flags.data, ROOT / "docs" / "figures" / "songbird-bird.png")
    if flags.only_picture:
        return
    result = {"seeds": list(SEEDS), "machine": platform.machine(), "planted": [planted(snr) for snr in NOISES]}
    result["real"] = real(flags.data)
    (ROOT / "docs" / "results" / "songbird-bird.json").write_text(
        json.dumps(result, indent=1) + "\n", encoding="utf-8"
    )
    insert(tables(result), "inverse")
    print(json.dumps(result["planted"]), result["real"]["median"], result["real"]["largest"])


if __name__ == "__main__":
    main()
