"""Which kind of task a file is for, and which of its columns play which part, by their shapes first, names second."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from finesearch.data.readers.sample_rows import Sample
from finesearch.errors import DataError

FEW_LABELS = 0.2
"""Labels are at most this share of the rows, and at most ``MOST_LABELS``."""
MOST_LABELS = 200
SHORTER = 0.6
"""A summary has at most this share of its text's words, in the middle of all rows."""
LANGUAGE = re.compile(r"[a-z]{2,3}([_-][A-Za-z]{2,4})?")
TEXT_NAMES = ("text", "sentence", "content", "body", "review", "comment", "message", "utterance", "title", "question")
LABEL_NAMES = ("label", "labels", "class", "category", "target", "intent", "sentiment", "topic", "tag", "score", "y")
LONG_NAMES = ("document", "article", "text", "dialogue", "source", "content", "body")
SUMMARY_NAMES = ("summary", "highlights", "abstract", "tldr", "headline")


@dataclass(frozen=True)
class TaskGuess:
    """The kind of task, its columns by role, its form (None: the kind's own), and why each was chosen."""

    kind: str
    columns: dict[str, str]
    reason: str
    form: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns whose tokens fill the model's input."""
        roles = ("text", "text_pair", "tokens", "question", "context", "source", "messages", "instruction", "output")
        return tuple(self.columns[role] for role in roles if role in self.columns)


def guess_task(sample: Sample) -> TaskGuess:
    """The first kind whose shape the rows have.

    Raises:
        DataError: they have none; the message lists what was seen and what is expected.
    """
    for guess in (_dialogue, _questions, _relations, _entities, _translation, _summarization, _classification):
        found = guess(sample)
        if found is not None:
            return found
    seen = ", ".join(f"{name} ({_described(sample.values(name))})" for name in sample.columns)
    raise DataError(
        f"{sample.path}: no kind of task fits these columns: {seen}. Expected for instance a text and a label; tokens "
        "and tags; a question, a context and answers; a text and a summary; two languages; messages. Rename the "
        "columns, or write the plan by hand from search_spaces/."
    )


def _dialogue(sample: Sample) -> TaskGuess | None:
    for name in sample.columns:
        values = sample.values(name)
        if values and all(_is_conversation(value) for value in values):
            return TaskGuess("dialogue", {"messages": name}, f"{name} holds turns, each with who speaks and what")
    names = {name.lower(): name for name in _strings(sample)}
    if {"instruction", "output"} <= names.keys():
        columns: dict[str, str] = {role: names[role] for role in ("instruction", "input", "output") if role in names}
        return TaskGuess("dialogue", columns, "there is an instruction, and what was put out for it")
    return None


def _is_conversation(value: Any) -> bool:
    speaks = {"role", "from"}
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and turn.keys() & speaks for turn in value)
    )


def _questions(sample: Sample) -> TaskGuess | None:
    names = {name.lower(): name for name in sample.columns}
    if not {"question", "context"} <= names.keys():
        return None
    answers = next((names[name] for name in ("answers", "answer") if name in names), None)
    if answers is None:
        return None
    columns = {"question": names["question"], "context": names["context"], "answers": answers}
    return TaskGuess("question-answering", columns, "there are a question, a context and answers")


def _relations(sample: Sample) -> TaskGuess | None:
    names = {name.lower(): name for name in sample.columns}
    text = next((role for role in ("tokens", "text") if role in names), None)
    if text is None or not {"head", "tail"} <= names.keys():
        return None
    relation = next((names[name] for name in ("relation", "label") if name in names), None)
    if relation is None:
        return None
    columns = {text: names[text], "head": names["head"], "tail": names["tail"], "relation": relation}
    return TaskGuess("relation-extraction", columns, "there are two marked entities and a relation")


def _entities(sample: Sample) -> TaskGuess | None:
    lists = [name for name in sample.columns if _are(sample.values(name), _is_word_list)]
    for words in lists:
        for tags in lists:
            if tags != words and _are_tags(sample, words, tags):
                reason = f"{tags} has a tag for each word of {words}"
                return TaskGuess("token-classification", {"tokens": words, "tags": tags}, reason)
    for name in sample.columns:
        values = [each for value in sample.values(name) if isinstance(value, list) for each in value]
        if values and all(isinstance(each, dict) and {"start", "end", "label"} <= each.keys() for each in values):
            text = _first_named(_strings(sample), TEXT_NAMES)
            if text is not None:
                reason = f"{name} holds spans of {text} with a label"
                return TaskGuess("token-classification", {"text": text, "spans": name}, reason)
    return None


def _is_word_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _are_tags(sample: Sample, words: str, tags: str) -> bool:
    pairs = [(row.get(words) or [], row.get(tags) or []) for row in sample.rows]
    kinds = {tag for _, given in pairs for tag in given}
    count = sum(len(given) for _, given in pairs)
    return all(len(one) == len(other) for one, other in pairs) and 1 < len(kinds) <= max(2, count // 10)


def _translation(sample: Sample) -> TaskGuess | None:
    texts = _strings(sample)
    named = [name for name in texts if LANGUAGE.fullmatch(name)]
    if {"source", "target"} <= set(texts):
        named = ["source", "target"]
    if len(named) != 2 or len(texts) > 3:
        return None
    source, target = named
    reason = f"{source} and {target} hold a text each, and are named as languages are"
    note = f"{source} is translated to {target}: exchange the two for the other direction"
    return TaskGuess("translation", {"source": source, "target": target}, reason, notes=(note,))


def _summarization(sample: Sample) -> TaskGuess | None:
    texts = _strings(sample)
    summary = _first_named(texts, SUMMARY_NAMES)
    text = _first_named([name for name in texts if name != summary], LONG_NAMES)
    if summary is None or text is None:
        return None
    share = median(
        len(str(row[summary]).split()) / max(1, len(str(row[text]).split()))
        for row in sample.rows
        if row.get(summary) and row.get(text)
    )
    if share > SHORTER:
        return None
    reason = f"{summary} has {share:.0%} of the words of {text}, in the middle of all rows"
    return TaskGuess("summarization", {"text": text, "summary": summary}, reason)


def _classification(sample: Sample) -> TaskGuess | None:
    label = _label_column(sample)
    texts = [name for name in _strings(sample) if name != label and _mean_words(sample, name) > 1.0]
    if label is None or not texts:
        return None
    pair = _pair(texts)
    columns = {"text": pair[0], "text_pair": pair[1]} if pair else {"text": _longest(sample, texts)}
    columns["label"] = label
    values = sample.values(label)
    notes = (f"{pair[0]} and {pair[1]} are read together, as a pair",) if pair else ()
    if _are(values, _is_word_list):
        return TaskGuess("text-classification", columns, f"{label} holds a list of names", "multi-label", notes)
    if _are_numbers(values) and len(set(values)) > MOST_LABELS / 10:
        reason = f"{label} holds {len(set(values)):,} different numbers"
        return TaskGuess("text-classification", columns, reason, "regression", notes)
    reason = f"{label} holds {len(set(map(str, values))):,} different values in {len(values):,} rows"
    return TaskGuess("text-classification", columns, reason, notes=notes)


def _label_column(sample: Sample) -> str | None:
    fitting = [name for name in sample.columns if _may_be_label(sample.values(name))]
    named = _first_named(fitting, LABEL_NAMES)
    if named is not None:
        return named
    # Of several, the one with the fewest values, and the last of these: labels follow their texts.
    return min(reversed(fitting), key=lambda name: len(set(map(str, sample.values(name)))), default=None)


def _may_be_label(values: list[Any]) -> bool:
    if not values or _are(values, _is_word_list):
        return bool(values)
    if any(isinstance(value, list | dict) for value in values):
        return False
    if _are_numbers(values) and any("." in str(value) for value in values):
        return True
    kinds = len(set(map(str, values)))
    return 1 < kinds <= min(MOST_LABELS, max(2, FEW_LABELS * len(values)))


def _pair(texts: Sequence[str]) -> tuple[str, str] | None:
    for one, other in (("premise", "hypothesis"), ("question", "sentence"), ("sentence1", "sentence2")):
        if {one, other} <= set(texts):
            return one, other
    numbered = [name for name in texts if name.endswith("1") and f"{name[:-1]}2" in texts]
    return (numbered[0], f"{numbered[0][:-1]}2") if numbered else None


def _strings(sample: Sample) -> list[str]:
    return [name for name in sample.columns if _are(sample.values(name), lambda value: isinstance(value, str))]


def _are(values: Sequence[Any], fits: Callable[[Any], bool]) -> bool:
    return bool(values) and all(map(fits, values))


def _are_numbers(values: Sequence[Any]) -> bool:
    def is_number(value: Any) -> bool:
        if isinstance(value, bool):
            return False
        try:
            float(value)
        except (TypeError, ValueError):
            return False
        return True

    return _are(values, is_number)


def _first_named(columns: Sequence[str], names: Sequence[str]) -> str | None:
    by_name = {column.lower(): column for column in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _mean_words(sample: Sample, column: str) -> float:
    values = sample.values(column)
    return sum(len(value.split()) for value in values) / len(values)


def _longest(sample: Sample, columns: Sequence[str]) -> str:
    named = _first_named(columns, TEXT_NAMES)
    return named or max(columns, key=lambda column: _mean_words(sample, column))


def _described(values: Sequence[Any]) -> str:
    kinds = sorted({type(value).__name__ for value in values})
    return " or ".join(kinds) or "empty"
