"""The heads that the recipes of a search space have over one model, and what the report says about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.training.heads.head_choice import OWN_HEAD, HeadChoice, choose_head
from finesearch.training.heads.label_order import fit_output_layer
from finesearch.training.heads.pooled_head import FIELD
from finesearch.training.model.model_config import build_skeleton, read_config
from finesearch.training.weights.missing_tensors import load_model, missing_note

if TYPE_CHECKING:
    from finesearch.plan import Space
    from finesearch.tasks import Task, TaskFacts
    from finesearch.training.model.model_facts import ModelFacts


def heads_of_space(space: Space, facts: ModelFacts) -> tuple[HeadChoice, ...]:
    """A head for each pooling and hidden layer of the space; the architecture's own for kinds of task without pooling.

    Raises:
        ModelError: the model cannot be pooled so.
    """
    if facts.pooling is None:
        return (OWN_HEAD,)
    folder = Path(facts.folder)
    config = read_config(folder)
    return tuple(
        choose_head(folder, config, pooling, hidden_size, needs_bias=facts.scales_targets)
        for pooling in space.possible("pooling", facts.pooling)
        for hidden_size in space.possible("head_hidden_size", None)
    )


def output_layer_notes(task: Task, facts: TaskFacts, heads: tuple[HeadChoice, ...], folder: Path) -> tuple[str, ...]:
    """What becomes of the output layer that the model's folder holds; nothing where every recipe has a pooled head."""
    if all(FIELD in head.config_fields for head in heads):
        return ()
    config = read_config(folder, **task.model_settings(facts))
    loaded = load_model(folder, config, task.kind, reads_weights=False)
    _, note = fit_output_layer(loaded.model, loaded.missing, folder, facts.label_names)
    return (note,) if note else ()


def missing_warnings(heads: tuple[HeadChoice, ...], facts: ModelFacts) -> tuple[str, ...]:
    """A warning about tensors that the model's folder lacks and that some recipe's model has."""
    if not facts.missing:
        return ()
    folder = Path(facts.folder)
    skeletons = [build_skeleton(read_config(folder, **head.config_fields), facts.kind, folder) for head in heads]
    known = {name for skeleton in skeletons for name, _ in skeleton.named_parameters()}
    names = [name for name in facts.missing if name in known]
    return (missing_note(names),) if names else ()
