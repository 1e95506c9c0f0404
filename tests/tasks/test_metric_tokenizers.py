"""BLEU and ROUGE of texts in every script: which tokenizer counts, and what cannot rank."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from finesearch.errors import InputError, PlanError
from finesearch.floors.floor import FloorData
from finesearch.floors.nearest_texts import NearestReply, first_sentences
from finesearch.plan import TaskPlan, parse_plan
from finesearch.plan.auto_choices import choose_metric_tokenizer
from finesearch.plan.sections.task_kinds import BLEU_TOKENIZERS, TASK_KINDS
from finesearch.run.preflight import run_preflight
from finesearch.tasks import TaskFacts, make_task
from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.tasks.generation.metric_tokenizers import (
    check_tokenizer,
    choose_bleu_tokenizer,
    choose_rouge_tokenizer,
    is_installed,
)
from tiny_writers import write_tiny_writer

CHINESE, CHINESE_NEAR = "我们今天去公园看电影。", "我们今天去学校看电影。"
SAME = {
    "zh": CHINESE,
    "ja": "今日はとても天気がいいですね。",
    "ko": "오늘은 날씨가 아주 좋은 것 같아요.",
    "th": "วันนี้อากาศดีมาก",
    "lo": "ມື້ນີ້ອາກາດດີຫຼາຍ",
    "km": "ថ្ងៃនេះអាកាសធាតុល្អណាស់",
    "my": "ဒီနေ့ရာသီဥတုကောင်းတယ်",
    "ru": "Сегодня очень хорошая погода в городе.",
    "ar": "الطقس جميل جدا اليوم في المدينة",
    "hi": "आज मौसम बहुत अच्छा है",
    "de": "Für müde Füße gibt es schöne Schuhe.",
    "en": "The weather is very good in town today.",
}
"""A sentence a language."""
COLUMNS = {
    "translation": {"source": "source", "target": "target"},
    "summarization": {"text": "source", "summary": "target"},
    "dialogue": {"messages": "messages"},
}


@pytest.fixture
def task_of(make_plan: Callable[..., TaskPlan]) -> Callable[..., GenerationTask]:
    """The task with what auto stands for with these answers."""

    def make(kind: str, references: list[str], **fields: Any) -> GenerationTask:
        plan = make_plan(kind=kind, columns=COLUMNS[kind], **fields)
        task = make_task(plan)
        assert isinstance(task, GenerationTask)
        chosen, _ = task.choose_metric_tokenizer(references)
        made = make_task(plan.model_copy(update={"metric_tokenizer": chosen}))
        assert isinstance(made, GenerationTask)
        return made

    return make


@pytest.mark.parametrize("language", SAME)
@pytest.mark.parametrize("kind", COLUMNS)
def test_a_perfect_answer_scores_best_and_another_one_nothing(kind: str, language: str, task_of: Any) -> None:
    references = [SAME[language]]
    task = task_of(kind, references, metric=TASK_KINDS[kind].default_metric if kind != "dialogue" else "rougeL")
    perfect, none = (
        task.score(task.perfect_predictions(references), references),
        task.score(task.perfect_predictions(["xyz"]), references),
    )
    for name in perfect.keys() - {"perplexity"}:
        assert perfect[name] == pytest.approx(100.0 if name in ("bleu", "chrf") else 1.0), name
        assert none[name] < 0.1 * perfect[name], name


def test_chinese_is_scored_as_sacrebleu_scores_it_with_its_tokenizer(task_of: Any) -> None:
    scores = task_of("translation", [CHINESE]).score([CHINESE_NEAR], [CHINESE])
    assert scores["bleu"] == sacrebleu.corpus_bleu([CHINESE_NEAR], [[CHINESE]], tokenize="zh").score
    assert 40 < scores["bleu"] < 90
    task = task_of("translation", [CHINESE])
    counts = task.statistics("bleu", [CHINESE_NEAR], [CHINESE])
    assert counts.score(counts.counts) == pytest.approx(scores["bleu"]), "the bootstrap counts the same words"
    # 9 of 11 characters are shared, less the full stop; in order.
    assert task_of("summarization", [CHINESE]).score([CHINESE_NEAR], [CHINESE])["rougeL"] == pytest.approx(8 / 10)


def test_russian_words_count_as_english_ones_do(task_of: Any) -> None:
    given, true = ["сегодня хорошая погода"], ["Сегодня плохая погода!"]
    scores = task_of("summarization", true).score(given, true)
    assert scores == {"rouge1": pytest.approx(2 / 3), "rouge2": 0.0, "rougeL": pytest.approx(2 / 3)}


def test_english_scores_are_those_of_the_tools_themselves(task_of: Any) -> None:
    given, true = ["The cat's on-the mat, isn’t it?", "a dog"], ["A cat is on the mat; isn't it?", "the dog ran"]
    tokenizers = {}
    for kind in COLUMNS:
        task = task_of(kind, true, metric="rougeL" if kind != "translation" else "bleu")
        tokenizers[kind] = task.plan.metric_tokenizer
        scores = task.score(task.perfect_predictions(given), true)
        if "bleu" in scores:
            assert scores["bleu"] == sacrebleu.corpus_bleu(given, [true]).score
        if "rougeL" in scores:
            own = [RougeScorer(["rougeL"]).score(t, g)["rougeL"].fmeasure for g, t in zip(given, true, strict=True)]
            assert scores["rougeL"] == sum(own) / 2
    assert tokenizers == {"translation": "13a", "summarization": "latin", "dialogue": "13a"}


@pytest.mark.parametrize(
    ("language", "bleu", "rouge"),
    [
        ("zh", "zh", "unicode"),
        ("ja", "ja-mecab" if is_installed("ja-mecab") else "char", "unicode"),
        ("ko", "ko-mecab" if is_installed("ko-mecab") else "13a", "unicode"),
        ("km", "char", "unicode"),
        ("ru", "13a", "unicode"),
        ("de", "13a", "unicode"),
        ("en", "13a", "latin"),
    ],
)
def test_auto_goes_by_the_scripts_of_the_answers(language: str, bleu: str, rouge: str) -> None:
    assert (choose_bleu_tokenizer([SAME[language]])[0], choose_rouge_tokenizer([SAME[language]])[0]) == (bleu, rouge)


def test_a_plan_may_name_every_tokenizer_of_sacrebleu() -> None:
    assert set(BLEU_TOKENIZERS) == set(BLEU.TOKENIZERS) - {"spm"}, "spm is flores101 under an old name"


@pytest.mark.skipif(is_installed("ja-mecab"), reason="MeCab is installed")
def test_a_tokenizer_that_is_not_installed_is_refused() -> None:
    with pytest.raises(InputError, match="cannot load the tokenizer 'ja-mecab' .*sacrebleu.ja.* on every node"):
        check_tokenizer("ja-mecab")


@pytest.mark.parametrize(("kind", "value"), [("summarization", "zh"), ("translation", "unicode"), ("dialogue", "13b")])
def test_a_tokenizer_of_another_metric_is_refused(kind: str, value: str, make_plan: Any) -> None:
    with pytest.raises((PlanError, ValueError), match=f"unknown tokenizer '{value}' of {kind}"):
        make_plan(kind=kind, columns=COLUMNS[kind], metric_tokenizer=value)


def plan_of(folder: Path, target: str, **task: Any) -> str:
    write_tiny_writer(folder / "model", "gpt2")
    row = {"source": "good film", "target": target}
    (folder / "rows.jsonl").write_text("\n".join([json.dumps(row)] * 3), encoding="utf-8")
    data = {split: "rows.jsonl" for split in ("train", "validation", "test")}
    common = {"kind": "translation", "model": "model", "data": data, "columns": COLUMNS["translation"]}
    task = {**common, "max_length": 16, "max_target_length": 16, "generation": {"max_new_tokens": 16}, **task}
    return json.dumps({"name": "probe", "task": task, "space": {"learning_rate": 1e-3}, "base": str(folder)})


@pytest.mark.parametrize(("target", "task"), [("ja nein", {}), (CHINESE, {"metric_tokenizer": "13a"})])
def test_a_metric_that_ranks_nothing_is_refused_before_anything_runs(
    target: str, task: dict[str, Any], tmp_path: Path
) -> None:
    plan = parse_plan(plan_of(tmp_path, target, **task))
    with pytest.raises(InputError, match="bleu with task.metric_tokenizer '13a' gives the true answers of validation"):
        run_preflight(plan, tmp_path / "cache")
    # A run of an older version goes on as it began.
    assert run_preflight(plan, tmp_path / "cache", has_begun=True).plan.task == plan.task


def test_a_run_goes_on_with_the_tokenizer_that_it_began_with(tmp_path: Path) -> None:
    plan = parse_plan(plan_of(tmp_path, CHINESE))
    assert plan.task.metric_tokenizer == "auto"
    begun, notes = choose_metric_tokenizer(plan, "zh", "why")
    assert notes == ("task.metric_tokenizer auto: zh, by the answers of validation: why.",)
    again = parse_plan(begun.to_yaml())
    assert plan.continuing(again).task.metric_tokenizer == "zh"
    assert plan.continuing(again).differences(again) == []
    assert plan.continuing(plan).task.metric_tokenizer == "auto", "as BLEU was counted before there was a choice"


def test_floors_find_words_in_scripts_without_spaces(make_plan: Any) -> None:
    def talk(question: str, answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    task = make_task(make_plan(kind="dialogue", columns=COLUMNS["dialogue"], metric="bleu"))
    known = {"messages": [talk("天气怎么样", "很好"), talk("你喜欢电影吗", "喜欢"), talk("哪里有公园", "前面")]}
    asked = {"messages": [talk("这里有公园吗", "?"), talk("他们喜欢电影", "?")]}
    found = NearestReply(task, TaskFacts(kind="dialogue")).predict(FloorData(known, asked, asked, [], []))
    assert [each["text"] for each in found.test] == ["前面", "喜欢"]
    assert first_sentences("今天很好。去公园吧。再见。", 2) == "今天很好。 去公园吧。"
