"""Replaces a column of a table together with its ``datasets`` feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def set_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray, feature: Any = None) -> pa.Table:
    """The table with other values in a column, which is added if it is not there.

    feature: the column's ``datasets`` feature, such as a ``ClassLabel``; default: what the values' type says.
    """
    import datasets
    from datasets.features.features import generate_from_arrow_type

    features = datasets.Features.from_arrow_schema(table.schema)
    features[name] = generate_from_arrow_type(values.type) if feature is None else feature
    place = table.schema.get_field_index(name)
    changed = table.append_column(name, values) if place < 0 else table.set_column(place, name, values)
    # The schema's metadata contains the class names.
    return changed.replace_schema_metadata(features.arrow_schema.metadata)
