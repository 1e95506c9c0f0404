"""Forward passes over the frozen bottom blocks, from token rows to the outputs that are cached."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.tasks.encoding.array_columns import flat_values
from finesearch.training.batching import model_inputs, to_device
from finesearch.training.prefix_cache.block_outputs import BlockStack, NotCacheable, capture

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.data import TokenizedSplit
    from finesearch.tasks import Task
    from finesearch.training.model.base_model import PretrainedBase
    from finesearch.training.runtime.distributed import Processes


@dataclass(frozen=True, eq=False)
class PrefixForward:
    """Runs token rows through a model's frozen bottom blocks."""

    model: PreTrainedModel
    task: Task
    base: PretrainedBase
    stacks: tuple[BlockStack, ...]
    processes: Processes

    def inputs(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The model's inputs for some token rows."""
        batch = to_device(self.task.collate(rows, self.base.tokenizer, self.processes.padding_multiple), self.processes)
        return model_inputs(self.task, self.base, batch)

    def run(self, rows: Sequence[dict[str, Any]], cache_depths: Collection[int]) -> dict[int, list[Tensor]]:
        """Outputs at each depth: for each row (t, d), without padding, on the device.

        Raises:
            NotCacheable: see ``capture``; or an output's length differs from its row's.
        """
        inputs = self.inputs(rows)
        was_training = self.model.training
        # Frozen blocks are in eval mode already; those above them are not run.
        self.model.train(False)
        try:
            found = capture(self.model, self.base.structure, inputs, cache_depths)
        finally:
            self.model.train(was_training)
        return {depth: self._rows(hidden, self.token_mask(inputs, depth, rows)) for depth, (hidden, _) in found.items()}

    def token_mask(self, inputs: dict[str, Any], depth: int, rows: Sequence[dict[str, Any]]) -> Tensor:
        """Which positions of a depth's stack are tokens and not padding, bool (B, T) on the device.

        Raises:
            NotCacheable: the inputs have no such mask.
        """
        import torch

        stack = self.stack(depth)
        if stack.reads_target:
            lengths = torch.from_numpy(flat_values(rows, "decoder_input_ids")[1]).to(self.processes.device)
            width = inputs["decoder_input_ids"].shape[1]
            return torch.arange(width, device=self.processes.device) < lengths[:, None]
        if "attention_mask" not in inputs:
            raise NotCacheable("it takes no attention mask, so that padding changes what it computes")
        mask: Tensor = inputs["attention_mask"]
        return mask.bool()

    def stack(self, depth: int) -> BlockStack:
        return next(stack for stack in self.stacks if stack.first < depth <= stack.last)

    def widths(self, tokens: TokenizedSplit, depth: int) -> np.ndarray:
        """Token counts of a split's rows (n,) in the stack of a depth: of the target, or of the text."""
        widths: np.ndarray = tokens.widths[:, 1 if self.stack(depth).reads_target else 0]
        return widths

    def _rows(self, hidden: Tensor, token_mask: Tensor) -> list[Tensor]:
        import torch

        if hidden.shape[:2] != token_mask.shape:
            raise NotCacheable(
                f"its layers give {tuple(hidden.shape[:2])} positions for {tuple(token_mask.shape)} tokens"
            )
        lengths: list[int] = token_mask.sum(dim=1).tolist()
        return list(torch.split(hidden[token_mask], lengths))
