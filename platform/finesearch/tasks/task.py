"""What every task answers, so that the floors above never ask which task it is.

A task is a set of pure functions between these stages:

    rows as read ──read──▶ TaskFacts ──model_settings──▶ the model's config
         ├──encode──▶ token rows ──collate──▶ batch ──model──▶ outputs ──loss──▶ one number to descend
         │                │                                       └──predict──▶ a prediction for each token row
         │                │                                       ┌───────────────────────────────────┘
         │                │                                       └──combine──▶ … for each example ──decide──▶ final
         │                └──references──▶ a reference for each example ─────────────score────────────────┘
         └──answers──▶ the same references, without a tokeniser

**Token rows hold all that comes later.** ``encode`` puts whatever scoring needs beside the token ids (class number,
gold spans, answer strings, the reference translation), since Arrow holds strings and lists as well as numbers. Workers
map the token file and never read the raw rows again; ``references`` and ``combine`` get token rows only.

**A token row is not always an example.** Classification makes one row an example. A long context in question answering
makes several: ``encode``, which sees a part of the split at a time, then adds a column ``window`` that is 0 in an
example's first row. ``predict`` answers for token rows, ``combine`` joins those answers, in the split's order, to one
prediction an example. As long as nothing else is said, the two are the same.

**Predictions and references are whatever the metric takes**, JSON-able: a class number, a list of tags, ``{"id",
"text"}``, a string. Only ``score`` looks inside. Tasks whose prediction is generated (translation, summaries, dialogue)
are of the class ``GenerationTask``, which says more: how the model writes, and what of it the rows' encoding needs.

**The loss composes over micro-batches.** ``loss`` is the mean over the batch's units and ``weight`` is the number of
those units: examples for classification, target tokens for token-level tasks. The loss of the global batch is
therefore ``sum(weight_i * loss_i) / sum(weight_i)`` over every micro-batch i of every worker, whatever their sizes. A
plain mean of the ``loss_i`` is the same only while all weights are equal, and the last batch of an epoch breaks that.
With weighted classes the mean is a weighted one, and ``weight`` the sum of the units' weights.

How the tasks to come fit:

    token classification  labels (t,) a row, -100 on special and continuation pieces; predict gives lists of tags,
                          combine spans; weight counts the real labels
    relation extraction   encode marks the two spans with tokens of the task's own; from there on it is classification
    question answering    several token rows an example; predict gives scored spans, combine the best one as text;
                          references are lists of strings
    translation, summary  labels are target ids and weight counts them; generated; references are strings
    dialogue              a conversation a row, labels only on the assistant's turns; from there on as translation
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from finesearch.tasks.encoding.padding import IGNORED, PAD_TO_MULTIPLE_OF
from finesearch.tasks.raw_splits import RawSplits

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from finesearch.plan import TaskPlan


class ModelShape(BaseModel):
    """What encoding has to know of a model that writes text; token ids. ``start_token_id`` is the decoder's first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    is_encoder_decoder: bool
    end_token_id: int
    start_token_id: int | None = None
    language_token_id: int | None = None


@dataclass(frozen=True, eq=False)
class SufficientStatistics:
    """A metric of a whole split by way of sums: ``counts`` (n, k) of each example, ``score`` of sums (r, k) to (r,)."""

    counts: np.ndarray
    score: Callable[[np.ndarray], np.ndarray]


class TaskFacts(BaseModel):
    """What a task learned by reading its rows; frozen, JSON-able, kept in every checkpoint.

    label_names: class number -> name, () for a task without classes.
    special_tokens: tokens that the task adds to the tokeniser, whose embeddings are trained whatever is frozen.
    rows: split -> number of rows.
    notes: what a reader of the report must know about the rows.
    shape: the model's, for tasks whose rows are encoded by it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    label_names: tuple[str, ...] = ()
    special_tokens: tuple[str, ...] = ()
    rows: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    shape: ModelShape | None = None

    @property
    def label_settings(self) -> dict[str, Any]:
        """The fields of a model's config that hold the classes: ``num_labels``, and the names both ways."""
        numbers = {name: number for number, name in enumerate(self.label_names)}
        return {"num_labels": len(numbers), "id2label": dict(enumerate(self.label_names)), "label2id": numbers}

    @property
    def encoding(self) -> dict[str, Any]:
        """The part that changes what ``encode`` returns; token files are keyed by it."""
        shape = {} if self.shape is None else {"shape": self.shape.model_dump()}
        return {
            "kind": self.kind,
            "label_names": list(self.label_names),
            "special_tokens": list(self.special_tokens),
            **shape,
        }


class UnencodableRow(Exception):  # noqa: N818 - its catcher knows the file and raises the DataError
    """A row that cannot be encoded: its number among the rows given, counted from 0, what is wrong, what to do."""

    def __init__(self, row: int, what: str, advice: str) -> None:
        super().__init__(row, what, advice)
        self.row, self.what, self.advice = row, what, advice


class Task(ABC):
    """How one kind of task reads, encodes, learns and scores. Stateless but for its plan."""

    kind: ClassVar[str]
    """The plan's ``task.kind``."""
    version: ClassVar[int]
    """Raised whenever ``encode`` returns something else for the same rows; part of the token files' key."""
    auto_class: ClassVar[str]
    """Name of the class that builds the model with its output layer: in ``transformers``, or of ours (see training)."""
    may_refuse_rows: ClassVar[bool] = False
    """Whether ``encode`` can raise ``UnencodableRow``: then every row is encoded once before a search starts."""

    def __init__(self, plan: TaskPlan) -> None:
        self.plan = plan

    @classmethod
    def auto_class_of(cls, config: Any) -> str:
        """``auto_class``, where it hangs on the model's config."""
        return cls.auto_class

    @property
    def encoding_options(self) -> dict[str, Any]:
        """Options of the plan, beside ``max_length``, that change what ``encode`` returns."""
        return {}

    @property
    def evaluation_batch_size(self) -> int | None:
        """Token rows that are scored at a time; None: the floor above decides."""
        return None

    def positions(self, is_encoder_decoder: bool) -> int:
        """Tokens that the model must take at once."""
        return self.plan.max_length

    @property
    def stratify_column(self) -> str | None:
        """The column whose shares every cut split keeps; None where no column says."""
        return None

    def strata(self, table: pa.Table) -> list[str] | None:
        """The class of each row of train, unchecked: cuts keep the shares of these. By ``stratify_column``."""
        by = self.stratify_column
        # As text: whatever type the column has, a cut can be made, and ``read`` says what is wrong with the type.
        return None if by is None else [str(value) for value in table.column(by).to_pylist()]

    @property
    @abstractmethod
    def identity_columns(self) -> tuple[str, ...]:
        """Columns whose equal values make two rows the same example."""

    @property
    def group_columns(self) -> tuple[str, ...]:
        """Columns whose equal values keep rows on one side of a cut: those of the same example, at least."""
        return self.identity_columns

    @abstractmethod
    def read(self, splits: RawSplits) -> TaskFacts:
        """Look at every row once.

        Raises:
            DataError: a row that the task cannot learn from or score, named by file and row.
        """

    @abstractmethod
    def model_settings(self, facts: TaskFacts) -> dict[str, Any]:
        """Fields of the model's config that the task fixes."""

    @abstractmethod
    def encode(self, rows: Mapping[str, Sequence[Any]], tokenizer: Any, facts: TaskFacts) -> dict[str, list[Any]]:
        """Token rows of some rows (column -> values, class names for numbers): ``input_ids`` (t,) each, not padded.

        Raises:
            UnencodableRow: only where ``may_refuse_rows`` says so.
        """

    @abstractmethod
    def answers(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[Any]:
        """The references of rows that were never tokenised, column -> values as for ``encode``: what baselines need."""

    @abstractmethod
    def collate(
        self, rows: Sequence[Mapping[str, Any]], tokenizer: Any, multiple: int = PAD_TO_MULTIPLE_OF
    ) -> dict[str, Tensor]:
        """One batch from token rows: int64 (B, T) padded to the longest, plus what ``loss`` reads.

        multiple: T is rounded up to one of it. On a CPU 1 is faster: nothing is gained by even widths, and texts of a
        dozen tokens would be a fifth padding.
        """

    def model_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What of a batch goes into the model's forward: all but the labels, whose loss is the task's own."""
        return {name: tensor for name, tensor in batch.items() if name != "labels"}

    @abstractmethod
    def loss(self, outputs: Any, batch: Mapping[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
        """Mean loss over the batch's units, a scalar in float32 with a gradient."""

    @abstractmethod
    def weight(self, batch: Mapping[str, Tensor]) -> float:
        """Weight of the units that ``loss`` is the mean over: their number if all count alike; see the note above."""

    def class_weights(self, labels: Sequence[Any], facts: TaskFacts) -> list[float] | None:
        """What a unit of each class counts for, so that all classes weigh the same; None for a task without classes.

        labels: the column ``labels`` of the training split's token rows. ``loss``, ``weight`` and ``divergence`` find
        the weights as ``class_weights`` (C,) in a batch of a trial that wants them.
        """
        return None

    def divergence(self, one: Any, other: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """How far the outputs of two passes over a batch disagree: mean over the units of ``loss``, a scalar.

        As it stands: the symmetric Kullback-Leibler divergence over the last axis of ``logits``; where labels stand at
        every position, those of -100 count nothing.
        """
        from finesearch.tasks.kl_divergence import symmetric_kl_divergence

        values, labels = symmetric_kl_divergence(one.logits, other.logits), batch["labels"]
        if values.ndim == 1:
            return values.mean()
        is_labelled = labels != IGNORED
        # Not the mean of torch, which is NaN where no position has a label.
        return values[is_labelled].sum() / is_labelled.sum().clamp(min=1)

    @abstractmethod
    def predict(self, outputs: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """One JSON-able prediction a token row of the batch."""

    def combine(self, predictions: Sequence[Any], rows: Sequence[Mapping[str, Any]], facts: TaskFacts) -> list[Any]:
        """One prediction an example from one a token row, both in the split's order."""
        return list(predictions)

    def calibrate(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        """What is chosen on validation, from combined predictions, and kept with the checkpoint: a threshold, say."""
        return {}

    def decide(self, predictions: Sequence[Any], decision: Mapping[str, float]) -> list[Any]:
        """Final predictions from combined ones, by what was chosen on validation; never chosen anew on test."""
        return list(predictions)

    def perfect_predictions(self, references: Sequence[Any]) -> list[Any]:
        """Predictions that are right everywhere."""
        return list(references)

    @abstractmethod
    def references(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """One reference an example, from token rows in the split's order; equal to ``answers`` of their source."""

    @abstractmethod
    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        """Every metric of the kind, from one prediction and one reference an example."""

    def metric(self, name: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
        """One metric of the kind alone: what is called a thousand times for an interval should compute no other."""
        return lambda predictions, references: self.score(predictions, references)[name]

    def example_scores(self, name: str, predictions: Sequence[Any], references: Sequence[Any]) -> list[float] | None:
        """One number an example whose mean is the metric; None where the metric is no mean over examples."""
        return None

    def statistics(
        self, name: str, predictions: Sequence[Any], references: Sequence[Any]
    ) -> SufficientStatistics | None:
        """What makes a thousand resamples cheap where the metric is computed from sums over examples; else None."""
        return None

    def scale(self, name: str, value: float) -> float:
        """How far one answer of one can move the metric, near ``value``: 1 for metrics from 0 to 1."""
        return 1.0

    def num_decisions(self, references: Sequence[Any]) -> int:
        """How many answers the metrics count, at least 1: a single one may come out otherwise on other hardware."""
        return max(1, len(references))

    @abstractmethod
    def majority(self, references: Sequence[Any], n: int) -> list[Any]:
        """``n`` predictions of the baseline that only looked at how often each answer stands in train."""
