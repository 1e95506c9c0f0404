"""The ``budget`` section of a plan: when a search ends."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finesearch.plan.sections.task_section import Section
from finesearch.plan.sections.training_section import Positive


class CostPlan(Section):
    """What training costs. ``per_device_hour`` is in any currency; hours count as for ``budget.device_hours``, so idle
    devices cost nothing here."""

    per_device_hour: Annotated[float, Field(gt=0.0, description="Price of a GPU, or of a CPU without GPUs, an hour.")]
    most: Annotated[float | None, Field(gt=0.0, description="Cost that ends the search.")] = None

    def of(self, device_seconds: float) -> float:
        """Cost of so many device-seconds."""
        return self.per_device_hour * device_seconds / 3600


class BudgetPlan(Section):
    """When the search ends; the first limit that is reached decides. All accumulate over resumes."""

    trials: Annotated[Positive, Field(description="Finished trials; failed ones do not count.")] = 24
    hours: Annotated[float | None, Field(gt=0.0, description="Hours of search.")] = None
    device_hours: Annotated[float | None, Field(gt=0.0, description="Hours × devices held.")] = None
    cost: Annotated[CostPlan | None, Field(description="What training costs, and how much it may cost.")] = None
    failed_trials: Annotated[Positive, Field(description="Failed trials that end the search.")] = 5
    disk_gib: Annotated[float | None, Field(gt=0.0, description="GiB that checkpoints may take.")] = None

    @property
    def limits_time(self) -> bool:
        """Whether a limit on hours, device-hours or cost may stop a trial."""
        has_most = self.cost is not None and self.cost.most is not None
        return has_most or self.hours is not None or self.device_hours is not None
