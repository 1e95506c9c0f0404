"""The interface of every task; the layers above depend on it alone, never on a specific task.

A task is a set of pure functions between these stages:

    rows as read ──read──▶ TaskFacts ──model_settings──▶ the model's config
         ├──encode──▶ token rows ──collate──▶ batch ──model──▶ outputs ──loss──▶ a scalar to minimise
         │                │                                       └──predict──▶ a prediction for each token row
         │                │                                       ┌───────────────────────────────────┘
         │                │                                       └──combine──▶ … for each example ──decide──▶ final
         │                └──references──▶ a reference for each example ─────────────score────────────────┘
         └──answers──▶ the same references, without a tokenizer

**Token rows are complete.** ``encode`` stores whatever scoring needs beside the token ids (class index, gold spans,
answer strings, the reference translation), since Arrow stores strings and lists as well as numbers. Workers map the
token file and never read the raw rows again; ``references`` and ``combine`` get token rows only.

**A token row is not always an example.** Classification makes one row per example. A long context in question answering
makes several: ``encode``, which gets a part of the split at a time, then adds a column ``window`` that is 0 in an
example's first row. ``predict`` predicts for token rows, ``combine`` joins these predictions, in the split's order, to
one per example. By default, the two are the same.

**Predictions and references are whatever the metric takes**, JSON-serialisable: a class index, a list of tags, ``{"id",
"text"}``, a string. Only ``score`` interprets them. Tasks whose predictions are generated (translation, summaries,
dialogue) subclass ``GenerationTask``, which adds text generation and the model facts that encoding needs.

**The loss composes over micro-batches.** ``loss`` is the mean over the batch's units and ``weight`` is the number of
those units: examples for classification, target tokens for token-level tasks. The loss of the global batch is
therefore ``sum(weight_i * loss_i) / sum(weight_i)`` over every micro-batch i of every worker, whatever their sizes. A
plain mean of the ``loss_i`` is the same only while all weights are equal, and the last batch of an epoch breaks that.
With weighted classes the mean is a weighted one, and ``weight`` the sum of the units' weights.

How the tasks fit in:

    token classification  labels (t,) per row, -100 on special and continuation tokens; predict returns lists of tags,
                          combine spans; weight counts the labels other than -100
    relation extraction   encode marks the two spans with added special tokens; the rest is classification
    question answering    several token rows per example; predict returns scored spans, combine the best one as text;
                          references are lists of strings
    translation, summary  labels are target ids and weight counts them; generated; references are strings
    dialogue              one conversation per row, labels only on the assistant's turns; the rest is as in translation
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
from finesearch.tasks.row_groups import by_quartile, lengths
from finesearch.tasks.truncation import Truncation

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from finesearch.plan import TaskPlan


class ModelShape(BaseModel):
    """Model facts that encoding needs for text generation, such as token ids. ``start_token_id``: of the decoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    is_encoder_decoder: bool
    end_token_id: int
    start_token_id: int | None = None
    language_token_id: int | None = None


@dataclass(frozen=True, eq=False)
class SufficientStatistics:
    """A metric computed from sums over examples: ``counts`` (n, k) per example, ``score`` maps sums (r, k) to (r,)."""

    counts: np.ndarray
    score: Callable[[np.ndarray], np.ndarray]


class TargetScale(BaseModel):
    """Mean and standard deviation of the numbers that a model learns in units of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    deviation: float

    def apply(self, value: float) -> float:
        """From the data's scale to the model's."""
        return (value - self.mean) / self.deviation

    def undo(self, value: float) -> float:
        """From the model's scale to the data's."""
        return value * self.deviation + self.mean


class TaskFacts(BaseModel):
    """Facts that a task learned from its rows; frozen, JSON-serialisable, stored in every checkpoint.

    label_names: class index -> name, () for a task without classes.
    special_tokens: tokens that the task adds to the tokenizer; their embeddings always train.
    rows: split -> number of rows.
    notes: remarks about the rows for the report.
    shape: the model's, for tasks whose encoding depends on it.
    positive: the class that metrics of one class count.
    target_scale: of the numbers of train; None: the model learns them as they are, as in older versions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    label_names: tuple[str, ...] = ()
    special_tokens: tuple[str, ...] = ()
    rows: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    shape: ModelShape | None = None
    positive: str | None = None
    target_scale: TargetScale | None = None

    @property
    def label_settings(self) -> dict[str, Any]:
        """The config fields of the classes: ``num_labels``, ``id2label`` and ``label2id``."""
        numbers = {name: number for number, name in enumerate(self.label_names)}
        return {"num_labels": len(numbers), "id2label": dict(enumerate(self.label_names)), "label2id": numbers}

    @property
    def encoding(self) -> dict[str, Any]:
        """The facts that ``encode`` depends on; part of the token files' key."""
        shape = {} if self.shape is None else {"shape": self.shape.model_dump()}
        return {
            "kind": self.kind,
            "label_names": list(self.label_names),
            "special_tokens": list(self.special_tokens),
            **shape,
            **({} if self.target_scale is None else {"target_scale": self.target_scale.model_dump()}),
        }


class UnencodableRow(Exception):  # noqa: N818 - its catcher knows the file and raises the DataError
    """A row that cannot be encoded: its 0-based index among the given rows, what is wrong, what to do."""

    def __init__(self, row: int, what: str, advice: str) -> None:
        super().__init__(row, what, advice)
        self.row, self.what, self.advice = row, what, advice


class Task(ABC):
    """How one kind of task reads, encodes, trains and scores. Stateless except for its plan."""

    kind: ClassVar[str]
    """The plan's ``task.kind``."""
    version: ClassVar[int]
    """Increased whenever ``encode`` changes its result for the same rows; part of the token files' key."""
    auto_class: ClassVar[str]
    """Name of the class that builds the model with its head: in ``transformers``, or ours (see training)."""
    may_refuse_rows: ClassVar[bool] = False
    """Whether ``encode`` can raise ``UnencodableRow``: if so, every row is encoded once before a search starts."""

    def __init__(self, plan: TaskPlan) -> None:
        self.plan = plan

    def with_facts(self, facts: TaskFacts) -> Task:
        """The task as it scores rows with these facts; itself, unless a metric depends on them."""
        return self

    @property
    def registered_class(self) -> type[Task]:
        """Its class in tables that hold something for each task."""
        return type(self)

    @classmethod
    def auto_class_of(cls, config: Any) -> str:
        """``auto_class``, if it depends on the model's config."""
        return cls.auto_class

    @property
    def encoding_options(self) -> dict[str, Any]:
        """Options of the plan, besides ``max_length``, that ``encode`` depends on."""
        return {}

    @property
    def evaluation_batch_size(self) -> int | None:
        """Token rows per evaluation batch; None: the training layer decides."""
        return None

    def positions(self, is_encoder_decoder: bool) -> int:
        """Number of tokens in the task's longest model input."""
        return self.plan.max_length

    @property
    def stratify_column(self) -> str | None:
        """The column for stratified splits; None if there is none."""
        return None

    def strata(self, table: pa.Table) -> list[str] | None:
        """The stratum of each row of train, not validated, from ``stratify_column``: splits keep their proportions."""
        by = self.stratify_column
        # As text, so that a column of any type can be split; ``read`` reports wrong types.
        return None if by is None else [str(value) for value in table.column(by).to_pylist()]

    @property
    @abstractmethod
    def identity_columns(self) -> tuple[str, ...]:
        """Columns that identify an example: rows with equal values are the same example."""

    @property
    def group_columns(self) -> tuple[str, ...]:
        """Columns whose equal values keep rows in the same split: at least those of the same example."""
        return self.identity_columns

    @abstractmethod
    def read(self, splits: RawSplits) -> TaskFacts:
        """Validate every row once, and learn the facts.

        Raises:
            DataError: a row that the task cannot train on or score, by file and row.
        """

    @abstractmethod
    def model_settings(self, facts: TaskFacts) -> dict[str, Any]:
        """Fields of the model's config that the task sets."""

    @abstractmethod
    def encode(self, rows: Mapping[str, Sequence[Any]], tokenizer: Any, facts: TaskFacts) -> dict[str, list[Any]]:
        """Token rows of some rows (column -> values, class names for numbers): ``input_ids`` (t,) each, not padded.

        Raises:
            UnencodableRow: only if ``may_refuse_rows``.
        """

    def truncations(self, splits: RawSplits, tokenizer: Any, facts: TaskFacts) -> tuple[Truncation, ...]:
        """What of the texts is cut; none in tasks that read long texts in windows."""
        return ()

    @abstractmethod
    def answers(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[Any]:
        """References of rows without tokenizing them, column -> values as for ``encode``; used by baselines."""

    @abstractmethod
    def collate(
        self, rows: Sequence[Mapping[str, Any]], tokenizer: Any, multiple: int = PAD_TO_MULTIPLE_OF
    ) -> dict[str, Tensor]:
        """One batch from token rows: int64 (B, T) padded to the longest, plus what ``loss`` reads.

        multiple: T is rounded up to a multiple of it. On a CPU, 1 is faster: even widths gain nothing, and texts of a
        dozen tokens would be one fifth padding.
        """

    def model_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch's inputs of the model's forward: all but the labels, since the task computes the loss itself."""
        return {name: tensor for name, tensor in batch.items() if name != "labels"}

    @abstractmethod
    def loss(self, outputs: Any, batch: Mapping[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
        """Mean loss over the batch's units, a scalar in float32 with a gradient."""

    @abstractmethod
    def weight(self, batch: Mapping[str, Tensor]) -> float:
        """Total weight of the units in ``loss``'s mean: their number if all weigh the same; see the note above."""

    def class_weights(self, labels: Sequence[Any], facts: TaskFacts) -> list[float] | None:
        """Class weights that balance the classes; None for a task without classes.

        labels: the column ``labels`` of the training split's token rows. ``loss``, ``weight`` and ``divergence`` find
        the weights as ``class_weights`` (C,) in the batch, if the trial uses them.
        """
        return None

    def divergence(self, one: Any, other: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Divergence between the outputs of two passes over a batch (R-Drop): mean over ``loss``'s units, a scalar.

        Default: the symmetric Kullback-Leibler divergence over the last axis of ``logits``; with labels at every
        position, those of -100 are ignored.
        """
        from finesearch.tasks.kl_divergence import symmetric_kl_divergence

        values, labels = symmetric_kl_divergence(one.logits, other.logits), batch["labels"]
        if values.ndim == 1:
            return values.mean()
        is_labelled = labels != IGNORED
        # Not torch's mean, which is NaN if no position has a label.
        return values[is_labelled].sum() / is_labelled.sum().clamp(min=1)

    @abstractmethod
    def predict(self, outputs: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """One JSON-serialisable prediction per token row of the batch."""

    def combine(self, predictions: Sequence[Any], rows: Sequence[Mapping[str, Any]], facts: TaskFacts) -> list[Any]:
        """One prediction per example from one per token row, both in the split's order."""
        return list(predictions)

    def calibrate(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        """The decision chosen on validation from combined predictions, stored in the checkpoint: a threshold, say."""
        return {}

    def decide(self, predictions: Sequence[Any], decision: Mapping[str, float]) -> list[Any]:
        """Final predictions from combined ones, by the decision chosen on validation; never chosen on test."""
        return list(predictions)

    def perfect_predictions(self, references: Sequence[Any]) -> list[Any]:
        """Predictions that are all correct."""
        return list(references)

    @abstractmethod
    def references(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """One reference per example, from token rows in the split's order; equal to ``answers`` of the source rows."""

    @abstractmethod
    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        """All metrics of the task, from one prediction and one reference per example."""

    def readable(
        self, predictions: Sequence[Any], references: Sequence[Any], facts: TaskFacts
    ) -> tuple[list[Any], list[Any]]:
        """Predictions and references as a metric of the user's own takes them: names and texts, no numbers of ours."""
        return list(predictions), list(references)

    def classes_in(self, answers: Sequence[Any], facts: TaskFacts) -> list[list[tuple[str, Any]]] | None:
        """What each answer (prediction or reference) says of which class, as (class, what); None without classes.

        A class is right in an answer where both prediction and reference say the same of it.
        """
        return None

    def groups(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        """Properties by which rows are told apart in reports: name of the property -> the group of each row."""
        columns = [rows[name] for name in self.identity_columns if name in rows]
        if not columns:
            return {}
        unit = "characters" if all(isinstance(value, str) for column in columns for value in column[:1]) else "items"
        return {f"length of the input in {unit}": by_quartile(lengths(columns))}

    def metric(self, name: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
        """A single metric of the task: bootstrap intervals call it a thousand times, without computing the others."""
        return lambda predictions, references: self.score(predictions, references)[name]

    def example_scores(self, name: str, predictions: Sequence[Any], references: Sequence[Any]) -> list[float] | None:
        """One number per example whose mean is the metric; None if the metric is not a mean over examples."""
        return None

    def statistics(
        self, name: str, predictions: Sequence[Any], references: Sequence[Any]
    ) -> SufficientStatistics | None:
        """Sufficient statistics for a fast bootstrap, if the metric is computed from sums over examples; else None."""
        return None

    def scale(self, name: str, value: float) -> float:
        """How far the only answer of one can change the metric, near ``value``: 1 for metrics from 0 to 1."""
        return 1.0

    def num_decisions(self, references: Sequence[Any]) -> int:
        """Number of answers that the metrics count, at least 1: a single one may differ on other hardware."""
        return max(1, len(references))

    @abstractmethod
    def majority(self, references: Sequence[Any], n: int) -> list[Any]:
        """``n`` predictions of the majority baseline, which only knows the answers' frequencies in train."""
