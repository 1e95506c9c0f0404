"""Why a trial failed, in one line: what an exception in a worker, out of memory (OOM) included, says to the report."""

from __future__ import annotations

from finesearch.errors import FinesearchError
from finesearch.redaction import redact


def failure_reason(error: BaseException) -> str:
    """The exception in words, without secrets; where memory ran out, with what needs less of it.

    A worker that the system killed raises nothing: ``mailbox.py`` counts the attempt, and fails the trial after three.

    >>> failure_reason(MemoryError("cannot allocate 3 GB"))
    'out of memory: cannot allocate 3 GB. A smaller batch_size or max_length needs less.'
    >>> failure_reason(ZeroDivisionError("division by zero"))
    'ZeroDivisionError: division by zero'
    """
    if isinstance(error, FinesearchError):
        return redact(error.message)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return f"out of memory: {redact(str(error))}. A smaller batch_size or max_length needs less."
    return redact(f"{type(error).__name__}: {error}")
