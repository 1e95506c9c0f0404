"""Final scores of metrics from 0 to 100 that are of whole splits: tolerance and intervals."""

import json
from typing import Any

import numpy as np
import pytest

from finesearch.plan import Plan, parse_plan
from finesearch.report import percentile_interval, resampled_scores
from finesearch.run.score_cache import CheckpointScore, Intervals, mismatch
from finesearch.tasks import make_task
from tiny_writers import word_pairs


def plan_of(**task: Any) -> Plan:
    columns = {"source": "en", "target": "de"}
    data = {"train": "a.jsonl", "validation": "b.jsonl", "test": "c.jsonl"}
    settings = {"kind": "translation", "model": "m", "data": data, "columns": columns, **task}
    return parse_plan(json.dumps({"name": "probe", "task": settings, "space": {"learning_rate": 1e-3}}))


def score_of(name: str, predictions: list[str], references: list[str], **validation: float) -> CheckpointScore:
    return CheckpointScore(name, None, validation, {}, predictions, references)


def test_one_sentence_of_fifty_may_come_out_otherwise_and_two_may_not() -> None:
    plan = plan_of()
    scale = make_task(plan.task).scale("bleu", 20.0)
    assert scale == 100
    assert mismatch(plan, 20.0, score_of("trial", [], [], bleu=22.0), 50, scale) is None
    told = mismatch(plan, 20.0, score_of("trial", [], [], bleu=24.0), 50, scale)
    assert told is not None
    assert told.startswith("the reloaded checkpoint scores bleu 24.0 on validation, its trial reported 20.0; it is not")


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_intervals_are_those_of_resampled_splits(metric: str) -> None:
    plan = plan_of(metric=metric)
    references = word_pairs(30, 1, longest=9)[1]
    better = [text.replace("hund", "ball") for text in references]
    worse = [text.replace("hund", "ball").replace("katze", "auto") for text in references]
    task, intervals = make_task(plan.task), Intervals(plan, make_task(plan.task))
    slow = resampled_scores(task.metric(metric), better, references, plan.search.seed)
    other = resampled_scores(task.metric(metric), worse, references, plan.search.seed)
    np.testing.assert_allclose(intervals.of(score_of("a", better, references)), percentile_interval(slow), atol=1e-9)
    gain = intervals.of_gain(score_of("a", better, references), score_of("b", worse, references))
    np.testing.assert_allclose(gain, percentile_interval(slow - other), atol=1e-9)
    assert gain is not None
    assert gain[0] > 0


def test_a_gain_is_positive_where_less_is_better_and_there_is_less() -> None:
    turns = {"columns": {"messages": "messages"}, "metric": "perplexity", "kind": "dialogue"}
    plan = plan_of(**turns)
    assert plan.objectives[0].goal == "min"
    intervals = Intervals(plan, make_task(plan.task))
    rows: list[Any] = [{"text": "x", "nll": 10.0 + 0.1 * place, "tokens": 10} for place in range(30)]
    worse = [{**row, "nll": row["nll"] + 10.0} for row in rows]
    gain = intervals.of_gain(
        CheckpointScore("a", None, {}, {}, rows, ["x"] * 30), CheckpointScore("b", None, {}, {}, worse, ["x"] * 30)
    )
    assert gain is not None
    assert 0.0 < gain[0] < gain[1]


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ({"metric": "bleu"}, "der hund"),
        ({"kind": "text-classification", "columns": {"text": "t", "label": "l"}, "metric": "accuracy"}, 1),
        ({"kind": "text-classification", "columns": {"text": "t", "label": "l"}, "metric": "mcc"}, 1),
        ({"kind": "text-classification", "columns": {"text": "t", "label": "l"}, "form": "regression"}, 1.5),
        ({"kind": "token-classification", "columns": {"text": "t", "spans": "s"}}, [[0, 3, "PER"]]),
        ({"kind": "relation-extraction", "columns": {"text": "t", "head": "h", "tail": "u", "relation": "r"}}, "of"),
        ({"kind": "question-answering", "columns": {"question": "q", "context": "c", "answers": "a"}}, ["yes"]),
    ],
)
def test_a_test_split_of_one_row_has_no_interval(task: dict[str, Any], answer: Any) -> None:
    plan = plan_of(**task)
    made = make_task(plan.task)
    intervals = Intervals(plan, made)
    score = score_of("a", made.perfect_predictions([answer]), [answer])
    assert intervals.of(score) is None
    assert intervals.of_gain(score, score_of("b", made.perfect_predictions([answer]), [answer])) is None
