"""A prompted model that generates its answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from finesearch.errors import TrialError
from finesearch.tasks.encoding.sliding_windows import special_token_affixes
from finesearch.tasks.prompting.question import Question
from finesearch.training.prompting.scoring.nearest_examples import examples_for
from finesearch.training.prompting.scoring.prompt_spec import PromptSpec
from finesearch.training.prompting.scoring.render_prompt import BETWEEN, PromptRenderer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class PromptedGenerator:
    """A model and the prompt after which it generates.

    most_tokens: the model's input limit; None: no limit. source_language: for multilingual tokenizers.
    """

    model: PreTrainedModel
    tokenizer: Any
    prompt: PromptSpec
    most_tokens: int | None
    source_language: str | None = None

    def prompts(self, questions: Sequence[Question]) -> list[list[int]]:
        """Token ids of the prompt for each question. Examples that do not fit are dropped, the first ones first.

        Raises:
            TrialError: the template leaves no tokens for the question.
        """
        near = examples_for(self.prompt, questions)
        most_new = getattr(self.model.generation_config, "max_new_tokens", None) or 0
        reserved = 0 if self._is_encoder_decoder else max(self.prompt.answer_tokens, most_new)
        return [self._ids(self.renderer.before(q, each, reserved)) for q, each in zip(questions, near, strict=True)]

    @cached_property
    def renderer(self) -> PromptRenderer:
        """Renders prompts of at most ``task.max_length`` tokens, without the examples before them."""
        limit = self.prompt.max_length
        whole = PromptRenderer(self.prompt, self.tokenizer, limit, self.most_tokens)
        empty = whole.filled_with("")
        frame = len(self._ids(whole.before(empty, (), 0)))
        if frame >= limit:
            raise TrialError(
                f"task.max_length: {limit} tokens leave no room for a text: the template {self.prompt.template!r} "
                f"alone takes {frame}. Raise it, or shorten the template."
            )
        return dataclasses.replace(whole, field_tokens=(limit - frame) // max(1, len(empty.fields)), _cut={})

    def extract_answer(self, text: str) -> str:
        """The answer in a generated text: a model that only continues text starts the next example after it."""
        if not self.continues_past_answer:
            return text
        answer = text.strip().partition(BETWEEN)[0]
        return answer if "\n" in self.prompt.template else answer.partition("\n")[0].rstrip()

    @property
    def continues_past_answer(self) -> bool:
        """Whether the model continues after an answer: plain style, and not an encoder-decoder."""
        return self.prompt.style == "plain" and not self._is_encoder_decoder

    @property
    def _is_encoder_decoder(self) -> bool:
        return bool(self.model.config.is_encoder_decoder)

    def _ids(self, text: str) -> list[int]:
        tokenizer = self.tokenizer
        if self.source_language is not None:
            tokenizer.src_lang = self.source_language
        is_chat = self.prompt.style == "chat"
        text = text if is_chat else text.rstrip(" ")
        ids: list[int] = tokenizer(text, add_special_tokens=self._is_encoder_decoder and not is_chat, verbose=False)[
            "input_ids"
        ]
        # Some tokenizers append an end token to every text, but the answer follows this one.
        return ids if is_chat or self._is_encoder_decoder else special_token_affixes(tokenizer)[0] + ids
