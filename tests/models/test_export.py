"""Exported models give the output of the learner, for any number of clips, and of any length if it takes them."""

import json
import logging
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typechecking import unchecked

from sonarium.catalogue import MODELS
from sonarium.models.cpc.cpc import CPC
from sonarium.models.cpc.presets import CONFIGS
from sonarium.models.export import program, save_onnx, save_program, save_weights
from sonarium.worlds.contract import Signal

SIGNAL = Signal("wave", (2400,), 16000)
LSTM = replace(CONFIGS["default"], context=replace(CONFIGS["default"].context, network="lstm", depth=2))
ATTENTION = replace(CONFIGS["default"], context=replace(CONFIGS["default"].context, network="transformer"))
CASES = {"gru both ways": CONFIGS["jefflai108-cdck6"], "lstm": LSTM, "transformer": ATTENTION}


def made(name: str) -> CPC:
    config = CASES[name]
    torch.manual_seed(0)
    learner = CPC(
        replace(
            config,
            encoder=replace(config.encoder, filters=(8,)),
            context=replace(config.context, width=8),
            predictors=replace(config.predictors, steps_ahead=2),
        ),
        SIGNAL,
    )
    return learner.eval()


# ONNX, which is exported from such programs, is tested for all networks.
@pytest.mark.parametrize("name", ["transformer"])
def test_a_program_gives_the_codes_of_its_learner(name, tmp_path):
    learner = made(name)
    # Shape checks would fix the sizes that must stay dynamic.
    with unchecked():
        save_program(program(learner, SIGNAL), tmp_path)
        run = torch.export.load(tmp_path / "model.pt2").module()
        for shape in ((1, 2400), (3, 7001), (2, 900)):
            wave = 0.1 * torch.randn(shape)
            with torch.no_grad():
                torch.testing.assert_close(run(wave), learner.encode(wave), rtol=0, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert logging.getLogger("torch.onnx").level != logging.ERROR


@pytest.mark.parametrize(
    ("model", "signal"),
    [
        ("vae", Signal("picture", (8, 8))),
        ("vae", Signal("wave", (4000,), 8000)),
        ("vq-vae", Signal("wave", (4000,), 8000)),
    ],
)
def test_other_learners_are_exported_for_clips_as_long_as_theirs(model, signal, tmp_path):
    torch.manual_seed(0)
    learner = MODELS[model].build(MODELS[model].presets["default"](signal.kind), signal)
    able: Any = learner
    if signal.kind == "wave":
        able.front.fit([torch.rand(8, *signal.shape) - 0.5])
    clips = torch.rand(5, *signal.shape)
    with unchecked():
        codes = able.eval().encode(clips).detach()
        traced = program(learner, signal)
        run: Any = traced.module()
        torch.testing.assert_close(run(clips), codes, rtol=0, atol=1e-4)
        if find_spec("onnxruntime") is not None:
            save_onnx(traced, "codes", tmp_path)
            import onnxruntime

            session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
            [found] = session.run(["codes"], {"signal": clips.numpy()})
            np.testing.assert_allclose(np.asarray(found), codes.numpy(), rtol=0, atol=1e-4)


HEARD = Signal("binaural", (4000, 2), 8000, sources=2)


def moving(clips: int, samples: int) -> torch.Tensor:
    """Two intermittent noises from different directions, (clip, ear, time); in long ones, directions are found and
    forgotten."""
    random = torch.Generator().manual_seed(clips * samples)
    noises = torch.randn(2, clips, samples + 8, generator=random)
    noises *= (torch.arange(samples + 8) / 8000 * torch.tensor([2.0, 3.1])[:, None] % 2 < 1)[:, None]
    left = sum(one[:, delay : delay + samples] for one, delay in zip(noises, (0, 5), strict=True))
    right = sum(one[:, delay : delay + samples] for one, delay in zip(noises, (4, 1), strict=True))
    return 0.05 * torch.stack([left, right], 1)  # pyright: ignore


# Their programs in files are tested through the command line.
@pytest.mark.parametrize("preset", MODELS["separator"].presets)
def test_separators_are_exported_for_sounds_of_any_length(preset, tmp_path):
    torch.manual_seed(0)
    config: Any = MODELS["separator"].presets[preset]("binaural")
    more = {"layers": 1} if preset in ("deep-clustering", "anchors") else {}
    if preset == "default":
        # Short enough to forget directions within the sound.
        more = {"remembered": 0.3}
    learner: Any = MODELS["separator"].build(replace(config, units=8, **more), HEARD).eval()
    if preset == "default":
        # So that directions have an effect, as in a trained model.
        torch.nn.init.constant_(learner.network.trust, 0.5)
    with unchecked():
        traced = program(learner, HEARD)
        run: Any = traced.module()
        # One block of frames over which directions are summed, several, and a number that is no multiple.
        for clips, samples in ((1, 4000), (3, 30_001), (2, 500)):
            wave = moving(clips, samples)
            with torch.no_grad():
                expected = learner.separate(wave.mT).permute(0, 2, 3, 1)
                torch.testing.assert_close(run(wave), expected, rtol=0, atol=1e-5)
            assert expected.std() > 1e-3 and not torch.allclose(expected[:, 0], expected[:, 1], atol=1e-3)
        if find_spec("onnxruntime") is not None:
            save_onnx(traced, "sources", tmp_path)
            import onnxruntime

            session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
            # Including a silent clip.
            wave = torch.cat([moving(2, 30_001), torch.zeros(1, 2, 30_001)])
            [found] = session.run(["sources"], {"signal": wave.numpy()})
            expected = learner.separate(wave.mT).permute(0, 2, 3, 1)
            np.testing.assert_allclose(np.asarray(found), expected.numpy(), rtol=0, atol=1e-5)


def test_what_neither_encodes_nor_separates_is_refused():
    with unchecked(), pytest.raises(ValueError, match="Linear is neither an encoder nor a separator"):
        program(torch.nn.Linear(2, 2), SIGNAL)  # pyright: ignore


def test_weights_and_what_they_are_the_weights_of(tmp_path):
    learner = made("lstm")
    save_weights(learner, learner.config, SIGNAL, tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    assert (described["learner"], described["code_rate"]) == ("CPC", 50)
    assert described["config"]["context"]["network"] == "lstm" and described["signal"]["rate"] == 16000
    weights = load_file(tmp_path / "weights.safetensors")
    assert {name: [str(w.dtype)[6:], *w.shape] for name, w in weights.items()} == described["weights"]
    other = CPC(learner.config, SIGNAL)
    other.load_state_dict(weights)
    wave = torch.randn(1, 2400)
    assert torch.equal(other.encode(wave), learner.encode(wave))


@pytest.mark.skipif(find_spec("onnxscript") is not None, reason="onnxscript is there")
def test_onnx_says_what_it_needs(tmp_path):
    with pytest.raises(ValueError, match="pip install onnx onnxscript"):
        save_onnx(program(made("lstm"), SIGNAL), "codes", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(find_spec("onnxscript") is None, reason="needs onnxscript")
@pytest.mark.parametrize("name", CASES)
def test_onnx_gives_the_codes_of_its_learner(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    learner = made(name)
    with unchecked():
        save_onnx(program(learner, SIGNAL), "codes", tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for shape in ((1, 2400), (3, 7001)):
        wave = 0.1 * torch.randn(shape)
        (codes,) = session.run(["codes"], {"signal": wave.numpy()})
        np.testing.assert_allclose(codes, learner.encode(wave).numpy(), rtol=0, atol=1e-4)
