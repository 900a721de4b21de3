"""Evaluation of scripted agents: scores with their intervals, and episodes equal to the single environment's."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from sonarium.agents.contract import alone
from sonarium.agents.scripted import Body, Oracle
from sonarium.play.evaluate import evaluate, success_rate
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek

QUICK = SeekConfig(threads=1, order=1, max_steps=40, sources=1, oracle_info=True)


def test_the_oracle_plays_the_episodes_of_the_single_environment():
    """The walk in the vector environment is that of the single environment with the same actions."""
    room, agent, generator = Seek(QUICK), Oracle(Body()), np.random.default_rng(0)
    for one in evaluate(["oracle"], QUICK, 3, 9).played:
        heard, info = room.reset(seed=one.seed)
        memory, steps, earned, over = agent.initial(1), 0, 0.0, False
        while not over:
            memory, action, _ = alone(agent, memory, heard, steps == 0, generator, info)
            heard, reward, terminated, truncated, info = room.step(action)
            steps, earned, over = steps + 1, earned + reward, terminated or truncated
        assert (one.steps, one.success) == (steps, True)
        np.testing.assert_allclose([one.earned, one.walked], [earned, info["walked"]])


def test_scripted_agents_hear_the_sound_where_the_target_is_told_as_a_category(tmp_path):
    told = replace(QUICK, max_steps=4, distractors=2, target="category", room="fixed")
    found = evaluate(["random", "difference"], told, 2, 0, films=1, out=tmp_path)
    assert [one.agent for one in found.played] == ["random"] * 2 + ["difference"] * 2
    assert (tmp_path / "difference-0.wav").exists()


def test_progress_is_reported_and_nothing_is_printed(capsys):
    reports = []
    evaluate(["random"], QUICK, 2, 0, progress=lambda *report: reports.append(report))
    assert reports == [("episodes of random", 0, 2), ("episodes of random", 2, 2)]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("successes", "count"), [(0, 4), (4, 4), (7, 20), (1, 1)])
def test_the_interval_of_a_success_rate_is_wilsons(successes, count):
    """Against the closed form (Wilson 1927): the rates from which the observed one is z standard errors away."""
    score, share, z = success_rate(successes, count), successes / count, norm.ppf(0.975)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    assert score.mean == share and score.low is not None and score.high is not None
    np.testing.assert_allclose([score.low, score.high], [middle - half, middle + half], atol=1e-12)
