"""Train, validation and test splits of a plan: reads them, creates missing ones from train, reports overlaps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finesearch.data.fingerprints import example_hashes, fingerprint
from finesearch.data.row_shapes.convert_rows import convert_rows
from finesearch.data.sources import LoadedSource, read_source
from finesearch.data.train_test_split import cut
from finesearch.errors import DataError
from finesearch.tasks import SPLITS, Origin, RawSplits, Task, make_task

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from finesearch.plan import TaskPlan


def load_splits(task: TaskPlan, base: Path, cache: Path | None = None) -> RawSplits:
    """The three splits of a plan's data, with the plan's columns.

    base: folder that relative paths are relative to; cache: folder of the hub's converted files (None: none).

    A split that the source lacks is taken from train, with a note; notes also report rows that two splits share.

    Raises:
        DataError: anything missing, empty or unreadable; it says where, what was expected, what came and what to do.
    """
    known = make_task(task)
    source = convert_rows(_drop_unlabelled_splits(read_source(task, base, cache), known), task)
    identity = {split: example_hashes(table, known.identity_columns) for split, table in source.tables.items()}
    overlaps = _overlap_notes(identity)
    kept_together = example_hashes(source.tables["train"], known.group_columns)
    tables, origins, cut_notes = _add_missing_splits(source, kept_together, known)
    tables, origins, bound_notes = _limit_evaluation_rows(
        tables, origins, task.data.evaluation_rows, task.data.split_seed
    )
    prints = {split: fingerprint(tables[split], _class_names(tables[split])) for split in SPLITS}
    train, validation, test = (_dataset(tables[split], prints[split]) for split in SPLITS)
    notes = (*source.notes, *cut_notes, *bound_notes, *overlaps)
    return RawSplits(train, validation, test, notes, prints, origins)


def _add_missing_splits(
    source: LoadedSource, identity: list[bytes], task: Task
) -> tuple[dict[str, pa.Table], dict[str, Origin], list[str]]:
    """Every split; those that the source lacks are taken from its train rows."""
    plan = task.plan.data
    shares = {"validation": plan.validation_fraction, "test": plan.test_fraction}
    missing = {split: share for split, share in shares.items() if split not in source.tables}
    if not missing:
        return source.tables, source.origins, []
    train, origin = source.tables["train"], source.origins["train"]
    by = task.stratify_column
    parts = cut(identity, task.strata(train), missing, plan.split_seed)
    tables, origins, notes = dict(source.tables), dict(source.origins), []
    for split, rows in parts.items():
        if not len(rows):
            raise DataError(
                f"{origin}: {len(train)} rows are too few to cut a {split} split out of them.\n"
                f"  Name a file under `data.{split}`, or add rows: a class needs at least two different examples."
            )
        tables[split], origins[split] = train.take(rows), Origin(origin.parts, row_indices=rows)
        if split != "train":
            how = f", in the shares of {by!r}" if by else ""
            notes.append(
                f"No {split} split was given: {len(rows)} of the {len(train)} rows of {origin} were cut for it"
                f" (share {missing[split]:g}, seed {plan.split_seed}{how})."
            )
    return tables, origins, notes


def _limit_evaluation_rows(
    tables: dict[str, pa.Table], origins: dict[str, Origin], most: int | None, seed: int
) -> tuple[dict[str, pa.Table], dict[str, Origin], list[str]]:
    """Validation and test with at most ``most`` rows each, sampled by ``seed``, in their original order."""
    tables, origins, notes = dict(tables), dict(origins), []
    for split in ("validation", "test"):
        rows = len(tables[split])
        if most is None or rows <= most:
            continue
        drawn = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
        origin = origins[split]
        row_indices = drawn if origin.row_indices is None else origin.row_indices[drawn]
        tables[split], origins[split] = tables[split].take(drawn), Origin(origin.parts, row_indices=row_indices)
        notes.append(f"task.data.evaluation_rows: {most} of the {rows} {split} rows are scored (seed {seed}).")
    return tables, origins, notes


def _drop_unlabelled_splits(source: LoadedSource, task: Task) -> LoadedSource:
    """The source without splits whose labels are all null or -1, as in many test splits on the hub."""
    by = task.stratify_column
    if source.is_explicit or by is None:
        return source
    tables, notes = {}, list(source.notes)
    for split, table in source.tables.items():
        if split != "train" and _is_unlabelled(table.column(by)):
            notes.append(f"{source.origins[split]}: no row has a label in {by!r}; it cannot be scored and is left out.")
        else:
            tables[split] = table
    return LoadedSource(tables, source.origins, source.is_explicit, notes)


def _is_unlabelled(column: pa.ChunkedArray) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_integer(column.type):
        return bool(pc.all(pc.equal(column.fill_null(-1), -1)).as_py())
    return bool(column.null_count == len(column))


def _overlap_notes(identity: dict[str, list[bytes]]) -> list[str]:
    """A note for each pair of given splits that share examples (data leakage)."""
    notes = []
    for seen, scored in (("train", "test"), ("train", "validation"), ("validation", "test")):
        if seen in identity and scored in identity:
            known = set(identity[seen])
            shared = sum(row in known for row in identity[scored])
            total = len(identity[scored])
            if shared:
                share = f"{shared / total:.1%}"
                notes.append(f"{shared} of the {total} {scored} rows ({share}) stand in {seen} too, word for word.")
    return notes


def _dataset(table: pa.Table, content: str) -> datasets.Dataset:
    import datasets

    # With a given fingerprint, datasets does not hash all rows again.
    return datasets.Dataset(table, fingerprint=content[:16])


def _class_names(table: pa.Table) -> dict[str, list[str]]:
    import datasets

    features = datasets.Features.from_arrow_schema(table.schema)
    return {name: list(feature.names) for name, feature in features.items() if hasattr(feature, "names")}
