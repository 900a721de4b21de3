"""Contract of every learner, by its abilities, including predictive coding and learners of other packages."""

import math
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts.small import SEED, learner_config, learner_of

from sonarium.catalogue import MODELS
from sonarium.features.contract import PictureFrontEnd
from sonarium.features.tokens import Tokens
from sonarium.features.waveform import sounding
from sonarium.models.contract import (
    Decoder,
    Density,
    Describer,
    Encoder,
    FeatureLearner,
    Forecaster,
    FrameEncoder,
    Learner,
    Sampler,
)
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import Callbacks, LoopConfig, fit
from sonarium.training.run import RunFolder
from sonarium.training.validation import HeldOut, Rehearsal
from sonarium.worlds.contract import Batch, World

CASES = [(name, kind) for name, entry in MODELS.loadable().items() if entry.trains for kind in entry.kinds]
pytestmark = pytest.mark.parametrize(("name", "kind"), CASES)
LOGGED = re.compile(r"[a-z_]+/[\w.-]+")


def test_every_preset_learns_or_refuses_the_form_of_signal(name, kind, data, tmp_path):
    """A preset may refuse kinds of signal, with a remedy; the default accepts all kinds that the entry names."""
    world, refused = data(kind), {}
    for preset in MODELS[name].presets:
        try:
            config = MODELS[name].complete(learner_config(name, kind, preset), world, 500)
            learner = MODELS[name].build(config, world.signal)
        except ValueError as refusal:
            refused[preset] = str(refusal)
            continue
        source, engine = source_of(name, learner, world, 4), engine_for(tmp_path)
        source.attach(learner, engine)
        learner.prepare(source, engine)
        before = {key: value.clone() for key, value in learner.state_dict().items()}
        check_logs(learner.update(next(source), engine) | learner.end_pass(engine))
        assert any(not torch.equal(before[key], value) for key, value in learner.state_dict().items()), preset
    assert "default" not in refused and all("choose" in why for why in refused.values()), refused


def test_what_only_the_world_tells_completes_the_configuration(name, kind, data):
    entry = MODELS[name]
    default = entry.presets["default"](kind)
    assert isinstance(entry.complete(default, data(kind), 500), type(default))


def test_randomness_comes_from_the_engine_alone(name, kind, data, tmp_path):
    told = []
    for _ in range(2):
        learner, source, engine = prepared(name, data(kind), tmp_path)
        state = torch.random.get_rng_state()
        told.append(learner.update(next(source), engine) | learner.end_pass(engine))
        assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, told[1][term]) for term, value in told[0].items())


def source_of(name: str, learner: Learner, world: World, size: int = 8) -> Clips:
    """Batches of the first clips of a world, as in `sonarium train`."""
    entry = MODELS[name]
    config = ClipsConfig(
        batch_size=max(size, learner.minimum_batch_size), cut=entry.cut, drop_last=entry.drop_last
    )
    return Clips(world, torch.arange(min(len(world), 22)), config, SEED)


def engine_for(folder: Path) -> FabricEngine:
    engine = FabricEngine("cpu", "32", SEED)
    engine.dataset_size = 22
    engine.storage = RunFolder(folder, {}).segments
    return engine


def prepared(name: str, world: World, folder: Path, size: int = 8) -> tuple[Any, Clips, FabricEngine]:
    """A learner before its first step, its source of clips, and its engine."""
    learner = learner_of(name, world.signal.kind, world.signal)
    source, engine = source_of(name, learner, world, size), engine_for(folder)
    assert all(isinstance(said, str) for said in learner.check(source))
    source.attach(learner, engine)
    learner.prepare(source, engine)
    return learner.train(), source, engine


def trained(name: str, world: World, folder: Path, steps: int = 2) -> Any:
    learner, source, engine = prepared(name, world, folder)
    for _ in range(steps):
        learner.update(next(source), engine)
    return learner.eval()


def some(learner: Any, world: World, clips: int = 6) -> Batch:
    """Clips that the learner can encode: of any length for a frame encoder, else of the length of the signal."""
    index = torch.arange(clips)
    return world.whole(index) if isinstance(learner, FrameEncoder) else world.excerpt(index)


def check_logs(terms: dict[str, torch.Tensor]) -> None:
    for term, value in terms.items():
        assert LOGGED.fullmatch(term), f"{term}: give group/name"
        assert value.ndim == 0 and value.isfinite() and not value.requires_grad, term


def test_an_update_changes_the_learner_and_says_how_it_went(name, kind, data, tmp_path):
    learner, source, engine = prepared(name, data(kind), tmp_path)
    before = {key: value.clone() for key, value in learner.state_dict().items()}
    terms = learner.update(next(source), engine)
    assert terms
    check_logs(terms)
    assert any(not torch.equal(before[key], value) for key, value in learner.state_dict().items())
    assert learner.update(next(source), engine).keys() == terms.keys()
    ends = learner.end_pass(engine)
    check_logs(ends)
    assert not ends.keys() & terms.keys()


def test_validation_says_what_an_update_would_and_changes_nothing(name, kind, data, tmp_path):
    learner, source, engine = prepared(name, data(kind), tmp_path)
    terms = learner.update(next(source), engine)
    before = {key: value.clone() for key, value in learner.state_dict().items()}
    size = max(3, learner.minimum_batch_size)
    clips = Clips(
        data(kind), source.index[: 2 * size], replace(source.config, batch_size=size, drop_last=True), SEED
    )
    measure, drawn = HeldOut(clips, engine), engine.generator.get_state()
    found = measure(learner)
    assert found.metrics.keys() == terms.keys() and math.isfinite(found.score)
    assert measure(learner) == found and torch.equal(engine.generator.get_state(), drawn) and learner.training
    # Each batch is scored by the learner as it is saved, even if an update has side effects.
    rehearsal, alone = Rehearsal(engine), []
    for step in range(measure.batches):
        alone.append(deepcopy(learner).eval().update(clips.at(step), rehearsal))
    assert measure.batches == len(alone) > 0
    for term, value in found.metrics.items():
        assert value == pytest.approx(
            float(torch.stack([terms[term].double() for terms in alone]).mean()), rel=1e-6
        )
    assert all(torch.equal(before[key], value) for key, value in learner.state_dict().items())


def test_the_smallest_batch_is_enough(name, kind, data, tmp_path):
    learner, source, engine = prepared(name, data(kind), tmp_path, size=1)
    assert source.batch_size == learner.minimum_batch_size
    check_logs(learner.update(next(source), engine))
    source.check_batch_size(learner.minimum_batch_size)
    if learner.minimum_batch_size > 1:
        source.batch_size = 1
        with pytest.raises(ValueError, match="batch size 1: this model needs at least"):
            source.check_batch_size(learner.minimum_batch_size)


def fitted(name: str, world: World, folder: Path, steps: int, seed: int = SEED) -> Learner:
    """Train as `sonarium train` does, resuming from the folder; a pass takes few steps."""
    learner = learner_of(name, world.signal.kind, world.signal, seed=seed)
    run = RunFolder.create(folder, {"model": name}, dict)
    loop = LoopConfig(seed=SEED, log_every=2, save_every=100)
    fit(learner, source_of(name, learner, world), run, engine_for(folder), loop, steps, Callbacks())
    return learner


def test_resumed_it_goes_on_bit_for_bit(name, kind, data, tmp_path):
    """A checkpoint has all that a step requires: weights, parts, random numbers, and the means to be logged."""
    fitted(name, data(kind), tmp_path / "whole", 5)
    for steps in (1, 3, 5):
        # The resumed learner is initialised with other weights, which must have no effect.
        fitted(name, data(kind), tmp_path / "broken", steps, SEED if steps == 1 else SEED + steps)
    for file in ("weights.safetensors", "state.safetensors", "state.json"):
        path = Path("checkpoints") / "step-5" / file
        assert (tmp_path / "broken" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes(), file


def codes_of(learner: Any, batch: Batch) -> torch.Tensor:
    if isinstance(learner, FrameEncoder):
        return learner.encode(batch.signal, batch.lengths)
    return learner.encode(batch.signal)


def test_a_learner_that_was_saved_encodes_alike(name, kind, data, tmp_path):
    world = data(kind)
    learner = trained(name, world, tmp_path)
    other = learner_of(name, kind, world.signal, seed=SEED + 1).eval()
    other.load_state_dict(learner.state_dict())
    if isinstance(learner, Encoder | FrameEncoder):
        batch = some(learner, world)
        codes = codes_of(learner, batch)
        assert codes.isfinite().all() and not codes.requires_grad
        assert torch.equal(codes_of(other, batch), codes)


def test_codes_are_independent_of_batch_mates_and_padding(name, kind, data, tmp_path):
    world = data(kind)
    learner = trained(name, world, tmp_path)
    if not isinstance(learner, Encoder | FrameEncoder):
        pytest.skip(f"{name} has no codes")
    batch = some(learner, world)
    codes = codes_of(learner, batch)
    if not isinstance(learner, FrameEncoder):
        assert codes.shape[:2] == (len(batch.index), 1)
        for row in range(len(codes)):
            torch.testing.assert_close(learner.encode(batch.signal[row : row + 1])[0], codes[row])
        torch.testing.assert_close(learner.encode(batch.signal.flip(0)).flip(0), codes)
        return
    lengths = world.lengths(batch.index)
    counts = learner.code_lengths(lengths)
    assert codes.shape[:2] == (len(batch.index), int(counts.max())) and counts.dtype == torch.int64
    assert learner.code_rate > 0 and learner.code_first >= 0
    inside = sounding(batch.signal.shape[1], lengths)
    inside = inside.view(*inside.shape, *[1] * (batch.signal.ndim - 2))
    assert torch.equal(learner.encode(batch.signal.where(inside, torch.nan), lengths), codes)
    for row, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
        assert not codes[row, count:].any()
        alone = learner.encode(batch.signal[row : row + 1, :length])[0]
        torch.testing.assert_close(codes[row, :count], alone, rtol=1e-4, atol=1e-5)


def test_a_decoder_makes_features_a_sampler_codes_and_a_forecaster_goes_on(name, kind, data, tmp_path):
    world = data(kind)
    learner = trained(name, world, tmp_path)
    batch = some(learner, world)
    if isinstance(learner, Decoder) and isinstance(learner, Encoder):
        made = learner.decode(learner.encode(batch.signal))
        assert made.isfinite().all()
        if isinstance(learner, FeatureLearner):
            assert made.shape == learner.features(batch).shape
            if isinstance(learner.front, PictureFrontEnd) and learner.front.invertible:
                wave = learner.front.invert(made[:2], batch.signal.shape[1], 2)
                assert wave.shape == batch.signal[:2].shape and wave.isfinite().all()
    if isinstance(learner, Sampler):
        drawn, again = (learner.sample(5, torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(drawn, again) and len(drawn) == 5
        assert not torch.equal(learner.sample(5, torch.Generator().manual_seed(2)), drawn)
        if isinstance(learner, Encoder):
            assert drawn.shape[1:] == learner.encode(batch.signal).shape[1:]
        if isinstance(learner, Decoder):
            assert learner.decode(drawn).isfinite().all()
    if isinstance(learner, Forecaster):
        check_forecasts(learner, batch)


def check_forecasts(learner: Forecaster, batch: Batch) -> None:
    states = learner.states(batch.signal)
    frames = int(learner.code_lengths(torch.tensor([batch.signal.shape[1]])))
    assert states.shape[:2] == (len(batch.index), frames)
    drawn, again = (learner.go_on(states, 3, 2, torch.Generator().manual_seed(1)) for _ in range(2))
    assert drawn.codes.shape == (2, len(batch.index), 3, states.shape[2]) and torch.equal(drawn.codes, again.codes)
    assert drawn.log_probability.shape == (2, len(batch.index), 3) and drawn.log_probability.isfinite().all()
    heard = learner.forecast(batch.signal, 3, 2, torch.Generator().manual_seed(1))
    assert torch.equal(heard.codes, drawn.codes) and not torch.equal(drawn.codes[0], drawn.codes[1])
    cold = learner.go_on(states, 3, 8, torch.Generator().manual_seed(1), temperature=1e-8).codes
    torch.testing.assert_close(cold[1:], cold[:1].expand_as(cold[1:]), atol=1e-2, rtol=0)
    chosen = learner.classes(drawn.codes.flatten(0, 1))
    assert chosen.shape[:2] == (2 * len(batch.index), 3) and bool((chosen < max(1, learner.entries)).all())
    if isinstance(learner, Decoder) and learner.decodes:
        assert learner.decode(drawn.codes[0]).isfinite().all()
    if isinstance(learner, FeatureLearner) and isinstance(learner.front, Tokens):
        others = learner.front.tokens(learner.features(batch)).flatten(0, 1)[:5]
        found = learner.surprise(batch.signal, others)
        assert found and all(one.shape == states.shape[:2] and one.isfinite().all() for one in found.values())


def test_a_density_bounds_and_a_describer_names_each_code(name, kind, data, tmp_path):
    world = data(kind)
    learner = trained(name, world, tmp_path)
    batch = some(learner, world)
    if isinstance(learner, Density):
        weights, again = (learner.log_weights(batch, 3, torch.Generator().manual_seed(1)) for _ in range(2))
        assert weights.shape == (3, len(batch.index)) and weights.isfinite().all() and torch.equal(weights, again)
        assert (weights[0] != weights[1]).all()
        # The importance-weighted bound is the tighter one (Burda et al. 2016).
        assert (weights.logsumexp(0) - torch.tensor(3.0).log() >= weights.mean(0) - 1e-3).all()
    if isinstance(learner, Describer):
        found, central, traversals = learner.describe([batch])
        widths = {len(found.names), len(found.worth), len(found.notes), len(found.alive), found.values.shape[1]}
        assert len(widths) == 1 and len(found.values) == len(batch.index) and 0 <= central < len(batch.index)
        assert sorted(found.order) == list(range(len(found.names)))
        assert [one.name for one in traversals] == [found.names[code] for code in found.order]
        for one in traversals:
            assert len(one.codes) == len(one.steps) > one.own >= 0
            if isinstance(learner, Encoder):
                own = learner.encode(batch.signal[central : central + 1])[0]
                torch.testing.assert_close(one.codes[one.own], own, rtol=1e-4, atol=1e-4)
            if isinstance(learner, Decoder):
                assert learner.decode(one.codes).isfinite().all()


def test_features_that_were_computed_beforehand_are_taken_as_they_are(name, kind, data, tmp_path):
    world = data(kind)
    learner, source, engine = prepared(name, world, tmp_path / "one")
    if not isinstance(learner, FeatureLearner):
        pytest.skip(f"{name} learns from more than the features of a front end")
    assert isinstance(learner, Learner)
    other, _, second = prepared(name, world, tmp_path / "other")
    batch = next(source)
    early = replace(batch, features=learner.features(batch), signal=torch.empty(len(batch.index), 0))
    one, two = learner.update(batch, engine), other.update(early, second)
    assert all(torch.equal(one[term], two[term]) for term in one)
    if isinstance(learner.front, PictureFrontEnd):
        assert early.features is not None and early.features.shape[1:] == learner.front.shape(
            world.signal.shape[0]
        )
