"""Computes a report's breakdown from answers that final scoring has cached: by class, and by group of test rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from finesearch.errors import TrialError
from finesearch.plan import Plan
from finesearch.report import Breakdown, ClassRow, ClassScores, Confusion, ExampleRow, GroupRow
from finesearch.report.number_format import shorten_line
from finesearch.run.preflight import Preflight
from finesearch.run.score_cache import CheckpointScore, Intervals

MOST_CLASSES, MOST_CONFUSED = 200, 40
"""Classes in the table by class, the most frequent first, and classes up to which confusions are shown."""
MOST_CHARACTERS = 300
"""Of an input or an answer in an example."""
LEAST_ROWS = 10
"""Rows of a group from which on its score has an interval."""

Said = list[list[tuple[str, Any]]]
"""What each answer says of which class; see ``Task.classes_in``."""


def compute_breakdown(
    plan: Plan, preflight: Preflight, before: Mapping[str, CheckpointScore], ranked: Mapping[str, CheckpointScore]
) -> Breakdown:
    """The breakdown of systems by name: ``before`` what the checkpoints are compared with, ``ranked`` in rank order.

    Gains are over the first of ``before``.
    """
    systems = {**before, **ranked}
    if not ranked:
        return Breakdown()
    winner, task, facts = next(iter(ranked)), preflight.task, preflight.facts
    true = task.classes_in(systems[winner].references, facts)
    said = {name: task.classes_in(score.predictions, facts) or [] for name, score in systems.items()}
    return Breakdown(
        systems=list(systems),
        winner=winner,
        before=next(iter(before), None),
        classes=[] if true is None else class_rows(said, true),
        groups=_group_rows(plan, preflight, before, ranked),
        confusion=None if true is None else confusion(said[winner], true),
        examples=worst_rows(plan, preflight, systems, winner),
    )


def class_rows(said: Mapping[str, Said], true: Said) -> list[ClassRow]:
    """Scores of every class that is true in some row, by system, the most frequent class first."""
    frequency = Counter(name for answer in true for name, _ in answer)
    names = [name for name, _ in frequency.most_common(MOST_CLASSES)]
    scores = {system: _class_scores(answers, true) for system, answers in said.items()}
    return [
        ClassRow(name=name, rows=frequency[name], scores={system: found[name] for system, found in scores.items()})
        for name in names
    ]


def _class_scores(said: Said, true: Said) -> dict[str, ClassScores]:
    right, given, wanted = Counter[str](), Counter[str](), Counter[str]()
    for answer, reference in zip(said, true, strict=True):
        given.update(name for name, _ in answer)
        wanted.update(name for name, _ in reference)
        right.update(name for name, _ in set(answer) & set(reference))
    return {
        name: ClassScores(
            precision=right[name] / given[name] if given[name] else 0.0,
            recall=right[name] / wanted[name],
            f1=2 * right[name] / (given[name] + wanted[name]),
        )
        for name in wanted
    }


def confusion(said: Said, true: Said) -> Confusion | None:
    """Counts of answers; None where an answer names several classes or none, or there are too many classes."""
    if any(len(answer) != 1 or answer[0][1] is not None for answer in (*said, *true)):
        return None
    pairs = Counter((reference[0][0], answer[0][0]) for answer, reference in zip(said, true, strict=True))
    names = sorted({name for pair in pairs for name in pair})
    if len(names) > MOST_CONFUSED:
        return None
    return Confusion(names=names, counts=[[pairs[reference, answer] for answer in names] for reference in names])


def _group_rows(
    plan: Plan, preflight: Preflight, before: Mapping[str, CheckpointScore], ranked: Mapping[str, CheckpointScore]
) -> list[GroupRow]:
    task, systems, rows = preflight.task, {**before, **ranked}, []
    winner = next(iter(ranked))
    for by, groups in task.groups(preflight.splits.plain_rows("test")).items():
        places: dict[str, list[int]] = {}
        for place, group in enumerate(groups):
            places.setdefault(group, []).append(place)
        for group, inside in sorted(places.items(), key=_order):
            parts = {name: _part(score, inside) for name, score in systems.items()}
            intervals = (
                Intervals(plan, task) if len(inside) >= LEAST_ROWS and _is_quick(plan, task, parts[winner]) else None
            )
            compared = next(iter(before), None)
            rows.append(
                GroupRow(
                    by=by,
                    group=group,
                    rows=len(inside),
                    scores={name: _score(plan, task, part) for name, part in parts.items()},
                    intervals={
                        name: interval
                        for name, part in parts.items()
                        if intervals is not None and (interval := intervals.of(part)) is not None
                    },
                    gain_interval=None
                    if intervals is None or compared is None
                    else intervals.of_gain(parts[winner], parts[compared]),
                )
            )
    return rows


def _order(group: tuple[str, list[int]]) -> tuple[int, str]:
    """Ranges of numbers by their first one, other groups by their rows, the largest first."""
    name, inside = group
    first = name.partition(" to ")[0]
    return (int(first) if first.isdecimal() else -len(inside), name)


def _part(score: CheckpointScore, places: Sequence[int]) -> CheckpointScore:
    """The score of some rows of test."""
    return replace(
        score,
        predictions=[score.predictions[place] for place in places],
        references=[score.references[place] for place in places],
        test={},
    )


def _score(plan: Plan, task: Any, part: CheckpointScore) -> float:
    """The plan's metric on a part; NaN where it is not defined there, such as a correlation of equal numbers."""
    try:
        return float(task.metric(plan.task.metric)(part.predictions, part.references))
    except (TrialError, ValueError, ZeroDivisionError):
        return math.nan


def _is_quick(plan: Plan, task: Any, part: CheckpointScore) -> bool:
    """Whether the metric is resampled from numbers of each row, instead of being computed a thousand times."""
    given, true = part.predictions, part.references
    return (
        task.example_scores(plan.task.metric, given, true) is not None
        or task.statistics(plan.task.metric, given, true) is not None
    )


def worst_rows(
    plan: Plan, preflight: Preflight, systems: Mapping[str, CheckpointScore], winner: str
) -> list[ExampleRow]:
    """The rows of test that the winner answers worst, at most ``report.examples``; of equal ones, those that the other
    systems answer worse. Rows that it answers rightly are not among them."""
    if not plan.report.examples:
        return []
    task, facts = preflight.task, preflight.facts
    rows = preflight.splits.plain_rows("test")
    columns = [name for name in task.identity_columns if name in rows]
    said = {name: task.readable(each.predictions, each.references, facts) for name, each in systems.items()}
    quality = {name: _row_quality(plan, task, each, said[name]) for name, each in systems.items()}
    references = systems[winner].references
    perfect = replace(systems[winner], predictions=task.perfect_predictions(references))
    most = _row_quality(plan, task, perfect, task.readable(perfect.predictions, references, facts))
    is_right = [given == true for given, true in zip(*said[winner], strict=True)]
    wrong = [place for place, value in enumerate(quality[winner]) if value < most[place] and not is_right[place]]
    wrong.sort(key=lambda place: (quality[winner][place], sum(each[place] for each in quality.values()), place))
    return [
        ExampleRow(
            row=place + 1,
            inputs={name: _shown(rows[name][place]) for name in columns},
            true=_shown(said[winner][1][place]),
            answers={name: _shown(given[place]) for name, (given, _) in said.items()},
        )
        for place in wrong[: plan.report.examples]
    ]


def _row_quality(
    plan: Plan, task: Any, score: CheckpointScore, readable: tuple[Sequence[Any], Sequence[Any]]
) -> list[float]:
    """How good each answer is, larger is better: by the metric where it is a mean over rows, else whether it is right;
    of numbers, how near."""
    values = task.example_scores(plan.task.metric, score.predictions, score.references)
    if values is not None:
        return [value if plan.objectives[0].goal == "max" else -value for value in values]
    return [
        -abs(given - true) if isinstance(given, float) else float(given == true)
        for given, true in zip(*readable, strict=True)
    ]


def _shown(value: Any) -> str:
    """An input or an answer as one short line: words of a list, turns of a conversation, spans as label and limits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        parts = [
            f"{each.get('role', '')}: {each.get('content', '')}" if isinstance(each, dict) else each for each in value
        ]
        is_nested = any(isinstance(each, list | tuple) for each in parts)
        value = ", ".join(" ".join(map(str, each)) for each in parts) if is_nested else " ".join(map(str, parts))
    return shorten_line(str(value), MOST_CHARACTERS)
