"""What the driver must know about a model before anything runs, read without loading its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.plan import ADAPTATIONS as BRANCHES
from finesearch.plan import Space, TaskPlan
from finesearch.plan.partitions import is_on
from finesearch.tasks import make_task
from finesearch.training.adaptations import ADAPTATIONS
from finesearch.training.anatomy import num_blocks
from finesearch.training.depths import check_depths
from finesearch.training.dimensions import Dimensions, dimensions_of
from finesearch.training.model_files import load_tokenizer, quiet_transformers, weight_files, weights_sha256
from finesearch.training.model_source import model_folder
from finesearch.training.positions import positions_of
from finesearch.training.trial import Frozen

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from finesearch.tasks import Facts, Task


class ModelFacts(Frozen):
    """One base model with the head of the task ``kind``.

    ``num_layers`` counts the blocks that can be frozen from the bottom (0: layers share one block); ``parameters``
    counts those of backbone and head; ``weight_bytes`` and ``sha256`` are those of the weight files. ``positions`` are
    the tokens that the task has the model take at once; ``dimensions`` are what costs are reckoned from.
    """

    folder: str
    kind: str
    architecture: str
    num_layers: int
    parameters: int
    weight_bytes: int
    sha256: str
    positions: int = 0
    dimensions: Dimensions = Dimensions()

    @property
    def bytes_in_training(self) -> int:
        """Bytes of all weights as they are trained and saved: in fp32, whatever the folder holds them in."""
        return 4 * self.parameters


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
    positions = make_task(task).positions(config.is_encoder_decoder)
    check_max_length(skeleton, positions)
    return ModelFacts(
        folder=str(folder),
        kind=task.kind,
        architecture=type(skeleton).__name__,
        num_layers=num_blocks(skeleton),
        parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
        weight_bytes=sum(path.stat().st_size for path in files),
        sha256=weights_sha256(folder),
        positions=positions,
        dimensions=dimensions_of(skeleton),
    )


def meet_model(task: Task, facts: Facts, folder: Path) -> tuple[Facts, PreTrainedTokenizerBase]:
    """The facts with what the task must know of the model, and the model's tokenizer.

    Raises:
        ModelError: the model cannot do the task as the plan has it.
    """
    tokenizer = load_tokenizer(folder)
    return task.meet(facts, read_config(folder), tokenizer), tokenizer


def check_recipe_space(space: Space, facts: ModelFacts) -> None:
    """Check every recipe that the space can give against the model.

    Raises:
        ModelError: some recipe adapts it in a way that it cannot take (more layers than there are, say), or drops
            layers that share one block.
    """
    folder = Path(facts.folder)
    skeleton = build_skeleton(read_config(folder), facts.kind, folder)
    for name, domains in space.selectors["adaptation"].items():
        branch = BRANCHES[name]
        if not branch.trains:
            continue  # see ``check_asking``
        adaptation = ADAPTATIONS[name]
        given = [_extremes(domains[key]) if key in domains else (branch.defaults[key],) for key in adaptation.checked]
        for values in product(*given):
            parameters = dict(zip(adaptation.checked, values, strict=True))
            adaptation.check(skeleton, parameters)
            adaptation.check_room(skeleton, parameters, facts.positions)
    for entry in space.entries:
        if entry.key == "layerwise_decay" and any(value < 1.0 for value in _extremes(entry.domain)):
            check_depths(entry.key, skeleton)
        if entry.key == "layer_drop" and not facts.num_layers and any(map(is_on, _extremes(entry.domain))):
            raise ModelError(
                f"space.{entry.name}: {facts.architecture} shares one block among all of its layers, so that none can "
                f"be left out alone. Leave layer_drop out of the space."
            )


def check_asking(task: Task, recipes: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Check that the model can be asked as each recipe has it.

    recipes: adaptation to its parameters, each with the values that the space can give it.

    Raises:
        ModelError: the task has no answers to choose from, or the model cannot be asked so; says what would work.
    """
    from finesearch.training.prompting import check_prompting

    config, tokenizer = read_config(folder), load_tokenizer(folder)
    for name, parameters in recipes.items():
        for values in product(*parameters.values()):
            check_prompting(name, dict(zip(parameters, values, strict=True)), task, config, tokenizer)


def asking_of(space: Space) -> dict[str, dict[str, Any]]:
    """Every adaptation of a space that trains nothing, with the values that its parameters can take."""
    found = {}
    for name, domains in space.selectors["adaptation"].items():
        branch = BRANCHES[name]
        if not branch.trains:
            found[name] = {
                key: _extremes(domains[key]) if key in domains else (default,)
                for key, default in branch.defaults.items()
            }
    return found


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
            for name, value in settings.items():
                # Fields that no config of transformers has, such as those of added tokens, are dropped on the way.
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
    """The class that builds a model of this config with the task's head: of transformers, or ours where it has none.

    Raises:
        ModelError: the model's shape cannot do the task.
    """
    import transformers

    from finesearch.tasks.kinds import KINDS

    name = KINDS[kind].auto_class_of(config)
    if name == "AutoModelForRelationExtraction":
        from finesearch.training.relation_model import AutoModelForRelationExtraction

        return AutoModelForRelationExtraction
    return getattr(transformers, name)


def check_max_length(model: PreTrainedModel, max_length: int) -> None:
    """Check that the model's table of positions is long enough; models without one (rotary positions) take any length.

    Raises:
        ModelError: it is not.
    """
    positions = positions_of(model)
    if positions is not None and max_length > positions:
        raise ModelError(
            f"task.max_length: {type(model).__name__} has {positions} positions, so expected at most "
            f"{positions}, got {max_length}."
        )


def _extremes(domain: Any) -> tuple[Any, ...]:
    from finesearch.plan.domains import Fixed, Range

    if isinstance(domain, Fixed):
        return (domain.value,)
    return (domain.low, domain.high) if isinstance(domain, Range) else tuple(domain.grid)
