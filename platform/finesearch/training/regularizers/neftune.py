"""NEFTune: noise on the input embeddings, during training only."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from finesearch.training.regularizers.regularizer import Regularizer, RegularizerContext


class NEFTune(Regularizer):
    """``neftune / √(L · d) · U(−1, 1)`` added to each row's L real token embeddings of width d.

    Jain et al., NEFTune: Noisy Embeddings Improve Instruction Finetuning, ICLR 2024. L leaves padding out, as in the
    authors' code, so that a row's noise does not depend on the rest of the batch. In an encoder-decoder, noise is added
    to the encoder's input.
    """

    name: ClassVar[str] = "neftune"

    def attach(self, context: RegularizerContext) -> None:
        self._mask: torch.Tensor | None = None
        self._is_due = False
        embeddings = context.model.get_input_embeddings()
        if not embeddings.training:
            self.inactive_reason = "the embeddings are frozen, and frozen layers run without noise"
            return
        context.model.register_forward_pre_hook(self._note_mask, with_kwargs=True)
        embeddings.register_forward_hook(self._add_noise)

    def _note_mask(self, model: Any, inputs: Any, named: dict[str, Any]) -> None:
        self._mask, self._is_due = named.get("attention_mask"), True

    def _add_noise(self, module: torch.nn.Module, inputs: Any, embedded: torch.Tensor) -> torch.Tensor:
        if not module.training or not self._is_due:
            return embedded
        # The embedding may be used again for the decoder's input.
        self._is_due = False
        mask = torch.ones_like(inputs[0]) if self._mask is None else self._mask
        return embedded + noise(embedded, mask, self.strength, self.generator(embedded.device))


def noise(
    embedded: torch.Tensor, mask: torch.Tensor, strength: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Noise (B, T, d) for embeddings (B, T, d) with the attention mask (B, T): 0 on padding."""
    lengths = mask.sum(dim=1).clamp(min=1)
    reach = strength / (lengths * embedded.shape[-1]).to(embedded.dtype).sqrt()
    drawn = torch.empty_like(embedded).uniform_(-1.0, 1.0, generator=generator)
    return drawn * mask[..., None] * reach[:, None, None]
