"""A trial whose machine is taken away between two evaluations: nothing of it is lost, and nothing is different."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finesearch.errors import TrialError
from finesearch.training.checkpointing.checkpoint_layout import drop_resume_state, list_checkpoints
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.trial_types import Preempted, TrialResult, TrialSpec
from pairs import seen_by_two
from preemption_pair_worker import STAGES
from training_cases import Diary, equal, make_runner, merged, run, trial, without_clock

RECIPES: dict[str, dict[str, Any]] = {
    "full": {},
    "averaged": {"ema_decay": 0.9},
    "unfreezing": {"adaptation": "gradual_unfreezing", "adaptation_parameters": {"every_fraction": 0.25}},
}


@pytest.fixture(scope="module")
def work(home: Path) -> TrialRunner:
    return make_runner(home)


@pytest.fixture(scope="module")
def undisturbed(work: TrialRunner, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrialResult]:
    return {
        name: run(work, trial(tmp_path_factory.mktemp("undisturbed"), **changes))[0]
        for name, changes in RECIPES.items()
    }


@pytest.fixture(autouse=True)
def _asked_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finesearch.training.loop.preemption_watch.PREEMPTION_CHECK_INTERVAL_S", 0.0)


def leaves_at(question: int) -> Callable[[], bool]:
    """Says yes the ``question``-th time; it is asked after each step that no evaluation follows."""
    asked = 0

    def is_leaving() -> bool:
        nonlocal asked
        asked += 1
        return asked == question

    return is_leaving


def put_aside(work: TrialRunner, spec: TrialSpec, question: int) -> Diary:
    diary = Diary()
    with pytest.raises(Preempted):
        work.run(spec, diary.report, diary.beat, leaves_at(question))
    return diary


def pauses(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("paused-*"))


@pytest.mark.parametrize("resume_pays", [0.0, 1e9], ids=["checkpoints", "no-checkpoint"])
@pytest.mark.parametrize(("question", "steps"), [(1, 1), (5, 6)])
@pytest.mark.parametrize("name", RECIPES)
def test_a_trial_that_was_put_aside_ends_as_if_nothing_had_been(
    work: TrialRunner,
    undisturbed: dict[str, TrialResult],
    tmp_path: Path,
    name: str,
    question: int,
    steps: int,
    resume_pays: float,
) -> None:
    spec = trial(tmp_path, **RECIPES[name]).model_copy(update={"resume_pays": resume_pays})
    first = put_aside(work, spec, question)
    assert pauses(tmp_path) == [f"paused-{steps:06d}-a1"]
    assert first.trained == steps
    diary = Diary()
    result = work.run(spec.model_copy(update={"attempt": 2}), diary.report, diary.beat)
    assert diary.trained == 8 - steps, "no step was trained twice, and none was left out"
    assert without_clock(result.history) == without_clock(undisturbed[name].history)
    assert result.best == result.history[result.best.step - 1]
    assert equal(merged(result.checkpoint), merged(undisturbed[name].checkpoint))
    assert not pauses(tmp_path), "nothing of it stays once the trial is over"


def test_a_trial_may_be_put_aside_again_and_again(
    work: TrialRunner, undisturbed: dict[str, TrialResult], tmp_path: Path
) -> None:
    spec = trial(tmp_path)
    for attempt in range(1, 4):
        put_aside(work, spec.model_copy(update={"attempt": attempt}), 1)
    assert pauses(tmp_path)[-1] == "paused-000003-a3"
    result, _ = run(work, spec.model_copy(update={"attempt": 4}))
    assert equal(merged(result.checkpoint), merged(undisturbed["full"].checkpoint))


def test_the_best_weights_in_memory_are_written_too(work: TrialRunner, tmp_path: Path) -> None:
    put_aside(work, trial(tmp_path).model_copy(update={"resume_pays": 1e9}), 5)
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [1]


def test_a_damaged_state_is_passed_over(work: TrialRunner, undisturbed: dict[str, TrialResult], tmp_path: Path) -> None:
    spec = trial(tmp_path)
    put_aside(work, spec, 5)
    state = tmp_path / "paused-000006-a1" / "resume" / "optimizer-rank0.safetensors"
    content = bytearray(state.read_bytes())
    content[-5] ^= 1
    state.write_bytes(content)
    result, diary = run(work, spec.model_copy(update={"attempt": 2}))
    assert diary.trained == 4, "it went on from the checkpoint of the first evaluation"
    assert equal(merged(result.checkpoint), merged(undisturbed["full"].checkpoint))


def test_a_checkpoint_that_goes_further_is_taken_instead(work: TrialRunner, tmp_path: Path) -> None:
    spec = trial(tmp_path)
    put_aside(work, spec, 1)
    shutil.copytree(tmp_path / "paused-000001-a1", tmp_path / "old")
    with pytest.raises(Preempted):
        work.run(spec.model_copy(update={"attempt": 2}), lambda _: True, lambda: None, leaves_at(4))
    assert pauses(tmp_path) == ["paused-000006-a2"], "the older state went with the checkpoint of evaluation 1"
    shutil.rmtree(tmp_path / "paused-000006-a2")
    (tmp_path / "old").rename(tmp_path / "paused-000001-a1")
    _, diary = run(work, spec.model_copy(update={"attempt": 3}))
    assert diary.trained == 4


def test_an_attempt_that_was_given_up_does_not_write(work: TrialRunner, tmp_path: Path) -> None:
    spec = trial(tmp_path)
    put_aside(work, spec.model_copy(update={"attempt": 2}), 1)
    with pytest.raises(TrialError, match="attempt 1 found a checkpoint of attempt 2, which has taken its place"):
        work.run(spec, lambda _: True, lambda: None, leaves_at(1))


def test_a_trial_that_will_never_be_resumed_keeps_no_state(work: TrialRunner, tmp_path: Path) -> None:
    put_aside(work, trial(tmp_path), 1)
    drop_resume_state(tmp_path)
    assert not pauses(tmp_path)


@pytest.fixture(scope="module")
def seen(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks saw."""
    return seen_by_two("preemption_pair_worker.py", home, tmp_path_factory.mktemp("pair"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_put_a_trial_aside_together(stage: int, seen: list[dict[str, Any]]) -> None:
    for rank in seen:
        told = rank[f"zero{stage}"]
        assert told["paused"] == ["paused-000002-a1"]
        assert told["said"] == "trial 0, optimizer step 2 of 8: written and put aside"
        assert told["trained"] == 6
    undisturbed, again = (TrialResult.model_validate(result) for result in seen[0][f"zero{stage}"]["results"])
    assert equal(merged(undisturbed.checkpoint), merged(again.checkpoint))
    assert [e.metrics for e in again.history] == [e.metrics for e in undisturbed.history]
    losses = [e.train_loss for e in undisturbed.history]
    assert [e.train_loss for e in again.history] == pytest.approx(losses, rel=1e-6)
