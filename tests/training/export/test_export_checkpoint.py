import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finesearch.errors import CheckpointError, StorageError
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from tiny_models import sentences
from training_cases import make_runner, run, trial

# What a person would type who has never heard of us.
PLAIN = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, texts = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForSequenceClassification.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
with torch.no_grad():
    logits = model(**tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")).logits
print(json.dumps([model.config.id2label[index] for index in logits.argmax(-1).tolist()]))
print(any(name.split(".")[0] == "finesearch" for name in sys.modules))
"""


@pytest.fixture(scope="module")
def work(home: Path) -> TrialRunner:
    return make_runner(home)


@pytest.fixture(scope="module")
def checkpoint(work: TrialRunner, tmp_path_factory: pytest.TempPathFactory) -> str:
    frozen = {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 1}, "head_dropout": 0.25}
    result, _ = run(work, trial(tmp_path_factory.mktemp("trial"), epochs=15, learning_rate=5e-3, **frozen))
    assert result.best is not None
    assert result.best.metrics["accuracy"] > 0.7
    return str(result.checkpoint)


def test_an_exported_checkpoint_predicts_the_same_without_us(
    work: TrialRunner, checkpoint: str, home: Path, tmp_path: Path
) -> None:
    exported = export_checkpoint(checkpoint, tmp_path / "exported")
    scored = evaluate_checkpoint(checkpoint, "test", work.task_plan, work.training, home, work.cache)
    texts, _ = sentences(30, seed=2)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-W", "ignore", "-c", PLAIN, str(exported), json.dumps(texts)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *_, predicted, knows_us = done.stdout.splitlines()
    assert json.loads(predicted) == [("bad", "good")[index] for index in scored.predictions]
    assert knows_us == "False"


def test_the_exported_config_names_the_labels_and_the_dropout(checkpoint: str, tmp_path: Path) -> None:
    config = json.loads((export_checkpoint(checkpoint, tmp_path / "exported") / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    assert config["label2id"] == {"bad": 0, "good": 1}
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["classifier_dropout"] == 0.25


def test_nothing_is_written_over(checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="expected a folder that does not exist yet or is empty. Name another one"):
        export_checkpoint(checkpoint, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / ".tmp-out").mkdir()  # the user's own, as every other folder beside it
    (tmp_path / ".tmp-out" / "notes.txt").write_text("mine")
    assert (export_checkpoint(checkpoint, tmp_path / "out") / "model.safetensors").is_file()
    assert (tmp_path / ".tmp-out" / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-out", "out"]


def test_an_export_below_a_file_is_refused(checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"notes.txt/out: cannot be written \(.*notes.txt"):
        export_checkpoint(checkpoint, tmp_path / "notes.txt" / "out")


def test_a_damaged_checkpoint_is_not_exported(checkpoint: str, tmp_path: Path) -> None:
    import shutil

    spoiled = Path(shutil.copytree(checkpoint, tmp_path / "spoiled"))
    content = bytearray((spoiled / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (spoiled / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="does not match its manifest: model.safetensors: expected SHA-256"):
        export_checkpoint(spoiled, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_checkpoint_is_not_scored_on_data_with_other_labels(
    work: TrialRunner, checkpoint: str, tmp_path: Path
) -> None:
    import csv

    from training_cases import task_plan, write_home

    other = write_home(tmp_path / "other")
    for split in ("train", "validation", "test"):
        rows = list(csv.reader((other / f"{split}.csv").open()))
        renamed = [[text, label.replace("good", "fine")] for text, label in rows]
        with (other / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(renamed)
    with pytest.raises(
        CheckpointError, match=r"expected data with the labels \['bad', 'good'\], got \['bad', 'fine'\]"
    ):
        evaluate_checkpoint(checkpoint, "test", task_plan(), work.training, other, tmp_path / "cache")
