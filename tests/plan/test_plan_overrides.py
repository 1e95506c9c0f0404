from pathlib import Path

import pytest

from finesearch.plan import load_plan, parse_plan
from plan_examples import BRANCHED, changed, made, refusal


def test_overrides_are_laid_over_the_file_and_later_ones_win() -> None:
    plan = parse_plan(
        made().to_yaml(),
        overrides=["training.epochs=5", "training.epochs=6", "budget.hours=1e-1", "space.learning_rate.max=1e-2"],
    )
    assert (plan.training.epochs, plan.budget.hours, plan.space.values["learning_rate"].high) == (6, 0.1, 1e-2)


def test_an_override_makes_the_section_that_it_needs() -> None:
    plan = parse_plan("training:\n" + made().to_yaml().split("training:")[0], overrides=["training.epochs=5"])
    assert plan.training.epochs == 5


def test_an_override_replaces_what_stands_there_whole() -> None:
    plan = parse_plan(
        made(space=BRANCHED).to_yaml(), overrides=["space={dropout: [0.0, 0.1]}", "task.data={train: a.csv}"]
    )
    assert [parameter.name for parameter in plan.space.parameters] == ["dropout"]
    assert plan.task.data.files == {"train": ("a.csv",)}


def test_an_override_reaches_into_lists_and_values_may_hold_equals_signs() -> None:
    text = made(search__first=[{"learning_rate": 1e-4}]).to_yaml()
    plan = parse_plan(text, overrides=["search.first.0.learning_rate=2e-4", "storage=s3://b/p?region=x"])
    assert plan.search.first == ({"learning_rate": 2e-4},)
    assert plan.storage == "s3://b/p?region=x"


def test_a_name_given_beside_the_file_is_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(made().to_yaml())
    assert load_plan(tmp_path / "a.yaml", name="other").name == "other"
    assert refusal(changed(name=None), name="a b").startswith("--name a b: name: expected letters")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.epochs=x",
            "--set training.epochs=x: training.epochs: expected a whole number of at least 1, or 'auto', got 'x'.",
        ),
        (
            "trainig.epochs=5",
            "--set trainig.epochs=5: unknown key 'trainig' at the top of the plan.\n  Did you mean 'training'?",
        ),
        ("training.epoch=5", "--set training.epoch=5: unknown key 'epoch' in training.\n  Did you mean 'epochs'?"),
        ("space.dropout.min=0.1", "--set space.dropout.min=0.1: space.dropout: a range needs 'max'"),
        ("space={learning_rte: 1}", "--set space={learning_rte: 1}: unknown parameter 'learning_rte'."),
        ("epochs", "--set epochs: expected KEY=VALUE with a dotted KEY.\n  Write e.g. --set training.epochs=5."),
        ("=5", "--set =5: expected KEY=VALUE"),
        ("a..b=5", "--set a..b=5: expected KEY=VALUE"),
        (f"{'a.' * 1_999}a=1", "…: a KEY of 2,000 levels, expected at most 32.\n  Write e.g. --set training.epochs=5."),
        ("budget={a: [1", "--set budget={a: [1: this is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("budget={trials: 1, trials: 2}", "--set budget={trials: 1, trials: 2}: the key 'trials' stands twice"),
        (
            "name.x=1",
            "--set name.x=1: 'name' is the single value 'probe' here, so it has no 'x'.\n  Set it whole: --set "
            "'name={x: …}'.",
        ),
        (
            "search.first.4=1",
            "--set search.first.4=1: 'search.first' is a list of 0, and '4' is none of its positions.",
        ),
        (
            "search.first.x=1",
            "and 'x' is none of its positions.\n  Positions count from 0; set 'search.first' whole to add one.",
        ),
    ],
)
def test_a_wrong_override_is_named_instead_of_a_line(override: str, message: str) -> None:
    said = refusal(changed(search__first=[]), overrides=(override,))
    assert message in said
    assert "plan.yaml" not in said.replace("(first: --set", "")


def test_problems_of_overrides_come_after_those_of_the_file() -> None:
    said = refusal(changed(budget__trials=0), overrides=("training.epochs=x",))
    assert said.index("plan.yaml, line") < said.index("--set training.epochs=x")


def test_an_override_cures_a_problem_of_the_file() -> None:
    assert (
        parse_plan(
            made().to_yaml().replace("epochs: auto", "epochs: x"), overrides=["training.epochs=4"]
        ).training.epochs
        == 4
    )
