"""Long sound encoded in windows has the codes of the whole sound, for any size of input blocks."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonarium.models import framing
from sonarium.models.cpc.cpc import CPC
from sonarium.models.cpc.presets import CONFIGS
from sonarium.models.framing import coded
from sonarium.worlds.contract import Signal

RATE = 4000
SIGNAL = Signal("wave", (4000,), RATE)
CASES = {
    "default": replace(CONFIGS["default"], encoder=replace(CONFIGS["default"].encoder, mels=16)),
    "samples": CONFIGS["cpc-audio-linear"],
    "other paddings": CONFIGS["spijkervet"],
    "both ways": CONFIGS["jefflai108-cdck6"],
}


def made(name: str) -> CPC:
    torch.manual_seed(0)
    config = CASES[name]
    return CPC(
        replace(
            config,
            encoder=replace(config.encoder, filters=(8,)),
            context=replace(config.context, width=8),
            predictors=replace(config.predictors, steps_ahead=2),
        ),
        SIGNAL,
    )


def sound(samples: int) -> torch.Tensor:
    # The level varies, so that normalising a window by its own level would change its codes.
    return torch.randn(samples, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.05, 0.5, samples)


@pytest.mark.parametrize("name", CASES)
def test_windows_give_the_codes_of_the_whole(name, monkeypatch):
    monkeypatch.setattr(framing, "WINDOW", 6.0)
    monkeypatch.setattr(framing, "AROUND", 10.0)
    learner, wave = made(name), sound(40 * RATE + 77)
    power = float(wave.square().mean())
    parts = list(coded(learner, wave.split(3001), len(wave), power, RATE))
    whole = learner.encode(wave[None])[0]
    assert len(parts) > 4 and sum(map(len, parts)) == len(whole)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-3, atol=1e-4)
    other = learner.encode(wave[None], power=torch.tensor([4 * power]))[0]
    assert (other - whole).abs().max() > 1e-3 or name != "default", "the level of the whole matters"


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 50_000), st.integers(500, 20_000))
def test_any_length_in_any_blocks(samples, block):
    learner, wave = CODER, sound(samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "WINDOW", 1.0)
        patch.setattr(framing, "AROUND", 1.0)
        parts = list(coded(learner, wave.split(block), samples, 0.1, RATE))
    frames = int(learner.code_lengths(torch.tensor([samples])))
    assert sum(map(len, parts)) == frames
    if frames:
        expected = learner.encode(wave[None], power=torch.tensor([0.1]))[0]
        torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-2, atol=1e-3)


CODER = made("default")


def test_the_middle_of_the_first_frame():
    """The receptive field of a frame, from the gradient, is centred on the time of the frame."""
    for name in ("default", "samples", "other paddings"):
        learner = made(name)
        frame, centre, hop = 20, learner.code_first * RATE, RATE / learner.code_rate
        wave = torch.zeros(1, 40 * round(hop), requires_grad=True)
        learner.encoder(wave + 0.01)[0, frame].sum().backward()
        assert wave.grad is not None
        touched = wave.grad[0].nonzero().flatten()
        middle = float(touched[0] + touched[-1]) / 2
        assert middle == pytest.approx(centre + frame * hop, abs=0.1 * hop)
