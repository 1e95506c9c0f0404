"""The baseline that never looks at its input: the answer that train gives most often, for every row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.training.trial import Scored

if TYPE_CHECKING:
    from finesearch.plan import TaskPlan


def score_majority(plan: TaskPlan, base: str | Path, cache: str | Path) -> dict[str, Scored]:
    """The majority baseline on validation and test, from the same token files that trials are scored on.

    Raises:
        DataError, ModelError, DiskFullError: data or tokenizer cannot be read, tokens cannot be written.
    """
    from finesearch.data import load_splits, tokenise
    from finesearch.tasks import make_task
    from finesearch.training.model_files import load_tokenizer, tokenizer_sha256
    from finesearch.training.model_source import model_folder

    task, folder, home = make_task(plan), model_folder(plan.model, plan.revision, Path(base)), Path(cache)
    splits = load_splits(plan, Path(base), home)
    facts = task.read(splits)
    tokens = tokenise(splits, task, facts, load_tokenizer(folder), tokenizer_sha256(folder), home)
    references = {
        split: task.references(tokens[split].rows(range(len(tokens[split]))))
        for split in ("train", "validation", "test")
    }
    scored = {}
    for split in ("validation", "test"):
        guess = task.majority(references["train"], len(references[split]))
        metrics = task.score(guess, references[split])
        scored[split] = Scored(metrics=metrics, predictions=guess, references=references[split])
    return scored
