"""Metrics of one class, and of class probabilities: scikit-learn's numbers, and the class that they count."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics

from finesearch.errors import DataError
from finesearch.floors import FloorData, make_floor
from finesearch.plan import TASK_KINDS, TaskPlan
from finesearch.tasks import RawSplits, Task, TaskFacts, make_task
from finesearch.tasks.prompting import make_prompt_task

Splits = Callable[..., RawSplits]
Plans = Callable[..., TaskPlan]
Known = Callable[..., tuple[Task, RawSplits, TaskFacts]]
SPAM = ["ham", "ham", "spam", "ham"]


def rows(labels: list[str]) -> dict[str, list[str]]:
    return {"text": [f"{label} number {n}" for n, label in enumerate(labels)], "label": labels}


@pytest.fixture
def known(make_plan: Plans, make_splits: Splits) -> Known:
    """A task with the facts of its rows; the same labels in all splits unless given."""

    def make(labels: list[str], other: list[str] | None = None, **plan: Any) -> tuple[Task, RawSplits, TaskFacts]:
        made = make_plan(**plan)
        splits = make_splits(rows(labels), rows(other or labels), rows(labels), plan=made)
        task = make_task(made)
        facts = task.read(splits)
        return task.with_facts(facts), splits, facts

    return make


@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
@pytest.mark.parametrize(("positive", "counted"), [(None, 1), ("ham", 0)])
def test_metrics_of_one_class_are_scikit_learns(known: Known, name: str, positive: str | None, counted: int) -> None:
    task, _, facts = known(SPAM, metric=name, positive=positive)
    predictions, references = [0, 1, 1, 1, 0, 0], [0, 1, 0, 1, 1, 0]
    expected = getattr(metrics, f"{name}_score")(references, predictions, pos_label=counted)
    assert task.score(predictions, references)[name] == pytest.approx(expected)
    assert task.metric(name)(predictions, references) == pytest.approx(expected)
    sums = task.statistics(name, predictions, references)
    assert sums is not None
    assert sums.score(sums.counts.sum(axis=0, keepdims=True)).tolist() == [pytest.approx(expected)]
    assert task.metric(name)([1 - counted] * 6, references) == 0.0
    noted = [note for note in facts.notes if note == f"task.positive: {name} counts 'spam', the rarer of two in train."]
    assert bool(noted) == (positive is None)


def test_of_two_equally_frequent_classes_the_last_is_counted(known: Known) -> None:
    _, _, facts = known(["a", "b", "b", "a"], metric="f1")
    assert facts.positive == "b"
    assert facts.notes == ("task.positive: f1 counts 'b', the last of two equally frequent ones.",)


def test_other_metrics_count_no_class(known: Known) -> None:
    task, _, facts = known(SPAM)
    assert (facts.positive, facts.notes) == (None, ())
    assert "f1" not in task.score([0, 1], [0, 1])


@pytest.mark.parametrize(
    ("labels", "validation", "plan", "text"),
    [
        (
            ["a", "b", "c", "a"],
            None,
            {"metric": "f1"},
            r"^task\.metric: f1 counts one class, and train has 3\.\n  Name",
        ),
        (
            SPAM,
            None,
            {"metric": "f1", "positive": "eggs"},
            r"^task\.positive: no row of train has the label 'eggs'\.\n",
        ),
        (
            SPAM,
            ["ham"] * 4,
            {"metric": "f1"},
            r"no validation row has the label 'spam', so that f1 is the same for all",
        ),
        (SPAM, ["spam"] * 4, {"metric": "roc_auc"}, r"all validation rows have the label 'spam', so that roc_auc is"),
    ],
)
def test_a_class_that_cannot_be_counted_is_refused(
    known: Known, labels: list[str], validation: list[str] | None, plan: dict[str, str], text: str
) -> None:
    with pytest.raises(DataError, match=text):
        known(labels, validation, **plan)


PROBABILITIES = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], size=40).round(1)
TRUE = np.random.default_rng(1).integers(0, 3, size=40)


def test_metrics_of_probabilities_are_scikit_learns(known: Known) -> None:
    task, _, _ = known(["a", "b", "c", "a"], metric="roc_auc")
    given = (PROBABILITIES + 1e-3) / (PROBABILITIES + 1e-3).sum(axis=1, keepdims=True)
    scores = task.score(given.tolist(), TRUE.tolist())
    assert scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(TRUE, given, multi_class="ovr"))
    assert scores["average_precision"] == pytest.approx(metrics.average_precision_score(np.eye(3)[TRUE], given))
    assert scores["log_loss"] == pytest.approx(metrics.log_loss(TRUE, given))
    assert scores["accuracy"] == metrics.accuracy_score(TRUE, given.argmax(axis=1))
    losses = task.example_scores("log_loss", given.tolist(), TRUE.tolist())
    assert np.mean(losses or []) == pytest.approx(scores["log_loss"])
    one, _, _ = known(["a", "b", "c", "a"], metric="average_precision", positive="c")
    scores = one.score(given.tolist(), TRUE.tolist())
    assert scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(TRUE == 2, given[:, 2]))
    assert scores["average_precision"] == pytest.approx(metrics.average_precision_score(TRUE == 2, given[:, 2]))
    assert scores["f1"] == pytest.approx(metrics.f1_score(TRUE == 2, given.argmax(axis=1) == 2))
    assert one.metric("roc_auc")(given[:3].tolist(), [0, 0, 1]) == 0.5, "nothing to tell apart in a resample"


def test_the_log_loss_is_better_when_it_is_lower() -> None:
    goals = TASK_KINDS["text-classification"].metrics
    assert [name for name, goal in goals.items() if goal == "min"] == ["log_loss"]


def test_predictions_are_probabilities_for_metrics_that_need_them(known: Known) -> None:
    task, splits, facts = known(SPAM, metric="log_loss")
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    predicted = task.predict(SimpleNamespace(logits=logits), {})
    assert predicted == [pytest.approx([0.880797, 0.119203]), [0.5, 0.5]]
    assert json.loads(json.dumps(predicted)) == predicted
    references = task.answers(splits.plain_rows("train"), facts)
    shares = task.majority(references, 4)
    assert shares == [[0.75, 0.25]] * 4
    assert task.score(shares, references)["log_loss"] == pytest.approx(metrics.log_loss(references, shares))
    assert task.score(task.perfect_predictions(references), references)["log_loss"] == pytest.approx(0.0)
    assert make_prompt_task(task, facts) is None, "a prompt chooses a label, and has no probabilities"


@pytest.mark.parametrize("labels", [SPAM * 2, ["a", "b", "c", "a"] * 2])
def test_the_floor_gives_probabilities_too(known: Known, labels: list[str]) -> None:
    task, splits, facts = known(labels, metric="log_loss")
    answers = task.answers(splits.plain_rows("train"), facts)
    columns = [splits.plain_rows(split) for split in ("train", "validation", "test")]
    floor = make_floor("tfidf", make_task(task.plan), facts)
    found = floor.predict(FloorData(*columns, answers, answers))
    assert np.sum(found.test, axis=1) == pytest.approx(1.0)
    assert task.score(found.test, answers)["accuracy"] == 1.0
    assert found.settings == {"C": 100.0}, "the least loss on validation, which holds the words of train"
