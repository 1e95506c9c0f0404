"""Parameter values that are lists of names or regular expressions, and their text form in a study.

In a plan ``[query, value]`` is one value of such a parameter, and ``[[query], [query, value]]`` a choice between two.
A study stores scalars only: there the value is its items joined by spaces.
"""

import re
from collections.abc import Sequence


def join(value: str | Sequence[str]) -> str:
    """The text form of a value.

    >>> join(["query", "value"]), join(" query  value ")
    ('query value', 'query value')
    """
    return " ".join(split(value))


def split(value: str | Sequence[str]) -> list[str]:
    """The items of a value in either form.

    >>> split("query value"), split(["query"])
    (['query', 'value'], ['query'])
    """
    return value.split() if isinstance(value, str) else list(value)


def list_problem(value: object, words: Sequence[str] = (), are_patterns: bool = False) -> str | None:
    """Why ``value`` is not such a list, or None; each of ``words`` is only allowed alone.

    >>> list_problem(["auto", "query"], words=["auto"])
    "'auto' stands alone"
    >>> list_problem("layer[", are_patterns=True)
    "'layer[' is no regular expression: unterminated character set at position 5"
    """
    if isinstance(value, list) and value and not all(isinstance(item, str) for item in value):
        return "not a list of texts"
    if not isinstance(value, str | list):
        return "not a list of texts"
    if not split(value):
        return "empty"
    items = split(value)
    if isinstance(value, list) and any(len(item.split()) != 1 for item in items):
        return "an item is empty or has a space in it"
    if len(set(items)) < len(items):
        return "an item stands twice"
    if len(items) > 1 and (alone := next((item for item in items if item in words), None)):
        return f"'{alone}' stands alone"
    return next(filter(None, map(_pattern_problem, items)), None) if are_patterns else None


def _pattern_problem(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"'{pattern}' is no regular expression: {error}"
    return None
