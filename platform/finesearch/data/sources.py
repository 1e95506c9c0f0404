"""Loads the plan's ``data`` source (files, folder, hub or built-in): rows of each split that it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.data.readers.builtin_docstrings import standard_library_docstrings
from finesearch.data.readers.hub_datasets import read_hub
from finesearch.data.readers.nested_fields import columns_to_read, select_fields
from finesearch.data.readers.plan_columns import plain_table, require_columns
from finesearch.data.readers.read_files import read_files
from finesearch.data.readers.saved_datasets import named_splits, read_folder
from finesearch.errors import DataError
from finesearch.tasks import Origin

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from finesearch.plan import DataPlan, TaskPlan

BUILTIN_DATASETS = {"standard-library-docstrings": standard_library_docstrings}


@dataclass(frozen=True)
class LoadedSource:
    """A source as read: split -> rows, split -> origin, and notes. ``train`` always exists.

    is_explicit: True if the plan named each split's files, so that none of them may be dropped.
    """

    tables: dict[str, pa.Table]
    origins: dict[str, Origin]
    is_explicit: bool
    notes: list[str] = field(default_factory=list)


def read_source(task: TaskPlan, base: Path, cache: Path | None) -> LoadedSource:
    """Rows of the plan's columns from whichever source the plan names.

    Raises:
        DataError: anything missing or unreadable, by file.
    """
    plan = task.data
    if plan.builtin is not None:
        return _builtin(plan.builtin, task)
    if plan.folder is not None:
        return _from_datasets(read_folder(plan.folder, base), plan.folder, task, [])
    if plan.hub is not None:
        present, notes = read_hub(plan.hub, plan.config, plan.revision, cache)
        return _from_datasets(present, "/".join(filter(None, (plan.hub, plan.config))), task, notes)
    return _from_files(plan, base, task)


def _from_files(plan: DataPlan, base: Path, task: TaskPlan) -> LoadedSource:
    tables, origins, notes = {}, {}, []
    for split in plan.files:
        tables[split], origins[split], found = read_files(plan, split, base, _source_columns(task))
        notes += found
    return LoadedSource(tables, origins, is_explicit=True, notes=list(dict.fromkeys(notes)))


def _from_datasets(present: dict[str, datasets.Dataset], source: str, task: TaskPlan, notes: list[str]) -> LoadedSource:
    names, unused = named_splits(present, source)
    tables, origins = {}, {}
    for split, name in names.items():
        where = f"{source}, split {name!r}"
        columns = _source_columns(task)
        rows = present[name].select_columns(columns_to_read(present[name].features.arrow_schema, columns, where))
        if not len(rows):
            raise DataError(f"{where}: the split is empty, expected at least one row.")
        # The schema's metadata contains the class names.
        table = rows.with_format("arrow")[:].replace_schema_metadata(rows.features.arrow_schema.metadata)
        tables[split], origins[split] = plain_table(select_fields(table, columns)), Origin(((where, len(rows)),))
    return LoadedSource(tables, origins, is_explicit=False, notes=notes + unused)


def _source_columns(task: TaskPlan) -> dict[str, str]:
    """Role -> column of the source; each of several label columns has a role of its own."""
    if not task.label_columns:
        return task.columns
    others = {role: column for role, column in task.columns.items() if role != "label"}
    return others | {f"label[{number}]": column for number, column in enumerate(task.label_columns)}


def _builtin(name: str, task: TaskPlan) -> LoadedSource:
    import pyarrow as pa

    if name not in BUILTIN_DATASETS:
        raise DataError(f"`data.builtin`: unknown data set {name!r}. Known: {', '.join(BUILTIN_DATASETS)}.")
    table = pa.table(BUILTIN_DATASETS[name]())
    columns = require_columns(table.column_names, task.columns, name)
    return LoadedSource({"train": table.select(columns)}, {"train": Origin(((name, len(table)),))}, is_explicit=True)
