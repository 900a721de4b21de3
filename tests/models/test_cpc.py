"""CPC: sizes and shapes of presets against what they reproduce, and the contract of every variant."""

import copy
import dataclasses
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from stub_engine import StubEngine
from typechecking import unchecked

from sonarium.features.waveform import Waveform, WaveformConfig
from sonarium.models.contract import Decoder, Encoder, FrameEncoder, Learner
from sonarium.models.cpc.cpc import CPC, CPCConfig, complete
from sonarium.models.cpc.presets import CONFIGS, PRESETS
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.worlds.contract import UNKNOWN, Batch, Factor, Signal, World

PARAMETERS = {
    "default": 678_528,
    "samples": 790_240,
    "study-jefflai108": 7_423_488,
    "study-spijkervet": 7_417_344,
    "jefflai108-cdck2": 7_423_488,
    "jefflai108-cdck5": 5_581_344,
    "jefflai108-cdck6": 7_331_328,
    "spijkervet": 7_414_784,
    "speech": 678_528,
    "cpc-audio": 17_656_576,
    "cpc-audio-linear": 2_629_888,
}
SIGNAL = Signal("wave", (2400,), 16000)
SAME_SPEAKER = replace(
    CONFIGS["default"],
    speaker=1,
    contrast=replace(CONFIGS["default"].contrast, from_sequence=0, from_speaker=5, from_batch=0, drawn="each"),
)
VARIANTS = CONFIGS | {
    "speech": replace(CONFIGS["speech"], speaker=1),
    "same-speaker": SAME_SPEAKER,
    "transformer": replace(
        CONFIGS["default"], context=replace(CONFIGS["default"].context, network="transformer", heads=2)
    ),
    "mlp": replace(CONFIGS["default"], predictors=replace(CONFIGS["default"].predictors, form="mlp", units=4)),
}


def tiny(config: CPCConfig) -> CPCConfig:
    """The same configuration with few channels and prediction steps."""
    width = 16 if config.predictors.form == "transformer" else 8
    return replace(
        config,
        encoder=replace(config.encoder, filters=(8,)),
        context=replace(config.context, width=width),
        predictors=replace(config.predictors, steps_ahead=3),
    )


def made(name: str, seed: int = 0) -> CPC:
    torch.manual_seed(seed)
    return CPC(tiny(VARIANTS[name]), SIGNAL)


def batch(clips: int = 6, seed: int = 0, lengths: list[int] | None = None) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    wave = torch.randn(clips, *SIGNAL.shape, generator=generator)
    factors = torch.tensor([[0.0, clip % 2] for clip in range(clips)])
    return Batch(torch.arange(clips), wave, factors, lengths=None if lengths is None else torch.tensor(lengths))


@pytest.mark.parametrize("name", CONFIGS)
def test_presets_have_the_size_and_shape_of_what_they_reproduce(name):
    with torch.device("meta"):
        learner = CPC(PRESETS[name]("wave"), Signal("wave", (20480,), 16000))
    assert sum(weight.numel() for weight in learner.parameters()) == PARAMETERS[name]
    half = 2 if name in ("default", "speech") else 1
    assert learner.encoder.frames(20480) == 128 // half
    assert learner.code_rate == 100 / half
    config = learner.config
    expected = {
        "default": (128, 256),
        "speech": (128, 256),
        "jefflai108-cdck5": (512, 40),
        "jefflai108-cdck6": (512, 128),
    }
    expected |= {"samples": (128, 256), "cpc-audio": (256, 256), "cpc-audio-linear": (256, 256)}
    assert (config.encoder.widths[-1], config.context.width) == expected.get(name, (512, 256))


def test_parameters_counted_by_hand():
    encoder = 512 * 10 + 512 * 512 * (8 + 4 + 4 + 4)
    norms, gru = 5 * 2 * 512, 3 * 256 * (512 + 256) + 2 * 3 * 256
    assert PARAMETERS["study-spijkervet"] == encoder + norms + gru + 12 * 256 * 512
    assert PARAMETERS["study-jefflai108"] == encoder + norms + gru + 12 * (256 * 512 + 512)
    assert PARAMETERS["spijkervet"] == encoder + 5 * 512 + gru + 12 * 256 * 512
    shared = (10 + 256 * (8 + 4 + 4 + 4)) * 256 + 3 * 5 * 256 + 4 * 256 * (256 + 256) + 2 * 4 * 256
    layer = 4 * 256**2 + 32 * 116 + 4 * 256 + 2 * 256 * 2048 + 2048 + 256
    assert PARAMETERS["cpc-audio-linear"] == shared + 12 * 256**2
    bands = 128 * (4 * 40 + 3 * 128 + 3 * 128) + 3 * 3 * 128
    assert PARAMETERS["default"] == bands + 3 * 256 * (128 + 256) + 2 * 3 * 256 + 8 * 256 * 128
    assert PARAMETERS["cpc-audio"] == shared + 12 * layer


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("lengths", [None, [2400, 1700, 2400, 1200, 900, 2000]])
def test_a_learner_keeps_its_contract(name, lengths):
    learner, engine = made(name), StubEngine()
    assert isinstance(learner, Learner) and isinstance(learner, FrameEncoder)
    assert not isinstance(learner, Encoder | Decoder)
    before = [weight.detach().clone() for weight in learner.parameters()]
    terms = learner.update(batch(lengths=lengths), engine)
    assert all("/" in term and value.ndim == 0 and not value.requires_grad for term, value in terms.items())
    assert all(torch.isfinite(value) for value in terms.values())
    assert {"contrast/loss", "contrast/chance", "contrast/accuracy", "contrast/accuracy_3"} <= set(terms)
    changed = [not torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True)]
    # The few frames of a clip leave vectors of long distances in cpc-audio's predictors without a gradient.
    assert all(changed) or name == "cpc-audio"
    codes = learner.encode(batch().signal)
    ways = 1 + learner.config.context.bidirectional
    assert codes.shape == (6, learner.encoder.frames(2400), ways * learner.config.context.width)
    assert learner.encode(batch().signal, code="latent").shape[-1] == 8
    assert learner.training and not codes.requires_grad


@pytest.mark.parametrize("name", VARIANTS)
def test_randomness_comes_from_the_engine_alone(name):
    terms = []
    for _ in range(2):
        learner = made(name)
        state = torch.random.get_rng_state()
        terms.append([learner.update(batch(), engine) for engine in [StubEngine(7)] for _ in range(2)])
        assert torch.equal(torch.random.get_rng_state(), state)
    assert terms[0] == terms[1]


@pytest.mark.parametrize("name", VARIANTS)
def test_what_fills_the_padding_changes_nothing(name):
    lengths = [2400, 1700, 2400, 1200, 900, 2000]
    learners, terms = [], []
    for filling in (0.0, math.nan):
        learner, given = made(name), batch(lengths=lengths)
        for clip, length in enumerate(lengths):
            given.signal[clip, length:] = filling
        terms.append([learner.update(given, engine) for engine in [StubEngine(3)] for _ in range(2)])
        learners.append(learner.state_dict())
    assert terms[0] == terms[1]
    assert all(torch.equal(value, learners[1][key]) for key, value in learners[0].items())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_clip_among_longer_ones_has_the_codes_it_has_alone(name):
    learner, lengths = made(name), torch.tensor([2400, 1700, 1200])
    learner.update(batch(), StubEngine())
    wave = batch(3, seed=1).signal
    together, frames = learner.encode(wave, lengths), learner.code_lengths(lengths)
    for clip, length in enumerate(lengths.tolist()):
        alone = learner.encode(wave[clip : clip + 1, :length])[0]
        assert len(alone) == frames[clip]
        torch.testing.assert_close(together[clip, : len(alone)], alone, rtol=1e-4, atol=1e-5)
        assert not together[clip, len(alone) :].any()


def test_the_way_back_hears_the_end_first():
    learner = made("jefflai108-cdck6")
    wave = batch(2).signal
    changed = wave.clone()
    changed[:, 1600:] = 0
    before, after = learner.encode(wave), learner.encode(changed)
    half = learner.config.context.width
    differs = (before != after).any(-1).any(0)
    forward, backward = (before[..., part] != after[..., part] for part in (slice(0, half), slice(half, None)))
    assert differs.all() and backward.any(-1).all() and not forward[:, :9].any() and forward[:, 10:].any(-1).all()
    # With equal weights, the backward network on reversed sound equals the forward network.
    learner.contexts[1].load_state_dict(learner.contexts[0].state_dict())
    turned = learner.encode(wave.flip(1))
    torch.testing.assert_close(turned[..., :half].flip(1), learner.encode(wave)[..., half:])


def test_one_time_of_all_is_the_same_contest():
    """A learner that predicts at one time, against the same weights in one that predicts at all times."""
    every, single = made("study-spijkervet").double(), made("study-jefflai108").double()
    weights = every.state_dict()
    assert all(not torch.is_tensor(value) or value.numel() for value in weights.values())
    single.load_state_dict(weights, strict=False)
    torch.nn.init.zeros_(single.get_parameter("predictors.0.layers.bias"))
    wave = batch().signal.double()
    losses = every.outcomes(wave, None, None, StubEngine())[0].pair_losses
    for seed in range(12):
        engine = StubEngine(seed)
        found = single.outcomes(wave, None, None, engine)[0].loss
        time = int(torch.randint(every.encoder.frames(2400) - 3, (), generator=StubEngine(seed).generator))
        torch.testing.assert_close(found, losses[:, time].mean())
        names = [name for name, _ in every.named_parameters()]
        one = torch.autograd.grad(found, [single.get_parameter(name) for name in names])
        other = torch.autograd.grad(losses[:, time].mean(), list(every.parameters()), retain_graph=True)
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b)


def test_the_learning_rate_follows_the_updates_and_comes_back_with_the_weights():
    config = replace(tiny(CONFIGS["default"]), schedule=ScheduleConfig("noam", 4), adam=AdamConfig(0.01))
    learner, engine = CPC(config, SIGNAL), StubEngine()
    rates = []
    for _ in range(6):
        learner.update(batch(), engine)
        rates.append(learner.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.01 * min(n / 4, (4 / n) ** 0.5) for n in range(1, 7)])
    other = CPC(config, SIGNAL)
    other.load_state_dict(learner.state_dict())
    other.optimiser.load_state_dict(copy.deepcopy(learner.optimiser.state_dict()))
    generators = [StubEngine(5), StubEngine(5)]
    assert learner.update(batch(), generators[0]) == other.update(batch(), generators[1])
    for one, two in zip(learner.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["default", "study-spijkervet", "cpc-audio-linear"])
def test_training_lowers_the_loss(name):
    torch.manual_seed(0)
    config = tiny(VARIANTS[name])
    quick = replace(config, adam=replace(config.adam, learning_rate=0.01), schedule=ScheduleConfig())
    learner = CPC(quick, SIGNAL)
    # Each clip is a glide from a different pitch: its next frames are predictable, and unlike those of all others.
    time = torch.arange(2400) / 16000
    pitch = torch.tensor([200.0, 330, 510, 770, 1100, 1500])[:, None]
    given = replace(batch(), signal=torch.sin(2 * math.pi * pitch * (time + 5 * time**2)))
    engine = StubEngine()
    first = learner.update(given, engine)
    # Frames of one clip are similar: training is slower where they are negatives of each other, as by default.
    for _ in range(120):
        last = learner.update(given, engine)
    assert last["contrast/loss"] < 0.9 * min(first["contrast/loss"], last["contrast/chance"])
    assert last["contrast/accuracy"] > first["contrast/accuracy"]


def test_sixteen_bits_come_near():
    class Sixteen(StubEngine):
        def autocast(self):
            return torch.autocast("cpu", torch.bfloat16)

    for name in ("default", "study-spijkervet", "cpc-audio"):
        exact, near = (
            made(name).outcomes(batch().signal, None, None, engine(3))[0].loss.detach()
            for engine in (StubEngine, Sixteen)
        )
        assert near.dtype == torch.float32
        assert float(near) == pytest.approx(float(exact), rel=0.03) and near != exact


def test_levels():
    loud = 3 * torch.ones(1, 8)
    clip = Waveform(WaveformConfig("clip"), SIGNAL)
    assert clip(torch.cat([loud, 0.01 * loud])).square().mean(1).sqrt().tolist() == pytest.approx([1, 1], abs=1e-3)
    assert clip(1e-6 * loud).abs().max() < 0.01
    half = torch.cat([loud, torch.zeros(1, 8)], 1)
    assert torch.equal(clip(half, torch.tensor([8]))[:, :8], clip(loud))
    assert torch.equal(Waveform(WaveformConfig("kept"), SIGNAL)(half), half)
    fixed = Waveform(WaveformConfig("fixed"), SIGNAL)
    fixed.fit([torch.cat([half, 0 * half]), half], [torch.tensor([8, 0]), torch.tensor([8])])
    torch.testing.assert_close(fixed(loud), torch.ones(1, 8))
    with pytest.raises(ValueError, match="all training sound is silent"):
        fixed.fit([0 * loud])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"code": "both"}, "code='both': give context or latent"),
        ({"contrast": SAME_SPEAKER.contrast}, "from_speaker=5, but no `speaker`"),
    ],
)
def test_impossible_configurations_are_refused(changed, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        replace(CONFIGS["default"], **changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0.0: give a positive number"),
        ({"beta1": -0.1}, "beta1=-0.1"),
        ({"beta2": 1.0}, "beta2=1.0"),
        ({"epsilon": math.nan}, "epsilon=nan"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
    ],
)
def test_impossible_rates_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        AdamConfig(**changed)


def test_what_does_not_fit_the_sound_is_refused():
    config: Any = tiny(CONFIGS["default"])
    with pytest.raises(ValueError, match=r"clips of 500 samples make 1 frame\(s\), too few to predict 3 ahead"):
        CPC(config, Signal("wave", (500,), 16000))
    with pytest.raises(ValueError, match="the waveform front end takes waves"):
        CPC(config, Signal("picture", (8, 8)))
    with pytest.raises(ValueError, match="100 samples are too few for a frame"):
        CPC(config, SIGNAL).encode(torch.zeros(1, 100))
    with pytest.raises(ValueError, match=r"speaker=7, but the clips have 2 factor\(s\)"):
        CPC(replace(tiny(SAME_SPEAKER), speaker=7), SIGNAL).update(batch(), StubEngine())
    assert CPC(config, SIGNAL).minimum_batch_size == 1 and made("study-spijkervet").minimum_batch_size == 2


def test_features_computed_beforehand_are_taken_as_they_are():
    given, terms = batch(), []
    early = dataclasses.replace(given, signal=torch.empty(6, 0), features=made("default").features(given))
    for each in (given, early):
        terms.append(made("default").update(each, StubEngine()))
    assert terms[0] == terms[1]


class Speech(World):
    """Clips of given lengths, with a factor of two speakers."""

    name, signal = "speech", SIGNAL
    factors = (Factor("loudness", (0.0, 1.0)), Factor("who", ("ann", "bob")))

    def __init__(self, *sizes: int):
        self.sizes = torch.tensor(sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def lengths(self, index: torch.Tensor) -> torch.Tensor:
        return self.sizes[index]

    def whole(self, index: torch.Tensor, device: Any = "cpu") -> Batch:
        return Batch(index, torch.ones(len(index), int(self.sizes[index].max())), torch.zeros(len(index), 2))


class Source:
    unit, batch_size, pass_ended = "clips", 2, False

    def __init__(self, world: World):
        # Each clip is repeated as often as a piece fits into it.
        self.world, self.index = world, world.portions(torch.arange(len(world)))

    def __iter__(self):
        return self

    def __next__(self) -> Batch:
        return self.world.whole(self.index[:2])

    def preview(self, progress):
        yield self.world.whole(self.index)

    def attach(self, learner, engine) -> None: ...

    def state_dict(self):
        return {}

    def load_state_dict(self, state, /) -> None: ...


def test_sources_of_clips_too_short_or_without_a_speaker_are_refused_or_remarked():
    learner = CPC(replace(tiny(SAME_SPEAKER), speaker=1), SIGNAL)
    remarks = learner.check(Source(Speech(9000, 2400, 100)))
    assert remarks == [
        "1 of 3 training clips are too short for two frames and add no loss",
        "negatives of the same speaker are clips with the same who",
    ]
    with pytest.raises(ValueError, match=r"all 2 training clips are too short: a frame comes every 0\.02 s"):
        learner.check(Source(Speech(100, 90)))
    nobody = Speech(2400)
    nobody.factors = (Speech.factors[0], Factor("who", ("ann", UNKNOWN)))
    with pytest.raises(ValueError, match="--speaker who: some clips have no who"):
        learner.check(Source(nobody))
    made("default").prepare(Source(Speech(2400)), StubEngine())


def test_the_speaker_is_found_by_name_and_the_cosine_ends_with_the_training():
    config, world = replace(SAME_SPEAKER, speaker="who", schedule=ScheduleConfig("cosine", 5)), Speech(2400)
    completed = complete(config, world, 40)
    assert completed.speaker == 1 and completed.schedule == ScheduleConfig("cosine", 5, 40)
    assert complete(replace(config, speaker=1), world, 40) == completed
    assert complete(CONFIGS["default"], world, 40) == CONFIGS["default"]
    for wrong in ("whom", 0):
        with pytest.raises(
            ValueError, match=rf"--speaker {wrong}: the labels of these clips are who \(1\); choose"
        ):
            complete(replace(config, speaker=wrong), world, 40)
