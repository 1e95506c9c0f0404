"""A recipe: every setting that a trial trains with; and the fixed recipes of the baselines."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from finesearch.plan.problems import Problem, did_you_mean, format_value, problem_error
from finesearch.plan.space.branches import ADAPTATIONS, OPTIMIZERS
from finesearch.plan.space.parameters import Pooling

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class Recipe(BaseModel):
    """Settings of one trial; complete, frozen, and unchanged by a JSON round trip.

    ``dropout``, ``attention_dropout``, ``head_dropout``: None keeps the model's own. ``gradient_clipping``: None clips
    nothing. ``layerwise_decay``: 1 gives every layer the same rate. ``ema_decay`` and ``swa_start``: None averages
    nothing, and at most one is given; the other regularizers are off at 0. ``early_stopping_patience`` counts
    evaluations; None never stops early. ``pooling`` (see ``Pooling``) and
    ``head_hidden_size`` (None: no hidden layer) are those of a classifier of texts. ``head_learning_rate`` is a factor
    on ``learning_rate``. ``batch_size`` counts examples over all workers and accumulation steps.
    ``optimizer_parameters`` is complete: parameters that are not given have their defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    adaptation: str = "full"
    adaptation_parameters: dict[str, Any] = Field(default_factory=dict)
    optimizer: str = "adamw"
    optimizer_parameters: dict[str, Any] = Field(default_factory=dict)
    learning_rate: Annotated[float, Field(gt=0.0)] = 5e-5
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    layerwise_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    dropout: Fraction | None = None
    attention_dropout: Fraction | None = None
    head_dropout: Fraction | None = None
    head_init: Literal["random", "probe"] = "random"
    label_smoothing: Fraction = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    l2sp: Annotated[float, Field(ge=0.0)] = 0.0
    rdrop: Annotated[float, Field(ge=0.0)] = 0.0
    mixout: Fraction = 0.0
    neftune: Annotated[float, Field(ge=0.0)] = 0.0
    layer_drop: Fraction = 0.0
    ema_decay: Share | None = None
    swa_start: Share | None = None
    gradient_clipping: Annotated[float, Field(gt=0.0)] | None = 1.0
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    pooling: Pooling = "own"
    head_hidden_size: Annotated[int, Field(ge=1)] | None = None
    head_learning_rate: Annotated[float, Field(gt=0.0)] = 1.0
    reinit_top_layers: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[int, Field(ge=1)] = 3
    batch_size: Annotated[int, Field(ge=1)] = 32

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        """Check the two choices and fill in the defaults of their branches."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        problems: list[Problem] = []
        for name, branches in (("adaptation", ADAPTATIONS), ("optimizer", OPTIMIZERS)):
            word = data.get(name, cls.model_fields[name].default)
            if not isinstance(word, str) or word not in branches:
                text = f"unknown branch {format_value(word)} of {name}"
                problems.append(Problem((name,), text, did_you_mean(word, branches)))
                continue
            branch, key = branches[word], f"{name}_parameters"
            given = dict(branch.defaults) | dict(data.get(key) or {})
            data[key] = given
            for own in sorted(given.keys() - branch.parameters.keys()):
                advice = did_you_mean(own, branch.parameters) or "It has no parameters of its own."
                problems.append(Problem((key, own), f"{word} has no parameter {format_value(own)}", advice))
            for own, spec in branch.parameters.items():
                if own not in given or not spec.accepts(given[own]):
                    came = format_value(given[own]) if own in given else "nothing"
                    text = f"{word}: {own}: expected {spec.expected}, got {came}"
                    problems.append(Problem((key, own), text, f"Give '{own}' such a value."))
        if data.get("ema_decay") is not None and data.get("swa_start") is not None:
            problems.append(Problem(("swa_start",), "ema_decay and swa_start both average the weights", "Keep one."))
        if problems:
            raise problem_error(*problems)
        return data


ORDINARY = Recipe()
"""The ordinary recipe that every search is measured against: full, 5e-5, linear decay, 3 epochs, batches of 32."""

FIXED_RECIPES = {"zero_shot": Recipe(adaptation="zero_shot"), "ordinary": ORDINARY}
"""Recipes that are the same for every plan, by baseline name in ``report.baselines``; ``strong_recipe`` is not."""
