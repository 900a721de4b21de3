"""Selection of training clips by their factors, and how often they are drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sonarium.models.contract import Learner
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import Callbacks, LoopConfig, fit
from sonarium.training.run import RunFolder
from sonarium.training.selection import chances, selected
from sonarium.worlds.contract import Batch, Factor, Signal, World


class Aviary(World):
    """Songs of three birds on two days, and of a tutor; mass is a continuous factor."""

    name = "aviary"
    signal = Signal("wave", (4,), 100)
    factors = (
        Factor("bird", ("bird 1", "bird 2", "bird 10")),
        Factor("day", ("tutor", "day 45", "day 90")),
        Factor("mass", (10.0, 16.0), "g"),
    )

    def __len__(self) -> int:
        return 36

    def whole(self, index, device="cpu"):
        factors = torch.stack([index % 3, index // 3 % 3, 10 + 2 * (index // 9)], 1).float()
        return Batch(index, index[:, None].float().expand(-1, 4), factors)


WORLD = Aviary()
EVERY = torch.arange(36)


@pytest.mark.parametrize(
    ("only", "kept"),
    [
        ((), lambda bird, day, mass: bird >= 0),
        (("day=45",), lambda bird, day, mass: day == 1),
        (("day=day 45", "day=90"), lambda bird, day, mass: day > 0),
        (("bird!=1",), lambda bird, day, mass: bird != 0),
        (("bird!=bird 1", "bird!=2", "day=tutor"), lambda bird, day, mass: (bird == 2) & (day == 0)),
        (("mass=12",), lambda bird, day, mass: mass == 12),
        (("mass!=1.2e1",), lambda bird, day, mass: mass != 12),
    ],
)
def test_conditions_select_clips(only, kept):
    bird, day, mass = WORLD.factor_values(EVERY).T
    assert torch.equal(selected(WORLD, EVERY, only), EVERY[kept(bird, day, mass)])


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ("age=3", "no factor of aviary is called 'age': choose one of bird, day, mass"),
        ("day=46", "no day is called '46': choose one of tutor, day 45, day 90"),
        ("day=", "only='day=': give a factor and a value"),
        ("day", "only='day': give a factor and a value"),
        ("mass=heavy", "mass=heavy: give a number"),
        ("mass=11", "only=mass=11: no clip of the training split is left"),
        ("mass=-12", "only=mass=-12: no clip of the training split is left"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(only, said):
    with pytest.raises(ValueError, match=said):
        selected(WORLD, EVERY, (only,))


@pytest.mark.parametrize(("power", "ratio"), [(1.0, 2.0), (-2.0, 0.25), (0.0, 1.0)])
def test_clips_are_drawn_in_proportion_to_a_power_of_their_age(power, ratio):
    found = chances(WORLD, EVERY, "day", power)
    assert found is not None and found.sum() == pytest.approx(1)
    day = WORLD.factor_values(EVERY)[:, 1].numpy()
    assert not found[day == 0].any()
    assert found[day == 2] == pytest.approx(ratio * found[day == 1])


def test_weights_by_what_has_no_numbers_are_refused():
    class Unnumbered(Aviary):
        factors = (Factor("bird", ("anna", "bert", "carl")), *Aviary.factors[1:])

    with pytest.raises(ValueError, match="weight_by=bird: the clips have no numbers above 0"):
        chances(Unnumbered(), EVERY, "bird", 1.0)
    with pytest.raises(ValueError, match="weight_by: no factor of aviary is called 'age'"):
        Clips(WORLD, EVERY, ClipsConfig(weight_by="age"), 0)


def test_a_source_draws_older_song_more_often_and_resumes():
    config = ClipsConfig(batch_size=12, weight_by="day", weight_power=3.0)
    source, other = (Clips(WORLD, EVERY, config, 5) for _ in range(2))
    drawn = torch.cat([next(source).factors[:, 1] for _ in range(90)])
    counts = np.bincount(drawn.long().numpy(), minlength=3)
    # A ratio of 8 to 1 in 1080 draws, within five standard errors.
    assert counts[0] == 0 and abs(counts[2] / counts.sum() - 8 / 9) < 0.048
    other.load_state_dict({"position": 89})
    assert torch.equal(next(other).factors[:, 1], drawn[-12:])


class Counting(Learner):
    """Its only weight counts updates; `prepare` sets it to 100."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def prepare(self, source, engine):
        self.weight.data.fill_(100.0)

    def restart(self):
        self.weight.data += 1000

    def update(self, data, engine):
        self.weight.data += 1
        return {"loss/total": self.weight.detach().sum()}


def counted(folder: Path, steps: int, start_from: Path | None = None) -> float:
    learner, engine = Counting(), FabricEngine("cpu", "32", 0)
    run = RunFolder.create(folder, {"model": "counting"}, dict)
    loop = LoopConfig(start_from=None if start_from is None else str(start_from))
    fit(learner, Clips(WORLD, EVERY, ClipsConfig(4), 0), run, engine, loop, steps, Callbacks())
    return learner.weight.item()


def test_a_chain_of_runs_hands_its_weights_on(tmp_path):
    """With the statistics, so without `prepare`; schedules restart (+1000), but only when a run begins."""
    assert counted(tmp_path / "45", 3) == 103
    assert counted(tmp_path / "50", 2, tmp_path / "45") == 1105
    assert counted(tmp_path / "45", 9) == 109
    assert counted(tmp_path / "50", 4, tmp_path / "45") == 1107
    assert counted(tmp_path / "55", 0, tmp_path / "50") == 2107
    assert RunFolder.read(tmp_path / "55").newest() == 0
    with pytest.raises(ValueError, match=r"there is no '.*nothing': give a run folder"):
        counted(tmp_path / "60", 1, tmp_path / "nothing")
