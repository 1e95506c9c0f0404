"""Text classification: one class for a text or a pair of texts (sentence pairs)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finesearch.errors import DataError
from finesearch.plan.sections.task_kinds import ONE_CLASS_METRICS, PROBABILITY_METRICS
from finesearch.tasks.classification.class_scores.one_class_metrics import (
    ONE_CLASS_SCORES,
    one_class_counts,
    one_class_score,
)
from finesearch.tasks.classification.class_scores.positive_class import choose_positive
from finesearch.tasks.classification.class_scores.probability_metrics import log_losses, probability_score
from finesearch.tasks.classification.classification_metrics import CLASSIFICATION_METRICS, classification_scores
from finesearch.tasks.classification.label_column import label_name, ordered_names, read_labels, refuse_unknown
from finesearch.tasks.classification.single_label import SingleLabel
from finesearch.tasks.encoding.array_columns import table
from finesearch.tasks.encoding.label_variants import similar_label_notes
from finesearch.tasks.encoding.padding import PAD_TO_MULTIPLE_OF, pad_rows
from finesearch.tasks.encoding.text_columns import count_blank, read_texts
from finesearch.tasks.most_frequent import most_frequent
from finesearch.tasks.raw_splits import SPLITS, Origin, RawSplits
from finesearch.tasks.task import SufficientStatistics, TaskFacts
from finesearch.tasks.truncation import Truncation, count_truncations

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

# From this many rows on, more classes than half of the rows means that the plan's label column is the wrong one.
SUSPICIOUS_ROWS = 50


class TextClassification(SingleLabel):
    """Columns: ``text``, ``label`` and, for pairs, ``text_pair``. Predictions and references are class numbers.

    Predictions are rows of probabilities instead, one a class, if the plan's metric needs them.
    """

    kind: ClassVar[str] = "text-classification"
    version: ClassVar[int] = 1
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    label_type: ClassVar[type] = np.int64
    """Type of the tensor ``labels`` in a batch."""
    facts: TaskFacts | None = None
    """Those that the metrics depend on; see ``with_facts``."""

    @property
    def stratify_column(self) -> str | None:
        return self.plan.columns["label"]

    @property
    def identity_columns(self) -> tuple[str, ...]:
        return tuple(self.plan.columns[role] for role in ("text", "text_pair") if role in self.plan.columns)

    def read(self, splits: RawSplits) -> TaskFacts:
        """Check texts and labels of every split; the classes are those of train.

        Raises:
            DataError: a text or label that is missing or of the wrong type, a label that train lacks, a single class.
        """
        label = self.plan.columns["label"]
        notes = self._read_texts(splits)
        labels: dict[str, pa.ChunkedArray] = {}
        for split in SPLITS:
            column, feature = splits.table(split).column(label), splits[split].features[label]
            labels[split] = read_labels(column, feature, label, splits.origins[split])
        shown = ordered_names(set(labels["train"].unique().to_pylist()))
        self._refuse_odd_classes(shown, len(splits.train), splits.origins["train"])
        for split in ("validation", "test"):
            refuse_unknown(labels[split], shown, label, splits.origins[split], split)
        # A declared ClassLabel keeps its numbering and its unused classes, so that ids agree with the source.
        declared = getattr(splits.train.features[label], "names", None)
        names = tuple(declared) if declared else shown
        notes += similar_label_notes(Counter(value for split in SPLITS for value in labels[split].to_pylist()), label)
        rows = {split: len(splits[split]) for split in SPLITS}
        positive, found = choose_positive(self.plan, names, labels, splits.origins)
        notes += found
        return TaskFacts(kind=self.kind, label_names=names, rows=rows, notes=tuple(notes), positive=positive)

    def _read_texts(self, splits: RawSplits) -> list[str]:
        """Validate every text; returns notes for the report."""
        notes: list[str] = []
        for split in SPLITS:
            table, origin = splits.table(split), splits.origins[split]
            for name in self.identity_columns:
                blank = count_blank(read_texts(table.column(name), name, origin))
                if blank:
                    notes.append(f"{blank} of {len(table)} {split} rows have an empty {name!r}; they are kept.")
        return notes

    def model_settings(self, facts: TaskFacts) -> dict[str, Any]:
        """``num_labels``, ``id2label``, ``label2id``, and the loss that ``transformers`` would choose itself."""
        return {**facts.label_settings, "problem_type": "single_label_classification"}

    def encode(self, rows: Mapping[str, Sequence[Any]], tokenizer: Any, facts: TaskFacts) -> dict[str, list[Any]]:
        """``input_ids`` and, if the tokenizer has them, ``token_type_ids``: (t,) each, t <= max_length; ``labels``.

        Rows without a label column, as in prediction, get no ``labels``.
        """
        texts = [list(rows[name]) for name in self.identity_columns]
        tokens = tokenizer(*texts, truncation=True, max_length=self.plan.max_length, return_attention_mask=False)
        encoded = {name: list(tokens[name]) for name in ("input_ids", "token_type_ids") if name in tokens}
        if self.plan.columns["label"] in rows:
            encoded["labels"] = self._targets(rows, facts)
        return encoded

    def truncations(self, splits: RawSplits, tokenizer: Any, facts: TaskFacts) -> tuple[Truncation, ...]:
        def lengths(rows: Mapping[str, Sequence[Any]]) -> list[int]:
            texts = [list(rows[name]) for name in self.identity_columns]
            # verbose=False: the tokenizer need not warn of what is counted here.
            return [len(ids) for ids in tokenizer(*texts, return_attention_mask=False, verbose=False)["input_ids"]]

        return count_truncations(splits, self.plan.max_length, lengths)

    def _targets(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[Any]:
        """The values of ``labels`` in token rows."""
        return self.answers(rows, facts)

    def answers(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[Any]:
        number = {name: i for i, name in enumerate(facts.label_names)}
        return [number[label_name(value)] for value in rows[self.plan.columns["label"]]]

    def collate(
        self, rows: Sequence[Mapping[str, Any]], tokenizer: Any, multiple: int = PAD_TO_MULTIPLE_OF
    ) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask``[, ``token_type_ids``] int64 (B, T); ``labels`` int64 (B,) if any."""
        import torch

        batch = pad_rows(rows, tokenizer, limit=self.plan.max_length, multiple=multiple)
        if "labels" in rows[0]:
            batch["labels"] = torch.from_numpy(table(rows, "labels", self.label_type))
        return batch

    def references(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [int(row["labels"]) for row in rows]

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        """Metrics of class numbers; of one class if the facts name one; of probabilities if they are given."""
        scores = classification_scores(self._classes(predictions), references)
        names: tuple[str, ...] = ONE_CLASS_METRICS if self._positive is not None else ()
        names += PROBABILITY_METRICS if self.gives_probabilities else ()
        return scores | {name: self.metric(name)(predictions, references) for name in names}

    def metric(self, name: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
        positive = self._positive
        if name in PROBABILITY_METRICS:
            return lambda predictions, references: probability_score(name, predictions, references, positive)
        if name in ONE_CLASS_METRICS:
            assert positive is not None, "with_facts comes before scoring"
            return lambda predictions, references: one_class_score(
                name, self._classes(predictions), references, positive
            )
        return lambda predictions, references: CLASSIFICATION_METRICS[name](self._classes(predictions), references)

    def example_scores(self, name: str, predictions: Sequence[Any], references: Sequence[Any]) -> list[float] | None:
        if name == "log_loss":
            return log_losses(predictions, references)
        if name != "accuracy":
            return None
        return [float(given == true) for given, true in zip(self._classes(predictions), references, strict=True)]

    def statistics(
        self, name: str, predictions: Sequence[Any], references: Sequence[Any]
    ) -> SufficientStatistics | None:
        if name not in ONE_CLASS_METRICS or self._positive is None:
            return None
        counts = one_class_counts(self._classes(predictions), references, self._positive)
        return SufficientStatistics(counts, ONE_CLASS_SCORES[name])

    def scale(self, name: str, value: float) -> float:
        return max(1.0, value) if name == "log_loss" else 1.0

    def majority(self, references: Sequence[Any], n: int) -> list[Any]:
        """The most frequent class in ``references``, the lowest index among equals; or their shares; ``n`` times."""
        if self.gives_probabilities:
            shares: list[float] = (np.bincount(references, minlength=self._num_classes) / len(references)).tolist()
            return [shares] * n
        return [most_frequent(references)] * n

    def perfect_predictions(self, references: Sequence[Any]) -> list[Any]:
        if not self.gives_probabilities:
            return list(references)
        rows: list[Any] = np.eye(self._num_classes)[np.asarray(references)].tolist()
        return rows

    def predict(self, outputs: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """The most likely class of each example, or the probabilities of all (C,)."""
        if not self.gives_probabilities:
            return super().predict(outputs, batch)
        rows: list[Any] = outputs.logits.double().softmax(dim=-1).tolist()
        return rows

    def readable(
        self, predictions: Sequence[Any], references: Sequence[Any], facts: TaskFacts
    ) -> tuple[list[Any], list[Any]]:
        names = facts.label_names
        return [names[number] for number in self._classes(predictions)], [names[number] for number in references]

    def classes_in(self, answers: Sequence[Any], facts: TaskFacts) -> list[list[tuple[str, Any]]] | None:
        names = facts.label_names
        return [[(names[int(np.argmax(each)) if isinstance(each, list) else each], None)] for each in answers]

    def with_facts(self, facts: TaskFacts) -> TextClassification:
        known = copy(self)
        known.facts = facts
        return known

    @property
    def gives_probabilities(self) -> bool:
        """Whether predictions are probabilities."""
        return self.plan.metric in PROBABILITY_METRICS

    @property
    def _num_classes(self) -> int:
        assert self.facts is not None, "with_facts comes before scoring"
        return len(self.facts.label_names)

    @property
    def _positive(self) -> int | None:
        """The number of the class that metrics of one class count."""
        if self.facts is None or self.facts.positive is None:
            return None
        return self.facts.label_names.index(self.facts.positive)

    def _classes(self, predictions: Sequence[Any]) -> Sequence[int]:
        if not self.gives_probabilities:
            return predictions
        classes: list[int] = np.argmax(np.asarray(predictions), axis=1).tolist()
        return classes

    def _refuse_odd_classes(self, names: tuple[str, ...], rows: int, origin: Origin) -> None:
        column = self.plan.columns["label"]
        if len(names) < 2:
            raise DataError(
                f"{origin}: every one of the {rows} train rows has the label {names[0]!r} in column {column!r},"
                " expected at least two classes.\n  Point `columns.label` at another column, or add other rows."
            )
        if rows >= SUSPICIOUS_ROWS and len(names) > rows // 2:
            raise DataError(
                f"{origin}: the label column {column!r} has {len(names)} different values in {rows} train rows,"
                f" expected a few classes with many rows each (first values: {', '.join(map(repr, names[:3]))}).\n"
                "  Point `columns.label` at the column with the classes."
            )
