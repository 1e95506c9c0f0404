"""Freezing on every architecture whose blocks are a list, from tiny random models of transformers' own configs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from finesearch.errors import ModelError
from finesearch.plan import ADAPTATIONS as PLANNED
from finesearch.training.adaptations.adapt import ADAPTATIONS as KNOWN
from finesearch.training.adaptations.adapt import adapt
from finesearch.training.model.module_structure import num_blocks, trace_structure
from training_cases import (
    ADAPTATIONS,
    ADDING,
    adaptation_settings,
    frozen_names,
    make_runner,
    merged,
    run,
    trial,
    untrained,
)

BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 120,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "conv_kernel_size": 3,
    "norm_rel_ebd": "layer_norm",
}
DISTILBERT = {
    "dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 64,
    "vocab_size": 120,
    "max_position_embeddings": 64,
}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 120, "n_positions": 64}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
# Architecture: config, what stands before the first block, the blocks, what stands between them and the head.
ARCHITECTURES: dict[str, tuple[dict[str, Any], tuple[str, ...], str, tuple[str, ...]]] = {
    "bert": (BERT, ("bert.embeddings",), "bert.encoder.layer", ("bert.pooler",)),
    "roberta": (BERT, ("roberta.embeddings",), "roberta.encoder.layer", ()),
    "electra": (
        {**BERT, "embedding_size": 16},
        ("electra.embeddings", "electra.embeddings_project"),
        "electra.encoder.layer",
        (),
    ),
    "mpnet": (BERT, ("mpnet.embeddings", "mpnet.encoder.relative_attention_bias"), "mpnet.encoder.layer", ()),
    "distilbert": ({**DISTILBERT, **IDS}, ("distilbert.embeddings",), "distilbert.transformer.layer", ()),
    "deberta-v2": (
        {**BERT, **DEBERTA},
        ("deberta.embeddings", "deberta.encoder.rel_embeddings", "deberta.encoder.LayerNorm"),
        "deberta.encoder.layer",
        (),
    ),
    "modernbert": (
        {**BERT, "cls_token_id": 1, "sep_token_id": 2},
        ("model.embeddings",),
        "model.layers",
        ("model.final_norm",),
    ),
    "gpt2": ({**GPT2, **IDS}, ("transformer.wte", "transformer.wpe"), "transformer.h", ("transformer.ln_f",)),
    "llama": ({**BERT, "num_key_value_heads": 4}, ("model.embed_tokens",), "model.layers", ("model.norm",)),
    "qwen3": (
        {**BERT, "num_key_value_heads": 4, "head_dim": 8},
        ("model.embed_tokens",),
        "model.layers",
        ("model.norm",),
    ),
}
EXAMPLE = {"input_ids": torch.tensor([[1, 5, 9, 2]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}


def build(architecture: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **ARCHITECTURES[architecture][0])
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "embd_pdrop"):
        if hasattr(config, name):
            setattr(config, name, 0.4)
    return AutoModelForSequenceClassification.from_config(config)


def frozen(model: PreTrainedModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def below(model: PreTrainedModel, *modules: str) -> set[str]:
    return {name for name, _ in model.named_parameters() for module in modules if name.startswith(f"{module}.")}


def test_plan_and_training_know_the_same_adaptations() -> None:
    assert set(KNOWN) == {name for name, branch in PLANNED.items() if branch.trains}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_blocks_are_found_in_the_order_in_which_they_run(architecture: str) -> None:
    model = build(architecture)
    _, _, blocks, _ = ARCHITECTURES[architecture]
    assert trace_structure(model, EXAMPLE).blocks == tuple(f"{blocks}.{index}" for index in range(3))
    assert num_blocks(model) == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embeddings_are_frozen_and_nothing_else(architecture: str) -> None:
    model = build(architecture)
    adapt(model, trace_structure(model, EXAMPLE), "freeze_embeddings", {}, fresh=())
    assert frozen(model) == below(model, *ARCHITECTURES[architecture][1])


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bottom_layers_are_frozen_and_nothing_above_them(architecture: str, layers: int) -> None:
    model = build(architecture)
    adapt(model, trace_structure(model, EXAMPLE), "freeze_bottom", {"layers": layers}, fresh=())
    _, embeddings, blocks, above = ARCHITECTURES[architecture]
    expected = below(model, *embeddings, *(f"{blocks}.{index}" for index in range(layers)))
    if architecture == "deberta-v2" and layers > 1:
        # Its convolution runs between the first block and the second.
        expected |= below(model, "deberta.encoder.conv")
    assert frozen(model) == expected
    assert not expected & below(model, *above)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_top_is_trained_where_the_bottom_is_frozen(architecture: str) -> None:
    bottom, top = build(architecture), build(architecture)
    adapt(bottom, trace_structure(bottom, EXAMPLE), "freeze_bottom", {"layers": 2}, fresh=())
    adapt(top, trace_structure(top, EXAMPLE), "train_top", {"layers": 1}, fresh=())
    assert frozen(top) == frozen(bottom)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_alone_is_trained(architecture: str) -> None:
    model = build(architecture)
    adapt(model, trace_structure(model, EXAMPLE), "head_only", {}, fresh=())
    assert frozen(model) == below(model, model.base_model_prefix)
    assert len(frozen(model)) < len(list(model.parameters()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_frozen_layers_drop_nothing_also_after_train(architecture: str) -> None:
    model = build(architecture)
    adapt(model, trace_structure(model, EXAMPLE), "freeze_bottom", {"layers": 2}, fresh=())
    model.eval()
    model.train()
    outputs: list[torch.Tensor] = []
    third = model.get_submodule(f"{ARCHITECTURES[architecture][2]}.2")
    third.register_forward_pre_hook(lambda module, inputs: outputs.append(inputs[0].clone()))
    for _ in range(2):
        model(**EXAMPLE)
    assert torch.equal(outputs[0], outputs[1])
    assert third.training
    assert model.training


def test_layers_that_are_trained_do_drop() -> None:
    model = build("bert")
    adapt(model, trace_structure(model, EXAMPLE), "freeze_bottom", {"layers": 2}, fresh=())
    model.train()
    assert not torch.equal(model(**EXAMPLE).logits, model(**EXAMPLE).logits)


@pytest.mark.parametrize("adaptation", ["norms_only", "biases_only"])
def test_layers_of_which_a_part_is_trained_drop_everywhere(adaptation: str) -> None:
    model = build("bert")
    adapt(model, trace_structure(model, EXAMPLE), adaptation, {}, fresh=())
    model.train()
    dropouts = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert len(dropouts) == 1 + 3 * 3 + 1
    assert all(module.training for module in dropouts)


def test_layers_without_a_trained_parameter_drop_nothing_wherever_they_stand() -> None:
    model = build("bert")
    adapt(model, trace_structure(model, EXAMPLE), "pattern", {"patterns": r"layer\.1\."}, fresh={"classifier.weight"})
    model.train()
    silent = [f"bert.{name}" for name in ("embeddings.dropout", "encoder.layer.0.output", "encoder.layer.2.output")]
    assert [model.get_submodule(name).training for name in silent] == [False, False, False]
    assert model.bert.encoder.layer[1].output.dropout.training
    assert model.dropout.training


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_norms_are_found_whatever_their_class_is_called(architecture: str) -> None:
    model = build(architecture)
    adapt(model, trace_structure(model, EXAMPLE), "norms_only", {}, fresh=())
    trained = {name for name in dict(model.named_parameters()) if name not in frozen(model)}
    inside = {name for name in trained if name.startswith(model.base_model_prefix)}
    assert inside == {
        name for name in dict(model.base_model.named_parameters(prefix=model.base_model_prefix))
        if any(word in name.lower() for word in ("norm", "ln_", ".ln"))
    }  # fmt: skip
    assert trained - inside == below(model, "classifier", "score", "pre_classifier", "pooler", "head")


def test_a_model_without_biases_has_none_to_train() -> None:
    model = build("llama")
    with pytest.raises(ModelError, match="biases_only: LlamaForSequenceClassification has no biases. Use norms_only"):
        adapt(model, trace_structure(model, EXAMPLE), "biases_only", {}, fresh=())


def test_a_pattern_that_matches_nothing_is_refused_with_names_near_it() -> None:
    model = build("bert")
    wrong = {"patterns": r"classifier encodr\.layer\.2\.output\.LayerNorm"}
    with pytest.raises(ModelError, match=r"'encodr.* is found in .* no .* Near it: bert\.encoder\.layer\.2\.output"):
        adapt(model, trace_structure(model, EXAMPLE), "pattern", wrong, fresh=())


def test_a_pattern_that_backtracks_is_refused_in_time() -> None:
    model = build("bert")
    with pytest.raises(ModelError, match=r"\(\.\|\.\)\*\[!\?\]\$' takes more than 1 seconds to look for in the name"):
        adapt(model, trace_structure(model, EXAMPLE), "pattern", {"patterns": "(.|.)*[!?]$"}, fresh=())


def test_a_head_that_is_the_embeddings_cannot_be_trained_alone() -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **ARCHITECTURES["gpt2"][0]))
    with pytest.raises(
        ModelError, match="adaptation.head_only: the output layer of GPT2LMHeadModel has no parameters of its own"
    ):
        adapt(model, trace_structure(model, EXAMPLE), "head_only", {}, fresh=())


def test_an_encoder_with_a_decoder_is_frozen_from_the_encoders_bottom() -> None:
    sizes = {
        f"{part}_{name}": size
        for part in ("encoder", "decoder")
        for name, size in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 64))
    }
    config = AutoConfig.for_model(
        "bart", d_model=32, vocab_size=120, max_position_embeddings=64, decoder_start_token_id=2, **sizes, **IDS
    )
    model = AutoModelForSequenceClassification.from_config(config)
    structure = trace_structure(model, EXAMPLE)
    assert [name.split(".")[1] for name in structure.blocks] == ["encoder", "encoder", "decoder", "decoder"]
    adapt(model, structure, "freeze_bottom", {"layers": 2}, fresh=())
    assert below(model, "model.encoder", "model.shared") <= frozen(model)
    assert not below(model, "model.decoder.layers", "classification_head") & frozen(model)


def test_more_layers_than_there_are_are_refused() -> None:
    model = build("bert")
    with pytest.raises(ModelError, match="BertForSequenceClassification has 3 layers, so expected at most 3, got 4"):
        adapt(model, trace_structure(model, EXAMPLE), "freeze_bottom", {"layers": 4}, fresh=())


def test_a_model_without_a_head_cannot_train_it_alone() -> None:
    from transformers import AutoModel

    model = AutoModel.from_config(AutoConfig.for_model("bert", **BERT))
    with pytest.raises(ModelError, match="BertModel: head_only needs a model with a head of its own"):
        adapt(model, trace_structure(model, EXAMPLE), "head_only", {}, fresh=())


def test_what_the_base_did_not_have_is_trained_under_every_adaptation() -> None:
    model = build("bert")
    adapt(model, trace_structure(model, EXAMPLE), "head_only", {}, fresh={"bert.pooler.dense.weight"})
    assert model.get_parameter("bert.pooler.dense.weight").requires_grad


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_training_changes_all_that_is_trained_and_no_bit_of_what_is_frozen(
    adaptation: str, home: Path, tmp_path: Path
) -> None:
    work = make_runner(home)
    before = untrained(work, adaptation)
    result, _ = run(work, trial(tmp_path, **adaptation_settings(adaptation)))
    after = merged(result.checkpoint)
    held = frozen_names(adaptation, after)
    assert before.keys() == after.keys()
    for name, parameter in before.items():
        assert torch.equal(parameter, after[name]) == (name in held), name
    assert result.trainable_parameters == sum(p.numel() for name, p in before.items() if name not in held)
    assert result.total_parameters == sum(p.numel() for p in before.values())
    assert (result.total_parameters == 41634) == (adaptation not in ADDING)
