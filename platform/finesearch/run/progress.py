"""Progress output while a search runs: a live table on a terminal, or plain lines in a log; never Ray's."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from finesearch.plan import Plan
from finesearch.redaction import redact
from finesearch.training.trial_types import StepProgress
from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.controller.trial_queue import BASELINES, SEARCH
from finesearch.tuning.study.checkpoint_retention import quality_of, rank_key
from finesearch.tuning.study.journal import Journal
from finesearch.tuning.study.journaled_trial import JournaledTrial, planned_evaluations

if TYPE_CHECKING:
    from rich.table import Table

    from finesearch.tuning.workers.live_trials import LiveTrials

REFRESH_S = 0.5
LINE_EVERY_S = 60.0
READ_LIVE_EVERY_S = 2.0


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
        self._read_live: Callable[[], LiveTrials] = dict
        self._live_trials: LiveTrials = {}
        self._live_read_at = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def say(self, text: str) -> None:
        """Show one line about the whole search."""
        print(redact(text), file=self._stream, flush=True)

    def start(self, controller: SearchController, read_live: Callable[[], LiveTrials] = dict) -> None:
        """Start showing trials; ``read_live`` says how far the running ones have come."""
        self._controller, self._read_live = controller, read_live
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
        headings = ("trial", "state", "evaluation", self._plan.task.metric, "seconds", "epoch", "tokens/s", "loss")
        for heading in (*headings, "parameters"):
            table.add_column(heading, overflow="fold")
        journal = self._controller.journals[SEARCH]
        running = [(BASELINES, t) for t in self._controller.journals[BASELINES].running()]
        running += [(SEARCH, t) for t in journal.running()]
        latest = [(SEARCH, t) for t in journal.trials()[-12:] if t.is_finished]
        live = self._running_now()
        for study, trial in [*latest[-6:], *running]:
            last, now = trial.last, None if trial.is_finished else live.get((study, trial.number))
            table.add_row(
                trial.label if study == BASELINES else str(trial.number),
                trial.state,
                str(last.step) if last else "",
                f"{last.value:.4f}" if last else "",
                f"{last.seconds:.0f}" if last else "",
                *(shown_progress(now) if now else ("", "", "")),
                ", ".join(f"{k.rpartition('.')[2]}={short_value(v)}" for k, v in trial.parameters.items()),
            )
        return table

    def _running_now(self) -> LiveTrials:
        """How far the running trials have come, read every few seconds."""
        if time.monotonic() - self._live_read_at > READ_LIVE_EVERY_S:
            self._live_trials, self._live_read_at = self._read_live(), time.monotonic()
        return self._live_trials

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
            live = self._running_now()
            for study, journal in self._controller.journals.items():
                for trial in journal.running():
                    if now := live.get((study, trial.number)):
                        epoch, rate, loss = shown_progress(now)
                        said = f"epoch {epoch}, {rate} tokens/s{f', loss {loss}' if loss else ''}"
                        self.say(f"  {name_of(study, trial)}: {said}")

    def _line(self, study: str, trial: JournaledTrial) -> str:
        """How a trial ended."""
        assert trial.outcome is not None, "the trial has ended"
        name = name_of(study, trial)
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
        cost = self._plan.budget.cost
        if cost is not None:
            most = "" if cost.most is None else f" of {cost.most:g}"
            parts.append(f"cost {cost.of(self._controller.usage.device_seconds):.2f}{most}")
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


def name_of(study: str, trial: JournaledTrial) -> str:
    """A trial in a line: "baseline ordinary" or "trial 3"."""
    return f"baseline {trial.label}" if study == BASELINES else f"trial {trial.number}"


def stop_of(trial: JournaledTrial, plan: Plan) -> str:
    """Where a trial was stopped: "stopped at evaluation 3 of 4"."""
    return f"stopped at evaluation {trial.last.step if trial.last else 0} of {planned_evaluations(trial, plan)}"


def shown_progress(now: StepProgress) -> tuple[str, str, str]:
    """Epoch, tokens a second and loss of a running trial.

    >>> shown_progress(StepProgress(epoch=1.404, epochs=5, tokens_per_s=12345.6, loss=0.53179))
    ('1.40 of 5', '12,346', '0.532')
    """
    loss = "" if now.loss is None else f"{now.loss:.3g}"
    return f"{now.epoch:.2f} of {now.epochs}", f"{now.tokens_per_s:,.0f}", loss


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
