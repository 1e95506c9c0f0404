"""The sentence on top, in every form, and the reason given for every trial that holds no rank."""

import pytest

from finesearch.report import RunRecord, ScoredRow, StepRow, TrialRow, Verdict, verdict
from finesearch.report.markdown import markdown
from finesearch.report.page import html_page
from finesearch.report.ranking import ties, unranked, verified_rows
from finesearch.report.report_json import summary
from finesearch.report.trials_parquet import trials_table


def scored(name, test, interval=None, **more):
    return ScoredRow(name=name, test=test, test_interval=interval, **({"validation": 0.9} | more))


def claim(*ranked, baselines=(), **more):
    fields = {"name": "a", "metric": "accuracy", "goal": "max", "trials": [TrialRow(trial=7, state="complete")]}
    return verdict(RunRecord(**(fields | {"ranked": ranked, "baselines": baselines} | more)))


ORDINARY = scored("ordinary", 0.880, (0.860, 0.900))


def test_beyond_chance_by_separate_intervals():
    result = claim(scored("trial 7", 0.930, (0.910, 0.950), trial=7), baselines=[ORDINARY])
    assert result.tone == "better"
    assert result.sentence == (
        "Trial 7 beats the ordinary recipe on test: accuracy 0.930 (95 % interval 0.910 to 0.950) against 0.880 "
        "(0.860 to 0.900); the intervals do not overlap."
    )


def test_better_but_perhaps_by_chance():
    result = claim(scored("trial 7", 0.890, (0.870, 0.910)), baselines=[ORDINARY])
    assert result.tone == "unclear"
    assert "Trial 7 scores better than the ordinary recipe on test: accuracy 0.890" in result.sentence
    assert result.sentence.endswith("the intervals overlap, so it may be chance.")


def test_a_paired_interval_decides_where_it_is_given():
    row = scored("trial 7", 0.890, (0.870, 0.910), gain_interval=(0.002, 0.018))
    result = claim(row, baselines=[ORDINARY])
    assert result.tone == "better"
    assert "the paired difference on the same examples is +0.0100 (95 % interval +0.0020 to +0.0180)" in result.sentence
    row = scored("trial 7", 0.890, (0.870, 0.910), gain_interval=(-0.002, 0.018))
    result = claim(row, baselines=[ORDINARY])
    assert result.tone == "unclear"
    assert result.sentence.endswith("(95 % interval -0.0020 to +0.0180), so it may be chance.")


def test_worse_is_said_plainly():
    result = claim(scored("trial 7", 0.800, (0.780, 0.820)), baselines=[ORDINARY])
    assert result.tone == "worse"
    assert result.sentence == (
        "The ordinary recipe scores better than trial 7 on test: accuracy 0.880 (95 % interval 0.860 to 0.900) against "
        "0.800 (0.780 to 0.820) of the best that the search found; the intervals do not overlap. Train with that "
        "recipe, or give the search more: trials, or a space that holds it."
    )


def test_slightly_worse_is_said_plainly_too():
    result = claim(scored("trial 7", 0.875, (0.855, 0.895)), baselines=[ORDINARY])
    assert result.tone == "unclear"
    assert result.sentence.startswith("The ordinary recipe scores better than trial 7 on test: accuracy 0.880")
    assert "the intervals overlap, so it may be chance." in result.sentence


def test_a_winner_that_is_not_above_the_majority_baseline_is_said_first():
    majority = scored("majority", 0.300, validation=0.25)
    result = claim(scored("trial 7", 0.310, validation=0.25), baselines=[majority, ORDINARY])
    start = (
        "Trial 7 leads the search, but is not above the majority baseline (accuracy 0.2500 on validation). The ordinary"
    )
    assert (result.tone, result.sentence[: len(start)]) == ("worse", start)
    result = claim(scored("trial 7", 0.300), baselines=[majority])
    assert "not above the majority baseline (accuracy 0.3000 on test)" in result.sentence
    assert "majority" not in claim(scored("trial 7", 0.310), baselines=[majority]).sentence


def test_a_winner_that_ties_with_the_majority_on_validation_and_wins_on_test_is_unclear():
    majority = scored("majority", 0.300, (0.28, 0.32), validation=0.25)
    result = claim(scored("trial 7", 0.930, (0.910, 0.950), validation=0.25), baselines=[majority])
    start = (
        "Trial 7 leads the search, but is not above the majority baseline (accuracy 0.2500 on validation). Yet trial 7 "
        "beats the most frequent answer on test: accuracy 0.930"
    )
    assert (result.tone, result.sentence[: len(start)]) == ("unclear", start)


def test_a_majority_baseline_of_a_loss_is_beaten_from_below():
    majority = scored("majority", 2.0, validation=2.0)
    assert "not above" in claim(scored("trial 7", 3.0, validation=3.0), baselines=[majority], goal="min").sentence
    assert "not above" not in claim(scored("trial 7", 1.0, validation=1.0), baselines=[majority], goal="min").sentence


def test_a_winner_that_was_stopped_is_named_so():
    row = scored("trial 7", 0.930, trial=7, stopped_at=3, evaluations=4)
    assert claim(row, baselines=[ORDINARY]).sentence.startswith("Trial 7 (stopped at evaluation 3 of 4) scores better")
    assert claim(scored("trial 7", 0.930, trial=7, evaluations=4)).sentence.startswith("Trial 7 scores")


def test_every_file_marks_a_stopped_trial_and_one_that_beats_nothing():
    ranked = [
        scored("trial 7", 0.6, trial=7, stopped_at=3, evaluations=4),
        scored("trial 8", 0.02, trial=8, validation=0.02, evaluations=4),
    ]
    trials = [
        TrialRow(trial=7, state="pruned", best=0.9, stopped_at=3, evaluations=4, history=[StepRow(step=3, value=0.5)]),
        TrialRow(trial=8, state="complete", values=[0.02], evaluations=4),
    ]
    record = RunRecord(
        name="a",
        metric="accuracy",
        goal="max",
        trials=trials,
        ranked=ranked,
        baselines=[scored("majority", 0.05, validation=0.05)],
    )
    said = ["stopped at evaluation 3 of 4", "not above the majority baseline (accuracy 0.0500 on validation)"]
    page, text, rows = html_page(record), markdown(record), summary(record)["ranked"]
    for words in said:
        assert words in page
        assert words in text
    assert [row["remarks"] for row in rows] == [[words] for words in said]
    assert [row["stopped_at"] for row in rows] == [3, None]
    table = trials_table(record).to_pylist()
    assert [(row["rank"], row["stopped_at"], row["evaluations"], row["best"]) for row in table] == [
        (1, 3, 4, 0.9),
        (2, None, 4, 0.02),
    ]


def test_the_same_score_does_not_beat():
    result = claim(scored("trial 7", 0.880, (0.860, 0.900)), baselines=[ORDINARY])
    assert result.sentence.startswith("Trial 7 does not beat the ordinary recipe on test: they score the same")


def test_lower_is_better_where_the_goal_is_min():
    row = scored("trial 7", 0.20, (0.19, 0.21))
    result = claim(row, baselines=[scored("ordinary", 0.30, (0.28, 0.32))], metric="loss", goal="min")
    assert result.tone == "better"
    assert result.sentence.startswith("Trial 7 beats the ordinary recipe on test: loss 0.20")


def test_without_intervals_no_certainty_is_claimed():
    result = claim(scored("trial 7", 0.95), baselines=[scored("ordinary", 0.60)])
    assert result.tone == "unclear"
    assert result.sentence.endswith("without intervals nobody can say whether that is chance.")


def test_without_any_baseline_nothing_is_claimed():
    result = claim(scored("trial 7", 0.95, (0.94, 0.96)), baselines=[])
    assert result.tone == "unknown"
    assert result.sentence.endswith("no baseline was run beside it, so whether it beats one is not known.")


def test_the_majority_alone_is_named_as_what_was_beaten():
    result = claim(
        scored("trial 7", 0.95, (0.94, 0.96)), baselines=[scored("majority", 0.1, (0.08, 0.12), validation=0.1)]
    )
    assert result.tone == "better"
    assert result.sentence.startswith("Trial 7 beats the most frequent answer on test: accuracy 0.950")


TFIDF = scored("tfidf", 0.90, (0.88, 0.92))


def test_the_winner_is_compared_with_the_best_of_all_baselines_on_test():
    row = scored("trial 7", 0.93, (0.91, 0.95), gain_intervals={"ordinary": (0.03, 0.07), "tfidf": (0.01, 0.05)})
    result = claim(row, baselines=[scored("majority", 0.1, validation=0.1), TFIDF, ORDINARY])
    assert result == Verdict(
        "Trial 7 beats every baseline on test: accuracy 0.930 (95 % interval 0.910 to 0.950) against 0.900 (0.880 to "
        "0.920) of a bag of words (TF-IDF with a linear model), the best of 3 baselines; the paired difference on the "
        "same examples is +0.0300 (95 % interval +0.0100 to +0.0500).",
        "better",
        "tfidf",
        ("majority", "tfidf", "ordinary"),
    )


def test_better_than_every_baseline_but_perhaps_by_chance():
    row = scored("trial 7", 0.91, (0.89, 0.93), gain_intervals={"ordinary": (0.01, 0.05), "tfidf": (-0.01, 0.03)})
    result = claim(row, baselines=[TFIDF, ORDINARY])
    assert result.tone == "unclear"
    assert result.sentence.startswith("Trial 7 scores better than every baseline on test: ")
    assert result.sentence.endswith("so it may be chance.")


def test_a_bag_of_words_that_wins_is_the_first_thing_that_is_said():
    row = scored("trial 7", 0.85, (0.83, 0.87), gain_intervals={"tfidf": (-0.08, -0.02)})
    result = claim(
        row, baselines=[scored("majority", 0.1, validation=0.1), TFIDF, scored("ordinary", 0.70, (0.68, 0.72))]
    )
    assert (result.tone, result.baseline) == ("worse", "tfidf")
    assert result.sentence == (
        "A bag of words (TF-IDF with a linear model), the best of 3 baselines, scores better than trial 7 on test: "
        "accuracy 0.900 (95 % interval 0.880 to 0.920) against 0.850 (0.830 to 0.870) of the best that the search "
        "found; the paired difference on the same examples is -0.0500 (95 % interval -0.0800 to -0.0200). It needs no "
        "model: use it, or give the search more: trials, epochs, rows, or another model."
    )


def test_the_best_baseline_is_the_lowest_where_the_goal_is_min():
    rows = [scored("zero_shot", 9.0, (8.0, 9.9)), scored("ordinary", 12.0, (11.0, 13.0))]
    result = claim(scored("trial 7", 7.0, (6.5, 7.5)), baselines=rows, metric="perplexity", goal="min")
    assert (result.tone, result.baseline) == ("better", "zero_shot")
    assert "against 9.00 (8.00 to 9.90) of the model without training, the best of 2 baselines" in result.sentence


def test_a_strong_recipe_that_leads_the_search_is_not_compared_with_itself():
    strong = scored("strong", 0.93, (0.91, 0.95), trial=0)
    result = claim(scored("trial 0", 0.93, (0.91, 0.95), trial=0), baselines=[strong, ORDINARY])
    assert result.sentence.startswith(
        "The search found nothing better on validation than the strong recipe, its first trial. Trial 0 beats the "
        "ordinary recipe on test"
    )
    result = claim(scored("trial 7", 0.90, (0.88, 0.92), trial=7), baselines=[strong, ORDINARY])
    assert result.sentence.startswith("The strong recipe, the best of 2 baselines, scores better than trial 7 on test")


def test_a_strong_recipe_that_was_cut_off_is_not_shown_as_a_finished_one():
    cut = scored("strong", 0.80, (0.78, 0.82), trial=0, stopped_at=1, evaluations=18)
    trials = [TrialRow(trial=number, state="complete") for number in (0, 1)]
    winner = scored("trial 1", 0.93, (0.91, 0.95), trial=1)
    record = RunRecord(name="a", metric="accuracy", goal="max", trials=trials, ranked=[winner], baselines=[cut])
    assert "Trial 1 beats the strong recipe (stopped at evaluation 1 of 18) on test" in verdict(record).sentence
    assert "| baseline | strong; stopped at evaluation 1 of 18 |" in markdown(record)
    assert "stopped at evaluation 1 of 18" in html_page(record)


def test_a_strong_recipe_that_wins_alone_is_not_said_to_lack_a_score():
    strong = scored("strong", 0.93, (0.91, 0.95), trial=0)
    result = claim(scored("trial 0", 0.93, (0.91, 0.95), trial=0), baselines=[strong])
    assert result.tone == "unknown"
    assert result.sentence == (
        "The search found nothing better on validation than the strong recipe, its first trial. Trial 0 scores "
        "accuracy 0.930 (95 % interval 0.910 to 0.950) on test; no other baseline was run beside it, so whether it "
        "beats one is not known."
    )


def test_every_baseline_is_not_claimed_where_a_floor_has_no_score():
    cut = ScoredRow(name="tfidf", error="it was cut off")
    rows = [
        scored("majority", 0.1, (0.08, 0.12), validation=0.1),
        ORDINARY,
        cut,
        ScoredRow(name="zero_shot", error="cannot be asked"),
    ]
    sentence = claim(scored("trial 7", 0.95, (0.94, 0.96)), baselines=rows).sentence
    assert sentence.startswith("Trial 7 beats every baseline that has a score on test: ")
    assert sentence.endswith("A bag of words (TF-IDF with a linear model) has no valid test score (it was cut off).")


def test_a_trained_baseline_without_a_score_is_named_beside_the_others():
    failed = ScoredRow(name="ordinary", error="training loss became NaN at step 3")
    result = claim(scored("trial 7", 0.95, (0.94, 0.96)), baselines=[TFIDF, failed])
    assert result.sentence.startswith("Trial 7 beats a bag of words")
    assert result.sentence.endswith("The ordinary recipe has no valid test score (training loss became NaN at step 3).")


def test_an_ordinary_recipe_that_failed_is_named_with_its_reason():
    failed = ScoredRow(name="ordinary", error="training loss became NaN at step 3")
    result = claim(scored("trial 7", 0.95, (0.94, 0.96)), baselines=[failed])
    assert "the ordinary recipe has no valid test score (training loss became NaN at step 3)" in result.sentence


def test_an_ordinary_recipe_whose_checkpoint_scored_otherwise_is_not_compared_with():
    spoiled = ORDINARY.model_copy(update={"error": "reloaded, it scored 0.41 and not 0.88"})
    result = claim(scored("trial 7", 0.95, (0.94, 0.96)), baselines=[spoiled])
    assert result.tone == "unknown"
    assert "has no valid test score (reloaded, it scored 0.41 and not 0.88)" in result.sentence


def test_while_partial_the_ordinary_recipe_may_be_waited_for():
    result = claim(scored("trial 7", 0.95), baselines=[ScoredRow(name="ordinary")], partial=True)
    assert "the ordinary recipe has not been scored yet" in result.sentence


def test_a_winner_without_test_score_claims_validation_only():
    result = claim(ScoredRow(name="trial 7", validation=0.91), baselines=[ORDINARY])
    assert result.tone == "unknown"
    assert result.sentence == (
        "Trial 7 leads with accuracy 0.9100 on validation; test has not been scored, so nothing is claimed about it."
    )


def test_a_checkpoint_that_scored_otherwise_when_reloaded_does_not_win():
    spoiled = scored("trial 3", 0.99, (0.98, 1.0), trial=3, error="reloaded, it scored 0.41 and not 0.99")
    good = scored("trial 7", 0.93, (0.91, 0.95), trial=7)
    assert claim(spoiled, good, baselines=[ORDINARY]).sentence.startswith("Trial 7 beats")
    result = claim(spoiled, baselines=[ORDINARY])
    assert result.sentence == (
        "No checkpoint is ranked: 1 checkpoint did not pass re-scoring, after 1 trial (1 complete)."
    )


@pytest.mark.parametrize(
    ("trials", "partial", "sentence"),
    [
        ([], True, "No trial has started yet."),
        ([], False, "No trial was run, so nothing is ranked."),
        (["running", "failed"], True, "so far 2 trials (1 failed and 1 running)."),
        (["failed", "failed"], False, "No checkpoint is ranked, after 2 trials (2 failed)."),
    ],
)
def test_with_nothing_ranked(trials, partial, sentence):
    rows = [TrialRow(trial=number, state=state) for number, state in enumerate(trials)]
    result = claim(trials=rows, partial=partial)
    assert result.tone == "unknown"
    assert sentence in result.sentence


def record_of(trials, ranked, **more):
    return RunRecord(**({"name": "a", "metric": "accuracy", "goal": "max"} | more), trials=trials, ranked=ranked)


def test_every_trial_without_a_rank_has_a_reason():
    trials = [
        TrialRow(trial=0, state="complete", values=[0.9]),
        TrialRow(trial=1, state="complete", values=[0.5]),
        TrialRow(trial=2, state="pruned", history=[StepRow(step=1, value=0.3)]),
        TrialRow(trial=3, state="failed", reason="out of memory"),
        TrialRow(trial=4, state="failed"),
        TrialRow(trial=5, state="running"),
        TrialRow(trial=6, state="complete", values=[None]),
        TrialRow(trial=7, state="complete", values=[0.8]),
    ]
    ranked = [
        ScoredRow(name="trial 0", trial=0, validation=0.9),
        ScoredRow(name="trial 7", trial=7, validation=0.8, error="reloaded, it scored 0.2 and not 0.8"),
    ]
    record = record_of(trials, ranked)
    assert [(entry.row.trial, entry.reason) for entry in unranked(record)] == [
        (3, "out of memory"),
        (4, "failed; no reason was recorded"),
        (5, "was running when the search ended"),
        (1, "not the best on validation"),
        (6, "finished without a finite accuracy"),
        (7, "reloaded, it scored 0.2 and not 0.8"),
        (2, "stopped by the pruner after 1 evaluation"),
    ]
    assert [row.trial for row in verified_rows(record)] == [0]


def test_while_partial_complete_trials_wait_for_the_end():
    trials = [TrialRow(trial=0, state="complete", values=[0.9]), TrialRow(trial=1, state="running")]
    reasons = [entry.reason for entry in unranked(record_of(trials, [], partial=True))]
    assert reasons == ["still running", "nothing is ranked before the search ends"]


def test_ties_are_explained():
    ranked = [
        ScoredRow(name="trial 5", trial=5, validation=0.9, trainable_parameters=4620),
        ScoredRow(name="trial 2", trial=2, validation=0.9, trainable_parameters=22_700_000),
        ScoredRow(name="trial 3", trial=3, validation=0.9, trainable_parameters=22_700_000),
        ScoredRow(name="trial 1", trial=1, validation=0.8, trainable_parameters=1),
    ]
    trials = [TrialRow(trial=9, state="complete", values=[0.8], trainable_parameters=400)]
    record = record_of(trials, ranked)
    assert ties(record) == [
        "trial 5 and trial 2 are tied at 0.9000 on validation; trial 5 comes first, with fewer trainable parameters "
        "(4.62 k against 22.7 M).",
        "trial 2 and trial 3 are tied at 0.9000 on validation; trial 2 comes first, with the lower trial number and no "
        "more trainable parameters.",
    ]
    assert unranked(record)[0].reason == "tied with trial 1, with fewer trainable parameters (1 against 400) there"
