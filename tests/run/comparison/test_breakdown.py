"""Scores by class and by group agree with scikit-learn and nervaluate, and with the rows that they are of."""

import json
import random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nervaluate import Evaluator
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from finesearch.plan import Plan, TaskPlan
from finesearch.run.comparison.compute_breakdown import (
    LEAST_ROWS,
    MOST_CHARACTERS,
    _shown,
    class_rows,
    compute_breakdown,
    confusion,
)
from finesearch.run.score_cache import CheckpointScore
from finesearch.tasks import TaskFacts, make_task
from plans import empty_plan

NAMES = ("bad", "fine", "good", "never")
COLUMNS = {
    "text-classification": {"text": "text", "label": "label"},
    "token-classification": {"tokens": "tokens", "tags": "tags"},
    "question-answering": {"question": "q", "context": "c", "answers": "a"},
    "translation": {"source": "de", "target": "en"},
}


FACTS = TaskFacts(kind="any", label_names=NAMES)


def of_kind(kind: str, **options: Any) -> Any:
    plan = TaskPlan.model_validate(
        {"kind": kind, "model": "m", "data": {"train": "t.csv"}, "columns": COLUMNS[kind], **options}
    )
    return make_task(plan).with_facts(TaskFacts(kind=kind, label_names=NAMES))


def drawn(seed: int, n: int = 300) -> list[int]:
    chosen = random.Random(seed)
    return [chosen.choice((0, 0, 0, 1, 2)) for _ in range(n)]


def test_scores_by_class_are_those_of_scikit_learn() -> None:
    task, true, given = of_kind("text-classification"), drawn(1), drawn(2)
    said = {"one": task.classes_in(given, FACTS), "right": task.classes_in(true, FACTS)}
    rows = class_rows(said, said["right"])
    assert rows[0].name == "bad", "the most frequent class is first"
    assert {row.name for row in rows} == {"bad", "fine", "good"}, "a class without rows has no score"
    precision, recall, f1, rows_of = precision_recall_fscore_support(true, given, labels=range(4), zero_division=0.0)
    for row in rows:
        number, scores = NAMES.index(row.name), row.scores["one"]
        assert (scores.precision, scores.recall, scores.f1) == pytest.approx(
            (precision[number], recall[number], f1[number])
        )
        assert row.rows == rows_of[number]
        assert row.scores["right"].f1 == 1.0
    table = confusion(said["one"], said["right"])
    assert table is not None
    assert [list(counts) for counts in table.counts] == confusion_matrix(true, given).tolist()


def test_probabilities_and_sets_of_labels_name_classes_too() -> None:
    likely = of_kind("text-classification", metric="log_loss")
    assert likely.classes_in([[0.1, 0.2, 0.6, 0.1], 1], FACTS) == [[("good", None)], [("fine", None)]]
    several = of_kind("text-classification", form="multi-label")
    said, true = several.classes_in([[0, 2], []], FACTS), several.classes_in([[0], [1]], FACTS)
    (bad, fine) = class_rows({"it": said}, true)
    assert (bad.name, bad.scores["it"].f1, fine.name, fine.scores["it"].recall) == ("bad", 1.0, "fine", 0.0)
    assert confusion(said, true) is None, "an answer of two labels has no column of its own"
    number = of_kind("text-classification", form="regression")
    assert number.classes_in([0.5], FACTS) is None


def test_scores_by_entity_type_are_those_of_nervaluate() -> None:
    chosen = random.Random(3)

    def sentence() -> list[list[Any]]:
        starts = [place for place in range(0, 12, 3) if chosen.random() < 0.7]
        return [[start, start + chosen.choice((1, 2)), chosen.choice(("LOC", "PER"))] for start in starts]

    true, given = [sentence() for _ in range(60)], [sentence() for _ in range(60)]
    task = of_kind("token-classification")
    rows = class_rows({"it": task.classes_in(given, FACTS)}, task.classes_in(true, FACTS))
    loaded = [
        [[{"label": label, "start": start, "end": end - 1} for start, end, label in spans] for spans in each]
        for each in (true, given)
    ]
    theirs = Evaluator(*loaded, tags=["LOC", "PER"], loader="dict").evaluate()["entities"]
    assert {row.name for row in rows} == {"LOC", "PER"}
    for row in rows:
        strict = theirs[row.name]["strict"]
        scores = row.scores["it"]
        assert (scores.precision, scores.recall, scores.f1) == pytest.approx(
            (strict.precision, strict.recall, strict.f1)
        )


def test_questions_are_told_apart_by_their_first_word_and_all_rows_by_length() -> None:
    questions = of_kind("question-answering")
    rows = {"q": ["Who?", "¿Qué es?", "who else", ""], "c": ["a", "b", "c", "d"]}
    assert questions.groups(rows)["first word of the question"] == ["who", "qué", "who", ""]
    words = of_kind("token-classification")
    assert words.groups({"tokens": [["a"], ["a", "b"]]}) == {"length of the input in items": ["1", "2"]}
    texts = of_kind("translation")
    assert texts.groups({"de": ["ab", "abcd"], "en": ["", ""]}) == {"length of the input in characters": ["2", "4"]}


def breakdown_of(plan: Plan, task: Any, texts: list[str], answers: dict[str, list[Any]], true: list[Any]) -> Any:
    rows = {"text": texts, "label": true}
    splits = SimpleNamespace(plain_rows=lambda split: rows if split == "test" else {})
    preflight = cast(Any, SimpleNamespace(task=task, facts=FACTS, splits=splits))
    scores = {name: CheckpointScore(name, None, {}, {}, given, true) for name, given in answers.items()}
    before = {name: scores.pop(name) for name in ("zero_shot", "ordinary") if name in scores}
    return compute_breakdown(plan, preflight, before, scores)


def test_a_group_has_the_score_of_its_rows_and_a_paired_gain() -> None:
    plan, task = empty_plan(), of_kind("text-classification")
    true = drawn(4, 80)
    texts = ["x" * (5 if place < 40 else 50) for place in range(80)]
    worse = [(answer + 1) % 3 if place < 40 else answer for place, answer in enumerate(true)]
    found = breakdown_of(plan, task, texts, {"trial 1": true, "trial 2": worse, "ordinary": worse}, true)
    assert (list(found.systems), found.before, found.winner) == (
        ["ordinary", "trial 1", "trial 2"],
        "ordinary",
        "trial 1",
    )
    short, long = found.groups
    assert (short.group, short.rows, short.scores) == ("5", 40, {"ordinary": 0.0, "trial 1": 1.0, "trial 2": 0.0})
    assert short.gain_interval == (1.0, 1.0)
    assert (long.group, long.scores["ordinary"], long.gain_interval) == ("50", 1.0, (0.0, 0.0))
    assert long.intervals["trial 1"] == (1.0, 1.0)
    alone = breakdown_of(plan, task, texts, {"trial 1": true}, true)
    assert (alone.before, alone.groups[0].gain_interval) == (None, None)
    assert breakdown_of(plan, task, texts, {"ordinary": true}, true).systems == ()


def test_small_groups_have_no_interval() -> None:
    true = [0] * (LEAST_ROWS - 1)
    found = breakdown_of(empty_plan(), of_kind("text-classification"), ["a"] * len(true), {"trial 1": true}, true)
    assert found.groups[0].intervals == {}
    assert json.loads(found.model_dump_json())["groups"][0]["scores"] == {"trial 1": 1.0}


def test_the_worst_rows_are_those_that_all_answer_wrongly() -> None:
    true, texts = [0, 1, 2, 0, 1], [f"text {place}" for place in range(5)]
    answers = {"trial 1": [0, 2, 0, 1, 1], "trial 2": [0, 1, 0, 1, 1], "ordinary": [1, 1, 1, 0, 0]}
    task = of_kind("text-classification")
    found = breakdown_of(empty_plan(), task, texts, answers, true)
    # Row 3 is wrong in all, row 4 in two, row 2 in one; trial 1 has rows 1 and 5 right.
    assert [each.row for each in found.examples] == [3, 4, 2]
    first = found.examples[0]
    assert (first.inputs, first.true) == ({"text": "text 2"}, "good")
    assert first.answers == {"ordinary": "fine", "trial 1": "bad", "trial 2": "bad"}
    fewer = breakdown_of(empty_plan(report="{baselines: [], examples: 1}"), task, texts, answers, true)
    assert [each.row for each in fewer.examples] == [3]
    silent = breakdown_of(empty_plan(report="{baselines: [], examples: 0}"), task, texts, answers, true)
    assert silent.examples == ()
    likely = of_kind("text-classification", metric="log_loss")
    plan = empty_plan().model_copy(update={"task": likely.plan})
    sure = [[0.1, 0.8, 0.1, 0.0], [0.1, 0.8, 0.1, 0.0]]
    (wrong,) = breakdown_of(plan, likely, texts[:2], {"trial 1": sure}, [0, 1]).examples
    assert (wrong.row, wrong.true, wrong.answers) == (1, "bad", {"trial 1": "fine"})


def test_long_and_nested_inputs_are_one_short_line() -> None:
    assert _shown("a\n b") == "a b"
    assert len(_shown("word " * 500)) == MOST_CHARACTERS
    assert _shown(["Ada", "wrote"]) == "Ada wrote"
    assert (
        _shown([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]) == "user: Hi assistant: Ho"
    )
    assert _shown([[0, 2, "PER"], [3, 4, "LOC"]]) == "0 2 PER, 3 4 LOC"
    assert _shown(0.123456) == "0.1235"
