"""finesearch by its command line alone: a plan in, report.json and the answers that the run folder keeps out."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.contest import DIALOGUE, ENTITIES, Contest
from peers.entrants import Entry
from peers.scores import score
from shared.competitors import ROOT, timed

NAME = "against-floors"


def our_search(contest: Contest, overrides: Sequence[str]) -> Entry:
    """The winner's score on test, from its answers; seconds are those of the whole process.

    overrides: ``KEY=VALUE`` for ``--set``.

    Raises:
        ValueError: what finesearch took for right answers are not those of the files, or its score is not that of its
            answers.
    """
    with tempfile.TemporaryDirectory(prefix="ours-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        command = [sys.executable, str(ROOT / "platform" / "search.py"), str(contest.plan.resolve()), "--name", NAME]
        for override in overrides:
            command += ["--set", override]
        _, seconds = timed(command, folder)
        report = json.loads((folder / "reports" / NAME / "report.json").read_text(encoding="utf-8"))
        winner = report["ranked"][0]
        kept = folder / "runs" / NAME / "scores" / f"trial-{winner['trial']:04d}.json"
        told = json.loads(kept.read_text(encoding="utf-8"))
    found = score(contest, answers(contest, told["predictions"], told["references"]))
    if abs(winner["test_metrics"][contest.metric] - found.value) > 1e-3 * max(1.0, found.value):
        said = winner["test_metrics"][contest.metric]
        raise ValueError(f"finesearch says {contest.metric} {said} on test; its answers score {found.value}")
    trials = report["cost"]["trials"]
    note = f"{sum(trials.values())} trials, {report['cost']['device_seconds']:.0f} device seconds; "
    return Entry(seconds, found, winner["validation"], note + report["verdict"]["sentence"])


def answers(contest: Contest, predictions: Sequence[Any], references: Sequence[Any]) -> list[Any]:
    """Kept answers in the form of ``Contest.references``; both are compared row by row, so that a row read wrong shows.

    Raises:
        ValueError: some row's right answer is another one in the files.
    """
    expected = contest.references("test")
    if len(expected) != len(references):
        raise ValueError(f"{contest.plan}: {len(expected)} rows of test in the files, {len(references)} in the run")
    if all(isinstance(one, int) for one in references):
        # Classes are kept as numbers: each number must stand for one label.
        names = dict(zip(references, expected, strict=True))
        right: list[Any] = [names[one] for one in references]
        said: list[Any] = [names.get(one, f"class {one}") for one in predictions]
    elif contest.kind == ENTITIES:
        right, said = ([{tuple(span) for span in row} for row in rows] for rows in (references, predictions))
    elif contest.kind == DIALOGUE:
        right, said = list(references), [one["text"] for one in predictions]
    else:
        right, said = list(references), list(predictions)
    differing = [place for place, pair in enumerate(zip(right, expected, strict=True)) if pair[0] != pair[1]]
    if differing:
        place = differing[0]
        raise ValueError(
            f"{contest.plan}: test row {place} is answered by {expected[place]!r} in the files, and by"
            f" {right[place]!r} in the run; {len(differing)} rows differ"
        )
    return said
