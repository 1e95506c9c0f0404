from pathlib import Path

import pytest

from finesearch.plan import load_plan, parse_plan

SEARCH_SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))

FULL = {"learning_rate": 1e-4, "epochs": 6, "dropout": 0.1, "label_smoothing": 0.0}


@pytest.mark.parametrize("path", SEARCH_SPACES, ids=lambda path: path.name)
def test_every_example_is_a_plan_without_warnings_that_resolves(path: Path) -> None:
    plan = load_plan(path)
    assert plan.warnings == ()
    assert parse_plan(plan.to_yaml()) == plan
    assert plan.name == path.stem.replace("_", "-")


def test_the_quickstart_searches_what_the_readme_says() -> None:
    plan = load_plan(SEARCH_SPACES[0].parent / "quickstart.yaml")
    names = {parameter.key for parameter in plan.space.parameters}
    assert names == {
        "adaptation",
        "layers",
        "layer",
        "learning_rate",
        "epochs",
        "dropout",
        "label_smoothing",
    }
    assert list(plan.space.selectors["adaptation"]) == ["full", "freeze_bottom", "linear_probe"]
    assert plan.space.recipe({"adaptation": "full"} | FULL, plan.training).head_init == "probe"
    assert 6 <= plan.budget.trials <= 20
    assert not plan.search.first


def test_the_pair_in_the_worked_example_is_a_plan_too() -> None:
    path = SEARCH_SPACES[0].parent / "text_classification.yaml"
    columns = next(line for line in path.read_text().splitlines() if line.startswith("  # columns:"))
    plan = load_plan(path, overrides=["task." + columns.removeprefix("  # ").replace(": ", "=", 1)])
    assert plan.task.columns == {"text": "premise", "text_pair": "hypothesis", "label": "relation"}
