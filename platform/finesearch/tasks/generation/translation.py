"""Translation of a text from one language to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from finesearch.tasks.generation.metric_tokenizers import bleu_tokenizer, choose_bleu_tokenizer
from finesearch.tasks.generation.text_to_text import TextToText
from finesearch.tasks.generation.translation_metrics import (
    CORPUS_METRICS,
    MAX_SCORE,
    corpus_score,
    scores_of_sums,
    sentence_counts,
)
from finesearch.tasks.task import SufficientStatistics


class Translation(TextToText):
    """Columns: ``source`` and ``target``."""

    kind: ClassVar[str] = "translation"
    version: ClassVar[int] = 1
    source_role: ClassVar[str] = "source"
    target_role: ClassVar[str] = "target"

    def choose_metric_tokenizer(self, references: Sequence[str]) -> tuple[str, str]:
        return choose_bleu_tokenizer(references)

    @property
    def _tokenizer(self) -> str:
        return bleu_tokenizer(self.plan.metric_tokenizer)

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {name: corpus_score(name, predictions, references, self._tokenizer) for name in CORPUS_METRICS}

    def metric(self, name: str) -> Callable[[Sequence[str], Sequence[str]], float]:
        return lambda predictions, references: corpus_score(name, predictions, references, self._tokenizer)

    def statistics(
        self, name: str, predictions: Sequence[str], references: Sequence[str]
    ) -> SufficientStatistics | None:
        return SufficientStatistics(
            sentence_counts(name, predictions, references, self._tokenizer), lambda sums: scores_of_sums(name, sums)
        )

    def scale(self, name: str, value: float) -> float:
        return MAX_SCORE
