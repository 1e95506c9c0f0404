"""Rows of tokens to batches for a model, and what the model takes of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from finesearch.data import EVALUATION_TOKENS_PER_PASS, evaluation_batches, token_budget_batches
from finesearch.training.runtime.distributed import Processes

if TYPE_CHECKING:
    from torch import Tensor

    from finesearch.tasks import Task
    from finesearch.training.model.base_model import PretrainedBase


class TokenRows(Protocol):
    """What is evaluated: a ``TokenizedSplit``, or rows that were made otherwise."""

    @property
    def lengths(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def rows(self, indices: Iterable[int] | None = None) -> Sequence[dict[str, Any]]: ...


def inference_batches(task: Task, tokens: TokenRows, processes: Processes) -> list[np.ndarray]:
    """Row numbers that one process computes at a time when it scores a split alone."""
    if task.evaluation_batch_size:
        return evaluation_batches(tokens.lengths, task.evaluation_batch_size)
    return token_budget_batches(tokens.lengths, EVALUATION_TOKENS_PER_PASS[processes.device.type])


def model_inputs(task: Task, base: PretrainedBase, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the model takes of a batch; tokenizers give some models more than they know (token types, say)."""
    return {name: tensor for name, tensor in task.model_inputs(batch).items() if name in base.inputs}


def to_device(batch: dict[str, Tensor], processes: Processes) -> dict[str, Tensor]:
    if processes.device.type == "cpu":
        return batch
    return {name: tensor.to(processes.device, non_blocking=True) for name, tensor in batch.items()}
