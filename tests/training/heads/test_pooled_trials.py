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

from finesearch.plan import TrainingPlan
from finesearch.plan.space.parameters import POOLINGS
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from paths import TESTS
from tiny_models import VOCABULARY, sentences, write_tiny_tokenizer
from tiny_writers import write_tiny_writer
from training_cases import run, task_plan, trial

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
    if architecture != "bert":
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


def scored_by_readme(exported: Path, texts: list[str]) -> list[str]:
    """Labels by the code of the README.md, in a process that does not know us."""
    _, code = (exported / "README.md").read_text().split("```python\n")
    code = code.removesuffix("```\n") + "\nimport sys\nprint([label(text) for text in eval(sys.argv[1])])\n"
    code += 'assert not any(name.split(".")[0] == "finesearch" for name in sys.modules)\n'
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-W", "ignore", "-c", code, repr(texts)]
    done = subprocess.run(command, env=environment, cwd=exported, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return list(eval(done.stdout.splitlines()[-1]))


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
    result, _ = run(work, trial(tmp_path, pooling=pooling, epochs=2))
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


@pytest.mark.parametrize(("architecture", "pooling"), [("bert", "attention"), ("gpt2", "mean")])
def test_an_exported_pooled_model_predicts_the_same_by_the_code_that_stands_beside_it(
    architecture: str, pooling: str, works: Any, tmp_path: Path
) -> None:
    work = works(architecture)
    result, _ = run(work, trial(tmp_path / "trial", pooling=pooling, epochs=6))
    exported = export_checkpoint(str(result.checkpoint), tmp_path / "out")
    scored = evaluate_checkpoint(str(result.checkpoint), "test", work.task_plan, work.training, work.base, work.cache)
    expected = [("bad", "good")[index] for index in scored.predictions]
    assert set(expected) == {"bad", "good"}
    assert scored_by_readme(exported, sentences(30, seed=2)[0]) == expected
