"""Baselines in a record: their names in words, which of them is the best on test, and what it means where one wins."""

from finesearch.report.run_record import RunRecord, ScoredRow

STRONG, ORDINARY, ZERO_SHOT = "strong", "ordinary", "zero_shot"
WORDS = {
    "majority": "the most frequent answer",
    "tfidf": "a bag of words (TF-IDF with a linear model)",
    "dictionary": "a dictionary of train's entities",
    "crf": "a conditional random field over word shapes",
    "best_sentence": "the sentence that shares most with the question",
    "copy": "the source copied",
    "nearest": "the translation of the nearest source of train",
    "lead": "the first sentences of the text",
    "bm25": "the reply to the nearest turn of train",
    ZERO_SHOT: "the model without training",
    STRONG: "the strong recipe",
    ORDINARY: "the ordinary recipe",
}
"""Baselines in a sentence, by the name of their row."""
MEANINGS = {
    ZERO_SHOT: "Ask the model as it is, or give the search more: trials, epochs, rows, or a wider space.",
    STRONG: "Train with that recipe, or give the search more: trials, or a space that holds it.",
    ORDINARY: "Train with that recipe, or give the search more: trials, or a space that holds it.",
    "majority": "Nothing was learned: check labels and learning rates before anything else.",
}
FLOOR_MEANING = "It needs no model: use it, or give the search more: trials, epochs, rows, or another model."
"""What it means where a baseline without a neural network wins."""
WITHOUT_SCALE = ("majority", ZERO_SHOT, "dictionary", "best_sentence", "copy", "nearest", "bm25")
"""Baselines that usually score far below all else: including them in a scale would flatten the rest."""


def baseline_words(name: str) -> str:
    """A baseline in a sentence.

    >>> baseline_words("ordinary"), baseline_words("of another version")
    ('the ordinary recipe', 'the baseline of another version')
    """
    return WORDS.get(name, f"the baseline {name}")


def comparable(record: RunRecord, winner: ScoredRow) -> list[ScoredRow]:
    """Baselines with a valid test score, but for the winner itself: the strong recipe may be a trial of the search."""
    return [
        row
        for row in record.baselines
        if row.test is not None and row.error is None and (row.trial is None or row.trial != winner.trial)
    ]


def best_on_test(record: RunRecord, rows: list[ScoredRow]) -> ScoredRow | None:
    """The row with the best test score, the first of equals; None of none."""
    sign = 1 if record.goal == "max" else -1
    scored = [(sign * row.test, row) for row in rows if row.test is not None]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None
