"""finesearch's own search policies, replayed: by the samplers, the pruner and the journal that a search uses."""

from __future__ import annotations

from dataclasses import replace

import optuna
from shared.curve_tables import EVALUATIONS
from shared.replay import WORKERS, Resume, Start

from finesearch.plan import Space
from finesearch.plan.sections.search_section import SearchPlan
from finesearch.tuning.messages import EvaluationReport
from finesearch.tuning.samplers.freeze_thaw import Decision, FreezeThaw, PastTrial, ResumeTrial, StartTrial
from finesearch.tuning.samplers.latin_hypercube import latin_hypercube_configuration
from finesearch.tuning.samplers.sampler_factory import make_pruner, make_sampler
from finesearch.tuning.study.journal import Direction, Journal
from finesearch.tuning.study.journaled_trial import Outcome
from finesearch.tuning.study.paused_trials import best_of_all
from plans import empty_plan

STARTUP_TRIALS = SearchPlan.model_fields["startup_trials"].default


class DefaultSearch:
    """The sampler and the pruner of a plan that names none, through the journal."""

    def __init__(self, space: Space, seed: int) -> None:
        search = f"{{seed: {seed}}}"
        self._plan = empty_plan("replayed", search=search, budget="{trials: 1000}").model_copy(update={"space": space})
        pruner = make_pruner(self._plan, EVALUATIONS)
        self._journal = Journal(optuna.storages.InMemoryStorage(), "search", [Direction("score", True)], pruner)
        self._started = 0

    def next(self) -> Start | Resume | None:
        number, self._started = self._started, self._started + 1
        given = latin_hypercube_configuration(self._plan, number)
        sampler = make_sampler(self._plan, number, WORKERS)
        return Start(self._journal.ask(self._plan.space.suggest, sampler, given).parameters)

    def evaluated(self, trial: int, step: int, value: float, is_last: bool) -> bool:
        report = EvaluationReport(
            step=step,
            epoch=float(step),
            metrics={"score": value},
            train_loss=None,
            seconds=float(step),
            tokens=0,
            trainable_parameters=0,
            group="0",
            began=0.0,
        )
        goes_on = self._journal.report(trial, report, value)
        if is_last or not goes_on:
            best = max(each.value for each in self._journal.get(trial).evaluations.values())
            is_whole = is_last and goes_on
            self._journal.finish(
                trial, Outcome("complete", None, (best,)) if is_whole else Outcome("pruned", "by the pruner")
            )
        return goes_on


class FreezeThawSearch:
    """Freeze-thaw decisions, each from the list of trials alone, with a plan's defaults and as many states kept."""

    def __init__(self, space: Space, seed: int, startup_trials: int = STARTUP_TRIALS) -> None:
        self._policy = FreezeThaw(space, startup_trials, seed)
        self._trials: list[PastTrial] = []
        self._decision: Decision | None = None

    def next(self) -> Start | Resume | None:
        decision, self._decision = self._decide(), None
        if isinstance(decision, StartTrial):
            self._trials.append(PastTrial(decision.parameters, (), EVALUATIONS, "running"))
            return Start(decision.parameters)
        self._trials[decision.place] = replace(self._trials[decision.place], state="running")
        return Resume(decision.place)

    def evaluated(self, trial: int, step: int, value: float, is_last: bool) -> bool:
        del step
        known = self._trials[trial]
        values = (*known.values, value)
        evaluations = len(values) if is_last else EVALUATIONS
        self._trials[trial] = PastTrial(known.parameters, values, evaluations, "ended" if is_last else "paused")
        self._decision = None
        if is_last or self._decide() != ResumeTrial(trial):
            return is_last
        self._decision = None
        self._trials[trial] = replace(self._trials[trial], state="running")
        return True

    def _decide(self) -> Decision:
        """The decision on the trials as they are, which is taken once."""
        if self._decision is None:
            can_go_on = best_of_all(
                {place: max(trial.values) for place, trial in enumerate(self._trials) if trial.values}
            )
            shown = [
                replace(trial, state="ended") if trial.state == "paused" and place not in can_go_on else trial
                for place, trial in enumerate(self._trials)
            ]
            self._decision = self._policy.next(shown)
        return self._decision
