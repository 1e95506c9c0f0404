"""Extractive question answering: the span of a context that answers a question, or no answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from finesearch.tasks.encoding.array_columns import table
from finesearch.tasks.encoding.padding import PAD_TO_MULTIPLE_OF, pad_rows
from finesearch.tasks.encoding.sliding_windows import split_into_windows
from finesearch.tasks.encoding.text_pairs import TextPairLayout, text_pair_layout
from finesearch.tasks.extraction.answer_spans import best_spans, n_best_prediction, span_in_window, trim_offsets
from finesearch.tasks.extraction.squad_metrics import (
    METRICS,
    max_over_answers,
    mean_score,
    null_threshold,
    question_scores,
)
from finesearch.tasks.extraction.squad_rows import check_rows, parse_answers, refuse_unanswered
from finesearch.tasks.kl_divergence import symmetric_kl_divergence
from finesearch.tasks.raw_splits import SPLITS, RawSplits
from finesearch.tasks.row_groups import most_frequent_groups
from finesearch.tasks.task import Task, TaskFacts, UnencodableRow

if TYPE_CHECKING:
    from torch import Tensor

# A window with fewer context tokens than this would be all overlap.
MIN_CONTEXT_TOKENS = 8
NULL_THRESHOLD = "null_threshold"


class QuestionAnswering(Task):
    """Columns ``context``, ``question`` and ``answers`` of SQuAD; a question without answers is unanswerable.

    A context longer than ``max_length`` becomes several token rows; neighbours share ``stride`` tokens. Of several true
    answers, the first is trained on. A prediction is ``{"text", "null_margin", "n_best"}``: the best answer, how much
    better "no answer" scores (a difference of logits), and the best answers with their scores. A reference is the list
    of true answers.

    Token row: ``input_ids`` [``token_type_ids``] (t,), ``labels`` (2,) first and last token of the answer, or twice the
    null token's position if the window has none, ``part`` (3,) null token, first context token, number of context
    tokens, ``starts`` ``ends`` (c,) of the latter in characters, ``window``, and in an example's first row ``context``
    and ``reference``.
    """

    kind: ClassVar[str] = "question-answering"
    version: ClassVar[int] = 1
    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    may_refuse_rows: ClassVar[bool] = True

    @property
    def identity_columns(self) -> tuple[str, ...]:
        return (self.plan.columns["context"], self.plan.columns["question"])

    @property
    def group_columns(self) -> tuple[str, ...]:
        # Not the question: two questions about the same context are not independent.
        return (self.plan.columns["context"],)

    @property
    def encoding_options(self) -> dict[str, Any]:
        return {"stride": self.stride}

    @property
    def stride(self) -> int:
        """Context tokens that two windows share; default: a third of ``max_length``."""
        return self.plan.max_length // 3 if self.plan.stride is None else self.plan.stride

    def read(self, splits: RawSplits) -> TaskFacts:
        """Check every row.

        Raises:
            DataError: see ``check_rows``; no answer in train at all.
        """
        notes = []
        for split in SPLITS:
            answered, unanswered = check_rows(splits, split, self.plan.columns)
            if split == "train":
                refuse_unanswered(splits.origins[split], answered, self.plan.columns["answers"])
            if unanswered:
                notes.append(f"{unanswered} of the {answered + unanswered} {split} questions have no answer.")
        rows = {split: len(splits[split]) for split in SPLITS}
        return TaskFacts(kind=self.kind, rows=rows, notes=tuple(notes))

    def model_settings(self, facts: TaskFacts) -> dict[str, Any]:
        """``num_labels``: logits for start and end."""
        return {"num_labels": 2}

    def encode(self, rows: Mapping[str, Sequence[Any]], tokenizer: Any, facts: TaskFacts) -> dict[str, list[Any]]:
        """See the class; rows without answers, as in prediction, get no ``labels`` and no ``reference``.

        Raises:
            UnencodableRow: a question that leaves no tokens for its context.
        """
        columns, frame = self.plan.columns, text_pair_layout(tokenizer)
        questions = tokenizer(
            [question.strip() for question in rows[columns["question"]]],
            add_special_tokens=False,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        contexts = rows[columns["context"]]
        tokens = tokenizer(
            list(contexts),
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        answers = rows.get(columns["answers"])
        encoded: dict[str, list[Any]] = {}
        for row, (question, ids) in enumerate(zip(questions, tokens["input_ids"], strict=True)):
            capacity = self._capacity(row, frame, len(question), len(ids))
            offsets = trim_offsets(contexts[row], tokens["offset_mapping"][row])
            for window, (start, end) in enumerate(split_into_windows(range(len(ids)), len(ids), capacity, self.stride)):
                made = _token_row(frame, question, ids[start:end], offsets[start:end])
                made |= {"window": window, "context": "" if window else contexts[row]}
                if answers is not None:
                    texts, starts = parse_answers(answers[row])
                    made["labels"] = _span(made, texts, starts)
                    made["reference"] = "" if window else json.dumps(texts, ensure_ascii=False)
                for name, value in made.items():
                    encoded.setdefault(name, []).append(value)
        return encoded

    def _capacity(self, row: int, frame: TextPairLayout, question: int, context: int) -> int:
        """Context tokens that fit into one window beside a question of ``question`` tokens.

        Raises:
            UnencodableRow: there are too few.
        """
        capacity = self.plan.max_length - frame.size - question
        limit = f"the question takes {question} tokens, and max_length {self.plan.max_length} leaves room for"
        if capacity < min(MIN_CONTEXT_TOKENS, context):
            what = f"{limit} {max(0, capacity)} tokens of the context, expected at least {MIN_CONTEXT_TOKENS}"
            raise UnencodableRow(row, what, "Raise `task.max_length`, or shorten the question.")
        if context > capacity <= self.stride:
            what = f"{limit} {capacity} tokens of the context, not more than the {self.stride} of the stride"
            raise UnencodableRow(row, what, "Raise `task.max_length`, or lower `task.stride`.")
        return capacity

    def answers(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[list[str]]:
        return [parse_answers(answer)[0] for answer in rows[self.plan.columns["answers"]]]

    def collate(
        self, rows: Sequence[Mapping[str, Any]], tokenizer: Any, multiple: int = PAD_TO_MULTIPLE_OF
    ) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask``[, ``token_type_ids``] int64 (B, T); ``part`` (B, 3); ``labels`` (B, 2)."""
        import torch

        batch = pad_rows(rows, tokenizer, limit=self.plan.max_length, multiple=multiple)
        # Padding on the left shifts every position to the right.
        shift = batch["attention_mask"].argmax(dim=1, keepdim=True)
        for name in ("part", "labels"):
            if name in rows[0]:
                batch[name] = torch.from_numpy(table(rows, name))
                batch[name][:, :2] += shift
        return batch

    def model_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in batch.items() if name not in ("part", "labels")}

    def loss(self, outputs: Any, batch: Mapping[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
        """Mean of the cross-entropies of start and end, mean over the batch's token rows, in float32."""
        from torch.nn.functional import cross_entropy

        # Padding is excluded, both from the answers and from label smoothing.
        padding = batch["attention_mask"] == 0
        losses = []
        for logits, target in zip((outputs.start_logits, outputs.end_logits), batch["labels"].T, strict=True):
            scores = logits.float().masked_fill(padding, float("-inf"))
            plain = cross_entropy(scores, target)
            if label_smoothing:
                likelihoods = scores.log_softmax(dim=-1).masked_fill(padding, 0.0)
                even = -(likelihoods.sum(dim=-1) / (~padding).sum(dim=-1)).mean()
                plain = (1 - label_smoothing) * plain + label_smoothing * even
            losses.append(plain)
        return (losses[0] + losses[1]) / 2

    def weight(self, batch: Mapping[str, Tensor]) -> int:
        """Number of token rows."""
        return int(batch["labels"].shape[0])

    def divergence(self, one: Any, other: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Symmetric Kullback-Leibler divergence of starts and of ends, mean over both and the batch's token rows."""
        padding = batch["attention_mask"] == 0
        pairs = ((one.start_logits, other.start_logits), (one.end_logits, other.end_logits))
        # Not -inf: multiplied by the probability 0 of such a position, it would be NaN.
        parts = [
            symmetric_kl_divergence(*(logits.float().masked_fill(padding, -1e4) for logits in pair)).mean()
            for pair in pairs
        ]
        return (parts[0] + parts[1]) / 2

    def predict(self, outputs: Any, batch: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """``null``, the score of "no answer", and ``spans``: the best [score, first, last] in tokens of the context."""
        starts, ends = (logits.detach().float().cpu().numpy() for logits in (outputs.start_logits, outputs.end_logits))
        found = []
        for start, end, (null, first, size) in zip(starts, ends, batch["part"].tolist(), strict=True):
            part = slice(first, first + size)
            spans = best_spans(start[part], end[part], int(self.plan.max_answer_length or size))
            found.append({"null": float(start[null] + end[null]), "spans": spans})
        return found

    def combine(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], facts: TaskFacts
    ) -> list[dict[str, Any]]:
        """The best answers over all windows; the score of "no answer" is the minimum over the windows."""
        found: list[dict[str, Any]] = []
        for predicted, row in zip(predictions, rows, strict=True):
            if row["window"] == 0:
                found.append({"context": row["context"], "null": predicted["null"], "best": {}})
            example = found[-1]
            example["null"] = min(example["null"], predicted["null"])
            for score, first, last in predicted["spans"]:
                text = example["context"][int(row["starts"][first]) : int(row["ends"][last])]
                if text:  # a token may be only white space
                    example["best"][text] = max(score, example["best"].get(text, score))
        return [n_best_prediction(example["null"], example["best"]) for example in found]

    def references(self, rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        return [json.loads(row["reference"]) for row in rows if row["window"] == 0]

    def calibrate(
        self, predictions: Sequence[Mapping[str, Any]], references: Sequence[Sequence[str]]
    ) -> dict[str, float]:
        """``null_threshold``: the margin above which no answer is given, optimised for the plan's metric.

        Empty if every question has an answer: then an answer is always given.
        """
        if all(references):
            return {}
        metric = self.plan.metric
        pairs = list(zip(predictions, references, strict=True))
        answered = [max_over_answers(metric, given["text"], true) for given, true in pairs]
        unanswered = [max_over_answers(metric, "", true) for _, true in pairs]
        margins = [given["null_margin"] for given in predictions]
        return {NULL_THRESHOLD: null_threshold(margins, answered, unanswered)}

    def decide(self, predictions: Sequence[Any], decision: Mapping[str, float]) -> list[dict[str, Any]]:
        """Replace an answer by an empty text where "no answer" is better by more than the threshold."""
        threshold = decision.get(NULL_THRESHOLD, float("inf"))
        return [{**given, "text": ""} if given["null_margin"] > threshold else dict(given) for given in predictions]

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        return {name: mean_score(name, predictions, references) for name in METRICS}

    def readable(
        self, predictions: Sequence[Any], references: Sequence[Any], facts: TaskFacts
    ) -> tuple[list[Any], list[Any]]:
        return [given["text"] for given in predictions], list(references)

    def groups(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        questions = [str(question).split() for question in rows[self.plan.columns["question"]]]
        first = [words[0].strip("¿¡?,.:").lower() if words else "" for words in questions]
        return {"first word of the question": most_frequent_groups(first), **super().groups(rows)}

    def metric(self, name: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
        return lambda predictions, references: mean_score(name, predictions, references)

    def example_scores(self, name: str, predictions: Sequence[Any], references: Sequence[Any]) -> list[float]:
        return question_scores(name, predictions, references)

    def perfect_predictions(self, references: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"text": next(iter(true), ""), "null_margin": 0.0, "n_best": []} for true in references]

    def majority(self, references: Sequence[Any], n: int) -> list[dict[str, Any]]:
        """No answer to any question, since an answer from one context does not fit another."""
        return [{"text": "", "null_margin": 0.0, "n_best": []} for _ in range(n)]


def _token_row(
    frame: TextPairLayout, question: list[int], ids: list[int], offsets: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    joined, types = frame.joined(question, ids)
    first = len(frame.before) + len(question) + len(frame.between)
    row: dict[str, Any] = {"input_ids": joined}
    if types is not None:
        row["token_type_ids"] = types
    row["part"] = [frame.null % len(joined), first, len(ids)]
    row["starts"], row["ends"] = [start for start, _ in offsets], [end for _, end in offsets]
    return row


def _span(row: Mapping[str, Any], texts: Sequence[str], starts: Sequence[int]) -> list[int]:
    """First and last token of the first true answer if the window contains all of it; else the null token, twice."""
    null, first, size = row["part"]
    if texts and size:
        place = span_in_window(texts[0], starts[0], row["starts"], row["ends"])
        if place is not None:
            return [first + place[0], first + place[1]]
    return [null, null]
