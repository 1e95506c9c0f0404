"""Aligns words with tokens: the first token of each word, and the window in which the word is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finesearch.tasks.encoding.sliding_windows import max_context_windows, special_token_affixes, split_into_windows
from finesearch.tasks.extraction.entity_rows import WordSpans


def encode_windows(
    examples: Sequence[WordSpans], tokenizer: Any, max_length: int
) -> tuple[dict[str, list[Any]], list[int]]:
    """The token rows of some texts (see ``TokenClassification``), and the example that each belongs to."""
    before, behind = special_token_affixes(tokenizer)
    capacity = max(1, max_length - len(before) - len(behind))
    texts = [example.text for example in examples]
    tokens = tokenizer(
        texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
    )
    names = ("input_ids", "owned", "units", "starts", "ends", "window")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    numbers: list[int] = []
    for at, example in enumerate(examples):
        ids, first = tokens["input_ids"][at], words_by_first_piece(example, tokens["offset_mapping"][at])
        windows = split_into_windows(list(first), len(ids), capacity, overlap=capacity // 4)
        owner = dict(zip(first, max_context_windows(windows, list(first), len(ids)), strict=True))
        for window, (start, end) in enumerate(windows):
            mine = [piece for piece in first if start <= piece < end and owner[piece] == window]
            owned = [0] * (len(before) + end - start + len(behind))
            for piece in mine:
                owned[len(before) + piece - start] = 1
            values = (
                [*before, *ids[start:end], *behind],
                owned,
                [first[piece][0] for piece in mine],
                [example.units[first[piece][0]][0] for piece in mine],
                [example.units[first[piece][1]][1] for piece in mine],
                window,
            )
            for name, value in zip(names, values, strict=True):
                columns[name].append(value)
            numbers.append(at)
    return columns, numbers


def words_by_first_piece(example: WordSpans, offsets: Sequence[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Token -> the words whose first token it is, as (first, last): more than one if a token spans several words.

    offsets: [start, end) in characters of each token. A word that no token starts in or extends into is left out.

    >>> words_by_first_piece(WordSpans("isn't", [(0, 3), (3, 4), (4, 5)], []), [(0, 2), (2, 3), (3, 5)])
    {0: (0, 0), 2: (1, 2)}
    """
    found: dict[int, tuple[int, int]] = {}
    word, words = 0, example.words
    for piece, (start, end) in enumerate(offsets):
        # Some tokenizers include the space before a word in its first token.
        while start < end and example.text[start].isspace():
            start += 1
        while word < len(words) and words[word][1] <= start:
            word += 1
        if start == end or word == len(words) or words[word][0] >= end:
            continue
        last = word
        while last + 1 < len(words) and words[last + 1][0] < end:
            last += 1
        done = next(reversed(found.values()))[1] if found else -1
        # A token that continues a word is the first token only of the further words that it extends into.
        if last > done:
            found[piece] = (max(word, done + 1), last)
        word = last
    return found
