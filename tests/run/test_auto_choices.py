"""What `auto` stands for: enough epochs, early stopping, and a space for the task, the model and the budget."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from finesearch.commands.dry_run import describe_search
from finesearch.errors import PlanError
from finesearch.plan import TASK_KINDS, Plan, Space, parse_plan
from finesearch.plan.auto_choices import PlanFacts, resolve_auto
from finesearch.plan.space.default_space import SpaceFacts, default_space
from plan_examples import made
from plans import write_sentiment
from tiny_models import write_tiny_model

SMALL = PlanFacts(rows=562, num_layers=6, parameters=22_700_000)


def resolved(plan: Plan, facts: PlanFacts = SMALL, refused: str = "") -> tuple[Plan, str]:
    def why_not(space: Space) -> str | None:
        return "no such layers." if refused in space.selectors["adaptation"] else None

    resolved_plan, notes = resolve_auto(plan, facts, why_not)
    return resolved_plan, "\n".join(notes)


@pytest.mark.parametrize(("rows", "epochs"), [(50, 20), (562, 17), (3000, 4), (100_000, 3)])
def test_small_data_gets_enough_steps_and_the_note_says_so(rows: int, epochs: int) -> None:
    plan, notes = resolved(made(), PlanFacts(rows=rows, num_layers=6, parameters=22_700_000))
    assert plan.training.epochs == epochs
    assert f"training.epochs auto: {epochs} epochs of" in notes


def test_what_the_plan_gives_is_left_alone() -> None:
    given = made(space={"learning_rate": 1e-4, "early_stopping_patience": None}, training__epochs=2)
    assert resolved(given) == (given, "")
    searched, notes = resolved(made(space={"epochs": [2, 4], "early_stopping_patience": 5}))
    assert (searched.max_evaluations, notes) == (4, "")
    assert searched.warnings == ()


@pytest.mark.parametrize(("evaluations", "patience"), [(1, 3), (4, 8)])
def test_trials_stop_early_by_default(evaluations: int, patience: int) -> None:
    plan, notes = resolved(made(training={"evaluations_per_epoch": evaluations}))
    assert plan.space.recipe({"learning_rate": 1e-4}, plan.training).early_stopping_patience == patience
    assert f"a trial ends after {patience} evaluations without a better one" in notes


def test_where_nothing_trains_nothing_stops_early() -> None:
    plan, _ = resolved(made(space={"adaptation": {"one_of": {"zero_shot": {}}}}))
    assert not plan.space.gives("early_stopping_patience")
    assert not any("early_stopping_patience" in warning for warning in plan.warnings)


@pytest.mark.parametrize("given", [{"space": "auto"}, {"space": None}])
def test_a_plan_without_a_space_gets_one(given: dict[str, Any]) -> None:
    plan, notes = resolved(made(**given))
    assert {"full", "freeze_bottom"} <= set(plan.space.selectors["adaptation"])
    assert {"learning_rate", "epochs"} <= set(plan.space.values)
    assert "space auto: full" in notes
    assert "562 rows, 23 M parameters and 24 trials" in notes


def test_a_number_of_epochs_that_the_plan_gives_is_not_searched() -> None:
    plan, _ = resolved(made(space="auto", training__epochs=1))
    assert "epochs" not in plan.space.values
    assert plan.max_evaluations == 1


@pytest.mark.parametrize("kind", TASK_KINDS)
@pytest.mark.parametrize("parameters", [20_000_000, 110_000_000, 700_000_000, 7_000_000_000])
@pytest.mark.parametrize("trials", [1, 12, 100])
def test_every_default_space_is_one_and_no_larger_than_its_budget(kind: str, parameters: int, trials: int) -> None:
    facts = SpaceFacts(
        kind=kind, form=TASK_KINDS[kind].default_form, trials=trials, epochs=5, num_layers=12,
        parameters=parameters, writes=TASK_KINDS[kind].generates_text,
    )  # fmt: skip
    plan = made(space=default_space(facts), budget__trials=trials)
    at_the_top = [parameter for parameter in plan.space.parameters if "." not in parameter.name]
    assert len(at_the_top) <= max(3, trials // 4 + 1)
    assert not [warning for warning in plan.warnings if warning.startswith("space")]
    assert set(plan.space.selectors["adaptation"]) <= {"lora", "linear_probe"} if parameters > 2e9 else True


def test_an_adaptation_that_the_model_does_not_support_is_left_out_and_named() -> None:
    plan, notes = resolved(made(space="auto"), refused="freeze_bottom")
    assert "freeze_bottom" not in plan.space.selectors["adaptation"]
    assert "Left out: freeze_bottom (no such layers.)" in notes


def test_a_head_that_cannot_be_solved_starts_at_random() -> None:
    plan, notes = resolve_auto(
        made(space="auto"), SMALL, lambda space: "no output layer." if space.gives("head_init") else None
    )
    assert not plan.space.gives("head_init")
    assert "Left out: head_init probe (no output layer.)" in "\n".join(notes)


def test_the_resolved_plan_is_concrete_and_a_run_goes_on_with_it() -> None:
    asked = made(space="auto")
    assert parse_plan(asked.to_yaml()).space.is_auto
    plan, _ = resolved(asked)
    begun = parse_plan(plan.to_yaml())
    assert begun == plan
    assert not begun.space.is_auto
    assert asked.continuing(begun).differences(begun) == []
    assert made().continuing(begun).differences(begun) != [], "another space is another search"


def test_a_run_of_an_older_version_keeps_its_three_epochs_and_never_stops_early() -> None:
    begun = made(training__epochs=3)
    plan = made().continuing(begun)
    assert plan.differences(begun) == []
    assert plan.training.epochs == 3
    assert not plan.space.gives("early_stopping_patience")


def test_a_first_configuration_is_checked_against_the_space_that_was_chosen() -> None:
    assert resolved(made(space="auto", search={"first": [{"learning_rate": 1e-4}]}))[0].search.first
    with pytest.raises(PlanError, match="'mixout' is not in the space"):
        resolved(made(space="auto", search={"first": [{"mixout": 0.1}]}))


def test_a_dry_run_says_what_auto_stands_for(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    files = write_sentiment(tmp_path)
    task = {"kind": "text-classification", "model": str(tmp_path / "model"), "data": files, "max_length": 32}
    plan = parse_plan(
        json.dumps({"name": "auto", "task": {**task, "columns": {"text": "sentence", "label": "label"}}}),
        str(tmp_path / "auto.yaml"),
    )
    said = describe_search(plan.model_copy(update={"storage": str(tmp_path / "runs")}))
    assert "note     space auto: full, freeze_bottom, linear_probe; searched: " in said
    assert "early_stopping_patience: a trial ends after 3 evaluations without a better one" in said
    assert re.search(r"  epochs: .*6.*20\n", said)
    assert re.search(r"precision auto takes (fp32|bf16) here, by \d+ billion operations a second in fp32 and \d+", said)
    assert not (tmp_path / "runs").exists()
