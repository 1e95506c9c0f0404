"""What a dry run says of time and of the prefix cache."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cost_examples import minilm_workload, priced_plan
from finesearch.cli import main
from finesearch.commands.cost_estimate import branch_lines, cache_line, cost_lines, search_line
from finesearch.plan import FIXED_RECIPES, TrainingPlan
from finesearch.run.progress import format_duration
from finesearch.training.cost_model.cost_model import CostModel
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

TIME = r"\d+ (?:s|min)"


def test_a_dry_run_estimates_each_branch_and_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path, rows=60)
    (tmp_path / "tiny.yaml").write_text(tiny_plan())
    monkeypatch.chdir(tmp_path)
    assert main(["search", "tiny.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"time     an estimate, from [\d,]+ billion operations a second in \w+ on 1 CPU thread", said)
    for branch in ("full", "freeze_bottom", "head_only"):
        assert re.search(rf"\n +{branch}: \d+ s( to \d+ s)? a trial", said), said
    assert re.search(r"4 trials to their end and the baselines: about \d+ s with \d+ at once", said)


def test_what_is_kept_is_shown_beside_what_is_computed() -> None:
    plan = priced_plan()
    model = CostModel(minilm_workload(), plan.training)
    lines = branch_lines(plan, model, is_kept=True)
    assert lines[0] == f"full: {format_duration(model.seconds(FIXED_RECIPES['ordinary']))} a trial"
    assert re.fullmatch(rf"freeze_bottom: {TIME} to {TIME} a trial, {TIME} to {TIME} from the prefix cache", lines[1])
    assert re.fullmatch(rf"head_only: {TIME} a trial, {TIME} from the prefix cache", lines[2])
    assert re.fullmatch(rf"lora: {TIME}( to {TIME})? a trial", lines[3])
    assert not any("prefix cache" in line for line in branch_lines(plan, model, is_kept=False))


def test_the_bytes_of_every_cut_are_told_before_a_search() -> None:
    plan, load = priced_plan(), minilm_workload()
    said = cache_line(plan, CostModel(load, TrainingPlan()))
    # Layers 1 to 5 and, for head_only, all 6.
    assert said.startswith(f"{load.prefix_bytes(1) / (1 << 30):.3f} GiB for each of 6 cut(s)")
    full = priced_plan(space="{learning_rate: [1.0e-4, 1.0e-3]}")
    assert cache_line(full, CostModel(load, TrainingPlan())).startswith("nothing to keep")


def test_a_budget_of_hours_that_is_too_short_is_told() -> None:
    plan = priced_plan(trials=1000, budget="{trials: 1000, hours: 0.1}")
    model = CostModel(minilm_workload(), plan.training)
    assert search_line(plan, model, [], 1, False).endswith("the budget of 0.1 h ends it before")
    assert "ends it" not in search_line(priced_plan(trials=2), model, [], 1, False)


def test_a_dry_run_says_what_a_search_costs_in_money_and_what_ends_it() -> None:
    budget = "{trials: 1000, cost: {per_device_hour: 2, most: 0.5}}"
    plan = priced_plan(budget=budget, training="{workers_per_trial: 2, cpus_per_worker: 3}")
    model = CostModel(minilm_workload(), plan.training)
    (line,) = cost_lines(plan, model, [], False)
    found = re.fullmatch(
        r"  cost     about ([\d,.]+) at 2 a device-hour, without idle devices; budget.cost.most \(0.5\) ends it before",
        line,
    )
    assert found, line
    one = priced_plan(budget="{trials: 1000, cost: {per_device_hour: 2}}")
    (cheap,) = cost_lines(one, CostModel(minilm_workload(), plan.training), [], False)
    assert cheap.endswith("idle devices")
    money = float(found[1].replace(",", ""))
    assert money == pytest.approx(6 * float(cheap.split()[2].replace(",", "")), rel=0.01), "six CPUs a trial"
    assert cost_lines(priced_plan(), model, [], False) == []
