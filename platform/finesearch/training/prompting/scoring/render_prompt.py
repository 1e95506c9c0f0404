"""Prompt rendering: from a question and examples to the text before an answer, truncated to the token limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from finesearch.plan.prompt_templates import escape_braces, placeholders, split_at_answer
from finesearch.tasks.prompting.question import Question
from finesearch.training.prompting.scoring.prompt_spec import PromptSpec

BETWEEN = "\n\n"
"""Separator between examples."""
CONTENT_FREE = "N/A"
"""Placeholder for a text without content (Zhao et al., Calibrate Before Use, 2021)."""


@dataclass(frozen=True, eq=False)
class PromptRenderer:
    """Renders prompts for one tokenizer.

    field_tokens: tokens that each placeholder's text is truncated to. most_tokens: the model's input limit; None: no
    limit. Examples that do not fit are dropped, the first ones first.
    """

    prompt: PromptSpec
    tokenizer: Any
    field_tokens: int
    most_tokens: int | None = None
    _cut: dict[str, str] = field(default_factory=dict)

    @property
    def start(self) -> str:
        """The template before the answer, unfilled."""
        return split_at_answer(self.prompt.template, self.prompt.answer)[0]

    @property
    def end(self) -> str:
        """The template after the answer, unfilled."""
        return split_at_answer(self.prompt.template, self.prompt.answer)[1]

    @property
    def content_free(self) -> Question:
        """A question without content, with the same placeholders."""
        return self.filled_with(CONTENT_FREE)

    def filled_with(self, text: str) -> Question:
        """A question with one text at every placeholder."""
        names = [name for name in placeholders(self.prompt.template) if name not in (self.prompt.answer, "labels")]
        return Question(fields=dict.fromkeys(names, text))

    def before(self, question: Question, examples: Sequence[Question], room: int) -> str:
        """The prompt before the answer; ``room``: tokens left for the answer and what follows it."""
        for left_out in range(len(examples) + 1):
            text = self._before(question, examples[left_out:])
            if self.most_tokens is None or self._length(text) + room <= self.most_tokens:
                break
        return text

    def behind(self, question: Question) -> str:
        """The text after the answer: for cloze prompts, whose gap has context on both sides."""
        return self._filled(self.end, question)

    def lines(self, question: Question) -> str:
        """The template's lines without the answer, filled: the text whose embedding is compared."""
        kept = [line for line in self.prompt.template.split("\n") if "{label}" not in line]
        return self._filled("\n".join(kept), question)

    def described(self) -> list[str]:
        """The template's line with the answer, for each candidate."""
        line = next(line for line in self.prompt.template.split("\n") if "{label}" in line)
        return [line.replace("{label}", escape_braces(candidate)).format() for candidate in self.prompt.candidates]

    def cut(self, text: str) -> str:
        """The text truncated to its first ``field_tokens`` tokens."""
        # A token is at least one byte, and in some vocabularies a character is several tokens.
        if len(text.encode()) <= self.field_tokens:
            return text
        if text not in self._cut:
            pieces = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            offsets = pieces["offset_mapping"]
            fits = len(offsets) <= self.field_tokens
            self._cut[text] = text if fits else text[: offsets[self.field_tokens - 1][1]]
        return self._cut[text]

    def _before(self, question: Question, examples: Sequence[Question]) -> str:
        if self.prompt.style == "chat":
            turns = []
            for example in examples:
                turns.append({"role": "user", "content": self._filled(self.start, example).rstrip()})
                turns.append({"role": "assistant", "content": self._answer(example)})
            turns.append({"role": "user", "content": self._filled(self.start, question).rstrip()})
            rendered: str = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            return rendered
        shown = [
            self._filled(self.start, example) + self._answer(example) + self._filled(self.end, example)
            for example in examples
        ]
        return BETWEEN.join([*shown, self._filled(self.start, question)])

    def _answer(self, example: Question) -> str:
        if example.written is not None:
            return self.cut(example.written)
        assert example.answer is not None
        return self.prompt.candidates[example.answer]

    def _filled(self, part: str, question: Question) -> str:
        fields = {name: self.cut(text) for name, text in question.fields.items()}
        return part.format_map({**fields, "labels": ", ".join(self.prompt.candidates)})

    def _length(self, text: str) -> int:
        return len(self.tokenizer(text, verbose=False)["input_ids"])
