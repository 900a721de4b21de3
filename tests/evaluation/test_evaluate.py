"""The tasks of an evaluation follow from the learner's abilities and the world's labels, not from classes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sonarium.evaluation import evaluate as evaluation
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.evaluate import evaluate
from sonarium.evaluation.splits import split_world
from sonarium.measures.contract import Meaning, MeasureEntry
from sonarium.models.contract import Density, Encoder, FrameEncoder, Learner
from sonarium.worlds.contract import Batch, Factor, Signal, World

CONFIG = EvaluationConfig(draws=3)


class Hums(World):
    """Sines of two pitches and five amplitudes."""

    name = "hums"
    signal = Signal("wave", (400,), 8000)
    factors = (Factor("pitch", ("low", "high")), Factor("amplitude", (0.1, 0.2, 0.3, 0.4, 0.5)))

    def __init__(self, planted: bool = True):
        self.planted = planted

    def __len__(self) -> int:
        return 100

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        pitch, amplitude = index % 2, 0.1 * (1 + index // 2 % 5)
        time = torch.arange(400) / 8000 * 2 * torch.pi
        wave = amplitude[:, None] * torch.sin((500 + 1000 * pitch)[:, None] * time)
        return Batch(index, wave, torch.stack([pitch, amplitude], 1).float()).to(device)


class Plain(Learner):
    def __init__(self, knows: bool = True):
        super().__init__()
        self.knows, self.weight = knows, nn.Parameter(torch.ones(()))

    def update(self, data: Any, engine: Any) -> dict[str, Any]:
        return {}

    def look(self, signal: torch.Tensor) -> torch.Tensor:
        crossings = (signal[..., 1:].sign() != signal[..., :-1].sign()).float().mean(-1)
        found = torch.stack([crossings, signal.square().mean(-1).sqrt()], -1)
        return found if self.knows else torch.zeros_like(found)


class OfClips(Plain, Encoder):
    def encode(self, signal: torch.Tensor) -> torch.Tensor:
        return self.look(signal)[:, None]


class OfFrames(Plain, FrameEncoder):
    code_rate, code_first = 80.0, 0.00625

    def encode(self, signal: torch.Tensor, lengths: Any = None, *, power: Any = None) -> torch.Tensor:
        return self.look(signal.unflatten(1, (-1, 100)))

    def code_lengths(self, lengths: torch.Tensor) -> torch.Tensor:
        return lengths // 100


class OfDensity(Plain, Density):
    def log_weights(self, batch: Batch, draws: int, generator: torch.Generator) -> torch.Tensor:
        return torch.zeros(draws, len(batch.index))


def evaluated(learner: Plain, world: World, **given: Any) -> dict[str, Any]:
    other = type(learner)(knows=False)
    return evaluate(learner, other, world, split_world(world, 0, 0.4), CONFIG, 0, **given)


def test_codes_of_clips_with_planted_factors_are_scored_by_the_factors():
    found = evaluated(OfClips(), Hums())
    assert found["protocol"] == "standard" and found["planted"] and found["controls"].keys() == {
        "pca", "random", "chance",
    }  # fmt: skip
    assert found["scores"]["dci_informativeness"] > 0.9 > found["controls"]["chance"]["dci_informativeness"]
    assert found["noise"]["mig"]["count"] > 1 and {"mig", "dead_codes"} <= found["scores"].keys()
    assert all(isinstance(score, float | int) for score in found["scores"].values())
    assert any(note.startswith("40 clips for 20 bins") for note in found["notes"])
    assert found["clips"] == 40 and found["format"] == 2 and found["settings"]["draws"] == 3


def test_labels_and_frames_are_scored_by_probes():
    for found in (evaluated(OfClips(), Hums(planted=False)), evaluated(OfFrames(), Hums())):
        assert found["protocol"] == "ridge probes"
        assert found["controls"].keys() == {"log_mel", "mfcc", "random", "chance"}
        assert found["scores"]["clips/pitch"] == 1 and found["scores"]["number/amplitude"] > 0.99
        assert found["asked"] == "pitch, amplitude of other clips"


def test_forecasts_are_made_on_the_cpu(monkeypatch):
    class Placed(OfFrames):
        """Forecaster that records where it is, as a machine without a GPU cannot place it on one."""

        place = "cpu"

        def to(self, device: str) -> "Placed":  # pyright: ignore
            self.place = device
            return self

        def cpu(self) -> "Placed":  # pyright: ignore
            return self.to("cpu")

    def with_forecasts(record: Any, learner: Placed, untrained: Placed, *rest: Any) -> dict[str, Any]:
        assert learner.place == untrained.place == "cpu"
        return {"scores": {"forecast": 1.0}}

    def of_labels(learner: Placed, untrained: Placed, *rest: Any) -> dict[str, Any]:
        assert learner.place == untrained.place == "cuda"
        return {}

    monkeypatch.setattr(evaluation, "Forecaster", Placed)
    monkeypatch.setattr(evaluation, "with_forecasts", with_forecasts)
    monkeypatch.setattr(evaluation, "of_labels", of_labels)
    assert evaluated(Placed(), Hums(planted=False), device="cuda")["scores"] == {"forecast": 1.0}


def test_a_density_is_scored_by_its_bounds():
    found = evaluated(OfDensity(), Hums())
    assert found["likelihood"] == {"elbo": 0.0, "iwae": pytest.approx(0, abs=1e-12)} and found["scores"] == {}

    class Both(OfClips, OfDensity):
        pass

    assert {"likelihood", "scores"} <= evaluated(Both(), Hums()).keys()


def spread(codes: np.ndarray, factors: np.ndarray, discrete: tuple[bool, ...], seed: int) -> dict[str, float]:
    assert discrete == (True, False) and len(codes) == len(factors)
    return {"spread": float(codes.std())}


def test_measures_of_the_catalogue_are_applied_to_learner_and_controls():
    said = Meaning("Spread", "Standard deviation of all codes.", 0.0, None)
    entry = MeasureEntry("how far codes spread", spread, {"spread": said})
    found = evaluated(OfClips(), Hums(), measures={"spread": entry})
    assert found["scores"]["spread"] > 0 == found["controls"]["random"]["spread"]
    # The spread of codes does not depend on the order of the clips.
    assert found["controls"]["chance"]["spread"] == pytest.approx(found["scores"]["spread"])
    assert found["meanings"] == {
        "spread": {"name": "Spread", "sentence": said.sentence, "low": 0.0, "high": None, "rising": True}
    }
    with pytest.raises(ValueError, match="measure 'spread' returned spread, which its entry does not describe"):
        evaluated(OfClips(), Hums(), measures={"spread": replace(entry, scores={})})


def test_what_cannot_be_evaluated_is_said():
    with pytest.raises(ValueError, match="a Plain has no codes and no density"):
        evaluated(Plain(), Hums())
    world = Hums()
    with pytest.raises(ValueError, match=r"no test split \(--test 0\): there is nothing to score"):
        evaluate(OfClips(), OfClips(), world, split_world(world, 0, 0.0), CONFIG, 0)
    with pytest.raises(ValueError, match="holds out 10 clips, too few to measure anything"):
        evaluate(OfClips(), OfClips(), world, split_world(world, 0, 0.1), CONFIG, 0)

    class Unlabelled(Hums):
        factors = ()

    with pytest.raises(ValueError, match="nothing can be predicted from its codes: its clips have no labels"):
        evaluated(OfFrames(), Unlabelled())


@pytest.mark.parametrize(
    "changed",
    [{"max_clips": 3}, {"max_frames": 0}, {"remove_mean": True, "pooling": "mean"}, {"draws": 0}],
)
def test_impossible_settings_are_refused(changed):
    with pytest.raises(ValueError, match=f"{next(iter(changed)).replace('remove_mean', '--remove-mean')}"):
        EvaluationConfig(**changed)
