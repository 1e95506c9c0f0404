"""A prompted model whose answers are chosen: among candidates, by cosine similarity, or from contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finesearch.errors import TrialError
from finesearch.plan.prompt_templates import placeholders
from finesearch.tasks.prompting.question import Question
from finesearch.training.prompting.scoring.cloze import ClozeScorer
from finesearch.training.prompting.scoring.likelihood import LikelihoodScorer
from finesearch.training.prompting.scoring.nearest_examples import examples_for
from finesearch.training.prompting.scoring.prompt_spec import PromptSpec
from finesearch.training.prompting.scoring.render_prompt import PromptRenderer
from finesearch.training.prompting.scoring.similarity import SimilarityScorer
from finesearch.training.prompting.scoring.span_answers import find_answers

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

TOKENS_AT_ONCE = 4096
"""Maximum number of prompt tokens in a batch, padding included."""
QUESTIONS_AT_ONCE = 64
CONTEXTS_AT_ONCE = 16

Batches = Sequence[Sequence[int]]
RunBatches = Callable[[Batches, Callable[[Sequence[int]], Sequence[Any]]], list[Any]]
"""Computes batches of indices, one value per index, and returns the values in order of index."""


def run_in_order(batches: Batches, compute: Callable[[Sequence[int]], Sequence[Any]]) -> list[Any]:
    """Compute batches one after another."""
    found = {place: value for batch in batches for place, value in zip(batch, compute(batch), strict=True)}
    return [found[place] for place in range(len(found))]


@dataclass(frozen=True, eq=False)
class PromptedModel:
    """A model and its prompt.

    field_tokens: tokens that each placeholder's text is truncated to. most_tokens: the model's input limit; None: no
    limit. first_token: whether a text's embedding is its first token's state instead of the mean.

    ``run`` of the methods computes the batches. Batches do not depend on it, so that results are exactly reproducible.
    """

    model: PreTrainedModel
    tokenizer: Any
    prompt: PromptSpec
    field_tokens: int
    most_tokens: int | None
    first_token: bool = False

    @cached_property
    def renderer(self) -> PromptRenderer:
        return PromptRenderer(self.prompt, self.tokenizer, self.field_tokens, self.most_tokens)

    @cached_property
    def embedder(self) -> SimilarityScorer:
        return SimilarityScorer(self.model, self.tokenizer, self.renderer, self.first_token)

    @cached_property
    def scorer(self) -> LikelihoodScorer | ClozeScorer:
        kind = ClozeScorer if self.prompt.method == "cloze" else LikelihoodScorer
        return kind(self.model, self.tokenizer, self.renderer)

    def max_field_tokens(self) -> int:
        """Maximum tokens of each placeholder's text, so that template and answer fit, too.

        Raises:
            TrialError: the template alone is longer than the model's input limit.
        """
        limit, most = self.field_tokens, self.most_tokens
        if most is None or self.prompt.method == "similarity":
            return limit
        empty = self.renderer.filled_with("")
        frame = self._length(self.scorer.tokens(empty, ()))
        # Two more, since tokenization may differ where text and template meet.
        fits = (most - frame - int(self.scorer.max_answer_tokens) - 2) // max(1, len(empty.fields))
        if fits < 1:
            raise TrialError(
                f"template {self.prompt.template!r}: it takes {frame} tokens and an answer up to "
                f"{self.scorer.max_answer_tokens}, and "
                f"{type(self.model).__name__} takes {most} at once. Shorten the template or the labels' names."
            )
        return min(limit, fits)

    @torch.no_grad()
    def scores(
        self, questions: Sequence[Question], run: RunBatches = run_in_order, beat: Callable[[], None] = lambda: None
    ) -> NDArray[np.float64]:
        """Score of each candidate for each question (n, C): larger is better.

        beat: called after each question that was tokenized.

        Raises:
            TrialError: some score is not finite.
        """
        if self.prompt.method == "similarity":
            found = self._by_meaning(questions, run)
        else:
            found = self._by_words(questions, run, beat)
        scores = np.array(found, dtype=np.float64)
        if not np.isfinite(scores).all():
            raise TrialError("the model's scores of the answers are NaN or infinite")
        return scores

    @torch.no_grad()
    def cosines(self, questions: Sequence[Question], run: RunBatches = run_in_order) -> list[float]:
        """Cosine similarity of the two texts of each question."""

        def compute(batch: Sequence[int]) -> list[float]:
            one, other = (
                self.embedder.embedded(
                    [self.renderer.cut(questions[at].fields[role]) for at in batch], [None] * len(batch)
                )
                for role in placeholders(self.prompt.template)
            )
            cosines: list[float] = (one * other).sum(-1).tolist()
            return cosines

        return run(_consecutive(len(questions), QUESTIONS_AT_ONCE), compute)

    @torch.no_grad()
    def extracts(self, questions: Sequence[Question], run: RunBatches = run_in_order) -> list[str]:
        """The part of each question's context that answers it."""
        batches = _consecutive(len(questions), CONTEXTS_AT_ONCE)
        return run(batches, lambda batch: find_answers(self.embedder, [questions[at] for at in batch]))

    def _by_words(self, questions: Sequence[Question], run: RunBatches, beat: Callable[[], None]) -> list[Any]:
        scorer: Any = self.scorer
        tokens: list[Any] = []
        for question, examples in zip(questions, examples_for(self.prompt, questions), strict=True):
            tokens.append(scorer.tokens(question, examples))
            beat()
        free: Any = 0.0
        if self.prompt.calibrate:
            examples = () if self.prompt.similar_shown is not None else self.prompt.examples
            free = scorer.scores([scorer.tokens(self.renderer.content_free, examples)]).double().numpy()

        def compute(batch: Sequence[int]) -> list[Any]:
            scores = scorer.scores([tokens[at] for at in batch]).double().numpy() - free
            found: list[Any] = scores.tolist()
            return found

        return run(list(_batches([self._length(ids) for ids in tokens])), compute)

    def _by_meaning(self, questions: Sequence[Question], run: RunBatches) -> list[Any]:
        scorer, shown = self.embedder, self.prompt.similar_shown
        known = scorer.prototypes(self.prompt.examples if shown is None else ())
        pool = None if shown is None else scorer.embed(self.prompt.examples)

        def compute(batch: Sequence[int]) -> list[Any]:
            embedded = scorer.embed([questions[at] for at in batch])
            if pool is None:
                found: list[Any] = (embedded @ known.T).astype(np.float64).tolist()
                return found
            rows = []
            for each in embedded:
                # By embedding similarity, since embeddings are available here.
                near = np.argsort(-(pool @ each), kind="stable")[:shown]
                own = scorer.merged(pool[near], [int(self.prompt.examples[at].answer or 0) for at in near])
                rows.append((own @ each).astype(np.float64).tolist())
            return rows

        # Questions about one text stay together: it is read once.
        return run(_consecutive(len(questions), QUESTIONS_AT_ONCE), compute)

    def _length(self, tokens: Any) -> int:
        return len(tokens) if self.prompt.method == "likelihood" else sum(map(len, tokens))


def _consecutive(number: int, size: int) -> Batches:
    return [range(start, min(start + size, number)) for start in range(0, number, size)]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Batches of rows of similar length, longest first: at most ``TOKENS_AT_ONCE`` tokens, or one row."""
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    while order:
        size = max(1, min(QUESTIONS_AT_ONCE, TOKENS_AT_ONCE // max(1, lengths[order[0]])))
        yield order[:size]
        order = order[size:]
