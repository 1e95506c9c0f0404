"""Multi-label classification: any number of classes per text, decided independently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finesearch.errors import DataError
from finesearch.tasks.classification.label_column import label_name, ordered_names
from finesearch.tasks.classification.label_list_column import read_label_lists, refuse_unknown_names
from finesearch.tasks.classification.multi_label_metrics import MULTI_LABEL_METRICS
from finesearch.tasks.classification.text_classification import TextClassification
from finesearch.tasks.encoding.label_variants import similar_label_notes
from finesearch.tasks.most_frequent import most_frequent
from finesearch.tasks.raw_splits import SPLITS, RawSplits
from finesearch.tasks.task import TaskFacts

if TYPE_CHECKING:
    from torch import Tensor


class MultiLabelClassification(TextClassification):
    """The label column holds a list of names. Predictions and references are sorted lists of class numbers.

    Token rows hold 0 or 1 for every class, int (C,).
    """

    label_type: ClassVar[type] = np.float32

    @property
    def stratify_column(self) -> str | None:
        """None: nearly every combination of labels is rare."""
        return None

    def read(self, splits: RawSplits) -> TaskFacts:
        """Check texts and lists of every split; the classes are those of train.

        Raises:
            DataError: a text or list that is missing or of the wrong type, a name that train lacks, fewer than two
                classes.
        """
        column = self.plan.columns["label"]
        notes = self._read_texts(splits)
        lists = {
            split: read_label_lists(splits.table(split).column(column), splits[split].features[column], column, origin)
            for split, origin in splits.origins.items()
        }
        shown = ordered_names({name for names in lists["train"] for name in names})
        declared = getattr(getattr(splits.train.features[column], "feature", None), "names", None)
        if not shown or len(declared or shown) < 2:
            what = f"names one class only, {shown[0]!r}" if shown else "names no class in any row"
            raise DataError(
                f"{splits.origins['train']}: the label column {column!r} {what}, expected at least two classes.\n"
                "  Point `columns.label` at another column, or add other rows."
            )
        for split in ("validation", "test"):
            refuse_unknown_names(lists[split], shown, column, splits.origins[split], split)
        notes += similar_label_notes(Counter(name for rows in lists.values() for row in rows for name in row), column)
        notes += _unlabelled_notes(lists)
        rows = {split: len(splits[split]) for split in SPLITS}
        return TaskFacts(kind=self.kind, label_names=tuple(declared or shown), rows=rows, notes=tuple(notes))

    def model_settings(self, facts: TaskFacts) -> dict[str, Any]:
        return super().model_settings(facts) | {"problem_type": "multi_label_classification"}

    def answers(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[Any]:
        number = {name: i for i, name in enumerate(facts.label_names)}
        return [sorted(number[label_name(value)] for value in values) for values in rows[self.plan.columns["label"]]]

    def _targets(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[Any]:
        return [[int(i in right) for i in range(len(facts.label_names))] for right in self.answers(rows, facts)]

    def loss(self, outputs: Any, batch: Mapping[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
        """Binary cross-entropy, mean over examples and classes, in float32; ``label_smoothing`` has no effect."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        logits, weights = outputs.logits.float(), batch.get("class_weights")
        return binary_cross_entropy_with_logits(logits, batch["labels"], pos_weight=weights)

    def weight(self, batch: Mapping[str, Tensor]) -> float:
        """Number of examples, also with balanced classes."""
        return int(batch["labels"].shape[0])

    def class_weights(self, labels: Sequence[Any], facts: TaskFacts) -> list[float]:
        """Weight of a positive label per class: examples without it over examples with it; 1 if there are none."""
        with_it = np.sum(np.asarray(labels), axis=0)
        return [float((len(labels) - count) / count) if count else 1.0 for count in with_it]

    def divergence(self, one: Any, other: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Symmetric Kullback-Leibler divergence of the binary predictions, mean over examples and classes."""
        p, q = one.logits.float(), other.logits.float()
        mean: Tensor = ((p.sigmoid() - q.sigmoid()) * (p - q)).mean()
        return mean / 2

    def predict(self, outputs: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """The classes whose probability is above 0.5."""
        return [np.flatnonzero(row).tolist() for row in (outputs.logits > 0).cpu().numpy()]

    def references(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [np.flatnonzero(row["labels"]).tolist() for row in rows]

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        return {name: metric(predictions, references) for name, metric in MULTI_LABEL_METRICS.items()}

    def readable(
        self, predictions: Sequence[Any], references: Sequence[Any], facts: TaskFacts
    ) -> tuple[list[Any], list[Any]]:
        names = facts.label_names
        given, true = ([[names[n] for n in numbers] for numbers in rows] for rows in (predictions, references))
        return given, true

    def classes_in(self, answers: Sequence[Any], facts: TaskFacts) -> list[list[tuple[str, Any]]]:
        return [[(facts.label_names[number], None) for number in numbers] for numbers in answers]

    def metric(self, name: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
        return MULTI_LABEL_METRICS[name]

    def example_scores(self, name: str, predictions: Sequence[Any], references: Sequence[Any]) -> list[float] | None:
        if name != "subset_accuracy":
            return None
        return [float(given == true) for given, true in zip(predictions, references, strict=True)]

    def majority(self, references: Sequence[Any], n: int) -> list[Any]:
        """The most frequent set of classes in ``references``, the lowest among equals, ``n`` times."""
        return [list(most_frequent(tuple(right) for right in references))] * n


def _unlabelled_notes(lists: Mapping[str, Sequence[Sequence[str]]]) -> list[str]:
    """How many rows of each split have no label."""
    notes = []
    for split, rows in lists.items():
        empty = sum(not names for names in rows)
        if empty == len(rows):
            notes.append(f"None of the {empty} {split} rows has a label: F1 is 0 there, whatever is predicted.")
        elif empty:
            notes.append(f"{empty} of the {len(rows)} {split} rows have no label: all classes are 0 there.")
    return notes
