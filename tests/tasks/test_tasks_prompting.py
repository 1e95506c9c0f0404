"""What each kind of task asks, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from finesearch.errors import DataError
from finesearch.plan import TaskPlan
from finesearch.tasks import Task, TaskFacts, make_task
from finesearch.tasks.prompting import ChoicePromptTask, PromptTask, Question, make_prompt_task, supports_prompting
from finesearch.tasks.prompting.prompt_task import readable_label
from finesearch.tasks.task import ModelShape

Plans = Callable[..., TaskPlan]
LABELS = ("not_good", "good")


def asking(plan: TaskPlan, *labels: str, shape: ModelShape | None = None) -> Any:
    facts = TaskFacts(kind=plan.kind, label_names=labels, shape=shape)
    found = make_prompt_task(make_task(plan), facts)
    assert isinstance(found, PromptTask)
    return found


def test_a_text_is_one_question_and_its_prediction_a_class_number(make_plan: Plans) -> None:
    own = asking(make_plan(verbalizers={"good": "fine"}), *LABELS)
    assert own.candidates == ("not good", "fine")
    rows = {"text": ["a", "b"], "label": ["good", "not_good"]}
    assert own.questions(rows) == [
        [Question(fields={"text": "a"}, answer=1)],
        [Question(fields={"text": "b"}, answer=0)],
    ]
    assert own.questions({"text": ["a"]}) == [[Question(fields={"text": "a"})]]
    assert own.predictions(rows, [[0], [1]]) == [0, 1]
    assert "{text_pair}" not in own.template("likelihood")


def test_a_pair_fills_two_placeholders(make_plan: Plans) -> None:
    own = asking(make_plan(columns={"text": "one", "text_pair": "two", "label": "label"}), *LABELS)
    (((question),),) = own.questions({"one": ["a"], "two": ["b"], "label": ["good"]})
    assert question.fields == {"text": "a", "text_pair": "b"}
    for method in ("likelihood", "cloze", "similarity"):
        assert own.template(method).count("{text_pair}") == own.template(method).count("{label}") == 1


def test_of_several_labels_the_first_is_shown_and_the_likeliest_predicted(make_plan: Plans) -> None:
    own = asking(make_plan(form="multi-label"), "a", "b", "c")
    rows = {"text": ["x", "y"], "label": [["b", "c"], []]}
    assert [question.answer for (question,) in own.questions(rows)] == [1, None]
    assert [question.is_answered for (question,) in own.questions(rows)] == [True, False]
    assert own.predictions(rows, [[2], [0]]) == [[2], [0]]


def test_every_word_is_asked_about_and_neighbours_of_one_label_are_one_entity(make_plan: Plans) -> None:
    plan = make_plan(kind="token-classification", columns={"tokens": "tokens", "tags": "tags"})
    own = asking(plan, "O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    assert own.candidates == ("nothing", "PER", "LOC")
    rows = {"tokens": [["Ada", "King", "saw", "Rome"]], "tags": [["B-PER", "I-PER", "O", "B-LOC"]]}
    (questions,) = own.questions(rows)
    assert [(q.fields["word"], q.span, q.answer) for q in questions] == [
        ("Ada", (0, 3), 1),
        ("King", (4, 8), 1),
        ("saw", (9, 12), 0),
        ("Rome", (13, 17), 2),
    ]
    assert {q.fields["text"] for q in questions} == {"Ada King saw Rome"}
    assert own.predictions(rows, [[1, 1, 0, 2]]) == [[[0, 2, "PER"], [3, 4, "LOC"]]]
    assert own.predictions(rows, [[1, 2, 2, 1]]) == [[[0, 1, "PER"], [1, 3, "LOC"], [3, 4, "PER"]]]
    assert own.predictions(rows, [[0, 0, 0, 0]]) == [[]]


def test_entities_of_a_text_are_spans_of_its_characters_and_nothing_can_be_named(make_plan: Plans) -> None:
    plan = make_plan(
        kind="token-classification", columns={"text": "text", "spans": "spans"}, verbalizers={"O": "no name"}
    )
    own = asking(plan, "O", "B-LOC", "I-LOC")
    assert own.candidates == ("no name", "LOC")
    rows = {"text": ["to New York"], "spans": [[{"start": 3, "end": 11, "label": "LOC"}]]}
    (questions,) = own.questions(rows)
    assert [question.answer for question in questions] == [0, 1, 1]
    assert own.predictions(rows, [[0, 1, 1]]) == [[[3, 11, "LOC"]]]


@pytest.mark.parametrize("is_split", [True, False])
def test_a_relation_is_asked_about_by_the_words_of_its_two_ends(is_split: bool, make_plan: Plans) -> None:
    column = "tokens" if is_split else "text"
    columns = {column: "t", "head": "h", "tail": "l", "relation": "r"}
    own = asking(make_plan(kind="relation-extraction", columns=columns), "born_in", "no_relation")
    text = "Ada was born in London"
    row = (
        {"t": [text.split()], "h": [[0, 1]], "l": [[4, 5]]}
        if is_split
        else {"t": [text], "h": [[0, 3]], "l": [[16, 22]]}
    )
    known = [[Question(fields={"text": text, "head": "Ada", "tail": "London"}, answer=0)]]
    assert own.questions(row | {"r": ["born_in"]}) == known
    assert own.predictions(row, [[1]]) == ["no_relation"]


def test_what_is_written_is_asked_with_what_training_puts_before_a_target(make_plan: Plans) -> None:
    columns = {"source": "en", "target": "de"}
    plan = make_plan(kind="translation", columns=columns, prefix="as {json}: ", separator=" => ")
    causal = asking(plan, shape=ModelShape(is_encoder_decoder=False, end_token_id=2))
    pair = asking(plan, shape=ModelShape(is_encoder_decoder=True, end_token_id=2, start_token_id=0))
    assert causal.template("generation") == "as {{json}}: {source} => {target}"
    assert pair.template("generation") == "as {{json}}: {source}{target}"
    # Where examples are shown, something must stand between a source and its target.
    assert pair.template("generation", shows_examples=True) == causal.template("generation", shows_examples=True)
    assert (causal.answer, causal.candidates) == ("target", ())
    rows = {"en": ["a film"], "de": ["ein film"]}
    assert causal.questions(rows) == [[Question(fields={"source": "a film"}, written="ein film")]]
    # Nothing of the target is in what is asked, nor in what examples are compared by.
    assert causal.questions({"en": ["a film"]}) == [[Question(fields={"source": "a film"})]]


def test_a_summary_is_asked_for_behind_its_text(make_plan: Plans) -> None:
    plan = make_plan(kind="summarization", columns={"text": "long", "summary": "short"})
    own = asking(plan, shape=ModelShape(is_encoder_decoder=False, end_token_id=2))
    assert own.template("generation") == "{text}\nTL;DR: {summary}"


def test_pairs_with_numbers_are_compared_and_single_texts_are_not(make_plan: Plans) -> None:
    single = make_plan(form="regression")
    assert not supports_prompting(make_task(single))
    assert make_prompt_task(make_task(single), TaskFacts(kind=single.kind)) is None
    own = asking(make_plan(form="regression", columns={"text": "one", "text_pair": "two", "label": "label"}))
    rows = {"one": ["a"], "two": ["b"], "label": ["2.5"]}
    assert own.questions(rows) == [[Question(fields={"text": "a", "text_pair": "b"})]]
    assert own.predictions([0.1]) == [pytest.approx(0.1, abs=1e-8)]


def test_a_task_that_nobody_taught_to_ask_cannot(make_plan: Plans) -> None:
    class Unknown(make_task(make_plan()).__class__):  # type: ignore[misc]
        pass

    task: Task = Unknown(make_plan())
    assert not supports_prompting(task)
    assert make_prompt_task(task, TaskFacts(kind=task.kind)) is None


def test_verbalizers_must_speak_of_labels_and_tell_them_apart(make_plan: Plans) -> None:
    with pytest.raises(DataError, match=r"no label 'god'\. Did you mean 'good'\? Labels here: not_good, good\."):
        asking(make_plan(verbalizers={"god": "x"}), *LABELS)
    with pytest.raises(DataError, match=r"'not_good' and 'good' are both called 'fine', expected a word of its own"):
        asking(make_plan(verbalizers={"good": "fine", "not_good": "fine"}), *LABELS)
    # Also where two names sound alike.
    with pytest.raises(DataError, match=r"'a_b' and 'a-b' are both called 'a b'"):
        asking(make_plan(), "a_b", "a-b")
    assert isinstance(asking(make_plan(verbalizers={"a-b": "other"}), "a_b", "a-b"), ChoicePromptTask)
    assert (readable_label("a_b"), readable_label("-")) == ("a b", "-")
