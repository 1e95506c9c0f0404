"""The mailbox as an actor runs it: it also tells what its worker group does."""

from __future__ import annotations

from finesearch.tuning.observability.prometheus import GROUPS, PrometheusMetrics
from finesearch.tuning.workers.mailbox import POLL_S, Mailbox, Payload

STATES = ("busy", "waiting", "idle")


class MailboxActor(Mailbox):
    """Of three gauges one is 1: ``busy`` from when a worker takes a job, ``waiting`` before that, else ``idle``."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self._instruments = PrometheusMetrics(run)
        self._told: str | None = None
        self._tell()

    @property
    def state(self) -> str:
        """What the group does: one of ``STATES``."""
        if self._finished:
            return "idle"
        return "waiting" if self._holder is None or self._holder in self._condemned else "busy"

    async def post(self, job: Payload) -> int:
        generation = await super().post(job)
        self._tell()
        return generation

    async def take(self, incarnation: str, rank: int, served: int, timeout_s: float = POLL_S) -> Payload | None:
        job = await super().take(incarnation, rank, served, timeout_s)
        self._tell()
        return job

    async def condemn(self) -> str | None:
        holder = await super().condemn()
        self._tell()
        return holder

    async def finish(self, generation: int, state: str, reason: str | None, error: str | None, detail: Payload) -> None:
        await super().finish(generation, state, reason, error, detail)
        self._tell()

    def _tell(self) -> None:
        if self.state != self._told:
            self._told = self.state
            for state in STATES:
                self._instruments.set(GROUPS, float(state == self._told), state=state)
