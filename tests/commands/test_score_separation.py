"""`sonarium score --separation`: separation and localisation in the episodes that agents are scored in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sonarium.__main__ import dispatch
from sonarium.agents.contract import Agent, Stochastic, alone
from sonarium.agents.observing.hearing import SeparatedEars
from sonarium.evaluation.episodes import TwoEars, sounds, window_scores
from sonarium.measures.statistics import rank_correlation
from sonarium.models.contract import Separator
from sonarium.play.suite import agent_in_suite
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.suite import HELD_OUT, SUITE
from sonarium.runs.build import open_run

TINY = (
    "--clips 24 --sets 4 --seconds 1 --units 8 --layers 1 --no-pictures --device cpu --test 0.25 --validation 0 "
    "--steps 0"
)
SMALL = "--env sonarium/Seek-stops-v0 --envs 1 --rollout-steps 4 --units 8 --steps 0 --no-pictures --device cpu"


def train(words: str, run: Path) -> str:
    dispatch(["train", *words.split(), "--run", str(run)])
    return str(run)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("listeners")
    separator = train(f"separator {TINY}", folder / "separator")
    return {
        "separator": separator,
        "listener": train(f"ppo {SMALL} --ears {separator} --separated loudness", folder / "listener"),
        "deaf": train(f"ppo {SMALL} --sound-rate 8000", folder / "deaf"),
    }


def scored(capsys, *words: str) -> dict:
    capsys.readouterr()
    dispatch(["score", *words, "--json"])
    return json.loads(capsys.readouterr().out)


def by_hand(run: str, setting: str, seed: int) -> tuple[list[dict[str, float]], int]:
    """Scores of the windows of one episode in the single environment, and the number of silent windows."""
    agent, config = open_run(Path(run)).learner, SUITE[setting].tested
    assert isinstance(agent, Agent) and isinstance(agent, Stochastic)
    agent.greedy = True
    separator = next(part for part in agent.modules() if isinstance(part, SeparatedEars)).separation.separator
    assert isinstance(separator, Separator)
    room, rows, silent = Seek(config, source_info=True, oracle_info=True), [], 0
    heard, info = room.reset(seed=seed)
    memory, first, over = agent.initial(1), True, False
    while not over:
        apart = separator.separate(torch.from_numpy(heard.T.copy())[None])[0].permute(1, 2, 0).numpy()
        way = info["sources"] - info["pose"][:2]
        angles = np.arctan2(way[:, 1], way[:, 0]) - info["pose"][2]
        there = info["on"] & sounds(info["images"])
        silent += not there.any()
        if there.any():
            lateral = np.arcsin(np.sin(angles[there]))
            rows.append(window_scores(info["images"][there], apart, heard, lateral, TwoEars(8000, 0.2)))
        memory, action, _ = alone(agent, memory, heard, first, torch.Generator(), info)
        heard, _, terminated, truncated, info = room.step(action)
        first, over = False, terminated or truncated
    return rows, silent


def test_what_is_measured_is_of_the_episodes_that_are_scored(runs, capsys):
    words = [runs["listener"], "--suite", "stops", "--episodes", "2"]
    plain, found = scored(capsys, *words), scored(capsys, *words, "--separation")
    assert "separation" not in plain and plain["suite"] == found["suite"]
    [told] = found["separation"][runs["listener"]].values()
    kept = json.loads((Path(runs["listener"]) / "suite.json").read_text())
    assert kept["separation"] == found["separation"][runs["listener"]]
    rows = told["episodes"]
    own = found["suite"][runs["listener"]]["stops"]["agent"]
    assert np.mean([row["sna"] for row in rows]) == pytest.approx(own["sna"]["mean"])
    for seed, row in enumerate(rows):
        windows, silent = by_hand(runs["listener"], "stops", HELD_OUT + seed)
        assert (row["windows"], row["silent"]) == (len(windows), silent) and silent > 0
        for name in ("itd_error", "location_error", "mixture/location_error", "true_sources/location_error"):
            assert row[name] == pytest.approx(np.nanmean([one[name] for one in windows]), rel=1e-3)
        assert row["snr_improvement"] == pytest.approx(
            np.nanmean([one["snr_improvement"] for one in windows]), abs=1e-2
        )
    assert told["scores"]["location_error"]["mean"] == pytest.approx(
        np.mean([row["location_error"] for row in rows])
    )
    assert told["controls"]["true_sources"].keys() == {"location_error"}


def test_rows_of_a_setting_are_correlated_with_sna(runs):
    found = agent_in_suite(open_run(Path(runs["listener"])), ["stops"], 4, lambda *_: None, separation=True)
    heard = found["stops"].heard("agent")
    assert heard is not None and found["stops"].heard("oracle") is None
    own = [one for one in found["stops"].played if one.agent == "agent"]
    expected = rank_correlation([one.heard["snr_improvement"] for one in own], [one.sna for one in own])
    assert heard.correlation("snr_improvement") == expected


def test_without_a_suite_it_stands_beside_the_return(runs, capsys):
    [found] = scored(capsys, runs["listener"], "--episodes", "1", "--separation")["runs"]
    rows = found["separation"]["episodes"]
    assert np.mean([row["return"] for row in rows]) == pytest.approx(found["scores"]["return"])
    assert found["scores"]["location_error"] == pytest.approx(np.mean([row["location_error"] for row in rows]))
    assert set(found["controls"]["mixture"]) == {"itd_error", "ild_error", "location_error"}
    assert any("Rank correlation" in note for note in found["notes"])
    dispatch(["score", runs["listener"], "--suite", "stops", "--episodes", "1", "--separation"])
    shown = capsys.readouterr().out
    assert "localisation error, °" in shown and "no source sounded" in " ".join(shown.split())


def test_what_hears_with_no_separator_is_refused_in_one_line(runs):
    for words in ([runs["deaf"], "--separation"], [runs["deaf"], "--separation", "--suite", "stops"]):
        with pytest.raises(ValueError, match=r"does not hear with a separator: give a run .* --ears") as caught:
            dispatch(["score", *words, "--episodes", "1"])
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="--separation is for agents"):
        dispatch(["score", runs["separator"], "--separation"])
