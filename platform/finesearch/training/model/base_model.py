"""The base model, read from disk once per process; every trial gets a fresh copy, built from memory."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.training.heads.label_order import fit_output_layer
from finesearch.training.heads.target_scale import unfold_target_scale
from finesearch.training.model.added_tokens import task_tokenizer
from finesearch.training.model.dropout import head_dropouts, set_config_dropout, set_head_dropout
from finesearch.training.model.model_config import auto_class, build_skeleton, check_max_length, read_config
from finesearch.training.model.model_files import quiet_transformers
from finesearch.training.model.module_structure import ModuleStructure, trace_structure
from finesearch.training.runtime.seeding import derived_seed
from finesearch.training.weights.missing_tensors import load_model
from finesearch.training.weights.weight_files import weight_files

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from finesearch.plan import Recipe
    from finesearch.tasks import Task, TaskFacts


@dataclass(frozen=True, eq=False, kw_only=True)
class PretrainedBase:
    """Weights and config of the base model with the task's head.

    tensors: every tensor in the folder, by its name in the model; fp32, on the CPU, never changed.
    fresh: names of the parameters that the folder did not have (usually the head), or for other labels: initialised
    anew for every trial.
    reinitialized: those of them that the folder did have, in layers that start from random weights.
    facts: what the task learned from its rows, such as the labels; the head was built for them.
    generation: settings of text generation, for tasks whose predictions are generated.
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

    def build(self, recipe: Recipe, seed: int, shares: bool = False) -> tuple[PreTrainedModel, tuple[str, ...]]:
        """A model with the base's weights, the recipe's dropout and a head drawn from ``seed``; and warnings.

        shares: its parameters use the base's memory, until :meth:`unshare_trained` copies those that train.
        """
        with quiet_transformers():
            from transformers.initialization import no_init_weights

            config = copy.deepcopy(self.config)
            warnings = set_config_dropout(config, recipe)
            with no_init_weights():
                model = auto_class(self.kind, config).from_config(config, trust_remote_code=False, dtype=torch.float32)
        # Without initialisation transformers also skips tying the weights.
        model.tie_weights()
        if shares:
            share(model, self.tensors)
        else:
            overlay(model, self.tensors)
        draw_fresh(model, self.fresh, seed)
        if self.generation is not None:
            model.generation_config = copy.deepcopy(self.generation)
        return model, warnings + set_head_dropout(model, recipe, self.head_dropouts)

    def unshare_trained(self, model: PreTrainedModel) -> None:
        """Copy the trainable parameters of a model that shares the base's memory; nothing writes to frozen ones."""
        own = {tensor.data_ptr() for tensor in self.tensors.values()}
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.data_ptr() in own:
                parameter.data = parameter.detach().clone()


def load_base_model(folder: Path, task: Task, facts: TaskFacts) -> PretrainedBase:
    """Read weights, config and tokenizer of ``folder``.

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
    loaded = load_model(folder, config, task.kind)
    model = loaded.model
    fresh, _ = fit_output_layer(model, loaded.missing, folder, facts.label_names)
    unfold_target_scale(model, facts.target_scale, fresh)
    inputs = frozenset(inspect.signature(model.forward).parameters)
    example = short_example(tokenizer, inputs, config.is_encoder_decoder)
    persistent = model.state_dict().keys() - dict(model.named_parameters()).keys()
    tensors = {
        name: tensor.detach()
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
    )


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
    """Have the model's parameters use the memory of the tensors of the same names; its buffers are copied."""
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if name in tensors:
            parameter.data = tensors[name]
    overlay(model, {name: tensor for name, tensor in tensors.items() if name not in parameters})


def draw_fresh(model: PreTrainedModel, fresh: frozenset[str], seed: int) -> None:
    """Initialise only the parameters named ``fresh``, from ``seed``, as the architecture does."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        # transformers does not initialise tensors with this flag again.
        tensor._is_hf_initialized = name not in fresh  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "head"))
        model.initialize_weights()  # type: ignore[no-untyped-call]
