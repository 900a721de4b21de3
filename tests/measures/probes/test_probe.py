"""Probes against scikit-learn's, without leakage from the test rows."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typechecking import unchecked

from sonarium.measures.probes.classifiers import NetworkConfig, logistic_path, ridge_path, scale_of
from sonarium.measures.probes.fewlabels import few_labels, in_random_order
from sonarium.measures.probes.probe import ProbeConfig, leave_one_group_out, probe, recall
from sonarium.measures.splits import Split, check_split, deal, folds, of_groups

QUICK = NetworkConfig(hidden=(16, 32), epochs=60, learning_rate=1e-2)
KINDS = ("ridge", "logistic", "mlp")


def fresh(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def informative(rows: int, noise: float, seed: int = 0, classes: int = 3, columns: int = 6):
    """Codes scattered about the centres of their classes, named labels, and ten groups."""
    draw = fresh(seed)
    label = draw.integers(0, classes, rows)
    codes = 3 * draw.normal(size=(classes, columns))[label] + noise * draw.normal(size=(rows, columns))
    return (
        codes * 10.0 ** np.arange(columns) + 5,
        np.array(["cow", "dog", "hen", "owl"])[label],
        np.arange(rows) % 10,
    )


def parts(groups: np.ndarray) -> Split[np.ndarray]:
    return of_groups(groups, (0, 1), (2, 3, 4))


@pytest.mark.parametrize("shape", [(120, 7), (40, 90)])
def test_ridge_is_that_of_scikit_learn(shape) -> None:
    x, y = fresh().normal(size=shape) + 2, fresh(1).integers(0, 4, shape[0])
    for strength, scores in zip((1.0, 1e-2), ridge_path(x, y, 4, (1.0, 1e-2)), strict=True):
        peer = RidgeClassifier(alpha=strength * len(x)).fit(x, y)
        np.testing.assert_allclose(scores(2 * x), peer.decision_function(2 * x), atol=1e-8)


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    x, y = fresh().normal(size=(150, 5)), fresh(1).integers(0, 3, 150)
    for strength, scores in zip((1.0, 1e-2), logistic_path(x, y, 3, (1.0, 1e-2), 1e-8), strict=True):
        peer = LogisticRegression(C=1 / (strength * len(x)), tol=1e-9, max_iter=9999).fit(x, y)
        ours = scores(x)
        np.testing.assert_allclose(
            ours - ours.mean(1, keepdims=True),
            peer.decision_function(x) - peer.decision_function(x).mean(1, keepdims=True),
            atol=1e-4,
        )


def test_logistic_regression_of_far_codes_stays_finite() -> None:
    x = np.array([[1e4], [-1e4], [1e4], [-1e4]])
    (scores,) = logistic_path(x, np.array([0, 1, 0, 1]), 2, (1e-4,))
    assert np.isfinite(scores(x)).all()
    assert scores(x).argmax(1).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_codes_encode_is_predicted_at_any_scale(kind) -> None:
    codes, labels, groups = informative(300, 0.3)
    score = probe(codes, labels, groups, parts(groups), fresh(), ProbeConfig(kind, network=QUICK))
    assert score.accuracy == score.balanced == 1
    assert score.rows == (150, 60, 90)
    asked = labels[parts(groups).test]
    assert score.chance == max(np.mean(asked == one) for one in set(asked))
    assert score.balanced_chance == pytest.approx(1 / 3)
    assert (score.predicted == asked).all()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_without_information_score_chance(kind) -> None:
    codes, labels, groups = informative(600, 1.0)
    mixed = fresh(3).permutation(labels)
    score = probe(codes, mixed, groups, parts(groups), fresh(), ProbeConfig(kind, network=QUICK))
    assert score.balanced == pytest.approx(1 / 3, abs=0.13)


def test_only_the_network_predicts_what_no_line_can() -> None:
    codes = fresh().uniform(-1, 1, size=(800, 2))
    labels, groups = (codes[:, 0] * codes[:, 1] > 0).astype(int), np.arange(800) % 10
    found = {
        kind: probe(codes, labels, groups, parts(groups), fresh(), ProbeConfig(kind, network=QUICK)).balanced
        for kind in KINDS
    }
    assert found["mlp"] > 0.93
    assert max(found["ridge"], found["logistic"]) < 0.65


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_recall_is_the_balanced_accuracy_of_scikit_learn(pairs) -> None:
    true, called = np.array(pairs).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a predicted class that no label has, or a single class
        expected = balanced_accuracy_score(true, called)
    assert recall(true, called) == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_codes_of_the_scored_rows_change_nothing(kind) -> None:
    codes, labels, groups = informative(200, 8.0)
    config = ProbeConfig(kind, network=replace(QUICK, epochs=8))
    dealt = parts(groups)
    plain = probe(codes, labels, groups, dealt, fresh(), config)
    others, far = labels.copy(), codes.copy()
    others[dealt.test] = fresh(1).permutation(others[dealt.test])
    far[dealt.test[1:]] *= 1e6
    again = probe(codes, others, groups, dealt, fresh(), config)
    assert (again.predicted == plain.predicted).all() and again.setting == plain.setting
    assert again.accuracy != plain.accuracy
    moved = probe(far, labels, groups, dealt, fresh(), config)
    assert moved.predicted[0] == plain.predicted[0] and moved.setting == plain.setting


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
@pytest.mark.parametrize("seed", range(3))
def test_the_setting_is_the_best_on_the_validation_rows(kind, seed) -> None:
    codes, labels, groups = informative(120, 12.0, seed, columns=40)
    three = parts(groups)
    swapped = Split(three.train, three.test, three.validation)
    config = ProbeConfig(kind, (10.0, 1e-1, 1e-3))
    alone = [
        probe(codes, labels, groups, swapped, fresh(), replace(config, strengths=(one,))).balanced
        for one in config.strengths
    ]
    chosen = probe(codes, labels, groups, three, fresh(), config)
    assert chosen.setting.strength == config.strengths[int(np.argmax(np.round(alone, 12)))]
    assert chosen.validated == pytest.approx(max(alone))


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_without_a_validation_part_the_setting_is_the_best_in_cross_validation(kind) -> None:
    codes, labels, groups = informative(120, 12.0, columns=40)
    split = of_groups(groups, (), (2, 3, 4))
    config = ProbeConfig(kind, (10.0, 1e-1, 1e-3), lots=7)
    means = []
    for strength in config.strengths:
        parts = [of_groups(groups, (), (one,)) for one in (0, 1, 5, 6, 7, 8, 9)]
        kept = [replace(part, train=np.setdiff1d(part.train, split.test)) for part in parts]
        alone = replace(config, strengths=(strength,))
        means.append(np.mean([probe(codes, labels, groups, part, fresh(), alone).balanced for part in kept]))
    chosen = probe(codes, labels, groups, split, fresh(), config)
    assert chosen.setting.strength == config.strengths[int(np.argmax(np.round(means, 12)))]
    assert chosen.validated == pytest.approx(max(means)) and chosen.rows == (84, 84, 36)
    # Nothing is random: another seed gives the same score.
    assert probe(codes, labels, groups, split, fresh(9), config) == chosen


@settings(max_examples=30)
@given(groups=st.lists(st.integers(0, 12), min_size=8, max_size=60), most=st.integers(2, 6))
def test_folds_leave_each_group_out_once(groups, most) -> None:
    column = np.array(groups)
    rows = np.flatnonzero(column != column[0])
    parts = list(folds(column, rows, most, column % 3)) if len(rows) else []
    assert len(parts) == min(most, len(set(column[rows].tolist())))
    assert sorted(np.concatenate([left for _, left in parts])) == rows.tolist() if parts else True
    for fitted, left in parts:
        assert len(left) and not set(column[fitted]) & set(column[left]) and len(fitted) + len(left) == len(rows)


def test_folds_have_the_labels_in_equal_parts() -> None:
    """Rows that are sorted by label, as files in one folder per label are, leave no fold without a label."""
    label, groups = np.repeat([0, 1, 2], (20, 20, 10)), np.arange(50)
    for _, left in folds(groups, np.arange(50), 5, label):
        assert np.bincount(label[left]).tolist() == [4, 4, 2]


def test_the_network_stops_where_the_validation_rows_say() -> None:
    codes, labels, groups = informative(150, 20.0)
    config = ProbeConfig("mlp", network=NetworkConfig(hidden=(64,), epochs=80, patience=3, learning_rate=1e-2))
    setting = probe(codes, labels, groups, parts(groups), fresh(), config).setting
    assert setting.epochs is not None and setting.epochs < 20


def test_seeds_are_passed_and_nothing_else_is_drawn_from() -> None:
    codes, labels, groups = informative(200, 9.0)
    config = ProbeConfig("mlp", network=replace(QUICK, epochs=5))
    torch_state, numpy_state = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    once, twice = (probe(codes, labels, groups, parts(groups), fresh(5), config) for _ in range(2))
    assert once == twice and (once.predicted == twice.predicted).all()
    other = probe(codes, labels, groups, parts(groups), fresh(6), config)
    assert (once.predicted != other.predicted).any()
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state == str(np.random.get_state())  # noqa: NPY002


def test_leaving_groups_out_is_that_of_scikit_learn() -> None:
    codes, labels, speakers = informative(160, 6.0)
    speakers = np.arange(160)
    speakers = np.array(["ann", "bob", "cyd", "dan"])[speakers % 4]
    scores = leave_one_group_out(codes, labels, speakers, fresh(), ProbeConfig("ridge", (0.5,)))
    peer = make_pipeline(StandardScaler(), RidgeClassifier(alpha=0.5 * 120))
    called = cross_val_predict(peer, codes, labels, groups=speakers, cv=LeaveOneGroupOut())
    assert list(scores) == ["ann", "bob", "cyd", "dan"]
    for name, score in scores.items():
        assert score.accuracy == pytest.approx(accuracy_score(labels[speakers == name], called[speakers == name]))
        assert score.rows == (120, 0, 40)


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_left_out_chooses_nothing(kind) -> None:
    codes, labels, groups = informative(150, 9.0)
    config = ProbeConfig(kind, network=replace(QUICK, epochs=6), lots=3)
    plain = leave_one_group_out(codes, labels, groups % 4, fresh(), config)
    others = np.where(groups % 4 == 2, "cow", labels)
    again = leave_one_group_out(codes, others, groups % 4, fresh(), config)
    assert (plain[2].predicted == again[2].predicted).all() and plain[2].setting == again[2].setting
    assert plain[2].rows[1] == plain[2].rows[0]


def test_refitting_takes_the_validation_rows_as_well() -> None:
    codes, labels, groups = informative(100, 9.0)
    config = ProbeConfig("ridge", (0.1,), refit=True)
    together = probe(codes, labels, groups, parts(groups), fresh(), config)
    joined = of_groups(groups, (), (2, 3, 4))
    directly = probe(codes, labels, groups, joined, fresh(), ProbeConfig("ridge", (0.1,)))
    assert (together.predicted == directly.predicted).all() and together.rows[0] == directly.rows[0] == 70


@pytest.mark.parametrize("kind", KINDS)
def test_labels_never_shown_count_as_wrong(kind) -> None:
    codes, labels, groups = informative(200, 0.1)
    labels = np.where(np.isin(groups, (3, 4)), "owl", labels)
    score = probe(codes, labels, groups, parts(groups), fresh(), ProbeConfig(kind, network=QUICK))
    assert score.unseen == ("owl",)
    assert score.accuracy == pytest.approx(1 / 3) and "owl" not in score.predicted


@pytest.mark.parametrize("kind", KINDS)
def test_one_class_to_learn_from_is_called_always(kind) -> None:
    codes, labels, groups = informative(100, 0.1)
    labels = np.where(np.isin(groups, (2, 3, 4)), labels, "owl")
    score = probe(
        codes, labels, groups, parts(groups), fresh(), ProbeConfig(kind, network=replace(QUICK, epochs=2))
    )
    assert set(score.predicted) == {"owl"} and score.accuracy == 0


def test_a_code_that_never_varies_is_left_at_nought() -> None:
    codes = np.column_stack([np.full(50, 1e8), fresh().normal(size=50)])
    scaled = scale_of(codes)(codes)
    assert (scaled[:, 0] == 0).all() and scaled[:, 1].std() == pytest.approx(1)


@given(groups=st.lists(st.integers(0, 9), min_size=3, max_size=60), seed=st.integers(0, 99))
def test_groups_are_dealt_whole(groups, seed) -> None:
    column = np.array(groups)
    if len(set(groups)) < 3:
        with pytest.raises(ValueError, match="part is empty: give each part at least one group"):
            check_split(column, deal(column, fresh(seed)))
        return
    found = deal(column, fresh(seed), 0.3, 0.3)
    check_split(column, found)
    assert sorted(np.concatenate([rows for _, rows in found.items()])) == list(range(len(groups)))
    held = [set(column[rows]) for _, rows in found.items()]
    assert all(held) and sum(map(len, held)) == len(set(groups))


def test_a_group_on_two_sides_is_refused() -> None:
    groups = np.array(["a", "a", "b", "c", "c"])
    with pytest.raises(ValueError, match=r"group\(s\) a lie in train and in test"):
        check_split(groups, Split(np.array([0, 2]), np.array([3, 4]), np.array([1])))
    leak = Split(np.array([0, 1]), np.array([2, 3]), np.array([4]))
    with pytest.raises(ValueError, match="c lie in validation and in test"):
        probe(np.eye(5), np.arange(5) % 2, groups, leak, fresh())
    with pytest.raises(ValueError, match="b lie in train and in test"):
        few_labels(
            np.eye(5), np.arange(5) % 2, groups, Split(np.array([2]), np.array([0]), np.array([2])), fresh(), (1,)
        )


CODES, LABELS, GROUPS = informative(60, 1.0)
PARTS = parts(GROUPS)
HOLED = np.where(np.arange(60)[:, None] == 7, np.nan, CODES)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (
            lambda: probe(HOLED, LABELS, GROUPS, parts(GROUPS), fresh()),
            r"not finite in 1 row\(s\), the first at row 7",
        ),
        (lambda: probe(CODES[:, 0], LABELS, GROUPS, parts(GROUPS), fresh()), r"codes have shape \(60,\)"),
        (
            lambda: probe(CODES, LABELS[:-1], GROUPS, parts(GROUPS), fresh()),
            r"labels has shape \(59,\) for 60 rows",
        ),
        (lambda: probe(CODES, LABELS[GROUPS * 0], GROUPS, parts(GROUPS), fresh()), "every row has the label"),
        (
            lambda: probe(CODES, LABELS, GROUPS * 0, Split(np.arange(9), np.arange(0), np.arange(9, 60)), fresh()),
            r"group\(s\) 0 lie in train and in test",
        ),
        (
            lambda: probe(CODES, LABELS, GROUPS > 4, of_groups(GROUPS > 4, (), (True,)), fresh()),
            "the train part has one group alone",
        ),
        (
            lambda: of_groups(GROUPS, (1,), (99,)),
            r"the test groups 99 are in no row: there are 0, 1, 2, 3, 4 and 5 more",
        ),
        (lambda: check_split(GROUPS, of_groups(GROUPS, (), ()), True), "the test part is empty"),
        (lambda: leave_one_group_out(CODES, LABELS, GROUPS % 2, fresh()), r"got 2 group\(s\), 0, 1: at least 3"),
        (lambda: deal(GROUPS, fresh(), 0.5, 0.5), "fractions test=0.5 and validation=0.5 leave nothing"),
        (lambda: few_labels(CODES, LABELS, GROUPS, PARTS, fresh(), (900,)), r"got counts=\(900,\)"),
        (lambda: ProbeConfig("svm"), "kind='svm'"),  # pyright: ignore
        (lambda: ProbeConfig(strengths=(0.0,)), r"strengths=\(0.0,\): give a positive number"),
        (lambda: ProbeConfig(network=NetworkConfig(hidden=())), r"hidden=\(\): give at least one size"),
        (lambda: ProbeConfig(lots=1), "lots=1: give a whole number of at least 2"),
    ],
)
def test_what_cannot_be_probed_is_refused(ask, says) -> None:
    with unchecked(), pytest.raises(ValueError, match=says):
        ask()


def test_more_labels_tell_more() -> None:
    codes, labels, groups = informative(900, 8.0, columns=12)
    found = few_labels(codes, labels, groups, parts(groups), fresh(), (1, 5, 40, 9999), draws=4)
    assert found.counts == (1, 5, 40) and found.scores.shape == (4, 3)
    means = [one.mean for one in found.intervals]
    assert means == sorted(means) and means[2] - means[0] > 0.15
    assert found.chance == pytest.approx(1 / 3) and means[0] > 0.34
    again = few_labels(codes, labels, groups, parts(groups), fresh(), (1, 5, 40, 9999), draws=4)
    assert (again.scores == found.scores).all()
    assert (found.scores.std(axis=0)[:2] > 0).all()


@settings(max_examples=30)
@given(label=st.lists(st.integers(0, 3), min_size=4, max_size=40), count=st.integers(1, 9), seed=st.integers(0, 9))
def test_so_many_of_each_class_are_drawn_and_larger_lots_hold_smaller_ones(label, count, seed) -> None:
    column, rows = np.array(label), np.arange(0, len(label), 2)
    deck = in_random_order(column, rows, fresh(seed))
    drawn = deck.first(count)
    assert set(drawn) <= set(rows) and len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(deck.first(count + 1))
    for one in set(column[rows]):
        assert (column[drawn] == one).sum() == min(count, (column[rows] == one).sum())


def test_all_labels_are_the_probe_itself() -> None:
    codes, labels, groups = informative(150, 8.0)
    config = ProbeConfig("ridge", (0.1,))
    most = max(np.unique(labels[parts(groups).train], return_counts=True)[1])
    found = few_labels(codes, labels, groups, parts(groups), fresh(), (int(most),), 2, config)
    assert found.scores == pytest.approx(probe(codes, labels, groups, parts(groups), fresh(), config).balanced)
