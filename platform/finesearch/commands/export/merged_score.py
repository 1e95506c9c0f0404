"""Scores a merged export of a model whose base was quantized in training, beside the score that its trial got."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import FinesearchError
from finesearch.plan.space.branches import QUANTIZED
from finesearch.report.number_format import score
from finesearch.run.identity.begun_plan import read_begun_plan
from finesearch.run.remote_run import run_storage_in
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.export.export_checkpoint import score_export
from finesearch.training.weights.quantization import base_weights_of

if TYPE_CHECKING:
    from finesearch.storage.store import Store


def is_merged_from_quantized(record: CheckpointRecord, written: Path) -> bool:
    """Whether an export holds weights that no trial was scored with."""
    is_adapter = (written / "adapter_config.json").exists()
    return base_weights_of(record.recipe) in QUANTIZED and not is_adapter and (written / "config.json").exists()


def merged_score(store: Store, record: CheckpointRecord, written: Path) -> str:
    """A sentence with both scores on validation, or why there is only one."""
    stored, had = base_weights_of(record.recipe), record.evaluation.metrics[record.metric]
    with tempfile.TemporaryDirectory(prefix="finesearch-export-") as scratch:
        try:
            plan = read_begun_plan(run_storage_in(store, store.name, Path(scratch)))
            assert plan is not None, store.shown
            metrics = score_export(written, record, plan.task, plan.training, plan.base, Path(scratch) / "cache")
        except FinesearchError as error:
            return (
                f"merged in bf16 and not scored again, since data or model cannot be read here ({error}). With base "
                f"weights in {stored} it had {record.metric} {score(had)} on validation"
            )
    return (
        f"merged in bf16: {record.metric} {score(metrics[record.metric])} on validation, {score(had)} with base "
        f"weights in {stored}, as its trial was scored"
    )
