"""trials.parquet: one row a trial, for further analysis."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finesearch.report.number_format import parameter
from finesearch.report.ranking import unranked, verified_rows
from finesearch.report.report_json import SCHEMA_VERSION
from finesearch.report.run_record import RunRecord, Scalar, TrialRow

if TYPE_CHECKING:
    import pyarrow as pa


def trials_table(record: RunRecord) -> "pa.Table":
    """One row a trial, by trial number.

    Columns and their types do not depend on the run, except ``parameter.<name>``: one column a hyperparameter, null in
    trials that did not draw it; int64, double or bool where all its values are, string where they are mixed.
    """
    import pyarrow as pa

    rows = sorted(record.trials, key=lambda row: row.trial)
    scored = {row.trial: (place, row) for place, row in enumerate(verified_rows(record), start=1)}
    reasons = {entry.row.trial: entry.reason for entry in unranked(record)}
    step = pa.struct(
        [
            ("step", pa.int64()),
            ("epoch", pa.float64()),
            ("value", pa.float64()),
            ("metrics", pa.map_(pa.string(), pa.float64())),
            ("train_loss", pa.float64()),
            ("seconds", pa.float64()),
        ]
    )
    instant = pa.timestamp("us", tz="UTC")
    columns: list[tuple[str, Any, list[Any]]] = [
        ("trial", pa.int64(), [row.trial for row in rows]),
        ("state", pa.string(), [row.state for row in rows]),
        ("reason", pa.string(), [reasons.get(row.trial) for row in rows]),
        ("rank", pa.int64(), [scored[row.trial][0] if row.trial in scored else None for row in rows]),
        ("value", pa.float64(), [row.value for row in rows]),
        ("values", pa.list_(pa.float64()), [None if row.values is None else list(row.values) for row in rows]),
        ("best", pa.float64(), [row.ranking_value for row in rows]),
        ("stopped_at", pa.int64(), [row.stopped_at for row in rows]),
        ("evaluations", pa.int64(), [row.evaluations for row in rows]),
        ("test", pa.float64(), [scored[row.trial][1].test if row.trial in scored else None for row in rows]),
        ("trainable_parameters", pa.int64(), [row.trainable_parameters for row in rows]),
        ("seconds", pa.float64(), [row.seconds for row in rows]),
        ("device_seconds", pa.float64(), [row.device_seconds for row in rows]),
        ("started", instant, [_microseconds(row.started) for row in rows]),
        ("finished", instant, [_microseconds(row.finished) for row in rows]),
        ("group", pa.string(), [row.group for row in rows]),
        ("checkpoint", pa.string(), [row.checkpoint for row in rows]),
        ("warnings", pa.list_(pa.string()), [list(row.warnings) for row in rows]),
        ("history", pa.list_(step), [_history(row) for row in rows]),
    ]
    for name in sorted({name for row in rows for name in row.parameters}):
        columns.append((f"parameter.{name}", *_parameter_column([row.parameters.get(name) for row in rows])))
    about = {"schema_version": str(SCHEMA_VERSION), "name": record.name, "metric": record.metric, "goal": record.goal}
    schema = pa.schema([(name, kind) for name, kind, _ in columns], metadata=about)
    return pa.table([pa.array(values, kind) for _, kind, values in columns], schema=schema)


def trials_parquet(record: RunRecord) -> bytes:
    """The bytes of trials.parquet."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(trials_table(record), buffer, compression="zstd")
    return buffer.getvalue()


def _parameter_column(values: Sequence[Scalar]) -> tuple[Any, list[Any]]:
    import pyarrow as pa

    known = {type(value) for value in values if value is not None}
    if known == {bool}:
        return pa.bool_(), list(values)
    if known == {int}:
        return pa.int64(), list(values)
    if known and known <= {int, float}:
        return pa.float64(), [None if value is None else float(value) for value in values]
    return pa.string(), [None if value is None else _as_text(value) for value in values]


def _as_text(value: Scalar) -> str:
    # Floats in full: four digits are enough on a page but not here.
    return repr(value) if isinstance(value, float) else parameter(value)


def _microseconds(unix_s: float | None) -> int | None:
    return None if unix_s is None else round(unix_s * 1e6)


def _history(row: TrialRow) -> list[dict[str, Any]]:
    return [step.model_dump() | {"metrics": list(step.metrics.items())} for step in row.history]
