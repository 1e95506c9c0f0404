"""Final scores: checkpoints reloaded and scored once, kept so that test is never read a second time for the same one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesearch.plan import Plan
from finesearch.report import bootstrap_interval, gain_interval

RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """One checkpoint or baseline on validation and test; lists have one entry an example of test."""

    name: str
    checkpoint: str | None
    validation: dict[str, float]
    test: dict[str, float]
    predictions: list[Any]
    references: list[Any]
    error: str | None = None


class ScoreBook:
    """Scores by name, one JSON file each below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str, checkpoint: str | None) -> Score | None:
        """What was scored before for this very checkpoint."""
        path = self._folder / f"{name}.json"
        if not path.exists():
            return None
        score = Score(**json.loads(path.read_text(encoding="utf-8")))
        return score if score.checkpoint == checkpoint else None

    def put(self, score: Score) -> None:
        """Keep a score; written whole or not at all. One with an error is not kept, so that it is tried again."""
        if score.error is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{score.name}.json"
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(score.__dict__, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def metric_of(score: Callable[[Sequence[Any], Sequence[Any]], dict[str, float]], metric: str) -> Callable[..., float]:
    """One metric out of a task's scores, as the bootstrap wants it."""
    return lambda predictions, references: score(predictions, references)[metric]


def test_interval(plan: Plan, score: Score, metric: Callable[..., float]) -> tuple[float, float] | None:
    """95 % bootstrap interval of the metric on test."""
    return bootstrap_interval(metric, score.predictions, score.references, plan.search.seed, RESAMPLES)


def gain_over(plan: Plan, score: Score, ordinary: Score, metric: Callable[..., float]) -> tuple[float, float] | None:
    """95 % interval of the paired difference on test to the ordinary recipe; positive is better."""
    goal = plan.objectives[0].goal
    return gain_interval(
        metric, score.predictions, ordinary.predictions, score.references, goal, plan.search.seed, RESAMPLES
    )


def mismatch(plan: Plan, said: float, score: Score, examples: int) -> str | None:
    """Why a reloaded checkpoint is not ranked: it scores other than its trial said, by more than rounding can do.

    One example may fall on the other side where two classes are nearly equal; two may not.
    """
    now = score.validation.get(plan.task.metric)
    if now is not None and abs(now - said) <= 1.5 / max(1, examples) + 1e-3:
        return None
    return (
        f"the reloaded checkpoint scores {plan.task.metric} {now} on validation, its trial reported {said}; it is not "
        "ranked. The checkpoint does not hold what was trained, or evaluation is not repeatable on this hardware."
    )
