"""A journal whose stopped trials can go on.

Optuna ends a trial once, and samplers and pruners go on seeing a stopped trial as it was stopped. What such a trial
does afterwards is journaled as a trial of a second study, ``NAME (resumed)``, with the same calls and so with the same
guarantees (see :mod:`journal`): a driver that is killed at any moment has resumed the trial or has not. Readers see
one trial of one number, which runs again and ends again. The second study is created with the first resumed trial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import optuna
from optuna.pruners import BasePruner

from finesearch.tuning.messages import EvaluationReport
from finesearch.tuning.study.journal import Direction, Journal
from finesearch.tuning.study.journaled_trial import JournaledEvaluation, JournaledTrial, Outcome


class ResumableJournal(Journal):
    """Arguments and errors as :class:`Journal`."""

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        directions: Sequence[Direction],
        pruner: BasePruner | None = None,
        read_only: bool = False,
    ) -> None:
        super().__init__(storage, name, directions, pruner, read_only)
        self._resumed: Journal | None = None
        self._parts: dict[int, list[int]] = {}  # by number, the numbers in the second study, oldest first
        self._joined: dict[int, JournaledTrial] = {}  # resumed trials that have ended again
        try:
            storage.get_study_id_from_name(self._resumed_name)
        except KeyError:
            return
        for trial in self._open_resumed().trials():
            assert trial.resumes is not None, "the study holds nothing else"
            self._parts.setdefault(trial.resumes, []).append(trial.number)

    @property
    def _resumed_name(self) -> str:
        return f"{self.name} (resumed)"

    def _open_resumed(self) -> Journal:
        if self._resumed is None:
            self._resumed = Journal(self._disk, self._resumed_name, self.directions, read_only=self._read_only)
        return self._resumed

    def resume(self, number: int, to_end: bool = True) -> JournaledTrial:
        """Let a stopped trial go on: it runs again, and no pruner is asked about it. to_end: it is not to be paused."""
        with self._lock:
            assert self.get(number).state == "pruned", f"trial {number} was not stopped"
            sampler = optuna.samplers.RandomSampler(seed=0)
            note = {"resumes": number, "to_end": to_end}
            part = self._open_resumed().ask(lambda _: {}, sampler, note=note)
            self._parts.setdefault(number, []).append(part.number)
            self._joined.pop(number, None)
            return self.get(number)

    def resumed_numbers(self) -> set[int]:
        """Numbers of the resumed trials that run."""
        with self._lock:
            return {number for number in self._parts if self.get(number).state == "running"}

    def finishing_numbers(self) -> set[int]:
        """Numbers of the resumed trials that run to their end."""
        return {number for number in self.resumed_numbers() if self.get(number).to_end}

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
        with self._lock:
            if number not in self._parts:
                return super().report(number, evaluation, value, is_prunable, end, is_spared=is_spared, judge=judge)
            part = self._parts[number][-1]
            return self._open_resumed().report(part, evaluation, value, False, end, is_spared=is_spared, judge=judge)

    def finish(self, number: int, outcome: Outcome) -> bool:
        with self._lock:
            if number not in self._parts:
                return super().finish(number, outcome)
            return self._open_resumed().finish(self._parts[number][-1], outcome)

    def trials(self) -> list[JournaledTrial]:
        return [self._join(trial) for trial in super().trials()]

    def get(self, number: int) -> JournaledTrial:
        return self._join(super().get(number))

    def running(self) -> list[JournaledTrial]:
        with self._lock:
            return [self.get(number) for number in sorted(self.running_numbers())]

    def running_numbers(self) -> set[int]:
        with self._lock:
            return super().running_numbers() | self.resumed_numbers()

    def counts(self) -> dict[str, int]:
        with self._lock:
            found = super().counts()
            for number in self._parts:
                found["pruned"] -= 1
                found[self.get(number).state] += 1
            return found

    def _join(self, trial: JournaledTrial) -> JournaledTrial:
        """The trial with what it did since it was resumed, if it was."""
        if trial.number not in self._parts:
            return trial
        with self._lock:
            known = self._joined.get(trial.number)
            if known is not None:
                return known
            for number in self._parts[trial.number]:
                trial = _with_part(trial, self._open_resumed().get(number))
            if trial.is_finished:
                self._joined[trial.number] = trial
            return trial


def _with_part(trial: JournaledTrial, part: JournaledTrial) -> JournaledTrial:
    before = dict(trial.evaluations)
    if trial.last is not None:
        before[trial.last.step] = trial.last.model_copy(update={"go_on": True})
    return replace(
        trial,
        state=part.state,
        evaluations={**before, **part.evaluations},
        values=part.values,
        outcome=part.outcome,
        stopped=trial.outcome,
        to_end=part.to_end,
    )
