"""Soft prompts by peft: prompt tuning and P-tuning (virtual tokens), prefix tuning (keys and values of every layer).

The model itself stays frozen, bit by bit; the prompt and the task's output layer train. A prompt cannot be merged into
weights: it is exported in peft's format.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.training.adaptations.adaptation import Adaptation, AdaptationContext, Parameters, task_head
from finesearch.training.model.dimensions import max_positions

if TYPE_CHECKING:
    from peft import PromptLearningConfig
    from torch import nn
    from transformers import PreTrainedModel

from finesearch.training.adaptations.prompt_injection import PROMPT_ENCODER, cache_config

# Model types that do not accept peft's prefixes: latent attention, or layers of several widths.
UNEVEN = ("kv_lora_rank", "global_head_dim", "per_layer_config")


class Prompt(Adaptation):
    """A soft prompt of ``virtual_tokens``, which correspond to no text."""

    changes_input = True
    checked = ("virtual_tokens",)

    @abstractmethod
    def config(self, model: PreTrainedModel, parameters: Parameters) -> PromptLearningConfig:
        """The peft config."""

    @abstractmethod
    def module(self, model: PreTrainedModel, parameters: Parameters) -> nn.Module:
        """peft's prompt encoder with new weights: maps virtual token ids to the prompt."""

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        if model.config.is_encoder_decoder and not model.can_generate():
            raise ModelError(
                f"adaptation.{self.name}: {type(model).__name__} classifies with an encoder and a decoder, which no "
                f"prompt goes before. Use lora, or a model that is an encoder alone."
            )

    def check_positions(self, model: PreTrainedModel, parameters: Parameters, positions: int) -> None:
        available, wanted = max_positions(model), parameters["virtual_tokens"]
        if available is not None and positions + wanted > available:
            largest = available - positions
            advice = f"expected at most {largest}" if largest > 0 else "no room is left for any"
            raise ModelError(
                f"adaptation.{self.name}.virtual_tokens: {type(model).__name__} has {available} positions, and the "
                f"task takes {positions} of them: {advice}, got {wanted}. Lower it, or task.max_length."
            )

    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        prompt = {name for name, _ in model.named_parameters() if name.startswith(f"{PROMPT_ENCODER}.")}
        return prompt | task_head(model)


class EmbeddingPrompt(Prompt):
    """A prompt of embeddings before those of the text."""

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        super().check(model, parameters)
        reader: Any = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
        if "inputs_embeds" not in inspect.signature(reader.forward).parameters:
            raise ModelError(
                f"adaptation.{self.name}: {type(reader).__name__} takes no embeddings instead of tokens, so that none "
                f"can go before them. Use lora, which takes every model with linear layers."
            )

    def attach(self, model: PreTrainedModel, parameters: Parameters, fresh: Collection[str]) -> None:
        from finesearch.training.adaptations.prompt_injection import prepend_to_inputs

        model.add_module(PROMPT_ENCODER, self.module(model, parameters))
        prepend_to_inputs(model)


class PromptTuning(EmbeddingPrompt):
    """The prompt's embeddings are trained directly.

    Lester, Al-Rfou and Constant, The Power of Scale for Parameter-Efficient Prompt Tuning, 2021. ``init``: ``random``
    numbers, rows drawn from the ``vocabulary``, or the rows of given words, repeated or truncated to fit.
    """

    name = "prompt_tuning"

    def config(self, model: PreTrainedModel, parameters: Parameters) -> PromptLearningConfig:
        from peft import PromptTuningConfig

        init = "SAMPLE_VOCAB" if parameters["init"] == "vocabulary" else "RANDOM"
        return PromptTuningConfig(prompt_tuning_init=init, **_shape(model, parameters))

    def module(self, model: PreTrainedModel, parameters: Parameters) -> nn.Module:
        import torch
        from peft.tuners import PromptEmbedding

        table: Any = model.get_input_embeddings()
        module: nn.Module = PromptEmbedding(self.config(model, parameters), table)  # type: ignore[no-untyped-call]
        if parameters["init"] not in ("random", "vocabulary"):
            ids = word_ids(model, parameters["init"], parameters["virtual_tokens"])
            with torch.no_grad():
                module.get_parameter("embedding.weight").copy_(table(torch.tensor(ids)))
        return module


class PTuning(EmbeddingPrompt):
    """The prompt's embeddings are computed by a small network, trained with them.

    Liu et al., GPT Understands, Too, 2021. ``encoder``: ``mlp`` or ``lstm``, ``hidden_size`` wide (null: as the
    embeddings).
    """

    name = "p_tuning"

    def config(self, model: PreTrainedModel, parameters: Parameters) -> PromptLearningConfig:
        from peft import PromptEncoderConfig

        shape = _shape(model, parameters)
        return PromptEncoderConfig(
            encoder_reparameterization_type=parameters["encoder"].upper(),
            encoder_hidden_size=parameters["hidden_size"] or shape["token_dim"],
            **shape,
        )

    def module(self, model: PreTrainedModel, parameters: Parameters) -> nn.Module:
        from peft.tuners import PromptEncoder

        return PromptEncoder(self.config(model, parameters))  # type: ignore[no-untyped-call]


class PrefixTuning(Prompt):
    """Trains keys and values before those of every layer; in an encoder-decoder, of the decoder's self-attention.

    Li and Liang, Prefix-Tuning: Optimizing Continuous Prompts for Generation, 2021. With ``projection`` they are
    computed by a network ``hidden_size`` wide (null: as the keys of a layer), which trains with its input.
    """

    name = "prefix_tuning"

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        super().check(model, parameters)
        given = model.config.get_text_config(decoder=True).to_dict()
        takes_cache = "past_key_values" in inspect.signature(model.base_model.forward).parameters
        if not takes_cache or any(given.get(field) for field in UNEVEN):
            raise ModelError(
                f"adaptation.prefix_tuning: {type(model).__name__} has no place for keys and values before its layers' "
                f"own. Use prompt_tuning or p_tuning, which go before the text, or lora."
            )

    def config(self, model: PreTrainedModel, parameters: Parameters) -> PromptLearningConfig:
        from peft import PrefixTuningConfig

        layers, heads, width = cache_shape(model)
        return PrefixTuningConfig(
            num_virtual_tokens=parameters["virtual_tokens"],
            token_dim=heads * width,
            num_layers=layers,
            num_attention_heads=heads,
            num_transformer_submodules=1,
            prefix_projection=parameters["projection"],
            encoder_hidden_size=parameters["hidden_size"] or heads * width,
        )

    def module(self, model: PreTrainedModel, parameters: Parameters) -> nn.Module:
        from peft.tuners import PrefixEncoder

        module: Any = PrefixEncoder(self.config(model, parameters))  # type: ignore[no-untyped-call]
        _, module.num_heads, module.head_width = cache_shape(model)
        prefix: nn.Module = module
        return prefix

    def attach(self, model: PreTrainedModel, parameters: Parameters, fresh: Collection[str]) -> None:
        from finesearch.training.adaptations.prompt_injection import prepend_to_keys

        model.add_module(PROMPT_ENCODER, self.module(model, parameters))
        prepend_to_keys(model)


def cache_shape(model: PreTrainedModel) -> tuple[int, int, int]:
    """Layers, heads and head width of the model's key-value cache; the decoder's, in an encoder-decoder."""
    from transformers import DynamicCache

    whole = cache_config(model)
    config, layers = whole.get_text_config(decoder=True), len(DynamicCache(config=whole).layers)
    width = getattr(config, "head_dim", None) or getattr(config, "d_kv", None)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return layers, heads, width or config.hidden_size // config.num_attention_heads


def word_ids(model: PreTrainedModel, words: str, count: int) -> list[int]:
    """Token ids of ``words``, repeated until there are ``count``."""
    from finesearch.training.model.model_files import load_tokenizer

    ids: list[int] = load_tokenizer(Path(str(model.name_or_path)))(words, add_special_tokens=False)["input_ids"]
    return (ids * (count // len(ids) + 1))[:count]


def _shape(model: PreTrainedModel, parameters: Parameters) -> dict[str, Any]:
    """The fields of peft's config for the prompt's size."""
    table: Any = model.get_input_embeddings()
    config: Any = model.config.get_text_config(decoder=True)
    return {
        "num_virtual_tokens": parameters["virtual_tokens"],
        "token_dim": table.embedding_dim,
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        # 1 for an encoder-decoder, too: peft would create tokens for the decoder that it never uses.
        "num_transformer_submodules": 1,
    }
