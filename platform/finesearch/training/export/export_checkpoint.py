"""Exports a checkpoint to a folder that ``AutoModel….from_pretrained`` or peft loads without finesearch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import StorageError

if TYPE_CHECKING:
    from finesearch.plan import TaskPlan, TrainingPlan
    from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord


def export_checkpoint(
    folder: str | Path,
    destination: str | Path,
    base: str | Path | None = None,
    adapter: bool = False,
    generation: Mapping[str, Any] | None = None,
    complete: Callable[[Path], None] | None = None,
) -> Path:
    """Write the merged model (safetensors), its config with the label names, and its tokenizer to ``destination``.

    Where transformers has no class for the head (relations, pooled texts), a README.md beside them shows how to use it.
    Base weights in 8 or 4 bits are merged as the values that they stood for in training, and written in bf16: the
    adapter was trained to go with these values, errors of the quantization included.
    A soft prompt cannot be merged: it is written in peft's format, and the README.md says how to load it. For a
    prompting trial, which trained nothing, the export holds the model, the prompt, and a script that prompts the model.

    base: see ``load_checkpoint_model``. adapter: write only what was added to the base model and trained, for peft,
    instead of the merged model. generation: settings of ``task.generation`` that replace those that the trial was
    scored with. complete: adds files to the export, in the folder that it is given. The destination is written
    atomically; who may read it may read every file in it.

    Raises:
        InputError: an adapter is requested, and the checkpoint has none.
        StorageError: the destination exists already and is not an empty folder.
        DiskFullError: the disk is full.
        CheckpointError, ModelError: see ``load_checkpoint_model``.
    """
    from finesearch.plan.space.branches import QUANTIZED
    from finesearch.storage import checksummed_dirs
    from finesearch.storage.atomic_files import storage_errors
    from finesearch.tasks import TaskFacts
    from finesearch.tasks.generation.generation_task import apply_generation_settings
    from finesearch.training.adaptations.adapters import merge_adapter
    from finesearch.training.checkpointing.checkpoint_layout import check_intact
    from finesearch.training.checkpointing.checkpoint_record import read_record
    from finesearch.training.checkpointing.load_checkpoint import load_base, load_checkpoint_model
    from finesearch.training.export.export_prompt import load_prompt_checkpoint, save_prompt_checkpoint
    from finesearch.training.export.peft_adapter import check_has_adapter, save_adapter
    from finesearch.training.export.peft_prompt import holds_prompt, save_backbone_prompt, save_prompt
    from finesearch.training.export.pooled_readme import pooled_readme
    from finesearch.training.heads.pooled_classifier import PooledClassifier
    from finesearch.training.heads.relation_model import LOADER, RelationExtractionModel
    from finesearch.training.heads.target_scale import fold_target_scale
    from finesearch.training.model.model_files import quiet_transformers
    from finesearch.training.prompting import is_prompted
    from finesearch.training.weights.quantization import base_weights_of

    destination = Path(destination).absolute()
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise StorageError(f"{destination}: expected a folder that does not exist yet or is empty. Name another one.")
    check_intact(Path(folder))
    record = read_record(Path(folder))
    has_prompt = is_prompted(record.recipe.adaptation)
    if adapter:
        check_has_adapter(record)
    model, tokenizer = (
        load_prompt_checkpoint(Path(folder), record, base)
        if has_prompt
        else load_checkpoint_model(folder, base, dequantizes=not adapter)[:2]
    )
    if generation:
        apply_generation_settings(model.generation_config, generation)
    if not (adapter or has_prompt or holds_prompt(record)):
        merge_adapter(model)
        if base_weights_of(record.recipe) in QUANTIZED:
            model.bfloat16()
    if not has_prompt:
        fold_target_scale(model, TaskFacts.model_validate(record.facts).target_scale)
    with storage_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        # A name that nobody else has: one that could be foretold might be the user's own folder.
        scratch = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    temporary = scratch / destination.name  # within, since mkdtemp keeps its own folder from everybody else
    try:
        with checksummed_dirs.disk_full_as_error(destination), quiet_transformers():
            temporary.mkdir()
            if has_prompt:
                save_prompt_checkpoint(model, Path(folder), record, base, temporary)
            elif holds_prompt(record):
                is_ours = isinstance(model, RelationExtractionModel | PooledClassifier)
                save = save_backbone_prompt if is_ours else save_prompt
                save(model, load_base(Path(folder), record, base), record, temporary)
                if not is_ours:
                    model.config.save_pretrained(temporary)
                    if model.can_generate():
                        model.generation_config.save_pretrained(temporary)
            elif adapter:
                save_adapter(model, load_base(Path(folder), record, base), record, temporary)
                model.config.save_pretrained(temporary)
            else:
                if isinstance(model, RelationExtractionModel):
                    model.merge_added_tokens()
                    (temporary / "README.md").write_text(LOADER, encoding="utf-8")
                elif isinstance(model, PooledClassifier):
                    (temporary / "README.md").write_text(pooled_readme(model), encoding="utf-8")
                model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            if complete is not None:
                complete(temporary)
            _share(temporary)
            if destination.exists():
                destination.rmdir()
            checksummed_dirs.rename_synced(temporary, destination)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return destination


def _share(folder: Path) -> None:
    """Give every file the rights that a new file has here: libraries write some for their owner alone."""
    probe = folder / ".rights"
    probe.touch()
    rights = probe.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(rights)


def score_export(
    folder: Path, record: CheckpointRecord, task: TaskPlan, training: TrainingPlan, base: Path, cache: Path
) -> Mapping[str, float]:
    """Metrics on validation of a merged export, in the precision of the checkpoint in ``record``.

    base, cache: see ``CheckpointScorer``.

    Raises:
        DataError, ModelError: data or base model cannot be read.
    """
    import torch

    from finesearch.tasks import TaskFacts
    from finesearch.training.heads.target_scale import unfold_target_scale
    from finesearch.training.loop.score_checkpoint import CheckpointScorer
    from finesearch.training.model.model_config import auto_class, read_config
    from finesearch.training.model.model_files import quiet_transformers
    from finesearch.training.runtime.precision import compute_in, move
    from finesearch.training.steps.evaluate import ScoringOptions, evaluate

    scorer = CheckpointScorer(task, training, base, cache)
    with scorer.working(), quiet_transformers():
        context, config = scorer.context, read_config(folder)
        model = auto_class(record.kind, config).from_pretrained(folder, config=config, dtype=torch.float32)
        unfold_target_scale(model, TaskFacts.model_validate(record.facts).target_scale)
        model.train(False)
        if context.base.generation is not None:
            model.generation_config = context.base.generation
        compute_in(model, record.precision, scorer.processes.device)
        move(model, scorer.processes.device)
        scoring = ScoringOptions(decision=record.evaluation.decision)
        tokens = context.tokens["validation"]
        return evaluate(model, context.task, context.base, tokens, scorer.processes, scoring=scoring).metrics
