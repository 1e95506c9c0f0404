"""Cache of final scores, so that test is never read twice for the same checkpoint; bootstrap intervals of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finesearch.errors import TrialError
from finesearch.plan import Plan
from finesearch.report import percentile_interval, resampled_means, resampled_scores, resampled_sums
from finesearch.run.run_files import parse_run_file
from finesearch.storage.atomic_files import replace_synced, storage_errors

if TYPE_CHECKING:
    from finesearch.tasks import Task

SCORED_AGAIN = "Restore the file from a copy, or delete it: the same search scores this again."


@dataclass(frozen=True)
class CheckpointScore:
    """Scores of one checkpoint or baseline on validation and test; lists have one entry an example of test.

    ``validation``: with the plan's own generation settings. Where settings were chosen, ``choices`` is that part of the
    plan, ``generation`` the chosen ones, ``chosen_validation`` the metric with them; test is scored with them.
    ``seconds`` and ``settings`` are those of a floor: processor time, and what was chosen on validation.
    """

    name: str
    checkpoint: str | None
    validation: dict[str, float]
    test: dict[str, float]
    predictions: list[Any]
    references: list[Any]
    _: KW_ONLY
    error: str | None = None
    choices: dict[str, Any] | None = None
    generation: dict[str, Any] | None = None
    chosen_validation: float | None = None
    seconds: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class ScoreCache:
    """Scores by name, one JSON file each below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str, checkpoint: str | None, choices: dict[str, Any] | None) -> CheckpointScore | None:
        """The cached score of this checkpoint, with generation settings from the same choices; None without one."""
        path = self._folder / f"{name}.json"
        if not path.exists():
            return None
        with storage_errors(path):
            content = path.read_bytes()
        score = parse_run_file(content, path, CheckpointScore, "final scores", SCORED_AGAIN)
        return score if (score.checkpoint, score.choices) == (checkpoint, choices) else None

    def put(self, score: CheckpointScore, keep_error: bool = False) -> None:
        """Cache a score atomically. One with an error is not cached, so that it is retried, unless ``keep_error``."""
        if score.error is not None and not keep_error:
            return
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_synced(self._folder / f"{score.name}.json", json.dumps(score.__dict__).encode())


class Intervals:
    """95 % bootstrap intervals of the plan's metric on test; each system is resampled once, all on the same
    examples."""

    def __init__(self, plan: Plan, task: Task) -> None:
        self._seed, self._goal, self._name, self._task = (
            plan.search.seed,
            plan.objectives[0].goal,
            plan.task.metric,
            task,
        )
        self._samples: dict[str, NDArray[np.float64]] = {}

    def of(self, score: CheckpointScore) -> tuple[float, float] | None:
        """Interval of one system's metric; None where it has none, such as perplexity of a fixed reply."""
        if math.isnan(score.test.get(self._name, 0.0)):
            return None
        return percentile_interval(self._resampled(score))

    def of_gain(self, score: CheckpointScore, baseline: CheckpointScore) -> tuple[float, float] | None:
        """Interval of a system's gain over another; positive is better for either goal."""
        if not (self.of(score) and self.of(baseline)):
            return None
        gain = self._resampled(score) - self._resampled(baseline)
        return percentile_interval(gain if self._goal == "max" else -gain)

    def _resampled(self, score: CheckpointScore) -> NDArray[np.float64]:
        if score.name not in self._samples:
            values = self._task.example_scores(self._name, score.predictions, score.references)
            if values is not None:
                self._samples[score.name] = resampled_means(values, self._seed)
            elif (sums := self._task.statistics(self._name, score.predictions, score.references)) is not None:
                self._samples[score.name] = sums.score(resampled_sums(sums.counts, self._seed))
            else:
                metric = _nan_where_it_fails(self._task.metric(self._name))
                self._samples[score.name] = resampled_scores(metric, score.predictions, score.references, self._seed)
        return self._samples[score.name]


def _nan_where_it_fails(metric: Callable[[Sequence[Any], Sequence[Any]], float]) -> Callable[[Any, Any], float]:
    """A metric of the user's own may fail on a resample, such as one without a certain class: then no interval."""

    def value(predictions: Sequence[Any], references: Sequence[Any]) -> float:
        try:
            return metric(predictions, references)
        except TrialError:
            return math.nan

    return value


def mismatch(plan: Plan, said: float, score: CheckpointScore, decisions: int, scale: float = 1.0) -> str | None:
    """Why a reloaded checkpoint is not ranked: its score differs from its trial's by more than rounding explains.

    One counted answer may flip where two classes are nearly equal; two may not. scale: range of the metric (100 where
    it goes to 100).
    """
    now = score.validation.get(plan.task.metric)
    if now is not None and abs(now - said) <= scale * (1.5 / max(1, decisions) + 1e-3):
        return None
    return (
        f"the reloaded checkpoint scores {plan.task.metric} {now} on validation, its trial reported {said}; it is not "
        "ranked. The checkpoint does not hold what was trained, or evaluation is not repeatable on this hardware."
    )
