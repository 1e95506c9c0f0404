"""The space that ``space: auto`` stands for: sized to the task, the model, the rows and the budget.

Every range has its source beside it; docs/adaptations.md shows them as a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

TRIALS_PER_PARAMETER = 4
"""Trials of the budget for each parameter that is searched beside the adaptation, so that 16 trials search four. Our
choice: with four trials a parameter, a search sees each range at about four places, and one of a choice's two twice."""
MIN_PARAMETERS = 2

SMALL, MEDIUM, LARGE = 60_000_000, 400_000_000, 2_000_000_000
"""Parameters of a model up to which the learning rates of a compact, a base and a large model are searched."""

_LORA_RATE = {"min": 1e-4, "max": 2e-3, "log": True}
"""Hu et al., 2022: about ten times the rates of full fine-tuning."""


@dataclass(frozen=True, kw_only=True)
class SpaceFacts:
    """What the default space depends on.

    ``epochs``: those of ``training``, resolved. ``num_layers``: blocks that can be frozen from the bottom (0: layers
    share one). ``parameters``: of the whole model. ``writes``: the task's answer is text that the model generates.
    """

    kind: str
    form: str | None
    trials: int
    epochs: int
    num_layers: int
    parameters: int
    writes: bool

    @property
    def has_classes(self) -> bool:
        return not self.writes and self.form not in ("regression", "multi-label") and self.kind != "question-answering"

    @property
    def has_probe(self) -> bool:
        """Whether a solved output layer is tried: for one answer a text. Of entities and spans it finds few whole."""
        return self.kind in ("text-classification", "relation-extraction")

    @property
    def num_searched(self) -> int:
        """How many parameters the budget allows to search, beside the adaptation and its branches."""
        return max(MIN_PARAMETERS, self.trials // TRIALS_PER_PARAMETER)


def default_space(facts: SpaceFacts) -> dict[str, Any]:
    """The default space, in the form of a plan file."""
    fixed: dict[str, Any] = {
        # Devlin et al., 2019; AdamW is not sensitive to it over so few steps.
        "weight_decay": 0.01,
        # Mosbach et al., 2021: a tenth of the steps.
        "warmup_fraction": 0.1,
    }
    if facts.has_probe:
        # Kumar et al., 2022: an output layer that is solved first leaves the pretrained features as they are.
        fixed["head_init"] = "probe"
    elif not facts.writes:
        # Howard and Ruder, 2018: what is new needs larger steps. On 2,500 rows of entities F1 was .537 with 10, and .41
        # by the ordinary recipe.
        fixed["head_learning_rate"] = 10.0
    searched = dict(list(_by_importance(facts).items())[: facts.num_searched])
    return {"adaptation": {"one_of": _branches(facts)}, **fixed, **searched}


def _by_importance(facts: SpaceFacts) -> dict[str, Any]:
    """Searched parameters, those first that a small budget should spend its trials on."""
    ordered: dict[str, Any] = {
        "learning_rate": _learning_rate(facts),
        # From a third of what auto would take, since few good steps cost less than many.
        "epochs": {"min": max(2, facts.epochs // 3), "max": max(5, facts.epochs)},
    }
    if facts.has_probe:
        # Above; where the features change much, a random layer may do as well.
        ordered["head_init"] = ["probe", "random"]
    if not facts.writes:
        ordered["head_learning_rate"] = [1.0, 10.0]
    if facts.has_classes or facts.writes:
        # Szegedy et al., 2016; Vaswani et al., 2017.
        ordered["label_smoothing"] = [0.0, 0.1]
    # Srivastava et al., 2014; models come with 0.1.
    ordered["dropout"] = {"min": 0.0, "max": 0.2}
    if facts.num_layers:
        # Howard and Ruder, 2018; Zhang et al., 2021: lower layers need smaller steps.
        ordered["layerwise_decay"] = [1.0, 0.95, 0.85]
    return ordered


def _learning_rate(facts: SpaceFacts) -> dict[str, Any]:
    """Turc et al., 2019, for compact models; Devlin et al., 2019; Liu et al., 2019, for large ones; each range is wider
    than theirs, since a search finds the place in it."""
    low, high = (3e-5, 5e-4) if facts.parameters <= SMALL else (1e-5, 2e-4)
    if facts.parameters > MEDIUM:
        low, high = 5e-6, 1e-4
    if facts.parameters > LARGE:
        return dict(_LORA_RATE)
    return {"min": low, "max": high, "log": True}


def _branches(facts: SpaceFacts) -> dict[str, dict[str, Any]]:
    """Adaptations: everything trains, the lower layers do not, low-rank matrices alone do, or nothing does."""
    branches: dict[str, dict[str, Any]] = {}
    if facts.parameters <= LARGE:
        branches["full"] = {}
        if facts.num_layers >= 4:
            # Lee et al., 2019: the upper quarter of the layers reaches nine tenths of the quality.
            branches["freeze_bottom"] = {"layers": {"min": 1, "max": math.ceil(facts.num_layers / 2)}}
    if facts.parameters > SMALL or facts.writes:
        rank = [8, 16] if facts.trials >= 8 * TRIALS_PER_PARAMETER else 8
        branches["lora"] = {"rank": rank} | ({"learning_rate": dict(_LORA_RATE)} if branches else {})
    if facts.has_probe:
        # Alain and Bengio, 2016: solved within a second, and for some data as good as anything that trains.
        upper = {"min": math.ceil(facts.num_layers / 2), "max": facts.num_layers}
        branches["linear_probe"] = {"layer": upper} if facts.num_layers >= 2 else {}
    return branches
