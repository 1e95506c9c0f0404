"""Blocks that are computed again give the same losses and weights to the last bit, from less memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finesearch.errors import PlanError
from finesearch.plan import parse_plan
from finesearch.training.adaptations.adapt import adapt
from finesearch.training.model import activation_checkpointing
from finesearch.training.model.activation_checkpointing import checkpoint_activations
from plans import tiny_plan
from training_cases import ADAPTATIONS, adaptation_settings, make_runner, recipe, run, trial

CASES = [
    *((name, 0) for name in ADAPTATIONS if name != "prefix_tuning"),
    ("full", 1),
    ("lora", 2),
    ("full", 3),
    ("lora", 3),
]


def trained(home: Path, folder: Path, changes: dict[str, Any], **training: Any) -> tuple[list[Any], dict[str, Any]]:
    result, _ = run(make_runner(home, **training), trial(folder, **changes))
    assert result.checkpoint is not None
    told = [(each.step, each.metrics, each.train_loss) for each in result.history]
    return told, load_file(Path(result.checkpoint) / "model.safetensors")


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_losses_and_weights_are_the_same(home: Path, tmp_path: Path, name: str, stage: int) -> None:
    changes = {**adaptation_settings(name), "dropout": 0.2, "layer_drop": 0.0 if stage == 3 else 0.3}
    kept, kept_tensors = trained(home, tmp_path / "off", changes, zero_stage=stage, activation_checkpointing="off")
    again, again_tensors = trained(home, tmp_path / "on", changes, zero_stage=stage, activation_checkpointing="on")
    assert kept == again
    assert all(torch.equal(kept_tensors[each], again_tensors[each]) for each in kept_tensors)


def test_less_is_kept_for_the_backward_pass(home: Path, tmp_path: Path) -> None:
    work = make_runner(home)
    run(work, trial(tmp_path, epochs=1, adaptation="head_only"))
    base, wanted = work._context.base, recipe()
    kept = {}
    for how in ("off", "on"):
        model, _ = base.build(wanted, seed=0)
        adapt(model, base.structure, "full", {}, base.fresh)
        assert checkpoint_activations(model, wanted, how) == (how == "on")
        model.train()
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(input_ids=torch.ones(8, 32, dtype=torch.int64)).logits.sum()
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        kept[how] = sum(size for pointer, size in sizes.items() if pointer not in own)
    assert kept["on"] < 0.4 * kept["off"]


def test_auto_goes_by_the_size_of_the_model_and_by_the_recipe(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_runner(home)
    run(work, trial(tmp_path, epochs=1, adaptation="head_only"))
    base = work._context.base
    model, _ = base.build(recipe(), seed=0)
    assert not checkpoint_activations(model, recipe(), "auto")
    monkeypatch.setattr(activation_checkpointing, "AUTO_FROM", 1000)
    assert not checkpoint_activations(model, recipe(mixout=0.5), "auto")
    assert checkpoint_activations(model, recipe(), "auto")


@pytest.mark.parametrize(
    ("space", "named"),
    [("{adaptation: prefix_tuning}", "prefix_tuning"), ("{mixout: [0.0, 0.5]}", "mixout")],
)
def test_what_it_excludes_is_refused_with_the_plan(space: str, named: str) -> None:
    import yaml

    sections = yaml.safe_load(tiny_plan())
    sections |= {"space": yaml.safe_load(space), "training": sections["training"] | {"activation_checkpointing": "on"}}
    with pytest.raises(PlanError, match=rf"expected off or auto beside {named}, got on: .*\n.*leave {named} out"):
        parse_plan(yaml.safe_dump(sections))
