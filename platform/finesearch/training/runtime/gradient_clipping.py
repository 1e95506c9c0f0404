"""Gradient clipping and zero_grad under ZeRO 0, over the trained parameters only.

DeepSpeed walks every module of the model twice per step and reduces a norm that all ranks already have. When the
outputs of frozen layers are cached, that is most of a step's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch.nn.utils import clip_grads_with_norm_, get_total_norm

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from torch import Tensor


def install_fast_clipping(engine: DeepSpeedEngine, gradient_clipping: float | None) -> None:
    """Have a ZeRO 0 engine clip and clear the gradients of trained parameters by the functions below."""
    trained = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
    if gradient_clipping is not None:
        engine.clip_fp32_gradients = lambda: clip(trained, gradient_clipping)
    engine.zero_grad = lambda: clear(trained)


def clip(parameters: Sequence[Tensor], largest_norm: float) -> None:
    """Scale gradients, in place, so that their global norm is at most ``largest_norm``.

    The gradients must already be those of the whole global batch. Like ``torch.nn.utils.clip_grad_norm_``, except that
    on a CPU, gradients below the limit are left alone instead of being multiplied by 1.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = get_total_norm(gradients)
    # A NaN norm compares as False and propagates. On a GPU, reading the norm would wait for the device.
    if norm.device.type == "cpu" and float(norm) + 1e-6 <= largest_norm:
        return
    clip_grads_with_norm_(parameters, largest_norm, norm)


def clear(parameters: Sequence[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None
