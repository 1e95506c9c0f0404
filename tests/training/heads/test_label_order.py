"""An output layer that the model's folder holds gives each label its own row, whatever the order of its labels."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from finesearch.plan import TrainingPlan, parse_space
from finesearch.tasks import TaskFacts, make_task
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.heads.label_order import fit_output_layer, match_labels
from finesearch.training.heads.pooled_head import PooledHead
from finesearch.training.heads.space_heads import heads_of_space, output_layer_notes
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.model.base_model import PretrainedBase, load_base_model
from finesearch.training.model.model_config import auto_class, read_config
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.model.model_files import quiet_transformers
from training_cases import recipe, run, task_plan, trial

FACTS = TaskFacts(kind="text-classification", label_names=("bad", "good"))
OUTPUT = ("classifier.weight", "classifier.bias")


@pytest.fixture
def finetuned(home: Path, tmp_path: Path) -> Path:
    """A home whose model has an output layer: ``write_labels`` names its rows."""
    shutil.copytree(home, tmp_path / "home")
    return write_labels(tmp_path / "home" / "model", ["bad", "good"])


def write_labels(folder: Path, names: Sequence[str], kind: str = "text-classification", **fields: Any) -> Path:
    """Give the model in ``folder`` an output layer whose rows belong to ``names``, the same row to the same name."""
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: row for row, name in enumerate(names)}}
    config = read_config(folder, num_labels=len(names), **labels, **fields)
    generator = torch.Generator().manual_seed(0)
    with quiet_transformers():
        model = auto_class(kind, config).from_pretrained(folder, config=config, ignore_mismatched_sizes=True)
        width = model.classifier.in_features
        row_of = {name: torch.randn(width + 1, generator=generator) for name in sorted(names)}
        for row, name in enumerate(names):
            model.classifier.weight.data[row] = row_of[name][:width]
            model.classifier.bias.data[row] = row_of[name][width]
        model.save_pretrained(folder)
    return folder


def base_of(folder: Path) -> PretrainedBase:
    return load_base_model(folder, make_task(task_plan()), FACTS)


def note_of(folder: Path, pooling: str = "own") -> tuple[str, ...]:
    facts = inspect_model(task_plan(), folder.parent)
    heads = heads_of_space(parse_space({"pooling": pooling}), facts)
    return output_layer_notes(make_task(task_plan()), FACTS, heads, folder)


@pytest.mark.parametrize(
    ("own", "labels", "rows"),
    [
        (["bad", "good"], ["bad", "good"], (0, 1)),
        (["good", "bad"], ["bad", "good"], (1, 0)),
        (["O", "B-POS", "I-POS", "B-NEG", "I-NEG"], ["O", "B-NEG", "I-NEG", "B-POS", "I-POS"], (0, 3, 4, 1, 2)),
        (["POSITIVE", "NEGATIVE"], ["negative", "positive"], (1, 0)),
        (["a", "A"], ["A", "a"], (1, 0)),
        (["LABEL_0", "LABEL_1"], ["LABEL_0", "LABEL_1"], (0, 1)),
        (["LABEL_0", "LABEL_1"], ["0", "1"], (0, 1)),
        ([f"LABEL_{n}" for n in range(11)], sorted(map(str, range(11))), (0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9)),
        (["LABEL_0", "LABEL_1"], ["negative", "positive"], None),
        (["LABEL_0", "LABEL_1"], ["1", "2"], None),
        (["entailment", "neutral"], ["negative", "positive"], None),
        (["good", "fine"], ["bad", "good"], None),
        (["good", "good"], ["bad", "good"], None),
    ],
)
def test_rows_are_found_by_the_names_of_labels(own: list[str], labels: list[str], rows: tuple[int, ...] | None) -> None:
    assert match_labels(dict(enumerate(own)), labels).rows == rows


def test_rows_in_another_order_are_brought_into_ours(finetuned: Path) -> None:
    control = base_of(finetuned)
    assert not control.fresh
    assert note_of(finetuned) == ()
    write_labels(finetuned, ["good", "bad"])
    swapped = base_of(finetuned)
    assert not swapped.fresh
    assert swapped.config.id2label == {0: "bad", 1: "good"}
    for name in OUTPUT:
        assert torch.equal(swapped.tensors[name], control.tensors[name]), name
        assert not torch.equal(control.tensors[name][0], control.tensors[name][1]), name
    model, _ = swapped.build(recipe(), seed=0)
    assert torch.equal(model.get_parameter(OUTPUT[0]), control.tensors[OUTPUT[0]])
    assert note_of(finetuned) == (
        "The output layer in the model's folder has the same labels in another order (good, bad): its rows were "
        "brought into the order of the data's.",
    )
    assert note_of(finetuned, "mean") == ()


def test_an_output_layer_for_other_labels_is_drawn_anew(finetuned: Path) -> None:
    write_labels(finetuned, ["LABEL_0", "LABEL_1"])
    base = base_of(finetuned)
    assert base.fresh == set(OUTPUT)
    assert not base.tensors.keys() & set(OUTPUT)
    one, other = (base.build(recipe(), seed=seed)[0].get_parameter(OUTPUT[0]) for seed in (0, 1))
    assert not torch.equal(one, other)
    (note,) = note_of(finetuned)
    assert "is for other labels (LABEL_0, LABEL_1; the data: bad, good), so it starts at random" in note
    assert "write their names as id2label into the model's config.json" in note


def test_a_pooled_head_of_the_folder_is_fitted_too(finetuned: Path) -> None:
    pooled = PooledHead("mean").config_fields
    control = base_of(write_labels(finetuned, ["bad", "good"], **pooled))
    swapped = base_of(write_labels(finetuned, ["good", "bad"]))
    assert type(swapped.build(recipe(), seed=0)[0]).__name__ == "BertForPooledClassification"
    assert not swapped.fresh
    assert all(torch.equal(swapped.tensors[name], control.tensors[name]) for name in OUTPUT)


def test_entities_are_fitted_too(home: Path, tmp_path: Path) -> None:
    own, ours = ["O", "B-POS", "I-POS", "B-NEG", "I-NEG"], ["O", "B-NEG", "I-NEG", "B-POS", "I-POS"]
    folder = Path(shutil.copytree(home / "model", tmp_path / "model"))
    write_labels(folder, own, "token-classification")
    config = read_config(folder)
    with quiet_transformers():
        model = auto_class("token-classification", config).from_pretrained(folder, config=config)
    before = model.classifier.weight.detach().clone()
    assert fit_output_layer(model, frozenset(), folder, ours)[0] == frozenset()
    assert torch.equal(model.classifier.weight, before[[0, 3, 4, 1, 2]])


def test_a_checkpoint_without_an_output_layer_of_its_own_scores_and_exports_with_our_order(finetuned: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    want = base_of(finetuned).tensors[OUTPUT[0]]
    write_labels(finetuned, ["good", "bad"])
    plan, training = task_plan(pooling="own"), TrainingPlan(epochs=1, batch_size=16, precision="fp32")
    home = finetuned.parent
    work = TrialRunner(plan, training, str(home), str(home / "cache"), "accuracy", "max")
    pattern = {"adaptation": "pattern", "adaptation_parameters": {"patterns": "pooler"}}
    result, _ = run(work, trial(home / "trial", epochs=1, **pattern))
    assert result.best is not None
    again = evaluate_checkpoint(str(result.checkpoint), "validation", plan, training, home, work.cache)
    assert again.metrics == result.best.metrics
    export = export_checkpoint(str(result.checkpoint), home / "export")
    model: Any = AutoModelForSequenceClassification.from_pretrained(export)
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert torch.equal(model.classifier.weight, want)
