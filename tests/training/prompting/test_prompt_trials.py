"""Dialogue and question answering without training: asked as trials, reloaded, against plain computations."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from finesearch.errors import ModelError
from finesearch.plan import DataPlan, GenerationPlan, TaskPlan, TrainingPlan
from finesearch.tasks.generation.chat_template import PLAIN_TEMPLATE
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from tiny_models import write_tiny_model
from tiny_writers import word_pairs, write_tiny_writer, write_writer_tokenizer
from training_cases import run, trial

SPLITS = {"train": 24, "validation": 7, "test": 6}


def write_rows(folder: Path, kind: str) -> None:
    for seed, (split, count) in enumerate(SPLITS.items()):
        sources, targets = word_pairs(count, seed)
        if kind == "dialogue":
            rows: list[dict[str, Any]] = [
                {
                    "messages": [
                        {"role": "user", "content": source},
                        {"role": "assistant", "content": target},
                        {"role": "user", "content": f"and {source}"},
                        {"role": "assistant", "content": f"{target} {target}"},
                    ]
                }
                for source, target in zip(sources, targets, strict=True)
            ]
        else:
            rows = [
                {
                    "question": f"what was {source}?",
                    "context": f"The film was dull. Then {source} was very good. It was bad",
                    "answers": {"text": ["very good"], "answer_start": [len(f"The film was dull. Then {source} was ")]},
                }
                for source in sources
            ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


def make_runner(folder: Path, kind: str, **options: Any) -> TrialRunner:
    write_rows(folder, kind)
    roles = ("messages",) if kind == "dialogue" else ("question", "context", "answers")
    plan = TaskPlan(
        kind=kind,
        model="model",
        data=DataPlan(**{split: (f"{split}.jsonl",) for split in SPLITS}),
        columns={role: role for role in roles},
        max_length=48,
        **options,
    )
    training = TrainingPlan(precision="fp32")
    goal = "min" if kind == "dialogue" else "max"
    return TrialRunner(plan, training, str(folder), str(folder / "cache"), plan.metric, goal)


def ask(work: TrialRunner, folder: Path, adaptation: str, **parameters: Any) -> Any:
    result, _ = run(work, trial(folder, adaptation=adaptation, adaptation_parameters=parameters))
    scored = {
        split: evaluate_checkpoint(str(result.checkpoint), split, work.task_plan, work.training, work.base, work.cache)
        for split in ("validation", "test")
    }
    for name, value in result.best.metrics.items():
        assert scored["validation"].metrics[name] == value
    return result, scored


@pytest.fixture
def speaker(tmp_path: Path) -> TrialRunner:
    write_tiny_writer(tmp_path / "model", "llama")
    write_writer_tokenizer(tmp_path / "model", with_end=False, chat_template=PLAIN_TEMPLATE)
    return make_runner(tmp_path, "dialogue", generation=GenerationPlan(max_new_tokens=4, batch_size=4))


def test_zero_shot_perplexity_is_that_of_the_untouched_model(speaker: TrialRunner, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    result, scored = ask(speaker, tmp_path / "t", "zero_shot")
    assert set(scored["test"].metrics) == {"perplexity", "rougeL", "bleu"}
    assert scored["test"].predictions[0]["text"] is not None
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    nll = tokens = 0.0
    for row in speaker._context.tokens.validation.rows():
        labels = torch.tensor([[int(label) for label in row["labels"]]])
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([[int(piece) for piece in row["input_ids"]]]), labels=labels).loss
        count = int((labels != -100).sum())
        nll, tokens = nll + float(loss) * count, tokens + count
    assert result.best.metrics["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-5)


@pytest.mark.parametrize("selection", ["random", "similar"])
def test_examples_stand_before_a_conversation_and_their_turns_do_not_count(
    selection: str, speaker: TrialRunner, tmp_path: Path
) -> None:
    none, alone = ask(speaker, tmp_path / "zero", "zero_shot")
    shown, scored = ask(speaker, tmp_path / "few", "few_shot", examples=1, selection=selection)
    assert shown.best.metrics != none.best.metrics
    for one, other in zip(alone["test"].predictions, scored["test"].predictions, strict=True):
        assert one["tokens"] == other["tokens"]
    assert scored["test"].references == alone["test"].references


def outside(folder: Path, last: str) -> list[Any]:
    """What the code of an export's README.md answers in a process that knows nothing of us."""
    code = 'import json; exec(open("README.md").read().split("```python\\n")[1].split("```")[0]); ' + last
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_an_exported_conversation_goes_on_the_same(tmp_path: Path) -> None:
    write_tiny_writer(tmp_path / "model", "llama")
    options = {"generation": GenerationPlan(max_new_tokens=4, batch_size=1), "chat_template": "plain"}
    work = make_runner(tmp_path, "dialogue", **options)
    result, scored = ask(work, tmp_path / "t", "few_shot", examples=1, selection="similar")
    out = export_checkpoint(str(result.checkpoint), tmp_path / "out")
    rows = [json.loads(line)["messages"][:3] for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    answers = outside(out, f"print(json.dumps([reply(messages) for messages in {rows!r}]))")
    assert answers == [given["text"] for given in scored["test"].predictions]


def test_an_encoder_answers_with_words_of_the_nearest_sentence(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", layers=2)
    work = make_runner(tmp_path, "question-answering", stride=8)
    result, scored = ask(work, tmp_path / "t", "zero_shot")
    contexts = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    for row, given in zip(contexts, scored["test"].predictions, strict=True):
        assert given["text"]
        assert given["text"] in row["context"]
        assert not {"what", "was"} & set(given["text"].split())
    assert set(result.best.metrics) == {"f1", "exact_match"}
    out = export_checkpoint(str(result.checkpoint), tmp_path / "out")
    asked = [{"question": row["question"], "context": row["context"]} for row in contexts]
    answers = outside(out, f"print(json.dumps([finder.answer(**each) for each in {asked!r}]))")
    assert answers == [given["text"] for given in scored["test"].predictions]
    with pytest.raises(ModelError, match="few_shot: in question-answering, texts are compared as they are"):
        ask(work, tmp_path / "u", "few_shot")
