"""Validates prompt templates."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter

from finesearch.plan.problems import did_you_mean
from finesearch.plan.prompt_templates import AUTO, placeholders


def template_problem(template: str, known: Sequence[str], answer: str, at_end: bool = False) -> tuple[str, str] | None:
    """What is wrong with a template and what to do about it; None when nothing is.

    known: placeholders of the task. answer: the placeholder of the answer, required exactly once; at the end of the
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
