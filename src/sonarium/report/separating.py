"""What a separator makes of held-out mixtures, to see and to hear: masks, and sources beside the true ones."""

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
from sonarium.models.masking import best_orders, snr
from sonarium.report.album import Medium, peak_safe, put, wav, write_index
from sonarium.report.style import FIELD, SHARE, panels, png, sheet, tidy
from sonarium.worlds.contract import World

SHOWN = 3
"""Mixtures that are drawn and played."""
DEEPEST = 60.0
"""Decibels below the loudest bin of a mixture that are drawn."""
LOUD = 0.7
"""Peak of a mixture that is played; its sources are made louder by as much."""
WINDOW, HOP = 0.064, 0.016
"""Seconds of a window of the spectrograms that are drawn, and from one to the next."""


@torch.no_grad()
def illustrate_separation(
    learner: Separator, world: World, test: Int[Tensor, " clip"], folder: Path, seed: int
) -> list[Medium]:
    """Write to `folder` pictures and sounds of some held-out mixtures; a seed gives the same files."""
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
        gained = snr(batch.sources[[row]], made[None]) - snr(
            batch.sources[[row]], batch.signal[[row], :, None].expand_as(made[None])
        )
        sounds = [batch.signal[row], *batch.sources[row].unbind(1), *made.unbind(1)]
        media += shown(
            folder, row + 1, [one.cpu().numpy() for one in sounds], kept.mean(-1).cpu().numpy(),
            gained[0].tolist(), world.signal.rate,
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
    """One mixture: a picture, and its sound, that of the true sources and that of the estimates."""
    group, count = f"separation/{number}", len(gained)
    words = ", ".join(f"{value:.1f}" for value in gained)
    caption = (
        "A held-out mixture; below it in each row a true source, the mask, and what the mask makes of the mixture "
        f"(mean of both ears). The SNR is {words} dB better than that of the mixture."
    )
    put(folder / f"separation-{number}.png", png(picture(sounds, masks, rate)))
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
    sounds: list[Float[np.ndarray, "time 2"]], masks: Float[np.ndarray, "frame bin source"], rate: int
) -> Figure:
    """The mixture above; the true sources, the masks and the estimates below."""
    fields = [spectrogram(one, rate) for one in sounds]
    count, high = masks.shape[2], float(fields[0].max())
    figure = sheet(6.2, 1.1 * (1 + count) + 0.5)
    grid = panels(figure, 1 + count, 3)
    extent = (0.0, len(sounds[0]) / rate, 0.0, rate / 2000)
    for row, line in enumerate(grid):
        source = row - 1
        cells = [fields[0], None, None] if row == 0 else [fields[row], masks[..., source].T, fields[row + count]]
        heads = ["mixture", "", ""] if row == 0 else ["true", "mask", "estimate"] if row == 1 else ["", "", ""]
        for column, (axes, cell, head) in enumerate(zip(line, cells, heads, strict=True)):
            if cell is None:
                axes.set_axis_off()
                continue
            colours, ends = (SHARE, (0, 1)) if column == 1 else (FIELD, (high - DEEPEST, high))
            axes.imshow(
                cell, cmap=colours, aspect="auto", origin="lower", extent=extent, vmin=ends[0], vmax=ends[1]
            )
            tidy(axes, head, "s" if row == count else "", "kHz" if column == 0 else "")
    return figure


def spectrogram(sound: Float[np.ndarray, "time 2"], rate: int) -> Float[np.ndarray, "bin frame"]:
    """Decibels of the mean power of both ears."""
    size = max(2, round(WINDOW * rate))
    stft = Stft(size, size, max(1, round(HOP * rate)))
    spectra = stft(torch.from_numpy(rearrange(sound, "time ear -> ear time").copy()).float())
    return 10 * np.log10(spectra.abs().square().mean(0).T.numpy() + 1e-10)
