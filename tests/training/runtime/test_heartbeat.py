"""What only takes long gives signs of life; what has stopped does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finesearch.training.runtime import heartbeat as module
from finesearch.training.runtime.distributed import Processes
from finesearch.training.runtime.heartbeat import heartbeat
from finesearch.training.steps.evaluate import evaluate
from training_cases import make_runner, recipe

HEARTBEAT_INTERVAL_S = 0.3


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_INTERVAL_S", HEARTBEAT_INTERVAL_S)


class Beats(list[float]):
    def __call__(self) -> None:
        self.append(time.monotonic())


def test_a_long_block_beats_and_a_short_one_does_not() -> None:
    beats = Beats()
    with heartbeat(beats):
        pass
    assert not beats
    with heartbeat(beats):
        time.sleep(2.5 * HEARTBEAT_INTERVAL_S)
    told = len(beats)
    assert 1 <= told <= 2  # a busy machine wakes threads late
    time.sleep(2.5 * HEARTBEAT_INTERVAL_S)
    assert len(beats) == told, "nothing beats once the block is over"


def test_a_block_that_takes_all_too_long_counts_as_hanging() -> None:
    beats = Beats()
    with heartbeat(beats, max_duration_s=2.5 * HEARTBEAT_INTERVAL_S):
        time.sleep(6.5 * HEARTBEAT_INTERVAL_S)
    assert 1 <= len(beats) <= 2


def test_an_error_ends_the_beats_and_gets_through() -> None:
    beats = Beats()
    with pytest.raises(OSError, match="disk"), heartbeat(beats):
        raise OSError("disk")
    time.sleep(1.5 * HEARTBEAT_INTERVAL_S)
    assert not beats


class CountedRows:
    """A split's rows again and again; counts how often some are read."""

    def __init__(self, tokens: Any, times: int) -> None:
        self._tokens, self._count = tokens, len(tokens)
        self.lengths = np.tile(tokens.lengths, times)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, indices: Iterable[int] | None = None) -> Any:
        if indices is None:
            return [self._tokens.rows([row % self._count])[0] for row in range(len(self))]
        self.reads += 1
        return self._tokens.rows([int(row) % self._count for row in indices])


def test_an_evaluation_beats_after_each_batch(home: Path) -> None:
    context = make_runner(home)._context
    model, _ = context.base.build(recipe(), seed=0)
    rows, beats = CountedRows(context.tokens.validation, 20), Beats()
    evaluate(model, context.task, context.base, rows, Processes(0, 1, torch.device("cpu")), beat=beats)
    assert rows.reads > 5
    assert len(beats) == rows.reads


def test_a_fresh_process_beats_while_it_reads_what_it_needs(home: Path, tmp_path: Path) -> None:
    program = f"""
import threading
from pathlib import Path
from training_cases import make_runner, trial
threads = []
beat = lambda: threads.append(threading.current_thread().name)
make_runner(Path({str(home)!r})).run(trial(Path({str(tmp_path)!r})), lambda _: False, beat)
print(threads.index("MainThread"))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > 0, "beats before the first optimizer step"
