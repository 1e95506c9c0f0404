"""Regularizers and the newer optimizers in two real processes: plain PyTorch's weights, resumption, equal ranks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.trial_types import TrialResult
from pairs import seen_by_two
from plain_reference import plain_training
from regularizer_cases import PLAIN, plain_average, plain_l2sp, write_skewed
from regularizer_pair_worker import CASES, RESUMED, SKEWED_STAGES
from training_cases import equal, make_runner, merged, recipe, run, trial


@pytest.fixture(scope="module")
def work(home: Path) -> TrialRunner:
    return make_runner(home)


@pytest.fixture(scope="module")
def seen(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two ranks saw of each case."""
    out = tmp_path_factory.mktemp("regular-pair")
    write_skewed(home, out / "skewed")
    return seen_by_two("regularizer_pair_worker.py", home, out)


def result_of(seen: list[dict[str, Any]], case: str) -> TrialResult:
    return TrialResult.model_validate_json(json.dumps(seen[0][case]))


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_plain_pytorch(case: str, seen: list[dict[str, Any]], work: TrialRunner) -> None:
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


@pytest.mark.parametrize("name", RESUMED)
def test_an_interrupted_trial_ends_as_the_undisturbed_one(name: str, seen: list[dict[str, Any]]) -> None:
    whole, parts = result_of(seen, f"whole{name}"), result_of(seen, f"parts{name}")
    assert [evaluation.train_loss for evaluation in parts.history] == [e.train_loss for e in whole.history]
    assert equal(merged(parts.checkpoint), merged(whole.checkpoint))


@pytest.mark.parametrize("stage", SKEWED_STAGES)
def test_balanced_classes_weigh_over_two_ranks_what_they_do_in_one(
    stage: int, seen: list[dict[str, Any]], home: Path, tmp_path: Path
) -> None:
    result = result_of(seen, f"skewed{stage}")
    alone = make_runner(write_skewed(home, tmp_path / "skewed"))
    expected, _ = run(alone, trial(tmp_path / "trial", **PLAIN, class_weights="balanced"))
    assert result.history[0].train_loss == pytest.approx(expected.history[0].train_loss, rel=1e-5)
    got = merged(result.checkpoint)
    for name, tensor in merged(expected.checkpoint).items():
        torch.testing.assert_close(
            got[name], tensor, rtol=1e-3, atol=3e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("case", [*CASES, "whole0", "whole2", "skewed2"])
def test_ranks_agree_on_what_was_learned(case: str, seen: list[dict[str, Any]]) -> None:
    first, second = ([e["metrics"] | {"loss": e["train_loss"]} for e in rank[case]["history"]] for rank in seen)
    assert first == second
