"""The sentence on top of a report: does the best checkpoint beat the ordinary recipe on test?"""

from dataclasses import dataclass
from typing import Literal

from finesearch.report.number_format import listed, pluralize, score, scored
from finesearch.report.ranking import count_by_state, full_name, majority_words, ordinary, refused, verified_rows
from finesearch.report.run_record import RunRecord, ScoredRow

Tone = Literal["better", "unclear", "worse", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """The claim and its sentence: better only where the difference is significant."""

    sentence: str
    tone: Tone


def verdict(record: RunRecord) -> Verdict:
    """The claim that the record supports."""
    ranked = verified_rows(record)
    if not ranked:
        return Verdict(_without_winner(record), "unknown")
    claim, low = _claim(record, ranked[0]), majority_words(ranked[0], record)
    if low is None:
        return claim
    return Verdict(f"{_named(ranked[0])} leads the search, and is {low}. {claim.sentence}", "worse")


def _claim(record: RunRecord, winner: ScoredRow) -> Verdict:
    baseline = ordinary(record)
    if winner.test is None:
        sentence = f"{_named(winner)} leads with {record.metric} {score(winner.validation)} on validation"
        return Verdict(f"{sentence}; test has not been scored, so nothing is claimed about it.", "unknown")
    if baseline is None or baseline.test is None or baseline.error is not None:
        return Verdict(_without_baseline(record, winner, baseline), "unknown")
    return _compared(record, winner, baseline)


def _compared(record: RunRecord, winner: ScoredRow, baseline: ScoredRow) -> Verdict:
    assert winner.test is not None
    assert baseline.test is not None
    gain = (winner.test - baseline.test) * (1 if record.goal == "max" else -1)
    figures = (
        f"{record.metric} {scored(winner.test, winner.test_interval, '95 % interval ')} against "
        f"{scored(baseline.test, baseline.test_interval)}"
    )
    certain, grounds = _certainty(winner, baseline, gain)
    name = _named(winner)
    if gain == 0:
        return Verdict(f"{name} does not beat the ordinary recipe on test: they score the same, {figures}.", "unclear")
    if gain > 0 and certain:
        return Verdict(f"{name} beats the ordinary recipe on test: {figures}; {grounds}.", "better")
    if gain > 0:
        return Verdict(f"{name} scores better than the ordinary recipe on test: {figures}; {grounds}.", "unclear")
    plain = f"{name} does not beat the ordinary recipe on test: {figures}; {grounds}."
    return Verdict(plain, "worse" if certain else "unclear")


def _certainty(winner: ScoredRow, baseline: ScoredRow, gain: float) -> tuple[bool, str]:
    """Whether the sign of the gain is significant, and the words for it."""
    if winner.gain_interval is not None:
        low, high = winner.gain_interval
        shown = f"the paired difference on the same examples is {gain:+.4f} (95 % interval {low:+.4f} to {high:+.4f})"
        if low > 0 or high < 0:
            return True, shown
        return False, f"{shown}, so it may be chance"
    if winner.test_interval is None or baseline.test_interval is None:
        return False, "without intervals nobody can say whether that is chance"
    if winner.test_interval[0] > baseline.test_interval[1] or winner.test_interval[1] < baseline.test_interval[0]:
        return True, "the intervals do not overlap"
    return False, "the intervals overlap, so it may be chance"


def _without_baseline(record: RunRecord, winner: ScoredRow, baseline: ScoredRow | None) -> str:
    figures = scored(winner.test, winner.test_interval, "95 % interval ")
    found = f"{_named(winner)} scores {record.metric} {figures} on test"
    if baseline is None:
        return f"{found}; no ordinary recipe was run beside it, so whether it beats one is not known."
    why = f" ({baseline.error})" if baseline.error else ""
    waiting = "has not been scored yet" if record.partial and not baseline.error else f"has no valid test score{why}"
    return f"{found}; the ordinary recipe {waiting}, so whether it is beaten is not known."


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
    name = full_name(row)
    return name[:1].upper() + name[1:]
