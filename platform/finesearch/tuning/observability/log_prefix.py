"""Puts ``[trial 7]`` before every line that a worker logs, so that one trial's can be found among the others'."""

from __future__ import annotations

import logging
import traceback
from typing import Any

_about: str | None = None


def set_log_prefix(about: str | None) -> None:
    """From now on lines of this process, of any of its threads, begin with ``[about]``; None: with nothing.

    It reaches every logger, and ``print``, which Ray Train hands to the root logger. Records carry it as ``trial``,
    which Ray's JSON logs show as a field.
    """
    global _about
    _about = about
    if logging.getLogRecordFactory() is not _named_record:
        global _before
        _before = logging.getLogRecordFactory()
        logging.setLogRecordFactory(_named_record)


def log_label(study: str, number: int) -> str:
    """What lines about a trial begin with.

    >>> log_label("search", 7), log_label("baselines", 0)
    ('trial 7', 'baseline 0')
    """
    return f"{'baseline' if study == 'baselines' else 'trial'} {number}"


def named(text: str, about: str) -> str:
    r"""Each line of a text with its prefix.

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
    except Exception:  # a message that does not fit its arguments: logging tells of it where it is written
        return record
    record.msg, record.args = named(text, about), None
    if record.exc_info and record.exc_info[0] is not None:
        lines = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        record.exc_text = named(lines, about)
    return record
