"""Tags of named entities in the schemes BILOU, BIOES and IO, read as BIO.

BIO    B-x begins an entity, I-x goes on, O is outside        the one that tasks read
BILOU  also L-x for its last token, U-x for one of a token     Ratinov and Roth, 2009
BIOES  the same with E-x and S-x; M-x for I-x in BMES          Uchimoto et al., 2000
IO     I-x alone, or the bare label x                          neighbours of one label cannot be told apart
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finesearch.data.row_shapes.set_column import set_column
from finesearch.tasks.encoding.bio_tags import is_bio_tag

if TYPE_CHECKING:
    import pyarrow as pa

_BEGINS, _ENDS = frozenset("BUSW"), frozenset("LEUSW")
_BILOU, _BIOES = frozenset("LU"), frozenset("ESMW")
_NO_BEGINNINGS = "two entities of one label side by side count as one"


def convert_tags(tables: Mapping[str, pa.Table], column: str) -> tuple[dict[str, pa.Table], list[str]]:
    """The tables with BIO tags in ``column``, and a note if they had others; unknown schemes are left for the task."""
    converted = dict(tables)
    known = set().union(*(_distinct_tags(table, column) for table in tables.values()))
    scheme = tag_scheme(known)
    if scheme == "IO" and all(map(is_bio_tag, known)):
        return converted, [f"The tags in {column!r} are IO, without a B-: {_NO_BEGINNINGS}."]
    if scheme in (None, "BIO"):
        return converted, []
    import pyarrow as pa

    for split, table in tables.items():
        rows = [None if tags is None else _as_bio(tags, scheme == "IO") for tags in _tags(table, column)]
        converted[split] = set_column(table, column, pa.array(rows, pa.list_(pa.string())))
    lost = f": {_NO_BEGINNINGS}" if scheme == "IO" else ", with the same entities"
    return converted, [f"The tags in {column!r} are {scheme}, and were read as BIO{lost}."]


def tag_scheme(tags: set[Any]) -> str | None:
    """``BIO``, ``BILOU``, ``BIOES`` or ``IO`` by the different tags of a data set; None: none of them.

    >>> [tag_scheme(set(tags.split())) for tags in ("O B-X I-X", "B-X L-X U-X", "E-X S-X", "I-X", "O X", "O X B-X")]
    ['BIO', 'BILOU', 'BIOES', 'IO', 'IO', None]
    >>> tag_scheme({"O", "U-X", "S-X"}), tag_scheme({"NOUN", "VERB"})
    (None, None)
    """
    if not tags or not all(isinstance(tag, str) and tag for tag in tags):
        return None
    marked = {tag[0] for tag in tags if tag[1:2] == "-" and len(tag) > 2}
    others = {tag for tag in tags if tag[1:2] != "-"} - {"O"}
    if not marked and others and "O" in tags:
        return "IO"
    if others or not marked <= _BEGINS | _ENDS | {"I", "M"}:
        return None
    if marked <= {"B", "I"}:
        return "IO" if marked == {"I"} else "BIO"
    if marked & _BILOU and marked & _BIOES:
        return None
    return "BILOU" if marked & _BILOU else "BIOES"


def _as_bio(tags: Sequence[str], is_bare_or_io: bool) -> list[str]:
    """BIO tags of the same entities; broken ones are read as ``conlleval`` reads them.

    >>> _as_bio(["B-X", "L-X", "U-X", "U-X", "I-X", "O", "L-Y"], is_bare_or_io=False)
    ['B-X', 'I-X', 'B-X', 'B-X', 'B-X', 'O', 'B-Y']
    >>> _as_bio(["X", "X", "Y", "O", "X"], is_bare_or_io=True)
    ['B-X', 'I-X', 'B-Y', 'O', 'B-X']
    """
    read, before, has_ended = [], "", True
    for tag in tags:
        if tag == "O":
            read.append("O")
            before, has_ended = "", True
            continue
        mark, label = ("I", tag) if is_bare_or_io else (tag[0], tag[2:])
        begins = mark in _BEGINS or has_ended or label != before
        read.append(f"{'B' if begins else 'I'}-{label}")
        before, has_ended = label, mark in _ENDS
    return read


def _names(table: pa.Table, column: str) -> list[str] | None:
    """The names of a column of lists of class numbers."""
    import datasets

    feature = datasets.Features.from_arrow_schema(table.schema)[column]
    return getattr(getattr(feature, "feature", None), "names", None)


def _distinct_tags(table: pa.Table, column: str) -> set[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    values, names = table.column(column), _names(table, column)
    if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        return {None}
    found = pc.list_flatten(values).unique().to_pylist()
    return {_named(value, names) for value in found}


def _tags(table: pa.Table, column: str) -> list[list[str] | None]:
    names = _names(table, column)
    rows = table.column(column).to_pylist()
    return rows if names is None else [None if row is None else [_named(tag, names) for tag in row] for row in rows]


def _named(value: Any, names: Sequence[str] | None) -> Any:
    if names is None:
        return value
    return names[value] if value is not None and 0 <= value < len(names) else None
