"""Mixed precision: a trial computes in bf16 by autocast over fp32 weights where the hardware supports it, else in fp32.

Weights, gradients and optimizer state stay in fp32 under every ZeRO stage, so that checkpoints are exact.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from finesearch.training.weights.quantization import compute_quantized_in

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def has_native_bf16(device: torch.device) -> bool:
    """Whether bf16 is computed by the hardware itself: CUDA from capability 8.0 on, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Emulated bf16 is several times slower than fp32, and torch has no public function to detect it.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@dataclass(frozen=True)
class Precision:
    """``fp32`` or ``bf16``, and a note for the report about the choice."""

    name: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """The precision for a job's setting ``wanted`` (``auto``, ``fp32`` or ``bf16``).

    A search measures before its first trial and sends ``fp32`` or ``bf16``; ``auto`` comes from runs that were begun
    before it did, and goes by the processor's flags, as it did then.
    """
    native = has_native_bf16(device)
    if wanted == "auto":
        chosen = "bf16" if native else "fp32"
        why = "computes" if native else "does not compute"
        return Precision(chosen, (f"precision auto: {chosen}, since this {device.type} {why} in bf16 natively.",))
    if wanted == "bf16" and not native:
        emulated = f"precision bf16: this {device.type} reports no native bf16; it may be emulated and slow."
        return Precision("bf16", warnings=(emulated,))
    return Precision(wanted)


def compute_in(model: PreTrainedModel, precision: str, device: torch.device) -> None:
    """Make the model's forward run under autocast for bf16; floating-point outputs come back in fp32.

    Inside the model and not around the engine, because DeepSpeed disables an autocast that surrounds it.
    """
    if precision == "fp32":
        return
    compute_quantized_in(model, torch.bfloat16)
    forward = model.forward

    # Generation reads the signature.
    @functools.wraps(forward)
    def forward_in_bf16(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            outputs = forward(*args, **kwargs)
        for name, value in outputs.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                outputs[name] = value.float()
        return outputs

    model.forward = forward_in_bf16
    if model.can_generate():
        generate: Any = model.generate

        def generate_in_bf16(*args: Any, **kwargs: Any) -> Any:
            # It calls an encoder directly, not through the model's forward.
            with torch.autocast(device.type, dtype=torch.bfloat16):
                return generate(*args, **kwargs)

        model.generate = generate_in_bf16  # type: ignore[assignment]


def move(model: torch.nn.Module, device: torch.device) -> None:
    """Put the model's tensors on the device, in place."""
    model.to(device)
