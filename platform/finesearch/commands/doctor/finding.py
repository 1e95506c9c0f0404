"""Findings of checks: name, state (ok, warn, bad), words, advice; and how they are printed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from finesearch.redaction import redact

WIDTH = 118


@dataclass(frozen=True)
class Finding:
    """One line of the screen. ``bad`` keeps a search from starting, ``warn`` does not."""

    name: str
    state: Literal["ok", "warn", "bad"]
    words: str
    advice: str = ""


def ok(name: str, words: str) -> Finding:
    """Nothing to do."""
    return Finding(name, "ok", words)


def warn(name: str, words: str, advice: str) -> Finding:
    """A search can start, but something is slower or less safe than it could be."""
    return Finding(name, "warn", words, advice)


def bad(name: str, words: str, advice: str) -> Finding:
    """A search cannot start."""
    return Finding(name, "bad", words, advice)


def worst(name: str, found: Sequence[Finding]) -> Finding:
    """Several findings of one check as one line; the advice is that of the worst.

    >>> worst("clock", [ok("clock", "a: 0 s"), warn("clock", "b: 9 s", "Set it.")])
    Finding(name='clock', state='warn', words='a: 0 s; b: 9 s', advice='Set it.')
    """
    by_state = sorted(found, key=lambda finding: ("bad", "warn", "ok").index(finding.state))
    return Finding(name, by_state[0].state, "; ".join(finding.words for finding in found), by_state[0].advice)


def render(heading: str, findings: Iterable[Finding]) -> str:
    """The screen; secrets in it are hidden.

    >>> print(render("finesearch doctor: here", [warn("disk", "full", "Free some.")]))
    finesearch doctor: here
      warn  disk        full
                        -> Free some.
    A search can start; 1 warning.
    """
    findings = list(findings)
    lines = [heading]
    for finding in findings:
        lines += _wrapped(f"  {finding.state:4}  {finding.name:10}  ", finding.words)
        if finding.advice:
            lines += _wrapped(" " * 20 + "-> ", finding.advice)
    return redact("\n".join([*lines, verdict(findings)]))


def verdict(findings: Sequence[Finding]) -> str:
    """The last line.

    >>> verdict([bad("plan", "gone", "Write one."), ok("disk", "free")])
    'A search cannot start: plan.'
    """
    bads = [finding.name for finding in findings if finding.state == "bad"]
    warnings = sum(finding.state == "warn" for finding in findings)
    if bads:
        return f"A search cannot start: {', '.join(bads)}."
    noun = "warning" if warnings == 1 else "warnings"
    return f"A search can start; {f'{warnings} {noun}' if warnings else 'nothing to do'}."


def exit_status(findings: Iterable[Finding]) -> int:
    """0 where a search can start, warnings included; 1 where it cannot."""
    return int(any(finding.state == "bad" for finding in findings))


def _wrapped(before: str, text: str) -> list[str]:
    lines = [line for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, WIDTH - len(before))] or [""]
    return [f"{before if index == 0 else ' ' * len(before)}{line}" for index, line in enumerate(lines)]
