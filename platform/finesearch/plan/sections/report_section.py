"""The ``report`` section of a plan: what is ranked and shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from finesearch.plan.sections.generation_section import GenerationChoices
from finesearch.plan.sections.section import Section, as_tuple
from finesearch.plan.sections.training_section import Positive

FLOORS = "floors"
"""Stands in ``report.baselines`` for all floors of the task."""
Baseline = Literal[
    "majority",
    "floors",
    "tfidf",
    "dictionary",
    "crf",
    "best_sentence",
    "copy",
    "nearest",
    "lead",
    "bm25",
    "zero_shot",
    "strong",
    "ordinary",
]


class ReportPlan(Section):
    """What is ranked and what stands beside it."""

    top: Annotated[Positive, Field(description="Checkpoints that are ranked.")] = 3
    baselines: Annotated[
        tuple[Baseline, ...],
        BeforeValidator(as_tuple),
        Field(
            description="Baselines in the same table; may be empty. `floors` stands for those of the task that need "
            "no neural network."
        ),
    ] = ("majority", "floors", "zero_shot", "strong", "ordinary")
    examples: Annotated[
        int,
        Field(ge=0, le=100, description="Test rows with answers that the report shows, the worst first; 0: no text."),
    ] = 5
    generation: Annotated[
        GenerationChoices | None,
        Field(description="Generation settings that are chosen on validation for each checkpoint that is ranked."),
    ] = None
