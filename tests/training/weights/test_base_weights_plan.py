"""What excludes quantized base weights is told when the plan is read, with what would work."""

from typing import Any

import pytest

from finesearch.plan import parse_space
from finesearch.plan.space.branches import ADAPTATIONS
from plan_examples import changed, made, refusal

TAKERS = ("lora", "ia3", "prompt_tuning", "p_tuning", "prefix_tuning")
REQUIRED: dict[str, dict[str, Any]] = {
    "freeze_bottom": {"layers": 1},
    "train_top": {"layers": 1},
    "pattern": {"patterns": ["bias"]},
}


def refusal_of(**values: Any) -> str:
    return refusal(changed(**values))


def under(adaptation: str, base_weights: Any, **own: Any) -> dict[str, Any]:
    return {"adaptation": {"one_of": {adaptation: {**own, "base_weights": base_weights}}}}


@pytest.mark.parametrize("adaptation", [name for name in ADAPTATIONS if name not in TAKERS])
def test_what_trains_base_weights_takes_no_quantized_ones(adaptation: str) -> None:
    found = refusal_of(space=under(adaptation, "nf4", **REQUIRED.get(adaptation, {})))
    assert f"'{adaptation}' needs them as they are" in found
    assert f"Write it under {', '.join(TAKERS)}, or remove it." in found


@pytest.mark.parametrize("adaptation", TAKERS)
@pytest.mark.parametrize("base_weights", ["auto", "fp32", "bf16", "int8", "nf4", ["bf16", "nf4"]])
def test_adapters_and_prompts_take_each(adaptation: str, base_weights: Any) -> None:
    plan = made(space=under(adaptation, base_weights))
    drawn = [parameter.key for parameter in plan.space.parameters]
    assert ("base_weights" in drawn) == isinstance(base_weights, list)


def test_at_the_top_of_a_space_it_is_sent_to_its_branch() -> None:
    assert "It belongs to a branch: 'adaptation: {one_of: {lora: {base_weights: …}}}'" in refusal_of(
        space={"adaptation": "lora", "base_weights": "nf4"}
    )


@pytest.mark.parametrize("regularizer", ["mixout", "l2sp"])
def test_regularizers_that_need_the_bases_values_stay_out(regularizer: str) -> None:
    found = refusal_of(space=under("lora", "nf4", **{regularizer: 0.1}))
    assert f"'{regularizer}' has no effect under adaptation lora" in found


@pytest.mark.parametrize("base_weights", ["int8", "nf4", "bf16"])
def test_zero_3_holds_fp32(base_weights: str) -> None:
    found = refusal_of(space=under("lora", ["auto", base_weights]), training__zero_stage=3)
    assert f"expected auto or fp32 beside training.zero_stage 3, got {base_weights}" in found
    assert "Set training.zero_stage to 2" in found
    made(space=under("lora", base_weights), training__zero_stage=2)


def test_an_output_layer_is_not_solved_on_quantized_weights() -> None:
    found = refusal_of(space=under("lora", "nf4") | {"head_init": ["random", "probe"]})
    assert "expected auto, fp32 or bf16 beside head_init probe, got nf4" in found
    assert "Set head_init to random for this branch" in found
    made(space=under("lora", "nf4", head_init="random") | {"head_init": ["random", "probe"]})


def test_dora_goes_with_4_bits_and_not_with_8() -> None:
    assert "beside dora, got int8" in refusal_of(space=under("lora", ["int8", "nf4"], dora=[True, False]))
    made(space=under("lora", "nf4", dora=True))


def test_peft_s_own_spelling_of_all_linear_layers_is_taken() -> None:
    assert parse_space(under("lora", "auto", targets="all-linear"))
