"""Tasks about spans, trained for real: token rows are not examples, and a checkpoint says the same again."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from training_cases import run, trial

from finesearch.data import load_splits
from finesearch.plan import DataPlan, TaskPlan, TrainingPlan
from finesearch.tasks import make_task
from finesearch.training import TrialResult, Workbench, evaluate_checkpoint, export_checkpoint
from tiny_models import WORDS, write_tiny_model

GOOD, BAD = ("good", "great", "lovely"), ("bad", "poor", "awful")
OTHERS = tuple(sorted({*WORDS} - {*GOOD, *BAD}))


def write_rows(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> Path:
    write_tiny_model(folder / "model")
    for split, some in rows.items():
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, some)) + "\n", encoding="utf-8")
    return folder


def task_plan(kind: str, columns: dict[str, str], **fields: Any) -> TaskPlan:
    data = DataPlan(**{split: (f"{split}.jsonl",) for split in ("train", "validation", "test")})
    settings = {"kind": kind, "model": "model", "data": data, "columns": columns, "max_length": 16, **fields}
    return TaskPlan(**settings)


def train(home: Path, plan: TaskPlan, folder: Path, **recipe: Any) -> tuple[Workbench, TrialResult]:
    training = TrainingPlan(epochs=6, batch_size=16, precision="fp32")
    work = Workbench(plan, training, str(home), str(home / "cache"), plan.metric, "max")
    settings = {"epochs": 6, "learning_rate": 1e-2, "weight_decay": 0.0, "label_smoothing": 0.0, **recipe}
    return work, run(work, trial(folder, **settings))[0]


def baseline(home: Path, plan: TaskPlan) -> float:
    """The metric of the majority on test."""
    task, splits = make_task(plan), load_splits(plan, home)
    facts = task.read(splits)
    true = {split: task.answers(splits.plain_rows(split), facts) for split in ("train", "test")}
    return task.score(task.majority(true["train"], len(true["test"])), true["test"])[plan.metric]


def tagged_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Texts of up to three windows with words of praise and blame in them."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        tokens = [draw.choice(draw.choice((GOOD, BAD, OTHERS, OTHERS))) for _ in range(draw.randint(4, 40))]
        tags = ["B-POS" if t in GOOD else "B-NEG" if t in BAD else "O" for t in tokens]
        rows.append({"tokens": tokens, "tags": tags})
    return rows


def test_entities_are_learned_and_scored_again_over_windows(tmp_path: Path) -> None:
    rows = {"train": tagged_rows(60, 0), "validation": tagged_rows(20, 1), "test": tagged_rows(20, 2)}
    home = write_rows(tmp_path / "home", rows)
    plan = task_plan("token-classification", {"tokens": "tokens", "tags": "tags"})
    work, result = train(home, plan, tmp_path / "trial")
    assert result.best is not None
    assert result.best.metrics["f1"] > 0.8 > baseline(home, plan) == 0.0
    again = evaluate_checkpoint(str(result.checkpoint), "validation", plan, work.training, home, work.cache)
    assert again.metrics == result.best.metrics
    # One prediction an example, though most texts are longer than max_length.
    assert len(again.predictions) == len(again.references) == 20
    assert len(work._materials.tokens.validation) > 30


def test_an_exported_tagger_is_one_of_transformers_own(tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification

    rows = {split: tagged_rows(16, seed) for seed, split in enumerate(("train", "validation", "test"))}
    home = write_rows(tmp_path / "home", rows)
    plan = task_plan("token-classification", {"tokens": "tokens", "tags": "tags"})
    _, result = train(home, plan, tmp_path / "trial", epochs=1)
    model = AutoModelForTokenClassification.from_pretrained(export_checkpoint(str(result.checkpoint), tmp_path / "out"))
    assert model.config.id2label == {0: "O", 1: "B-NEG", 2: "I-NEG", 3: "B-POS", 4: "I-POS"}


def test_a_batch_without_any_tagged_word_changes_nothing_and_divides_by_nothing(tmp_path: Path) -> None:
    # U+200B has no piece in this vocabulary, so that three texts of four have no word to learn.
    empty = {"tokens": ["\u200b"], "tags": ["O"]}
    rows = {"train": [*[empty] * 33, {"tokens": ["good"], "tags": ["B-POS"]}], "validation": [empty], "test": [empty]}
    home = write_rows(tmp_path / "home", rows)
    plan = task_plan("token-classification", {"tokens": "tokens", "tags": "tags"})
    _, result = train(home, plan, tmp_path / "trial", epochs=1)
    assert result.history[-1].metrics == pytest.approx({"precision": 0.0, "recall": 0.0, "f1": 0.0})
