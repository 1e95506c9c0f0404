"""Similarity scoring: cosine similarity of the embeddings of texts and of sentences that describe the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.tasks.prompting.question import Question
from finesearch.training.prompting.scoring.likelihood import padded
from finesearch.training.prompting.scoring.render_prompt import PromptRenderer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel

BATCH = 32


@dataclass(frozen=True, eq=False)
class SimilarityScorer:
    """Scores candidates by the cosine of a text's embedding and theirs.

    A candidate's embedding is the mean over the sentence that describes it and its few-shot examples: a prototype
    (Snell et al., Prototypical Networks for Few-shot Learning, 2017).
    """

    model: PreTrainedModel
    tokenizer: Any
    renderer: PromptRenderer
    first_token: bool = False

    @cached_property
    def described(self) -> NDArray[np.float32]:
        """Embeddings (C, d) of the sentences that describe the candidates."""
        sentences = self.renderer.described()
        return self.embedded(sentences, [None] * len(sentences))

    def prototypes(self, examples: Sequence[Question]) -> NDArray[np.float32]:
        """Embeddings (C, d) of the candidates, each of length 1."""
        if not examples:
            return self.described
        return self.merged(self.embed(examples), [int(each.answer or 0) for each in examples])

    def merged(self, embeddings: NDArray[np.float32], answers: Sequence[int]) -> NDArray[np.float32]:
        """Prototypes from the embeddings (n, d) of examples and the indices of their candidates."""
        total = self.described.copy()
        for embedding, answer in zip(embeddings, answers, strict=True):
            total[answer] += embedding
        return _unit(total)

    def embed(self, questions: Sequence[Question]) -> NDArray[np.float32]:
        """Embeddings (n, d) of the questions' texts or spans, each of length 1."""
        texts = [self.renderer.lines(question) for question in questions]
        return self.embedded(texts, [self._place(each, text) for each, text in zip(questions, texts, strict=True)])

    def embedded(self, texts: Sequence[str], spans: Sequence[tuple[int, int] | None]) -> NDArray[np.float32]:
        """Embeddings (n, d) of texts, or of spans in them; each text is computed once, for all its spans."""
        by_text: dict[str, list[int]] = {}
        for number, text in enumerate(texts):
            by_text.setdefault(text, []).append(number)
        unique = sorted(by_text, key=lambda text: (len(text), text))
        found: dict[int, Tensor] = {}
        for start in range(0, len(unique), BATCH):
            part = unique[start : start + BATCH]
            states, offsets, mask = self._states(part)
            for row, text in enumerate(part):
                for number in by_text[text]:
                    found[number] = self._pooled(states[row], offsets[row], mask[row], spans[number])
        return _unit(np.stack([found[number].numpy() for number in range(len(texts))]).astype(np.float32))

    def _place(self, question: Question, text: str) -> tuple[int, int] | None:
        """The question's span as character offsets in the whole text."""
        if question.span is None:
            return None
        start = max(0, text.find(self.renderer.cut(question.fields["text"])))
        return question.span[0] + start, question.span[1] + start

    def _states(self, texts: Sequence[str]) -> tuple[Tensor, list[list[tuple[int, int]]], Tensor]:
        limit = self.renderer.most_tokens
        tokens = self.tokenizer(
            list(texts),
            truncation=limit is not None,
            max_length=limit,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        ids, mask = padded(tokens["input_ids"], int(self.tokenizer.pad_token_id), self.model.device)
        model = self.model.get_encoder() if self.model.config.is_encoder_decoder else self.model
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return states.float().cpu(), tokens["offset_mapping"], mask.cpu()

    def _pooled(
        self, states: Tensor, offsets: Sequence[tuple[int, int]], mask: Tensor, span: tuple[int, int] | None
    ) -> Tensor:
        if span is not None:
            inside = [at for at, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
            # A truncated word has no token; the embedding of the whole text is used.
            if inside:
                return states[inside].mean(0)
        if self.first_token:
            return states[0]
        return states[mask.bool()].mean(0)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit
