from pathlib import Path

import pytest

from finesearch.errors import DivergedError, ModelError, PlacementError, TrialError
from finesearch.plan import TrainingPlan
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.trial_types import TrialResult, TrialSpec
from training_cases import Diary, equal, make_runner, merged, recipe, run, trial, without_clock


@pytest.fixture(scope="module")
def work(home: Path) -> TrialRunner:
    return make_runner(home)


@pytest.fixture(scope="module")
def undisturbed(work: TrialRunner, tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    return run(work, trial(tmp_path_factory.mktemp("undisturbed")))[0]


def test_a_trial_reports_each_evaluation_and_beats_each_step(work: TrialRunner, tmp_path: Path) -> None:
    result, diary = run(work, trial(tmp_path))
    assert diary.steps == [1, 2]
    assert diary.trained == 8
    assert [evaluation.epoch for evaluation in result.history] == [1.0, 2.0]
    assert not result.stopped
    assert set(result.best.metrics) == {"accuracy", "macro_f1", "micro_f1", "mcc"}
    assert result.history[0].seconds < result.history[1].seconds == result.seconds
    assert result.tokens == 2 * int(work._context.tokens.train.lengths.sum())


def test_the_spec_and_the_result_survive_json(undisturbed: TrialResult, tmp_path: Path) -> None:
    spec = trial(tmp_path)
    assert TrialSpec.model_validate_json(spec.model_dump_json()) == spec
    assert TrialResult.model_validate_json(undisturbed.model_dump_json()) == undisturbed


def test_the_same_seed_gives_the_same_bits_whatever_ran_before(
    work: TrialRunner, undisturbed: TrialResult, tmp_path: Path
) -> None:
    run(work, trial(tmp_path / "between", seed=9, adaptation="head_only", dropout=0.3))
    again, _ = run(work, trial(tmp_path / "again"))
    assert without_clock(again.history) == without_clock(undisturbed.history)
    assert equal(merged(again.checkpoint), merged(undisturbed.checkpoint))


def test_another_seed_gives_another_head_other_batches_and_other_dropout(
    work: TrialRunner, undisturbed: TrialResult, tmp_path: Path
) -> None:
    other, _ = run(work, trial(tmp_path, seed=4))
    assert other.history[0].train_loss != undisturbed.history[0].train_loss


def test_the_callers_random_numbers_are_its_own(work: TrialRunner, tmp_path: Path) -> None:
    import random

    import numpy as np
    import torch

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    run(work, trial(tmp_path))
    assert draw() == expected


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_an_interrupted_trial_ends_as_the_undisturbed_one_bit_for_bit(stage: int, home: Path, tmp_path: Path) -> None:
    work = make_runner(home, zero_stage=stage, evaluations_per_epoch=2)
    # With rates by depth the optimizer has a dozen groups, whose states must come back in their order.
    whole, _ = run(work, trial(tmp_path / "whole", layerwise_decay=0.8))
    stopped, first = run(work, trial(tmp_path / "parts", layerwise_decay=0.8), stop_after=3)
    assert (stopped.stopped, first.steps) == (True, [1, 2, 3])
    again = make_runner(home, zero_stage=stage, evaluations_per_epoch=2)
    resumed, second = run(again, trial(tmp_path / "parts", attempt=2, layerwise_decay=0.8))
    assert second.steps == [1, 2, 3, 4]
    assert second.trained == 2
    assert without_clock(resumed.history) == without_clock(whole.history)
    assert resumed.history[2] == stopped.history[2]
    assert resumed.history[3].seconds > stopped.seconds
    assert equal(merged(resumed.checkpoint), merged(whole.checkpoint))


def test_momentum_survives_an_interruption(work: TrialRunner, tmp_path: Path) -> None:
    sgd = {"optimizer": "sgd", "learning_rate": 0.05}
    whole, _ = run(work, trial(tmp_path / "whole", **sgd))
    run(work, trial(tmp_path / "parts", **sgd), stop_after=1)
    resumed, _ = run(work, trial(tmp_path / "parts", attempt=2, **sgd))
    assert without_clock(resumed.history) == without_clock(whole.history)


def test_a_finished_trial_is_reported_again_and_not_trained_again(work: TrialRunner, tmp_path: Path) -> None:
    first, _ = run(work, trial(tmp_path))
    again, diary = run(work, trial(tmp_path, attempt=2))
    assert (diary.steps, diary.trained) == ([1, 2], 0)
    assert again == first


def test_the_evaluation_that_a_trial_ends_with_is_told_apart(work: TrialRunner, tmp_path: Path) -> None:
    for attempt in (1, 2):  # trained, then taken from what the first attempt left
        diary, last = Diary(), Diary()
        spec = trial(tmp_path, attempt=attempt)
        result = work.run(spec, diary.report, diary.beat, report_last=last.report)
        assert (diary.evaluations, last.evaluations) == (list(result.history[:-1]), [result.history[-1]])
        assert not result.stopped
    stopped = work.run(trial(tmp_path, attempt=3), diary.report, diary.beat, report_last=lambda _: False)
    assert stopped == result.model_copy(update={"stopped": True})


def test_a_stop_during_the_replay_trains_nothing(work: TrialRunner, tmp_path: Path) -> None:
    run(work, trial(tmp_path), stop_after=1)
    result, diary = run(work, trial(tmp_path, attempt=2), stop_after=1)
    assert (result.stopped, diary.steps, diary.trained) == (True, [1], 0)
    assert result.best == result.history[0]
    # Whoever stops a trial may have deleted its folder by now.
    assert (result.checkpoint, result.checkpoint_bytes) == (None, 0)
    assert result.trainable_parameters == 41634


def test_the_best_evaluation_is_kept_and_not_the_last(home: Path, tmp_path: Path) -> None:
    work = make_runner(home)
    # Steps far too large: it gets worse again.
    result, _ = run(work, trial(tmp_path, epochs=8, learning_rate=0.02, schedule="constant", seed=5))
    values = [evaluation.metrics["accuracy"] for evaluation in result.history]
    assert result.best.metrics["accuracy"] == max(values) > values[-1]
    assert result.best.step == values.index(max(values)) + 1
    scored = evaluate_checkpoint(result.checkpoint, "validation", work.task_plan, work.training, home, home / "cache")
    assert scored.metrics == result.best.metrics


def test_less_is_better_when_the_goal_is_min(home: Path, tmp_path: Path) -> None:
    plan = make_runner(home)
    work = TrialRunner(plan.task_plan, plan.training, plan.base, plan.cache, "accuracy", "min")
    result, _ = run(work, trial(tmp_path))
    assert result.best.metrics["accuracy"] == min(evaluation.metrics["accuracy"] for evaluation in result.history)


def test_a_trial_without_progress_ends_when_its_patience_does(work: TrialRunner, tmp_path: Path) -> None:
    result, diary = run(work, trial(tmp_path, epochs=20, learning_rate=1e-12, early_stopping_patience=2))
    assert diary.steps == [1, 2, 3]
    assert (result.stopped, result.best.step) == (False, 1)
    again, _ = run(work, trial(tmp_path, attempt=2, epochs=20, learning_rate=1e-12, early_stopping_patience=2))
    assert again == result


def test_evaluations_fall_within_an_epoch(home: Path, tmp_path: Path) -> None:
    result, _ = run(make_runner(home, evaluations_per_epoch=2), trial(tmp_path))
    assert [evaluation.epoch for evaluation in result.history] == [0.5, 1.0, 1.5, 2.0]


def test_more_evaluations_than_steps_are_said(home: Path, tmp_path: Path) -> None:
    result, _ = run(make_runner(home, evaluations_per_epoch=9), trial(tmp_path))
    assert len(result.history) == 8
    assert any(
        "an epoch has 4 steps only, so that there were 8 evaluations instead of 18" in w for w in result.warnings
    )


def test_a_loss_that_is_not_finite_fails_the_trial(work: TrialRunner, tmp_path: Path) -> None:
    with pytest.raises(
        DivergedError, match=r"trial 7, optimizer step 4 of 8: .* (NaN|nan).* The learning rate was 1e\+30"
    ):
        run(work, trial(tmp_path, number=7, learning_rate=1e30, gradient_clipping=None))


def test_a_worker_goes_on_after_a_failed_trial(work: TrialRunner, undisturbed: TrialResult, tmp_path: Path) -> None:
    with pytest.raises(DivergedError):
        run(work, trial(tmp_path / "bad", learning_rate=1e30, gradient_clipping=None))
    again, _ = run(work, trial(tmp_path / "good"))
    assert equal(merged(again.checkpoint), merged(undisturbed.checkpoint))


def test_a_metric_that_the_task_lacks_fails_the_trial(home: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrialError, match="metric 'bleu' was not computed at evaluation 1; there are: accuracy, macro_f1"
    ):
        run(make_runner(home, metric="bleu"), trial(tmp_path))


def test_too_many_frozen_layers_fail_the_trial(work: TrialRunner, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 4 layers, so expected at most 4, got 5"):
        run(work, trial(tmp_path, adaptation="freeze_bottom", adaptation_parameters={"layers": 5}))


def test_more_workers_than_processes_are_refused(home: Path, tmp_path: Path) -> None:
    run(make_runner(home), trial(tmp_path / "alone"))
    with pytest.raises(PlacementError, match="expected 2 processes in this trial's process group, got 1"):
        run(make_runner(home, workers_per_trial=2), trial(tmp_path / "two"))


def test_a_gpu_that_is_not_there_is_refused(home: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        assert run(make_runner(home, gpus_per_worker=1.0), trial(tmp_path))[0].best is not None
    else:
        with pytest.raises(PlacementError, match="this worker is to use a GPU .* but torch .* sees none"):
            run(make_runner(home, gpus_per_worker=1.0), trial(tmp_path))


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_bf16_trains_and_scores_the_same_when_reloaded(stage: int, home: Path, tmp_path: Path) -> None:
    work = make_runner(home, precision="bf16", zero_stage=stage)
    result, _ = run(work, trial(tmp_path))
    assert result.history[1].train_loss < result.history[0].train_loss
    scored = evaluate_checkpoint(result.checkpoint, "validation", work.task_plan, work.training, home, home / "cache")
    assert scored.metrics == result.best.metrics


def test_auto_precision_says_what_it_took(home: Path, tmp_path: Path) -> None:
    result, _ = run(make_runner(home, precision="auto"), trial(tmp_path))
    assert result.notes[0].startswith(("precision auto: bf16", "precision auto: fp32"))
    assert result.warnings == ()


def test_threads_are_those_of_the_plan_and_given_back(home: Path, tmp_path: Path) -> None:
    import torch

    seen: list[int] = []
    make_runner(home, cpus_per_worker=2.0).run(
        trial(tmp_path), lambda _: True, lambda: seen.append(torch.get_num_threads())
    )
    assert set(seen) == {2}
    assert torch.get_num_threads() == 1


def test_base_weights_are_read_once(home: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(home, tmp_path / "home"))
    work = make_runner(copy)
    first, _ = run(work, trial(tmp_path / "first"))
    (copy / "model" / "model.safetensors").unlink()
    second, _ = run(work, trial(tmp_path / "second"))
    assert without_clock(second.history) == without_clock(first.history)


def test_a_trial_runner_is_sent_to_its_worker(home: Path) -> None:
    import pickle

    sent = pickle.loads(pickle.dumps(make_runner(home)))
    assert sent.training == TrainingPlan(epochs=2, batch_size=16, precision="fp32")
    assert recipe() == recipe()
