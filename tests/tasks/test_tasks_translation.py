"""Translation: rows for both model shapes, what is refused, and scores that are sacrebleu's own."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finesearch.errors import DataError, ModelError
from finesearch.plan import GenerationPlan, TaskPlan
from finesearch.report import resampled_scores, resampled_sums
from finesearch.tasks import RawSplits, make_task
from finesearch.tasks.generation.generation_task import IGNORED
from finesearch.training.model.model_config import read_config
from finesearch.training.model.model_files import load_tokenizer
from tiny_writers import VOCABULARY, word_pairs, write_tiny_writer

COLUMNS = {"source": "en", "target": "de"}


@pytest.fixture
def make_task_plan(make_plan: Callable[..., TaskPlan]) -> Callable[..., TaskPlan]:
    def make(**fields: Any) -> TaskPlan:
        return make_plan(**{"kind": "translation", "columns": COLUMNS, "max_target_length": 8, **fields})

    return make


def encoded(plan: TaskPlan, splits: RawSplits, folder: Path) -> tuple[dict[str, list[Any]], Any]:
    task, tokenizer = make_task(plan), load_tokenizer(folder)
    facts = task.add_model_shape(task.read(splits), read_config(folder), tokenizer)
    return task.encode(splits.plain_rows("train"), tokenizer, facts), tokenizer


def test_a_causal_model_learns_the_target_alone(
    tmp_path: Path, make_task_plan: Callable[..., TaskPlan], make_splits: Callable[..., RawSplits]
) -> None:
    plan = make_task_plan(prefix="to: ", separator=" => ")
    rows = {"en": ["good film"], "de": ["hund haus"]}
    splits = make_splits(rows, rows, rows, plan=plan)
    columns, tokenizer = encoded(plan, splits, write_tiny_writer(tmp_path / "m", "gpt2"))
    (ids,), (labels,), (prompt,) = columns["input_ids"], columns["labels"], columns["prompt"]
    assert tokenizer.decode(ids[:prompt]) == tokenizer.decode(tokenizer("to: good film => ")["input_ids"])
    assert labels[:prompt] == [IGNORED] * prompt
    assert [VOCABULARY[token] for token in labels[prompt:]] == ["hund", "haus", "</s>"]
    assert ids[prompt:] == labels[prompt:]


def test_a_long_source_loses_its_end_and_never_the_separator(
    tmp_path: Path, make_task_plan: Callable[..., TaskPlan], make_splits: Callable[..., RawSplits]
) -> None:
    plan = make_task_plan(max_length=12, separator=" => ")
    rows = {"en": ["film " * 40, "film"], "de": ["hund " * 40, "hund"]}
    splits = make_splits(rows, rows, rows, plan=plan)
    folder = write_tiny_writer(tmp_path / "m", "llama")
    columns, tokenizer = encoded(plan, splits, folder)
    prompt = columns["input_ids"][0][: columns["prompt"][0]]
    assert tokenizer.decode(prompt) == "film " * 10 + "=>"
    assert len(columns["input_ids"][0]) - columns["prompt"][0] == 8
    assert columns["labels"][0][-1] == tokenizer.eos_token_id
    task = make_task(plan)
    facts = task.add_model_shape(task.read(splits), read_config(folder), tokenizer)
    notes = [each.note for each in task.truncations(splits, tokenizer, facts)]
    assert notes[0] == (
        "1 of the 2 train rows have a source longer than task.max_length (12 tokens): their ends are cut off."
    )
    assert notes[1].startswith("1 of the 2 train rows have a target longer than task.max_target_length (8 tokens)")
    assert len(notes) == 6


def test_an_encoder_decoder_opens_its_answer_with_the_target_language(
    tmp_path: Path, make_task_plan: Callable[..., TaskPlan], make_splits: Callable[..., RawSplits]
) -> None:
    plan = make_task_plan(target_language="<de>")
    rows = {"en": ["good film"], "de": ["hund haus"]}
    splits = make_splits(rows, rows, rows, plan=plan)
    folder = write_tiny_writer(tmp_path / "m", "t5")
    columns, tokenizer = encoded(plan, splits, folder)
    assert [VOCABULARY[token] for token in columns["labels"][0]] == ["<de>", "hund", "haus", "</s>"]
    assert [VOCABULARY[token] for token in columns["decoder_input_ids"][0]] == ["<pad>", "<de>", "hund", "haus"]
    task = make_task(plan)
    facts = task.add_model_shape(task.read(splits), read_config(folder), tokenizer)
    from transformers import GenerationConfig

    assert task.generation_config(GenerationConfig(), tokenizer, facts).forced_bos_token_id == VOCABULARY.index("<de>")


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        ("t5", {"target_language": "xx"}, "task.target_language: the tokenizer knows no token 'xx'."),
        ("llama", {"target_language": "<de>"}, "task.target_language: LlamaConfig is a causal model, which opens its"),
        ("t5", {"source_language": "<de>"}, "takes no source language. Say it in task.prefix."),
        ("llama", {"prefix": "film " * 40}, "task.max_length: 32 tokens leave no room for a source: prefix and separ"),
    ],
)
def test_what_the_model_cannot_do_is_refused(
    architecture: str,
    fields: dict[str, str],
    message: str,
    tmp_path: Path,
    make_task_plan: Callable[..., TaskPlan],
    make_splits: Callable[..., RawSplits],
) -> None:
    plan = make_task_plan(**fields)
    rows = {"en": ["a"], "de": ["b"]}
    with pytest.raises(ModelError) as caught:
        encoded(plan, make_splits(rows, rows, rows, plan=plan), write_tiny_writer(tmp_path / "m", architecture))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"en": ["a", "b"], "de": ["c", " "]}, "'train', row 2: no text in column 'de', expected one on both sides"),
        ({"en": ["", ""], "de": ["c", "d"]}, "'train', row 1: no text in column 'en' (and 1 more rows), expected one"),
        (
            {"en": ["a", None], "de": ["c", "d"]},
            "'train', row 2: no text in column 'en', expected a string in every row",
        ),
        ({"en": [1, 2], "de": ["c", "d"]}, "the column 'en' holds int64 (row 1: 1), expected strings."),
    ],
)
def test_a_pair_with_one_side_is_refused_by_file_and_row(
    rows: dict[str, list[Any]],
    message: str,
    make_task_plan: Callable[..., TaskPlan],
    make_splits: Callable[..., RawSplits],
) -> None:
    plan = make_task_plan()
    splits = make_splits(rows, rows, rows, plan=plan)
    with pytest.raises(DataError) as caught:
        make_task(plan).read(splits)
    assert message in str(caught.value)


def corpus(rows: int = 40) -> tuple[list[str], list[str]]:
    """Targets, and the same with a third of the words exchanged; one line is empty."""
    draw = random.Random(0)
    references = word_pairs(rows, 5, longest=9)[1]
    predictions = [" ".join(w if draw.random() < 0.7 else "hund" for w in text.split()) for text in references]
    return ["", *predictions[1:]], references


def test_scores_are_those_that_sacrebleu_prints() -> None:
    import sacrebleu

    predictions, references = corpus()
    scores = make_task(TaskPlan(**PLAN)).score(predictions, references)
    assert scores["bleu"] == sacrebleu.corpus_bleu(predictions, [references]).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(predictions, [references]).score
    assert 20 < scores["bleu"] < scores["chrf"] < 90


PLAN: dict[str, Any] = {"kind": "translation", "model": "m", "data": {"train": "a.jsonl"}, "columns": COLUMNS}


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_resampled_scores_from_counts_are_those_of_resampled_sentences(name: str) -> None:
    predictions, references = corpus()
    task = make_task(TaskPlan(**PLAN))
    sums = task.statistics(name, predictions, references)
    assert sums is not None
    fast = sums.score(resampled_sums(sums.counts, seed=3, resamples=50))
    slow = resampled_scores(task.metric(name), predictions, references, seed=3, resamples=50)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-9)
    assert np.ptp(slow) > 1


def test_a_kind_that_writes_nothing_takes_no_generation_settings() -> None:
    from pydantic import ValidationError

    plan = {**PLAN, "kind": "text-classification", "columns": {"text": "a", "label": "b"}}
    with pytest.raises(ValidationError) as caught:
        TaskPlan(**plan, generation=GenerationPlan())
    assert caught.value.errors()[0]["loc"] == ("generation",)
    assert TaskPlan(**plan).generation is None
    assert TaskPlan(**PLAN).generation == GenerationPlan()
