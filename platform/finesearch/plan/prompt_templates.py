"""Prompt templates: text with placeholders in braces, ``{text}``; literal braces are doubled.

Exports include a copy of this file, so it only imports the standard library.
"""

from __future__ import annotations

import re
from string import Formatter

AUTO = "auto"


def placeholders(template: str) -> list[str]:
    """The names in braces, in their order.

    >>> placeholders("{text} It was {label}.")
    ['text', 'label']

    Raises:
        ValueError: a single brace.
    """
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def split_at_answer(template: str, answer: str) -> tuple[str, str]:
    """The template before and after the placeholder of the answer, unfilled.

    >>> split_at_answer("{text} {{label}} is {label}.", "label")
    ('{text} {{label}} is ', '.')
    """
    found = re.search(rf"(?<!\{{)(?:\{{\{{)*(\{{{re.escape(answer)}\}})", template)
    assert found is not None, template
    return template[: found.start(1)], template[found.end(1) :]


def escape_braces(text: str) -> str:
    """A text with its braces doubled, for use in a template.

    >>> escape_braces("as {json}: ")
    'as {{json}}: '
    """
    return text.replace("{", "{{").replace("}", "}}")
