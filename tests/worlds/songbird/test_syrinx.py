"""The syrinx against published frequencies, closed forms, and SciPy's integration of the same equations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from sonarium.worlds.songbird import kernels, syrinx

RATE = 16_000


def constant(*values: float, frames: int = 200) -> list[np.ndarray]:
    return [np.full((1, frames), value) for value in values]


def hold(alpha: float, beta: float, **settings) -> np.ndarray:
    """The sound of constant gestures for 0.2 s."""
    wave = syrinx.sing(*constant(alpha, beta, 1.0), frame_rate=1000, rate=RATE, **settings)
    return wave[0].double().numpy()


def partials(wave: np.ndarray, f0: float, highest: float = 7000.0) -> np.ndarray:
    """Levels in dB of the multiples of f0."""
    wave = wave[1600:] * np.hanning(len(wave) - 1600)
    spectrum, hertz = np.abs(np.fft.rfft(wave, 1 << 16)), np.fft.rfftfreq(1 << 16, 1 / RATE)
    orders = range(1, int(highest / f0) + 1)
    return np.array([20 * np.log10(spectrum[np.abs(hertz - order * f0) < 20].max()) for order in orders])


TABLE = {
    (-0.15, -0.15): 2097.4,
    (-0.15, -0.30): 2690.7,
    (-0.15, -0.10): 1796.3,
    (-0.15, 0.0): 304.8,
    (-0.05, -0.30): 2198.2,
    (-0.001, -0.15): 1430.5,
    (-0.41769, -0.34625): 3761.7,
    (0.15, 0.15): 0.0,
}


def test_frequencies_are_those_of_the_published_equations():
    alpha, beta = np.array(list(TABLE)).T
    found = syrinx.fundamental(alpha, beta, seconds=0.4, steps=2 * syrinx.STEPS)
    np.testing.assert_allclose(found, list(TABLE.values()), atol=0.15)


def test_the_sound_has_the_frequency_of_the_table():
    for (alpha, beta), f0 in TABLE.items():
        wave = hold(alpha, beta)[1600:]
        if f0 == 0:
            assert np.abs(wave).max() < 1e-4
            continue
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 16))
        hertz = np.fft.rfftfreq(1 << 16, 1 / RATE)
        first = np.abs(hertz - f0) < 0.3 * f0
        assert hertz[first][spectrum[first].argmax()] == pytest.approx(f0, rel=0.005), (alpha, beta)


def test_it_begins_at_the_hopf_limit():
    """At α = 0 and β < 0 small oscillations have ω = γ√−β."""
    limit = syrinx.GAMMA * math.sqrt(0.15) / (2 * math.pi)
    alpha = np.array([-1e-3, -2e-4])
    near, nearer = np.abs(syrinx.fundamental(alpha, np.full(2, -0.15), seconds=0.6) - limit)
    assert nearer < near < 20 and nearer < 6


def test_frequency_is_proportional_to_gamma():
    for ratio in (0.8, 1.25):
        wave = hold(-0.15, -0.15, gamma=ratio * syrinx.GAMMA)[1600:]
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 16))
        assert spectrum.argmax() * RATE / (1 << 16) == pytest.approx(2097.4 * ratio, rel=0.003)


def test_the_border_of_silence_is_the_saddle_node():
    x = np.linspace(0.55, 0.8, 6)
    alpha, beta = x**2 - 2 * x**3, 3 * x**2 - 2 * x
    np.testing.assert_allclose(syrinx.border(alpha), beta, atol=1e-6)
    low = alpha < -0.15
    below, above = (syrinx.fundamental(alpha[low], beta[low] + side, seconds=0.4) for side in (-0.01, 0.01))
    assert (below > 100).all() and not above.any()


def test_the_integration_is_scipys():
    """The labia at constant gestures, against an adaptive method of order 8."""
    alpha, beta, count = -0.15, -0.3, 2000

    def force(time, state):
        x, y = state
        return [y, alpha + beta * x + x**2 - x**3 - (x + x**2) * y]

    h = 0.05
    level = np.ones((2, kernels.LANES))
    out = np.empty((count, kernels.LANES))
    kernels.integrate(alpha * level, beta * level, level, np.full(kernels.LANES, h), 0.0, out)
    exact = solve_ivp(force, (0, h * count), [0, 0], "DOP853", h * np.arange(count), rtol=1e-10, atol=1e-12).y[1]
    assert np.abs(exact).max() > 0.1
    np.testing.assert_allclose(out, np.repeat(exact[:, None], kernels.LANES, 1), atol=2e-4)


def test_the_step_is_the_coarsest_that_converges():
    """Frequencies within 5e-4 and partials within .3 dB of a step eight times finer; a third fewer steps exceed
    that."""
    rng = np.random.default_rng(0)
    alpha = rng.uniform(-0.26, -0.14, 16)
    beta = syrinx.border(alpha) - syrinx.DEEPEST * rng.uniform(0.25, 0.8, 16) ** 4
    finest = syrinx.fundamental(alpha, beta, seconds=0.2, steps=8 * syrinx.STEPS)
    assert finest.min() > 400 and finest.max() > 4000
    apart = [
        np.abs(syrinx.fundamental(alpha, beta, seconds=0.2, steps=steps) / finest - 1).max()
        for steps in (syrinx.STEPS, 2 * syrinx.STEPS // 3)
    ]
    assert apart[0] < 5e-4 < apart[1]
    for at in range(4):
        fine, own = (partials(hold(alpha[at], beta[at], steps=k * syrinx.STEPS), finest[at]) for k in (8, 1))
        heard = fine > fine.max() - 40
        assert np.abs(fine - own)[heard].max() < 0.3


def test_tract_has_the_published_peak_and_no_gain_at_rest():
    hertz = np.linspace(0, 8000, 80_001)
    i1, i2, i3 = syrinx.currents(hertz)
    gain = np.abs(syrinx.TRACT.beak_resistance * i3)
    peak = np.flatnonzero((gain[1:-1] > gain[:-2]) & (gain[1:-1] > gain[2:]))[0] + 1
    assert hertz[peak] == pytest.approx(3553, abs=1) and gain[peak] == pytest.approx(0.0738, abs=1e-4)
    node = np.abs(1 - i2 / syrinx.TRACT.inverse_glottis)
    assert hertz[node.argmax()] == pytest.approx(3659, abs=1) and node.max() == pytest.approx(3.35, abs=0.01)
    assert i1[0] == pytest.approx(i3[0]) == pytest.approx(1 / syrinx.TRACT.beak_resistance)


@pytest.mark.parametrize("hertz", [700.0, 3553.0])
def test_the_transfer_function_solves_the_published_equations(hertz):
    """The three differential equations of the circuit, driven by a sine through the trachea's delays."""
    lg, lb, ch = 82.0, 1e4, 1 / 4.5e10
    rb, rh, r, tau, omega = 5e6, 6e5, 0.1, 3.5 / 35_000, 2 * np.pi * hertz
    inside = 1 / (1 + r * np.exp(-2j * omega * tau))
    drive = (1 - r) * inside * np.exp(-1j * omega * tau)

    def force(time, i):
        wave = drive * np.exp(1j * omega * time)
        v, dv = wave.real, (1j * omega * wave).real
        i1, i2, i3 = i
        return [
            i2,
            -i1 / (lg * ch)
            - rh * (1 / lb + 1 / lg) * i2
            + (1 / (lg * ch) - rh * rb / (lb * lg)) * i3
            + dv / lg
            + rh * v / (lb * lg),
            -lg / lb * i2 - rb / lb * i3 + v / lb,
        ]

    times = 0.04 + np.arange(400) / (100 * hertz)
    sound = rb * solve_ivp(force, (0, times[-1]), [0, 0, 0], "LSODA", times, rtol=1e-8, atol=1e-16).y[2]
    expected = syrinx.transfer(np.array([hertz]))[0] * np.exp(1j * omega * times)
    np.testing.assert_allclose(sound, expected.real, atol=0.01 * np.abs(expected).max())


def test_a_bird_has_the_same_bits_in_any_batch_and_lane():
    rng = np.random.default_rng(1)
    alpha = np.full((11, 150), -0.15)
    beta = rng.uniform(-0.5, -0.01, (11, 1)) * np.linspace(0.5, 1, 150)
    envelope = np.where(rng.random((11, 150)) < 0.1, 0, np.abs(np.sin(np.linspace(0, 9, 150))))
    turbulence, seeds = np.full((11, 150), 0.1), np.arange(11)
    lengths = [2300 - 60 * clip for clip in range(11)]

    def sung(rows: list[int]) -> torch.Tensor:
        return syrinx.sing(
            alpha[rows],
            beta[rows],
            envelope[rows],
            frame_rate=1000,
            rate=RATE,
            lengths=[lengths[row] for row in rows],
            turbulence=turbulence[rows],
            seeds=seeds[rows],
        )

    together = sung(list(range(11)))
    for rows in ([4], [10, 3], [7, 7, 0]):
        for place, wave in zip(rows, sung(rows), strict=True):
            assert torch.equal(wave[: lengths[place]], together[place, : lengths[place]])
            assert not together[place, lengths[place] :].any()


def test_torch_operations_sing_as_the_loops_do():
    rng = np.random.default_rng(2)
    paths = [rng.uniform(-0.2, -0.1, (12, 8)), rng.uniform(-0.5, 0, (12, 8)), rng.uniform(0, 1, (12, 8))]
    samples, factor = 100, 6
    h, per_step, taps = np.full(8, 0.245), 1000 / RATE / factor, syrinx.low_pass(factor)
    fine, made = np.empty((samples * factor, 8)), np.empty((samples, 8))
    kernels.integrate(paths[0], paths[1], paths[2], h, per_step, fine)
    kernels.decimate(fine, taps, factor, made)
    other = syrinx.step_by_step(paths, h, per_step, samples, taps, factor, torch.device("cpu"))
    np.testing.assert_allclose(other, made, atol=1e-9)
    assert made.std() > 0.01


def test_without_breath_there_is_no_sound():
    assert not syrinx.sing(*constant(-0.15, -0.15, 0.0), frame_rate=1000, rate=RATE).any()
    half = np.zeros((1, 200))
    half[:, 100:150] = 1
    level = np.ones_like(half)
    wave = syrinx.sing(-0.15 * level, -0.15 * level, half, frame_rate=1000, rate=RATE)[0]
    assert wave[: 99 * 16].abs().max() < 1e-3 * wave.abs().max() and wave[151 * 16 + 400 :].abs().max() < 1e-3


@settings(max_examples=20)
@given(st.floats(500, 5000), st.floats(-0.26, -0.14), st.floats(0.9, 1.1))
def test_the_table_gives_the_tension_of_a_frequency(hertz, alpha, scale):
    gamma = scale * syrinx.GAMMA
    beta = syrinx.tension_of(np.array([[hertz]]), np.array([alpha]), gamma)[0]
    assert syrinx.pitch_of(np.array([alpha]), beta, gamma)[0] == pytest.approx(hertz, rel=0.01)
    assert syrinx.fundamental(np.array([alpha]), beta, gamma)[0] == pytest.approx(hertz, rel=0.015)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": np.full((1, 200), np.nan)}, "alpha holds NaN"),
        ({"envelope": np.full((1, 200), -1.0)}, "envelope goes down to -1"),
        ({"gamma": 0.0}, "gamma is 0"),
    ],
)
def test_gestures_that_nobody_can_make_are_refused(change, message):
    given_ = dict(zip(("alpha", "beta", "envelope"), constant(-0.15, -0.15, 1.0), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        syrinx.sing(**given_, frame_rate=1000, rate=RATE)
