"""Partial report: rewrites the report regularly while a search runs, and once at the end."""

from __future__ import annotations

import contextlib
import threading
import time

from finesearch.errors import StorageError
from finesearch.redaction import redact
from finesearch.report import RunRecord, write_index, write_report
from finesearch.run.build_record import FinalScores, build_record
from finesearch.run.open_search import SearchRequest
from finesearch.run.preflight import Preflight
from finesearch.run.progress import Progress
from finesearch.run.run_storage import RunStorage
from finesearch.tuning.controller.search_controller import SearchController

REFRESH_AT_LEAST_S = 10.0


REFRESH_SHARE = 0.05  # of the driver's time that may go into partial reports


class PartialReporter:
    """Writes the report: regularly while the search runs, marked partial, and once at the end."""

    def __init__(self, request: SearchRequest, controller: SearchController, preflight: Preflight) -> None:
        self._request, self._controller, self._preflight = request, controller, preflight
        self.path = request.reports / request.plan.name / "report.html"
        self._writing = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True, name="report")

    def start(self) -> None:
        """Write a first partial report, which also imports all that a report on a signal needs; then refresh it."""
        self.write(FinalScores(), partial=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop refreshing; a report that is being written is finished."""
        self._stopped.set()
        self._thread.join()

    def write(self, final_scores: FinalScores, partial: bool) -> RunRecord:
        """Write the report of the journal's current state."""
        with self._writing:
            command = redact(self._request.command)
            record = build_record(self._controller, self._preflight, final_scores, partial, command)
            write_report(record, self.path.parent)
            write_index(self._request.reports)
            return record

    def close_on_signal(self, code: int, progress: Progress, run_storage: RunStorage) -> None:
        """Write a last partial report before the process ends by a signal."""
        self.close(f"interrupted (exit {code})", progress, run_storage)

    def close(self, why: str, progress: Progress, run_storage: RunStorage) -> None:
        """Write a last partial report before the process ends, and say why it does."""
        said = f"\n{self._request.plan.name}: {why}."
        try:
            self._controller.usage.persist(force=True)
            self.write(FinalScores(), partial=True)
            said += f" Everything finished is saved; a partial report is in {self.path}. The same command goes on."
        except StorageError as error:
            said += f" {error.message}"
        finally:
            run_storage.close_on_signal()
            progress.say(said)

    def _refresh(self) -> None:
        pause = REFRESH_AT_LEAST_S
        while not self._stopped.wait(pause):
            began = time.monotonic()
            with contextlib.suppress(StorageError):  # the search reports a full disk
                self.write(FinalScores(), partial=True)
            pause = max(REFRESH_AT_LEAST_S, (time.monotonic() - began) / REFRESH_SHARE)
