"""Base weights in 8 or 4 bits, by bitsandbytes: matrices inside the blocks; embeddings and output layer stay.

Dettmers, Lewis, Belkada and Zettlemoyer, LLM.int8(), 2022. Dettmers, Pagnoni, Holtzman and Zettlemoyer, QLoRA, 2023:
``nf4``, whose scales are quantized too. Values are those of transformers' ``BitsAndBytesConfig``; its loader is not
used, since every trial gets modules of its own over one set of quantized tensors.
"""

from __future__ import annotations

import copy
import ctypes
import mmap
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from finesearch.errors import ModelError
from finesearch.plan.space.branches import BASE_WEIGHTS
from finesearch.training.adaptations.adapters import linear_layers, owns
from finesearch.training.weights.import_bitsandbytes import import_bitsandbytes
from finesearch.training.weights.weight_files import holds_bf16_alone

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.plan import Recipe

NF4 = "nf4"


def base_weights_of(recipe: Recipe) -> str:
    """What a recipe asks of the base's matrices; recipes of older versions ask nothing."""
    wanted: str = recipe.adaptation_parameters.get(BASE_WEIGHTS, "auto")
    return wanted


def stored_type(folder: Path, precision: str, wanted: str) -> str:
    """``fp32``, ``bf16``, ``int8`` or ``nf4``: how the base's matrices are held. precision: what trials compute in."""
    if wanted != "auto":
        return wanted
    return "bf16" if precision == "bf16" and holds_bf16_alone(folder) else "fp32"


def quantize_layers(model: PreTrainedModel, how: str, fresh: Collection[str]) -> None:
    """Replace the linear layers inside the blocks by quantized ones, in place; layers with ``fresh`` parameters stay.

    One layer after another. Pages of weights that are mapped from their files are given back once they are quantized,
    so that the model is never in memory as a whole.

    Raises:
        ModelError: there is no such layer.
    """
    names = [name for name in linear_layers(model) if isinstance(model.get_submodule(name), torch.nn.Linear)]
    if not names:
        raise not_quantizable(type(model).__name__)
    for name in names:
        if not owns(name, fresh):
            weight = model.get_submodule(name).weight.detach()  # type: ignore[operator]
            _install(model, name, _quantized(weight, how))
            give_back_pages(weight)
    _tell_peft(model, how)


def not_quantizable(architecture: str) -> ModelError:
    return ModelError(
        f"{BASE_WEIGHTS}: {architecture} has no linear layers (torch.nn.Linear) inside its blocks that could be "
        f"quantized. Set it to auto, fp32 or bf16."
    )


def install_quantized(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give a model the layers whose weights are quantized in ``tensors``; it shares their memory."""
    for name, weight in tensors.items():
        if is_quantized(weight):
            _install(model, name.removesuffix(".weight"), alias(weight))
            how = NF4 if weight.dtype == torch.uint8 else "int8"
    if any(map(is_quantized, tensors.values())):
        _tell_peft(model, how)


def is_quantized(tensor: Any) -> bool:
    """Whether a weight is one of bitsandbytes'."""
    return type(tensor).__name__ in ("Params4bit", "Int8Params")


def compute_quantized_in(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Set the type in which 4-bit layers multiply, and in which quantized layers return, as plain ones under autocast.

    bitsandbytes returns the type of the inputs, which is fp32: activations would take twice the memory.
    """

    def as_computed(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output.to(dtype)

    for module in model.modules():
        if is_quantized(getattr(module, "weight", None)) and not hasattr(module, "base_layer"):
            if hasattr(module, "compute_dtype"):
                module.compute_dtype = dtype  # type: ignore[assignment]
            module.register_forward_hook(as_computed)


def dequantize_layers(model: PreTrainedModel) -> None:
    """Replace quantized layers by plain ones in fp32 that hold the same values, in place; for a merge."""
    from peft.utils.integrations import dequantize_module_weight

    for name, module in list(model.named_modules()):
        if is_quantized(getattr(module, "weight", None)):
            plain = torch.nn.Linear(module.in_features, module.out_features, bias=False, device="meta")
            plain.weight = torch.nn.Parameter(dequantize_module_weight(module).detach().float(), requires_grad=False)
            plain.bias = module.bias
            _replace(model, name, plain)
    model.is_loaded_in_4bit = model.is_loaded_in_8bit = False  # type: ignore[assignment]


def _quantized(weight: torch.Tensor, how: str) -> torch.nn.Parameter:
    bnb = import_bitsandbytes()
    if how == NF4:
        four: torch.nn.Parameter = bnb.nn.Params4bit(
            weight, requires_grad=False, compress_statistics=True, quant_type=NF4
        ).to("cpu")
        return four
    eight: torch.nn.Parameter = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False).to("cpu")
    return eight


def alias(weight: Any) -> torch.nn.Parameter:
    """A weight of its own over the same memory: layers write to their weight's statistics, and move them."""
    bnb = import_bitsandbytes()
    if weight.dtype != torch.uint8:
        return bnb.nn.Int8Params(weight.data, requires_grad=False, CB=weight.data, SCB=weight.SCB)  # type: ignore[no-any-return]
    own = copy.copy(weight)
    own.quant_state = copy.copy(weight.quant_state)
    own.quant_state.state2 = copy.copy(weight.quant_state.state2)
    return own  # type: ignore[no-any-return]


def _install(model: PreTrainedModel, name: str, weight: Any) -> None:
    bnb, old = import_bitsandbytes(), model.get_submodule(name)
    sizes: Any = old.in_features, old.out_features
    if weight.dtype == torch.uint8:
        layer = bnb.nn.Linear4bit(
            *sizes, bias=False, compute_dtype=torch.float32, compress_statistics=True, quant_type=NF4, device="meta"
        )
        layer.quant_state = weight.quant_state
        # Else it repacks its weights in eval mode, in place, after which they give no gradients.
        layer.support_avx512bf16_for_cpu = False
    else:
        layer = bnb.nn.Linear8bitLt(*sizes, bias=False, has_fp16_weights=False, threshold=6.0, device="meta")
    layer.weight, layer.bias = weight, old.bias
    layer.train(old.training)
    _replace(model, name, layer)


def _replace(model: torch.nn.Module, name: str, layer: torch.nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _tell_peft(model: Any, how: str) -> None:
    """Set the flags by which peft chooses its classes for quantized layers."""
    for part in {model, model.base_model}:
        part.is_loaded_in_4bit, part.is_loaded_in_8bit = how == NF4, how != NF4


def _is_file(start: int, end: int) -> bool:
    """Whether addresses lie in one mapping of a file; False where the system does not tell."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    for line in lines:
        addresses, _, _, _, inode, *_ = line.split(maxsplit=5)
        first, last = (int(each, 16) for each in addresses.split("-"))
        if first <= start and end <= last:
            return inode != "0"
    return False


def give_back_pages(tensor: torch.Tensor) -> None:
    """Drop the whole pages of a tensor that is mapped from a file; whoever reads it again reads the file again.

    One that is not, such as of a .bin file or cast to another type, stays: its pages would become zeros.
    """
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (tensor.data_ptr() + tensor.numel() * tensor.element_size()) // mmap.PAGESIZE * mmap.PAGESIZE
    size = end - start
    if size > 0 and _is_file(start, end):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_DONTNEED)
