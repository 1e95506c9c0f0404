"""Validates rows by tokenizing them, before a search starts, for tasks that cannot validate them otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.data.tokenize_splits import encode_in_chunks
from finesearch.tasks import SPLITS
from finesearch.training.model.added_tokens import task_tokenizer

if TYPE_CHECKING:
    from finesearch.tasks import RawSplits, Task, TaskFacts


def check_rows(task: Task, splits: RawSplits, facts: TaskFacts, folder: Path) -> None:
    """Encode every row once, for tasks that detect invalid rows only while encoding them.

    folder: the base model's.

    Raises:
        DataError: a row that the task cannot encode, by file and row.
    """
    if not task.may_refuse_rows:
        return
    tokenizer, _ = task_tokenizer(folder, facts)
    for split in SPLITS:
        for _ in encode_in_chunks(splits, split, task, facts, tokenizer):
            pass
