"""The sentence on top of a report: does the best checkpoint beat the best of all baselines on test?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from finesearch.report.baseline_rows import (
    FLOOR_MEANING,
    MEANINGS,
    ORDINARY,
    STRONG,
    ZERO_SHOT,
    baseline_words,
    best_on_test,
    comparable,
)
from finesearch.report.number_format import listed, pluralize, score, scored
from finesearch.report.ranking import count_by_state, full_name, majority_words, refused, stop_words, verified_rows
from finesearch.report.run_record import RunRecord, ScoredRow

Tone = Literal["better", "unclear", "worse", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """The claim and its sentence: better only where the difference is significant.

    baseline: the one that the winner is compared with, the best of ``compared`` on test.
    """

    sentence: str
    tone: Tone
    baseline: str | None = None
    compared: tuple[str, ...] = ()


def verdict(record: RunRecord) -> Verdict:
    """The claim that the record supports."""
    ranked = verified_rows(record)
    if not ranked:
        return Verdict(_without_winner(record), "unknown")
    claim, low = _claim(record, ranked[0]), majority_words(ranked[0], record)
    if low is None:
        return claim
    sentence = f"{_named(ranked[0])} leads the search, but is {low}. "
    if claim.tone != "better":
        return Verdict(sentence + claim.sentence, "worse", claim.baseline, claim.compared)
    # Validation says that nothing was learned, and test that something was.
    sentence += f"Yet {claim.sentence[:1].lower()}{claim.sentence[1:]}"
    return Verdict(sentence, "unclear", claim.baseline, claim.compared)


def _claim(record: RunRecord, winner: ScoredRow) -> Verdict:
    if winner.test is None:
        sentence = f"{_named(winner)} leads with {record.metric} {score(winner.validation)} on validation"
        return Verdict(f"{sentence}; test has not been scored, so nothing is claimed about it.", "unknown")
    rows = comparable(record, winner)
    best = best_on_test(record, rows)
    if best is None:
        return Verdict(_without_baseline(record, winner), "unknown")
    sentence, tone = _compared(record, winner, best, rows)
    said = [*_is_strong(record, winner), sentence, *_not_compared(record, winner)]
    return Verdict(" ".join(said), tone, best.name, tuple(row.name for row in rows))


def _compared(record: RunRecord, winner: ScoredRow, best: ScoredRow, rows: Sequence[ScoredRow]) -> tuple[str, Tone]:
    """The comparison with the best of ``rows``, the baselines that have a score."""
    assert winner.test is not None
    assert best.test is not None
    gain = (winner.test - best.test) * (1 if record.goal == "max" else -1)
    ours = scored(winner.test, winner.test_interval, "95 % interval ")
    theirs = scored(best.test, best.test_interval)
    certain, grounds = _certainty(winner, best, gain)
    name, words = _named(winner), baseline_words(best.name)
    if best.stopped_at is not None:
        words = f"{words} ({stop_words(best)})"
    number = len(rows)
    best_of = f", the best of {number} baselines" if number > 1 else ""
    every = "every baseline that has a score" if _unscored(record, winner) else "every baseline"
    if gain == 0:
        start = f"{name} does not beat {words}{best_of}{',' if best_of else ''} on test"
        return f"{start}: they score the same, {record.metric} {ours}.", "unclear"
    if gain > 0:
        verb = "beats" if certain else "scores better than"
        if number == 1:
            return f"{name} {verb} {words} on test: {record.metric} {ours} against {theirs}; {grounds}.", (
                "better" if certain else "unclear"
            )
        against = f"{record.metric} {ours} against {theirs} of {words}{best_of}"
        return f"{name} {verb} {every} on test: {against}; {grounds}.", "better" if certain else "unclear"
    meaning = MEANINGS.get(best.name, FLOOR_MEANING)
    first = f"{_start(words)}{best_of}{',' if best_of else ''} scores better than {winner.name}"
    figures = f"{record.metric} {scored(best.test, best.test_interval, '95 % interval ')} against "
    figures += f"{scored(winner.test, winner.test_interval)} of the best that the search found"
    return f"{first} on test: {figures}; {grounds}. {meaning}", "worse" if certain else "unclear"


def _certainty(winner: ScoredRow, baseline: ScoredRow, gain: float) -> tuple[bool, str]:
    """Whether the sign of the gain is significant, and the words for it."""
    paired = winner.gain_intervals.get(baseline.name)
    if paired is None and baseline.name == ORDINARY:
        paired = winner.gain_interval
    if paired is not None:
        low, high = paired
        shown = f"the paired difference on the same examples is {gain:+.4f} (95 % interval {low:+.4f} to {high:+.4f})"
        if low > 0 or high < 0:
            return True, shown
        return False, f"{shown}, so it may be chance"
    if winner.test_interval is None or baseline.test_interval is None:
        return False, "without intervals nobody can say whether that is chance"
    if winner.test_interval[0] > baseline.test_interval[1] or winner.test_interval[1] < baseline.test_interval[0]:
        return True, "the intervals do not overlap"
    return False, "the intervals overlap, so it may be chance"


def _is_strong(record: RunRecord, winner: ScoredRow) -> list[str]:
    """That the winner is the strong recipe, which the search tried first."""
    same = any(row.name == STRONG and row.trial is not None and row.trial == winner.trial for row in record.baselines)
    return ["The search found nothing better on validation than the strong recipe, its first trial."] if same else []


def _unscored(record: RunRecord, winner: ScoredRow) -> list[ScoredRow]:
    """Baselines without a valid test score that could have been compared: the model without training is left out, since
    its row says why most models cannot be asked."""
    compared = {row.name for row in comparable(record, winner)}
    others = [row for row in record.baselines if row.trial is None or row.trial != winner.trial]
    return [row for row in others if row.name not in compared and row.name != ZERO_SHOT]


def _not_compared(record: RunRecord, winner: ScoredRow) -> list[str]:
    """What is missing in the comparison, a sentence each."""
    return [f"{_start(baseline_words(row.name))} {_why_missing(record, row)}." for row in _unscored(record, winner)]


def _why_missing(record: RunRecord, row: ScoredRow) -> str:
    if record.partial and not row.error:
        return "has not been scored yet"
    return "has no valid test score" + (f" ({row.error})" if row.error else "")


def _without_baseline(record: RunRecord, winner: ScoredRow) -> str:
    found = (
        f"{_named(winner)} scores {record.metric} {scored(winner.test, winner.test_interval, '95 % interval ')} on test"
    )
    others = [row for row in record.baselines if row.trial is None or row.trial != winner.trial]
    if not others:
        other = "other " if record.baselines else ""
        claim = f"{found}; no {other}baseline was run beside it, so whether it beats one is not known."
        return " ".join([*_is_strong(record, winner), claim])
    trained = [row for row in others if row.name in (STRONG, ORDINARY)]
    row = (trained or others)[-1]
    claim = f"{found}; {baseline_words(row.name)} {_why_missing(record, row)}, so whether it is beaten is not known."
    return " ".join([*_is_strong(record, winner), claim])


def _without_winner(record: RunRecord) -> str:
    if not record.trials:
        return "No trial has started yet." if record.partial else "No trial was run, so nothing is ranked."
    tally = listed([f"{number:,} {state}" for state, number in count_by_state(record).items() if number])
    tried = f"{pluralize(len(record.trials), 'trial')} ({tally})"
    if refused(record):
        spoiled = pluralize(len(refused(record)), "checkpoint")
        return f"No checkpoint is ranked: {spoiled} did not pass re-scoring, after {tried}."
    if record.partial:
        return f"Nothing is ranked before the search ends; so far {tried}."
    return f"No checkpoint is ranked, after {tried}."


def _named(row: ScoredRow) -> str:
    return _start(full_name(row))


def _start(words: str) -> str:
    return words[:1].upper() + words[1:]
