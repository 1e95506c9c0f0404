"""Evaluation: predictions and metrics of one split, computed by all processes together, in the split's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finesearch.data import shard
from finesearch.errors import DivergedError
from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.training.batching import TokenRows, inference_batches, model_inputs, to_device
from finesearch.training.runtime.distributed import Processes
from finesearch.training.runtime.seeding import derived_seed
from finesearch.training.trial_types import ScoredPredictions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.tasks import Task
    from finesearch.training.model.base_model import PretrainedBase
    from finesearch.training.prefix_cache.cached_outputs import CachedOutputs


@dataclass(frozen=True)
class ScoringOptions:
    """Options of scoring predictions.

    decision: what was chosen for this model on validation, if anything. calibrate: choose it on this split, which must
    be validation. metric: the one needed; if it needs no text, none is generated, and metrics that need text are left
    out; None: all. extract_answer: extracts the answer from each generated text.
    """

    decision: Mapping[str, float] | None = None
    calibrate: bool = False
    metric: str | None = None
    extract_answer: Callable[[str], str] = str


AS_IT_IS = ScoringOptions()


def evaluate(
    model: PreTrainedModel,
    task: Task,
    base: PretrainedBase,
    tokens: TokenRows,
    processes: Processes,
    *,
    scoring: ScoringOptions = AS_IT_IS,
    cached_outputs: CachedOutputs | None = None,
    beat: Callable[[], None] = lambda: None,
) -> ScoredPredictions:
    """Predict and score a split; every rank takes part and gets the same result. The model is left in eval mode.

    cached_outputs: outputs of frozen blocks for this split; text is generated without them. beat: the heartbeat, called
    after each batch.

    Raises:
        DivergedError: the model's outputs are not finite.
    """
    model.train(False)
    predicted: list[tuple[int, Any]] = []
    finite = True
    with torch.no_grad():
        for number, rows in _shares(task, tokens, processes):
            # Under ZeRO-3 every rank must run every forward pass, even without rows.
            numbers = rows if len(rows) else np.zeros(1, dtype=np.int64)
            taken = tokens.rows(numbers)
            inputs = to_device(task.collate(taken, base.tokenizer, processes.padding_multiple), processes)
            known = model_inputs(task, base, inputs)
            with cached_outputs.injecting(numbers, taken, known) if cached_outputs else nullcontext():
                outputs = model(**known)
            finite &= _is_finite(outputs)
            answers = task.predict(outputs, inputs)
            if isinstance(task, GenerationTask):
                writes = scoring.metric is None or task.needs_generation(scoring.metric)
                texts = _generate(model, task, base, taken, number, processes) if writes else None
                texts = None if texts is None else [scoring.extract_answer(text) for text in texts]
                answers = task.join(texts, answers)
            if len(rows):
                predicted += zip(rows.tolist(), answers, strict=True)
            beat()
    everyone = processes.all_gather((finite, predicted))
    if not all(each_finite for each_finite, _ in everyone):
        raise DivergedError("the model's outputs on the validation split are NaN or infinite")
    by_row = dict(pair for _, part in everyone for pair in part)
    return processes.run_on_rank_zero(lambda: score_predictions(task, base, tokens, by_row, scoring))


def _shares(task: Task, tokens: TokenRows, processes: Processes) -> Iterator[tuple[int, np.ndarray]]:
    """This rank's batches of the split, with batch numbers; equally many on every rank, some empty."""
    batches = inference_batches(task, tokens, processes)
    if not isinstance(task, GenerationTask):
        for number, batch in enumerate(batches):
            yield number, shard(batch, processes.rank, processes.world_size)
        return
    # Batches stay whole: rounding may change a generated text, and a single process must be able to reproduce it.
    for first in range(0, len(batches), processes.world_size):
        number = first + processes.rank
        yield number, batches[number] if number < len(batches) else np.empty(0, dtype=np.int64)


def _generate(
    model: PreTrainedModel,
    task: GenerationTask,
    base: PretrainedBase,
    rows: Sequence[dict[str, Any]],
    number: int,
    processes: Processes,
) -> list[str]:
    """Generated texts for some rows. Sampling depends on the batch's number alone."""
    prompts = to_device(task.collate_prompts(rows, base.tokenizer, processes.padding_multiple), processes)
    with torch.random.fork_rng(devices=[processes.device] if processes.device.type == "cuda" else []):
        torch.manual_seed(derived_seed(0, "generation", number))
        return task.generate(model, prompts, base.tokenizer)


def score_predictions(
    task: Task, base: PretrainedBase, tokens: TokenRows, by_row: Mapping[int, Any], scoring: ScoringOptions
) -> ScoredPredictions:
    """The scores of a split from the task's prediction for each of its token rows, by row number."""
    rows = _Rows(tokens)
    combined = task.combine([by_row[row] for row in range(len(tokens))], rows, base.facts)
    references = task.references(rows)
    chosen = dict(task.calibrate(combined, references) if scoring.calibrate else scoring.decision or {})
    predictions = task.decide(combined, chosen)
    return ScoredPredictions(
        metrics=task.score(predictions, references), predictions=predictions, references=references, decision=chosen
    )


def _is_finite(outputs: Any) -> bool:
    tensors = [value for value in outputs.values() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


class _Rows(Sequence):  # type: ignore[type-arg]
    """Token rows of a split, read lazily."""

    def __init__(self, tokens: TokenRows) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.tokens.rows(range(*index.indices(len(self))))
        return self.tokens.rows([index])[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tokens.rows())
