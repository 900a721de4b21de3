"""Quality of source separation in decibels, and preservation of the direction of sources.

SNR uses the reference unchanged; SI-SDR (Le Roux et al. 2019) allows the estimate any gain. BSS Eval (Vincent,
Gribonval and Févotte 2006) allows it any filter of 512 taps, and splits the residual into interference, which
other references explain, and artefacts, which none does. None of them resolves permutations: `best_order` finds
the right one.

In binaural sound the interaural differences of time and level determine the direction of a source: the time
difference gives its lateral angle, up to front-back confusion.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import toeplitz
from scipy.optimize import linear_sum_assignment

from sonarium.measures.contract import Meaning

MEANINGS = {
    "snr_improvement": Meaning(
        "SNR improvement",
        "SNR of the estimates minus SNR of the mixture, in dB; errors of level count.",
        None,
        None,
    ),
    "si_sdr_improvement": Meaning(
        "SI-SDR improvement", "SI-SDR of the estimates minus that of the mixture, in dB.", None, None
    ),
    "si_sir": Meaning("SI-SIR", "Scale-invariant signal-to-interference ratio in dB.", None, None),
    "si_sar": Meaning("SI-SAR", "Scale-invariant signal-to-artefact ratio in dB.", None, None),
    "itd_error": Meaning(
        "ITD error", "Absolute error of the interaural time difference in microseconds.", 0.0, None, rising=False
    ),
    "ild_error": Meaning(
        "ILD error", "Absolute error of the interaural level difference in dB.", 0.0, None, rising=False
    ),
    "location_error": Meaning(
        "localisation error",
        "Absolute error in degrees of the lateral angle estimated from the interaural time difference; front and "
        "back are not distinguished.",
        0.0,
        None,
        rising=False,
    ),
}
TAPS = 512
"""Number of taps of the filter that BSS Eval allows."""
EARS_APART = 1e-3
"""Maximum interaural time difference of the search, in seconds."""
FINER = 16
"""Points per sample at which the interaural time difference is searched."""
SPEED = 343.0
"""Speed of sound in metres per second."""
ANGLES = 10_001
"""Number of angles between which the lateral angle is interpolated."""


def snr(
    reference: Float[np.ndarray, "*some time"], estimate: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "*some"]:
    """Signal-to-noise ratio in dB: energy of the reference over that of the difference."""
    check(reference, estimate)
    return decibels(energy(reference), energy(reference - estimate))


def si_sdr(
    reference: Float[np.ndarray, "*some time"], estimate: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "*some"]:
    """Energy in dB of the estimate along the reference over that of the residual; the mean is not removed."""
    check(reference, estimate)
    along = (reference * estimate).sum(-1) / energy(reference)
    target = along[..., None] * reference
    return decibels(energy(target), energy(estimate - target))


@dataclass(frozen=True)
class Separation:
    """Ratios of each estimate in decibels."""

    sdr: Float[np.ndarray, " source"]
    sir: Float[np.ndarray, " source"]
    sar: Float[np.ndarray, " source"]


def bss_eval(
    references: Float[np.ndarray, "source time"], estimates: Float[np.ndarray, "source time"], taps: int = TAPS
) -> Separation:
    """Ratios to distortion, interference and artefacts of each estimate against the reference of its row. With one
    tap the SDR equals `si_sdr`."""
    check(references, estimates)
    if taps < 1:
        raise ValueError(f"taps={taps}: give 1 or more")
    found = [ratios(references, estimate, source, taps) for source, estimate in enumerate(estimates)]
    return Separation(*(np.array(column) for column in zip(*found, strict=True)))


def ratios(
    references: Float[np.ndarray, "source time"], estimate: Float[np.ndarray, " time"], source: int, taps: int
) -> tuple[float, float, float]:
    """SDR, SIR and SAR of one estimate against one of the references."""
    whole = np.append(estimate, np.zeros(taps - 1))
    target = explained(references[source : source + 1], estimate, taps)
    known = explained(references, estimate, taps)
    interference, artefacts = known - target, whole - known
    return (
        float(decibels(energy(target), energy(interference + artefacts))),
        float(decibels(energy(target), energy(interference))),
        float(decibels(energy(known), energy(artefacts))),
    )


def explained(
    references: Float[np.ndarray, "source time"], estimate: Float[np.ndarray, " time"], taps: int
) -> Float[np.ndarray, " longer"]:
    """Least-squares approximation of the estimate by filtered references."""
    sources, samples = references.shape
    size = next_fast_len(samples + taps - 1, real=True)
    spectra: Any = rfft(references, size)
    wanted: Any = rfft(estimate, size)
    products: Any = irfft(spectra[:, None] * spectra[None].conj(), size)
    gram = np.empty((sources * taps, sources * taps))
    for row in range(sources):
        for column in range(sources):
            # Entry (i, j) is the correlation of one delayed by i with the other delayed by j.
            lags = products[row, column]
            block = toeplitz(np.append(lags[0], lags[-1:-taps:-1]), lags[:taps])
            gram[row * taps : (row + 1) * taps, column * taps : (column + 1) * taps] = block
    right: Any = irfft(spectra.conj() * wanted, size)
    filters: Any = np.linalg.lstsq(gram, right[:, :taps].ravel(), rcond=None)[0].reshape(sources, taps)
    filtered: Any = rfft(filters, size)
    made: Any = irfft((filtered * spectra).sum(0), size)
    return made[: samples + taps - 1]


def best_order(scores: Float[np.ndarray, "reference estimate"]) -> Int[np.ndarray, " reference"]:
    """Index of the estimate assigned to each reference, so that the mean score is maximal."""
    return best_pairs(scores)[1]


def best_pairs(
    scores: Float[np.ndarray, "reference estimate"],
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    """Indices of references and estimates assigned to each other, so that the mean score is maximal; with unequal
    numbers some are unassigned."""
    return linear_sum_assignment(scores, maximize=True)


def time_difference(
    ears: Float[np.ndarray, "*some 2 time"], rate: float, largest: float = EARS_APART
) -> Float[np.ndarray, "*some"]:
    """Interaural time difference: seconds by which the sound reaches the right ear after the left one. Lag up to
    `largest` of the maximum of the cross-correlation, with square roots of the magnitudes; NaN if an ear is
    silent."""
    samples = ears.shape[-1]
    size: Any = next_fast_len(2 * max(samples, round(largest * rate)), real=True)
    spectra: Any = rfft(ears, size)
    heard = (energy(ears) > 0).all(-1)
    left, right = np.moveaxis(spectra, -2, 0)
    cross = right * left.conj()
    cross = cross / np.sqrt(np.abs(cross) + 1e-20)
    correlation: Any = irfft(cross, size * FINER)
    most = round(largest * rate * FINER)
    lags = np.arange(-most, most + 1)
    return np.where(heard, lags[correlation[..., lags].argmax(-1)] / (rate * FINER), np.nan)


Head = Literal["none", "sphere"]
"""Head between the ears: none, or a rigid sphere around which sound travels (Woodworth 1938)."""


def delay_of(angle: Float[np.ndarray, "*some"], ear_distance: float, head: Head) -> Float[np.ndarray, "*some"]:
    """Interaural time difference in seconds of a distant source at a lateral angle in radians, positive to the
    left."""
    way = ear_distance * np.sin(angle) if head == "none" else ear_distance / 2 * (angle + np.sin(angle))
    return np.asarray(way / SPEED)


def lateral_angle(
    delay: Float[np.ndarray, "*some"], ear_distance: float, head: Head
) -> Float[np.ndarray, "*some"]:
    """Lateral angle in radians from the interaural time difference; at most a right angle."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, ANGLES)
    delays = delay_of(angles, ear_distance, head)
    if head == "none":
        return np.arcsin(np.clip(delay / delays[-1], -1, 1))
    return np.interp(delay, delays, angles)


def level_difference(ears: Float[np.ndarray, "*some 2 time"]) -> Float[np.ndarray, "*some"]:
    """Interaural level difference: level in decibels of the left ear relative to the right one."""
    return decibels(energy(ears[..., 0, :]), energy(ears[..., 1, :]))


def energy(wave: Float[np.ndarray, "*some time"]) -> Float[np.ndarray, "*some"]:
    return np.asarray(np.square(wave, dtype=np.float64).sum(-1))


def decibels(one: Float[np.ndarray, "*some"], other: Float[np.ndarray, "*some"]) -> Float[np.ndarray, "*some"]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(10 * np.log10(one / other))


def check(reference: np.ndarray, estimate: np.ndarray) -> None:
    if reference.shape != estimate.shape:
        raise ValueError(
            f"a reference of shape {reference.shape} and an estimate of shape {estimate.shape}: give both alike"
        )
    for name, wave in (("reference", reference), ("estimate", estimate)):
        if not np.isfinite(wave).all():
            raise ValueError(f"the {name} holds NaN or infinite samples: give finite ones")
    if not np.square(reference).sum(-1).all():
        raise ValueError("a reference is silent: leave out sources that do not sound")
