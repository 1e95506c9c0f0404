import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plan_space import spaces

from finesearch.plan import Plan, load_plan, parse_plan
from finesearch.plan.parsing.yaml_lines import write_yaml
from plan_examples import BRANCHED, changed, made

FULL: dict[str, Any] = {
    "task__data": {"train": ["a.csv", "b.csv"], "test": "t.csv", "format": "csv", "split_seed": 3},
    "task__revision": "1e3",
    "task__metric": "mcc",
    "space": BRANCHED,
    "training__gradient_accumulation_steps": 2,
    "search__first": [{"adaptation": {"freeze_bottom": {"layers": 3}}, "learning_rate": 1e-4}],
    "search__concurrent_trials": 2,
    "search__pruner": "none",
    "search__objectives": [{"metric": "mcc"}, {"metric": "seconds", "goal": "min"}],
    "budget__hours": 0.5,
    "report__baselines": [],
    "storage": "s3://bucket/path",
}


def test_a_resolved_plan_reads_back_to_an_equal_plan() -> None:
    plan = made(**FULL)
    again = parse_plan(plan.to_yaml())
    assert again == plan
    assert again.to_yaml() == plan.to_yaml()
    assert again.fingerprint == plan.fingerprint
    assert again.warnings == plan.warnings
    assert again.report.baselines == ()


@given(spaces(), st.text(min_size=1), st.text(min_size=1))
@settings(max_examples=60, deadline=None)
def test_any_plan_survives_its_yaml(space: dict[str, Any], model: str, column: str) -> None:
    plan = made(space=space, task__model=model, task__columns={"text": column, "label": f"{column}!"})
    assert parse_plan(plan.to_yaml()) == plan


def test_a_resolved_plan_keeps_the_folder_that_its_paths_start_from(tmp_path: Path) -> None:
    home, run = tmp_path / "home", tmp_path / "run"
    for folder in (home, run):
        folder.mkdir()
    (home / "a.yaml").write_text(write_yaml(changed(**FULL)))
    plan = load_plan(home / "a.yaml")
    (run / "plan.yaml").write_text(plan.to_yaml())
    again = load_plan(run / "plan.yaml")
    assert plan.base == again.base == home
    assert (plan.source, again.source) == (home / "a.yaml", run / "plan.yaml")
    assert plan == again


def test_the_same_plan_in_another_folder_has_no_differences(tmp_path: Path) -> None:
    plans = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(write_yaml(changed(**FULL)))
        plans.append(load_plan(tmp_path / name / "a.yaml"))
    assert plans[0].differences(plans[1]) == []
    assert plans[0].fingerprint == plans[1].fingerprint


def test_a_relative_base_starts_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(write_yaml(changed(base="data")))
    assert load_plan(tmp_path / "a.yaml").base == tmp_path / "data"


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"training__epochs": 5}, ['training.epochs: 5, was "auto"']),
        ({"task__metric": "mcc"}, ['task.metric: "mcc", was "accuracy"']),
        (
            {"space": {"learning_rate": 1e-4}},
            [
                "space.learning_rate: 0.0001, was not there",
                "space.learning_rate.min: not there, was 1e-05",
                "space.learning_rate.max: not there, was 0.001",
                "space.learning_rate.log: not there, was true",
            ],
        ),
        ({"search__first": [{"learning_rate": 1e-4}]}, ['search.first: [{"learning_rate": 0.0001}], was []']),
    ],
)
def test_differences_name_keys_and_both_values(change: dict[str, Any], difference: list[str]) -> None:
    assert made(**change).differences(made()) == difference
    assert made(**change).fingerprint != made().fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"budget__trials": 3},
        {"report__top": 1},
        {"storage": "x"},
        {"base": "/x"},
        {"training__prefix_cache": "off"},
        {"training__prefix_cache_disk_gib": 2.0},
    ],
)
def test_budget_report_storage_and_base_make_no_difference(change: dict[str, Any]) -> None:
    assert made(**change).differences(made()) == []
    assert made(**change).fingerprint == made().fingerprint
    assert made(**change) != made()


def test_plans_pickle_and_hash() -> None:
    plan = made(**FULL)
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan
    assert len({plan, again}) == 1
    assert again.space.parameters == plan.space.parameters


def test_a_changed_copy_sees_its_own_objectives_and_warnings() -> None:
    plan = made()
    other = plan.model_copy(update={"training": plan.training.model_copy(update={"zero_stage": 2})})
    assert isinstance(other, Plan)
    assert plan.warnings == ()
    assert len(other.warnings) == 1


def test_the_longest_trial_counts_its_evaluations() -> None:
    assert made(training__evaluations_per_epoch=2).max_evaluations == 6
    assert made(space={"epochs": [1, 4]}, training__evaluations_per_epoch=2).max_evaluations == 8


def test_a_resolved_plan_spells_out_the_options_of_its_own_kind_and_no_others() -> None:
    columns = {"source": "en", "target": "de"}
    plan = made(task__kind="translation", task__columns=columns, task__generation={"beams": 4})
    task = plan.to_plain()["task"]
    assert (task["prefix"], task["separator"], task["max_target_length"]) == ("", "\n", 128)
    assert task["generation"]["beams"] == 4
    assert "target_language" not in task
    assert parse_plan(plan.to_yaml()) == plan
    assert {"generation", "prefix", "separator"}.isdisjoint(made().to_plain()["task"])
