"""Question answering, trained for real: what is decided on validation is kept with the checkpoint and used on test."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from finesearch.plan import DataPlan, TaskPlan, TrainingPlan
from finesearch.training.checkpointing.checkpoint_record import read_record
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from tiny_models import write_tiny_model
from training_cases import run, trial


def rows(count: int, seed: int, empty: bool = True) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    found = []
    for number in range(count):
        name, other = draw.sample(["film", "plot", "story", "music", "scene"], 2)
        place = draw.choice(["good", "bad", "dull", "great", "poor"])
        context = f"the {name} was {place} and it is not very long"
        asked = other if empty and number % 3 == 0 else name
        answers = {"text": [place], "answer_start": [context.index(place)]} if asked == name else None
        answers = answers or {"text": [], "answer_start": []}
        found.append({"question": f"how was the {asked}", "context": context, "answers": answers})
    return found


def write(folder: Path) -> TaskPlan:
    write_tiny_model(folder / "model", layers=2)
    for seed, (split, count) in enumerate((("train", 96), ("validation", 30), ("test", 30))):
        lines = [json.dumps(row) for row in rows(count, seed)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return TaskPlan(
        kind="question-answering",
        model="model",
        data=DataPlan(**{split: (f"{split}.jsonl",) for split in ("train", "validation", "test")}),
        columns={"question": "question", "context": "context", "answers": "answers"},
        max_length=18,
        stride=2,
    )


def test_the_threshold_of_validation_decides_on_test_too(tmp_path: Path) -> None:
    plan = write(tmp_path)
    work = TrialRunner(plan, TrainingPlan(precision="fp32"), str(tmp_path), str(tmp_path / "cache"), "f1", "max")
    result, diary = run(work, trial(tmp_path / "t", learning_rate=5e-3, epochs=2, rdrop=0.5))
    assert all(set(each.decision) == {"null_threshold"} for each in diary.evaluations)
    folder = Path(str(result.checkpoint))
    record = read_record(folder)
    assert result.best is not None
    kept = record.evaluation.decision
    assert kept == result.best.decision
    for split in ("validation", "test"):
        scored = evaluate_checkpoint(folder, split, plan, work.training, tmp_path, work.cache)
        assert scored.decision == kept
        assert [given["text"] == "" for given in scored.predictions] == [
            given["null_margin"] > kept["null_threshold"] for given in scored.predictions
        ]
        if split == "validation":
            assert scored.metrics == result.best.metrics

    # What is exported answers the same: the best span of a short context by plain transformers.
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    out = export_checkpoint(folder, tmp_path / "out")
    model, tokenizer = AutoModelForQuestionAnswering.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    row = rows(30, 2)[1]
    whole = plan.model_copy(update={"max_length": 32})
    scored = evaluate_checkpoint(folder, "test", whole, work.training, tmp_path, work.cache)
    inputs = tokenizer(row["question"], row["context"], return_tensors="pt", return_offsets_mapping=True)
    offsets, types = inputs.pop("offset_mapping")[0].tolist(), inputs["token_type_ids"][0].tolist()
    with torch.no_grad():
        outputs = model(**inputs)
    inside = [at for at, kind in enumerate(types) if kind == 1][:-1]
    spans = [(a, b) for a in inside for b in inside if a <= b < a + 30]
    first, last = max(spans, key=lambda pair: float(outputs.start_logits[0, pair[0]] + outputs.end_logits[0, pair[1]]))
    text = row["context"][offsets[first][0] : offsets[last][1]]
    assert text == scored.predictions[1]["n_best"][0][0]
