"""Base weights in 8 and 4 bits: they train near bf16, reload to the same score, and are exported."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from finesearch.errors import ModelError
from finesearch.training.checkpointing.load_checkpoint import load_checkpoint_model
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.weights.quantization import give_back_pages, is_quantized
from paths import PYTHONPATH, TRAINING_SUPPORT
from tiny_models import write_tiny_model
from training_cases import make_runner, run, trial, write_home

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4, "targets": "all-linear"},
    "ia3": {},
    "prompt_tuning": {"virtual_tokens": 3},
    "p_tuning": {"virtual_tokens": 3},
    "prefix_tuning": {"virtual_tokens": 3},
}
LEARNS = {"learning_rate": 5e-3, "epochs": 6, "batch_size": 13, "head_dropout": 0.0}


def asking(adaptation: str, base_weights: str, **parameters: Any) -> dict[str, Any]:
    own = {**KINDS[adaptation], **parameters, "base_weights": base_weights}
    return {"adaptation": adaptation, "adaptation_parameters": own}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose model is 64 wide, a block of nf4, and in bf16."""
    home = write_home(tmp_path_factory.mktemp("wide"), train_rows=104)
    write_tiny_model(home / "model", layers=2, hidden=64, dropout=0.0)
    weights = home / "model" / "model.safetensors"
    save_file({name: each.bfloat16() for name, each in load_file(weights).items()}, weights, metadata={"format": "pt"})
    return home


@pytest.mark.parametrize("stored", ["nf4", "int8"])
def test_losses_fall_and_stay_near_those_of_bf16(wide: Path, tmp_path: Path, stored: str) -> None:
    work = make_runner(wide, precision="bf16")
    histories = {
        each: run(work, trial(tmp_path / each, **LEARNS, **asking("lora", each)))[0].history
        for each in ("bf16", stored)
    }
    plain, quantized = ([each.train_loss for each in history] for history in histories.values())
    assert quantized[-1] < 0.7 * quantized[0]
    assert quantized == pytest.approx(plain, abs=0.12)
    assert quantized[0] == pytest.approx(plain[0], abs=0.005)
    assert quantized != plain, "the weights were not quantized"


@pytest.mark.parametrize("adaptation", KINDS)
@pytest.mark.parametrize(
    ("stored", "precision"), [("nf4", "bf16"), ("nf4", "fp32"), ("int8", "bf16"), ("bf16", "fp32")]
)
def test_a_trial_reloads_to_the_same_score(
    wide: Path, tmp_path: Path, adaptation: str, stored: str, precision: str
) -> None:
    work = make_runner(wide, precision=precision)
    result, _ = run(work, trial(tmp_path, **{**LEARNS, "epochs": 1}, **asking(adaptation, stored)))
    assert result.checkpoint is not None
    assert result.best is not None
    assert set(load_file(Path(result.checkpoint) / "model.safetensors")) == set(
        json.loads((Path(result.checkpoint) / "finesearch.json").read_text())["trained"]
    ), "a checkpoint holds what trained alone"
    again = evaluate_checkpoint(result.checkpoint, "validation", work.task_plan, work.training, wide, wide / "cache")
    assert again.metrics == result.best.metrics


@pytest.mark.slow
def test_a_clean_process_gives_the_same_score(wide: Path, tmp_path: Path) -> None:
    work = make_runner(wide, precision="bf16")
    result, _ = run(work, trial(tmp_path, **LEARNS, **asking("lora", "nf4")))
    code = (
        "import sys, json; from training_cases import make_runner; from pathlib import Path\n"
        "from finesearch.training.loop.score_checkpoint import evaluate_checkpoint\n"
        "home = Path(sys.argv[2]); work = make_runner(home, precision='bf16')\n"
        "found = evaluate_checkpoint(sys.argv[1], 'validation', work.task_plan, work.training, home, home / 'cache')\n"
        "print(json.dumps(dict(found.metrics)))"
    )
    path = os.pathsep.join([PYTHONPATH, str(TRAINING_SUPPORT)])
    told = subprocess.run(
        [sys.executable, "-c", code, str(result.checkpoint), str(wide)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert result.best is not None
    assert json.loads(told.stdout.splitlines()[-1]) == dict(result.best.metrics)
    assert "kernels" not in told.stderr


def test_bases_of_each_type_are_kept_and_never_change(wide: Path, tmp_path: Path) -> None:
    work = make_runner(wide, precision="bf16")
    run(work, trial(tmp_path / "first", 0, epochs=1, **asking("lora", "nf4")))
    assert work._context.base.stored == "nf4", "the folder's own weights were read, and then quantized ones"
    base = work._context.base
    before = {name: tensor.clone() for name, tensor in base.tensors.items()}
    quantized = {name for name, tensor in base.tensors.items() if is_quantized(tensor)}
    assert len(quantized) == 12
    assert all(".encoder.layer." in name for name in quantized)
    first, again = (
        run(work, trial(tmp_path / name, 1, epochs=1, **asking("lora", "nf4")))[0].history for name in ("a", "b")
    )
    run(work, trial(tmp_path / "full", 2, epochs=1))
    run(work, trial(tmp_path / "int8", 3, epochs=1, **asking("lora", "int8")))
    last = run(work, trial(tmp_path / "c", 1, epochs=1, **asking("lora", "nf4")))[0].history
    assert (
        [each.train_loss for each in first] == [each.train_loss for each in again] == [each.train_loss for each in last]
    )
    assert all(torch.equal(before[each], base.tensors[each]) for each in before)


def test_a_trial_with_quantized_weights_resumes_as_if_undisturbed(wide: Path, tmp_path: Path) -> None:
    work, settings = make_runner(wide, precision="bf16"), {**LEARNS, "epochs": 3, **asking("lora", "nf4")}
    whole, _ = run(work, trial(tmp_path / "whole", **settings))
    run(work, trial(tmp_path / "parts", **settings), stop_after=2)
    resumed, _ = run(make_runner(wide, precision="bf16"), trial(tmp_path / "parts", attempt=2, **settings))
    assert [(each.metrics, each.train_loss) for each in resumed.history] == [
        (each.metrics, each.train_loss) for each in whole.history
    ]


@pytest.mark.parametrize("stored", ["nf4", "int8"])
def test_an_export_merges_the_quantized_values_in_bf16(wide: Path, tmp_path: Path, stored: str) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    result, _ = run(make_runner(wide), trial(tmp_path / "trial", **LEARNS, **asking("lora", stored)))
    assert result.checkpoint is not None
    ours = load_checkpoint_model(result.checkpoint)[0]
    folder = export_checkpoint(result.checkpoint, tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(folder)
    assert {each.dtype for each in merged.parameters()} == {torch.bfloat16}
    tokens = AutoTokenizer.from_pretrained(folder)(["a good film", "a bad plot"], return_tensors="pt", padding=True)
    with torch.no_grad():
        torch.testing.assert_close(merged(**tokens).logits.float(), ours(**tokens).logits, atol=0.05, rtol=0.05)


def test_an_exported_adapter_loads_with_plain_peft_over_a_base_that_transformers_quantizes(
    wide: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, BitsAndBytesConfig

    result, _ = run(make_runner(wide), trial(tmp_path / "trial", **LEARNS, **asking("lora", "nf4")))
    assert result.checkpoint is not None
    ours = load_checkpoint_model(result.checkpoint)[0]
    folder = export_checkpoint(result.checkpoint, tmp_path / "adapter", adapter=True)
    four = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=["classifier", "pooler"],
    )  # fmt: skip
    base = AutoModelForSequenceClassification.from_pretrained(
        wide / "model", config=AutoConfig.from_pretrained(folder), quantization_config=four, dtype=torch.float32
    )
    theirs = PeftModel.from_pretrained(base, folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(["a good film", "a bad plot"], return_tensors="pt", padding=True)
    with torch.no_grad():
        # On processors with AVX512-BF16 the library multiplies in bf16 there.
        torch.testing.assert_close(theirs(**tokens).logits, ours(**tokens).logits, atol=0.05, rtol=0.05)


def test_a_model_without_linear_layers_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from finesearch.training.weights.quantization import quantize_layers

    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50))
    with pytest.raises(ModelError, match="base_weights: GPT2LMHeadModel has no linear layers.*auto, fp32 or bf16"):
        quantize_layers(model, "nf4", ())


@pytest.mark.parametrize("stage", [0, 2])
def test_adamw_in_8_bits_learns_and_resumes_as_if_undisturbed(wide: Path, tmp_path: Path, stage: int) -> None:
    settings = {**LEARNS, "learning_rate": 3e-3, "epochs": 6, "adaptation": "full", "optimizer": "adamw_8bit"}
    whole, _ = run(make_runner(wide, zero_stage=stage), trial(tmp_path / "whole", **settings))
    losses = [each.train_loss for each in whole.history]
    assert losses[-1] < 0.7 * losses[0]
    run(make_runner(wide, zero_stage=stage), trial(tmp_path / "parts", **settings), stop_after=2)
    resumed, _ = run(make_runner(wide, zero_stage=stage), trial(tmp_path / "parts", attempt=2, **settings))
    assert [each.train_loss for each in resumed.history] == losses
    plain, _ = run(make_runner(wide, zero_stage=stage), trial(tmp_path / "plain", **{**settings, "optimizer": "adamw"}))
    assert losses == pytest.approx([each.train_loss for each in plain.history], abs=0.05)


def test_pages_of_a_file_are_given_back_and_others_keep_what_they_hold(tmp_path: Path) -> None:

    written = torch.arange(300_000, dtype=torch.float32)
    save_file({"a": written}, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        mapped = file.get_tensor("a")
    own = written.clone()
    own_small = torch.arange(3_000, dtype=torch.float32)
    for tensor in (mapped, own, own_small):
        give_back_pages(tensor)
    assert torch.equal(mapped, written), "read again from the file"
    assert torch.equal(own, written)
    assert torch.equal(own_small, torch.arange(3_000, dtype=torch.float32))
