"""Finds answers in contexts with the encoder in this folder. Needs torch and transformers; finesearch wrote it.

Of the sentence whose embedding is nearest to the question's, those words answer that are nearest to it and that it does
not have itself.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
import transformers

MAX_ANSWER_WORDS = 6
_SENTENCE = re.compile(r"[^.!?]*(?:[.!?](?=\S)[^.!?]*)*[.!?]*\s*")
_CHARACTERS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CHARACTERS}]|[^\W{_CHARACTERS}]+|[^\w\s]")


class Finder:
    """The encoder and its tokenizer."""

    def __init__(self, folder: str | Path) -> None:
        prompt = json.loads(Path(folder, "prompt.json").read_text(encoding="utf-8"))
        self.first_token, self.most_tokens = prompt["first_token"], prompt["most_tokens"]
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        self.model: Any = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.no_grad()
    def answer(self, question: str, context: str) -> str:
        """The part of the context that answers."""
        asked = self._embedded(question, [None])[0]
        parts = [match.group().strip() for match in _SENTENCE.finditer(context) if match.group().strip()] or [context]
        best = parts[int(torch.stack([self._embedded(part, [None])[0] @ asked for part in parts]).argmax())]
        spans = _candidates(best, question)
        if not spans:
            return best
        found = torch.stack(self._embedded(best, spans)) @ asked
        return best[slice(*spans[int(found.argmax())])]

    def _embedded(self, text: str, spans: list[Any]) -> list[torch.Tensor]:
        limit = self.most_tokens
        tokens = self.tokenizer(
            text, truncation=limit is not None, max_length=limit, return_offsets_mapping=True, return_tensors="pt"
        )
        offsets = tokens.pop("offset_mapping")[0].tolist()
        states = self.model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state[0]
        found = []
        for span in spans:
            inside = [at for at, (start, end) in enumerate(offsets) if span and start < span[1] and end > span[0]]
            whole = states[0] if self.first_token else states.mean(0)
            found.append(torch.nn.functional.normalize(states[inside].mean(0) if inside else whole, dim=0))
        return found


def _candidates(sentence: str, question: str) -> list[tuple[int, int]]:
    words = [match.span() for match in _WORD.finditer(sentence)]
    known = {match.group().lower() for match in _WORD.finditer(question)}
    found = []
    for first, (start, _) in enumerate(words):
        for last in range(first, min(first + MAX_ANSWER_WORDS, len(words))):
            word = sentence[slice(*words[last])]
            if word.lower() in known or not any(character.isalnum() for character in word):
                break
            found.append((start, words[last][1]))
    return found
