"""Likelihood scoring: the candidate most likely after a prompt (Brown et al., 2020); no text is generated or parsed."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from finesearch.errors import TrialError
from finesearch.tasks.encoding.sliding_windows import special_token_affixes
from finesearch.tasks.generation.decoder_start import decoder_start_token
from finesearch.tasks.prompting.question import Question
from finesearch.training.prompting.scoring.render_prompt import PromptRenderer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

CACHED_AT_ONCE = 1 << 16
"""Maximum number of positions, over prompts and candidates, in the key-value cache at a time."""
LOGITS_AT_ONCE = 1 << 26
"""Maximum number of logits computed at a time."""


@dataclass(frozen=True, eq=False)
class LikelihoodScorer:
    """Scores every candidate by the sum of the log-probabilities of its tokens.

    The prompt is computed once, not once per candidate.
    """

    model: PreTrainedModel
    tokenizer: Any
    renderer: PromptRenderer

    @cached_property
    def candidates(self) -> list[list[int]]:
        """Token ids of each candidate, as they follow the prompt."""
        prompt = self.renderer.prompt
        if prompt.style == "chat" or self.model.config.is_encoder_decoder:
            found = [self._pieces(text) for text in prompt.candidates]
        else:
            lead = self.renderer.start.rpartition("}")[2] or "a "
            stripped = lead.rstrip(" ") or "a"
            known = self._pieces(stripped)
            found = []
            for text in prompt.candidates:
                gap = " " if lead.endswith(" ") else ""
                whole = self._pieces(stripped + gap + text)
                # Where the two merge into one token, the answer is tokenized alone.
                found.append(whole[len(known) :] if whole[: len(known)] == known else self._pieces(gap + text))
        return found

    @property
    def max_answer_tokens(self) -> int:
        return max(map(len, self.candidates))

    def tokens(self, question: Question, examples: Sequence[Question]) -> list[int]:
        """Token ids of the prompt."""
        text = self.renderer.before(question, examples, self.max_answer_tokens)
        if self.renderer.prompt.style == "chat":
            return self._pieces(text)
        if self.model.config.is_encoder_decoder:
            ids: list[int] = self.tokenizer(text.rstrip(" "), verbose=False)["input_ids"]
            return ids
        # Some tokenizers append an end token to every text, but the answer follows this one.
        return special_token_affixes(self.tokenizer)[0] + self._pieces(text.rstrip(" "))

    def scores(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Log-likelihoods (n, C) in fp32 on the CPU."""
        score = self._decoded if self.model.config.is_encoder_decoder else self._continued
        return score(prompts).float().cpu()

    def _continued(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        ids, mask = padded(prompts, int(self.tokenizer.pad_token_id), self.model.device, left=True)
        knows = inspect.signature(self.model.forward).parameters
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        more: dict[str, Any] = {"position_ids": positions} if "position_ids" in knows else {}
        if "logits_to_keep" in knows:
            more["logits_to_keep"] = 1
        read = self.model(input_ids=ids, attention_mask=mask, use_cache=True, **more)
        first: Tensor = read.logits[:, -1].float().log_softmax(-1)
        answers, counted = padded(self.candidates, 0, self.model.device)
        total = first[:, answers[:, 0]]
        if answers.shape[1] == 1:
            return total
        if getattr(read, "past_key_values", None) is None:
            raise TrialError(
                f"{type(self.model).__name__} keeps no keys and values, which likelihoods of answers of several tokens "
                f"need. Use similarity, or another model."
            )
        later = []
        for part in self._parts(len(prompts), ids.shape[1] + answers.shape[1], answers.shape[1] - 1):
            cache = copy.deepcopy(read.past_key_values)
            number = len(answers[part])
            cache.batch_repeat_interleave(number)
            behind = answers[part, :-1].repeat(len(prompts), 1)
            more = {}
            if "position_ids" in knows:
                step = torch.arange(behind.shape[1], device=ids.device)
                more["position_ids"] = positions[:, -1:].repeat_interleave(number, 0) + 1 + step
            rest = self.model(
                input_ids=behind,
                attention_mask=torch.cat(
                    [mask.repeat_interleave(number, 0), counted[part, :-1].repeat(len(prompts), 1)], dim=1
                ),
                past_key_values=cache,
                use_cache=True,
                **more,
            )
            wanted = answers[part, 1:].repeat(len(prompts), 1)
            known = _of_wanted(rest.logits, wanted).view(len(prompts), number, -1)
            later.append((known * counted[part, 1:]).sum(-1))
        return total + torch.cat(later, dim=1)

    def _parts(self, prompts: int, positions: int, predicted: int) -> list[slice]:
        """Slices of candidates to score at a time, so that key-value caches and logits of a batch stay small."""
        width = self.model.config.get_text_config().vocab_size
        most = min(CACHED_AT_ONCE // (prompts * positions), LOGITS_AT_ONCE // (prompts * max(1, predicted) * width))
        size = max(1, most)
        return [slice(start, start + size) for start in range(0, len(self.candidates), size)]

    def _decoded(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        ids, mask = padded(prompts, int(self.tokenizer.pad_token_id), self.model.device)
        answers, counted = padded(self.candidates, 0, self.model.device)
        encoded = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        first = decoder_start_token(self.model.config, self.tokenizer)
        found = []
        for part in self._parts(len(prompts), ids.shape[1] + answers.shape[1], answers.shape[1]):
            number = len(answers[part])
            start = torch.full((number, 1), first, device=ids.device)
            before = torch.cat([start, answers[part, :-1]], dim=1).repeat(len(prompts), 1)
            logits = self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded.repeat_interleave(number, 0)),
                attention_mask=mask.repeat_interleave(number, 0),
                decoder_input_ids=before,
            ).logits
            known = _of_wanted(logits, answers[part].repeat(len(prompts), 1)).view(len(prompts), number, -1)
            found.append((known * counted[part]).sum(-1))
        return torch.cat(found, dim=1)

    def _pieces(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids


def _of_wanted(logits: Tensor, wanted: Tensor) -> Tensor:
    """Log-probabilities (n, t) of the ``wanted`` token ids (n, t), from logits (n, t, V)."""
    logits = logits.float()
    found: Tensor = logits.gather(-1, wanted.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
    return found


def padded(
    rows: Sequence[Sequence[int]], filler: int, device: torch.device, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Padded token ids (n, t) and their attention mask (n, t), both int64."""
    width = max(map(len, rows))
    ids, mask = torch.full((len(rows), width), filler), torch.zeros((len(rows), width), dtype=torch.int64)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[number, place] = torch.tensor(list(row), dtype=torch.int64)
        mask[number, place] = 1
    return ids.to(device), mask.to(device)
