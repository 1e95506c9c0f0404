"""Floors: the same interface for all, and for each of them rows whose right answers are known by hand."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_tasks_contract import EXAMPLES

from finesearch.floors import Floor, FloorData, FloorPredictions, make_floor, unsupported_floors
from finesearch.floors.floor_registry import FLOORS_BY_NAME
from finesearch.plan import TASK_KINDS, TaskPlan
from finesearch.tasks import RawSplits, make_task

Made = Callable[..., tuple[Floor, FloorData, list[Any]]]


@pytest.fixture
def made(make_plan: Callable[..., TaskPlan], make_splits: Callable[..., RawSplits]) -> Made:
    """A floor of a task, with data and the true answers of test."""

    def make(name: str, splits: list[dict[str, list[Any]]], **plan: Any) -> tuple[Floor, FloorData, list[Any]]:
        wanted = make_plan(**plan)
        task, found = make_task(wanted), make_splits(*splits, plan=wanted)
        facts = task.read(found)
        rows = {split: found.plain_rows(split) for split in ("train", "validation", "test")}
        answers = {split: task.answers(rows[split], facts) for split in rows}
        data = FloorData(rows["train"], rows["validation"], rows["test"], answers["train"], answers["validation"])
        return make_floor(name, task, facts), data, answers["test"]

    return make


def test_every_floor_belongs_to_a_kind_and_every_kind_has_one() -> None:
    assert {name for kind in TASK_KINDS.values() for name in kind.floors} == set(FLOORS_BY_NAME)
    assert all(kind.floors for kind in TASK_KINDS.values())


@pytest.mark.parametrize(
    ("example", "name"),
    [(example, name) for example in sorted(EXAMPLES) for name in TASK_KINDS[example.partition("/")[0]].floors],
)
def test_every_floor_predicts_every_row_and_the_same_again(example: str, name: str, made: Made) -> None:
    rows, kind = EXAMPLES[example]["rows"], example.partition("/")[0]
    floor, data, references = made(name, [rows, rows, rows], kind=kind, columns=EXAMPLES[example]["columns"])
    found = floor.predict(data)
    assert len(found.validation) == len(found.test) == len(references)
    assert set(floor.task.score(found.test, references)) == set(TASK_KINDS[kind].metrics) - set(
        TASK_KINDS[kind].conditional_metrics
    )
    again = floor.predict(data)
    assert json.dumps([found.validation, found.test]) == json.dumps([again.validation, again.test])
    assert json.dumps(found.test) == json.dumps(found.validation), "validation has the same rows"


WORDS = ["the cat sat", "a dog ran", "the cat ate", "a dog slept", "one cat here", "two dogs there"]
TEXTS = {"text": WORDS, "label": ["cat", "dog"] * 3}


def test_a_bag_of_words_learns_the_word_that_decides(made: Made) -> None:
    test = {"text": ["no cat at all", "no dog at all"], "label": ["cat", "dog"]}
    floor, data, references = made("tfidf", [TEXTS, TEXTS, test])
    assert floor.predict(data).test == references == [0, 1]


def test_a_bag_of_words_is_what_scikit_learn_gives_for_the_same_features(made: Made) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_union

    rng = np.random.default_rng(0)
    names = ["ant", "bee", "cow"]
    texts = [" ".join(rng.choice([*names, "of", "in", "by", "at"], size=5)) for _ in range(60)]
    labels = [max(names, key=text.split().count) for text in texts]
    parts = [{"text": texts[part], "label": labels[part]} for part in (slice(30), slice(30, 45), slice(45, 60))]
    floor, data, references = made("tfidf", parts)
    found = floor.predict(data)
    union = make_union(
        TfidfVectorizer(token_pattern=r"(?u)\w+", ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
    features = union.fit_transform(parts[0]["text"])
    # One model a class, by another solver and to its end.
    scores = [
        LogisticRegression(C=found.settings["C"], tol=1e-8, max_iter=5000)
        .fit(features, np.array(data.train_answers) == number)
        .decision_function(union.transform(parts[2]["text"]))
        for number in range(3)
    ]
    assert found.test == np.argmax(scores, axis=0).tolist()
    assert floor.task.score(found.test, references)["accuracy"] > 0.6


def test_rows_are_transformed_some_at_a_time_and_predicted_the_same(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finesearch.floors import bag_of_words, text_features

    floor, data, _ = made("tfidf", [TEXTS, TEXTS, TEXTS])
    whole, sizes, transform = floor.predict(data), [], text_features.PairFeatures.transform

    def counted(features: Any, columns: Any) -> Any:
        sizes.append(len(columns[0]))
        return transform(features, columns)

    monkeypatch.setattr(text_features.PairFeatures, "transform", counted)
    monkeypatch.setattr(bag_of_words, "ROWS_AT_ONCE", 4)
    found = floor.predict(data)
    assert (found.validation, found.test, found.settings) == (whole.validation, whole.test, whole.settings)
    assert sizes == [4, 2, 4, 2]


@pytest.mark.parametrize(
    ("texts", "features", "expected"),
    [(["?!", "?!", "!!"], "characters", [0, 0, 1]), (["", " ", ""], "none", [0, 0, 0])],
    ids=["without words", "without characters"],
)
def test_a_bag_of_words_of_texts_without_words_says_so(
    texts: list[str], features: str, expected: list[int], made: Made
) -> None:
    rows = {"text": texts * 3, "label": ["often", "often", "seldom"] * 3}
    floor, data, _ = made("tfidf", [rows, rows, rows])
    found = floor.predict(data)
    assert (found.test, found.settings["features"]) == (expected * 3, features)


def test_a_pair_with_one_column_without_words_keeps_the_features_of_the_other(made: Made) -> None:
    rows = {"a": WORDS, "b": ["?"] * 6, "label": ["cat", "dog"] * 3}
    columns = {"text": "a", "text_pair": "b", "label": "label"}
    floor, data, references = made("tfidf", [rows, rows, rows], columns=columns)
    found = floor.predict(data)
    assert (found.test, found.settings["features"]) == (references, "both and characters")


def test_the_mean_stands_for_a_number_where_no_text_has_a_character(made: Made) -> None:
    rows = {"text": ["", "", ""], "label": [1.0, 2.0, 6.0]}
    floor, data, _ = made("tfidf", [rows, rows, rows], form="regression", metric="pearson")
    assert floor.predict(data).test == pytest.approx([3.0] * 3)


def test_the_setting_is_the_best_on_validation_and_the_first_of_equals(made: Made) -> None:
    floor, data, _ = made("tfidf", [TEXTS, TEXTS, TEXTS])
    right, wrong = list(data.validation_answers), [1 - answer for answer in data.validation_answers]
    candidates = [(1.0, wrong), (2.0, right), (3.0, right)]
    assert floor.best_setting(candidates, data.validation_answers) == (2.0, right)


def test_a_pair_of_texts_is_told_by_what_its_texts_share(made: Made) -> None:
    first = ["red sun", "blue sea", "old oak", "new moon", "hot tea", "wet dog", "big cat", "shy fox"]
    same = [bool(number % 2) for number in range(8)]
    second = [text if alike else f"{chr(97 + i)}zq" for i, (text, alike) in enumerate(zip(first, same, strict=True))]
    rows = {"a": first, "b": second, "label": [str(alike) for alike in same]}
    test = {"a": ["low hill", "far star"], "b": ["low hill", "xvw"], "label": ["True", "False"]}
    columns = {"text": "a", "text_pair": "b", "label": "label"}
    floor, data, references = made("tfidf", [rows, rows, test], columns=columns)
    assert floor.predict(data).test == references


def test_several_labels_are_found_one_by_one_and_one_that_all_have_is_given(made: Made) -> None:
    labels = [["all", "cat"], ["all", "dog"]] * 2 + [["all", "cat"], ["all", "cat", "dog"]]
    texts = ["the cat sat", "a dog ran", "the cat ate", "a dog slept", "one cat here", "cat and dog"]
    rows = {"text": texts, "label": labels}
    test = {"text": ["a cat", "a dog", "dog and cat"], "label": [["all", "cat"], ["all", "dog"], ["all", "cat", "dog"]]}
    floor, data, references = made("tfidf", [rows, rows, test], form="multi-label", metric="micro_f1")
    assert floor.predict(data).test == references == [[0, 1], [0, 2], [0, 1, 2]]


def test_a_number_is_found_by_ridge_regression(made: Made) -> None:
    words = ["bad", "poor", "fair", "good", "fine"]
    rows = {"text": [f"{word} film" for word in words * 4], "label": [float(words.index(word)) for word in words * 4]}
    floor, data, references = made("tfidf", [rows, rows, rows], form="regression", metric="pearson")
    found = floor.predict(data)
    assert floor.task.score(found.test, references)["pearson"] > 0.99
    assert set(found.settings) == {"alpha"}


def test_a_relation_is_told_by_which_entity_is_the_head(made: Made) -> None:
    tokens = [["Ada", "met", "Bob"], ["Cy", "met", "Di"], ["Ed", "met", "Flo"], ["Gil", "met", "Hal"]]
    rows = {
        "tokens": tokens,
        "head": [[0, 1], [2, 3]] * 2,
        "tail": [[2, 3], [0, 1]] * 2,
        "relation": ["active", "passive"] * 2,
    }
    columns = {role: role for role in rows}
    floor, data, references = made("tfidf", [rows, rows, rows], kind="relation-extraction", columns=columns)
    assert floor.predict(data).test == references == ["active", "passive"] * 2


ENTITIES = {
    "tokens": [["in", "New", "York", "City"], ["in", "New", "York"], ["Paris", "Hilton"], ["to", "Paris"], ["May"]],
    "tags": [["O", "B-L", "I-L", "I-L"], ["O", "B-L", "I-L"], ["B-P", "I-P"], ["O", "B-L"], ["B-P"]],
}
TAGGED = {"kind": "token-classification", "columns": {"tokens": "tokens", "tags": "tags"}}


def test_a_dictionary_takes_the_longest_match_and_leaves_out_what_has_two_labels(made: Made) -> None:
    train = {"tokens": [*ENTITIES["tokens"], ["May"]], "tags": [*ENTITIES["tags"], ["B-L"]]}
    test = {
        "tokens": [["New", "York", "City", "in", "May"], ["Paris", "Hilton", "saw", "Paris"]],
        "tags": [["O"] * 5, ["O"] * 4],
    }
    floor, data, _ = made("dictionary", [train, ENTITIES, test], **TAGGED)
    assert floor.predict(data).test == [[[0, 3, "L"]], [[0, 2, "P"], [3, 4, "L"]]]


def test_spans_of_a_text_are_predicted_in_characters(made: Made) -> None:
    rows = {"text": ["See Rome."], "spans": [[{"start": 4, "end": 8, "label": "L"}]]}
    test = {"text": ["Rome, oh Rome!"], "spans": [[{"start": 0, "end": 4, "label": "L"}]]}
    columns = {"text": "text", "spans": "spans"}
    floor, data, _ = made("dictionary", [rows, rows, test], kind="token-classification", columns=columns)
    assert floor.predict(data).test == [[[0, 4, "L"], [9, 13, "L"]]]


def test_a_random_field_finds_entities_that_it_has_not_seen_by_shape_and_neighbour(made: Made) -> None:
    towns, tokens, tags = ["Rome", "Oslo", "Bonn", "Kyiv", "Lima"], [], []
    for number in range(20):
        tokens.append(["he", "lives", "in", towns[number % 5], "now"])
        tags.append(["O", "O", "O", "B-L", "O"])
    train = {"tokens": tokens, "tags": tags}
    test = {"tokens": [["she", "lives", "in", "Cairo", "now"], ["in", "fact"]], "tags": [["O"] * 5, ["O"] * 2]}
    floor, data, _ = made("crf", [train, train, test], **TAGGED)
    assert floor.predict(data).test == [[[3, 4, "L"]], []]


def test_the_best_sentence_shares_most_with_the_question(made: Made) -> None:
    context = "Ada lived in London. She wrote a program in 1843. It was long."
    rows = {
        "question": ["When did she write the program?", "Where did Ada live?"],
        "context": [context, context],
        "answers": [{"text": ["1843"], "answer_start": [44]}, {"text": ["London"], "answer_start": [13]}],
    }
    columns = {role: role for role in rows}
    floor, data, _ = made("best_sentence", [rows, rows, rows], kind="question-answering", columns=columns)
    assert [given["text"] for given in floor.predict(data).test] == [
        "She wrote a program in 1843.", "Ada lived in London.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("context", "questions", "expected"),
    [
        (
            "李白住在長安。他在七二五年寫了一首詩。詩很長。",
            ["他哪年寫詩？", "李白住在哪裡？"],
            ["他在七二五年寫了一首詩。", "李白住在長安。"],
        ),
        (
            "สมชายอยู่ที่กรุงเทพ. เขาเขียนหนังสือเล่มหนึ่ง. มันยาวมาก.",
            ["เขาเขียนอะไร", "สมชายอยู่ที่ไหน"],
            ["เขาเขียนหนังสือเล่มหนึ่ง.", "สมชายอยู่ที่กรุงเทพ."],
        ),
        ("?! ?. !", ["?", "!"], ["?!", "?!"]),
    ],
    ids=["Chinese", "Thai", "without words"],
)
def test_the_best_sentence_is_found_in_scripts_without_spaces(
    context: str, questions: list[str], expected: list[str], made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finesearch.floors.best_sentence.ROWS_AT_ONCE", 1)
    answers = [{"text": [context[:2]], "answer_start": [0]}] * 2
    rows = {"question": questions, "context": [context] * 2, "answers": answers}
    columns = {role: role for role in rows}
    floor, data, _ = made("best_sentence", [rows, rows, rows], kind="question-answering", columns=columns)
    assert [given["text"] for given in floor.predict(data).test] == expected


def test_a_question_that_no_sentence_resembles_gets_no_answer_by_the_tasks_threshold(made: Made) -> None:
    context = "Ada lived in London. She wrote a program."
    rows = {
        "question": ["Who lived in London?", "Why is ice cold?"],
        "context": [context, context],
        "answers": [{"text": ["Ada"], "answer_start": [0]}, {"text": [], "answer_start": []}],
    }
    columns = {role: role for role in rows}
    floor, data, references = made("best_sentence", [rows, rows, rows], kind="question-answering", columns=columns)
    found: FloorPredictions = floor.predict(data)
    decision = floor.task.calibrate(found.validation, data.validation_answers)
    assert [given["text"] for given in floor.task.decide(found.test, decision)] == ["Ada lived in London.", ""]
    assert references == [["Ada"], []]


def test_translations_are_copied_or_taken_from_the_nearest_source(made: Made) -> None:
    train = {"source": ["a red house", "a blue car", "two dogs"], "target": ["rotes Haus", "blaues Auto", "Hunde"]}
    test = {"source": ["the dogs", "this red house"], "target": ["Hunde", "Haus"]}
    plan = {"kind": "translation", "columns": {"source": "source", "target": "target"}}
    floor, data, _ = made("copy", [train, test, test], **plan)
    assert floor.predict(data).test == test["source"]
    floor, data, _ = made("nearest", [train, test, test], **plan)
    assert floor.predict(data).test == ["Hunde", "rotes Haus"]


def test_the_number_of_first_sentences_is_chosen_on_validation(made: Made) -> None:
    text = "The film is long. It is about a dog. Nobody liked the music. It ends well."
    rows = {"text": [text], "summary": ["The film is long. It is about a dog."]}
    test = {"text": ["One is here. Two is there. Three is gone."], "summary": ["x"]}
    floor, data, _ = made(
        "lead", [rows, rows, test], kind="summarization", columns={"text": "text", "summary": "summary"}
    )
    found = floor.predict(data)
    assert (found.settings, found.test) == ({"sentences": 2}, ["One is here. Two is there."])


def test_the_reply_is_the_one_that_followed_the_nearest_turn(made: Made) -> None:
    def talk(*contents: str) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]

    train = {"messages": [talk("what time is it", "noon", "and the weather", "rain"), talk("do you like tea", "yes")]}
    test = {"messages": [talk("how is the weather today", "fine"), talk("what is my time", "late"), talk("zzz", "hm")]}
    plan = {"kind": "dialogue", "columns": {"messages": "messages"}}
    floor, data, _ = made("bm25", [train, train, test], metric="rougeL", **plan)
    found = floor.predict(data)
    assert [given["text"] for given in found.test] == ["rain", "noon", "noon"], "the first where no word is known"
    assert all(math.isnan(given["nll"]) for given in found.test)


@pytest.mark.parametrize(
    ("train", "asked", "expected"),
    [
        (["今天天气怎么样", "下雨", "你喜欢喝茶吗", "喜欢"], ["明天天气好吗", "我喜欢茶"], ["下雨", "喜欢"]),
        (["?!", "what", "!", "no"], ["?", "how?"], ["what", "what"]),
    ],
    ids=["Chinese", "without words"],
)
def test_a_reply_is_found_in_scripts_without_spaces(
    train: list[str], asked: list[str], expected: list[str], made: Made
) -> None:
    def talks(*contents: str) -> dict[str, list[Any]]:
        turns = [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]
        return {"messages": [turns[start : start + 2] for start in range(0, len(turns), 2)]}

    test = talks(*(content for question in asked for content in (question, "x")))
    plan = {"kind": "dialogue", "columns": {"messages": "messages"}}
    floor, data, _ = made("bm25", [talks(*train), test, test], metric="rougeL", **plan)
    assert [given["text"] for given in floor.predict(data).test] == expected


def test_a_reply_that_is_found_cannot_be_compared_by_perplexity(make_plan: Callable[..., TaskPlan]) -> None:
    plan = {"kind": "dialogue", "columns": {"messages": "messages"}}
    assert "a reply that is found has no perplexity" in unsupported_floors(make_plan(**plan), ["bm25"])["bm25"]
    assert unsupported_floors(make_plan(**plan, metric="bleu"), ["bm25"]) == {}
