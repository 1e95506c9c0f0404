"""Asynchronous checkpointing: writes an evaluation's checkpoints, then reports it, while training continues.

    every rank's thread    writes its part of each checkpoint
    all ranks              agree that all parts are written (``poll``, ``wait``: on the training threads)
    rank 0's thread        completes the folders one by one, deletes old ones, reports, and waits for the decision
    all ranks              learn the decision (``poll``, ``wait``)

The threads do not communicate with other processes, so they cannot interfere with the collectives of training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from finesearch.training.checkpointing.checkpoint_writer import CheckpointWriter, Snapshot
from finesearch.training.runtime.background import has_ended, in_background
from finesearch.training.runtime.counters import CHECKPOINT_SECONDS, CHECKPOINTS, COUNTERS


class AsyncSave:
    """One evaluation being saved; every rank makes one, and calls ``poll`` and ``wait`` together with the others.

    snapshots: written in this order; may be empty. report: called on rank 0 once they are durable; False stops the
    trial.

    Raises:
        DiskFullError, TrialError: a folder cannot be made; on every rank.
    """

    def __init__(self, writer: CheckpointWriter, snapshots: Sequence[Snapshot], report: Callable[[], bool]) -> None:
        self._writer, self._snapshots, self._report = writer, snapshots, report
        for snapshot in snapshots:
            writer.begin(snapshot)
        self._parts = in_background(self._write_parts)
        self._end: Future[bool] | None = None
        self._parts_are_there = False

    def poll(self) -> bool | None:
        """The caller's decision (False: stop), or None while it is pending.

        Raises:
            DiskFullError, TrialError: a checkpoint could not be written; the same on every rank.
        """
        processes = self._writer.processes
        if not self._parts_are_there:
            if not all(processes.all_gather(self._parts.done())):
                return None
            problem = self._parts.exception()
            if problem is not None and not isinstance(problem, Exception):
                raise problem
            processes.raise_on_all_ranks(problem)
            self._parts_are_there = True
            if processes.is_rank_zero:
                self._end = in_background(self._complete_and_report)
        if not processes.run_on_rank_zero(lambda: self._end.done()):  # type: ignore[union-attr]
            return None
        return processes.run_on_rank_zero(lambda: self._end.result())  # type: ignore[union-attr]

    def wait(self) -> bool:
        """Wait for the caller's decision (False: stop).

        Raises:
            DiskFullError, TrialError: see ``poll``.
        """
        decision = None
        while decision is None:
            has_ended(self._own)
            decision = self.poll()
        return decision

    def wait_for_own_thread(self) -> None:
        """Wait for this process's thread only."""
        self._own.exception()

    @property
    def _own(self) -> Future[None] | Future[bool]:
        return self._parts if self._end is None else self._end

    def _write_parts(self) -> None:
        began = time.perf_counter()
        for snapshot in self._snapshots:
            self._writer.write_part(snapshot)
        if self._writer.processes.is_rank_zero:
            COUNTERS.add(CHECKPOINT_SECONDS, time.perf_counter() - began)

    def _complete_and_report(self) -> bool:
        began = time.perf_counter()
        for snapshot in self._snapshots:
            self._writer.complete(snapshot)
        COUNTERS.add(CHECKPOINT_SECONDS, time.perf_counter() - began)
        COUNTERS.add(CHECKPOINTS, len(self._snapshots))
        return self._report()
