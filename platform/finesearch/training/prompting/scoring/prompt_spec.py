"""The prompt and its settings. Exports include a copy of this file, so it needs only Python."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from finesearch.tasks.prompting.question import Question


@dataclass(frozen=True)
class PromptSpec:
    """A complete prompt: nothing else is needed but the model and the tokenizer.

    method: likelihood, cloze, similarity or generation. style: chat or plain. candidates: the possible answers, by
    index; () where answers are generated. calibrate: whether an answer's likelihood is divided by its likelihood
    without content. examples: those shown before a question; with ``similar_shown``, the pool from which that many are
    chosen for each question, by similarity. answer: the template's placeholder for the answer. labels: the candidates'
    names in the data. max_length: tokens that each text is truncated to; with generation, tokens of the whole prompt
    without its examples. answer_tokens: maximum tokens of a generated answer.
    """

    __pydantic_config__ = {"extra": "forbid"}

    method: str
    style: str
    template: str
    candidates: tuple[str, ...]
    calibrate: bool
    _: KW_ONLY
    examples: tuple[Question, ...] = ()
    similar_shown: int | None = None
    system: str | None = None
    answer: str = "label"
    labels: tuple[str, ...] = ()
    max_length: int = 128
    answer_tokens: int = 0
