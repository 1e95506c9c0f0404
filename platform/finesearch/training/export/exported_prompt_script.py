"""Asks the model in this folder with the prompt in prompt.json. Needs torch and transformers; finesearch wrote it.

prompt.json: ``method`` is likelihood, cloze, similarity or generation; ``answer`` names the placeholder of ``template``
that stands for the answer; ``candidates`` are the possible answers as the prompt words them, ``labels`` their names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from finesearch.tasks.prompting.question import Question
from finesearch.training.prompting.scoring.prompted_generator import PromptedGenerator
from finesearch.training.prompting.scoring.read_export import read_export


class Asker:
    """The model, its tokenizer and what it is asked."""

    def __init__(self, folder: str | Path) -> None:
        self.prompted = read_export(folder)
        own = self.prompted
        self.generator = PromptedGenerator(own.model, own.tokenizer, own.prompt, own.most_tokens)

    def answer(self, span: tuple[int, int] | None = None, **fields: str) -> Any:
        """The answer to one question. fields: a text for each placeholder. span: of the text that is asked about."""
        question, prompt = Question(fields=fields, span=span), self.prompted.prompt
        if prompt.method == "generation":
            return self._written(question)
        if not prompt.candidates:
            return self.prompted.cosines([question])[0]
        return prompt.labels[int(self.prompted.scores([question])[0].argmax())]

    @torch.no_grad()
    def _written(self, question: Question) -> str:
        model: Any = self.prompted.model
        ids = torch.tensor(self.generator.prompts([question]))
        written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
        start = 0 if model.config.is_encoder_decoder else ids.shape[1]
        text = self.prompted.tokenizer.decode(written[start:], skip_special_tokens=True).strip()
        return self.generator.extract_answer(text)
