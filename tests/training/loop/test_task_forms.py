"""Trials whose labels are lists of names or numbers: they learn, resume, and export to plain transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from finesearch.plan import DataPlan, TrainingPlan
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from tiny_models import sentences, write_tiny_model
from training_cases import run, task_plan, trial, without_clock

FORMS: dict[str, tuple[str, str]] = {
    "multi-label": ("micro_f1", "multi_label_classification"),
    "regression": ("pearson", "regression"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and rows whose labels follow from the words."""
    folder = tmp_path_factory.mktemp("forms")
    write_tiny_model(folder / "model")
    for seed, (split, count) in enumerate((("train", 52), ("validation", 37), ("test", 30))):
        lines = []
        for text, label in zip(*sentences(count, seed), strict=True):
            names = [label, *(["long"] if len(text.split()) > 9 else [])]
            lines.append(json.dumps({"text": text, "multi-label": names, "regression": 2.5 * (label == "good") - 1}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def make_runner(folder: Path, form: str, **training: Any) -> TrialRunner:
    data = DataPlan(**{split: (f"{split}.jsonl",) for split in ("train", "validation", "test")})
    task = task_plan(form=form, data=data, columns={"text": "text", "label": form})
    settings = TrainingPlan(**{"epochs": 2, "batch_size": 16, "precision": "fp32", **training})
    return TrialRunner(task, settings, str(folder), str(folder / "cache"), FORMS[form][0], "max")


@pytest.mark.parametrize("form", FORMS)
def test_a_trial_learns_and_its_export_answers_the_same_in_plain_transformers(
    form: str, folder: Path, tmp_path: Path
) -> None:
    work = make_runner(folder, form)
    settings = {"epochs": 12, "learning_rate": 5e-3, "label_smoothing": 0.0, "weight_decay": 0.0}
    result, _ = run(work, trial(tmp_path / "trial", **settings))
    assert result.best is not None
    assert result.history[-1].train_loss < 0.8 * result.history[0].train_loss
    scored = evaluate_checkpoint(str(result.checkpoint), "test", work.task_plan, work.training, folder, work.cache)
    exported = export_checkpoint(str(result.checkpoint), tmp_path / "exported")
    model = AutoModelForSequenceClassification.from_pretrained(exported)
    assert model.config.problem_type == FORMS[form][1]
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    tokens = work._context.base.tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**tokens).logits
    if form == "regression":
        assert logits.squeeze(-1).tolist() == pytest.approx(scored.predictions, abs=1e-5)
    else:
        names = [[model.config.id2label[i] for i in row.nonzero().flatten().tolist()] for row in logits.sigmoid() > 0.5]
        assert names == [[("bad", "good", "long")[i] for i in right] for right in scored.predictions]


@pytest.mark.parametrize("form", FORMS)
def test_pieces_and_resumption_change_nothing(form: str, folder: Path, tmp_path: Path) -> None:
    plain = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0, "class_weights": "balanced"}
    whole, _ = run(make_runner(folder, form), trial(tmp_path / "whole", **plain))
    cut = make_runner(folder, form, gradient_accumulation_steps=4)
    run(cut, trial(tmp_path / "cut", **plain), stop_after=1)
    resumed, _ = run(cut, trial(tmp_path / "cut", attempt=2, **plain))
    for one, other in zip(without_clock(whole.history), without_clock(resumed.history), strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
    said = [warning for warning in whole.warnings if "no effect" in warning]
    assert len(said) == (form == "regression")
