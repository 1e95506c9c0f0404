"""The base model as one recipe starts from it: with the recipe's head, and the same tensors in the same memory."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from finesearch.errors import CheckpointError, ModelError
from finesearch.training.heads.head_choice import choose_head, head_words
from finesearch.training.heads.head_parameters import reinitialized_layers
from finesearch.training.heads.pooled_head import FIELD
from finesearch.training.model.base_model import PretrainedBase, share, short_example
from finesearch.training.model.dropout import head_dropouts
from finesearch.training.model.model_config import auto_class, read_config
from finesearch.training.model.model_files import quiet_transformers
from finesearch.training.model.module_structure import backbone_prefix, trace_structure
from finesearch.training.weights.quantization import base_weights_of, install_quantized, is_quantized, stored_type

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

    from transformers import PretrainedConfig

    from finesearch.plan import Recipe

POOLED_KIND = "text-classification"


@dataclass(frozen=True, eq=False)
class RecipeBases:
    """The bases of a task's recipes, each made when a recipe first asks for it. ``own``: as the folder's config has it.

    Those with the same ``base_weights`` share their tensors; ``load`` reads the folder for others than those of
    ``own``. precision: what trials compute in.
    """

    own: PretrainedBase
    load: Callable[[str], PretrainedBase]
    precision: str
    _made: dict[Hashable, PretrainedBase] = field(default_factory=dict)

    def of(self, recipe: Recipe) -> PretrainedBase:
        """
        Raises:
            ModelError: see ``choose_head``.
        """
        head = (recipe.pooling, recipe.head_hidden_size)
        layers = reinitialized_layers(recipe, len(self.own.structure.blocks))
        stored = stored_type(self.own.folder, self.precision, base_weights_of(recipe))
        if (stored, head, layers) not in self._made:
            plain = self._stored_as(stored)
            base = _with_head(plain, *head) if plain.kind == POOLED_KIND else plain
            self._made[stored, head, layers] = with_reinitialized(base, layers)
        return self._made[stored, head, layers]

    def _stored_as(self, stored: str) -> PretrainedBase:
        if stored == self.own.stored:
            return self.own
        if stored not in self._made:
            self._made[stored] = self.load(stored)
        return self._made[stored]


def _with_head(base: PretrainedBase, pooling: str, hidden_size: int | None) -> PretrainedBase:
    needs_bias = base.facts.target_scale is not None
    choice = choose_head(base.folder, base.config, pooling, hidden_size, needs_bias=needs_bias)
    if not choice.config_fields:
        return base
    config = copy.deepcopy(base.config)
    for name, value in choice.config_fields.items():
        setattr(config, name, value)
    # A class of transformers may pool by its config; then names and tensors are the same.
    return with_pooled_head(base, config) if FIELD in choice.config_fields else replace(base, config=config)


def check_head(checkpoint: Path, base: PretrainedBase) -> None:
    """Check that a checkpoint has the head that its trial's recipe has today: ``auto`` follows the model's folder.

    Raises:
        CheckpointError: it has another one.
    """
    had, has = head_words(read_config(checkpoint)), head_words(base.config)
    if had != has:
        raise CheckpointError(
            f"{checkpoint}: this trial began with {had}, and its recipe now has {has} over the model in {base.folder}. "
            f"Put the files of that folder back (modules.json, the Pooling's config.json, config.json), or start a "
            f"run under a new name."
        )


def with_pooled_head(base: PretrainedBase, config: PretrainedConfig) -> PretrainedBase:
    """``base`` with the class of ``config``, a pooled classifier: its backbone is the base's, its head is fresh.

    Raises:
        ModelError: the pooled classifier has its backbone under other names than the architecture's own class.
    """
    import torch
    from transformers.initialization import no_init_weights

    with quiet_transformers(), no_init_weights():
        model = auto_class(base.kind, config).from_config(config, trust_remote_code=False, dtype=torch.float32)
    prefix = backbone_prefix(model)
    known = {*dict(model.named_parameters()), *dict(model.named_buffers())}
    tensors = {name: tensor for name, tensor in base.tensors.items() if name.startswith(prefix) and name in known}
    fresh = frozenset(name for name, _ in model.named_parameters() if name not in tensors)
    lost = sorted(name for name in fresh - base.fresh if name.startswith(prefix))
    if lost:
        raise ModelError(
            f"task.pooling: {type(model).__name__} calls parts of the model otherwise than the weights in "
            f"{base.folder} do ({lost[0]}, say). Use own, or choose a model of another architecture."
        )
    install_quantized(model, tensors)
    share(model, {name: tensor for name, tensor in tensors.items() if not is_quantized(tensor)})
    model.requires_grad_(False)
    base.place_weights(model)
    inputs = frozenset(inspect.signature(model.forward).parameters)
    example = short_example(base.tokenizer, inputs, config.is_encoder_decoder)
    is_mixed = any(tensor.dtype == torch.bfloat16 for tensor in tensors.values())
    with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
        structure = trace_structure(model, example)
    return replace(
        base,
        config=config,
        tensors=tensors,
        fresh=fresh,
        head_dropouts=head_dropouts(model),
        inputs=inputs,
        structure=structure,
    )


def with_reinitialized(base: PretrainedBase, layers: int) -> PretrainedBase:
    """``base`` whose top ``layers`` blocks, and all that runs after them, start from random weights for every trial.

    As the architecture initialises them, pooler included: Zhang, Wu, Katiyar, Weinberger and Artzi, Revisiting
    Few-sample BERT Fine-tuning, 2021 (section 5).
    """
    if not layers:
        return base
    blocks, stages = base.structure.blocks, base.structure.stages
    above = (name for name, stage in stages.items() if stage == len(blocks))
    redrawn = tuple(f"{name}." for name in (*blocks[len(blocks) - layers :], *above))
    names = frozenset(name for name in base.tensors if name.startswith(redrawn))
    return replace(
        base,
        tensors={name: tensor for name, tensor in base.tensors.items() if name not in names},
        fresh=base.fresh | names,
        reinitialized=names,
    )
