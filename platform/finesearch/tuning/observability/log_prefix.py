"""Prefixes every line that a worker logs with ``[trial 7]``, so that the lines of one trial can be found."""

from __future__ import annotations

import logging
import traceback
from typing import Any

_about: str | None = None


def set_log_prefix(about: str | None) -> None:
    """Start every later line of this process, from any thread, with ``[about]``; None removes the prefix.

    It applies to every logger, and to ``print``, which Ray Train redirects to the root logger. Records carry it as
    ``trial``, which Ray's JSON logs show as a field.
    """
    global _about
    _about = about
    if logging.getLogRecordFactory() is not _named_record:
        global _before
        _before = logging.getLogRecordFactory()
        logging.setLogRecordFactory(_named_record)


def log_label(study: str, number: int) -> str:
    """The log prefix of a trial.

    >>> log_label("search", 7), log_label("baselines", 0)
    ('trial 7', 'baseline 0')
    """
    return f"{'baseline' if study == 'baselines' else 'trial'} {number}"


def named(text: str, about: str) -> str:
    r"""The text with a prefix on each line.

    >>> named("a\nb", "trial 7")
    '[trial 7] a\n[trial 7] b'
    """
    return "\n".join(f"[{about}] {line}" for line in text.split("\n"))


_before = logging.getLogRecordFactory()


def _named_record(*arguments: Any, **more: Any) -> logging.LogRecord:
    record = _before(*arguments, **more)
    about = _about
    if about is None:
        return record
    record.trial = about
    try:
        text = record.getMessage()
    except Exception:  # a message that does not fit its arguments: logging reports it when the record is written
        return record
    record.msg, record.args = named(text, about), None
    if record.exc_info and record.exc_info[0] is not None:
        lines = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        record.exc_text = named(lines, about)
    return record
