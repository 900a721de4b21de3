"""Number of states: selected by validation and BIC, and merged down to the planted number."""

import numpy as np
import pytest

from sonarium.models.hmm import HMM, choose_states, merge_states, sequence_p_value
from sonarium.models.hmm.selection import merged, paired_p_value

# Two states emit symbol 0: through one, symbol 1 leads mostly to 2; through the other, 2 leads mostly to 1.
PLANTED = HMM.from_parameters(
    [0.5, 0.5, 0.0, 0.0],
    [[0.0, 0.0, 0.9, 0.1], [0.0, 0.0, 0.1, 0.9], [0.1, 0.9, 0.0, 0.0], [0.9, 0.1, 0.0, 0.0]],
    probabilities=np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float),
)
LENGTHS, HELD = [30] * 40, [30] * 30


@pytest.fixture(scope="module")
def songs():
    train, _ = PLANTED.sample(30, random_state=0, sequences=40)
    held, _ = PLANTED.sample(30, random_state=1, sequences=30)
    return train.astype(int), held.astype(int)


@pytest.fixture(scope="module")
def large(songs):
    return HMM(8, "categorical", random_state=0, emission_prior=1.01, max_iter=60).fit(songs[0], lengths=LENGTHS)


def test_states_are_merged_to_those_that_were_planted(songs, large):
    found, tested = merge_states(large, songs[0], LENGTHS, songs[1], HELD)
    assert found.states == 4
    assert tested[-1].p_value < 0.05 and tested[-1].states < 4
    truth = PLANTED.score(songs[1], lengths=HELD) / len(songs[1])
    assert found.score(songs[1], lengths=HELD) / len(songs[1]) > truth - 0.02


def test_ngrams_reject_too_few_states_and_not_the_right_ones(songs):
    three = HMM(3, "categorical", random_state=0, max_iter=40).fit(songs[0], lengths=LENGTHS)
    settings = {"samples": 60, "random_state": 0}
    assert sequence_p_value(three, songs[1], HELD, **settings) < 0.05
    assert sequence_p_value(PLANTED, songs[1], HELD, **settings) >= 0.05
    with pytest.raises(ValueError, match=r"order=99: \d+ symbols have more n-grams"):
        sequence_p_value(three, songs[1], HELD, order=99)


@pytest.mark.parametrize("criterion", ["validation", "bic"])
def test_the_planted_number_of_states_is_chosen(criterion, songs):
    template = HMM(1, "categorical", random_state=0, max_iter=40, emission_prior=1.01, n_init=4)
    best, table = choose_states(template, (2, 4, 6), songs[0], LENGTHS, criterion=criterion, random_state=0)
    assert [one.states for one in table] == [2, 4, 6]
    assert best.states == 4 if criterion == "bic" else best.states in (4, 6)
    two, four = table[0], table[1]
    assert four.score < two.score and four.parameters == 3 + 12 + 8
    if criterion == "bic":
        # Of the model itself, not of the one before the last step of its fit.
        assert four.log_likelihood == pytest.approx(four.model.score(songs[0], lengths=LENGTHS))
        assert four.score == pytest.approx(four.parameters * np.log(len(songs[0])) - 2 * four.log_likelihood)


@pytest.mark.parametrize("durations", ["geometric", "categorical"])
def test_merging_of_gaussians(durations):
    """Five states for three clusters are merged to about three."""
    rng = np.random.default_rng(0)
    states = np.repeat(rng.integers(3, size=80), 4)
    frames = 6.0 * states[:, None] + rng.normal(size=(320, 1))
    lengths = [20] * 8
    large = HMM(5, random_state=0, durations=durations, max_duration=8, max_iter=15)
    large.fit(frames[:160], lengths=lengths)
    found, _ = merge_states(large, frames[:160], lengths, frames[160:], lengths, max_iter=8)
    assert found.states in (2, 3, 4) and found.states < 5
    np.testing.assert_allclose(found.transmat_.sum(1), 1)


def test_the_paired_test():
    assert paired_p_value(np.full(4, 0.0)) == 1 and paired_p_value(np.full(4, 2.0)) == 0
    assert paired_p_value(np.array([1.0, 1.2, 0.9, 1.1])) < 0.01 < 0.5 < paired_p_value(np.array([-1.0, 0.4]))
    with pytest.raises(ValueError, match="at least 2"):
        paired_p_value(np.ones(1))


def test_what_cannot_be_merged_or_chosen_is_refused(songs):
    tied = HMM(2, "categorical", tied=np.eye(2, dtype=int), max_iter=1, random_state=0)
    tied.fit(songs[0], lengths=LENGTHS)
    with pytest.raises(ValueError, match="merging needs free transitions"):
        merge_states(tied, songs[0], LENGTHS, songs[1], HELD)
    with pytest.raises(ValueError, match="none is left"):
        choose_states(HMM(), (1,), songs[0], [len(songs[0])])


def test_a_merged_left_right_model_with_durations_still_lasts_in_its_last_state():
    rng = np.random.default_rng(0)
    frames = np.concatenate([np.repeat([0.0, 4.0, 8.0, 12.0], 3) + 0.1 * rng.normal(size=12) for _ in range(8)])
    settings = {"topology": "left-right", "durations": "categorical", "max_duration": 3, "random_state": 0}
    model = HMM(4, **settings, max_iter=5).fit(frames[:, None], lengths=[12] * 8)
    assert model.counts_ is not None
    found = merged(model.model_, model.counts_, np.array([0, 0, 1, 2]))
    np.testing.assert_allclose(found.chain.transitions.sum(1), 1)
    np.testing.assert_array_equal(found.chain.transitions.diagonal(), [0, 0, 1])
    one = merged(model.model_, model.counts_, np.zeros(4, int))
    assert one.chain.transitions.tolist() == [[1]]
