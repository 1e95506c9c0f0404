"""The ``training`` section of a plan: how each trial trains, and on which devices."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from finesearch.plan.problems import Problem, problem_error
from finesearch.plan.sections.task_section import Section

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class TrainingPlan(Section):
    """How each trial trains, and the devices it holds.

    ``batch_size`` counts examples over all workers and accumulation steps.
    """

    epochs: Annotated[
        Positive | Literal["auto"],
        Field(description="Passes over the training split; auto: enough for 300 optimizer steps, 3 to 20."),
    ] = "auto"
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
        Literal["auto", "fp32", "bf16"],
        Field(description="auto takes bf16 where every node trains faster in it, measured before the first trial."),
    ] = "auto"
    activation_checkpointing: Annotated[
        Literal["auto", "on", "off"],
        Field(
            description="Keep only the input of each block for the backward pass, and compute the rest again: less "
            "memory, up to a third more time, the same losses; auto: on from 1 G parameters on."
        ),
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
    def num_epochs(self) -> int:
        """``epochs``; 3, as the recipe's default, while rows have not decided what ``auto`` is."""
        return 3 if self.epochs == "auto" else self.epochs

    @property
    def devices_per_trial(self) -> float:
        """GPUs of one trial, or CPUs where it has none."""
        return self.workers_per_trial * (self.gpus_per_worker or self.cpus_per_worker)

    @property
    def divisor(self) -> int:
        """The number that must divide every batch size: workers times accumulation steps."""
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
