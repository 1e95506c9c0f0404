"""Exports a trained adapter (LoRA, IA3) as a folder that peft loads onto the base model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import InputError
from finesearch.training.adaptations import adapters, soft_prompts
from finesearch.training.adaptations.adapt import ADAPTATIONS
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.model.base_reference import BaseReference

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

    model: the checkpoint's, from ``load_checkpoint_model``. plain: the base model with the same head; peft adapts it
    here, so that peft itself writes the files.
    """
    from peft import get_peft_model

    from finesearch.training.model.base_model import overlay

    adaptation = ADAPTATIONS[record.recipe.adaptation]
    assert isinstance(adaptation, adapters.Adapter)
    owners = {name: name.rpartition(".")[0] for name in record.trained if not adapters.is_added(name)}
    config: Any = adaptation.config(plain, record.recipe.adaptation_parameters, record.trained)
    config.modules_to_save = sorted(set(owners.values()))
    config.base_model_name_or_path, config.revision = address(record.base)
    adapted: Any = get_peft_model(plain, config)
    tensors = {}
    for name in record.trained:
        owner = owners.get(name)
        inside = f"{owner}.modules_to_save.default.{name.rpartition('.')[2]}" if owner else name
        tensors[f"base_model.model.{inside}"] = model.get_parameter(name)
    overlay(adapted, tensors)
    adapted.save_pretrained(str(folder))


def address(base: BaseReference) -> tuple[str, str | None]:
    """Where peft finds the base model: its hub id and revision if it came from the hub, else its folder."""
    came_from_hub = Path(base.folder).parent.name == "snapshots"
    return (base.model, base.revision) if came_from_hub else (base.folder, None)
