"""Workload of a task's data: rows and tokens, estimated from a sample that is encoded as in training."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finesearch.data.token_budget import EVALUATION_TOKENS_PER_PASS, num_rows_within
from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.training.model.dimensions import Dimensions
from finesearch.training.trial_types import FrozenRecord

if TYPE_CHECKING:
    from finesearch.tasks import RawSplits, Task, TaskFacts
    from finesearch.training.model.model_facts import ModelFacts

PARTS, ROWS_A_PART = 8, 32
"""Sample of each split: this many stretches of this many rows are encoded."""


class TokenCounts(FrozenRecord):
    """A split as one stack of blocks reads it: its tokens, and the sum of the squared lengths of its rows."""

    tokens: float
    squares: float

    def lengthened(self, tokens: int, rows: int) -> TokenCounts:
        """With ``tokens`` more in each of ``rows`` rows.

        >>> TokenCounts(tokens=6.0, squares=20.0).lengthened(1, rows=2)  # 2 and 4 tokens, then 3 and 5
        TokenCounts(tokens=8.0, squares=34.0)
        """
        squares = self.squares + 2.0 * tokens * self.tokens + float(tokens**2 * rows)
        return TokenCounts(tokens=self.tokens + tokens * rows, squares=squares)

    def repeated(self, times: int, longest: int) -> TokenCounts:
        """With rows ``times`` as long, as far as ``longest`` tokens allow."""
        length = self.squares / max(1.0, self.tokens)
        times_taken = max(1.0, min(float(times), longest / max(1.0, length)))
        return TokenCounts(tokens=self.tokens * times_taken, squares=self.squares * times_taken**2)


class Workload(FrozenRecord):
    """The data that every trial of one plan processes.

    ``num_layers``: blocks that can be frozen from the bottom. ``train``, ``validation``: token counts for each stack of
    ``dimensions``. Rows are token rows. ``new_tokens``: tokens generated for a row of validation in an evaluation
    (0: none), with ``beams`` beams. ``candidates``: answers that a prompted model chooses from. ``positions``: the
    model's input limit in tokens. ``longest_row``: tokens of the longest row of train that was seen.
    """

    dimensions: Dimensions
    num_layers: int
    parameters: int
    train_rows: int
    validation_rows: int
    train: tuple[TokenCounts, ...]
    validation: tuple[TokenCounts, ...]
    evaluation_batch_size: int
    new_tokens: int = 0
    beams: int = 1
    candidates: int = 1
    positions: int = 512
    longest_row: int = 0

    @property
    def rows(self) -> int:
        return self.train_rows + self.validation_rows

    def prefix_bytes(self, cut: int) -> int:
        """Bytes of the outputs of the lowest ``cut`` blocks for train and validation, in fp32."""
        start = 0
        for number, stack in enumerate(self.dimensions.stacks):
            start += stack.blocks
            if cut <= start:
                tokens = self.train[number].tokens + self.validation[number].tokens
                return ceil(tokens * self.dimensions.hidden_size * 4)
        raise AssertionError(f"cut {cut} of {start} blocks")


def measure_workload(task: Task, splits: RawSplits, facts: TaskFacts, model: ModelFacts) -> Workload:
    """The workload of a plan whose data and model have been validated."""
    from finesearch.training.model.added_tokens import task_tokenizer

    tokenizer, _ = task_tokenizer(Path(model.folder), facts)
    if isinstance(task, GenerationTask):
        task.prepare_tokenizer(tokenizer)
    stacks = len(model.dimensions.stacks)
    train_rows, train, longest_row = _read(task, splits, facts, tokenizer, "train", stacks)
    validation_rows, validation, _ = _read(task, splits, facts, tokenizer, "validation", stacks)
    writes = isinstance(task, GenerationTask) and task.needs_generation(task.plan.metric)
    generation = task.plan.generation
    return Workload(
        dimensions=model.dimensions,
        num_layers=model.num_layers,
        parameters=model.parameters,
        train_rows=train_rows,
        validation_rows=validation_rows,
        train=train,
        validation=validation,
        evaluation_batch_size=task.evaluation_batch_size or _rows_a_pass(validation_rows, validation[0]),
        new_tokens=generation.max_new_tokens if writes and generation is not None else 0,
        beams=generation.beams if generation is not None else 1,
        candidates=max(1, len(facts.label_names)),
        positions=model.positions or task.plan.max_length,
        longest_row=longest_row,
    )


def _rows_a_pass(rows: int, reading: TokenCounts) -> int:
    """Approximate rows per evaluation batch, which is limited by tokens."""
    return num_rows_within(ceil(reading.tokens / max(1, rows)), EVALUATION_TOKENS_PER_PASS["cpu"])


def _read(
    task: Task, splits: RawSplits, facts: TaskFacts, tokenizer: object, split: str, stacks: int
) -> tuple[int, tuple[TokenCounts, ...], int]:
    """Token rows of a split, its token counts in each of ``stacks`` stacks, and its longest row, all from a sample."""
    rows = len(splits[split])
    lengths: list[list[int]] = [[] for _ in range(stacks)]
    seen = 0
    for start in sorted({int(at) for at in np.linspace(0, max(0, rows - ROWS_A_PART), PARTS)}):
        stop = min(rows, start + ROWS_A_PART)
        encoded = task.encode(splits.plain_rows(split, start, stop), tokenizer, facts)
        seen += stop - start
        lengths[0] += [len(ids) for ids in encoded["input_ids"]]
        for column in range(1, stacks):
            lengths[column] += [len(ids) for ids in encoded.get("decoder_input_ids", encoded["input_ids"])]
    share = rows / max(1, seen)
    token_counts = tuple(
        TokenCounts(
            tokens=share * float(np.sum(found)), squares=share * float(np.square(found, dtype=np.float64).sum())
        )
        for found in lengths
    )
    return ceil(share * len(lengths[0])), token_counts, max((max(found, default=0) for found in lengths), default=0)
