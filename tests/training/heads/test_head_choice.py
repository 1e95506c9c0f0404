"""Which head a recipe gets over which model: by the folder, by the config, or refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel

from finesearch.errors import ModelError
from finesearch.plan import Recipe, parse_space
from finesearch.training.adaptations.space_check import check_recipe_space
from finesearch.training.checkpointing.resume_point import as_begun
from finesearch.training.heads.head_choice import choose_head
from finesearch.training.heads.pooled_head import FIELD
from finesearch.training.heads.space_heads import heads_of_space
from finesearch.training.model.model_facts import ModelFacts, inspect_model
from tiny_models import write_tiny_model
from training_cases import task_plan, write_pooling


def head(pooling: str, hidden_size: int | None = None, normalizes: bool = False) -> dict[str, Any]:
    return {FIELD: {"pooling": pooling, "hidden_size": hidden_size, "normalizes": normalizes}}


@pytest.mark.parametrize(
    ("architecture", "pooling", "hidden_size", "fields"),
    [
        ("bert", "own", None, {}),
        ("bert", "own", 8, {}),
        ("bert", "auto", None, {}),
        ("bert", "auto", 8, head("cls", 8)),
        ("bert", "cls", None, head("cls")),
        ("bert", "mean", 8, head("mean", 8)),
        ("modernbert", "auto", None, {"classifier_pooling": "cls"}),
        ("modernbert", "auto", 8, head("cls", 8)),
        ("modernbert", "mean", None, {"classifier_pooling": "mean"}),
        ("modernbert", "max", None, head("max")),
        ("gpt2", "auto", None, {}),
        ("llama", "auto", 8, head("last", 8)),
        ("llama", "last", None, {}),
        ("llama", "mean", None, head("mean")),
        ("openai-gpt", "auto", 8, head("last", 8)),
        ("xlnet", "cls", None, head("cls")),
        ("bart", "auto", 8, {}),
    ],
)
def test_a_class_of_transformers_is_used_where_it_has_the_head(
    architecture: str, pooling: str, hidden_size: int | None, fields: dict[str, Any], tmp_path: Path
) -> None:
    config = AutoConfig.for_model(architecture)
    assert choose_head(tmp_path, config, pooling, hidden_size).config_fields == fields


@pytest.mark.parametrize(
    ("mode", "architecture", "fields", "note"),
    [
        ("mean_tokens", "bert", head("mean"), "pooling: mean, as the model's folder asks"),
        ("mean_tokens", "modernbert", {"classifier_pooling": "mean"}, "pooling: mean, as the model's folder asks"),
        ("lasttoken", "llama", {}, "pooling: last, as the model's folder asks"),
        (
            "mean_tokens",
            "t5",
            {},
            "architecture's own head; the model's folder asks for mean, but T5Config takes no po",
        ),
        ("cls_token", "bert", head("cls"), "pooling: cls, as the model's folder asks"),
        (
            "cls_token",
            "openai-gpt",
            {},
            "the model's folder asks for cls, but OpenAIGPTConfig reads from left",
        ),
        (
            "cls_token",
            "llama",
            {},
            "own head; the model's folder asks for cls, but LlamaConfig reads from left",
        ),
        ("weightedmean_tokens", "bert", {}, "asks for weightedmean_tokens, but finesearch has no such pooling"),
    ],
)
def test_auto_follows_the_folder_and_says_so(
    mode: str, architecture: str, fields: dict[str, Any], note: str, tmp_path: Path
) -> None:
    write_pooling(tmp_path, mode)
    choice = choose_head(tmp_path, AutoConfig.for_model(architecture), "auto")
    assert choice.config_fields == fields
    assert note in choice.note
    assert choose_head(tmp_path, AutoConfig.for_model(architecture), "own").note == ""


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama"])
def test_auto_scales_pooled_states_to_length_one_where_the_folder_does(architecture: str, tmp_path: Path) -> None:
    write_pooling(tmp_path / "plain", "mean_tokens", "Normalize")
    write_pooling(tmp_path / "dense", "mean_tokens", "Dense", "Normalize")
    config = AutoConfig.for_model(architecture)
    choice = choose_head(tmp_path / "plain", config, "auto", 8)
    assert choice.config_fields == head("mean", 8, normalizes=True)
    assert choose_head(tmp_path / "plain", config, "auto").config_fields == head("mean", normalizes=True)
    assert "mean, scaled to length 1, as the model's folder asks" in choice.note
    assert choose_head(tmp_path / "dense", config, "auto", 8).config_fields == head("mean", 8)
    assert choose_head(tmp_path / "plain", config, "mean", 8).config_fields == head("mean", 8)


@pytest.mark.parametrize(
    ("architecture", "pooling", "message"),
    [
        ("bart", "mean", "pooling mean: BartConfig of .* is no plain encoder or decoder.* Use auto or own, or choose"),
        ("llama", "cls", "pooling cls: LlamaConfig of .* reads from left to right.* Use last, mean, max or attention"),
    ],
)
def test_a_pooling_that_a_model_cannot_have_is_refused(
    architecture: str, pooling: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        choose_head(tmp_path, AutoConfig.for_model(architecture), pooling)


SMALL = {"vocab_size": 50, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 128}


@pytest.mark.parametrize(
    ("architecture", "settings", "is_blind"),
    [
        ("openai-gpt", {}, True),
        ("gpt2", {}, True),
        ("bert", {}, False),
        ("bert", {"is_decoder": True}, True),
        ("xlnet", {}, False),
        ("xlnet", {"attn_type": "uni"}, True),
        ("xlm", {}, False),
        ("xlm", {"causal": True}, True),
    ],
)
def test_cls_is_refused_where_the_first_token_sees_nothing_after_it(
    architecture: str, settings: dict[str, Any], is_blind: bool, tmp_path: Path
) -> None:
    config = AutoConfig.for_model(architecture, **SMALL, **settings)
    model = AutoModel.from_config(config).eval()
    tokens = torch.arange(5, 13)[None]
    others = tokens.where(torch.arange(8) < 7, 40)
    with torch.no_grad():
        first, other = (model(input_ids=ids).last_hidden_state[0, 0] for ids in (tokens, others))
    assert torch.equal(first, other) == is_blind
    if is_blind:
        with pytest.raises(ModelError, match="the first token's state knows nothing of the text. Use last, mean"):
            choose_head(tmp_path, config, "cls")
    else:
        assert choose_head(tmp_path, config, "cls").config_fields == head("cls")


def test_a_space_is_checked_against_every_head_that_it_can_give(tmp_path: Path) -> None:
    write_pooling(write_tiny_model(tmp_path / "model"), "mean_tokens")
    facts = inspect_model(task_plan(), tmp_path)
    choices = heads_of_space(parse_space({"pooling": ["auto", "own"], "head_hidden_size": [None, 8]}), facts)
    assert [choice.config_fields for choice in choices] == [head("mean"), head("mean", 8), {}, {}]
    # Within the mean there is no pooler.
    named = {"adaptation": {"one_of": {"pattern": {"patterns": "pooler"}}}}
    check_recipe_space(parse_space({**named, "pooling": "own"}), facts)
    with pytest.raises(
        ModelError, match="'pooler' is found in the name of no parameter of BertForPooledClassification"
    ):
        check_recipe_space(parse_space(named), facts)
    with pytest.raises(
        ModelError, match="space.reinit_top_layers: BertFor.* has 4 layers, so expected at most 4, got 5"
    ):
        check_recipe_space(parse_space({"reinit_top_layers": {"min": 0, "max": 5}}), facts)


def test_a_trial_of_a_version_without_pooling_goes_on_more_than_once() -> None:
    today, older = Recipe(pooling="auto"), Recipe()
    once = as_begun(today, older)
    assert once == Recipe(pooling="own")
    assert as_begun(today, Recipe.model_validate_json(once.model_dump_json())) == once
    assert as_begun(today, Recipe(pooling="mean")) == today


@pytest.mark.parametrize("pooling", ["own", "auto", "last"])
def test_a_decoder_gets_a_bias_where_numbers_are_standardised(pooling: str, tmp_path: Path) -> None:
    config = AutoConfig.for_model("gpt2")
    assert choose_head(tmp_path, config, pooling).config_fields == {}
    choice = choose_head(tmp_path, config, pooling, needs_bias=True)
    assert choice.config_fields == head("last")
    assert "the architecture's own has none" in choice.note
    assert choose_head(tmp_path, AutoConfig.for_model("bert"), pooling="own", needs_bias=True).config_fields == {}


def test_numbers_over_a_decoder_without_a_bias_have_a_head_with_one(tmp_path: Path) -> None:
    AutoConfig.for_model("openai-gpt", n_layer=1, n_embd=8, n_head=2, vocab_size=16).save_pretrained(tmp_path)
    choice = choose_head(tmp_path, AutoConfig.from_pretrained(tmp_path), pooling="own", needs_bias=True)
    assert choice.config_fields["finesearch_head"]["pooling"] == "last"
    facts = ModelFacts(
        folder=str(tmp_path),
        kind="text-classification",
        pooling="own",
        scales_targets=True,
        architecture="OpenAIGPT",
        num_layers=1,
        parameters=1,
        weight_bytes=4,
        sha256="",
    )
    check_recipe_space(parse_space({"learning_rate": 1e-3}), facts)
