"""One optimizer step over a global batch: micro-batches of any size, across processes and gradient accumulation steps.

The loss and its gradient are means over the units (examples, or target tokens) of the whole global batch, even if
pieces differ in size or the epoch's last batch is short. Every process makes the same number of backward passes: an
empty piece is replaced by a row whose loss has weight 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.data import TokenizedSplit, num_passes_within, shard
from finesearch.training.batching import model_inputs, to_device
from finesearch.training.runtime.distributed import Processes

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from torch import Tensor

    from finesearch.training.attempt import Attempt
    from finesearch.training.prefix_cache.cached_outputs import CachedOutputs
    from finesearch.training.regularizers.active_regularizers import Regularizers


@dataclass(frozen=True, eq=False)
class TrainStep:
    """Forward and backward passes over a batch's rows, and the update.

    Each process partitions its rows into at least ``gradient_accumulation_steps`` pieces, and more if a piece would
    exceed ``max_tokens_per_pass`` padded tokens, which bounds the memory of a pass. class_weights: (C,).
    """

    attempt: Attempt
    engine: DeepSpeedEngine
    regularizers: Regularizers
    class_weights: Tensor | None = None
    cached_outputs: CachedOutputs | None = None

    @property
    def tokens(self) -> TokenizedSplit:
        return self.attempt.context.tokens.train

    @property
    def processes(self) -> Processes:
        return self.attempt.processes

    def run(self, batch: np.ndarray) -> tuple[Tensor, float]:
        """Forward and backward over this process's pieces of ``batch`` (row numbers), then one optimizer step.

        Returns the sum of the losses of this process's units (a scalar tensor without gradient), and the units of the
        whole global batch.
        """
        task, smoothing = self.attempt.context.task, self.attempt.recipe.label_smoothing
        pieces = cut(batch, self.processes, self._passes(batch))
        numbers = [piece if len(piece) else batch[:1] for piece in pieces]
        taken = [self.tokens.rows(rows) for rows in numbers]
        batches = [self._collate(rows) for rows in taken]
        weights = [task.weight(inputs) if len(piece) else 0 for piece, inputs in zip(pieces, batches, strict=True)]
        # A window without target words has weight 0; a batch of only such windows must not divide by 0.
        total = self.processes.total(sum(weights))[0] or 1.0
        summed: Any = 0.0
        for piece, (weight, inputs) in enumerate(zip(weights, batches, strict=True), start=1):
            # The number of pieces depends on the batch, so DeepSpeed cannot count them by itself.
            self.engine.set_gradient_accumulation_boundary(piece == len(batches))
            known = model_inputs(task, self.attempt.base, inputs)
            with self._given(numbers[piece - 1], taken[piece - 1], known):
                loss, own = self.regularizers.losses(self.engine, task, known, inputs, smoothing)
            summed = summed + own.detach() * weight
            # DeepSpeed takes the mean over processes; we need the mean over units.
            scale = weight * self.processes.world_size / total
            self.engine.backward(loss if scale == 1.0 else loss * scale, scale_wrt_gas=False)
            if piece == len(batches):
                self.regularizers.before_update()
            self.engine.step()
        return summed, total

    def _passes(self, batch: np.ndarray) -> int:
        training = self.attempt.training
        if training.max_tokens_per_pass is None:
            return training.gradient_accumulation_steps
        tokens = training.max_tokens_per_pass // self.regularizers.copies
        widths, processes = self.tokens.widths[batch], self.processes
        passes = num_passes_within(widths, tokens, processes.world_size, processes.padding_multiple)
        return max(training.gradient_accumulation_steps, passes)

    def _given(self, numbers: np.ndarray, rows: Sequence[dict[str, Any]], inputs: dict[str, Tensor]) -> Any:
        return self.cached_outputs.injecting(numbers, rows, inputs) if self.cached_outputs else nullcontext()

    def _collate(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        context = self.attempt.context
        batch = context.task.collate(rows, context.base.tokenizer, self.processes.padding_multiple)
        if self.class_weights is not None:
            batch["class_weights"] = self.class_weights
        return to_device(batch, self.processes)


def cut(batch: np.ndarray, processes: Processes, accumulation_steps: int) -> list[np.ndarray]:
    """This process's pieces of a global batch, one per accumulation step; all processes' pieces form the batch.

    >>> import torch
    >>> [piece.tolist() for piece in cut(np.arange(7), Processes(1, 2, torch.device("cpu")), accumulation_steps=2)]
    [[1, 5], [3]]
    """
    pieces = processes.world_size * accumulation_steps
    return [shard(batch, step * processes.world_size + processes.rank, pieces) for step in range(accumulation_steps)]


def count_tokens(lengths: np.ndarray, batch: Sequence[int] | np.ndarray) -> int:
    """Tokens in some rows, without padding."""
    return int(lengths[batch].sum())
