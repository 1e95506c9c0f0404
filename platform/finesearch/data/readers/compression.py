"""Compressed files of rows: ``.gz`` and ``.zst`` behind the suffix of the format, as in ``train.csv.gz``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, cast

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() in COMPRESSIONS


def format_suffix(path: Path) -> str:
    """The suffix of the format, in small letters.

    >>> format_suffix(Path("a.CSV")), format_suffix(Path("a.jsonl.gz")), format_suffix(Path("a.gz"))
    ('.csv', '.jsonl', '')
    """
    return Path(path.stem).suffix.lower() if is_compressed(path) else path.suffix.lower()


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, decompressed while they are read.

    Raises:
        OSError: not readable; while reading, if the compressed stream is damaged or cut off.
    """
    if not is_compressed(path):
        return path.open("rb")
    import pyarrow as pa

    stream = pa.input_stream(str(path), compression=COMPRESSIONS[path.suffix.lower()])
    return cast(BinaryIO, io.BufferedReader(stream))
