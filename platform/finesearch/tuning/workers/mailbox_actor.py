"""The mailbox as a Ray actor, which also reports its worker group's state to Prometheus."""

from __future__ import annotations

from finesearch.tuning.messages import HandOut, Job, MailboxClosed, TrialEnd
from finesearch.tuning.observability.prometheus import GROUPS, PrometheusMetrics
from finesearch.tuning.workers.mailbox import POLL_S, Mailbox

STATES = ("busy", "waiting", "idle")


class MailboxActor(Mailbox):
    """One of three gauges is 1: ``busy`` once a worker has taken the job, ``waiting`` before that, else ``idle``."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self._instruments = PrometheusMetrics(run)
        self._told: str | None = None
        self._tell()

    @property
    def state(self) -> str:
        """State of the group: one of ``STATES``."""
        if self._finished:
            return "idle"
        return "waiting" if self._holder is None or self._holder in self._condemned else "busy"

    async def post(self, job: Job) -> int:
        generation = await super().post(job)
        self._tell()
        return generation

    async def take(
        self, incarnation: str, rank: int, served: int, timeout_s: float = POLL_S
    ) -> HandOut | MailboxClosed | None:
        taken = await super().take(incarnation, rank, served, timeout_s)
        self._tell()
        return taken

    async def condemn(self) -> str | None:
        holder = await super().condemn()
        self._tell()
        return holder

    async def finish(self, generation: int, end: TrialEnd) -> None:
        await super().finish(generation, end)
        self._tell()

    def _tell(self) -> None:
        if self.state != self._told:
            self._told = self.state
            for state in STATES:
                self._instruments.set(GROUPS, float(state == self._told), state=state)
