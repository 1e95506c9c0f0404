"""What a model is asked and how; a checkpoint of such a trial holds this and no weights."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from finesearch.errors import CheckpointError
from finesearch.tasks.prompting import Question
from finesearch.training.trial_types import FrozenRecord

FILE = "prompt.json"


class PromptSpec(FrozenRecord):
    """Complete: with the model and the tokenizer, it answers.

    method: likelihood, cloze, similarity or generation. style: chat or plain. candidates: the possible answers, by
    their numbers; () where they are written. calibrate: whether an answer's likelihood is set against that without
    content. examples: what is shown before a question; with ``similar_shown`` the pool out of which so many are taken
    for each question, those most like it. answer: the placeholder of the template that stands for the answer. labels:
    the candidates by the names that the data has for them. max_length: tokens that each text is cut to; of a prompt
    behind which is written, that it has in all, its examples apart. answer_tokens: that a written answer may take.
    """

    method: str
    style: str
    template: str
    candidates: tuple[str, ...]
    calibrate: bool
    examples: tuple[Question, ...] = ()
    similar_shown: int | None = None
    system: str | None = None
    answer: str = "label"
    labels: tuple[str, ...] = ()
    max_length: int = 128
    answer_tokens: int = 0

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_prompt(folder: Path) -> PromptSpec:
    """The prompt of a checkpoint whose manifest has been verified.

    Raises:
        CheckpointError: another version of this program wrote it.
    """
    try:
        return PromptSpec.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{folder / FILE}: expected a prompt, got something else: {error}") from error
