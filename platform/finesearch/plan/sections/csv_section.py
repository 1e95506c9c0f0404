"""The ``task.data.csv`` section of a plan: how CSV and TSV files are written."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from finesearch.plan.problems import Problem, problem_error
from finesearch.plan.sections.section import Section


class CsvPlan(Section):
    """How the cells of CSV and TSV files are separated, quoted and encoded."""

    delimiter: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1,
            description="What separates cells; default: a tab in files named .tsv, else a comma.",
        ),
    ] = None
    quoting: Annotated[
        Literal["double", "none"],
        Field(
            description="double: a cell may stand in double quotes, and then hold delimiters and line breaks; none: "
            "quotes are part of the text, and each line is a row."
        ),
    ] = "double"
    encoding: Annotated[str, Field(description="The files' encoding, by Python's name for it.")] = "utf-8"

    @field_validator("delimiter")
    @classmethod
    def _separates(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and (delimiter in "\"'\r\n" or ord(delimiter) > 127):
            text = (
                f"task.data.csv.delimiter: expected one ASCII character, no quote and no line break, got {delimiter!r}"
            )
            raise problem_error(Problem(("delimiter",), text, 'Usual ones are ",", ";" and "\\t".'))
        return delimiter

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except (LookupError, ValueError):  # an unknown one, or one of bytes to bytes
            text = f"task.data.csv.encoding: expected an encoding of text that Python knows, got {encoding!r}"
            raise problem_error(
                Problem(("encoding",), text, "Usual ones are utf-8, utf-16, latin-1 and cp1252.")
            ) from None
        return encoding
