"""Answers that an encoder finds in contexts by similarity, computed by all processes together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finesearch.tasks.prompting import Question
from finesearch.tasks.prompting.question_prompts import ExtractivePromptTask, candidate_spans, sentence_spans
from finesearch.training.prompting.render_prompt import PromptRenderer
from finesearch.training.prompting.score_split import PromptedModel
from finesearch.training.prompting.similarity import SimilarityScorer, pools_first_token
from finesearch.training.runtime.distributed import Processes
from finesearch.training.trial_types import ScoredPredictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE = 16


def extract_split(
    prompted: PromptedModel,
    extracting: ExtractivePromptTask,
    rows: dict[str, list[Any]],
    processes: Processes,
    beat: Callable[[], None] = lambda: None,
) -> ScoredPredictions:
    """Find an answer to every question of a split, in its order, and score them."""
    questions = [question for asked in extracting.questions(rows) for question in asked]
    renderer = PromptRenderer(prompted.prompt, prompted.tokenizer, prompted.field_tokens, prompted.most_tokens)
    scorer = SimilarityScorer(prompted.model, prompted.tokenizer, renderer, pools_first_token(prompted.folder))
    found: dict[int, str] = {}
    with torch.no_grad():
        # Parts stay whole and one rank each, so that one process that asks again computes the very same ones.
        for number, start in enumerate(range(0, len(questions), AT_ONCE)):
            if number % processes.world_size == processes.rank:
                part = questions[start : start + AT_ONCE]
                found.update(zip(range(start, start + len(part)), _answers(scorer, part), strict=True))
            beat()
    whole: dict[int, str] = {}
    for each in processes.all_gather(found):
        whole.update(each)
    predictions = extracting.predictions([whole[place] for place in range(len(questions))])
    references = extracting.task.answers(rows, extracting.facts)
    metrics = extracting.task.score(predictions, references)
    return ScoredPredictions(metrics=metrics, predictions=predictions, references=references)


def _answers(scorer: SimilarityScorer, questions: Sequence[Question]) -> list[str]:
    """Of the sentence nearest to each question, the words nearest to it that it does not have itself."""
    asked = scorer.embedded([each.fields["question"] for each in questions], [None] * len(questions))
    best = _nearest_sentences(scorer, questions, asked)
    spans = [candidate_spans(text, each.fields["question"]) for text, each in zip(best, questions, strict=True)]
    texts = [text for text, found in zip(best, spans, strict=True) for _ in found]
    flat = [span for found in spans for span in found]
    known = scorer.embedded(texts, flat) if flat else np.zeros((0, asked.shape[1]), dtype=np.float32)
    answers, start = [], 0
    for text, found, each in zip(best, spans, asked, strict=True):
        part = known[start : start + len(found)] @ each
        start += len(found)
        answers.append(text[slice(*found[int(part.argmax())])] if found else text)
    return answers


def _nearest_sentences(
    scorer: SimilarityScorer, questions: Sequence[Question], asked: NDArray[np.float32]
) -> list[str]:
    contexts = [each.fields["context"] for each in questions]
    parts = [[context[start:end] for start, end in sentence_spans(context)] or [context] for context in contexts]
    flat = [sentence for part in parts for sentence in part]
    known = scorer.embedded(flat, [None] * len(flat))
    found, start = [], 0
    for part, each in zip(parts, asked, strict=True):
        found.append(part[int((known[start : start + len(part)] @ each).argmax())])
        start += len(part)
    return found
