"""The Optuna study as the journal of a search: what was suggested, measured, decided and spent.

Two studies are kept equal. The one on disk (SQLite, or PostgreSQL by URL) is authoritative and only ever written;
samplers and pruners read the one in memory. Their own state (rungs, grid positions, CMA-ES) reaches the disk with the
decision that it led to.

A decision takes several calls of Optuna's storage, each a transaction, and one of them commits it:

decision        calls, in order                                  committed by
a new trial     the trial with all that belongs to it            that call
an evaluation   the value that pruners saw, the note ``step:N``  the note
an end          the note ``outcome``, the state with the values  the note

A driver that is killed between two calls leaves a decision committed or not. On loading the study (see ``_load``), the
next driver completes committed decisions and drops the others, which the search then takes again with the same result.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from finesearch.errors import RunConflictError
from finesearch.plan import Scalar
from finesearch.tuning.messages import EvaluationReport
from finesearch.tuning.study.journaled_trial import (
    ASKED,
    ENDED,
    OUTCOME,
    STEP,
    JournaledEvaluation,
    JournaledTrial,
    Outcome,
    journaled_evaluations,
    journaled_outcome,
)

optuna.logging.set_verbosity(optuna.logging.ERROR)


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
    """The pruner's decision on one evaluation; ``kept`` is its journaled form.

    seen_by_pruner: the value that the pruner saw, if any. is_new: not journaled yet.
    """

    kept: JournaledEvaluation
    seen_by_pruner: float | None
    is_new: bool


class Journal:
    """One study, on disk and in memory, with the same trial numbers.

    Args:
        storage: Optuna storage that survives the process.
        name: the study's name; created if missing.
        directions: objectives, the quality metric first.
        pruner: asked once an evaluation; must be ``NopPruner`` with several objectives.
        read_only: what an earlier driver left half-written is completed in memory alone.

    Raises:
        RunConflictError: the study on disk has other objectives, or was written by a version that kept less.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        directions: Sequence[Direction],
        pruner: BasePruner | None = None,
        read_only: bool = False,
    ) -> None:
        self.name = name
        self.directions = tuple(directions)
        self._lock = threading.RLock()
        wanted = [d.optuna for d in self.directions]
        disk = optuna.create_study(storage=storage, study_name=name, directions=wanted, load_if_exists=True)
        if list(disk.directions) != wanted:
            raise RunConflictError(f"study {name!r}: its objectives are {disk.directions}, the plan's are {wanted}.")
        self._disk, self._disk_study = storage, storage.get_study_id_from_name(name)
        self._memory = optuna.storages.InMemoryStorage()
        self.study = optuna.create_study(
            storage=self._memory, study_name=name, directions=wanted, pruner=pruner or optuna.pruners.NopPruner()
        )
        """The study in memory, for reading by Optuna's own analyses."""
        self._memory_study = self._memory.get_study_id_from_name(name)
        self._counts: dict[str, int] = dict.fromkeys((*ENDED, "running"), 0)
        self._running: dict[int, int] = {}  # by number, the id on disk
        self._ended: dict[int, JournaledTrial] = {}  # they change no more, and are read once
        self._evaluations: dict[int, dict[int, JournaledEvaluation]] = {}  # of running trials, likewise
        self._read_only = read_only
        for trial in disk.get_trials(deepcopy=True):
            try:
                self._load(trial)
            except ValidationError as error:
                raise RunConflictError(
                    f"study {name!r}, trial {trial.number}: it was journaled by another version of finesearch: "
                    f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}. Go on with that version, or start over "
                    "with --fresh (the old run is set aside)."
                ) from error

    def _load(self, trial: FrozenTrial) -> None:
        """Load one trial from disk: complete a committed end, drop an uncommitted decision."""
        steps = journaled_evaluations(trial)
        trial.intermediate_values = {s: v for s, v in trial.intermediate_values.items() if s in steps}
        if trial.state is TrialState.RUNNING:
            disk_id = self._disk.get_trial_id_from_study_id_trial_number(self._disk_study, trial.number)
            end = journaled_outcome(trial)
            if end is None:
                self._running[trial.number] = disk_id
            else:
                trial.state, trial.values = ENDED[end.state], None if end.values is None else list(end.values)
                trial.datetime_complete = datetime.now()
                if not self._read_only:
                    self._set_state_on_disk(disk_id, trial.state, trial.values)
        self._counts[self._read(trial).state] += 1
        asked = trial.user_attrs.get(ASKED) or {}
        for evaluation in steps.values():
            trial.system_attrs.update(evaluation.system)
        self._memory.create_new_trial(self._memory_study, template_trial=trial)
        for key, value in (asked.get("study") or {}).items():
            self._memory.set_study_system_attr(self._memory_study, key, value)

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(
        self,
        suggest: Callable[[optuna.Trial], dict[str, Scalar]],
        sampler: BaseSampler,
        first: dict[str, Scalar] | None = None,
        note: dict[str, Any] | None = None,
    ) -> JournaledTrial:
        """A new trial: drawn in memory, then journaled whole.

        Args:
            suggest: draws the active parameters from an Optuna trial and returns them.
            first: values by parameter that are used instead of drawn ones.
            note: JSON stored with the trial.
        """
        with self._lock:
            if first is not None:
                self.study.enqueue_trial(first)
            self.study.sampler = sampler
            trial = self.study.ask()
            parameters = suggest(trial)
            system_attrs = self._memory.get_study_system_attrs(self._memory_study)
            trial.set_user_attr(
                ASKED, {"parameters": parameters, "study": system_attrs, "at": time.time(), **(note or {})}
            )
            template = self._in_memory(trial.number)
            with _lost_study_as_storage_error():
                disk_id = self._disk.create_new_trial(self._disk_study, template_trial=template)
            if disk_id != self._disk.get_trial_id_from_study_id_trial_number(self._disk_study, trial.number):
                # Optuna retries where the database did not answer, even if the trial had been written.
                raise StorageInternalError(f"trial {trial.number} was given another number there")
            self._running[trial.number] = disk_id
            self._counts["running"] += 1
            return self.get(trial.number)

    # -- measuring ---------------------------------------------------------------------------------------------------

    def report(
        self,
        number: int,
        evaluation: EvaluationReport,
        value: float,
        is_prunable: bool = True,
        end: Callable[[JournaledEvaluation], Outcome] | None = None,
        *,
        is_spared: bool = False,
        judge: Callable[[], bool] | None = None,
    ) -> bool:
        """Ask the pruner about one evaluation and journal its verdict; True when the trial continues.

        A step that was decided before keeps its verdict: a resumed trial reports its history again. The pruner, which
        compares trials at equal training steps, does not see a trial that is not prunable.

        end: the trial's outcome given the verdict, where this was its last evaluation. is_spared: the trial goes on
        even if the pruner rejects it. judge: asked in place of the pruner whether the trial goes on.

        Raises:
            ValueError: ``value`` is NaN or infinite; such a trial is failed, not reported.
        """
        with self._lock:
            verdict = self._ask_pruner(number, evaluation, value, is_prunable, is_spared, judge)
            if verdict.is_new:
                disk_id = self._running[number]
                if verdict.seen_by_pruner is not None:
                    with _lost_study_as_storage_error():
                        self._disk.set_trial_intermediate_value(disk_id, evaluation.step, value)
                self._note_trial(number, f"{STEP}{evaluation.step}", verdict.kept.model_dump(mode="json"))
            if end is not None:
                self.finish(number, end(verdict.kept))
            return verdict.kept.go_on

    def _ask_pruner(
        self,
        number: int,
        evaluation: EvaluationReport,
        value: float,
        is_prunable: bool,
        is_spared: bool,
        judge: Callable[[], bool] | None,
    ) -> PrunerVerdict:
        """The verdict; writes nothing to disk."""
        step = evaluation.step
        if not math.isfinite(value):
            raise ValueError(f"trial {number}, step {step}: value {value} is not finite")
        trial = self._in_memory(number)
        known = self._read(trial).evaluations.get(step)
        if known is not None:
            return PrunerVerdict(known, None, is_new=False)
        before = dict(trial.system_attrs)
        is_rejected, seen_by_pruner = False, None
        if len(self.directions) == 1 and is_prunable:
            handle, seen_by_pruner = optuna.trial.Trial(self.study, self._memory_id(number)), value
            handle.report(value, step)
            is_rejected = judge is None and handle.should_prune()
        if judge is not None:
            is_rejected = not judge()
        after = self._in_memory(number).system_attrs
        system_attrs = {k: v for k, v in after.items() if before.get(k) != v}
        kept = JournaledEvaluation(
            **dict(evaluation),
            value=value,
            go_on=is_spared or not is_rejected,
            spared=is_spared and is_rejected,
            system=system_attrs,
            at=time.time(),
        )
        return PrunerVerdict(kept, seen_by_pruner, is_new=True)

    # -- ending ------------------------------------------------------------------------------------------------------

    def finish(self, number: int, outcome: Outcome) -> bool:
        """End a trial; False when it had ended before: idempotent."""
        with self._lock:
            trial = self._in_memory(number)
            if trial.state.is_finished():
                return False
            state, values = ENDED[outcome.state], outcome.values
            if state is TrialState.COMPLETE and (not values or not all(map(math.isfinite, values))):
                raise ValueError(f"trial {number}: complete with values {values}")
            if state is TrialState.PRUNED and values is None and len(self.directions) == 1:
                values = None if trial.last_step is None else (trial.intermediate_values[trial.last_step],)
            told = list(values) if values and state is not TrialState.FAIL else None
            said = replace(outcome, values=None if told is None else tuple(told), at=time.time())
            self._note_trial(number, OUTCOME, said.to_attribute())
            self._set_state_on_disk(self._running[number], state, told)
            self._memory.set_trial_state_values(self._memory_id(number), state, told)
            del self._running[number]
            self._evaluations.pop(number, None)
            self._counts["running"] -= 1
            self._counts[outcome.state] += 1
            return True

    def _set_state_on_disk(self, disk_id: int, state: TrialState, values: Sequence[float] | None) -> None:
        with _lost_study_as_storage_error():
            if not self._disk.set_trial_state_values(disk_id, state, values):
                raise StorageInternalError("the end of a trial was refused")

    def _note_trial(self, number: int, key: str, value: Any) -> None:
        disk_id = self._running[number]
        with _lost_study_as_storage_error():
            self._disk.set_trial_user_attr(disk_id, key, value)
        self._memory.set_trial_user_attr(self._memory_id(number), key, value)

    # -- reading -----------------------------------------------------------------------------------------------------

    def trials(self) -> list[JournaledTrial]:
        """Every trial in order of number."""
        return [self._read(trial) for trial in self.study.get_trials(deepcopy=False)]

    def running(self) -> list[JournaledTrial]:
        """Trials without an end, in order of number; after a restart, those to resume."""
        with self._lock:
            return [self.get(number) for number in sorted(self._running)]

    def running_numbers(self) -> set[int]:
        """Numbers of the trials that run."""
        with self._lock:
            return set(self._running)

    def counts(self) -> dict[str, int]:
        """Number of trials by state: complete, pruned, failed, running."""
        with self._lock:
            return dict(self._counts)

    def view(self) -> optuna.Study:
        """The trials in memory through a handle with an empty cache: for samplers that only read."""
        return optuna.load_study(study_name=self.name, storage=self._memory)

    # -- notes about the whole search --------------------------------------------------------------------------------

    def note(self, key: str, value: Any) -> None:
        """Store JSON ``value`` with the study, on disk."""
        with self._lock:
            self._disk.set_study_user_attr(self._disk_study, key, value)

    def read_note(self, key: str, default: Any = None) -> Any:
        """The value that :meth:`note` stored, also by an earlier driver."""
        with self._lock:
            return self._disk.get_study_user_attrs(self._disk_study).get(key, default)

    def get(self, number: int) -> JournaledTrial:
        """One trial."""
        return self._read(self._in_memory(number))

    def pareto_front(self) -> list[int]:
        """Numbers of the complete trials on the Pareto front."""
        return [trial.number for trial in self.study.best_trials] if self._counts["complete"] else []

    def _read(self, trial: FrozenTrial) -> JournaledTrial:
        if trial.number in self._ended:
            return self._ended[trial.number]
        read = JournaledTrial.read(trial, self._evaluations.setdefault(trial.number, {}))
        if read.is_finished:
            self._ended[trial.number] = read
            self._evaluations.pop(trial.number, None)
        return read

    def _in_memory(self, number: int) -> FrozenTrial:
        return self._memory.get_trial(self._memory_id(number))

    def _memory_id(self, number: int) -> int:
        return self._memory.get_trial_id_from_study_id_trial_number(self._memory_study, number)


@contextlib.contextmanager
def _lost_study_as_storage_error() -> Iterator[None]:
    """Turns what Optuna says where another program ended a trial or deleted the study into a storage error."""
    try:
        yield
    except UpdateFinishedTrialError:
        raise StorageInternalError("another program has ended a trial of this run") from None
    except KeyError:
        raise StorageInternalError("the study, or a trial of it, was deleted by another program") from None
