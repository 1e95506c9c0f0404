"""Relation extraction: how the head and the tail, two spans of one text, are related."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finesearch.errors import DataError
from finesearch.tasks.classification.entity_markers import (
    HEAD,
    TAIL,
    insert_markers,
    marker_names,
    opening_marker,
    window_around,
)
from finesearch.tasks.classification.label_column import label_name, ordered_names, read_labels, refuse_unknown
from finesearch.tasks.classification.relation_metrics import METRICS, micro_f1_of_sums
from finesearch.tasks.classification.single_label import SingleLabel
from finesearch.tasks.encoding.array_columns import table
from finesearch.tasks.encoding.label_variants import similar_label_notes
from finesearch.tasks.encoding.list_columns import raise_row_error, read_span, require_lists
from finesearch.tasks.encoding.padding import PAD_TO_MULTIPLE_OF, pad_rows
from finesearch.tasks.encoding.sliding_windows import special_token_affixes
from finesearch.tasks.encoding.text_columns import read_texts
from finesearch.tasks.most_frequent import most_frequent
from finesearch.tasks.raw_splits import SPLITS, RawSplits
from finesearch.tasks.task import SufficientStatistics, TaskFacts, UnencodableRow
from finesearch.tasks.truncation import Truncation, count_truncations

if TYPE_CHECKING:
    from torch import Tensor

NO_RELATION = "no_relation"


class RelationExtraction(SingleLabel):
    """Columns: ``tokens`` or ``text``, ``head`` and ``tail`` as [start, end) in them, ``relation``; optionally types.

    Predictions and references are names of relations. Token row: ``input_ids`` (t,) with the markers, ``markers`` (2,)
    the positions of the two opening markers, ``labels`` the relation's index, ``relation`` its name.
    """

    kind: ClassVar[str] = "relation-extraction"
    version: ClassVar[int] = 1
    auto_class: ClassVar[str] = "AutoModelForRelationExtraction"
    may_refuse_rows: ClassVar[bool] = True

    @property
    def stratify_column(self) -> str | None:
        return self.plan.columns["relation"]

    @property
    def identity_columns(self) -> tuple[str, ...]:
        return (self._text_column, self.plan.columns["head"], self.plan.columns["tail"])

    @property
    def no_relation(self) -> str:
        """The relation that F1 ignores; the data need not contain it."""
        return self.plan.no_relation or NO_RELATION

    @property
    def _text_column(self) -> str:
        return self.plan.columns.get("text") or self.plan.columns["tokens"]

    def read(self, splits: RawSplits) -> TaskFacts:
        """Check every row; relations and types of entities are those of train.

        Raises:
            DataError: a text, span, relation or type that is missing or of the wrong shape, by file and row; a relation
                or type that train lacks; a single relation; a ``no_relation`` that no row has.
        """
        columns = self.plan.columns
        for split in SPLITS:
            self._check_spans(splits, split)
        named = [role for role in ("relation", "head_type", "tail_type") if role in columns]
        seen = {role: self._names(splits, columns[role]) for role in named}
        relations, notes = seen["relation"], []
        if len(relations) < 2:
            raise DataError(
                f"{splits.origins['train']}: every train row has the relation {relations[0]!r} in column"
                f" {columns['relation']!r}, expected at least two.\n  Add rows of other relations."
            )
        if self.plan.no_relation is not None and self.plan.no_relation not in relations:
            raise DataError(
                f"{splits.origins['train']}: no train row has the relation {self.plan.no_relation!r}, which the plan"
                f" names as `no_relation`.\n  Relations here: {', '.join(map(repr, relations[:20]))}."
            )
        if self.no_relation in relations:
            notes.append(f"The relation {self.no_relation!r} means none: it is left out of micro_f1 and macro_f1.")
        for role in named:
            column = columns[role]
            shown = (label_name(value) for split in SPLITS for value in splits.plain_rows(split)[column])
            notes += similar_label_notes(Counter(shown), column)
        rows = {split: len(splits[split]) for split in SPLITS}
        markers = marker_names(seen.get("head_type"), seen.get("tail_type"))
        return TaskFacts(kind=self.kind, label_names=relations, special_tokens=markers, rows=rows, notes=tuple(notes))

    def model_settings(self, facts: TaskFacts) -> dict[str, Any]:
        """``num_labels``, and the mappings between relations and indices."""
        return facts.label_settings

    def encode(self, rows: Mapping[str, Sequence[Any]], tokenizer: Any, facts: TaskFacts) -> dict[str, list[Any]]:
        """See the class; a text longer than ``max_length`` is truncated to a window around its markers.

        Raises:
            UnencodableRow: the markers and the text between them are longer than that.
        """
        before, behind = special_token_affixes(tokenizer)
        capacity = self.plan.max_length - len(before) - len(behind)
        starts = self._opening_markers(rows)
        texts = self.marked_texts(rows)
        tokens = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        own = set(tokenizer.convert_tokens_to_ids(list(facts.special_tokens)))
        encoded: dict[str, list[Any]] = {"input_ids": [], "markers": []}
        for row, (ids, names) in enumerate(zip(tokens, starts, strict=True)):
            places = [place for place, piece in enumerate(ids) if piece in own]
            if len(places) != 4:
                what = (
                    f"the text holds an entity marker of the task ({', '.join(facts.special_tokens[:4])}, …) as a word"
                )
                raise UnencodableRow(row, what, "Write such words otherwise.")
            window = window_around(places[0], places[-1], len(ids), capacity)
            if window is None:
                what = (
                    f"head and tail with all between them take {places[-1] - places[0] + 1} tokens, and max_length"
                    f" {self.plan.max_length} leaves room for {capacity}"
                )
                raise UnencodableRow(row, what, "Raise `task.max_length`, or remove such rows.")
            start, end = window
            encoded["input_ids"].append([*before, *ids[start:end], *behind])
            opened = tokenizer.convert_tokens_to_ids(list(names))
            encoded["markers"].append([len(before) + ids.index(piece) - start for piece in opened])
        if self.plan.columns["relation"] in rows:
            number = {name: i for i, name in enumerate(facts.label_names)}
            encoded["relation"] = self.answers(rows, facts)
            encoded["labels"] = [number[name] for name in encoded["relation"]]
        return encoded

    def truncations(self, splits: RawSplits, tokenizer: Any, facts: TaskFacts) -> tuple[Truncation, ...]:
        before, behind = special_token_affixes(tokenizer)

        def lengths(rows: Mapping[str, Sequence[Any]]) -> list[int]:
            found = tokenizer(
                self.marked_texts(rows), add_special_tokens=False, return_attention_mask=False, verbose=False
            )
            return [len(before) + len(ids) + len(behind) for ids in found["input_ids"]]

        return count_truncations(splits, self.plan.max_length, lengths)

    def answers(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[str]:
        return [label_name(value) for value in rows[self.plan.columns["relation"]]]

    def collate(
        self, rows: Sequence[Mapping[str, Any]], tokenizer: Any, multiple: int = PAD_TO_MULTIPLE_OF
    ) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` int64 (B, T), ``marker_positions`` (B, 2), ``labels`` (B,) if any."""
        import torch

        batch = pad_rows(rows, tokenizer, limit=self.plan.max_length, multiple=multiple)
        # Padding on the left shifts the markers to the right.
        shift = batch["attention_mask"].argmax(dim=1, keepdim=True)
        batch["marker_positions"] = torch.from_numpy(table(rows, "markers")) + shift
        if "labels" in rows[0]:
            batch["labels"] = torch.from_numpy(table(rows, "labels"))
        return batch

    def combine(self, predictions: Sequence[int], rows: Sequence[Mapping[str, Any]], facts: TaskFacts) -> list[str]:
        return [facts.label_names[number] for number in predictions]

    def references(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        return [row["relation"] for row in rows]

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {name: metric(predictions, references, self.no_relation) for name, metric in METRICS.items()}

    def metric(self, name: str) -> Callable[[Sequence[str], Sequence[str]], float]:
        return lambda predictions, references: METRICS[name](predictions, references, self.no_relation)

    def example_scores(self, name: str, predictions: Sequence[str], references: Sequence[str]) -> list[float] | None:
        if name != "accuracy":
            return None
        return [float(given == true) for given, true in zip(predictions, references, strict=True)]

    def statistics(
        self, name: str, predictions: Sequence[str], references: Sequence[str]
    ) -> SufficientStatistics | None:
        if name != "micro_f1":
            return None
        none = self.no_relation
        counts = [
            [given == true != none, given != none, true != none]
            for given, true in zip(predictions, references, strict=True)
        ]
        return SufficientStatistics(np.array(counts, dtype=float), micro_f1_of_sums)

    def num_decisions(self, references: Sequence[str]) -> int:
        """Half the number of pairs with a relation: one differing prediction changes micro-F1 by up to 2 / pairs."""
        return max(1, sum(name != self.no_relation for name in references) // 2)

    def majority(self, references: Sequence[str], n: int) -> list[str]:
        """The most frequent relation, the first by name among equals, ``n`` times."""
        return [most_frequent(references)] * n

    def _opening_markers(self, rows: Mapping[str, Sequence[Any]]) -> list[tuple[str, str]]:
        """The markers before head and tail of each row."""
        heads, tails = self._types(rows, "head_type"), self._types(rows, "tail_type")
        return [
            (opening_marker(HEAD, head), opening_marker(TAIL, tail)) for head, tail in zip(heads, tails, strict=True)
        ]

    def marked_texts(self, rows: Mapping[str, Sequence[Any]]) -> list[str]:
        columns = self.plan.columns
        ends = zip(rows[columns["head"]], rows[columns["tail"]], strict=True)
        types = zip(self._types(rows, "head_type"), self._types(rows, "tail_type"), strict=True)
        found = []
        for value, spans, kinds in zip(rows[self._text_column], ends, types, strict=True):
            text, head, tail = value, *map(tuple, spans)
            if "tokens" in columns:
                text, head, tail = " ".join(value), *(_characters(value, span) for span in spans)
            found.append(insert_markers(text, head, tail, *kinds))
        return found

    def _types(self, rows: Mapping[str, Sequence[Any]], role: str) -> list[str | None]:
        if role not in self.plan.columns:
            return [None] * len(rows[self._text_column])
        return [label_name(value) for value in rows[self.plan.columns[role]]]

    def _names(self, splits: RawSplits, column: str) -> tuple[str, ...]:
        """The names in a column of train, after checking that the other splits have no others."""
        labels = {
            split: read_labels(
                splits.table(split).column(column), splits[split].features[column], column, splits.origins[split]
            )
            for split in SPLITS
        }
        names = ordered_names(set(labels["train"].unique().to_pylist()))
        for split in ("validation", "test"):
            refuse_unknown(labels[split], names, column, splits.origins[split], split)
        return names

    def _check_spans(self, splits: RawSplits, split: str) -> None:
        columns, name = self.plan.columns, self._text_column
        table, origin, rows = splits.table(split), splits.origins[split], splits.plain_rows(split)
        unit = "tokens" if "tokens" in columns else "characters"
        if "text" in columns:
            read_texts(table.column(name), name, origin)
        else:
            require_lists(table.column(name), name, origin, "lists of strings")
        for role in ("head", "tail"):
            require_lists(table.column(columns[role]), columns[role], origin, f"spans [start, end) in {unit}")
        for row, text in enumerate(rows[name]):
            if "tokens" in columns and not all(isinstance(token, str) for token in text):
                raise_row_error(origin, row, name, "holds a token that is no string", "Expected a string each.")
            for role in ("head", "tail"):
                start, end = read_span(rows[columns[role]][row], origin, row, columns[role], len(text), unit)
                if not "".join(text[start:end]).strip():
                    raise_row_error(
                        origin, row, columns[role], f"holds the span [{start}, {end}) of white space", "Correct it."
                    )


def _characters(tokens: Sequence[str], span: Sequence[int]) -> tuple[int, int]:
    """Converts a span in tokens to [start, end) in characters of the tokens joined by spaces.

    >>> _characters(["in", "New", "York"], (1, 3))
    (3, 11)
    """
    start = sum(len(token) + 1 for token in tokens[: span[0]])
    return start, start + len(" ".join(tokens[span[0] : span[1]]))
