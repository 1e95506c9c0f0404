"""Dialogue: trains on the assistant's turns of conversations, rendered by the model's chat template."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finesearch.errors import ModelError
from finesearch.plan.sections.task_kinds import TASK_KINDS
from finesearch.tasks.encoding.padding import IGNORED, PAD_TO_MULTIPLE_OF
from finesearch.tasks.generation.chat_template import (
    ASSISTANT,
    PLAIN_TEMPLATE,
    EarlierTurnsChange,
    Turn,
    UnsupportedChatTemplate,
    apply_chat_template,
    render_conversation,
)
from finesearch.tasks.generation.dialogue_rows import (
    TOOL,
    check_rows,
    conversation,
    drop_oldest_exchange,
    is_learned,
    reply_text,
)
from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.tasks.generation.metric_tokenizers import (
    DEFAULT_BLEU,
    bleu_tokenizer,
    choose_bleu_tokenizer,
    choose_rouge_tokenizer,
    rouge_tokenizer,
)
from finesearch.tasks.generation.rouge import rouge_f_measures
from finesearch.tasks.generation.template_limits import template_excess
from finesearch.tasks.generation.translation_metrics import MAX_SCORE, corpus_score, scores_of_sums, sentence_counts
from finesearch.tasks.most_frequent import most_frequent
from finesearch.tasks.raw_splits import SPLITS, RawSplits
from finesearch.tasks.task import SufficientStatistics, TaskFacts, UnencodableRow
from finesearch.tasks.truncation import Truncation

if TYPE_CHECKING:
    from torch import Tensor

TOKENIZER_TEMPLATE = "auto"
PERPLEXITY = "perplexity"
MESSAGES = "messages"
# Sample of conversations for counting truncations.
COUNT_CHUNK_ROWS = 1024


class Dialogue(GenerationTask):
    """Column: ``messages``, lists of {role, content}. References are the assistant's last turns: texts, or tool calls.

    Every turn of the assistant is trained on, and counts in the perplexity; an encoder-decoder trains on the last one.
    A turn with ``weight`` 0 is only read: the last turn is the last that is learned.
    Some templates write earlier turns otherwise once others follow (without their reasoning, say). Then each reply has
    a token row of its own, behind the history as the template writes it when that reply is generated: the column
    ``window`` counts them.
    The last one is generated and compared. A prediction is ``{"text", "nll", "tokens"}``: the reply (None if no text
    was needed), and the summed loss of the true turns with the number of their tokens.

    A conversation longer than ``max_length`` loses its oldest turns; if the last exchange alone is longer, the reply is
    truncated at its end and the text before it at its start, to half of the tokens each. The prompt for generation is
    truncated independently of the true reply: token row ``prompt_ids``, besides those of ``generation_task``.
    """

    kind: ClassVar[str] = "dialogue"
    version: ClassVar[int] = 3
    may_refuse_rows: ClassVar[bool] = True

    @property
    def messages_column(self) -> str:
        """The column of turns; rows of instruction and output have become one when they were read."""
        return self.plan.columns.get(MESSAGES, MESSAGES)

    @property
    def identity_columns(self) -> tuple[str, ...]:
        return (self.messages_column,)

    @property
    def encoding_options(self) -> dict[str, Any]:
        return {"chat_template": self.plan.chat_template, "system": self.plan.system}

    @property
    def template(self) -> str | None:
        """The Jinja chat template; None: the tokenizer's own."""
        wanted = self.plan.chat_template
        return {TOKENIZER_TEMPLATE: None, "plain": PLAIN_TEMPLATE}.get(str(wanted), wanted)

    def positions(self, is_encoder_decoder: bool) -> int:
        longest = int(self._generation.max_new_tokens)
        return max(self.plan.max_length, longest) if is_encoder_decoder else self.plan.max_length + longest

    def read(self, splits: RawSplits) -> TaskFacts:
        """Check every row.

        Raises:
            DataError: see ``check_rows``.
        """
        notes = []
        for split in SPLITS:
            continued, unlearned = check_rows(splits, split, self.messages_column)
            if unlearned:
                notes.append(f"{unlearned} turns of the assistant in {split} have weight 0: they are not learned.")
            if continued:
                notes.append(
                    f"{continued} of the {len(splits[split])} {split} conversations go on after the assistant's last "
                    f"turn{' that is learned' if unlearned else ''}: what follows it is left out."
                )
        return TaskFacts(kind=self.kind, rows={split: len(splits[split]) for split in SPLITS}, notes=tuple(notes))

    def add_model_shape(self, facts: TaskFacts, config: Any, tokenizer: Any) -> TaskFacts:
        """See the base class.

        Raises:
            ModelError: as there; or neither model nor plan has a chat template, or the template fails.
        """
        facts = super().add_model_shape(facts, config, tokenizer)
        if self.template is None and not tokenizer.chat_template:
            raise ModelError(
                "task.chat_template: the model's tokenizer has no chat template. Choose a model that was made for "
                "chat, or set task.chat_template to 'plain', or to the text of a Jinja template."
            )
        probe, template = conversation(_PROBE, self.plan.system), self.template or tokenizer.chat_template
        if isinstance(template, str):
            excess = template_excess(template, probe, tokenizer.special_tokens_map)
            if excess is not None:
                raise ModelError(
                    f"task.chat_template: rendering {len(probe)} short turns takes {excess}: the template loops. Set "
                    "it to 'plain', or to another template."
                )
        try:
            render_conversation(probe, tokenizer, self.template, only_last=True)
            render_conversation(probe, tokenizer, self.template)
        except EarlierTurnsChange:
            return facts.model_copy(update={"notes": (*facts.notes, _ONE_ROW_A_REPLY)})
        except UnsupportedChatTemplate as error:
            raise ModelError(f"task.chat_template: {error}. Set it to 'plain', or to another template.") from error
        return facts

    def prepare_tokenizer(self, tokenizer: Any) -> None:
        """Set the chat template that the model is trained with."""
        if self.template is not None:
            tokenizer.chat_template = self.template

    def truncations(self, splits: RawSplits, tokenizer: Any, facts: TaskFacts) -> tuple[Truncation, ...]:
        """How many conversations of each split are longer than ``max_length``."""
        found = []
        for split in SPLITS:
            total, count = len(splits[split]), 0
            for start in range(0, total, COUNT_CHUNK_ROWS):
                rows = splits.plain_rows(split, start, min(start + COUNT_CHUNK_ROWS, total))
                texts = [
                    apply_chat_template(conversation(turns, self.plan.system), tokenizer, self.template)
                    for turns in rows[self.messages_column]
                ]
                tokens = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
                count += sum(len(ids) > self.plan.max_length for ids in tokens["input_ids"])
            if count:
                note = (
                    f"{count} of the {total} {split} conversations are longer than task.max_length "
                    f"({self.plan.max_length} tokens): their oldest turns are left out."
                )
                found.append(Truncation(count, total, note))
        return tuple(found)

    def encode(self, rows: Mapping[str, Sequence[Any]], tokenizer: Any, facts: TaskFacts) -> dict[str, list[Any]]:
        """See ``generation_task``; every row has a reply to compare.

        Raises:
            UnencodableRow: the chat template refuses a conversation.
        """
        assert facts.shape is not None, "add_model_shape comes before encode"
        encoded: dict[str, list[Any]] = {}
        for row, turns in enumerate(rows[self.messages_column]):
            talk = conversation(turns, self.plan.system)
            try:
                if left_out := self._left_out(talk, tokenizer):
                    advice = "Choose a model or a `task.chat_template` that writes it, or remove such rows."
                    raise UnencodableRow(row, f"the chat template leaves out {left_out}", advice)
                if facts.shape.is_encoder_decoder:
                    made = [self._encoder_decoder_row(talk, tokenizer, facts)]
                else:
                    made = self._causal_rows(talk, tokenizer)
            except UnsupportedChatTemplate as error:
                raise UnencodableRow(
                    row, str(error), "Set `task.chat_template` to 'plain', or remove such rows."
                ) from error
            for window, values in enumerate(made):
                for name, value in {**values, "reference": reply_text(talk[-1]), "window": window}.items():
                    encoded.setdefault(name, []).append(value)
        return encoded

    def _left_out(self, talk: list[Turn], tokenizer: Any) -> str:
        """What the template does not write of tool calls and their results; "" if nothing."""
        called = [call["function"]["name"] for turn in talk for call in turn.get("tool_calls", ())]
        results = [turn["content"] for turn in talk if turn["role"] == TOOL]
        if not called and not results:
            return ""
        text = apply_chat_template(talk, tokenizer, self.template)
        lost = next((name for name in called if name not in text), None)
        if lost is not None:
            return f"the call of the tool {lost!r}"
        return "what a tool answered" if any(result not in text for result in results) else ""

    def drop_oldest_turns(self, talk: list[Turn], tokenizer: Any) -> list[Turn]:
        """The conversation without the oldest turns that exceed ``max_length``.

        Raises:
            UnsupportedChatTemplate: the template rejects it.
        """
        while (fewer := drop_oldest_exchange(talk)) is not None:
            text = apply_chat_template(talk, tokenizer, self.template).rstrip()
            ids = tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
            if len(ids) <= self.plan.max_length:
                break
            talk = fewer
        return talk

    def _causal_rows(self, whole: list[Turn], tokenizer: Any) -> list[dict[str, Any]]:
        """A causal model's rows of a conversation: one, or one for each reply that is learned."""
        try:
            return [self._causal_row(whole, tokenizer, only_last=False)]
        except EarlierTurnsChange:
            ends = [place + 1 for place, turn in enumerate(whole) if is_learned(turn)]
            return [self._causal_row(whole[:end], tokenizer, only_last=True) for end in ends]

    def _causal_row(self, whole: list[Turn], tokenizer: Any, only_last: bool) -> dict[str, Any]:
        """The whole conversation, with the assistant's tokens as labels: of all turns, or of the last one alone."""
        talk = self.drop_oldest_turns(whole, tokenizer)
        rendered = render_conversation(talk, tokenizer, self.template, only_last)
        tokens = tokenizer(
            rendered.text[: rendered.said[-1][1]],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        ids, offsets = list(tokens["input_ids"]), tokens["offset_mapping"]
        labels = [IGNORED] * len(ids)
        replies = [turn for turn in talk if turn["role"] == ASSISTANT][-len(rendered.said) :]
        learned = [span for turn, span in zip(replies, rendered.said, strict=True) if is_learned(turn)]
        for start, end in learned:
            for place, (first, last) in enumerate(offsets):
                if first >= start and last <= end and last > first:
                    labels[place] = ids[place]
        prompt = next(place for place, (first, _) in enumerate(offsets) if first >= rendered.opens)
        limit = self.plan.max_length
        if len(ids) > limit:
            reply = min(len(ids) - prompt, max(limit - prompt, limit // 2))
            kept = slice(prompt - (limit - reply), prompt + reply)
            ids, labels, prompt = ids[kept], labels[kept], limit - reply
        prompt_ids = self._generation_prompt(whole, tokenizer)
        return {"input_ids": ids, "labels": labels, "prompt": prompt, "prompt_ids": prompt_ids or ids[:prompt]}

    def _generation_prompt(self, talk: list[Turn], tokenizer: Any) -> list[int]:
        """Prompt ids for generating the last reply, without the oldest turns that do not fit."""
        turns = talk[:-1]
        while turns:
            text = apply_chat_template(turns, tokenizer, self.template, prompt=True)
            ids = tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
            fewer = drop_oldest_exchange(turns)
            if len(ids) <= self.plan.max_length or fewer is None:
                return list(ids[-self.plan.max_length :])
            turns = fewer
        return []

    def collate_prompts(
        self, rows: Sequence[Mapping[str, Any]], tokenizer: Any, multiple: int = PAD_TO_MULTIPLE_OF
    ) -> dict[str, Tensor]:
        if "prompt_ids" not in rows[0]:
            return super().collate_prompts(rows, tokenizer, multiple)
        whole = [{"input_ids": row["prompt_ids"], "prompt": len(row["prompt_ids"])} for row in rows]
        return super().collate_prompts(whole, tokenizer, multiple)

    def _encoder_decoder_row(self, talk: list[Turn], tokenizer: Any, facts: TaskFacts) -> dict[str, Any]:
        """An encoder-decoder's row: everything before the last reply as input, the reply as target."""
        shape = facts.shape
        assert shape is not None
        while True:
            text = apply_chat_template(talk[:-1], tokenizer, self.template, prompt=True)
            ids = list(tokenizer(text, verbose=False)["input_ids"])
            fewer = drop_oldest_exchange(talk)
            if len(ids) <= self.plan.max_length or fewer is None or len(fewer) < 2:
                break
            talk = fewer
        target = tokenizer(
            text_target=reply_text(talk[-1]),
            add_special_tokens=False,
            truncation=True,
            max_length=self.plan.max_length - 1,
        )
        labels = [*target["input_ids"], shape.end_token_id]
        return {
            "input_ids": ids[-self.plan.max_length :],
            "labels": labels,
            "decoder_input_ids": [shape.start_token_id, *labels[:-1]],
        }

    def answers(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[str]:
        return [reply_text(conversation(turns, None)[-1]) for turns in rows[self.messages_column]]

    def choose_metric_tokenizer(self, references: Sequence[str]) -> tuple[str, str]:
        name, reason = choose_bleu_tokenizer(references)
        if self.plan.metric == "rougeL" and name == DEFAULT_BLEU:
            words, reason = choose_rouge_tokenizer(references)
            return DEFAULT_BLEU if words == rouge_tokenizer(DEFAULT_BLEU) else "intl", reason
        return name, reason

    def needs_generation(self, name: str) -> bool:
        return name not in TASK_KINDS[self.kind].teacher_forced_metrics

    def combine(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], facts: TaskFacts
    ) -> list[dict[str, Any]]:
        """The last reply of each conversation, with the losses of all of its replies."""
        found: list[dict[str, Any]] = []
        for predicted, row in zip(predictions, rows, strict=True):
            if row["window"] == 0:
                found.append({"text": None, "nll": 0.0, "tokens": 0})
            summed = {name: found[-1][name] + predicted[name] for name in ("nll", "tokens")}
            found[-1] = {"text": predicted["text"], **summed}
        return found

    def references(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        return [str(row["reference"]) for row in rows if row["window"] == 0]

    def join(self, texts: Sequence[str] | None, read: Sequence[Any]) -> list[dict[str, Any]]:
        replies: Sequence[str | None] = [None] * len(read) if texts is None else texts
        return [{"text": text, "nll": nll, "tokens": n} for text, (nll, n) in zip(replies, read, strict=True)]

    def score(self, predictions: Sequence[Mapping[str, Any]], references: Sequence[str]) -> dict[str, float]:
        """Every metric; those that compare replies only if there are generated replies."""
        names = [PERPLEXITY] if predictions[0]["text"] is None else [PERPLEXITY, "rougeL", "bleu"]
        return {name: self.metric(name)(predictions, references) for name in names}

    def readable(
        self, predictions: Sequence[Any], references: Sequence[Any], facts: TaskFacts
    ) -> tuple[list[Any], list[Any]]:
        return _texts(predictions), list(references)

    def metric(self, name: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
        if name == PERPLEXITY:
            return lambda predictions, references: _perplexity(predictions)
        if name == "bleu":
            words = bleu_tokenizer(self.plan.metric_tokenizer)
            return lambda predictions, references: corpus_score("bleu", _texts(predictions), references, words)
        return lambda predictions, references: fmean(self._rouge(name, predictions, references))

    def example_scores(self, name: str, predictions: Sequence[Any], references: Sequence[str]) -> list[float] | None:
        return self._rouge(name, predictions, references) if name == "rougeL" else None

    def _rouge(self, name: str, predictions: Sequence[Any], references: Sequence[str]) -> list[float]:
        words = rouge_tokenizer(self.plan.metric_tokenizer)
        return rouge_f_measures(_texts(predictions), references, [name], words)[name]

    def statistics(
        self, name: str, predictions: Sequence[Any], references: Sequence[str]
    ) -> SufficientStatistics | None:
        if name == PERPLEXITY:
            counts = np.array([[given["nll"], given["tokens"]] for given in predictions], dtype=float)
            return SufficientStatistics(counts, lambda sums: np.exp(sums[:, 0] / sums[:, 1]))
        if name == "bleu":
            words = bleu_tokenizer(self.plan.metric_tokenizer)
            counts = sentence_counts(name, _texts(predictions), references, words)
            return SufficientStatistics(counts, lambda sums: scores_of_sums(name, sums))
        return None

    def scale(self, name: str, value: float) -> float:
        return MAX_SCORE if name == "bleu" else max(1.0, value) if name == PERPLEXITY else 1.0

    def perfect_predictions(self, references: Sequence[str]) -> list[dict[str, Any]]:
        return [{"text": text, "nll": 0.0, "tokens": 1} for text in references]

    def majority(self, references: Sequence[str], n: int) -> list[dict[str, Any]]:
        """The most common reply, alphabetically first among equals; it has no perplexity."""
        return [{"text": most_frequent(references), "nll": math.nan, "tokens": 1}] * n


_ONE_ROW_A_REPLY = (
    "The chat template writes earlier turns otherwise once others follow: each reply of a conversation is learned in a "
    "row of its own, behind its own history."
)
_PROBE: list[Turn] = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "four"},
]


def _perplexity(predictions: Sequence[Mapping[str, Any]]) -> float:
    """The exponential of the mean loss per token over the split."""
    tokens = sum(given["tokens"] for given in predictions)
    if not tokens:
        return math.nan
    mean = math.fsum(given["nll"] for given in predictions) / tokens
    # Beyond this, the exponential overflows.
    return math.inf if mean > 700 else math.exp(mean)


def _texts(predictions: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(given["text"] or "") for given in predictions]
