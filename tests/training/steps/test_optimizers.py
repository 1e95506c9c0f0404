"""Adafactor and Lion: the plain library optimizer's weights, resumption, and the stages that each can take."""

from pathlib import Path
from typing import Any

import pytest
import torch

from finesearch.errors import PlanError
from plain_reference import plain_training
from training_cases import equal, make_runner, merged, recipe, run, trial, without_clock

PLAIN = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0, "epochs": 1, "batch_size": 7}
ADAFACTOR = {
    "optimizer": "adafactor",
    "optimizer_parameters": {"beta2_decay": -0.7, "clipping_threshold": 1.1, "smallest_scale": 1e-2},
    "learning_rate": 0.05,
}
LION = {"optimizer": "lion", "optimizer_parameters": {"beta1": 0.8, "beta2": 0.95}, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("training", "changes"),
    [
        ({}, ADAFACTOR),
        ({"gradient_accumulation_steps": 8}, ADAFACTOR),
        ({}, LION),
        ({"gradient_accumulation_steps": 8}, LION),
        ({"zero_stage": 1}, LION),
        ({"zero_stage": 2}, LION),
        ({"zero_stage": 3}, LION),
    ],
)
def test_weights_and_losses_are_those_of_the_plain_optimizer(
    training: dict[str, Any], changes: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    work = make_runner(home, **training)
    settings = {**PLAIN, **changes}
    result, _ = run(work, trial(tmp_path, **settings))
    expected, losses = plain_training(work, recipe(**settings), seed=3)
    assert [evaluation.train_loss for evaluation in result.history] == pytest.approx(losses, rel=1e-4)
    got = merged(result.checkpoint)
    for name, tensor in expected.items():
        if changes is LION and name.endswith("key.bias"):
            # Softmax does not see it, so its gradient is 0 but for rounding; Lion steps by the sign alone.
            continue
        torch.testing.assert_close(
            got[name], tensor, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize(
    ("stage", "changes"), [(0, ADAFACTOR), *((stage, LION) for stage in range(4))], ids=lambda value: str(value)[:24]
)
def test_optimizer_state_survives_an_interruption(
    stage: int, changes: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    work = make_runner(home, zero_stage=stage)
    whole, _ = run(work, trial(tmp_path / "whole", **changes))
    run(work, trial(tmp_path / "parts", **changes), stop_after=1)
    resumed, second = run(make_runner(home, zero_stage=stage), trial(tmp_path / "parts", attempt=2, **changes))
    assert second.trained == 4
    assert without_clock(resumed.history) == without_clock(whole.history)
    assert equal(merged(resumed.checkpoint), merged(whole.checkpoint))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_adafactor_is_refused_where_its_matrices_are_flattened(stage: int, home: Path, tmp_path: Path) -> None:
    text = (
        rf"optimizer adafactor: expected training.zero_stage 0, got {stage}: its moments are factored by rows and "
        "columns, and ZeRO 1 to 3 flatten all matrices into one.\n  Set training.zero_stage to 0, or leave it out of"
    )
    with pytest.raises(PlanError, match=text):
        run(make_runner(home, zero_stage=stage), trial(tmp_path, **ADAFACTOR))
    assert not list(tmp_path.iterdir())
