"""Encoders from files: their frames are inferred, and unusable files are refused in one line."""

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from typechecking import unchecked

import sonarium
from sonarium.models.external import (
    Backend,
    ClipsFromFile,
    ExternalConfig,
    FramesFromFile,
    Input,
    build,
    form_of,
    is_external,
    measured,
    sound_among,
)
from sonarium.worlds.contract import Signal

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SIGNAL = Signal("wave", (800,), 8000)
KERNEL, STRIDE, PADDING = 40, 20, 10
WEIGHT = np.random.default_rng(0).normal(size=(3, 1, KERNEL)).astype(np.float32)


def write(
    path: Path, nodes: list[Any], inputs: list[Any], weights: dict[str, np.ndarray], outputs: list[Any]
) -> Path:
    held = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "encoder", inputs, outputs, held)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def floats(name: str, *sizes: Any) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)


def integers(name: str, *sizes: Any) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, sizes)


def frames_model(path: Path, *others: Any) -> Path:
    """One convolution of waveforms with a channel axis; the output is (clip, frame, code)."""
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["wave", "weight"], ["made"], strides=[STRIDE], pads=[PADDING, PADDING]),
        node("Transpose", ["made"], ["codes"], perm=[0, 2, 1]),
    ]
    inputs = [*others, floats("wave", "clip", 1, "time")]
    return write(path, nodes, inputs, {"weight": WEIGHT}, [floats("codes", "clip", "frame", 3)])


def clips_model(path: Path, samples: int | str = "time") -> Path:
    """Mean and maximum of the samples of a clip."""
    node = onnx.helper.make_node
    nodes = [
        node("ReduceMean", ["signal"], ["mean"], axes=[1], keepdims=1),
        node("ReduceMax", ["signal"], ["most"], axes=[1], keepdims=1),
        node("Concat", ["mean", "most"], ["codes"], axis=1),
    ]
    return write(path, nodes, [floats("signal", "clip", samples)], {}, [floats("codes", "clip", 2)])


def by_hand(wave: np.ndarray) -> np.ndarray:
    padded = np.pad(wave, PADDING)
    starts = range(0, len(padded) - KERNEL + 1, STRIDE)
    return np.array([WEIGHT[:, 0] @ padded[start : start + KERNEL] for start in starts])


def test_frames_of_an_onnx_model_are_those_by_hand(tmp_path):
    learner = build(ExternalConfig(str(frames_model(tmp_path / "m.onnx"))), SIGNAL)
    assert isinstance(learner, FramesFromFile) and learner.made.hop == STRIDE
    assert learner.code_rate == 400 and learner.code_first == pytest.approx((KERNEL / 2 - PADDING) / 8000)
    wave, lengths = torch.randn(3, 500), torch.tensor([500, 123, 10])
    codes, counts = learner.encode(wave, lengths), learner.code_lengths(lengths)
    for clip, (own, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
        expected = by_hand(wave[clip, :own].numpy())
        assert len(expected) == count
        if count:
            np.testing.assert_allclose(codes[clip, :count], expected, rtol=1e-4, atol=1e-4)
        assert not codes[clip, count:].any()


@settings(max_examples=15)
@given(
    layers=st.lists(
        st.tuples(st.integers(1, 12), st.integers(1, 8)).filter(lambda one: one[0] >= one[1]),
        min_size=1,
        max_size=3,
    ),
    padded=st.booleans(),
    given=st.sampled_from([8000, 16000]),
)
def test_hop_and_frames_of_any_stack_of_convolutions_are_found(layers, padded, given):
    def count(samples: int) -> int:
        for kernel, stride in layers:
            samples = (samples + 2 * (kernel // 2 if padded else 0) - kernel) // stride + 1
        return max(0, samples)

    class Stack(Backend):
        rate = 8000

        def run(self, wave: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(wave), count(wave.shape[1]), 2)

    made = measured(ExternalConfig("stack.onnx"), Stack(), given)
    assert made.hop == np.prod([stride for _, stride in layers])
    for samples in (1, 37, 200, 801, 4003):
        assert made.frames(samples * given // 8000) == count(samples)


def test_codes_of_clips_and_fixed_lengths(tmp_path):
    free = build(ExternalConfig(str(clips_model(tmp_path / "free.onnx"))), SIGNAL)
    fixed = build(ExternalConfig(str(clips_model(tmp_path / "fixed.onnx", 800))), SIGNAL)
    assert isinstance(free, ClipsFromFile) and isinstance(fixed, ClipsFromFile)
    wave = torch.randn(5, 800)
    expected = torch.stack([wave.mean(1), wave.amax(1)], -1)[:, None]
    torch.testing.assert_close(free.encode(wave), expected)
    torch.testing.assert_close(fixed.encode(wave), expected)
    with pytest.raises(
        ValueError, match=r"takes clips of 800 samples at 8000 Hz, and these have 801: give --seconds 0.1"
    ):
        build(ExternalConfig(str(tmp_path / "fixed.onnx")), Signal("wave", (801,), 8000))


def test_sound_is_resampled_to_the_rate_of_the_encoder(tmp_path):
    path = str(frames_model(tmp_path / "m.onnx"))
    own = build(ExternalConfig(path, input_rate=16000), Signal("wave", (1600,), 16000))
    other = build(ExternalConfig(path, input_rate=16000), SIGNAL)
    assert isinstance(own, FramesFromFile) and isinstance(other, FramesFromFile)
    assert own.code_rate == other.code_rate == 800 and int(other.code_lengths(torch.tensor([400]))) == 40
    tone = torch.sin(torch.arange(8000) * 2 * torch.pi * 300 / 16000)[None]
    fine, coarse = own.encode(tone)[0, 20:300], other.encode(tone[:, ::2])[0, 20:300]
    torch.testing.assert_close(coarse, fine, rtol=0, atol=0.02 * float(fine.abs().max()))
    with pytest.raises(
        ValueError, match="no whole number at the 11025 Hz of the clips: read them at --rate 16000"
    ):
        build(ExternalConfig(path, input_rate=16000), Signal("wave", (1600,), 11025))


def test_other_inputs_are_filled_or_asked_for(tmp_path):
    path = frames_model(tmp_path / "m.onnx", integers("sample_rate"), integers("lengths", "clip"))
    learner = build(ExternalConfig(str(path), input_rate=8000), SIGNAL)
    assert isinstance(learner, FramesFromFile)
    np.testing.assert_allclose(learner.encode(torch.ones(1, 100))[0], by_hand(np.ones(100)), rtol=1e-4, atol=1e-4)
    a, b = (Input(name, True, (None, None)) for name in ("left", "right"))
    with pytest.raises(ValueError, match="its inputs are left, right: name one with --input"):
        sound_among([a, b], "", "m")
    assert (
        sound_among([a, b], "right", "m") is b
        and sound_among([a, Input("wave", True, (None, None))], "", "m").name == "wave"
    )
    with pytest.raises(ValueError, match="no input is called 'x': its inputs are left, right"):
        sound_among([a, b], "x", "m")


class Halves(nn.Module):
    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return wave.unfold(1, 100, 50)[..., :4]


def test_a_program_of_torch_export(tmp_path):
    with unchecked():
        dynamic = {"wave": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}}
        torch.export.save(
            torch.export.export(Halves(), (torch.randn(2, 1000),), dynamic_shapes=dynamic), tmp_path / "m.pt2"
        )
        learner = build(ExternalConfig(str(tmp_path / "m.pt2")), SIGNAL)
        assert isinstance(learner, FramesFromFile) and learner.made.hop == 50 and learner.code_first == 50 / 8000
        wave = torch.randn(2, 420)
        assert torch.equal(learner.encode(wave), wave.unfold(1, 100, 50)[..., :4])


def test_a_file_is_ears(tmp_path):
    path = frames_model(tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="does not say its sampling rate: give it, such as rate=16000"):
        sonarium.load(path)
    wave = np.random.default_rng(1).normal(size=900).astype(np.float32)
    coder = sonarium.load(path, rate=8000)
    np.testing.assert_allclose(coder.encode(wave, 8000), by_hand(wave), rtol=1e-4, atol=1e-4)
    assert coder.code_rate == 400 and form_of(ExternalConfig(str(path), input_rate=4000), None).shape == (4000,)


def test_another_file_under_the_same_name_is_not_taken(tmp_path):
    path = frames_model(tmp_path / "m.onnx")
    kept = build(ExternalConfig(str(path)), SIGNAL).state_dict()
    clips_model(path)
    with pytest.raises(ValueError, match="is not the encoder that this run began with"):
        build(ExternalConfig(str(path)), SIGNAL).load_state_dict(kept)


def test_wrong_files_are_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    (tmp_path / "bad.pt2").write_bytes(b"no model")
    (tmp_path / "model.wav").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    node = onnx.helper.make_node
    write(tmp_path / "sum.onnx", [node("ReduceSum", ["signal"], ["codes"], keepdims=0)],
          [floats("signal", "clip", "time")], {}, [floats("codes")])  # fmt: skip
    (tmp_path / "trained").mkdir()
    frames_model(tmp_path / "trained" / "model.onnx")
    (tmp_path / "trained" / "model.json").write_text(json.dumps({"signal": {"kind": "picture", "rate": None}}))
    for name, said in {
        "gone.onnx": "there is no encoder '.*gone.onnx'",
        "bad.onnx": "is no ONNX model that onnxruntime can run",
        "bad.pt2": "is not a program of torch.export that torch can load",
        "model.wav": "ends in neither .onnx nor .pt2",
        "folder": "is not a folder of transformers",
        "sum.onnx": r"codes of shape \(clip, code\) or \(clip, frame, code\) are expected, got codes \(\)",
        "trained/model.onnx": "takes picture: give an encoder of waveforms",
    }.items():
        with pytest.raises(ValueError, match=said) as caught:
            build(ExternalConfig(str(tmp_path / name)), SIGNAL)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no output is called 'x': its outputs are codes"):
        build(ExternalConfig(str(frames_model(tmp_path / "m.onnx")), output="x"), SIGNAL)
    with pytest.raises(ValueError, match="where a hop of 7 makes"):
        build(ExternalConfig(str(tmp_path / "m.onnx"), hop=7), SIGNAL)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "folder" / "config.json").write_text('{"model_type": "wav2vec2"}')
    assert is_external(tmp_path / "folder")
    for name, package in {"m.onnx": "onnxruntime", "folder": "transformers"}.items():
        with pytest.raises(ValueError, match=f"needs {package}: `pip install {package}`"):
            build(ExternalConfig(str(tmp_path / name)), SIGNAL)


@pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers: pip install transformers")
@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert", "WavLM", "AST"])
def test_a_folder_of_transformers(kind, tmp_path):
    transformers: Any = import_module("transformers")
    small: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    if kind == "AST":
        config = transformers.ASTConfig(**small, max_length=64, num_mel_bins=32)
        model: Any = transformers.ASTModel(config)
        extractor: Any = transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    else:
        small |= {
            "conv_dim": (8, 8, 8),
            "conv_kernel": (10, 8, 4),
            "conv_stride": (5, 8, 8),
            "num_feat_extract_layers": 3,
        }
        small |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
        names = {"Wav2Vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
                 "Hubert": (transformers.HubertConfig, transformers.HubertModel),
                 "WavLM": (transformers.WavLMConfig, transformers.WavLMModel)}  # fmt: skip
        made, kind_of_model = names[kind]
        model, extractor = kind_of_model(made(**small)), transformers.Wav2Vec2FeatureExtractor()
    model.eval().save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    learner = build(ExternalConfig(str(tmp_path)), Signal("wave", (16000,), 16000))
    wave = torch.randn(1, 8000)
    with torch.no_grad():
        alone = model(**extractor(wave[0].numpy(), sampling_rate=16000, return_tensors="pt")).last_hidden_state
    if kind == "AST":
        assert isinstance(learner, ClipsFromFile)
        torch.testing.assert_close(learner.encode(wave), alone.mean(1, keepdim=True), rtol=1e-4, atol=1e-4)
        return
    assert isinstance(learner, FramesFromFile) and learner.made.hop == 320 and learner.code_rate == 50
    torch.testing.assert_close(learner.encode(wave), alone, rtol=1e-4, atol=1e-4)
    first = build(ExternalConfig(str(tmp_path), layer=0), Signal("wave", (16000,), 16000))
    assert isinstance(first, FramesFromFile) and not torch.allclose(first.encode(wave), alone)
    with pytest.raises(ValueError, match=r"--layer 3: .* has layers 0 to 2"):
        build(ExternalConfig(str(tmp_path), layer=3), SIGNAL)
