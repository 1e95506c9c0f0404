"""Final scores: who is ranked, and what the baselines reach. Validation picked; test is read here, once a
checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from finesearch.plan import FIXED_RECIPES, Plan
from finesearch.report import ScoredRow
from finesearch.run.build_record import Standing
from finesearch.run.preflight import Preflight
from finesearch.run.run_storage import SCORES, RunHome
from finesearch.run.score_cache import Intervals, Score, ScoreBook, mismatch
from finesearch.tuning.controller.search_controller import SEARCH, Conductor
from finesearch.tuning.study.checkpoint_retention import rankable
from finesearch.tuning.study.journal import state_name
from finesearch.tuning.workers.rescoring import Rescored, Rescoring, Standby, rescore_all

MAJORITY, ORDINARY_ROW = "majority", "ordinary"
SHOWN = {
    "zero_shot": {"adaptation"},
    "ordinary": {"adaptation", "learning_rate", "schedule", "epochs", "batch_size"},
}
"""What the report says of the fixed recipes."""


def rescoring_of(plan: Plan, home: RunHome) -> Rescoring:
    """How the checkpoints of a run are scored again."""
    return Rescoring(
        plan.task,
        plan.training,
        str(plan.base),
        home.cache,
        plan.objectives[0].goal == "max",
        plan.report.generation,
        plan.search.seed,
    )


def score_standing(
    conductor: Conductor, preflight: Preflight, home: RunHome, standby: Standby | None = None
) -> Standing:
    """Reload and score what can be ranked, and the baselines; needs Ray for the clean processes.

    standby: one of them, if there is one already.
    """
    plan, book = conductor.plan, ScoreBook(home.folder / SCORES)
    known = _kept(conductor, book)
    missing = {name: path for name, path in _wanted(conductor).items() if name not in known}
    checkpoints = {name: path for name, path in missing.items() if path is not None}
    rescoring, at_once = rescoring_of(plan, home), conductor.concurrent_trials
    found = rescore_all(list(checkpoints.values()), rescoring, at_once, standby)
    rescored = dict(zip(checkpoints, found, strict=True))
    if MAJORITY in missing:
        rescored[MAJORITY] = score_majority(preflight)
    for name, said in rescored.items():
        score = Score(**{**vars(said), "name": name, "checkpoint": missing[name], "choices": _choices(plan, name)})
        book.put(score)
        known[name] = score
    home.keep(SCORES)
    return _standing(conductor, preflight, known)


def score_majority(preflight: Preflight) -> Rescored:
    """The answer that train gives most often, for every row of validation and test."""
    task, splits = preflight.task, preflight.splits
    true = {split: task.answers(splits.plain_rows(split), preflight.facts) for split in ("train", "validation", "test")}
    guess = {split: task.majority(true["train"], len(true[split])) for split in ("validation", "test")}
    metrics = {split: task.score(guess[split], true[split]) for split in guess}
    return Rescored(metrics["validation"], metrics["test"], guess["test"], true["test"])


def kept_standing(conductor: Conductor, preflight: Preflight, home: RunHome) -> tuple[Standing, bool]:
    """What was scored before, and whether that is all there is to score."""
    known = _kept(conductor, ScoreBook(home.folder / SCORES))
    return _standing(conductor, preflight, known), set(known) == set(_wanted(conductor))


def _wanted(conductor: Conductor) -> dict[str, str | None]:
    """What is to be scored: name to checkpoint, in rank order, baselines last."""
    plan = conductor.plan
    wanted: dict[str, str | None] = {
        score_name(trial): trial.user_attrs["outcome"]["checkpoint"]
        for trial in rankable(conductor.journals[SEARCH], plan.report.top)
    }
    for name, trial in conductor.baseline_trials.items():
        if name in plan.report.baselines and state_name(trial) == "complete":
            wanted[name] = trial.user_attrs["outcome"]["checkpoint"]
    if MAJORITY in plan.report.baselines:
        wanted[MAJORITY] = None
    return wanted


def _choices(plan: Plan, name: str) -> dict[str, Any] | None:
    """The generation settings that a row chooses from, as its score is kept with them."""
    if plan.report.generation is None or name == MAJORITY:
        return None
    return plan.report.generation.model_dump(mode="json")


def _kept(conductor: Conductor, book: ScoreBook) -> dict[str, Score]:
    plan = conductor.plan
    found = {}
    for name, path in _wanted(conductor).items():
        is_lost = path is None and name != MAJORITY
        found[name] = _without_checkpoint(name) if is_lost else book.get(name, path, _choices(plan, name))
    return {name: score for name, score in found.items() if score is not None}


def _without_checkpoint(name: str) -> Score:
    """A trial that could not be ranked when it ended, and would be now, since ``report.top`` was raised."""
    return Score(name, None, {}, {}, [], [], "its weights were not kept: it was not among report.top when it ended")


def score_name(trial: FrozenTrial) -> str:
    """Name of a trial's score and of its checkpoint folder."""
    return f"trial-{trial.number:04d}"


def _standing(conductor: Conductor, preflight: Preflight, scores: dict[str, Score]) -> Standing:
    plan = conductor.plan
    reference = scores.get(ORDINARY_ROW)
    if reference is not None and reference.error is not None:
        reference = None
    task, validation = preflight.task, preflight.splits.plain_rows("validation")
    decisions = task.decisions(task.answers(validation, preflight.facts))
    judge = _Judge(plan, Intervals(plan, task), decisions, lambda said: task.scale(plan.task.metric, said))
    ranked = [
        judge.row(trial, scores[score_name(trial)], reference)
        for trial in rankable(conductor.journals[SEARCH], plan.report.top)
        if score_name(trial) in scores
    ]
    if plan.report.generation is not None:
        # Stable: equal rows stay in the order of the trials, which settles ties.
        ranked.sort(key=lambda row: _place(row, plan))
    baselines = [
        ScoredRow(name=name, error=preflight.unfit[name])
        if name in preflight.unfit
        else judge.baseline(name, conductor, scores.get(name))
        for name in plan.report.baselines
    ]
    return Standing(tuple(ranked), tuple(row for row in baselines if row is not None))


def _place(row: ScoredRow, plan: Plan) -> float:
    assert row.decisive is not None
    return -row.decisive if plan.objectives[0].goal == "max" else row.decisive


@dataclass(frozen=True)
class _Judge:
    """Makes rows of scores: intervals, and whether a checkpoint is what its trial said."""

    plan: Plan
    intervals: Intervals
    validation_decisions: int
    scale: Callable[[float], float]

    def row(self, trial: FrozenTrial, score: Score, reference: Score | None) -> ScoredRow:
        told, name = trial.user_attrs["outcome"], self.plan.task.metric
        said = told["best"]["metrics"][name]
        usable = score.error is None
        return ScoredRow(
            name=f"trial {trial.number}",
            trial=trial.number,
            validation=said,
            revalidated=score.validation.get(name),
            test=score.test.get(name),
            test_interval=self.intervals.of(score) if usable else None,
            gain_interval=self.intervals.of_gain(score, reference) if usable and reference else None,
            validation_metrics=dict(score.validation),
            test_metrics=dict(score.test),
            parameters=trial.user_attrs["asked"]["parameters"],
            trainable_parameters=told.get("trainable_parameters"),
            seconds=told.get("seconds"),
            checkpoint=score.checkpoint,
            generation=self._chosen(score),
            chosen_validation=score.chosen_validation,
            error=score.error or mismatch(self.plan, said, score, self.validation_decisions, self.scale(said)),
        )

    def _chosen(self, score: Score) -> dict[str, Any]:
        """Those settings that there was a choice of."""
        choices = self.plan.report.generation
        if choices is None or score.generation is None:
            return {}
        return {name: score.generation[name] for name in choices.choices}

    def baseline(self, name: str, conductor: Conductor, score: Score | None) -> ScoredRow | None:
        """The row of a baseline; None while it is not known."""
        if name == MAJORITY:
            return None if score is None else self._majority(score)
        trial = conductor.baseline_trials.get(name)
        if trial is None or state_name(trial) == "running":
            return None
        if score is None:
            reason = trial.user_attrs["outcome"]["reason"]
            return None if state_name(trial) == "complete" else ScoredRow(name=name, error=reason)
        row = self.row(trial, score, None)
        parameters = FIXED_RECIPES[name].model_dump(include=SHOWN[name])
        return row.model_copy(update={"name": name, "trial": None, "parameters": parameters})

    def _majority(self, score: Score) -> ScoredRow:
        name = self.plan.task.metric
        return ScoredRow(
            name=MAJORITY,
            validation=score.validation[name],
            revalidated=score.validation[name],
            test=score.test[name],
            test_interval=self.intervals.of(score),
            validation_metrics=dict(score.validation),
            test_metrics=dict(score.test),
            trainable_parameters=0,
            seconds=0.0,
        )
