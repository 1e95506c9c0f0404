"""The ``search`` section of a plan: how configurations are chosen and which trials are stopped early."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from finesearch.plan.sections.section import Section, as_tuple
from finesearch.plan.sections.task_kinds import Goal
from finesearch.plan.sections.training_section import Positive, Seed


class Objective(Section):
    """One number that the search makes large (``max``) or small (``min``)."""

    name: str
    goal: Goal


class ObjectivePlan(Section):
    """An objective as the plan writes it; the goal follows from the metric unless given."""

    metric: Annotated[str, Field(min_length=1, description="A metric of the task, or a cost.")]
    goal: Annotated[Goal | None, Field(description="Which direction is better; default: the metric's own.")] = None


class SearchPlan(Section):
    """How configurations are chosen and which trials are stopped early."""

    sampler: Annotated[
        Literal["tpe", "freeze_thaw", "random", "gp", "cmaes", "qmc", "grid"],
        Field(
            description="Who proposes configurations. freeze_thaw also pauses trials and goes on with them later, in "
            "place of a pruner; it trains as many epochs in all as budget.trials whole trials have."
        ),
    ] = "tpe"
    pruner: Annotated[
        Literal["none", "median", "successive_halving", "hyperband"], Field(description="Who stops weak trials early.")
    ] = "successive_halving"
    min_evaluations: Annotated[Positive, Field(description="Evaluations before a trial may be stopped.")] = 1
    reduction_factor: Annotated[
        int, Field(ge=2, description="One in this many trials goes on (successive_halving, hyperband).")
    ] = 3
    startup_trials: Annotated[
        int,
        Field(
            ge=0,
            description="Trials that are spread evenly over the space before tpe, freeze_thaw, gp and cmaes propose "
            "any; complete ones before median stops any.",
        ),
    ] = 10
    finish_top: Annotated[
        int,
        Field(
            ge=0,
            description="Of so many trials (at most report.top) that lead when the trials of the budget have ended, "
            "those that were stopped early go on to their end, if the budget allows; 0: none.",
        ),
    ] = 3
    cost_weight: Annotated[
        float,
        Field(
            ge=0.0,
            le=1.0,
            description="How much cost counts in what tpe tries next: 0 nothing, 1 as gain per second; it falls to 0 "
            "as budget.trials is used up.",
        ),
    ] = 0.0
    seed: Annotated[Seed, Field(description="Seed of the sampler.")] = 0
    first: Annotated[
        tuple[dict[str, Any], ...],
        BeforeValidator(as_tuple),
        Field(description="Configurations to try before the sampler proposes any, nested as the space is."),
    ] = ()
    concurrent_trials: Annotated[
        Literal["auto"] | Positive, Field(description="Trials at a time; auto fits them to the cluster.")
    ] = "auto"
    objectives: Annotated[
        tuple[ObjectivePlan, ...],
        BeforeValidator(as_tuple),
        Field(description="What is optimised, the task's metric first; default: that alone."),
    ] = ()
