"""Reads columns of label lists as class names (multi-label); errors name file and row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finesearch.errors import DataError
from finesearch.tasks.classification.label_column import label_name
from finesearch.tasks.encoding.unseen_labels import labels_of_train, unseen_label

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.tasks.raw_splits import Origin


def read_label_lists(column: pa.ChunkedArray, feature: Any, name: str, origin: Origin) -> list[list[str]]:
    """The class names of every row, none for an empty list.

    feature: the column's ``datasets`` feature; a list of ``ClassLabel`` gives the names.

    Raises:
        DataError: not lists, a row without a list, an entry that names no class or is repeated.
    """
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_null(kind)):
        raise DataError(
            f"{origin}: the label column {name!r} holds {kind} (row 1: {column[0].as_py()!r}), expected a list of class"
            " names in every row, since `task.form` is multi-label.\n  Write the rows as JSON Lines, such as"
            f' {{"{name}": ["first", "second"]}}, or set `task.form` to what the column holds.'
        )
    declared = getattr(getattr(feature, "feature", None), "names", None)
    rows = []
    for row, values in enumerate(column.to_pylist()):
        if values is None:
            raise DataError(
                f"{origin.where(row)}: no list of labels in column {name!r}, expected one in every row.\n"
                "  Write [] where no label fits; remove rows that nobody has labelled."
            )
        names = [_name(value, declared, name, origin, row) for value in values]
        twice = next((one for one in names if names.count(one) > 1), None)
        if twice is not None:
            raise DataError(
                f"{origin.where(row)}: the label {twice!r} stands twice in column {name!r}, expected each name once.\n"
                "  Keep one of them."
            )
        rows.append(names)
    return rows


def refuse_unknown_names(lists: list[list[str]], known: tuple[str, ...], name: str, origin: Origin, split: str) -> None:
    """Check that train has every name of validation or test.

    Raises:
        DataError: naming the first missing one and its row.
    """
    for row, names in enumerate(lists):
        for one in names:
            if one not in known:
                found = f"the {split} split has the label {one!r} in column {name!r}"
                raise unseen_label(origin.where(row), one, known, found, labels_of_train(known))


def _name(value: Any, declared: Any, name: str, origin: Origin, row: int) -> str:
    if declared is not None and isinstance(value, int) and 0 <= value < len(declared):
        return str(declared[value])
    if declared is None and value != "" and isinstance(value, str | int):
        return label_name(value)
    numbers = "" if declared is None else f" numbered 0..{len(declared) - 1}"
    raise DataError(
        f"{origin.where(row)}: {value!r} in the list of column {name!r}, expected the name of a class{numbers}.\n"
        "  Write names or integers."
    )
