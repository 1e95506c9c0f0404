"""The base model, read from disk once per process; every trial gets a fresh copy, built from memory."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from finesearch.plan.space.branches import QUANTIZED
from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.training.adaptations.adapters import linear_layers
from finesearch.training.heads.label_order import fit_output_layer
from finesearch.training.heads.target_scale import unfold_target_scale
from finesearch.training.model.added_tokens import task_tokenizer
from finesearch.training.model.dropout import head_dropouts, set_config_dropout, set_head_dropout
from finesearch.training.model.model_config import auto_class, build_skeleton, check_max_length, read_config
from finesearch.training.model.model_files import quiet_transformers
from finesearch.training.model.module_structure import HELD, ModuleStructure, trace_structure
from finesearch.training.runtime.seeding import derived_seed
from finesearch.training.weights.missing_tensors import load_model
from finesearch.training.weights.quantization import (
    alias,
    install_quantized,
    is_quantized,
    quantize_layers,
    stored_type,
)
from finesearch.training.weights.weight_files import holds_bf16_alone, weight_files

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from finesearch.plan import Recipe
    from finesearch.tasks import Task, TaskFacts


MATRIX = 2
"""Dimensions from which a tensor is a matrix."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PretrainedBase:
    """Weights and config of the base model with the task's head.

    tensors: every tensor in the folder, by its name in the model; on the CPU, never changed. fp32, or matrices in bf16
    where the folder has them so and trials compute in it.
    fresh: names of the parameters that the folder did not have (usually the head), or for other labels: initialised
    anew for every trial.
    reinitialized: those of them that the folder did have, in layers that start from random weights.
    facts: what the task learned from its rows, such as the labels; the head was built for them.
    generation: settings of text generation, for tasks whose predictions are generated.
    stored: type of the matrices inside the blocks, see ``stored_type``; quantized ones are bitsandbytes' parameters.
    """

    folder: Path
    kind: str
    facts: TaskFacts
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    tensors: Mapping[str, torch.Tensor]
    fresh: frozenset[str]
    head_dropouts: Mapping[str, float]
    inputs: frozenset[str]
    structure: ModuleStructure
    reinitialized: frozenset[str] = frozenset()
    generation: GenerationConfig | None = None
    stored: str = "fp32"

    def build(self, recipe: Recipe, seed: int, shares: bool = False) -> tuple[PreTrainedModel, tuple[str, ...]]:
        """A model with the base's weights, the recipe's dropout and a head drawn from ``seed``; and warnings.

        shares: its parameters use the base's memory; :meth:`place_weights` must be called once it is known which of
        them train. Matrices that the base holds in bf16 have no values before that, embeddings excepted.
        """
        with quiet_transformers():
            from transformers.initialization import no_init_weights

            config = copy.deepcopy(self.config)
            warnings = set_config_dropout(config, recipe)
            with no_init_weights():
                model = auto_class(self.kind, config).from_config(config, trust_remote_code=False, dtype=torch.float32)
        # Without initialisation transformers also skips tying the weights.
        model.tie_weights()
        install_quantized(model, self.tensors)
        plain = {name: tensor for name, tensor in self.tensors.items() if not is_quantized(tensor)}
        if shares:
            share(model, plain)
            if recipe.adaptation_parameters.get("dora"):  # starts from the lengths of the rows of the weights
                overlay(model, plain)
        else:
            overlay(model, plain)
        draw_fresh(model, self.fresh, seed)
        if self.generation is not None:
            model.generation_config = copy.deepcopy(self.generation)
        return model, warnings + set_head_dropout(model, recipe, self.head_dropouts)

    def place_weights(self, model: PreTrainedModel) -> None:
        """Give a model that shares the base's memory its own copy, in fp32, of the parameters that train.

        Nothing writes to the frozen ones, which stay the base's.
        """
        own = {tensor.data_ptr() for tensor in self.tensors.values()}
        for parameter in model.parameters():
            held = vars(parameter).pop(HELD, None)
            if held is not None:
                parameter.data = held.float() if parameter.requires_grad else held
            elif parameter.requires_grad and parameter.data_ptr() in own:
                parameter.data = parameter.detach().to(torch.float32, copy=True)
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.weight.dtype != torch.float32:
                module.register_forward_hook(_in_fp32)


def _in_fp32(_module: torch.nn.Module, _args: Any, output: torch.Tensor) -> torch.Tensor:
    """Rows of a table in bf16 as those of one in fp32: autocast leaves them, and the blocks add to them."""
    return output.float()


def load_base_model(
    folder: Path, task: Task, facts: TaskFacts, precision: str = "fp32", base_weights: str = "auto"
) -> PretrainedBase:
    """Read weights, config and tokenizer of ``folder``.

    precision: what trials compute in. Under bf16 autocast casts matrices to bf16 in each forward, so that those of a
    folder in bf16 stay as they are: the same results from half of the memory. base_weights: see ``stored_type``.

    Raises:
        ModelError: see ``inspect_model``; or the weights are not those of the model that the config describes.
    """
    tokenizer, added = task_tokenizer(folder, facts)
    if isinstance(task, GenerationTask):
        task.prepare_tokenizer(tokenizer)
    config = read_config(folder, **task.model_settings(facts), **added)
    if config.get_text_config().pad_token_id is None:
        # Decoders find each example's last token by it.
        config.get_text_config().pad_token_id = tokenizer.pad_token_id
    weight_files(folder)
    # Reports an unsupported architecture before its weights are read.
    positions = task.positions(config.is_encoder_decoder)
    check_max_length(build_skeleton(config, task.kind, folder), positions)
    stored = stored_type(folder, precision, base_weights)
    stays_bf16 = stored != "fp32" and holds_bf16_alone(folder)
    loaded = load_model(folder, config, task.kind, dtype=torch.bfloat16 if stays_bf16 else torch.float32)
    model = loaded.model
    fresh, _ = fit_output_layer(model, loaded.missing, folder, facts.label_names)
    unfold_target_scale(model, facts.target_scale, fresh)
    inputs = frozenset(inspect.signature(model.forward).parameters)
    example = short_example(tokenizer, inputs, config.is_encoder_decoder)
    persistent = set(model.state_dict()) - dict(model.named_parameters()).keys()
    if stored in QUANTIZED:
        quantize_layers(model, stored, fresh)
    cast = {f"{name}.weight" for name in linear_layers(model)} if stored == "bf16" and not stays_bf16 else frozenset()
    # Trials that compute in fp32 multiply with what is not quantized in fp32.
    smallest = MATRIX if precision == "bf16" or stored == "bf16" else math.inf
    tensors = {
        name: _held(tensor, name in cast, smallest)
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if name not in fresh and (isinstance(tensor, torch.nn.Parameter) or name in persistent)
    }
    return PretrainedBase(
        folder=folder,
        kind=task.kind,
        facts=facts,
        config=config,
        tokenizer=tokenizer,
        tensors=tensors,
        fresh=fresh,
        head_dropouts=head_dropouts(model),
        inputs=inputs,
        structure=trace_structure(model, example),
        generation=(
            task.generation_config(model.generation_config, tokenizer, facts)
            if isinstance(task, GenerationTask)
            else None
        ),
        stored=stored,
    )


def _held(tensor: torch.Tensor, is_cast: bool, smallest: float) -> torch.Tensor:
    """A tensor as the base keeps it: quantized ones, and from ``smallest`` dimensions on those in bf16, as they are."""
    if is_quantized(tensor):
        return alias(tensor)
    tensor = tensor.detach()
    if is_cast:
        return tensor.to(torch.bfloat16)
    return tensor if tensor.ndim >= smallest else _at_least_fp32(tensor)


def _at_least_fp32(tensor: torch.Tensor) -> torch.Tensor:
    """Norms and biases, which are small, as they were in fp32."""
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def short_example(tokenizer: Any, inputs: Collection[str], is_encoder_decoder: bool) -> dict[str, torch.Tensor]:
    """The model's inputs for a text of one letter; ``inputs`` are the arguments that it accepts."""
    example = {name: value for name, value in tokenizer("a", return_tensors="pt").items() if name in inputs}
    if is_encoder_decoder and "decoder_input_ids" in inputs:
        example["decoder_input_ids"] = example["input_ids"]
    return example


def overlay(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into the model's parameters and buffers of the same names."""
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def share(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """Have the model's parameters use the memory of the tensors of the same names; its buffers are copied.

    Matrices in bf16 are only attached to their parameters (``HELD``): an adapter takes the type of the layer that it
    adapts, and must be drawn in fp32. Tables of embeddings are not adapted, and prompts read them.
    """
    parameters = dict(model.named_parameters())
    tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    for name, parameter in parameters.items():
        if name not in tensors:
            continue
        if tensors[name].dtype == torch.float32 or id(parameter) in tables:
            parameter.data = tensors[name]
        else:
            setattr(parameter, HELD, tensors[name])
    overlay(model, {name: tensor for name, tensor in tensors.items() if name not in parameters})


def draw_fresh(model: PreTrainedModel, fresh: frozenset[str], seed: int) -> None:
    """Initialise only the parameters named ``fresh``, from ``seed``, as the architecture does."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        # transformers does not initialise tensors with this flag again.
        tensor._is_hf_initialized = name not in fresh  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "head"))
        model.initialize_weights()  # type: ignore[no-untyped-call]
