"""The loop of a warm worker: takes trials from the mailbox, runs them, sends heartbeats, catches exceptions.

``serve`` catches an exception of the worker, such as out of memory, and ends the trial as failed; after a preemption or
a lost rank, another group retries the trial. Base weights, tokens, kernels and the process group stay loaded between
trials. After a failure that all ranks agree on (a loss that became NaN), the worker takes the next trial; any other
exception ends the group on every rank, and Ray Train starts a new one: an exception on one rank alone would leave the
others waiting in a collective, and would pair their next one with the wrong trial.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import psutil
import ray

from finesearch.errors import CheckpointError, InputError, StorageError, TrialError
from finesearch.redaction import redact
from finesearch.training.trial_types import Evaluation, Preempted, StepProgress, TrialResult, TrialSpec
from finesearch.tuning.messages import EvaluationReport, HandOut, MailboxClosed, TrialCompleted, TrialEnd, TrialFailed
from finesearch.tuning.observability.log_prefix import log_label, set_log_prefix
from finesearch.tuning.observability.worker_metrics import start_reporting
from finesearch.tuning.workers.failure_reason import failure_reason
from finesearch.tuning.workers.lost_rank import is_lost_peer
from finesearch.tuning.workers.preemption_notice import notice

log = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0
BEAT_EVERY_S = 1.0
GROWTH_ALLOWED = 1 << 30  # bytes that a worker may grow by after its second trial before it is replaced


class Beat(Protocol):
    """A heartbeat; see ``JobRunner.run``."""

    def __call__(self, progress: StepProgress | None = None) -> None: ...


class JobRunner(Protocol):
    """Runs one trial after another; made once in each worker."""

    def run(
        self,
        spec: TrialSpec,
        report: Callable[[Evaluation], bool],
        beat: Beat,
        is_preempted: Callable[[], bool] | None,
    ) -> TrialResult:
        """Run a trial.

        Args:
            spec: what to train.
            report: called on rank 0 with every evaluation but the trial's last, which is judged with the end; False
                stops the trial. It may be called from any thread.
            beat: sends a heartbeat, with how far the trial is.
            is_preempted: called by all ranks together, seconds apart; True when machines are about to be taken away:
                the trial then saves its state and raises ``Preempted``. None: preemption is not watched.

        Returns:
            The result; rank 0's reaches the driver. Of its ``history`` only the last evaluation is sent, which was not
            reported unless the trial was ``stopped``.
        """
        ...


@dataclass(frozen=True)
class WorkerLoopConfig:
    """A worker's mailbox, the factory of its runner, and whether each trial gets new processes.

    run: name of the search.
    """

    mailbox: Any
    make_runner: Callable[[], JobRunner]
    fresh: bool
    group: str
    run: str


class RecycleGroup(Exception):  # noqa: N818 - not an error: it asks Ray Train for new processes
    """Raised to have Ray Train replace the workers of this group."""


def serve(config: dict[str, WorkerLoopConfig]) -> None:
    """Run trials until the mailbox closes; Ray Train calls this in each worker.

    Raises:
        RecycleGroup: the group was preempted, or its workers have grown or must be new.
        BaseException: the trial's, unless all ranks agree on it; reported as the trial's end, unless a rank is lost.
    """
    loop_config = config["loop_config"]
    rank, incarnation = _rank(), _agree_on_incarnation()
    threading.Thread(target=_watch, args=(loop_config.mailbox, incarnation), daemon=True, name="watch").start()
    metrics = start_reporting(loop_config.run)
    log.info("finesearch run %s, %s, rank %d", loop_config.run, loop_config.group, rank)
    runner: JobRunner | None = None
    is_preempted = notice()
    memory_base, trials, served = 0, 0, 0
    while True:
        taken: HandOut | MailboxClosed | None = ray.get(loop_config.mailbox.take.remote(incarnation, rank, served))
        if taken is None:
            continue
        if isinstance(taken, MailboxClosed):
            return
        served, job = taken.generation, taken.job
        set_log_prefix(log_label(job.study, job.number))
        log.info("attempt %d", job.attempt)
        session = _TrialSession(loop_config, served, rank)
        try:
            if is_preempted is not None and is_preempted():
                raise Preempted(f"{loop_config.group}: taken away before the trial began")
            runner = runner or loop_config.make_runner()
            result = runner.run(job, session.report, session.beat, is_preempted)
        except Preempted as preempted:
            ray.get(loop_config.mailbox.requeue.remote(served, incarnation))
            raise RecycleGroup(f"{loop_config.group}: its trial goes on elsewhere") from preempted
        except (TrialError, CheckpointError) as error:
            # Agreed on by all ranks, so the process group is in step and the worker stays.
            session.fail(redact(error.message), error, is_fatal=False)
        except BaseException as error:
            if is_lost_peer(error):
                raise  # no fault of the trial's, which the group that takes this one's place is handed again
            session.fail(failure_reason(error), error, is_fatal=isinstance(error, (InputError, StorageError)))
            raise
        else:
            session.complete(result)
        metrics.report()  # a worker may be ended before the next time
        trials += 1
        memory = psutil.Process().memory_info().rss
        if trials <= 2:
            memory_base = memory
        if loop_config.fresh or memory - memory_base > GROWTH_ALLOWED:
            raise RecycleGroup(f"{loop_config.group}: new processes after {trials} trials")


class _TrialSession:
    """Reports of one trial to the mailbox."""

    def __init__(self, loop_config: WorkerLoopConfig, generation: int, rank: int) -> None:
        self._mailbox, self._group, self._rank = loop_config.mailbox, loop_config.group, rank
        self._generation = generation
        self._began, self._last_beat = time.time(), 0.0
        self._progress: StepProgress | None = None

    def report(self, evaluation: Evaluation) -> bool:
        report = self._signed(evaluation)
        while True:
            go_on: bool | None = ray.get(self._mailbox.report.remote(self._generation, report))
            if go_on is not None:
                return go_on

    def beat(self, progress: StepProgress | None = None) -> None:
        now = time.monotonic()
        self._progress = progress or self._progress
        if now - self._last_beat >= BEAT_EVERY_S:
            self._last_beat = now
            self._mailbox.beat.remote(self._generation, self._progress if self._rank == 0 else None)

    def complete(self, result: TrialResult) -> None:
        if self._rank != 0:
            return
        last = None if result.stopped else self._signed(result.history[-1])
        log.info("complete")
        result = result.model_copy(update={"history": ()})
        self._finish(TrialCompleted(result=result, last=last, group=self._group, began=self._began))

    def fail(self, reason: str, error: BaseException, is_fatal: bool) -> None:
        """End the trial as failed; any rank may call it."""
        log.info("%s: %s", "fatal" if is_fatal else "failed", reason, exc_info=error)
        kind = type(error).__name__
        self._finish(TrialFailed(reason=reason, error=kind, is_fatal=is_fatal, group=self._group, began=self._began))

    def _finish(self, end: TrialEnd) -> None:
        ray.get(self._mailbox.finish.remote(self._generation, end))

    def _signed(self, evaluation: Evaluation) -> EvaluationReport:
        log.info("evaluation %d: %s", evaluation.step, evaluation.metrics)
        return EvaluationReport(**dict(evaluation), group=self._group, began=self._began)


def _watch(mailbox: Any, incarnation: str) -> None:
    """End this process when its group is condemned or its mailbox is gone, even if the training thread hangs."""
    while True:
        time.sleep(WATCH_EVERY_S)
        try:
            condemned = ray.get(mailbox.is_condemned.remote(incarnation), timeout=60)
        except ray.exceptions.RayError:
            os._exit(1)  # the trial actor that owns the mailbox is dead, or the cluster is
        if condemned:
            os._exit(1)


def _rank() -> int:
    from ray.train import get_context

    return int(get_context().get_world_rank())


def _agree_on_incarnation() -> str:
    """A name for this set of processes, the same on all ranks."""
    import torch.distributed as dist

    name = [uuid.uuid4().hex]
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.broadcast_object_list(name, src=0)
    return str(name[0])
