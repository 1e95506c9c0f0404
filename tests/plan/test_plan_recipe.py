import pytest
from pydantic import ValidationError

from finesearch.plan import ORDINARY, Recipe


def test_the_ordinary_recipe_is_full_at_5e_5_with_linear_decay_over_3_epochs() -> None:
    assert (ORDINARY.adaptation, ORDINARY.learning_rate, ORDINARY.schedule) == ("full", 5e-5, "linear")
    assert (ORDINARY.epochs, ORDINARY.batch_size, ORDINARY.warmup_fraction, ORDINARY.weight_decay) == (3, 32, 0.0, 0.0)


def test_optimizer_parameters_are_complete() -> None:
    assert Recipe(optimizer="sgd", optimizer_parameters={"nesterov": True}).optimizer_parameters == {
        "momentum": 0.9,
        "nesterov": True,
    }
    assert ORDINARY.optimizer_parameters == {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


def test_a_recipe_survives_json_and_is_frozen() -> None:
    recipe = Recipe(adaptation="freeze_bottom", adaptation_parameters={"layers": 3}, dropout=0.1)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    with pytest.raises(ValidationError, match="frozen"):
        recipe.epochs = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adaptation": "lorra"}, "unknown branch 'lorra' of adaptation"),
        ({"adaptation": "freeze_bottom"}, "freeze_bottom: layers: expected a whole number of at least 0, got nothing"),
        ({"adaptation_parameters": {"layers": 3}}, "full has no parameter 'layers'. It has no parameters of its own"),
        ({"optimizer_parameters": {"momentun": 3}}, "adamw has no parameter 'momentun'. Known here: beta1"),
        (
            {"optimizer": "sgd", "optimizer_parameters": {"momentum": 1.0}},
            "momentum: expected a number of at least 0 and",
        ),
        ({"learning_rate": 0.0}, "greater than 0"),
        ({"dropout": 1.0}, "less than 1"),
        ({"mixout": 1.0}, "less than 1"),
        ({"class_weights": "inverse"}, "'none' or 'balanced'"),
        ({"swa_start": 0.0}, "greater than 0"),
        ({"ema_decay": 0.9, "swa_start": 0.5}, "ema_decay and swa_start both average the weights. Keep one"),
        ({"epochs": 2.5}, "valid integer"),
        ({"learning_rte": 1e-3}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_recipe_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate(settings)
