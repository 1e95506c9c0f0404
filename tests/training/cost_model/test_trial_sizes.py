"""What the largest trial of a plan takes: by what trains, not by what is there."""

from pathlib import Path

import pytest
import yaml

from finesearch.plan import ADAPTATIONS, Plan, Recipe, load_plan, parse_plan
from finesearch.run.disk_check import disk_need
from finesearch.run.preflight import run_preflight
from finesearch.training.cost_model.trial_sizes import largest_trial
from finesearch.training.model.model_facts import ModelFacts, inspect_model
from paths import ROOT
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

LORA = "{learning_rate: 1.0e-3, adaptation: {one_of: {lora: {rank: [2, 4], targets: all_linear}, head_only: {}}}}"
OF_A_BLOCK = 4 * (32 + 32) + 2 * (32 + 64)
"""Inputs and outputs of a block's linear layers."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path)
    return tmp_path


def plan_and_facts(home: Path, space: str, baselines: str = "[]") -> tuple[Plan, ModelFacts]:
    sections = yaml.safe_load(tiny_plan(baselines=baselines)) | {"base": str(home), "space": yaml.safe_load(space)}
    plan = parse_plan(yaml.safe_dump(sections))
    return plan, inspect_model(plan.task, plan.base)


def test_adapters_take_the_base_and_little_more(home: Path) -> None:
    plan, facts = plan_and_facts(home, LORA)
    sizes, base = largest_trial(plan, facts, None, ()), 4 * facts.parameters
    beside = facts.parameters - facts.dimensions.embedding_weights - sum(
        stack.blocks * (stack.weights + stack.vectors) for stack in facts.dimensions.stacks
    )  # fmt: skip
    assert sizes.trained_bytes == 4 * (4 * 4 * OF_A_BLOCK + beside), "the larger rank, in four blocks"
    memory = next(each.memory for each in sizes.branches if each.name == "lora")
    assert memory.weights == base + sizes.trained_bytes
    assert memory.weights + memory.optimizer + memory.activations < sizes.worker_bytes < 1.3 * memory.device
    assert disk_need(plan, sizes.trained_bytes, 1) < disk_need(plan, base, 1)


def test_what_trains_everything_takes_five_times_the_weights_and_activations(home: Path) -> None:
    plan, facts = plan_and_facts(home, LORA, baselines="[ordinary]")
    sizes = largest_trial(plan, facts, None, ())
    whole = next(each.memory for each in sizes.branches if each.name == "ordinary")
    assert sizes.trained_bytes == whole.gradients == 4 * facts.parameters
    assert whole.weights + whole.gradients + whole.optimizer == 5 * 4 * facts.parameters
    without = largest_trial(plan, facts, None, ("ordinary",))
    assert without.worker_bytes < sizes.worker_bytes
    strong = largest_trial(plan, facts, Recipe(), ("ordinary",))
    assert strong.trained_bytes == sizes.trained_bytes, "the strong recipe counts too"
    assert strong.worker_bytes == sizes.worker_bytes


def test_a_base_in_bf16_takes_half_where_trials_compute_in_it(home: Path) -> None:
    plan, facts = plan_and_facts(home, LORA)
    in_bf16 = plan.model_copy(update={"training": plan.training.model_copy(update={"precision": "bf16"})})
    held = facts.model_copy(update={"is_bf16": True})

    def weights(plan: Plan, facts: ModelFacts) -> list[float]:
        return [each.memory.weights for each in largest_trial(plan, facts, None, ()).branches]

    whole = weights(in_bf16, facts)
    assert weights(in_bf16, held) == [each - 2 * facts.parameters for each in whole]
    assert weights(plan, held) == whole, "in fp32 it is read as fp32"


def test_longer_rows_take_more_and_a_limit_of_tokens_bounds_them(home: Path) -> None:
    plan, facts = plan_and_facts(home, LORA)
    short, long = (largest_trial(plan, facts, None, (), longest).worker_bytes for longest in (8, 64))
    assert short < long
    limited = plan.model_copy(update={"training": plan.training.model_copy(update={"max_tokens_per_pass": 64})})
    assert largest_trial(limited, facts, None, (), 64).worker_bytes < long


def test_a_model_of_billions_has_no_ordinary_baseline(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, facts = plan_and_facts(home, LORA, baselines="[ordinary]")
    monkeypatch.setattr("finesearch.run.preflight.LARGE", facts.parameters - 1)
    reason = run_preflight(plan, home / "cache").unsupported_baselines["ordinary"]
    assert reason.startswith("it trains all of 0.0 G parameters, beyond")


@pytest.mark.parametrize("name", ["ways_to_adapt.yaml", "text_classification.yaml", "quickstart.yaml"])
def test_every_branch_of_the_examples_has_a_size(name: str, home: Path) -> None:
    _, facts = plan_and_facts(home, LORA)
    plan = load_plan(ROOT / "search_spaces" / name)
    assert largest_trial(plan, facts, None, ("ordinary",)).trained_bytes >= 4 * facts.parameters, "full is among them"


@pytest.mark.parametrize("branch", [name for name in ADAPTATIONS if name not in ("full", "gradual_unfreezing")])
def test_every_adaptation_has_a_size_with_the_parameters_that_it_requires(home: Path, branch: str) -> None:
    needed = {"layers": 1, "patterns": [["pooler"]]}
    own = {key: needed[key] for key in ADAPTATIONS[branch].required}
    space = yaml.safe_dump({"learning_rate": 1e-3, "adaptation": {"one_of": {branch: own}}})
    plan, facts = plan_and_facts(home, space)
    assert 0 <= largest_trial(plan, facts, None, ()).trained_bytes < 16 * facts.parameters
