"""Lengths of the inputs of a split in tokens, and what ``task.max_length`` cuts of them, from a sample of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.tasks import make_task
from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.training.trial_types import FrozenRecord

if TYPE_CHECKING:
    from finesearch.tasks import RawSplits, Task, TaskFacts
    from finesearch.training.model.model_facts import ModelFacts

PARTS, ROWS_A_PART = 16, 128
"""Sample of a split: this many stretches of this many rows."""
WHOLE = 1_000_000
"""A ``max_length`` that cuts nothing."""
BARS, BAR_WIDTH = 8, 24
"""Most bars of a histogram, and characters of its longest bar."""


class InputLengths(FrozenRecord):
    """Tokens of each sampled row, whole. ``rows``: of the split. ``kept``: tokens of the sample that training reads.

    ``parts``: token rows of the sample; more than its rows where long ones are read in parts, of which nothing is lost.
    """

    lengths: tuple[int, ...]
    rows: int
    kept: int
    parts: int
    max_length: int

    def lines(self) -> list[str]:
        """A histogram of a few lines, and what is cut."""
        found = np.asarray(self.lengths)
        counted = "" if len(found) == self.rows else f", from {len(found):,} of {self.rows:,} rows"
        typical = f"half up to {np.median(found):.0f}, 95 % up to {np.percentile(found, 95):.0f}"
        head = f"tokens of a train row: {typical}, longest {found.max():,}{counted}"
        limits = _limits(int(found.min()), int(found.max()))
        counts = np.histogram(found, bins=[0, *(limit + 1 for limit in limits)])[0]
        lows = [int(found.min()), *(limit + 1 for limit in limits[:-1])]
        names = [f"{low:,} to {high:,}" for low, high in zip(lows, limits, strict=True)]
        width = max(map(len, names))
        bars = [
            f"{name:>{width}} {'█' * round(BAR_WIDTH * count / counts.max()):<{BAR_WIDTH}} {count / len(found):4.0%}"
            for name, count in zip(names, counts, strict=True)
        ]
        return [head, *bars, self._cut()]

    def _cut(self) -> str:
        found = np.asarray(self.lengths)
        longer, lost = float((found > self.max_length).mean()), max(0.0, 1.0 - self.kept / max(1, int(found.sum())))
        if self.parts > len(found):
            return f"task.max_length {self.max_length}: {longer:.1%} of the rows are read in parts; nothing is cut"
        if not lost:
            return f"task.max_length {self.max_length} cuts nothing"
        return f"task.max_length {self.max_length} cuts {longer:.1%} of the rows and {lost:.1%} of the tokens"


def _limits(shortest: int, longest: int) -> list[int]:
    """Upper limits of the bars: powers of two, of which the last reaches the longest row.

    >>> _limits(9, 100), _limits(1, 1000)[:2], _limits(3, 3)
    ([16, 32, 64, 128], [8, 16], [4])
    """
    first, last = ((max(2, length) - 1).bit_length() for length in (shortest, longest))
    return [2**power for power in range(max(first, last - BARS + 1), last + 1)]


def _starts(rows: int) -> list[int]:
    """First rows of the stretches; all rows where they are few."""
    if rows <= PARTS * ROWS_A_PART:
        return list(range(0, rows, ROWS_A_PART))
    return [int(at) for at in np.linspace(0, rows - ROWS_A_PART, PARTS)]


def measure_lengths(task: Task, splits: RawSplits, facts: TaskFacts, model: ModelFacts) -> InputLengths:
    """Lengths of train's rows, encoded as in training, with and without the limit."""
    from finesearch.training.model.added_tokens import task_tokenizer
    from finesearch.training.model.model_files import quiet_transformers

    tokenizer, _ = task_tokenizer(Path(model.folder), facts)
    whole = make_task(task.plan.model_copy(update={"max_length": WHOLE})).with_facts(facts)
    for each in (task, whole):
        if isinstance(each, GenerationTask):
            each.prepare_tokenizer(tokenizer)
    rows = len(splits["train"])
    lengths: list[int] = []
    cut: list[int] = []
    with quiet_transformers():  # which warns of texts that are longer than the model's limit
        for start in _starts(rows):
            part = splits.plain_rows("train", start, min(rows, start + ROWS_A_PART))
            lengths += _token_counts(whole, part, tokenizer, facts)
            cut += _token_counts(task, part, tokenizer, facts)
    return InputLengths(
        lengths=tuple(lengths), rows=rows, kept=sum(cut), parts=len(cut), max_length=task.plan.max_length
    )


def _token_counts(task: Task, rows: dict[str, list[Any]], tokenizer: Any, facts: TaskFacts) -> Sequence[int]:
    return [len(ids) for ids in task.encode(rows, tokenizer, facts)["input_ids"]]
