"""Summarization of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import ClassVar

from finesearch.tasks.generation.metric_tokenizers import choose_rouge_tokenizer, rouge_tokenizer
from finesearch.tasks.generation.rouge import ROUGE_METRICS, rouge_f_measures
from finesearch.tasks.generation.text_to_text import TextToText


class Summarization(TextToText):
    """Columns: ``text`` and ``summary``."""

    kind: ClassVar[str] = "summarization"
    version: ClassVar[int] = 1
    source_role: ClassVar[str] = "text"
    target_role: ClassVar[str] = "summary"

    def choose_metric_tokenizer(self, references: Sequence[str]) -> tuple[str, str]:
        return choose_rouge_tokenizer(references)

    def _scores(
        self, names: Sequence[str], predictions: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[float]]:
        return rouge_f_measures(predictions, references, names, rouge_tokenizer(self.plan.metric_tokenizer))

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {name: fmean(values) for name, values in self._scores(ROUGE_METRICS, predictions, references).items()}

    def metric(self, name: str) -> Callable[[Sequence[str], Sequence[str]], float]:
        return lambda predictions, references: fmean(self._scores([name], predictions, references)[name])

    def example_scores(self, name: str, predictions: Sequence[str], references: Sequence[str]) -> list[float] | None:
        return self._scores([name], predictions, references)[name]
