"""Answers that an untrained model generates after a prompt (Radford et al., 2019; Brown et al., 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finesearch.errors import TrialError
from finesearch.plan import Recipe
from finesearch.tasks.encoding.padding import IGNORED
from finesearch.tasks.prompting import GenerationPromptTask
from finesearch.training.prompting.methods import max_input_tokens
from finesearch.training.prompting.scoring.prompt_spec import PromptSpec
from finesearch.training.prompting.scoring.prompted_generator import PromptedGenerator
from finesearch.training.runtime.distributed import Processes
from finesearch.training.runtime.heartbeat import heartbeat
from finesearch.training.steps.evaluate import ScoringOptions, evaluate
from finesearch.training.trial_types import ScoredPredictions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from finesearch.data import TokenizedSplit
    from finesearch.training.task_context import TaskContext


def make_generator(
    context: TaskContext, written: GenerationPromptTask, prompt: PromptSpec, precision: str, device: torch.device
) -> PromptedGenerator:
    """The task's model with the prompt after which it generates."""
    model = untouched(context, prompt, precision, device)
    language = getattr(written.task.plan, "source_language", None)
    return PromptedGenerator(model, context.base.tokenizer, prompt, max_input_tokens(model), language)


def untouched(context: TaskContext, prompt: PromptSpec, precision: str, device: torch.device) -> PreTrainedModel:
    """The task's model with the weights of its folder, built once per process.

    Raises:
        TrialError: the folder lacks weights, which training would initialise at random.
    """
    base = context.base
    if base.fresh:
        raise TrialError(
            f"task.model: the weights in {base.folder} have no {', '.join(sorted(base.fresh))}, which an untrained "
            f"model cannot write without. Leave zero_shot and few_shot out, or choose a model with its output layer."
        )

    def build() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        model, _ = base.build(Recipe(adaptation="zero_shot"), seed=0)
        model.train(False)
        return model, base.tokenizer

    return context.prompt_models.get(prompt.method, precision, device, build)[0]


def generate_split(
    generator: PromptedGenerator,
    written: GenerationPromptTask,
    context: TaskContext,
    split: str,
    processes: Processes,
    beat: Callable[[], None] = lambda: None,
) -> ScoredPredictions:
    """Generate the answers of a split, in its order, and score them with the task's metrics."""
    with heartbeat(beat):
        questions = [question for group in written.questions(context.splits.plain_rows(split)) for question in group]
        reworded = Reworded(context.tokens[split], generator.prompts(questions))
    scoring = ScoringOptions(extract_answer=generator.extract_answer)
    with stopping_after_answer(generator):
        return evaluate(generator.model, written.task, context.base, reworded, processes, scoring=scoring, beat=beat)


class Reworded:
    """Token rows of a split with new prompts and the same targets."""

    def __init__(self, tokens: TokenizedSplit, prompts: Sequence[Sequence[int]]) -> None:
        assert len(tokens) == len(prompts), (len(tokens), len(prompts))
        self._tokens, self._prompts = tokens, [np.asarray(ids, dtype=np.int64) for ids in prompts]
        self.lengths = np.array(list(map(len, self._prompts)), dtype=np.int32)
        if "prompt" in tokens.column_names:
            self.lengths += tokens.lengths - np.array(tokens.column("prompt"), dtype=np.int32)

    def __len__(self) -> int:
        return len(self._tokens)

    def rows(self, indices: Iterable[int] | None = None) -> list[dict[str, Any]]:
        """The rows at ``indices`` in that order, or all rows."""
        wanted = range(len(self)) if indices is None else [int(i) for i in indices]
        return [self._row(row, self._prompts[i]) for i, row in zip(wanted, self._tokens.rows(wanted), strict=True)]

    def _row(self, row: dict[str, Any], prompt: np.ndarray) -> dict[str, Any]:
        if "prompt" not in row:
            return row | {"input_ids": prompt}
        target, labels = row["input_ids"][row["prompt"] :], row["labels"][row["prompt"] :]
        return row | {
            "input_ids": np.concatenate([prompt, target]),
            "labels": np.concatenate([np.full(len(prompt), IGNORED), labels]),
            "prompt": len(prompt),
        }


@contextmanager
def stopping_after_answer(generator: PromptedGenerator) -> Iterator[None]:
    """Stop generating each text once the rest of it would be dropped; the answers are the same.

    With beam search every text continues: stopping would change which beam wins.
    """
    config: Any = generator.model.generation_config
    if not generator.continues_past_answer or (config.num_beams or 1) > 1:
        yield
        return
    from transformers import StoppingCriteriaList

    generate: Any = generator.model.generate

    def generate_answers(*, input_ids: torch.Tensor, **settings: Any) -> Any:
        width = input_ids.shape[1]

        def is_over(so_far: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            texts = generator.tokenizer.batch_decode(so_far[:, width:], skip_special_tokens=True)
            over = [len(generator.extract_answer(text)) < len(text.strip()) for text in texts]
            return torch.tensor(over, device=so_far.device)

        criteria: Any = StoppingCriteriaList([is_over])
        return generate(input_ids=input_ids, stopping_criteria=criteria, **settings)

    generator.model.generate = generate_answers  # type: ignore[assignment]
    try:
        yield
    finally:
        generator.model.generate = generate
