"""Prompt tuning, p-tuning and prefix tuning: equal to peft's own models, within the model's positions, exported."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from test_adaptations import ARCHITECTURES, EXAMPLE, IDS, build
from transformers import AutoConfig

from finesearch.errors import ModelError
from finesearch.plan import ADAPTATIONS, parse_space
from finesearch.training.adaptations.adapt import ADAPTATIONS as KNOWN
from finesearch.training.adaptations.adapt import adapt, attach
from finesearch.training.adaptations.space_check import check_recipe_space
from finesearch.training.export.peft_prompt import spread_for_decoder, task_type
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.model.module_structure import trace_structure
from training_cases import ADAPTATIONS as CASES
from training_cases import equal, make_runner, merged, run, task_plan, trial, without_clock

NAMES = ("prompt_tuning", "p_tuning", "prefix_tuning")
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "prompt_tuning": ("prompt_tuning", {}),
    "mlp": ("p_tuning", {"hidden_size": 7}),
    "lstm": ("p_tuning", {"encoder": "lstm"}),
    "prefix_tuning": ("prefix_tuning", {}),
    "projection": ("prefix_tuning", {"projection": True, "hidden_size": 9}),
}
WITHOUT_CACHE = ("mpnet", "distilbert", "deberta-v2", "modernbert")
ROWS = torch.tensor([[2, 5, 6, 7, 3, 9, 2], [2, 8, 9, 10, 11, 12, 3]])
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4, "vocab_size": 120}
BART = {
    f"{part}_{name}": size
    for part in ("encoder", "decoder")
    for name, size in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 64))
} | {"d_model": 32, "vocab_size": 120, "max_position_embeddings": 64, "decoder_start_token_id": 2}
WRITERS = {
    "gpt2": ("AutoModelForCausalLM", ARCHITECTURES["gpt2"][0]),
    "llama": ("AutoModelForCausalLM", {**ARCHITECTURES["llama"][0], "num_key_value_heads": 2}),
    "t5": ("AutoModelForSeq2SeqLM", {**T5, **IDS, "decoder_start_token_id": 0}),
    "bart": ("AutoModelForSeq2SeqLM", {**BART, **IDS, "decoder_layers": 3}),
}


def parameters_of(way: str, tokens: int = 3) -> dict[str, Any]:
    name, given = WAYS[way]
    return {**ADAPTATIONS[name].defaults, **given, "virtual_tokens": tokens}


def writer(architecture: str) -> Any:
    import transformers

    auto, settings = WRITERS[architecture]
    torch.manual_seed(0)
    return getattr(transformers, auto).from_config(AutoConfig.for_model(architecture, **settings))


def reader(architecture: str, auto: str) -> Any:
    import transformers

    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **ARCHITECTURES[architecture][0])
    return getattr(transformers, auto).from_config(config)


def ours_and_pefts(model: Any, way: str) -> tuple[Any, Any]:
    """The model with a prompt of ours, and peft's model with the same prompt."""
    (name, _), parameters, plain = WAYS[way], parameters_of(way), copy.deepcopy(model)
    attach(model, name, parameters, fresh=())
    config: Any = KNOWN[name].config(plain, parameters)  # type: ignore[attr-defined]
    config.task_type = task_type(plain)
    weights: dict[str, Any] = model.prompt_encoder.state_dict()
    if name == "prefix_tuning" and config.task_type == "SEQ_2_SEQ_LM":
        weights = spread_for_decoder(model, config)
    theirs: Any = get_peft_model(plain, config)
    theirs.prompt_encoder["default"].load_state_dict(weights)
    return model.eval(), theirs.eval()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("architecture", sorted({*ARCHITECTURES} - {"distilbert", "mpnet"}))
def test_a_classifier_behind_a_prompt_answers_as_pefts_does(architecture: str, way: str) -> None:
    model = build(architecture)
    if WAYS[way][0] == "prefix_tuning" and architecture in WITHOUT_CACHE:
        with pytest.raises(
            ModelError, match="prefix_tuning: .* has no place for keys and values .* Use prompt_tuning or"
        ):
            attach(model, "prefix_tuning", parameters_of(way), fresh=())
        return
    before = model.eval()(ROWS).logits
    ours, theirs = ours_and_pefts(model, way)
    with torch.no_grad():
        got, expected = (each(input_ids=ROWS, attention_mask=torch.ones_like(ROWS)).logits for each in (ours, theirs))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(got, before, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("auto", ["AutoModelForTokenClassification", "AutoModelForQuestionAnswering"])
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_what_is_said_of_tokens_stands_where_the_tokens_do(architecture: str, auto: str, way: str) -> None:
    ours, theirs = ours_and_pefts(reader(architecture, auto), way)
    mask = torch.ones_like(ROWS)
    with torch.no_grad():
        got, expected = ours(input_ids=ROWS, attention_mask=mask), theirs(input_ids=ROWS, attention_mask=mask)
    skipped = 0 if WAYS[way][0] == "prefix_tuning" else 3
    for name in {"logits", "start_logits", "end_logits"} & set(expected):
        torch.testing.assert_close(got[name], expected[name][:, skipped:], rtol=0, atol=1e-6)
        assert got[name].shape[1] == ROWS.shape[1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("architecture", WRITERS)
def test_a_writer_behind_a_prompt_writes_as_pefts_does(architecture: str, way: str) -> None:
    ours, theirs = ours_and_pefts(writer(architecture), way)
    mask, seq2seq = torch.ones_like(ROWS), architecture in ("t5", "bart")
    target = {"decoder_input_ids": ROWS[:, :4]} if seq2seq else {}
    skipped = 0 if seq2seq or WAYS[way][0] == "prefix_tuning" else 3
    with torch.no_grad():
        got, expected = (each(input_ids=ROWS, attention_mask=mask, **target).logits for each in (ours, theirs))
        torch.testing.assert_close(got, expected[:, skipped:], rtol=0, atol=1e-6)
        for beams in (1, 2):
            settings = {"max_new_tokens": 6, "num_beams": beams, "do_sample": False}
            one, other = (each.generate(input_ids=ROWS, attention_mask=mask, **settings) for each in (ours, theirs))
            assert torch.equal(one, other)


@pytest.mark.parametrize("way", ["prompt_tuning", "prefix_tuning"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_padding_changes_nothing_of_what_is_written_or_said(architecture: str, way: str) -> None:
    model, short = writer(architecture), ROWS[:1, 2:]
    attach(model, WAYS[way][0], parameters_of(way), fresh=())
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "output_logits": True, "return_dict_in_generate": True}
    padded, mask = torch.cat((torch.zeros(1, 2, dtype=torch.long), short), 1), torch.tensor([[0] * 2 + [1] * 5])
    both = torch.cat((padded, ROWS[1:])), torch.cat((mask, torch.ones_like(ROWS[1:])))
    alone = model.eval().generate(input_ids=short, attention_mask=torch.ones_like(short), **settings)
    beside = model.generate(input_ids=both[0], attention_mask=both[1], **settings)
    for one, other in zip(alone.logits, beside.logits, strict=True):
        torch.testing.assert_close(one, other[:1], rtol=1e-4, atol=1e-5)
    # Where peft takes the state of the last token, padding or not.
    classifier = build(architecture)
    attach(classifier, WAYS[way][0], parameters_of(way), fresh=())
    behind = torch.cat((short, torch.zeros(1, 2, dtype=torch.long)), 1)
    answers = [classifier.eval()(ids, attention_mask=(ids != 0).long()).logits for ids in (short, behind)]
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-6)


def test_prompts_start_as_what_was_asked_for(home: Path) -> None:
    work = make_runner(home)
    base, drawn = work._context.base, {}
    for init in ("vocabulary", "random", "good film"):
        model, _ = base.build(trial(home, adaptation="head_only").recipe, 3)
        parameters = {"virtual_tokens": 3, "init": init}
        adapt(model, base.structure, "prompt_tuning", parameters, base.fresh, seed=3)
        drawn[init] = model.get_parameter("prompt_encoder.embedding.weight").detach()
        table = model.get_input_embeddings().weight
    good, film = base.tokenizer.convert_tokens_to_ids(["good", "film"])
    assert torch.equal(drawn["good film"], table[[good, film, good]])
    assert all((table == row).all(1).any() for row in drawn["vocabulary"])
    assert not any((table == row).all(1).any() for row in drawn["random"])


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_that_leaves_no_room_is_refused_before_anything_runs(name: str, home: Path) -> None:
    facts = inspect_model(task_plan(), home)
    fits = parse_space({"adaptation": {"one_of": {name: {"virtual_tokens": {"min": 8, "max": 32}}}}})
    check_recipe_space(fits, facts)
    spills = parse_space({"adaptation": {"one_of": {name: {"virtual_tokens": {"min": 8, "max": 33}}}}})
    message = (
        rf"adaptation.{name}.virtual_tokens: BertForSequenceClassification has 64 positions, and the task takes 32 of "
        r"them: expected at most 32, got 33. Lower it, or task.max_length."
    )
    with pytest.raises(ModelError, match=message):
        check_recipe_space(spills, facts)


def test_models_that_a_prompt_cannot_go_before_are_refused() -> None:
    from transformers import AutoModelForSequenceClassification

    config = AutoConfig.for_model("bart", **BART, **IDS)
    for name in NAMES:
        model = AutoModelForSequenceClassification.from_config(config)
        with pytest.raises(ModelError, match=f"adaptation.{name}: Bart.* classifies with an encoder and a decoder"):
            adapt(
                model, trace_structure(model, EXAMPLE), name, parameters_of(name if name in WAYS else "mlp"), fresh=()
            )


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_prompt_ends_as_the_undisturbed_one_and_scores_so_again(
    name: str, home: Path, tmp_path: Path
) -> None:
    work = make_runner(home)
    settings = {"adaptation": name, "adaptation_parameters": CASES[name]}
    whole, _ = run(work, trial(tmp_path / "whole", **settings))
    run(work, trial(tmp_path / "parts", **settings), stop_after=1)
    resumed, _ = run(work, trial(tmp_path / "parts", attempt=2, **settings))
    assert without_clock(resumed.history) == without_clock(whole.history)
    assert equal(merged(resumed.checkpoint), merged(whole.checkpoint))
    stored = load_file(Path(str(whole.checkpoint)) / "model.safetensors")
    assert all(tensor.startswith(("prompt_encoder.", "classifier.")) for tensor in stored)
    scored = evaluate_checkpoint(str(whole.checkpoint), "validation", work.task_plan, work.training, home, work.cache)
    assert whole.best is not None
    assert scored.metrics == whole.best.metrics
