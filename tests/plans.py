"""Plans that other tests search with, and rows that a tiny model can learn."""

from __future__ import annotations

import csv
import random
from pathlib import Path

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
