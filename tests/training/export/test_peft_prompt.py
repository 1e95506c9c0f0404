"""An exported prompt, used in a process without us by the code that stands beside it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import test_generation_trials as writers
import test_span_tasks as spans
import torch

from finesearch.training.checkpointing.load_checkpoint import load_checkpoint_model
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from tiny_models import sentences
from tiny_writers import word_pairs
from training_cases import make_runner, run, trial

# Runs each folder's README.md in it, then asks what it left: a model and a tokenizer, or a function.
OUTSIDE = """
import json, os, sys, torch
def answers(folder, texts):
    os.chdir(folder)
    code = open("README.md").read().split("```python\\n")[1].split("```")[0]
    left = {}
    exec(code, left)
    if "relation" in left:
        return [left["relation"](text) for text in texts]
    model, tokenizer, found = left["model"], left["tokenizer"], []
    for text in texts:
        batch = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            if model.get_base_model().can_generate():
                found.append(model.generate(**batch, max_new_tokens=8)[0].tolist())
            else:
                found.append(model(**batch).logits[0].tolist())
    return found
for folder, texts in json.loads(sys.argv[1]).items():
    print(json.dumps(answers(folder, texts)))
print(any(name.split(".")[0] == "finesearch" for name in sys.modules))
"""
RATE = {"learning_rate": 0.1, "epochs": 1}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "text-classification": ("prompt_tuning", {"virtual_tokens": 4}),
    "token-classification": ("p_tuning", {"virtual_tokens": 3, "encoder": "lstm"}),
    "relation-extraction": ("prompt_tuning", {"virtual_tokens": 3}),
    "gpt2": ("prefix_tuning", {"virtual_tokens": 3, "projection": True}),
    "llama": ("prompt_tuning", {"virtual_tokens": 3}),
    "t5": ("prefix_tuning", {"virtual_tokens": 3}),
    "bart": ("p_tuning", {"virtual_tokens": 3}),
}


def trained(case: str, home: Path, folder: Path) -> tuple[str, list[str], list[Any] | None]:
    """A checkpoint of the case, texts to ask it about, and its answers where a task has to be asked for them."""
    name, parameters = CASES[case]
    settings = {"adaptation": name, "adaptation_parameters": parameters, **RATE}
    if case == "text-classification":
        result, _ = run(make_runner(home), trial(folder / "trial", **settings))
        return str(result.checkpoint), sentences(6, seed=2)[0], None
    if case in ("gpt2", "llama", "t5", "bart"):
        # Tied, a random BART repeats its first token, which ends the text.
        other = writers.write_home(folder / "home", case, train_rows=16, tie=case != "bart")
        _, result = writers.train(other, writers.plan_of(), folder / "trial", **settings)
        return str(result.checkpoint), word_pairs(4, 1)[0], None
    rows, columns = (
        (spans.tagged_rows, {"tokens": "tokens", "tags": "tags"})
        if case == "token-classification"
        else (spans.related_rows, spans.RELATION)
    )
    splits = {split: rows(30, seed) for seed, split in enumerate(("train", "validation", "test"))}
    other = spans.write_rows(folder / "home", splits)
    plan = spans.task_plan(case, columns, max_length=24)
    work, result = spans.train(other, plan, folder / "trial", **settings)
    if case == "token-classification":
        return str(result.checkpoint), sentences(6, seed=2)[0], None
    scored = evaluate_checkpoint(str(result.checkpoint), "test", plan, work.training, other, work.cache)
    short = [n for n, row in enumerate(splits["test"]) if len(row["tokens"]) <= 16]
    texts = [spans.marked_by_hand(splits["test"][n]) for n in short]
    return str(result.checkpoint), texts, [scored.predictions[n] for n in short]


def answered_here(checkpoint: str, texts: list[str]) -> list[Any]:
    model, tokenizer, _ = load_checkpoint_model(checkpoint)
    found = []
    for text in texts:
        batch = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            if model.can_generate():
                found.append(model.generate(**batch, max_new_tokens=8)[0].tolist())
            else:
                found.append(model(**batch).logits[0].tolist())
    return found


@pytest.fixture(scope="module")
def checkpoints(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[str], Any]]:
    folder = tmp_path_factory.mktemp("prompts")
    return {case: trained(case, home, folder / case) for case in CASES}


@pytest.fixture(scope="module")
def outside(checkpoints: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    folder, asked = tmp_path_factory.mktemp("exports"), {}
    for case, (checkpoint, texts, _) in checkpoints.items():
        # Said or not: there is one way to write a prompt.
        written = export_checkpoint(checkpoint, folder / case, adapter=case == "llama")
        assert any(written.rglob("adapter_model.safetensors"))
        asked[str(written)] = texts
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-W", "ignore", "-c", OUTSIDE, json.dumps(asked)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *answers, knows_us = done.stdout.splitlines()
    assert knows_us == "False"
    return dict(zip(CASES, map(json.loads, answers), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_an_exported_prompt_answers_the_same_by_the_code_beside_it(
    case: str, checkpoints: dict[str, Any], outside: dict[str, list[Any]]
) -> None:
    checkpoint, texts, told = checkpoints[case]
    expected = answered_here(checkpoint, texts) if told is None else told
    got, (_, parameters) = outside[case], CASES[case]
    if case == "token-classification":
        # As the README says: what stands before the text is the prompt's.
        got = [rows[parameters["virtual_tokens"] :] for rows in got]
    if told is None and "classification" in case:
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(torch.tensor(one), torch.tensor(other), rtol=0, atol=1e-5)
    else:
        assert got == expected
    # An untaught BART writes the same for every text.
    assert len({str(answer) for answer in expected}) > 1 or case == "bart"


def test_the_command_says_that_a_prompt_was_written_for_peft(
    checkpoints: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from finesearch.cli import main

    (tmp_path / "ranked.json").write_text(json.dumps([{"rank": 1, "checkpoint": checkpoints["t5"][0]}]))
    assert main(["export", str(tmp_path), str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'out'}\n"
    older, prompt = told.err.splitlines()
    assert older.startswith(f"no model card: {tmp_path} has no report.json, since an older version ranked it.")
    assert prompt.startswith("a prompt cannot be merged into weights: written for peft, see README.md")
    assert (tmp_path / "out" / "README.md").is_file()
