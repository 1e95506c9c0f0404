"""Token cache: tokenizes splits once, into Arrow files that all workers map, keyed by everything they depend on.

    <cache>/tokens/<key>/train.arrow  validation.arrow  test.arrow  manifest.json
    <cache>/tokens/<key>.lock         held by the process that builds (see ``build_once``)

Nothing is removed here: a cache folder belongs to a run and is deleted with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finesearch.data.build_once import build_once
from finesearch.data.tokenized_split import TokenizedSplit
from finesearch.errors import DataError
from finesearch.storage.atomic_files import sync, write_synced
from finesearch.storage.checksummed_dirs import file_sha256
from finesearch.tasks import SPLITS, RawSplits, Task, TaskFacts
from finesearch.tasks.task import UnencodableRow

# Increased whenever the files' format changes: names, types, record batches.
_LAYOUT = 1
_MANIFEST = "manifest.json"
_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class TokenizedSplits:
    """Train, validation and test as token rows.

    built: True if this process made the files, False if it found them.
    """

    train: TokenizedSplit
    validation: TokenizedSplit
    test: TokenizedSplit
    key: str
    built: bool

    def __getitem__(self, split: str) -> TokenizedSplit:
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


def tokenize(
    splits: RawSplits, task: Task, facts: TaskFacts, tokenizer: Any, tokenizer_key: str, cache: Path
) -> TokenizedSplits:
    """Token files of all three splits, built by the first process that needs them and mapped by all.

    tokenizer_key: changes whenever the tokenizer would split a text differently, e.g. a hash of its files.
    cache: the run's cache folder; the files are below ``tokens`` in it.

    Raises:
        DiskFullError, StorageError: the cache cannot be written.
    """
    key = token_key(splits, task, facts, tokenizer_key)
    folder = cache / "tokens" / key
    built = build_once(folder, partial(_build, splits, task, facts, tokenizer), _is_complete)
    train, validation, test = (TokenizedSplit(folder / f"{split}.arrow") for split in SPLITS)
    return TokenizedSplits(train, validation, test, key, built)


def token_key(splits: RawSplits, task: Task, facts: TaskFacts, tokenizer_key: str) -> str:
    """First 32 hex digits of the SHA-256 over all that the token files depend on."""
    depends_on = {
        "layout": _LAYOUT,
        "tokenizer": tokenizer_key,
        "libraries": [version("transformers"), version("tokenizers")],
        "content": splits.fingerprints,
        "columns": task.plan.columns,
        "max_length": task.plan.max_length,
        "task": [task.kind, task.version],
        "facts": facts.encoding,
    }
    if task.encoding_options:
        depends_on["options"] = task.encoding_options
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:32]


def _build(splits: RawSplits, task: Task, facts: TaskFacts, tokenizer: Any, folder: Path) -> None:
    files = {}
    for split in SPLITS:
        path = folder / f"{split}.arrow"
        _write(path, splits, split, task, facts, tokenizer)
        files[path.name] = file_sha256(path)
    write_synced(folder / _MANIFEST, json.dumps({"sha256": files}).encode())


def _is_complete(folder: Path) -> bool:
    """Whether every file is as it was written. Unreadable files count as missing; building them reports why."""
    try:
        known = json.loads((folder / _MANIFEST).read_bytes())["sha256"]
        return all(file_sha256(folder / name) == sha256 for name, sha256 in known.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _write(path: Path, splits: RawSplits, split: str, task: Task, facts: TaskFacts, tokenizer: Any) -> None:
    """Encode a split and write it one record batch at a time, so that memory does not grow with the data."""
    import pyarrow as pa

    writer = None
    with path.open("wb") as file:
        for encoded in encode_in_chunks(splits, split, task, facts, tokenizer):
            if writer is None:
                schema = pa.schema([(name, _narrow(pa.infer_type(values))) for name, values in encoded.items()])
                writer = pa.ipc.new_file(file, schema)
            writer.write_batch(pa.record_batch([pa.array(encoded[f.name], f.type) for f in schema], schema=schema))
        assert writer is not None, f"{split} has no rows"
        writer.close()
    sync(path)


def encode_in_chunks(
    splits: RawSplits, split: str, task: Task, facts: TaskFacts, tokenizer: Any
) -> Iterator[dict[str, list[Any]]]:
    """The token rows of a split, one part at a time.

    Raises:
        DataError: a row that the task cannot encode, by file and row.
    """
    for start in range(0, len(splits[split]), _CHUNK_ROWS):
        stop = min(start + _CHUNK_ROWS, len(splits[split]))
        try:
            yield task.encode(splits.plain_rows(split, start, stop), tokenizer, facts)
        except UnencodableRow as error:
            where = splits.origins[split].where(start + error.row)
            raise DataError(f"{where}: {error.what}.\n  {error.advice}") from error


def _narrow(kind: Any) -> Any:
    """The 32-bit version of a 64-bit type: token ids, positions and class numbers fit into 32 bits."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return pa.list_(_narrow(kind.value_type))
    return {pa.int64(): pa.int32(), pa.float64(): pa.float32()}.get(kind, kind)
