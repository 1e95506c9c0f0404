"""How alike two texts are: the cosine of their embeddings, for tasks whose answer is a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from finesearch.tasks.prompting.pair_prompts import TEXT_ROLES, PairPromptTask
from finesearch.training.prompting.render_prompt import PromptRenderer
from finesearch.training.prompting.score_split import QUESTIONS_AT_ONCE, PromptedModel
from finesearch.training.prompting.similarity import SimilarityScorer, pools_first_token
from finesearch.training.runtime.distributed import Processes
from finesearch.training.trial_types import ScoredPredictions


def score_pair_split(
    prompted: PromptedModel,
    comparing: PairPromptTask,
    rows: dict[str, list[Any]],
    processes: Processes,
    beat: Callable[[], None] = lambda: None,
) -> ScoredPredictions:
    """Compare the two texts of every example of a split, in its order, and score the cosines."""
    renderer = PromptRenderer(prompted.prompt, prompted.tokenizer, prompted.field_tokens, prompted.most_tokens)
    embedder = SimilarityScorer(prompted.model, prompted.tokenizer, renderer, pools_first_token(prompted.folder))
    pairs = [
        tuple(renderer.cut(question.fields[side]) for side in TEXT_ROLES) for (question,) in comparing.questions(rows)
    ]
    found: dict[int, list[float]] = {}
    with torch.no_grad():
        for number, start in enumerate(range(0, len(pairs), QUESTIONS_AT_ONCE)):
            # Batches stay whole and one rank each, so that one process that scores again computes the very same ones.
            if number % processes.world_size != processes.rank:
                continue
            part = pairs[start : start + QUESTIONS_AT_ONCE]
            embedded = [embedder.embedded(texts, [None] * len(part)) for texts in zip(*part, strict=True)]
            found[number] = (embedded[0] * embedded[1]).sum(-1).tolist()
            beat()
    whole = {number: cosines for each in processes.all_gather(found) for number, cosines in each.items()}
    predictions = comparing.predictions([cosine for number in sorted(whole) for cosine in whole[number]])
    references = comparing.task.answers(rows, comparing.facts)
    metrics = comparing.task.score(predictions, references)
    return ScoredPredictions(metrics=metrics, predictions=predictions, references=references)
