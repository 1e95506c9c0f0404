"""The peers of the benchmark against floors: they read every kind of row, they learn, and they are scored as we are."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusters import BIN, environment, ray_folder
from paths import ROOT
from plans import BAD, FILLER, GOOD, related_row, tagged_row, tiny_plan, write_json_lines, write_sentiment
from tiny_models import write_tiny_model

sys.path.append(str(ROOT / "tests" / "benchmarks"))


def praised_row(generator: random.Random) -> dict[str, Any]:
    """A sentence with one word that tells the label."""
    words, label = generator.choices(FILLER, k=6), generator.choice(["positive", "negative"])
    words.insert(generator.randrange(6), generator.choice(GOOD if label == "positive" else BAD))
    return {"sentence": " ".join(words), "label": label}


def asked_row(generator: random.Random) -> dict[str, Any]:
    """A question whose answer stands behind the word that it asks for."""
    sentences = [f"the {word} is {generator.choice(['good', 'bad'])}." for word in ("film", "plot", "story")]
    context, word = " ".join(sentences), generator.choice(["film", "plot", "story"])
    start = context.index(f"the {word}")
    answer = context[start : context.index(".", start)]
    return {
        "question": f"what is the {word}?",
        "context": context,
        "answers": {"text": [answer], "answer_start": [start]},
    }


def translated_row(generator: random.Random) -> dict[str, Any]:
    words = [generator.choice(["good", "bad", "film", "plot", "story"]) for _ in range(5)]
    return {"source": " ".join(words), "target": " ".join(word.upper() for word in words)}


def summarized_row(generator: random.Random) -> dict[str, Any]:
    first = f"The {generator.choice(['film', 'plot'])} was {generator.choice(['good', 'bad', 'dull'])}."
    return {"text": f"{first} Nobody saw {generator.choice(['it', 'the end'])}. All went home.", "summary": first}


def spoken_row(generator: random.Random) -> dict[str, Any]:
    word = generator.choice(["film", "plot", "story"])
    said = {"role": "user", "content": f"How was the {word}?"}
    return {"messages": [said, {"role": "assistant", "content": f"That {word} was good."}]}


KINDS: dict[str, tuple[str, str, Callable[[random.Random], dict[str, Any]]]] = {
    "text-classification": ("{text: sentence, label: label}", "accuracy", praised_row),
    "token-classification": ("{tokens: tokens, tags: tags}", "f1", tagged_row),
    "relation-extraction": ("{tokens: tokens, head: head, tail: tail, relation: relation}", "macro_f1", related_row),
    "question-answering": ("{question: question, context: context, answers: answers}", "f1", asked_row),
    "translation": ("{source: source, target: target}", "bleu", translated_row),
    "summarization": ("{text: text, summary: summary}", "rougeL", summarized_row),
    "dialogue": ("{messages: messages}", "perplexity", spoken_row),
}


def write_contest(folder: Path, kind: str) -> Path:
    columns, metric, make = KINDS[kind]
    data = write_json_lines(folder, "rows", make, rows=120 if kind == "text-classification" else 60)
    write_tiny_model(folder / "model")
    plan = folder / "plan.yaml"
    task = f"{{kind: {kind}, model: model, data: {data}, columns: {columns}, metric: {metric}, max_length: 48}}"
    plan.write_text(f"name: tiny\ntask: {task}\n", encoding="utf-8")
    return plan


@pytest.mark.parametrize("kind", KINDS)
def test_everybody_answers_every_row_and_the_floors_learn(kind: str, tmp_path: Path) -> None:
    from peers.contest import read_contest
    from peers.entrants import LOOP, ORDINARY, PROBE, Terms, entrants

    contest = read_contest(write_contest(tmp_path, kind))
    entries = {name: run() for name, run in entrants(contest, Terms(0.0, None)).items()}
    trained = {LOOP, ORDINARY} if kind == "question-answering" else {LOOP, ORDINARY, PROBE}
    generates = kind in ("translation", "summarization", "dialogue")
    assert (entries.keys() & {LOOP, ORDINARY, PROBE}) == (set() if generates else trained)
    for entry in entries.values():
        low, high = entry.test.interval
        assert low <= entry.test.value <= high
    floors = [entry for name, entry in entries.items() if name not in trained]
    # Each kind of row tells its answer to some floor; copying a source is the one that must fail.
    least = {"relation-extraction": 0.5, "question-answering": 0.3, "translation": 1.0}.get(kind, 0.8)
    assert max(entry.test.value for entry in floors) > least


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("text-classification", 0.9),
        ("token-classification", 0.9),
        ("relation-extraction", 0.6),
        ("question-answering", 0.6),
    ],
)
def test_the_loop_learns(kind: str, least: float, tmp_path: Path) -> None:
    from peers.contest import read_contest
    from peers.plain_loop import Settings, plain_loop
    from peers.scores import score

    contest = read_contest(write_contest(tmp_path, kind))
    answers, validation = plain_loop(contest, 0.0, [Settings(3e-3, 12, batch_size=8)])
    assert validation > least
    assert score(contest, answers).value > least - 0.1


def test_the_solved_head_is_what_logistic_regression_says(tmp_path: Path) -> None:
    from peers.contest import read_contest
    from peers.encoded_rows import Problem
    from peers.encoder_head import EncoderHead, logits_of
    from peers.frozen_probe import solved
    from peers.scores import score

    contest = read_contest(write_contest(tmp_path, "text-classification"))
    problem = Problem(contest)
    model = EncoderHead(problem)
    probe = solved(model, problem)
    probe.into(model)
    said = problem.answers("validation", logits_of(model, problem, "validation"))
    assert score(contest, said, "validation").value == probe.validation > 0.6


def test_scores_are_those_of_the_public_metrics(tmp_path: Path) -> None:
    import sacrebleu
    from peers.contest import read_contest
    from peers.scores import score
    from sklearn.metrics import f1_score

    contest = read_contest(write_contest(tmp_path, "relation-extraction"))
    references = contest.references("test")
    said = references[1:] + references[:1]
    assert score(contest, said).value == pytest.approx(f1_score(references, said, average="macro"))
    better = score(contest, references)
    gain, low, high = better.gain_over(score(contest, said))
    assert (better.value, better.interval) == (1.0, (1.0, 1.0))
    assert 0 < low < gain < high
    contest = read_contest(write_contest(tmp_path, "translation"))
    references = contest.references("test")
    said = [f"{text} FILM" for text in references]
    assert score(contest, said).value == pytest.approx(sacrebleu.corpus_bleu(said, [references]).score)


def test_a_row_that_the_search_read_otherwise_is_told(tmp_path: Path) -> None:
    from peers.contest import read_contest
    from peers.our_search import answers

    contest = read_contest(write_contest(tmp_path, "text-classification"))
    expected = contest.references("test")
    numbers = [int(label == "positive") for label in expected]
    assert answers(contest, numbers, numbers) == expected
    with pytest.raises(ValueError, match="rows differ"):
        answers(contest, numbers, [1 - numbers[0], *numbers[1:]])
    with pytest.raises(ValueError, match="40 rows of test in the files, 39 in the run"):
        answers(contest, numbers[1:], numbers[1:])


@pytest.mark.ray
@pytest.mark.slow
def test_ours_competes_by_its_command_line(tmp_path: Path) -> None:
    import subprocess

    write_sentiment(tmp_path)
    write_tiny_model(tmp_path / "model")
    plan, out = tmp_path / "plan.yaml", tmp_path / "figures.json"
    plan.write_text(tiny_plan(trials=2), encoding="utf-8")
    program = ROOT / "tests" / "benchmarks" / "against_floors.py"
    command = [BIN / "python", program, "--plan", plan, "--ours-set", "search.seed=3", "--json", out]
    with ray_folder() as folder:
        done = subprocess.run(
            command, env=environment(RAY_TMPDIR=str(folder)), capture_output=True, text=True, timeout=500
        )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    told = json.loads(out.read_text(encoding="utf-8"))["sets"]["tiny"]
    assert told["entries"]["finesearch"]["seconds"] > 0
    low, high = told["gain"]["interval"]
    assert low <= told["gain"]["value"] <= high
    assert told["is_missed"] == (high < 0)
