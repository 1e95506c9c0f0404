"""Clipping and clearing of gradients under ZeRO 0, over what is trained alone.

DeepSpeed walks every module of the model twice a step and reduces a norm that all ranks have already. Beside a step
whose frozen layers are kept and not computed, that is most of the time.
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
    """Scale gradients, in place, so that the norm of them all is ``largest_norm`` at most.

    The gradients must be those of the whole global batch already. As ``torch.nn.utils.clip_grad_norm_`` does, but that
    a CPU leaves gradients alone that are short enough, instead of multiplying each by 1.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = get_total_norm(gradients)
    # A norm that is not a number compares as False and spreads. On a GPU, looking at it would wait for the device.
    if norm.device.type == "cpu" and float(norm) + 1e-6 <= largest_norm:
        return
    clip_grads_with_norm_(parameters, largest_norm, norm)


def clear(parameters: Sequence[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None
