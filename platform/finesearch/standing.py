"""Final scores: who is ranked, and what the baselines reach. Validation picked; test is read here, once a
checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial

from finesearch.outcome import Standing, ordinary_trial
from finesearch.plan import ORDINARY, Plan
from finesearch.preflight import Preflight
from finesearch.report import ScoredRow
from finesearch.scores import Intervals, Score, ScoreBook, mismatch
from finesearch.tuning.conductor import SEARCH, Conductor
from finesearch.tuning.journal import state_name
from finesearch.tuning.retention import rankable
from finesearch.tuning.verification import Rescored, rescore_all

MAJORITY, ORDINARY_ROW = "majority", "ordinary"
ORDINARY_PARAMETERS = ORDINARY.model_dump(include={"adaptation", "learning_rate", "schedule", "epochs", "batch_size"})


def score_standing(conductor: Conductor, preflight: Preflight, folder: Path) -> Standing:
    """Reload and score what can be ranked, and the baselines; needs Ray for the clean processes."""
    plan, book = conductor.plan, ScoreBook(folder / "scores")
    known = _kept(conductor, book)
    missing = {name: path for name, path in _wanted(conductor).items() if name not in known}
    checkpoints = {name: path for name, path in missing.items() if path is not None}
    found = rescore_all(
        list(checkpoints.values()),
        plan.task,
        plan.training,
        str(plan.base),
        str(folder / "cache"),
        conductor.concurrent_trials,
    )
    rescored = dict(zip(checkpoints, found, strict=True))
    if MAJORITY in missing:
        rescored[MAJORITY] = score_majority(preflight)
    for name, said in rescored.items():
        score = Score(name, missing[name], said.validation, said.test, said.predictions, said.references, said.error)
        book.put(score)
        known[name] = score
    return _standing(conductor, preflight, known)


def score_majority(preflight: Preflight) -> Rescored:
    """The answer that train gives most often, for every row of validation and test."""
    task, splits = preflight.task, preflight.splits
    true = {split: task.answers(splits.plain_rows(split), preflight.facts) for split in ("train", "validation", "test")}
    guess = {split: task.majority(true["train"], len(true[split])) for split in ("validation", "test")}
    metrics = {split: task.score(guess[split], true[split]) for split in guess}
    return Rescored(metrics["validation"], metrics["test"], guess["test"], true["test"])


def kept_standing(conductor: Conductor, preflight: Preflight, folder: Path) -> tuple[Standing, bool]:
    """What was scored before, and whether that is all there is to score."""
    known = _kept(conductor, ScoreBook(folder / "scores"))
    return _standing(conductor, preflight, known), set(known) == set(_wanted(conductor))


def _wanted(conductor: Conductor) -> dict[str, str | None]:
    """What is to be scored: name to checkpoint, in rank order, baselines last."""
    plan = conductor.plan
    wanted: dict[str, str | None] = {
        score_name(trial): trial.user_attrs["outcome"]["checkpoint"]
        for trial in rankable(conductor.journals[SEARCH], plan.report.top)
    }
    ordinary = ordinary_trial(conductor)
    if ORDINARY_ROW in plan.report.baselines and ordinary is not None and state_name(ordinary) == "complete":
        wanted[ORDINARY_ROW] = ordinary.user_attrs["outcome"]["checkpoint"]
    if MAJORITY in plan.report.baselines:
        wanted[MAJORITY] = None
    return wanted


def _kept(conductor: Conductor, book: ScoreBook) -> dict[str, Score]:
    found = {name: book.get(name, path) for name, path in _wanted(conductor).items()}
    return {name: score for name, score in found.items() if score is not None}


def score_name(trial: FrozenTrial) -> str:
    """Name of a trial's score and of its checkpoint folder."""
    return f"trial-{trial.number:04d}"


def _standing(conductor: Conductor, preflight: Preflight, scores: dict[str, Score]) -> Standing:
    plan = conductor.plan
    ordinary = ordinary_trial(conductor)
    reference = scores.get(ORDINARY_ROW)
    if reference is not None and reference.error is not None:
        reference = None
    task, validation = preflight.task, preflight.splits.plain_rows("validation")
    decisions = task.decisions(task.answers(validation, preflight.facts))
    judge = _Judge(plan, Intervals(plan, task), decisions, lambda said: task.scale(plan.task.metric, said))
    ranked = tuple(
        judge.row(trial, scores[score_name(trial)], reference)
        for trial in rankable(conductor.journals[SEARCH], plan.report.top)
        if score_name(trial) in scores
    )
    baselines: list[ScoredRow] = []
    if MAJORITY in scores:
        baselines.append(judge.majority(scores[MAJORITY]))
    if ordinary is not None:
        if ORDINARY_ROW in scores:
            row = judge.row(ordinary, scores[ORDINARY_ROW], None)
            baselines.append(
                row.model_copy(update={"name": ORDINARY_ROW, "trial": None, "parameters": ORDINARY_PARAMETERS})
            )
        elif state_name(ordinary) != "running":
            baselines.append(ScoredRow(name=ORDINARY_ROW, error=ordinary.user_attrs["outcome"]["reason"]))
    return Standing(ranked, tuple(baselines))


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
            error=score.error or mismatch(self.plan, said, score, self.validation_decisions, self.scale(said)),
        )

    def majority(self, score: Score) -> ScoredRow:
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
