"""The benchmark of CPC, on a network too small for its times to be meaningful."""

from dataclasses import replace

import pytest
import torch

from sonarium.bench import cpc
from sonarium.models.contrast import contrast
from sonarium.training.engine import FabricEngine


@pytest.fixture
def small(monkeypatch):
    config = cpc.CONFIGS["study-spijkervet"]
    config = replace(
        config,
        encoder=replace(config.encoder, filters=(8,)),
        context=replace(config.context, width=8),
        predictors=replace(config.predictors, steps_ahead=3),
    )
    monkeypatch.setitem(cpc.CONFIGS, "study-spijkervet", config)
    monkeypatch.setattr(cpc, "SAMPLES", 1600)
    monkeypatch.setattr(cpc, "CLIPS", 3)
    # Rounding errors average out less over eight units than in the full network.
    monkeypatch.setitem(cpc.CLOSE, "bf16", 0.1)


def test_rows_of_the_benchmark(small, monkeypatch):
    monkeypatch.setattr(cpc, "native_precisions", lambda: ("32", "bf16"))
    rows = cpc.cases(repeats=1)
    assert all(set(row) == {"name", "work", "ours_s", "peer", "peer_s", "ratio"} for row in rows)
    assert all(row["ratio"] == row["peer_s"] / row["ours_s"] > 0 for row in rows)
    assert [row["name"] for row in rows] == [
        f"{what} study-spijkervet {precision}"
        for precision in ("fp32", "bf16")
        for what in ("training step", "loss share")
    ]


def test_both_sides_take_the_same_step(small):
    engine = FabricEngine("cpu", "32", 0)
    ours, plain = cpc.twins(engine)
    wave = torch.randn(3, 1600)
    optimiser_step, our_step = cpc.plain_step(plain, wave), cpc.our_step(ours, wave, engine)
    for _ in range(3):
        optimiser_step()
        our_step()
    expected = cpc.to_ours(plain.state_dict())
    for name, value in ours.state_dict().items():
        if name in expected:
            torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-3, atol=1e-4)


def test_unequal_losses_are_not_timed(small, monkeypatch):
    def other(*given, **more):
        found = contrast(*given, **more)
        return replace(found, loss=1.01 * found.loss)

    monkeypatch.setattr("sonarium.models.cpc.cpc.contrast", other)
    with pytest.raises(AssertionError, match="losses differ"):
        cpc.cases(repeats=1)
