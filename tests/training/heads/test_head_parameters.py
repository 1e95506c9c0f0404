"""The head's own learning rate, layers that start from random weights, and settings of them without effect."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_pooled_trials import works  # noqa: F401 - a fixture

from finesearch.plan import Recipe
from finesearch.training.heads.head_parameters import head_names, head_warnings
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.model.layer_depths import parameter_depths
from finesearch.training.steps.optimizers import build_optimizer, set_learning_rate
from prefix_cases import READ, alike, own_cache  # noqa: F401 - a fixture
from training_cases import make_runner, run, trial


def rates(works: Any, architecture: str, **settings: Any) -> dict[str, float]:  # noqa: F811
    """Parameter name -> learning rate over the recipe's."""
    base, recipe = works(architecture)._context.base, Recipe(**settings)
    model, _ = base.build(recipe, seed=0)
    depths = parameter_depths(model, base.structure, base.fresh) if recipe.layerwise_decay < 1 else None
    optimizer = build_optimizer(model, recipe, depths, head_names(model, base))
    set_learning_rate(optimizer, 1.0)
    by_id = {id(each): group["lr"] for group in optimizer.param_groups for each in group["params"]}
    return {name: by_id[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("optimizer", "parameters"), [("adamw", {}), ("sgd", {}), ("adafactor", {}), ("lion", {})])
def test_the_head_has_a_rate_of_its_own(optimizer: str, parameters: dict[str, Any], works: Any) -> None:  # noqa: F811
    found = rates(works, "bert", optimizer=optimizer, optimizer_parameters=parameters, head_learning_rate=8.0)
    assert {name for name, rate in found.items() if rate == 8.0} == {"classifier.weight", "classifier.bias"}
    assert set(found.values()) == {1.0, 8.0}


def test_the_heads_rate_goes_with_layerwise_decay(works: Any) -> None:  # noqa: F811
    found = rates(works, "distilbert", head_learning_rate=8.0, layerwise_decay=0.5)
    # The folder has no pre_classifier, so that it is drawn anew like the output layer.
    assert {found["pre_classifier.weight"], found["classifier.bias"]} == {8.0}
    layers = [found[f"distilbert.transformer.layer.{index}.ffn.lin1.weight"] for index in range(3)]
    assert layers == [0.125, 0.25, 0.5]


def test_a_head_that_hardly_learns_stays_where_it_began(home: Path, tmp_path: Path) -> None:
    work = make_runner(home)
    spec = trial(tmp_path, head_learning_rate=1e-9, weight_decay=0.0)
    result, _ = run(work, spec)
    start, _ = work._context.base.build(spec.recipe, spec.seed)
    moved = {
        name: float((tensor - start.get_parameter(name).detach()).abs().max())
        for name, tensor in load_file(Path(str(result.checkpoint)) / "model.safetensors").items()
    }
    assert moved["classifier.weight"] < 1e-8
    assert moved["bert.pooler.dense.weight"] > 1e-3


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "gpt2", "llama"])
@pytest.mark.parametrize("pooling", ["own", "mean"])
def test_top_layers_are_drawn_as_the_architecture_draws_them(
    architecture: str,
    pooling: str,
    works: Any,  # noqa: F811
) -> None:
    bases = works(architecture)._context.bases
    plain = bases.of(Recipe(pooling=pooling))
    recipe = Recipe(pooling=pooling, reinit_top_layers=1)
    base = bases.of(recipe)
    top = base.structure.blocks[-1]
    assert base.reinitialized == base.fresh - plain.fresh
    assert {name for name in base.reinitialized if name.startswith(f"{top}.")}
    assert not {name for name in base.reinitialized if name.startswith(tuple(base.structure.blocks[:-1]))}
    model, other, unlike = base.build(recipe, 0)[0], base.build(recipe, 0)[0], base.build(recipe, 1)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = type(model)(base.config)
    for name, parameter in model.named_parameters():
        if name not in base.fresh:
            assert torch.equal(parameter, plain.tensors[name])
            continue
        assert torch.equal(parameter, other.get_parameter(name))
        expected = drawn.get_parameter(name)
        if expected.std() > 1e-6:
            assert not torch.equal(parameter, unlike.get_parameter(name)), name
            # Two standard deviations of n numbers each, four standard errors apart at most.
            most = 4 / parameter.numel() ** 0.5
            assert float(parameter.detach().std()) == pytest.approx(float(expected.detach().std()), rel=most), name
        else:
            assert torch.equal(parameter, expected), name


def test_layers_that_start_anew_are_kept_and_leave_cached_outputs_alone(home: Path, tmp_path: Path) -> None:
    work = make_runner(home)
    work.cache_depths = (3, 1)
    frozen = {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 1}}
    result, _ = run(work, trial(tmp_path / "new", reinit_top_layers=2, pooling="mean", **frozen))
    assert READ in result.notes
    again = evaluate_checkpoint(
        str(result.checkpoint), "validation", work.task_plan, work.training, work.base, work.cache
    )
    assert result.best is not None
    assert again.metrics == result.best.metrics
    deeper = {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 3}}
    plain, _ = run(work, trial(tmp_path / "plain", 1, **deeper))
    without, _ = run(make_runner(home, prefix_cache="off"), trial(tmp_path / "off", 1, **deeper))
    assert READ in plain.notes
    assert alike(plain, without)


def test_a_regularizer_towards_the_base_leaves_new_layers_alone(home: Path, tmp_path: Path) -> None:
    from finesearch.training.adaptations.adapt import adapt
    from finesearch.training.regularizers.active_regularizers import attach

    recipe = Recipe(reinit_top_layers=4, l2sp=0.1)
    base = make_runner(home)._context.bases.of(recipe)
    model, _ = base.build(recipe, 0)
    adapt(model, base.structure, "full", {}, base.fresh)
    (l2sp,) = attach(model, base, recipe, 0, 0).methods
    assert {name.split(".")[1] for name in l2sp._weights} == {"embeddings"}


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ({"head_hidden_size": 8}, "head_hidden_size 8 has no effect: the architecture's own head has no such layer."),
        (
            {"reinit_top_layers": 3, "adaptation": "train_top", "adaptation_parameters": {"layers": 2}},
            "reinit_top_layers 3: 2 of 4 layers start from random weights, since train_top trains no more of them",
        ),
        (
            {"reinit_top_layers": 1, "adaptation": "lora"},
            "reinit_top_layers 1: 0 of 4 layers start from random weights",
        ),
    ],
)
def test_settings_without_effect_are_told(settings: dict[str, Any], warning: str, home: Path) -> None:
    recipe = Recipe(**settings)
    base = make_runner(home)._context.bases.of(recipe)
    (told,) = head_warnings(recipe, base, head_names(base.build(recipe, 0)[0], base))
    assert told.startswith(warning)
