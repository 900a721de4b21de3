"""The loop: the order of the clips, resuming, stopping, and what it refuses."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sonarium.models.table import MODELS

from sonarium.training.engine import FabricEngine
from sonarium.training.fit import Audience, Clips, FitConfig, Interrupted, Meter, fit
from sonarium.training.journal import read_metrics
from sonarium.training.run import Run

STEPS = 14
CONFIG = FitConfig(batch=8, seed=3, log_every=4, save_every=5)


def train(blots, folder: Path, model="vae", steps=STEPS, config=CONFIG, damaged=False, change=None, **heard):
    """Train a small model as the command line does, its weights drawn from the seed."""
    world = blots(damaged=damaged)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        learner = MODELS[model].build(small(model), world.signal)
    if change is not None:
        change(learner)
    engine = FabricEngine("cpu", config.precision, config.seed)
    run = Run.create(folder, {"model": model})
    fit(learner, world, torch.arange(2, 30), run, engine, config, steps, Audience(**heard))
    return learner


def small(model: str):
    """The model's configuration for pictures; a discriminator of few units."""
    config = MODELS[model].presets["default"]("picture")
    return replace(config, penalty=replace(config.penalty, units=16)) if model == "factor-vae" else config


def stop_at(stage: str, done: int, how: BaseException | None = None):
    """A progress that asks to stop at some moment, as Ctrl-C does."""

    def progress(at: str, so_far: int, total: int, metrics: dict[str, float]) -> None:
        if (at, so_far) == (stage, done):
            if how is not None:
                raise how
            os.kill(os.getpid(), signal.SIGINT)

    return progress


@pytest.mark.parametrize("model", [name for name, entry in MODELS.items() if "picture" in entry.kinds])
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


def test_a_stop_before_the_first_update_loses_nothing(blots, tmp_path):
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
    assert [path.name for path in Run.read(tmp_path / "run").checkpoints()] == ["step-5"]


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
    heard: list[str] = []
    again = train(blots, tmp_path / "run", remark=heard.append)
    assert len(heard) == 2 and all("is not whole" in said and "going on from step 0" in said for said in heard)
    assert all(map(torch.equal, whole.state_dict().values(), again.state_dict().values()))


def test_samples_that_are_not_finite_are_refused_with_their_clip(blots, tmp_path):
    with pytest.raises(ValueError, match="clip 7 of world 'blots' holds NaN or infinite samples"):
        train(blots, tmp_path / "run", damaged=True)


def test_a_diverged_training_is_never_saved(blots, tmp_path):
    def spoil(learner):
        learner.optimiser.param_groups[0]["lr"] = 1e30

    with pytest.raises(ValueError, match=r"diverged; start a new --run with a smaller --learning-rate"):
        train(blots, tmp_path / "run", change=spoil, config=FitConfig(batch=8, log_every=100, save_every=3))
    assert Run.read(tmp_path / "run").load() is None


def test_a_checkpoint_of_another_model_is_refused(blots, tmp_path):
    train(blots, tmp_path / "run", "vae")
    (tmp_path / "run" / "config.json").write_text('{"model": "factor-vae"}')
    with pytest.raises(ValueError, match=r"the weights in '.*step-14' do not fit the model"):
        train(blots, tmp_path / "run", "factor-vae")


def clips(blots, seed: int, batch: int = 8) -> Clips:
    config = FitConfig(batch=batch, seed=seed)
    return Clips(blots(), torch.arange(2, 30), config, FabricEngine("cpu", "32", 0))


@pytest.mark.parametrize("batch", [1, 7, 8, 14, 28])
def test_each_epoch_shows_each_clip_once_in_an_order_of_its_own(blots, batch):
    dealt = clips(blots, 5, batch)
    per_epoch = 28 // batch
    epochs = []
    for epoch in range(3):
        shown = torch.cat([dealt.at(epoch * per_epoch + place).index for place in range(per_epoch)])
        assert len(shown) == per_epoch * batch == len(set(shown.tolist())) and set(shown.tolist()) <= set(
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
    learner = MODELS["vae"].build(MODELS["vae"].presets["default"]("picture"), blots.signal)
    dealt.keep_features(learner, lambda *_: None)
    batch = dealt.at(4)
    assert batch.features is not None
    assert torch.equal(batch.features, learner.front(blots().whole(batch.index).signal))
    assert torch.equal(batch.factors, blots().whole(batch.index).factors)


def test_of_a_world_that_cuts_pieces_no_whole_clip_is_read(blots):
    class Pieces(blots):
        pieces = True

        def draw(self, index, seed, step, device="cpu"):
            drawn.append((seed, step))
            return super().whole(index, device)

        def whole(self, index, device="cpu"):
            raise AssertionError("read a whole clip")

    drawn: list[tuple[int, int]] = []
    index = torch.arange(30).repeat(5)
    dealt = Clips(Pieces(), index, FitConfig(batch=8, seed=5), FabricEngine("cpu", "32", 0))
    assert torch.equal(torch.cat([batch.index for batch in dealt.blocks(lambda *_: None, "")]), index)
    assert drawn == [(5, 0), (5, 64), (5, 128)]


@pytest.mark.parametrize("field", ["batch", "seed", "log_every", "save_every", "cache_megabytes"])
def test_numbers_below_the_least_are_refused(field):
    with pytest.raises(ValueError, match=rf"--{field.replace('_', '-')} -1: give a whole number of at least"):
        FitConfig(**{field: -1})  # pyright: ignore[reportArgumentType]


def test_the_meter_means_and_refuses_what_is_not_finite():
    meter = Meter()
    for value in (1.0, 2.0, 6.0):
        meter.add({"loss/total": torch.tensor(value)})
    assert meter.take(3) == {"loss/total": 3.0} and meter.count == 0
    for value in (torch.nan, torch.inf):
        meter = Meter()
        meter.add({"loss/total": torch.tensor(1.0)})
        meter.add({"loss/total": torch.tensor(value)})
        with pytest.raises(ValueError, match=r"loss/total became (nan|inf) by step 2: the training has diverged"):
            meter.take(2)
