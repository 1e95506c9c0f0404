"""Weights that lack a part of the model are refused before anything runs, and are not read for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from finesearch.errors import ModelError
from finesearch.plan import parse_space
from finesearch.training.heads.space_heads import heads_of_space, missing_warnings
from finesearch.training.model.model_config import read_config
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.weights.missing_tensors import load_model
from training_cases import task_plan


@pytest.fixture
def model(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home / "model", tmp_path / "model"))


def rewrite(model: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], form: str) -> None:
    """Write the weights again, changed, as one file, as a pickle or as two shards."""
    tensors = change(load_file(model / "model.safetensors"))
    (model / "model.safetensors").unlink()
    if form == "pickle":
        torch.save(tensors, model / "pytorch_model.bin")
        return
    names = ["model.safetensors"] if form == "safetensors" else ["model-1.safetensors", "model-2.safetensors"]
    for place, name in enumerate(names):
        part = {key: tensor for number, (key, tensor) in enumerate(tensors.items()) if number % len(names) == place}
        save_file(part, model / name, metadata={"format": "pt"})
    if form == "shards":
        where = {key: names[number % 2] for number, key in enumerate(tensors)}
        (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def without(start: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.startswith(start)}


@pytest.mark.parametrize("form", ["safetensors", "pickle", "shards"])
def test_a_missing_layer_is_refused_and_its_tensors_are_named(form: str, model: Path) -> None:
    rewrite(model, without("encoder.layer.3."), form)
    message = (
        r"the weights in .*model are not those of a BertForSequenceClassification as its config.json describes it: they"
        r" lack bert.encoder.layer.3.attention.self.query.weight, .* \(16 tensors, missing or of another shape\), which"
        r" would start at random. Fetch config.json and the weights from the same place"
    )
    with pytest.raises(ModelError, match=message):
        inspect_model(task_plan(), model.parent)


def test_one_missing_tensor_or_one_of_another_shape_in_a_block_is_refused(model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other" / "model"))
    rewrite(model, without("encoder.layer.2.output.dense.bias"), "safetensors")
    with pytest.raises(ModelError, match=r"lack bert.encoder.layer.2.output.dense.bias \(1 tensor, missing"):
        inspect_model(task_plan(), model.parent)
    name = "encoder.layer.1.intermediate.dense.bias"
    rewrite(other, lambda tensors: {**tensors, name: torch.zeros(7)}, "safetensors")
    with pytest.raises(ModelError, match=r"lack bert.encoder.layer.1.intermediate.dense.bias \(1 tensor, missing"):
        inspect_model(task_plan(), other.parent)


def test_a_missing_embedding_table_is_refused(model: Path) -> None:
    rewrite(model, without("embeddings.word_embeddings"), "safetensors")
    with pytest.raises(ModelError, match=r"lack bert.embeddings.word_embeddings.weight \(1 tensor"):
        inspect_model(task_plan(), model.parent)


def test_a_missing_output_layer_of_a_language_model_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from finesearch.training.model.model_files import quiet_transformers

    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20, n_positions=8, tie_word_embeddings=False)
    with quiet_transformers():
        GPT2LMHeadModel(config).save_pretrained(tmp_path)
    read = read_config(tmp_path)
    assert not load_model(tmp_path, read, "translation", reads_weights=False).missing
    rewrite(tmp_path, without("lm_head."), "safetensors")
    with pytest.raises(ModelError, match=r"lack lm_head.weight \(1 tensor, missing"):
        load_model(tmp_path, read, "translation", reads_weights=False)


def test_a_missing_pooler_is_a_warning_where_a_recipe_uses_it(model: Path) -> None:
    rewrite(model, without("pooler."), "safetensors")
    facts = inspect_model(task_plan(), model.parent)
    assert facts.missing == ("bert.pooler.dense.weight", "bert.pooler.dense.bias")
    own = heads_of_space(parse_space({"pooling": ["own", "mean"]}), facts)
    assert missing_warnings(own, facts) == (
        "The weights in the model's folder lack bert.pooler.dense.weight, bert.pooler.dense.bias (2 tensors outside of "
        "the blocks, missing or of another shape), which start at random.",
    )
    assert missing_warnings(heads_of_space(parse_space({"pooling": "mean"}), facts), facts) == ()


def test_names_that_transformers_understands_are_not_missing(model: Path) -> None:
    def old_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        new = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for now, then in new.items():
            tensors = {name.replace(now, then): tensor for name, tensor in tensors.items()}
        return {f"bert.{name}": tensor for name, tensor in tensors.items()}

    rewrite(model, old_names, "pickle")
    assert inspect_model(task_plan(), model.parent).missing == ()


def test_weights_are_compared_without_reading_them(home: Path) -> None:
    loaded = load_model(home / "model", read_config(home / "model"), "text-classification", reads_weights=False)
    assert {parameter.device.type for parameter in loaded.model.parameters()} == {"meta"}
    assert loaded.missing == {"classifier.weight", "classifier.bias"}
