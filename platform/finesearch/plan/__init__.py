"""WHAT to search: plan files, read and checked. Imports neither torch nor ray, and reads neither data nor models."""

from finesearch.plan.branches import ADAPTATIONS, OPTIMIZERS, Branch
from finesearch.plan.domains import Choice, Domain, Fixed, Range, Trial
from finesearch.plan.generation_section import GenerationChoices, GenerationPlan
from finesearch.plan.parameters import PARAMETERS, Scalar, Searchable
from finesearch.plan.plan import Plan
from finesearch.plan.reading import load_plan, parse_plan
from finesearch.plan.recipe import FIXED_RECIPES, ORDINARY, Recipe
from finesearch.plan.schema import json_schema
from finesearch.plan.sections import (
    BudgetPlan,
    Objective,
    ObjectivePlan,
    ReportPlan,
    SearchPlan,
    TrainingPlan,
)
from finesearch.plan.space import Parameter, Space
from finesearch.plan.space_reading import parse_space
from finesearch.plan.task_kinds import COSTS, TASK_KINDS, Goal, TaskKind
from finesearch.plan.task_section import DataPlan, TaskPlan
from finesearch.plan.tracking_section import MlflowPlan, TrackingPlan, WandbPlan

__all__ = [
    "ADAPTATIONS",
    "COSTS",
    "FIXED_RECIPES",
    "OPTIMIZERS",
    "ORDINARY",
    "PARAMETERS",
    "TASK_KINDS",
    "Branch",
    "BudgetPlan",
    "Choice",
    "DataPlan",
    "Domain",
    "Fixed",
    "GenerationChoices",
    "GenerationPlan",
    "Goal",
    "MlflowPlan",
    "Objective",
    "ObjectivePlan",
    "Parameter",
    "Plan",
    "Range",
    "Recipe",
    "ReportPlan",
    "Scalar",
    "SearchPlan",
    "Searchable",
    "Space",
    "TaskKind",
    "TaskPlan",
    "TrackingPlan",
    "TrainingPlan",
    "Trial",
    "WandbPlan",
    "json_schema",
    "load_plan",
    "parse_plan",
    "parse_space",
]
