"""Rows of question answering in SQuAD's columns: validates contexts, questions, and answers with their positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finesearch.errors import DataError
from finesearch.tasks.encoding.list_columns import raise_row_error
from finesearch.tasks.encoding.text_columns import read_texts

if TYPE_CHECKING:
    from finesearch.tasks.raw_splits import Origin, RawSplits

_SHAPE = (
    'Expected {"text": [...], "answer_start": [...]}, both empty for a question without an answer; or a list of '
    '{"text", "answer_start"}.'
)


def parse_answers(value: Any) -> tuple[list[str], list[int]]:
    """Texts of the true answers and their starts in characters; both empty if there is none.

    >>> parse_answers({"text": ["Rhine"], "answer_start": [4]}), parse_answers([{"text": "Rhine", "answer_start": 4}])
    ((['Rhine'], [4]), (['Rhine'], [4]))
    """
    if isinstance(value, dict):
        return list(value["text"]), list(value["answer_start"])
    return [answer["text"] for answer in value], [answer["answer_start"] for answer in value]


def check_rows(splits: RawSplits, split: str, columns: Mapping[str, str]) -> tuple[int, int]:
    """How many questions of a split have an answer, and how many have none.

    Raises:
        DataError: a context or question that is missing or empty, or an answer that is not in its context at
            ``answer_start``; by file and row.
    """
    table, origin, rows = splits.table(split), splits.origins[split], splits.plain_rows(split)
    for role in ("context", "question"):
        read_texts(table.column(columns[role]), columns[role], origin)
    for role in ("context", "question"):
        for row, text in enumerate(rows[columns[role]]):
            if not text.strip():
                raise_row_error(
                    origin, row, columns[role], "holds an empty text", "Remove such rows, or complete them."
                )
    contexts, answers = rows[columns["context"]], rows[columns["answers"]]
    for row, (context, answer) in enumerate(zip(contexts, answers, strict=True)):
        _check_answers(context, answer, columns["answers"], origin, row)
    answered = sum(bool(parse_answers(answer)[0]) for answer in answers)
    return answered, len(answers) - answered


def refuse_unanswered(origin: Origin, answered: int, column: str) -> None:
    """Check that train has something to learn from.

    Raises:
        DataError: no row of train has an answer.
    """
    if not answered:
        raise DataError(
            f"{origin}: no train row has an answer in {column!r}, expected some.\n"
            "  Point `columns.answers` at the column with the answers, or add rows that have some."
        )


def _check_answers(context: str, answer: Any, name: str, origin: Origin, row: int) -> None:
    if isinstance(answer, list) and all(isinstance(each, dict) for each in answer):
        answer = {name: [each.get(name) for each in answer] for name in ("text", "answer_start")}
    texts = answer.get("text") if isinstance(answer, dict) else None
    starts = answer.get("answer_start") if isinstance(answer, dict) else None
    if not isinstance(texts, list) or not isinstance(starts, list):
        raise_row_error(origin, row, name, f"holds {answer!r}", _SHAPE)
    if len(texts) != len(starts):
        raise_row_error(origin, row, name, f"holds {len(texts)} texts and {len(starts)} starts", _SHAPE)
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip() or not isinstance(start, int) or start is True:
            raise_row_error(origin, row, name, f"holds the answer {text!r} at {start!r}", _SHAPE)
        there = context[start : start + len(text)] if start >= 0 else ""
        if there != text:
            found = context.find(text)
            hint = f"It stands at {found}." if found >= 0 else "It does not stand in the context at all."
            what = f"holds the answer {text[:60]!r} at {start}, where the context has {there[:60]!r}"
            raise_row_error(
                origin, row, name, what, f"{hint} Starts count characters from 0: were they counted in bytes?"
            )
