"""What a recipe trains, reckoned from the model's sizes, beside what the adapted model trains."""

from pathlib import Path
from typing import Any

import pytest

from finesearch.plan import Recipe
from finesearch.training.adaptations.adapt import adapt
from finesearch.training.cost_model.trained_parameters import trained_parameters
from finesearch.training.model.dimensions import count_parameters, dimensions_of
from finesearch.training.model.module_structure import num_blocks
from training_cases import ADAPTATIONS, make_runner, run, trial

BESIDE = 2 * 32 + 33 * 32
"""The norm of the embeddings and the pooler, which stand in no block: they count as part of the head."""
SIZED = {
    "full": {}, "freeze_bottom": {"layers": 2}, "train_top": {"layers": 1}, "head_only": {}, "lora": {"rank": 4},
    "lora of all": {"rank": 4, "targets": "all_linear"}, "lora of two": {"rank": 2, "targets": "query output.dense"},
    "dora": {"rank": 4, "dora": True}, "prompt_tuning": {"virtual_tokens": 3},
    "prefix_tuning": {"virtual_tokens": 3}, "freeze_embeddings": {},
}  # fmt: skip
NAMES = {"lora of all": "lora", "lora of two": "lora", "dora": "lora"}


@pytest.fixture(scope="module")
def base(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    work = make_runner(home)
    run(work, trial(tmp_path_factory.mktemp("any"), epochs=1, adaptation="head_only"))
    return work._context.base


def reckoned_and_trained(base: Any, name: str, settings: dict[str, Any]) -> tuple[int, int]:
    wanted = Recipe(adaptation=name, adaptation_parameters=settings)
    model, _ = base.build(wanted, seed=0)
    sizes, parameters, layers = dimensions_of(model), count_parameters(model).total, num_blocks(model)
    adapt(model, base.structure, name, wanted.adaptation_parameters, base.fresh, steps=8)
    return trained_parameters(wanted, sizes, parameters, layers), count_parameters(model).trainable


@pytest.mark.parametrize("name", SIZED)
def test_blocks_adapters_and_prompts_are_counted_exactly(base: Any, name: str) -> None:
    reckoned, trained = reckoned_and_trained(base, NAMES.get(name, name), SIZED[name])
    assert 0 <= reckoned - trained <= BESIDE
    assert name != "full" or reckoned == trained


@pytest.mark.parametrize("name", ADAPTATIONS)
def test_it_is_never_less_than_what_trains(base: Any, name: str) -> None:
    reckoned, trained = reckoned_and_trained(base, name, ADAPTATIONS[name])
    assert trained <= reckoned


def test_what_is_asked_or_solved_trains_nothing(base: Any) -> None:
    model, _ = base.build(Recipe(), seed=0)
    for name in ("zero_shot", "linear_probe"):
        assert trained_parameters(Recipe(adaptation=name), dimensions_of(model), 10**6, 4) == 0
