"""Batches for inference: which token rows are computed together, and which columns the model accepts."""

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
    """Token rows to evaluate: a ``TokenizedSplit``, or rows from another source."""

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
    """The batch's columns that the model accepts; tokenizers return more for some models (token types, say)."""
    return {name: tensor for name, tensor in task.model_inputs(batch).items() if name in base.inputs}


def to_device(batch: dict[str, Tensor], processes: Processes) -> dict[str, Tensor]:
    if processes.device.type == "cpu":
        return batch
    return {name: tensor.to(processes.device, non_blocking=True) for name, tensor in batch.items()}
