"""Which evaluations are written and when: nothing that cannot be ranked, and nothing on the path of training."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finesearch.errors import DivergedError
from finesearch.training.checkpointing.checkpoint_layout import list_checkpoints
from finesearch.training.checkpointing.checkpoint_policy import MIN_WRITE_S
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.training_loop import TrainingLoop
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.steps import training_progress
from finesearch.training.trial_types import Evaluation, TrialResult, TrialSpec
from training_cases import Diary, equal, make_runner, merged, run, trial, without_clock

SECONDS = 20.0
"""How long a test waits for another thread before it fails."""
# Steps far too large: it gets worse again.
TURNING = {"epochs": 8, "learning_rate": 0.02, "schedule": "constant"}


@pytest.fixture(scope="module")
def work(home: Path) -> TrialRunner:
    return make_runner(home)


@pytest.fixture(scope="module")
def undisturbed(work: TrialRunner, tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    return run(work, trial(tmp_path_factory.mktemp("undisturbed")))[0]


def short(directory: Path, bar: float | None = None, **changes: Any) -> TrialSpec:
    """A trial in which writing state to go on from never pays, as in those of a few seconds."""
    return trial(directory, **changes).model_copy(update={"resume_pays": 1e9, "bar": bar})


def steps_on_disk(directory: Path) -> list[int]:
    return [checkpoint.step for checkpoint in list_checkpoints(directory)]


def watched(work: TrialRunner, spec: TrialSpec) -> tuple[TrialResult, list[list[int]]]:
    """Run a trial; what lay on the disk at each of its reports."""
    found: list[list[int]] = []

    def report(_: Evaluation) -> bool:
        found.append(steps_on_disk(Path(spec.directory)))
        return True

    return work.run(spec, report, lambda: None), found


def test_a_short_trial_writes_its_best_weights_once_and_when_it_is_over(
    work: TrialRunner, home: Path, tmp_path: Path
) -> None:
    result, found = watched(work, short(tmp_path, seed=5, **TURNING))
    assert result.best is not None
    assert result.best.step < 8
    assert found == [[]] * 7 + [[result.best.step]]
    assert steps_on_disk(tmp_path) == [result.best.step]
    scored = evaluate_checkpoint(str(result.checkpoint), "validation", work.task_plan, work.training, home, work.cache)
    assert scored.metrics == result.best.metrics
    whole, _ = run(work, trial(tmp_path / "whole", seed=5, **TURNING))
    assert without_clock(whole.history) == without_clock(result.history)
    assert equal(merged(result.checkpoint), merged(whole.checkpoint))


def test_a_trial_that_is_stopped_has_written_nothing_and_is_trained_again_to_the_same_end(
    work: TrialRunner, undisturbed: TrialResult, tmp_path: Path
) -> None:
    stopped, _ = run(work, short(tmp_path), stop_after=1)
    assert (stopped.stopped, stopped.checkpoint, list(tmp_path.iterdir())) == (True, None, [])
    again, diary = run(work, short(tmp_path, attempt=2))
    assert (diary.steps, diary.trained) == ([1, 2], 8)
    assert without_clock(again.history) == without_clock(undisturbed.history)
    assert equal(merged(again.checkpoint), merged(undisturbed.checkpoint))


@pytest.mark.parametrize(("bar", "is_kept"), [(None, True), (2.0, False)])
def test_a_trial_that_may_be_stopped_leaves_its_best_checkpoint_and_goes_on_to_the_same_end(
    bar: float | None, is_kept: bool, work: TrialRunner, undisturbed: TrialResult, home: Path, tmp_path: Path
) -> None:
    spec = short(tmp_path, bar=bar).model_copy(update={"may_be_stopped": True})
    stopped, _ = run(work, spec, stop_after=1)
    assert steps_on_disk(tmp_path) == ([1] if is_kept else [])
    if not is_kept:
        return
    left = tmp_path / "step-0001-a1"
    scored = evaluate_checkpoint(str(left), "validation", work.task_plan, work.training, home, work.cache)
    assert scored.metrics == stopped.history[0].metrics
    assert not (left / "resume").exists(), "writing state to go on from did not pay"
    again, diary = run(work, spec.model_copy(update={"attempt": 2, "bar": None}))
    assert (diary.steps, diary.trained) == ([1, 2], 8)
    assert without_clock(again.history) == without_clock(undisturbed.history)
    assert equal(merged(again.checkpoint), merged(undisturbed.checkpoint))


def test_what_a_stopped_trial_is_ranked_by_stays_until_the_next_attempt_has_come_as_far(
    work: TrialRunner, tmp_path: Path
) -> None:
    spec = trial(tmp_path, seed=5, **TURNING).model_copy(update={"may_be_stopped": True, "resume_pays": 1e9})
    stopped, _ = run(work, spec, stop_after=3)
    values = [evaluation.metrics["accuracy"] for evaluation in stopped.history]
    best = values.index(max(values)) + 1
    assert best > 1, "the curve rises at first"
    found: list[set[str]] = []

    def report(_: Evaluation) -> bool:
        found.append({checkpoint.path.name for checkpoint in list_checkpoints(tmp_path)})
        return True

    work.run(spec.model_copy(update={"attempt": 2}), report, lambda: None)
    assert [f"step-{best:04d}-a1" in names for names in found[: best - 1]] == [True] * (best - 1)
    assert "step-0001-a2" in found[0]
    assert f"step-{best:04d}-a2" in found[best - 1]
    assert not any(name.endswith("a1") for name in found[best - 1])


def test_every_report_finds_its_checkpoint_on_the_disk_where_one_is_written(work: TrialRunner, tmp_path: Path) -> None:
    _, found = watched(work, trial(tmp_path, seed=5, **TURNING))
    assert [max(steps) for steps in found[:-1]] == [1, 2, 3, 4, 5, 6, 7]


def test_state_to_go_on_from_is_written_once_training_has_taken_long_enough(
    work: TrialRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count()  # a clock that other processes do not change
    monkeypatch.setattr(training_progress, "time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))
    result, _ = run(work, trial(tmp_path / "clock", seed=5, **TURNING))
    # Writing so little is reckoned to take MIN_WRITE_S: by this a third of the training is long enough.
    spec = trial(tmp_path / "trial", seed=5, **TURNING).model_copy(
        update={"resume_pays": result.seconds / 3 / MIN_WRITE_S}
    )
    _, found = watched(work, spec)
    assert found[0] == []
    assert any(found[:-1])


@pytest.mark.parametrize("goal", ["max", "min"])
def test_a_trial_that_cannot_be_ranked_writes_no_weights(goal: str, work: TrialRunner, tmp_path: Path) -> None:
    judged = TrialRunner(work.task_plan, work.training, work.base, work.cache, "accuracy", goal)
    free, _ = run(judged, short(tmp_path / "free"))
    assert free.best is not None
    best = free.best.metrics["accuracy"]
    for number, (bar, is_written) in enumerate(((best, True), (best + (1e-9 if goal == "max" else -1e-9), False))):
        directory = tmp_path / str(number)
        result, diary = run(judged, short(directory, bar=bar))
        assert without_clock((result.best,)) == without_clock((free.best,))
        assert without_clock(result.history) == without_clock(free.history)
        assert (result.checkpoint is not None) == is_written
        assert (result.checkpoint_bytes > 0) == is_written
        assert steps_on_disk(directory) == ([result.best.step] if is_written else [])
        # Handed out again after it was over, it is told again and not trained again.
        again, diary = run(judged, short(directory, bar=bar, attempt=2))
        assert (again, diary.steps, diary.trained) == (result, [1, 2], 0)


def test_a_trial_that_cannot_be_ranked_still_goes_on_from_where_it_was(
    work: TrialRunner, undisturbed: TrialResult, tmp_path: Path
) -> None:
    unreachable = trial(tmp_path).model_copy(update={"bar": 2.0})
    run(work, unreachable, stop_after=1)
    result, diary = run(work, unreachable.model_copy(update={"attempt": 2}))
    assert (diary.steps, diary.trained) == ([1, 2], 4)
    assert without_clock(result.history) == without_clock(undisturbed.history)
    assert without_clock((result.best,)) == without_clock((undisturbed.best,))


class SlowJudge(Diary):
    """Says nothing of the first evaluation before ``ready`` is set, and stops the trial then."""

    def __init__(self, beat: Callable[[SlowJudge], None] = lambda judge: None) -> None:
        super().__init__()
        self.ready, self.was_asked, self._on_beat = threading.Event(), threading.Event(), beat

    def report(self, evaluation: Evaluation) -> bool:
        super().report(evaluation)
        self.was_asked.set()
        assert self.ready.wait(SECONDS), "nothing happened while the verdict was out"
        return False

    def beat(self) -> None:
        super().beat()
        self._on_beat(self)


@pytest.mark.parametrize("resume_pays", [0.0, 10.0])
def test_training_goes_on_while_a_checkpoint_is_written_and_judged(
    resume_pays: float, work: TrialRunner, undisturbed: TrialResult, tmp_path: Path
) -> None:
    def decide(judge: SlowJudge) -> None:
        if judge.trained == 6:
            assert judge.was_asked.wait(SECONDS)
            judge.ready.set()

    judge = SlowJudge(decide)
    spec = trial(tmp_path).model_copy(update={"resume_pays": resume_pays})
    result = work.run(spec, judge.report, judge.beat)
    assert (result.stopped, judge.steps) == (True, [1])
    assert 6 <= judge.trained <= 8
    # What it did after the first evaluation comes to nothing.
    assert without_clock(result.history) == without_clock(undisturbed.history[:1])
    assert (result.tokens, result.seconds) == (result.history[0].tokens, result.history[0].seconds)
    assert result.tokens == undisturbed.history[0].tokens


def test_a_trial_that_diverges_after_it_was_stopped_is_stopped(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, mean_loss = SlowJudge(), TrainingLoop._mean_loss

    def diverge(self: TrainingLoop, step: int) -> float:
        if step == 19:
            judge.ready.set()
            raise DivergedError("the training loss became nan")
        return mean_loss(self, step)

    monkeypatch.setattr(TrainingLoop, "_mean_loss", diverge)
    # Thirteen steps an epoch: evaluated after 13, looked at after 20.
    result = make_runner(home).run(trial(tmp_path / "judged", batch_size=4), judge.report, judge.beat)
    assert (result.stopped, judge.steps) == (True, [1])
    with pytest.raises(DivergedError, match="the training loss became nan"):
        run(make_runner(home), trial(tmp_path / "free", batch_size=4))


def test_what_a_caller_raises_in_its_report_ends_the_trial(work: TrialRunner, tmp_path: Path) -> None:
    def report(_: Evaluation) -> bool:
        raise ConnectionError("nobody listens")

    with pytest.raises(ConnectionError, match="nobody listens"):
        work.run(trial(tmp_path), report, lambda: None)
