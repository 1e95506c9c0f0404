"""Prompts for dialogue: an untrained model continues a conversation, after few-shot conversations if there are any."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from finesearch.tasks.generation.chat_template import ASSISTANT, WEIGHT, Turn
from finesearch.tasks.generation.dialogue import Dialogue
from finesearch.tasks.generation.dialogue_rows import SYSTEM, conversation
from finesearch.tasks.prompting.prompt_task import PromptTask, Rows
from finesearch.tasks.prompting.question import Question


class DialoguePromptTask(PromptTask):
    """One question per conversation. It has no template of its own: the model's chat template renders it."""

    methods: ClassVar[tuple[str, ...]] = ("generation",)
    task: Dialogue

    def template(self, method: str, shows_examples: bool = False) -> str:
        return ""

    def questions(self, rows: Rows) -> list[list[Question]]:
        """Conversations are compared by the user's turns; ``written`` is the whole conversation as JSON."""
        found = []
        for turns in rows[self.task.messages_column]:
            talk = conversation(turns, None)
            said = " ".join(turn["content"] for turn in talk if turn["role"] == "user")
            found.append([Question(fields={"user": said}, written=json.dumps(talk, ensure_ascii=False))])
        return found

    def drop_oldest_turns(self, rows: Rows, tokenizer: Any) -> dict[str, list[Any]]:
        """The rows with the turns that ``Task.encode`` keeps of each conversation, so that the same are scored."""
        column = self.task.messages_column
        return {
            column: [
                self.task.drop_oldest_turns(conversation(t, self.task.plan.system), tokenizer) for t in rows[column]
            ]
        }

    def encode_with_examples(
        self, rows: Rows, shown: Sequence[Sequence[Question]], tokenizer: Any
    ) -> dict[str, list[Any]]:
        """Token rows of conversations from ``drop_oldest_turns``, each after the shown ones; if they do not fit, the
        oldest turns are dropped.

        Only the conversation's own labels stay, so that the loss is over the same turns.
        """
        column = self.task.messages_column
        talks: list[list[Turn]] = list(rows[column])
        before = [[turn for each in examples for turn in _turns(each)] for examples in shown]
        whole = [_joined(talk, earlier) for talk, earlier in zip(talks, before, strict=True)]
        return self.task.encode({column: whole}, tokenizer, self.facts)


def _turns(example: Question) -> list[Turn]:
    """An example's turns, which are read and not learned."""
    turns: list[Turn] = json.loads(str(example.written))
    return [turn | ({WEIGHT: 0} if turn["role"] == ASSISTANT else {}) for turn in turns if turn["role"] != SYSTEM]


def _joined(talk: Sequence[Turn], earlier: Sequence[Turn]) -> list[Turn]:
    first = int(talk[0]["role"] == SYSTEM)
    return [*talk[:first], *earlier, *talk[first:]]
