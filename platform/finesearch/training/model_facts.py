"""What the driver must know about a model before anything runs, read without loading its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.plan import Space, TaskPlan
from finesearch.tasks import make_task
from finesearch.training.adaptations import check_layers
from finesearch.training.anatomy import backbone_prefix, num_blocks
from finesearch.training.model_files import load_tokenizer, quiet_transformers, weight_files, weights_sha256
from finesearch.training.model_source import model_folder
from finesearch.training.trial import Frozen

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from finesearch.tasks import Facts, Task

LAYERS = "adaptation.freeze_bottom.layers"


class ModelFacts(Frozen):
    """One base model with the task's head.

    ``num_layers`` counts the blocks that can be frozen from the bottom (0: layers share one block); ``parameters``
    counts those of backbone and head; ``weight_bytes`` and ``sha256`` are those of the weight files.
    """

    folder: str
    architecture: str
    num_layers: int
    parameters: int
    weight_bytes: int
    sha256: str
    has_own_head: bool = True


def inspect_model(task: TaskPlan, base: Path) -> ModelFacts:
    """Check that the task's model can be trained here, and say what it is.

    Raises:
        ModelError: no such model, no weights, no tokenizer, code of its own asked for, no output layer for this kind of
            task, or fewer positions than ``task.max_length``.
    """
    folder = model_folder(task.model, task.revision, base)
    config = read_config(folder)
    files = weight_files(folder)
    load_tokenizer(folder)
    skeleton = build_skeleton(config, task.kind, folder)
    check_max_length(skeleton, make_task(task).positions(config.is_encoder_decoder))
    return ModelFacts(
        folder=str(folder),
        architecture=type(skeleton).__name__,
        num_layers=num_blocks(skeleton),
        parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
        weight_bytes=sum(path.stat().st_size for path in files),
        sha256=weights_sha256(folder),
        has_own_head=has_own_head(skeleton),
    )


def meet_model(task: Task, facts: Facts, folder: Path) -> tuple[Facts, PreTrainedTokenizerBase]:
    """The facts with what the task must know of the model, and the model's tokenizer.

    Raises:
        ModelError: the model cannot do the task as the plan has it.
    """
    tokenizer = load_tokenizer(folder)
    return task.meet(facts, read_config(folder), tokenizer), tokenizer


def has_own_head(model: PreTrainedModel) -> bool:
    """Whether the output layer has parameters that the backbone does not have too (tied embeddings)."""
    prefix = backbone_prefix(model)
    return bool(prefix) and any(not name.startswith(prefix) for name, _ in model.named_parameters())


def check_recipe_space(space: Space, facts: ModelFacts) -> None:
    """Check every recipe that the space can give against the model.

    Raises:
        ModelError: some recipe freezes more layers than there are.
    """
    for entry in space.entries:
        values = _extremes(entry.domain)
        if entry.name == "adaptation" and "head_only" in values and not facts.has_own_head:
            raise ModelError(
                f"adaptation.head_only: the output layer of {facts.architecture} has no parameters of its own (it "
                f"shares them with the embeddings, or is part of the backbone), so that nothing would be trained. Use "
                f"freeze_bottom or freeze_embeddings instead."
            )
        if entry.name == LAYERS:
            largest = max(value for value in _extremes(entry.domain) if isinstance(value, int))
            check_layers(largest, facts.num_layers, facts.architecture)


def read_config(folder: Path, **settings: Any) -> PretrainedConfig:
    """The model's config with the task's settings in it.

    Raises:
        ModelError: there is none, or the model asks for code of its own.
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
    """The class in transformers that builds a model of this config with the task's head.

    Raises:
        ModelError: the model's shape cannot do the task.
    """
    import transformers

    from finesearch.tasks.kinds import KINDS

    return getattr(transformers, KINDS[kind].auto_class_of(config))


def check_max_length(model: PreTrainedModel, max_length: int) -> None:
    """Check that the model's table of positions is long enough; models without one (rotary positions) take any length.

    Raises:
        ModelError: it is not.
    """
    from torch import nn

    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, nn.Embedding) and ("position" in last or last == "wpe"):
            # RoBERTa and its kin count positions from behind the padding token, BART's tables are two longer.
            positions = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
            positions = min(positions, getattr(model.config, "max_position_embeddings", None) or positions)
            if max_length > positions:
                raise ModelError(
                    f"task.max_length: {type(model).__name__} has {positions} positions, so expected at most "
                    f"{positions}, got {max_length}."
                )


def _extremes(domain: Any) -> tuple[Any, ...]:
    from finesearch.plan.domains import Fixed, Range

    if isinstance(domain, Fixed):
        return (domain.value,)
    return (domain.low, domain.high) if isinstance(domain, Range) else tuple(domain.grid)
