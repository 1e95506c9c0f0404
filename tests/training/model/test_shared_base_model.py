"""Trials use the base's own memory for what they freeze: nothing of it ever changes, and nothing is copied in vain."""

from pathlib import Path

import pytest
import torch

from finesearch.training.adaptations.adapt import adapt
from training_cases import make_runner, recipe, run, trial

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
    base.unshare_trained(model)
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
