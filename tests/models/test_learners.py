"""What every model of the catalogue promises, asked of its abilities and never of its name."""

import copy
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from stub_engine import StubEngine
from torch import Tensor

from sonarium.catalogue import MODELS
from sonarium.features.contract import PictureFrontEnd
from sonarium.models.contract import (
    Decoder,
    Density,
    Describer,
    Encoder,
    FeatureLearner,
    FrameEncoder,
    Learner,
    Sampler,
)
from sonarium.training.contract import ClipSource
from sonarium.worlds.contract import Batch, SignalKind, World
from sonarium.worlds.digits import Digits, DigitsConfig
from sonarium.worlds.tones.world import Tones, TonesConfig

WORLDS: dict[SignalKind, World] = {
    "wave": Tones(TonesConfig(frequencies=6, amplitudes=3, seconds=0.2), 0),
    "picture": Digits(DigitsConfig(), 0),
}
CLIPS = torch.arange(12)
DEFAULTS = [(name, "default", kind) for name, entry in MODELS.items() for kind in entry.kinds if kind in WORLDS]


class Clips:
    """Batches of the same clips of a world, as a source gives them."""

    unit, batch_size, pass_ended = "clips", len(CLIPS), True

    def __init__(self, world: World):
        self.world, self.index = world, CLIPS

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self.world.whole(self.index)

    def preview(self, progress: Any) -> Iterator[Batch]:
        for part in self.index.split(5):
            yield self.world.whole(part)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any, /) -> None: ...


def made(name: str, preset: str, kind: SignalKind, seed: int = 0) -> tuple[Learner, Clips]:
    """A learner that is ready to train."""
    source = Clips(WORLDS[kind])
    torch.manual_seed(seed)
    learner = MODELS[name].build(MODELS[name].presets[preset](kind), source.world.signal)
    assert isinstance(source, ClipSource) and isinstance(learner, Learner)
    assert all(isinstance(remark, str) for remark in learner.check(source))
    learner.prepare(source, StubEngine())
    return learner, source


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def shorter(source: Clips) -> tuple[Tensor, Tensor]:
    """Clips of unlike lengths, all but the first padded with zeros."""
    signal = next(source).signal
    lengths = signal.shape[1] - 61 * CLIPS
    return signal * (torch.arange(signal.shape[1]) < lengths[:, None]), lengths


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_is_complete(name):
    entry = MODELS[name]
    assert entry.summary and "default" in entry.presets and entry.kinds
    flags = set()
    for kind in entry.kinds:
        for preset in entry.presets.values():
            held = [preset(kind)]
            for config in held:
                assert dataclasses.is_dataclass(config) and not isinstance(config, type)
                for field in dataclasses.fields(config):
                    value = getattr(config, field.name)
                    if dataclasses.is_dataclass(value):
                        held.append(value)
                    else:
                        flags.add(field.name)
    assert set(entry.main) <= flags and len(set(entry.main)) == len(entry.main) <= 15
    default = entry.presets["default"](entry.kinds[0])
    assert isinstance(entry.complete(default, WORLDS[entry.kinds[0]], 500), type(default))


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, _, kind in DEFAULTS])
def test_what_any_preset_logs_is_finite_and_its_weights_move(name, kind):
    refused = {}
    for preset in MODELS[name].presets:
        try:
            learner, source = made(name, preset, kind)
        except ValueError as refusal:
            refused[preset] = str(refusal)
            continue
        engine, before = StubEngine(), [weight.detach().clone() for weight in learner.parameters()]
        few = source.world.whole(CLIPS[: max(4, learner.minimum_batch_size)])
        terms = learner.update(few, engine) | learner.end_pass(engine)
        assert terms
        for term, value in terms.items():
            group, _, rest = term.partition("/")
            assert group and rest, term
            assert value.ndim == 0 and not value.requires_grad and value.isfinite(), (preset, term, value)
        assert any(not torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True)), preset
    # A preset may be for one form of signal alone, and says so.
    assert "default" not in refused and all("choose" in why for why in refused.values()), refused


@pytest.mark.parametrize(("name", "preset", "kind"), DEFAULTS)
def test_a_saved_learner_goes_on_as_if_it_had_not_been(name, preset, kind):
    learner, source = made(name, preset, kind)
    engine, batch = StubEngine(), next(source)
    learner.update(batch, engine)
    other, _ = made(name, preset, kind, seed=1)
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    assert learner.parts().keys() == other.parts().keys()
    for part, stateful in learner.parts().items():
        other.parts()[part].load_state_dict(copy.deepcopy(stateful.state_dict()))
    if isinstance(learner, Encoder | FrameEncoder):
        assert isinstance(other, Encoder | FrameEncoder)
        assert torch.equal(learner.encode(batch.signal), other.encode(batch.signal))
    again = StubEngine()
    again.generator.set_state(engine.generator.get_state())
    assert same(learner.update(batch, engine), other.update(batch, again))
    assert same(learner.state_dict(), other.state_dict())


@pytest.mark.parametrize(("name", "preset", "kind"), DEFAULTS)
def test_randomness_comes_from_the_engine_alone(name, preset, kind):
    terms = []
    for _ in range(2):
        learner, source = made(name, preset, kind)
        state = torch.random.get_rng_state()
        terms.append(learner.update(next(source), StubEngine(7)))
        assert torch.equal(torch.random.get_rng_state(), state)
    assert same(*terms)


@pytest.mark.parametrize(("name", "preset", "kind"), DEFAULTS)
def test_features_computed_beforehand_are_taken_as_they_are(name, preset, kind):
    (learner, source), (other, _) = made(name, preset, kind), made(name, preset, kind)
    if not isinstance(learner, FeatureLearner):
        pytest.skip("has no front end by itself")
    batch = next(source)
    early = replace(batch, signal=torch.empty(len(CLIPS), 0), features=learner.features(batch))
    assert same(learner.update(batch, StubEngine()), other.update(early, StubEngine()))


@pytest.mark.parametrize(("name", "preset", "kind"), DEFAULTS)
def test_the_least_batch_is_enough(name, preset, kind):
    learner, source = made(name, preset, kind)
    few = source.world.whole(CLIPS[: learner.minimum_batch_size])
    assert all(value.isfinite() for value in learner.update(few, StubEngine()).values())


@pytest.mark.parametrize(("name", "preset", "kind"), DEFAULTS)
def test_codes_are_independent_of_batch_mates_and_of_padding(name, preset, kind):
    learner, source = made(name, preset, kind)
    learner.update(next(source), StubEngine())
    learner.eval()
    if isinstance(learner, Encoder):
        signal = next(source).signal
        together = learner.encode(signal)
        assert together.shape[:2] == (len(CLIPS), 1) and not together.requires_grad
        alone = torch.cat([learner.encode(one) for one in signal.split(1)])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    elif isinstance(learner, FrameEncoder):
        wave, lengths = shorter(source)
        together, counts = learner.encode(wave, lengths), learner.code_lengths(lengths).tolist()
        assert together.shape[1] >= max(counts) and not together.requires_grad and learner.code_rate > 0
        for clip, (length, count) in enumerate(zip(lengths.tolist(), counts, strict=True)):
            alone = learner.encode(wave[clip : clip + 1, :length])[0]
            assert len(alone) == count
            torch.testing.assert_close(together[clip, :count], alone, rtol=1e-4, atol=1e-4)
            assert not together[clip, count:].any()
            wave[clip, length:] = math.nan
        assert torch.equal(learner.encode(wave, lengths), together)


@pytest.mark.parametrize(("name", "preset", "kind"), DEFAULTS)
def test_what_is_decoded_and_sampled_has_the_shape_of_features_and_codes(name, preset, kind):
    learner, source = made(name, preset, kind)
    batch = next(source)
    learner.update(batch, StubEngine())
    if isinstance(learner, Decoder) and isinstance(learner, Encoder):
        codes = learner.encode(batch.signal)
        decoded = learner.decode(codes)
        assert isinstance(learner, FeatureLearner) and decoded.shape == learner.features(batch).shape
        if isinstance(learner.front, PictureFrontEnd) and learner.front.invertible:
            wave = learner.front.invert(decoded[:2], batch.signal.shape[1], 2)
            assert wave.shape == batch.signal[:2].shape and wave.isfinite().all()
    if isinstance(learner, Sampler):
        drawn = learner.sample(5, torch.Generator().manual_seed(0))
        assert len(drawn) == 5 and drawn.ndim == 3
        assert torch.equal(drawn, learner.sample(5, torch.Generator().manual_seed(0)))
        assert not torch.equal(drawn, learner.sample(5, torch.Generator().manual_seed(1)))
        if isinstance(learner, Encoder):
            assert drawn.shape[1:] == learner.encode(batch.signal).shape[1:]
        if isinstance(learner, Decoder):
            assert learner.decode(drawn).isfinite().all()


@pytest.mark.parametrize(("name", "preset", "kind"), DEFAULTS)
def test_weights_of_a_density_are_one_for_each_draw_and_clip(name, preset, kind):
    learner, source = made(name, preset, kind)
    if not isinstance(learner, Density):
        pytest.skip("gives no likelihood")
    weights = learner.log_weights(next(source), 3, torch.Generator().manual_seed(0))
    assert weights.shape == (3, len(CLIPS)) and weights.isfinite().all()
    assert (weights[0] != weights[1]).all()


@pytest.mark.parametrize(("name", "preset", "kind"), DEFAULTS)
def test_a_description_is_of_the_clips_and_its_traversals_start_from_one_of_them(name, preset, kind):
    learner, source = made(name, preset, kind)
    if not isinstance(learner, Describer):
        pytest.skip("does not describe its codes")
    learner.update(next(source), StubEngine())
    batches = list(source.preview(None))
    found, central, traversals = learner.describe(batches)
    codes = found.values.shape[1]
    assert len(found.values) == len(CLIPS) and 0 <= central < len(CLIPS)
    assert len(found.names) == len(found.notes) == len(found.worth) == len(found.alive) == codes
    assert sorted(found.order) == list(range(codes))
    assert [one.name for one in traversals] == [found.names[code] for code in found.order]
    for one in traversals:
        assert len(one.steps) == len(one.codes) > one.own >= 0
        if isinstance(learner, Encoder):
            own = learner.encode(source.world.whole(CLIPS[central : central + 1]).signal)[0]
            torch.testing.assert_close(one.codes[one.own], own, rtol=1e-4, atol=1e-4)
