"""Summarization: what differs from translation, and ROUGE as it is defined."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from finesearch.errors import DataError
from finesearch.plan import TaskPlan, parse_plan
from finesearch.run.preflight import run_preflight
from finesearch.tasks import RawSplits, make_task
from finesearch.tasks.generation.rouge import rouge_f_measures
from tiny_writers import write_tiny_writer

COLUMNS = {"text": "article", "summary": "highlights"}


def n_gram_f(given: list[str], true: list[str], n: int) -> float:
    """ROUGE-N by its formula."""
    ours, theirs = ([tuple(words[i : i + n]) for i in range(len(words) - n + 1)] for words in (given, true))
    shared = sum(min(ours.count(gram), theirs.count(gram)) for gram in set(theirs))
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def subsequence_f(given: list[str], true: list[str]) -> float:
    """ROUGE-L by its formula."""

    def longest(i: int, j: int) -> int:
        if i == len(given) or j == len(true):
            return 0
        if given[i] == true[j]:
            return 1 + longest(i + 1, j + 1)
        return max(longest(i + 1, j), longest(i, j + 1))

    shared = longest(0, 0)
    return 2 * shared / (len(given) + len(true)) if shared else 0.0


PREDICTIONS = ["The cat sat, on the mat.", "dogs run", "", "a b a b c"]
REFERENCES = ["A cat is on the mat", "a dog runs", "nothing", "a b c a b"]


def test_rouge_is_what_its_formulas_say() -> None:
    scores = rouge_f_measures(PREDICTIONS, REFERENCES, ["rouge1", "rouge2", "rougeL"])
    words = [
        [text.lower().replace(",", "").replace(".", "").split() for text in texts]
        for texts in (PREDICTIONS, REFERENCES)
    ]
    pairs = list(zip(*words, strict=True))
    assert scores["rouge1"] == pytest.approx([n_gram_f(given, true, 1) for given, true in pairs])
    assert scores["rouge2"] == pytest.approx([n_gram_f(given, true, 2) for given, true in pairs])
    assert scores["rougeL"] == pytest.approx([subsequence_f(given, true) for given, true in pairs])


def test_the_score_is_the_mean_over_examples() -> None:
    data = {"train": "a.jsonl"}
    task = make_task(TaskPlan(kind="summarization", model="m", data=data, columns=COLUMNS))
    assert task.plan.metric == "rougeL"
    for name, value in task.score(PREDICTIONS, REFERENCES).items():
        values = task.example_scores(name, PREDICTIONS, REFERENCES)
        assert values is not None
        assert value == fmean(values) == task.metric(name)(PREDICTIONS, REFERENCES)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"article": ["a", ""], "highlights": ["c", "d"]}, "'train', row 2: no text in column 'article', expected one"),
        ({"article": ["a", "b"], "highlights": ["c", "\n"]}, "'train', row 2: no text in column 'highlights', expect"),
        ({"article": [["a"]], "highlights": ["c"]}, "the column 'article' holds list<"),
    ],
)
def test_a_row_without_text_or_summary_is_refused_by_file_and_row(
    rows: dict[str, list[Any]],
    message: str,
    make_plan: Callable[..., TaskPlan],
    make_splits: Callable[..., RawSplits],
) -> None:
    plan = make_plan(kind="summarization", columns=COLUMNS)
    splits = make_splits(rows, rows, rows, plan=plan)
    with pytest.raises(DataError) as caught:
        make_task(plan).read(splits)
    assert message in str(caught.value)


def test_before_anything_runs_the_reader_is_told_what_is_cut_and_what_rouge_counts(tmp_path: Path) -> None:
    write_tiny_writer(tmp_path / "model", "gpt2")
    rows = [{"article": "film " * 50, "highlights": "фильм"}, {"article": "music", "highlights": "good"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = {split: "rows.jsonl" for split in ("train", "validation", "test")}
    task = {"kind": "summarization", "model": "model", "data": data, "columns": COLUMNS, "max_length": 32}
    task |= {"max_target_length": 16, "generation": {"max_new_tokens": 16}}
    plan = {"name": "probe", "task": task, "space": {"learning_rate": 1e-3}, "base": str(tmp_path)}
    checked = run_preflight(parse_plan(json.dumps(plan)), tmp_path / "cache")
    notes = checked.notes
    cut = "1 of the 2 train rows have a text longer than task.max_length (32 tokens): their ends are cut off."
    assert cut in notes
    chosen = "task.metric_tokenizer auto: unicode, by the answers of validation: 55.6% of the letters are not a-z."
    assert chosen in notes
    assert checked.plan.task.metric_tokenizer == "unicode"
    assert checked.task.score(["фильм", "bad"], ["фильм", "good"])["rougeL"] == 0.5
