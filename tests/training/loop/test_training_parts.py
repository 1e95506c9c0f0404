"""The parts that need no engine: schedule, optimizers, dropout, precision, the order of imports."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import finesearch.training
from finesearch.tasks import make_task
from finesearch.training.model.base_model import load_base_model
from finesearch.training.model.dropout import head_dropouts
from finesearch.training.runtime.precision import Precision, choose_precision
from finesearch.training.steps.lr_schedule import evaluation_steps, learning_rate_factor
from finesearch.training.steps.optimizers import DecoupledSGD, build_optimizer, parameter_groups
from paths import ROOT
from training_cases import recipe, task_plan


def test_importing_the_floor_imports_nothing_heavy() -> None:
    heavy = {"torch", "ray", "deepspeed", "transformers", "datasets"}
    program = (
        "import sys, finesearch.training.trial_types, finesearch.training.loop.trial_runner; "
        f"print({heavy} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": "platform"},
        cwd=ROOT,
    )
    assert done.stdout == "set()\n"


def test_ray_is_never_imported() -> None:
    for path in Path(finesearch.training.__path__[0]).rglob("*.py"):
        assert "import ray" not in path.read_text()


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_a_rate_rises_to_its_peak_and_never_rises_again(schedule: str, warmup: float) -> None:
    factors = [learning_rate_factor(schedule, step, 40, warmup) for step in range(40)]
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert all(0 < factor <= 1 for factor in factors)
    assert warmup == 1.0 or max(factors) == 1.0


@pytest.mark.parametrize("each", [1, 2, 3, 7])
def test_every_epoch_ends_with_an_evaluation(each: int) -> None:
    steps = evaluation_steps(steps_per_epoch=11, epochs=3, evaluations_per_epoch=each)
    assert len(steps) == 3 * each
    assert {11, 22, 33} <= set(steps)
    assert list(steps) == sorted(set(steps))


def build(home: Path, **changes: object) -> tuple[torch.nn.Module, tuple[str, ...]]:
    task = make_task(task_plan())
    from finesearch.data import load_splits

    base = load_base_model(home / "model", task, task.read(load_splits(task_plan(), home)))
    return base.build(recipe(**changes), seed=0)


def test_biases_and_norms_are_spared_from_decay(home: Path) -> None:
    model, _ = build(home)
    decayed, spared = parameter_groups(model, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in spared["params"]} == {n for n in names.values() if "bias" in n or "LayerNorm" in n}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_rates_fall_with_depth_and_keep_their_ratio(home: Path) -> None:
    from finesearch.training.model.layer_depths import parameter_depths
    from finesearch.training.steps.optimizers import set_learning_rate
    from training_cases import make_runner

    base = make_runner(home)._context.base
    model, _ = base.build(recipe(), seed=0)
    depths = parameter_depths(model, base.structure, base.fresh)
    optimizer = build_optimizer(model, recipe(layerwise_decay=0.5), depths)
    set_learning_rate(optimizer, 0.32)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates["classifier.weight"] == rates["classifier.bias"] == 0.32
    assert rates["bert.pooler.dense.weight"] == rates["bert.encoder.layer.3.output.dense.bias"] == 0.16
    assert rates["bert.encoder.layer.0.attention.self.query.weight"] == 0.02
    assert rates["bert.embeddings.word_embeddings.weight"] == rates["bert.embeddings.LayerNorm.bias"] == 0.01
    assert len(optimizer.param_groups) == 2 * 6


def test_what_the_base_did_not_have_has_the_full_rate_wherever_it_stands(home: Path) -> None:
    from finesearch.training.model.layer_depths import parameter_depths
    from training_cases import make_runner

    base = make_runner(home)._context.base
    model, _ = base.build(recipe(), seed=0)
    depths = parameter_depths(model, base.structure, {*base.fresh, "bert.pooler.dense.weight"})
    assert (depths["bert.pooler.dense.weight"], depths["bert.pooler.dense.bias"]) == (0, 1)


def test_frozen_parameters_are_not_optimized(home: Path) -> None:
    model, _ = build(home)
    model.bert.requires_grad_(False)
    groups = build_optimizer(model, recipe()).param_groups
    assert sum(parameter.numel() for group in groups for parameter in group["params"]) == 66


def test_decay_of_sgd_does_not_pass_through_its_momentum() -> None:
    weight = torch.nn.Parameter(torch.tensor([[2.0]]))
    optimizer = DecoupledSGD([{"params": [weight], "decoupled_weight_decay": 0.5}], lr=0.1, momentum=0.9)
    expected, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        velocity = 0.9 * velocity + gradient
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * velocity
        assert weight.item() == pytest.approx(expected)


def test_each_dropout_is_set_where_it_belongs_and_nowhere_else(home: Path) -> None:
    model, warnings = build(home, dropout=0.3, attention_dropout=0.2, head_dropout=0.4)
    assert model.bert.embeddings.dropout.p == model.bert.encoder.layer[2].output.dropout.p == 0.3
    assert model.bert.encoder.layer[1].attention.self.dropout.p == 0.2
    assert model.dropout.p == 0.4
    assert (model.config.hidden_dropout_prob, model.config.attention_probs_dropout_prob) == (0.3, 0.2)
    assert model.config.classifier_dropout == 0.4
    assert warnings == ()


def test_without_a_value_the_models_own_dropout_stays(home: Path) -> None:
    model, _ = build(home, dropout=0.3)
    assert model.bert.encoder.layer[0].output.dropout.p == 0.3
    assert model.bert.encoder.layer[0].attention.self.dropout.p == 0.1
    # The config would let the head fall back to the hidden dropout; the head has a knob of its own here.
    assert head_dropouts(model) == {"dropout": 0.1}


def test_a_dropout_that_the_architecture_lacks_is_said(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaModel

    from tiny_models import write_tiny_tokenizer

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    LlamaModel(LlamaConfig(vocab_size=200, num_key_value_heads=4, **sizes)).save_pretrained(tmp_path / "model")
    write_tiny_tokenizer(tmp_path / "model")
    from training_cases import write_home

    write_home(tmp_path / "data")
    for split in ("train", "validation", "test"):
        (tmp_path / "data" / f"{split}.csv").rename(tmp_path / f"{split}.csv")
    _, warnings = build(tmp_path, dropout=0.3, attention_dropout=0.2, head_dropout=0.4)
    assert warnings == (
        "dropout 0.3 has no effect: LlamaConfig has no such dropout.",
        "head_dropout 0.4 has no effect: LlamaForSequenceClassification has no dropout in its head.",
    )


def test_building_leaves_every_tensor_of_the_base_as_it_was_read(home: Path) -> None:
    from safetensors.torch import load_file

    model, _ = build(home)
    for name, tensor in load_file(home / "model" / "model.safetensors").items():
        assert torch.equal(model.get_parameter(f"bert.{name}"), tensor), name


def test_precision_is_chosen_and_said() -> None:
    cpu = torch.device("cpu")
    chosen = choose_precision("auto", cpu)
    assert chosen.notes[0].startswith(f"precision auto: {chosen.name}, since this cpu ")
    assert chosen.warnings == ()
    assert choose_precision("fp32", cpu) == Precision("fp32")
    assert choose_precision("bf16", cpu).name == "bf16"
