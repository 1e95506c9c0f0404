"""Exports a trained adapter (LoRA, IA3) as a folder that peft loads onto the base model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import InputError
from finesearch.training.adaptations import adapters, soft_prompts
from finesearch.training.adaptations.adapt import ADAPTATIONS
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.export.pooled_readme import HEAD_FILE, adapter_readme
from finesearch.training.model.base_reference import BaseReference
from finesearch.training.model.module_structure import backbone_prefix

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_has_adapter(record: CheckpointRecord) -> None:
    """Check that a checkpoint holds an adapter.

    Raises:
        InputError: its recipe trained the base's weights, or nothing.
    """
    kinds, own = (adapters.Adapter, soft_prompts.Prompt), ADAPTATIONS.get(record.recipe.adaptation)
    if not isinstance(own, kinds):
        does = "changes the weights themselves" if own else "trains nothing"
        known = ", ".join(name for name, each in ADAPTATIONS.items() if isinstance(each, kinds))
        raise InputError(
            f"--adapter: expected a checkpoint of an adaptation that adds an adapter ({known}), got one of "
            f"{record.recipe.adaptation}, which {does}. Export it without --adapter."
        )


def save_adapter(model: PreTrainedModel, plain: PreTrainedModel, record: CheckpointRecord, folder: Path) -> None:
    """Write ``adapter_config.json`` and the adapter's weights, with the modules that were trained as a whole.

    A pooled classifier, whose class is ours, has its adapter on the backbone alone, which ``AutoModel`` loads; its head
    and a README.md stand beside it.

    model: the checkpoint's, from ``load_checkpoint_model``. plain: the base model with the same head; peft adapts it
    here, so that peft itself writes the files.
    """
    from peft import get_peft_model

    from finesearch.training.heads.pooled_classifier import PooledClassifier
    from finesearch.training.model.base_model import overlay

    adaptation = ADAPTATIONS[record.recipe.adaptation]
    assert isinstance(adaptation, adapters.Adapter)
    is_pooled = isinstance(plain, PooledClassifier)
    reader: Any = plain.base_model if is_pooled else plain
    prefix = backbone_prefix(plain) if is_pooled else ""
    trained = {name: name.removeprefix(prefix) for name in record.trained if name.startswith(prefix)}
    owners = {name: inside.rpartition(".")[0] for name, inside in trained.items() if not adapters.is_added(name)}
    config: Any = adaptation.config(reader, record.recipe.adaptation_parameters, [*trained.values()])
    config.modules_to_save = sorted(set(owners.values()))
    config.base_model_name_or_path, config.revision = address(record.base)
    adapted: Any = get_peft_model(reader, config)
    tensors = {}
    for name, inside in trained.items():
        owner = owners.get(name)
        if owner:
            inside = f"{owner}.modules_to_save.default.{inside.rpartition('.')[2]}"
        tensors[f"base_model.model.{inside}"] = model.get_parameter(name)
    overlay(adapted, tensors)
    adapted.save_pretrained(str(folder))
    if is_pooled:
        from safetensors.torch import save_file

        head = {name: model.get_parameter(name).detach() for name in record.trained if name not in trained}
        save_file(head, folder / HEAD_FILE)
        text = adapter_readme(plain, config.base_model_name_or_path, config.revision)
        (folder / "README.md").write_text(text, encoding="utf-8")


def address(base: BaseReference) -> tuple[str, str | None]:
    """Where peft finds the base model: its hub id and revision if it came from the hub, else its folder."""
    came_from_hub = Path(base.folder).parent.name == "snapshots"
    return (base.model, base.revision) if came_from_hub else (base.folder, None)
