"""Loads an exported folder: the model with the prompt in ``prompt.json``."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import transformers

from finesearch.tasks.prompting.question import Question
from finesearch.training.prompting.scoring.prompt_spec import PromptSpec
from finesearch.training.prompting.scoring.prompted_model import PromptedModel


def read_export(folder: str | Path) -> PromptedModel:
    """The model, fp32 and in eval mode, with its tokenizer and its prompt."""
    settings: dict[str, Any] = json.loads(Path(folder, "prompt.json").read_text(encoding="utf-8"))
    settings["examples"] = tuple(Question(**each) for each in settings["examples"])
    prompt = PromptSpec(**{each.name: settings[each.name] for each in fields(PromptSpec)})
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    auto: Any = getattr(transformers, settings["model_class"])
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    most_tokens, first_token = settings["most_tokens"], settings["first_token"]
    return PromptedModel(model, tokenizer, prompt, prompt.max_length, most_tokens, first_token)
