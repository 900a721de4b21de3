"""Agents that hear through the separator of another run."""

import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import soundfile
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from torch import nn

from sonarium.__main__ import dispatch
from sonarium.agents.contract import Separation
from sonarium.agents.observing.hearing import SeparatedEars
from sonarium.agents.observing.listening import source_listener
from sonarium.agents.observing.observer import Observer
from sonarium.features.ears import Ears, EarsConfig
from sonarium.models.contract import Separator
from sonarium.report.album import read_index
from sonarium.runs.build import open_learner, open_run

RATE, SAMPLES = 8000, 2000
HEARD = spaces.Box(-1, 1, (2, SAMPLES), np.float32)
SMALL = "--env sonarium/Seek-v0 --envs 2 --rollout-steps 4 --units 8 --no-pictures --device cpu"
TINY = (
    "--clips 24 --sets 4 --seconds 1 --batch-size 4 --units 8 --layers 1 --no-pictures --device cpu --test 0.25 "
    "--validation 0"
)
READINGS = ("cues", "sums", "means", "loudness")


class Halves(nn.Module, Separator):
    """The band below 1 kHz, and the rest: an ideal separator of sources that do not overlap in frequency."""

    sources = 2

    def masks(self, signal: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def separate(self, signal: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(signal, dim=1)
        low = torch.fft.rfftfreq(signal.shape[1], 1 / RATE)[:, None] < 1000
        parts = [torch.fft.irfft(spectrum * kept, signal.shape[1], dim=1) for kept in (low, ~low)]
        return torch.stack(parts, 2)


def sine(hertz: float, delay: int, gain: float) -> torch.Tensor:
    """A sine at the left ear, delayed and scaled at the right one; a whole number of periods per window."""
    time = torch.arange(SAMPLES, dtype=torch.float64) / RATE
    left, right = (0.1 * torch.sin(2 * torch.pi * hertz * (time - late / RATE)) for late in (0, delay))
    return torch.stack([left, gain * right]).float()


def observer(separated: str | None) -> Observer:
    separation = Separation(Halves(), Halves(), RATE)  # pyright: ignore[reportArgumentType]
    return Observer(HEARD, 16, False, 0, separation, False, separated)


def made(separated: str, heard: torch.Tensor) -> torch.Tensor:
    """The reading of one window."""
    own = observer(separated)
    [rows] = own.prepared([heard[None]])
    return rows[0]


LOW, HIGH = sine(500, 2, 0.5), sine(2000, -1, 2.0)


def test_loudness_is_that_of_each_source_at_each_ear():
    found = made("loudness", LOW + HIGH)
    # A sine of amplitude .1 has −23.01 dB re full scale.
    left, louder = (-10 * np.log10(200) + 50) / 20, 20 * np.log10(2) / 20
    expected = torch.tensor([[left, left - louder], [left, left + louder]], dtype=torch.float32)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_sums_are_phase_and_level_of_each_source_where_it_is():
    found, width = made("sums", LOW + HIGH), RATE / 256
    for source, hertz, delay, gain in ((0, 500, 2, 0.5), (1, 2000, -1, 2.0)):
        phase, level = found[source, :, round(hertz / width)].tolist()
        lead = 2 * np.pi * hertz * delay / RATE
        # Frames at the ends of a window lie half outside it: there the other source, cut off, leaks in.
        assert phase == pytest.approx(lead / np.pi, abs=0.03)
        assert level == pytest.approx(-20 * np.log10(gain) / 6, abs=0.1)
        assert abs(found[1 - source, :, round(hertz / width)]).max() < 0.05


def click(place: int, delay: int, gain: float) -> torch.Tensor:
    """A click at the left ear at this sample, delayed and scaled at the right one."""
    ears = torch.zeros(2, SAMPLES)
    ears[0, place], ears[1, place + delay] = 0.9, 0.9 * gain
    return ears


def hann(apart: int) -> float:
    """The Hann window at this distance in samples from its centre."""
    return np.cos(np.pi * apart / 256) ** 2


def test_means_are_over_frames_and_bins():
    """Clicks have equal magnitude in all bins. Each lies in 2 of the 17 frames, with centres 125 samples apart;
    a sine of amplitude 1 has the magnitude 64."""
    part = observer("means").parts[0]
    assert isinstance(part, SeparatedEars)
    found = part.reading.made(torch.stack([click(562, 1, 0.5), click(1312, -1, 0.8)])[None])[0]
    for row, delay, gain in ((found[0], 1, 0.5), (found[1], -1, 0.8)):
        left = np.array([hann(62), hann(63)])
        right = gain * np.array([hann(62 + delay), hann(63 - delay)])
        phase, level, loud = row.tolist()
        # The phase of bin k is k / 128 π per sample of delay; that of the last bin is π with either sign.
        assert phase == pytest.approx(delay * 63.5 / 129 * 2 / 17, abs=1.1 / 129 * 2 / 17)
        assert level == pytest.approx(20 * np.log10(left / right).sum() / 6 / 17, rel=0.01)
        assert loud == pytest.approx(1000 * 0.9 * (left + right).sum() / 64 / 17, rel=0.01)


def test_cues_are_those_of_each_source_alone():
    found = made("cues", LOW + HIGH)
    alone = Ears(EarsConfig(), RATE)(torch.stack([LOW, HIGH]))
    # Elsewhere there is silence, and rounding decides.
    heard = alone[:, :32] > -0.5
    assert found.shape == alone.shape
    for rows in range(5):
        own, wanted = (each[:, 32 * rows : 32 * (rows + 1)][heard] for each in (found, alone))
        torch.testing.assert_close(own, wanted, atol=0.02, rtol=0.02)


def test_where_nothing_is_said_cues_are_read():
    assert isinstance(part := observer(None).parts[0], SeparatedEars)
    assert part.target_width == 2 * 160 * 17 and part.width == 16
    assert observer("loudness").width == 4 and observer("sums").width == 2 * 2 * 129
    assert observer("means").width == 6


def test_silence_is_finite_and_so_is_its_gradient():
    for name in READINGS:
        part = observer(name).parts[0]
        assert isinstance(part, SeparatedEars)
        sources = torch.zeros(1, 2, 2, SAMPLES, requires_grad=True)
        found = part.reading.made(sources)
        found.sum().backward()
        assert found.isfinite().all() and sources.grad is not None and sources.grad.isfinite().all()


def train(words: str, run: Path) -> Path:
    dispatch(["train", *words.split(), "--run", str(run)])
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("separators")
    return {
        "joint": train(f"separator {TINY} --steps 2", folder / "joint"),
        "three": train(f"separator {TINY} --sources 3 --steps 0", folder / "three"),
        "fast": train(f"separator {TINY} --rate 16000 --steps 0", folder / "fast"),
    }


def ears_in(run: Path) -> SeparatedEars:
    found: Any = [part for part in open_run(run).learner.modules() if isinstance(part, SeparatedEars)]
    return found[0]


def same(one: nn.Module, other: nn.Module) -> bool:
    mine, its = one.state_dict(), other.state_dict()
    return all(torch.equal(mine[name], its[name]) for name in its)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(
    ("agent", "reading"),
    [("ppo", "cues"), ("pqn", "sums"), ("dqn --learning-starts 4 --batch-size 4 --gradient-steps 1", "loudness")],
)
def test_the_separator_stays_as_it_is_unless_it_is_trained(trained, agent, reading, runs, tmp_path):
    words = f"{agent} --ears {runs['joint']} --separated {reading} {SMALL} --steps 2"
    run = train(f"{words} {'--train-ears' if trained else ''}", tmp_path / "run")
    assert same(ears_in(run).learner, open_learner(runs["joint"])[1]) != trained


def test_dreamer_imagines_the_sound_of_what_it_separates(runs, tmp_path):
    words = f"dreamer --ears {runs['joint']} {SMALL} --learning-starts 4 --batch-size 2 --gradient-steps 1"
    run = train(f"{words} --imagination-horizon 2 --deter 8 --hidden 8 --steps 2", tmp_path / "run")
    agent: Any = open_run(run).learner
    states = agent.imagined(agent.initial(1), np.array([[0], [1]]), torch.Generator().manual_seed(0))[:, 0]
    assert agent.observed_in(states).shape == (2, 2, 2000)


def test_what_the_separator_makes_is_told_as_the_agent_hears_it(runs, tmp_path):
    small = f"{SMALL} --steps 0"
    for words in ("ppo", "pqn", "dqn", "dreamer --deter 8 --hidden 8"):
        run = train(f"{words} --ears {runs['joint']} {small}", tmp_path / words.split()[0])
        agent: Any = open_run(run).learner
        heard = torch.randn(3, 2, SAMPLES, generator=torch.Generator().manual_seed(1)) / 10
        listener = source_listener(agent)
        assert listener is not None
        found = listener.separated(heard.numpy())
        separator: Any = open_learner(runs["joint"])[1]
        # Windows are separated independently: one alone gives the same.
        alone = separator.separate(heard[1:2].transpose(1, 2))[0].permute(1, 2, 0)
        np.testing.assert_allclose(found.sources[1], alone.numpy(), atol=1e-5)
        np.testing.assert_array_equal(found.mixture, heard.numpy())
        np.testing.assert_allclose(found.masks.sum(2), 1, atol=1e-5)
        assert found.rate == RATE and not found.carried
        bare: Any = open_run(train(f"{words} {small}", tmp_path / f"bare-{words.split()[0]}")).learner
        assert source_listener(bare) is None


def test_masks_and_estimates_of_the_first_episode_are_on_the_page(runs, tmp_path, monkeypatch):
    kwargs = {"threads": 1, "order": 0, "max_steps": 3}
    spec = EnvSpec("Small-v0", "sonarium.rooms.seek.env:Seek", kwargs=kwargs, disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, "Small-v0", spec)
    words = f"dqn --ears {runs['joint']} {SMALL} --steps 1"
    run = train(words.replace("sonarium/Seek-v0", "Small-v0"), tmp_path / "run")
    dispatch(["watch", str(run), "--episodes", "1", "--plotted", "0"])
    media = {one.file: one for one in read_index(run / "media")}
    assert {"apart-masks.png", "apart-directions.png", "apart-plan.png"} <= media.keys()
    waves = [soundfile.read(run / "media" / f"apart-{name}.wav") for name in ("mixture", "source-1", "source-2")]
    assert [(wave.shape, rate) for wave, rate in waves] == [((3 * SAMPLES, 2), RATE)] * 3
    # All files share one gain, and the masks sum to 1.
    np.testing.assert_allclose(waves[0][0], waves[1][0] + waves[2][0], atol=1e-3)
    dispatch(["report", str(run), "--out", str(tmp_path / "page.html")])
    text = (tmp_path / "page.html").read_text()
    assert text.count("<audio") == 3 and "Separated sources of an episode" in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ""),
        ({"ear_distance": 0.15}, r"ears 0.2 m apart \(head none\), and those in Other-v0 are 0.15 m apart"),
        ({"head": "sphere"}, "are 0.2 m apart .head sphere.: train the other run with .* --head sphere"),
    ],
)
def test_other_ears_than_those_that_it_learnt_with_are_remarked(
    settings, said, runs, tmp_path, monkeypatch, capsys
):
    spec = EnvSpec(
        "Other-v0", "sonarium.rooms.seek.env:Seek", kwargs={"threads": 1, **settings}, disable_env_checker=True
    )
    monkeypatch.setitem(gymnasium.registry, "Other-v0", spec)
    words = f"ppo --ears {runs['joint']} {SMALL} --steps 0".replace("sonarium/Seek-v0", "Other-v0")
    capsys.readouterr()
    train(words, tmp_path / "run")
    lines = [line for line in capsys.readouterr().err.splitlines() if "m apart" in line]
    assert len(lines) == bool(said) and re.search(said, "".join(lines))


def test_a_run_resumes_bit_for_bit(runs, tmp_path):
    words = f"ppo --ears {runs['joint']} --separated loudness --train-ears {SMALL} --save-every 1"
    whole = train(f"{words} --steps 3", tmp_path / "whole")
    train(f"{words} --steps 1", tmp_path / "cut")
    cut = train(f"{words} --steps 3", tmp_path / "cut")
    assert same(open_run(cut).learner, open_run(whole).learner)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--ears {three}", "--ears separates 3 sources, and sonarium/Seek-v0 has 2: .* --sources 2"),
        ("--ears {fast}", "--ears takes sound at 16000 Hz, and sonarium/Seek-v0 gives 8000 Hz"),
        ("--separated cues", "separated='cues': .* give its run as --ears"),
        ("--ears {joint} --sound-rate 8000", "give --sound-rate 0"),
    ],
)
def test_what_does_not_go_together_is_one_line(flags, said, runs, tmp_path):
    with pytest.raises(ValueError, match=said) as caught:
        train(f"ppo {flags.format(**runs)} {SMALL} --steps 1", tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
