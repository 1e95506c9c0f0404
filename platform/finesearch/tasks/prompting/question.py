"""A question that a model is asked. Exports take this file along: it needs Python alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One question about one example.

    fields: what stands for the placeholders of a template. answer: the number of the right candidate, where it is
    known. written: the right answer itself, where it is known and no candidates are. span: [start, end) in characters
    of the part of ``text`` that is asked about; None: all of it.
    """

    __pydantic_config__ = {"extra": "forbid"}

    fields: dict[str, str]
    answer: int | None = None
    written: str | None = None
    span: tuple[int, int] | None = None

    @property
    def is_answered(self) -> bool:
        return self.answer is not None or self.written is not None
