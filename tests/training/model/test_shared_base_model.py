"""Trials use the base's own memory for what they freeze: nothing of it ever changes, and nothing is copied in vain."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finesearch.training.adaptations.adapt import adapt
from training_cases import ADAPTATIONS, adaptation_settings, make_runner, recipe, run, trial, write_home

CASES = {
    "full": {"adaptation": "full"},
    "freeze_bottom": {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}},
    "head_only": {"adaptation": "head_only"},
    "lora": {"adaptation": "lora"},
    "gradual_unfreezing": {"adaptation": "gradual_unfreezing", "adaptation_parameters": {"every_steps": 2}},
    "ema": {"adaptation": "train_top", "adaptation_parameters": {"layers": 1}, "ema_decay": 0.5},
    "mixout": {"adaptation": "full", "mixout": 0.5},
}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_no_trial_changes_the_base(home: Path, tmp_path: Path, stage: int) -> None:
    work = make_runner(home, zero_stage=stage)
    run(work, trial(tmp_path / "first", epochs=1, **CASES["full"]))
    base = work._context.base
    before = {name: tensor.clone() for name, tensor in base.tensors.items()}
    for number, (name, changes) in enumerate(CASES.items()):
        if stage == 3 and name in ("ema", "mixout"):
            continue
        run(work, trial(tmp_path / name, number, epochs=1, **changes), stop_after=1)
        run(work, trial(tmp_path / name, number, attempt=2, epochs=1, **changes))
        assert all(torch.equal(before[each], base.tensors[each]) for each in before), name


@pytest.mark.parametrize("name", ["full", "freeze_bottom", "head_only", "lora"])
def test_what_is_frozen_is_the_bases_memory_and_what_trains_is_not(home: Path, tmp_path: Path, name: str) -> None:
    work = make_runner(home)
    run(work, trial(tmp_path, epochs=1, **CASES["head_only"]))
    base, wanted = work._context.base, recipe(**CASES[name])
    model, _ = base.build(wanted, seed=0, shares=True)
    adapt(model, base.structure, wanted.adaptation, wanted.adaptation_parameters, base.fresh)
    base.place_weights(model)
    own = {tensor.data_ptr() for tensor in base.tensors.values()}
    for parameter_name, parameter in model.named_parameters():
        assert (parameter.data_ptr() in own) != parameter.requires_grad, parameter_name


def test_a_lone_process_sends_itself_no_weights(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepspeed import DeepSpeedEngine

    sent: list[object] = []
    monkeypatch.setattr(DeepSpeedEngine, "_broadcast_model", sent.append)
    run(make_runner(home), trial(tmp_path, epochs=1))
    assert not sent
    assert DeepSpeedEngine._broadcast_model == sent.append, "what is put in its place is taken away again"


@pytest.fixture(scope="module")
def two_types(tmp_path_factory: pytest.TempPathFactory) -> dict[torch.dtype, Path]:
    """Homes whose models have the same weights, in bf16 and in fp32."""
    homes = {dtype: write_home(tmp_path_factory.mktemp(f"home-{dtype}")) for dtype in (torch.bfloat16, torch.float32)}
    weights = load_file(homes[torch.bfloat16] / "model" / "model.safetensors")
    for dtype, home in homes.items():
        rounded = {name: tensor.bfloat16().to(dtype) for name, tensor in weights.items()}
        save_file(rounded, home / "model" / "model.safetensors", metadata={"format": "pt"})
    return homes


SOLVED: dict[str, dict[str, Any]] = {
    "linear_probe": {"adaptation": "linear_probe", "adaptation_parameters": {"layer": 3}},
    "solved head": {"adaptation": "train_top", "adaptation_parameters": {"layers": 1}, "head_init": "probe"},
    "dora": {"adaptation": "lora", "adaptation_parameters": {"rank": 2, "dora": True}},
}


def trained(home: Path, folder: Path, changes: dict[str, Any], stage: int) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """Values of each evaluation, and the tensors of the best checkpoint."""
    result, _ = run(make_runner(home, precision="bf16", zero_stage=stage), trial(folder, **changes))
    assert result.checkpoint is not None
    told = [(each.step, each.metrics, each.train_loss) for each in result.history]
    return told, load_file(Path(result.checkpoint) / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        *((name, 0) for name in (*ADAPTATIONS, "linear_probe", "solved head", "dora")),
        ("lora", 1),
        ("lora", 2),
        ("train_top", 2),
        ("lora", 3),
    ],
)
def test_weights_in_bf16_give_the_same_losses_to_the_last_bit(
    two_types: dict[torch.dtype, Path], tmp_path: Path, name: str, stage: int
) -> None:
    changes = SOLVED[name] if name in SOLVED else adaptation_settings(name)
    if name == "p_tuning":  # not every processor has an LSTM in bf16
        changes["adaptation_parameters"] = {"virtual_tokens": 3, "encoder": "mlp"}
    kept, kept_tensors = trained(two_types[torch.bfloat16], tmp_path / "bf16", changes, stage)
    copied, copied_tensors = trained(two_types[torch.float32], tmp_path / "fp32", changes, stage)
    assert kept == copied
    assert kept_tensors.keys() == copied_tensors.keys()
    assert all(torch.equal(kept_tensors[each], copied_tensors[each]) for each in kept_tensors)


def test_frozen_matrices_of_a_folder_in_bf16_stay_in_it(two_types: dict[torch.dtype, Path], tmp_path: Path) -> None:
    work = make_runner(two_types[torch.bfloat16], precision="bf16")
    run(work, trial(tmp_path, epochs=1, **CASES["head_only"]))
    base, wanted = work._context.base, recipe(**CASES["lora"])
    model, _ = base.build(wanted, seed=0, shares=True)
    adapt(model, base.structure, wanted.adaptation, wanted.adaptation_parameters, base.fresh)
    base.place_weights(model)
    for name, parameter in model.named_parameters():
        is_kept = not parameter.requires_grad and parameter.ndim > 1
        assert parameter.dtype == (torch.bfloat16 if is_kept else torch.float32), name
