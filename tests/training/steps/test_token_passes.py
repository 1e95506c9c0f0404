"""``training.max_tokens_per_pass``: more and smaller passes, the same loss and the same weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.steps.train_step import TrainStep
from finesearch.training.trial_types import TrialResult, TrialSpec
from pairs import seen_by_two
from pass_pair_worker import PLAIN
from plain_reference import plain_training
from training_cases import make_runner, merged, recipe, run, trial


@pytest.fixture(scope="module")
def seen(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two ranks saw of each stage."""
    return seen_by_two("pass_pair_worker.py", home, tmp_path_factory.mktemp("passes"))


@pytest.fixture(scope="module")
def expected(home: Path) -> tuple[dict[str, torch.Tensor], list[float]]:
    return plain_training(make_runner(home), recipe(**PLAIN), seed=3)


def check(result: TrialResult, expected: tuple[dict[str, torch.Tensor], list[float]]) -> None:
    weights, losses = expected
    assert [evaluation.train_loss for evaluation in result.history] == pytest.approx(losses, rel=1e-5)
    got = merged(result.checkpoint)
    for name, tensor in weights.items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-3, atol=2e-5)


def sizes_of_passes(
    work: TrialRunner, spec: TrialSpec, monkeypatch: pytest.MonkeyPatch
) -> tuple[TrialResult, list[int]]:
    """The result of a trial, and the padded tokens of each of its forward passes in training."""
    sizes: list[int] = []
    collate = TrainStep._collate

    def measured(train_step: TrainStep, rows: np.ndarray) -> dict[str, torch.Tensor]:
        batch = collate(train_step, rows)
        sizes.append(batch["input_ids"].numel())
        return batch

    monkeypatch.setattr(TrainStep, "_collate", measured)
    return run(work, spec)[0], sizes


@pytest.mark.parametrize("stage", range(4))
def test_two_ranks_learn_what_plain_pytorch_does_in_one_pass(
    stage: int, seen: list[dict[str, Any]], expected: tuple[dict[str, torch.Tensor], list[float]]
) -> None:
    check(TrialResult.model_validate_json(json.dumps(seen[0][f"zero{stage}"]["result"])), expected)


@pytest.mark.parametrize("stage", range(4))
def test_ranks_agree_on_passes_whose_number_follows_the_batch(stage: int, seen: list[dict[str, Any]]) -> None:
    first, second = (rank[f"zero{stage}"]["passes"] for rank in seen)
    assert first == second
    assert len(set(first)) > 1


@pytest.mark.parametrize("stage", [0, 2])
def test_one_process_keeps_each_pass_within_the_budget(
    stage: int,
    home: Path,
    tmp_path: Path,
    expected: tuple[dict[str, torch.Tensor], list[float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = make_runner(home, zero_stage=stage, max_tokens_per_pass=40)
    result, sizes = sizes_of_passes(work, trial(tmp_path, **PLAIN), monkeypatch)
    assert max(sizes) <= 40
    assert len(sizes) > 8
    check(result, expected)


def test_a_row_above_the_budget_is_a_pass_of_its_own(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_runner(home, max_tokens_per_pass=1)
    _, sizes = sizes_of_passes(work, trial(tmp_path, **PLAIN), monkeypatch)
    assert len(sizes) == 52


def test_two_passes_of_rdrop_count_both(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = make_runner(home, max_tokens_per_pass=40)
    _, sizes = sizes_of_passes(work, trial(tmp_path, **{**PLAIN, "dropout": 0.1, "rdrop": 1.0}), monkeypatch)
    assert max(sizes) <= 20 or len(sizes) == 52


def test_accumulation_steps_are_the_fewest_passes(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = make_runner(home, max_tokens_per_pass=100_000, gradient_accumulation_steps=2)
    _, sizes = sizes_of_passes(work, trial(tmp_path, **{**PLAIN, "batch_size": 26}), monkeypatch)
    assert len(sizes) == 4
