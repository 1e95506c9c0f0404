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


NOT_BUILT = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)
"""What transformers and torch raise for configs that describe no model."""
NO_CLASS = "Unrecognized configuration class"
MOST_LAYERS = 10_000
MOST_LABELS = 1_000_000
QUANTIZED = ("quantization_config", "compression_config")


def read_config(folder: Path, **settings: Any) -> PretrainedConfig:
    """The model's config with the task's settings applied.

    Raises:
        ModelError: there is none, it is malformed, the model requires custom code, or its weights are quantized.
    """
    with quiet_transformers():
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        path = folder / "config.json"
        raw = _read_object(path)
        if not isinstance(raw.get("model_type"), str) or raw["model_type"] not in CONFIG_MAPPING:
            if isinstance(raw.get("auto_map"), dict):
                raise ModelError(
                    f"task.model: the model in {folder} asks to run code of its own (auto_map in config.json: "
                    f"{', '.join(sorted(raw['auto_map']))}), which finesearch never does. Choose a model of an "
                    f"architecture that transformers itself has."
                )
            raise ModelError(
                f"task.model: {path} says model_type {raw.get('model_type')!r}, which this transformers does not know. "
                f"Choose another model, or a newer transformers."
            )
        _refuse_unsuited(raw, path)
        try:
            config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False, **settings)
            for name, value in settings.items():
                # transformers drops fields that its config classes do not have, such as those of added tokens.
                if not hasattr(config, name):
                    setattr(config, name, value)
            return config
        except (*NOT_BUILT, StrictDataclassError) as error:
            raise _unusable(path, error) from error


def build_skeleton(config: PretrainedConfig, kind: str, folder: Path) -> PreTrainedModel:
    """The model with the task's head and without weights (all tensors on the meta device).

    Raises:
        ModelError: the architecture has no head for this kind of task, or the config describes no model.
    """
    import torch

    with quiet_transformers(), torch.device("meta"):
        try:
            skeleton: PreTrainedModel = auto_class(kind, config).from_config(config, trust_remote_code=False)
            return skeleton
        except NOT_BUILT as error:
            builder = auto_class(kind, config)
            if isinstance(error, ValueError) and (not hasattr(builder, "register") or NO_CLASS in str(error)):
                raise ModelError(
                    f"task.model: {type(config).__name__} of {folder} has no output layer for {kind} in transformers. "
                    f"Choose a model of another architecture."
                ) from error
            raise _unusable(folder / "config.json", error) from error


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


def _read_object(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"task.model: {path} cannot be read ({type(error).__name__}). Point task.model at a folder that "
            f"save_pretrained wrote."
        ) from error
    if not isinstance(raw, dict):
        raise ModelError(
            f"task.model: {path} holds a {type(raw).__name__}, expected an object with model_type. Point task.model at "
            f"a folder that save_pretrained wrote."
        )
    return raw


def _refuse_unsuited(raw: dict[str, Any], path: Path) -> None:
    """Refuse quantized weights, and numbers of layers or labels that no model has: they would take for ever."""
    parts = [raw, *(part for part in raw.values() if isinstance(part, dict))]
    for name in QUANTIZED:
        found = next((part[name] for part in parts if part.get(name)), None)
        if found is not None:
            method = found.get("quant_method") if isinstance(found, dict) else None
            raise ModelError(
                f"task.model: the weights are quantized ({name}{f': {method}' if method else ''} in {path}), expected "
                f"plain ones, which can be trained. Take the model from which they were made, a GGUF file, or "
                f"dequantize them and save the model again."
            )
    for part in parts:
        for name, value in part.items():
            limit = MOST_LABELS if name == "num_labels" else MOST_LAYERS
            if ("layer" in name or name == "num_labels") and isinstance(value, int) and value > limit:
                raise ModelError(
                    f"task.model: {path} says {name} {value}, expected at most {limit}. Fetch the model again."
                )


def _unusable(path: Path, error: BaseException) -> ModelError:
    why = " ".join(str(error).split())[:300] or "no details"
    return ModelError(
        f"task.model: {path} describes no model that transformers can build ({type(error).__name__}: {why}). "
        f"Fetch it again, or correct the field."
    )
