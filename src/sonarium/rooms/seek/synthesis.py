"""Five synthetic sounds: a telephone bell, a siren, a melody, birdsong, and babble.

Each is a seamless loop: pitched parts have a whole number of periods, and what rings past the end continues at the
beginning. Babble is source-filter synthesis of speech (Klatt, 1980): harmonics of a gliding pitch, weighted by the
formants of successive vowels, with a noise burst before some of them. Faint noise keeps every loop from digital
silence.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Loop = Float[np.ndarray, " time"]
HISS = 0.002
"""Standard deviation of the noise under each sound, relative to the sound's: −54 dB."""
HIGHEST = 0.45
"""Highest frequency of a partial as a fraction of the sampling rate."""
VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
"""Formants in Hz (Peterson and Barney, 1952, men)."""
UPPER = (3500, 4500)
"""Formants that all vowels share."""
WIDTHS = (80.0, 100.0, 140.0, 200.0, 280.0)
"""Bandwidths of the formants in Hz."""


LOWEST_RATES = {"phone": 2600, "siren": 1300}
"""Rates in Hz below which no partial of a sound is left."""


def synthesize(name: str, rate: int, samples: int, random: np.random.Generator) -> Loop:
    """One loop of the sound of this name; the generator draws its pitch, tempo and melody."""
    sound = VOICES[name](rate, samples, random)
    sound = sound / np.sqrt(np.mean(sound**2))
    return sound + HISS * random.standard_normal(samples)


def phone(rate: int, samples: int, random: np.random.Generator) -> Loop:
    """Two small gongs struck alternately by a clapper, in two bursts of 0.4 s per ring."""
    pitches = random.uniform(900, 1150) * np.array([1.0, random.uniform(1.12, 1.2)])
    gongs = [gong(rate, pitch, random) for pitch in pitches]
    length = samples / rate
    calls = max(1, round(length / 2.0))
    loop, strokes = np.zeros(samples), random.uniform(22, 26)
    for call in range(calls):
        for burst in (0.0, 0.6):
            for stroke in range(round(0.4 * strokes)):
                start = call * length / calls + burst + stroke / strokes
                add(loop, start * rate, gongs[stroke % 2] * random.uniform(0.8, 1.0))
    return loop


def gong(rate: int, pitch: float, random: np.random.Generator) -> Loop:
    """A struck bell: inharmonic partials that decay faster the higher they are."""
    time = np.arange(round(0.6 * rate)) / rate
    ring = np.zeros(len(time))
    for ratio, weight in ((1.0, 1.0), (1.51, 0.5), (2.02, 0.6), (2.74, 0.4), (3.76, 0.2)):
        frequency = pitch * ratio * random.uniform(0.995, 1.005)
        if frequency < HIGHEST * rate:
            ring += weight * np.exp(-time * 9 * ratio) * np.sin(2 * np.pi * frequency * time)
    return ring


def siren(rate: int, samples: int, random: np.random.Generator) -> Loop:
    """A wail that rises quickly and falls slowly over one and a half octaves, with the harmonics of a horn."""
    wails = max(1, round(samples / rate / random.uniform(1.6, 2.4)))
    turn = np.arange(samples) * wails / samples % 1
    peak = 0.4
    height = np.where(turn < peak, turn / peak, (1 - turn) / (1 - peak))
    height = 0.5 - 0.5 * np.cos(np.pi * height)
    pitch = random.uniform(480, 560) * 2 ** (1.5 * height)
    phase = closed_phase(pitch, rate)
    loop = np.zeros(samples)
    for harmonic in range(1, 9):
        loop += fading(pitch * harmonic, rate) * np.sin(harmonic * phase) / harmonic**1.2
    return loop


def tones(rate: int, samples: int, random: np.random.Generator) -> Loop:
    """A pentatonic melody on a marimba: struck bars whose first overtone is two octaves up."""
    length = samples / rate
    notes = max(2, round(length / random.uniform(0.22, 0.3)))
    scale = random.uniform(330, 440) * 2 ** (np.array([0, 2, 4, 7, 9, 12, 14, 16]) / 12)
    degree, loop = int(random.integers(2, len(scale) - 2)), np.zeros(samples)
    time = np.arange(round(0.8 * rate)) / rate
    attack = np.minimum(time / 0.004, 1)
    for note in range(notes):
        move = int(random.choice([-2, -1, -1, 1, 1, 2]))
        # A melody that would leave the scale turns back.
        degree += move if 0 <= degree + move < len(scale) else -move
        pitch = scale[degree]
        bar = np.exp(-time * 5) * np.sin(2 * np.pi * pitch * time)
        for ratio, weight, decay in ((4.0, 0.35, 16.0), (9.2, 0.1, 40.0)):
            if pitch * ratio < HIGHEST * rate:
                bar += weight * np.exp(-time * decay) * np.sin(2 * np.pi * pitch * ratio * time)
        add(loop, note * length / notes * rate, attack * bar * random.uniform(0.6, 1.0))
    return loop


def bird(rate: int, samples: int, random: np.random.Generator) -> Loop:
    """Phrases of whistled syllables: each a sweep or a trill, repeated three to eight times."""
    length = samples / rate
    top = min(5000.0, HIGHEST * rate)
    loop, start = np.zeros(samples), 0.0
    while start < length - 0.1:
        low, high = np.sort(random.uniform(0.45, 0.98, 2)) * top
        low = min(low, 0.85 * high)
        span, warble = random.uniform(0.05, 0.16), random.choice([0.0, 0.0, random.uniform(25, 45)])
        rising, times = random.random() < 0.5, int(random.integers(3, 9))
        syllable = whistle(rate, span, low if rising else high, high if rising else low, warble)
        for _ in range(times):
            if start + span > length:
                break
            add(loop, start * rate, syllable * random.uniform(0.8, 1.0))
            start += span + random.uniform(0.015, 0.03)
        start += random.uniform(0.05, 0.15)
    if not loop.any():
        # Too short for a syllable of its own length.
        first, last = random.uniform(0.4, 0.98, 2) * top
        add(loop, 0, whistle(rate, length, first, last, 0.0))
    return loop


def whistle(rate: int, seconds: float, first: float, last: float, warble: float) -> Loop:
    """A sweep from one pitch to another; `warble` is the rate of its frequency modulation in Hz."""
    fraction = np.arange(round(seconds * rate)) / round(seconds * rate)
    pitch = first * (last / first) ** fraction
    if warble:
        pitch = pitch * (1 - 0.06 * (1 - np.cos(2 * np.pi * warble * seconds * fraction)))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    body = np.sin(phase) + 0.12 * fading(2 * pitch, rate) * np.sin(2 * phase)
    return np.sin(np.pi * fraction) ** 0.7 * body


def babble(rate: int, samples: int, random: np.random.Generator) -> Loop:
    """Consonant-vowel syllables, four to five per second, in phrases with falling pitch."""
    length = samples / rate
    syllables = max(2, round(length * random.uniform(4.0, 5.0)))
    spoken = [VOWELS[vowel] + UPPER for vowel in random.choice(list(VOWELS), syllables)]
    turn = np.arange(samples) * syllables / samples
    phrase = max(1, round(syllables / 6))
    fall = 1.15 - 0.35 * (np.arange(samples) * phrase / samples % 1)
    # Steps at the ends of phrases and vowels are smoothed, and so is the seam.
    pitch = random.uniform(110, 220) * smooth(
        fall * (1 + 0.06 * np.sin(2 * np.pi * turn)) * random.uniform(0.92, 1.08, syllables)[turn.astype(int)],
        0.05 * rate,
    )
    tract = random.uniform(1.0, 1.2)
    centres = tract * np.array(spoken, np.float64).T
    formants = np.array([smooth(centre[turn.astype(int)], 0.05 * rate) for centre in centres])
    opening = np.sin(np.pi * np.clip((turn % 1 - 0.12) / 0.88, 0, 1)) ** 0.6
    stress = smooth(random.uniform(0.5, 1.0, syllables)[turn.astype(int)], 0.03 * rate)
    voice = opening * stress * voiced(pitch, formants, rate)
    voice = voice / np.sqrt(np.mean(voice**2))
    for syllable in range(syllables):
        burst = random.standard_normal(round(random.uniform(0.015, 0.07) * rate))
        burst = np.diff(burst * np.hanning(len(burst)))
        add(voice, syllable * samples / syllables, burst * random.choice([0.0, 0.3, 0.6]))
    return voice


def voiced(pitch: Loop, formants: Float[np.ndarray, "formant time"], rate: int) -> Loop:
    """Harmonics of the pitch, weighted by the glottal slope (−12 dB per octave, +6 by lip radiation) and by the
    formant resonances. Weights are computed 200 times a second and interpolated linearly."""
    phase = closed_phase(pitch, rate)
    samples = len(pitch)
    coarse = np.linspace(0, samples, max(2, round(samples / rate * 200)), endpoint=False).astype(int)
    # Repeating the first weights at the end closes the loop.
    knots, columns = np.r_[coarse, samples], np.r_[coarse, 0]
    loop = np.zeros(samples)
    for harmonic in range(1, int(HIGHEST * rate / pitch.min()) + 1):
        frequency = harmonic * pitch[columns]
        weight = fading(frequency, rate) / harmonic
        for centre, width in zip(formants[:, columns], WIDTHS, strict=True):
            weight = weight * centre**2 / np.hypot(centre**2 - frequency**2, width * frequency)
        loop += np.interp(np.arange(samples), knots, weight) * np.sin(harmonic * phase)
    return loop


def closed_phase(pitch: Loop, rate: int) -> Loop:
    """The phase of a tone of this pitch in Hz, scaled so that the loop holds a whole number of periods."""
    turns = np.cumsum(pitch) / rate
    return 2 * np.pi * turns * (max(1, round(turns[-1])) / turns[-1])


def fading(frequency: Loop, rate: int) -> Loop:
    """Anti-aliasing gain: 1 below the highest partial, 0 above, with a slope between."""
    return np.clip((HIGHEST * rate - frequency) / (0.05 * rate), 0, 1)


def smooth(values: Loop, width: float) -> Loop:
    """Circular smoothing with a Hann window of `width` samples."""
    window = np.hanning(max(3, round(width)) + 2)
    kernel = np.zeros(len(values))
    for offset, weight in enumerate(window / window.sum()):
        kernel[(offset - len(window) // 2) % len(values)] += weight
    return np.fft.irfft(np.fft.rfft(values) * np.fft.rfft(kernel), len(values))


def add(loop: Loop, start: float, grain: Float[np.ndarray, " grain"]) -> None:
    """Mix in a short sound; what reaches past the end wraps around."""
    places = (round(start) + np.arange(len(grain))) % len(loop)
    np.add.at(loop, places, grain)


VOICES: dict[str, Callable[[int, int, np.random.Generator], Loop]] = {
    "phone": phone,
    "siren": siren,
    "tones": tones,
    "bird": bird,
    "babble": babble,
}
