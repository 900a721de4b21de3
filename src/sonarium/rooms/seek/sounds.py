"""Sounds of the sources: synthetic, read from files, or clips of a world.

Every sound becomes a loop of the same length, cross-faded at its seam, and is normalised to the same loudness:
the A-weighted power (IEC 61672) averaged over blocks of 0.4 s that pass a relative gate of −10 dB, as in ITU-R
BS.1770.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from sonarium.rooms.seek.synthesis import LOWEST_RATES, VOICES, synthesize
from sonarium.worlds.audio.decoder import read_mono
from sonarium.worlds.contract import World
from sonarium.worlds.recordings.listing import sounds_at

SHORTEST = 0.1
"""Minimum duration in seconds of a sound."""
SILENCE = 1e-5
"""Peak below which a sound is silent: −100 dB re full scale."""
PAUSE = 0.01
"""Peak of an excerpt, as a fraction of the recording's peak, below which it is a pause."""
SEAM = 0.02
"""Duration in seconds of the cross-fade of a recording's end into its beginning."""
PEAK = 0.5
"""Maximum peak at 1 m, even if the sound then stays below the common loudness."""
EDGE = 0.005
"""Duration in seconds of the fades at both ends of a burst."""
KEPT = 64
"""Number of recordings cached in memory."""


@dataclass(frozen=True, eq=False)
class Kind:
    """Sounds of one name: variants of a built-in sound, the files of a folder, or the clips of a world."""

    name: str
    count: int
    read: Callable[[int], Float[np.ndarray, " samples"]]
    """Return the sound of a number, before looping and normalisation, of any length."""


@dataclass(frozen=True)
class Pick:
    """The sound that a source plays."""

    kind: int
    number: int
    start: int
    """First sample of the excerpt from a recording that is longer than a loop."""


class Sounds:
    """Kinds of sound, from which each source of each episode draws one."""

    def __init__(
        self, kinds: Sequence[Kind], rate: int, samples: int, level: float, burst: tuple[int, int] | None = None
    ) -> None:
        self.kinds, self.rate, self.samples, self.level = tuple(kinds), rate, samples, level
        self.burst = burst
        """Burst length and period of intermittent sounds in samples; None for continuous sounds."""
        self.checked = lru_cache(KEPT)(self._checked)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "checked"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.checked = lru_cache(KEPT)(self._checked)

    def draw(
        self, random: np.random.Generator, sources: int, anew: bool = True
    ) -> tuple[list[Pick], Int[np.ndarray, " source"]]:
        """The sound of each source, and its start sample. Kinds are drawn without replacement as long as there
        are enough; without `anew`, source i plays the first sound of the i-th kind."""
        order = [np.arange(len(self.kinds))] if not anew else []
        while len(order) * len(self.kinds) < sources:
            order.append(random.permutation(len(self.kinds)) if anew else order[0])
        chosen = np.concatenate(order)[:sources].tolist()
        numbers = [
            int(random.integers(self.kinds[kind].count))
            if anew
            else source // len(self.kinds) % self.kinds[kind].count
            for source, kind in enumerate(chosen)
        ]
        picks = [Pick(*one, self.start(*one, random)) for one in zip(chosen, numbers, strict=True)]
        return picks, random.integers(self.samples, size=sources)

    @property
    def longer(self) -> int:
        """Samples of a loop and its seam."""
        return self.samples + round(SEAM * self.rate)

    def start(self, kind: int, number: int, random: np.random.Generator) -> int:
        """Where a random excerpt of a longer sound begins; 0 in a sound of the common length."""
        wave = self.checked(kind, number)
        return 0 if len(wave) == self.samples else int(random.integers(max(1, len(wave) - self.longer)))

    def names(self, picks: Sequence[Pick]) -> tuple[str, ...]:
        return tuple(self.kinds[pick.kind].name for pick in picks)

    def loop(self, pick: Pick) -> Float[np.ndarray, " time"]:
        """The loop that a source plays: the whole sound, or its bursts."""
        whole = self.whole(pick)
        return whole if self.burst is None else intermittent(whole, *self.burst, round(EDGE * self.rate))

    def whole(self, pick: Pick) -> Float[np.ndarray, " time"]:
        """One sound at the common length and loudness; an excerpt if it is longer."""
        wave = self.checked(pick.kind, pick.number)
        if len(wave) == self.samples:
            return wave
        excerpt = wave[pick.start : pick.start + self.longer]
        if np.abs(excerpt).max() < PAUSE * np.abs(wave).max():
            middle = int(np.abs(wave).argmax()) - self.longer // 2
            excerpt = wave[max(0, min(middle, len(wave) - self.longer)) :][: self.longer]
        return equally_loud(as_loop(excerpt, self.samples, self.rate), self.rate, self.level)

    def picked(self, kind: Any, number: Any, start: Any) -> Pick:
        """A saved pick; raises ValueError if these sounds do not contain it."""
        if not all(type(value) is int and value >= 0 for value in (kind, number, start)):
            raise ValueError(f"the sound is {(kind, number, start)!r:.60}, expected whole numbers of at least 0")
        pick = Pick(kind, number, start)
        if kind >= len(self.kinds) or number >= self.kinds[kind].count:
            raise ValueError(f"the sound is {pick}, which is none of {', '.join(one.name for one in self.kinds)}")
        if start and start >= max(1, len(self.checked(kind, number)) - self.longer):
            raise ValueError(f"the sound is {pick}, which begins after its recording")
        return pick

    def _checked(self, kind: int, number: int) -> Float[np.ndarray, " samples"]:
        """A valid sound; already normalised if it has the common length."""
        wave = self.kinds[kind].read(number)
        check(wave, self.rate, f"sound {number} of '{self.kinds[kind].name}'")
        ready = len(wave) == self.samples
        return equally_loud(wave, self.rate, self.level) if ready else wave.astype(np.float32)


@lru_cache(8)
def named_sounds(
    names: tuple[str, ...],
    variants: int,
    rate: int,
    samples: int,
    level: float,
    first: int = 0,
    burst: tuple[int, int] | None = None,
) -> Sounds:
    """Built-in sounds by name, their variants from the `first`; files, and folders of files, by path. Cached."""

    def built_in(name: str) -> Kind:
        if rate < (lowest := LOWEST_RATES.get(name, 0)):
            raise ValueError(
                f"the built-in sound '{name}' is silent at a rate of {rate} Hz: give a rate of at least {lowest}, "
                "or other sounds"
            )
        return Kind(name, variants, partial(built_in_sound, name, rate, samples, first))

    def recorded(name: str) -> Kind:
        files = found_files(name)
        return Kind(name, len(files), partial(recording, files, rate, samples))

    return Sounds(
        [built_in(name) if name in VOICES else recorded(name) for name in names], rate, samples, level, burst
    )


def world_sounds(
    world: World, rate: int, samples: int, level: float, burst: tuple[int, int] | None = None
) -> Sounds:
    """Clips of a world of waveforms."""
    if world.signal.kind != "wave" or world.signal.rate != rate:
        raise ValueError(
            f"world '{world.name}' has a {world.signal.kind} at a rate of {world.signal.rate} where waves at "
            f"{rate} samples per second are expected: give the world or the environment the other's rate"
        )

    return Sounds([Kind(world.name, len(world), partial(clip, world, rate, samples))], rate, samples, level, burst)


# These are functions of the module, so that environments can be pickled.
def built_in_sound(name: str, rate: int, samples: int, first: int, number: int) -> Float[np.ndarray, " samples"]:
    # Each sound has its own random stream, so that it does not depend on other choices.
    return synthesize(name, rate, samples, np.random.default_rng([first + number, *map(ord, name)]))


def recording(files: Sequence[Path], rate: int, samples: int, number: int) -> Float[np.ndarray, " samples"]:
    return repeated(read_mono(files[number], rate).numpy(), samples, rate)


def clip(world: World, rate: int, samples: int, number: int) -> Float[np.ndarray, " samples"]:
    return repeated(world.whole(torch.tensor([number])).signal[0].numpy(), samples, rate)


def found_files(name: str) -> list[Path]:
    """The audio file at this path, or all in the folder at this path."""
    path = Path(name)
    if not path.exists():
        raise ValueError(
            f"'{name}' is neither a built-in sound nor a file nor a folder: give {', '.join(VOICES)}, or a path"
        )
    return sounds_at(path)


def check(wave: Float[np.ndarray, " samples"], rate: int, name: str) -> None:
    """Raise ValueError for invalid, too short or silent sounds."""
    if not np.isfinite(wave).all():
        raise ValueError(f"{name} holds NaN or infinite samples: repair it or leave it out")
    if len(wave) < SHORTEST * rate:
        raise ValueError(
            f"{name} is too short, {len(wave)} samples at {rate} a second: give at least {SHORTEST} seconds"
        )
    if np.abs(wave).max() < SILENCE:
        raise ValueError(f"{name} is silent, no sample is greater than {SILENCE}: leave it out")


def repeated(wave: Float[np.ndarray, " samples"], samples: int, rate: int) -> Float[np.ndarray, " longer"]:
    """A short sound repeated until it fills a loop and its seam; long and invalid ones are returned unchanged."""
    seam = round(SEAM * rate)
    if len(wave) < max(SHORTEST * rate, 2 * seam) or len(wave) >= samples + seam:
        return wave
    once = as_loop(wave, len(wave) - seam, rate)
    return np.tile(once, -(-(samples + seam) // len(once)))[: samples + seam]


def as_loop(wave: Float[np.ndarray, " samples"], length: int, rate: int) -> Float[np.ndarray, " time"]:
    """The first `length` samples, with what follows cross-faded into their beginning at constant power."""
    seam = len(wave[length : length + round(SEAM * rate)])
    angle = np.pi / 2 * (np.arange(seam) + 0.5) / max(1, seam)
    loop = wave[:length].copy()
    loop[:seam] = np.sin(angle) * loop[:seam] + np.cos(angle) * wave[length : length + seam]
    return loop


def intermittent(
    wave: Float[np.ndarray, " time"], burst: int, period: int, edge: int
) -> Float[np.ndarray, " time"]:
    """The loudest burst of the sound in every period, with faded edges; silence between."""
    out, ramp = np.zeros_like(wave), np.sin(np.pi / 2 * (np.arange(edge) + 0.5) / max(1, edge)) ** 2
    shape = np.ones(burst, wave.dtype)
    shape[:edge] *= ramp[: len(shape)]
    shape[burst - edge :] *= ramp[::-1]
    for start in range(0, len(wave), period):
        first = start + loudest(wave[start : start + period], burst)
        out[first : first + burst] = wave[first : first + burst] * shape
    return out


def loudest(wave: Float[np.ndarray, " time"], samples: int) -> int:
    """First sample of the excerpt of this many samples with the greatest energy."""
    energy = np.cumsum(np.r_[0.0, np.square(wave, dtype=np.float64)])
    return int((energy[samples:] - energy[:-samples]).argmax())


def equally_loud(wave: Float[np.ndarray, " time"], rate: int, level: float) -> Float[np.ndarray, " time"]:
    """Scaled to a loudness in dB(A) re full scale, up to the maximum peak."""
    if np.abs(wave).max() < SILENCE:
        return np.zeros(len(wave), np.float32)
    factor = 10 ** ((level - loudness(wave, rate)) / 20)
    return (wave * min(factor, PEAK / float(np.abs(wave).max()))).astype(np.float32)


def loudness(wave: Float[np.ndarray, " time"], rate: int) -> float:
    """Loudness of a loop in dB(A) relative to a mean square of 1."""
    spectrum = np.fft.rfft(wave.astype(np.float64))
    weighted = np.fft.irfft(spectrum * a_weighting(np.fft.rfftfreq(len(wave), 1 / rate)), len(wave))
    block = min(len(wave), round(0.4 * rate))
    # Blocks overlap by three quarters, across the seam.
    energy = np.cumsum(np.r_[0.0, weighted**2, weighted[:block] ** 2])
    starts = np.arange(0, len(wave), max(1, block // 4))
    powers = (energy[starts + block] - energy[starts]) / block
    loud = powers[powers > 0.1 * powers.mean()]
    return float(10 * np.log10(max(float(loud.mean()), 1e-20))) if len(loud) else -200.0


def a_weighting(frequency: Float[np.ndarray, " frequency"]) -> Float[np.ndarray, " frequency"]:
    """A-weighting as a gain relative to 1 kHz (IEC 61672, annex E)."""
    square = frequency**2
    weight = 12194.217**2 * square**2
    weight = weight / (square + 20.598997**2) / (square + 12194.217**2)
    weight = weight / np.sqrt((square + 107.65265**2) * (square + 737.86223**2))
    return weight * 10 ** (2.0 / 20)
