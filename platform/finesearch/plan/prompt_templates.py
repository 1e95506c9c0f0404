"""Prompt templates: text with placeholders in braces, ``{text}``; braces themselves are written twice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import Formatter

from finesearch.plan.problems import did_you_mean

AUTO = "auto"


def placeholders(template: str) -> list[str]:
    """The names in braces, in their order.

    >>> placeholders("{text} It was {label}.")
    ['text', 'label']

    Raises:
        ValueError: a brace stands alone.
    """
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def split_at_answer(template: str, answer: str) -> tuple[str, str]:
    """What stands before and behind the placeholder of the answer, unfilled.

    >>> split_at_answer("{text} {{label}} is {label}.", "label")
    ('{text} {{label}} is ', '.')
    """
    found = re.search(rf"(?<!\{{)(?:\{{\{{)*(\{{{re.escape(answer)}\}})", template)
    assert found is not None, template
    return template[: found.start(1)], template[found.end(1) :]


def escape_braces(text: str) -> str:
    """A text as it stands in a template.

    >>> escape_braces("as {json}: ")
    'as {{json}}: '
    """
    return text.replace("{", "{{").replace("}", "}}")


def template_problem(template: str, known: Sequence[str], answer: str, at_end: bool = False) -> tuple[str, str] | None:
    """What is wrong with a template and what to do about it; None when nothing is.

    known: placeholders of the task. answer: the one that stands for what is asked, exactly once; at the end of the
    template where ``at_end``.

    >>> template_problem("{txt}: {label}", ["text", "label"], "label")
    ("unknown placeholder '{txt}'", "Did you mean 'text'? Known here: text, label.")
    """
    if template == AUTO:
        return None
    try:
        names = placeholders(template)
        changed = [name for _, name, form, how in Formatter().parse(template) if form or how]
    except ValueError:
        return "a brace stands alone", "Write '{{' or '}}' for a brace that is meant as one."
    if changed:
        return f"a placeholder is given as it stands, and '{changed[0]}' is changed", f"Write '{{{changed[0]}}}'."
    for name in names:
        if name not in known:
            return f"unknown placeholder '{{{name}}}'", did_you_mean(name, known)
    if names.count(answer) != 1:
        many = "none" if answer not in names else str(names.count(answer))
        return f"expected '{{{answer}}}' once, got it {many} times".replace("none times", "not at all"), (
            f"Put '{{{answer}}}' where the answer is to stand."
        )
    if at_end and not template.endswith(f"{{{answer}}}"):
        return f"expected '{{{answer}}}' at the end", "The model writes the answer behind all else: put it there."
    return None
