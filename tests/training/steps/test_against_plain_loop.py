"""Loss and update are those of plain PyTorch, whatever a batch is cut into."""

from pathlib import Path
from typing import Any

import pytest
import torch

from plain_reference import plain_training
from training_cases import SGD, make_runner, merged, recipe, run, trial

# One epoch of eight steps, so that the one evaluation is both the best and the last. The last batch has 3 rows.
PLAIN = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0, "epochs": 1, "batch_size": 7}


@pytest.mark.parametrize(
    ("training", "changes"),
    [
        ({}, {}),
        ({}, {"gradient_clipping": None, "label_smoothing": 0.0}),
        ({}, {**SGD, "gradient_clipping": 0.1, "layerwise_decay": 0.6}),
        ({}, {"layerwise_decay": 0.7}),
        # Pieces of 1, 1, 1, 1, 1, 1, 1 and 0 rows; of the last batch, 1, 1, 1, 0, 0, 0, 0 and 0.
        ({"gradient_accumulation_steps": 8}, {}),
        ({"zero_stage": 1, "gradient_accumulation_steps": 8}, {"layerwise_decay": 0.7}),
        ({"zero_stage": 2, "gradient_accumulation_steps": 8}, {}),
        ({"zero_stage": 3, "gradient_accumulation_steps": 8}, {}),
        ({"zero_stage": 3}, SGD),
    ],
)
def test_weights_and_losses_are_those_of_plain_pytorch(
    training: dict[str, Any], changes: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    work = make_runner(home, **training)
    settings = {**PLAIN, **changes}
    result, _ = run(work, trial(tmp_path, **settings))
    expected, losses = plain_training(work, recipe(**settings), seed=3)
    assert [evaluation.train_loss for evaluation in result.history] == pytest.approx(losses, rel=1e-5)
    got = merged(result.checkpoint)
    for name, tensor in expected.items():
        torch.testing.assert_close(
            got[name], tensor, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
