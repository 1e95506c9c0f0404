"""Untrained models that are prompted (zero-shot, few-shot), loaded once per process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from finesearch.training.runtime.precision import compute_in, move

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    LoadedModel = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@dataclass(frozen=True, eq=False)
class PromptModels:
    """Prompted models with their tokenizers, by method and precision; they stay loaded until a trial trains."""

    loaded: dict[tuple[str, str], LoadedModel] = field(default_factory=dict)

    def get(self, method: str, precision: str, device: torch.device, load: Callable[[], LoadedModel]) -> LoadedModel:
        """The model that a method prompts, on the device and in the precision; ``load`` is called on first use."""
        key = (method, precision)
        if key not in self.loaded:
            model, tokenizer = load()
            compute_in(model, precision, device)
            move(model, device)
            self.loaded[key] = (model, tokenizer)
        return self.loaded[key]

    def clear(self) -> None:
        """Release the models and their memory."""
        self.loaded.clear()
