"""Status of every trial: ranked, refused at re-scoring, or not ranked and why."""

from dataclasses import dataclass

from finesearch.report.number_format import count, pluralize, score
from finesearch.report.run_record import RunRecord, ScoredRow, TrialRow

MAJORITY = "majority"
STATE_ORDER = ("failed", "running", "complete", "pruned")


@dataclass(frozen=True)
class Unranked:
    """A trial that is not ranked, with the reason that is shown for it."""

    row: TrialRow
    reason: str


def verified_rows(record: RunRecord) -> tuple[ScoredRow, ...]:
    """Ranked checkpoints whose reloaded score matches their trial's, in rank order."""
    return tuple(row for row in record.ranked if row.error is None)


def refused(record: RunRecord) -> tuple[ScoredRow, ...]:
    """Checkpoints that would have been ranked, but failed re-scoring."""
    return tuple(row for row in record.ranked if row.error is not None)


def stop_words(row: TrialRow | ScoredRow) -> str | None:
    """Where a trial was stopped before its end; None where it was not.

    >>> stop_words(TrialRow(trial=0, state="pruned", stopped_at=3, evaluations=4))
    'stopped at evaluation 3 of 4'
    """
    if row.stopped_at is None:
        return None
    return f"stopped at evaluation {row.stopped_at}" + (f" of {row.evaluations}" if row.evaluations else "")


def majority_words(row: ScoredRow, record: RunRecord) -> str | None:
    """That a checkpoint is not better than the majority baseline, on validation or on test; None where it is, or where
    the plan has no such baseline."""
    baseline = next((each for each in record.baselines if each.name == MAJORITY and each.error is None), None)
    if baseline is None:
        return None
    sign = 1 if record.goal == "max" else -1
    splits = (("validation", row.ranking_score, baseline.validation), ("test", row.test, baseline.test))
    for split, ours, theirs in splits:
        if ours is not None and theirs is not None and sign * ours <= sign * theirs:
            return f"not above the majority baseline ({record.metric} {score(theirs)} on {split})"
    return None


def remarks(row: ScoredRow, record: RunRecord) -> list[str]:
    """What a reader of a row must know beside its scores; of a baseline only where it was stopped."""
    is_baseline = any(row.name == each.name for each in record.baselines)
    said = (stop_words(row), None if is_baseline else majority_words(row, record))
    return [words for words in said if words is not None]


def full_name(row: ScoredRow) -> str:
    """The row's name, with where its trial was stopped."""
    stopped = stop_words(row)
    return row.name if stopped is None else f"{row.name} ({stopped})"


def count_by_state(record: RunRecord) -> dict[str, int]:
    """Number of trials in each state, in the report's order."""
    tally = {state: sum(row.state == state for row in record.trials) for state in ("complete", "pruned", "failed")}
    running = sum(row.state == "running" for row in record.trials)
    return tally | ({"running": running} if running else {})


def unranked(record: RunRecord) -> list[Unranked]:
    """All trials without a rank, failed ones first, then by number."""
    ranked = {row.trial for row in verified_rows(record)}
    rest = [Unranked(row, _reason(row, record)) for row in record.trials if row.trial not in ranked]
    return sorted(rest, key=lambda entry: (STATE_ORDER.index(entry.row.state), entry.row.trial))


def ties(record: RunRecord) -> list[str]:
    """One sentence for each pair of neighbours in the ranking with equal validation scores."""
    sentences = []
    ranked = verified_rows(record)
    for first, second in zip(ranked, ranked[1:], strict=False):
        if first.ranking_score is None or first.ranking_score != second.ranking_score:
            continue
        sentences.append(
            f"{first.name} and {second.name} are tied at {score(first.ranking_score)} on validation; "
            f"{first.name} comes "
            f"first, {_advantage(first.trainable_parameters, second.trainable_parameters)}."
        )
    return sentences


def _advantage(first: int | None, second: int | None) -> str:
    if first is not None and (second is None or first < second):
        return f"with fewer trainable parameters ({count(first)} against {count(second)})"
    return "with the lower trial number and no more trainable parameters"


def _reason(row: TrialRow, record: RunRecord) -> str:
    for entry in refused(record):
        if entry.trial == row.trial:
            return entry.error or ""
    if row.reason:
        return row.reason
    if row.state == "failed":
        return "failed; no reason was recorded"
    if row.state == "running":
        return "still running" if record.partial else "was running when the search ended"
    if row.state == "pruned":
        return f"stopped by the pruner after {pluralize(len(row.history), 'evaluation')}"
    return _reason_of_complete(row, record)


def _reason_of_complete(row: TrialRow, record: RunRecord) -> str:
    ranked = verified_rows(record)
    if row.value is None:
        return f"finished without a finite {record.metric}"
    if not ranked:
        return "nothing is ranked before the search ends" if record.partial else "no checkpoint was ranked"
    last = ranked[-1]
    if row.value == last.validation:
        return f"tied with {last.name}, {_advantage(last.trainable_parameters, row.trainable_parameters)} there"
    return f"not among the best {len(ranked)} on validation" if len(ranked) > 1 else "not the best on validation"
