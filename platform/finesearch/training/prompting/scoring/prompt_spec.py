"""What a model is asked and how. Exports take this file along: it needs Python alone."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from finesearch.tasks.prompting.question import Question


@dataclass(frozen=True)
class PromptSpec:
    """Complete: with the model and the tokenizer, it answers.

    method: likelihood, cloze, similarity or generation. style: chat or plain. candidates: the possible answers, by
    their numbers; () where they are written. calibrate: whether an answer's likelihood is set against that without
    content. examples: what is shown before a question; with ``similar_shown`` the pool out of which so many are taken
    for each question, those most like it. answer: the placeholder of the template that stands for the answer. labels:
    the candidates by the names that the data has for them. max_length: tokens that each text is cut to; of a prompt
    behind which is written, that it has in all, its examples apart. answer_tokens: that a written answer may take.
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
