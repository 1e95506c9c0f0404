"""Checks, before anything runs, that a task and a model support the probes of a search space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import ModelError
from finesearch.plan.space.domains import boundary_values
from finesearch.training.heads.head_choice import choose_head
from finesearch.training.heads.space_heads import heads_of_space
from finesearch.training.model.model_config import build_skeleton, read_config
from finesearch.training.probing.layer_cut import check_layer
from finesearch.training.probing.output_layer import find_output_layer
from finesearch.training.probing.probe_units import has_probe

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from finesearch.plan import Space
    from finesearch.tasks import Task
    from finesearch.training.model.model_facts import ModelFacts

PROBE = "linear_probe"
MOST_LAYERS = 64


def check_probes(task: Task, space: Space, facts: ModelFacts) -> None:
    """Check every probe that the space can give, under every head that it can give.

    Raises:
        ModelError: the task has no output layer that can be solved, or the model cannot be cut at a layer.
    """
    wanted = [f"space.{entry.name}: probe" for entry in space.entries if _starts_from_probe(entry.key, entry.domain)]
    probes = space.selectors["adaptation"].get(PROBE)
    if probes is not None:
        wanted.append(f"adaptation.{PROBE}")
    if not wanted:
        return
    if not has_probe(task):
        raise ModelError(
            f"{wanted[0]}: in {task.kind} there is no output layer that can be solved; classes, labels, numbers, named "
            f"entities and relations have one. Leave it out."
        )
    folder = Path(facts.folder)
    by_class: dict[type[PreTrainedModel], PretrainedConfig] = {}
    for head in heads_of_space(space, facts):
        config = read_config(folder, **head.config_fields)
        skeleton = build_skeleton(config, task.kind, folder)
        find_output_layer(skeleton)
        by_class[type(skeleton)] = config  # heads of one class stand over the same layers
    for config in by_class.values():
        for layer in probe_layers_of(space):
            check_layer(config, task.kind, folder, layer)


def can_start_from_probe(task: Task, folder: Path) -> bool:
    """Whether ``head_init: probe`` is possible: task and model have an output layer that can be solved, under the
    task's pooling."""
    if not has_probe(task):
        return False
    try:
        head = choose_head(folder, read_config(folder), task.plan.pooling or "own")
        find_output_layer(build_skeleton(read_config(folder, **head.config_fields), task.kind, folder))
    except ModelError:
        return False
    return True


def _starts_from_probe(key: str, domain: object) -> bool:
    return key == "head_init" and "probe" in boundary_values(domain)  # type: ignore[arg-type]


def probe_layers_of(space: Space) -> tuple[int | None, ...]:
    """Layers that a search space can probe, lowest first, all of which one forward pass computes; None: the last."""
    found: set[int | None] = set()
    domains = space.selectors["adaptation"].get(PROBE)
    if domains is not None:
        values = domains["layer"].grid[:MOST_LAYERS] if "layer" in domains else (None,)
        found |= {None if value is None else int(value) for value in values}
        if any(_starts_from_probe(entry.key, entry.domain) for entry in space.entries):
            found.add(None)
    return tuple(sorted(found, key=lambda layer: (layer is None, layer or 0)))
