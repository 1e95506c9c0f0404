"""The ``budget`` section of a plan: when a search ends."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finesearch.plan.sections.task_section import Section
from finesearch.plan.sections.training_section import Positive


class BudgetPlan(Section):
    """When the search ends; the first limit that is reached decides. All accumulate over resumes."""

    trials: Annotated[Positive, Field(description="Finished trials; failed ones do not count.")] = 24
    hours: Annotated[float | None, Field(gt=0.0, description="Hours of search.")] = None
    device_hours: Annotated[float | None, Field(gt=0.0, description="Hours × devices held.")] = None
    failed_trials: Annotated[Positive, Field(description="Failed trials that end the search.")] = 5
    disk_gib: Annotated[float | None, Field(gt=0.0, description="GiB that checkpoints may take.")] = None
