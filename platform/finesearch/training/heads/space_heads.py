"""The heads that the recipes of a search space have over one model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.training.heads.head_choice import OWN_HEAD, HeadChoice, choose_head
from finesearch.training.model.model_config import read_config

if TYPE_CHECKING:
    from finesearch.plan import Space
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
