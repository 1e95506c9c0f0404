"""Regularizers and the newer optimizers in two real processes: plain PyTorch's weights, resumption, equal ranks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pairs import seen_by_two
from plain_reference import plain_training
from regular_cases import PLAIN, plain_average, plain_l2sp
from regular_pair_worker import CASES
from training_cases import bench, equal, merged, recipe

from finesearch.training import TrialResult, Workbench


@pytest.fixture(scope="module")
def work(home: Path) -> Workbench:
    return bench(home)


@pytest.fixture(scope="module")
def seen(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two ranks saw of each case."""
    return seen_by_two("regular_pair_worker.py", home, tmp_path_factory.mktemp("regular-pair"))


def result_of(seen: list[dict[str, Any]], case: str) -> TrialResult:
    return TrialResult.model_validate_json(json.dumps(seen[0][case]))


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_plain_pytorch(case: str, seen: list[dict[str, Any]], work: Workbench) -> None:
    settings = recipe(**PLAIN, **CASES[case][1])
    if settings.ema_decay or settings.swa_start:
        expected = plain_average(work, settings, 3)
    elif settings.l2sp:
        expected, _ = plain_l2sp(work, settings, 3)
    else:
        expected, _ = plain_training(work, settings, 3)
    got = merged(result_of(seen, case).checkpoint)
    for name, tensor in expected.items():
        if settings.optimizer == "lion" and name.endswith("key.bias"):
            # Its gradient is 0 but for rounding, see test_training_optimizers.
            continue
        torch.testing.assert_close(
            got[name], tensor, rtol=1e-3, atol=3e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_an_interrupted_trial_ends_as_the_undisturbed_one(stage: int, seen: list[dict[str, Any]]) -> None:
    whole, parts = result_of(seen, f"whole{stage}"), result_of(seen, f"parts{stage}")
    assert [evaluation.train_loss for evaluation in parts.history] == [e.train_loss for e in whole.history]
    assert equal(merged(parts.checkpoint), merged(whole.checkpoint))


@pytest.mark.parametrize("case", [*CASES, "whole0", "whole2"])
def test_ranks_agree_on_what_was_learned(case: str, seen: list[dict[str, Any]]) -> None:
    first, second = ([e["metrics"] | {"loss": e["train_loss"]} for e in rank[case]["history"]] for rank in seen)
    assert first == second
