"""Dialogue replies of an untrained model for a split, computed by all processes together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.tasks import make_task
from finesearch.tasks.prompting import DialoguePromptTask
from finesearch.training.prompting.scoring.nearest_examples import examples_for
from finesearch.training.prompting.scoring.prompt_spec import PromptSpec
from finesearch.training.runtime.distributed import Processes
from finesearch.training.runtime.heartbeat import heartbeat
from finesearch.training.steps.evaluate import evaluate
from finesearch.training.trial_types import ScoredPredictions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.data import TokenizedSplit
    from finesearch.training.model.base_model import PretrainedBase


@dataclass(frozen=True, eq=False)
class PromptedDialogue:
    """A model and its few-shot examples. most_tokens: the model's input limit; None: no limit."""

    model: PreTrainedModel
    base: PretrainedBase
    spoken: DialoguePromptTask
    prompt: PromptSpec
    most_tokens: int | None

    def rows(self, rows: dict[str, list[Any]]) -> tuple[DialoguePromptTask, InMemoryRows]:
        """Token rows of conversations after the shown ones, and the task with a length limit that fits both."""
        prompt, plan = self.prompt, self.spoken.task.plan
        assert plan.generation is not None
        total_length = plan.max_length * (1 + (prompt.similar_shown or len(prompt.examples)))
        if self.most_tokens is not None:
            total_length = max(plan.max_length, min(total_length, self.most_tokens - plan.generation.max_new_tokens))
        facts = self.spoken.facts
        task = make_task(plan.model_copy(update={"max_length": total_length})).with_facts(facts)
        wide = DialoguePromptTask(task, facts)
        questions = [question for group in wide.questions(rows) for question in group]
        shown = examples_for(prompt, questions)
        own = self.spoken.drop_oldest_turns(rows, self.base.tokenizer)
        return wide, InMemoryRows(wide.encode_with_examples(own, shown, self.base.tokenizer))


def generate_dialogue_split(
    dialogue: PromptedDialogue,
    tokens: TokenizedSplit,
    rows: dict[str, list[Any]],
    processes: Processes,
    beat: Callable[[], None] = lambda: None,
) -> ScoredPredictions:
    """Predict and score a split. Without examples, this is exactly the evaluation of a trained model.

    tokens, rows: the split as token rows and as read.
    """
    task, made = dialogue.spoken.task, tokens
    if dialogue.prompt.examples:
        with heartbeat(beat):
            wide, made = dialogue.rows(rows)  # type: ignore[assignment]
        task = wide.task
    return evaluate(dialogue.model, task, dialogue.base, made, processes, beat=beat)


class InMemoryRows:
    """Token rows in memory, by columns as ``Task.encode`` gives them."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns
        self.lengths = np.array([len(ids) for ids in columns["input_ids"]], dtype=np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, indices: Iterable[int] | None = None) -> list[dict[str, Any]]:
        """The rows at ``indices`` in that order, or all rows."""
        wanted = range(len(self)) if indices is None else indices
        return [{name: values[int(i)] for name, values in self._columns.items()} for i in wanted]
