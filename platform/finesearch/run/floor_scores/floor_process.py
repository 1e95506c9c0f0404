"""Starts the process that scores floors beside the trials, waits for it, and says why a floor has no score."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

import finesearch
from finesearch.floors import FloorData
from finesearch.plan import Plan
from finesearch.run.floor_scores.score_floors import BEGUN, FloorRequest, failed_floor
from finesearch.run.score_cache import ScoreCache

if TYPE_CHECKING:
    from finesearch.run.preflight import Preflight
    from finesearch.tasks import RawSplits

SHARE = 0.1
"""Of the budget in hours, or of the time that the search took, that floors may take."""
SHORTEST_WAIT_S = 60.0
MOST_TRAIN_ROWS = 100_000
MOST_TRAIN_BYTES = 20_000_000
"""Size of the training rows in Arrow, above which floors learn from a part of them, drawn at random: TF-IDF of so much
text takes about 1.3 GB."""


@dataclass(frozen=True)
class _Ended:
    """How a process ended. begun: floors that it began, the last of which was running. seconds: of processor time."""

    code: int
    begun: tuple[str, ...]
    said: str
    seconds: float

    @property
    def problem(self) -> str:
        if self.code < 0:
            return f"its process was ended by {signal.Signals(-self.code).name}, as where memory runs out"
        return self.said or f"its process ended with {self.code}"


class FloorProcess:
    """Scores the floors of a plan whose scores are not in the cache yet.

    Where the process ends while one floor is running, another one scores those after it.

    Args:
        preflight: of ``plan``.
        scores: the folder of ``ScoreCache``.
    """

    def __init__(self, plan: Plan, preflight: Preflight, scores: Path) -> None:
        self._plan, self._preflight, self._scores = plan, preflight, scores
        self._limit_s = None if plan.budget.hours is None else SHARE * 3600 * plan.budget.hours
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._problem = ""
        self._problems: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run_in_thread, daemon=True, name="floors")

    @property
    def missing(self) -> tuple[str, ...]:
        """Floors without a score; one that was cut off counts where it would now get more time."""
        cache, limit_s = ScoreCache(self._scores), math.inf if self._limit_s is None else self._limit_s
        names = [name for name in self._plan.floors if name not in self._preflight.unsupported_baselines]
        known = {name: cache.get(name, None, None) for name in names}
        return tuple(
            name
            for name, score in known.items()
            if score is None or (score.error is not None and score.seconds is not None and score.seconds < limit_s)
        )

    def start(self) -> None:
        """Start scoring what is missing, if anything is."""
        if self.missing:
            self._thread.start()

    def finish(self, search_s: float) -> None:
        """Wait for the scores, at most a tenth of the budget; floors that have none by then are cut off.

        search_s: seconds that the search took, which count where the budget has no hours.
        """
        if not self._thread.ident:
            return
        allowed_s = max(SHORTEST_WAIT_S, SHARE * search_s) if self._limit_s is None else self._limit_s
        self._thread.join(allowed_s)
        is_late = self._thread.is_alive()
        self.close()
        cache = ScoreCache(self._scores)
        for name in self.missing:
            score = cache.get(name, None, None)
            if score is None or score.seconds != 0.0:  # else it failed by itself, and its row says how
                cache.put(failed_floor(name, self._reason(name, is_late), allowed_s), keep_error=True)

    def close(self) -> None:
        """End the process, whatever it has scored."""
        self._stopped.set()
        if self._process is not None:
            self._process.kill()
        if self._thread.ident:
            self._thread.join()

    def _reason(self, name: str, is_late: bool) -> str:
        problem = self._problems.get(name) or ("" if is_late else self._problem)
        if problem:
            return f"it could not be computed: {problem}"
        if self._limit_s is None:
            return "it was cut off: it had not ended a tenth of the search's time after the last trial"
        return f"it was cut off: floors may take a tenth of budget.hours, here {self._limit_s:.0f} s"

    def _run_in_thread(self) -> None:
        try:
            self._run()
        except Exception as error:  # the end of a thread: the rows say it
            self._problem = f"{type(error).__name__}: {error}"

    def _run(self) -> None:
        request = self._request()
        while request.names and not self._stopped.is_set():
            ended = self._run_process(request)
            if self._stopped.is_set() or ended.code in (0, -signal.SIGXCPU):
                return
            if not ended.begun:
                self._problem = ended.problem
                return
            self._problems[ended.begun[-1]] = ended.problem
            left = None if request.limit_s is None else request.limit_s - ended.seconds
            if left is not None and left <= 0:
                return
            request = dataclasses.replace(request, names=request.names[len(ended.begun) :], limit_s=left)

    def _run_process(self, request: FloorRequest) -> _Ended:
        package = str(Path(finesearch.__file__).parents[1])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        # -P: the current directory may hold modules with the names of others.
        command = [sys.executable, "-P", "-m", "finesearch.run.floor_scores.score_floors"]
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=errors, env=environment)
            self._process = process
            if self._stopped.is_set():
                process.kill()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin:
                pickle.dump(request, process.stdin)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except ChildProcessError:  # ``close`` has ended it, and waited
                return _Ended(0, (), "", 0.0)
            process.returncode = os.waitstatus_to_exitcode(status)
            told, said = (_lines(file) for file in (output, errors))
        begun = tuple(line.removeprefix(BEGUN) for line in told if line.startswith(BEGUN))
        return _Ended(process.returncode, begun, said[-1] if said else "", usage.ru_utime + usage.ru_stime)

    def _request(self) -> FloorRequest:
        preflight = self._preflight
        splits = sample_of_train(preflight.splits, self._plan.search.seed)
        rows = {split: splits.plain_rows(split) for split in ("train", "validation", "test")}
        answers = {split: preflight.task.answers(rows[split], preflight.facts) for split in rows}
        return FloorRequest(
            self._plan.task,
            preflight.facts,
            self.missing,
            FloorData(rows["train"], rows["validation"], rows["test"], answers["train"], answers["validation"]),
            answers["test"],
            scores=self._scores,
            limit_s=self._limit_s,
            base=self._plan.base,
        )


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return file.read().decode(errors="replace").strip().splitlines()


def sample_of_train(splits: RawSplits, seed: int) -> RawSplits:
    """The splits with at most ``MOST_TRAIN_ROWS`` rows of train, fewer where these are long; the same for a seed."""
    rows = len(splits.train)
    size = max(1, splits.table("train").nbytes)
    most = min(rows, MOST_TRAIN_ROWS, rows * MOST_TRAIN_BYTES // size)
    if most >= rows:
        return splits
    chosen = np.sort(np.random.default_rng(seed).choice(rows, size=max(1, most), replace=False))
    return dataclasses.replace(splits, train=splits.train.select(chosen))
