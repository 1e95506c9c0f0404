"""The forecast of memory: against what autograd keeps, without torch, and on devices that are not here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from finesearch.errors import InputError
from finesearch.plan import ADAPTATIONS, OPTIMIZERS, Recipe
from finesearch.training.cost_model.activation_sizes import Pass, Trained, kept_by_block
from finesearch.training.cost_model.device_fit import Devices, fit, parse_devices
from finesearch.training.cost_model.memory_forecast import Setting, decide_checkpointing, forecast
from finesearch.training.cost_model.memory_page import LORA, SHAPES, page, setting
from finesearch.training.model.dimensions import dimensions_of
from paths import PLATFORM, ROOT

ONE_B, EIGHT_B = SHAPES[0].model, SHAPES[2].model
ROWS, TOKENS = 4, 64


def test_it_is_asked_without_torch() -> None:
    program = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
    program += (
        "from finesearch.training.cost_model import device_fit, memory_page, trial_sizes\nprint(memory_page.page())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(PLATFORM)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == (ROOT / "docs" / "memory.md").read_text(encoding="utf-8").rstrip("\n"), (
        "python -m finesearch.training.cost_model.memory_page > docs/memory.md"
    )
    assert page().startswith("# Memory")


def made(architecture: str, layers: int) -> Any:
    import transformers

    common = {"vocab_size": 100}
    if architecture == "llama":
        return transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                **common, hidden_size=64, intermediate_size=176, num_hidden_layers=layers, num_attention_heads=8,
                num_key_value_heads=2, pad_token_id=0,
            )
        )  # fmt: skip
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(
            **common, hidden_size=64, intermediate_size=256, num_hidden_layers=layers, num_attention_heads=8
        )
    )


def kept(model: Any, in_bf16: bool) -> int:
    """Bytes that autograd keeps of a forward pass, parameters and their casts left out."""
    import torch

    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    shapes = {tuple(each.shape) for each in model.parameters()} | {tuple(each.T.shape) for each in model.parameters()}
    sizes: dict[int, int] = {}
    alive = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        place = tensor.untyped_storage()
        if place.data_ptr() not in own and tuple(tensor.shape) not in shapes:
            sizes[place.data_ptr()] = place.nbytes()
        return tensor

    ids = torch.randint(1, 100, (ROWS, TOKENS))
    model.train()
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
        outputs = model(input_ids=ids)
    del outputs
    return sum(sizes.values())


@pytest.mark.filterwarnings("ignore:.*T` on tensors")
@pytest.mark.parametrize("in_bf16", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_block_keeps_what_autograd_keeps(architecture: str, in_bf16: bool) -> None:
    measured = kept(made(architecture, 3), in_bf16) - kept(made(architecture, 2), in_bf16)
    sizes = dimensions_of(made(architecture, 2))
    drops = sizes.dropout > 0
    run = Pass(
        rows=ROWS,
        tokens=TOKENS,
        is_padded=False,
        compute=2 if in_bf16 else 4,
        dropout=drops,
        attention_dropout=drops and True,
    )
    expected = kept_by_block(sizes.stacks[0], sizes, run, Trained(matrices=True))
    assert expected == pytest.approx(measured, rel=0.06)


def test_recipes_lie_in_the_order_that_they_must() -> None:
    run = Pass(rows=4, tokens=512, compute=2, on_gpu=True)
    plain = Setting(run=run, frozen="bf16")

    def device(name: str, parameters: dict[str, Any], **changes: Any) -> float:
        recipe = Recipe(adaptation=name, adaptation_parameters=parameters)
        return forecast(recipe, ONE_B, replace(plain, **changes)).device

    whole, lora = device("full", {}), device("lora", {"rank": 4})
    assert whole > device("freeze_bottom", {"layers": 8}) > device("train_top", {"layers": 2})
    assert whole > 16 * ONE_B.parameters
    assert lora < 0.6 * whole
    assert device("lora", {"rank": 4}, checkpoints=True) < lora
    assert device("lora", {"rank": 4}, frozen="nf4") < device("lora", {"rank": 4}, frozen="int8") < lora
    stages = [device("full", {}, zero_stage=stage, workers=8) for stage in (0, 1, 2)]
    assert stages == sorted(stages, reverse=True)
    more = [device("full", {}, zero_stage=2, workers=workers) for workers in (2, 4, 8)]
    assert more == sorted(more, reverse=True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ADAPTATIONS)
def test_every_recipe_has_a_forecast(name: str, optimizer: str) -> None:
    needed = {"layers": 1, "patterns": ["mlp"]}
    own = {key: needed[key] for key in ADAPTATIONS[name].required}
    recipe = Recipe(adaptation=name, adaptation_parameters=own, optimizer=optimizer)
    told = forecast(recipe, ONE_B, Setting(run=Pass(rows=2, tokens=128)))
    assert told.host > told.device >= told.weights >= 4 * ONE_B.parameters
    assert all(value >= 0 for value in told.kinds().values())
    assert (told.activations > 0) == ADAPTATIONS[name].trains


def test_auto_computes_again_what_does_not_fit_and_goes_by_size_where_memory_is_unknown() -> None:
    run = Setting(run=Pass(rows=16, tokens=1024, compute=2, on_gpu=True), frozen="bf16")
    for memory, wanted in ((1e12, False), (30e9, True), (None, True)):
        assert decide_checkpointing("auto", LORA, EIGHT_B, run, memory) == wanted
    assert not decide_checkpointing("auto", LORA, replace(EIGHT_B, parameters=10**8), run, None)
    assert not decide_checkpointing("off", LORA, EIGHT_B, run, 1.0)
    assert decide_checkpointing("on", LORA, EIGHT_B, run, 1e12)
    mixed = LORA.model_copy(update={"mixout": 0.5})
    assert not decide_checkpointing("auto", mixed, EIGHT_B, run, 1.0), "it would draw other masks"


@pytest.mark.parametrize(
    "text", ["8", "8xH100", "x80GB", "8xH100-80", "-1x24GB", "8xH100-80GB-x", "1x24gb", "", "1x1e3GB"]
)
def test_malformed_devices_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r"--devices: expected .*8xH100-80GB or 1x24GB, got"):
        parse_devices(text)


@pytest.mark.parametrize("text", ["0xH100-80GB", "1x1GB"])
def test_devices_without_room_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--devices: expected at least one device with more than 1 GB, got"):
        parse_devices(text)


def test_the_smallest_change_that_makes_a_trial_fit_is_named() -> None:
    alone = replace(setting("bf16", 1, is_full=False), checkpoints=False)
    large, small = Devices(1, "", 80e9), Devices(1, "", 24e9)
    assert fit(LORA, ONE_B, alone, large).fits
    again = fit(LORA, EIGHT_B, replace(alone, evaluated=1024), Devices(1, "", 45e9))
    assert again.changes == ("activation_checkpointing: on",)
    four = fit(LORA, EIGHT_B, replace(alone, evaluated=1024), Devices(1, "", 18e9))
    assert four.changes is not None
    assert four.changes[0] == "base_weights: nf4"
    assert four.changed is not None
    assert four.changed.device < 18e9
    whole = fit(Recipe(), EIGHT_B, alone, Devices(8, "H100", 80e9))
    assert whole.changes is not None
    assert whole.changes[0].startswith("workers_per_trial: 8, zero_stage: ")
    assert fit(Recipe(), SHAPES[4].model, alone, small).changes is None
    many = fit(LORA, ONE_B, replace(alone, workers=4), large)
    assert many.changes == ("workers_per_trial: 1",)
