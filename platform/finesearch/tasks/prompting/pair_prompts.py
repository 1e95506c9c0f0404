"""Prompts for regression of text pairs: how similar are the two?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from finesearch.plan.sections.task_kinds import CORRELATIONS
from finesearch.tasks.prompting.prompt_task import PromptTask, Rows
from finesearch.tasks.prompting.question import Question
from finesearch.tasks.task import Task

TEXT_ROLES = ("text", "text_pair")


class PairPromptTask(PromptTask):
    """Predicts the cosine of the two texts' embeddings (Reimers and Gurevych, Sentence-BERT, 2019).

    Its scale differs from the target's, but the task scores correlations.
    """

    methods: ClassVar[tuple[str, ...]] = ("similarity",)
    shows_examples: ClassVar[bool] = False
    needs: ClassVar[str] = (
        "pairs of texts (columns.text_pair), which are compared by similarity, and a correlation as task.metric"
    )

    @classmethod
    def supports(cls, task: Task) -> bool:
        return task.plan.metric in CORRELATIONS and all(side in task.plan.columns for side in TEXT_ROLES)

    def template(self, method: str, shows_examples: bool = False) -> str:
        return "{text}\n{text_pair}"

    def questions(self, rows: Rows) -> list[list[Question]]:
        first, second = (rows[self.task.plan.columns[side]] for side in TEXT_ROLES)
        return [
            [Question(fields=dict(zip(TEXT_ROLES, map(str, pair), strict=True)))]
            for pair in zip(first, second, strict=True)
        ]

    def predictions(self, cosines: Sequence[float]) -> list[float]:
        """Predictions for ``Task.score``, from the cosine of each example."""
        return [float(np.float32(cosine)) for cosine in cosines]
