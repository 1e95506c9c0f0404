"""A checkpoint that asks, exported: the script beside it gives its answers in a process that knows nothing of us."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import test_generation_trials as writers
import test_span_tasks as spans
from test_generated_answers import CHAT
from test_prompting import write_masked

from finesearch.errors import InputError
from finesearch.plan import GenerationPlan, TaskPlan, TrainingPlan
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from tiny_writers import word_pairs, write_tiny_writer, write_writer_tokenizer
from training_cases import run, task_plan, trial, write_home

# Runs each folder's README.md in it, as it stands, then asks what it left behind.
OUTSIDE = """
import json, os, sys
for folder, questions in json.loads(sys.argv[1]).items():
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.modules.pop("ask", None)
    left = {}
    exec(open("README.md").read().split("```python\\n")[1].split("```")[0], left)
    answers = [left["asker"].answer(span and tuple(span), **fields) for span, fields in questions]
    sys.path.remove(folder)
    print("answers", json.dumps(answers))
print("finesearch" in sys.modules or "peft" in sys.modules)
"""
PAIRED = {"template": "It is {labels}?\n{text} => {label}"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "similarity": ("zero_shot", {}),
    "nearest": ("few_shot", {"examples": 4, "selection": "similar", "template": "{text}\nthis is {label}"}),
    "words": ("few_shot", {"examples": 6}),
    "cloze": ("few_shot", {"examples": 3, "template": "{text} was {label} to me"}),
    "likelihood": ("few_shot", {"examples": 3, **PAIRED}),
    "chat": ("few_shot", {"examples": 2, "selection": "similar", **PAIRED}),
    "decoded": ("zero_shot", PAIRED),
    "written": ("few_shot", {"examples": 30, "selection": "similar", "template": "{source}\n{target}"}),
    "translated": ("few_shot", {"examples": 2, "selection": "similar"}),
}
Asked = list[tuple[Any, dict[str, str]]]


def imports_of(path: Path) -> set[str]:
    tree = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    named = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
    return named | {str(node.module) for node in tree if isinstance(node, ast.ImportFrom)}


@dataclass
class Case:
    """A checkpoint, the questions of some validation rows, and what it answered."""

    checkpoint: str
    questions: Asked
    answers: list[Any]


def texts_of(home: Path) -> list[str]:
    with (home / "validation.csv").open(encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def make(name: str, folder: Path) -> Case:
    adaptation, parameters = CASES[name]
    if name == "words":
        splits = {split: spans.tagged_rows(30, seed) for seed, split in enumerate(("train", "validation", "test"))}
        home = spans.write_rows(folder / "home", splits)
        plan = spans.task_plan("token-classification", {"tokens": "tokens", "tags": "tags"}, max_length=40)
    elif name in ("written", "translated"):
        architecture = "gpt2" if name == "written" else "t5"
        home = writers.write_home(folder / "home", architecture, tie=False)
        plan = writers.plan_of(generation=GenerationPlan(max_new_tokens=8, batch_size=1))
    else:
        home, plan = write_home(folder / "home"), task_plan()
        if name == "cloze":
            write_masked(home / "model")
        if name in ("likelihood", "chat", "decoded"):
            plan = task_plan("writer", max_length=16)
            write_tiny_writer(home / "writer", "t5" if name == "decoded" else "llama")
        if name == "chat":
            write_writer_tokenizer(home / "writer", with_end=False, chat_template=CHAT)
    checkpoint, answers = asked(home, plan, folder / "trial", adaptation, parameters)
    if name == "words":
        tokens = splits["validation"][0]["tokens"]
        text = " ".join(tokens)
        places = [match.span() for match in re.finditer(r"\S+", text)]
        questions: Asked = [((a, b), {"text": text, "word": text[a:b]}) for a, b in places]
        by_place = {place: "O" for place in places} | {
            place: label for place in places for start, end, label in answers[0] if place_in(place, tokens, start, end)
        }
        return Case(checkpoint, questions, [by_place[place] for place in places])
    if plan.kind == "translation":
        return Case(checkpoint, [(None, {"source": text}) for text in word_pairs(20, 1)[0][:16]], answers[:16])
    labels = ("bad", "good")
    return Case(checkpoint, [(None, {"text": t}) for t in texts_of(home)[:16]], [labels[n] for n in answers[:16]])


def place_in(place: tuple[int, int], tokens: list[str], start: int, end: int) -> bool:
    """Whether a word's place in the text lies in a span of tokens."""
    first = len(" ".join(tokens[:start])) + (start > 0)
    return first <= place[0] and place[1] <= len(" ".join(tokens[:end]))


def asked(home: Path, plan: TaskPlan, folder: Path, adaptation: str, parameters: Any) -> tuple[str, list[Any]]:
    training = TrainingPlan(precision="fp32")
    work = TrialRunner(plan, training, str(home), str(home / "cache"), plan.metric, "max")
    result, _ = run(work, trial(folder, adaptation=adaptation, adaptation_parameters=parameters))
    scored = evaluate_checkpoint(str(result.checkpoint), "validation", plan, training, home, home / "cache")
    return str(result.checkpoint), scored.predictions


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("asked")
    return {name: make(name, folder / name) for name in CASES}


@pytest.fixture(scope="module")
def outside(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    folder = tmp_path_factory.mktemp("exports")
    given = {str(export_checkpoint(case.checkpoint, folder / name)): case.questions for name, case in cases.items()}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-W", "ignore", "-c", OUTSIDE, json.dumps(given)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
    answers = [json.loads(line[8:]) for line in done.stdout.splitlines() if line.startswith("answers ")]
    assert all((Path(path) / "model.safetensors").is_file() for path in given)
    return dict(zip(CASES, answers, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_the_script_beside_an_export_answers_as_the_checkpoint_did(
    name: str, cases: dict[str, Case], outside: dict[str, list[Any]]
) -> None:
    assert outside[name] == cases[name].answers
    assert len(cases[name].answers) >= 4


def test_the_files_beside_an_export_need_one_another_torch_and_transformers_alone(
    cases: dict[str, Case], tmp_path: Path
) -> None:
    folder = export_checkpoint(cases["similarity"].checkpoint, tmp_path / "out")
    files = [folder / "ask.py", *(folder / "scoring").glob("*.py")]
    assert len(files) > 10
    own = {f"scoring.{path.stem}" for path in files}
    # Whoever shows the nearest examples is told by README.md to have scikit-learn.
    outside = {"numpy", "torch", "transformers", "sklearn"} | sys.stdlib_module_names
    for path in files:
        for name in imports_of(path):
            assert name in own or name.partition(".")[0] in outside, f"{path.name} imports {name}"


def test_the_cases_tell_answers_apart(cases: dict[str, Case]) -> None:
    varied = {name for name, case in cases.items() if len(set(map(str, case.answers))) > 1}
    # In chat this random model says the same to all.
    assert varied >= CASES.keys() - {"chat"}


def test_there_is_no_adapter_to_export_where_nothing_trained(cases: dict[str, Case], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got one of zero_shot, which trains nothing. Export it without --adapter"):
        export_checkpoint(cases["similarity"].checkpoint, tmp_path / "out", adapter=True)
    assert not (tmp_path / "out").exists()


def test_chosen_generation_settings_are_written_into_the_export(cases: dict[str, Case], tmp_path: Path) -> None:
    folder = export_checkpoint(cases["written"].checkpoint, tmp_path / "out", generation={"beams": 3})
    settings = json.loads((folder / "generation_config.json").read_text())
    assert (settings["num_beams"], settings["max_new_tokens"]) == (3, 8)
