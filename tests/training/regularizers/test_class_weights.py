"""Balanced classes: the library's weights, and the exact mean over a global batch however it is cut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from finesearch.tasks.classification.class_weights import balanced_weights
from plain_reference import plain_training
from regularizer_cases import write_skewed
from training_cases import make_runner, merged, recipe, run, trial

PLAIN = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0, "epochs": 1, "batch_size": 7}


@pytest.fixture(scope="module")
def skewed(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 good and 7 bad rows."""
    return write_skewed(home, tmp_path_factory.mktemp("skewed") / "home")


def test_weights_are_scikit_learns() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 90) ** 2 % 7
    numbered = np.unique(labels, return_inverse=True)[1]
    expected = compute_class_weight("balanced", classes=np.unique(numbered), y=numbered)
    assert balanced_weights(numbered.tolist(), len(expected)) == pytest.approx(expected.tolist())


@pytest.mark.parametrize("settings", [{}, {"rdrop": 1.0}], ids=["plain", "rdrop"])
@pytest.mark.parametrize("steps", [1, 8])
def test_the_mean_over_the_global_batch_is_exact(
    steps: int, settings: dict[str, Any], skewed: Path, tmp_path: Path
) -> None:
    weights = torch.tensor([33 / (2 * 7), 33 / (2 * 26)])

    def losses_of(
        model: torch.nn.Module, batch: dict[str, Any], labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        loss = cross_entropy(model(**batch).logits, labels, weight=weights, label_smoothing=0.1)
        return loss, loss

    work = make_runner(skewed, gradient_accumulation_steps=steps)
    # Without dropout both passes of R-Drop are the same, and what is left is the weighted loss.
    result, _ = run(work, trial(tmp_path, **PLAIN, **settings, class_weights="balanced"))
    expected, _ = plain_training(work, recipe(**PLAIN), 3, losses_of=losses_of)
    got = merged(result.checkpoint)
    for name, tensor in expected.items():
        torch.testing.assert_close(
            got[name], tensor, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    plain, _ = run(work, trial(tmp_path / "plain", **PLAIN))
    assert plain.history[0].train_loss != result.history[0].train_loss


def test_weighted_divergence_composes_over_pieces(skewed: Path, tmp_path: Path) -> None:
    task = make_runner(skewed)._context.task
    outputs = [torch.nn.Module() for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(5, 2, generator=generator) for _ in outputs]
    labels, weights = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([3.0, 0.5])

    def part(rows: slice) -> tuple[float, float]:
        for output, values in zip(outputs, logits, strict=True):
            output.logits = values[rows]
        batch = {"labels": labels[rows], "class_weights": weights}
        return task.weight(batch), task.divergence(*outputs, batch).item()

    (total, whole), pieces = part(slice(None)), [part(slice(0, 2)), part(slice(2, 5))]
    assert sum(weight for weight, _ in pieces) == total == 7.5
    assert sum(weight * value for weight, value in pieces) / total == pytest.approx(whole, rel=1e-5)
