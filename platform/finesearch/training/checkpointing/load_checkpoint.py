"""Loads a checkpoint as a model: the base's tensors, overwritten by the trained ones; verifies checksums first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord


def load_checkpoint_model(
    folder: str | Path, base: str | Path | None = None, dequantizes: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, CheckpointRecord]:
    """The whole model in eval mode, its tokenizer, and the checkpoint's record.

    Adapters are not merged, so that predictions are bit-identical to those during training.

    base: the base model's folder, if it is no longer where the record says (on another machine, for example).
    dequantizes: whether base weights in 8 or 4 bits become fp32 of the same values.

    Raises:
        CheckpointError: the checkpoint does not match its manifest, or was trained from another base model.
        ModelError: the base cannot be found.
    """
    from finesearch.training.checkpointing.checkpoint_layout import RECORD, check_intact
    from finesearch.training.checkpointing.checkpoint_record import read_record
    from finesearch.training.checkpointing.checkpoint_writer import WEIGHTS
    from finesearch.training.model.model_files import load_tokenizer

    folder = Path(folder)
    check_intact(folder, (RECORD, "config.json", WEIGHTS))
    record = read_record(folder)
    model = build_checkpoint_model(folder, record, base_folder(record, base, folder), dequantizes)
    return model, load_tokenizer(folder), record


def build_checkpoint_model(
    folder: Path, record: CheckpointRecord, home: Path, dequantizes: bool = False
) -> PreTrainedModel:
    """The model of a verified checkpoint, in eval mode; ``home`` holds the base model it was trained from."""
    from safetensors.torch import load_file

    from finesearch.plan import ADAPTATIONS
    from finesearch.tasks.task_registry import TASKS_BY_KIND
    from finesearch.training.adaptations.adapt import attach
    from finesearch.training.checkpointing.checkpoint_writer import WEIGHTS
    from finesearch.training.model.base_model import overlay
    from finesearch.training.weights.quantization import dequantize_layers

    assert record.kind in TASKS_BY_KIND, record.kind
    model = _read_base(folder, record, home)
    if dequantizes:
        dequantize_layers(model)
    if ADAPTATIONS[record.recipe.adaptation].trains:
        attach(model, record.recipe.adaptation, record.recipe.adaptation_parameters, fresh=record.trained)
    overlay(model, load_file(folder / WEIGHTS))
    model.train(False)
    return model


def load_base(folder: Path, record: CheckpointRecord, base: str | Path | None = None) -> PreTrainedModel:
    """The base model with the head of a checkpoint's config, without the trained tensors.

    Raises:
        CheckpointError, ModelError: see ``load_checkpoint_model``.
    """
    return _read_base(folder, record, base_folder(record, base, folder))


def _read_base(folder: Path, record: CheckpointRecord, home: Path) -> PreTrainedModel:
    import torch
    from transformers import GenerationConfig

    from finesearch.plan.space.branches import QUANTIZED
    from finesearch.tasks import TaskFacts
    from finesearch.training.checkpointing.checkpoint_writer import GENERATION
    from finesearch.training.heads.label_order import fit_output_layer
    from finesearch.training.heads.target_scale import unfold_target_scale
    from finesearch.training.model.model_config import auto_class, read_config
    from finesearch.training.model.model_files import quiet_transformers
    from finesearch.training.weights.quantization import base_weights_of, quantize_layers
    from finesearch.training.weights.weight_files import holds_bf16_alone

    config = read_config(folder)
    names = record.facts.get("label_names", ())
    stored = base_weights_of(record.recipe)
    is_bf16 = stored in QUANTIZED and holds_bf16_alone(home)
    with quiet_transformers():
        model: PreTrainedModel = auto_class(record.kind, config).from_pretrained(
            home,
            config=config,
            dtype=torch.bfloat16 if is_bf16 else torch.float32,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
        )
        unfold_target_scale(model, TaskFacts.model_validate(record.facts).target_scale)
        if (folder / GENERATION).is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
    # Where it did not train, the checkpoint has no output layer of its own.
    fit_output_layer(model, frozenset(record.trained), home, names)
    if stored in QUANTIZED:
        quantize_layers(model, stored, frozenset(record.trained))
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dtype == torch.bfloat16:
                tensor.data = tensor.data.float()
    return model


def check_base(record: CheckpointRecord, home: Path, folder: Path, sha256: str | None = None) -> None:
    """Check that a checkpoint was trained from the base model in ``home``; ``sha256``: hash of the latter, if known.

    Raises:
        CheckpointError: it was trained from another one.
    """
    from finesearch.training.weights.weight_files import weights_sha256

    got = sha256 or weights_sha256(home)
    if got != record.base.sha256:
        raise CheckpointError(
            f"{folder}: this checkpoint holds what was trained on top of {record.base.model} with SHA-256 "
            f"{record.base.sha256[:12]}…, and {home} has {got[:12]}…. Point at the base that it was trained from."
        )


def base_folder(record: CheckpointRecord, base: str | Path | None, folder: Path) -> Path:
    """The base model's folder of a checkpoint; ``base`` overrides the record.

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
