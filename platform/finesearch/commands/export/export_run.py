"""``finesearch export``: writes a ranked checkpoint as a folder for transformers or peft, with its model card."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from finesearch.commands.export.merged_score import is_merged_from_quantized, merged_score
from finesearch.commands.export.model_card import write_model_card
from finesearch.errors import InputError
from finesearch.run.ranked_json import find_ranked_checkpoint, read_report
from finesearch.run.run_storage import REPORT
from finesearch.storage.open_store import open_store
from finesearch.training.checkpointing.checkpoint_record import read_record
from finesearch.training.export.export_checkpoint import export_checkpoint


def export_run(run: str, folder: Path, rank: int, adapter: bool) -> list[str]:
    """Export the checkpoint of a rank; returns notes about what was written.

    Raises:
        InputError: ``run`` is no run or has no such rank, or the folder is a file or not empty.
        StorageError, CheckpointError, ModelError: see ``export_checkpoint``.
    """
    ranked = find_ranked_checkpoint(run, rank)
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder}: is a file. Expected a new folder; nothing was overwritten.")
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: exists and is not empty. Expected a new folder; nothing was overwritten.")
    store, notes = open_store(run), list[str]()
    report = read_report(store)
    if report is None:
        notes.append(
            f"no model card: {store.shown} has no {REPORT}, since an older version ranked it. The command of the "
            "search writes it now; then export again"
        )

    def add_card(checkpoint: Path, written: Path) -> None:
        record, remarks = read_record(checkpoint), list[str]()
        if is_merged_from_quantized(record, written):
            remarks.append(merged_score(store, record, written))
        notes.extend(remarks)
        if report is not None:
            write_model_card(written, record, report, rank, remarks)

    copy = open_store(ranked.checkpoint).local_copy()
    with copy.errors_naming_store() as checkpoint:
        export_checkpoint(
            checkpoint, folder, adapter=adapter, generation=ranked.generation, complete=partial(add_card, checkpoint)
        )
    if not adapter and any(folder.rglob("adapter_config.json")):
        notes.append("a prompt cannot be merged into weights: written for peft, see README.md there")
    return notes
