"""Base of single-label classification tasks: each example has exactly one class and one row of logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finesearch.tasks.classification.class_weights import balanced_weights
from finesearch.tasks.kl_divergence import symmetric_kl_divergence
from finesearch.tasks.task import Task, TaskFacts

if TYPE_CHECKING:
    from torch import Tensor


class SingleLabel(Task):
    """Outputs have ``logits`` (B, C), batches ``labels`` int64 (B,) and, optionally, ``class_weights`` (C,)."""

    def loss(self, outputs: Any, batch: Mapping[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy, (weighted) mean over the batch's examples, always in float32."""
        from torch.nn.functional import cross_entropy

        weights = batch.get("class_weights")
        return cross_entropy(outputs.logits.float(), batch["labels"], weights, label_smoothing=label_smoothing)

    def weight(self, batch: Mapping[str, Tensor]) -> float:
        """Number of examples, or the sum of their weights."""
        if "class_weights" in batch:
            return float(batch["class_weights"][batch["labels"]].double().sum())
        return int(batch["labels"].shape[0])

    def class_weights(self, labels: Sequence[Any], facts: TaskFacts) -> list[float] | None:
        return balanced_weights(labels, len(facts.label_names))

    def divergence(self, one: Any, other: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Symmetric Kullback-Leibler divergence, the same (weighted) mean as ``loss``."""
        values = symmetric_kl_divergence(one.logits, other.logits)
        if "class_weights" not in batch:
            return values.mean()
        weights = batch["class_weights"][batch["labels"]]
        return (values * weights).sum() / weights.sum()

    def predict(self, outputs: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """The index of each example's most likely class."""
        classes: list[int] = outputs.logits.argmax(dim=-1).tolist()
        return classes
