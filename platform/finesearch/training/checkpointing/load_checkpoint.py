"""A checkpoint as a model again: the base's tensors with the trained ones over them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord


def load_checkpoint_model(
    folder: str | Path, base: str | Path | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, CheckpointRecord]:
    """The whole model in eval mode, its tokenizer, and the record of how it came about.

    Adapters stand in it as they were trained, not merged, so that it predicts what it did to the last bit.

    base: the base model's folder, where it is no longer where the record says (on another machine, for example).

    Raises:
        CheckpointError: the checkpoint does not match its manifest, or the base is not the one that it was trained
            from.
        ModelError: the base cannot be found.
    """
    from finesearch.training.checkpointing.checkpoint_layout import check_intact
    from finesearch.training.checkpointing.checkpoint_record import read_record
    from finesearch.training.model.model_files import load_tokenizer

    folder = Path(folder)
    check_intact(folder)
    record = read_record(folder)
    model = build_checkpoint_model(folder, record, base_folder(record, base, folder))
    return model, load_tokenizer(folder), record


def build_checkpoint_model(folder: Path, record: CheckpointRecord, home: Path) -> PreTrainedModel:
    """The model in eval mode, of a checkpoint that has been verified; ``home`` holds the base it was trained from."""
    from safetensors.torch import load_file

    from finesearch.tasks.task_registry import TASKS_BY_KIND
    from finesearch.training.adaptations.adapt import attach
    from finesearch.training.checkpointing.checkpoint_writer import WEIGHTS
    from finesearch.training.model.base_model import overlay

    assert record.kind in TASKS_BY_KIND, record.kind
    model = _read_base(folder, record, home)
    attach(model, record.recipe.adaptation, record.recipe.adaptation_parameters, fresh=record.trained)
    overlay(model, load_file(folder / WEIGHTS))
    model.train(False)
    return model


def load_base(folder: Path, record: CheckpointRecord, base: str | Path | None = None) -> PreTrainedModel:
    """The base model with the head of a checkpoint's config: what was trained is not in it yet.

    Raises:
        CheckpointError, ModelError: see ``load_checkpoint_model``.
    """
    return _read_base(folder, record, base_folder(record, base, folder))


def _read_base(folder: Path, record: CheckpointRecord, home: Path) -> PreTrainedModel:
    import torch
    from transformers import GenerationConfig

    from finesearch.training.checkpointing.checkpoint_writer import GENERATION
    from finesearch.training.model.model_config import auto_class, read_config
    from finesearch.training.model.model_files import quiet_transformers

    config = read_config(folder)
    with quiet_transformers():
        model: PreTrainedModel = auto_class(record.kind, config).from_pretrained(
            home, config=config, dtype=torch.float32, trust_remote_code=False, ignore_mismatched_sizes=True
        )
        if (folder / GENERATION).is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def check_base(record: CheckpointRecord, home: Path, folder: Path, sha256: str | None = None) -> None:
    """Whether the base model in ``home`` is the one that a checkpoint belongs to; ``sha256`` is its, where known.

    Raises:
        CheckpointError: it is another one.
    """
    from finesearch.training.model.model_files import weights_sha256

    got = sha256 or weights_sha256(home)
    if got != record.base.sha256:
        raise CheckpointError(
            f"{folder}: this checkpoint holds what was trained on top of {record.base.model} with SHA-256 "
            f"{record.base.sha256[:12]}…, and {home} has {got[:12]}…. Point at the base that it was trained from."
        )


def base_folder(record: CheckpointRecord, base: str | Path | None, folder: Path) -> Path:
    """Where the base model of a checkpoint is; ``base`` where it is no longer where the record says.

    Raises:
        CheckpointError, ModelError: see ``load_checkpoint_model``.
    """
    from finesearch.training.model.resolve_model import model_folder

    if base is not None:
        home = Path(base)
    elif Path(record.base.folder).is_dir():
        home = Path(record.base.folder)
    else:
        home = model_folder(record.base.model, record.base.revision, Path(os.curdir))
    check_base(record, home, folder)
    return home
