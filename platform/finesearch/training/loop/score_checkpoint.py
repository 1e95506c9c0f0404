"""Rescores checkpoints reloaded from disk, one after another; data and base model are read once per process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import CheckpointError
from finesearch.plan import GenerationPlan, TaskPlan, TrainingPlan
from finesearch.storage.open_store import open_store
from finesearch.storage.store import LocalCopy
from finesearch.training.runtime.torch_threads import torch_threads
from finesearch.training.trial_types import ScoredPredictions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
    from finesearch.training.runtime.distributed import Processes
    from finesearch.training.task_context import TaskContext


def evaluate_checkpoint(
    folder: str | Path, split: str, task: TaskPlan, training: TrainingPlan, base: str | Path, cache: str | Path
) -> ScoredPredictions:
    """Load a checkpoint and score it on ``train``, ``validation`` or ``test``; see ``CheckpointScorer`` for many."""
    return CheckpointScorer(task, training, base, cache).load(folder).score(split)


@dataclass(frozen=True, eq=False)
class CheckpointScorer:
    """Data, tokens and base model of one task, read for the first checkpoint and reused for the next ones.

    Checkpoints may be in an object store; only the newest one is kept as a local copy.

    base: folder that relative paths of ``task`` are relative to. cache: folder for tokens.
    """

    task: TaskPlan
    training: TrainingPlan
    base: str | Path
    cache: str | Path

    def load(self, folder: str | Path) -> LoadedCheckpoint:
        """Read a checkpoint from disk and build its model, in the precision of its training.

        Raises:
            CheckpointError: see ``load_checkpoint_model``; or the classes of the data are not those of the checkpoint.
            DataError, ModelError: the data or the base model cannot be read.
        """
        from finesearch.training.checkpointing.checkpoint_layout import check_intact
        from finesearch.training.checkpointing.checkpoint_record import read_record
        from finesearch.training.checkpointing.load_checkpoint import build_checkpoint_model, check_base
        from finesearch.training.prompting import is_prompted
        from finesearch.training.runtime.precision import compute_in, move

        files = open_store(folder).local_copy()
        with self.working(), files.errors_naming_store() as folder:
            context = self.context
            check_intact(folder)
            record = read_record(folder)
            _refuse_other_labels(folder, record, context)
            home = context.base.folder
            check_base(record, home, folder, context.base_reference.sha256)
            model = None
            if not is_prompted(record.recipe.adaptation):
                model = build_checkpoint_model(folder, record, home)
                compute_in(model, record.precision, self.processes.device)
                move(model, self.processes.device)
            return LoadedCheckpoint(self, files, record, model)

    def prepare(self) -> None:
        """Read the shared data and models now.

        Raises:
            DataError, ModelError: it cannot be read.
        """
        assert self.context.base_reference
        # Imports what builds a model.
        import finesearch.training.checkpointing.load_checkpoint
        import finesearch.training.prompting.run_prompt_trial  # noqa: F401

    @cached_property
    def context(self) -> TaskContext:
        """The shared task context, read once."""
        from finesearch.training.task_context import load_task_context

        return load_task_context(self.task, Path(self.base), Path(self.cache))

    @cached_property
    def processes(self) -> Processes:
        """A process group of this process alone, on the device of the plan's workers."""
        from finesearch.training.runtime.distributed import Processes, choose_device

        return Processes(rank=0, world_size=1, device=choose_device(self.training.gpus_per_worker))

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside the block, threads, random state and libraries are set up as in a worker."""
        from finesearch.training.runtime.deepspeed_engine import prepare_imports
        from finesearch.training.runtime.seeding import isolated_rng_state

        prepare_imports(self.processes.device)
        with torch_threads(self.training.cpus_per_worker), isolated_rng_state(self.training.seed):
            yield


@dataclass(frozen=True, eq=False)
class LoadedCheckpoint:
    """A checkpoint in memory; ``model`` is None where it holds a prompt and no weights."""

    scorer: CheckpointScorer
    files: LocalCopy
    record: CheckpointRecord
    model: PreTrainedModel | None

    def score(self, split: str, generation: GenerationPlan | None = None) -> ScoredPredictions:
        """Score it on ``train``, ``validation`` or ``test``.

        generation: settings of text generation that replace the plan's.

        Raises:
            DivergedError: the model's outputs are not finite.
            ModelError: the model has too few positions for such long texts.
        """
        from finesearch.training.prompting.run_prompt_trial import rescore_prompt
        from finesearch.training.steps.evaluate import ScoringOptions, evaluate

        with self.scorer.working():
            context = self.scorer.context
            if generation is not None:
                context = context.with_generation(generation)
            processes = self.scorer.processes
            if self.model is None:
                return rescore_prompt(self.files.folder, self.record, context, split, processes)
            if context.base.generation is not None:
                # The current plan's settings, so that the same weights can be scored with other ones.
                self.model.generation_config = context.base.generation
            scoring = ScoringOptions(decision=self.record.evaluation.decision)
            return evaluate(self.model, context.task, context.base, context.tokens[split], processes, scoring=scoring)


def _refuse_other_labels(folder: Path, record: CheckpointRecord, context: TaskContext) -> None:
    from finesearch.tasks import TaskFacts

    trained_on, current = TaskFacts.model_validate(record.facts).encoding, context.facts.encoding
    for name in {**trained_on, **current}:
        known, got = trained_on.get(name), current.get(name)
        if known != got:
            what = "labels" if name == "label_names" else name.replace("_", " ")
            raise CheckpointError(
                f"{folder}: expected data with the {what} {known}, got {got}. Score it on the data that it was "
                f"trained on."
            )
