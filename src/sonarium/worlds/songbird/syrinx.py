"""Synthesis of a bird's voice from its gestures: Mindlin's model of the syrinx with trachea and cavity.

    x' = y,   y' = γ²(α + βx + x² − x³) − γ(x + x²)y

is the position of the labium (Sitt et al., 2010, Phys. Rev. E 81, 031927), with the sign that oscillates for α <
0: α follows the air-sac pressure, β the tension of the syringeal muscles. The trachea adds its reflections, p(t) =
A(t) y(t) − r p(t − 2τ), and a Helmholtz cavity with glottis and beak (Perl et al., 2011) filters its output. Both
are linear, so their equations are solved exactly, by the transfer function; only the syrinx itself is integrated
in small steps. `sing` does so for a batch of birds: compiled loops on a CPU, torch operations elsewhere.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from scipy import fft
from torch import Tensor

STEPS = 88_200
"""Minimum steps per second at γ = 23500: with 8 times as many, frequencies change by less than 5e-4."""
GAMMA = 23_500.0
"""Time scale of the labia in 1/s; frequencies are proportional to it."""
TAPS = 20
"""Length of the low-pass filter before decimation, in output samples."""
TAIL = 0.02
"""Seconds after which the reflections have decayed."""
BLOCK = 4096
"""FFT sizes are multiples of it, so that they are fast and few."""
BREATH = 3_000.0
"""Frequency in Hz below which the power of turbulence falls off."""
LOUDNESS = 12.0
"""Gain that brings notes of envelope 1 to peaks of about .5."""
Frames = Float[np.ndarray, "clip frame"]
Given = TypeVar("Given")


@dataclass(frozen=True)
class Tract:
    """Trachea and cavity of a zebra finch, in units of cm, g and s."""

    length: float = 3.5
    """Length of the trachea in cm."""
    sound_speed: float = 35_000.0
    """Speed of sound in cm/s."""
    reflection: float = 0.1
    """Fraction of the pressure that the glottis reflects."""
    inverse_cavity: float = 4.5e10
    """1/C_h: stiffness of the air in the cavity."""
    inverse_beak: float = 1e-4
    """1/L_b: inverse inertance of the beak."""
    inverse_glottis: float = 1 / 82
    """1/L_g: inverse inertance of the glottis."""
    beak_resistance: float = 5e6
    """R_b: resistance of the beak."""
    cavity_resistance: float = 6e5
    """R_h: resistance of the cavity."""


TRACT = Tract()


def sing(
    alpha: Frames,
    beta: Frames,
    envelope: Frames,
    *,
    frame_rate: float,
    rate: int,
    lengths: Sequence[int] | None = None,
    turbulence: Frames | None = None,
    seeds: Int[np.ndarray, " clip"] | None = None,
    gamma: float | Float[np.ndarray, " clip"] = GAMMA,
    tract: Tract = TRACT,
    steps: int = STEPS,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "clip time"]:
    """The sound of each bird from gestures at the times i / frame_rate, in float32.

    `turbulence` is the level of white noise in the flow, as a multiple of envelope · y/γ, seeded by `seeds`. Where
    the envelope is 0 the bird is silent, and its labia restart from rest. `lengths` are the samples of each bird,
    by default the duration of the frames.
    """
    if lengths is None:
        lengths = [max(round((alpha.shape[1] - 1) * rate / frame_rate), 1)] * len(alpha)
    count = max(lengths, default=0)
    scales = np.broadcast_to(np.asarray(gamma, np.float64), (len(alpha),))
    check(alpha, beta, envelope, turbulence, scales)
    flow = np.zeros((len(alpha), count))
    factor = max(math.ceil(steps * float(scales.max(initial=GAMMA)) / GAMMA / rate), 1)
    jobs = stretches(envelope, frame_rate, rate, lengths)
    gestures = (alpha, beta, envelope)
    phonate(jobs, gestures, scales, frame_rate, rate, factor, flow, torch.device(device))
    if turbulence is not None:
        add_turbulence(flow, jobs, envelope * turbulence, seeds, frame_rate, rate)
    return resonate(flow, lengths, rate, tract).to(device)


def check(alpha: Frames, beta: Frames, envelope: Frames, turbulence: Frames | None, scales: np.ndarray) -> None:
    given = {"alpha": alpha, "beta": beta, "envelope": envelope, "turbulence": turbulence}
    for name, values in given.items():
        if values is None:
            continue
        if values.shape != alpha.shape or not values.shape[1]:
            raise ValueError(
                f"{name} has the shape {values.shape}, alpha {alpha.shape}: give (clip, frame) for all"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds NaN or infinite numbers: give finite gestures")
    if envelope.size and envelope.min() < 0:
        raise ValueError(f"envelope goes down to {envelope.min():g}: give 0 or more")
    if scales.size and not (np.isfinite(scales).all() and scales.min() > 0):
        raise ValueError(f"gamma is {scales.min():g}: give a finite number above 0")


@dataclass(frozen=True)
class Stretch:
    """A part of a clip with non-zero envelope."""

    clip: int
    first: int
    """First sample."""
    samples: int


def stretches(envelope: Frames, frame_rate: float, rate: int, lengths: Sequence[int]) -> list[Stretch]:
    """Parts of clips where the envelope, interpolated between its frames, is above 0; the longest first."""
    found = []
    for clip, (levels, samples) in enumerate(zip(envelope, lengths, strict=True)):
        sounding = np.flatnonzero(np.diff(np.concatenate([[0], (levels > 0).astype(np.int8), [0]])))
        last = 0
        for begin, end in zip(sounding[::2], sounding[1::2], strict=True):
            first = max(math.floor((begin - 1) * rate / frame_rate), last)
            last = samples if end == len(levels) else min(math.ceil(end * rate / frame_rate) + 1, samples)
            if last > first:
                found.append(Stretch(clip, first, last - first))
    return sorted(found, key=lambda stretch: -stretch.samples)


def phonate(
    jobs: list[Stretch],
    gestures: tuple[Frames, Frames, Frames],
    scales: Float[np.ndarray, " clip"],
    frame_rate: float,
    rate: int,
    factor: int,
    flow: Float[np.ndarray, "clip time"],
    device: torch.device,
) -> None:
    """Add envelope · y/γ of each stretch to `flow`, as many stretches at a time as there are lanes."""
    from sonarium.worlds.songbird import kernels

    width = kernels.LANES if device.type in ("cpu", "mps") else max(len(jobs), 1)
    taps = low_pass(factor)

    def fill(lane_jobs: list[Stretch]) -> None:
        longest = lane_jobs[0].samples
        alpha, beta, envelope = (lanes(lane_jobs, path, width, frame_rate, rate, longest) for path in gestures)
        h = np.full(width, GAMMA / (rate * factor))
        h[: len(lane_jobs)] = [scales[job.clip] / (rate * factor) for job in lane_jobs]
        per_step = frame_rate / (rate * factor)
        if device.type in ("cpu", "mps"):
            fine, made = np.empty((longest * factor, width)), np.empty((longest, width))
            kernels.integrate(alpha, beta, envelope, h, per_step, fine)
            for lane, job in enumerate(lane_jobs):
                # Lanes run as long as the longest: samples beyond the stretch must not leak in through the filter.
                fine[job.samples * factor : job.samples * factor + len(taps), lane] = 0
            kernels.decimate(fine, taps, factor, made)
        else:
            made = step_by_step([alpha, beta, envelope], h, per_step, longest, taps, factor, device)
        for lane, job in enumerate(lane_jobs):
            flow[job.clip, job.first : job.first + job.samples] += made[: job.samples, lane]

    in_threads(fill, [jobs[first : first + width] for first in range(0, len(jobs), width)])


def in_threads(work: Callable[[Given], object], given: Sequence[Given]) -> None:
    """Apply `work` to each item, in as many threads as torch may use."""
    if len(given) <= 1 or torch.get_num_threads() == 1:
        for one in given:
            work(one)
    else:
        list(workers(os.getpid(), torch.get_num_threads()).map(work, given))


def lanes(
    jobs: list[Stretch], path: Frames, width: int, frame_rate: float, rate: int, longest: int
) -> Float[np.ndarray, "place lane"]:
    """A gesture of each stretch from its first sample on, one lane each; unused lanes are silent."""
    count = math.ceil(longest * frame_rate / rate) + 2
    first = np.array([job.first for job in jobs]) * (frame_rate / rate)
    place = np.minimum(first + np.arange(count)[:, None], path.shape[1] - 1)
    low = place.astype(np.int64)
    clips, high = np.array([job.clip for job in jobs]), np.minimum(low + 1, path.shape[1] - 1)
    made = np.zeros((count, width))
    made[:, : len(jobs)] = path[clips, low] + (place - low) * (path[clips, high] - path[clips, low])
    return made


@cache
def low_pass(factor: int) -> Float[np.ndarray, " tap"]:
    """Low-pass filter for decimation by this factor."""
    if factor == 1:
        return np.ones(1)
    half = TAPS * factor // 2
    taps = np.sinc(0.9 / factor * np.arange(-half, half + 1)) * np.kaiser(2 * half + 1, 8.0)
    return taps / taps.sum()


@cache
def workers(process: int, count: int) -> ThreadPoolExecutor:
    """Thread pool of this process; a forked process makes its own."""
    return ThreadPoolExecutor(count, thread_name_prefix="songbird")


def step_by_step(
    paths: list[Float[np.ndarray, "frame lane"]],
    h: Float[np.ndarray, " lane"],
    per_step: float,
    samples: int,
    taps: Float[np.ndarray, " tap"],
    factor: int,
    device: torch.device,
) -> Float[np.ndarray, "time lane"]:
    """The loops of `kernels.py` as torch operations over all lanes."""
    alpha, beta, envelope = (torch.from_numpy(path).to(device) for path in paths)
    size = torch.from_numpy(h).to(device)
    x, y = torch.zeros_like(size), torch.zeros_like(size)
    fine = torch.empty(samples * factor, len(size), dtype=torch.float64, device=device)
    for step in range(len(fine)):
        fine[step] = between(envelope, step * per_step) * y
        middle = (step + 0.5) * per_step
        x, y = advance(x, y, between(alpha, middle), between(beta, middle), size)
    half = len(taps) // 2
    kernel = torch.from_numpy(taps).to(device)[None, None]
    made = torch.nn.functional.conv1d(fine.T[:, None], kernel, stride=factor, padding=half)[:, 0, :samples]
    return made.T.cpu().numpy()


def between(path: Float[Tensor, "frame lane"], place: float) -> Float[Tensor, " lane"]:
    """Linear interpolation of a path at a fractional frame."""
    frame = int(place)
    return torch.lerp(path[frame], path[frame + 1], place - frame)


def advance(
    x: Float[Tensor, " lane"],
    y: Float[Tensor, " lane"],
    a: Float[Tensor, " lane"],
    b: Float[Tensor, " lane"],
    h: Float[Tensor, " lane"],
) -> tuple[Float[Tensor, " lane"], Float[Tensor, " lane"]]:
    """One step of the classical Runge–Kutta method in units of 1/γ."""

    def force(x: Tensor, y: Tensor) -> Tensor:
        return a + x * (b + x * (1 - x)) - (x + x * x) * y

    k1 = force(x, y)
    y1 = y + h / 2 * k1
    k2 = force(x + h / 2 * y, y1)
    y2 = y + h / 2 * k2
    k3 = force(x + h / 2 * y1, y2)
    y3 = y + h * k3
    k4 = force(x + h * y2, y3)
    return x + h / 6 * (y + 2 * (y1 + y2) + y3), y + h / 6 * (k1 + 2 * (k2 + k3) + k4)


def add_turbulence(
    flow: Float[np.ndarray, "clip time"],
    jobs: list[Stretch],
    level: Frames,
    seeds: Int[np.ndarray, " clip"] | None,
    frame_rate: float,
    rate: int,
) -> None:
    """Add the noise of a jet, which has little power at low frequencies; it depends on the seed of the clip
    alone."""
    from sonarium.worlds.songbird import kernels

    pole = math.exp(-2 * math.pi * BREATH / rate)
    own: dict[int, list[Stretch]] = {}
    for job in sorted(jobs, key=lambda job: job.first):
        own.setdefault(job.clip, []).append(job)

    def blow(clip: int) -> None:
        random = np.random.default_rng(clip if seeds is None else int(seeds[clip]))
        noise, drawn = random.standard_normal(sum(job.samples for job in own[clip]), np.float32), 0
        for job in own[clip]:
            part = noise[drawn : drawn + job.samples]
            kernels.blow(flow[clip], part, level[clip], job.first, frame_rate / rate, pole)
            drawn += job.samples

    in_threads(blow, list(own))


def resonate(
    flow: Float[np.ndarray, "clip time"], lengths: Sequence[int], rate: int, tract: Tract
) -> Float[Tensor, "clip time"]:
    """Sound at the beak, from A(t) y(t)/γ at the syrinx."""
    made = np.zeros(flow.shape, np.float32)

    def leave(clip: int) -> None:
        # One clip at a time, at its own FFT size: its bits must not depend on the others.
        samples = lengths[clip]
        size = -(-(samples + math.ceil(TAIL * rate)) // BLOCK) * BLOCK
        spectrum: Any = fft.rfft(flow[clip, :samples].astype(np.float32), size)
        sound: Any = fft.irfft(spectrum * response(size, rate, tract), size)
        made[clip, :samples] = sound[:samples]

    in_threads(leave, range(len(flow)))
    return torch.from_numpy(made)


@lru_cache(32)
def response(size: int, rate: int, tract: Tract) -> Complex[np.ndarray, " f"]:
    return (LOUDNESS * transfer(np.fft.rfftfreq(size, 1 / rate), tract)).astype(np.complex64)


def transfer(frequencies: Float[np.ndarray, " f"], tract: Tract = TRACT) -> Complex[np.ndarray, " f"]:
    """Transfer function from the pressure at the syrinx to that at the beak, at these frequencies in Hz."""
    omega = 2 * np.pi * frequencies
    delay = np.exp(-1j * omega * tract.length / tract.sound_speed)
    trachea = (1 - tract.reflection) * delay / (1 + tract.reflection * delay**2)
    return trachea * tract.beak_resistance * currents(frequencies, tract)[2]


def currents(
    frequencies: Float[np.ndarray, " f"], tract: Tract = TRACT
) -> tuple[Complex[np.ndarray, " f"], Complex[np.ndarray, " f"], Complex[np.ndarray, " f"]]:
    """i1, i2 = i1' and i3 of the cavity's circuit, for a pressure V = 1 behind the glottis.

    i1' = i2
    i2' = −i1/(L_g C_h) − R_h(1/L_b + 1/L_g) i2 + (1/(L_g C_h) − R_h R_b/(L_b L_g)) i3 + V'/L_g + R_h V/(L_b L_g)
    i3' = −(L_g/L_b) i2 − (R_b/L_b) i3 + V/L_b
    """
    s = 2j * np.pi * frequencies
    g, b, c = tract.inverse_glottis, tract.inverse_beak, tract.inverse_cavity
    rb, rh = tract.beak_resistance, tract.cavity_resistance
    # The first two equations as i1 · p = i3 · q + u, the third as i3 · v = b − (b / g) s i1.
    p = s * s + s * rh * (b + g) + g * c
    q = g * c - rh * rb * b * g
    u = s * g + rh * b * g
    v = s + rb * b
    i1 = (u * v + q * b) / (p * v + q * s * b / g)
    return i1, s * i1, (b - s * i1 * b / g) / v


LOWEST_ALPHA, HIGHEST_ALPHA = -0.42, -0.02
"""Range of pressures at which the voice sounds."""
DEEPEST = 3.0
"""Maximum distance of a tension from the border of silence for which frequencies are tabulated."""


POSITIONS = np.linspace(0.5, 1.0, 4001)
BORDER = (2 * POSITIONS**3 - POSITIONS**2, 3 * POSITIONS**2 - 2 * POSITIONS)
"""−α and β where a saddle and a node meet, at these positions x of the labium."""


def border(alpha: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Tension above which the labia rest: the saddle-node α = x² − 2x³, β = 3x² − 2x, where f0 begins at 0."""
    return np.interp(-alpha, *BORDER)


@cache
def pitch_table(
    alphas: int = 17, depths: int = 64
) -> tuple[Float[np.ndarray, " alpha"], Float[np.ndarray, " depth"], Float[np.ndarray, "alpha depth"]]:
    """Pressures, distances of the tension from `border` (dense where f0 rises fastest), and f0 in Hz at γ =
    GAMMA."""
    alpha = np.linspace(LOWEST_ALPHA, HIGHEST_ALPHA, alphas)
    depth = DEEPEST * np.linspace(0.1, 1, depths) ** 4
    at, below = (part.ravel() for part in np.meshgrid(alpha, depth, indexing="ij"))
    found = fundamental(at, border(at) - below, seconds=0.08).reshape(alphas, depths)
    # Periods longer than the simulation count as silence; beyond them f0 rises.
    return alpha, depth, np.maximum.accumulate(found, 1)


def fundamental(
    alpha: Float[np.ndarray, " n"],
    beta: Float[np.ndarray, " n"],
    gamma: float = GAMMA,
    seconds: float = 0.2,
    steps: int = STEPS,
) -> Float[np.ndarray, " n"]:
    """Frequency in Hz of the oscillation at constant pressure and tension; 0 if there is none."""
    from sonarium.worlds.songbird import kernels

    factor, found, width = GAMMA / gamma, np.zeros(len(alpha)), kernels.LANES
    for first in range(0, len(alpha), width):
        rows = np.arange(first, min(first + width, len(alpha)))
        # In units of 1/γ, so that the frequency is proportional to γ.
        count = round(seconds * steps)
        fine = np.empty((count, width))
        filled = rows[np.minimum(np.arange(width), len(rows) - 1)]
        level = np.ones((2, width))
        kernels.integrate(
            alpha[filled] * level, beta[filled] * level, level, np.full(width, GAMMA / steps), 0.0, fine
        )
        for lane, row in enumerate(rows):
            found[row] = crossings(fine[count // 3 :, lane]) * steps / factor
    return found


def crossings(wave: Float[np.ndarray, " time"]) -> float:
    """Upward zero crossings per sample, between the first and the last; 0 for a decaying wave."""
    if np.ptp(wave[-len(wave) // 4 :]) < 1e-3:
        return 0.0
    at = np.flatnonzero((wave[:-1] < 0) & (wave[1:] >= 0))
    if len(at) < 2:
        return 0.0
    places = at + wave[at] / (wave[at] - wave[at + 1])
    return float((len(places) - 1) / (places[-1] - places[0]))


LOWEST_HERTZ, HIGHEST_HERTZ, HERTZ = 150.0, 8000.0, 1024
"""Range of the table of tensions, and its number of log-spaced frequencies."""


@cache
def tension_table() -> Float[np.ndarray, "alpha hertz"]:
    """Inverse of `pitch_table`: the distance from `border` for each frequency at each pressure."""
    _, depths, table = pitch_table()
    hertz = np.geomspace(LOWEST_HERTZ, HIGHEST_HERTZ, HERTZ)
    return np.stack([np.interp(hertz, row, depths) for row in table])


def tension_of(
    hertz: Float[np.ndarray, "n knot"], alpha: Float[np.ndarray, " n"], gamma: float = GAMMA
) -> Float[np.ndarray, "n knot"]:
    """Tensions that give these frequencies at these pressures; the nearest if none does."""
    alphas, table = pitch_table()[0], tension_table()
    rows, weight = places(alpha, alphas)
    low, between = rows[:, None], weight[:, None]
    scale = (HERTZ - 1) / math.log(HIGHEST_HERTZ / LOWEST_HERTZ)
    place = np.clip(np.log(hertz * (GAMMA / gamma / LOWEST_HERTZ)) * scale, 0, HERTZ - 1 - 1e-9)
    at = place.astype(np.int64)
    within = place - at
    below, above = (table[row, at] + within * (table[row, at + 1] - table[row, at]) for row in (low, low + 1))
    return border(alpha)[:, None] - below - between * (above - below)


def pitch_of(
    alpha: Float[np.ndarray, " n"], beta: Float[np.ndarray, " n"], gamma: float = GAMMA
) -> Float[np.ndarray, " n"]:
    """Frequency in Hz at these pressures and tensions, from the table; 0 beyond the border of silence."""
    alphas, depths, table = pitch_table()
    rows, weight = places(alpha, alphas)
    below, found = border(alpha) - beta, np.zeros(len(alpha))
    for row in np.unique(np.concatenate([rows, rows + 1])):
        at = np.interp(below, depths, table[row])
        found += at * np.where(rows == row, 1 - weight, np.where(rows + 1 == row, weight, 0))
    return np.where((below > 0) & (alpha < 0), found * gamma / GAMMA, 0.0)


def places(
    values: Float[np.ndarray, " n"], grid: Float[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Index of the grid point below each value, and the fractional distance to the next, for linear
    interpolation."""
    place = np.interp(values, grid, np.arange(len(grid)))
    low = np.minimum(place.astype(np.int64), len(grid) - 2)
    return low, place - low
