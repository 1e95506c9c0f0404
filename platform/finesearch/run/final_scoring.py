"""Final scoring: re-scores the ranked checkpoints and the baselines. Test is read here only, once a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from finesearch.errors import TrialError
from finesearch.plan import Plan
from finesearch.report import ScoredRow
from finesearch.run.build_record import FinalScores
from finesearch.run.comparison.compute_breakdown import compute_breakdown
from finesearch.run.preflight import Preflight
from finesearch.run.run_storage import SCORES, RunStorage
from finesearch.run.score_cache import CheckpointScore, Intervals, ScoreCache, mismatch
from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.controller.trial_queue import SEARCH
from finesearch.tuning.study.checkpoint_retention import rankable_trials
from finesearch.tuning.study.journaled_trial import JournaledTrial, Outcome, planned_evaluations, recipe_of
from finesearch.tuning.workers.rescoring import RescoredCheckpoint, RescoringSettings, StandbyScorer, rescore_all

MAJORITY, ORDINARY_ROW, ZERO_SHOT = "majority", "ordinary", "zero_shot"
SHOWN = {
    "zero_shot": {"adaptation"},
    "ordinary": {"adaptation", "learning_rate", "schedule", "epochs", "batch_size"},
    "strong": {"adaptation", "learning_rate", "schedule", "warmup_fraction", "head_init", "epochs", "batch_size"},
}
"""Description of the fixed recipes in the report."""


def rescoring_settings_of(plan: Plan, run_storage: RunStorage) -> RescoringSettings:
    """Settings with which the checkpoints of a run are re-scored."""
    return RescoringSettings(
        plan.task,
        plan.training,
        str(plan.base),
        run_storage.cache,
        plan.objectives[0].goal == "max",
        choices=plan.report.generation,
        seed=plan.search.seed,
    )


def compute_final_scores(
    controller: SearchController, preflight: Preflight, run_storage: RunStorage, standby: StandbyScorer | None = None
) -> FinalScores:
    """Reload and score rankable checkpoints and the baselines; needs Ray for the clean processes.

    standby: a scoring process that is already running, if any.
    """
    plan, score_cache = controller.plan, ScoreCache(run_storage.folder / SCORES)
    known = _cached_scores(controller, score_cache, preflight.unsupported_baselines)
    wanted = _checkpoints_to_score(controller, preflight.unsupported_baselines)
    missing = {name: path for name, path in wanted.items() if name not in known}
    checkpoints = {name: path for name, path in missing.items() if path is not None}
    rescoring, at_once = rescoring_settings_of(plan, run_storage), controller.concurrency.concurrent_trials
    found = rescore_all(list(checkpoints.values()), rescoring, at_once, standby)
    rescored = dict(zip(checkpoints, found, strict=True))
    if MAJORITY in missing:
        rescored[MAJORITY] = score_majority(preflight)
    for name, result in rescored.items():
        score = CheckpointScore(
            **{**vars(result), "name": name, "checkpoint": missing[name], "choices": _choices(plan, name)}
        )
        score_cache.put(score)
        known[name] = score
    run_storage.persist(SCORES)
    return _build_final_scores(controller, preflight, known)


def score_majority(preflight: Preflight) -> RescoredCheckpoint:
    """Scores of the majority baseline: the most frequent answer of train, for every row of validation and test."""
    task, splits = preflight.task, preflight.splits
    true = {split: task.answers(splits.plain_rows(split), preflight.facts) for split in ("train", "validation", "test")}
    guess = {split: task.majority(true["train"], len(true[split])) for split in ("validation", "test")}
    try:
        metrics = {split: task.score(guess[split], true[split]) for split in guess}
    except TrialError as error:
        return RescoredCheckpoint({}, {}, [], [], error.message)
    return RescoredCheckpoint(metrics["validation"], metrics["test"], guess["test"], true["test"])


def load_final_scores(
    controller: SearchController, preflight: Preflight, run_storage: RunStorage
) -> tuple[FinalScores, bool]:
    """Cached final scores, and whether nothing is left to score."""
    known = _cached_scores(controller, ScoreCache(run_storage.folder / SCORES), preflight.unsupported_baselines)
    is_complete = known.keys() == _checkpoints_to_score(controller, preflight.unsupported_baselines).keys()
    return _build_final_scores(controller, preflight, known), is_complete


def _checkpoints_to_score(controller: SearchController, unsupported: Collection[str]) -> dict[str, str | None]:
    """Checkpoints to score: name to checkpoint, in rank order, baselines last."""
    plan = controller.plan
    wanted: dict[str, str | None] = {
        score_name(trial): _ended(trial).detail.checkpoint
        for trial in rankable_trials(controller.journals[SEARCH], plan.report.top)
    }
    for name, trial in controller.baseline_trials.items():
        if name in plan.baselines and trial.state == "complete":
            wanted[baseline_score_name(name, trial)] = trial.detail.checkpoint
    return wanted | {name: None for name in _without_model(plan) if name not in unsupported}


def _without_model(plan: Plan) -> list[str]:
    """Baselines that are scored from the rows alone."""
    return [name for name in plan.baselines if name == MAJORITY or name in plan.floors]


def _choices(plan: Plan, name: str) -> dict[str, Any] | None:
    """The generation settings that a row chooses from, in the form that is cached with its score."""
    if plan.report.generation is None or name in _without_model(plan):
        return None
    return plan.report.generation.model_dump(mode="json")


def _cached_scores(
    controller: SearchController, score_cache: ScoreCache, unsupported: Collection[str] = ()
) -> dict[str, CheckpointScore]:
    plan = controller.plan
    found = {}
    for name, path in _checkpoints_to_score(controller, unsupported).items():
        is_lost = path is None and name not in _without_model(plan)
        found[name] = _without_checkpoint(name) if is_lost else score_cache.get(name, path, _choices(plan, name))
    return {name: score for name, score in found.items() if score is not None}


def _without_checkpoint(name: str) -> CheckpointScore:
    """Score of a trial whose checkpoint was not kept, but which would be ranked now that ``report.top`` was raised."""
    return CheckpointScore(
        name, None, {}, {}, [], [], error="its weights were not kept: it was not among report.top when it ended"
    )


def _ended(trial: JournaledTrial) -> Outcome:
    """How a trial of the ranking, or a baseline, ended."""
    ended = trial.rankable
    assert ended is not None, f"trial {trial.number} cannot be ranked"
    return ended


def score_name(trial: JournaledTrial) -> str:
    """Name of a trial's score and of its checkpoint folder."""
    return f"trial-{trial.number:04d}"


def baseline_score_name(name: str, trial: JournaledTrial) -> str:
    """Name of the score of a baseline: of a trial of the search, where it is one, so that test is read once for it."""
    return score_name(trial) if trial.recipe is None else name


def _build_final_scores(
    controller: SearchController, preflight: Preflight, scores: dict[str, CheckpointScore]
) -> FinalScores:
    plan = controller.plan
    of_trials = {
        name: scores.get(baseline_score_name(name, trial)) for name, trial in controller.baseline_trials.items()
    }
    of_baselines = {name: of_trials.get(name, scores.get(name)) for name in plan.baselines}
    usable = {name: score for name, score in of_baselines.items() if score is not None and score.error is None}
    task, validation = preflight.task, preflight.splits.plain_rows("validation")
    num_decisions = task.num_decisions(task.answers(validation, preflight.facts))
    row_builder = _RowBuilder(
        plan, Intervals(plan, task), num_decisions, lambda said: task.scale(plan.task.metric, said)
    )
    ranked = [
        row_builder.row(trial, scores[score_name(trial)], usable)
        for trial in rankable_trials(controller.journals[SEARCH], plan.report.top)
        if score_name(trial) in scores
    ]
    if plan.report.generation is not None:
        # Stable sort: equal rows stay in the order of the trials, which breaks ties.
        ranked.sort(key=lambda row: _place(row, plan))
    baselines = [
        ScoredRow(name=name, error=preflight.unsupported_baselines[name])
        if name in preflight.unsupported_baselines
        else row_builder.baseline(name, controller, of_baselines[name])
        for name in plan.baselines
    ]
    verified = {row.name: scores[f"trial-{row.trial:04d}"] for row in ranked if row.error is None}
    before = {name: usable[name] for name in (ZERO_SHOT, ORDINARY_ROW) if name in usable}
    breakdown = compute_breakdown(plan, preflight, before, verified)
    return FinalScores(tuple(ranked), tuple(row for row in baselines if row is not None), breakdown)


def _place(row: ScoredRow, plan: Plan) -> float:
    assert row.ranking_score is not None
    return -row.ranking_score if plan.objectives[0].goal == "max" else row.ranking_score


@dataclass(frozen=True)
class _RowBuilder:
    """Builds rows from scores: intervals, and whether a checkpoint scores what its trial reported."""

    plan: Plan
    intervals: Intervals
    validation_decisions: int
    scale: Callable[[float], float]

    def row(self, trial: JournaledTrial, score: CheckpointScore, baselines: Mapping[str, CheckpointScore]) -> ScoredRow:
        detail, name = _ended(trial).detail, self.plan.task.metric
        assert detail.best is not None, "the trial has a best evaluation"
        said = detail.best.metrics[name]
        usable = score.error is None
        gains = {
            baseline: gain
            for baseline, other in baselines.items()
            if usable and (gain := self.intervals.of_gain(score, other)) is not None
        }
        return ScoredRow(
            name=f"trial {trial.number}",
            trial=trial.number,
            validation=said,
            revalidated=score.validation.get(name),
            test=score.test.get(name),
            test_interval=self.intervals.of(score) if usable else None,
            gain_interval=gains.get(ORDINARY_ROW),
            gain_intervals=gains,
            validation_metrics=dict(score.validation),
            test_metrics=dict(score.test),
            parameters=dict(trial.parameters),
            trainable_parameters=detail.trainable_parameters,
            seconds=detail.seconds,
            checkpoint=score.checkpoint,
            stopped_at=None if trial.state == "complete" or trial.last is None else trial.last.step,
            evaluations=planned_evaluations(trial, self.plan),
            generation=self._chosen(score),
            chosen_validation=score.chosen_validation,
            error=score.error or mismatch(self.plan, said, score, self.validation_decisions, self.scale(said)),
        )

    def _chosen(self, score: CheckpointScore) -> dict[str, Any]:
        """The chosen values of the settings that the plan offers for choice."""
        choices = self.plan.report.generation
        if choices is None or score.generation is None:
            return {}
        return {name: score.generation[name] for name in choices.choices}

    def baseline(self, name: str, controller: SearchController, score: CheckpointScore | None) -> ScoredRow | None:
        """The row of a baseline; None while it has no score."""
        if name in _without_model(self.plan):
            return None if score is None else self._without_model(name, score)
        trial = controller.baseline_trials.get(name)
        if trial is None or trial.outcome is None:
            return None
        if score is None:
            return None if trial.state == "complete" else ScoredRow(name=name, error=trial.outcome.reason)
        row = self.row(trial, score, {})
        parameters = recipe_of(trial, self.plan).model_dump(include=SHOWN[name])
        number = trial.number if trial.recipe is None else None
        return row.model_copy(update={"name": name, "trial": number, "parameters": parameters})

    def _without_model(self, name: str, score: CheckpointScore) -> ScoredRow:
        """The row of the majority or of a floor."""
        if score.error is not None:
            return ScoredRow(name=name, error=score.error)
        metric = self.plan.task.metric
        return ScoredRow(
            name=name,
            validation=score.validation[metric],
            revalidated=score.validation[metric],
            test=score.test[metric],
            test_interval=self.intervals.of(score),
            validation_metrics=dict(score.validation),
            test_metrics=dict(score.test),
            parameters=score.settings,
            trainable_parameters=0 if name == MAJORITY else None,
            seconds=score.seconds or 0.0,
        )
