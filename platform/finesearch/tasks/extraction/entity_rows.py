"""Rows of named entity recognition, in either of two formats: validates them, and reads texts, words and spans.

    tokens, tags     a list of tokens and a list of BIO tags          spans count tokens
    text, spans      a text and a list of {start, end, label}         spans count characters

In both formats, a span is [start, end) and a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finesearch.tasks.encoding.bio_tags import Span, is_bio_tag, tags_to_spans, word_spans
from finesearch.tasks.encoding.list_columns import raise_row_error, read_span, require_lists
from finesearch.tasks.encoding.text_columns import read_texts
from finesearch.tasks.encoding.unseen_labels import unseen_label

if TYPE_CHECKING:
    from finesearch.tasks.raw_splits import Origin, RawSplits

Rows = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class WordSpans:
    """One text and [start, end) of its words in characters; ``units``: the same in the unit of its spans."""

    text: str
    words: list[tuple[int, int]]
    units: list[tuple[int, int]]


def word_spans_of_rows(rows: Rows, columns: Mapping[str, str]) -> list[WordSpans]:
    """The words of some rows; pre-split tokens are joined by spaces."""
    if "text" in columns:
        return [WordSpans(text, found := word_spans(text), found) for text in rows[columns["text"]]]
    return [_joined(tokens) for tokens in rows[columns["tokens"]]]


def spans_of_rows(rows: Rows, columns: Mapping[str, str]) -> list[list[Span]]:
    """The true spans of some rows that have been checked, in their order."""
    if "text" in columns:
        return [
            sorted([span["start"], span["end"], str(span["label"])] for span in spans)
            for spans in rows[columns["spans"]]
        ]
    return [tags_to_spans(tags) for tags in rows[columns["tags"]]]


def check_rows(splits: RawSplits, split: str, columns: Mapping[str, str]) -> list[list[Span]]:
    """The true spans of a split.

    Raises:
        DataError: a row whose tokens and tags differ in number, a tag that is not BIO, a span outside its text, empty
            or overlapping, a row without words; by file and row.
    """
    table, origin, rows = splits.table(split), splits.origins[split], splits.plain_rows(split)
    if "text" in columns:
        read_texts(table.column(columns["text"]), columns["text"], origin)
        require_lists(table.column(columns["spans"]), columns["spans"], origin, "lists of {start, end, label}")
        for row, (text, spans) in enumerate(zip(rows[columns["text"]], rows[columns["spans"]], strict=True)):
            _check_text(text, spans, columns, origin, row)
    else:
        require_lists(table.column(columns["tokens"]), columns["tokens"], origin, "lists of strings")
        require_lists(table.column(columns["tags"]), columns["tags"], origin, "lists of BIO tags")
        for row, (tokens, tags) in enumerate(zip(rows[columns["tokens"]], rows[columns["tags"]], strict=True)):
            _check_tokens(tokens, tags, columns, origin, row)
    return spans_of_rows(rows, columns)


def refuse_unknown_labels(spans: Sequence[Sequence[Span]], known: Sequence[str], origin: Origin, split: str) -> None:
    """Check that train has every label of validation or test.

    Raises:
        DataError: naming the missing label and the first row that has it.
    """
    for row, found in enumerate(spans):
        for _, _, label in found:
            if label not in known:
                entities = ", ".join(map(repr, known))
                advice = f"Entities of train: {entities}. Correct the label, add such rows to train or remove these."
                found_there = f"the {split} split has an entity {label!r}"
                raise unseen_label(origin.where(row), str(label), known, found_there, advice)


def _joined(tokens: Sequence[str]) -> WordSpans:
    words, start = [], 0
    for token in tokens:
        words.append((start, start + len(token)))
        start += len(token) + 1
    return WordSpans(" ".join(tokens), words, [(number, number + 1) for number in range(len(tokens))])


def _check_tokens(tokens: list[Any], tags: list[Any], columns: Mapping[str, str], origin: Origin, row: int) -> None:
    if not tokens:
        raise_row_error(origin, row, columns["tokens"], "holds no token", "Remove such rows.")
    for token in tokens:
        if not isinstance(token, str):
            raise_row_error(origin, row, columns["tokens"], f"holds the token {token!r}", "Expected a string each.")
    if len(tokens) != len(tags):
        what = f"holds {len(tags)} tags for {len(tokens)} tokens of {columns['tokens']!r}"
        raise_row_error(origin, row, columns["tags"], what, "Expected one tag a token, 'O' where there is no entity.")
    for tag in tags:
        if not is_bio_tag(tag):
            number = isinstance(tag, int)
            advice = (
                "Name the numbers in task.label_names, such as [O, B-PER, I-PER], or write tags as text."
                if number
                else "Expected BIO, BILOU, BIOES or IO throughout. In BIO, 'O' is outside, 'B-label' the first token "
                "of an entity and 'I-label' each one behind it."
            )
            raise_row_error(origin, row, columns["tags"], f"holds the tag {tag!r}, which is not BIO", advice)


def _check_text(text: str, spans: list[Any], columns: Mapping[str, str], origin: Origin, row: int) -> None:
    if not word_spans(text):
        raise_row_error(origin, row, columns["text"], "holds a text without words", "Remove such rows.")
    name, seen = columns["spans"], []
    for span in spans:
        if not (isinstance(span, dict) and {"start", "end", "label"} <= span.keys()):
            raise_row_error(origin, row, name, f"holds {span!r}", "Expected {start, end, label} for each span.")
        if not isinstance(span["label"], str) or not span["label"]:
            raise_row_error(origin, row, name, f"holds the label {span['label']!r}", "Expected the label's name.")
        seen.append(read_span((span["start"], span["end"]), origin, row, name, len(text), "characters"))
    seen.sort()
    for (start, end), (later, last) in zip(seen, seen[1:], strict=False):
        if later < end:
            what = f"holds the spans [{start}, {end}) and [{later}, {last}), which overlap"
            raise_row_error(origin, row, name, what, "One tag a word holds no nested entities: keep one of the two.")
