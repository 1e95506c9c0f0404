"""Progress output while a search runs: a live table on a terminal, or plain lines in a log; never Ray's."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, TextIO

from finesearch.plan import Plan
from finesearch.redaction import redact
from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.controller.trial_queue import BASELINES, SEARCH
from finesearch.tuning.study.checkpoint_retention import quality_of, rank_key
from finesearch.tuning.study.journal import Journal
from finesearch.tuning.study.journaled_trial import JournaledTrial, planned_evaluations

if TYPE_CHECKING:
    from rich.table import Table

REFRESH_S = 0.5
LINE_EVERY_S = 60.0


class Progress:
    """Shows the controller's state, from a thread.

    Args:
        plan: names the metric.
        stream: where to write; a live table when it is a terminal.
    """

    def __init__(self, plan: Plan, stream: TextIO | None = None) -> None:
        self._plan = plan
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._controller: SearchController | None = None
        self._began = time.monotonic()
        self._ended_before = 0
        self._shown: set[tuple[str, int, float | None]] = set()
        self._last_line = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def say(self, text: str) -> None:
        """Show one line about the whole search."""
        print(redact(text), file=self._stream, flush=True)

    def start(self, controller: SearchController) -> None:
        """Start showing trials."""
        self._controller = controller
        self._began = time.monotonic()
        self._ended_before = count_ended(controller.journals[SEARCH])
        for study, journal in controller.journals.items():
            self._shown |= {(study, t.number, t.outcome.at) for t in journal.trials() if t.outcome is not None}
        target = self._draw if self._live else self._print_lines
        self._thread = threading.Thread(target=target, daemon=True, name="progress")
        self._thread.start()

    def stop(self) -> None:
        """Show the last state and stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def _draw(self) -> None:
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(file=self._stream), refresh_per_second=4, transient=False) as live:
            while not self._stop.wait(REFRESH_S):
                live.update(self._table())
            live.update(self._table())

    def _table(self) -> Table:
        from rich.table import Table

        assert self._controller is not None
        table = Table(title=f"{self._plan.name}: {self.summary()}", title_justify="left", expand=False)
        for heading in ("trial", "state", "evaluation", self._plan.task.metric, "seconds", "parameters"):
            table.add_column(heading, overflow="fold")
        journal = self._controller.journals[SEARCH]
        running = [(BASELINES, t) for t in self._controller.journals[BASELINES].running()]
        running += [(SEARCH, t) for t in journal.running()]
        latest = [(SEARCH, t) for t in journal.trials()[-12:] if t.is_finished]
        for study, trial in [*latest[-6:], *running]:
            last = trial.last
            table.add_row(
                trial.label if study == BASELINES else str(trial.number),
                trial.state,
                str(last.step) if last else "",
                f"{last.value:.4f}" if last else "",
                f"{last.seconds:.0f}" if last else "",
                ", ".join(f"{k.rpartition('.')[2]}={short_value(v)}" for k, v in trial.parameters.items()),
            )
        return table

    def _print_lines(self) -> None:
        while not self._stop.wait(REFRESH_S):
            self._print_new()
        self._print_new()

    def _print_new(self) -> None:
        assert self._controller is not None
        for study, journal in self._controller.journals.items():
            for trial in journal.trials():
                # A stopped trial that goes on ends twice, at two times.
                if trial.outcome is not None and (study, trial.number, trial.outcome.at) not in self._shown:
                    self._shown.add((study, trial.number, trial.outcome.at))
                    self.say(f"{self._line(study, trial)} | {self.summary()}")
                    self._last_line = time.monotonic()
        if time.monotonic() - self._last_line > LINE_EVERY_S:
            self._last_line = time.monotonic()
            self.say(self.summary())

    def _line(self, study: str, trial: JournaledTrial) -> str:
        """How a trial ended."""
        assert trial.outcome is not None, "the trial has ended"
        name = f"baseline {trial.label}" if study == BASELINES else f"trial {trial.number}"
        reason = f" ({trial.outcome.reason})" if trial.outcome.reason else ""
        if trial.state == "pruned" and trial.last is not None:
            value = f"{self._plan.task.metric} {trial.last.value:.4f}"
            return f"{name}, {stop_of(trial, self._plan)}, {value}{reason}"
        value = f" {self._plan.task.metric} {trial.values[0]:.4f}" if trial.values else ""
        return f"{name} {trial.state}{value}{reason}"

    def summary(self) -> str:
        """Trials by state, best so far, rate, time left; one line."""
        assert self._controller is not None
        journal = self._controller.journals[SEARCH]
        counts = journal.counts()
        resumed = [trial.number for trial in journal.running() if trial.stopped is not None]
        done, wanted = counts["complete"] + counts["pruned"] + len(resumed), self._plan.budget.trials
        epochs = self._controller.epochs_left
        if epochs is None:
            parts = [f"{done}/{wanted} trials"]
        else:
            whole = wanted * self._plan.mean_epochs
            parts = [f"{whole - max(0.0, epochs):.4g}/{whole:.4g} epochs, {done} trials"]
        parts += [f"{counts[state]} {state}" for state in ("pruned", "failed", "running") if counts[state]]
        waiting = self._controller.concurrency.waiting
        if waiting is not None:
            parts.append(waiting)
        best = best_so_far(journal)
        if resumed:
            why = "paused before" if epochs is not None else "stopped before and among the best"
            parts.append(f"going on with {', '.join(map(str, resumed))}, {why}")
        if best is not None:
            stopped = "" if best.state == "complete" else f", {stop_of(best, self._plan)}"
            parts.append(
                f"best {self._plan.task.metric} {quality_of(journal, best):.4f} (trial {best.number}{stopped})"
            )
        here, elapsed = count_ended(journal) - self._ended_before, time.monotonic() - self._began
        left = self._controller.seconds_left()
        if here:
            parts.append(f"{elapsed / here:.1f} s a trial")
            left = max(0, wanted - done) * elapsed / here if left is None else left
        if left is not None:
            parts.append(f"about {format_duration(left)} left")
        return ", ".join(parts)


def count_ended(journal: Journal) -> int:
    """Number of complete and pruned trials."""
    counts = journal.counts()
    return counts["complete"] + counts["pruned"]


def best_so_far(journal: Journal, *, is_complete: bool | None = None) -> JournaledTrial | None:
    """The best trial that may be ranked; with ``is_complete``, of those that ran to their end, or of the others."""
    found = (
        trial
        for trial in journal.trials()
        if trial.rankable is not None and is_complete in (None, trial.state == "complete")
    )
    return min(found, key=lambda trial: rank_key(journal, trial), default=None)


def stop_of(trial: JournaledTrial, plan: Plan) -> str:
    """Where a trial was stopped: "stopped at evaluation 3 of 4"."""
    return f"stopped at evaluation {trial.last.step if trial.last else 0} of {planned_evaluations(trial, plan)}"


def short_value(value: object) -> str:
    """A parameter's value in few characters.

    >>> short_value(0.000123456), short_value(3), short_value("full")
    ('0.000123', '3', 'full')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def format_duration(seconds: float) -> str:
    """Seconds, minutes or hours.

    >>> format_duration(12), format_duration(600), format_duration(7300)
    ('12 s', '10 min', '2.0 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
