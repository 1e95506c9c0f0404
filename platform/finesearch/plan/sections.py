"""The sections of a plan beside its task and space: training, search, budget, report."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from finesearch.plan.generation_section import GenerationChoices
from finesearch.plan.problems import Problem, problem_error
from finesearch.plan.task_kinds import Goal
from finesearch.plan.task_section import Section

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class TrainingPlan(Section):
    """How each trial trains, and the devices it holds.

    ``batch_size`` counts examples over all workers and accumulation steps.
    """

    epochs: Annotated[Positive, Field(description="Passes over the training split.")] = 3
    workers_per_trial: Annotated[Positive, Field(description="Workers that train one trial together.")] = 1
    gradient_accumulation_steps: Annotated[
        Positive, Field(description="Pieces that each worker cuts a batch into.")
    ] = 1
    batch_size: Annotated[
        Positive, Field(validate_default=True, description="Examples a step, over all workers and pieces.")
    ] = 32
    max_tokens_per_pass: Annotated[
        Positive | None, Field(description="Padded tokens of a forward pass: a larger batch is cut into more passes.")
    ] = None
    evaluations_per_epoch: Annotated[Positive, Field(description="Evaluations in each epoch.")] = 1
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], Field(description="auto takes bf16 where the device computes in it.")
    ] = "auto"
    zero_stage: Annotated[int, Field(ge=0, le=3, description="DeepSpeed ZeRO: what the workers divide among them.")] = 0
    cpus_per_worker: Annotated[float, Field(gt=0.0, description="CPUs that a worker holds.")] = 1.0
    gpus_per_worker: Annotated[float, Field(ge=0.0, description="GPUs that a worker holds.")] = 0.0
    prefix_cache: Annotated[
        Literal["auto", "disk", "memory", "off"],
        Field(
            description="Where outputs of frozen bottom layers are kept instead of being computed again and again; "
            "auto: on the node's disk, of a GPU in its memory."
        ),
    ] = "auto"
    prefix_cache_disk_gib: Annotated[
        float | None,
        Field(gt=0.0, description="GiB that kept outputs may take on a node; null: a quarter of its free disk."),
    ] = None
    prefix_cache_memory_gib: Annotated[
        float, Field(gt=0.0, description="GiB of kept outputs that a worker may hold in memory (on a GPU: in its own).")
    ] = 1.0
    isolation: Annotated[
        Literal["warm", "fresh"], Field(description="fresh starts new worker processes for every trial.")
    ] = "warm"
    hang_timeout_s: Annotated[float, Field(gt=0.0, description="Seconds without progress that count as a hang.")] = (
        600.0
    )
    seed: Annotated[Seed, Field(description="Seed of initial weights, order of rows and dropout.")] = 0

    @property
    def divisor(self) -> int:
        """What every batch size must divide by: workers times accumulation steps."""
        return self.workers_per_trial * self.gradient_accumulation_steps

    @field_validator("batch_size")
    @classmethod
    def _divides(cls, batch_size: int, info: ValidationInfo) -> int:
        workers = info.data.get("workers_per_trial", 1)
        pieces = info.data.get("gradient_accumulation_steps", 1)
        if batch_size % (workers * pieces):
            text = (
                f"training.batch_size: expected a multiple of {workers * pieces} "
                f"(workers_per_trial {workers} × gradient_accumulation_steps {pieces}), got {batch_size}"
            )
            below = batch_size - batch_size % (workers * pieces)
            near = f"{below} or {below + workers * pieces}" if below else str(workers * pieces)
            advice = f"It counts over all workers: take {near}."
            raise problem_error(Problem(("batch_size",), text, advice))
        return batch_size


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
        Literal["tpe", "random", "gp", "cmaes", "qmc", "grid"], Field(description="Who proposes configurations.")
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
            description="Trials that are spread evenly over the space before tpe, gp and cmaes propose any; complete "
            "ones before median stops any.",
        ),
    ] = 10
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
        BeforeValidator(_as_tuple),
        Field(description="Configurations to try before the sampler proposes any, nested as the space is."),
    ] = ()
    concurrent_trials: Annotated[
        Literal["auto"] | Positive, Field(description="Trials at a time; auto fits them to the cluster.")
    ] = "auto"
    objectives: Annotated[
        tuple[ObjectivePlan, ...],
        BeforeValidator(_as_tuple),
        Field(description="What is optimised, the task's metric first; default: that alone."),
    ] = ()


class BudgetPlan(Section):
    """When the search ends; the first limit that is reached decides. All accumulate over resumes."""

    trials: Annotated[Positive, Field(description="Finished trials; failed ones do not count.")] = 24
    hours: Annotated[float | None, Field(gt=0.0, description="Hours of search.")] = None
    device_hours: Annotated[float | None, Field(gt=0.0, description="Hours × devices held.")] = None
    failed_trials: Annotated[Positive, Field(description="Failed trials that end the search.")] = 5
    disk_gib: Annotated[float | None, Field(gt=0.0, description="GiB that checkpoints may take.")] = None


class ReportPlan(Section):
    """What is ranked and what stands beside it."""

    top: Annotated[Positive, Field(description="Checkpoints that are ranked.")] = 3
    baselines: Annotated[
        tuple[Literal["majority", "zero_shot", "ordinary"], ...],
        BeforeValidator(_as_tuple),
        Field(description="Baselines in the same table; may be empty."),
    ] = ("majority", "zero_shot", "ordinary")
    generation: Annotated[
        GenerationChoices | None,
        Field(description="Generation settings that are chosen on validation for each checkpoint that is ranked."),
    ] = None
