"""Regression: a number for a text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finesearch.errors import DataError
from finesearch.tasks.classification.regression_metrics import (
    REGRESSION_METRICS,
    parse_number,
    read_numbers,
    target_scale_of,
)
from finesearch.tasks.classification.text_classification import TextClassification
from finesearch.tasks.raw_splits import SPLITS, RawSplits
from finesearch.tasks.task import TaskFacts

if TYPE_CHECKING:
    from torch import Tensor


class TextRegression(TextClassification):
    """The label column holds numbers, of any scale. Predictions and references are numbers of that scale.

    With ``target_scaling: standard``, ``labels`` of a token row and the model's outputs have train's mean and deviation
    taken out, and ``reference`` is the number itself as text; ``combine`` puts them back, and an export has them in its
    output layer.
    """

    label_type: ClassVar[type] = np.float32

    @property
    def stratify_column(self) -> str | None:
        """None: numbers cannot be stratified."""
        return None

    def read(self, splits: RawSplits) -> TaskFacts:
        """Check texts and numbers of every split.

        Raises:
            DataError: a text or number that is missing, NaN or of the wrong type; a split with one number only.
        """
        column = self.plan.columns["label"]
        notes = self._read_texts(splits)
        numbers: dict[str, list[float]] = {}
        for split, origin in splits.origins.items():
            if hasattr(splits[split].features[column], "names"):
                raise DataError(
                    f"{origin}: the label column {column!r} holds the names of classes, expected numbers, since"
                    " `task.form` is regression.\n  Set `task.form: single-label`, or name a column of numbers."
                )
            values = read_numbers(splits.table(split).column(column), column, origin)
            numbers[split] = values
            if len(set(values)) < 2:
                raise DataError(
                    f"{origin}: every one of the {len(values)} {split} rows has {values[0]:g} in column {column!r},"
                    " expected numbers that differ: no correlation can be computed.\n  Name a split that has labels."
                )
        scale = None
        if self.plan.target_scaling == "standard":
            scale = target_scale_of(numbers["train"])
            notes.append(
                f"The model learns {column!r} less {scale.mean:.6g}, in units of {scale.deviation:.6g}: mean and "
                "standard deviation of train. Predictions, scores and exports have the data's scale."
            )
        rows = {split: len(splits[split]) for split in SPLITS}
        return TaskFacts(kind=self.kind, rows=rows, notes=tuple(notes), target_scale=scale)

    def model_settings(self, facts: TaskFacts) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def encode(self, rows: Mapping[str, Sequence[Any]], tokenizer: Any, facts: TaskFacts) -> dict[str, list[Any]]:
        encoded = super().encode(rows, tokenizer, facts)
        if "labels" in encoded and facts.target_scale is not None:
            encoded["reference"] = [repr(number) for number in self.answers(rows, facts)]
        return encoded

    def answers(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[Any]:
        numbers = [parse_number(value) for value in rows[self.plan.columns["label"]]]
        return numbers if facts.target_scale is not None else [float(np.float32(number)) for number in numbers]

    def _targets(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[Any]:
        numbers, scale = self.answers(rows, facts), facts.target_scale
        return numbers if scale is None else [scale.apply(number) for number in numbers]

    def loss(self, outputs: Any, batch: Mapping[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
        """Mean squared error over the batch's examples, in float32; ``label_smoothing`` has no effect."""
        from torch.nn.functional import mse_loss

        return mse_loss(outputs.logits.float().squeeze(-1), batch["labels"])

    def class_weights(self, labels: Sequence[Any], facts: TaskFacts) -> list[float] | None:
        return None

    def divergence(self, one: Any, other: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean squared difference of the two passes."""
        difference: Tensor = one.logits.float() - other.logits.float()
        return difference.square().mean()

    def predict(self, outputs: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        numbers: list[float] = outputs.logits.float().squeeze(-1).tolist()
        return numbers

    def combine(self, predictions: Sequence[Any], rows: Sequence[Mapping[str, Any]], facts: TaskFacts) -> list[Any]:
        scale = facts.target_scale
        return list(predictions) if scale is None else [scale.undo(number) for number in predictions]

    def references(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [float(row.get("reference", row["labels"])) for row in rows]

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        return {name: metric(predictions, references) for name, metric in REGRESSION_METRICS.items()}

    def readable(
        self, predictions: Sequence[Any], references: Sequence[Any], facts: TaskFacts
    ) -> tuple[list[Any], list[Any]]:
        return list(predictions), list(references)

    def classes_in(self, answers: Sequence[Any], facts: TaskFacts) -> None:
        return None

    def metric(self, name: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
        return REGRESSION_METRICS[name]

    def example_scores(self, name: str, predictions: Sequence[Any], references: Sequence[Any]) -> list[float] | None:
        if name != "mae":
            return None
        return [abs(given - true) for given, true in zip(predictions, references, strict=True)]

    def scale(self, name: str, value: float) -> float:
        """Errors have the unit of the numbers."""
        return abs(value) if name in ("rmse", "mae") else max(1.0, abs(value))

    def majority(self, references: Sequence[Any], n: int) -> list[Any]:
        """The mean of ``references``, ``n`` times."""
        return [float(np.mean(references))] * n
