"""Figures, an animation and sounds of a learner's outputs on a world, for the media folder of its run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from sonarium.evaluation.factors import device_of
from sonarium.features.contract import PictureFrontEnd
from sonarium.models.contract import Decoder, Describer, Encoder, FeatureLearner, Learner, Sampler, Traversal
from sonarium.report import charts, figures
from sonarium.report.album import Medium, gif, peak_safe, put, read_index, wav, write_index
from sonarium.report.figures import Row, Shown
from sonarium.report.style import png
from sonarium.report.sweep import Reading, read
from sonarium.report.view import hear, view_of
from sonarium.worlds.contract import Batch, Factor, World

__all__ = ["Medium", "illustrate", "read_index"]

MOST_READ = 1000
"""Maximum number of held-out clips whose codes are computed."""
MOST_ROWS = 12
"""Maximum number of codes traversed; the least informative are left out."""
MOST_HEARD, MOST_MOVING = 6, 8
"""Maximum number of codes whose traversal is played, and of those that are animated."""
SOUNDS, PICTURES = 4, 10
"""Number of clips to reconstruct, of sound and of pictures."""
DRAWN, DRAWN_PICTURES = 8, 50
"""Number of samples of the prior, of sound and of pictures."""
PIECE = 0.3
"""Seconds played of each step of a traversal, from the beginning of the clip; at least one window."""
ROUNDS, FEW_ROUNDS = 32, 16
"""Iterations of the Griffin-Lim algorithm for a clip, and for such a piece."""
FADE, GAP = 0.01, 0.04
"""Seconds of fade-in and fade-out of such a piece, so that it does not click, and of silence after it."""


def illustrate(
    learner: Learner, world: World, test: Int[Tensor, " clip"], folder: Path, seed: int
) -> list[Medium]:
    """Write everything that this learner can show of held-out clips to `folder`; a seed gives the same files."""
    if len(test) == 0:
        raise ValueError(f"there are no held-out clips of '{world.name}' to show: use more clips")
    trained = learner.training
    learner.eval()
    try:
        artist = Artist(learner, world, folder, seed)
        with torch.no_grad():
            artist.show(test)
    finally:
        learner.train(trained)
    write_index(folder, artist.media)
    return artist.media


def named_factors(factors: Sequence[Factor], values: Sequence[float]) -> str:
    """The factors of a clip in words."""
    said = []
    for factor, value in zip(factors, values, strict=True):
        if factor.discrete:
            name = str(factor.values[round(value)])
            said.append(f"{factor.name} {name}" if name.isdigit() else name)
        else:
            number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
            said.append(f"{factor.name.replace('_', ' ')} {number} {factor.unit}".strip())
    return ", ".join(said)


def in_turn(values: Float[np.ndarray, "clip factor"], factors: Sequence[Factor], count: int) -> list[int]:
    """Clips that cycle through the categories of the first categorical factor."""
    columns = [column for column, factor in enumerate(factors) if factor.discrete]
    category = values[:, columns[0]] if columns else np.zeros(len(values))
    occurrence = np.zeros(len(values), int)
    for value in np.unique(category):
        occurrence[category == value] = np.arange((category == value).sum())
    return np.lexsort((category, occurrence))[:count].tolist()


def one_after_another(waves: Float[np.ndarray, "step piece"], rate: int) -> Float[np.ndarray, " time"]:
    """The steps of a traversal concatenated to one sound."""
    rise = np.sin(np.linspace(0, np.pi / 2, max(2, round(FADE * rate)))) ** 2
    envelope = np.ones(waves.shape[1])
    envelope[: len(rise)] = rise
    envelope[-len(rise) :] = rise[::-1]
    return np.pad(waves * envelope, ((0, 0), (0, round(GAP * rate)))).ravel()


class Artist:
    """Computes the media of one learner on one world, writes them, and keeps a list of them."""

    def __init__(self, learner: Learner, world: World, folder: Path, seed: int):
        self.learner, self.world, self.folder = learner, world, folder
        self.rate = world.signal.rate or 0
        self.draws = isinstance(learner, FeatureLearner) and isinstance(learner.front, PictureFrontEnd)
        if isinstance(learner, FeatureLearner) and isinstance(learner.front, PictureFrontEnd):
            self.front, self.features = learner.front, learner.features
            self.view = view_of(self.front, world.signal)
            self.speaks = self.view.sound and self.front.invertible
        self.generator = torch.Generator().manual_seed(seed)
        self.device = device_of(learner)
        self.media: list[Medium] = []

    def show(self, test: Int[Tensor, " clip"]) -> None:
        clips = test.cpu()[torch.randperm(len(test), generator=self.generator)][:MOST_READ]
        learner = self.learner
        if isinstance(learner, Encoder | Describer):
            reading = read(learner, self.world, clips, self.device)
            self.charts(reading)
            if self.draws and isinstance(learner, Decoder):
                if isinstance(learner, Encoder):
                    self.reconstructions(clips, reading, learner, learner)
                self.traversals(clips, reading, learner)
        if self.draws and isinstance(learner, Sampler) and isinstance(learner, Decoder):
            self.samples(learner, learner)

    def keep(self, kind: Any, file: str, content: bytes, title: str, caption: str, group: str) -> None:
        put(self.folder / file, content)
        self.media.append(Medium(kind, file, title, caption, group))

    def draw(self, file: str, figure: Figure, title: str, caption: str, group: str) -> None:
        self.keep("picture", file, png(figure), title, caption, group)

    def say(self, file: str, wave: Float[np.ndarray, " time"], title: str, caption: str, group: str) -> None:
        self.keep("sound", file, wav(wave, self.rate), title, caption, group)

    def hear(self, features: Tensor) -> Float[np.ndarray, "clip time"]:
        """Invert features to sound."""
        return hear(self.front, features, self.world.signal.shape[0], ROUNDS, self.generator)

    def named(self, clip: int, values: Sequence[float]) -> str:
        """Name of a clip: its factors, or its index if it has none."""
        return named_factors(self.world.factors, values) or f"clip {clip}"

    def charts(self, reading: Reading) -> None:
        codes = reading.codes
        if self.world.factors:
            caption = (
                f"How much each code encodes of each factor, in {len(codes.values):,} held-out clips: the mutual "
                "information in per cent of the factor's entropy. In a good row one code encodes all, the others "
                "nothing."
            )
            figure = charts.information_map(codes, reading.factors, self.world.factors)
            self.draw("codes.png", figure, "What each code encodes of each factor", caption, "codes")
        if codes.entries is not None:
            caption = (
                "How often each entry of each codebook is used, the most used first; the dashed line is even "
                "use. The perplexity is how many entries, used evenly, would carry as much."
            )
            self.draw("codebooks.png", charts.codebook_use(codes), "Use of the codebooks", caption, "codes")

    def reconstructions(
        self, clips: Int[Tensor, " clip"], reading: Reading, encoder: Encoder, decoder: Decoder
    ) -> None:
        count = SOUNDS if self.view.sound else PICTURES
        chosen = in_turn(reading.factors, self.world.factors, count)
        batch = self.world.excerpt(clips[chosen], self.device)
        features = self.features(batch)
        made = decoder.decode(encoder.encode(batch.signal))
        titles = [self.named(int(clips[one]), reading.factors[one].tolist()) for one in chosen]
        fields, made_fields = self.front.drawn(features), self.front.drawn(made)
        samples = self.samples_of(batch)
        if not self.view.sound:
            originals = [Shown(one) for one in fields]
            figure = figures.pictures(titles, originals, [Shown(one) for one in made_fields], self.view)
            caption = "Held-out pictures above, what the learner made of their codes below."
            self.draw("reconstructions.png", figure, "Reconstructions", caption, "reconstructions")
            return
        waves = batch.signal.float().cpu().numpy()
        made_waves = self.hear(made) if self.speaks else None
        for place, title in enumerate(titles):
            own = slice(samples[place])
            original = Shown(self.within(fields[place], samples[place]), waves[place, own])
            made_wave = None if made_waves is None else made_waves[place, own]
            other = Shown(self.within(made_fields[place], samples[place]), made_wave)
            self.reconstruction(place + 1, title, original, other)

    def samples_of(self, batch: Batch) -> list[int]:
        """Number of samples of each clip without padding; reconstructions of padding are neither trained nor
        shown."""
        return [self.world.signal.shape[0]] * len(batch.index) if batch.lengths is None else batch.lengths.tolist()

    def within(self, fields: Float[np.ndarray, "*some row column"], samples: int) -> np.ndarray:
        """Crop fields to the columns of `samples` samples of sound; pictures are unchanged."""
        frames = self.front.frames(torch.tensor([samples]))
        return fields if frames is None else fields[..., : int(frames)]

    def reconstruction(self, number: int, title: str, original: Shown, made: Shown) -> None:
        group, stem = f"reconstructions/{number}", f"reconstruction-{number}"
        assert original.wave is not None, title
        view = replace(self.view, seconds=len(original.wave) / self.rate)
        figure = figures.reconstruction(title, original, made, view, self.rate)
        caption = "The clip and what was made of its code: a piece of the wave, the spectrum, the bands over time."
        self.draw(f"{stem}.png", figure, title[:1].upper() + title[1:], caption, group)
        waves = [("original", original.wave), ("reconstruction", made.wave)]
        present = [(name, wave) for name, wave in waves if wave is not None]
        for (name, _), safe in zip(present, peak_safe([wave for _, wave in present]), strict=True):
            self.say(f"{stem}-{name}.wav", safe, name, title, group)

    def samples(self, sampler: Sampler, decoder: Decoder) -> None:
        generator = torch.Generator(self.device).manual_seed(self.generator.initial_seed())
        count, across = (DRAWN, 4) if self.view.sound else (DRAWN_PICTURES, 10)
        features = decoder.decode(sampler.sample(count, generator))
        figure = figures.samples(self.front.drawn(features), self.view, across)
        caption = f"{count} codes drawn from the prior, decoded: what the learner believes the world to be."
        self.draw("samples.png", figure, "Samples of the prior", caption, "samples")
        if self.speaks:
            for place, wave in enumerate(peak_safe(list(self.hear(features)))):
                self.say(f"sample-{place + 1}.wav", wave, f"sample {place + 1}", caption, "samples")

    def traversals(self, clips: Int[Tensor, " clip"], reading: Reading, decoder: Decoder) -> None:
        sweeps = reading.sweeps[:MOST_ROWS]
        decoded = [decoder.decode(sweep.codes) for sweep in sweeps]
        samples = self.samples_of(self.world.excerpt(clips[[reading.central]], self.device))[0]
        rows = [
            Row(s.name, s.note, s.alive, s.steps, s.own, self.within(self.front.drawn(made), samples))
            for s, made in zip(sweeps, decoded, strict=True)
        ]
        centre = self.named(int(clips[reading.central]), reading.factors[reading.central].tolist())
        step = "entries of one codebook" if reading.codes.entries else "half standard deviations over clips"
        dead = int((~reading.codes.alive).sum())
        left_out = len(reading.sweeps) - len(sweeps)
        caption = (
            f"One code at a time is moved from a held-out clip ({centre}; framed), in {step}, all others "
            f"held. Of {len(reading.codes.names)} codes {dead or 'none'} {'are' if dead > 1 else 'is'} dead."
            + (f" The {left_out} that carry least are not shown." if left_out else "")
        )
        self.draw("traversals.png", figures.traversals(rows, self.view), "Traversals", caption, "traversals")
        living = ([row for row in rows if row.alive] or rows)[:MOST_MOVING]
        still = "Each living code moved by itself, there and back."
        frames = gif(figures.moving(living, self.view))
        self.keep("animation", "traversals.gif", frames, "Traversals, moving", still, "traversals")
        if self.speaks:
            self.traversals_heard(sweeps, decoded, samples)

    def traversals_heard(self, sweeps: Sequence[Traversal], decoded: Sequence[Tensor], samples: int) -> None:
        piece = max(min(samples, round(PIECE * self.rate)), self.front.window_length)
        heard = [(s, made) for s, made in zip(sweeps, decoded, strict=True) if s.alive][:MOST_HEARD]
        for sweep, made in heard:
            steps = hear(self.front, made, piece, FEW_ROUNDS, self.generator)
            wave = one_after_another(steps, self.rate)
            file = f"traversal-{sweep.name.replace(' ', '-')}.wav"
            caption = f"{sweep.name} from {sweep.steps[0]} to {sweep.steps[-1]}, step by step"
            self.say(file, peak_safe([wave])[0], sweep.name, caption, "traversals")
