"""The journal on disk and the one in memory say the same, whenever the driver is cut off."""

import math
from pathlib import Path

import pytest

from finesearch.errors import RunConflictError
from finesearch.plan import Plan
from finesearch.tuning.samplers.sampler_factory import make_pruner, make_sampler
from finesearch.tuning.study.journal import Direction, Journal
from finesearch.tuning.study.journaled_trial import JournaledEvaluation, Outcome, journaled_evaluations
from finesearch.tuning.study.study_storage import open_storage
from plans import empty_plan
from trial_reports import evaluation
from writes import before_each_change

ACCURACY = [Direction("accuracy", True)]


def open_journal(folder: Path, plan: Plan) -> Journal:
    return Journal(open_storage(folder / "study.db"), plan.name, ACCURACY, make_pruner(plan, 4))


def report(journal: Journal, number: int, step: int, value: float) -> bool:
    return journal.report(number, evaluation(step, value, 1.0 * step), value)


class Cut(Exception):  # noqa: N818 - it stands for a death, not for an error
    """Stands for the driver's death: raised from inside the storage that the journal writes to."""


class Driver:
    """Runs trials of a made-up objective, and starts again from disk after every cut.

    ``cuts`` are the numbers of those statements or commits in whose place the driver dies.
    """

    def __init__(self, folder: Path, plan: Plan, cuts: frozenset[int] = frozenset()) -> None:
        self.folder, self.plan, self.cuts = folder, plan, cuts
        self.writes, self.deaths = 0, 0

    def run(self, trials: int) -> Journal:
        while True:
            storage = open_storage(self.folder / "study.db")
            before_each_change(storage, self._cut_or_go_on)
            try:
                self._work(Journal(storage, self.plan.name, ACCURACY, make_pruner(self.plan, 4)), trials)
            except Cut:
                self.deaths += 1
            else:
                return open_journal(self.folder, self.plan)

    def _cut_or_go_on(self, _text: str) -> None:
        self.writes += 1
        if self.writes in self.cuts:
            raise Cut

    def _work(self, journal: Journal, trials: int) -> None:
        for trial in journal.running():
            self._train(journal, trial.number)
        while len(journal.trials()) < trials:
            sampler = make_sampler(self.plan, len(journal.trials()), 1)
            self._train(journal, journal.ask(self.plan.space.suggest, sampler).number)

    def _train(self, journal: Journal, number: int) -> None:
        rate = journal.get(number).parameters["learning_rate"]
        for step in (1, 2, 3, 4):
            value = math.tanh(step * (6 + math.log10(rate)) / 4) + 0.01 * number
            if step == 4 and number % 3:  # told together with the end, as trials with a model do
                journal.report(number, evaluation(step, value, 1.0 * step), value, end=ended)
                return
            if not report(journal, number, step, value):
                journal.finish(number, Outcome("pruned", "pruned"))
                return
        journal.finish(number, Outcome("complete", None, (value,)))


def ended(last: JournaledEvaluation) -> Outcome:
    return Outcome("complete", None, (last.value,)) if last.go_on else Outcome("pruned", "pruned")


def told(journal: Journal) -> list[tuple[object, ...]]:
    """Everything about a study but its times."""
    return [
        (t.number, t.state, t.values, t.params, t.intermediate_values, t.system_attrs, sorted(journaled_evaluations(t)))
        for t in journal.study.get_trials()
    ]


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [("tpe", "successive_halving"), ("tpe", "hyperband"), ("tpe", "median"), ("random", "successive_halving")],
)
def test_a_study_cut_off_at_any_write_ends_like_an_undisturbed_one(tmp_path: Path, sampler: str, pruner: str) -> None:
    plan = empty_plan(search=f"{{sampler: {sampler}, pruner: {pruner}, startup_trials: 3}}")
    for name in ("undisturbed", "cut"):
        (tmp_path / name).mkdir()
    undisturbed = Driver(tmp_path / "undisturbed", plan)
    expected = told(undisturbed.run(9))
    # 17 is prime: over the driver's lives every kind of statement is cut.
    cuts = frozenset(range(2, 1000, 17))
    cut = Driver(tmp_path / "cut", plan, cuts)
    assert told(cut.run(9)) == expected
    assert cut.deaths >= 5


@pytest.mark.parametrize(("sampler", "space"), [
    ("qmc", "{learning_rate: {min: 0.1, max: 0.9}, weight_decay: {min: 0.0, max: 0.3}}"),
    ("cmaes", "{learning_rate: {min: 0.1, max: 0.9}, weight_decay: {min: 0.0, max: 0.3}}"),
    ("gp", "{learning_rate: {min: 0.1, max: 0.9}, weight_decay: {min: 0.0, max: 0.3}}"),
    ("grid", "{learning_rate: [0.1, 0.2, 0.3, 0.4], weight_decay: [0.0, 0.1, 0.2]}"),
])  # fmt: skip
def test_every_sampler_goes_on_after_a_restart_as_if_it_had_not_happened(
    tmp_path: Path, sampler: str, space: str
) -> None:
    plan = empty_plan(space=space, search=f"{{sampler: {sampler}, pruner: none, startup_trials: 3}}")
    for name in ("undisturbed", "cut"):
        (tmp_path / name).mkdir()
    expected = told(Driver(tmp_path / "undisturbed", plan).run(10))
    cut = Driver(tmp_path / "cut", plan, frozenset(range(5, 1000, 17)))
    assert told(cut.run(10)) == expected
    assert cut.deaths >= 5
    if sampler in ("qmc", "grid"):
        assert len({tuple(row[3].items()) for row in expected}) == 10, "a point was suggested twice"


def test_a_verdict_is_kept_when_a_trial_reports_its_history_again(tmp_path: Path) -> None:
    plan = empty_plan()
    journal = open_journal(tmp_path, plan)
    number = journal.ask(plan.space.suggest, make_sampler(plan, 0, 1)).number
    first = [report(journal, number, step, 0.1 * step) for step in (1, 2)]
    again = open_journal(tmp_path, plan)
    assert [report(again, number, step, 99.0) for step in (1, 2)] == first
    assert again.study.get_trials()[number].intermediate_values == {1: 0.1, 2: 0.2}


def test_a_verdict_that_was_journaled_before_its_trial_ended_is_kept(tmp_path: Path) -> None:
    plan = empty_plan()
    journal = open_journal(tmp_path, plan)
    number = journal.ask(plan.space.suggest, make_sampler(plan, 0, 1)).number
    report(journal, number, 1, 0.1)
    before = journal.get(number).evaluations
    again = open_journal(tmp_path, plan)
    again.report(number, evaluation(1, 99.0), 99.0, end=ended)
    read = open_journal(tmp_path, plan)
    assert read.study.get_trials()[number].intermediate_values == {1: 0.1}
    assert (read.get(number).evaluations, read.get(number).values) == (before, (0.1,))


def test_a_value_that_is_not_finite_is_never_told(tmp_path: Path) -> None:
    plan = empty_plan()
    journal = open_journal(tmp_path, plan)
    number = journal.ask(plan.space.suggest, make_sampler(plan, 0, 1)).number
    with pytest.raises(ValueError, match="not finite"):
        report(journal, number, 1, math.inf)
    with pytest.raises(ValueError, match="not finite"):
        journal.report(number, evaluation(1, math.nan), math.nan, end=ended)
    with pytest.raises(ValueError, match="complete with values"):
        journal.finish(number, Outcome("complete", None, (math.nan,)))
    assert journal.counts() == {"complete": 0, "pruned": 0, "failed": 0, "running": 1}


def test_telling_twice_changes_nothing(tmp_path: Path) -> None:
    plan = empty_plan()
    journal = open_journal(tmp_path, plan)
    number = journal.ask(plan.space.suggest, make_sampler(plan, 0, 1)).number
    assert journal.finish(number, Outcome("failed", "it broke"))
    assert not journal.finish(number, Outcome("complete", None, (1.0,)))
    assert journal.get(number).state == "failed"
    outcome = open_journal(tmp_path, plan).get(number).outcome
    assert outcome is not None
    assert outcome.reason == "it broke"


def test_a_study_with_other_objectives_is_refused(tmp_path: Path) -> None:
    open_journal(tmp_path, empty_plan())
    with pytest.raises(RunConflictError, match="its objectives are"):
        Journal(open_storage(tmp_path / "study.db"), "empty", [Direction("loss", False)])


@pytest.mark.parametrize("name", ["q?m", "50%41", "{run}", "a #b"])
def test_a_study_lies_where_its_path_says_whatever_signs_the_path_holds(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    open_storage(folder / "study.db")
    assert (folder / "study.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [name]
