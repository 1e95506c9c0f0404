"""Prompting methods (likelihood, cloze, similarity, generation): which ones a model supports, and loading it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError, TrialError
from finesearch.plan import ADAPTATIONS
from finesearch.plan.prompt_templates import AUTO, placeholders
from finesearch.tasks.prompting import prompt_task_class, supports_prompting
from finesearch.training.heads.folder_pooling import folder_pooling
from finesearch.training.model.dimensions import max_positions
from finesearch.training.model.model_files import load_tokenizer, quiet_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from finesearch.tasks import Task

CLASSES = {"cloze": "AutoModelForMaskedLM", "similarity": "AutoModel"}
WITH_TURNS = ("likelihood", "generation")
# Suffixes of class names whose weights include an output layer that predicts words.
WITH_HEAD = ("ForMaskedLM", "LMHeadModel", "ForCausalLM", "ForConditionalGeneration")
# Model types whose pretraining class predicts words; for others (ELECTRA, Funnel) it detects replaced words.
PRETRAINED_BY_GAPS = ("albert", "bert", "big_bird", "ernie", "megatron-bert", "mobilebert")


def is_prompted(adaptation: str) -> bool:
    """Whether the model is asked with a prompt, and no weight of it changes."""
    return ADAPTATIONS[adaptation].is_prompted


def possible_methods(config: PretrainedConfig) -> tuple[str, ...]:
    """The prompting methods that a model of this config supports, the usual one first.

    An encoder supports cloze prompts where its weights include the output layer for it, according to its config's
    class names.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if config.is_encoder_decoder:
        return ("likelihood",)
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        endings = (*WITH_HEAD, "ForPreTraining") if config.model_type in PRETRAINED_BY_GAPS else WITH_HEAD
        has_head = any(name.endswith(endings) for name in config.architectures or ())
        return ("cloze", "similarity") if has_head else ("similarity",)
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return ("likelihood", "similarity")
    return ("similarity",)


def choose_method(wanted: str, task: Task, config: PretrainedConfig, adaptation: str) -> str:
    """The method to use for the setting ``wanted``.

    Raises:
        ModelError: the task or the model does not support it.
    """
    kind = prompt_task_class(task)
    assert kind is not None, task.kind
    if "generation" in kind.methods:
        if wanted in ("auto", "generation"):
            return "generation"
        raise ModelError(
            f"adaptation.{adaptation}.method: {wanted} chooses among given answers, and in {task.kind} the answer is "
            f"written. Use generation, or auto."
        )
    possible = [method for method in possible_methods(config) if method in kind.methods]
    if not possible:
        raise ModelError(
            f"adaptation.{adaptation}: {_named(task)} is asked by {' or '.join(kind.methods)}, which "
            f"{type(config).__name__} cannot be. Leave it out, or choose an encoder."
        )
    if wanted == "auto":
        return possible[0]
    if wanted not in possible:
        raise ModelError(
            f"adaptation.{adaptation}.method: {wanted} does not suit {type(config).__name__} "
            f"({', '.join(config.architectures or ['no class named in its config'])}). Use {' or '.join(possible)}, or "
            f"auto."
        )
    return wanted


def choose_style(wanted: str, method: str, has_chat_template: bool, adaptation: str) -> str:
    """``chat`` or ``plain``.

    Raises:
        ModelError: chat is wanted, and the model has no chat template or the method has no turns.
    """
    can_chat = has_chat_template and method in WITH_TURNS
    if wanted == "chat" and not can_chat:
        why = "the tokenizer has no chat template" if method in WITH_TURNS else f"{method} has no turns"
        raise ModelError(f"adaptation.{adaptation}.style: chat cannot be had: {why}. Use plain, or auto.")
    return "chat" if can_chat and wanted != "plain" else "plain"


def check_prompting(
    adaptation: str, parameters: Mapping[str, Any], task: Task, config: PretrainedConfig, tokenizer: Any
) -> None:
    """Check that the model supports the prompt parameters.

    Raises:
        ModelError: it does not; the message says what would work.
    """
    kind = prompt_task_class(task)
    if kind is None or not supports_prompting(task):
        only = f"; what can be asked are {kind.needs}" if kind is not None and kind.needs else ""
        raise ModelError(f"adaptation.{adaptation}: {_named(task)} has no answers to choose from{only}. Leave it out.")
    if not kind.shows_examples:
        _refuse_prompt(adaptation, parameters, task)
    method = choose_method(parameters["method"], task, config, adaptation)
    has_template = getattr(tokenizer, "chat_template", None) is not None
    choose_style(parameters["style"], method, has_template, adaptation)
    if method == "cloze" and tokenizer.mask_token is None:
        raise ModelError(
            f"adaptation.{adaptation}.method: the tokenizer has no mask token, which cloze needs. Use similarity."
        )
    template = str(parameters["template"])
    if method == "similarity" and template != AUTO:
        described = next(line for line in template.split("\n") if "{label}" in line)
        if set(placeholders(described)) != {"label"} or described == template:
            raise ModelError(
                f"adaptation.{adaptation}.template: by similarity, the line with {{label}} describes a label and the "
                f"other lines are the text; expected other placeholders on lines of their own, got {template!r}. Write "
                f"e.g. '{{text}}\\nThis is {{label}}.'."
            )


def _refuse_prompt(adaptation: str, parameters: Mapping[str, Any], task: Task) -> None:
    if "examples" in parameters:
        raise ModelError(
            f"adaptation.{adaptation}: in {_named(task)}, texts are compared as they are, without examples. Use "
            f"zero_shot."
        )
    if parameters["template"] != AUTO:
        raise ModelError(
            f"adaptation.{adaptation}.template: in {_named(task)}, texts are compared as they are; expected auto, got "
            f"{parameters['template']!r}. Leave it out."
        )


def _named(task: Task) -> str:
    return f"{task.kind}, form {task.plan.form}" if task.plan.form else task.kind


def auto_class_name(method: str, config: PretrainedConfig) -> str:
    """Name of the transformers class for a method."""
    if method == "likelihood":
        return "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"
    return CLASSES[method]


def max_input_tokens(model: PreTrainedModel) -> int | None:
    """The model's input limit in tokens; None: no limit."""
    text = model.config.get_text_config()
    most = [
        size
        for size in (max_positions(model), getattr(text, "max_position_embeddings", None))
        if size is not None and size > 0
    ]
    return min(most, default=None)


def uses_cls_pooling(folder: Path) -> bool:
    """Whether a text's embedding is its first token's state instead of the mean, by sentence-transformers' config."""
    return folder_pooling(folder) == "cls"


def load_prompt_model(folder: Path, method: str) -> tuple[PreTrainedModel, Any]:
    """The model for a method, fp32 and in eval mode, and its tokenizer.

    Raises:
        TrialError: the weights cannot be read, or lack a part that would be initialised at random.
    """
    import torch
    import transformers

    from finesearch.training.model.model_config import read_config

    config = read_config(folder)
    auto = getattr(transformers, auto_class_name(method, config))
    with quiet_transformers():
        try:
            model, found = auto.from_pretrained(
                folder, config=config, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise TrialError(
                f"task.model: the weights in {folder} cannot be read ({type(error).__name__}: {error}). "
                f"Fetch them again."
            ) from error
    drawn = sorted(name for name in found["missing_keys"] if "pooler" not in name)
    if drawn:
        raise TrialError(
            f"task.model: the weights in {folder} have no {', '.join(drawn[:3])}{', …' if len(drawn) > 3 else ''}, "
            f"without which a model cannot be asked by {method}. Use another method, or a model that has them."
        )
    model.train(False)
    return model, load_tokenizer(folder)
