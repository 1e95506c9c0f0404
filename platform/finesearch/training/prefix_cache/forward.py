"""From rows of tokens to the outputs of their bottom blocks, and back into batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.tasks.encoding.array_columns import flat
from finesearch.training.batching import model_inputs, to_device
from finesearch.training.prefix_cache.block_outputs import Stack, Unfit, capture

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.data import TokenSplit
    from finesearch.tasks import Task
    from finesearch.training.model.base_model import BaseModel
    from finesearch.training.runtime.distributed import Processes


@dataclass(frozen=True, eq=False)
class Passes:
    """Runs rows through the bottom of a model whose bottom does not change."""

    model: PreTrainedModel
    task: Task
    base: BaseModel
    stacks: tuple[Stack, ...]
    processes: Processes

    def inputs(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the model takes for some token rows."""
        batch = to_device(self.task.collate(rows, self.base.tokenizer, self.processes.padding_multiple), self.processes)
        return model_inputs(self.task, self.base, batch)

    def run(self, rows: Sequence[dict[str, Any]], cuts: Collection[int]) -> dict[int, list[Tensor]]:
        """Outputs below each cut: for each row (t, d), padding left out, on the device.

        Raises:
            Unfit: see ``capture``; or an output has another length than its row.
        """
        inputs = self.inputs(rows)
        was_training = self.model.training
        # Blocks that do not change are in eval mode already; those above them are not run.
        self.model.train(False)
        try:
            found = capture(self.model, self.base.anatomy, inputs, cuts)
        finally:
            self.model.train(was_training)
        return {cut: self._rows(hidden, self.real(inputs, cut, rows)) for cut, (hidden, _) in found.items()}

    def real(self, inputs: dict[str, Any], cut: int, rows: Sequence[dict[str, Any]]) -> Tensor:
        """Which positions of the stack of a cut are tokens and not padding, bool (B, T) on the device.

        Raises:
            Unfit: nothing says so.
        """
        import torch

        stack = self.stack(cut)
        if stack.reads_target:
            lengths = torch.from_numpy(flat(rows, "decoder_input_ids")[1]).to(self.processes.device)
            width = inputs["decoder_input_ids"].shape[1]
            return torch.arange(width, device=self.processes.device) < lengths[:, None]
        if "attention_mask" not in inputs:
            raise Unfit("it takes no attention mask, so that padding changes what it computes")
        mask: Tensor = inputs["attention_mask"]
        return mask.bool()

    def stack(self, cut: int) -> Stack:
        return next(stack for stack in self.stacks if stack.first < cut <= stack.last)

    def widths(self, tokens: TokenSplit, cut: int) -> np.ndarray:
        """Tokens of each row of a split (n,) as the stack of a cut sees them: of the target, or of the text."""
        widths: np.ndarray = tokens.widths[:, 1 if self.stack(cut).reads_target else 0]
        return widths

    def _rows(self, hidden: Tensor, real: Tensor) -> list[Tensor]:
        import torch

        if hidden.shape[:2] != real.shape:
            raise Unfit(f"its layers give {tuple(hidden.shape[:2])} positions for {tuple(real.shape)} tokens")
        lengths: list[int] = real.sum(dim=1).tolist()
        return list(torch.split(hidden[real], lengths))
