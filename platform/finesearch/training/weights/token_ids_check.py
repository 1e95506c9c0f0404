"""Checks, before a search starts, that the model has an embedding for every token of every row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.data.tokenize_splits import encode_in_chunks
from finesearch.errors import ModelError
from finesearch.tasks import SPLITS
from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.training.model.added_tokens import task_tokenizer
from finesearch.training.model.model_config import build_skeleton, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from finesearch.tasks import RawSplits, Task, TaskFacts


def check_token_ids(task: Task, splits: RawSplits, facts: TaskFacts, folder: Path) -> tuple[str, ...]:
    """A note about tokens without an embedding that no row holds; the rows are encoded only if there are such tokens.

    folder: the base model's.

    Raises:
        ModelError: a row of any split, or the padding, has a token that the model has no embedding for.
    """
    tokenizer, added = task_tokenizer(folder, facts)
    if isinstance(task, GenerationTask):
        task.prepare_tokenizer(tokenizer)
    embeddings: Any = build_skeleton(read_config(folder), task.kind, folder).get_input_embeddings()
    rows = len(embeddings.weight)
    start = added.get("added_tokens_start", 0)
    own = range(start, start + added.get("num_added_tokens", 0))
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows and number not in own}
    if not beyond:
        return ()
    advice = (
        f"Tokens of the tokenizer without one: {len(beyond)}. Take the tokenizer that belongs to the weights, or "
        f"extend the table (transformers: model.resize_token_embeddings({max(beyond) + 1})) and save both."
    )
    has = f"and the model in {folder} has embeddings for the ids 0 to {rows - 1}"
    if tokenizer.pad_token_id in beyond:
        raise ModelError(
            f"task.model: the padding token {tokenizer.pad_token!r} has the id {tokenizer.pad_token_id}, {has}.\n"
            f"  {advice}"
        )
    columns = ("input_ids", "labels") if isinstance(task, GenerationTask) else ("input_ids",)
    for split in SPLITS:
        example = 0
        for encoded in encode_in_chunks(splits, split, task, facts, tokenizer):
            for row, ids in _ids_of_examples(encoded, columns):
                unknown = next((number for number in ids if number in beyond), None)
                if unknown is not None:
                    where = splits.origins[split].where(example + row)
                    raise ModelError(
                        f"{where}: the text holds the token {beyond[unknown]!r} (id {unknown}), {has}.\n  {advice}"
                    )
            example += _num_examples(encoded)
    return (
        f"Tokens of the tokenizer without an embedding in the model: {len(beyond)}, from id {min(beyond)} on; no row "
        f"holds one.",
    )


def _ids_of_examples(encoded: Mapping[str, list[Any]], columns: tuple[str, ...]) -> Iterator[tuple[int, list[int]]]:
    """The number of each token row's example among those encoded, and its ids; an example may have several rows."""
    example = -1
    for row, first in enumerate(encoded.get("window", [0] * len(encoded["input_ids"]))):
        example += first == 0
        yield example, [number for column in columns if column in encoded for number in encoded[column][row]]


def _num_examples(encoded: Mapping[str, list[Any]]) -> int:
    return sum(window == 0 for window in encoded.get("window", [0] * len(encoded["input_ids"])))
