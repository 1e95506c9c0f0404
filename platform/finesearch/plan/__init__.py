"""What to search: plan files, parsed and validated. Imports neither torch nor ray; reads neither data nor models."""

from finesearch.plan.parsing.json_schema import json_schema
from finesearch.plan.parsing.plan_file import load_plan, parse_plan
from finesearch.plan.plan import Plan
from finesearch.plan.sections.budget_section import BudgetPlan
from finesearch.plan.sections.generation_section import GenerationChoices, GenerationPlan
from finesearch.plan.sections.report_section import ReportPlan
from finesearch.plan.sections.search_section import Objective, ObjectivePlan, SearchPlan
from finesearch.plan.sections.task_kinds import COSTS, TASK_KINDS, Goal, TaskKind
from finesearch.plan.sections.task_section import DataPlan, TaskPlan
from finesearch.plan.sections.tracking_section import MlflowPlan, TrackingPlan, WandbPlan
from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.branches import ADAPTATIONS, OPTIMIZERS, Branch
from finesearch.plan.space.domains import Choice, Domain, Fixed, Range, Trial
from finesearch.plan.space.parameters import PARAMETERS, ParameterSpec, Scalar
from finesearch.plan.space.parse_space import parse_space
from finesearch.plan.space.recipe import FIXED_RECIPES, ORDINARY, Recipe
from finesearch.plan.space.search_space import Parameter, Space

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
    "ParameterSpec",
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
