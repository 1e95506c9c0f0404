"""Question answering: rows in SQuAD's columns, windows, spans back as text, the scorer's rules, the null threshold."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from finesearch.errors import DataError, PlanError
from finesearch.plan import TaskPlan, parse_plan
from finesearch.tasks import RawSplits, TaskFacts, make_task
from finesearch.tasks.extraction.squad_metrics import max_over_answers, null_threshold
from finesearch.tasks.task import UnencodableRow

COLUMNS = {"question": "question", "context": "context", "answers": "answers"}
CONTEXT = "The river Rhine rises in Switzerland. It flows to the North Sea, past Basel and Cologne."


def answer(text: str, context: str = CONTEXT) -> dict[str, Any]:
    return {"text": [text], "answer_start": [context.index(text)]} if text else {"text": [], "answer_start": []}


def rows_of(*answers: Any, context: str = CONTEXT) -> dict[str, list[Any]]:
    return {
        "question": [f"Question {number}?" for number in range(len(answers))],
        "context": [context] * len(answers),
        "answers": list(answers),
    }


@pytest.fixture
def plan(make_plan: Callable[..., TaskPlan]) -> Callable[..., TaskPlan]:
    def make(**fields: Any) -> TaskPlan:
        return make_plan(**{"kind": "question-answering", "columns": COLUMNS, "max_length": 64, "stride": 8, **fields})

    return make


def outputs_for(batch: dict[str, Any], sure: float = 5.0) -> Any:
    """Logits that point at the spans of a batch."""
    shape = batch["input_ids"].shape
    start, end = torch.zeros(shape), torch.zeros(shape)
    for row, (first, last) in enumerate(batch["labels"].tolist()):
        start[row, first], end[row, last] = sure, sure
    return SimpleNamespace(start_logits=start, end_logits=end)


def encoded(task: Any, rows: dict[str, list[Any]], tokenizer: Any) -> list[dict[str, Any]]:
    made = task.encode(rows, tokenizer, TaskFacts(kind=task.kind))
    return [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]


@pytest.mark.parametrize("max_length", [64, 24])
def test_what_points_at_the_answer_comes_back_as_its_text(max_length: int, plan: Any, tokenizer: Any) -> None:
    task = make_task(plan(max_length=max_length))
    texts = ["Rhine", "Switzerland", "the North Sea", "Cologne", ""]
    rows = encoded(task, rows_of(*map(answer, texts)), tokenizer)
    assert (len(rows) > len(texts)) == (max_length == 24)
    assert [row["window"] for row in rows].count(0) == len(texts)
    batch = task.collate(rows, tokenizer)
    combined = task.combine(task.predict(outputs_for(batch), batch), rows, TaskFacts(kind=task.kind))
    references = task.references(rows)
    assert references == [[text] if text else [] for text in texts]
    assert [given["text"] for given in combined[:4]] == texts[:4]
    # Of the last all windows say that there is none; of the others one at least does not.
    assert combined[4]["null_margin"] > 0 > max(given["null_margin"] for given in combined[:4])
    decision = task.calibrate(combined, references)
    final = task.decide(combined, decision)
    assert [given["text"] for given in final] == texts
    assert task.score(final, references) == {"exact_match": 1.0, "f1": 1.0}
    assert json.loads(json.dumps(final)) == final


def test_neighbouring_windows_share_the_stride(plan: Any, tokenizer: Any) -> None:
    task = make_task(plan(max_length=22, stride=8))
    rows = encoded(task, rows_of(answer("Rhine")), tokenizer)
    assert len(rows) > 1
    for left, right in zip(rows, rows[1:], strict=False):
        shared = [start for start in left["starts"] if start in set(right["starts"])]
        assert len(shared) == 8
    assert rows[-1]["ends"][-1] == len(CONTEXT)
    assert all(len(row["input_ids"]) <= 22 for row in rows)


def test_no_answer_is_longer_than_the_plan_allows(plan: Any, tokenizer: Any) -> None:
    task = make_task(plan(max_answer_length=2))
    rows = encoded(task, rows_of(answer("river Rhine rises in Switzerland")), tokenizer)
    batch = task.collate(rows, tokenizer)
    (found,) = task.combine(task.predict(outputs_for(batch), batch), rows, TaskFacts(kind=task.kind))
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text, _ in found["n_best"]]
    assert lengths
    assert max(lengths) <= 2


def test_loss_is_the_mean_cross_entropy_of_start_and_end(plan: Any, tokenizer: Any) -> None:
    task = make_task(plan())
    rows = encoded(task, rows_of(answer("Rhine"), answer("", "x")), tokenizer)
    for name in ("input_ids", "token_type_ids"):
        rows[1][name] = rows[1][name][:-4]  # so that the batch has padding
    batch = task.collate(rows, tokenizer)
    generator = torch.Generator().manual_seed(0)
    start, end = (torch.randn(batch["input_ids"].shape, generator=generator, requires_grad=True) for _ in range(2))
    loss = task.loss(SimpleNamespace(start_logits=start, end_logits=end), batch)
    mask = batch["attention_mask"].bool()
    plain = []
    for row in range(2):
        for logits, place in zip((start, end), batch["labels"][row].tolist(), strict=True):
            plain.append(-logits[row][mask[row]].log_softmax(-1)[place])
    assert float(loss.detach()) == pytest.approx(float(sum(plain).detach()) / 4, abs=1e-6)
    loss.backward()
    assert float(start.grad[1][~mask[1]].abs().sum()) == 0.0
    smoothed = task.loss(SimpleNamespace(start_logits=start, end_logits=end), batch, label_smoothing=0.2)
    assert torch.isfinite(smoothed)
    assert float(smoothed) != pytest.approx(float(loss))
    same = SimpleNamespace(start_logits=start, end_logits=end)
    other = SimpleNamespace(start_logits=start * 2, end_logits=end)
    assert float(task.divergence(same, same, batch)) == 0.0
    assert float(task.divergence(same, other, batch)) > 0.0


# What the official scorer gives: articles, punctuation and case do not count, and the best of several answers does.
SCORED = [
    ("The Rhine!", ["Rhine"], 1.0, 1.0),
    ("rhine river", ["the Rhine", "Rhine River"], 1.0, 1.0),
    ("in Switzerland", ["Switzerland"], 0.0, 2 / 3),
    ("Basel and Cologne", ["Cologne and Basel"], 0.0, 1.0),
    ("a a a", ["b"], 0.0, 0.0),
    ("", ["Rhine"], 0.0, 0.0),
    ("", [], 1.0, 1.0),
    ("Rhine", [], 0.0, 0.0),
    ("the the Rhine Rhine", ["Rhine"], 0.0, 2 / 3),
    ("1,000", ["1000"], 1.0, 1.0),
    ("Rhine", ["the", ""], 0.0, 0.0),
]


@pytest.mark.parametrize(("given", "true", "exact", "f1"), SCORED)
def test_answers_are_scored_by_squads_rules(given: str, true: list[str], exact: float, f1: float) -> None:
    assert max_over_answers("exact_match", given, true) == exact
    assert max_over_answers("f1", given, true) == pytest.approx(f1)


def test_the_threshold_is_the_best_of_all() -> None:
    import random

    draw = random.Random(0)
    for _ in range(50):
        size = draw.randrange(1, 12)
        margins = [draw.choice([-2.0, -1.0, 0.5, 0.5, 3.0]) + draw.random() * draw.randrange(2) for _ in range(size)]
        answered = [draw.random() for _ in range(size)]
        unanswered = [float(draw.random() < 0.5) for _ in range(size)]

        def total(threshold: float, parts: Any = (margins, answered, unanswered)) -> float:
            return sum(none if margin > threshold else some for margin, some, none in zip(*parts, strict=True))

        chosen = null_threshold(margins, answered, unanswered)
        edges = [min(margins) - 1, *margins, max(margins) + 1]
        assert total(chosen) == pytest.approx(max(map(total, edges)))


def test_where_every_question_has_an_answer_one_is_always_given(plan: Any) -> None:
    task = make_task(plan())
    predictions = [{"text": "Rhine", "null_margin": 9.0, "n_best": []}]
    assert task.calibrate(predictions, [["Rhine"]]) == {}
    assert task.decide(predictions, {})[0]["text"] == "Rhine"
    assert task.score(task.majority([["Rhine"]], 1), [["Rhine"]]) == {"exact_match": 0.0, "f1": 0.0}


def test_answers_may_be_a_list_of_objects(plan: Any, make_splits: Any, tokenizer: Any) -> None:
    made = plan()
    task = make_task(made)
    rows = rows_of([{"text": "Rhine", "answer_start": CONTEXT.index("Rhine")}], [{"text": "Basel", "answer_start": 70}])
    splits = make_splits(rows, rows, rows, plan=made)
    task.read(splits)
    assert task.answers(splits.plain_rows("test"), TaskFacts(kind=task.kind)) == [["Rhine"], ["Basel"]]


WRONG = [
    ({"text": ["Rhine"], "answer_start": [3]}, "holds the answer 'Rhine' at 3, where the context has ' rive'.*10"),
    ({"text": ["Danube"], "answer_start": [10]}, "It does not stand in the context at all"),
    ({"text": ["Rhine"], "answer_start": [10, 11]}, "holds 1 texts and 2 starts"),
    ({"text": [""], "answer_start": [10]}, "holds the answer '' at 10"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_an_answer_that_is_not_there_is_named_by_row(wrong: Any, message: str, plan: Any, make_splits: Any) -> None:
    made = plan()
    good = rows_of(answer("Rhine"), answer("Basel"))
    splits: RawSplits = make_splits(rows_of(answer("Rhine"), wrong), good, good, plan=made)
    with pytest.raises(DataError, match=f"(?s)row 2: the column 'answers' {message}|row 2.*{message}"):
        make_task(made).read(splits)


def test_blank_texts_and_data_without_answers_are_refused(plan: Any, make_splits: Any) -> None:
    made = plan()
    good, none = rows_of(answer("Rhine"), answer("Basel")), rows_of(answer(""), answer(""))
    blank = {**good, "question": ["Who?", "  "]}
    with pytest.raises(DataError, match="row 2: the column 'question' holds an empty text"):
        make_task(made).read(make_splits(good, blank, good, plan=made))
    with pytest.raises(DataError, match="no train row has an answer in 'answers', expected some"):
        make_task(made).read(make_splits(none, good, good, plan=made))


def test_a_question_that_leaves_no_room_is_refused(plan: Any, tokenizer: Any) -> None:
    rows = rows_of(answer("Rhine"), answer("Basel"))
    rows["question"][1] = "why " * 60
    with pytest.raises(UnencodableRow) as caught:
        make_task(plan()).encode(rows, tokenizer, TaskFacts(kind="question-answering"))
    assert caught.value.row == 1
    assert "leaves room for 1 tokens of the context, expected at least 8" in caught.value.what
    with pytest.raises(UnencodableRow, match="not more than the 16 of the stride"):
        make_task(plan(max_length=22, stride=16)).encode(rows_of(answer("Rhine")), tokenizer, TaskFacts(kind="x"))


def test_the_options_belong_to_this_kind() -> None:
    text = """
name: probe
task: {kind: text-classification, model: m, data: {train: a.csv}, columns: {text: a, label: b}, stride: 3}
space: {}
"""
    with pytest.raises(
        PlanError, match="task.stride: text-classification has no such option.\n  Remove it: it belongs to"
    ):
        parse_plan(text)
