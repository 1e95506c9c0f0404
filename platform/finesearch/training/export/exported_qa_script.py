"""Finds answers in contexts with the encoder in this folder. Needs torch and transformers; finesearch wrote it.

Of the sentence whose embedding is nearest to the question's, those words answer that are nearest to it and that it does
not have itself.
"""

from __future__ import annotations

from pathlib import Path

from finesearch.tasks.prompting.question import Question
from finesearch.training.prompting.scoring.read_export import read_export


class Finder:
    """The encoder and its tokenizer."""

    def __init__(self, folder: str | Path) -> None:
        self.prompted = read_export(folder)

    def answer(self, question: str, context: str) -> str:
        """The part of the context that answers."""
        return self.prompted.extracts([Question(fields={"question": question, "context": context})])[0]
