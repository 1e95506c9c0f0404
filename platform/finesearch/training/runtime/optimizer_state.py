"""Optimizer state for resume: one process's moments as safetensors, without pickle and without the weights.

Under ZeRO 0 every process holds the whole state; under 1 to 3 each holds its partition of it. The fp32 weights that
ZeRO keeps in partitions are rebuilt from the model's weights, which are fp32 too, so only this state must be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


def optimizer_tensors(engine: DeepSpeedEngine, copy: bool = True) -> dict[str, torch.Tensor]:
    """Tensors on the CPU by ``INDEX.NAME``; INDEX counts the parameters (or partitions) in the optimizer's order.

    copy: whether tensors that are already on the CPU are copied, too.
    """
    state = _torch_optimizer(engine).state
    return {
        f"{index}.{name}": torch.as_tensor(value).detach().to("cpu", copy=copy).contiguous()
        for index, parameter in enumerate(_optimized(engine))
        for name, value in state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor | int)
    }


def read_optimizer_state(engine: DeepSpeedEngine, path: Path) -> None:
    """Load a file of ``optimizer_tensors`` into the optimizer; stage and number of processes must be the same."""
    from safetensors.torch import load_file

    parameters = list(_optimized(engine))
    state = _torch_optimizer(engine).state
    for key, value in load_file(path).items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        # Fused optimizers need the step counter on the parameter's device, like the moments; bitsandbytes' is an int.
        is_count = name == "step" and not value.is_floating_point()
        state.setdefault(parameter, {})[name] = int(value) if is_count else value.to(parameter.device)


def reset_optimizer_state(engine: DeepSpeedEngine, is_meant: Callable[[dict[str, Any]], bool]) -> None:
    """Clear moments and step count of the groups for which ``is_meant`` is true, as in a new optimizer."""
    state = _torch_optimizer(engine).state
    for group, parameter in _grouped(engine):
        if is_meant(group):
            state.pop(parameter, None)


def _torch_optimizer(engine: DeepSpeedEngine) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = engine.basic_optimizer
    return optimizer


def _optimized(engine: DeepSpeedEngine) -> Iterator[Any]:
    """The tensors that the torch optimizer updates on this process, in a fixed order."""
    for _, parameter in _grouped(engine):
        yield parameter


def _grouped(engine: DeepSpeedEngine) -> Iterator[tuple[dict[str, Any], Any]]:
    """The same tensors, each with the group whose settings it is updated with."""
    stage, optimizer = engine.zero_optimization_stage(), engine.optimizer
    if stage == 0:
        for group in optimizer.param_groups:
            yield from ((group, parameter) for parameter in group["params"])
    elif stage in (1, 2):
        yield from zip(optimizer.param_groups, optimizer.single_partition_of_fp32_groups, strict=True)
    else:
        for index, partition in enumerate(optimizer.fp32_partitioned_groups_flat):
            yield optimizer.param_groups[optimizer.sub_group_to_group_id[index]], partition
