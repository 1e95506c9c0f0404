"""Rows whose texts spell special tokens: the tokenizer makes one token of such a word, as if it had added it itself.

Web pages hold ``<s>`` for text that is struck out; logs of chats hold ``<|endoftext|>``. Such rows are counted in a
note. The heads of encoders with a decoder (BART, T5) read the state of the end token, and need equally many in every
row: there, rows with more are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.errors import DataError
from finesearch.tasks import SPLITS
from finesearch.training.model.added_tokens import task_tokenizer

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PretrainedConfig

    from finesearch.tasks import RawSplits, Task, TaskFacts

ANSWERS = ("label", "labels", "tags")
"""Roles of columns that hold no text."""
POOLS_BY_END = "AutoModelForSequenceClassification"
SHOWN = 3


def check_spelled_tokens(
    task: Task, splits: RawSplits, facts: TaskFacts, folder: Path, config: PretrainedConfig
) -> tuple[str, ...]:
    """A note for each split in which texts spell special tokens of the tokenizer in ``folder``.

    Raises:
        DataError: the head of the model needs equally many end tokens in every row, and a row has others.
    """
    tokenizer, _ = task_tokenizer(folder, facts)
    special = sorted(set(tokenizer.all_special_tokens) - set(facts.special_tokens))
    if not special:
        return ()
    answers = {column for role, column in task.plan.columns.items() if role in ANSWERS}
    columns = [name for name in splits.train.column_names if name not in answers]
    notes = []
    for split in SPLITS:
        table = splits.table(split)
        rows = {row for column in columns for row in _rows_with(special, table.column(column).combine_chunks())}
        if not rows:
            continue
        if task.auto_class == POOLS_BY_END and config.is_encoder_decoder:
            _refuse_other_end_tokens(_Encoding(task, facts, tokenizer), splits, split, sorted(rows), config)
        seen = [token for token in special if any(token in text for text in _texts(splits, split, columns, min(rows)))]
        notes.append(
            f"{len(rows)} of {len(table)} {split} rows spell special tokens of the tokenizer, the first is "
            f"{splits.origins[split].where(min(rows))} with {', '.join(seen[:SHOWN])}: the model reads them as those "
            "tokens, not as text."
        )
    return tuple(notes)


def _rows_with(tokens: list[str], array: pa.Array) -> set[int]:
    """Rows of an array of texts, or of lists and structs of such, in which one of the tokens stands."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(array.type):
        return {row for part in array.flatten() for row in _rows_with(tokens, part)}
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        parents = np.asarray(pc.list_parent_indices(array))
        return {int(parents[item]) for item in _rows_with(tokens, pc.list_flatten(array))}
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return set()
    found = pc.match_substring_regex(array, "|".join(map(re.escape, tokens)))
    return set(np.flatnonzero(found.fill_null(False).to_numpy(zero_copy_only=False)).tolist())


def _texts(splits: RawSplits, split: str, columns: list[str], row: int) -> list[str]:
    found = splits.plain_rows(split, row, row + 1)
    return [text for column in columns for text in _strings(found[column][0])]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


@dataclass(frozen=True, eq=False)
class _Encoding:
    """How rows become token ids."""

    task: Task
    facts: TaskFacts
    tokenizer: Any

    def count(self, row: dict[str, list[Any]], token: int) -> int:
        """How often the first of some rows has a token."""
        return list(self.task.encode(row, self.tokenizer, self.facts)["input_ids"][0]).count(token)


def _refuse_other_end_tokens(
    encoding: _Encoding, splits: RawSplits, split: str, rows: list[int], config: PretrainedConfig
) -> None:
    end, word = int(config.eos_token_id), encoding.tokenizer.convert_ids_to_tokens(config.eos_token_id)
    for row in rows:
        given = splits.plain_rows(split, row, row + 1)
        plain = {
            name: [value.replace(word, "") if isinstance(value, str) else value for value in values]
            for name, values in given.items()
        }
        got, expected = encoding.count(given, end), encoding.count(plain, end)
        if got != expected:
            raise DataError(
                f"{splits.origins[split].where(row)}: the text spells {word!r}, the end token of the "
                f"model, so that the row has {got} of them, expected {expected}: the head of "
                f"{type(config).__name__} models reads the state of that token.\n  Remove it from the text, or write "
                "it otherwise (with a space in it); encoders alone, such as BERT, need no such token."
            )
