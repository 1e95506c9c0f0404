"""What ``auto`` in a plan stands for, once rows and model are known: space, epochs, early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from finesearch.plan.plan import Plan
from finesearch.plan.sections.task_kinds import TASK_KINDS
from finesearch.plan.space.branches import SELECTORS
from finesearch.plan.space.default_space import SpaceFacts, default_space
from finesearch.plan.space.domains import Fixed
from finesearch.plan.space.parse_space import parse_space
from finesearch.plan.space.search_space import Space

STEPS = 300
"""Optimizer steps that small data should get. Three epochs of a thousand rows are 96; Zhang et al. (2021, "Revisiting
few-sample BERT fine-tuning") find that too few."""
MIN_EPOCHS, MAX_EPOCHS = 3, 20
"""At least what tutorials do; at most what Mosbach et al. (2021, "On the stability of fine-tuning BERT") train."""
PATIENCE_EVALUATIONS, PATIENCE_EPOCHS = 3, 2
"""Early stopping ends a trial after three evaluations without a better one, of two whole epochs at least."""

Check = Callable[[Space], str | None]
"""Says why the model does not support a space; None where it does."""


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """What decides: rows of the training split, blocks that can be frozen, and parameters of the model."""

    rows: int
    num_layers: int
    parameters: int


def resolve_auto(plan: Plan, facts: PlanFacts, why_not: Check) -> tuple[Plan, tuple[str, ...]]:
    """The plan with concrete space and epochs, and a note for each choice.

    Raises:
        PlanError: the chosen space does not fit the plan's sampler, ``search.first`` or ZeRO stage.
    """
    notes: list[str] = []
    training, space = plan.training, plan.space
    epochs, steps = auto_epochs(facts.rows, space.largest("batch_size", training.batch_size))
    if space.is_auto:
        space, note = _auto_space(plan, epochs if training.epochs == "auto" else training.epochs, facts, why_not)
        notes.append(note)
    if training.epochs == "auto" and not space.decides("epochs"):
        training = training.model_copy(update={"epochs": epochs})
        notes.append(
            f"training.epochs auto: {epochs} epochs of {steps} optimizer steps each; it takes {MIN_EPOCHS} to "
            f"{MAX_EPOCHS}, for {STEPS} steps in all."
        )
    if not space.gives("early_stopping_patience"):
        patience = max(PATIENCE_EVALUATIONS, PATIENCE_EPOCHS * training.evaluations_per_epoch)
        with_patience = space.with_value("early_stopping_patience", Fixed(patience))
        if "early_stopping_patience" not in with_patience.without_effect:
            space = with_patience
            notes.append(
                f"early_stopping_patience: a trial ends after {patience} evaluations without a better one; "
                "null in the space never ends it."
            )
    if space is plan.space and training is plan.training:
        return plan, ()
    return Plan.model_validate({**dict(plan), "space": space, "training": training}), tuple(notes)


def choose_target_scaling(plan: Plan) -> tuple[Plan, tuple[str, ...]]:
    """The plan with ``standard`` where ``task.target_scaling`` is auto, and a note."""
    if plan.task.target_scaling != "auto":
        return plan, ()
    task = plan.task.model_copy(update={"target_scaling": "standard"})
    return plan.model_copy(update={"task": task}), ("task.target_scaling auto: standard.",)


def choose_metric_tokenizer(plan: Plan, tokenizer: str, reason: str) -> tuple[Plan, tuple[str, ...]]:
    """The plan with ``tokenizer`` where ``task.metric_tokenizer`` is auto, and a note; reason: why it is that one."""
    if plan.task.metric_tokenizer != "auto":
        return plan, ()
    task = plan.task.model_copy(update={"metric_tokenizer": tokenizer})
    note = f"task.metric_tokenizer auto: {tokenizer}, by the answers of validation: {reason}."
    return plan.model_copy(update={"task": task}), (note,)


def auto_epochs(rows: int, batch_size: int) -> tuple[int, int]:
    """Epochs for so many rows, and the optimizer steps of one.

    >>> [auto_epochs(rows, batch_size=32) for rows in (100, 562, 4000)]
    [(20, 4), (17, 18), (3, 125)]
    """
    steps = max(1, math.ceil(rows / batch_size))
    return min(MAX_EPOCHS, max(MIN_EPOCHS, math.ceil(STEPS / steps))), steps


def _auto_space(plan: Plan, epochs: int, facts: PlanFacts, why_not: Check) -> tuple[Space, str]:
    mapping = default_space(
        SpaceFacts(
            kind=plan.task.kind,
            form=plan.task.form,
            trials=plan.budget.trials,
            epochs=epochs,
            num_layers=facts.num_layers,
            parameters=facts.parameters,
            writes=TASK_KINDS[plan.task.kind].generates_text,
        )
    )
    if plan.training.epochs != "auto":  # the plan decides them
        mapping.pop("epochs", None)
    branches, dropped = mapping["adaptation"]["one_of"], []
    for branch in list(branches):
        problem = why_not(parse_space({"adaptation": {"one_of": {branch: branches[branch]}}}))
        if problem is not None and len(branches) > 1:
            del branches[branch]
            dropped.append(f"{branch} ({problem})")
    if "head_init" in mapping and (problem := why_not(parse_space({"head_init": "probe"}))) is not None:
        del mapping["head_init"]
        dropped.append(f"head_init probe ({problem})")
    space = parse_space(mapping)
    names = [parameter.name for parameter in space.parameters if parameter.name not in SELECTORS]
    note = (
        f"space auto: {', '.join(branches)}; searched: {', '.join(names)}; for {facts.rows:,} rows, "
        f"{facts.parameters / 1e6:,.0f} M parameters and {plan.budget.trials} trials."
    )
    return space, note + (f" Left out: {'; '.join(dropped)}" if dropped else "")
