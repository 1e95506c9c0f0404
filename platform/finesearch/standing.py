"""Final scores: who is ranked, and what the baselines reach. Validation picked; test is read here, once a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from finesearch.outcome import Standing, ordinary_trial
from finesearch.plan import ORDINARY, Plan
from finesearch.preflight import Preflight
from finesearch.report import ScoredRow
from finesearch.scores import Score, ScoreBook, gain_over, metric_of, mismatch, test_interval
from finesearch.tuning.conductor import SEARCH, Conductor
from finesearch.tuning.journal import state_name
from finesearch.tuning.retention import rankable
from finesearch.tuning.verification import rescore_all

MAJORITY = "majority"


def score_standing(conductor: Conductor, preflight: Preflight, folder: Path) -> Standing:
    """Reload and score what can be ranked and the baselines; needs Ray for the clean processes."""
    plan = conductor.plan
    book = ScoreBook(folder / "scores")
    candidates = rankable(conductor.journals[SEARCH], plan.report.top)
    ordinary = ordinary_trial(conductor)
    entries = [(f"trial-{trial.number:04d}", trial) for trial in candidates]
    if ordinary is not None and state_name(ordinary) == "complete":
        entries.append(("ordinary", ordinary))
    scores = _scores(plan, folder, book, {name: trial.user_attrs["outcome"]["checkpoint"] for name, trial in entries})
    metric = metric_of(preflight.task.score, plan.task.metric)
    examples = len(preflight.splits.validation)
    reference = scores.get("ordinary")
    if reference is not None and reference.error is not None:
        reference = None
    ranked = tuple(
        _row(plan, f"trial {trial.number}", trial, scores[name], reference, metric, examples, trial.user_attrs["asked"]["parameters"])
        for name, trial in entries
        if name != "ordinary"
    )
    baselines = []
    for name in plan.report.baselines:
        if name == MAJORITY:
            baselines.append(_majority_row(plan, preflight, reference, metric))
        elif ordinary is not None and "ordinary" in scores:
            recipe = ORDINARY.model_dump(include={"adaptation", "learning_rate", "schedule", "epochs", "batch_size"})
            baselines.append(_row(plan, name, ordinary, scores["ordinary"], None, metric, examples, recipe, trial_number=None))
        elif ordinary is not None:
            told = ordinary.user_attrs.get("outcome") or {}
            baselines.append(ScoredRow(name=name, error=told.get("reason") or "did not finish"))
    return Standing(ranked, tuple(baselines))


def _scores(plan: Plan, folder: Path, book: ScoreBook, checkpoints: dict[str, str]) -> dict[str, Score]:
    known = {name: book.get(name, path) for name, path in checkpoints.items()}
    missing = [name for name, score in known.items() if score is None]
    paths = [checkpoints[name] for name in missing]
    rescored = rescore_all(paths, plan.task, plan.training, str(plan.base), str(folder / "cache"))
    for name, path, found in zip(missing, paths, rescored, strict=True):
        known[name] = Score(name, path, found.validation, found.test, found.predictions, found.references, found.error)
        book.put(known[name])  # type: ignore[arg-type]
    return {name: score for name, score in known.items() if score is not None}


def _row(
    plan: Plan,
    name: str,
    trial: FrozenTrial,
    score: Score,
    reference: Score | None,
    metric: Callable[..., float],
    examples: int,
    parameters: dict[str, Any],
    trial_number: int | None = -1,
) -> ScoredRow:
    told = trial.user_attrs["outcome"]
    said = told["best"]["metrics"][plan.task.metric]
    error = score.error or mismatch(plan, said, score, examples)
    usable = score.error is None
    return ScoredRow(
        name=name,
        trial=trial.number if trial_number == -1 else trial_number,
        validation=said,
        revalidated=score.validation.get(plan.task.metric),
        test=score.test.get(plan.task.metric),
        test_interval=test_interval(plan, score, metric) if usable else None,
        gain_interval=gain_over(plan, score, reference, metric) if usable and reference else None,
        validation_metrics=score.validation,
        test_metrics=score.test,
        parameters=parameters,
        trainable_parameters=told.get("trainable_parameters"),
        seconds=told.get("seconds"),
        checkpoint=score.checkpoint,
        error=error,
    )


def _majority_row(plan: Plan, preflight: Preflight, reference: Score | None, metric: Callable[..., float]) -> ScoredRow:
    """The answer that train gives most often, for every row."""
    task, splits = preflight.task, preflight.splits
    train = task.raw_references(splits.plain_rows("train"), preflight.facts)
    scored: dict[str, tuple[dict[str, float], list[Any], list[Any]]] = {}
    for split in ("validation", "test"):
        true = task.raw_references(splits.plain_rows(split), preflight.facts)
        guess = task.majority(train, len(true))
        scored[split] = (task.score(guess, true), guess, true)
    test = Score(MAJORITY, None, scored["validation"][0], *scored["test"])
    return ScoredRow(
        name=MAJORITY,
        validation=test.validation[plan.task.metric],
        revalidated=test.validation[plan.task.metric],
        test=test.test[plan.task.metric],
        test_interval=test_interval(plan, test, metric),
        validation_metrics=test.validation,
        test_metrics=test.test,
        seconds=0.0,
        trainable_parameters=0,
    )
