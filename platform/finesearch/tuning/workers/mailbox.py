"""Mailbox between one Tune trial actor and the workers of its group: jobs, verdicts, heartbeats, retries.

One job at a time. Everything carries a generation (the job's sequence number in this mailbox), so that a stopped trial
stops at once and none of its messages counts for the next one. Assignments are counted: a trial that kills its worker
every time fails alone, after ``MAX_TRIES`` tries without a new evaluation, and the group continues. The mailbox
measures time itself, so that clocks of different machines are never compared.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from finesearch.errors import StorageError
from finesearch.storage.open_store import open_store
from finesearch.training.trial_types import StepProgress
from finesearch.tuning.messages import EvaluationReport, HandOut, Job, MailboxClosed, TrialEnd, TrialEvent, TrialFailed

MAX_TRIES = 3
POLL_S = 5.0  # how long a call may block; the caller repeats it at once


class Mailbox:
    """An asyncio object; Ray runs it as an actor, tests use it directly."""

    def __init__(self) -> None:
        self._generation = 0
        self._job: Job | None = None
        self._handed_out = 0
        self._holder: str | None = None  # incarnation of the group that works on the job
        self._attempt = 0
        self._events: deque[TrialEvent] = deque()
        self._sent: set[int] = set()
        self._verdicts: dict[int, bool] = {}
        self._finished = True
        self._closed = False
        self._condemned: set[str] = set()
        self._last_sign = time.monotonic()
        self._working = False
        self._progress: StepProgress | None = None
        self._changed = asyncio.Condition()

    # -- the trial actor's side --------------------------------------------------------------------------------------

    async def post(self, job: Job) -> int:
        """Post a job, replacing the current one; returns its generation."""
        async with self._changed:
            self._generation += 1
            self._job, self._handed_out, self._finished = job, 0, False
            self._holder, self._working = None, False
            self._events.clear()
            self._sent = set()
            self._verdicts = {}
            self._progress = None
            self._last_sign = time.monotonic()
            self._changed.notify_all()
            return self._generation

    async def begin(self, job: Job, timeout_s: float = POLL_S) -> tuple[int, TrialEvent | None]:
        """:meth:`post`, then :meth:`next_event`, in one call."""
        generation = await self.post(job)
        return generation, await self.next_event(generation, timeout_s)

    async def next_event(
        self, generation: int, timeout_s: float = POLL_S, allowed: int | None = None
    ) -> TrialEvent | None:
        """The next event of a generation; None when none came in time.

        allowed: the step of an evaluation after which the trial continues.
        """
        if allowed is not None:
            await self.answer(generation, allowed, True)
        async with self._changed:
            await self._wait(lambda: bool(self._events) or generation != self._generation, timeout_s)
            if generation != self._generation or not self._events:
                return None
            return self._events.popleft()

    async def answer(self, generation: int, step: int, go_on: bool) -> None:
        """Deliver the verdict on one evaluation."""
        async with self._changed:
            if generation == self._generation:
                self._verdicts[step] = go_on
                self._changed.notify_all()

    async def seconds_since_heartbeat(self) -> float:
        """Seconds since the last heartbeat of the job; 0 while no worker has it or it waits for a verdict."""
        return time.monotonic() - self._last_sign if self._working else 0.0

    async def condemn(self) -> str | None:
        """Order the group that holds the job to end; returns its incarnation."""
        async with self._changed:
            if self._holder is not None:
                self._condemned.add(self._holder)
                self._working = False
            return self._holder

    async def close(self) -> None:
        """No more jobs: the workers return; a trial that waits for a verdict is stopped."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    # -- the workers' side -------------------------------------------------------------------------------------------

    async def take(
        self, incarnation: str, rank: int, served: int, timeout_s: float = POLL_S
    ) -> HandOut | MailboxClosed | None:
        """The next job after generation ``served`` for one rank; None to call again.

        Rank 0 begins an assignment; the other ranks of the same incarnation get the same job.
        """
        async with self._changed:
            await self._wait(lambda: self._closed or self._is_open_to(incarnation, rank, served), timeout_s)
            if self._closed:
                return MailboxClosed()
            if not self._is_open_to(incarnation, rank, served):
                return None
            assert self._job is not None
            if rank == 0:
                if self._handed_out >= MAX_TRIES:
                    reason = (
                        f"its worker died {MAX_TRIES} times in a row without a new evaluation (killed, out of memory, "
                        "a crash in native code or a hang); see the worker logs"
                    )
                    self._end(TrialFailed(reason=reason))
                    return None
                self._handed_out += 1
                try:
                    attempts = open_store(self._job.directory).child("attempts")
                    # In a thread, so that the mailbox keeps answering meanwhile.
                    self._attempt = await asyncio.to_thread(attempts.claim_number)
                except StorageError as error:
                    self._end(TrialFailed(reason=error.message, error="StorageError", is_fatal=True))
                    return None
                except OSError as error:
                    reason = f"{self._job.directory}: cannot be written: {error}"
                    self._end(TrialFailed(reason=reason, error="StorageError", is_fatal=True))
                    return None
                self._holder, self._working, self._last_sign = incarnation, True, time.monotonic()
                self._changed.notify_all()
            return HandOut(self._generation, self._job.model_copy(update={"attempt": self._attempt}))

    def _is_open_to(self, incarnation: str, rank: int, served: int) -> bool:
        if self._finished or self._generation <= served or incarnation in self._condemned:
            return False
        return rank == 0 or self._holder == incarnation

    async def report(self, generation: int, report: EvaluationReport, timeout_s: float = POLL_S) -> bool | None:
        """Deliver one evaluation and wait for its verdict; None to call again. Duplicates are passed on once."""
        async with self._changed:
            if generation != self._generation or self._finished or self._closed:
                return False
            assert self._job is not None
            self._last_sign, step = time.monotonic(), report.step
            if step <= self._job.decided:
                return True  # journaled already; a resumed trial reports its history again
            if step not in self._sent:
                self._sent.add(step)
                self._handed_out = 0  # new progress: the trial did not kill its workers
                self._events.append(report)
                self._changed.notify_all()
            self._working = False
            await self._wait(
                lambda: step in self._verdicts or generation != self._generation or self._closed, timeout_s
            )
            if generation != self._generation or (self._closed and step not in self._verdicts):
                return False
            verdict = self._verdicts.get(step)
            if verdict is not None:
                self._working, self._last_sign = True, time.monotonic()
            return verdict

    async def finish(self, generation: int, end: TrialEnd) -> None:
        """End the job."""
        async with self._changed:
            if generation == self._generation and not self._finished:
                self._end(end)

    async def requeue(self, generation: int, incarnation: str) -> None:
        """Assign the job again: its group was preempted after it saved the job's state. This attempt does not count as
        a try. Every rank may call it."""
        async with self._changed:
            if generation == self._generation and self._holder == incarnation and not self._finished:
                self._handed_out = max(0, self._handed_out - 1)
                self._holder, self._working = None, False

    async def beat(self, generation: int, progress: StepProgress | None = None) -> None:
        """Heartbeat of a worker, with how far its trial has come."""
        if generation == self._generation:
            self._last_sign = time.monotonic()
            self._progress = progress or self._progress

    async def live(self) -> tuple[str, int, StepProgress] | None:
        """Study, number and progress of the trial that trains; None where none does."""
        if self._finished or self._job is None or self._progress is None:
            return None
        return self._job.study, self._job.number, self._progress

    async def is_condemned(self, incarnation: str) -> bool:
        """Whether this incarnation of the group must end at once."""
        return incarnation in self._condemned

    def _end(self, end: TrialEnd) -> None:
        self._finished, self._working = True, False
        self._events.append(end)
        self._changed.notify_all()

    async def _wait(self, ready: Any, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait_for(ready), timeout_s)
        except TimeoutError:
            return
