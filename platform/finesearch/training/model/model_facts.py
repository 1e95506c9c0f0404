"""Facts about a model that the driver needs before anything runs, read without loading its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import ModelError
from finesearch.plan import TaskPlan
from finesearch.tasks import make_task
from finesearch.training.model.dimensions import Dimensions, dimensions_of
from finesearch.training.model.model_config import build_skeleton, check_max_length, read_config
from finesearch.training.model.model_files import load_tokenizer, tokenizer_sha256
from finesearch.training.model.module_structure import block_lists, num_blocks
from finesearch.training.model.resolve_model import model_folder
from finesearch.training.trial_types import FrozenRecord
from finesearch.training.weights.missing_tensors import load_model, missing_outside_blocks
from finesearch.training.weights.weight_files import check_readable, holds_bf16_alone, weight_files, weights_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from finesearch.tasks import TaskFacts
    from finesearch.tasks.generation.generation_task import GenerationTask


class ModelFacts(FrozenRecord):
    """One base model with the head of the task ``kind``.

    ``pooling`` is the task's, None for kinds without one. ``scales_targets``: its output layer needs a bias.
    ``num_layers`` counts the blocks that can be frozen from the bottom (0: layers share one block); ``parameters``
    counts those of backbone and head; ``weight_bytes`` and ``sha256`` are those of the weight files. ``positions`` are
    the tokens of the task's longest model input; costs are estimated from ``dimensions``. ``missing``: parameters of
    the backbone, outside of its blocks, that the folder lacks. ``is_bf16``: the folder has all weights in bf16.
    ``computes_again``: its blocks can be, see ``checkpoint_activations``.
    """

    folder: str
    kind: str
    pooling: str | None = None
    scales_targets: bool = False
    architecture: str
    num_layers: int
    parameters: int
    weight_bytes: int
    sha256: str
    tokenizer_sha256: str = ""
    positions: int = 0
    dimensions: Dimensions = Dimensions()
    missing: tuple[str, ...] = ()
    is_bf16: bool = False
    computes_again: bool = True

    @property
    def fp32_bytes(self) -> int:
        """Bytes of all weights in fp32, whatever type the folder stores."""
        return 4 * self.parameters


def inspect_model(task: TaskPlan, base: Path) -> ModelFacts:
    """Check that the task's model can be trained here, and return its facts.

    Raises:
        ModelError: no such model, no tokenizer, custom code required, no output layer for this kind of task, fewer
            positions than ``task.max_length``; no weights, or damaged ones, or not those of the whole model.
    """
    folder = model_folder(task.model, task.revision, base)
    config = read_config(folder)
    files = weight_files(folder)
    check_readable(files)
    load_tokenizer(folder)
    skeleton = build_skeleton(config, task.kind, folder)
    if not all(block_lists(skeleton).values()):
        raise ModelError(
            f"task.model: {folder / 'config.json'} describes a {type(skeleton).__name__} without layers, expected at "
            f"least one. Fetch the model again."
        )
    positions = make_task(task).positions(config.is_encoder_decoder)
    check_max_length(skeleton, positions)
    loaded = load_model(folder, config, task.kind, reads_weights=False)
    return ModelFacts(
        folder=str(folder),
        kind=task.kind,
        pooling=task.pooling,
        scales_targets=task.target_scaling == "standard",
        architecture=type(skeleton).__name__,
        num_layers=num_blocks(skeleton),
        parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
        weight_bytes=sum(path.stat().st_size for path in files),
        sha256=weights_sha256(folder),
        tokenizer_sha256=tokenizer_sha256(folder),
        positions=positions,
        dimensions=dimensions_of(skeleton),
        missing=missing_outside_blocks(loaded.model, loaded.missing),
        is_bf16=holds_bf16_alone(folder),
        computes_again=bool(skeleton.supports_gradient_checkpointing),
    )


def add_model_facts(task: GenerationTask, facts: TaskFacts, folder: Path) -> tuple[TaskFacts, PreTrainedTokenizerBase]:
    """The facts extended by what the task needs to know about the model, and the model's tokenizer.

    Raises:
        ModelError: the model cannot do the task as the plan has it.
    """
    tokenizer = load_tokenizer(folder)
    return task.add_model_shape(facts, read_config(folder), tokenizer), tokenizer
