"""Two real processes over gloo: every ZeRO stage with every adaptation, resumption, uneven pieces, agreed failures."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.trial_types import TrialResult
from pair_worker import PLAIN, UNEVEN
from pairs import seen_by_two
from plain_reference import plain_training
from training_cases import PAIRS, SGD, equal, frozen_names, make_runner, merged, recipe, untrained

STAGES = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def work(home: Path) -> TrialRunner:
    return make_runner(home)


@pytest.fixture(scope="module")
def seen(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two ranks saw of each case."""
    return seen_by_two("pair_worker.py", home, tmp_path_factory.mktemp("pair"))


def result_of(seen: list[dict[str, Any]], case: str) -> TrialResult:
    return TrialResult.model_validate_json(json.dumps(seen[0][case]["result"]))


@pytest.mark.parametrize(("stage", "adaptation"), PAIRS)
def test_what_is_frozen_keeps_every_bit_and_what_is_trained_changes(
    stage: int, adaptation: str, seen: list[dict[str, Any]], work: TrialRunner
) -> None:
    result = result_of(seen, f"zero{stage}-{adaptation}")
    before = untrained(work, adaptation)
    after = merged(result.checkpoint)
    held = frozen_names(adaptation, after)
    for name, parameter in before.items():
        assert torch.equal(parameter, after[name]) == (name in held), name
    assert result.trainable_parameters == sum(p.numel() for name, p in before.items() if name not in held)
    assert result.total_parameters == sum(p.numel() for p in before.values())


@pytest.mark.parametrize(("stage", "adaptation"), PAIRS)
def test_ranks_agree_on_the_result_and_the_first_reports(
    stage: int, adaptation: str, seen: list[dict[str, Any]], work: TrialRunner
) -> None:
    case = f"zero{stage}-{adaptation}"
    first, second = (json.loads(json.dumps(rank[case]["result"])) for rank in seen)
    steps = [evaluation["step"] for evaluation in first["history"]]
    assert steps == ([1] if adaptation == "gradual_unfreezing" else [1, 2])
    assert (seen[0][case]["reported"], seen[1][case]["reported"]) == (steps, [])
    for result in (first, second):
        for evaluation in (result["best"], *result["history"]):
            # Each rank has a clock of its own.
            evaluation["seconds"] = 0
        result["seconds"] = 0
    assert first == second


@pytest.mark.parametrize("stage", STAGES)
def test_evaluation_over_two_ranks_scores_what_one_process_does(
    stage: int, seen: list[dict[str, Any]], work: TrialRunner, home: Path
) -> None:
    result = result_of(seen, f"zero{stage}-full")
    assert result.best is not None
    scored = evaluate_checkpoint(str(result.checkpoint), "validation", work.task_plan, work.training, home, work.cache)
    assert scored.metrics == result.best.metrics


@pytest.mark.parametrize("case", ["uneven", "sgd"])
@pytest.mark.parametrize("stage", STAGES)
def test_weights_and_loss_are_those_of_plain_pytorch(
    stage: int, case: str, seen: list[dict[str, Any]], work: TrialRunner
) -> None:
    result = result_of(seen, f"zero{stage}-{case}")
    settings = {**PLAIN, **SGD, "batch_size": 13} if case == "sgd" else UNEVEN
    expected, losses = plain_training(work, recipe(**settings), seed=3)
    assert [evaluation.train_loss for evaluation in result.history] == pytest.approx(losses, rel=1e-5)
    got = merged(result.checkpoint)
    for name, tensor in expected.items():
        torch.testing.assert_close(
            got[name], tensor, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_trial_ends_as_the_undisturbed_one(stage: int, seen: list[dict[str, Any]]) -> None:
    whole, parts = result_of(seen, f"zero{stage}-full"), result_of(seen, f"zero{stage}-parts")
    assert (seen[0][f"zero{stage}-parts"]["reported"], seen[0][f"zero{stage}-parts"]["trained"]) == ([1, 2], 2)
    assert [evaluation.train_loss for evaluation in parts.history] == [e.train_loss for e in whole.history]
    assert equal(merged(parts.checkpoint), merged(whole.checkpoint))


def test_every_rank_raises_when_the_loss_is_not_finite(seen: list[dict[str, Any]]) -> None:
    for rank in seen:
        assert rank["nan"].startswith("DivergedError: trial 0, optimizer step 4 of 8:")


def test_every_rank_raises_what_went_wrong_on_the_first(seen: list[dict[str, Any]]) -> None:
    assert seen[0]["blocked"].startswith("FileExistsError")
    assert seen[1]["blocked"].startswith("TrialError: FileExistsError")


def test_every_rank_raises_when_one_of_them_cannot_write_its_part(seen: list[dict[str, Any]]) -> None:
    for rank in seen:
        assert rank["full"].startswith("DiskFullError: ")
        assert "the checkpoint could not be written, no space is left there" in rank["full"]


def test_the_group_goes_on_after_agreed_failures(seen: list[dict[str, Any]]) -> None:
    assert equal(merged(result_of(seen, "after").checkpoint), merged(result_of(seen, "zero0-full").checkpoint))
