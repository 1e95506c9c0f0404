"""The answer that an untouched model writes behind a prompt (Radford et al., 2019; Brown et al., 2020)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finesearch.errors import TrialError
from finesearch.plan import Recipe
from finesearch.tasks.encoding.sliding_windows import special_token_affixes
from finesearch.tasks.generation.generation_task import IGNORED
from finesearch.tasks.prompting import GenerationPromptTask, Question
from finesearch.training.prompting.few_shot_examples import examples_for
from finesearch.training.prompting.methods import max_input_tokens
from finesearch.training.prompting.prompt import PromptSpec
from finesearch.training.prompting.render_prompt import BETWEEN, PromptRenderer
from finesearch.training.runtime.distributed import Processes
from finesearch.training.runtime.heartbeat import heartbeat
from finesearch.training.steps.evaluate import ScoringOptions, evaluate
from finesearch.training.trial_types import ScoredPredictions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from finesearch.data import TokenizedSplit
    from finesearch.training.model.base_model import PretrainedBase
    from finesearch.training.task_context import TaskContext


@dataclass(frozen=True, eq=False)
class PromptedGenerator:
    """A model and the prompt behind which it writes. most_tokens: that the model takes at once; None: any number."""

    model: PreTrainedModel
    base: PretrainedBase
    written: GenerationPromptTask
    prompt: PromptSpec
    most_tokens: int | None

    def prompts(self, questions: Sequence[Question]) -> list[list[int]]:
        """Token ids of the prompt for each question. Examples that do not fit are left out, the first ones first.

        Raises:
            TrialError: the template leaves no room for what is asked about.
        """
        near = examples_for(self.prompt, questions)
        most_new = getattr(self.model.generation_config, "max_new_tokens", None) or 0
        room = 0 if self._is_encoder_decoder else max(self.prompt.answer_tokens, most_new)
        return [self._ids(self.renderer.before(q, each, room)) for q, each in zip(questions, near, strict=True)]

    @cached_property
    def renderer(self) -> PromptRenderer:
        """Words prompts that take ``task.max_length`` tokens at most, without the examples before them."""
        limit = self.prompt.max_length
        whole = PromptRenderer(self.prompt, self.base.tokenizer, limit, self.most_tokens)
        empty = whole.filled_with("")
        frame = len(self._ids(whole.before(empty, (), 0)))
        if frame >= limit:
            raise TrialError(
                f"task.max_length: {limit} tokens leave no room for a text: the template {self.prompt.template!r} "
                f"alone takes {frame}. Raise it, or shorten the template."
            )
        return dataclasses.replace(whole, field_tokens=(limit - frame) // max(1, len(empty.fields)), _cut={})

    def extract_answer(self, text: str) -> str:
        """What of a written text is the answer: behind it a model that only continues text begins the next example."""
        if not self.continues_past_answer:
            return text
        answer = text.strip().partition(BETWEEN)[0]
        return answer if "\n" in self.prompt.template else answer.partition("\n")[0].rstrip()

    @property
    def continues_past_answer(self) -> bool:
        """Whether the model writes on behind an answer: one that is neither asked in turns nor an encoder-decoder."""
        return self.prompt.style == "plain" and not self._is_encoder_decoder

    @property
    def _is_encoder_decoder(self) -> bool:
        return bool(self.base.config.is_encoder_decoder)

    def _ids(self, text: str) -> list[int]:
        tokenizer: Any = self.base.tokenizer
        language = getattr(self.written.task.plan, "source_language", None)
        if language is not None:
            tokenizer.src_lang = language
        is_chat = self.prompt.style == "chat"
        text = text if is_chat else text.rstrip(" ")
        ids: list[int] = tokenizer(text, add_special_tokens=self._is_encoder_decoder and not is_chat, verbose=False)[
            "input_ids"
        ]
        # Some tokenisers end every text with an end token; the answer comes behind this one.
        return ids if is_chat or self._is_encoder_decoder else special_token_affixes(tokenizer)[0] + ids


def make_generator(
    context: TaskContext, written: GenerationPromptTask, prompt: PromptSpec, precision: str, device: torch.device
) -> PromptedGenerator:
    """The task's own model and the prompt behind which it writes."""
    model = untouched(context, prompt, precision, device)
    return PromptedGenerator(model, context.base, written, prompt, max_input_tokens(model))


def untouched(context: TaskContext, prompt: PromptSpec, precision: str, device: torch.device) -> PreTrainedModel:
    """The task's own model as its folder has it, built once a process.

    Raises:
        TrialError: the folder lacks a part of it, which training would draw at random.
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
    tokens: TokenizedSplit,
    rows: dict[str, list[Any]],
    processes: Processes,
    beat: Callable[[], None] = lambda: None,
) -> ScoredPredictions:
    """Have every answer of a split written, in its order, and score them as the task does.

    tokens, rows: the split as token rows and as read.
    """
    questions = [question for asked in generator.written.questions(rows) for question in asked]
    with heartbeat(beat):
        reworded = Reworded(tokens, generator.prompts(questions))
    scoring = ScoringOptions(extract_answer=generator.extract_answer)
    with stopping_after_answer(generator):
        return evaluate(
            generator.model, generator.written.task, generator.base, reworded, processes, scoring=scoring, beat=beat
        )


class Reworded:
    """Token rows of a split with other prompts before the same targets."""

    def __init__(self, tokens: TokenizedSplit, prompts: Sequence[Sequence[int]]) -> None:
        assert len(tokens) == len(prompts), (len(tokens), len(prompts))
        self._tokens, self._prompts = tokens, [np.asarray(ids, dtype=np.int64) for ids in prompts]
        self.lengths = np.array(list(map(len, self._prompts)), dtype=np.int32)
        if "prompt" in tokens.column_names:
            self.lengths += tokens.lengths - np.array(tokens.column("prompt"), dtype=np.int32)

    def __len__(self) -> int:
        return len(self._tokens)

    def rows(self, indices: Iterable[int] | None = None) -> list[dict[str, Any]]:
        """Some rows, or all, in the order asked."""
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
    """End each text once all behind it will be dropped; the answers are the same.

    With beams every text goes on: an end would change which beam wins.
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
            texts = generator.base.tokenizer.batch_decode(so_far[:, width:], skip_special_tokens=True)
            over = [len(generator.extract_answer(text)) < len(text.strip()) for text in texts]
            return torch.tensor(over, device=so_far.device)

        criteria: Any = StoppingCriteriaList([is_over])
        return generate(input_ids=input_ids, stopping_criteria=criteria, **settings)

    generator.model.generate = generate_answers  # type: ignore[assignment]
    try:
        yield
    finally:
        generator.model.generate = generate
