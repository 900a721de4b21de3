"""The loss on held-out clips: its value, and when the weights with the lowest loss are kept."""

import math
import os
import signal
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sonarium.models.contract import Engine, Learner
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import Callbacks, Interrupted, LoopConfig, Validated, fit
from sonarium.training.journal import read_metrics
from sonarium.training.run import RunFolder
from sonarium.training.validation import BATCHES, HeldOut, every_piece_once
from sonarium.worlds.contract import Batch, Factor, Signal, World


class Brightness(Learner):
    """A single parameter, which follows the mean of the pictures: its loss is known in closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))
        self.drawn: list[float] = []
        self.optimiser = torch.optim.SGD(self.parameters(), 0.5)

    def parts(self) -> dict[str, Any]:
        return {"sgd": self.optimiser}

    def update(self, data: Batch, engine: Engine) -> dict[str, torch.Tensor]:
        self.drawn.append(float(torch.rand((), generator=engine.generator)))
        loss = (data.signal - self.level).square().mean()
        engine.descend(loss, self.optimiser)
        return {"loss/error": loss.detach(), "loss/drawn": torch.tensor(self.drawn[-1])}


class Numbers(World):
    """Pictures of a single pixel."""

    name = "numbers"
    signal = Signal("picture", (1, 1))
    factors = (Factor("none", (0.0,)),)

    def __init__(self, clips: int):
        self.clips = clips

    def __len__(self) -> int:
        return self.clips

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        return Batch(index, index[:, None, None].float(), torch.zeros(len(index), 1))


def held_out(world, index: list[int], size: int, engine: FabricEngine) -> HeldOut:
    return HeldOut(Clips(world, torch.tensor(index), ClipsConfig(batch_size=size), 3), engine)


def test_it_is_the_loss_of_the_clips_and_changes_nothing(blots):
    world, learner, engine = blots(), Brightness(), FabricEngine("cpu", "32", 0)
    measure = held_out(world, [1, 4, 6, 9], 2, engine)
    before, learner.level.data = engine.generator.get_state(), torch.tensor(0.3)
    found = [measure(learner) for _ in range(2)]
    wanted = (world.pictures[[1, 4, 6, 9]] - 0.3).square().mean()
    assert found[0].metrics["loss/error"] == pytest.approx(float(wanted), rel=1e-6)
    assert found[0].score == -found[0].metrics["loss/error"]
    # Random numbers are the same each time, and not drawn from the generator of training.
    assert found[0] == found[1] and torch.equal(engine.generator.get_state(), before)
    assert learner.level == 0.3 and learner.level.grad is None and not learner.drawn and learner.training


@given(st.integers(1, 300), st.integers(1, 80), st.integers(1, 3), st.integers(1, 3))
def test_every_piece_is_heard_once(clips, size, least, ranks):
    # The batch size of training is never too small for the learner.
    size = max(size, least)
    source = Clips(Numbers(clips), torch.arange(clips), ClipsConfig(batch_size=size * ranks), 3)
    every_piece_once(source, least, ranks)
    if len(source.index) < max(least, ranks):
        return
    heard = [source.at(step).index for step in range(source.batches_per_pass)]
    every = torch.cat(heard)
    assert len(every.unique()) == len(every)
    sizes = sorted(len(one) for one in heard)
    assert sizes[-1] <= size * ranks and all(one % ranks == 0 and one >= least for one in sizes)
    # Clips left out are too few for a batch, or cannot be divided among the ranks.
    assert clips - len(every) < max(1, least) + ranks - 1
    measure = HeldOut(source, FabricEngine("cpu", "32", 0))
    assert measure.batches == min(BATCHES, len(heard))


def test_a_score_that_is_not_finite_is_never_the_best(blots, tmp_path):
    learner, engine, scores = Brightness(), FabricEngine("cpu", "32", 0), iter([math.nan, -3.0, -2.0, math.inf])
    run = RunFolder.create(tmp_path / "run", {}, lambda config: config)
    clips = Clips(blots(), torch.arange(30), ClipsConfig(batch_size=15), 3)
    callbacks = Callbacks(validate=lambda _: Validated(next(scores), {}))
    fit(learner, clips, run, engine, LoopConfig(save_every=1), 4, callbacks)
    best = run.best()
    assert best is not None and (best.step, best.score) == (3, -2.0)


def test_where_a_user_stops_nothing_is_validated(blots, tmp_path):
    """A run that is stopped and resumed has the same records as an uninterrupted one."""
    told = []
    for stops in ((), (6,)):
        run = RunFolder.create(tmp_path / f"run{len(stops)}", {}, lambda config: config)
        for until in (*stops, None):
            learner, engine = Brightness(), FabricEngine("cpu", "32", 0)
            clips = Clips(blots(), torch.arange(30), ClipsConfig(batch_size=15), 3)
            measure = held_out(blots(), [1, 3], 2, engine)

            def watch(stage: str, done: int, total: int, metrics: Any, until: int | None = until) -> None:
                if stage == "training" and done + 1 == until:
                    os.kill(os.getpid(), signal.SIGINT)

            callbacks = Callbacks(progress=watch, validate=measure)
            with pytest.raises(Interrupted) if until else nullcontext():
                fit(learner, clips, run, engine, LoopConfig(save_every=4, log_every=2), 12, callbacks)
        told.append((run.folder / "metrics.jsonl").read_bytes())
    assert told[0] == told[1] and told[0].count(b"validation/loss/error") == 3


def test_another_metric_may_tell_the_best(blots):
    learner = Brightness()
    learner.validated_by = "loss/drawn"
    measure = held_out(blots(), [0, 1], 1, FabricEngine("cpu", "32", 0))
    found = measure(learner)
    assert found.score == -found.metrics["loss/drawn"]
    learner.validated_by = "loss/nothing"
    with pytest.raises(ValueError, match="validated_by='loss/nothing': Brightness logs loss/error, loss/drawn"):
        measure(learner)


def test_the_weights_with_the_least_loss_are_kept(blots, tmp_path):
    """Training moves towards the bright pictures, past the mean of the dark ones, which are held out."""
    world, learner, engine = blots(), Brightness(), FabricEngine("cpu", "32", 0)
    bright, dark = [[clip for clip in range(30) if clip % 2 == side] for side in (1, 0)]
    learner.optimiser.param_groups[0]["lr"] = 0.02
    run = RunFolder.create(tmp_path / "run", {}, lambda config: config)
    measure = held_out(world, dark, 15, engine)
    clips = Clips(world, torch.tensor(bright), ClipsConfig(batch_size=15), 3)
    fit(learner, clips, run, engine, LoopConfig(save_every=1), 40, Callbacks(validate=measure))
    mean = float(world.pictures[dark].mean())
    step, weights = run.load_best()
    assert 1 < step < 40 and learner.level.item() > 2 * mean
    assert float(weights["level"]) == pytest.approx(mean, abs=0.02)
    found = {
        int(one["step"]): one.get("validation/loss/error") for one in read_metrics(run.folder / "metrics.jsonl")
    }
    assert min(found, key=lambda step: found[step] or math.inf) == step and len(found) == 40
