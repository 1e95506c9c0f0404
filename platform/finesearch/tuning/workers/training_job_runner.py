"""Runs a worker's jobs with the training package."""

from __future__ import annotations

from collections.abc import Callable

from finesearch.plan import TaskPlan, TrainingPlan
from finesearch.storage.local_dirs import on_this_node
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.trial_types import Evaluation, TrialResult, TrialSpec
from finesearch.tuning.cluster.shared_storage_check import check_attempt_is_seen
from finesearch.tuning.workers.node_precision import MeasuredNodes
from finesearch.tuning.workers.worker_loop import Beat


class TrainingJobRunner:
    """Runs trials on a ``TrialRunner`` (``training/loop/trial_runner.py``), made lazily in the worker that uses it."""

    def __init__(
        self,
        task: TaskPlan,
        training: TrainingPlan,
        base: str,
        cache: str,
        metric: str,
        goal: str,
        *,
        cache_depths: tuple[int, ...] = (),
        measured: MeasuredNodes | None = None,
        probe_layers: tuple[int | None, ...] = (),
    ) -> None:
        """measured: the nodes that chose the precision, where that is to be said of others."""
        self._runner = TrialRunner(
            task,
            training,
            base,
            str(on_this_node(cache)),
            metric,
            goal,
            cache_depths=cache_depths,
            probe_layers=probe_layers,
        )
        self._measured = measured
        self._late_notes: tuple[str, ...] | None = None

    def run(
        self,
        spec: TrialSpec,
        report: Callable[[Evaluation], bool],
        beat: Beat,
        is_preempted: Callable[[], bool] | None = None,
    ) -> TrialResult:
        check_attempt_is_seen(spec.directory, spec.attempt)
        # The last evaluation goes with the result; nothing waits for an answer to it.
        result = self._runner.run(spec, report, beat, is_preempted, report_last=lambda _: True, on_step=beat)
        if self._late_notes is None:
            note = None if self._measured is None else self._measured.late_node_note()
            self._late_notes = () if note is None else (note,)
        return result.model_copy(update={"notes": (*result.notes, *self._late_notes)})
