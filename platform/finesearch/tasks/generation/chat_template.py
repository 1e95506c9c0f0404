"""Chat templates: renders conversations as text, and locates the assistant's turns in it by character offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Turn = dict[str, Any]
"""``role`` and ``content``; of the assistant also ``tool_calls``, and ``weight`` 0 where a turn is not learned."""

ASSISTANT, WEIGHT = "assistant", "weight"
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""Template for models without one: the role before each turn, the end token after the assistant's."""


class UnsupportedChatTemplate(Exception):  # noqa: N818 - its catcher knows the row and the model
    """A conversation that the template rejects, or in which the assistant's turns cannot be located; says why."""


class EarlierTurnsChange(UnsupportedChatTemplate):
    """The template writes earlier turns otherwise once others follow, such as without their reasoning."""


@dataclass(frozen=True)
class RenderedConversation:
    """A conversation as text. said: [start, end) in characters of each assistant turn, including its end token.

    opens: start of the last one, where generation begins.
    """

    text: str
    said: tuple[tuple[int, int], ...]

    @property
    def opens(self) -> int:
        return self.said[-1][0]


def render_conversation(
    turns: Sequence[Turn], tokenizer: Any, template: str | None, only_last: bool = False
) -> RenderedConversation:
    """The rendered conversation with the offsets of the assistant's turns; of the last turn alone if ``only_last``.

    A turn's text is the difference between the rendered conversation with it and the generation prompt before it.
    template: Jinja text; None: the tokenizer's own.

    Raises:
        EarlierTurnsChange: the template renders earlier turns differently once others follow.
        UnsupportedChatTemplate: it rejects these turns, or writes no reply behind the generation prompt.
    """
    text = apply_chat_template(turns, tokenizer, template)
    said = []
    for number, turn in enumerate(turns):
        if turn["role"] != ASSISTANT or (only_last and number < len(turns) - 1):
            continue
        behind = apply_chat_template(turns[: number + 1], tokenizer, template)
        if number:
            before = apply_chat_template(turns[:number], tokenizer, template, prompt=True)
        else:
            # Templates fail on conversations without turns.
            before = behind[: max(0, behind.rfind(turn["content"]))]
        if not behind.startswith(before):
            raise UnsupportedChatTemplate(
                "the chat template writes no reply behind its generation prompt, so that what the assistant said "
                "cannot be told from the rest"
            )
        if not text.startswith(behind.rstrip()):
            raise EarlierTurnsChange("the chat template writes earlier turns otherwise once others follow")
        # Line breaks after an end token belong to the template.
        said.append((len(before), len(behind.rstrip())))
    return RenderedConversation(text, tuple(said))


def apply_chat_template(turns: Sequence[Turn], tokenizer: Any, template: str | None, prompt: bool = False) -> str:
    """The text of some turns; ``prompt`` adds the generation prompt.

    Raises:
        UnsupportedChatTemplate: the template rejects them.
    """
    from jinja2 import TemplateError

    plain = [{key: value for key, value in turn.items() if key != WEIGHT} for turn in turns]
    try:
        text: str = tokenizer.apply_chat_template(
            plain, chat_template=template, tokenize=False, add_generation_prompt=prompt
        )
    except (
        TemplateError,
        ArithmeticError,
        LookupError,
        AttributeError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise UnsupportedChatTemplate(f"the chat template refuses these turns: {error}") from error
    return text
