"""Trials of linear_probe: solved, scored again, exported, and made from features that are computed once."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from finesearch.errors import DivergedError
from finesearch.plan import DataPlan, TaskPlan, TrainingPlan
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.trial_types import TrialResult
from paths import PYTHONPATH
from tiny_models import sentences, write_tiny_model
from training_cases import Diary, run, trial

GOOD, BAD, OTHERS = ("good", "great", "lovely"), ("bad", "poor", "awful"), ("film", "plot", "story", "scene", "the")

# Form -> kind of task, columns, metric, a metric that a probe of random states reaches and chance does not.
FORMS: dict[str, tuple[str, dict[str, str], str, float]] = {
    "single-label": ("text-classification", {"text": "text", "label": "single-label"}, "accuracy", 0.65),
    "multi-label": ("text-classification", {"text": "text", "label": "multi-label"}, "micro_f1", 0.6),
    "regression": ("text-classification", {"text": "text", "label": "regression"}, "pearson", 0.3),
    "entities": ("token-classification", {"tokens": "tokens", "tags": "tags"}, "f1", 0.6),
    "relations": (
        "relation-extraction",
        {"tokens": "words", "head": "head", "tail": "tail", "relation": "single-label"},
        "accuracy",
        0.65,
    ),
}


def row_of(draw: random.Random, text: str, label: str) -> dict[str, Any]:
    """One row for every form of task."""
    tokens = [draw.choice(draw.choice((GOOD, BAD, OTHERS, OTHERS))) for _ in range(draw.randint(4, 20))]
    tags = ["B-POS" if t in GOOD else "B-NEG" if t in BAD else "O" for t in tokens]
    values: dict[str, Any] = {"single-label": label, "regression": 2.5 * (label == "good") - 1, "text": text}
    values["multi-label"] = [label, *(["long"] if len(text.split()) > 9 else [])]
    # The model is random: states of markers that move would say where they are, and little of the text.
    spans = {"words": text.split(), "head": [0, 1], "tail": [2, 3]}
    return {**values, "tokens": tokens, "tags": tags, **spans}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probes")
    write_tiny_model(folder / "model", hidden=64)
    for seed, (split, count) in enumerate((("train", 90), ("validation", 60), ("test", 30))):
        draw = random.Random(seed)
        lines = [json.dumps(row_of(draw, *pair)) for pair in zip(*sentences(count, seed), strict=True)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def runner_of(folder: Path, cache: Path, form: str, layers: tuple[int | None, ...] = ()) -> TrialRunner:
    kind, columns, metric, _ = FORMS[form]
    data = DataPlan(**{split: (f"{split}.jsonl",) for split in ("train", "validation", "test")})
    form_of = {"form": form} if kind == "text-classification" else {}
    task = TaskPlan(kind=kind, model="model", data=data, columns=columns, max_length=32, **form_of)
    training = TrainingPlan(epochs=1, batch_size=16, precision="fp32")
    return TrialRunner(task, training, str(folder), str(cache), metric, "max", probe_layers=layers)


def probed(work: TrialRunner, directory: Path, seed: int = 3, **changes: Any) -> tuple[TrialResult, Diary]:
    parameters = {name: changes.pop(name) for name in ("layer", "regularization") if name in changes}
    settings = {"adaptation": "linear_probe", "adaptation_parameters": parameters, **changes}
    return run(work, trial(directory, seed=seed, **settings))


def features_in(cache: Path) -> dict[str, int]:
    """Files of features and their inodes: a file that is written again has another one."""
    return {str(path.relative_to(cache)): path.stat().st_ino for path in (cache / "features").glob("*/*-*.npy")}


@pytest.mark.parametrize("form", FORMS)
def test_a_probe_is_solved_and_scored_again_by_its_model(form: str, folder: Path, tmp_path: Path) -> None:
    work = runner_of(folder, tmp_path / "cache", form)
    result, diary = probed(work, tmp_path / "trial", class_weights="balanced")
    _, _, metric, reached = FORMS[form]
    assert result.best is not None
    assert [evaluation.epoch for evaluation in diary.evaluations] == [0.0]
    assert result.best.metrics[metric] > reached
    assert result.best.train_loss is None
    assert 0 < result.trainable_parameters < result.total_parameters
    again = evaluate_checkpoint(
        str(result.checkpoint), "validation", work.task_plan, work.training, folder, tmp_path / "cache"
    )
    assert again.metrics == pytest.approx(result.best.metrics, abs=1e-6)
    assert any("regularization auto is" in note for note in result.notes)
    told = [warning for warning in result.warnings if "class_weights balanced has no effect" in warning]
    assert len(told) == (form in ("regression", "entities"))


def test_one_pass_computes_all_layers_and_later_trials_read_them(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    work = runner_of(folder, cache, "single-label", layers=(2, 3, None))
    first, _ = probed(work, tmp_path / "first", layer=2)
    computed = features_in(cache)
    assert sorted(Path(name).name for name in computed) == [
        f"{split}-{layer:03d}.npy" for split in ("train", "validation") for layer in (2, 3, 4)
    ]
    others = [probed(work, tmp_path / f"{layer}-{seed}", seed, layer=layer)[0] for seed, layer in ((4, 2), (5, 3))]
    fixed, _ = probed(work, tmp_path / "fixed", layer=2, regularization=0.1)
    restarted, _ = probed(runner_of(folder, cache, "single-label", layers=(2, 3, None)), tmp_path / "again", layer=2)
    assert features_in(cache) == computed
    assert first.best is not None
    assert [each.best.metrics == first.best.metrics for each in (others[0], restarted) if each.best] == [True, True]
    assert (
        len({each.total_parameters for each in (first, others[0], fixed)}) == 1 < len({others[1].total_parameters, 1})
    )


@pytest.mark.parametrize("harm", ["flipped", pytest.param("cut", marks=pytest.mark.slow), "half built"])
def test_a_damaged_or_killed_build_is_built_again(harm: str, folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first, _ = probed(runner_of(folder, cache, "entities"), tmp_path / "first")
    (features,) = (cache / "features").glob("*[!k]")
    path = features / "train-004.npy"
    if harm == "flipped":
        content = bytearray(path.read_bytes())
        content[-1] ^= 255
        path.write_bytes(content)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-8])
    else:
        features.rename(features.with_name(f"{features.name}.building-1"))
    second, _ = probed(runner_of(folder, cache, "entities"), tmp_path / "second")
    assert first.best is not None
    assert second.best is not None
    assert first.best.metrics == second.best.metrics
    assert list((cache / "features").glob("*.building-*")) == []


def test_a_damaged_solution_is_solved_again(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first, _ = probed(runner_of(folder, cache, "single-label"), tmp_path / "first")
    (solution,) = (cache / "features").glob("*/solutions/*.npz")
    solution.write_bytes(b"half of it")
    second, _ = probed(runner_of(folder, cache, "single-label"), tmp_path / "second")
    assert first.best is not None
    assert second.best is not None
    assert first.best.metrics == second.best.metrics


def test_a_solution_of_another_scikit_learn_is_not_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = runner_of(folder, tmp_path / "cache", "single-label")
    probed(work, tmp_path / "first")
    monkeypatch.setattr("finesearch.training.probing.solutions.version", lambda library: "0.24")
    probed(work, tmp_path / "second")
    monkeypatch.setattr("finesearch.training.probing.solutions.SOLVER", "saga")
    probed(work, tmp_path / "third")
    names = [path.name for path in (tmp_path / "cache" / "features").glob("*/solutions/*.npz")]
    assert len(names) == 3
    assert sum(name.endswith("-0.24.npz") for name in names) == 2
    assert sum("-saga-" in name for name in names) == 1


def test_a_layer_that_is_not_finite_fails_alone_and_says_so(folder: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(folder, tmp_path / "home"))
    weights = home / "model" / "model.safetensors"
    tensors = load_file(weights)
    (name,) = [name for name in tensors if name.endswith("encoder.layer.3.output.dense.bias")]
    tensors[name][0] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    work = runner_of(home, tmp_path / "cache", "single-label", layers=(2, None))
    with pytest.raises(DivergedError, match="layer 4: what the output layer gets is NaN or infinite on train. Use pre"):
        probed(work, tmp_path / "last")
    with pytest.raises(DivergedError, match="layer 4: what the output layer gets is NaN"):
        run(work, trial(tmp_path / "start", head_init="probe"))
    lower, _ = probed(work, tmp_path / "lower", layer=2)
    assert lower.best is not None
    assert lower.best.metrics["accuracy"] > FORMS["single-label"][3]


def test_prompted_models_make_room_for_a_probe(folder: Path, tmp_path: Path) -> None:
    work = runner_of(folder, tmp_path / "cache", "single-label")
    models = work._context.prompt_models
    models.loaded["likelihood", "fp32"] = (object(), object())  # type: ignore[assignment]
    probed(work, tmp_path / "trial")
    assert models.loaded == {}


@pytest.mark.gpu
def test_models_of_several_layers_share_their_weights_on_a_gpu(folder: Path, tmp_path: Path) -> None:
    from finesearch.training.probing.feature_store import FeatureRequest
    from finesearch.training.runtime.distributed import Processes

    context, recipe = runner_of(folder, tmp_path / "cache", "single-label")._context, trial(tmp_path).recipe
    gpu = Processes(0, 1, torch.device("cuda", 0))
    request = FeatureRequest(
        context=context, base=context.base, recipe=recipe, layers=(2, 4), seed=0, precision="fp32", processes=gpu
    )
    lower, whole = (cut.model for cut in request.build_models().values())
    name = "bert.encoder.layer.1.output.dense.weight"
    assert lower.get_parameter(name).data_ptr() == whole.get_parameter(name).data_ptr()
    assert {tensor.device.type for model in (lower, whole) for tensor in model.state_dict().values()} == {"cuda"}


def test_features_of_a_part_of_train_suffice_where_all_do_not_fit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finesearch.training.probing.feature_store.MOST_BYTES", 4 * 64 * 200)
    result, _ = probed(runner_of(folder, tmp_path / "cache", "entities"), tmp_path / "trial")
    assert [note for note in result.notes if "of 90 token rows of train, drawn at random" in note]
    (rows,) = (tmp_path / "cache" / "features").glob("*/rows.npy")
    assert 5 < len(np.load(rows)) < 40
    assert result.best is not None
    assert result.best.metrics["f1"] > 0.3


def test_a_probe_of_a_lower_layer_is_exported_as_a_smaller_model(folder: Path, tmp_path: Path) -> None:
    work = runner_of(folder, tmp_path / "cache", "single-label")
    result, _ = probed(work, tmp_path / "trial", layer=2)
    scored = evaluate_checkpoint(
        str(result.checkpoint), "test", work.task_plan, work.training, folder, tmp_path / "cache"
    )
    exported = export_checkpoint(str(result.checkpoint), tmp_path / "exported")
    script = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForSequenceClassification, AutoTokenizer))
texts = [json.loads(line)["text"] for line in open(sys.argv[2])]
logits = model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).logits
print(json.dumps([model.config.num_hidden_layers, logits.argmax(-1).tolist()]))
"""
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    said = subprocess.run(
        [sys.executable, "-c", script, str(exported), str(folder / "test.jsonl")],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(said.stdout) == [2, scored.predictions]
