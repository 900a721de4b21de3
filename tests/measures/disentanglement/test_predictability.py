"""Trees, forests, linear classifiers and areas under ROC curves, against scikit-learn's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from sonarium.bench import plain_disentangle as plain
from sonarium.bench.disentangle import BINS, DISCRETE, mixed
from sonarium.measures.disentanglement.forest import ForestConfig, grow, in_order
from sonarium.measures.disentanglement.halves import halves
from sonarium.measures.disentanglement.predictability import area_under_curve, dci
from sonarium.measures.disentanglement.scores import closed_scores
from sonarium.measures.disentanglement.table import checked
from sonarium.measures.disentanglement.tree import add_prediction, grow_tree
from sonarium.measures.probes.logistic import fit_logistic


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(600, 4))


@pytest.fixture(scope="module")
def number(codes: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=len(codes))
    return np.sin(2 * codes[:, 0]) + 0.5 * codes[:, 1] + 0.1 * noise


def one_tree(codes: np.ndarray, target: np.ndarray, slots: int, weight: np.ndarray, depth: int, leaf: int):
    """Predictions for the same codes, and importances, of a tree with every clip drawn `weight` times."""
    ordered = in_order(codes)
    category = slots > 1
    slot = (target if category else np.zeros(len(target))).astype(np.uint32)
    amount = np.ones(len(target)) if category else target
    feature, cut, child, value, importance = grow_tree(
        ordered.rank, ordered.clips, slot, amount, weight, slots, depth, leaf
    )
    predicted = np.zeros((len(codes), slots))
    add_prediction(codes, feature, ordered.midway(feature, cut), child, value, predicted)
    return predicted, importance / importance.sum()


@pytest.mark.parametrize(("depth", "leaf"), [(3, 1), (6, 5), (5, 20)])
def test_a_tree_of_a_number_is_that_of_scikit_learn(codes, number, depth: int, leaf: int) -> None:
    weight = np.random.default_rng(2).integers(0, 4, len(codes)).astype(float)
    peer = DecisionTreeRegressor(max_depth=depth, min_samples_leaf=leaf)
    peer.fit(codes[weight > 0], number[weight > 0], sample_weight=weight[weight > 0])
    predicted, importance = one_tree(codes, number, 1, weight, depth, leaf)
    np.testing.assert_allclose(predicted[:, 0], peer.predict(codes), atol=1e-9)
    np.testing.assert_allclose(importance, peer.feature_importances_, atol=1e-9)


def test_a_tree_of_a_category_is_that_of_scikit_learn(codes, number) -> None:
    target = np.digitize(number, [-0.7, 0.0, 0.7])
    peer = DecisionTreeClassifier(max_depth=3, min_samples_leaf=25).fit(codes, target)
    predicted, importance = one_tree(codes, target, 4, np.ones(len(codes)), 3, 25)
    np.testing.assert_allclose(predicted, peer.predict_proba(codes), atol=1e-9)
    np.testing.assert_allclose(importance, peer.feature_importances_, atol=1e-9)


def test_forests_agree_with_those_of_scikit_learn(codes, number) -> None:
    config = ForestConfig(trees=60)
    size: dict[str, Any] = {"n_estimators": 60, "max_depth": config.depth, "min_samples_leaf": config.leaf}
    size |= {"max_features": None, "random_state": 0}
    category = np.digitize(number, [-0.5, 0.5]).astype(float)
    for target, kind in ((number, RandomForestRegressor), (category, RandomForestClassifier)):
        peer = kind(**size).fit(codes[:400], target[:400])
        ours = grow(in_order(codes[:400]), target[:400], kind is RandomForestClassifier, config, seed=0)
        np.testing.assert_allclose(ours.importance, peer.feature_importances_, atol=0.03)
        both = ours.predict(codes[400:]), peer.predict(codes[400:])
        if kind is RandomForestClassifier:
            assert np.mean(both[0] == both[1]) > 0.93
        else:
            assert np.corrcoef(*both)[0, 1] > 0.995


def test_three_copies_of_a_code_have_a_third_each(codes, number) -> None:
    copies = np.concatenate([codes[:, :1], codes[:, 1:2], codes[:, :1], 5 * codes[:, :1] + 2], axis=1)
    importance = grow(in_order(copies), number, False, ForestConfig(), seed=0).importance
    np.testing.assert_allclose(importance[[0, 2]], importance[3], rtol=1e-6)
    assert importance.sum() == pytest.approx(1)


def test_a_forest_of_codes_that_cannot_split_predicts_the_mean() -> None:
    target = np.arange(30.0)
    forest = grow(in_order(np.zeros((30, 2))), target, False, ForestConfig(), seed=0)
    assert forest.importance.tolist() == [0, 0]
    np.testing.assert_allclose(forest.predict(np.ones((3, 2))), target.mean(), atol=5)


def test_logistic_regressions_are_those_of_scikit_learn(codes, number) -> None:
    answers = np.stack([number > 0, number > 1.2, codes[:, 2] > 0], axis=1)  # the last is separable
    scorer = fit_logistic(codes, answers)
    for question in range(3):
        peer = LogisticRegression(C=1.0, tol=1e-9, max_iter=5000).fit(codes, answers[:, question])
        np.testing.assert_allclose(scorer(codes)[:, question], peer.decision_function(codes), rtol=2e-3, atol=2e-3)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.int64, 30, elements=st.integers(0, 6)))
def test_areas_under_curves_are_those_of_scikit_learn(scores: np.ndarray) -> None:
    positive = np.arange(30) % 3 == 0
    expected = roc_auc_score(positive, scores)
    assert area_under_curve(scores[:, None], positive[:, None])[0] == pytest.approx(expected)


def test_the_plain_version_agrees() -> None:
    codes, factors = mixed(np.random.default_rng(4))
    half = halves(factors, 0)
    table = checked(codes, factors, DISCRETE, 0.0)
    ours = closed_scores(table, half, BINS)
    peer = plain.plain_closed_scores(codes, factors, DISCRETE, half, BINS)
    assert set(ours) == set(peer)
    for name, value in peer.items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name
    size = {"trees": 10, "depth": 10, "leaf": 5}
    read = dci(table, half, ForestConfig(**size), 0)
    other = plain.plain_dci(codes, factors, DISCRETE, half, size, 0)
    np.testing.assert_allclose((read.disentanglement, read.completeness, read.informativeness), other, atol=0.03)
