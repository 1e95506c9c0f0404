"""What keeps the driver's work a trial the same after thousands of trials decides as the plain way does."""

from __future__ import annotations

import random
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from finesearch.storage.local_store import LocalStore
from finesearch.tuning.samplers import windowed_tpe
from finesearch.tuning.samplers.sampler_factory import make_pruner, make_sampler
from finesearch.tuning.samplers.successive_halving import RungPruner
from finesearch.tuning.samplers.windowed_tpe import windowed
from finesearch.tuning.study.checkpoint_retention import CheckpointRetention, rankable_trials
from finesearch.tuning.study.journal import Direction, Journal
from finesearch.tuning.study.journaled_trial import Outcome, OutcomeDetail
from plans import empty_plan
from trial_reports import evaluation


def in_memory(directions: list[Direction], pruner: optuna.pruners.BasePruner | None = None) -> Journal:
    return Journal(optuna.storages.InMemoryStorage(), "growth", directions, pruner)


def verdicts(journal: Journal, trials: range, values: random.Random) -> list[tuple[int, ...]]:
    """Steps at which trials were stopped, for values that are drawn; small numbers, so that many are equal."""
    stopped = []
    for number in trials:
        asked = journal.ask(lambda trial: {"x": trial.suggest_float("x", 0, 1)}, optuna.samplers.RandomSampler(number))
        drawn = [values.randint(0, 9) / 10 for _ in range(9)]
        steps = [
            step for step, value in enumerate(drawn, 1) if journal.report(asked.number, evaluation(step, value), value)
        ]
        stopped.append(tuple(steps))
        journal.finish(asked.number, Outcome("complete", None, (drawn[-1],)))
    return stopped


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize(("lowest", "factor"), [(1, 3), (2, 2)])
def test_halving_decides_as_optunas_own_does(maximize: bool, lowest: int, factor: int) -> None:
    directions = [Direction("accuracy", maximize)]
    ours = in_memory(directions, RungPruner(lowest, factor))
    theirs = in_memory(directions, optuna.pruners.SuccessiveHalvingPruner(lowest, factor))
    expected = verdicts(theirs, range(120), random.Random(0))
    assert verdicts(ours, range(120), random.Random(0)) == expected
    assert len(set(expected)) > 5
    assert [t.system_attrs for t in ours.study.get_trials()] == [t.system_attrs for t in theirs.study.get_trials()]


def test_halving_goes_on_after_a_restart_from_what_trials_say() -> None:
    storage, directions = optuna.storages.InMemoryStorage(), [Direction("accuracy", True)]
    plan = empty_plan()
    whole = verdicts(in_memory(directions, make_pruner(plan, 9)), range(60), random.Random(1))
    values = random.Random(1)
    parts = [
        verdicts(Journal(storage, "growth", directions, make_pruner(plan, 9)), numbers, values)
        for numbers in (range(30), range(30, 60))
    ]
    assert parts[0] + parts[1] == whole


@pytest.mark.parametrize("pruner", ["none", "successive_halving", "hyperband"])
def test_tpe_sees_the_newest_trials_the_best_and_those_that_run(pruner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowed_tpe, "WINDOW", 12)
    monkeypatch.setattr(windowed_tpe, "BEST", 3)
    plan = empty_plan(search=f"{{sampler: tpe, pruner: {pruner}, startup_trials: 4}}")
    journal = in_memory([Direction("accuracy", True)], make_pruner(plan, 9))
    values = random.Random(2)
    for number in range(40):
        trial = journal.ask(plan.space.suggest, make_sampler(plan, number, 2))
        value = values.random()
        journal.report(trial.number, evaluation(1, value), value)
        if number != 5:
            journal.finish(trial.number, Outcome("complete", None, (value,)))
    trials = journal.study.get_trials()
    seen = [trial.number for trial in windowed(trials, maximize=True)]
    older = [trial for trial in trials[:-12] if trial.state is TrialState.COMPLETE]
    best = sorted(older, key=lambda trial: -trial.values[0])[:3]
    assert seen == [*sorted([5, *(trial.number for trial in best)]), *range(28, 40)]


def test_tpe_suggests_what_optunas_own_suggests_while_the_window_holds_all() -> None:
    plan = empty_plan(search="{sampler: tpe, pruner: none, startup_trials: 4}")
    journals = [in_memory([Direction("accuracy", True)]) for _ in range(2)]
    values = random.Random(3)
    for number in range(30):
        ours = make_sampler(plan, number, 1)
        theirs = optuna.samplers.TPESampler(
            n_startup_trials=4, multivariate=True, group=True, seed=ours._rng.rng.get_state()[1][0]
        )
        theirs._rng.rng.set_state(ours._rng.rng.get_state())
        theirs._random_sampler._rng.rng.set_state(ours._random_sampler._rng.rng.get_state())
        value = values.random()
        suggested = []
        for journal, sampler in zip(journals, (ours, theirs), strict=True):
            trial = journal.ask(plan.space.suggest, sampler)
            journal.finish(trial.number, Outcome("complete", None, (value,)))
            suggested.append(trial.parameters)
        assert suggested[0] == suggested[1]


@pytest.mark.parametrize("goals", [[True], [False], [True, False]])
def test_after_each_trial_the_checkpoints_are_those_that_can_be_ranked(goals: list[bool], tmp_path: Path) -> None:
    plan = empty_plan(report="{baselines: [], top: 3}")
    journal = in_memory([Direction(f"objective {number}", goal) for number, goal in enumerate(goals)])
    values = random.Random(4)
    running = journal.ask(plan.space.suggest, make_sampler(plan, 0, 1)).number
    (tmp_path / "checkpoints" / f"trial-{running:04d}").mkdir(parents=True)
    retention = CheckpointRetention(plan, journal, LocalStore(tmp_path))
    for number in range(1, 40):
        trial = journal.ask(plan.space.suggest, optuna.samplers.RandomSampler(number))
        (tmp_path / "checkpoints" / f"trial-{trial.number:04d}").mkdir()
        drawn = tuple(values.randint(0, 5) / 5 for _ in goals)
        detail = OutcomeDetail(trainable_parameters=values.randint(1, 3))
        outcome = Outcome("failed", "it broke") if number % 7 == 0 else Outcome("complete", None, drawn, detail)
        journal.finish(trial.number, outcome)
        if number == 20:
            retention = CheckpointRetention(plan, journal, LocalStore(tmp_path))
        retention.trial_ended(trial.number)
        kept = {int(path.name[6:]) for path in (tmp_path / "checkpoints").iterdir()}
        assert kept == {running, *(trial.number for trial in rankable_trials(journal, 3))}
