"""A question to a model. Exports include a copy of this file, so it needs only Python."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One question about one example.

    fields: texts for the placeholders of a template. answer: the index of the correct candidate, if known. written: the
    correct answer as text, if known and there are no candidates. span: [start, end) in characters of the part of
    ``text`` that the question is about; None: all of it.
    """

    __pydantic_config__ = {"extra": "forbid"}

    fields: dict[str, str]
    answer: int | None = None
    written: str | None = None
    span: tuple[int, int] | None = None

    @property
    def is_answered(self) -> bool:
        return self.answer is not None or self.written is not None
