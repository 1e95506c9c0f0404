"""Predictions of a prompted model for a split, computed by all processes together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from finesearch.tasks.prompting import ChoicePromptTask, ExtractivePromptTask, PairPromptTask, PromptTask
from finesearch.training.prompting.scoring.prompted_model import Batches, PromptedModel, RunBatches
from finesearch.training.runtime.distributed import Processes
from finesearch.training.trial_types import ScoredPredictions

Rows = dict[str, list[Any]]


def score_split(
    prompted: PromptedModel,
    asking: PromptTask,
    rows: Rows,
    processes: Processes,
    beat: Callable[[], None] = lambda: None,
) -> ScoredPredictions:
    """Prompt the model for every example of a split, in order, and score the answers; the same on every rank."""
    run = shared_by(processes, beat)
    if isinstance(asking, ChoicePromptTask):
        predictions = _choices(prompted, asking, rows, run, beat)
    else:
        questions = [question for group in asking.questions(rows) for question in group]
        if isinstance(asking, PairPromptTask):
            predictions = asking.predictions(prompted.cosines(questions, run))
        else:
            assert isinstance(asking, ExtractivePromptTask), type(asking)
            predictions = asking.predictions(prompted.extracts(questions, run))
    references = asking.task.answers(rows, asking.facts)
    metrics = asking.task.score(predictions, references)
    return ScoredPredictions(metrics=metrics, predictions=predictions, references=references)


def shared_by(processes: Processes, beat: Callable[[], None]) -> RunBatches:
    """Distributes batches over all processes and gathers every value on each. beat: called after each batch."""

    def run(batches: Batches, compute: Callable[[Sequence[int]], Sequence[Any]]) -> list[Any]:
        found: dict[int, Any] = {}
        # Each batch is computed whole by one rank, so that a single process can reproduce exactly the same batches.
        for batch in batches[processes.rank :: processes.world_size]:
            found.update(zip(batch, compute(batch), strict=True))
            beat()
        whole = {place: value for part in processes.all_gather(found) for place, value in part.items()}
        return [whole[place] for place in range(len(whole))]

    return run


def _choices(
    prompted: PromptedModel, choosing: ChoicePromptTask, rows: Rows, run: RunBatches, beat: Callable[[], None]
) -> list[Any]:
    by_example = choosing.questions(rows)
    flat = [question for questions in by_example for question in questions]
    chosen = prompted.scores(flat, run, beat).argmax(axis=1).tolist() if flat else []
    ends = np.cumsum([len(questions) for questions in by_example]).tolist()
    starts = [0, *ends[:-1]]
    return choosing.predictions(rows, [chosen[start:end] for start, end in zip(starts, ends, strict=True)])
