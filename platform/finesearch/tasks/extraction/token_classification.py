"""Token classification: named entities, as BIO tags of tokens or as character spans of a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finesearch.errors import DataError
from finesearch.tasks.encoding.bio_tags import Span, bio_tag_names, spans_to_tags, tags_to_spans
from finesearch.tasks.encoding.label_variants import similar_label_notes
from finesearch.tasks.encoding.padding import IGNORED, PAD_TO_MULTIPLE_OF, pad_labels, pad_rows
from finesearch.tasks.extraction.entity_metrics import METRICS, score_entities
from finesearch.tasks.extraction.entity_rows import check_rows, refuse_unknown_labels, spans_of_rows, word_spans_of_rows
from finesearch.tasks.extraction.word_alignment import encode_windows
from finesearch.tasks.raw_splits import SPLITS, RawSplits
from finesearch.tasks.task import Task, TaskFacts

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor


class TokenClassification(Task):
    """Columns: ``tokens`` and ``tags``, or ``text`` and ``spans``. Predictions and references are lists of spans.

    The first token of each word carries its tag. A text longer than ``max_length`` becomes several token rows; each
    word is trained and predicted in only one of them, the one in which it has most context.

    Token row: ``input_ids`` (t,), ``owned`` (t,) 1 at the words predicted in this row, ``labels`` (t,) tag index or
    -100, ``units`` ``starts`` ``ends`` (w,) of the owned words, ``window`` 0 for an example's first row, ``reference``
    the true spans as JSON, in the first row.
    """

    kind: ClassVar[str] = "token-classification"
    version: ClassVar[int] = 1
    auto_class: ClassVar[str] = "AutoModelForTokenClassification"

    @property
    def stratify_column(self) -> str | None:
        return self.plan.columns.get("tags") or self.plan.columns.get("spans")

    def strata(self, table: pa.Table) -> list[str] | None:
        """Each row's rarest tag (or span label), so that train keeps all of them when splits are taken from it."""
        values = [_labels(value) for value in table.column(self.stratify_column).to_pylist()]
        rows_with = Counter(label for labels in values for label in labels)
        return [min(labels, key=lambda label: (rows_with[label], label), default="") for labels in values]

    @property
    def identity_columns(self) -> tuple[str, ...]:
        return (self.plan.columns.get("text") or self.plan.columns["tokens"],)

    def read(self, splits: RawSplits) -> TaskFacts:
        """Check every row; the tags are those of the entities in train.

        Raises:
            DataError: see ``check_rows``; an entity label that train lacks, or no entity in train.
        """
        columns = self.plan.columns
        spans = {split: check_rows(splits, split, columns) for split in SPLITS}
        labels = sorted({str(label) for found in spans["train"] for _, _, label in found})
        if not labels:
            raise DataError(
                f"{splits.origins['train']}: no train row has an entity in {self.stratify_column!r}, expected some.\n"
                "  Point `columns` at the column with the entities, or add rows that have some."
            )
        shown = Counter(str(label) for found in spans.values() for row in found for _, _, label in row)
        notes = similar_label_notes(shown, str(self.stratify_column))
        for split in SPLITS:
            refuse_unknown_labels(spans[split], labels, splits.origins[split], split)
            if "text" in columns:
                words = word_spans_of_rows(splits.plain_rows(split), columns)
                off = sum(spans_to_tags(w.units, s)[1] for w, s in zip(words, spans[split], strict=True))
                if off:
                    total = sum(map(len, spans[split]))
                    notes.append(
                        f"{off} of the {total} {split} spans begin or end inside a word: learned by the words that "
                        "they touch, and never predicted exactly."
                    )
        rows = {split: len(splits[split]) for split in SPLITS}
        return TaskFacts(kind=self.kind, label_names=bio_tag_names(labels), rows=rows, notes=tuple(notes))

    def model_settings(self, facts: TaskFacts) -> dict[str, Any]:
        """``num_labels``, and the mappings between tags and indices."""
        return facts.label_settings

    def encode(self, rows: Mapping[str, Sequence[Any]], tokenizer: Any, facts: TaskFacts) -> dict[str, list[Any]]:
        """See the class; rows without tags or spans, as in prediction, get no ``labels`` and no ``reference``."""
        words = word_spans_of_rows(rows, self.plan.columns)
        encoded, example = encode_windows(words, tokenizer, self.plan.max_length)
        if self.stratify_column in rows:
            spans = spans_of_rows(rows, self.plan.columns)
            number = {name: i for i, name in enumerate(facts.label_names)}
            tags = [spans_to_tags(w.units, s)[0] for w, s in zip(words, spans, strict=True)]
            encoded["labels"] = [
                _labelled(owned, [number[tags[at][unit]] for unit in units])
                for owned, units, at in zip(encoded["owned"], encoded["units"], example, strict=True)
            ]
            encoded["reference"] = [
                "" if window else _json(spans[at]) for window, at in zip(encoded["window"], example, strict=True)
            ]
        return encoded

    def answers(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[list[Span]]:
        return spans_of_rows(rows, self.plan.columns)

    def collate(
        self, rows: Sequence[Mapping[str, Any]], tokenizer: Any, multiple: int = PAD_TO_MULTIPLE_OF
    ) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask``, ``owned`` and, if any, ``labels``: int64 (B, T)."""
        batch = pad_rows(rows, tokenizer, limit=self.plan.max_length, multiple=multiple)
        mask = batch["attention_mask"]
        batch["owned"] = pad_labels(rows, "owned", mask, 0)
        if "labels" in rows[0]:
            batch["labels"] = pad_labels(rows, "labels", mask, IGNORED)
        return batch

    def model_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in batch.items() if name not in ("labels", "owned")}

    def loss(self, outputs: Any, batch: Mapping[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy, mean over the batch's tagged words, in float32; 0 where the batch has none."""
        from torch.nn.functional import cross_entropy

        logits, labels = outputs.logits.float().flatten(0, 1), batch["labels"].flatten()
        # Not torch's mean, which is NaN without tagged words.
        total = cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing)
        return total / max(1, self.weight(batch))

    def weight(self, batch: Mapping[str, Tensor]) -> int:
        """Number of tagged words."""
        return int((batch["labels"] != IGNORED).sum())

    def predict(self, outputs: Any, batch: Mapping[str, Tensor]) -> list[list[int]]:
        """The most likely tag of each owned word of each token row."""
        classes = outputs.logits.argmax(dim=-1)
        return [row[owned].tolist() for row, owned in zip(classes, batch["owned"].bool(), strict=True)]

    def combine(
        self, predictions: Sequence[list[int]], rows: Sequence[Mapping[str, Any]], facts: TaskFacts
    ) -> list[list[Span]]:
        """The spans of each example, as ``conlleval`` reads its tags; a word without its own token is ``O``."""
        found: list[dict[int, tuple[str, int, int]]] = []
        for classes, row in zip(predictions, rows, strict=True):
            if row["window"] == 0:
                found.append({})
            words = zip(row["units"], classes, row["starts"], row["ends"], strict=True)
            found[-1] |= {int(unit): (facts.label_names[c], int(s), int(e)) for unit, c, s, e in words}
        return [_spans(words) for words in found]

    def references(self, rows: Sequence[Mapping[str, Any]]) -> list[list[Span]]:
        import json

        return [json.loads(row["reference"]) for row in rows if row["window"] == 0]

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        return score_entities(predictions, references)

    def classes_in(self, answers: Sequence[Any], facts: TaskFacts) -> list[list[tuple[str, Any]]]:
        return [[(str(label), (start, end)) for start, end, label in spans] for spans in answers]

    def metric(self, name: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
        return METRICS[name]

    def num_decisions(self, references: Sequence[Any]) -> int:
        """Half the number of entities: one differing prediction changes F1 by up to 2 / entities."""
        return max(1, sum(map(len, references)) // 2)

    def majority(self, references: Sequence[Any], n: int) -> list[list[Span]]:
        """No entities: ``O`` is the most frequent tag."""
        return [[] for _ in range(n)]


def _spans(words: Mapping[int, tuple[str, int, int]]) -> list[Span]:
    """Spans from unit -> (tag, start, end); a missing unit counts as ``O``."""
    last = max(words, default=-1)
    tags = [words[unit][0] if unit in words else "O" for unit in range(last + 1)]
    return [[words[int(s)][1], words[int(e) - 1][2], label] for s, e, label in tags_to_spans(tags)]


def _labelled(owned: Sequence[int], numbers: Sequence[int]) -> list[int]:
    labels = np.full(len(owned), IGNORED)
    labels[np.flatnonzero(owned)] = numbers
    return list(labels.tolist())


def _labels(value: Any) -> set[str]:
    """Labels in a row's list of tags or spans, which has not been validated yet."""
    if not isinstance(value, list):
        return {str(value)}
    return {str(item.get("label") if isinstance(item, dict) else item) for item in value}


def _json(spans: list[Span]) -> str:
    import json

    return json.dumps(spans, ensure_ascii=False)
