"""Every worked example trains: its own task, data columns and space, on a tiny model and rows made here."""

from __future__ import annotations

import random
from pathlib import Path

import optuna
import pytest

from finesearch.plan import ADAPTATIONS, Plan, load_plan
from finesearch.tasks import make_task
from finesearch.training.adaptations.space_check import check_recipe_space
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.prompting.prompt_space_check import check_prompt_recipes, prompt_adaptations_of
from finesearch.training.trial_types import TrialSpec
from paths import ROOT
from plans import related_row, tagged_row, write_json_lines, write_sentiment
from tiny_models import write_tiny_model
from tiny_writers import word_pairs, write_tiny_writer

SEARCH_SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))
# Tiny encoders have four layers of 64 positions.
REDUCED = ("training.epochs=1", "training.batch_size=16", "task.max_length=32", "task.model=model")
EPOCHS = ("space.epochs=1", "search.first=[]")
PROBED = "space.adaptation.one_of.linear_probe.layer=[3, 4]"
LAYERS = "space.adaptation.one_of.freeze_bottom.layers={min: 1, max: 4}"
# Example -> the rows it gets in place of its own files (None: it brings its own), and what a tiny model needs changed.
CHANGES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "quickstart.yaml": (None, (LAYERS, PROBED, *EPOCHS)),
    "dialogue.yaml": (
        "spoken",
        (
            "space.adaptation.one_of.freeze_bottom.layers=1",
            "task.model=writer",
            "task.chat_template=plain",
            "task.generation={max_new_tokens: 8}",
        ),
    ),
    "question_answering.yaml": ("asked", (LAYERS, "task.stride=4")),
    "relation_extraction.yaml": ("related", (LAYERS, *EPOCHS)),
    "summarization.yaml": (
        "summarized",
        (LAYERS, "task.model=writer", "task.max_target_length=16", "task.generation={max_new_tokens: 8}"),
    ),
    "text_classification.yaml": ("sentiment", (LAYERS, PROBED, *EPOCHS)),
    "token_classification.yaml": ("tagged", (LAYERS, *EPOCHS)),
    "training_and_prompting.yaml": (None, (LAYERS,)),
    "translation.yaml": (
        "translated",
        (LAYERS, "task.model=writer", "task.max_target_length=16", "task.generation={max_new_tokens: 8}"),
    ),
    "ways_to_adapt.yaml": (
        None,
        (
            "space.adaptation.one_of.train_top.layers={min: 1, max: 4}",
            "space.adaptation.one_of.pattern.patterns=[LayerNorm, pooler]",
        ),
    ),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    write_tiny_model(folder / "model")
    write_tiny_writer(folder / "writer", "t5")
    return folder


@pytest.fixture(scope="module")
def rows(home: Path) -> dict[str, str]:
    """Name of some rows -> what a plan says under ``task.data``."""
    write_sentiment(home)
    return {
        "sentiment": "{train: train.csv, validation: validation.csv, test: test.csv}",
        "tagged": write_json_lines(home, "tagged", tagged_row),
        "related": write_json_lines(home, "related", related_row),
        "asked": write_json_lines(home, "asked", asked_row),
        "spoken": write_json_lines(home, "spoken", spoken_row),
        "summarized": write_json_lines(home, "summarized", summarized_row),
        "translated": write_json_lines(home, "translated", translated_row),
    }


def translated_row(generator: random.Random) -> dict[str, str]:
    sources, targets = word_pairs(1, seed=generator.randrange(10**6))
    return {"en": sources[0], "de": targets[0]}


def asked_row(generator: random.Random) -> dict[str, object]:
    name, place = generator.choice(["film", "plot", "story"]), generator.choice(["good", "bad", "dull"])
    context = f"the {name} was {place} and it is not very long"
    answers = {"text": [place], "answer_start": [context.index(place)]}
    return {"question": f"was the {name} fine?", "context": context, "answers": answers}


def spoken_row(generator: random.Random) -> dict[str, object]:
    texts, replies = word_pairs(1, seed=generator.randrange(10**6))
    said = (("user", texts[0]), ("assistant", replies[0]))
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def summarized_row(generator: random.Random) -> dict[str, str]:
    texts, _ = word_pairs(1, seed=generator.randrange(10**6), longest=12)
    return {"dialogue": texts[0], "summary": texts[0].split()[0]}


def reduced(path: Path, home: Path, rows: dict[str, str]) -> Plan:
    own, changes = CHANGES[path.name]
    data = [f"task.data={rows[own]}"] if own else []
    plan = load_plan(path, [*REDUCED, *data, *changes])
    return plan.model_copy(update={"base": home})


@pytest.mark.parametrize("path", SEARCH_SPACES, ids=lambda path: path.name)
def test_every_example_trains_under_each_of_its_adaptations(
    path: Path, home: Path, rows: dict[str, str], tmp_path: Path
) -> None:
    plan = reduced(path, home, rows)
    model = inspect_model(plan.task, plan.base)
    check_recipe_space(plan.space, model)
    check_prompt_recipes(make_task(plan.task), prompt_adaptations_of(plan.space), Path(model.folder))
    goal = plan.objectives[0].goal
    bench = TrialRunner(plan.task, plan.training, str(plan.base), str(tmp_path / "cache"), plan.task.metric, goal)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for number, adaptation in enumerate(plan.space.selectors["adaptation"]):
        if len(plan.space.selectors["adaptation"]) > 1:
            study.enqueue_trial({"adaptation": adaptation})
        recipe = plan.space.recipe(plan.space.suggest(study.ask()), plan.training)
        assert recipe.adaptation == adaptation
        spec = TrialSpec(number=number, seed=number, recipe=recipe, directory=str(tmp_path / f"trial-{number}"))
        result = bench.run(spec, lambda evaluation: True, lambda: None)
        assert result.best is not None
        limit = {"bleu": 100.0, "perplexity": float("inf")}.get(plan.task.metric, 1.0)
        assert 0.0 <= result.best.metrics[plan.task.metric] <= limit
        assert (result.trainable_parameters > 0) == (not ADAPTATIONS[adaptation].is_prompted)
        assert result.trainable_parameters <= result.total_parameters
