"""Models in GGUF files: dequantized once, then trained, exported and named like any other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from finesearch.errors import ModelError
from finesearch.plan import DataPlan, GenerationPlan, TaskPlan, TrainingPlan
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.model.gguf import dequantized_models_home, gguf_file
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.model.resolve_model import model_folder
from tiny_gguf import CHAT, write_tiny_gguf
from tiny_writers import word_pairs
from training_cases import run, trial


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_folder_holds_what_transformers_reads_from_the_file(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = write_tiny_gguf(tmp_path / "m" / "tiny.gguf")
    folder = model_folder("m", None, tmp_path)
    assert folder.parent == dequantized_models_home()
    assert model_folder("m/tiny.gguf", None, tmp_path) == folder
    ids = torch.tensor([[1, 5, 9, 40]])
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(folder)
        read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        assert torch.equal(plain(ids).logits, read(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == CHAT
    assert tokenizer.decode(tokenizer("good film")["input_ids"]) == "good film"
    other = write_tiny_gguf(tmp_path / "other" / "tiny.gguf", seed=1)
    assert model_folder(str(other), None, tmp_path) != folder


def test_it_trains_and_scores_the_same_when_reloaded(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "m" / "tiny.gguf")
    for seed, (split, rows) in enumerate((("train", 32), ("validation", 8), ("test", 8))):
        lines = [json.dumps({"en": s, "de": t}) for s, t in zip(*word_pairs(rows, seed), strict=True)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plan = TaskPlan(
        kind="translation",
        model="m",
        data=DataPlan(**{split: (f"{split}.jsonl",) for split in ("train", "validation", "test")}),
        columns={"source": "en", "target": "de"},
        max_length=40,
        max_target_length=16,
        generation=GenerationPlan(max_new_tokens=4),
    )
    assert inspect_model(plan, tmp_path).num_layers == 2
    training = TrainingPlan(epochs=1, batch_size=16, precision="fp32")
    work = TrialRunner(plan, training, str(tmp_path), str(tmp_path / "tokens"), "bleu", "max")
    result, _ = run(work, trial(tmp_path / "t", epochs=1))
    assert result.best is not None
    again = evaluate_checkpoint(str(result.checkpoint), "validation", plan, training, tmp_path, work.cache)
    assert again.metrics == result.best.metrics


def test_processes_that_ask_at_once_convert_once(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "m" / "tiny.gguf")
    code = (
        "from pathlib import Path; from finesearch.training.model.resolve_model import model_folder; "
        f"print(model_folder('m', None, Path({str(tmp_path)!r})))"
    )
    asked = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=120)[0] for process in asked]
    assert len(set(told)) == 1
    assert [path.name for path in dequantized_models_home().iterdir() if path.is_dir()] == [Path(told[0].strip()).name]


def test_several_files_and_unreadable_ones_are_refused(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "two" / "a.gguf")
    write_tiny_gguf(tmp_path / "two" / "b.gguf")
    with pytest.raises(ModelError, match=r"holds 2 GGUF files \(a.gguf, b.gguf\), expected one. Name the one that is"):
        model_folder("two", None, tmp_path)
    assert model_folder("two/a.gguf", None, tmp_path).name.startswith("a-")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="transformers cannot read .*x.gguf .*Use a model of an architecture"):
        model_folder("bad", None, tmp_path)
    assert not list(dequantized_models_home().glob("*.building-*"))


def test_beside_other_weights_a_gguf_file_is_not_the_model(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "x.gguf")
    assert gguf_file(tmp_path) == tmp_path / "x.gguf"
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert gguf_file(tmp_path) is None
