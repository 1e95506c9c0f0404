"""A split's predictions by a model that is asked, computed by all processes together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finesearch.errors import TrialError
from finesearch.tasks.prompting import ChoicePromptTask, Question
from finesearch.training.prompting.cloze import ClozeScorer
from finesearch.training.prompting.few_shot_examples import Nearest
from finesearch.training.prompting.likelihood import LikelihoodScorer
from finesearch.training.prompting.prompt import PromptSpec
from finesearch.training.prompting.render_prompt import PromptRenderer
from finesearch.training.prompting.similarity import SimilarityScorer, pools_first_token
from finesearch.training.runtime.distributed import Processes
from finesearch.training.trial_types import ScoredPredictions

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

TOKENS_AT_ONCE = 4096
"""Tokens of the prompts that are read at a time, padding included."""
QUESTIONS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class PromptedModel:
    """A model and what it is asked."""

    model: PreTrainedModel
    tokenizer: Any
    prompt: PromptSpec
    folder: Path
    field_tokens: int
    most_tokens: int | None

    @cached_property
    def _renderer(self) -> PromptRenderer:
        return PromptRenderer(self.prompt, self.tokenizer, self.field_tokens, self.most_tokens)

    @cached_property
    def _nearest(self) -> Nearest | None:
        shown = self.prompt.similar_shown
        return None if shown is None else Nearest(self.prompt.examples, shown)

    def max_field_tokens(self) -> int:
        """Tokens that each placeholder's text may have, so that template and answer fit beside it.

        Raises:
            TrialError: the template alone is longer than what the model takes at once.
        """
        limit, most = self.field_tokens, self.most_tokens
        if most is None or self.prompt.method == "similarity":
            return limit
        scorer = self._asker()
        empty = self._renderer.filled_with("")
        tokens = scorer.tokens(empty, ())
        frame = len(tokens) if self.prompt.method == "likelihood" else sum(map(len, tokens))
        # Two more, since texts and template may be cut into tokens otherwise where they meet.
        fits = (most - frame - int(scorer.max_answer_tokens) - 2) // max(1, len(empty.fields))
        if fits < 1:
            raise TrialError(
                f"template {self.prompt.template!r}: it takes {frame} tokens and an answer up to "
                f"{scorer.max_answer_tokens}, and "
                f"{type(self.model).__name__} takes {most} at once. Shorten the template or the labels' names."
            )
        return min(limit, fits)

    def _asker(self) -> Any:
        kind: Any = ClozeScorer if self.prompt.method == "cloze" else LikelihoodScorer
        return kind(self.model, self.tokenizer, self._renderer)

    def scores(
        self, questions: Sequence[Question], processes: Processes, beat: Callable[[], None] = lambda: None
    ) -> NDArray[np.float64]:
        """How well each candidate answers each question (n, C): larger is better; the same on every rank.

        Raises:
            TrialError: some score is not finite.
        """
        score = self._by_meaning if self.prompt.method == "similarity" else self._by_words
        # Batches stay whole and one rank each, so that one process that scores again computes the very same ones.
        found: dict[int, list[float]] = {}
        with torch.no_grad():
            for batch, values in score(questions, processes, beat):
                found.update(zip(batch, values.tolist(), strict=True))
                beat()
        whole: dict[int, list[float]] = {}
        for part in processes.all_gather(found):
            whole.update(part)
        scores = np.array([whole[place] for place in range(len(questions))], dtype=np.float64)
        if not np.isfinite(scores).all():
            raise TrialError("the model's scores of the answers are NaN or infinite")
        return scores

    def _by_words(
        self, questions: Sequence[Question], processes: Processes, beat: Callable[[], None]
    ) -> Iterator[tuple[list[int], NDArray[np.float64]]]:
        scorer = self._asker()
        tokens: list[Any] = []
        for question, examples in zip(questions, self._shown(questions), strict=True):
            tokens.append(scorer.tokens(question, examples))
            beat()
        free: Any = 0.0
        if self.prompt.calibrate:
            examples = () if self._nearest else self.prompt.examples
            free = scorer.scores([scorer.tokens(self._renderer.content_free, examples)]).double().numpy()
        lengths = [len(ids) if self.prompt.method == "likelihood" else sum(map(len, ids)) for ids in tokens]
        for number, batch in enumerate(_batches(lengths)):
            if number % processes.world_size == processes.rank:
                yield batch, scorer.scores([tokens[place] for place in batch]).double().numpy() - free

    def _by_meaning(
        self, questions: Sequence[Question], processes: Processes, beat: Callable[[], None]
    ) -> Iterator[tuple[list[int], NDArray[np.float64]]]:
        first_token = pools_first_token(self.folder)
        scorer = SimilarityScorer(self.model, self.tokenizer, self._renderer, first_token)
        is_shared = self.prompt.similar_shown is None
        known = scorer.prototypes(self.prompt.examples if is_shared else ())
        pool = None if is_shared else scorer.embed(self.prompt.examples)
        # Questions about one text stay together: it is read once.
        whole = list(range(len(questions)))
        parts = [whole[start : start + QUESTIONS_AT_ONCE] for start in range(0, len(whole), QUESTIONS_AT_ONCE)]
        for number, batch in enumerate(parts):
            if number % processes.world_size != processes.rank:
                continue
            asked = [questions[place] for place in batch]
            embedded = scorer.embed(asked)
            if pool is None:
                yield batch, (embedded @ known.T).astype(np.float64)
                continue
            rows = []
            for each in embedded:
                # Nearest by meaning, since it is at hand here.
                near = np.argsort(-(pool @ each), kind="stable")[: self.prompt.similar_shown]
                own = scorer.merged(pool[near], [int(self.prompt.examples[place].answer or 0) for place in near])
                rows.append(own @ each)
            yield batch, np.stack(rows).astype(np.float64)

    def _shown(self, questions: Sequence[Question]) -> Sequence[Sequence[Question]]:
        return [self.prompt.examples] * len(questions) if self._nearest is None else self._nearest(questions)


def classify_split(
    prompted: PromptedModel,
    choosing: ChoicePromptTask,
    rows: dict[str, list[Any]],
    processes: Processes,
    beat: Callable[[], None] = lambda: None,
) -> ScoredPredictions:
    """Ask about every example of a split, in its order, and score the answers."""
    asked = choosing.questions(rows)
    flat = [question for questions in asked for question in questions]
    chosen = prompted.scores(flat, processes, beat).argmax(axis=1).tolist() if flat else []
    ends = np.cumsum([len(questions) for questions in asked]).tolist()
    starts = [0, *ends[:-1]]
    predictions = choosing.predictions(rows, [chosen[start:end] for start, end in zip(starts, ends, strict=True)])
    task = choosing.task
    references = task.answers(rows, choosing.facts)
    return ScoredPredictions(
        metrics=task.score(predictions, references), predictions=predictions, references=references
    )


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows of like lengths, longest first, at most ``TOKENS_AT_ONCE`` tokens or one row a batch."""
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    while order:
        size = max(1, min(QUESTIONS_AT_ONCE, TOKENS_AT_ONCE // max(1, lengths[order[0]])))
        yield order[:size]
        order = order[size:]
