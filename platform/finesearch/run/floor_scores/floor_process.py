"""Starts the process that scores floors beside the trials, waits for it, and says why a floor has no score."""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import finesearch
from finesearch.floors import FloorData
from finesearch.plan import Plan
from finesearch.run.floor_scores.score_floors import FloorRequest, failed_floor
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


class FloorProcess:
    """Scores the floors of a plan whose scores are not in the cache yet.

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
                cache.put(failed_floor(name, self._reason(is_late), allowed_s), keep_error=True)

    def close(self) -> None:
        """End the process, whatever it has scored."""
        self._stopped.set()
        if self._process is not None:
            self._process.kill()
        if self._thread.ident:
            self._thread.join()

    def _reason(self, is_late: bool) -> str:
        if self._problem and not is_late:
            return f"it could not be computed: {self._problem}"
        if self._limit_s is None:
            return "it was cut off: it had not ended a tenth of the search's time after the last trial"
        return f"it was cut off: floors may take a tenth of budget.hours, here {self._limit_s:.0f} s"

    def _run_in_thread(self) -> None:
        try:
            self._run()
        except Exception as error:  # the end of a thread: the rows say it
            self._problem = f"{type(error).__name__}: {error}"

    def _run(self) -> None:
        request = pickle.dumps(self._request())
        package = str(Path(finesearch.__file__).parents[1])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        # -P: the current directory may hold modules with the names of others.
        command = [sys.executable, "-P", "-m", "finesearch.run.floor_scores.score_floors"]
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with tempfile.TemporaryFile() as errors:
            if self._stopped.is_set():
                return
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=environment
            )
            if self._stopped.is_set():
                self._process.kill()
            self._process.communicate(request)
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
        if self._process.returncode not in (0, -signal.SIGXCPU):
            self._problem = said[-1] if said else f"its process ended with {self._process.returncode}"

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
        )


def sample_of_train(splits: RawSplits, seed: int) -> RawSplits:
    """The splits with at most ``MOST_TRAIN_ROWS`` rows of train, fewer where these are long; the same for a seed."""
    rows = len(splits.train)
    size = max(1, splits.table("train").nbytes)
    most = min(rows, MOST_TRAIN_ROWS, rows * MOST_TRAIN_BYTES // size)
    if most >= rows:
        return splits
    chosen = np.sort(np.random.default_rng(seed).choice(rows, size=max(1, most), replace=False))
    return dataclasses.replace(splits, train=splits.train.select(chosen))
