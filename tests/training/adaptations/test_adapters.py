"""LoRA and (IA)³: where they sit, what a checkpoint and an export of them hold, what they refuse."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_adaptations import ARCHITECTURES, EXAMPLE, build, frozen

from finesearch.errors import InputError, ModelError
from finesearch.plan import ADAPTATIONS, parse_space
from finesearch.training.adaptations.adapt import adapt
from finesearch.training.adaptations.adapters import base_name, is_added, linear_layers, merge_adapter
from finesearch.training.adaptations.space_check import check_recipe_space
from finesearch.training.checkpointing.load_checkpoint import load_base, load_checkpoint_model
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.model.base_model import overlay
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.model.module_structure import trace_structure
from finesearch.training.trial_types import TrialResult
from tiny_models import sentences
from training_cases import equal, make_runner, merged, run, task_plan, trial, without_clock

# What a person would type who has never heard of us, for merged models and for adapters.
PLAIN = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
texts, *folders = sys.argv[1:]
def predict(model, folder):
    batch = AutoTokenizer.from_pretrained(folder)(json.loads(texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        print(json.dumps(model.eval()(**batch).logits.tolist()))
for folder in folders:
    predict(AutoModelForSequenceClassification.from_pretrained(folder + "/merged"), folder + "/merged")
from peft import PeftConfig, PeftModel
for folder in folders:
    adapter = folder + "/adapter"
    home = PeftConfig.from_pretrained(adapter).base_model_name_or_path
    base = AutoModelForSequenceClassification.from_pretrained(home, config=AutoConfig.from_pretrained(adapter))
    predict(PeftModel.from_pretrained(base, adapter), adapter)
print(any(name.split(".")[0] == "finesearch" for name in sys.modules))
"""

CASES: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4, "targets": "query value", "alpha": 32.0},
    "dora": {"rank": 2, "targets": "all_linear", "dora": True, "lora_dropout": 0.1},
    "ia3": {},
}
TEXTS = sentences(30, seed=2)[0]


@pytest.fixture(scope="module")
def work(home: Path) -> TrialRunner:
    return make_runner(home)


@pytest.fixture(scope="module")
def trained(work: TrialRunner, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrialResult]:
    folder, results = tmp_path_factory.mktemp("trained"), {}
    for case, parameters in CASES.items():
        # The layers of an untaught model do little: vectors that scale them must move far to be noticed.
        name, rate = ("ia3", 1.0) if case == "ia3" else ("lora", 3e-2)
        settings = {"adaptation": name, "adaptation_parameters": parameters, "epochs": 4, "learning_rate": rate}
        results[case], _ = run(work, trial(folder / case, **settings))
    return results


@pytest.fixture(scope="module")
def elsewhere(trained: dict[str, TrialResult], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Logits of each export in a process without us: case -> (merged, adapter)."""
    folder = tmp_path_factory.mktemp("exports")
    for case, result in trained.items():
        (folder / case).mkdir()
        whole = export_checkpoint(str(result.checkpoint), folder / case / "merged")
        adapter = export_checkpoint(str(result.checkpoint), folder / case / "adapter", adapter=True)
        assert not any(is_added(name) for name in load_file(whole / "model.safetensors"))
        assert not (adapter / "model.safetensors").exists()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-W", "ignore", "-c", PLAIN, json.dumps(TEXTS), *(str(folder / case) for case in CASES)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *logits, knows_us = done.stdout.splitlines()
    assert knows_us == "False"
    tensors = [torch.tensor(json.loads(line)) for line in logits]
    return dict(zip(CASES, zip(tensors[:3], tensors[3:], strict=True), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_an_export_predicts_the_same_without_us_merged_and_as_an_adapter(
    case: str, trained: dict[str, TrialResult], elsewhere: dict[str, Any]
) -> None:
    folder = Path(str(trained[case].checkpoint))
    model, tokenizer, record = load_checkpoint_model(folder)
    without = load_base(folder, record)
    stored = load_file(folder / "model.safetensors")
    overlay(without, {name: tensor for name, tensor in stored.items() if not is_added(name)})
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected, unadapted = model(**inputs).logits, without(**inputs).logits
    # An untaught encoder hardly tells texts apart, so what is compared must be what the adapter does.
    assert (expected - unadapted).abs().mean() > 1e-4
    for logits in elsewhere[case]:
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)
        assert torch.equal(logits.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("case", CASES)
def test_the_base_is_not_in_the_checkpoint(case: str, trained: dict[str, TrialResult]) -> None:
    stored = load_file(Path(str(trained[case].checkpoint)) / "model.safetensors")
    assert all(is_added(tensor) or tensor.startswith("classifier.") for tensor in stored)
    assert sum(tensor.numel() for tensor in stored.values()) == trained[case].trainable_parameters < 10_000


@pytest.mark.parametrize("case", CASES)
def test_a_reloaded_checkpoint_scores_what_its_trial_did(
    case: str, trained: dict[str, TrialResult], work: TrialRunner, home: Path
) -> None:
    result = trained[case]
    assert result.best is not None
    scored = evaluate_checkpoint(str(result.checkpoint), "validation", work.task_plan, work.training, home, work.cache)
    assert scored.metrics == result.best.metrics


@pytest.mark.parametrize("stage", [0, 3])
def test_an_interrupted_adapter_ends_as_the_undisturbed_one(stage: int, home: Path, tmp_path: Path) -> None:
    work = make_runner(home, zero_stage=stage)
    lora = {"adaptation": "lora", "adaptation_parameters": {"lora_dropout": 0.2, "dora": stage == 0}}
    whole, _ = run(work, trial(tmp_path / "whole", **lora))
    run(work, trial(tmp_path / "parts", **lora), stop_after=1)
    resumed, _ = run(work, trial(tmp_path / "parts", attempt=2, **lora))
    assert without_clock(resumed.history) == without_clock(whole.history)
    assert equal(merged(resumed.checkpoint), merged(whole.checkpoint))


def test_a_checkpoint_without_an_adapter_cannot_be_exported_as_one(work: TrialRunner, tmp_path: Path) -> None:
    result, _ = run(work, trial(tmp_path / "trial", adaptation="head_only"))
    with pytest.raises(InputError, match=r"--adapter: expected .* \(.*lora, ia3.*\), got one of head_only, which"):
        export_checkpoint(str(result.checkpoint), tmp_path / "adapter", adapter=True)
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("targets", ["auto", "all_linear"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_takes_lora_inside_its_layers_and_gives_it_back(architecture: str, targets: str) -> None:
    model = build(architecture).eval()
    names, expected = {name for name, _ in model.named_parameters()}, model(**EXAMPLE).logits
    parameters = {**ADAPTATIONS["lora"].defaults, "targets": targets}
    adapt(model, trace_structure(model, EXAMPLE), "lora", parameters, fresh=())
    inside = f"{ARCHITECTURES[architecture][2]}."
    added = {name for name, _ in model.named_parameters() if is_added(name)}
    assert added
    assert all(name.startswith(inside) for name in added)
    assert {base_name(name) for name in frozen(model)} == {n for n in names if n.startswith(model.base_model_prefix)}
    # The second matrix starts at zero: nothing has changed yet.
    model.eval()
    assert torch.equal(model(**EXAMPLE).logits, expected)
    merge_adapter(model)
    assert {name for name, _ in model.named_parameters()} == names


def test_a_layer_that_the_base_did_not_have_is_trained_as_a_whole_and_takes_no_adapter() -> None:
    model, new = build("bert"), "bert.encoder.layer.1.attention.self.query.weight"
    adapt(model, trace_structure(model, EXAMPLE), "lora", ADAPTATIONS["lora"].defaults, fresh={new})
    assert model.get_parameter(new).requires_grad
    added = {name for name, _ in model.named_parameters() if is_added(name)}
    assert not any("layer.1.attention.self.query" in name for name in added)
    assert any("layer.0.attention.self.query" in name for name in added)


def test_the_first_matrices_are_drawn_from_the_trials_seed(work: TrialRunner, tmp_path: Path) -> None:
    lora = {"adaptation": "lora", "adaptation_parameters": {}, "epochs": 1, "learning_rate": 1e-12}
    tensors = [
        {n: t for n, t in merged(run(work, trial(tmp_path / str(seed), seed=seed, **lora))[0].checkpoint).items()}
        for seed in (3, 4)
    ]
    name = "bert.encoder.layer.0.attention.self.query.lora_A.default.weight"
    assert not torch.allclose(tensors[0][name], tensors[1][name])


def test_vectors_of_ia3_are_spared_from_decay(work: TrialRunner) -> None:
    from finesearch.training.steps.optimizers import parameter_groups
    from training_cases import recipe

    base = work._context.base
    model, _ = base.build(recipe(), seed=3)
    adapt(model, base.structure, "ia3", {}, base.fresh)
    decayed, spared = parameter_groups(model, weight_decay=0.1)
    assert [tuple(parameter.shape) for parameter in decayed["params"]] == [(2, 32)]
    # Keys, values and two feed-forward inputs of four layers, and the bias of the head.
    assert len(spared["params"]) == 4 * 4 + 1


def test_the_second_matrix_learns_faster_under_lora_plus(work: TrialRunner, tmp_path: Path) -> None:
    from finesearch.training.steps.optimizers import build_optimizer
    from training_cases import recipe

    base = work._context.base
    settings = {"rank": 2, "targets": "query", "lora_plus": 16.0}
    wanted = recipe(adaptation="lora", adaptation_parameters=settings, head_learning_rate=4.0)
    model, _ = base.build(wanted, seed=3)
    adapt(model, base.structure, "lora", wanted.adaptation_parameters, base.fresh)
    optimizer = build_optimizer(model, wanted, head=[name for name in base.fresh if name.endswith("weight")])
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    factors = {
        names[id(parameter)]: group.get("rate_factor", 1.0)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert {factor for name, factor in factors.items() if ".lora_A." in name} == {1.0}
    assert {factor for name, factor in factors.items() if ".lora_B." in name} == {16.0}
    assert {name: factor for name, factor in factors.items() if name in base.fresh} == {
        "classifier.weight": 4.0, "classifier.bias": 1.0,
    }  # fmt: skip
    same, plus = (
        merged(run(work, trial(tmp_path / str(factor), adaptation="lora", adaptation_parameters=given))[0].checkpoint)
        for factor, given in ((1, {"rank": 2}), (16, {"rank": 2, "lora_plus": 16.0}))
    )
    assert any(not torch.equal(same[name], plus[name]) for name in same)


def test_dropout_is_off_below_the_lowest_adapter() -> None:
    model = build("bert")
    adapt(model, trace_structure(model, EXAMPLE), "lora", ADAPTATIONS["lora"].defaults, fresh=())
    model.train()
    assert not model.bert.embeddings.dropout.training
    assert model.bert.encoder.layer[0].output.dropout.training


@pytest.mark.parametrize(
    ("branch", "message"),
    [
        ({"lora": {"targets": [["query"], ["qvery"]]}}, "'qvery' names no linear layer inside .* Did you mean 'query'"),
        ({"lora": {"targets": "classifier"}}, "'classifier' names no .* Known here: dense, key, query, value, auto"),
    ],
)  # fmt: skip
def test_targets_that_match_nothing_are_refused_before_anything_runs(
    branch: dict[str, Any], message: str, home: Path
) -> None:
    facts = inspect_model(task_plan(), home)
    with pytest.raises(ModelError, match=message):
        check_recipe_space(parse_space({"adaptation": {"one_of": branch}}), facts)
    fine = {"lora": {"targets": [["auto"], ["query", "output.dense"]], "rank": {"min": 2, "max": 8}}, "ia3": {}}
    check_recipe_space(parse_space({"adaptation": {"one_of": fine}}), facts)


def test_a_model_whose_places_for_vectors_are_not_known_is_refused() -> None:
    model = build("electra")
    assert linear_layers(model)
    with pytest.raises(ModelError, match="ia3: it is not known where ElectraFor.* takes its vectors. Use lora, which"):
        adapt(model, trace_structure(model, EXAMPLE), "ia3", {}, fresh=())


@pytest.mark.parametrize(
    ("architecture", "vectors"),
    [("distilbert", {32: 2, 64: 1}), ("modernbert", {96: 1, 64: 1}), ("bert", {32: 3, 64: 1})],
)
def test_vectors_of_ia3_start_as_nothing_train_and_merge(architecture: str, vectors: dict[int, int]) -> None:
    model = build(architecture).eval()
    names, before = {name for name, _ in model.named_parameters()}, model(**EXAMPLE).logits
    adapt(model, trace_structure(model, EXAMPLE), "ia3", {}, fresh=())
    model.eval()
    added = [parameter for name, parameter in model.named_parameters() if is_added(name)]
    sizes = [parameter.numel() for parameter in added]
    # Keys and values (with queries, where one layer computes all three), and what enters the feed-forward's end.
    assert {size: sizes.count(size) for size in sizes} == {size: 3 * count for size, count in vectors.items()}
    assert torch.equal(model(**EXAMPLE).logits, before)
    model(**EXAMPLE).logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in added)
    with torch.no_grad():
        for parameter in added:
            parameter += torch.randn_like(parameter)
        moved = model(**EXAMPLE).logits
        assert not torch.allclose(moved, before, atol=1e-6)
        merge_adapter(model)
        torch.testing.assert_close(model(**EXAMPLE).logits, moved, rtol=1e-5, atol=1e-6)
    assert {name for name, _ in model.named_parameters()} == names


@pytest.mark.parametrize("adaptation", ["norms_only", "biases_only"])
def test_small_parts_of_a_language_model_train_without_its_output_layer(adaptation: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("gpt2", **ARCHITECTURES["gpt2"][0], tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(config)
    adapt(model, trace_structure(model, EXAMPLE), adaptation, ADAPTATIONS[adaptation].defaults, ())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(name.endswith("bias") or ".ln_" in name for name in trained)


@pytest.mark.parametrize("adaptation", ["lora", "ia3", "prompt_tuning", "p_tuning", "prefix_tuning"])
def test_the_output_layer_that_a_language_model_came_with_stays_as_it_is(adaptation: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("llama", **ARCHITECTURES["llama"][0], tie_word_embeddings=False)
    for fresh in ((), ("lm_head.weight",)):
        model = AutoModelForCausalLM.from_config(config)
        adapt(model, trace_structure(model, EXAMPLE), adaptation, ADAPTATIONS[adaptation].defaults, fresh)
        assert model.lm_head.weight.requires_grad == bool(fresh)
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert {name for name in trained if not is_added(name)} == set(fresh)
    # That of a task trains, new or not.
    model = build("llama")
    adapt(model, trace_structure(model, EXAMPLE), adaptation, ADAPTATIONS[adaptation].defaults, fresh=())
    assert model.score.weight.requires_grad


def test_words_for_targets_stand_alone() -> None:
    from finesearch.errors import PlanError

    with pytest.raises(PlanError, match=r"expected auto, all_linear, all-linear, or a list .* \('auto' stands alone\)"):
        parse_space({"adaptation": {"one_of": {"lora": {"targets": ["auto", "query"]}}}})


def test_a_loaded_checkpoint_holds_the_adapter_unmerged(work: TrialRunner, tmp_path: Path) -> None:
    lora = {"adaptation": "lora", "adaptation_parameters": {"rank": 2}}
    result, _ = run(work, trial(tmp_path, **lora))
    model, _, record = load_checkpoint_model(str(result.checkpoint))
    assert {name for name, _ in model.named_parameters() if is_added(name)} <= set(record.trained)
    assert record.recipe.adaptation_parameters["alpha"] == 16.0
    assert record.versions["peft"]
