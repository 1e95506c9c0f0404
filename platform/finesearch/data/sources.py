"""From the plan's ``data`` to rows, one part for each split that its source has."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.data.readers.builtin_docstrings import standard_library_docstrings
from finesearch.data.readers.hub_datasets import read_hub
from finesearch.data.readers.plan_columns import plain_table, require_columns
from finesearch.data.readers.read_files import read_files
from finesearch.data.readers.saved_datasets import named_splits, read_folder
from finesearch.errors import DataError
from finesearch.tasks import Origin

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from finesearch.plan import DataPlan, TaskPlan

BUILTIN = {"standard-library-docstrings": standard_library_docstrings}


@dataclass(frozen=True)
class Source:
    """What was read: split -> rows, split -> where they are from, and notes. ``train`` is always there.

    chosen: True where the plan itself named each split's files, so that none of them may be left out.
    """

    tables: dict[str, pa.Table]
    origins: dict[str, Origin]
    chosen: bool
    notes: list[str] = field(default_factory=list)


def read_source(task: TaskPlan, base: Path, cache: Path | None) -> Source:
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


def _from_files(plan: DataPlan, base: Path, task: TaskPlan) -> Source:
    tables, origins = {}, {}
    for split, paths in plan.files.items():
        tables[split], origins[split] = read_files(paths, base, task.columns, plan.format, split)
    return Source(tables, origins, chosen=True)


def _from_datasets(present: dict[str, datasets.Dataset], source: str, task: TaskPlan, notes: list[str]) -> Source:
    names, unused = named_splits(present, source)
    tables, origins = {}, {}
    for split, name in names.items():
        where = f"{source}, split {name!r}"
        rows = present[name].select_columns(require_columns(present[name].column_names, task.columns, where))
        if not len(rows):
            raise DataError(f"{where}: the split is empty, expected at least one row.")
        # The schema carries class names along as metadata.
        table = rows.with_format("arrow")[:].replace_schema_metadata(rows.features.arrow_schema.metadata)
        tables[split], origins[split] = plain_table(table), Origin(((where, len(rows)),))
    return Source(tables, origins, chosen=False, notes=notes + unused)


def _builtin(name: str, task: TaskPlan) -> Source:
    import pyarrow as pa

    if name not in BUILTIN:
        raise DataError(f"`data.builtin`: unknown data set {name!r}. Known: {', '.join(BUILTIN)}.")
    table = pa.table(BUILTIN[name]())
    columns = require_columns(table.column_names, task.columns, name)
    return Source({"train": table.select(columns)}, {"train": Origin(((name, len(table)),))}, chosen=True)
