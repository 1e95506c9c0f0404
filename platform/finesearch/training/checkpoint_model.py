"""A checkpoint as a model again: the base's tensors with the trained ones over them, and its score on a split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import CheckpointError
from finesearch.plan import TaskPlan, TrainingPlan
from finesearch.training.trial import Scored

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from finesearch.training.checkpoint_record import CheckpointRecord
    from finesearch.training.materials import Materials


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
    from safetensors.torch import load_file

    from finesearch.tasks.kinds import KINDS
    from finesearch.training.adaptations import attach
    from finesearch.training.base_model import overlay
    from finesearch.training.checkpoint_record import read_record
    from finesearch.training.checkpoint_writer import WEIGHTS
    from finesearch.training.checkpoints import check_intact
    from finesearch.training.model_files import load_tokenizer

    folder = Path(folder)
    check_intact(folder)
    record = read_record(folder)
    assert record.kind in KINDS, record.kind
    model = load_base(folder, record, base)
    attach(model, record.recipe.adaptation, record.recipe.adaptation_parameters, fresh=record.trained)
    overlay(model, load_file(folder / WEIGHTS))
    model.train(False)
    return model, load_tokenizer(folder), record


def load_base(folder: Path, record: CheckpointRecord, base: str | Path | None = None) -> PreTrainedModel:
    """The base model with the head of a checkpoint's config: what was trained is not in it yet.

    Raises:
        CheckpointError, ModelError: see ``load_checkpoint_model``.
    """
    import torch
    from transformers import GenerationConfig

    from finesearch.training.checkpoint_writer import GENERATION
    from finesearch.training.model_facts import auto_class, read_config
    from finesearch.training.model_files import quiet_transformers

    home = base_folder(record, base, folder)
    config = read_config(folder)
    with quiet_transformers():
        model: PreTrainedModel = auto_class(record.kind, config).from_pretrained(
            home, config=config, dtype=torch.float32, trust_remote_code=False, ignore_mismatched_sizes=True
        )
        if (folder / GENERATION).is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def evaluate_checkpoint(
    folder: str | Path, split: str, task: TaskPlan, training: TrainingPlan, base: str | Path, cache: str | Path
) -> Scored:
    """Load a checkpoint and score it on ``train``, ``validation`` or ``test``, in the precision in which it was
    trained.

    base: folder that relative paths of ``task`` are relative to.

    Raises:
        CheckpointError: see ``load_checkpoint_model``; or the classes of the data are not those of the checkpoint.
        DataError, ModelError: the data or the base model cannot be read.
    """
    import torch

    from finesearch.training.checkpoint_record import read_record
    from finesearch.training.checkpoints import check_intact
    from finesearch.training.engine import prepare_imports
    from finesearch.training.evaluation import Scoring, evaluate
    from finesearch.training.materials import load_materials
    from finesearch.training.precision import compute_in, move
    from finesearch.training.processes import Processes, choose_device
    from finesearch.training.prompting import trains
    from finesearch.training.prompting.attempt import answer_again
    from finesearch.training.randomness import isolated_generators

    folder, device = Path(folder), choose_device(training.gpus_per_worker)
    prepare_imports(device)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(training.cpus_per_worker)))
    try:
        with isolated_generators(training.seed):
            materials = load_materials(task, Path(base), Path(cache))
            check_intact(folder)
            record = read_record(folder)
            _refuse_other_labels(folder, record, materials)
            alone = Processes(rank=0, world_size=1, device=device)
            if not trains(record.recipe.adaptation):
                return answer_again(folder, record, materials, split, alone)
            model, _, record = load_checkpoint_model(folder, materials.base.folder)
            if materials.base.generation is not None:
                # The plan's of now: it may be asked how the same weights do otherwise.
                model.generation_config = materials.base.generation
            compute_in(model, record.precision, device)
            move(model, device)
            scoring = Scoring(decision=record.evaluation.decision)
            return evaluate(model, materials.task, materials.base, materials.tokens[split], alone, scoring)
    finally:
        torch.set_num_threads(threads)


def _refuse_other_labels(folder: Path, record: CheckpointRecord, materials: Materials) -> None:
    from finesearch.tasks import Facts

    for name, known in Facts.model_validate(record.facts).encoding.items():
        got = materials.facts.encoding[name]
        if known != got:
            what = "labels" if name == "label_names" else name.replace("_", " ")
            raise CheckpointError(
                f"{folder}: expected data with the {what} {known}, got {got}. Score it on the data that it was "
                f"trained on."
            )


def check_base(record: CheckpointRecord, home: Path, folder: Path) -> None:
    """Whether the base model in ``home`` is the one that a checkpoint belongs to.

    Raises:
        CheckpointError: it is another one.
    """
    from finesearch.training.model_files import weights_sha256

    got = weights_sha256(home)
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
    from finesearch.training.model_source import model_folder

    if base is not None:
        home = Path(base)
    elif Path(record.base.folder).is_dir():
        home = Path(record.base.folder)
    else:
        home = model_folder(record.base.model, record.base.revision, Path(os.curdir))
    check_base(record, home, folder)
    return home
