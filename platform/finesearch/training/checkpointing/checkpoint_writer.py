"""Takes snapshots of a running trial and writes its checkpoints: weights from rank 0, optimizer state from all ranks
that hold a part."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.training.checkpointing import checkpoint_layout, checkpoint_record
from finesearch.training.checkpointing.checkpoint_layout import RESUME
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.checkpointing.checkpoint_store import CheckpointStore
from finesearch.training.regularizers.weight_average import RAW
from finesearch.training.runtime.distributed import Processes
from finesearch.training.runtime.optimizer_state import optimizer_tensors, read_optimizer_state

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from torch import Tensor
    from transformers import PreTrainedModel


WEIGHTS = "model.safetensors"
GENERATION = "generation_config.json"


@dataclass(frozen=True, eq=False)
class CheckpointWriter:
    """Bound to one attempt at one trial.

    ``take_snapshot``, ``begin`` and ``read_optimizer_state`` are called by every rank together. Then every rank writes
    its part, and when all have, rank 0 completes the folder: from any thread, since these two touch neither model nor
    processes.
    """

    store: CheckpointStore
    attempt: int
    processes: Processes
    engine: DeepSpeedEngine
    model: PreTrainedModel
    tokenizer_files: Mapping[str, bytes]

    def take_snapshot(
        self,
        record: Callable[[], CheckpointRecord],
        step: int,
        with_resume: bool,
        raw: Mapping[str, Tensor] | None = None,
        copy_moments: bool = True,
    ) -> Snapshot:
        """Copy the content of the checkpoint of evaluation ``step``. ``record`` is called on rank 0.

        raw: the weights that training continues from, if they are not those in the model; never changed later.
        copy_moments: without it, the snapshot must be written before training continues.
        """
        weights = trained_tensors(self.model, self.processes)
        files: dict[str, bytes] = {}
        if self.processes.is_rank_zero:
            files = {**self._config_files, **self.tokenizer_files, checkpoint_record.FILE: record().content}
        return Snapshot(step, weights, files, self._resume_state(raw, copy_moments) if with_resume else None)

    def begin(self, snapshot: Snapshot) -> None:
        """Make the folder for the parts.

        Raises:
            DiskFullError, TrialError: see ``checkpoint_layout.begin``; on every rank.
        """
        self.processes.run_on_rank_zero(lambda: self._begin(snapshot))

    def write_part(self, snapshot: Snapshot) -> None:
        """Write this process's part.

        Raises:
            DiskFullError: the half-written folder is gone.
        """
        temporary = self._temporary(snapshot)
        with checkpoint_layout.discarded_on_failure(temporary):
            self.write_into(temporary, self.path(snapshot.step).name, snapshot)

    def write_into(self, folder: Path, name: str, snapshot: Snapshot) -> None:
        """Write this process's part of ``name`` into an existing folder, with ``resume`` inside if there is resume
        state."""
        from safetensors.torch import save_file

        sends = bool(snapshot.resume) and not self.processes.is_rank_zero
        if sends:
            self.store.begin_part(folder)
        if self.processes.is_rank_zero:
            save_file(dict(snapshot.weights), folder / WEIGHTS, metadata={"format": "pt"})
        for file, content in snapshot.files.items():
            (folder / file).write_bytes(content)
        for file, tensors in (snapshot.resume or {}).items():
            save_file(dict(tensors), folder / RESUME / file)
        if sends:
            self.store.send_part(folder, name, self.processes.rank)

    def complete(self, snapshot: Snapshot) -> None:
        """Fsync what all ranks have written and rename the folder: when this returns, the checkpoint is durable.

        Raises:
            DiskFullError: the folder is gone.
        """
        temporary = self._temporary(snapshot)
        with checkpoint_layout.discarded_on_failure(temporary):
            elsewhere = self.store.parts(self.path(snapshot.step).name) if snapshot.resume is not None else {}
            checkpoint = checkpoint_layout.complete(temporary, snapshot.step, self.attempt, elsewhere)
            self.store.save_checkpoint(checkpoint.path)

    def path(self, step: int) -> Path:
        """Folder of this attempt's checkpoint of evaluation ``step``."""
        return checkpoint_layout.complete_folder(self.directory, step, self.attempt)

    def read_optimizer_state(self, checkpoint: Path) -> None:
        """Load the optimizer state of a verified checkpoint."""
        read_optimizer_state(self.engine, checkpoint / RESUME / self._state_file)

    @property
    def directory(self) -> Path:
        return self.store.folder

    @property
    def _is_partitioned(self) -> bool:
        return bool(self.engine.zero_optimization_stage() > 0)

    @property
    def _state_file(self) -> str:
        # Without partitions every rank has the whole state, so all ranks read rank 0's file.
        return f"optimizer-rank{self.processes.rank if self._is_partitioned else 0}.safetensors"

    @cached_property
    def _config_files(self) -> dict[str, bytes]:
        """The config and generation config as ``save_pretrained`` writes them, by file name."""
        self.model.config.architectures = [type(self.model).__name__]
        with tempfile.TemporaryDirectory() as folder:
            self.model.config.save_pretrained(folder)
            if self.model.can_generate():
                self.model.generation_config.save_pretrained(folder)
            return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}

    def _resume_state(self, raw: Mapping[str, Tensor] | None, copy_moments: bool) -> dict[str, Mapping[str, Tensor]]:
        state: dict[str, Mapping[str, Tensor]] = {}
        if self._is_partitioned or self.processes.is_rank_zero:
            state[self._state_file] = optimizer_tensors(self.engine, copy_moments)
        if raw is not None and self.processes.is_rank_zero:
            state[RAW] = {name: tensor.cpu() for name, tensor in raw.items()}
        return state

    def _temporary(self, snapshot: Snapshot) -> Path:
        return checkpoint_layout.temporary_folder(self.directory, snapshot.step, self.attempt)

    def _begin(self, snapshot: Snapshot) -> None:
        with checkpoint_layout.discarded_on_failure(self._temporary(snapshot)):
            self.store.refuse_if_superseded(self.attempt)
            checkpoint_layout.begin(self.directory, snapshot.step, self.attempt, snapshot.resume is not None)
            self.store.begin(self.path(snapshot.step).name)


def trained_tensors(model: PreTrainedModel, processes: Processes) -> dict[str, Tensor]:
    """Copies of all trained parameters on the CPU, on rank 0; empty elsewhere. ZeRO-3's partitions are joined."""
    import deepspeed

    tensors = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # One parameter at a time, so that no rank has to hold the whole model.
        with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            if processes.is_rank_zero:
                tensors[name] = parameter.detach().to("cpu", copy=True).contiguous()
    return tensors


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One process's part of the checkpoint of evaluation ``step``; tensors are on the CPU.

    weights: trained tensors, on rank 0. files: the other files needed to load it, by name, on rank 0. resume: files of
    tensors to resume from, by name; None on every rank if this checkpoint is not resumable.
    """

    step: int
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    resume: Mapping[str, Mapping[str, Tensor]] | None = None
