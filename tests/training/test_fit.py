"""The training loop: order of the clips, resuming, stopping, and refused settings."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sonarium.catalogue import MODELS
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import Callbacks, Interrupted, LoopConfig, Meter, fit
from sonarium.training.journal import read_metrics
from sonarium.training.run import RunFolder
from sonarium.worlds.contract import Batch, Factor, Signal, World

STEPS = 14
LOOP = LoopConfig(seed=3, log_every=4, save_every=5)
MODELS_OF_PICTURES = [name for name, entry in MODELS.loadable().items() if "picture" in entry.kinds]


def train(blots, folder: Path, model="vae", steps=STEPS, loop=LOOP, damaged=False, change=None, **callbacks):
    """Train a small model as the command line does, with weights drawn from the seed."""
    world = blots(damaged=damaged)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(loop.seed)
        learner = MODELS[model].build(small(model), world.signal)
    if change is not None:
        change(learner)
    engine = FabricEngine("cpu", loop.precision, loop.seed)
    source = Clips(world, torch.arange(2, 30), ClipsConfig(batch_size=8), loop.seed)
    engine.dataset_size = len(source.index)
    run = RunFolder.create(folder, {"model": model}, lambda config: config)
    fit(learner, source, run, engine, loop, steps, Callbacks(**callbacks))
    return learner


def small(model: str):
    """The model's configuration for pictures, with a small discriminator."""
    config = MODELS[model].presets["default"]("picture")
    return replace(config, penalty=replace(config.penalty, units=16)) if model == "factor-vae" else config


def stop_at(stage: str, done: int, how: BaseException | None = None):
    """A progress callback that interrupts training at a given moment: as Ctrl-C does, or by raising `how`."""

    def progress(at: str, so_far: int, total: int, metrics: dict[str, float]) -> None:
        if (at, so_far) == (stage, done):
            if how is not None:
                raise how
            os.kill(os.getpid(), signal.SIGINT)

    return progress


def test_what_a_learner_remarks_on_its_metrics_is_told_once(blots, tmp_path):
    said, seen = [], []

    def change(learner):
        def remarks(metrics):
            seen.append(metrics["loss/total"])
            return ["it is odd", f"it is {len(seen)}"]

        learner.remarks = remarks

    train(blots, tmp_path / "run", change=change, remark=said.append)
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert seen == [record["loss/total"] for record in records] and len(seen) == 4
    assert said == ["it is odd", "it is 1", "it is 2", "it is 3", "it is 4"]


@pytest.mark.parametrize("model", MODELS_OF_PICTURES)
def test_stopped_three_times_it_ends_bit_for_bit_as_unbroken(blots, tmp_path, model):
    whole = train(blots, tmp_path / "whole", model)
    with pytest.raises(RuntimeError, match="the power failed"):
        train(blots, tmp_path / "run", model, progress=stop_at("training", 7, RuntimeError("the power failed")))
    with pytest.raises(Interrupted, match="after step 9;"):
        train(blots, tmp_path / "run", model, progress=stop_at("training", 8))
    with pytest.raises(RuntimeError, match="the power failed"):
        train(blots, tmp_path / "run", model, progress=stop_at("training", 11, RuntimeError("the power failed")))
    resumed = train(blots, tmp_path / "run", model)
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    metrics = [(tmp_path / run / "metrics.jsonl").read_bytes() for run in ("whole", "run")]
    assert metrics[0] == metrics[1]
    assert [record["step"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [4, 8, 12, 14]
    # The clock is also recorded at every checkpoint; records of lost steps are dropped.
    read = read_metrics(tmp_path / "run" / "clock.jsonl")
    assert [record["step"] for record in read] == [4, 5, 8, 9, 10, 12, 14]
    assert [record["items"] for record in read] == [8 * record["step"] for record in read]
    assert [record["wall_s"] for record in read] == sorted(record["wall_s"] for record in read)


def test_a_stop_before_the_first_step_loses_nothing(blots, tmp_path):
    with pytest.raises(Interrupted, match="after step 0; the same command resumes"):
        train(blots, tmp_path / "run", progress=stop_at("computing features", 28))
    assert not (tmp_path / "run" / "checkpoints").exists()
    train(blots, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / f"step-{STEPS}" / "whole.json").exists()


def test_a_stop_while_showing_finds_all_saved(blots, tmp_path):
    def show(learner, journal, step):
        assert not learner.training
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=f"after step {STEPS};"):
        train(blots, tmp_path / "run", show=show)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    shown = []
    train(blots, tmp_path / "run", show=lambda *given: shown.append(given[2]))
    assert shown == [STEPS]


def test_a_second_ctrl_c_takes_effect_at_once(blots, tmp_path):
    def impatient(stage, done, total, metrics):
        if (stage, done) == ("training", 6):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt, match="resumes from the last checkpoint"):
        train(blots, tmp_path / "run", progress=impatient)
    assert [path.name for path in RunFolder.read(tmp_path / "run").checkpoints()] == ["step-5"]


def test_a_thread_trains_as_the_main_one(blots, tmp_path):
    """Where a notebook or a server trains beside other work, signals are not ours to handle."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(train, blots, tmp_path / "thread").result()
    train(blots, tmp_path / "main")
    assert read_metrics(tmp_path / "thread" / "metrics.jsonl") == read_metrics(tmp_path / "main" / "metrics.jsonl")


@pytest.mark.parametrize(("most", "used"), [(None, 2), (1, 1), (8, 2)])
def test_threads_are_limited_while_it_trains(most, used, blots, tmp_path):
    seen: list[int] = []

    def change(learner):
        update, learner.threads = learner.update, most
        learner.update = lambda *words: seen.append(torch.get_num_threads()) or update(*words)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train(blots, tmp_path / "run", steps=2, change=change)
        assert torch.get_num_threads() == 2 and seen == [used, used]
    finally:
        torch.set_num_threads(before)


def test_more_steps_go_on_and_fewer_are_refused(blots, tmp_path):
    train(blots, tmp_path / "run", steps=10)
    extended = train(blots, tmp_path / "run", steps=STEPS)
    whole = train(blots, tmp_path / "whole")
    assert all(map(torch.equal, extended.state_dict().values(), whole.state_dict().values()))
    with pytest.raises(ValueError, match=r"stands at step 14 already, beyond --steps 10: give --steps 14 or more"):
        train(blots, tmp_path / "run", steps=10)


def test_damage_is_remarked_and_trained_over(blots, tmp_path):
    whole = train(blots, tmp_path / "run")
    for step in (10, 14):
        (tmp_path / "run" / "checkpoints" / f"step-{step}" / "state.json").write_text("{}")
    remarks: list[str] = []
    again = train(blots, tmp_path / "run", remark=remarks.append)
    assert len(remarks) == 2 and all("is not whole" in said and "going on from step 0" in said for said in remarks)
    assert all(map(torch.equal, whole.state_dict().values(), again.state_dict().values()))


def test_samples_that_are_not_finite_are_refused_with_their_clip(blots, tmp_path):
    with pytest.raises(ValueError, match="clip 7 of world 'blots' has NaN or infinite samples"):
        train(blots, tmp_path / "run", damaged=True)


def test_a_diverged_training_is_never_saved(blots, tmp_path):
    def spoil(learner):
        learner.optimiser.param_groups[0]["lr"] = 1e30

    with pytest.raises(ValueError, match=r"diverged; start a new --run with a smaller --learning-rate"):
        train(blots, tmp_path / "run", change=spoil, loop=LoopConfig(log_every=100, save_every=3))
    assert RunFolder.read(tmp_path / "run").load() is None


def test_a_checkpoint_of_another_model_is_refused(blots, tmp_path):
    train(blots, tmp_path / "run", "vae")
    (tmp_path / "run" / "config.json").write_text('{"model": "factor-vae"}')
    with pytest.raises(ValueError, match=r"the weights in '.*step-14' do not fit the model"):
        train(blots, tmp_path / "run", "factor-vae")


def clips(blots, seed: int, batch_size: int = 8) -> Clips:
    return Clips(blots(), torch.arange(2, 30), ClipsConfig(batch_size=batch_size), seed)


@pytest.mark.parametrize("batch_size", [1, 7, 8, 14, 28])
def test_each_epoch_shows_each_clip_once_in_an_order_of_its_own(blots, batch_size):
    dealt = clips(blots, 5, batch_size)
    per_epoch = 28 // batch_size
    epochs = []
    for epoch in range(3):
        shown = torch.cat([dealt.at(epoch * per_epoch + place).index for place in range(per_epoch)])
        assert len(shown) == per_epoch * batch_size == len(set(shown.tolist())) and set(shown.tolist()) <= set(
            range(2, 30)
        )
        epochs.append(shown.tolist())
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_depends_on_seed_and_step_alone(blots):
    one, other = clips(blots, 5), clips(blots, 5)
    ahead = {step: other.at(step).index for step in (11, 2, 7, 0)}
    for step in range(12):
        now = one.at(step)
        assert step not in ahead or torch.equal(now.index, ahead[step])
        assert torch.equal(now.signal, blots().whole(now.index).signal)
    assert not torch.equal(clips(blots, 6).at(0).index, one.at(0).index)


def test_kept_features_are_those_of_the_clips(blots):
    dealt = clips(blots, 5)
    learner: Any = MODELS["vae"].build(MODELS["vae"].presets["default"]("picture"), blots.signal)
    dealt.keep_features(learner, lambda *_: None)
    batch = dealt.at(4)
    assert batch.features is not None
    assert torch.equal(batch.features, learner.front(blots().whole(batch.index).signal))
    assert torch.equal(batch.factors, blots().whole(batch.index).factors)


def test_of_a_world_that_crops_no_whole_clip_is_read(blots):
    class Cropped(blots):
        def lengths(self, index):
            return torch.full((len(index),), 40)

        def piece(self, index, seed, step, device="cpu", rows=slice(None)):
            drawn.append((seed, step))
            return super().whole(index[rows], device)

        def whole(self, index, device="cpu"):
            raise AssertionError("read a whole clip")

    drawn: list[tuple[int, int]] = []
    dealt = Clips(Cropped(), torch.arange(30), ClipsConfig(batch_size=8), 5)
    # A clip of five pieces is drawn five times per epoch.
    index = torch.arange(30).repeat_interleave(5)
    assert torch.equal(torch.cat([batch.index for batch in dealt.blocks(lambda *_: None, "")]), index)
    assert drawn == [(5, 0), (5, 64), (5, 128)]


@pytest.mark.parametrize(
    ("config", "field"),
    [(LoopConfig, "seed"), (LoopConfig, "log_every"), (LoopConfig, "save_every"), (ClipsConfig, "batch_size"),
     (ClipsConfig, "cache_megabytes")],
)  # fmt: skip
def test_numbers_below_the_least_are_refused(config, field):
    with pytest.raises(ValueError, match=f"{field}=-1: give a whole number of at least"):
        config(**{field: -1})


def test_the_meter_means_and_refuses_what_is_not_finite():
    engine = FabricEngine("cpu", "32", 0)
    meter = Meter(engine)
    for value in (1.0, 2.0, 6.0):
        meter.add({"loss/total": torch.tensor(value)})
    # A metric that only some steps have is averaged over those.
    meter.add({"pass/now_and_then": torch.tensor(5.0)})
    assert meter.take(3) == {"loss/total": 3.0, "pass/now_and_then": 5.0} and not meter.counts
    for value in (torch.nan, torch.inf):
        meter = Meter(engine)
        meter.add({"loss/total": torch.tensor(1.0)})
        meter.add({"loss/total": torch.tensor(value)})
        with pytest.raises(ValueError, match=r"loss/total became (nan|inf) by step 2: the training has diverged"):
            meter.take(2)


class Unequal(World):
    """Waves that are mostly shorter than a training piece."""

    name = "unequal"
    signal = Signal("wave", (2400,), 16000)
    factors = (Factor("pitch", (0.0, 1.0)),)
    tracks = (Factor("gesture", (0.0, 1.0)),)
    track_rate = 100.0

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.own = torch.randint(900, 2401, (100,), generator=generator)
        # The last block of clips fills a piece, and has no lengths.
        self.own[64:] = 2400
        self.waves = torch.rand(100, 2400, generator=generator) - 0.5
        self.waves = self.waves.where(torch.arange(2400) < self.own[:, None], 0.0)
        self.known = torch.rand(100, 1, generator=generator)

    def __len__(self) -> int:
        return 100

    def lengths(self, index: torch.Tensor) -> torch.Tensor:
        return self.own[index]

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        lengths = self.own[index]
        own = None if bool((lengths == 2400).all()) else lengths
        tracks = torch.arange(15.0).expand(len(index), 15)[..., None]
        wave = self.waves[index, : int(lengths.max())]
        return Batch(index, wave, self.known[index], lengths=own, tracks=tracks[:, : int(lengths.max()) // 160])


def test_kept_features_keep_lengths_factors_and_tracks():
    world = Unequal()
    dealt = Clips(world, torch.arange(100), ClipsConfig(batch_size=8), 5)
    direct = Clips(world, torch.arange(100), ClipsConfig(batch_size=8), 5)
    learner: Any = MODELS["vae"].build(MODELS["vae"].presets["default"]("wave"), world.signal)
    learner.front.fit([world.piece(torch.arange(100), 0, 0).signal])
    dealt.keep_features(learner, lambda *_: None)
    assert dealt.cache is not None
    for step in range(12):
        kept, fresh = dealt.at(step), direct.at(step)
        assert torch.equal(kept.index, fresh.index) and torch.equal(kept.factors, fresh.factors)
        assert kept.lengths is not None and torch.equal(kept.lengths, world.own[kept.index])
        assert kept.tracks is not None and fresh.tracks is not None and torch.equal(kept.tracks, fresh.tracks)
        torch.testing.assert_close(kept.features, learner.features(fresh))


@pytest.mark.parametrize("model", ["vae", "vq-vae"])
def test_a_learner_does_not_learn_padding_from_kept_features(model):
    def stepped(change):
        torch.manual_seed(0)
        learner: Any = MODELS[model].build(MODELS[model].presets["default"]("wave"), Unequal.signal)
        learner.front.fit([Unequal().piece(torch.arange(100), 0, 0).signal])
        dealt = Clips(Unequal(), torch.arange(100), ClipsConfig(batch_size=8), 5)
        engine = FabricEngine("cpu", "32", 0)
        terms = learner.update(change(dealt, learner), engine)
        return terms["loss/error"]

    def kept(dealt, learner):
        dealt.keep_features(learner, lambda *_: None)
        batch = dealt.at(0)
        assert batch.features is not None
        return batch

    direct = stepped(lambda dealt, learner: dealt.at(0))
    torch.testing.assert_close(stepped(kept), direct)
    padded = stepped(lambda dealt, learner: replace(kept(dealt, learner), lengths=None))
    assert abs(padded - direct) > 0.01 * direct, "this batch has no padding to learn from"
