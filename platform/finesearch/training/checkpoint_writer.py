"""Writes the checkpoints of one running trial: weights from rank 0, optimizer state from all who have a part of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.training import checkpoints
from finesearch.training.checkpoint_record import CheckpointRecord
from finesearch.training.checkpoints import RESUME, Checkpoint
from finesearch.training.optimizer_state import read_optimizer_state, write_optimizer_state
from finesearch.training.processes import Processes
from finesearch.training.regularizers.weight_average import RAW

if TYPE_CHECKING:
    import torch
    from deepspeed import DeepSpeedEngine
    from transformers import PreTrainedModel

WEIGHTS = "model.safetensors"
GENERATION = "generation_config.json"


@dataclass(frozen=True, eq=False)
class CheckpointWriter:
    """Bound to one attempt at one trial. Every method is called by every rank together."""

    directory: Path
    attempt: int
    processes: Processes
    engine: DeepSpeedEngine
    model: PreTrainedModel
    tokenizer_files: Mapping[str, bytes]

    def write(
        self,
        record: Callable[[], CheckpointRecord],
        step: int,
        with_resume: bool,
        raw: Mapping[str, torch.Tensor] | None = None,
    ) -> Path:
        """Write the checkpoint of evaluation ``step``; when this returns it is durable. ``record`` is called on rank 0.

        raw: the weights that training goes on from, where they are not those in the model.

        Raises:
            DiskFullError: on every rank; the half-written folder is gone.
            TrialError: a later attempt has taken this one's place.
        """
        temporary = checkpoints.temporary_folder(self.directory, step, self.attempt)
        weights = trained_tensors(self.model, self.processes)
        self.processes.first_does(lambda: self._write_weights(temporary, weights, record, step, with_resume))
        if with_resume:
            self._write_optimizer_states(temporary)
            if raw is not None:
                self.processes.first_does(lambda: self._write_raw(temporary, raw))
        return self.processes.first_does(lambda: self._complete(temporary, step).path)

    def read_optimizer_state(self, checkpoint: Path) -> None:
        """Give the optimizer the state that a verified checkpoint holds."""
        read_optimizer_state(self.engine, checkpoint / RESUME / self._state_file)

    @property
    def _state_file(self) -> str:
        # Without partitions every rank has the whole state, and rank 0's file serves all.
        partitioned = self.engine.zero_optimization_stage() > 0
        return f"optimizer-rank{self.processes.rank if partitioned else 0}.safetensors"

    def _write_weights(
        self,
        temporary: Path,
        weights: Mapping[str, torch.Tensor],
        record: Callable[[], CheckpointRecord],
        step: int,
        with_resume: bool,
    ) -> None:
        from safetensors.torch import save_file

        with checkpoints.discarded_on_failure(temporary):
            checkpoints.begin(self.directory, step, self.attempt, with_resume)
            save_file(dict(weights), temporary / WEIGHTS, metadata={"format": "pt"})
            self.model.config.architectures = [type(self.model).__name__]
            self.model.config.save_pretrained(temporary)
            if self.model.can_generate():
                self.model.generation_config.save_pretrained(temporary)
            for name, content in self.tokenizer_files.items():
                (temporary / name).write_bytes(content)
            record().write(temporary)

    def _write_raw(self, temporary: Path, raw: Mapping[str, torch.Tensor]) -> None:
        from safetensors.torch import save_file

        with checkpoints.discarded_on_failure(temporary):
            save_file({name: tensor.cpu() for name, tensor in raw.items()}, temporary / RESUME / RAW)

    def _write_optimizer_states(self, temporary: Path) -> None:
        partitioned = self.engine.zero_optimization_stage() > 0
        problem: Exception | None = None
        if partitioned or self.processes.is_first:
            try:
                with checkpoints.discarded_on_failure(temporary):
                    write_optimizer_state(self.engine, temporary / RESUME / self._state_file)
            except Exception as error:  # raised below on every rank, once all know
                problem = error
        problems = [error for error in self.processes.gather(problem) if error is not None]
        if problems:
            raise problem or problems[0]

    def _complete(self, temporary: Path, step: int) -> Checkpoint:
        with checkpoints.discarded_on_failure(temporary):
            return checkpoints.complete(temporary, step, self.attempt)


def trained_tensors(model: PreTrainedModel, processes: Processes) -> dict[str, torch.Tensor]:
    """Copies of all trained parameters on the CPU, on rank 0; empty elsewhere. ZeRO-3's partitions are joined."""
    import deepspeed

    tensors = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # One at a time, so that no rank ever holds the whole model for it.
        with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            if processes.is_first:
                tensors[name] = parameter.detach().cpu().clone().contiguous()
    return tensors
