"""Figures and sounds of separated held-out mixtures: masks, and estimates beside the true sources."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from sonarium.evaluation.factors import device_of
from sonarium.features.stft import Stft
from sonarium.models.contract import Learner, Separator
from sonarium.models.masking import best_orders, snr_of_pairs
from sonarium.report.album import Medium, peak_safe, put, wav, write_index
from sonarium.report.style import FIELD, SHARE, panels, png, sheet, tidy
from sonarium.worlds.contract import World

SHOWN = 3
"""Number of mixtures drawn and played."""
DEEPEST = 60.0
"""Dynamic range of the figures in decibels below the loudest bin of a mixture."""
LOUD = 0.7
"""Peak amplitude of a played mixture; the same gain is applied to its sources."""
WINDOW, HOP = 0.064, 0.016
"""Window length and hop of the drawn spectrograms in seconds."""


@torch.no_grad()
def illustrate_separation(
    learner: Separator, world: World, test: Int[Tensor, " clip"], folder: Path, seed: int
) -> list[Medium]:
    """Write figures and sounds of some held-out mixtures to `folder`; a seed gives the same files."""
    assert isinstance(learner, Learner) and world.signal.rate is not None, type(learner)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:SHOWN]
    trained = learner.training
    learner.eval()
    batch = world.whole(test.cpu()[order], device_of(learner))
    assert batch.sources is not None, "a separator is trained on mixtures whose sources are known"
    estimates, masks = learner.separate(batch.signal), learner.masks(batch.signal)
    learner.train(trained)
    orders = best_orders(batch.sources, estimates)[1]
    media: list[Medium] = []
    for row, own in enumerate(orders):
        made, kept = estimates[row][:, own], masks[row][:, :, own]
        heard = torch.cat([made, batch.signal[row, :, None]], 1)
        pairs = snr_of_pairs(batch.sources[[row]], heard[None])[0]
        gained = pairs[:, :-1].diagonal() - pairs[:, -1]
        sounds = [batch.signal[row], *batch.sources[row].unbind(1), *made.unbind(1)]
        media += shown(
            folder, row + 1, [one.cpu().numpy() for one in sounds], kept.mean(-1).cpu().numpy(),
            gained.tolist(), world.signal.rate,
        )  # fmt: skip
    write_index(folder, media)
    return media


def shown(
    folder: Path,
    number: int,
    sounds: list[Float[np.ndarray, "time 2"]],
    masks: Float[np.ndarray, "frame bin source"],
    gained: list[float],
    rate: int,
) -> list[Medium]:
    """Media of one mixture: a figure, and the sounds of the mixture, the true sources and the estimates."""
    group, count = f"separation/{number}", len(gained)
    words = ", ".join(f"{value:.1f}" for value in gained)
    caption = (
        "A held-out mixture; below it in each row a true source, the mask (blue keeps nothing, yellow all), and "
        "what the mask makes of the mixture (mean of both ears). "
        f"The SNR is {words} dB better than that of the mixture."
    )
    mixture, true, made = sounds[0], sounds[1 : count + 1], sounds[count + 1 :]
    put(folder / f"separation-{number}.png", png(picture(mixture, masks, made, rate, true)))
    media = [Medium("picture", f"separation-{number}.png", f"Mixture {number}", caption, group)]
    names = [f"source {source + 1}" for source in range(count)]
    titles = ["mixture", *(f"true {name}" for name in names), *names]
    files = [f"separation-{number}-{title.replace(' ', '-')}.wav" for title in titles]
    gain = LOUD / max(float(np.abs(sounds[0]).max()), 1e-9)
    for file, title, wave in zip(files, titles, peak_safe([gain * one for one in sounds]), strict=True):
        put(folder / file, wav(wave, rate))
        media.append(Medium("sound", file, title, "At both ears: use headphones.", group))
    return media


def picture(
    mixture: Float[np.ndarray, "time 2"],
    masks: Float[np.ndarray, "frame bin source"],
    estimates: Sequence[Float[np.ndarray, "time 2"]],
    rate: int,
    true: Sequence[Float[np.ndarray, "time 2"]] = (),
) -> Figure:
    """The mixture on top; in each row below one source: true if known, its mask and its estimate."""
    heard, count, seconds = spectrogram(mixture, rate), masks.shape[2], len(mixture) / rate
    columns = {
        **({"true": [spectrogram(one, rate) for one in true]} if true else {}),
        "mask": list(masks.transpose(2, 1, 0)),
        "estimate": [spectrogram(one, rate) for one in estimates],
    }
    figure = sheet(6.2, 1.1 * (1 + count) + 0.5)
    [above, *below] = panels(figure, 1 + count, len(columns))
    levels = {"cmap": FIELD, "vmin": float(heard.max()) - DEEPEST, "vmax": float(heard.max())}
    shown = {"aspect": "auto", "origin": "lower", "extent": (0.0, seconds, 0.0, rate / 2000)}
    above[0].imshow(heard, **shown, **levels)
    tidy(above[0], "mixture", "", "kHz")
    for axes in above[1:]:
        axes.set_axis_off()
    for place, (name, cells) in enumerate(columns.items()):
        for row, (line, cell) in enumerate(zip(below, cells, strict=True)):
            scale = {"cmap": SHARE, "vmin": 0, "vmax": 1} if name == "mask" else levels
            line[place].imshow(cell, **shown, **scale)
            across = "time (s)" if row == count - 1 else ""
            tidy(line[place], name if not row else "", across, f"source {row + 1}, kHz" if not place else "")
    return figure


def spectrogram(sound: Float[np.ndarray, "time 2"], rate: int) -> Float[np.ndarray, "bin frame"]:
    """Spectrogram of the mean power of both ears in decibels."""
    size = max(2, round(WINDOW * rate))
    stft = Stft(size, size, max(1, round(HOP * rate)))
    spectra = stft(torch.from_numpy(rearrange(sound, "time ear -> ear time").copy()).float())
    return 10 * np.log10(spectra.abs().square().mean(0).T.numpy() + 1e-10)
