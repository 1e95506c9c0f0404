"""Every worked example trains: its own task, data columns and space, on a tiny model and rows made here."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from clusters import ROOT
from finesearch.plan import Plan, load_plan
from finesearch.training import TrialSpec, Workbench, check_recipe_space, inspect_model
from plans import write_sentiment
from tiny_models import write_tiny_model

SEARCH_SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))
# Tiny encoders have four layers of 64 positions.
REDUCED = ("training.epochs=1", "training.batch_size=16", "task.max_length=32", "task.model=model")
OWN_ROWS = ("task.data={train: train.csv, validation: validation.csv, test: test.csv}",)
CHANGES: dict[str, tuple[str, ...]] = {
    "quickstart.yaml": ("space.adaptation.one_of.freeze_bottom.layers={min: 1, max: 4}",),
    "text_classification.yaml": (*OWN_ROWS, "space.adaptation.one_of.freeze_bottom.layers={min: 1, max: 4}"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    write_tiny_model(folder / "model")
    write_sentiment(folder)
    return folder


def reduced(path: Path, home: Path) -> Plan:
    plan = load_plan(path, [*REDUCED, *CHANGES[path.name]])
    return plan.model_copy(update={"base": home})


@pytest.mark.parametrize("path", SEARCH_SPACES, ids=lambda path: path.name)
def test_every_example_trains_under_each_of_its_adaptations(path: Path, home: Path, tmp_path: Path) -> None:
    plan = reduced(path, home)
    check_recipe_space(plan.space, inspect_model(plan.task, plan.base))
    goal = plan.objectives[0].goal
    bench = Workbench(plan.task, plan.training, str(plan.base), str(tmp_path / "cache"), plan.task.metric, goal)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for number, adaptation in enumerate(plan.space.selectors["adaptation"]):
        if len(plan.space.selectors["adaptation"]) > 1:
            study.enqueue_trial({"adaptation": adaptation})
        recipe = plan.space.recipe(plan.space.suggest(study.ask()), plan.training)
        assert recipe.adaptation == adaptation
        spec = TrialSpec(number=number, seed=number, recipe=recipe, directory=str(tmp_path / f"trial-{number}"))
        result = bench.run(spec, lambda evaluation: True, lambda: None)
        assert result.best is not None
        assert 0.0 <= result.best.metrics[plan.task.metric] <= 1.0
        assert 0 < result.trainable_parameters <= result.total_parameters
