"""A model's config, its class for a task, and its modules without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.training.heads.pooled_head import pooled_head
from finesearch.training.model.dimensions import max_positions
from finesearch.training.model.model_files import quiet_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def read_config(folder: Path, **settings: Any) -> PretrainedConfig:
    """The model's config with the task's settings applied.

    Raises:
        ModelError: there is none, or the model requires custom code.
    """
    with quiet_transformers():
        from transformers import AutoConfig
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        path = folder / "config.json"
        try:
            raw = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ModelError(
                f"task.model: {path} cannot be read ({type(error).__name__}). Point task.model at a folder that "
                f"save_pretrained wrote."
            ) from error
        if raw.get("model_type") not in CONFIG_MAPPING:
            if raw.get("auto_map"):
                raise ModelError(
                    f"task.model: the model in {folder} asks to run code of its own (auto_map in config.json: "
                    f"{', '.join(sorted(raw['auto_map']))}), which finesearch never does. Choose a model of an "
                    f"architecture that transformers itself has."
                )
            raise ModelError(
                f"task.model: {path} says model_type {raw.get('model_type')!r}, which this transformers does not know. "
                f"Choose another model, or a newer transformers."
            )
        try:
            config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False, **settings)
            for name, value in settings.items():
                # transformers drops fields that its config classes do not have, such as those of added tokens.
                if not hasattr(config, name):
                    setattr(config, name, value)
            return config
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ModelError(f"task.model: {path} is not a usable config ({type(error).__name__}: {error}).") from error


def build_skeleton(config: PretrainedConfig, kind: str, folder: Path) -> PreTrainedModel:
    """The model with the task's head and without weights (all tensors on the meta device).

    Raises:
        ModelError: the architecture has no head for this kind of task.
    """
    import torch

    with quiet_transformers(), torch.device("meta"):
        try:
            skeleton: PreTrainedModel = auto_class(kind, config).from_config(config, trust_remote_code=False)
            return skeleton
        except ValueError as error:
            raise ModelError(
                f"task.model: {type(config).__name__} of {folder} has no output layer for {kind} in transformers. "
                f"Choose a model of another architecture."
            ) from error


def auto_class(kind: str, config: PretrainedConfig) -> Any:
    """The class that builds a model of this config with the task's head: from transformers, or ours if it has none.

    Raises:
        ModelError: the model's shape cannot do the task.
    """
    import transformers

    from finesearch.tasks.task_registry import TASKS_BY_KIND

    name = TASKS_BY_KIND[kind].auto_class_of(config)
    if name == "AutoModelForRelationExtraction":
        from finesearch.training.heads.relation_model import AutoModelForRelationExtraction

        return AutoModelForRelationExtraction
    if name == "AutoModelForSequenceClassification" and pooled_head(config) is not None:
        from finesearch.training.heads.pooled_classifier import AutoModelForPooledClassification

        return AutoModelForPooledClassification
    return getattr(transformers, name)


def check_max_length(model: PreTrainedModel, max_length: int) -> None:
    """Check that the model's position table is long enough; models without one (rotary positions) take any length.

    Raises:
        ModelError: it is not.
    """
    positions = max_positions(model)
    if positions is not None and max_length > positions:
        raise ModelError(
            f"task.max_length: {type(model).__name__} has {positions} positions, so expected at most "
            f"{positions}, got {max_length}."
        )
