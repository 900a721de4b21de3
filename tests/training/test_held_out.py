"""The loss on held-out clips: what it is, and when the weights that had the least are kept."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from sonarium.models.contract import Engine, Learner
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import Callbacks, LoopConfig, fit
from sonarium.training.journal import read_metrics
from sonarium.training.run import RunFolder
from sonarium.training.validation import BATCHES, HeldOut
from sonarium.worlds.contract import Batch


class Brightness(Learner):
    """One number, which follows the mean of the pictures: its loss is known in closed form."""

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
    # What is drawn is the same each time, and not of the training.
    assert found[0] == found[1] and torch.equal(engine.generator.get_state(), before)
    assert learner.level == 0.3 and learner.level.grad is None and not learner.drawn and learner.training


@pytest.mark.parametrize(("clips", "size"), [(7, 3), (30, 1), (4, 4), (200, 4)])
def test_it_hears_as_many_pieces_as_there_are(blots, clips, size):
    measure = held_out(blots(clips), list(range(clips)), size, FabricEngine("cpu", "32", 0))
    assert measure.batches == min(BATCHES, math.ceil(clips / size))


def test_another_metric_may_tell_the_best(blots):
    learner = Brightness()
    learner.validated_by = "loss/drawn"
    found = held_out(blots(), [0, 1], 1, FabricEngine("cpu", "32", 0))(learner)
    assert found.score == -found.metrics["loss/drawn"]


def test_the_weights_with_the_least_loss_are_kept(blots, tmp_path):
    """Training goes to bright pictures, past the mean of the dark ones, which are held out."""
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
