"""Summarization of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import ClassVar

from finesearch.tasks.generation.rouge import ROUGE_METRICS, non_latin_share, rouge_f_measures
from finesearch.tasks.generation.text_to_text import TextToText
from finesearch.tasks.raw_splits import RawSplits
from finesearch.tasks.task import TaskFacts

# Share of letters that ROUGE ignores, from which on the report has a note.
MAX_NON_LATIN_SHARE = 0.05


class Summarization(TextToText):
    """Columns: ``text`` and ``summary``."""

    kind: ClassVar[str] = "summarization"
    version: ClassVar[int] = 1
    source_role: ClassVar[str] = "text"
    target_role: ClassVar[str] = "summary"

    def read(self, splits: RawSplits) -> TaskFacts:
        """See the base class; also checks whether ROUGE supports the summaries' script."""
        facts = super().read(splits)
        share = non_latin_share(splits.table("test").column(self.target_column).to_pylist())
        if share < MAX_NON_LATIN_SHARE:
            return facts
        note = (
            f"ROUGE counts words of the letters a-z and digits alone: {share:.0%} of the letters in the test summaries "
            "are others, and it passes over them."
        )
        return facts.model_copy(update={"notes": (*facts.notes, note)})

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {
            name: fmean(values) for name, values in rouge_f_measures(predictions, references, ROUGE_METRICS).items()
        }

    def metric(self, name: str) -> Callable[[Sequence[str], Sequence[str]], float]:
        return lambda predictions, references: fmean(rouge_f_measures(predictions, references, [name])[name])

    def example_scores(self, name: str, predictions: Sequence[str], references: Sequence[str]) -> list[float] | None:
        return rouge_f_measures(predictions, references, [name])[name]
