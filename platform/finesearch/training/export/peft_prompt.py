"""Exports a trained soft prompt as a folder that peft loads: the prompt, other trained weights, and a README.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.training.adaptations import soft_prompts
from finesearch.training.adaptations.adapt import ADAPTATIONS
from finesearch.training.adaptations.prompt_injection import PROMPT_ENCODER, has_encoder_classifier
from finesearch.training.export.peft_adapter import address
from finesearch.training.export.pooled_readme import prompted_readme
from finesearch.training.model.module_structure import backbone_prefix

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord

README = """# A trained prompt

Written by finesearch ({adaptation}, {tokens} virtual tokens). A prompt cannot be merged into weights: peft puts it
before each text that the base model reads.{note}

```python
from peft import PeftModel
from transformers import AutoConfig, AutoTokenizer, {auto_class}

folder = "."
base = {auto_class}.from_pretrained({home}, config=AutoConfig.from_pretrained(folder))
model = PeftModel.from_pretrained(base, folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
```
"""
CUT = " The first {tokens} logits of each text are the prompt's own: drop them (`logits[:, {tokens}:]`)."
ALONE = " Give it one text at a time, or texts of one length: behind a prompt, peft does not see what is padding."
RELATION = ("encoder = AutoModel.from_pretrained(folder).eval()", "last_hidden_state[0]\n    ids = ")
PROMPTED = (
    'encoder = PeftModel.from_pretrained(AutoModel.from_pretrained(folder), f"{folder}/prompt").eval()',
    'last_hidden_state[0, -tokens["input_ids"].shape[1] :]\n    ids = ',
)

# By the suffix of the class's name; generative models are recognised by their structure.
TASK_TYPES = {
    "SequenceClassification": "SEQ_CLS",
    "TokenClassification": "TOKEN_CLS",
    "QuestionAnswering": "QUESTION_ANS",
}


def holds_prompt(record: CheckpointRecord) -> bool:
    """Whether a checkpoint holds a soft prompt, which cannot be merged."""
    return isinstance(ADAPTATIONS.get(record.recipe.adaptation), soft_prompts.Prompt)


def save_prompt(model: PreTrainedModel, plain: PreTrainedModel, record: CheckpointRecord, folder: Path) -> None:
    """Write the prompt for peft's class of the task, with the modules that were trained as a whole, and a README.md.

    model: the checkpoint's, from ``load_checkpoint_model``. plain: the base model with the same head.
    """
    from finesearch.tasks.task_registry import TASKS_BY_KIND

    kind = task_type(plain)
    home, revision = address(record.base)
    _save(model, plain, record, folder, kind)
    tokens = record.recipe.adaptation_parameters["virtual_tokens"]
    is_before_text = isinstance(ADAPTATIONS[record.recipe.adaptation], soft_prompts.EmbeddingPrompt)
    last_token = kind == "CAUSAL_LM" or (kind == "SEQ_CLS" and not has_encoder_classifier(plain))
    note = CUT.format(tokens=tokens) if kind in ("TOKEN_CLS", "QUESTION_ANS") else ALONE if last_token else ""
    text = README.format(
        adaptation=record.recipe.adaptation,
        tokens=tokens,
        note=note if is_before_text else "",
        auto_class=TASKS_BY_KIND[record.kind].auto_class_of(plain.config),
        home=repr(home) + (f", revision={revision!r}" if revision else ""),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def save_backbone_prompt(model: Any, plain: Any, record: CheckpointRecord, folder: Path) -> None:
    """Write a model whose class is ours: the whole model, its backbone's prompt in ``prompt/``, and a README.md."""
    from finesearch.training.heads.relation_model import LOADER, RelationExtractionModel
    from finesearch.training.model.base_model import overlay

    beside = {name: model.get_parameter(name) for name in record.trained if not _is_prompts(name)}
    overlay(plain, beside)
    if isinstance(plain, RelationExtractionModel):
        plain.merge_added_tokens()
        text = LOADER.replace("import torch\n", "import torch\nfrom peft import PeftModel\n")
        for old, new in zip(RELATION, PROMPTED, strict=True):
            assert old in text, old
            text = text.replace(old, new)
    else:
        text = prompted_readme(plain)
    plain.save_pretrained(folder)
    (folder / "prompt").mkdir()
    _save(model, plain.base_model, record, folder / "prompt", "FEATURE_EXTRACTION")
    (folder / "README.md").write_text(text, encoding="utf-8")


def task_type(model: PreTrainedModel) -> str:
    """peft's task type for a model of this class."""
    if model.config.is_encoder_decoder:
        return "SEQ_2_SEQ_LM"
    name = type(model).__name__
    return next((kind for end, kind in TASK_TYPES.items() if name.endswith(end)), "CAUSAL_LM")


def _save(model: PreTrainedModel, reader: PreTrainedModel, record: CheckpointRecord, folder: Path, kind: str) -> None:
    from peft import get_peft_model

    from finesearch.training.model.base_model import overlay

    adaptation: Any = ADAPTATIONS[record.recipe.adaptation]
    config: Any = adaptation.config(reader, record.recipe.adaptation_parameters)
    config.task_type = kind
    prompt: dict[str, Tensor] = dict(model.get_submodule(PROMPT_ENCODER).named_parameters())
    if kind == "SEQ_2_SEQ_LM" and isinstance(adaptation, soft_prompts.PrefixTuning):
        prompt = spread_for_decoder(model, config)
    # A relation model's markers are merged into its table by now, and its classifier is outside the encoder.
    whole = [] if kind == "FEATURE_EXTRACTION" else [name for name in record.trained if not _is_prompts(name)]
    owners = {name: owner(name, reader) for name in whole}
    config.modules_to_save = sorted(set(owners.values())) or None
    adapted: Any = get_peft_model(reader, config)
    tensors = {f"prompt_encoder.default.{name}": tensor for name, tensor in prompt.items()}
    for name, module in owners.items():
        inside = name.removeprefix(f"{module}.")
        tensors[f"base_model.{module}.modules_to_save.default.{inside}"] = model.get_parameter(name)
    overlay(adapted, tensors)
    config.base_model_name_or_path, config.revision = address(record.base)
    if kind == "FEATURE_EXTRACTION":
        config.base_model_name_or_path, config.revision = None, None
    adapted.save_pretrained(str(folder))


def spread_for_decoder(model: PreTrainedModel, config: Any) -> dict[str, Tensor]:
    """A prefix (N, layers * 2 * width) in the layout that peft reads for a decoder; changes ``config`` to fit it.

    For each layer, peft 0.21 reads four slices (keys and values of self- and cross-attention) from a prefix that holds
    two, so that layers half the depth apart would share theirs. With padding for cross-attention, which peft discards,
    each layer gets its own.
    """
    import torch

    from finesearch.training.adaptations.prompt_injection import encode_prompt

    layers, width = config.num_layers, config.token_dim
    config.num_layers, config.num_transformer_submodules, config.prefix_projection = 2 * layers, 2, False
    with torch.no_grad():
        own = encode_prompt(model).view(-1, layers, 2, width)
        return {"embedding.weight": torch.cat((own, torch.zeros_like(own)), dim=2).flatten(1)}


def owner(parameter: str, model: PreTrainedModel) -> str:
    """The module that is saved whole for a parameter: the head that contains it, or its own module in the backbone."""
    is_inside = parameter.startswith(backbone_prefix(model))
    return parameter.rpartition(".")[0] if is_inside else parameter.partition(".")[0]


def _is_prompts(parameter: str) -> bool:
    return parameter.startswith(f"{PROMPT_ENCODER}.")
