"""The Optuna study as the one journal of a search: what was suggested, measured, decided and spent.

Two studies are kept alike. The one on disk (SQLite, or PostgreSQL by URL) is the truth and only ever written; the one
in
memory is what samplers and pruners read. What they write while they think (rungs, grid positions, CMA-ES state) reaches
the disk together with the decision that it led to, in one transaction. A driver killed between any two instructions
therefore leaves a decision that was taken whole or not at all, and a resumed search takes it again, the same.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from finesearch.errors import RunConflictError
from finesearch.tuning.messages import EvaluationReport
from finesearch.tuning.study.study_writer import make_study_writer
from finesearch.tuning.study.trial_attributes import (
    ASKED,
    OUTCOME,
    STEP,
    JournaledEvaluation,
    Outcome,
    journaled_evaluations,
    journaled_outcome,
)

optuna.logging.set_verbosity(optuna.logging.ERROR)

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class Direction:
    """One objective: its name and whether larger is better."""

    name: str
    maximize: bool

    @property
    def optuna(self) -> StudyDirection:
        return StudyDirection.MAXIMIZE if self.maximize else StudyDirection.MINIMIZE


@dataclass(frozen=True)
class PrunerVerdict:
    """What was decided on one evaluation; ``kept`` is what the journal keeps of it.

    seen_by_pruner: what the pruner saw, if anything. is_new: not journaled yet.
    """

    kept: JournaledEvaluation
    seen_by_pruner: float | None
    is_new: bool

    @property
    def step(self) -> int:
        return self.kept.step

    @property
    def note(self) -> dict[str, Any]:
        """The attribute of the trial that the journal keeps it in."""
        return {f"{STEP}{self.step}": self.kept.model_dump(mode="json")}


_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class Journal:
    """One study, on disk and in memory, with the same trial numbers.

    Args:
        storage: Optuna storage that survives the process.
        name: the study's name, made when it is not there.
        directions: objectives, the quality metric first.
        pruner: asked once an evaluation; must be ``NopPruner`` with several objectives.

    Raises:
        RunConflictError: the study on disk has other objectives.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        directions: Sequence[Direction],
        pruner: BasePruner | None = None,
    ) -> None:
        self.name = name
        self.directions = tuple(directions)
        self._disk = storage
        self._writer = make_study_writer(storage)
        self._lock = threading.RLock()
        self._disk_ids: dict[int, int] = {}
        wanted = [d.optuna for d in self.directions]
        disk = optuna.create_study(storage=storage, study_name=name, directions=wanted, load_if_exists=True)
        if list(disk.directions) != wanted:
            raise RunConflictError(f"study {name!r}: its objectives are {disk.directions}, the plan's are {wanted}.")
        self._study_id = disk._study_id
        self._memory = optuna.create_study(
            study_name=name, directions=wanted, pruner=pruner or optuna.pruners.NopPruner()
        )
        self._counts = dict.fromkeys((*_STATES, "running"), 0)
        self._running: set[int] = set()
        for trial in disk.get_trials(deepcopy=True):
            self._load(trial)

    def _load(self, trial: FrozenTrial) -> None:
        """Take over one trial from disk, leaving out what was never decided."""
        self._disk_ids[trial.number] = trial._trial_id
        steps = journaled_evaluations(trial)
        if trial.state is TrialState.RUNNING:
            trial.intermediate_values = {s: v for s, v in trial.intermediate_values.items() if s in steps}
            told = journaled_outcome(trial)
            if told is not None:  # a driver died half-way, in versions that took two writes for an end
                trial.state, trial.values = _STATES[told.state], None if told.values is None else list(told.values)
                trial.datetime_complete = datetime.now()
                self._disk.set_trial_state_values(trial._trial_id, trial.state, trial.values)
        self._counts[state_name(trial)] += 1
        if not trial.state.is_finished():
            self._running.add(trial.number)
        asked = trial.user_attrs.get(ASKED) or {}
        for evaluation in steps.values():
            trial.system_attrs.update(evaluation.system)
        memory = self._memory._storage
        memory.create_new_trial(self._memory._study_id, template_trial=trial)
        for key, value in (asked.get("study") or {}).items():
            memory.set_study_system_attr(self._memory._study_id, key, value)

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(
        self,
        suggest: Callable[[optuna.Trial], dict[str, Scalar]],
        sampler: BaseSampler,
        first: dict[str, Scalar] | None = None,
        note: dict[str, Any] | None = None,
    ) -> FrozenTrial:
        """A new trial: drawn in memory, then journaled whole in one transaction.

        Args:
            suggest: draws the active parameters from an Optuna trial and returns them.
            first: values that are taken instead of drawn where they name a parameter.
            note: JSON kept with the trial.
        """
        with self._lock:
            if first is not None:
                self._memory.enqueue_trial(first)
            self._memory.sampler = sampler
            trial = self._memory.ask()
            parameters = suggest(trial)
            memory = self._memory._storage
            system_attrs = memory.get_study_system_attrs(self._memory._study_id)
            asked = {"parameters": parameters, "study": system_attrs, "at": time.time(), **(note or {})}
            memory.set_trial_user_attr(trial._trial_id, ASKED, asked)
            template = memory.get_trial(trial._trial_id)
            self._disk_ids[trial.number] = self._writer.add(self._study_id, template)
            self._counts["running"] += 1
            self._running.add(trial.number)
            return template

    # -- measuring ---------------------------------------------------------------------------------------------------

    def report(
        self,
        number: int,
        evaluation: EvaluationReport,
        value: float,
        is_prunable: bool = True,
        end: Callable[[JournaledEvaluation], Outcome] | None = None,
    ) -> bool:
        """Ask the pruner about one evaluation and journal its verdict; True when the trial goes on.

        A step that was decided before keeps its verdict: a resumed trial reports its history again. One that is not
        prunable is kept from the pruner, which compares trials at equal steps of their training.

        end: what the trial comes to by the verdict, where this was its last evaluation; both are journaled at once.

        Raises:
            ValueError: ``value`` is NaN or infinite; such a trial is failed, not reported.
        """
        with self._lock:
            verdict = self._ask_pruner(number, evaluation, value, is_prunable)
            if end is not None:
                self.finish(number, end(verdict.kept), verdict)
            elif verdict.is_new:
                self._writer.record_evaluation(
                    self._disk_ids[number], verdict.note, verdict.step, verdict.seen_by_pruner
                )
                self._remember(number, verdict.note)
            return verdict.kept.go_on

    def _ask_pruner(self, number: int, evaluation: EvaluationReport, value: float, is_prunable: bool) -> PrunerVerdict:
        """The verdict, of which nothing is on disk yet."""
        step = evaluation.step
        if not math.isfinite(value):
            raise ValueError(f"trial {number}, step {step}: value {value} is not finite")
        trial = self.get(number)
        known = journaled_evaluations(trial).get(step)
        if known is not None:
            return PrunerVerdict(known, None, is_new=False)
        before = dict(trial.system_attrs)
        go_on, seen_by_pruner = True, None
        if len(self.directions) == 1 and is_prunable:
            handle, seen_by_pruner = optuna.trial.Trial(self._memory, trial._trial_id), value
            handle.report(value, step)
            go_on = not handle.should_prune()
        after = self.get(number).system_attrs
        system_attrs = {k: v for k, v in after.items() if before.get(k) != v}
        kept = JournaledEvaluation(**dict(evaluation), value=value, go_on=go_on, system=system_attrs, at=time.time())
        return PrunerVerdict(kept, seen_by_pruner, is_new=True)

    # -- ending ------------------------------------------------------------------------------------------------------

    def finish(self, number: int, outcome: Outcome, last: PrunerVerdict | None = None) -> bool:
        """End a trial; False when it had ended before, so that telling twice changes nothing.

        last: the verdict on the evaluation that it ended with, where that is not journaled yet.
        """
        with self._lock:
            if self.get(number).state.is_finished():
                return False
            state, values = _STATES[outcome.state], outcome.values
            if state is TrialState.COMPLETE and (not values or not all(map(math.isfinite, values))):
                raise ValueError(f"trial {number}: complete with values {values}")
            if state is TrialState.PRUNED and values is None and len(self.directions) == 1:
                step = self.get(number).last_step
                values = None if step is None else (self.get(number).intermediate_values[step],)
            told = list(values) if values and state is not TrialState.FAIL else None
            said = replace(outcome, values=None if told is None else tuple(told), at=time.time())
            note = {**(last.note if last else {}), OUTCOME: said.to_attribute()}
            seen_by_pruner = {} if last is None or last.seen_by_pruner is None else {last.step: last.seen_by_pruner}
            self._writer.end(self._disk_ids[number], note, state, told, seen_by_pruner)
            self._remember(number, note)
            self._memory._storage.set_trial_state_values(self.get(number)._trial_id, state, told)
            self._counts["running"] -= 1
            self._running.discard(number)
            self._counts[outcome.state] += 1
            return True

    def _remember(self, number: int, note: dict[str, Any]) -> None:
        for key, value in note.items():
            self._memory._storage.set_trial_user_attr(self.get(number)._trial_id, key, value)

    # -- reading -----------------------------------------------------------------------------------------------------

    def trials(self) -> list[FrozenTrial]:
        """Every trial in order of number; do not change them."""
        return self._memory.get_trials(deepcopy=False)

    def running(self) -> list[FrozenTrial]:
        """Trials that were asked for and have not ended: after a restart, those to go on with. In order of number."""
        with self._lock:
            return [self.get(number) for number in sorted(self._running)]

    def counts(self) -> dict[str, int]:
        """Number of trials by state: complete, pruned, failed, running."""
        with self._lock:
            return dict(self._counts)

    @property
    def study(self) -> optuna.Study:
        """The study in memory, for reading by Optuna's own analyses."""
        return self._memory

    def view(self) -> optuna.Study:
        """The trials in memory through a handle that has read none before: for samplers that only look."""
        return optuna.load_study(study_name=self.name, storage=self._memory._storage)

    # -- notes about the whole search --------------------------------------------------------------------------------

    def note(self, key: str, value: Any) -> None:
        """Keep JSON ``value`` with the study, on disk."""
        with self._lock:
            self._disk.set_study_user_attr(self._study_id, key, value)
            self._memory._storage.set_study_user_attr(self._memory._study_id, key, value)

    def read_note(self, key: str, default: Any = None) -> Any:
        """What :meth:`note` kept, also by an earlier driver."""
        with self._lock:
            return self._disk.get_study_user_attrs(self._study_id).get(key, default)

    def get(self, number: int) -> FrozenTrial:
        """One trial; do not change it."""
        memory = self._memory._storage
        return memory.get_trial(memory.get_trial_id_from_study_id_trial_number(self._memory._study_id, number))


def state_name(trial: FrozenTrial) -> str:
    """complete, pruned, failed or running."""
    return next((name for name, state in _STATES.items() if state is trial.state), "running")


def started_at(trial: FrozenTrial) -> float | None:
    """Unix seconds at which the trial was asked for."""
    start: datetime | None = trial.datetime_start
    return None if start is None else start.timestamp()
