"""Checkpoint policy: which evaluations of a running trial are written to disk, to be ranked or to be resumed from.

Two things are checkpointed, and neither at every evaluation:

weights       of the best evaluation, if it reaches the ``bar``: what the metric must reach for the trial to be ranked
              at all. Of a trial that may be stopped they are written before the evaluation is reported, since a
              stopped trial is ranked too. Of others they are held in memory and written when the trial is over, or
              with the next resumable checkpoint.
resume state  when training since the last one took ``pays`` times as long as writing (at least ``MIN_WRITE_S``). A
              killed trial loses at most that, plus the time until its next evaluation was written.

Every rank has a policy and calls it together with the others; rank 0 decides by its clock and its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from finesearch.training.checkpointing import checkpoint_layout
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.checkpointing.checkpoint_writer import CheckpointWriter, Snapshot
from finesearch.training.metric_history import RankingMetric
from finesearch.training.trial_types import Evaluation

if TYPE_CHECKING:
    from torch import Tensor

BYTES_PER_WEIGHT, BYTES_PER_WEIGHT_WITH_MOMENTS = 4, 12
"""Bytes of an fp32 weight; and with two moments."""

ASSUMED_BYTES_PER_S = 100e6
"""Assumed write speed of checkpoints, until it is measured."""

MIN_WRITE_S = 0.25
"""Minimum assumed write time, so that training of a few seconds is not interrupted for small files."""

FREE_MEMORY_DIVISOR = 8
"""A snapshot is held in memory during training if it takes at most this fraction (1 in 8) of the free memory."""


@dataclass(frozen=True)
class SaveDecision:
    """What is written after an evaluation, in this order; ``at_once``: before training continues."""

    snapshots: tuple[Snapshot, ...] = ()
    at_once: bool = False

    @property
    def resumes(self) -> bool:
        return any(snapshot.resume is not None for snapshot in self.snapshots)


@dataclass(eq=False)
class CheckpointPolicy:
    """trained: number of trained parameters. may_be_stopped: see ``TrialSpec``. kept: checkpoints by evaluation number,
    those of earlier attempts included. resume_write_s: how long the last resumable checkpoint took to write on rank 0,
    if there is one."""

    writer: CheckpointWriter
    ranking_metric: RankingMetric
    bar: float | None
    pays: float
    trained: int
    may_be_stopped: bool = False
    kept: dict[int, Path] = field(default_factory=dict, init=False)
    resume_write_s: float | None = field(default=None, init=False)
    _held: Snapshot | None = field(default=None, init=False)
    _paused: Path | None = field(default=None, init=False)
    _resumable: set[int] = field(default_factory=set, init=False)
    _resumable_at_s: float = field(default=0.0, init=False)

    def resume_from(self, evaluation: Evaluation, kept: Mapping[int, Path]) -> None:
        """Resume from the checkpoint of ``evaluation``; ``kept`` are the intact ones."""
        self.kept = dict(kept)
        self._resumable, self._resumable_at_s = {evaluation.step}, evaluation.seconds

    def resume_from_preemption(
        self, folder: Path, seconds: float, resumable: int | None, kept: Mapping[int, Path]
    ) -> None:
        """Resume from a preemption state after ``seconds`` of training; it is kept until there is a newer state.
        ``resumable`` is the newest evaluation before it that can be resumed from as well."""
        self.kept = dict(kept)
        self._paused, self._resumable_at_s = folder, seconds
        self._resumable = set() if resumable is None else {resumable}

    def take_held_snapshot(self) -> Snapshot | None:
        """The weights of the best evaluation if they are still in memory; they count as written from here on."""
        held, self._held = self._held, None
        if held is not None:
            self.kept[held.step] = self.writer.path(held.step)
        return held

    def best(self, history: tuple[Evaluation, ...]) -> Evaluation | None:
        """The best evaluation whose weights are saved, or which cannot be ranked with or without them."""
        there = {*self.kept, self._held.step if self._held else 0}
        return self.ranking_metric.best(
            tuple(each for each in history if each.step in there or not self._reaches_bar(each))
        )

    def decide(
        self,
        history: tuple[Evaluation, ...],
        is_over: bool,
        record: Callable[[], CheckpointRecord],
        raw: Mapping[str, Tensor] | None,
    ) -> SaveDecision:
        """What to write after the newest evaluation, whose weights are in the model.

        raw: the weights that training continues from, if they are not those in the model.
        """
        newest, best = history[-1], self.best(history)
        is_wanted = self._reaches_bar(newest) and (best is None or self.ranking_metric.best((best, newest)) is newest)
        resumes = not is_over and self.writer.processes.run_on_rank_zero(lambda: self._is_resume_write_due(newest))
        chosen: list[Snapshot] = []
        at_once = is_over
        if is_wanted:
            self._held = None
        if resumes:
            at_once = not self._fits(BYTES_PER_WEIGHT_WITH_MOMENTS)
            chosen = [self.writer.take_snapshot(record, newest.step, True, raw, copy_moments=not at_once)]
            self._resumable_at_s, self._paused = newest.seconds, None
        elif is_wanted:
            taken = self.writer.take_snapshot(record, newest.step, False)
            at_once = is_over or not self._fits(BYTES_PER_WEIGHT)
            if at_once or self.may_be_stopped:
                chosen = [taken]
            else:
                self._held = taken
        if self._held is not None and (resumes or is_over):
            chosen.insert(0, self._held)
            self._held = None
        for snapshot in chosen:
            self.kept[snapshot.step] = self.writer.path(snapshot.step)
            if snapshot.resume is not None:
                self._resumable.add(snapshot.step)
        return SaveDecision(tuple(chosen), at_once)

    def folders_to_keep(self, history: tuple[Evaluation, ...]) -> set[Path]:
        """The folders to keep: the best, the newest resumable one, and an earlier one if these two are the same, so
        that damage to the newest does not lose the trial; and those of later evaluations, which an earlier attempt
        left: a stopped trial may be ranked by one of them until this attempt has come as far."""
        best, newest = self.best(history), max(self._resumable, default=0)
        steps = {newest, best.step if best else newest}
        if len(steps) == 1:
            steps.add(max(self._resumable - steps, default=newest))
        steps |= {step for step in self.kept if step > history[-1].step}
        self._resumable &= steps
        self.kept = {step: path for step, path in self.kept.items() if step in steps}
        return {*self.kept.values(), *([self._paused] if self._paused else [])}

    def delete_others(self, wanted: set[Path]) -> None:
        """Delete all other checkpoints of this attempt and earlier ones; on rank 0, from any thread."""
        checkpoint_layout.remove_all_but(self.writer.directory, wanted, self.writer.attempt)
        self.writer.store.remove_all_but(wanted, self.writer.attempt)

    def _reaches_bar(self, evaluation: Evaluation) -> bool:
        """Whether this would rank the trial. Equal to the bar is enough, since ties go to fewer parameters."""
        if self.bar is None:
            return True
        value = self.ranking_metric.value(evaluation)
        return value >= self.bar if self.ranking_metric.goal == "max" else value <= self.bar

    def _is_resume_write_due(self, newest: Evaluation) -> bool:
        assumed = self.trained * BYTES_PER_WEIGHT_WITH_MOMENTS / ASSUMED_BYTES_PER_S
        takes = assumed if self.resume_write_s is None else self.resume_write_s
        return newest.seconds - self._resumable_at_s >= self.pays * max(takes, MIN_WRITE_S)

    def _fits(self, bytes_a_weight: int) -> bool:
        """Whether a copy of this size fits into free memory during training."""
        wanted = self.trained * bytes_a_weight * FREE_MEMORY_DIVISOR
        return self.writer.processes.run_on_rank_zero(lambda: wanted <= psutil.virtual_memory().available)
