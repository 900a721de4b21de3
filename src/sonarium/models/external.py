"""Encoders from files: ONNX, a program of `torch.export`, or a local folder of Hugging Face transformers.

An encoder maps a waveform to one code per clip (clip, code) or to code frames (clip, frame, code). Clips are
passed without padding, those of equal length in one batch. What a file does not state is measured: the hop length
of its frames, and the shortest clip with a frame, whose middle is the time of the first frame. Any stack of
strided convolutions makes ⌊(samples + offset) / hop⌋ frames of a clip. An encoder that accepts a single clip
length, or outputs as many frames for a long clip as for a short one, has one code per clip: the mean of frames.

For files written by `sonarium export`, `model.json` beside them has the sampling rate and the times of frames.
"""

import hashlib
import importlib
import importlib.util
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soxr
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonarium.config import Range, check_ranges
from sonarium.models.contract import Encoder, FrameEncoder, Learner, ModelEntry
from sonarium.worlds.contract import Batch, Signal

SUFFIXES = (".onnx", ".pt2")
SOUNDS = ("signal", "input_values", "wave", "waveform", "audio", "sound", "samples", "speech", "input", "x")
"""Usual names of the waveform input, by which it is chosen if several inputs fit."""
DESCRIBED = "model.json"
"""Description that `sonarium export` writes beside a model."""


@dataclass(frozen=True)
class ExternalConfig:
    """An encoder from a file, and settings that the file may not state."""

    encoder: str = ""
    """Encoder to evaluate: an .onnx file, a .pt2 program of torch.export, or a folder of Hugging Face
    transformers."""
    input_rate: Annotated[int, Range(0, 10**7)] = 0
    """Sampling rate in Hz that the encoder expects; 0 takes what its files say, or else that of the clips."""
    hop: Annotated[int, Range(0, 10**7)] = 0
    """Hop length of its frames in samples at that rate; 0 measures it."""
    input: str = ""
    """Name of the waveform input, where there are several."""
    output: str = ""
    """Name of the output with the codes; by default the first of shape (clips, codes) or (clips, frames,
    codes)."""
    layer: Annotated[int | None, Range(0, 1000)] = None
    """Hidden layer of transformers whose output is the codes, counted from 0, the input of the first layer; by
    default the last."""

    def __post_init__(self) -> None:
        check_ranges(self)


def is_external(path: Path) -> bool:
    """Whether the path is an encoder file or a folder of transformers, rather than a run folder."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        return "model_type" in json.loads((path / "config.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False


class Backend(ABC):
    """Runs a model on waveforms of equal length."""

    rate: int | None = None
    """Sampling rate in Hz, if the configuration or the files state it."""
    length: int | None = None
    """Fixed clip length in samples; None if the model accepts any."""

    @abstractmethod
    def run(self, wave: Float[Tensor, "clip time"]) -> Tensor:
        """Codes of clips, or code frames."""


@dataclass(frozen=True)
class Input:
    """Model input as described by its file; sizes that may vary are None."""

    name: str
    floating: bool
    sizes: tuple[int | None, ...]


def sound_among(inputs: Sequence[Input], asked: str, where: str) -> Input:
    """The input that takes the waveform."""
    known = ", ".join(one.name for one in inputs) or "none"
    named = {one.name: one for one in inputs}
    if asked:
        if asked not in named:
            raise ValueError(f"{where}: no input is called '{asked}': its inputs are {known}")
        return named[asked]
    fit = [one for one in inputs if one.floating and len(one.sizes) in (2, 3)]
    usual = [named[name] for name in SOUNDS if name in named and named[name] in fit]
    if len(fit) == 1 or usual:
        return usual[0] if usual else fit[0]
    raise ValueError(
        f"{where}: which input takes the waveform (clip, time)? its inputs are {known}: name one with --input"
    )


def filled(
    one: Input, sound: Input, wave: Float[Tensor, "clip time"], rate: int | None, where: str
) -> np.ndarray | None:
    """Value of an input other than the waveform: lengths, a mask without padding, or the sampling rate."""
    clips, samples = wave.shape
    if not one.floating:
        if len(one.sizes) == 0:
            return None if rate is None else np.array(rate)
        if len(one.sizes) == 1:
            return np.full(clips if one.sizes[0] is None else one.sizes[0], samples)
        if len(one.sizes) == 2:
            return np.ones((clips, samples))
    raise ValueError(
        f"{where}: nothing is known for the input '{one.name}' of {len(one.sizes)} axes: export the model with "
        f"the input '{sound.name}' alone"
    )


def fixed_length(sound: Input) -> int | None:
    size = sound.sizes[-1]
    return size if size is not None and size > 1 else None


def in_axes(wave: Float[Tensor, "clip time"], sound: Input) -> Tensor:
    """Waveform with a singleton channel axis if the model expects one."""
    return wave[:, None] if len(sound.sizes) == 3 else wave


def among_outputs(made: Mapping[str, Any], asked: str, where: str) -> Tensor:
    """The output that holds the codes."""
    if asked:
        if asked not in made:
            raise ValueError(f"{where}: no output is called '{asked}': its outputs are {', '.join(made)}")
        fit = [made[asked]]
    else:
        fit = [one for one in made.values() if isinstance(one, Tensor) and one.dim() in (2, 3)]
    if not fit or not isinstance(fit[0], Tensor) or fit[0].dim() not in (2, 3) or not fit[0].is_floating_point():
        shapes = ", ".join(
            f"{name} {tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__}"
            for name, one in made.items()
        )
        raise ValueError(f"{where}: codes of shape (clip, code) or (clip, frame, code) are expected, got {shapes}")
    return fit[0]


class Onnx(Backend):
    """ONNX model, run by onnxruntime on the CPU."""

    def __init__(self, path: Path, config: ExternalConfig, rate: int | None):
        if importlib.util.find_spec("onnxruntime") is None:
            raise ValueError(f"'{path}' needs onnxruntime: `pip install onnxruntime`")
        import onnxruntime

        self.where, self.config, self.rate = f"'{path}'", config, rate
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 4
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ValueError(
                f"{self.where} is no ONNX model that onnxruntime can run: {in_short(error)}"
            ) from None
        self.kinds = {one.name: one.type for one in self.session.get_inputs()}
        self.inputs = [
            Input(
                one.name,
                "float" in one.type or "double" in one.type,
                tuple(size if isinstance(size, int) else None for size in one.shape),
            )
            for one in self.session.get_inputs()
        ]
        self.sound = sound_among(self.inputs, config.input, self.where)
        self.length = fixed_length(self.sound)

    def run(self, wave: Float[Tensor, "clip time"]) -> Tensor:
        given = {self.sound.name: in_axes(wave, self.sound).cpu().numpy()}
        for one in self.inputs:
            if one is not self.sound:
                value = filled(one, self.sound, wave, self.rate or self.config.input_rate or None, self.where)
                if value is None:
                    raise ValueError(f"{self.where}: its input '{one.name}' takes the rate: give --input-rate")
                given[one.name] = value
        kinds = {"float16": np.float16, "float": np.float32, "double": np.float64, "int32": np.int32, "bool": bool}
        given = {
            name: value.astype(kinds.get(self.kinds[name].removeprefix("tensor(").rstrip(")"), np.int64))
            for name, value in given.items()
        }
        names = [one.name for one in self.session.get_outputs()]
        made = dict(zip(names, self.session.run(None, given), strict=True))
        tensors = {name: torch.from_numpy(one) for name, one in made.items() if isinstance(one, np.ndarray)}
        return among_outputs(tensors, self.config.output, self.where)


class Program(Backend):
    """Program of torch.export, run on the CPU, where it was exported."""

    def __init__(self, path: Path, config: ExternalConfig, rate: int | None):
        self.where, self.config, self.rate = f"'{path}'", config, rate
        try:
            program = torch.export.load(path)
        except Exception as error:
            raise ValueError(
                f"{self.where} is not a program of torch.export that torch can load: {in_short(error)}"
            ) from None
        held = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        shown = [
            (name, held[name]) for name in program.graph_signature.user_inputs if isinstance(held[name], Tensor)
        ]
        self.inputs = [
            Input(
                str(name),
                value.is_floating_point(),
                tuple(size if isinstance(size, int) else None for size in value.shape),
            )
            for name, value in shown
        ]
        self.kinds = {name: value.dtype for name, value in shown}
        self.sound = sound_among(self.inputs, config.input, self.where)
        self.length = fixed_length(self.sound)
        given: Any = program.call_spec.in_spec
        self.keywords: list[str] = list(given.children()[1].context or [])
        self.module = program.module()

    def run(self, wave: Float[Tensor, "clip time"]) -> Tensor:
        wave, values = wave.cpu(), []
        for one in self.inputs:
            if one is self.sound:
                values.append(in_axes(wave, self.sound).to(self.kinds[one.name]))
                continue
            value = filled(one, self.sound, wave, self.rate or self.config.input_rate or None, self.where)
            if value is None:
                raise ValueError(f"{self.where}: its input '{one.name}' takes the rate: give --input-rate")
            values.append(torch.from_numpy(value).to(self.kinds[one.name]))
        split = len(values) - len(self.keywords)
        made = self.module(*values[:split], **dict(zip(self.keywords, values[split:], strict=True)))
        return among_outputs(by_name(made), self.config.output, self.where)


class Transformers(Backend):
    """Model from a folder of Hugging Face transformers, with its feature extractor if the folder has one."""

    def __init__(self, path: Path, config: ExternalConfig, rate: int | None):
        if importlib.util.find_spec("transformers") is None:
            raise ValueError(f"'{path}' needs transformers: `pip install transformers`")
        transformers: Any = importlib.import_module("transformers")
        self.where, self.config = f"'{path}'", config
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        try:
            model = transformers.AutoModel.from_pretrained(path, local_files_only=True)
            self.prepare: Any = None
            if (path / "preprocessor_config.json").is_file():
                self.prepare = transformers.AutoFeatureExtractor.from_pretrained(path, local_files_only=True)
        except Exception as error:
            raise ValueError(
                f"{self.where} is not a model that transformers can load: {in_short(error)}"
            ) from None
        self.model: nn.Module = model.eval()
        found = None if self.prepare is None else vars(self.prepare).get("sampling_rate")
        self.rate = rate if found is None else int(found)

    def run(self, wave: Float[Tensor, "clip time"]) -> Tensor:
        device = wave.device
        self.model.to(device)
        if self.prepare is None:
            given = {"input_values": wave}
        else:
            clips = [one.cpu().numpy() for one in wave]
            given = dict(self.prepare(clips, sampling_rate=self.rate, return_tensors="pt").to(device))
        made = self.model(**given, output_hidden_states=self.config.layer is not None)
        if self.config.layer is None:
            return among_outputs(dict(made), self.config.output, self.where)
        layers = made.hidden_states
        if not -len(layers) <= self.config.layer < len(layers):
            raise ValueError(f"--layer {self.config.layer}: {self.where} has layers 0 to {len(layers) - 1}")
        return layers[self.config.layer]


def by_name(made: Any) -> dict[str, Any]:
    """Outputs of a program by name, or by index if they have none."""
    if isinstance(made, Mapping):
        return dict(made)
    several = made if isinstance(made, tuple | list) else [made]
    return {str(number): one for number, one in enumerate(several)}


def in_short(error: Exception) -> str:
    """First words of another library's error message."""
    words = str(error).split()
    return " ".join(words[:24]) + (" …" if len(words) > 24 else "")


def opened(config: ExternalConfig, described: Mapping[str, Any]) -> Backend:
    """Model of a file or folder; a one-line ValueError if it cannot be loaded."""
    path = Path(config.encoder)
    if not config.encoder:
        raise ValueError("no encoder is named: give --encoder, an .onnx or .pt2 file, or a folder of transformers")
    if not path.exists():
        raise ValueError(f"there is no encoder '{path}': check the path")
    signal = described.get("signal") or {}
    if signal.get("kind", "wave") != "wave":
        raise ValueError(f"'{path}' takes {signal['kind']}: give an encoder of waveforms")
    rate = config.input_rate or signal.get("rate")
    if path.is_dir():
        if not is_external(path):
            raise ValueError(
                f"'{path}' is not a folder of transformers (its config.json names no model_type): give such a "
                "folder, or an .onnx or .pt2 file"
            )
        return Transformers(path, config, rate)
    kinds: dict[str, Callable[[Path, ExternalConfig, int | None], Backend]] = {".onnx": Onnx, ".pt2": Program}
    if path.suffix.lower() not in kinds:
        raise ValueError(
            f"'{path}' ends in neither .onnx nor .pt2: give such a file, or a folder of transformers; a run "
            "folder is scored without --encoder"
        )
    return kinds[path.suffix.lower()](path, config, rate)


def described_beside(path: Path) -> dict[str, Any]:
    """Description that `sonarium export` wrote of this file; empty for other files."""
    beside = path.with_name(DESCRIBED)
    if path.stem != beside.stem or not beside.is_file():
        return {}
    try:
        found = json.loads(beside.read_bytes())
    except ValueError:
        raise ValueError(f"'{beside}' is damaged: export the model again, or take the file away") from None
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Measured:
    """A model with the measured properties of its codes."""

    backend: Backend
    rate: int
    """Sampling rate of the model input in Hz."""
    given: int
    """Sampling rate of the clips in Hz."""
    together: bool
    """Whether several clips can be encoded at once."""
    hop: int = 0
    """Hop length in samples at the model's rate; 0 for one code per clip."""
    offset: int = 0

    def frames(self, samples: Any) -> Any:
        """Number of frames of clips of N samples at the rate of the clips."""
        count = (samples * self.rate // self.given + self.offset) // self.hop
        return count.clamp(min=0) * (samples > 0) if isinstance(count, Tensor) else max(0, count)

    @torch.no_grad()
    def codes(self, waves: Sequence[Float[Tensor, " _"]]) -> list[Float[Tensor, "_ _"]]:
        """Codes of each waveform; those of equal length are batched if possible."""
        found: dict[int, Tensor] = {}
        own = [self.resampled(wave) for wave in waves]
        lengths = [len(wave) for wave in own]
        for length in dict.fromkeys(lengths):
            places = [place for place, one in enumerate(lengths) if one == length]
            lots = [places] if self.together else [[place] for place in places]
            for lot in lots:
                made = self.run(torch.stack([own[place] for place in lot]))
                found |= dict(zip(lot, made, strict=True))
        return [found[place] for place in range(len(own))]

    def run(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip frame code"]:
        made = self.backend.run(wave).float().to(wave.device)
        if made.dim() == 2:
            made = made[:, None]
        return made if self.hop else made.mean(1, keepdim=True)

    def resampled(self, wave: Float[Tensor, " _"]) -> Float[Tensor, " _"]:
        if self.rate == self.given:
            return wave
        other = torch.from_numpy(soxr.resample(wave.cpu().numpy(), self.given, self.rate)).to(wave)
        wanted = len(wave) * self.rate // self.given
        return nn.functional.pad(other, (0, wanted - len(other)))


def measured(config: ExternalConfig, backend: Backend, given: int) -> Measured:
    """Run the model on noise of several lengths to measure what its file does not state."""
    rate, where = backend.rate or config.input_rate or given, f"'{config.encoder}'"
    counts: dict[int, int] = {}
    noise = 0.1 * torch.randn(2, 8 * rate, generator=torch.Generator().manual_seed(0))

    def frames(samples: int, clips: int = 1) -> int:
        """Number of frames of a clip; 0 for one code per clip."""
        if samples not in counts or clips > 1:
            made = tried(backend, noise[:clips, :samples], where)
            counts[samples] = made.shape[1] if made.dim() == 3 else 0
        return counts[samples]

    first = backend.length or rate // 2
    plain = Measured(backend, rate, given, together=False)
    frames(first)
    plain = Measured(backend, rate, given, together=several(backend, noise[:, :first]))
    if backend.length is not None or not counts[first] or frames(2 * first) == counts[first]:
        return plain
    begin, found = shortest(frames, first, 2 * first, counts[first] + 1), config.hop
    if not found:
        last = frames(2 * first)
        steps = last - counts[first] - 1
        exact = (shortest(frames, begin, 2 * first, last) - begin) / steps if steps > 0 else 0.5
        if exact != int(exact):
            raise ValueError(f"{where}: no constant hop length of its frames is found: give --hop, in samples")
        found = int(exact)
    offset = (counts[first] + 1) * found - begin
    if given * found % rate:
        raise ValueError(
            f"{where} has a frame every {found} samples at {rate} Hz, no whole number at the {given} Hz of the "
            f"clips: read them at --rate {rate}"
        )
    made = Measured(backend, rate, given, plain.together, found, offset)
    for samples, count in counts.items():
        if (samples + offset) // found != count:
            raise ValueError(
                f"{where} gives {count} frames of {samples} samples, where a hop of {found} makes "
                f"{(samples + offset) // found}: give another --hop"
            )
    return made


def tried(backend: Backend, wave: Float[Tensor, "clip time"], where: str) -> Tensor:
    try:
        with torch.no_grad():
            return backend.run(wave)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{where} fails on a clip of {wave.shape[1]} samples: {in_short(error)}") from None


def several(backend: Backend, wave: Float[Tensor, "clip time"]) -> bool:
    """Whether clips in one batch are encoded as each would be alone."""
    try:
        with torch.no_grad():
            both, alone = backend.run(wave), backend.run(wave[:1])
    except Exception:
        return False
    return len(both) == len(wave) and torch.allclose(both[:1], alone, rtol=1e-3, atol=1e-4)


def shortest(frames: Callable[[int], int], low: int, high: int, count: int) -> int:
    """Smallest number of samples, from `low` to `high`, with at least `count` frames."""
    if frames(low) >= count:
        return low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if frames(middle) >= count else (middle, high)
    return high


class FromFile(Learner, ABC):
    """Untrained learner: the file itself holds the weights, and a checkpoint its hash."""

    content: Tensor

    def __init__(self, config: ExternalConfig, made: Measured):
        super().__init__()
        self.config, self.made = config, made
        self.register_buffer("content", torch.from_numpy(hash_of(Path(config.encoder))))
        own = self.content.clone()

        def unchanged(module: nn.Module, incompatible: object) -> None:
            if not torch.equal(self.content.cpu(), own):
                raise ValueError(f"'{config.encoder}' is not the encoder that this run began with: restore it")

        self.register_load_state_dict_post_hook(unchanged)

    def check(self, source: Any) -> Sequence[str]:
        raise ValueError(
            f"'{self.config.encoder}' is an encoder from a file and is not trained: evaluate it with `sonarium "
            "score --encoder`"
        )

    def update(self, data: Batch, engine: Any) -> dict[str, Float[Tensor, ""]]:
        raise AssertionError("an encoder from a file was trained")


class ClipsFromFile(FromFile, Encoder):
    """Encoder from a file with one code per clip."""

    def __init__(self, config: ExternalConfig, made: Measured, dead_below: float):
        super().__init__(config, made)
        self.dead_below = dead_below

    def encode(self, signal: Float[Tensor, "clip time"]) -> Float[Tensor, "clip 1 code"]:
        return torch.stack(self.made.codes(list(signal)))


class FramesFromFile(FromFile, FrameEncoder):
    """Encoder from a file with code frames at a constant rate."""

    def __init__(self, config: ExternalConfig, made: Measured, first: float | None):
        super().__init__(config, made)
        self.code_rate = made.rate / made.hop
        self.code_first = max(0.0, (made.hop - made.offset) / 2 / made.rate) if first is None else first

    def encode(
        self,
        signal: Float[Tensor, "clip time"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """`power` is not used: a file handles levels itself."""
        if lengths is None:
            lengths = torch.full((len(signal),), signal.shape[1])
        counts = self.code_lengths(lengths).tolist()
        own = [place for place, count in enumerate(counts) if count]
        if not own:
            raise ValueError(f"{signal.shape[1]} samples are too few for a frame: give longer sound")
        codes = self.made.codes([signal[place, : int(lengths[place])] for place in own])
        padded = signal.new_zeros(
            len(signal), int(self.code_lengths(torch.tensor([signal.shape[1]]))), codes[0].shape[1]
        )
        for place, frames in zip(own, codes, strict=True):
            if len(frames) != counts[place]:
                raise ValueError(
                    f"'{self.config.encoder}' gives {len(frames)} frames of {int(lengths[place])} samples, where "
                    f"a hop of {self.made.hop} makes {counts[place]}: give --hop"
                )
            padded[place, : len(frames)] = frames
        return padded

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Number of frames of clips of these lengths in samples."""
        return self.made.frames(lengths)


def hash_of(path: Path) -> np.ndarray:
    """SHA-256 of a file, or of the names and contents of all files of a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    whole = hashlib.sha256()
    # Windows would sort without regard to case, and separate by backslashes.
    for name, one in sorted((one.relative_to(path).parts, one) for one in files):
        with open(one, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{'/'.join(name) or '.'} {content}\n".encode())
    return np.frombuffer(whole.digest(), np.uint8).copy()


def build(config: ExternalConfig, signal: Signal) -> Learner:
    """Learner of an encoder file for clips of this signal."""
    assert signal.kind == "wave" and signal.rate is not None, signal
    described = described_beside(Path(config.encoder))
    backend = opened(config, described)
    made = measured(config, backend, signal.rate)
    if made.hop:
        return FramesFromFile(config, made, described.get("code_first"))
    taken = signal.shape[0] * made.rate // signal.rate
    if backend.length not in (None, taken):
        raise ValueError(
            f"'{config.encoder}' takes clips of {backend.length} samples at {made.rate} Hz, and these have "
            f"{taken}: give --seconds {backend.length / made.rate:g}, or a world with such clips"
        )
    return ClipsFromFile(config, made, float(described.get("dead_below", 0.0)))


def form_of(config: ExternalConfig, rate: int | None) -> Signal:
    """Signal that a file accepts, as far as it states it; one-second clips if it accepts any length."""
    backend = opened(config, described_beside(Path(config.encoder)))
    own = backend.rate or config.input_rate or rate
    if own is None:
        raise ValueError(f"'{config.encoder}' does not say its sampling rate: give it, such as rate=16000")
    return Signal("wave", (backend.length or own,), own)


EXTERNAL = ModelEntry(
    "encoder from a file (ONNX, torch.export or transformers): scored, never trained",
    build,
    {"default": lambda kind: ExternalConfig()},
    kinds=("wave",),
    trains=False,
)
