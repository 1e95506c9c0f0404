"""What every peer gets: the rows of a plan's three splits by role, read here and not by finesearch.

A mistake in how finesearch reads files or columns then shows: its answers would not fit these rows.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from shared.sentences import model_folder

SPLITS = ("train", "validation", "test")
Row = Mapping[str, Any]
CLASSES, ENTITIES, RELATIONS = "text-classification", "token-classification", "relation-extraction"
QUESTIONS, TRANSLATION, SUMMARIES, DIALOGUE = "question-answering", "translation", "summarization", "dialogue"
_ROLES = {
    CLASSES: ("text", "label"),
    ENTITIES: ("tokens", "tags"),
    RELATIONS: ("tokens", "head", "tail", "relation"),
    QUESTIONS: ("question", "context", "answers"),
    TRANSLATION: ("source", "target"),
    SUMMARIES: ("text", "summary"),
    DIALOGUE: ("messages",),
}
_METRICS = {ENTITIES: "f1", RELATIONS: "micro_f1", QUESTIONS: "f1", TRANSLATION: "bleu", SUMMARIES: "rougeL"}
_MAX_LENGTH = 128


@dataclass(frozen=True)
class Contest:
    """One set of rows, and what is asked of everybody.

    splits: rows by split, values by role; model: a folder; max_length: in tokens.
    """

    name: str
    plan: Path
    kind: str
    metric: str
    model: str
    max_length: int
    no_relation: str
    splits: Mapping[str, list[Row]]

    @property
    def described(self) -> str:
        rows = ", ".join(f"{len(rows):,} {split}" for split, rows in self.splits.items())
        return f"{self.name} ({self.kind}; {rows}; {self.metric} on test)"

    def references(self, split: str) -> list[Any]:
        """The right answers, in the form in which peers give theirs.

        A label; a set of (start, end, label) in tokens, end exclusive; a list of texts, of which any is right; a text.
        """
        rows = self.splits[split]
        if self.kind == ENTITIES:
            return [entities(row["tags"]) for row in rows]
        if self.kind == QUESTIONS:
            return [list(row["answers"]["text"]) for row in rows]
        if self.kind == DIALOGUE:
            return [last_reply(row["messages"])[1] for row in rows]
        return [str(row[_ROLES[self.kind][-1]]) for row in rows]


def read_contest(path: Path, rows: int | None = None) -> Contest:
    """The contest that a plan file describes; rows: so many of each split, None for all.

    Raises:
        ValueError: the plan holds what this benchmark cannot read; the message says what.
    """
    plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    task = plan["task"]
    kind, data = task["kind"], task["data"]
    columns = task.get("columns") or {}
    if kind not in _ROLES or set(_ROLES[kind]) - set(columns):
        known = "; ".join(f"{name}: {', '.join(roles)}" for name, roles in _ROLES.items())
        raise ValueError(f"{path}: this benchmark knows these tasks and columns: {known}; got {kind} with {columns}")
    if "builtin" in data:
        splits = _built_in(path)
    elif set(SPLITS) <= set(data):
        names = {role: columns[role] for role in _ROLES[kind]}
        splits = {split: _read(path.parent / data[split], names) for split in SPLITS}
    else:
        raise ValueError(f"{path}: this benchmark needs files for train, validation and test; got {', '.join(data)}")
    metric = task.get("metric", _METRICS.get(kind, "accuracy"))
    # The perplexity of a reply that is copied cannot be told.
    metric = "rougeL" if kind == DIALOGUE and metric == "perplexity" else metric
    length = task.get("max_length", _MAX_LENGTH)
    none = task.get("no_relation", "no_relation")
    splits = {split: those[:rows] for split, those in splits.items()}
    return Contest(plan["name"], path, kind, metric, _folder(task["model"], path.parent), length, none, splits)


def entities(tags: list[str]) -> set[tuple[int, int, str]]:
    """Entities as (start, end, label), end exclusive, from BIO tags; read as conlleval does.

    >>> sorted(entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"]))
    [(0, 2, 'PER'), (3, 4, 'LOC'), (4, 5, 'LOC')]
    """
    found: list[tuple[int, int, str]] = []
    for place, tag in enumerate(tags):
        if tag == "O":
            continue
        before = tags[place - 1] if place else "O"
        if tag[0] == "I" and before != "O" and before[2:] == tag[2:]:
            found[-1] = (found[-1][0], place + 1, tag[2:])
        else:
            found.append((place, place + 1, tag[2:]))
    return set(found)


def last_reply(messages: list[Mapping[str, str]]) -> tuple[str, str]:
    """The turn before the assistant's last one, and that one."""
    last = max(place for place, turn in enumerate(messages) if turn["role"] == "assistant")
    return (messages[last - 1]["content"] if last else "", messages[last]["content"].strip())


def _folder(model: str, base: Path) -> str:
    """A folder that plain transformers loads, from a plan's ``model``."""
    if model.startswith("package://"):
        package, _, inner = model.removeprefix("package://").partition("/")
        return model_folder(package, inner)
    return str(base / model) if (base / model).is_dir() else model


def _built_in(plan: Path) -> dict[str, list[Row]]:
    """The quickstart's own rows: there are no files, so that finesearch has to say which they are."""
    from finesearch.data.splits import load_splits
    from finesearch.plan import load_plan

    task = load_plan(plan).task
    raw = load_splits(task, plan.parent)
    text, label = task.columns["text"], task.columns["label"]
    return {
        split: [{"text": row[text], "label": row[label]} for row in getattr(raw, split).to_list()] for split in SPLITS
    }


def _read(path: Path, names: Mapping[str, str]) -> list[Row]:
    """Rows of a CSV, JSON Lines or Parquet file; names: role to column."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[Any] = list(csv.DictReader(file))
    elif path.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows = pq.read_table(path).to_pylist()
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [{role: row[column] for role, column in names.items()} for row in rows]
