"""Rows as what an encoder with a linear head learns: places in the tokens, and a class for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from peers.bags_of_words import marked
from peers.contest import CLASSES, ENTITIES, QUESTIONS, RELATIONS, Contest, Row, entities
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

IGNORED = -100
STRIDE = 128
MOST_ANSWER_TOKENS = 30
MARKERS = ("[E1]", "[/E1]", "[E2]", "[/E2]")
Reading = Literal["mean", "markers", "words", "tokens"]
_READING: dict[str, Reading] = {CLASSES: "mean", RELATIONS: "markers", ENTITIES: "words", QUESTIONS: "tokens"}


@dataclass(frozen=True)
class EncodedRow:
    """One row, or one window of a context.

    places: token positions that are classified (none: their mean); targets: a class for each place, of a text or
    relation one in all, of a window the first and last token of the answer; offsets: of a window, the characters of
    each token in the context, (0, 0) elsewhere.
    """

    row: int
    ids: list[int]
    types: list[int]
    places: list[int]
    targets: list[int]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True)
class Problem:
    """A contest as seen by an encoder with a linear head."""

    contest: Contest

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        loaded = AutoTokenizer.from_pretrained(self.contest.model)
        if self.reading == "markers":
            loaded.add_special_tokens({"extra_special_tokens": list(MARKERS)})
        return loaded

    @property
    def reading(self) -> Reading:
        return _READING[self.contest.kind]

    @cached_property
    def labels(self) -> list[str]:
        """The classes, in order: labels, relations or tags of train; first and last token of an answer."""
        if self.reading == "words":
            return sorted({tag for row in self.contest.splits["train"] for tag in row["tags"]})
        return ["first", "last"] if self.reading == "tokens" else sorted(set(self.contest.references("train")))

    @cached_property
    def encoded(self) -> dict[str, list[EncodedRow]]:
        """Every split."""
        return {split: self._encode(rows) for split, rows in self.contest.splits.items()}

    def answers(self, split: str, logits: Sequence[Tensor]) -> list[Any]:
        """Answers to a split's rows, from the head's logits for each of its encoded rows."""
        rows, encoded = self.contest.splits[split], self.encoded[split]
        if self.reading == "tokens":
            return _spans(rows, encoded, logits)
        said = [[self.labels[place] for place in one.reshape(-1, one.shape[-1]).argmax(-1).tolist()] for one in logits]
        if self.reading == "words":
            # What was cut off has no entities.
            lengths = [len(row["tokens"]) for row in rows]
            return [entities([*tags, *["O"] * (n - len(tags))]) for tags, n in zip(said, lengths, strict=True)]
        return [one[0] for one in said]

    def _encode(self, rows: Sequence[Row]) -> list[EncodedRow]:
        if self.reading == "tokens":
            return self._windows(rows)
        number = {label: place for place, label in enumerate(self.labels)}
        split_in_words = self.reading == "words"
        if self.reading == "mean":
            texts: list[Any] = [str(row["text"]) for row in rows]
        else:
            texts = [list(row["tokens"]) if split_in_words else " ".join(marked(row)) for row in rows]
        longest = self.contest.max_length
        told = self.tokenizer(texts, truncation=True, max_length=longest, is_split_into_words=split_in_words)
        opening = self.tokenizer.convert_tokens_to_ids([MARKERS[0], MARKERS[2]]) if self.reading == "markers" else []
        encoded = []
        for place, (row, ids) in enumerate(zip(rows, told["input_ids"], strict=True)):
            if split_in_words:
                words = told.word_ids(place)
                places = [at for at, word in enumerate(words) if word is not None and word != words[at - 1]]
                targets = [number.get(row["tags"][words[at]], IGNORED) for at in places]
            else:
                # A mark that was cut off is read at the first token.
                places = [ids.index(mark) if mark in ids else 0 for mark in opening]
                targets = [number.get(str(row["label" if self.reading == "mean" else "relation"]), IGNORED)]
            encoded.append(EncodedRow(place, ids, [0] * len(ids), places, targets, []))
        return encoded

    def _windows(self, rows: Sequence[Row]) -> list[EncodedRow]:
        """Windows of each context, as in the example of transformers; no answer in it: both are the first token."""
        longest = self.contest.max_length
        told = self.tokenizer(
            [str(row["question"]) for row in rows], [str(row["context"]) for row in rows],
            truncation="only_second", max_length=longest, stride=min(STRIDE, longest // 4),
            return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=True,
        )  # fmt: skip
        windows = []
        for place, ids in enumerate(told["input_ids"]):
            row = told["overflow_to_sample_mapping"][place]
            parts = told.sequence_ids(place)
            pairs = zip(told["offset_mapping"][place], parts, strict=True)
            offsets = [(int(span[0]), int(span[1])) if part == 1 else (0, 0) for span, part in pairs]
            answers = rows[row]["answers"]
            targets = [0, 0]
            if answers["text"]:
                start = answers["answer_start"][0]
                end = start + len(answers["text"][0])
                inside = [at for at, (first, last) in enumerate(offsets) if first < end and last > start]
                if inside and offsets[inside[0]][0] <= start and offsets[inside[-1]][1] >= end:
                    targets = [inside[0], inside[-1]]
            types = told["token_type_ids"][place]
            windows.append(EncodedRow(row, ids, types, [], targets, offsets))
        return windows


def _spans(rows: Sequence[Row], windows: Sequence[EncodedRow], logits: Sequence[Tensor]) -> list[Any]:
    """For each row the span with the highest sum of first and last over its windows; empty where no answer scores more.

    Only rows of sets that hold unanswered questions may stay unanswered.
    """
    may_be_empty = any(not row["answers"]["text"] for row in rows)
    best: list[tuple[float, str]] = [(-1e9, "") for _ in rows]
    for window, given in zip(windows, logits, strict=True):
        first, last = given[: len(window.ids)].unbind(-1)
        sums = first[:, None] + last[None, :]
        readable = torch.tensor([end > start for start, end in window.offsets])
        allowed = torch.ones_like(sums, dtype=torch.bool).triu().tril(MOST_ANSWER_TOKENS - 1)
        allowed &= readable[:, None] & readable[None, :]
        place = int(sums.masked_fill(~allowed, -1e9).argmax())
        start, end = window.offsets[place // len(sums)][0], window.offsets[place % len(sums)][1]
        value = float(sums.flatten()[place]) - (float(sums[0, 0]) if may_be_empty else 0.0)
        text = rows[window.row]["context"][start:end]
        found = (0.0, "") if may_be_empty and value <= 0 else (value, text)
        best[window.row] = max(best[window.row], found, key=lambda one: one[0])
    return [text for _, text in best]
