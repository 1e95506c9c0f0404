"""Cloze scoring: the candidate that fills a gap best, for masked language models (Schick and Schütze, 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from finesearch.tasks.encoding.sliding_windows import special_token_affixes
from finesearch.tasks.prompting.question import Question
from finesearch.training.prompting.scoring.likelihood import padded
from finesearch.training.prompting.scoring.render_prompt import PromptRenderer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class ClozeScorer:
    """Scores every candidate by the mean of the log-probabilities of its tokens in a gap of as many."""

    model: PreTrainedModel
    tokenizer: Any
    renderer: PromptRenderer

    @cached_property
    def candidates(self) -> list[list[int]]:
        """Token ids of each candidate, as they fill the gap."""
        # A word inside a text: some tokenizers make the space before it part of its token.
        return [
            self.tokenizer(f"a {text}", add_special_tokens=False)["input_ids"][len(self._lead) :]
            for text in self.renderer.prompt.candidates
        ]

    @cached_property
    def _lead(self) -> list[int]:
        ids: list[int] = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        return ids

    @property
    def max_answer_tokens(self) -> int:
        return max(map(len, self.candidates))

    def tokens(self, question: Question, examples: Sequence[Question]) -> list[list[int]]:
        """Token ids before and after the gap, with the special tokens."""
        behind = self._pieces(self.renderer.behind(question))
        text = self.renderer.before(question, examples, self.max_answer_tokens + len(behind))
        first, last = special_token_affixes(self.tokenizer)
        return [first + self._pieces(text.rstrip(" ")), behind + last]

    def scores(self, prompts: Sequence[Sequence[Sequence[int]]]) -> Tensor:
        """Mean log-probabilities (n, C) in fp32 on the CPU."""
        found = torch.zeros(len(prompts), len(self.candidates))
        for size in sorted({len(ids) for ids in self.candidates}):
            numbers = [number for number, ids in enumerate(self.candidates) if len(ids) == size]
            gap = [int(self.tokenizer.mask_token_id)] * size
            ids, mask = padded(
                [[*before, *gap, *behind] for before, behind in prompts],
                int(self.tokenizer.pad_token_id),
                self.model.device,
            )
            logits = self.model(input_ids=ids, attention_mask=mask).logits
            places = torch.tensor([[len(before) + step for step in range(size)] for before, _ in prompts])
            rows = torch.arange(len(prompts)).unsqueeze(-1)
            known = logits[rows.to(ids.device), places.to(ids.device)].float().log_softmax(-1)
            wanted = torch.tensor([self.candidates[number] for number in numbers], device=ids.device)
            steps = torch.arange(size, device=ids.device)
            # known (n, size, V); a candidate's token at each step.
            found[:, numbers] = known[:, steps, wanted].mean(-1).float().cpu()
        return found

    def _pieces(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids
