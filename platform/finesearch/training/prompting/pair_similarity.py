"""How alike two texts are: the cosine of their embeddings, for tasks whose answer is a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from finesearch.tasks.prompting.pair_prompts import SIDES, ComparingPairs
from finesearch.training.prompting.render_prompt import Wording
from finesearch.training.prompting.score_split import QUESTIONS_AT_ONCE, Answerer
from finesearch.training.prompting.similarity import Similarity, pools_first_token
from finesearch.training.runtime.distributed import Processes
from finesearch.training.trial_types import Scored


def compare_split(
    answerer: Answerer,
    comparing: ComparingPairs,
    rows: dict[str, list[Any]],
    processes: Processes,
    beat: Callable[[], None] = lambda: None,
) -> Scored:
    """Compare the two texts of every example of a split, in its order, and score the cosines."""
    wording = Wording(answerer.prompt, answerer.tokenizer, answerer.field_tokens, answerer.most_tokens)
    embedder = Similarity(answerer.model, answerer.tokenizer, wording, pools_first_token(answerer.folder))
    pairs = [tuple(wording.cut(question.fields[side]) for side in SIDES) for (question,) in comparing.questions(rows)]
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
    whole = {number: cosines for each in processes.gather(found) for number, cosines in each.items()}
    predictions = comparing.predictions([cosine for number in sorted(whole) for cosine in whole[number]])
    references = comparing.task.answers(rows, comparing.facts)
    metrics = comparing.task.score(predictions, references)
    return Scored(metrics=metrics, predictions=predictions, references=references)
