"""Fingerprints (SHA-256) of the content of a whole split, and hashes of each example."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK_ROWS = 10_000


def fingerprint(table: pa.Table, class_names: Mapping[str, Sequence[str]] | None = None) -> str:
    """SHA-256 (hex) over column names, values and row order, independent of file format and Arrow's chunks.

    class_names: column -> names, for columns of class numbers.

    >>> import pyarrow as pa
    >>> whole = pa.table({"text": ["a", "b"]})
    >>> fingerprint(whole) == fingerprint(pa.concat_tables([whole.slice(0, 1), whole.slice(1)]))
    True
    """
    digest = hashlib.sha256(json.dumps([class_names or {}, table.num_rows]).encode())
    for start in range(0, table.num_rows, _CHUNK_ROWS):
        rows = table.slice(start, _CHUNK_ROWS)
        for name in sorted(table.column_names):
            digest.update(json.dumps([name, rows.column(name).to_pylist()], default=str).encode())
    return digest.hexdigest()


def example_hashes(table: pa.Table, columns: Sequence[str]) -> list[bytes]:
    """One hash per row over the columns that identify an example: equal hashes, same example.

    >>> import pyarrow as pa
    >>> a, b, c = example_hashes(pa.table({"text": ["x", "x", "y"], "label": [0, 1, 0]}), ["text"])
    >>> a == b, a == c
    (True, False)
    """
    values = zip(*(table.column(column).to_pylist() for column in columns), strict=True)
    return [hashlib.sha256(json.dumps(row, default=str).encode()).digest()[:16] for row in values]
