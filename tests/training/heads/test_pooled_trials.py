"""Trials whose head pools: trained, kept, scored again and exported, by every pooling and on several architectures."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finesearch.errors import CheckpointError
from finesearch.plan import Recipe, TrainingPlan
from finesearch.plan.space.parameters import POOLINGS
from finesearch.storage.checksummed_dirs import write_manifest
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from paths import TESTS
from prefix_cases import alike
from tiny_models import VOCABULARY, sentences, write_tiny_tokenizer
from tiny_writers import write_tiny_writer
from training_cases import make_runner, run, task_plan, trial, write_pooling

sys.path.append(str(TESTS / "training" / "adaptations"))
from test_adaptations import ARCHITECTURES

ENCODERS = ("bert", "roberta", "distilbert", "modernbert")
DECODERS = ("gpt2", "llama")


def write_model(folder: Path, architecture: str) -> None:
    if architecture in DECODERS:
        write_tiny_writer(folder, architecture)
        return
    from transformers import AutoConfig, AutoModel

    from finesearch.training.model.model_files import quiet_transformers

    sizes = {"vocab_size": len(VOCABULARY), "pad_token_id": 0, "max_position_embeddings": 66}
    config = AutoConfig.for_model(architecture, **{**ARCHITECTURES[architecture][0], **sizes})
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    write_tiny_tokenizer(folder)
    if architecture == "bert":
        write_pooling(folder, "mean_tokens", "Normalize")
    else:
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def works(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def work(architecture: str) -> TrialRunner:
        folder = Path(shutil.copytree(home, tmp_path_factory.mktemp(architecture) / "home"))
        shutil.rmtree(folder / "model")
        write_model(folder / "model", architecture)
        training = TrainingPlan(batch_size=26, precision="fp32")
        return TrialRunner(task_plan(), training, str(folder), str(folder / "cache"), "accuracy", "max")

    return work


READER = """
import json, os, sys
found = []
for folder in sys.argv[2:]:
    os.chdir(folder)
    with open("README.md") as file:
        code = file.read().split("```python\\n")[1].removesuffix("```\\n")
    names = {}
    exec(code, names)
    found.append([names["label"](text) for text in json.loads(sys.argv[1])])
assert not any(name.split(".")[0] == "finesearch" for name in sys.modules)
print(json.dumps(found))
"""


def labels_by_readme(exported: list[Path], texts: list[str]) -> list[list[str]]:
    """Labels by the code of each folder's README.md, in a process that does not know us."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-W", "ignore", "-c", READER, json.dumps(texts), *map(str, exported)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [
        *(("bert", pooling) for pooling in POOLINGS),
        ("roberta", "mean"),
        ("distilbert", "attention"),
        ("modernbert", "max"),
        ("gpt2", "mean"),
        ("llama", "attention"),
    ],
)
def test_a_pooled_trial_trains_its_head_and_scores_the_same_again(
    architecture: str, pooling: str, works: Any, tmp_path: Path
) -> None:
    work = works(architecture)
    result, _ = run(work, trial(tmp_path, pooling=pooling, epochs=1))
    assert result.checkpoint is not None
    assert result.best is not None
    base = work._context.bases.of(trial(tmp_path, pooling=pooling).recipe)
    stored = load_file(Path(result.checkpoint) / "model.safetensors")
    heads = {"classifier.weight", "classifier.bias"}
    heads |= {"token_scores.weight", "token_scores.bias"} if pooling == "attention" else set()
    assert base.fresh == heads
    assert set(stored) >= heads
    again = evaluate_checkpoint(result.checkpoint, "validation", work.task_plan, work.training, work.base, work.cache)
    assert again.metrics == result.best.metrics


EXPORTED: dict[str, tuple[str, dict[str, Any], bool]] = {
    "hidden": ("bert", {"pooling": "attention", "head_hidden_size": 16}, False),
    "normalized": ("bert", {"pooling": "auto", "learning_rate": 1e-2}, False),
    "decoder": ("gpt2", {"pooling": "mean"}, False),
    "prompt": ("bert", {"pooling": "mean", "adaptation": "prompt_tuning", "learning_rate": 0.1}, False),
    "merged": ("bert", {"pooling": "max", "adaptation": "lora"}, False),
    "adapter": ("bert", {"pooling": "last", "adaptation": "lora", "adaptation_parameters": {"rank": 4}}, True),
}
"""Architecture, recipe, and whether the adapter alone is exported."""


@pytest.mark.parametrize(
    "names",
    [("hidden", "normalized", "decoder"), pytest.param(("prompt", "merged", "adapter"), marks=pytest.mark.slow)],
    ids="+".join,
)
def test_exported_pooled_models_predict_the_same_by_the_code_that_stands_beside_them(
    names: tuple[str, ...], works: Any, tmp_path: Path
) -> None:
    folders, expected = [], []
    for name in names:
        architecture, recipe, adapter = EXPORTED[name]
        work = works(architecture)
        result, _ = run(work, trial(tmp_path / name, epochs=5, **recipe))
        checkpoint = str(result.checkpoint)
        folders.append(export_checkpoint(checkpoint, tmp_path / f"{name}-out", adapter=adapter))
        scored = evaluate_checkpoint(checkpoint, "test", work.task_plan, work.training, work.base, work.cache)
        expected.append([("bad", "good")[index] for index in scored.predictions])
    assert all(len(set(labels)) == 2 for labels in expected)
    assert labels_by_readme(folders, sentences(30, seed=2)[0]) == expected
    assert (folders[-1] / "model.safetensors").exists() == ("adapter" not in names)


def test_an_export_is_trained_on_with_the_head_that_it_has(works: Any, tmp_path: Path) -> None:
    work = works("bert")
    result, _ = run(work, trial(tmp_path / "trial", pooling="mean", head_hidden_size=16))
    home = Path(shutil.copytree(work.base, tmp_path / "home"))
    shutil.rmtree(home / "model")
    export_checkpoint(str(result.checkpoint), home / "model")
    again = TrialRunner(task_plan(), work.training, str(home), str(home / "cache"), "accuracy", "max")
    bases, known = again._context.bases, load_file(Path(str(result.checkpoint)) / "model.safetensors")
    for pooling in ("auto", "own"):
        kept = bases.of(Recipe(pooling=pooling))
        assert not kept.fresh
        assert torch.equal(kept.tensors["dense.weight"], known["dense.weight"])
    assert bases.of(Recipe(pooling="mean", head_hidden_size=16)) is kept
    assert bases.of(Recipe(pooling="max")).fresh == {"classifier.weight", "classifier.bias"}


def test_a_trial_goes_on_with_the_head_that_it_began_with(works: Any, tmp_path: Path) -> None:
    """An older version began it: its recipe, read again, follows the folder, which asks for a mean."""
    work = works("bert")
    run(work, trial(tmp_path, pooling="own"), stop_after=1)
    (folder,) = tmp_path.glob("step-*")
    written = json.loads((folder / "finesearch.json").read_text())
    del written["recipe"]["pooling"]
    (folder / "finesearch.json").write_text(json.dumps(written))
    write_manifest(folder)
    result, diary = run(work, trial(tmp_path, attempt=2, pooling="mean"))
    assert result.checkpoint is not None
    assert diary.steps == [1, 2]
    assert "bert.pooler.dense.weight" in load_file(Path(result.checkpoint) / "model.safetensors")
    record = json.loads((Path(result.checkpoint) / "config.json").read_text())
    assert record["architectures"] == ["BertForSequenceClassification"]


def test_a_trial_whose_folder_asks_for_another_head_today_is_not_resumed(works: Any, tmp_path: Path) -> None:
    work = works("bert")
    home = Path(shutil.copytree(work.base, tmp_path / "home"))
    begun = TrialRunner(task_plan(), work.training, str(home), str(home / "cache"), "accuracy", "max")
    run(begun, trial(tmp_path / "trial", pooling="auto"), stop_after=1)
    shutil.rmtree(home / "model" / "1_Pooling")
    (home / "model" / "modules.json").unlink()
    write_pooling(home / "model", "mean_tokens")
    later = TrialRunner(task_plan(), work.training, str(home), str(home / "cache"), "accuracy", "max")
    message = "began with the pooling mean, scaled to length 1, and its recipe now has the pooling mean over the model"
    with pytest.raises(CheckpointError, match=message):
        run(later, trial(tmp_path / "trial", attempt=2, pooling="auto"))


@pytest.mark.parametrize("stage", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_a_partitioned_head_learns_what_a_whole_one_learns(stage: int, home: Path, tmp_path: Path) -> None:
    settings = {"pooling": "attention", "head_hidden_size": 8, "head_learning_rate": 4.0, "epochs": 1}
    whole, _ = run(make_runner(home), trial(tmp_path / "whole", **settings))
    parts, _ = run(make_runner(home, zero_stage=stage), trial(tmp_path / "parts", **settings))
    assert alike(parts, whole)
    one, other = (load_file(Path(str(each.checkpoint)) / "model.safetensors") for each in (whole, parts))
    for name in ("token_scores.weight", "dense.weight", "classifier.weight"):
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-5)
