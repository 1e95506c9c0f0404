"""SQuAD's own JSON file, versions 1.1 and 2.0 (Rajpurkar et al., 2016, 2018): articles, paragraphs, questions."""

from __future__ import annotations

from typing import Any

from finesearch.errors import DataError

_SHAPE = 'Expected {"data": [{"paragraphs": [{"context", "qas": [{"question", "answers", "is_impossible"}]}]}]}.'


def is_squad_file(content: Any) -> bool:
    """Whether JSON has SQuAD's outermost shape.

    >>> is_squad_file({"version": "1.1", "data": [{"title": "x", "paragraphs": []}]}), is_squad_file({"data": [1]})
    (True, False)
    """
    articles = content.get("data") if isinstance(content, dict) else None
    return (
        isinstance(articles, list)
        and bool(articles)
        and all(isinstance(article, dict) and "paragraphs" in article for article in articles)
    )


def squad_rows(content: dict[str, Any], name: str) -> tuple[list[dict[str, Any]], str]:
    """One row a question, with ``id``, ``title``, ``context``, ``question`` and ``answers``; and a note.

    A question that is impossible has no answers; its plausible ones are left out.

    Raises:
        DataError: a part that is missing or of another type, an impossible question with answers; by article.
    """
    rows: list[dict[str, Any]] = []
    for number, article in enumerate(content["data"], start=1):
        try:
            rows += [
                {
                    "id": question.get("id"),
                    "title": article.get("title"),
                    "context": paragraph["context"],
                    "question": question["question"],
                    "answers": _answers(question, name),
                }
                for paragraph in article["paragraphs"]
                for question in paragraph["qas"]
            ]
        except (KeyError, TypeError, AttributeError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else f"is not of SQuAD's shape ({error})"
            raise DataError(f"{name}, article {number}: {what}.\n  {_SHAPE}") from error
    without = sum(not row["answers"]["text"] for row in rows)
    return rows, (
        f"{name}: SQuAD's own file, version {content.get('version', 'unknown')}, read as one row a question. "
        f"Questions: {len(rows)}; without an answer: {without}."
    )


def _answers(question: dict[str, Any], name: str) -> dict[str, list[Any]]:
    is_impossible = bool(question.get("is_impossible"))
    answers = question.get("answers", []) if is_impossible else question["answers"]
    if is_impossible and answers:
        raise DataError(
            f"{name}, question {question.get('id')!r}: is_impossible, and yet it has answers.\n"
            "  Remove the answers, or set is_impossible to false."
        )
    return {key: [answer[key] for answer in answers] for key in ("text", "answer_start")}
