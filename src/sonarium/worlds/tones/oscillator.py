"""One oscillator for four waveforms: naive as SciPy samples them, or band-limited as a sum of partials.

With the phase θ(t) = 2π (f t + φ + f d (1 − cos 2πrt) / 2πr), the integral of a frequency with vibrato, the
band-limited waves are their Fourier series cut off below the Nyquist frequency,

    sawtooth  −(2/π) Σ sin(kθ)/k      square  (4/π) Σ sin(kθ)/k, k odd
    triangle  −(8/π²) Σ cos(kθ)/k², k odd

summed by Clenshaw's recurrence (1955), which needs one sine and one cosine per sample. A wave whose fundamental is
not below the Nyquist frequency is silent. With pitch modulation (`modulation.py`), the frequency is f 2^(m(t)/12)
(1 + d sin 2πrt), integrated from sample to sample by the trapezoidal rule. On a CPU the compiled loops of
`kernels.py` are used; elsewhere the same equations run as torch operations.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.worlds import counter as noise
from sonarium.worlds.tones.modulation import NEPERS, OCTAVES, Modulation, none

WAVEFORMS = ("sine", "triangle", "sawtooth", "square")
SINE, TRIANGLE, SAWTOOTH, SQUARE = range(4)
COLUMNS = (
    "waveform",
    "frequency",
    "amplitude",
    "phase",
    "attack",
    "decay",
    "noise",
    "vibrato_rate",
    "vibrato_depth",
    "second_partial",
)
"""Parameters of a tone: the columns of every tensor with one tone per row."""


def order_limit(
    frequency: Float[Tensor, " clip"],
    rate: Float[Tensor, " clip"],
    depth: Float[Tensor, " clip"],
    nyquist: float,
    besides: Float[Tensor, " clip"] | float = 0.0,
) -> Float[Tensor, " clip"]:
    """Highest order whose partial stays below `nyquist`, including the sidebands of the vibrato and, `besides`,
    the bandwidth in Hz of other modulation.

    A partial at kf swings by ±kfd; its sidebands J_n(β), β = kfd/r, are below −60 dB from about n = β + 3β^(1/3) +
    3 on.
    """
    vibrating = (depth > 0) & (rate > 0)
    index = torch.where(vibrating, nyquist * depth / rate.clamp(min=1e-9), 0)
    room = nyquist - torch.where(vibrating, rate * (3 * index ** (1 / 3) + 3), 0) - besides
    widest = frequency * torch.where(vibrating, 1 + depth, 1)
    order = torch.floor(room / widest)
    return torch.where(order * widest >= room, order - 1, order).clamp(min=0)


def fourier(orders: int) -> Float[Tensor, "waveform term"]:
    """Amplitudes of each waveform's partials: term m has order m in a sawtooth, 2m − 1 in the others."""
    term = torch.arange(1, orders + 1, dtype=torch.float64)
    odd = 2 * term - 1
    sine = (term == 1).double()
    return torch.stack([sine, -8 / (math.pi * odd) ** 2, -2 / (math.pi * term), 4 / (math.pi * odd)])


@cache
def workers(process: int, count: int) -> ThreadPoolExecutor:
    """Thread pool of this process; a forked process makes its own."""
    return ThreadPoolExecutor(count, thread_name_prefix="tones")


def render(
    tones: Float[Tensor, "clip column"],
    streams: Int[Tensor, " clip"],
    time: Float[Tensor, " time"],
    alias: bool,
    device: torch.device,
    modulation: Modulation | None = None,
) -> Float[Tensor, "clip time"]:
    """Samples of each tone at these times, in float32; `streams` seeds the noise of each clip."""
    step = float(time[1] - time[0])
    slow = none(len(tones)) if modulation is None else modulation
    highest, nyquist = tones[:, 1] * slow.highest(), 0.5 / step
    limit = order_limit(highest, tones[:, 7], tones[:, 8], nyquist, slow.sidebands(nyquist))
    orders = limit.long()
    waveform = tones[:, 0].long()
    terms = torch.where(waveform == SAWTOOTH, orders, (orders + 1) // 2)
    terms = torch.where(waveform == SINE, orders.clamp(max=1), terms)
    series = fourier(max(int(terms.max()), 1))
    end = len(time) * step
    if not alias:
        tones = tones.clone()
        tones[:, 9] *= orders >= 2
    if device.type in ("cpu", "mps"):
        # MPS has no double precision, and single precision loses the phase within a second.
        return render_loops(tones, series, terms, streams, time, end, alias, slow).to(device)
    tones, series, terms, streams, time = (part.to(device) for part in (tones, series, terms, streams, time))
    return render_operations(tones, series, terms, streams, time, end, alias, slow.to(device))


def render_loops(
    tones: Float[Tensor, "clip column"],
    series: Float[Tensor, "waveform term"],
    terms: Int[Tensor, " clip"],
    streams: Int[Tensor, " clip"],
    time: Float[Tensor, " time"],
    end: float,
    alias: bool,
    slow: Modulation,
) -> Float[Tensor, "clip time"]:
    """Render on the CPU: clips are divided among as many threads as torch may use, which changes no sample."""
    # Importing numba takes most of a second, which is saved if nothing is rendered.
    from sonarium.worlds.tones import kernels

    out = torch.empty(len(tones), len(time), dtype=torch.float32)
    table, grid = series.numpy(), time.numpy()
    per_clip = (tones, terms, streams, slow.pitch, slow.level, out)
    arrays = [part.contiguous().numpy() for part in per_clip]

    def fill(first: int, past: int) -> None:
        tone, term, stream, pitch, level, target = (array[first:past] for array in arrays)
        kernels.render(tone, table, term, stream, pitch, level, grid, end, alias, target)

    most = max(math.ceil(len(tones) / torch.get_num_threads()), 4)
    parts = [(first, min(first + most, len(tones))) for first in range(0, len(tones), most)]
    if len(parts) <= 1:
        fill(0, len(tones))
    else:
        list(workers(os.getpid(), torch.get_num_threads()).map(fill, *zip(*parts, strict=True)))
    return out


def render_operations(
    tones: Float[Tensor, "clip column"],
    series: Float[Tensor, "waveform term"],
    terms: Int[Tensor, " clip"],
    streams: Int[Tensor, " clip"],
    time: Float[Tensor, " time"],
    end: float,
    alias: bool,
    slow: Modulation,
) -> Float[Tensor, "clip time"]:
    """Render on any device with double precision: the same equations on (clip, time) tensors."""
    waveform, frequency, amplitude, phase, attack, decay, level, rate, depth, second = tones.T[..., None]
    unit = 2 * math.pi if alias else 1.0
    angle = unit * frequency * time + unit * phase
    if slow.pitch.shape[1]:
        angle = angle + unit * frequency * departed(slow.semitones(time), rate, depth, time)
    else:
        swing = torch.where(rate > 0, unit * frequency * depth / (2 * math.pi * rate), 0)
        angle = angle + swing * (1 - torch.cos(2 * math.pi * rate * time))
    if alias:
        wave = naive(angle, waveform) + second * torch.sin(2 * angle)
    else:
        theta = 2 * math.pi * (angle - torch.round(angle))
        sine, cosine = torch.sin(theta), torch.cos(theta)
        wave = limited(sine, cosine, waveform, series, terms) + second * 2 * sine * cosine
    rise = torch.where(attack > 0, time / attack, 1).clamp(max=1)
    fall = torch.where(decay > 0, (end - time) / decay, 1).clamp(0, 1)
    envelope = (0.5 - 0.5 * torch.cos(math.pi * rise)) * (0.5 - 0.5 * torch.cos(math.pi * fall))
    if slow.level.shape[1]:
        envelope = envelope * torch.exp(NEPERS * slow.decibels(time))
    wave = wave * amplitude * envelope
    if bool((level > 0).any()):
        wave = wave + level * noise.normal(streams, len(time))
    return wave.float()


def departed(
    semitones: Float[Tensor, "clip time"],
    rate: Float[Tensor, "clip 1"],
    depth: Float[Tensor, "clip 1"],
    time: Float[Tensor, " time"],
) -> Float[Tensor, "clip time"]:
    """Integral of the relative frequency deviation, from the first of these times on."""
    ratio = torch.exp2(OCTAVES * semitones) * (1 + depth * torch.sin(2 * math.pi * rate * time)) - 1
    steps = (ratio[:, 1:] + ratio[:, :-1]) * (0.5 * (time[1] - time[0]))
    return torch.nn.functional.pad(steps.cumsum(1), (1, 0))


def naive(angle: Float[Tensor, "clip time"], waveform: Float[Tensor, "clip 1"]) -> Float[Tensor, "clip time"]:
    """The four waveforms at these angles, as given by SciPy's `sin`, `sawtooth` and `square`."""
    rest = torch.remainder(angle, 2 * math.pi)
    up = rest / (math.pi * 0.5) - 1
    down = (math.pi * 1.5 - rest) / (math.pi * 0.5)
    triangle = torch.where(rest < math.pi, up, down)
    sawtooth = rest / math.pi - 1
    square = torch.where(rest < math.pi, 1.0, -1.0).to(rest)
    others = torch.where(waveform == TRIANGLE, triangle, torch.where(waveform == SAWTOOTH, sawtooth, square))
    return torch.where(waveform == SINE, torch.sin(angle), others)


def limited(
    sine: Float[Tensor, "clip time"],
    cosine: Float[Tensor, "clip time"],
    waveform: Float[Tensor, "clip 1"],
    series: Float[Tensor, "waveform term"],
    terms: Int[Tensor, " clip"],
) -> Float[Tensor, "clip time"]:
    """Sum each clip's series by Clenshaw's recurrence, in steps of θ or, for odd orders, of 2θ."""
    sounding = torch.arange(series.shape[1], device=terms.device) < terms[:, None]
    amplitudes = series[waveform[:, 0].long()] * sounding
    every = waveform == SAWTOOTH
    step = torch.where(every, 2 * cosine, 2 - 4 * sine**2)
    near, far = torch.zeros_like(step), torch.zeros_like(step)
    for amplitude in amplitudes.T.flip(0)[..., None]:
        near, far = amplitude + step * near - far, near
    odd = torch.where(waveform == TRIANGLE, (near - far) * cosine, (near + far) * sine)
    return torch.where(every, near * sine, odd)
