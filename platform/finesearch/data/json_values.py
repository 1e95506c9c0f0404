"""Reads one JSON text, and refuses what no table can hold: half characters, deep nesting, endless numbers."""

from __future__ import annotations

import json
import re
from typing import Any

from finesearch.errors import DataError

MAX_DEPTH = 64
"""Lists and objects in one another; a conversation with tool calls has about eight."""
_MAY_BE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


def parse_json(content: bytes, where: str) -> Any:
    """The value of a JSON text; ``where`` names it for messages.

    Raises:
        json.JSONDecodeError, UnicodeDecodeError: it is none, which readers tell with a line.
        DataError: it is nested too deeply, or holds a number of thousands of digits.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise _too_deep(where) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError as error:
        # Python reads whole numbers of at most 4,300 digits.
        raise DataError(
            f"{where}: a number of thousands of digits ({str(error).partition(';')[0]}), expected at most 64 bits."
            "\n  Write it as a string, or as a shorter number."
        ) from error


def may_hold_surrogates(content: bytes) -> bool:
    """Whether half of a surrogate pair may stand in a JSON text.

    >>> may_hold_surrogates(b'"\\\\ud83d"'), may_hold_surrogates(b'"\\\\u00e9"')
    (True, False)
    """
    return _MAY_BE_SURROGATE.search(content) is not None


def refuse_surrogates(value: Any, where: str) -> None:
    r"""Check that every character is whole: ``\ud83d\ude00`` is, ``\ud83d`` alone is not.

    Raises:
        DataError: one is not.
    """
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: the escape \\u{ord(text[error.start]):04x} is half of a character (a surrogate without its "
            "other half), expected whole characters.\n  Some program cut the text there: write the character whole, "
            "or remove the escape."
        ) from error


def refuse_deep(value: Any, where: str) -> None:
    """Check that lists and objects are nested at most ``MAX_DEPTH`` deep.

    Raises:
        DataError: they are deeper.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for part in level:
            values = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
            inner += [each for each in values if isinstance(each, dict | list)]
        if not inner:
            return
        level = inner
    raise _too_deep(where)


def _too_deep(where: str) -> DataError:
    return DataError(
        f"{where}: lists and objects are nested more than {MAX_DEPTH} deep, expected a row of a table.\n"
        "  Write the text as a string, or name another file."
    )
