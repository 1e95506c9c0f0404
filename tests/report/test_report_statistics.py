"""Intervals that cover, an order that is total, a front that nothing beats."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from finesearch.report import StepRow, TrialRow, pareto_front, percentile_interval, rank, resampled_scores


def bootstrap_interval(score, predictions, references, **settings):
    """The interval of a score, made as the report's scores are."""
    return percentile_interval(resampled_scores(score, predictions, references, **settings))


def gain_interval(score, predictions, baseline, references, goal, seed):
    """The interval of what one gains over the other, both scored on the same resamples: positive is better."""
    ours, theirs = (resampled_scores(score, each, references, seed) for each in (predictions, baseline))
    return percentile_interval(ours - theirs if goal == "max" else theirs - ours)


def accuracy(predictions, references):
    return float(np.mean(np.asarray(predictions) == np.asarray(references)))


def test_the_interval_of_an_accuracy_is_that_of_a_proportion():
    correct = np.random.default_rng(0).random(1000) < 0.85
    low, high = bootstrap_interval(accuracy, list(correct), [True] * 1000, seed=1)
    share = float(correct.mean())
    half = 1.96 * math.sqrt(share * (1 - share) / 1000)
    assert low == pytest.approx(share - half, abs=0.004)
    assert high == pytest.approx(share + half, abs=0.004)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(7)
    covered = 0
    for seed in range(60):
        correct = list(rng.random(150) < 0.8)
        low, high = bootstrap_interval(accuracy, correct, [True] * 150, seed=seed, resamples=200)
        covered += low <= 0.8 <= high
    assert 51 <= covered <= 60


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    predictions, references = [0, 1, 1, 0, 1, 1, 0] * 9, [0, 1, 0, 0, 1, 0, 0] * 9
    intervals = [bootstrap_interval(accuracy, predictions, references, seed=seed, resamples=50) for seed in range(5)]
    assert intervals[3] == bootstrap_interval(accuracy, predictions, references, seed=3, resamples=50)
    assert len(set(intervals)) > 1


def test_a_constant_sample_gives_an_interval_of_no_width_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bootstrap_interval(accuracy, [1] * 20, [1] * 20, seed=0) == (1.0, 1.0)
        assert bootstrap_interval(accuracy, [0] * 20, [1] * 20, seed=0) == (0.0, 0.0)


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
def test_a_resample_with_one_label_is_no_obstacle():
    low, high = bootstrap_interval(matthews_corrcoef, [1, 1, 0], [1, 1, 0], seed=0, resamples=200)
    assert (low, high) == (0.0, 1.0)


@pytest.mark.parametrize("examples", [0, 1])
def test_fewer_than_two_examples_say_nothing(examples):
    assert bootstrap_interval(accuracy, [1] * examples, [1] * examples, seed=0) is None


def test_a_score_that_is_undefined_on_a_resample_gives_no_interval():
    def precision(predictions, references):
        found = [true for predicted, true in zip(predictions, references, strict=True) if predicted]
        return sum(found) / len(found) if found else math.nan

    assert bootstrap_interval(precision, [1, 0, 0], [1, 0, 0], seed=0) is None


def test_predictions_need_not_be_numbers():
    def exact(predictions, references):
        return float(np.mean([p["text"] == r for p, r in zip(predictions, references, strict=True)]))

    low, high = bootstrap_interval(exact, [{"text": "a"}, {"text": "b"}] * 40, ["a", "x"] * 40, seed=0)
    assert low < 0.5 < high


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="expected lists of one length, one item an example, got .*'references': 2"):
        bootstrap_interval(accuracy, [1], [1, 0], seed=0)


def test_a_paired_interval_is_narrower_than_the_two_intervals_suggest():
    rng = np.random.default_rng(0)
    references = [1] * 400
    baseline = [int(x) for x in rng.random(400) < 0.80]
    better = [1 if i % 15 == 0 else p for i, p in enumerate(baseline)]
    low, high = gain_interval(accuracy, better, baseline, references, goal="max", seed=0)
    first = bootstrap_interval(accuracy, better, references, seed=0)
    second = bootstrap_interval(accuracy, baseline, references, seed=0)
    assert first[0] < second[1], "the single intervals overlap"
    assert 0 < low < high < 0.04


def test_a_gain_is_positive_where_a_lower_score_is_better():
    def loss(predictions, references):
        return float(np.mean(np.abs(np.asarray(predictions) - np.asarray(references))))

    low, high = gain_interval(loss, [0.1] * 50, [0.4] * 50, [0.0] * 50, goal="min", seed=0)
    assert low == pytest.approx(0.3)
    assert high == pytest.approx(0.3)


def trial(number, value, size=None, state="complete"):
    return TrialRow(trial=number, state=state, values=[value], trainable_parameters=size)


def test_ties_go_to_fewer_trainable_parameters_then_to_the_lower_number():
    rows = [trial(0, 0.9, None), trial(1, 0.9, 500), trial(2, 0.9, 20), trial(3, 0.9, 20), trial(4, 0.8, 1)]
    assert [row.trial for row in rank(rows, "max", top=5)] == [2, 3, 1, 0, 4]


def test_the_goal_turns_the_order():
    rows = [trial(0, 0.3), trial(1, 0.1), trial(2, 0.2)]
    assert [row.trial for row in rank(rows, "min", top=2)] == [1, 2]


@pytest.mark.parametrize("state", ["pruned", "failed", "running"])
def test_a_trial_that_left_no_checkpoint_is_never_ranked(state):
    assert rank([trial(0, 0.99, state=state)], "max", top=3) == ()


def test_a_stopped_trial_ranks_by_its_best_checkpoint():
    stopped = TrialRow(
        trial=1, state="pruned", best=0.7, history=[StepRow(step=1, value=0.7), StepRow(step=2, value=0.2)]
    )
    assert [row.trial for row in rank([trial(0, 0.6), stopped, trial(2, 0.8)], "max", top=3)] == [2, 1, 0]


def test_a_value_that_is_not_finite_is_never_ranked():
    rows = [trial(0, math.inf), trial(1, math.nan), TrialRow(trial=2, state="complete"), trial(3, 0.1)]
    assert [row.trial for row in rank(rows, "max", top=3)] == [3]


points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=25)


@given(points)
@settings(max_examples=100, deadline=None)
def test_nothing_beats_the_front_and_something_beats_every_other(values):
    def beats(a, b):
        return a[0] >= b[0] and a[1] <= b[1] and a != b

    front = set(pareto_front(values, ["max", "min"]))
    for i, value in enumerate(values):
        assert (i in front) == (not any(beats(other, value) for other in values))


def test_missing_values_are_never_on_the_front():
    assert pareto_front([[None, 0.0], [math.nan, 0.0], [math.inf, 0.0], [0.5, 9.0]], ["max", "min"]) == [3]
    assert pareto_front([], ["max", "min"]) == []


def test_a_row_of_the_wrong_width_is_refused():
    with pytest.raises(ValueError, match="row 1: expected 2 values, one a goal, got 1"):
        pareto_front([[0.5, 1.0], [0.5]], ["max", "min"])
