"""Conversations as a model's chat template writes them, and which characters of the text the assistant has said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Turn = dict[str, str]

ASSISTANT = "assistant"
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For models that have no template: the role before each turn, the end token behind the assistant's."""


class UnsupportedChatTemplate(Exception):  # noqa: N818 - its catcher knows the row and the model
    """A conversation that the template refuses, or renders so that the assistant's part cannot be told; says why."""


@dataclass(frozen=True)
class RenderedConversation:
    """A conversation as text. said: [start, end) in characters of each turn of the assistant, its end token included.

    opens: where the last of them begins, and so where generation does.
    """

    text: str
    said: tuple[tuple[int, int], ...]

    @property
    def opens(self) -> int:
        return self.said[-1][0]


def render_conversation(turns: Sequence[Turn], tokenizer: Any, template: str | None) -> RenderedConversation:
    """The conversation with the places of what the assistant said.

    A turn of the assistant is what the text grows by between the prompt for it and the conversation with it.
    template: Jinja text; None: the tokenizer's own.

    Raises:
        UnsupportedChatTemplate: the template refuses these turns, or writes earlier turns otherwise once others follow.
    """
    text = apply_chat_template(turns, tokenizer, template)
    said = []
    for number, turn in enumerate(turns):
        if turn["role"] != ASSISTANT:
            continue
        behind = apply_chat_template(turns[: number + 1], tokenizer, template)
        if number:
            before = apply_chat_template(turns[:number], tokenizer, template, prompt=True)
        else:
            # No template renders a conversation without turns.
            before = behind[: max(0, behind.rfind(turn["content"]))]
        if not (behind.startswith(before) and text.startswith(behind.rstrip())):
            raise UnsupportedChatTemplate(
                "the chat template writes earlier turns otherwise once others follow, so that what the assistant said "
                "cannot be told from the rest"
            )
        # Line breaks behind an end token are the template's.
        said.append((len(before), len(behind.rstrip())))
    return RenderedConversation(text, tuple(said))


def apply_chat_template(turns: Sequence[Turn], tokenizer: Any, template: str | None, prompt: bool = False) -> str:
    """The text of some turns; ``prompt`` opens the assistant's next one.

    Raises:
        UnsupportedChatTemplate: the template refuses them.
    """
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(
            list(turns), chat_template=template, tokenize=False, add_generation_prompt=prompt
        )
    except (TemplateError, IndexError, TypeError) as error:
        raise UnsupportedChatTemplate(f"the chat template refuses these turns: {error}") from error
    return text
