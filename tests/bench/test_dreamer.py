"""Benchmark of Dreamer: both sides do the same work."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from sonarium.bench import dreamer


def test_both_sides_imagine_the_same_number_of_states(monkeypatch, tmp_path):
    monkeypatch.setattr(dreamer, "UPDATES", 1)
    update, agent = dreamer.learning("plain", "32", tmp_path)
    before = [one.clone() for one in agent.actor.parameters()]
    update()
    assert any((one != other).any() for one, other in zip(before, agent.actor.parameters(), strict=True))
    made = []
    imagine = agent.imagine
    monkeypatch.setattr(agent, "imagine", lambda *given: made.append(imagine(*given)) or made[-1])
    together, apart, work = dreamer.imagining(agent, "32")
    together()
    [whole] = made
    made.clear()
    apart()
    assert torch.cat([one.feature for one in made], 1).shape == whole.feature.shape
    assert len(made) == 17 and "15 steps from 17 × 16 states" in work


def test_an_update_of_the_small_preset_is_less_than_half_the_work(monkeypatch, tmp_path):
    """Measured in FLOPs, which do not depend on the load of the machine."""
    monkeypatch.setattr(dreamer, "UPDATES", 1)
    work = {}
    for preset in ("default", "small"):
        update, agent = dreamer.learning("plain", "32", tmp_path / preset, preset)
        with FlopCounterMode(display=False) as counter:
            update()
        work[preset] = counter.get_total_flops()
        assert agent.config.dynamics.deter == 128
    assert 0 < work["small"] < 0.42 * work["default"], work
