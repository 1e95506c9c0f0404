"""Prompt templates as plan data: what is refused, and what does nothing."""

from typing import Any

import pytest

from finesearch.plan.prompt_templates import escape_braces, split_at_answer
from plan_examples import changed, made, refusal

TRANSLATION = {
    "task__kind": "translation",
    "task__columns": {"source": "en", "target": "de"},
    "task__model": "writer",
    "task__data": {"train": "a.jsonl"},
}
PAIRS = {"task__columns": {"text": "a", "text_pair": "b", "label": "c"}}
RELATION = {
    "task__kind": "relation-extraction",
    "task__columns": {"tokens": "t", "head": "h", "tail": "l", "relation": "r"},
}


def asking(template: Any, name: str = "zero_shot", **parameters: Any) -> dict[str, Any]:
    return {"adaptation": {"one_of": {"full": {}, name: {"template": template, **parameters}}}}


@pytest.mark.parametrize(
    ("change", "template", "message"),
    [
        (
            {},
            "{txt}: {label}",
            "unknown placeholder '{txt}' in '{txt}: {label}'.\n  Did you mean 'text'? Known here: t",
        ),
        ({}, "{text_pair} {label}", "unknown placeholder '{text_pair}' in '{text_pair} {label}'."),
        ({}, "{0} {label}", "unknown placeholder '{0}' in"),
        ({}, "{text}", "expected '{label}' once, got it not at all in '{text}'.\n  Put '{label}' where the answer is"),
        ({}, "{label} {text} {label}", "expected '{label}' once, got it 2 times in"),
        ({}, "{text} {{label}}", "expected '{label}' once, got it not at all in"),
        ({}, "{text} } {label}", "a brace stands alone in '{text} } {label}'.\n  Write '{{' or '}}' for a brace"),
        ({}, ["{text} {label}", "{text"], "a brace stands alone in '{text'."),
        (RELATION, "{head} and {word} are {label}", "unknown placeholder '{word}' in"),
        (
            TRANSLATION,
            "{source} {label}",
            "unknown placeholder '{label}' in '{source} {label}'.\n  Known here: source,",
        ),
        (TRANSLATION, "{source}", "expected '{target}' once, got it not at all in '{source}'."),
        (
            TRANSLATION,
            "German: {target} English: {source}",
            "expected '{target}' at the end in 'German: {target} English: {source}'.\n  The model writes the answer "
            "behind all else: put it there.",
        ),
    ],
)
def test_a_template_that_does_not_fit_is_refused(change: dict[str, Any], template: Any, message: str) -> None:
    said = refusal(changed(**change, space=asking(template)))
    assert f"space.adaptation.zero_shot.template: {message}" in said


@pytest.mark.parametrize(
    ("change", "template"),
    [
        ({}, "{text} is {label}, not {{label}}."),
        ({}, ["{labels}?\n{text}\n{label}", "auto"]),
        (PAIRS, "{text} {text_pair} {label}"),
        (RELATION, "{text} {head} {tail} {label}"),
        (TRANSLATION, "English: {source}\nGerman: {target}"),
    ],
)
def test_templates_that_fit_are_taken(change: dict[str, Any], template: Any) -> None:
    assert made(**change, space=asking(template, "few_shot", examples=4)).warnings == ()


def test_a_template_is_cut_at_the_answer_and_never_at_a_written_brace() -> None:
    for text, parts in (
        ("{{label}} {label}.", ("{{label}} ", ".")),
        ("{{{label}}}", ("{{", "}}")),
        ("{label}", ("", "")),
        ("{labels} {label}", ("{labels} ", "")),
    ):
        assert split_at_answer(text, "label") == parts
    assert escape_braces("{x}").format() == "{x}"


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (
            TRANSLATION | {"space": asking("auto", calibrate=[True, False])},
            "space.adaptation.zero_shot.calibrate has no effect: in translation the answer is written, not chosen.",
        ),
        (
            TRANSLATION | {"space": asking("auto", "few_shot", selection=["balanced", "similar"])},
            "space.adaptation.few_shot.selection: balanced is random in translation, which has no labels to balance.",
        ),
        (
            PAIRS | {"task__form": "regression", "space": asking("auto", calibrate=True)},
            "space.adaptation.zero_shot.calibrate has no effect: in text-classification, form regression, the answer "
            "is a number, not chosen.",
        ),
        (
            {"space": asking("auto", method="similarity", calibrate=True)},
            "space.adaptation.zero_shot.calibrate has no effect: it divides a likelihood, and method is similarity.",
        ),
        (
            PAIRS | {"task__form": "regression", "task__verbalizers": {"1": "one"}},
            "task.verbalizers has no effect: task.form is regression.",
        ),
        (
            {"space": {"adaptation": {"one_of": {"zero_shot": {}, "few_shot": {}}}, "dropout": [0.0, 0.1]}},
            "space.dropout has no effect under any branch of this space.",
        ),
    ],
)
def test_what_prompts_make_of_no_effect_warns_once(change: dict[str, Any], warning: str) -> None:
    assert made(**change).warnings == (warning,)


def test_what_is_said_where_it_works_does_not_warn() -> None:
    space = asking("auto", "few_shot", calibrate=[True, False], selection=["balanced", "random"])
    assert made(space=space).warnings == ()
    assert made(**TRANSLATION, space=asking("auto", "few_shot", selection="similar")).warnings == ()


def test_verbalizers_are_words_of_kinds_with_labels() -> None:
    assert made(task__verbalizers={"re": "regular expressions"}).task.verbalizers == {"re": "regular expressions"}
    assert "task.verbalizers.re: expected" in refusal(changed(task__verbalizers={"re": ""}))
    assert "task.verbalizers: translation has no such option" in refusal(
        changed(**TRANSLATION, task__verbalizers={"re": "x"})
    )
