"""Checks, before anything runs, that a model supports the adaptations and regularizers of a search space."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.plan import ADAPTATIONS as BRANCHES
from finesearch.plan import Space
from finesearch.plan.checks.zero_limits import is_enabled
from finesearch.plan.space.domains import boundary_values
from finesearch.training.adaptations.adapt import ADAPTATIONS
from finesearch.training.adaptations.adaptation import check_layers
from finesearch.training.heads.space_heads import heads_of_space
from finesearch.training.model.layer_depths import check_depths
from finesearch.training.model.model_config import build_skeleton, read_config
from finesearch.training.model.model_facts import ModelFacts
from finesearch.training.probing.output_layer import find_output_layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_recipe_space(space: Space, facts: ModelFacts) -> None:
    """Check every recipe that the space can give against the model.

    Raises:
        ModelError: the model does not support some recipe (more layers than there are, say), or a recipe drops layers
            that share one block.
    """
    folder = Path(facts.folder)
    for head in heads_of_space(space, facts):
        skeleton = build_skeleton(read_config(folder, **head.config_fields), facts.kind, folder)
        _check_skeleton(space, facts, skeleton)
        if facts.scales_targets:
            _check_bias(skeleton)


def _check_bias(skeleton: PreTrainedModel) -> None:
    layer: Any = skeleton.get_submodule(find_output_layer(skeleton))
    if layer.bias is None:
        raise ModelError(
            f"task.target_scaling: the output layer of {type(skeleton).__name__} has no bias, which would hold the "
            f"mean of the numbers. Set task.pooling to mean or last, or task.target_scaling to none."
        )


def _check_skeleton(space: Space, facts: ModelFacts, skeleton: PreTrainedModel) -> None:
    for name, domains in space.selectors["adaptation"].items():
        branch = BRANCHES[name]
        if not branch.trains:
            continue  # see ``check_prompt_recipes`` and ``check_probes``
        adaptation = ADAPTATIONS[name]
        given = [
            boundary_values(domains[key]) if key in domains else (branch.defaults[key],) for key in adaptation.checked
        ]
        for values in product(*given):
            parameters = dict(zip(adaptation.checked, values, strict=True))
            adaptation.check(skeleton, parameters)
            adaptation.check_positions(skeleton, parameters, facts.positions)
    for entry in space.entries:
        if entry.key == "layerwise_decay" and any(value < 1.0 for value in boundary_values(entry.domain)):
            check_depths(entry.key, skeleton)
        if entry.key == "reinit_top_layers":
            check_layers(f"space.{entry.name}", max(boundary_values(entry.domain)), skeleton)
        if entry.key == "layer_drop" and not facts.num_layers and any(map(is_enabled, boundary_values(entry.domain))):
            raise ModelError(
                f"space.{entry.name}: {facts.architecture} shares one block among all of its layers, so that none can "
                f"be left out alone. Leave layer_drop out of the space."
            )
