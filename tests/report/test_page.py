"""The page of runs: self-contained, without requests, and with all names escaped."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sonarium.evaluation.aggregate import grouped, tables
from sonarium.report.album import Medium, put, write_index
from sonarium.report.page import RunPage, page, told_apart

HOSTILE = '<script>alert("x")</script>'
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Elements(HTMLParser):
    """Every start tag with its attributes, and all text outside of style."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] != "style":
            self.text += data


def run(name="run-a", seed=0, mig=0.4, world="tones", scores=True, **changes):
    found = {
        "protocol": "standard",
        "step": 100,
        "clips": 40,
        "scores": {"mig": mig, "dead_codes": 2, "novel_score": 0.5, "notes": ["few clips"], "sap": float("nan")},
        "controls": {"pca": {"mig": 0.15}, "random": {"mig": 0.07}, "chance": {"mig": 0.01}},
        "likelihood": {"elbo": -123.4, "iwae": -120.1, "draws": 64},
    }
    values: dict[str, Any] = {
        "model": "vae",
        "config": {"model": "vae", "preset": "default", "fit": {"seed": seed, "batch": 64}},
        "environment": {"device": "cpu", "torch": "2"},
        "metrics": [{"step": 10.0, "loss/total": 2.0}, {"step": 20.0, "loss/total": 1.0}],
        "media": None,
    }
    return RunPage(name=name, world=world, scores=found if scores else None, **(values | changes))


def written(runs, tmp_path) -> tuple[str, Elements]:
    page(runs, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    return text, Elements(text)


def test_all_pictures_and_sounds_lie_in_the_page(shown, tmp_path):
    media, folder = shown
    text, found = written([run(media=folder)], tmp_path)
    sources = [attributes["src"] for tag, attributes in found.tags if tag in ("img", "audio")]
    held = {base64.b64decode(source.split(",")[1]) for source in sources if source}
    for medium in media:
        assert (folder / medium.file).read_bytes() in held
    assert len(sources) == len(media) + 1  # and the training curves
    assert all(attributes.get("alt") for tag, attributes in found.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in found.tags if tag == "audio")
    assert len(text) < 3.75e6


def test_intervals_end_where_scores_do(tmp_path):
    _, found = written([run("a", 0, 0.2), run("b", 1, 0.9)], tmp_path)
    assert "[0.00, 1.00]" in found.text


def test_curves_of_scores_are_on_the_page(tmp_path):
    curve = {"counts": [1, 5], "scores": [[0.2, 0.6], [0.3, 0.5]], "chance": 0.1}
    judged = run(media=None)
    assert judged.scores is not None
    plain = written([judged], tmp_path)[1]
    with_curves = {**judged.scores, "curves": {"few-labels/digit": {"scores": curve, "log_mel": curve}}}
    _, found = written([replace(judged, scores=with_curves)], tmp_path)
    pictures, before = ([tag for tag, _ in one.tags if tag == "img"] for one in (found, plain))
    assert len(pictures) == len(before) + 1 and "Score curves" in found.text
    assert "Digit from few labels" in [attributes.get("alt") for _, attributes in found.tags]


def test_runs_of_one_name_have_a_curve_each():
    names = [one.name for one in told_apart([run("a"), run("b"), run("a", seed=1)])]
    assert names == ["a (1)", "b", "a (2)"]


def test_nothing_is_fetched(tmp_path):
    text, found = written([run(), run("b", model="tc-vae")], tmp_path)
    for tag, attributes in found.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            if name in attributes:
                assert re.match(r"data:|#", attributes[name] or ""), (tag, attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert not [tag for tag, _ in found.tags if tag in ("script", "iframe", "object", "embed", "base", "form")]
    policies = [a["content"] for tag, a in found.tags if tag == "meta" and a.get("http-equiv")]
    assert str(policies[0]).startswith("default-src 'none'")


def test_hostile_names_are_only_text(tmp_path):
    put(tmp_path / "a.png", PIXEL)
    put(tmp_path / "b.wav", b"RIFF")
    write_index(
        tmp_path,
        [
            Medium("picture", "a.png", f'"{HOSTILE}', HOSTILE, HOSTILE),
            Medium("sound", "b.wav", HOSTILE, f'" onplay="{HOSTILE}', HOSTILE),
        ],
    )
    changes = {
        "model": HOSTILE,
        "config": {HOSTILE: {"x": HOSTILE}, "preset": HOSTILE},
        "environment": {"device": HOSTILE},
        "metrics": [{"step": 1.0, HOSTILE: 1.0}],
        "media": tmp_path,
        "warnings": [HOSTILE],
    }
    hostile = run(HOSTILE, world=HOSTILE, **changes)
    hostile.scores["scores"][HOSTILE] = 0.5  # pyright: ignore[reportOptionalSubscript]
    hostile.scores["controls"][HOSTILE] = {"mig": 0.1}  # pyright: ignore[reportOptionalSubscript]
    _, found = written([hostile, run(HOSTILE, seed=1, scores=False)], tmp_path)
    assert "script" not in [tag for tag, _ in found.tags]
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert found.text.count(HOSTILE) >= 10


def test_a_score_stands_beside_its_controls_with_its_meaning(tmp_path):
    _, found = written([run(mig=0.43)], tmp_path)
    words = " ".join(found.text.split())
    assert "0.43" in words
    assert "PCA\xa00.15 · untrained\xa00.07 · chance\xa00.01" in found.text
    assert "Gap in mutual information with a factor" in words
    assert "novel score" in words
    assert "−123.4" in words
    assert "SAP" not in words  # NaN is no score
    assert "few clips" not in words


def test_seeds_share_a_row_with_student_s_interval(tmp_path):
    values = [0.31, 0.42, 0.40]
    runs = [run(f"run-{seed}", seed, mig) for seed, mig in enumerate(values)]
    _, found = written(runs, tmp_path)
    mean = np.mean(values)
    low, high = stats.t.interval(0.95, 2, loc=mean, scale=stats.sem(values))
    words = " ".join(found.text.split())
    assert f"{mean:.2f} [{low:.2f}, {high:.2f}]" in words
    assert "3 seeds" in words
    assert "2 [2, 2]" in words  # dead codes are a whole number
    assert all(one.name in words for one in runs)
    assert len([1 for tag, attributes in found.tags if attributes.get("class") == "run"]) == 1


def test_runs_that_differ_in_more_than_their_seed_stand_apart():
    other = {"model": "vae", "preset": "default", "fit": {"seed": 1, "batch": 32}}
    runs = [run("a"), run("b", 1, config=other), run("c", 2), run("d", 3, world="digits")]
    groups = grouped([one.record for one in runs])
    assert [[one.run for one in group.records] for group in groups] == [["a", "c"], ["b"], ["d"]]
    assert [(table.world, len(table.groups)) for table in tables(groups)] == [("tones", 2), ("digits", 1)]


def test_a_seed_that_comes_twice_counts_once(tmp_path):
    runs = [run("a", 0, 0.3), run("b", 0, 0.5), run("c", 1, 0.4)]
    (group,) = grouped([one.record for one in runs])
    assert [one.run for one in group.scored] == ["a", "c"]
    assert group.scores["mig"].value.mean == pytest.approx(0.35)
    _, found = written(runs, tmp_path)
    assert "the same seeds" in found.text


def test_what_is_missing_is_said(tmp_path):
    put(tmp_path / "a.png", PIXEL)
    listed = [Medium("picture", name, name, "", "codes") for name in ("a.png", "gone.png")]
    write_index(tmp_path, listed)
    unscored = run("b", 1, scores=False, media=tmp_path)
    _, found = written([unscored], tmp_path)
    assert "None of these runs has been scored" in found.text
    assert "no pictures and sounds" not in found.text
    assert "gone.png" in found.text
    assert len([1 for tag, _ in found.tags if tag == "img"]) == 2


def test_a_run_without_media_says_so(tmp_path):
    assert "no pictures and sounds" in written([run()], tmp_path)[1].text


def test_tables_have_headers(tmp_path):
    runs = [run(f"a{seed}", seed, 0.3 + seed / 100) for seed in range(3)]
    runs += [run(f"b{seed}", seed, 0.9 + seed / 100, model="tc-vae") for seed in range(3)]
    _, found = written(runs, tmp_path)
    assert [attributes.get("scope") for tag, attributes in found.tags if tag == "th"].count(None) == 0
    assert [tag for tag, _ in found.tags].count("strong") == 1  # MIG of the one that is higher for every seed


def test_a_page_says_whether_factors_were_planted(tmp_path):
    assert "made from known factors" in written([run()], tmp_path)[1].text
    recorded = written([run(planted=False)], tmp_path)[1].text
    assert "never on their labels" in recorded and "known factors" not in recorded


def test_agents_are_shown_against_steps_and_time_and_beside_each_other(tmp_path):
    def agent(name: str, model: str = "ppo", seed: int = 0) -> RunPage:
        metrics = [{"step": n, "episodes/return": float(n), "loss/value": 1 / n} for n in range(1, 9)]
        clock = [{"step": 8, "items": 8192, "wall_s": 4.0, "cpu_s": 3.0}]
        return run(
            name, seed, scores=False, world="CartPole-v1", model=model, acts=True, metrics=metrics, clock=clock
        )

    alone = written([agent("a"), agent("b", seed=1)], tmp_path)[1]
    pictures = [attributes["alt"] for tag, attributes in alone.tags if tag == "img"]
    assert pictures == [
        "Episodes of ppo on CartPole-v1",
        "Losses and other metrics against steps of the environment of ppo on CartPole-v1",
        "Losses and other metrics against wall-clock time of ppo on CartPole-v1",
    ]
    assert "8 updates, 8,192 of the environment" in alone.text and "Learning" not in alone.text
    both = written([agent("a"), agent("b", "dqn")], tmp_path)[1]
    assert "Learning" in both.text
    assert "Returns of agents in CartPole-v1" in [a["alt"] for tag, a in both.tags if tag == "img"]


def test_no_runs_and_no_room(tmp_path):
    with pytest.raises(ValueError, match="needs at least one run"):
        page([], tmp_path / "page.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        page([run()], tmp_path / "file" / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
