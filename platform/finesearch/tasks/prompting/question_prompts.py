"""Prompts for question answering: an encoder finds the words of the context most similar to the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from finesearch.tasks.extraction.question_answering import QuestionAnswering
from finesearch.tasks.extraction.squad_rows import parse_answers
from finesearch.tasks.prompting.prompt_task import PromptTask, Rows
from finesearch.tasks.prompting.question import Question


class ExtractivePromptTask(PromptTask):
    """One question per row, whose answer is a part of its context. By similarity, which takes no examples."""

    methods: ClassVar[tuple[str, ...]] = ("similarity",)
    shows_examples: ClassVar[bool] = False
    task: QuestionAnswering

    def template(self, method: str, shows_examples: bool = False) -> str:
        return ""

    def questions(self, rows: Rows) -> list[list[Question]]:
        columns = self.task.plan.columns
        contexts, asked = rows[columns["context"]], rows[columns["question"]]
        answers = rows.get(columns["answers"])
        found = []
        for row, (context, question) in enumerate(zip(contexts, asked, strict=True)):
            true = None if answers is None else next(iter(parse_answers(answers[row])[0]), "")
            found.append([Question(fields={"question": question, "context": context}, written=true)])
        return found

    def predictions(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Predictions for ``Task.score``: an answer is always given."""
        return [{"text": text, "null_margin": 0.0, "n_best": []} for text in texts]
