"""Plans that other tests search with, and rows that a tiny model can learn."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finesearch.plan import Plan, parse_plan

GOOD = ("good", "great", "fine", "superb", "lovely", "bright")
BAD = ("bad", "awful", "poor", "grim", "dull", "sad")
FILLER = ("the", "film", "was", "and", "a", "plot", "very", "of", "it", "story")


def write_sentiment(folder: Path, rows: int = 120, seed: int = 0) -> dict[str, str]:
    """Three CSV files of short sentences with a word that tells the label."""
    generator = random.Random(seed)
    files = {}
    for split, count in (("train", rows), ("validation", rows // 3), ("test", rows // 3)):
        path = folder / f"{split}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["sentence", "label"])
            for number in range(count):
                label = "positive" if number % 2 else "negative"
                words = generator.choices(FILLER, k=generator.randint(3, 9))
                words.insert(generator.randrange(len(words)), generator.choice(GOOD if number % 2 else BAD))
                writer.writerow([" ".join([*words, str(number), split]), label])
        files[split] = str(path)
    return files


def write_json_lines(folder: Path, name: str, make: Callable[[random.Random], dict[str, Any]], rows: int = 60) -> str:
    """Files ``NAME-train.jsonl`` and so on, of rows that ``make`` draws; what a plan says under ``task.data``."""
    for seed, (split, count) in enumerate((("train", rows), ("validation", rows // 3), ("test", rows // 3))):
        generator = random.Random(seed)
        lines = [json.dumps(make(generator)) for _ in range(count)]
        (folder / f"{name}-{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "{" + ", ".join(f"{split}: {name}-{split}.jsonl" for split in ("train", "validation", "test")) + "}"


def tagged_row(generator: random.Random) -> dict[str, Any]:
    """Tokens whose words of praise and blame are entities."""
    tokens = generator.choices([*FILLER, *GOOD, *BAD], k=generator.randint(4, 40))
    return {"tokens": tokens, "tags": ["B-POS" if t in GOOD else "B-NEG" if t in BAD else "O" for t in tokens]}


def related_row(generator: random.Random) -> dict[str, Any]:
    """Tokens with two entities, whose relation is whether their words agree."""
    tokens = generator.choices(FILLER, k=8)
    head, tail = generator.choice(GOOD + BAD), generator.choice(GOOD + BAD)
    tokens[1], tokens[6] = head, tail
    relation = "Other" if (head in GOOD) != (tail in GOOD) else "both good" if head in GOOD else "both bad"
    return {"tokens": tokens, "head": [1, 2], "tail": [6, 7], "relation": relation}


TINY = """
name: tiny
task:
  kind: text-classification
  model: model
  data: {{train: train.csv, validation: validation.csv, test: test.csv}}
  columns: {{text: sentence, label: label}}
  max_length: 32
space:
  learning_rate: {{min: 1e-4, max: 1e-2, log: true}}
  weight_decay: {{min: 0.0, max: 0.1}}
  early_stopping_patience: null
  adaptation: {{one_of: {{full: {{}}, freeze_bottom: {{layers: {{min: 1, max: 2}}}}, head_only: {{}}}}}}
training: {{epochs: 2, batch_size: 16}}
search: {{sampler: tpe, startup_trials: 3, pruner: {pruner}, concurrent_trials: 1}}
budget: {{trials: {trials}}}
report: {{top: 2, baselines: {baselines}}}
"""


def tiny_plan(trials: int = 4, pruner: str = "none", baselines: str = "[majority, ordinary]") -> str:
    """A plan file for the files of :func:`write_sentiment` and the folder ``model``, all beside it."""
    return TINY.format(trials=trials, pruner=pruner, baselines=baselines)


def empty_plan(name: str = "empty", **sections: object) -> Plan:
    """A plan whose data and model are never read: for trials that do nothing."""
    text = f"""
name: {name}
task: {{kind: text-classification, model: nowhere, data: {{train: a.csv}}, columns: {{text: a, label: b}}}}
"""
    branches = "{one_of: {full: {}, freeze_bottom: {layers: {min: 1, max: 5}}}}"
    defaults = {
        "space": "{learning_rate: {min: 1.0e-6, max: 1.0e-2, log: true}, weight_decay: {min: 0.0, max: 0.3}, "
        f"adaptation: {branches}}}",
        "search": "{pruner: successive_halving, concurrent_trials: 1, startup_trials: 4}",
        "report": "{baselines: []}",
        "budget": "{trials: 8}",
    }
    for key, value in {**defaults, **sections}.items():
        text += f"{key}: {value}\n"
    return parse_plan(text)
