"""Trials whose labels are lists of names or numbers: they learn, resume, and export to plain transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from finesearch.errors import CheckpointError
from finesearch.plan import DataPlan, TrainingPlan
from finesearch.training.checkpointing.checkpoint_record import read_record
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from tiny_models import sentences, write_tiny_model
from tiny_writers import write_tiny_writer
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
    write_tiny_writer(folder / "gpt2", "gpt2")
    for seed, (split, count) in enumerate((("train", 52), ("validation", 37), ("test", 30))):
        lines = []
        for text, label in zip(*sentences(count, seed), strict=True):
            names = [label, *(["long"] if len(text.split()) > 9 else [])]
            number = 2.5 * (label == "good") - 1
            prices = {"price": 100_000 + 1_000 * number}
            lines.append(json.dumps({"text": text, "multi-label": names, "regression": number, **prices}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def make_runner(folder: Path, form: str, task: dict[str, Any] | None = None, **training: Any) -> TrialRunner:
    data = DataPlan(**{split: (f"{split}.jsonl",) for split in ("train", "validation", "test")})
    plan = task_plan(**{"form": form, "data": data, "columns": {"text": "text", "label": form}, **(task or {})})
    settings = TrainingPlan(**{"epochs": 2, "batch_size": 16, "precision": "fp32", **training})
    return TrialRunner(plan, settings, str(folder), str(folder / "cache"), FORMS[form][0], "max")


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


PRICES = {"columns": {"text": "text", "label": "price"}, "target_scaling": "standard"}
QUICK = {"epochs": 8, "learning_rate": 5e-3, "weight_decay": 0.0}


def numbers_by_plain_transformers(exported: Path, folder: Path, tokenizer: Any) -> list[float]:
    model = AutoModelForSequenceClassification.from_pretrained(exported)
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    tokens = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        numbers: list[float] = model(**tokens).logits.squeeze(-1).tolist()
    return numbers


def test_numbers_far_from_zero_are_learned_and_exported_on_their_own_scale(folder: Path, tmp_path: Path) -> None:
    work = make_runner(folder, "regression", PRICES)
    result, _ = run(work, trial(tmp_path / "trial", **QUICK))
    assert result.best is not None
    assert result.history[0].train_loss < 5, "the loss is in units of the deviation"
    assert result.best.metrics["pearson"] > 0.7
    checkpoint = str(result.checkpoint)
    scored = evaluate_checkpoint(checkpoint, "test", work.task_plan, work.training, folder, work.cache)
    assert set(scored.references) == {99_000.0, 101_500.0}
    assert all(97_000 < number < 103_500 for number in scored.predictions)
    exported, tokenizer = export_checkpoint(checkpoint, tmp_path / "exported"), work._context.base.tokenizer
    assert numbers_by_plain_transformers(exported, folder, tokenizer) == pytest.approx(scored.predictions, rel=1e-6)

    # The exported head has the data's scale; as a base model it starts from the same predictions.
    again = make_runner(folder, "regression", {**PRICES, "model": str(exported)})._context
    scale = again.facts.target_scale
    assert scale is not None
    trained = load_file(Path(checkpoint) / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.allclose(again.base.tensors[name], trained[name], atol=1e-4), name
    # Read without scaling, as runs of older versions do, data and checkpoint do not belong together.
    older = make_runner(folder, "regression", {**PRICES, "target_scaling": "auto"})
    with pytest.raises(CheckpointError, match="expected data with the target scale {'mean': 100"):
        evaluate_checkpoint(checkpoint, "test", older.task_plan, older.training, folder, older.cache)


def test_a_trial_of_an_older_version_goes_on_unscaled(folder: Path, tmp_path: Path) -> None:
    older = make_runner(folder, "regression", {"target_scaling": "auto"})
    run(older, trial(tmp_path / "trial", epochs=2), stop_after=1)
    result, _ = run(older, trial(tmp_path / "trial", attempt=2, epochs=2))
    assert result.best is not None
    record = read_record(Path(str(result.checkpoint)))
    assert record.facts["target_scale"] is None
    exported, tokenizer = export_checkpoint(str(result.checkpoint), tmp_path / "out"), older._context.base.tokenizer
    scored = evaluate_checkpoint(str(result.checkpoint), "test", older.task_plan, older.training, folder, older.cache)
    assert numbers_by_plain_transformers(exported, folder, tokenizer) == pytest.approx(scored.predictions, abs=1e-5)


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ("model", {"pooling": "mean", "head_hidden_size": 8}),
        ("model", {"adaptation": "linear_probe"}),
        ("gpt2", {"pooling": "own"}),
    ],
)
def test_pooled_and_solved_heads_have_the_scale_of_the_numbers(
    model: str, recipe: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    work = make_runner(folder, "regression", {**PRICES, "model": model})
    result, _ = run(work, trial(tmp_path / "trial", **QUICK, **recipe))
    assert result.best is not None
    assert result.best.metrics["pearson"] > 0.6
    checkpoint = str(result.checkpoint)
    scored = evaluate_checkpoint(checkpoint, "test", work.task_plan, work.training, folder, work.cache)
    assert 99_000 < sum(scored.predictions) / len(scored.predictions) < 101_500
    exported = export_checkpoint(checkpoint, tmp_path / "exported")
    if "pooling" not in recipe:
        numbers = numbers_by_plain_transformers(exported, folder, work._context.base.tokenizer)
        # Terms of a solved layer are large and cancel each other in float32.
        assert numbers == pytest.approx(scored.predictions, rel=5e-6)
        return
    code = (exported / "README.md").read_text().split("```python\n")[1].removesuffix("```\n")
    names: dict[str, Any] = {}
    exec(code.replace('folder = "."', f"folder = {str(exported)!r}"), names)
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    assert [names["value"](row["text"]) for row in rows[:3]] == pytest.approx(scored.predictions[:3], rel=1e-6)


def test_an_adapter_is_exported_with_the_scale_of_the_numbers(folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    work = make_runner(folder, "regression", PRICES)
    lora = {"adaptation": "lora", "adaptation_parameters": {"rank": 4}, "pooling": "own"}
    result, _ = run(work, trial(tmp_path / "trial", epochs=2, learning_rate=5e-3, **lora))
    checkpoint = str(result.checkpoint)
    scored = evaluate_checkpoint(checkpoint, "test", work.task_plan, work.training, folder, work.cache)
    exported = export_checkpoint(checkpoint, tmp_path / "adapter", adapter=True)
    base = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=1)
    model: Any = PeftModel.from_pretrained(base, str(exported)).eval()
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    tokens = work._context.base.tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        numbers = model(**tokens).logits.squeeze(-1).tolist()
    assert numbers == pytest.approx(scored.predictions, rel=1e-6)
